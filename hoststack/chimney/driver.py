"""The host as a protocol driver, without I/O: a process, a simulation or a test runs it.

:class:`HostDriver` binds to one adapter, opens its chimney, and offers the five state operations and the
four kinds of I/O as methods. A state operation returns an :class:`~hoststack.model.operation.Operation`;
everything else that happens is an event (:mod:`hoststack.model.events`). The blocking API above it is
:class:`hoststack.api.host.Host`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from hoststack.chimney import (
    binding,
    failover,
    initiate,
    invalidate,
    power,
    query,
    reachability,
    switch,
    terminate,
    update,
    upload,
)
from hoststack.chimney import data as data_io
from hoststack.chimney.engine import Engine
from hoststack.model.events import BusLost, HostEvent, RegistrationFailed
from hoststack.model.life import State
from hoststack.model.objects import Neighbor, Path, StateObject, Tcb
from hoststack.model.operation import Operation
from ndisbus.ddi.status import NdisStatus
from ndisbus.ddi.structures import (
    NdisClientChimneyOffloadGenericCharacteristics,
    NdisClientChimneyOffloadTcpCharacteristics,
    NdisTcpConnectionOffloadParameters,
)
from ndisbus.driver.base import Steps
from ndisbus.errors import LocalProtocolError
from ndisbus.lists.blocklist import BlockList

if TYPE_CHECKING:
    from ndisbus.lists.nbl_chain import NblChain

__all__ = ["HostDriver"]


class HostDriver(Engine):
    """A host's protocol driver. The methods of the first section are for callers, the others for NDIS.

    ``bind``: the name of an adapter, or ``"auto"``. ``upload_policy(tcb, reason)`` decides about the
    upload requests that a host may decline (R-EVT-06). ``parameters`` are set when the chimney is opened.
    """

    def __init__(
        self,
        name: str = "host",
        *,
        bind: str = "auto",
        upload_policy: Callable[[Tcb, int], bool] = upload.decline,
        parameters: NdisTcpConnectionOffloadParameters | None = None,
    ) -> None:
        super().__init__(parameters or NdisTcpConnectionOffloadParameters(), upload_policy)
        self.name = name
        self.bind = bind
        self._protocol: int | None = None

    # -- for callers ---------------------------------------------------------------------------

    def offload(self, objects: Sequence[StateObject]) -> Operation:
        """Offload connections, with the paths and neighbors they need; or neighbors and paths alone.

        Paths and neighbors that are offloaded already are linked to. An object that cannot be offloaded
        stays in the host, with a status and a reason. The operation waits while a path or neighbor that it
        needs is being offloaded or uploaded. Raises :class:`IllegalTransition` for an object that is
        offloaded, or being offloaded (R-INIT-02), and what packing a state raises; then nothing has changed.
        """
        return initiate.offload(self, objects)

    def query(self, objects: Sequence[StateObject], classes: str = "delegated") -> Operation:
        """Read ``"const"``, ``"cached"``, ``"delegated"`` or ``"whole"`` state.

        ``Operation.result_of`` has the structures. Queries of one object may overlap (R-QRY-01). Objects
        whose query fails are terminated (R-QRY-05).
        Raises :class:`IllegalTransition` for an object that the driver below does not hold.
        """
        return query.query(self, objects, classes)

    def update(self, objects: Sequence[StateObject]) -> Operation:
        """Pass the cached state of the objects down: a MAC address (R-UPD-07), a path MTU (R-UPD-08), ...

        Raises :class:`IllegalTransition` if one of them is being updated or invalid (R-UPD-02).
        """
        return update.update(self, objects)

    def relink(self, paths: Sequence[Path], neighbor: Neighbor) -> Operation:
        """Move offloaded paths to another offloaded neighbor, by an update (R-UPD-04).

        Raises :class:`LocalProtocolError` if the neighbor is not offloaded, :class:`IllegalTransition`
        as :meth:`update` does.
        """
        return update.relink(self, paths, neighbor)

    def failover(self, old: Neighbor, new: Neighbor, *, invalidate: bool = True) -> Operation:
        """Move all paths to another next hop: invalidate, offload, relink, terminate (R-UPD-06)."""
        return self.compose("failover", failover.failover(self, old, new, invalidated=invalidate))

    def invalidate(self, objects: Sequence[StateObject]) -> Operation:
        """Stop transmission on everything that depends on the objects (R-INV-01).

        Raises :class:`IllegalTransition` for an object that the driver below does not hold.
        """
        return invalidate.invalidate(self, objects)

    def terminate(self, objects: Sequence[StateObject], *, idle: bool = False) -> Operation:
        """Upload objects. Waits until queries, updates and invalidates of them have completed (R-TERM-03).

        ``idle``: upload also the paths and neighbors on which nothing depends after that. Raises
        :class:`LocalProtocolError` if something offloaded depends on an object and is not in the list
        (R-TERM-02), :class:`IllegalTransition` for an object that the driver below does not hold.
        """
        if idle:
            objects = [*objects, *terminate.idle_below(objects)]
        return terminate.terminate(self, objects)

    def upload_everything(self, name: str = "upload everything") -> Operation:
        """Terminate all connections, then all paths and neighbors; offload nothing until that is done."""
        return upload.everything(self, name)

    def disable_chimney(self) -> Operation:
        """Upload everything, then switch the chimney off (R-OID-06)."""
        return self.compose("disable", switch.disable(self))

    def enable_chimney(self) -> Operation:
        """Ask for the capabilities and switch the chimney on. The host does this itself when it binds."""
        return self.compose("enable", switch.start(self))

    def power_down(self, state: power.DeviceState = power.DeviceState.NdisDeviceStateD3) -> Operation:
        """Upload everything, then set OID_PNP_SET_POWER (R-PWR-01). Offload again after :meth:`power_up`."""
        return self.compose("power down", power.down(self, state))

    def power_up(self) -> Operation:
        """Set full power, then ask for the capabilities and switch the chimney on."""
        return self.compose("power up", power.up(self))

    def send(self, tcb: Tcb, data: bytes) -> None:
        """Send on a connection: posted below if it is offloaded, queued in the host otherwise."""
        data_io.send(self, tcb, data)

    def receive(self, tcb: Tcb, size: int) -> None:
        """Post a receive buffer of ``size`` bytes. ``LocalProtocolError`` unless it is offloaded."""
        data_io.receive(self, tcb, size)

    def disconnect(self, tcb: Tcb, *, abortive: bool = False, data: bytes = b"") -> None:
        """Close an offloaded connection's sending side, after ``data``, or reset it (R-DISC-01).

        Raises :class:`LocalProtocolError` unless it is offloaded, and for data with an abort.
        """
        data_io.disconnect(self, tcb, abortive=abortive, data=data)

    def deliver(self, tcb: Tcb, segments: Sequence[bytes]) -> bool:
        """Forward TCP segments that reached the host, or hold them back while the connection moves.

        Returns False for a connection that the host serves: the host must process them itself.
        """
        return data_io.deliver(self, tcb, segments)

    def transmit_frames(self, frames: list[bytes]) -> int:
        """Send whole Ethernet frames beside the chimney; returns how many went down, the rest is dropped.

        ``frames.on_frames`` is called with the frames that are received.
        """
        return self.frames.transmit(self.binding, frames)

    def forget(self, tcb: Tcb) -> None:
        """Drop a connection from :attr:`tcbs`. Raises ``LocalProtocolError`` unless the host serves it."""
        if tcb.handle is not None or tcb.waiting is not None:
            raise LocalProtocolError(
                f"{tcb!r} cannot be forgotten: it is {tcb.connection_state.value}; upload it first"
            )
        self.tcbs.pop(tcb, None)

    def next_event(self) -> HostEvent | None:
        """Take the oldest unread event; None if there is none.

        At most ``MAX_EVENTS`` are kept: a newer event displaces the oldest, and ``events.dropped`` counts
        those that were lost so. Code that must know each event calls ``events.subscribe``.
        """
        return self.events.next_event()

    @property
    def can_offload(self) -> bool:
        """Whether an offload would be passed down now."""
        return not initiate.why_not(self)[1]

    def reserved(self, obj: StateObject) -> str:
        """Why an application must not pass an object to the raw operations; ``""`` if it may."""
        return ""

    # -- registration and binding --------------------------------------------------------------

    def driver_entry(self) -> Steps:
        bind = "auto" if self.bind == "auto" else [self.bind]
        status, self._protocol = yield self.ndis.register_protocol_driver(
            self.ndis.heap.address(), {"Name": self.name, "Bind": bind}
        )
        if status != NdisStatus.SUCCESS:
            self._protocol = None
            self.emit(RegistrationFailed(self.ndis.now(), status))

    def protocol_set_options(self, ndis_driver_handle: int, driver_context: int | None) -> Steps:
        """Two calls, one per client structure (R-REG-02)."""
        for table in (
            NdisClientChimneyOffloadGenericCharacteristics.full(),
            NdisClientChimneyOffloadTcpCharacteristics.full(),
        ):
            (status,) = yield self.ndis.set_optional_handlers(ndis_driver_handle, table.to_wire())
            if status != NdisStatus.SUCCESS:
                return status
        return NdisStatus.SUCCESS

    def protocol_bind_adapter_ex(
        self, protocol_driver_context: int | None, bind_context: int, parameters: dict[str, Any]
    ) -> Steps:
        return binding.bind(self, self._protocol, parameters)

    def protocol_unbind_adapter_ex(self, unbind_context: int, protocol_binding_context: int) -> Any:
        return binding.unbind(self)

    def protocol_close_adapter_complete_ex(self, protocol_binding_context: int) -> None:
        """The adapter is closed; objects that are still offloaded through it are lost."""
        if self.binding is not None and self.binding.context == protocol_binding_context:
            binding.release(self, self.binding)

    def detached(self, reason: str) -> None:
        """The bus is gone. ``driver_entry`` is called again when it is back."""
        if self.binding is not None:
            binding.release(self, self.binding)
        self._protocol = None
        self.emit(BusLost(self.ndis.now(), reason))

    def next_deadline(self) -> float | None:
        times = [self.due] if self.due is not None else []
        if self.chimney.retry_at is not None:
            times.append(self.chimney.retry_at)
        # An object that is being terminated again leaves limbo with its completion, not by the clock.
        times += [until for o, until in self.limbo.items() if o.state is State.FAILED]
        return min(times, default=None)

    def on_timer(self, now: float) -> None:
        upload.flush(self)
        switch.retry(self)

    def inspect(self) -> dict[str, int]:
        """Counters for ``ndisbus ps``."""
        return {
            "tcbs": len(self.tcbs),
            "offloaded": sum(t.is_offloaded for t in self.tcbs),
            "handles": len(self.held()),
            "operations": len(self.pending) + len(self.waiting) + len(self.chimney.oids),
            "posted": len(self.posted),
            "returns": len(self.returns),
            "sends": len(self.frames.sends),
            "frames out": self.frames.sent,
            "frames": self.frames.received,
            "segments dropped": self.segments_dropped,
            "frames dropped": self.frames.dropped + self.frames.failed.total(),
            "violations": self.violations,
            "events dropped": self.events.dropped,
        }

    # -- completions and indications -----------------------------------------------------------

    def _is_of(self, protocol_binding_context: int) -> bool:
        """Whether a completion belongs to the present binding.

        A request may cross the forced end of its binding. NDIS completes it after that; this side has given
        it up with everything else that belonged to the binding.
        """
        return self.binding is not None and self.binding.context == protocol_binding_context

    def _complete(
        self, context: int, block_list: BlockList, completed: Callable[[Engine, Operation, BlockList], None]
    ) -> None:
        """Complete the operation of a block list; report a list that is not outstanding."""
        if not self._is_of(context):
            return
        operation = self.pending.pop(block_list.address, None)
        if operation is None:
            self.violation("R-BLK-10", f"{block_list!r} was completed, but it is not outstanding")
        else:
            completed(self, operation, block_list)

    def _complete_nbls(self, context: int, kind: str, chain: NblChain) -> None:
        if self._is_of(context):
            data_io.completed(self, kind, chain)

    def protocol_initiate_offload_complete(
        self, protocol_binding_context: int, block_list: BlockList
    ) -> None:
        self._complete(protocol_binding_context, block_list, initiate.completed)

    def protocol_query_offload_complete(self, protocol_binding_context: int, block_list: BlockList) -> None:
        self._complete(protocol_binding_context, block_list, query.completed)

    def protocol_update_offload_complete(self, protocol_binding_context: int, block_list: BlockList) -> None:
        self._complete(protocol_binding_context, block_list, update.completed)

    def protocol_invalidate_offload_complete(
        self, protocol_binding_context: int, block_list: BlockList
    ) -> None:
        self._complete(protocol_binding_context, block_list, invalidate.completed)

    def protocol_terminate_offload_complete(
        self, protocol_binding_context: int, block_list: BlockList
    ) -> None:
        self._complete(protocol_binding_context, block_list, terminate.completed)

    def protocol_tcp_offload_send_complete(self, protocol_binding_context: int, chain: NblChain) -> None:
        self._complete_nbls(protocol_binding_context, "send", chain)

    def protocol_tcp_offload_receive_complete(self, protocol_binding_context: int, chain: NblChain) -> None:
        self._complete_nbls(protocol_binding_context, "receive", chain)

    def protocol_tcp_offload_disconnect_complete(
        self, protocol_binding_context: int, chain: NblChain
    ) -> None:
        self._complete_nbls(protocol_binding_context, "disconnect", chain)

    def protocol_tcp_offload_forward_complete(self, protocol_binding_context: int, chain: NblChain) -> None:
        self._complete_nbls(protocol_binding_context, "forward", chain)

    def protocol_tcp_offload_event(
        self, offload_context: int, event_type: int, event_specific_information: int
    ) -> None:
        upload.tcp_event(self, offload_context, event_type, event_specific_information)

    def protocol_tcp_offload_receive_indicate(
        self, offload_context: int, chain: NblChain, status: int
    ) -> tuple[int, int]:
        return data_io.indicated(self, offload_context, chain)

    def protocol_indicate_offload_event(
        self, protocol_binding_context: int, block_list: BlockList | None, indication_code: int
    ) -> tuple[None, BlockList | None]:
        return None, reachability.answer(self, block_list, indication_code)

    def protocol_status_ex(self, protocol_binding_context: int, status_indication: dict[str, Any]) -> None:
        switch.status_indicated(self, int(status_indication["StatusCode"]))

    def protocol_oid_request_complete(
        self, protocol_binding_context: int, oid_request: dict[str, Any], status: int, reason: str
    ) -> None:
        if self._is_of(protocol_binding_context):
            switch.oid_completed(self, oid_request, status, reason)

    def protocol_send_net_buffer_lists_complete(
        self, protocol_binding_context: int, chain: NblChain, send_complete_flags: int
    ) -> None:
        if self._is_of(protocol_binding_context):
            self.frames.completed(chain)

    def protocol_receive_net_buffer_lists(
        self, protocol_binding_context: int, chain: NblChain, port_number: int, count: int, receive_flags: int
    ) -> None:
        self.frames.indicated(protocol_binding_context, chain, receive_flags)
