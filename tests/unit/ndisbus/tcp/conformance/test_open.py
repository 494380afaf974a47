"""Opening: the OPEN call, LISTEN, SYN-SENT and SYN-RECEIVED (RFC 9293 3.5, 3.10.1, 3.10.7.1 to 3.10.7.4)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ndisbus.net.segment import ACK, FIN, RST, SYN, Segment
from ndisbus.tcp.ending import answer_closed, answer_listen
from ndisbus.tcp.events import EventKind
from tests.unit.ndisbus.tcp.conformance.ladder import (
    CLOSE_WAIT,
    CLOSED,
    ESTABLISHED,
    FIN_WAIT_1,
    SYN_RCVD,
    SYN_SENT,
    Endpoint,
    incoming,
)

MSS = {"mss": 1000}


def connecting() -> Endpoint:
    """SYN-SENT; the SYN is on its way."""
    end = Endpoint.opening()
    end.expect("S", seq=0)
    end.expect_nothing()
    return end


def accepting() -> Endpoint:
    """SYN-RECEIVED after a passive OPEN; the SYN-ACK is on its way."""
    end = Endpoint.accepting()
    end.expect("SA", seq=0, ack=1)
    end.expect_nothing()
    return end


def crossing() -> Endpoint:
    """SYN-RECEIVED after an active OPEN: the SYNs crossed."""
    end = connecting()
    end.gets("S", seq=0, options=MSS)
    end.expect("SA", seq=0, ack=1)
    end.expect_nothing()
    return end


# -- the OPEN call


def test_an_active_open_sends_a_syn() -> None:
    """RFC9293-3.10.1-ACTIVE: <SEQ=ISS><CTL=SYN>, SND.UNA = ISS, SND.NXT = ISS+1, SYN-SENT."""
    end = Endpoint.opening()
    end.expect_state(SYN_SENT)
    syn = end.expect("S", seq=0, length=0)
    assert syn.ack == 0
    end.expect_nothing()
    assert end.snd_una == 0
    assert end.relative_out(end.delegated.snd_nxt) == 1
    assert not end.heard_of(EventKind.CONNECTED)


def test_a_passive_open_is_filled_in_by_the_syn() -> None:
    """RFC9293-3.10.1-PASSIVE, RFC9293-3.10.7.2-SYN.

    RCV.NXT = SEG.SEQ+1, SYN-ACK with the ISS, SYN-RECEIVED.
    """
    end = Endpoint.accepting()
    end.expect_state(SYN_RCVD)
    end.expect("SA", seq=0, ack=1, length=0)
    end.expect_nothing()
    assert end.rcv_nxt == 1
    assert not end.heard_of(EventKind.CONNECTED)


def test_the_basic_handshake_of_figure_6_as_peer_a() -> None:
    """RFC9293-3.5-FIG6, RFC9293-3.10.7.3-SYN-1: SYN, SYN-ACK, ACK, and the user is told."""
    end = connecting()
    end.gets("SA", seq=0, ack=1, options=MSS)
    end.expect_ack(1, seq=1)
    end.expect_nothing()
    end.expect_state(ESTABLISHED)
    assert end.heard_of(EventKind.CONNECTED)
    end.send(500)
    end.expect("A", seq=1, ack=1, length=500)


def test_the_basic_handshake_of_figure_6_as_peer_b() -> None:
    """RFC9293-3.5-FIG6, RFC9293-3.10.7.4-ACK-SYN-RCVD-1: the ACK makes it ESTABLISHED and sets the window."""
    end = accepting()
    end.gets("A", seq=1, ack=1, window=1234)
    end.expect_nothing()
    end.expect_state(ESTABLISHED)
    assert end.heard_of(EventKind.CONNECTED)
    assert end.delegated.snd_wnd == 1234
    end.gets("A", size=100)
    assert end.read() == incoming(0, 100)


def test_simultaneous_open_of_figure_7() -> None:
    """RFC9293-MUST-10, RFC9293-3.5-FIG7, RFC9293-3.10.7.3-SYN-2.

    SYN crosses SYN; one connection comes of it.
    """
    end = crossing()
    end.expect_state(SYN_RCVD)
    end.gets("SA", seq=0, ack=1, options=MSS)
    end.expect_state(ESTABLISHED)
    assert end.heard_of(EventKind.CONNECTED)
    end.drop_sent()
    end.send(500)
    end.expect("A", seq=1, ack=1, length=500)


def test_simultaneous_open_ended_by_an_ack() -> None:
    """RFC9293-MUST-10: the remote end's ACK of our SYN-ACK will do as well as its SYN-ACK."""
    end = crossing()
    end.gets("A", seq=1, ack=1)
    end.expect_state(ESTABLISHED)


def test_an_old_duplicate_syn_of_figure_8() -> None:
    """RFC9293-3.5-FIG8, RFC9293-MUST-11, RFC9293-3.10.7.4-RST-SYN-RCVD.

    Back to LISTEN, the user hears nothing of it.
    """
    end = accepting()
    end.gets("R", seq=1)
    end.expect_state(CLOSED)
    assert not end.events(EventKind.CONNECTED, EventKind.RESET, EventKind.REFUSED, EventKind.TIMED_OUT)
    end.wait(300_000)
    end.expect_nothing()


def test_a_half_open_connection_is_discovered_by_a_new_syn() -> None:
    """RFC9293-3.5.1-HALF-OPEN: figure 9: the established end answers with an ACK, whose RST ends it."""
    end = Endpoint.established()
    end.gets("S", seq=-100_000)
    answer = end.expect_ack(1, seq=1)
    end.gets("R", seq=end.relative_in(answer.ack))
    end.expect_state(CLOSED)
    assert end.heard_of(EventKind.RESET)


def test_the_side_that_lost_its_memory_resets() -> None:
    """RFC9293-3.5.1-HALF-OPEN: figure 9 again: SYN-SENT gets the ACK of a connection it knows nothing of."""
    end = connecting()
    end.gets("A", seq=300, ack=100)
    assert end.relative_out(end.expect_reset().seq) == 100
    end.expect_state(SYN_SENT)
    end.wait(1000)
    end.expect("S", seq=0)  # and it goes on opening


# -- CLOSED and LISTEN


def test_closed_answers_an_ack_with_a_reset() -> None:
    """RFC9293-3.10.7.1-ACK, RFC9293-3.5.2-GROUP-1: <SEQ=SEG.ACK><CTL=RST>."""
    answer = answer_closed(Segment(100, 777, ACK, 0, b"data", 0, 4000, 7))
    assert answer is not None
    assert answer.flags == RST
    assert answer.seq == 777
    assert not answer.payload
    assert (answer.source_port, answer.destination_port) == (7, 4000)


@pytest.mark.parametrize(
    ("flags", "payload", "ack"),
    [(SYN, b"", 1), (SYN, b"abc", 4), (FIN, b"", 1), (0, b"ab", 2), (SYN | FIN, b"", 2)],
)
def test_closed_answers_anything_else_with_reset_and_ack(flags: int, payload: bytes, ack: int) -> None:
    """RFC9293-3.10.7.1-NOACK, RFC9293-3.5.2-GROUP-1: <SEQ=0><ACK=SEG.SEQ+SEG.LEN><CTL=RST,ACK>."""
    answer = answer_closed(Segment(0xFFFF_FFFF, 0, flags, 0, payload))
    assert answer is not None
    assert answer.flags == RST | ACK
    assert answer.seq == 0
    assert answer.ack == (0xFFFF_FFFF + ack) & 0xFFFF_FFFF


def test_closed_answers_no_reset() -> None:
    """RFC9293-3.10.7.1-RST: two ends without a connection do not reset each other for ever."""
    assert answer_closed(Segment(1, 2, RST, 0)) is None
    assert answer_closed(Segment(1, 2, RST | ACK, 0)) is None


def test_listen_ignores_a_reset() -> None:
    """RFC9293-3.10.7.2-RST: it cannot be an answer to anything."""
    assert answer_listen(Segment(1, 2, RST, 0)) == (False, None)
    assert answer_listen(Segment(1, 2, RST | ACK | SYN, 0)) == (False, None)


@pytest.mark.parametrize("flags", [ACK, SYN | ACK, FIN | ACK])
def test_listen_answers_an_ack_with_a_reset(flags: int) -> None:
    """RFC9293-3.10.7.2-ACK, RFC9293-3.5.2-GROUP-2: <SEQ=SEG.ACK><CTL=RST>."""
    opens, answer = answer_listen(Segment(1, 4242, flags, 0))
    assert not opens
    assert answer is not None
    assert answer.flags == RST
    assert answer.seq == 4242


def test_listen_opens_for_a_syn() -> None:
    """RFC9293-3.10.7.2-SYN: only for that, and without an answer of its own."""
    assert answer_listen(Segment(1, 0, SYN, 0)) == (True, None)


@pytest.mark.parametrize("flags", [0, FIN])
def test_listen_drops_anything_else(flags: int) -> None:
    """RFC9293-3.10.7.2-OTHER, RFC9293-3.10.7.4-FIN-0: neither SYN nor ACK nor RST."""
    assert answer_listen(Segment(1, 0, flags, 0, b"x")) == (False, None)


def test_text_beside_the_syn_is_delivered_once_the_connection_is_there() -> None:
    """RFC9293-3.10.7.2-TEXT: and not before."""
    end = Endpoint.accepting(size=100)
    syn_ack = end.expect("SA", seq=0)
    assert end.relative_in(syn_ack.ack) in (1, 101)
    assert not end.events(EventKind.DATA)
    end.gets("A", seq=101, ack=1)
    if end.rcv_nxt == 1:  # it was not acknowledged: the remote end sends it again
        end.gets("A", seq=1, size=100)
    end.expect_state(ESTABLISHED)
    assert end.read() == incoming(0, 100)
    assert end.rcv_nxt == 101


# -- SYN-SENT


@pytest.mark.parametrize("ack", [0, -1, 2, 1000])
@pytest.mark.parametrize("flags", ["A", "SA", "FA"])
def test_syn_sent_resets_what_acknowledges_something_else(flags: str, ack: int) -> None:
    """RFC9293-3.10.7.3-ACK, RFC9293-3.5.2-GROUP-2: SEG.ACK =< ISS or > SND.NXT: <SEQ=SEG.ACK><CTL=RST>."""
    end = connecting()
    end.gets(flags, seq=0, ack=ack)
    reset = end.expect_reset()
    assert end.relative_out(reset.seq) == ack
    end.expect_nothing()
    end.expect_state(SYN_SENT)


def test_syn_sent_answers_no_reset() -> None:
    """RFC9293-3.10.7.3-ACK, RFC9293-3.10.7.3-RST-2: an RST with a wrong ACK or none is dropped."""
    end = connecting()
    end.gets("RA", seq=0, ack=77)
    end.gets("R", seq=0)
    end.expect_nothing()
    end.expect_state(SYN_SENT)


def test_syn_sent_is_refused_by_an_acceptable_reset() -> None:
    """RFC9293-3.10.7.3-RST-2, RFC9293-3.5.3-VALID: RST that acknowledges the SYN; the user is told."""
    end = connecting()
    end.gets("RA", seq=0, ack=1)
    end.expect_state(CLOSED)
    assert end.heard_of(EventKind.REFUSED)
    assert end.machine.error
    end.wait(300_000)
    end.expect_nothing()


def test_syn_sent_drops_what_is_neither_syn_nor_rst() -> None:
    """RFC9293-3.10.7.3-OTHER, RFC9293-3.10.7.4-FIN-0.

    An acceptable ACK alone opens nothing, a FIN does nothing.
    """
    end = connecting()
    end.gets("A", seq=1, ack=1, size=10)
    end.gets("FA", seq=1, ack=1)
    end.gets("F", seq=1)
    end.expect_nothing()
    end.expect_state(SYN_SENT)
    assert end.machine.available == 0


def test_text_and_fin_beside_the_syn_ack_are_processed() -> None:
    """RFC9293-3.10.7.3-TEXT: what comes with the SYN counts once the connection is there."""
    end = connecting()
    end.gets("SA", seq=0, ack=1, size=100, options=MSS)
    end.expect_state(ESTABLISHED)
    if end.rcv_nxt == 1:
        end.gets("A", seq=1, size=100)
    assert end.read() == incoming(0, 100)


def test_the_syn_is_retransmitted_like_data() -> None:
    """RFC9293-MUST-22, RFC6298-2.1, RFC6298-5.5: after 1 s, then twice as long each time."""
    end = Endpoint.opening()
    end.drop_sent()
    end.wait(31_000)
    assert [sent.at for sent in end.sent] == [1000, 3000, 7000, 15_000, 31_000]
    for _ in range(5):
        end.expect("S", seq=0)


def test_the_syn_ack_is_retransmitted_like_data() -> None:
    """RFC9293-MUST-22: with the same numbers and options."""
    end = Endpoint.accepting()
    first = end.expect("SA", seq=0, ack=1)
    end.wait(7000)
    assert [sent.at for sent in end.sent] == [1000, 3000, 7000]
    assert end.expect("SA", seq=0, ack=1).mss == first.mss


def test_syn_retransmission_goes_on_for_three_minutes() -> None:
    """RFC9293-MUST-23, RFC9293-MUST-22: and then the user is told."""
    end = Endpoint.opening()
    end.wait(180_000)
    end.expect_state(SYN_SENT)
    end.wait(300_000)
    end.expect_state(CLOSED)
    assert end.heard_of(EventKind.TIMED_OUT)


# -- SYN-RECEIVED


@pytest.mark.parametrize("ack", [0, -1000, 2, 100_000])
def test_syn_received_resets_a_wrong_ack(ack: int) -> None:
    """RFC9293-3.10.7.4-ACK-SYN-RCVD-2, RFC9293-3.5.2-GROUP-2: <SEQ=SEG.ACK><CTL=RST>, the state stays."""
    end = accepting()
    end.gets("A", seq=1, ack=ack)
    assert end.relative_out(end.expect_reset().seq) == ack
    end.expect_nothing()
    end.expect_state(SYN_RCVD)
    assert not end.heard_of(EventKind.CONNECTED)


def test_syn_received_after_an_active_open_is_refused() -> None:
    """RFC9293-MUST-11, RFC9293-3.10.7.4-RST-SYN-RCVD: "connection refused", unlike after a passive OPEN."""
    end = crossing()
    end.gets("R", seq=1)
    end.expect_state(CLOSED)
    assert end.heard_of(EventKind.REFUSED)


@pytest.mark.parametrize("make", [accepting, crossing])
def test_syn_received_challenges_an_inexact_reset(make: Callable[[], Endpoint]) -> None:
    """RFC9293-3.10.7.4-RST-3, RFC9293-3.10.7.4-RST-1: the checks of RFC 5961 hold here, too."""
    end = make()
    end.gets("R", seq=100)
    end.expect("A", ack=1)
    end.gets("R", seq=90_000)
    end.expect_nothing()
    end.expect_state(SYN_RCVD)


def test_syn_received_goes_back_to_listen_for_a_new_syn() -> None:
    """RFC9293-3.10.7.4-SYN-RCVD: a SYN in the window after a passive OPEN."""
    end = accepting()
    end.gets("S", seq=100)
    end.expect_state(CLOSED)
    assert not end.events(EventKind.CONNECTED, EventKind.RESET, EventKind.REFUSED)
    end.expect_nothing()


def test_syn_received_answers_the_same_syn_again() -> None:
    """RFC9293-3.10.7.4-SEQ-6.

    The remote end did not get the SYN-ACK: it gets that, or the ACK that is owed, again.
    """
    end = accepting()
    end.gets("S", seq=0, options=MSS)
    end.expect_state(SYN_RCVD)
    (sent,) = end.drop_sent()
    assert sent.segment.flags in (ACK, SYN | ACK)
    assert end.relative_in(sent.segment.ack) == 1


def test_text_with_the_ack_of_the_syn_is_taken() -> None:
    """RFC9293-3.10.7.4-ACK-SYN-RCVD-1: processing continues in ESTABLISHED."""
    end = accepting()
    end.gets("A", seq=1, ack=1, size=100)
    end.expect_state(ESTABLISHED)
    assert end.read() == incoming(0, 100)


def test_a_fin_with_the_ack_of_the_syn_is_taken() -> None:
    """RFC9293-3.10.7.4-FIN-EST: SYN-RECEIVED to CLOSE-WAIT in one segment."""
    end = accepting()
    end.gets("FA", seq=1, ack=1)
    end.expect_ack(2)
    end.expect_state(CLOSE_WAIT)
    assert end.heard_of(EventKind.CONNECTED)
    assert end.heard_of(EventKind.FIN)


def test_data_that_overtakes_the_ack_of_the_syn_is_no_loss() -> None:
    """RFC9293-SHLD-31, RFC9293-3.10.7.4-ACK-SYN-RCVD-1: a later segment acknowledges the SYN as well."""
    end = accepting()
    end.gets("A", seq=101, ack=1, size=100)
    end.expect_state(ESTABLISHED)
    end.gets("A", seq=1, ack=1, size=100)
    assert end.read() == incoming(0, 200)


# -- user calls while opening


@pytest.mark.parametrize("make", [connecting, accepting])
def test_send_before_the_connection_is_there_is_queued(make: Callable[[], Endpoint]) -> None:
    """RFC9293-3.10.2-SYN: nothing goes out before ESTABLISHED, everything after."""
    end = make()
    end.send(1500)
    end.expect_nothing()
    if end.state is SYN_SENT:
        end.gets("SA", seq=0, ack=1, options=MSS)
    else:
        end.gets("A", seq=1, ack=1)
    assert sum(len(sent.segment.payload) for sent in end.sent) == 1500
    first = next(sent.segment for sent in end.sent if sent.segment.payload)
    assert end.relative_out(first.seq) == 1


@pytest.mark.parametrize("make", [connecting, accepting])
def test_receive_before_the_connection_is_there_finds_nothing_yet(make: Callable[[], Endpoint]) -> None:
    """RFC9293-3.10.3-SYN: neither data nor an end."""
    end = make()
    assert end.read() == b""
    assert not end.machine.at_end


def test_close_in_syn_sent() -> None:
    """RFC9293-3.10.4-SYN-SENT: the TCB is deleted, nothing is sent."""
    end = connecting()
    end.shutdown()
    end.expect_state(CLOSED)
    assert end.heard_of(EventKind.CLOSED)
    end.wait(300_000)
    end.expect_nothing()


def test_close_in_syn_received() -> None:
    """RFC9293-3.10.4-SYN-RCVD: FIN at once, or as soon as it is ESTABLISHED; FIN-WAIT-1 either way."""
    end = accepting()
    end.shutdown()
    end.gets("A", seq=1, ack=1)
    end.expect("FA", seq=1, ack=1, length=0)
    end.expect_state(FIN_WAIT_1)


def test_close_in_syn_received_with_data_queued() -> None:
    """RFC9293-3.10.4-SYN-RCVD: the data first."""
    end = accepting()
    end.send(500)
    end.shutdown()
    end.gets("A", seq=1, ack=1)
    end.expect("FA", seq=1, length=500)
    end.expect_state(FIN_WAIT_1)


def test_abort_in_syn_sent() -> None:
    """RFC9293-3.10.5-SYN-SENT: CLOSED without an RST."""
    end = connecting()
    end.abort()
    end.expect_state(CLOSED)
    end.wait(300_000)
    end.expect_nothing()


@pytest.mark.parametrize("make", [accepting, crossing])
def test_abort_in_syn_received(make: Callable[[], Endpoint]) -> None:
    """RFC9293-3.10.5-EST: RST with SND.NXT."""
    end = make()
    end.abort()
    end.expect_state(CLOSED)
    assert end.relative_out(end.expect_reset().seq) == 1


@pytest.mark.parametrize("make", [connecting, accepting, crossing])
def test_status_while_opening(make: Callable[[], Endpoint]) -> None:
    """RFC9293-3.10.6-ALL: SYN-SENT and SYN-RECEIVED are told like the others."""
    end = make()
    assert end.machine.state is (SYN_SENT if make is connecting else SYN_RCVD)
    assert end.delegated.state == end.machine.state


@pytest.mark.parametrize("scaling", [True, False])
def test_accepting_a_connection_sends_no_window_update(scaling: bool) -> None:
    """RFC9293-3.8.6.2.2-ACCEPT: the window of a SYN is 65,535 bytes at most; the next ACK offers the rest.

    R-TMR-28: what the user reads is offered as ever.
    """
    remote = {"window_scale": 7} if scaling else {}
    end = Endpoint.accepting(remote=remote, receive_window=262_144, options={"scaling": scaling})
    end.drop_sent()
    end.gets("A")
    end.expect_state(ESTABLISHED)
    end.expect_nothing()
    end.wait(10_000)
    end.expect_nothing()
    end.gets("A", size=1000)
    end.gets("A", size=1000)
    ack = end.expect_ack(2001)
    assert ack.window << end.machine.rcv_scale >= (250_000 if scaling else 60_000)
    end.expect_nothing()
