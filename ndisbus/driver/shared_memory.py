"""What a port does where real drivers share memory: lists, and what the pointers in them lead to.

A message carries what was written. :class:`SharedMemory` writes it into the driver's own objects. It also
records what is lent: lists passed down, lists given to the miniport edge, net buffer lists.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ndisbus.ddi.call import BLOCKS_MINIPORT, BLOCKS_PROTOCOL, NBL, Call, Kind
from ndisbus.ddi.call_rows import PACKET_SEND
from ndisbus.ddi.status import NdisStatus
from ndisbus.driver.pace import paced
from ndisbus.driver.sizes import check_chain, check_list
from ndisbus.errors import LocalProtocolError, RemoteProtocolError
from ndisbus.lists.blocklist import BlockList, Form, Key, values
from ndisbus.lists.heap import NdisOffloadHandle
from ndisbus.lists.nbl_chain import Attachments, NblChain, chain_addresses

if TYPE_CHECKING:
    from ndisbus.driver.port import Ndis

__all__ = ["SharedMemory"]

_UP_ALWAYS = (
    Key.BLOCK,
    Key.STATUS,
    Key.SOURCE_HANDLE,
    *Key.IM_RESERVED,
    *Key.PROTOCOL_RESERVED,
    Key.CONTEXT,
    Key.NBL_CHAIN,
)


#: The object's own state was offloaded.
_TAKEN = (int(NdisStatus.SUCCESS), int(NdisStatus.OFFLOAD_PARTIAL_SUCCESS))


def _send_data(block_list: BlockList) -> dict[int, list[int]]:
    """Return the send data that goes down with an initiate: block index -> net buffer lists."""
    pointers = block_list.columns.get(Key.NBL_CHAIN)
    if pointers is None or block_list.attachments is None:
        return {}
    chains = chain_addresses(block_list.attachments.wire, Key.NET_BUFFER_LISTS)
    return {
        i: chains[p] for i, p in enumerate(values(pointers, len(block_list))) if p is not None and p in chains
    }


#: Calls by which net buffer lists of the ordinary data path return to their owner.
_BACK = frozenset((PACKET_SEND.completion, "NdisReturnNetBufferLists"))
#: The operation of frames, and the kinds of call that a list may go out and come back with.
_FRAMES = PACKET_SEND.op
_REQUEST = Kind.REQUEST
_COMPLETED = Kind.PROTOCOL_HANDLER


class SharedMemory:
    """The lists that a driver has lent, or that were lent to it."""

    ndis: Ndis

    def __init__(self) -> None:
        #: Lists passed down and not completed: root -> (list, request, binding handle).
        self.sent: dict[int, tuple[BlockList, Call, int]] = {}
        #: Lists given to the miniport edge and not completed by it: root -> list.
        self.lent: dict[int, BlockList] = {}
        #: Net buffer lists passed down and not completed: address -> request, binding, context in the list.
        self.sent_nbls: dict[int, tuple[Call, int | None, int | None]] = {}
        #: Net buffer lists that went down with the connections of an initiate, as their send data.
        self.sent_along: set[int] = set()
        #: Binding handle -> ProtocolBindingContext, of bindings that are open or being closed.
        self.opened: dict[int, int] = {}
        #: Whether the bus can join parts of messages, and whether this driver passes on lists of others.
        self.divides = False
        self.passes_on = False
        #: OID requests passed down and not completed: (binding handle, request).
        self.sent_oids: list[tuple[int, dict[str, Any]]] = []

    # -- from the driver -----------------------------------------------------------------------

    def outgoing(
        self, call: Call, carried: Sequence[str], args: Sequence[Any]
    ) -> tuple[list[Any], Sequence[bytes]]:
        """Return the parameters of a driver's call in their wire form, and the frames behind the message.

        Records what the driver lends with it. ``carried`` says what each parameter carries.
        """
        params: list[Any] = []
        frames: Sequence[bytes] = ()
        for carries, a in zip(carried, args):  # noqa: B905 - as long as one another, see above
            if type(a) is int or a is None:
                params.append(a)
            elif carries == BLOCKS_PROTOCOL:
                wire, frames = self.pass_down(call, args[0], a)
                params.append(wire)
            elif carries == BLOCKS_MINIPORT:
                wire, frames = self.hand_back(call, a)
                params.append(wire)
            elif carries == NBL:
                if call.name in _BACK:
                    a = a.pointers()  # noqa: PLW2901 - lists go back without their contents
                wire, frames = a.to_wire()
                check_chain(call.name, wire, frames, passing_on=self.passes_on)
                if call.kind is _REQUEST and call.completed_by:
                    through = args[0]
                    if call.op != _FRAMES:
                        anchor = self.ndis.heap.objects.get(through)
                        through = anchor.binding if isinstance(anchor, NdisOffloadHandle) else None
                    self.sent_nbls.update(dict.fromkeys(a.addresses, (call, through, a.context)))
                params.append(wire)
            elif hasattr(a, "to_wire"):
                params.append(a.to_wire())
            else:
                params.append(int(a) if isinstance(a, int) and not isinstance(a, bool) else a)
        return params, frames

    # -- from the bus --------------------------------------------------------------------------

    def accept(self, columns: dict[str, Any], frames: Sequence[bytes]) -> BlockList:
        """Take a request for the miniport edge: the list is ours until we complete it."""
        block_list = BlockList(Form.MINIPORT, columns)
        nbls = columns.pop(Key.NET_BUFFER_LISTS, None)
        if nbls is not None:
            block_list.attachments = Attachments(nbls, frames)
        address = columns[Key.BLOCK][0]
        if address in self.lent:
            raise RemoteProtocolError(f"list {address:#x} was given to this driver twice")
        self.lent[address] = block_list
        return block_list

    def take_back(self, call: Call, columns: dict[str, Any], frames: Sequence[bytes]) -> BlockList:
        """Take a completion for the protocol edge: apply what was written to the list that we passed down.

        Raises :class:`RemoteProtocolError` for the completion of a list that is not outstanding.
        """
        blocks = columns.pop(Key.BLOCK)
        sent = self.sent.pop(blocks[0], None)
        nbls = columns.pop(Key.NET_BUFFER_LISTS, None)
        if sent is None:
            # Not a completion but a block list of the driver below (NeighborReachabilityQuery).
            if call.op:
                raise RemoteProtocolError(
                    f"{call.name}: list {blocks[0]:#x} is not outstanding", rule="R-BLK-10"
                )
            columns[Key.BLOCK] = blocks
            block_list = BlockList(Form.PROTOCOL, columns)
        else:
            block_list = sent[0]
            if call.op == "initiate":
                # A connection that was not offloaded took no data along.
                statuses = values(columns[Key.STATUS], len(blocks))
                for i, addresses in _send_data(block_list).items():
                    if statuses[i] not in _TAKEN:
                        self.sent_along.difference_update(addresses)
            elif call.op == "terminate" and nbls is not None:
                # A list that is handed back is completed by that (R-DIS-16).
                for chain in chain_addresses(nbls, Key.NET_BUFFER_LISTS).values():
                    self.sent_along.difference_update(chain)
                    for a in chain:
                        self.sent_nbls.pop(a, None)
            contexts = columns.pop(Key.CONTEXT, None)
            if contexts is not None:
                self._store(block_list, contexts, sent[2])
                self.ndis.working()
            block_list.columns.update(columns)
        block_list.attachments = Attachments(nbls, frames) if nbls is not None else None
        return block_list

    def _store(self, block_list: BlockList, contexts: Any, binding: int) -> None:
        """Store the PVOIDs of the driver below into our cells. NULL: it did not write the cell."""
        handles = block_list.columns.get(Key.OFFLOAD_HANDLE)
        objects = self.ndis.heap.objects
        if type(handles) is not list:
            handles = [handles] * len(block_list)
        if type(contexts) is not list:
            contexts = [contexts] * len(block_list)
        for handle, context in paced(zip(handles, contexts, strict=True), self.ndis.working):
            if context is not None and handle is not None:
                anchor = objects.get(handle)
                if isinstance(anchor, NdisOffloadHandle):
                    anchor.context = context
                    anchor.binding = binding

    def take_nbls(self, call: Call, columns: dict[str, Any], frames: Sequence[bytes]) -> NblChain:
        chain = NblChain.from_wire(columns, frames)
        if call.kind is _COMPLETED and call.op:
            sends = call.op == "send"
            for a in chain.addresses:
                sent = self.sent_nbls.get(a)
                if not (sent is not None and sent[0].op == call.op) and not (sends and a in self.sent_along):
                    raise RemoteProtocolError(f"{call.name}: {a:#x} is not outstanding", rule="R-IM-11")
            for a in chain.addresses:
                self.sent_nbls.pop(a, None)
                self.sent_along.discard(a)
        return chain

    def is_stale(self, context: int, columns: dict[str, Any]) -> bool:
        """Return whether a completion of frames is too late: a fault delayed it beyond its binding."""
        sent = self.sent_nbls
        known = all(map(sent.__contains__, columns["NetBufferList"]))
        return not known and context not in self.opened.values()

    def forget_sends(self, context: int) -> None:
        """Forget frames sent through a closed binding that a fault dropped. All others were completed."""
        handles = [h for h, c in self.opened.items() if c == context]
        for h in handles:
            del self.opened[h]
        lost = [a for a, (c, through, _) in self.sent_nbls.items() if c.op == _FRAMES and through in handles]
        for a in lost:
            del self.sent_nbls[a]

    # -- to the bus ----------------------------------------------------------------------------

    def pass_down(
        self, call: Call, binding: int, block_list: BlockList
    ) -> tuple[dict[str, Any], Sequence[bytes]]:
        """Pass a request's list down, with what NDIS would read through the pointers in it."""
        if block_list.form is not Form.PROTOCOL:
            raise LocalProtocolError(f"{call.name} takes a list in the PROTOCOL form", rule="R-BLK-01")
        columns = block_list.columns
        address = columns[Key.BLOCK][0]
        if address in self.sent:
            raise LocalProtocolError(
                f"list {address:#x} is already lent to the driver below", rule="R-BLK-11"
            )
        wire = dict(columns)
        wire.pop(Key.STATUS, None)
        handles = columns.get(Key.OFFLOAD_HANDLE)
        if handles is not None:
            if type(handles) is not list:
                handles = [handles] * len(block_list)
            objects: dict[int, Any] = self.ndis.heap.objects
            try:
                if len(handles) == 1:
                    h = objects[handles[0]] if handles[0] is not None else None
                    wire[Key.HANDLE_CELL] = [None if h is None else h.address + 0x10]
                    wire[Key.CONTEXT] = [None if h is None else h.context]
                else:
                    anchors = [None if a is None else objects[a] for a in paced(handles, self.ndis.working)]
                    wire[Key.HANDLE_CELL] = [None if h is None else h.address + 0x10 for h in anchors]
                    self.ndis.working()
                    wire[Key.CONTEXT] = [None if h is None else h.context for h in anchors]
                    self.ndis.working()
            except KeyError as e:
                raise LocalProtocolError(
                    f"{call.name}: OffloadHandle {e.args[0]:#x} is not allocated", rule="R-IM-08"
                ) from None
        frames: Sequence[bytes] = ()
        if block_list.attachments is not None:
            wire[Key.NET_BUFFER_LISTS] = block_list.attachments.wire
            frames = block_list.attachments.frames
        self._check_size(call.name, wire, frames)
        self.sent[address] = (block_list, call, binding)
        if call.op == "initiate":
            # Send data that goes down with it comes back as sends do (R-OSD-10).
            for addresses in _send_data(block_list).values():
                self.sent_along.update(addresses)
        return wire, frames

    def _check_size(self, name: str, wire: dict[str, Any], frames: Sequence[bytes]) -> None:
        self.ndis.working()
        check_list(name, wire, frames, divisible=self.divides, passing_on=self.passes_on)
        self.ndis.working()

    def hand_back(self, call: Call, block_list: BlockList) -> tuple[dict[str, Any], Sequence[bytes]]:
        """Hand a list back up. From now on it does not belong to the driver (R-BLK-11)."""
        if block_list.form is not Form.MINIPORT:
            raise LocalProtocolError(f"{call.name} takes a list in the MINIPORT form", rule="R-BLK-01")
        columns = block_list.columns
        address = columns[Key.BLOCK][0]
        if call.op:
            if address not in self.lent:
                reason = f"{call.name}: list {address:#x} was not given to this driver"
                raise LocalProtocolError(reason, rule="R-BLK-10")
            status = columns.get(Key.STATUS)
            if status is None or (type(status) is list and None in status):
                raise LocalProtocolError(
                    f"{call.name}: Status was not written in every block", rule="R-BLK-09"
                )
            wire = {k: columns[k] for k in _UP_ALWAYS if k in columns}
            if call.op in ("query", "terminate") and Key.STATE in columns:
                wire[Key.STATE] = columns[Key.STATE]
        else:
            wire = dict(columns)
        attachments = block_list.attachments
        frames: Sequence[bytes] = ()
        if attachments is not None and call.op != "initiate":
            wire[Key.NET_BUFFER_LISTS] = attachments.wire
            frames = attachments.frames
        self._check_size(call.name, wire, frames)
        if call.op:
            del self.lent[address]
            block_list.release()
        return wire, frames
