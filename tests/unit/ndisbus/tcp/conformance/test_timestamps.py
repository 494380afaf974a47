"""Window scaling, timestamps and PAWS on an established connection: RFC 7323."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.ndisbus.tcp.conformance.ladder import CLOSED, ESTABLISHED, Endpoint, incoming

DAY = 24 * 3600 * 1000
T = 7_000_000
"""The remote end's clock when the connection is made."""


def test_the_remote_ends_window_is_scaled() -> None:
    """RFC7323-2.3-SND: shifted left by Snd.Wind.Shift, in every segment without SYN.

    R-RFC-01, R-RFC-02: window scaling, RFC 1323.
    """
    end = Endpoint.established(scales=(3, 0), send_window=8000, c_wnd=100_000)
    end.gets("A", window=2000, size=1)
    assert end.delegated.snd_wnd == 16_000
    end.send(50_000)
    assert sum(len(sent.segment.payload) for sent in end.drop_sent()) == 16_000


def test_our_window_is_scaled() -> None:
    """RFC7323-2.3-RCV: shifted right by Rcv.Wind.Shift.

    R-RFC-01, R-RFC-02: window scaling, RFC 1323.
    """
    end = Endpoint.established(scales=(0, 4), receive_window=1_000_000)
    end.send(100)
    end.expect("A", window=1_000_000 >> 4)


def test_a_scaled_window_may_be_a_gibibyte() -> None:
    """RFC7323-2.3-LIMIT: 65535 * 2**14 does not overflow anything."""
    end = Endpoint.established(scales=(14, 14), receive_window=0xFFFF << 14, send_window=0xFFFF << 14)
    end.gets("A", window=0xFFFF)
    assert end.delegated.snd_wnd == 0xFFFF << 14
    end.send(100)
    end.expect("A", window=0xFFFF)


def test_what_was_offered_once_is_honoured() -> None:
    """RFC7323-2.4-HONOUR: rounding by the scale may hide a part of the window, but never refuses it."""
    end = Endpoint.established(scales=(0, 7), receive_window=10_000)
    end.send(1)
    field = end.expect("A").window
    edge = 1 + (field << 7)
    for seq in range(1, edge, 100):
        end.gets("A", seq=seq, size=min(100, edge - seq))
    assert end.rcv_nxt == edge
    assert end.read() == incoming(0, edge - 1)


def test_rounding_offers_no_more_than_there_is() -> None:
    """RFC7323-2.3-RCV: the window that the field stands for has room."""
    end = Endpoint.established(scales=(0, 7), receive_window=10_000)
    end.send(1)
    assert end.expect("A").window << 7 <= 10_000


def test_every_segment_has_a_timestamp() -> None:
    """RFC7323-3.2-EVERY, RFC7323-3.2-ECHO.

    Data, ACKs, retransmissions, FIN: own clock, and TS.Recent echoed.
    R-RFC-01, R-RFC-02: timestamps, RFC 1323.
    """
    end = Endpoint.established(timestamps=True)
    end.send(1000)
    end.gets("A", ack=1, size=10)
    end.wait(300)
    end.wait(1000)
    end.shutdown()
    sent = end.drop_sent()
    assert len(sent) >= 4
    for one in sent:
        assert one.segment.ts_val == (end.start + one.at) & 0xFFFF_FFFF
        assert one.segment.ts_ecr == T


def test_a_reset_has_a_timestamp() -> None:
    """RFC7323-3.2-RST: RST segments should have one, too."""
    end = Endpoint.established(timestamps=True)
    end.abort()
    assert end.expect_reset().ts_val is not None


def test_a_challenge_ack_has_a_timestamp() -> None:
    """RFC7323-3.2-EVERY: also what answers an unacceptable segment."""
    end = Endpoint.established(timestamps=True)
    end.gets("S", seq=500, options={"ts_val": None})
    assert end.expect_ack(1).ts_val is not None


def test_a_segment_without_its_timestamp_is_dropped() -> None:
    """RFC7323-3.2-MISSING, RFC7323-3.2-NOABORT: silently, and the connection goes on."""
    end = Endpoint.established(timestamps=True)
    end.gets("A", size=100, options={"ts_val": None})
    end.wait(500)
    end.expect_nothing()
    assert end.machine.available == 0
    end.expect_state(ESTABLISHED)
    end.gets("A", seq=1, size=100)
    assert end.read() == incoming(0, 100)


def test_a_reset_needs_no_timestamp() -> None:
    """RFC7323-3.2-MISSING, RFC7323-5.2-RST: RST is exempt from this and from PAWS."""
    bare = Endpoint.established(timestamps=True)
    bare.gets("R", options={"ts_val": None})
    assert bare.state is CLOSED
    old = Endpoint.established(timestamps=True)
    old.gets("R", options={"ts_val": T - 1000})
    assert old.state is CLOSED


def test_a_timestamp_that_was_not_agreed_is_ignored() -> None:
    """RFC7323-3.2-IGNORED: the segment is processed normally, and none is sent."""
    end = Endpoint.established(timestamps=False)
    end.gets("A", size=100, options={"ts_val": 99, "ts_ecr": 1})
    end.gets("A", size=100, options={"ts_val": 5, "ts_ecr": 1})
    assert end.read() == incoming(0, 200)
    end.wait(500)
    for sent in end.drop_sent():
        assert sent.segment.ts_val is None


def test_the_round_trip_is_measured_by_the_echo() -> None:
    """RFC7323-4.1-RTTM: now less TSecr, of an ACK that advances SND.UNA."""
    end = Endpoint.established(timestamps=True, rto_min_ms=1)
    end.send(1000)
    end.wait(123)
    end.gets("A")
    assert end.delegated.s_rtt == 123 * 8


def test_only_an_ack_of_new_data_measures() -> None:
    """RFC7323-4.1-NEW: an old echo of a remote end that only sends says nothing about the round trip."""
    end = Endpoint.established(timestamps=True)
    end.wait(500)
    end.gets("A", size=100, options={"ts_ecr": end.start & 0xFFFF_FFFF})
    end.gets("A", size=100, options={"ts_ecr": end.start & 0xFFFF_FFFF})
    assert end.delegated.s_rtt == 0


def test_a_delayed_ack_echoes_the_first_segment() -> None:
    """RFC7323-4.3-DELAYED: of the segments that one ACK covers, the earliest timestamp."""
    end = Endpoint.established(timestamps=True)
    end.remote_clock = T + 10
    end.gets("A", size=1000)
    end.remote_clock = T + 20
    end.gets("A", size=1000)
    assert end.expect_ack(2001).ts_ecr == T + 10
    end.remote_clock = T + 30
    end.gets("A", size=1000)
    end.wait(400)
    assert end.expect_ack(3001).ts_ecr == T + 30


def test_echoes_around_a_gap() -> None:
    """RFC7323-4.3-GAP: the second example of section 4.3: A C B E D with clocks 1 3 2 5 4."""
    end = Endpoint.established(timestamps=True)

    def arrives(letter: str, clock: int) -> int:
        end.remote_clock = T + clock
        end.gets("A", seq=1 + 100 * "ABCDE".index(letter), size=100)
        end.wait(400)
        return end.drop_sent()[-1].segment.ts_ecr - T

    assert arrives("A", 1) == 1
    assert arrives("C", 3) == 1
    assert arrives("B", 2) == 2
    assert arrives("E", 5) == 2
    assert arrives("D", 4) == 4


def test_ts_recent_is_taken_from_what_reaches_the_left_edge() -> None:
    """RFC7323-4.3-RULE, RFC7323-5.3-R3: SEG.SEQ =< Last.ACK.sent, and not older than TS.Recent."""
    end = Endpoint.established(timestamps=True)
    end.gets("A", seq=1001, size=100, options={"ts_val": T + 50})
    assert end.delegated.ts_recent == T
    end.gets("A", seq=1, size=1000, options={"ts_val": T + 40})
    assert end.delegated.ts_recent == T + 40


def test_an_empty_ack_updates_ts_recent() -> None:
    """RFC7323-4.3-RULE: a segment of length zero at the left edge counts as well."""
    end = Endpoint.established(timestamps=True)
    end.gets("A", options={"ts_val": T + 7})
    assert end.delegated.ts_recent == T + 7


def test_paws_drops_what_is_older() -> None:
    """RFC7323-5.3-R1, RFC7323-5-PAWS: an ACK goes back, the segment does not count, whatever its number.

    R-RFC-01, R-RFC-02: PAWS, RFC 1323.
    """
    end = Endpoint.established(timestamps=True)
    end.gets("A", size=100, options={"ts_val": T - 1})
    end.expect_ack(1)
    end.expect_nothing()
    assert end.machine.available == 0
    assert end.delegated.ts_recent == T


def test_paws_comes_before_the_sequence_check() -> None:
    """RFC7323-5.3-R1: an old FIN or ACK at the right number is an old segment all the same."""
    end = Endpoint.established(timestamps=True)
    end.send(1000)
    end.drop_sent()
    end.gets("FA", options={"ts_val": T - 1})
    end.expect_ack(1)
    end.expect_state(ESTABLISHED)
    assert end.machine.queued == 1000


@pytest.mark.parametrize("recent", [0, 5, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF])
def test_timestamps_wrap(recent: int) -> None:
    """RFC7323-5.2-MODULO: older and newer are modulo 2**32."""
    end = Endpoint.established(timestamps=True)
    end.delegated.ts_recent = recent
    end.remote_clock = recent
    end.gets("A", size=100, options={"ts_val": (recent - 1) & 0xFFFF_FFFF})
    assert end.machine.available == 0
    end.gets("A", seq=1, size=100, options={"ts_val": (recent + 1) & 0xFFFF_FFFF})
    assert end.machine.available == 100


def test_the_same_timestamp_is_not_older() -> None:
    """RFC7323-5.3-R1: a remote end with a slow clock sends many segments with one timestamp."""
    end = Endpoint.established(timestamps=True)
    for _ in range(5):
        end.gets("A", size=100, options={"ts_val": T})
    assert end.read() == incoming(0, 500)


def test_ts_recent_outlives_24_days_of_silence_by_nothing() -> None:
    """RFC7323-5.5-24: after that it is not valid, and the next segment's timestamp is taken as it is."""
    end = Endpoint.established(timestamps=True)
    end.gets("A", size=100)
    end.wait(24 * DAY + 10_000)
    end.drop_sent()
    end.gets("A", size=100, options={"ts_val": (T - 1000) & 0xFFFF_FFFF})
    assert end.read() == incoming(0, 200)
    assert end.delegated.ts_recent == (T - 1000) & 0xFFFF_FFFF


def test_ts_recent_is_valid_for_23_days() -> None:
    """RFC7323-5.5-24: it may not be forgotten early."""
    end = Endpoint.established(timestamps=True)
    end.gets("A", size=100)
    end.wait(23 * DAY)
    end.drop_sent()
    end.gets("A", size=100, options={"ts_val": T - 1000})
    end.expect_ack(101)
    assert end.machine.available == 100


@pytest.mark.parametrize("ticks_per_second", [10, 100, 1000])
def test_the_timestamp_clock_ticks_as_negotiated(ticks_per_second: int) -> None:
    """RFC7323-5.4-CLOCK: once per 1 ms to 1 s, growing with real time."""
    parameters = {"ticks_per_second": ticks_per_second, "tcp_delayed_ack_ticks": 1}
    end = Endpoint.established(timestamps=True, parameters=parameters)
    end.send(10)
    first = end.expect("A").ts_val
    end.gets("A")
    end.wait(10 * ticks_per_second)
    end.send(10)
    second = end.expect("A").ts_val
    assert first is not None and second is not None
    assert (second - first) & 0xFFFF_FFFF == 10 * ticks_per_second


def test_a_retransmission_has_its_own_timestamp() -> None:
    """RFC7323-3.2-EVERY: that of the time at which it is sent."""
    end = Endpoint.established(timestamps=True)
    end.send(500)
    first = end.expect("A", seq=1).ts_val
    end.wait(1000)
    again = end.expect("A", seq=1).ts_val
    assert first is not None and again is not None
    assert (again - first) & 0xFFFF_FFFF == 1000


@pytest.mark.parametrize(
    ("flags", "fields"),
    [
        ("", {}),
        ("", {"size": 100}),
        ("F", {}),
        ("A", {"ack": 50_000}),
        ("A", {"ack": 50_000, "size": 100}),
        ("A", {"ack": -100_000}),
    ],
)
def test_ts_recent_is_taken_after_the_last_check(flags: str, fields: dict[str, Any]) -> None:
    """RFC7323-4.3-LAST: a segment that has no ACK, or is dropped for its ACK, leaves TS.Recent.

    Otherwise one forged segment with a timestamp far ahead makes PAWS drop all that the remote end sends.
    """
    end = Endpoint.established(timestamps=True)
    end.send(100)
    end.drop_sent()
    end.gets(flags, seq=1, options={"ts_val": T + 0x7000_0000}, **fields)
    end.drop_sent()
    assert end.delegated.ts_recent == T
    end.remote_next = 1
    end.gets("A", ack=101, size=1000)
    assert end.read() == incoming(0, 1000)
    assert end.machine.queued == 0


@pytest.mark.parametrize("flags", ["S", "SA", "SF"])
def test_a_syn_leaves_ts_recent(flags: str) -> None:
    """RFC7323-4.3-LAST: a SYN draws a challenge ACK and changes nothing."""
    end = Endpoint.established(timestamps=True)
    end.gets(flags, seq=1, options={"ts_val": T + 0x7000_0000})
    end.drop_sent()
    assert end.delegated.ts_recent == T
