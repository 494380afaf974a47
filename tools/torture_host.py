"""The host of the torture: one that keeps books of what it passes down and of what comes back.

A list or a net buffer list stays in the books from the moment it is passed down until its completion. A
completion that is not in the books came twice, or belongs to another driver.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from hoststack.api.host import Host
from hoststack.api.runners import ProcessRunner
from hoststack.chimney.driver import HostDriver
from hoststack.model import synthetic
from hoststack.model.objects import Neighbor, Path, StateObject, Tcb
from hoststack.model.operation import Operation
from ndisbus.ddi.call import Kind
from ndisbus.ddi.calls import CALLS
from ndisbus.ddi.status import ALLOWED_STATUS, NdisStatus
from ndisbus.ddi.tcp_enums import TcpUploadReason
from ndisbus.lists.blocklist import BlockList, Key, values
from ndisbus.lists.nbl_chain import NblChain
from tools.torture_stack import TortureError

__all__ = [
    "Books",
    "CountingHost",
    "Tree",
    "attach",
    "check_statuses",
    "offload_and_check",
    "terminate_and_check",
]

_HARDWARE_FAILURE: Final = int(TcpUploadReason.HardwareFailure)
#: What an operation may report besides the statuses of the interface: it was never passed down, or the
#: binding under it is gone.
_LOCAL: Final = frozenset(
    (
        NdisStatus.ADAPTER_REMOVED,
        NdisStatus.PAUSED,
        NdisStatus.INVALID_STATE,
        NdisStatus.OFFLOAD_POLICY,
    )
)


@dataclass
class Books:
    """What was passed down, what came back, and what should not have."""

    requests: Counter[str] = field(default_factory=Counter)
    completions: Counter[str] = field(default_factory=Counter)
    outstanding: dict[int, str] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    def down(self, op: str, addresses: Sequence[int]) -> None:
        """These were passed down."""
        for a in addresses:
            if a in self.outstanding:
                self.wrong.append(f"{op} {a:#x} was passed down while it was outstanding")
            self.outstanding[a] = op
        self.requests[op] += len(addresses)

    def up(self, op: str, addresses: Sequence[int]) -> None:
        """These came back."""
        for a in addresses:
            was = self.outstanding.pop(a, None)
            if was != op:
                self.wrong.append(f"{op} {a:#x} was completed; outstanding was {was or 'no such request'}")
        self.completions[op] += len(addresses)

    def add(self, other: Books) -> None:
        """Take over another's counts."""
        self.requests += other.requests
        self.completions += other.completions
        self.wrong += other.wrong


class CountingHost(HostDriver):
    """A host driver that keeps :class:`Books`, and the time of the first sign that something died."""

    def __init__(self, name: str, *, bind: str = "auto") -> None:
        super().__init__(name, bind=bind)
        self.books = Books()
        #: time.monotonic() of the first failed completion, event or unbind since :meth:`arm`.
        self.sign: float | None = None
        self.unbinds = 0
        #: Lists that went down as send data of their connections.
        self._along: set[int] = set()
        self._call: Callable[..., Any] | None = None

    def arm(self) -> None:
        """Wait for a sign from now on."""
        self.sign = None

    def _seen(self) -> None:
        if self.sign is None:
            self.sign = time.monotonic()

    # -- down ----------------------------------------------------------------------------------

    def driver_entry(self) -> Any:
        if self._call is None:
            self._call = self.ndis.call
            self.ndis.call = self._passed_down  # type: ignore[method-assign]
        return super().driver_entry()

    def _passed_down(self, name: str, *args: Any) -> Any:
        assert self._call is not None
        call = CALLS[name]
        if call.kind is Kind.REQUEST and call.completed_by and call.op != "oid":
            lists = args[1]
            if isinstance(lists, BlockList):
                self.books.down(call.op, [lists.address])
            elif isinstance(lists, NblChain):
                self.books.down(call.op, lists.addresses)
        return self._call(name, *args)

    # -- up ------------------------------------------------------------------------------------

    def _came_back(self, op: str, block_list: BlockList) -> None:
        self.books.up(op, [block_list.address])
        if any(values(block_list.columns[Key.STATUS], len(block_list))):
            self._seen()

    def protocol_initiate_offload_complete(self, context: int, block_list: BlockList) -> None:
        self._came_back("initiate", block_list)
        super().protocol_initiate_offload_complete(context, block_list)
        along = [a for a, p in self.posted.items() if p.kind == "send" and a not in self.books.outstanding]
        # What went down with its connection comes back as a send, or with the connection (R-OSD-10).
        self.books.down("send", along)
        self._along.update(along)

    def protocol_query_offload_complete(self, context: int, block_list: BlockList) -> None:
        self._came_back("query", block_list)
        super().protocol_query_offload_complete(context, block_list)

    def protocol_update_offload_complete(self, context: int, block_list: BlockList) -> None:
        self._came_back("update", block_list)
        super().protocol_update_offload_complete(context, block_list)

    def protocol_invalidate_offload_complete(self, context: int, block_list: BlockList) -> None:
        self._came_back("invalidate", block_list)
        super().protocol_invalidate_offload_complete(context, block_list)

    def protocol_terminate_offload_complete(self, context: int, block_list: BlockList) -> None:
        self._came_back("terminate", block_list)
        before = dict(self.posted)
        super().protocol_terminate_offload_complete(context, block_list)
        # A send that is handed back with its connection is completed by that act (R-DIS-16). Of a lost
        # connection only that comes home which went down with it: the rest was completed before.
        home = [a for a, p in before.items() if p.kind == "send" and (a in self._along or not p.tcb.lost)]
        self._came_home([a for a in home if a not in self.posted])

    def _came_home(self, addresses: list[int]) -> None:
        self.books.up("send", addresses)
        self._along.difference_update(addresses)

    def protocol_tcp_offload_send_complete(self, context: int, chain: NblChain) -> None:
        self._came_home(chain.addresses)
        super().protocol_tcp_offload_send_complete(context, chain)

    def protocol_tcp_offload_receive_complete(self, context: int, chain: NblChain) -> None:
        self.books.up("receive", chain.addresses)
        super().protocol_tcp_offload_receive_complete(context, chain)

    def protocol_tcp_offload_event(self, offload_context: int, event_type: int, information: int) -> None:
        if information == _HARDWARE_FAILURE:  # other reasons are an invalidated neighbor's, say
            self._seen()
        super().protocol_tcp_offload_event(offload_context, event_type, information)

    def protocol_unbind_adapter_ex(self, unbind_context: int, binding_context: int) -> Any:
        self._seen()
        return super().protocol_unbind_adapter_ex(unbind_context, binding_context)

    def protocol_close_adapter_complete_ex(self, binding_context: int) -> None:
        self.unbinds += 1
        super().protocol_close_adapter_complete_ex(binding_context)
        self._came_home(list(self._along))


def attach(
    name: str, endpoint: str, *, bind: str = "auto", timeout: float = 20.0
) -> tuple[Host, CountingHost]:
    """A blocking host around a :class:`CountingHost`, bound or refused. Raises as ``Host.attach`` does."""
    driver = CountingHost(name, bind=bind)
    runner = ProcessRunner(driver, name=name, endpoint=endpoint)
    host = Host(runner, timeout=timeout)
    try:
        host.wait_bound()
    except BaseException:
        runner.close()
        raise
    return host, driver


# --- what is offloaded ---------------------------------------------------------------------------


class Tree:
    """Two neighbors with paths and connections, and a spare neighbor. All of it told apart by ``rng``."""

    def __init__(self, rng: random.Random, connections: int) -> None:
        def neighbor(name: str) -> Neighbor:
            return synthetic.neighbor(b"\x02" + rng.randbytes(5), name=name)

        self.rng = rng
        self.near, self.far, self.spare = neighbor("near"), neighbor("far"), neighbor("spare")
        self.paths: list[Path] = []
        self.tcbs: list[Tcb] = []
        for through, count in ((self.near, 2), (self.far, 1)):
            for _ in range(count):
                size = rng.choice((4, 16))
                path = synthetic.path(through, rng.randbytes(size), rng.randbytes(size))
                self.paths.append(path)
                ports = rng.sample(range(1024, 65536), connections)
                self.tcbs += [
                    synthetic.connection(path, port, rng.randrange(1, 65536), rng=rng) for port in ports
                ]
        #: What was sent on each connection. It is never acknowledged, so all of it must come back.
        self.sent: dict[Tcb, bytes] = {}

    def of(self, neighbor: Neighbor) -> tuple[list[Path], list[Tcb]]:
        """What is reached through a neighbor."""
        paths = [p for p in self.paths if p.neighbor is neighbor]
        return paths, [t for t in self.tcbs if t.path.neighbor is neighbor]

    def objects(self) -> Iterator[StateObject]:
        """All of it, lowest layer first."""
        yield from (self.near, self.far, self.spare)
        yield from self.paths
        yield from self.tcbs

    def write(self, host: Host) -> None:
        """Data to be sent, on some connections; what is written before the offload goes down with them."""
        for tcb in self.rng.sample(self.tcbs, len(self.tcbs) // 2):
            data = self.rng.randbytes(self.rng.randrange(1, 200))
            self.sent[tcb] = self.sent.get(tcb, b"") + data
            host.send(tcb, data)

    def post(self, host: Host) -> None:
        """Leave data to be sent and buffers to be filled with the target, for some connections."""
        self.write(host)
        for tcb in self.rng.sample(self.tcbs, len(self.tcbs) // 2):
            host.receive(tcb, 512)

    def check_data(self) -> list[str]:
        """Whether what was sent and never acknowledged is in the host again, each byte once."""
        wrong = []
        for tcb in self.tcbs:
            home, sent = b"".join(tcb.send_queue or ()), self.sent.get(tcb, b"")
            if home != sent:
                wrong.append(f"{tcb!r}: {len(sent)} bytes were sent, {len(home)} are home or they differ")
        return wrong


def check_statuses(operations: Sequence[Operation]) -> list[str]:
    """Operations that are not done, or that ended with a status that their kind may not report."""
    wrong = []
    for o in operations:
        allowed = ALLOWED_STATUS[o.op]
        if not o.done:
            wrong.append(f"{o!r} was not completed")
            continue
        for obj, status in zip(o.objects, o.statuses, strict=True):
            if status not in allowed and not (o.refused and status in _LOCAL):
                wrong.append(f"{o!r}: {obj!r}: status {status!r} is not legal")
    return wrong


def offload_and_check(host: Host, tree: Tree, timeout: float) -> None:
    """Offload the tree, read it back, and compare. :class:`TortureError` for what is not as it should be."""
    down = host.offload(tree.tcbs, timeout=timeout)
    if not down.succeeded:
        raise TortureError(f"re-offload: {down.refused or down.counts()}")
    read = host.query(tree.tcbs, "whole", timeout=timeout)
    if not read.succeeded:
        raise TortureError(f"query: {read.refused or read.counts()}")
    for tcb in tree.tcbs:
        const, _, delegated = read.result_of(tcb) or (None, None, None)
        if const != tcb.const or getattr(delegated, "rcv_nxt", None) != tcb.delegated.rcv_nxt:
            raise TortureError(f"query: {tcb!r} is not what was offloaded: {const!r} {delegated!r}")


def terminate_and_check(host: Host, tree: Tree, timeout: float) -> None:
    """Upload everything; nothing may stay below. Raises as :func:`offload_and_check` does."""
    alone = [n for n in (tree.near, tree.far, tree.spare) if n.is_offloaded and not n.dependents]
    up = host.terminate([*tree.tcbs, *alone], idle=True, timeout=timeout)
    if not up.succeeded:
        raise TortureError(f"terminate: {up.refused or up.counts()}")
    stay = [o for o in tree.objects() if o.is_offloaded or o.handle is not None]
    if stay:
        raise TortureError(f"{len(stay)} objects are still offloaded after the terminate, {stay[0]!r} first")
