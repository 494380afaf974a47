"""One connection whose host offloads and uploads it again and again while data flows both ways.

The host here is a TCP machine and a few lines around it; the target is the real one on its port, and the wire
between it and the far end may be a bad one. Whatever happens, each side must read what the other wrote.
"""

from __future__ import annotations

import random
from typing import Any

from ndisbus.ddi.state_types import OffloadStateType
from ndisbus.ddi.status import NdisStatus
from ndisbus.ddi.tcp_enums import TcpOffloadConnectionState
from ndisbus.errors import DecodeError
from ndisbus.lists.nbl import data_of, iter_chain
from ndisbus.lists.nbl_chain import NblChain
from ndisbus.net.frames import FrameBuilder
from ndisbus.net.identification import IpIdentification
from ndisbus.net.peek import connection_key, peek
from ndisbus.net.segment import Segment
from ndisbus.net.tcp import build, parse_frame
from ndisbus.state.images import pack_state
from ndisbus.tcp.machine import TcpMachine
from ndisbus.tcp.owner import ticks_of
from ndisbus.tcp.settings import TcpSettings
from tests.support.lists import first_of
from tests.support.wired import NIC_MAC, FarEnd

__all__ = ["Mover"]

State = TcpOffloadConnectionState
_OVER = (State.TcpConnectionClosed, State.TcpConnectionTimeWait)


class Mover:
    """The host of one connection. ``sizes``: bytes to write, at the host and at the far end."""

    def __init__(self, w: Any, t: Any, rng: random.Random, *, sizes: tuple[int, int]) -> None:
        self.w, self.t, self.rng = w, t, rng
        self.far: FarEnd = w.end(t, parameters=w.adapter.parameters)
        self.outgoing = rng.randbytes(sizes[0])
        self.incoming = rng.randbytes(sizes[1])
        self.written = self.far_written = 0
        self.read = bytearray()
        self.machine: TcpMachine | None = None
        self.settings = TcpSettings(parameters=w.adapter.parameters)
        self.ids = IpIdentification(upper=False)
        context = w.ctx_of(t)
        self.path = (context.path.const, context.path.cached)
        self.neighbor = (context.path.neighbor.const, context.path.neighbor.cached)
        self.const, self.cached = context.const, context.cached
        local, remote = self.path[0].source_address, self.path[0].destination_address
        self.key = connection_key(remote, local, self.const.remote_port, self.const.local_port)
        #: Sends posted to the target and not completed: address -> bytes; requests likewise.
        self.sends: dict[int, bytes] = {}
        self.requests: dict[int, int] = {}
        #: Segments that came while the connection changed hands.
        self.kept: list[Segment] = []
        self.fin_told = self.closing = self.disconnected = self.uploading = False
        self.moves = 0

    # -- where the connection is ---------------------------------------------------------------

    @property
    def offloaded(self) -> bool:
        return self.machine is None

    def upload(self) -> None:
        """Terminate: everything that was posted comes back, one way or another."""
        w, t = self.w, self.t
        while w.indicated_data:
            self._answer()
        done = w.done(w.request("terminate", [t]))
        assert done is not None and done.status == [NdisStatus.SUCCESS]
        lists = done.nbls
        self._completions()
        assert not self.requests
        delegated = t.structures()[2]
        back: list[bytes] = []
        if t.returned is not None:
            for nbl in iter_chain(lists[t.returned]):
                whole = self.sends.pop(nbl.address)
                rest = data_of(first_of(nbl))
                assert whole.endswith(rest)
                back.append(rest)
        if self.closing and not self.disconnected:
            # The disconnect came back unfinished; its data is behind all sends.
            back += [self.sends.pop(a) for a in list(self.sends)]
        assert not self.sends
        held = []
        if delegated.buffered_data is not None:
            held = [data_of(first_of(lists[delegated.buffered_data]))]
            w.receive(
                "MiniportTcpOffloadReceiveReturn", [w.ctx, {"NetBufferList": [delegated.buffered_data]}]
            )
        self.machine = TcpMachine(
            self.const,
            self.cached,
            delegated,
            path_const=self.path[0],
            path_cached=self.path[1],
            settings=self.settings,
            now=self.ticks(),
            send_data=back,
            received=held,
        )
        if self.closing and not self.disconnected:
            self.machine.shutdown()
        self.builder = FrameBuilder(
            self.const, self.cached, *self.path, *self.neighbor, source_mac=NIC_MAC, next_id=self.ids.next_v4
        )
        self.uploading = False
        self.moves += 1

    def offload(self) -> None:
        """Initiate, with the data on hand; what came early is forwarded once it is complete."""
        w, m = self.w, self.machine
        assert m is not None
        given = m.hand_over(self.ticks())
        for segment in given.last:
            w.adapter.link.send(self.builder.frame(segment), w.now)
        d = m.delegated
        chain = None
        last = None
        for piece in given.send_data:
            nbl = w.nbl(piece)
            self.sends[nbl.address] = piece
            if last is None:
                chain = nbl
            else:
                last.next = nbl
            last = nbl
        buffered = w.nbl(*given.received) if given.received else None
        d.send_data_head = chain.address if chain is not None else None
        d.send_data_tail = last.address if last is not None else None
        d.buffered_data = buffered.address if buffered is not None else None
        image = pack_state((self.const, self.cached, d))
        t = type(self.t)(w.heap.handle(), OffloadStateType.TcpOffloadState, image)
        t.chain, t.lists = chain, [x for x in (chain, buffered) if x is not None]
        t.below = self.t.below
        assert w.statuses("initiate", [(t.below[1], [t])]) == ["SUCCESS"] * 2
        self.t, self.machine = t, None
        self._completions()
        for segment in given.segments:
            self._forward(segment)
        self.moves += 1

    # -- the application -----------------------------------------------------------------------

    def write(self) -> None:
        """A bit more of what is to be written, and the end of it once all is."""
        piece = self.outgoing[self.written : self.written + self.rng.randint(1, 5000)]
        if self.machine is not None:
            if piece:
                self.machine.send(piece)
            elif not self.closing:
                self.closing = True
                self.machine.shutdown()
        elif piece:
            self._post("send", piece)
        elif not self.closing:
            self.closing = True
            self._post("disconnect", b"", flags=1)
        self.written += len(piece)

    def far_write(self) -> None:
        """The same at the far end."""
        piece = self.incoming[self.far_written : self.far_written + self.rng.randint(1, 5000)]
        if piece:
            self.far.machine.send(piece)
        elif self.far.machine.state in (State.TcpConnectionEstablished, State.TcpConnectionCloseWait):
            self.far.machine.shutdown()
        self.far_written += len(piece)

    def post_receive(self) -> None:
        """A buffer, now and then a tiny, an empty or a non-push one."""
        if self.machine is not None or len(self.requests) > 3 or self.fin_told:
            return
        nbl = self.w.nbl(bytes(self.rng.choice((0, 1, 100, 3000, 20_000))))
        if self.rng.random() < 0.2:
            nbl.net_buffer_list_info[2] = 1  # TcpReceiveNoPush
        self.requests[nbl.address] = 1
        self.w.post("receive", self.t, nbl)

    def _post(self, op: str, data: bytes, **kw: Any) -> None:
        nbl = self.w.nbl(data)
        self.sends[nbl.address] = data
        self.w.post(op, self.t, nbl, **kw)

    def _forward(self, segment: Segment) -> None:
        segment.source_port, segment.destination_port = 80, 5000
        self.w.post("forward", self.t, self.w.nbl(build(segment, 0)))

    def _answer(self) -> None:
        """Take all, some or nothing of the oldest indication."""
        w, rng = self.w, self.rng
        data = w.indicated_data[0]
        kind = rng.random()
        if kind < 0.7:
            self.read += data
            w.answer()
            taken = w.last_indication["NetBufferList"]
            w.receive("MiniportTcpOffloadReceiveReturn", [w.ctx, {"NetBufferList": taken}])
        elif kind < 0.85 and len(data) > 1:
            count = rng.randint(1, len(data) - 1)
            self.read += data[:count]
            w.answer(NdisStatus.OFFLOAD_DATA_PARTIALLY_ACCEPTED, count)
        else:
            w.answer(NdisStatus.OFFLOAD_DATA_NOT_ACCEPTED)

    # -- what comes up -------------------------------------------------------------------------

    def handle(self) -> None:
        """Everything the target has called since."""
        w = self.w
        w.pump()
        self._completions()
        while w.indicated_data:
            self._answer()
            self._completions()
        for _, event, _ in w.events():
            if event == 2:
                assert not self.fin_told
                self.fin_told = True
            elif event == 3:
                self.uploading = True
            else:
                raise AssertionError("the connection was aborted")
        frames = w.ordinary()
        if frames:
            w.adapter.receive_pool.clear()
        for frame in frames:
            try:
                info = peek(frame)
                segment = parse_frame(frame, info) if info.key == self.key else None
            except DecodeError:
                continue  # corrupt packets are the host's to drop
            if segment is not None:
                self._arrived(segment)
        if self.machine is not None:
            self.machine.on_timer(self.ticks())
            self.read += self.machine.read(self.rng.choice((None, 1000)))
            for segment in self.machine.transmit(self.ticks()):
                w.adapter.link.send(self.builder.frame(segment), w.now)
            self.machine.events.clear()

    def _arrived(self, segment: Segment) -> None:
        if self.machine is not None:
            self.machine.receive(segment, self.ticks())
        else:
            self._forward(segment)

    def _completions(self) -> None:
        w = self.w
        for call in [c for c in w.calls if c[0].endswith("Complete") and "TcpOffload" in c[0]]:
            w.calls.remove(call)
            op = call[0].removeprefix("NdisTcpOffload").removesuffix("Complete").lower()
            wire, frames = call[1][1], call[2]
            chain = NblChain.from_wire(wire, frames)
            for nbl, status in zip(chain.lists(), wire["Status"], strict=True):
                getattr(self, f"_{op}_done")(nbl, NdisStatus(status))

    def _send_done(self, nbl: Any, status: NdisStatus) -> None:
        assert status is NdisStatus.SUCCESS
        assert next(iter(self.sends)) == nbl.address, "sends complete in order"
        assert nbl.net_buffer_list_info[0] == len(self.sends.pop(nbl.address))

    def _receive_done(self, nbl: Any, status: NdisStatus) -> None:
        assert next(iter(self.requests)) == nbl.address, "receives complete in order"
        del self.requests[nbl.address]
        assert status in (NdisStatus.SUCCESS, NdisStatus.UPLOAD_IN_PROGRESS)
        count = nbl.net_buffer_list_info.get(0, 0)
        nb = nbl.first_net_buffer
        memory = b"".join(bytes(m.data or b"") for m in [nb.mdl_chain] if m is not None)
        self.read += memory[:count]

    def _disconnect_done(self, nbl: Any, status: NdisStatus) -> None:
        self.disconnected = status is NdisStatus.SUCCESS
        if self.disconnected:
            del self.sends[nbl.address]
            assert not self.sends

    def _forward_done(self, nbl: Any, status: NdisStatus) -> None:
        assert status in (NdisStatus.SUCCESS, NdisStatus.UPLOAD_IN_PROGRESS)

    # -- the run -------------------------------------------------------------------------------

    def ticks(self) -> int:
        return ticks_of(self.w.now, self.settings.parameters.ticks_per_second)

    @property
    def over(self) -> bool:
        """Either end is through with the other, and everything that came was read."""
        m = self.machine
        if m is None or m.available:
            return False  # in the end the host has it again
        return self.far.machine.state in _OVER and m.state in _OVER

    @property
    def complete(self) -> bool:
        """Whether all that was written was read, at both ends."""
        return len(self.read) == len(self.incoming) and len(self.far.received) == len(self.outgoing)

    def run(self, *, limit: float = 4000.0, move: float = 0.05) -> None:
        """Until it is over; ``move``: how likely the connection changes hands at any step."""
        w, rng = self.w, self.rng
        for _ in range(200_000):
            heard = w.far.listen(w.now)
            w.far.heard.clear()
            self.far.hear(heard, w.now)
            for frame in self.far.frames(w.now):
                w.far.send(frame, w.now)
            w.port.on_timer(w.now)
            self.handle()
            if self.over:
                return
            # Once both halves have ended there is no reason to leave it where it is.
            home = self.offloaded and (self.uploading or (self.disconnected and self.fin_told))
            if rng.random() < move or home:
                if self.machine is None:
                    self.upload()
                elif self.machine.state not in _OVER:
                    self.offload()
            roll = rng.random()
            if roll < 0.2:
                self.write()
            elif roll < 0.35:
                self.far_write()
            elif roll < 0.5:
                self.post_receive()
            else:
                self._wait(limit)
        raise AssertionError("it never ends")

    def _wait(self, limit: float) -> None:
        w = self.w
        w.pump()
        due = [w.port.next_deadline(), self.far.next_deadline(), w.far.link.next_deadline()]
        if self.machine is not None and (at := self.machine.next_deadline()) is not None:
            due.append(at / self.settings.parameters.ticks_per_second)
        at_least = min((d for d in due if d is not None), default=w.now + 1.0)
        w.now = max(w.now, min(at_least, w.now + 1.0))
        assert w.now < limit, f"stuck: {self}"

    def __repr__(self) -> str:
        where = self.machine if self.machine is not None else self.w.ctx_of(self.t).flow
        machine = where if isinstance(where, TcpMachine) else where and where.machine
        return (
            f"<at {self.w.now:g} s, {self.moves} moves, {'target' if self.offloaded else 'host'} {machine}, "
            f"far {self.far.machine}; written {self.written}/{len(self.outgoing)}, "
            f"read {len(self.read)}/{len(self.incoming)}, far read {len(self.far.received)}>"
        )
