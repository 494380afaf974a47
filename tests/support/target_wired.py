"""A target on a wire in memory, with NDIS, the host and the other station played by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ndisbus.ddi.status import NdisStatus
from ndisbus.lists.nbl_chain import NblChain
from ndisbus.net.frames import FrameBuilder
from ndisbus.net.segment import Segment
from ndisbus.wire.memory import MemorySegment
from target import TargetConfig
from tests.support.target_harness import Harness
from tests.support.target_trees import Obj
from tests.support.wired import FAR_MAC, NIC_MAC, Far, FarEnd, builder, play

__all__ = ["LIVE", "Wired"]


class Wired(Harness):
    """A harness whose first adapter is on a wire in memory; ``far`` is the other station on it."""

    def __init__(
        self,
        config: TargetConfig | None = None,
        *,
        mtu: int = 1500,
        link: Callable[[Any], Any] = lambda link: link,
        **kw: Any,
    ) -> None:
        """``link`` wraps the target's link."""
        self.segment = MemorySegment(mtu=mtu)
        self.nic = self.segment.station("nic")
        self.far = Far(self.segment.station("far"))
        super().__init__(config, wires=[link(self.nic)], **kw)
        # The segment learns where either station is.
        self.far.send(b"\xff" * 6 + FAR_MAC + b"\x88\xb5hello")
        self.port.on_timer(self.now)
        self.take()
        for adapter in self.driver.adapters.values():
            adapter.receive_pool.clear()

    def live(
        self,
        *,
        ends: tuple[bytes, bytes] | None = None,
        neighbor: dict[str, Any] | None = None,
        path: dict[str, Any] | None = None,
        const: dict[str, Any] | None = None,
        **kw: Any,
    ) -> Obj:
        """A connection with room to send, offloaded together with its own neighbor and path."""
        n, p = self.neighbor(**(neighbor or {})), self.path(**(path or {}))
        t = self.tcp(const={"remote_mss": 1460, **(const or {})}, **{**LIVE, **kw})
        statuses = self.run("initiate", [(n, [(p, [t])])]).status
        assert statuses == [NdisStatus.SUCCESS] * 3
        t.below = (n, p)  # type: ignore[attr-defined]
        return t

    def ctx_of(self, t: Obj) -> Any:
        """The target's own context of a connection."""
        return self.adapter.find(t.context)

    def builder(self, t: Obj, **kw: Any) -> FrameBuilder:
        """Builds what the remote end of a connection sends."""
        context = self.ctx_of(t)
        path, neighbor = context.path, context.path.neighbor
        given = {
            "remote": context.const.remote_port,
            "local": context.const.local_port,
            "addresses": (path.source, path.destination),
            "vlan": neighbor.vlan,
            "to": neighbor.mac or NIC_MAC,
        }
        return builder(**{**given, **kw})

    def say(self, t: Obj, flags: int, seq: int, ack: int, payload: bytes = b"", **kw: Any) -> bytes:
        """A segment from the remote end arrives now; the frame."""
        how = {k: kw.pop(k) for k in ("vlan", "priority", "to") if k in kw}
        segment = Segment(seq, ack, flags, kw.pop("window", 65535), payload, **kw)
        frame = self.builder(t, **how).frame(segment)
        self.put(frame)
        return frame

    def put(self, *frames: bytes) -> None:
        """Frames arrive now."""
        for frame in frames:
            self.far.send(frame, self.now)
        self.port.on_timer(self.now)
        self.pump()

    def heard(self) -> list[Segment]:
        """The segments that the target has sent since."""
        return self.far.segments()

    def end(self, t: Obj, **kw: Any) -> FarEnd:
        """A remote end with a TCP machine of its own, in step with the target's."""
        context = self.ctx_of(t)
        addresses = (context.path.source, context.path.destination)
        return FarEnd(context.const, context.cached, context.delegated, addresses=addresses, **kw)

    def play(self, *ends: FarEnd, seconds: float = 0.0, until: Any = None) -> None:
        """Let all parties send and receive."""
        play(self, self.far, list(ends), seconds, until=until)

    def ordinary(self) -> list[bytes]:
        """The frames that came up the ordinary receive path since."""
        out: list[bytes] = []
        for call in [c for c in self.calls if c[0] == "NdisMIndicateReceiveNetBufferLists"]:
            self.calls.remove(call)
            out += NblChain.from_wire(call[1][1], call[2]).frames()
        return out

    def answer(self, status: NdisStatus = NdisStatus.SUCCESS, consumed: int | None = None) -> bytes:
        """Answer the oldest receive indication; its data."""
        i = next(i for i, c in enumerate(self.calls) if c[0] == "NdisTcpOffloadReceiveHandler")
        _, params, call_id = self.calls.pop(i)
        data = self.indicated_data.pop(0)
        accepted = len(data) if consumed is None and status == NdisStatus.SUCCESS else consumed or 0
        self.receive("return", [int(status), accepted], call_id)
        self.pump()
        self.last_indication = params[1]
        return data


LIVE: dict[str, Any] = {
    "rcv_nxt": 5000,
    "snd_una": 1000,
    "snd_nxt": 1000,
    "snd_max": 1000,
    "snd_wnd": 65535,
    "max_snd_wnd": 65535,
    "send_wl1": 5000,
    "c_wnd": 20000,
    "ss_thresh": 1 << 20,
}
"""A connection in ESTABLISHED: 1000 is the next byte to send, 5000 the next to receive."""
