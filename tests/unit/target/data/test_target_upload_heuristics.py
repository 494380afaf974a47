"""Uploads that the target suggests because of how a connection behaves; the host may decline."""

from __future__ import annotations

from typing import Any

import pytest

from ndisbus.ddi.status import NdisStatus
from ndisbus.ddi.tcp_enums import TcpUploadReason
from ndisbus.errors import LocalProtocolError
from ndisbus.net.fragments import fragment
from ndisbus.net.ipv4 import Ipv4Header
from ndisbus.net.segment import ACK, Segment
from target import TargetConfig
from target.hardware.config import VoluntaryUploads

RETRIEVE = 3


def limited(wired: Any, **limits: Any) -> Any:
    return wired(TargetConfig(voluntary=VoluntaryUploads(**limits)))


def suggested(w: Any, t: Any, reason: TcpUploadReason) -> bool:
    """Whether exactly that was suggested once; the connection goes on as before."""
    events = w.events()
    assert events in ([], [(t.handle.address, RETRIEVE, reason)])
    assert not w.ctx_of(t).uploading
    return bool(events)


def talk(w: Any, t: Any, count: int, seq: int | None = None) -> None:
    """Segments from the remote end, which the host takes."""
    for _ in range(count):
        at = w.ctx_of(t).delegated.rcv_nxt if seq is None else seq
        w.say(t, ACK, at, 1000, b"x")
        while w.indicated_data:
            w.answer()
    w.heard()


def test_nothing_is_suggested_unless_asked_for(w: Any) -> None:
    """R-EVT-06: every limit is off by default."""
    t = w.live()
    talk(w, t, 150, seq=5010)
    talk(w, t, 150)
    w.advance(10_000)
    assert w.events() == []


def test_r_evt_13_low_activity(wired: Any) -> None:
    """R-EVT-13, R-EVT-06: after so long without a segment, and again after as long; traffic counts."""
    w = limited(wired, low_activity=10.0)
    t = w.live()
    w.advance(9.9)
    assert not suggested(w, t, TcpUploadReason.LowActivity)
    w.advance(0.1)
    assert suggested(w, t, TcpUploadReason.LowActivity)
    w.advance(5)
    talk(w, t, 1)
    w.advance(0.2)  # the delayed ACK
    w.advance(9.9)
    assert not suggested(w, t, TcpUploadReason.LowActivity)
    w.advance(0.1)
    assert suggested(w, t, TcpUploadReason.LowActivity)


def test_r_evt_12_high_out_of_order_packets(wired: Any) -> None:
    """R-EVT-12: in a full sample."""
    w = limited(wired, out_of_order=50, sample=10)
    t = w.live()
    talk(w, t, 6)
    talk(w, t, 4, seq=6000)
    assert not suggested(w, t, TcpUploadReason.HighOutOfOrderPackets)
    talk(w, t, 4)
    talk(w, t, 6, seq=6000)
    assert suggested(w, t, TcpUploadReason.HighOutOfOrderPackets)


def test_segments_that_are_dropped_are_not_counted_as_out_of_order(wired: Any) -> None:
    """R-EVT-12: a stranger cannot have a connection uploaded by segments with a wrong ACK."""
    w = limited(wired, out_of_order=50, sample=10)
    t = w.live()
    for number in range(20):
        w.say(t, ACK, 6000 + number, 90_000, b"forged")
    talk(w, t, 10)
    assert not suggested(w, t, TcpUploadReason.HighOutOfOrderPackets)


def test_r_evt_12_high_drop_rate(wired: Any) -> None:
    """R-EVT-12: segments that had to be sent again."""
    w = limited(wired, drop_rate=50, sample=4)
    t = w.live()
    w.post("send", t, w.nbl(b"x"))
    for _ in range(100):
        w.advance(0.1)
    assert suggested(w, t, TcpUploadReason.HighDropRate)


def test_a_rate_means_nothing_before_its_own_sample_is_complete(wired: Any) -> None:
    """R-EVT-12: however many segments were counted in the other direction."""
    w = limited(wired, drop_rate=1, out_of_order=1, sample=20)
    t = w.live()
    w.post("send", t, w.nbl(b"x"))
    w.advance(1)
    w.advance(1)
    assert len(w.heard()) >= 2
    talk(w, t, 20)
    assert w.events() == []
    other = w.live(local=5001)
    talk(w, other, 3, seq=6000)
    for _ in range(25):
        w.post("send", other, w.nbl(b"x"))
    assert w.events() == []


def test_r_evt_12_high_fragmentation(wired: Any) -> None:
    """R-EVT-12: the first fragment of a datagram tells whose it is; all go to the host all the same."""
    w = limited(wired, fragments=2)
    t = w.live()
    whole = w.builder(t).frame(Segment(5000, 1000, ACK, 65535, bytes(900)))
    for i in range(2):
        assert not suggested(w, t, TcpUploadReason.HighFragmentation)
        packet = Ipv4Header(b"\x0a\0\0\2", b"\x0a\0\0\1", 6, identification=i).build(whole[34:])
        w.put(*(whole[:14] + p for p in fragment(packet, 576)))
        assert len(w.ordinary()) == 2
    assert suggested(w, t, TcpUploadReason.HighFragmentation)


def test_r_evt_13_no_buffer_preposting(wired: Any) -> None:
    """R-EVT-13: so many indications in a row; a posted request in between begins the count anew."""
    w = limited(wired, no_preposting=3)
    t = w.live()
    talk(w, t, 2)
    w.post("receive", t, w.nbl(bytes(1)))
    talk(w, t, 1)
    talk(w, t, 2)
    assert not suggested(w, t, TcpUploadReason.NoBufferPreposting)
    talk(w, t, 1)
    assert suggested(w, t, TcpUploadReason.NoBufferPreposting)


def test_r_evt_13_small_io(wired: Any) -> None:
    """R-EVT-13: so many small receive requests in a row."""
    w = limited(wired, small_io=100, small_io_requests=2)
    t = w.live()
    talk(w, t, 1)
    for size in (10, 200, 10):
        w.post("receive", t, w.nbl(bytes(size)))
    assert not suggested(w, t, TcpUploadReason.SmallIO)
    w.post("receive", t, w.nbl(bytes(10)))
    assert suggested(w, t, TcpUploadReason.SmallIO)


@pytest.mark.parametrize("state", [5, 6, 7])
def test_r_evt_14_not_for_half_closed_connections(wired: Any, state: int) -> None:
    """R-EVT-14, R-DIS-14."""
    w = limited(wired, low_activity=1.0)
    t = w.live(state=state, snd_nxt=1000)
    w.advance(20)
    assert not suggested(w, t, TcpUploadReason.LowActivity)


def test_a_declined_suggestion_changes_nothing(wired: Any) -> None:
    """R-EVT-06: data goes on flowing."""
    w = limited(wired, no_preposting=1)
    t = w.live()
    talk(w, t, 1)
    assert suggested(w, t, TcpUploadReason.NoBufferPreposting)
    x = w.nbl(b"y")
    w.post("send", t, x)
    w.say(t, ACK, w.ctx_of(t).delegated.rcv_nxt, 1001)
    assert w.completions("send") == [(x.address, NdisStatus.SUCCESS.name)]


@pytest.mark.parametrize("limit", ["drop_rate", "fragments", "low_activity", "small_io"])
def test_limits_must_be_positive(limit: str) -> None:
    with pytest.raises(LocalProtocolError, match=limit):
        VoluntaryUploads(**{limit: 0})
    with pytest.raises(LocalProtocolError, match="at least 1"):
        VoluntaryUploads(sample=0)
