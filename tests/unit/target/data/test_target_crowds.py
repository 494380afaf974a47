"""A wire that takes no more frames: connections and the ordinary path wait, and nothing is lost."""

from __future__ import annotations

import pytest

from ndisbus.core import CoreConfig
from ndisbus.ddi.status import NdisStatus
from ndisbus.lists.heap import Heap
from ndisbus.lists.nbl_chain import NblChain
from ndisbus.wire.link import Link
from target.data import frames
from tests.support.narrow_link import NarrowLink
from tests.support.target_wired import Wired
from tests.support.wired import FAR_MAC, NIC_MAC

COMPLETE = "NdisMSendNetBufferListsComplete"
FRAME = FAR_MAC + NIC_MAC + b"\x08\x00" + bytes(46)


class Crowded(Wired):
    """A target whose wire takes two frames and then no more until it is opened."""

    narrow: NarrowLink

    def __init__(self) -> None:
        def narrow(link: Link) -> NarrowLink:
            self.narrow = NarrowLink(link, room=2, limit=8)
            return self.narrow

        super().__init__(link=narrow)
        self.narrow.open = False

    def send_frames(self, count: int) -> None:
        """Frames of the host, each in a call of its own."""
        for _ in range(count):
            lists = NblChain.of_frames(Heap(7), [FRAME])
            lists.source_handle = 0x77
            columns, payload = lists.to_wire()
            arguments = [self.ctx, columns, 0, 0]
            self.receive("MiniportSendNetBufferLists", arguments, frames=[bytes(f) for f in payload])

    def completed(self) -> list[int]:
        """The statuses of the frames that were completed since."""
        return [status for _, done, _ in self.take(COMPLETE) for status in done["Status"]]


def test_connections_wait_for_the_wire_and_keep_what_they_have_to_send() -> None:
    h = Crowded()
    crowd = [h.live(local=6000 + i) for i in range(6)]
    for t in crowd:
        h.post("send", t, h.nbl(b"data" * 10))
    assert h.driver.inspect()["waiting_connections"] == 4
    h.advance(30.0)
    assert h.driver.inspect()["waiting_connections"] == 6, "those whose timers expired wait, too"
    assert h.driver.inspect().get("refused: neighbor in doubt after retransmissions", 0) == 0
    h.narrow.open = True
    h.advance(0.1)
    assert h.driver.inspect()["waiting_connections"] == 0
    heard = h.heard()
    assert {s.payload for s in heard} == {b"data" * 10}
    assert len({s.source_port for s in heard}) == len(crowd)
    assert h.narrow.dropped == 0


def test_frames_of_the_host_wait_uncompleted_and_in_their_order() -> None:
    h = Crowded()
    h.send_frames(5)
    assert h.completed() == [NdisStatus.SUCCESS] * 2
    assert h.driver.inspect()["waiting_sends"] == 3
    h.narrow.open = True
    h.advance(0.1)
    assert h.completed() == [NdisStatus.SUCCESS] * 3
    assert h.driver.inspect()["waiting_sends"] == 0
    assert h.narrow.dropped == 0


def test_frames_do_not_wait_for_longer_than_ndis_lets_a_driver_hold_them() -> None:
    """A station that takes a frame now and then is not away. NDIS would blame the target for the wait."""
    h = Crowded()
    h.send_frames(5)
    assert h.completed() == [NdisStatus.SUCCESS] * 2
    h.advance(frames.PATIENCE / 2)
    h.send_frames(1)
    assert h.completed() == []
    due = h.driver.next_deadline()
    assert due is not None
    assert due == pytest.approx(frames.PATIENCE)
    h.advance(frames.PATIENCE / 2)
    assert h.completed() == [NdisStatus.SUCCESS] * 3
    assert h.driver.inspect()["waiting_sends"] == 1, "each has the whole time"
    h.advance(frames.PATIENCE / 2)
    assert h.completed() == [NdisStatus.SUCCESS]
    assert CoreConfig().request_limit >= 2 * frames.PATIENCE


def test_only_so_many_frames_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "_MAX_WAITING", 2)
    h = Crowded()
    h.send_frames(5)
    assert h.completed() == [NdisStatus.SUCCESS] * 2 + [NdisStatus.RESOURCES]
    assert h.driver.inspect()["refused: send while too many wait for the wire"] == 1


def test_an_orderly_halt_completes_what_waits() -> None:
    h = Crowded()
    h.send_frames(4)
    h.completed()
    h.receive("MiniportHaltEx", [h.ctx, 0], 99)
    assert h.completed() == [NdisStatus.PAUSED] * 2


def test_frames_that_the_wire_drops_are_counted() -> None:
    h = Crowded()
    h.nic.counters.drop("full")
    assert h.driver.inspect()["dropped by the wire: full"] == 1
