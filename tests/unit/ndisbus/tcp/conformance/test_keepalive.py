"""Keepalive: RFC 9293 3.8.4 (RFC 1122 4.2.3.6)."""

from __future__ import annotations

from ndisbus.tcp.events import EventKind
from tests.unit.ndisbus.tcp.conformance.ladder import CLOSED, ESTABLISHED, Endpoint

CACHED = {"ka_timeout": 10_000, "ka_interval": 1000, "ka_probe_count": 4}


def test_it_is_off_unless_it_was_asked_for() -> None:
    """RFC9293-MUST-24, RFC9293-MUST-25: an idle connection is silent for as long as it likes."""
    end = Endpoint.established(cached=CACHED)
    end.wait(100_000_000)
    end.expect_nothing()
    end.expect_state(ESTABLISHED)


def test_a_probe_after_the_interval() -> None:
    """RFC9293-MAY-5, RFC9293-MUST-24, RFC9293-MUST-27, RFC9293-SHLD-12: SEG.SEQ = SND.NXT-1, no data."""
    end = Endpoint.established(keepalive=True, cached=CACHED)
    end.send(10)
    end.drop_sent()
    end.gets("A")
    end.wait(9_999)
    end.expect_nothing()
    end.wait(1)
    end.expect("A", seq=10, ack=1, length=0)
    end.expect_nothing()


def test_an_answered_probe_starts_the_interval_again() -> None:
    """RFC9293-MUST-26: only when nothing was received for the interval."""
    end = Endpoint.established(keepalive=True, cached=CACHED)
    for _ in range(5):
        end.wait(9_999)
        end.expect_nothing()
        end.wait(1)
        end.expect_ack(1)
        end.gets("A")
    end.expect_state(ESTABLISHED)


def test_what_is_received_puts_the_probe_off() -> None:
    """RFC9293-MUST-26: data and ACKs alike."""
    end = Endpoint.established(keepalive=True, cached=CACHED)
    end.wait(9_000)
    end.gets("A", size=100)
    end.wait(9_000)
    end.gets("A")
    end.drop_sent()
    end.wait(9_999)
    end.expect_nothing()
    end.wait(1)
    end.expect_ack(101)


def test_no_probe_while_data_is_outstanding() -> None:
    """RFC9293-MUST-26: retransmission watches over the connection then."""
    end = Endpoint.established(keepalive=True, cached={**CACHED, "max_rt": 0xFFFF_FFFF})
    end.send(1000)
    end.wait(200_000)
    for sent in end.drop_sent():
        assert sent.segment.payload


def test_lost_answers_are_tolerated() -> None:
    """RFC9293-MUST-29: one answer among the probes is enough."""
    end = Endpoint.established(keepalive=True, cached=CACHED)
    end.wait(10_000)
    end.wait(2_500)
    assert len(end.drop_sent()) == 3
    end.gets("A")
    end.wait(9_000)
    end.expect_nothing()
    end.expect_state(ESTABLISHED)


def test_a_remote_end_that_never_answers_is_given_up() -> None:
    """RFC9293-MUST-29, RFC9293-MUST-12: after the agreed number of probes, and the user is told."""
    end = Endpoint.established(keepalive=True, cached=CACHED)
    end.wait(60_000)
    assert len([s for s in end.drop_sent() if not s.segment.flags & 4]) == 4
    end.expect_state(CLOSED)
    assert end.heard_of(EventKind.TIMED_OUT)
    assert end.machine.error


def test_probes_come_at_their_interval() -> None:
    """RFC9293-MUST-27: KaTimeout and KaInterval are the connection's."""
    end = Endpoint.established(keepalive=True, cached=CACHED)
    end.wait(13_500)
    assert [sent.at for sent in end.drop_sent()] == [10_000, 11_000, 12_000, 13_000]


def test_a_keepalive_probe_is_answered() -> None:
    """RFC9293-3.8.4-ANSWER: with and without its byte of garbage, which is not delivered."""
    end = Endpoint.established()
    end.gets("A", size=100)
    end.wait(500)
    end.drop_sent()
    end.gets("A", seq=100)
    end.expect_ack(101)
    end.gets("A", seq=100, data=b"\0")
    end.expect_ack(101)
    assert end.machine.available == 100


def test_it_can_be_switched_on_later() -> None:
    """RFC9293-MUST-24: by an update of the cached state, with TCP_FLAG_KEEP_ALIVE_RESTART."""
    end = Endpoint.established(cached=CACHED)
    end.wait(50_000)
    cached = end.machine.cached
    new = type(cached).unpack_from(cached.pack())
    new.flags |= 1 | 4  # enabled, restart
    end.machine.update_cached(new, end.now)
    end.collect()
    end.wait(9_999)
    end.expect_nothing()
    end.wait(1)
    end.expect_ack(1)
