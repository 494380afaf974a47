"""The claims of all layers of a stack at one instant: who says that he has which bytes and lists.

Downwards, the bytes that an application has written belong to the host's machine, or, while the connection is
away, to the host's structures: lists lent to the driver below keep their bytes in the host until they are
completed. Of each list that is lent there is exactly one place: on its way down, at the target, or on its way
up. Upwards, received bytes belong to the host, to a message on its way up or down, or to the target.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Final

from hoststack.model.life import State
from hoststack.model.objects import Tcb
from imdriver.driver import ImDriver
from imdriver.entries import ImOffloadEntry
from ndisbus.lists.heap import NdisOffloadHandle
from ndisbus.lists.nbl import data_of, iter_net_buffers
from ndisbus.state.images import TCP_STATE_OFF
from ndisbus.tcp.machine import TcpMachine
from target.driver import TargetDriver
from target.model.contexts import TcpContext
from target.model.posted import TcpIo
from tests.support.live_stack import LiveStack
from tests.support.ownership.apps import Connection, End
from tests.support.ownership.ledger import Account, Claim
from tests.support.ownership.messages import IoMessage, ListMessage, Place, bytes_placed, under_way

__all__ = ["Walk"]

_MASK: Final = 0xFFFFFFFF
_HALF: Final = 1 << 31
_TARGET: Final = Place("target", 0)
_HOST: Final = Place("host", float("inf"))


def _position(sequence: int, base: int, limit: int) -> int:
    """The position of a sequence number. The numbers of SYN and FIN have none: they are left out."""
    distance = (sequence - base) & _MASK
    return 0 if distance >= _HALF else min(distance, limit)


class Walk:
    """One look at all layers of ``stack``; everything is read, nothing is changed."""

    def __init__(self, stack: LiveStack) -> None:
        self.stack = stack
        sim, host = stack.sim, stack.host
        layers = ["target", *stack.ims, "host"]
        self.ims: dict[str, ImDriver] = {n: sim.driver(n) for n in stack.ims}
        #: Where each net buffer list of the host is, other than in the host.
        self.places: dict[int, list[Place]] = defaultdict(list)
        #: Received bytes on their way up, the nearest to the host first.
        self.coming: dict[Tcb, list[tuple[Place, bytes]]] = defaultdict(list)
        #: Received bytes that go down with their connection.
        self.going: dict[Tcb, tuple[Place, bytes]] = {}
        #: Connections that are on their way down in an initiate.
        self.offered: set[Tcb] = set()
        self.contexts: dict[Tcb, TcpContext] = {}
        for message in under_way(sim, layers):
            if isinstance(message, IoMessage):
                self._io(message)
            else:
                self._block_list(message)
        target: TargetDriver = sim.driver("target")
        for adapter in target.adapters.values():
            for context in adapter.heap.objects.values():
                if type(context) is TcpContext and (tcb := self._owner(context.ndis_handle)) is not None:
                    self.contexts[tcb] = context
                    for address in _lists(context.io) if context.io is not None else ():
                        self.places[address].append(_TARGET)
        self.host = host

    def _owner(self, handle: int | None) -> Tcb | None:
        """The connection behind a handle, through the intermediate drivers."""
        for _ in range(len(self.ims) + 1):
            obj = self.stack.host.ndis.heap.objects.get(handle or 0)
            if isinstance(obj, NdisOffloadHandle):
                return obj.owner if isinstance(obj.owner, Tcb) else None
            entries = (im.ndis.heap.objects.get(handle or 0) for im in self.ims.values())
            handle = next((e.ndis_offload_handle for e in entries if type(e) is ImOffloadEntry), None)
        return None

    def _io(self, message: IoMessage) -> None:
        for address in message.lists:
            self.places[address].append(message.place)
            data = message.data.get(address)
            posted = self.stack.host.posted.get(address)
            if data and posted is not None:
                self.coming[posted.tcb].append((message.place, data))

    def _block_list(self, message: ListMessage) -> None:
        operation = self.stack.host.pending.get(message.root)
        if operation is None or message.op not in ("initiate", "terminate"):
            return
        for obj, block in zip(operation.aligned, message.blocks, strict=True):
            if not isinstance(obj, Tcb):
                continue
            if message.op == "initiate" and not message.down:
                continue
            if message.op == "initiate":
                self.offered.add(obj)
            for address in block.lists:
                self.places[address].append(message.place)
            if block.buffered:
                if message.down:
                    self.going[obj] = message.place, block.buffered
                else:
                    self.coming[obj].append((message.place, block.buffered))

    # -- bytes ---------------------------------------------------------------------------------

    def accounts(self, connection: Connection) -> tuple[Account, Account]:
        """The two directions of a connection: what the host's application wrote, and what the other did."""
        local, remote = connection.local, connection.remote
        assert remote is not None
        down = Account(f"{connection}, sent", local.stream[: local.written], remote.read_count)
        up = Account(f"{connection}, received", remote.stream[: remote.written], local.read_count)
        self._remote(remote, local, down, up)
        machine = local.socket.machine
        if machine is not None:
            _machine("host", machine, local, remote, sending=down, receiving=up)
        else:
            self._away(local.socket.tcb, local, remote, down, up)
        return down, up

    def _remote(self, remote: End, local: End, down: Account, up: Account) -> None:
        machine = remote.socket.machine
        assert machine is not None
        _machine("remote host", machine, remote, local, sending=up, receiving=down)

    def _away(self, tcb: Tcb, local: End, remote: End, down: Account, up: Account) -> None:
        kept = b"".join(data for _, data in _kept(tcb))
        down.to_send.append(Claim("host", local.written - len(kept), kept))
        at = local.read_count
        context = self.contexts.get(tcb)
        readable = bytes(tcb.receive_buffer or b"")
        if context is None and tcb not in self.going:
            readable = (tcb.buffered or b"") + readable  # it is not below, or not any more
        for owner, data in [(_HOST, readable), *self.coming[tcb]]:
            up.received.append(Claim(owner.name, at, data))
            at += len(data)
        if tcb in self.going:
            owner, data = self.going[tcb]
            up.received.append(Claim(owner.name, at, data))
        if context is not None:
            self._target(context, at, local, remote, down, up)
        else:
            d = tcb.delegated
            down.acknowledged = _position(d.snd_una, local.base, local.written)

    def _target(
        self, context: TcpContext, at: int, local: End, remote: End, down: Account, up: Account
    ) -> None:
        io = context.io
        first = io.receives[0] if io is not None and io.receives else None
        partial = bytes_placed(first.nbl, first.done) if first is not None else b""
        up.received.append(Claim("target, in a receive request", at, partial))
        at += len(partial)
        flow = context.flow
        if flow is None:
            image = context.image()
            una, nxt = (_number(image, n) for n in ("SndUna", "RcvNxt"))
            data = bytes(io.buffered) if io is not None else b""
        else:
            una, nxt = flow.machine.delegated.snd_una, flow.machine.delegated.rcv_nxt
            data = b"".join(flow.machine.received.pieces())
            sending = b"".join(flow.machine.sending.pieces())
            start = _position(una, local.base, local.written)
            if local.stream[start : start + len(sending)] != sending:
                down.to_send.append(Claim("target", start, sending))
        down.acknowledged = _position(una, local.base, local.written)
        start = _position(nxt, remote.base, remote.written) - len(data)
        if io is not None and io.indicating and start < at:
            # The host has accepted an indication; the answer is on its way.
            data, start = data[at - start :], at
        up.received.append(Claim("target", start, data))

    # -- lists ---------------------------------------------------------------------------------

    def misplaced(self, connection: Connection) -> Iterator[str]:
        """What is wrong with the places of the connection's lists."""
        tcb = connection.local.socket.tcb
        if tcb.state is State.OFFLOADING and tcb not in self.offered and tcb not in self.contexts:
            return  # refused below, and the host does not know it yet: all its lists are the host's
        lent = set(tcb.lent or ()) if tcb.state is not State.NEW else set()
        lent |= {a for a, p in self.stack.host.posted.items() if p.tcb is tcb}
        for address in sorted(lent):
            places = self.places.get(address, [])
            if len(places) != 1:
                where = " and ".join(f"the {p}" for p in places) or "nowhere"
                yield f"{connection}: list {address:#x}, lent by the host, has {len(places)} places: {where}"
                continue
            for number, (name, im) in enumerate(self.ims.items(), 1):
                if (address in im.io) != (places[0].level < number):
                    book = "is in" if address in im.io else "is not in"
                    where = f"is on the {places[0]}, and {book} the book of {name}"
                    yield f"{connection}: list {address:#x} {where}"


def _lists(io: TcpIo) -> Iterator[int]:
    for queue in (io.sends, io.receives, io.disconnects, io.forwards):
        for posted in queue:
            yield posted.address


def _kept(tcb: Tcb) -> list[tuple[int, bytes]]:
    """The send data that the host keeps while a connection is away, in order."""
    lent = [(a, b"".join(data_of(nb) for nb in iter_net_buffers(nbl))) for a, nbl in (tcb.lent or {}).items()]
    home = [*(tcb.returned or ()), *(tcb.aborted or ())]
    return [*sorted([*lent, *home]), *((0, piece) for piece in tcb.send_queue or ())]


def _machine(
    owner: str, machine: TcpMachine, here: End, there: End, *, sending: Account, receiving: Account
) -> None:
    """The claims of a machine that serves a connection."""
    d = machine.delegated
    una = _position(d.snd_una, here.base, here.written)
    sending.to_send.append(Claim(owner, una, b"".join(machine.sending.pieces())))
    sending.acknowledged = una
    data = b"".join(machine.received.pieces())
    nxt = _position(d.rcv_nxt, there.base, there.written)
    receiving.received.append(Claim(owner, nxt - len(data), data))


def _number(image: bytes, member: str) -> int:
    at = TCP_STATE_OFF[f"delegated.{member}"]
    return int.from_bytes(image[at : at + 4], "little")
