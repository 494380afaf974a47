"""SEGMENT ARRIVES, fourth check: SYN on a connection that has one (RFC 9293 3.10.7.4; RFC 5961 section 4)."""

from __future__ import annotations

import pytest

from ndisbus.ddi.tcp_enums import TcpOffloadConnectionState
from tests.unit.ndisbus.tcp.conformance.ladder import (
    ESTABLISHED,
    SYNCHRONIZED,
    Endpoint,
)


@pytest.mark.parametrize("state", SYNCHRONIZED)
@pytest.mark.parametrize("flags", ["S", "SA"])
@pytest.mark.parametrize("offset", [0, 100, -1, -50_000, 500_000])
def test_a_syn_draws_a_challenge_ack(state: TcpOffloadConnectionState, flags: str, offset: int) -> None:
    """RFC9293-3.10.7.4-SYN-1, RFC9293-3.10.7.4-SYN-2, RFC5961-4.2-1, RFC5961-4.2-2.

    Whatever its sequence number: <SEQ=SND.NXT><ACK=RCV.NXT><CTL=ACK>, and then it is dropped.
    """
    end = Endpoint.in_state(state, receive_window=4000)
    expected, seq = end.remote_next, end.seen
    end.gets(flags, seq=expected + offset)
    end.expect_ack(expected, seq=seq)
    end.expect_nothing()
    end.expect_state(state)
    assert end.rcv_nxt == expected


def test_data_beside_a_syn_is_not_taken() -> None:
    """RFC9293-3.10.7.4-SYN-2: after the challenge the segment is processed no further."""
    end = Endpoint.established()
    end.send(1000)
    end.expect_data(1)
    end.gets("SA", seq=1, data=b"x" * 100, ack=1001)
    end.expect_ack(1, seq=1001)
    assert end.machine.available == 0
    assert end.machine.queued == 1000
    end.expect_state(ESTABLISHED)


def test_an_old_syn_ack_of_the_handshake_is_answered() -> None:
    """RFC9293-3.10.7.4-SEQ-6: the remote end's SYN-ACK again (our ACK was lost) draws the ACK again."""
    end = Endpoint.established()
    end.gets("SA", seq=0, ack=1)
    end.expect_ack(1, seq=1)
    end.expect_nothing()


def test_syn_challenges_are_throttled() -> None:
    """RFC5961-7-1: a flood of SYNs does not draw an ACK each."""
    end = Endpoint.established()
    for _ in range(1000):
        end.gets("S", seq=100)
    assert 1 <= len(end.drop_sent()) <= 100
