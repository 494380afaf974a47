"""Removal of a client: it was killed, stalled beyond the limit, broke a rule, or left.

What a dead driver held for the layers above is completed upwards at once, in the order of the requests, and
its bindings are unbound (a surprise removal). What it had offloaded below is terminated and freed. Each
request is completed exactly once, whichever process dies.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ndisbus.core.model import AdapterState, BindingState
from ndisbus.ddi.state_types import Layer
from ndisbus.ddi.status import NdisStatus
from ndisbus.ddi.tcp_enums import LOSS_EVENTS

if TYPE_CHECKING:
    from ndisbus.core.bindings import Bindings
    from ndisbus.core.completions import Completions
    from ndisbus.core.io import Io
    from ndisbus.core.model import Adapter, BugCheck, Client
    from ndisbus.core.oids import Oids
    from ndisbus.core.outbound import Outbound
    from ndisbus.core.packets import Packets
    from ndisbus.core.registry import Registry

__all__ = ["MAX_CUT_OFF", "Removal"]

#: Number of hung drivers that are remembered after their removal. Above that the oldest is forgotten.
MAX_CUT_OFF: Final = 32
_FAILURE: Final = int(NdisStatus.FAILURE)


class Removal:
    """Closes epochs and cleans up after them."""

    __slots__ = ("bindings", "completions", "io", "oids", "out", "packets", "registry")

    def __init__(
        self,
        out: Outbound,
        registry: Registry,
        bindings: Bindings,
        io: Io,
        packets: Packets,
        oids: Oids,
        completions: Completions,
    ) -> None:
        self.out = out
        self.registry = registry
        self.bindings = bindings
        self.io = io
        self.packets = packets
        self.oids = oids
        self.completions = completions

    def process_died(self, client: Client, reason: str) -> None:
        """Remove the client of a dead process, and do not list it as cut off any more."""
        if self.registry.cut_off.get(client.name) is client:
            del self.registry.cut_off[client.name]
        self.remove(client, reason)

    def remove(
        self,
        client: Client,
        reason: str,
        *,
        bug_check: BugCheck | None = None,
        hung: bool = False,
        idle: bool = False,
    ) -> None:
        """Close a driver's epoch and clean up above and below it. Does nothing if it is already closed.

        A ``hung`` driver stays listed as cut off because its process still exists. An ``idle`` driver has
        left in order, and has not begun what it has not completed.
        """
        if client.closed:
            return
        if hung:
            while len(self.registry.cut_off) >= MAX_CUT_OFF:
                del self.registry.cut_off[next(iter(self.registry.cut_off))]
            self.registry.cut_off[client.name] = client
        info: dict[str, Any] = {"Reason": reason, "Epoch": client.epoch}
        if bug_check is not None:
            info["BugCheck"] = bug_check.to_wire()
        self.out.send(client, ["closed", None, [info]])
        client.closed = True
        client.assembly = None
        self.out.emit("closed", driver=client.name, pid=client.pid, epoch=client.epoch, reason=reason)
        for adapter in client.adapters:
            adapter.state = AdapterState.DEAD  # first, so that no protocol is bound to it from now on
        for pending in list(client.pending.values()):
            pending.then(None)
        client.pending.clear()
        for adapter in list(client.adapters):
            self._remove_adapter(adapter, reason, idle)
        for binding in list(client.bindings):
            self.bindings.abandon(binding)
        self.bindings.bind_all()

    def _remove_adapter(self, adapter: Adapter, reason: str, idle: bool) -> None:
        """Remove an adapter by surprise: fail what is outstanding, abort what was offloaded, unbind."""
        adapter.state = AdapterState.DEAD
        self.registry.adapters.pop(adapter.handle, None)
        adapter.driver.adapters.remove(adapter)
        # Net buffer lists first: those of a connection must be back before its terminate completes.
        self.io.abort(adapter)
        self.packets.abort(adapter)
        self._tell_of_loss(adapter, on_offer=not idle)
        for request in list(adapter.requests.values()):
            self.completions.fail_up(adapter, request, _FAILURE)
        self.oids.abort(adapter)
        for binding in list(adapter.bindings):
            if binding.state is BindingState.OPEN:
                self.bindings.unbind(binding, f"{adapter.driver.name}: {reason}")
            else:
                binding.came_back()

    def _tell_of_loss(self, adapter: Adapter, *, on_offer: bool) -> None:
        """Indicate for each connection that is below, or on offer, that the hardware failed: retrieve, abort.

        A driver above learns it before a list with the connection completes. So it knows that a FAILURE is
        not a refusal: the adapter may have served a connection that was on offer, and may have acknowledged
        data for it (R-CONC-03). An idle driver has not, so its connections ``on_offer`` are refused.
        """
        for binding in adapter.bindings:
            handles = [h for h, (layer, _) in binding.objects.items() if layer == Layer.TCP]
            for request in adapter.requests.values() if on_offer else ():
                if request.binding is binding and request.operation.op == "initiate":
                    handles += request.connections_on_offer()
            for handle in handles:
                for event in LOSS_EVENTS:
                    self.out.send(binding.protocol, ["ProtocolTcpOffloadEvent", None, [handle, *event]])
