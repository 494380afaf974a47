"""Faults that simulated streams and fuzzing found, each by itself."""

from __future__ import annotations

import pytest

from ndisbus.net.segment import ACK, FIN, SYN, Segment
from ndisbus.state.images import PathOffloadStateCached, PathOffloadStateConst
from ndisbus.state.tcp import TcpOffloadStateCached
from ndisbus.tcp.open import active_open, passive_open
from ndisbus.tcp.settings import TcpSettings
from tests.unit.ndisbus.tcp.conformance.ladder import ESTABLISHED, V4, Endpoint


def test_the_window_of_a_retransmission_with_a_newer_ack_counts() -> None:
    """An old number is retransmitted with a new ACK: with the old window, the edge would be too far."""
    end = Endpoint.established(send_window=2000, c_wnd=10_000)
    end.gets("A", seq=1001, size=1000, window=2000)
    end.drop_sent()
    end.send(4000)
    end.expect_data(1, 1001)
    end.gets("A", seq=1, size=1000, ack=1001, window=1000)
    end.expect_ack(2001)
    end.expect_nothing()
    assert end.delegated.snd_wnd == 1000


def test_a_fast_retransmission_leaves_room_for_sack_blocks() -> None:
    """R-STATE-17: both directions lose a segment; the retransmission carries blocks and data in one MTU."""
    end = Endpoint.established(sack=True, mss=1000, c_wnd=10_000)
    end.send(5000)
    end.drop_sent()
    end.gets("A", seq=1001, size=100, ack=1)
    end.drop_sent()
    for right in (2001, 3001, 4001):
        block = ((1001 + end.iss) & 0xFFFFFFFF, (right + end.iss) & 0xFFFFFFFF)
        end.gets("A", seq=1001, ack=1, options={"sack": (block,)})
    sizes = [(len(s.segment.payload), len(s.segment.sack)) for s in end.sent]
    assert sizes[0] == (1000 - 12, 1)
    assert all(size + (4 + 8 * blocks if blocks else 0) <= 1000 for size, blocks in sizes)


@pytest.mark.parametrize("fin", [False, True])
def test_data_with_a_syn_is_not_taken_twice(fin: bool) -> None:
    """The ACK that completes the handshake brings some of the SYN's data again: RCV.NXT has passed it."""
    cached = TcpOffloadStateCached(initial_rcv_wnd=10_000)
    syn = Segment(9, 0, SYN, 1000, b"0123456789", 0, 2, 1, mss=1460)
    machine = passive_open(
        syn,
        cached,
        iss=7,
        path_const=PathOffloadStateConst(*V4),
        path_cached=PathOffloadStateCached(1500),
        settings=TcpSettings(),
        now=0,
    )
    machine.transmit(0)
    machine.receive(Segment(10, 8, ACK | FIN if fin else ACK, 1000, b"0123", 0, 2, 1), 0)
    assert machine.read() == b"0123456789"
    assert machine.delegated.rcv_nxt == 20
    assert machine.state is ESTABLISHED
    machine.receive(Segment(18, 8, ACK, 1000, b"89ab", 0, 2, 1), 0)
    assert machine.read() == b"ab"


@pytest.mark.parametrize("passive", [False, True])
def test_no_window_update_leaves_before_the_handshake_is_complete(passive: bool) -> None:
    """A buffer beyond 65535 bytes cannot be offered by a SYN; so it need not be told at once."""
    cached = TcpOffloadStateCached(initial_rcv_wnd=1_000_000)
    ports = {"local_port": 1, "remote_port": 2}
    rest = {
        "iss": 7,
        "path_const": PathOffloadStateConst(*V4),
        "path_cached": PathOffloadStateCached(1500),
        "settings": TcpSettings(),
        "now": 0,
    }
    if passive:
        syn = Segment(9, 0, SYN, 1000, b"", 0, 2, 1, mss=1460, window_scale=3)
        machine = passive_open(syn, cached, **rest)  # type: ignore[arg-type]
    else:
        machine = active_open(cached, **ports, **rest)  # type: ignore[arg-type]
    assert [segment.flags & SYN for segment in machine.transmit(0)] == [SYN]
    assert machine.transmit(0) == []
