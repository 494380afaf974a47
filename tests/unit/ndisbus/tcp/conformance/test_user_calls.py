"""The user's calls in every state: SEND, RECEIVE, ABORT, STATUS (RFC 9293 3.10.2 to 3.10.6)."""

from __future__ import annotations

import pytest

from ndisbus.ddi.tcp_enums import TcpOffloadConnectionState
from ndisbus.errors import LocalProtocolError
from ndisbus.tcp.events import EventKind
from tests.unit.ndisbus.tcp.conformance.ladder import (
    CLOSE_WAIT,
    CLOSED,
    CLOSING,
    ESTABLISHED,
    FIN_WAIT_1,
    FIN_WAIT_2,
    LAST_ACK,
    SYNCHRONIZED,
    TIME_WAIT,
    Endpoint,
    incoming,
)


@pytest.mark.parametrize("state", [ESTABLISHED, CLOSE_WAIT])
def test_send_segmentizes_and_piggybacks_the_ack(state: TcpOffloadConnectionState) -> None:
    """RFC9293-3.10.2-EST: segments of the buffer, each with ACK = RCV.NXT."""
    end = Endpoint.in_state(state)
    end.send(2500)
    expected = end.remote_next
    end.expect("A", seq=1, ack=expected, length=1000)
    end.expect("A", seq=1001, ack=expected, length=1000)
    end.expect("A", seq=2001, ack=expected, length=500)
    end.expect_nothing()


@pytest.mark.parametrize("state", [FIN_WAIT_1, FIN_WAIT_2, CLOSING, LAST_ACK, TIME_WAIT])
def test_send_after_close_is_an_error(state: TcpOffloadConnectionState) -> None:
    """RFC9293-3.10.2-CLOSING: the request is refused and not serviced."""
    end = Endpoint.in_state(state)
    with pytest.raises(LocalProtocolError):
        end.machine.send(b"late")
    end.collect()
    end.expect_nothing()
    assert end.machine.queued == 0


def test_send_after_close_is_an_error_before_the_fin_has_left() -> None:
    """RFC9293-3.10.2-CLOSING: CLOSE counts from the call on, also while data still waits for the window."""
    end = Endpoint.established(c_wnd=1000)
    end.send(5000)
    end.shutdown()
    with pytest.raises(LocalProtocolError):
        end.machine.send(b"late")


def test_send_on_a_closed_connection_is_an_error() -> None:
    """RFC9293-3.10.2-CLOSED: there is no connection to send on."""
    end = Endpoint.established()
    end.abort()
    with pytest.raises(LocalProtocolError):
        end.machine.send(b"late")


@pytest.mark.parametrize("state", [ESTABLISHED, FIN_WAIT_1, FIN_WAIT_2])
def test_receive_gives_what_has_come_so_far(state: TcpOffloadConnectionState) -> None:
    """RFC9293-3.10.3-EST: reassembled, as many bytes as were asked for at most, nothing if there are none."""
    end = Endpoint.in_state(state)
    assert end.read() == b""
    end.gets("A", size=100)
    end.gets("A", size=100)
    assert end.read(150) == incoming(0, 150)
    assert end.read(150) == incoming(150, 50)
    assert end.read(150) == b""
    assert not end.machine.at_end


def test_receive_in_close_wait_is_satisfied_by_what_is_on_hand() -> None:
    """RFC9293-3.10.3-CLOSE-WAIT: and then the end is told."""
    end = Endpoint.established()
    end.gets("A", size=1000)
    end.gets("FA", size=10)
    end.expect_state(CLOSE_WAIT)
    early = end.machine.at_end
    assert end.read(600) == incoming(0, 600)
    assert end.read(600) == incoming(600, 410)
    assert (early, end.machine.at_end) == (False, True)
    assert end.read() == b""


@pytest.mark.parametrize("state", [CLOSING, LAST_ACK, TIME_WAIT])
def test_receive_when_all_is_received(state: TcpOffloadConnectionState) -> None:
    """RFC9293-3.10.3-CLOSING: "connection closing": nothing comes, and the end is told."""
    end = Endpoint.in_state(state)
    assert end.read() == b""
    assert end.machine.at_end


@pytest.mark.parametrize("state", [ESTABLISHED, FIN_WAIT_1, FIN_WAIT_2, CLOSE_WAIT])
def test_abort_sends_a_reset(state: TcpOffloadConnectionState) -> None:
    """RFC9293-3.10.5-EST: <SEQ=SND.NXT><CTL=RST>, CLOSED, and nothing else ever."""
    end = Endpoint.in_state(state)
    seq = end.seen
    end.abort()
    end.expect_state(CLOSED)
    sent = end.drop_sent()
    assert len(sent) == 1
    assert sent[0].segment.flags & 4
    assert end.relative_out(sent[0].segment.seq) == seq
    assert not sent[0].segment.payload
    end.wait(300_000)
    end.expect_nothing()


def test_abort_flushes_the_queues() -> None:
    """RFC9293-3.10.5-EST: neither queued nor unacknowledged data follows; the RST has SND.NXT."""
    end = Endpoint.established(c_wnd=2000)
    end.send(10_000)
    end.expect_data(1, 1001)
    end.abort()
    (sent,) = end.drop_sent()
    assert end.relative_out(sent.segment.seq) == 2001
    end.gets("A", ack=1001)
    end.wait(300_000)
    assert not [s for s in end.drop_sent() if s.segment.payload]


@pytest.mark.parametrize("state", [CLOSING, LAST_ACK, TIME_WAIT])
def test_abort_when_both_have_closed_is_silent(state: TcpOffloadConnectionState) -> None:
    """RFC9293-3.10.5-CLOSING: "ok", CLOSED, no RST."""
    end = Endpoint.in_state(state)
    end.abort()
    end.expect_state(CLOSED)
    end.expect_nothing()


def test_abort_after_a_timeout_resets_with_snd_max() -> None:
    """RFC9293-3.10.5-EST: what was sent before a retransmission is not forgotten in the RST's number."""
    end = Endpoint.established()
    end.send(3000)
    end.drop_sent()
    end.wait(1000)
    end.expect_data(1)
    end.abort()
    (sent,) = end.drop_sent()
    assert end.relative_out(sent.segment.seq) == 3001


@pytest.mark.parametrize("state", [*SYNCHRONIZED, CLOSED])
def test_status_tells_the_state(state: TcpOffloadConnectionState) -> None:
    """RFC9293-3.10.6-ALL: the machine's and the structure's state are one."""
    if state is CLOSED:
        end = Endpoint.established()
        end.abort()
    else:
        end = Endpoint.in_state(state)
    assert end.machine.state is state
    assert end.delegated.state == state


def test_the_end_stays_told() -> None:
    """RFC9293-3.10.3-CLOSED.

    What was received before an orderly close can still be read after it, up to the end.
    """
    end = Endpoint.established()
    end.gets("FA", size=100)
    end.shutdown()
    end.gets("A")
    end.expect_state(CLOSED)
    assert not end.machine.at_end
    assert end.read() == incoming(0, 100)
    assert end.machine.at_end


def test_aborting_is_not_a_reset_by_the_remote_end() -> None:
    """RFC9293-MUST-12: the user who aborted is told CLOSED, not RESET."""
    end = Endpoint.established()
    end.abort()
    assert not end.heard_of(EventKind.RESET)
    assert end.heard_of(EventKind.CLOSED)


def test_a_segment_for_a_closed_machine_draws_no_data() -> None:
    """RFC9293-3.10.7.1-RST: an incoming RST is discarded when the state is CLOSED."""
    end = Endpoint.established()
    end.abort()
    end.drop_sent()
    end.heard.clear()
    end.gets("R")
    end.expect_nothing()
    assert not end.heard
