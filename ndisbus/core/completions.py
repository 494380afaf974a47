"""Completions of the five state-manipulation operations: routed by SourceHandle, each exactly once.

A completion is compared with what was lent: it must have the same blocks, SourceHandle, ImReserved and
ProtocolReserved, and a legal Status in every block. A difference is a bug check of the driver that completed
the list. This module also acts in place of a dead driver below: it fails the lists that the driver holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from ndisbus.core.lent import LENT, failed_columns, same
from ndisbus.core.sizes import fits_into_packet
from ndisbus.core.violation import Violation
from ndisbus.ddi.call_rows import STATE_OPERATIONS, OperationRow
from ndisbus.ddi.status import ALLOWED_STATUS, NdisStatus
from ndisbus.lists.blocklist import Key
from ndisbus.lists.heap import ADDRESS_BITS
from ndisbus.lists.nbl_chain import chain_addresses
from ndisbus.lists.validate import UP_COLUMNS, check_columns

if TYPE_CHECKING:
    from ndisbus.core.clock import Clock
    from ndisbus.core.io import Io
    from ndisbus.core.model import Adapter, Binding, Client, Handler, Handlers, Request
    from ndisbus.core.outbound import Outbound
    from ndisbus.core.registry import Registry
    from ndisbus.core.request_books import RequestBooks
    from ndisbus.core.terminator import Terminator
    from ndisbus.messages.codec import Message

__all__ = ["LEGAL", "Completions"]

_SUCCESS: Final = int(NdisStatus.SUCCESS)
#: The object's own state was offloaded (R-INIT-04, R-INIT-05).
_TAKEN: Final = (_SUCCESS, int(NdisStatus.OFFLOAD_PARTIAL_SUCCESS))
_ALLOWED: Final = {o.op: frozenset(int(s) for s in ALLOWED_STATUS[o.op]) for o in STATE_OPERATIONS}
#: The rule that an illegal Status breaks, by operation.
LEGAL: Final = {
    "initiate": "R-INIT-04",
    "query": "R-QRY-04",
    "update": "R-UPD-10",
    "invalidate": "R-INV-06",
    "terminate": "R-TERM-17",
}
#: Columns that also travel up: the driver below wrote them, or the driver above applies them.
_CARRIED: Final = (Key.BLOCK, Key.STATUS, *LENT, Key.STATE, Key.NBL_CHAIN, Key.NET_BUFFER_LISTS)


def _listed(col: Any, n: int) -> list[Any]:
    return col if type(col) is list else [col] * n


class Completions:
    """Completes requests on block lists."""

    __slots__ = ("books", "clock", "io", "out", "registry", "terminator")

    def __init__(
        self,
        clock: Clock,
        out: Outbound,
        registry: Registry,
        io: Io,
        books: RequestBooks,
        terminator: Terminator,
    ) -> None:
        self.clock = clock
        self.out = out
        self.registry = registry
        self.io = io
        self.books = books
        self.terminator = terminator

    def handlers(self) -> Handlers:
        """Return the handlers by name of call."""
        return {o.completion: self._up(o) for o in STATE_OPERATIONS}

    def _up(self, operation: OperationRow) -> Handler:
        """Return the handler of a completion such as NdisMInitiateOffloadComplete."""
        where = f"{operation.completion}.OffloadBlockList"
        allowed = _ALLOWED[operation.op]

        def up(client: Client, message: Message, frames: Sequence[bytes]) -> None:
            args = message[2]
            adapter = self.registry.adapter_of(client, args[0], "NdisMiniportHandle")
            columns = check_columns(args[1], where, UP_COLUMNS)
            blocks = columns[Key.BLOCK]
            request = adapter.requests.get(blocks[0])
            if request is None or request.operation is not operation:
                reason = f"list {blocks[0]:#x} is not outstanding on {adapter.name}"
                if request is not None:
                    reason = f"list {blocks[0]:#x} belongs to {request.operation.request}"
                raise Violation("OffloadBlockList", reason, "R-BLK-10")
            for b in client.bindings:
                below = b.adapter.requests.get(blocks[0])
                if below is not None and below.binding.protocol is client:
                    reason = f"list {blocks[0]:#x} is still held by the driver below"
                    raise Violation("OffloadBlockList", reason, "R-BLK-11")
            self._compare(request, columns, allowed)
            chains: dict[int, list[int]] = {}
            if operation.op == "initiate":
                self._offloaded(request, columns)
            elif operation.op == "terminate":
                chains = chain_addresses(columns.get(Key.NET_BUFFER_LISTS) or (), f"{where}.NetBufferLists")
                if request.binding.io:
                    self._io_is_back(adapter, request, columns, chains)
            above = request.binding.protocol
            if frames and request.verdict is None and not fits_into_packet(above, columns, frames):
                # Data came along that the driver above cannot take. It learns that the objects are lost.
                request.verdict = int(NdisStatus.FAILURE)
            self._complete(adapter, request, columns, frames, chains)

        return up

    def _compare(self, request: Request, columns: dict[str, Any], allowed: frozenset[int]) -> None:
        """Check that what comes back is what was lent, with a legal Status in every block."""
        n = len(request.blocks)
        if columns[Key.BLOCK] != request.blocks:
            raise Violation("OffloadBlockList.Block", "not the blocks that were given", "R-BLK-10")
        source = columns.get(Key.SOURCE_HANDLE)
        if source != request.binding.handle and not same(source, request.binding.handle, n):
            raise Violation(
                "OffloadBlockList.SourceHandle",
                f"not the value {request.binding.handle:#x} that NDIS stored there: "
                "the completion would go to another binding",
                "R-IM-05" if request.binding.adapter.virtual else "R-BLK-12",
            )
        for key in LENT:
            given, back = request.columns.get(key), columns.get(key)
            if given != back and not same(given, back, n):
                rule = "R-IM-05" if request.binding.adapter.virtual else "R-BLK-12"
                raise Violation(f"OffloadBlockList.{key}", "not handed back as it was given", rule)
        status = columns.get(Key.STATUS)
        if status is None or (type(status) is list and None in status):
            raise Violation("OffloadBlockList.Status", "not written in every block", "R-BLK-09")
        if status == _SUCCESS:
            return
        written = set(status) if type(status) is list else {status}
        if not written <= allowed:
            wrong = sorted(written - allowed)
            text = ", ".join(f"{v:#x}" for v in wrong)
            op = request.operation.op
            raise Violation("OffloadBlockList.Status", f"{text} is not legal for {op}", LEGAL[op])
        if written != {_SUCCESS} and None in request.handles:
            for i, handle in enumerate(request.handles):
                if handle is None and _listed(status, n)[i] != _SUCCESS:
                    raise Violation(
                        f"OffloadBlockList.Status[{i}]", "a placeholder always succeeds", "R-TREE-02"
                    )

    def _offloaded(self, request: Request, columns: dict[str, Any]) -> None:
        """Record the objects that an initiate offloaded, each with the PVOID that the driver below stored."""
        n = len(request.blocks)
        statuses = _listed(columns[Key.STATUS], n)
        stored = _listed(columns.get(Key.CONTEXT), n)
        objects: dict[int, tuple[int, int]] = {}
        low = request.binding.adapter.driver.space << ADDRESS_BITS
        high = low + (1 << ADDRESS_BITS)
        for i, (handle, before, status, after) in enumerate(
            zip(request.handles, request.contexts, statuses, stored, strict=True)
        ):
            if handle is None:
                continue
            if before is None and status in _TAKEN:
                if after is None:
                    raise Violation(
                        f"OffloadBlockList.*MiniportOffloadContext[{i}]",
                        "offloaded, but the cell holds NULL",
                        "R-HND-02",
                    )
                if not low <= after < high:
                    raise Violation(
                        f"OffloadBlockList.*MiniportOffloadContext[{i}]",
                        f"{after:#x} does not lie in the address space of the driver",
                        "R-HND-02",
                    )
                objects[handle] = (request.layers[i], after)
            elif after != before:
                raise Violation(
                    f"OffloadBlockList.*MiniportOffloadContext[{i}]",
                    "written although nothing was offloaded",
                    "R-HND-03",
                )
        # Recorded after all checks: a list with one bad block offloads nothing.
        request.binding.objects.update(objects)

    def _io_is_back(
        self, adapter: Adapter, request: Request, columns: dict[str, Any], chains: dict[int, list[int]]
    ) -> None:
        """Check that everything posted on a connection is completed before its terminate is (R-TERM-08).

        A list that is handed back in NetBufferListChain is completed by that (R-DIS-16).
        """
        binding = request.binding
        statuses = _listed(columns[Key.STATUS], len(request.blocks))
        back = {a for chain in chains.values() for a in chain}
        late: list[int] = []
        for handle, status in zip(request.handles, statuses, strict=True):
            held = binding.io.get(handle) if handle is not None else None
            if not held or (status != _SUCCESS and handle not in binding.lost):
                continue  # its terminate failed: the object and what is posted on it stay
            for a in sorted(held):
                if a in back:
                    self.io.take(adapter, a)
                elif adapter.nbls[a].waylaid:
                    late.append(a)
                else:
                    reason = f"net buffer list {a:#x} of {handle:#x} was not completed before the terminate"
                    raise Violation("OffloadBlockList", reason, "R-TERM-08")
        if late:
            self.io.give_back(adapter, late, int(NdisStatus.REQUEST_ABORTED))

    def _complete(
        self,
        adapter: Adapter,
        request: Request,
        columns: dict[str, Any],
        frames: Sequence[bytes],
        chains: dict[int, list[int]],
    ) -> None:
        """End a request: remove it from the books and tell the driver above, if that is alive.

        ``chains``: the lists that a completed terminate hands back, keyed by the address of the first list.
        """
        binding = request.binding
        del adapter.requests[request.root]
        adapter.completed += 1
        binding.outstanding -= 1
        binding.lists -= 1
        for own in binding.protocol.adapters:
            if (above := own.requests.get(request.root)) is not None:
                above.back_at = self.clock.now
        op = request.operation.op
        if op == "initiate":
            binding.offloading.difference_update(request.handles)
            for handle, addresses in request.chains.items():
                for a in [a for a in addresses if a in adapter.nbls]:
                    if handle in binding.objects:
                        adapter.nbls[a].along = False
                    else:
                        self.io.take(adapter, a)  # the connection was not offloaded: its lists never left
        elif op == "terminate":
            self._terminated(binding, request, columns[Key.STATUS])
            self._buffered(binding, request, columns, chains)
        if request.verdict is not None:
            columns, frames = (
                failed_columns(request.blocks, request.handles, request.columns, request.verdict),
                (),
            )
        if request.then is not None:
            request.then()
        elif not binding.protocol.closed:
            upper: dict[str, Any] = {k: columns[k] for k in _CARRIED if k in columns}
            upper[Key.SOURCE_HANDLE] = binding.handle
            if op == "initiate" and Key.CONTEXT in columns:
                upper[Key.CONTEXT] = columns[Key.CONTEXT]
            message: Message = [request.operation.completion_handler, None, [binding.context, upper]]
            if frames:
                message.append(len(frames))
            self.out.send(binding.protocol, message, frames)
        if binding.on_return is not None:
            binding.on_return()

    def _terminated(self, binding: Binding, request: Request, status: Any) -> None:
        """Forget terminated objects. One whose terminate failed may be named once more (R-DIS-43)."""
        binding.terminating.difference_update(request.handles)
        if status != _SUCCESS and binding.adapter.alive and request.verdict is None:
            statuses = _listed(status, len(request.blocks))
            failed = [h for h, s in zip(request.handles, statuses, strict=True) if s != _SUCCESS]
            lost = {h: binding.objects[h] for h in failed if h in binding.objects}
            self.books.forget(binding, request.handles)
            if request.then is None:
                self.terminator.lose(binding, lost)
            else:
                binding.lost.update(lost)  # NDIS cleans up: the end of the binding repeats it at once
        else:
            self.books.forget(binding, request.handles)

    def _buffered(
        self, binding: Binding, request: Request, columns: dict[str, Any], chains: dict[int, list[int]]
    ) -> None:
        """Lend the lists in BufferedData to the driver above until it returns them (R-BRD-09).

        If that driver is dead, or the request failed, NDIS returns them at once.
        """
        if not chains:
            return
        sends = set(_listed(columns.get(Key.NBL_CHAIN), len(request.blocks)))
        lists = [a for first, chain in chains.items() if first not in sends for a in chain]
        if request.then is not None or request.verdict is not None or binding.protocol.closed:
            self.io.hand_back_received(binding.adapter, lists)
        else:
            binding.kept.update(dict.fromkeys(lists, True))

    def fail_up(self, adapter: Adapter, request: Request, status: int) -> None:
        """Complete an outstanding request in place of a driver that is dead or must not complete it."""
        self._complete(
            adapter, request, failed_columns(request.blocks, request.handles, request.columns, status), (), {}
        )
