"""What NDIS knows: clients, adapters, bindings, outstanding requests. Data and simple counts only."""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ndisbus.core.ended import EndedBindings
from ndisbus.ddi.state_types import Layer
from ndisbus.ddi.status import NdisStatus

if TYPE_CHECKING:
    from ndisbus.ddi.call_rows import OperationRow
    from ndisbus.messages.codec import Message
    from ndisbus.messages.parts import Assembly

__all__ = [
    "Adapter",
    "AdapterState",
    "Binding",
    "BindingState",
    "BugCheck",
    "Client",
    "CoreConfig",
    "Handler",
    "Handlers",
    "Injected",
    "NblRequest",
    "OidRequest",
    "PacketSend",
    "Pending",
    "Request",
    "status_of",
]


@dataclass(slots=True, kw_only=True)
class CoreConfig:
    """Limits. All times are in seconds."""

    #: Interval of MiniportCheckForHangEx.
    check_interval: float = 0.25
    #: How long a miniport may take to answer it. After that its adapters count as dead.
    hang_limit: float = 2.0
    #: How long a driver may hold a request. After that the driver counts as hung.
    request_limit: float = 10.0
    #: How long a protocol itself may delay the end of a binding that NDIS asked it to close.
    unbind_limit: float = 5.0
    #: How long NDIS waits for the second terminate of objects whose first one failed (R-DIS-43), for a driver
    #: without drivers above. See :meth:`Client.height`.
    lost_limit: float = 2.0
    #: Seed of all random numbers (faults with a probability).
    seed: int = 0


class AdapterState(enum.Enum):
    """The states of an adapter."""

    INITIALIZING = "initializing"
    UP = "up"
    CLOSING = "closing"
    DEAD = "dead"


class BindingState(enum.Enum):
    """The states of a binding. In ABANDONED its protocol is dead and NDIS cleans up."""

    OPEN = "open"
    UNBINDING = "unbinding"
    CLOSING = "closing"
    ABANDONED = "abandoned"
    CLOSED = "closed"


@dataclass(slots=True, frozen=True)
class BugCheck:
    """A report of a broken rule: the driver, the call, its parameter, the reason, the rule."""

    driver: str
    pid: int
    epoch: int
    call: str
    parameter: str
    rule: str
    reason: str
    at: float

    def to_wire(self) -> dict[str, Any]:
        """Return the report as a map for ``closed`` messages and ``ndisbus ps``."""
        return {
            "Driver": self.driver,
            "Pid": self.pid,
            "Epoch": self.epoch,
            "Call": self.call,
            "Parameter": self.parameter,
            "Rule": self.rule,
            "Reason": self.reason,
            "At": self.at,
        }

    def __str__(self) -> str:
        rule = f" [{self.rule}]" if self.rule else ""
        return f"bug check: {self.driver} (pid {self.pid}) {self.call}({self.parameter}): {self.reason}{rule}"


#: Called with the values of a ``return``, or with None if the client has gone.
Continuation = Callable[[list[Any] | None], None]


@dataclass(slots=True, eq=False)
class Pending:
    """A call of NDIS that the client has not answered yet."""

    name: str
    then: Continuation


@dataclass(slots=True, eq=False)
class Client:
    """One registered process: one epoch of one driver."""

    key: Any
    name: str
    pid: int
    space: int
    epoch: int
    info: dict[str, Any]
    heard_at: float
    closed: bool = False
    #: The counter of its latest ``progress`` message.
    progress: int = 0
    #: Whether it can join parts, the message in parts that it is sending, and when the latest part came.
    joins_parts: bool = False
    assembly: Assembly | None = None
    part_at: float = 0.0
    next_call: int = 0
    pending: dict[int, Pending] = field(default_factory=dict)
    #: Handles that NDIS gave it on registration. None while that edge is not registered.
    miniport_driver: int | None = None
    miniport_context: int | None = None
    protocol_driver: int | None = None
    #: The protocol edge's handle, known from the start of its registration (ProtocolSetOptions).
    protocol_handle: int | None = None
    protocol_context: int | None = None
    #: The characteristics that it registered: "provider-generic", "provider-tcp", "client-generic", ...
    handlers: set[str] = field(default_factory=set)
    #: Names of the adapters that its protocol edge binds to, or "auto".
    bind: tuple[str, ...] | str = ()
    #: The adapter chosen for "auto". Kept so that the client gets the same one again.
    assigned: str | None = None
    #: Epoch of the intermediate driver that was asked for that adapter. Each epoch is asked once.
    asked_epoch: int = 0
    binding_now: set[str] = field(default_factory=set)
    #: Handles of adapters whose bindings it closed by itself. They are not offered to it again.
    given_up: set[int] = field(default_factory=set)
    adapters: list[Adapter] = field(default_factory=list)
    #: Whether an adapter of this epoch has ended, so that the next one needs an epoch of its own.
    adapters_ended: bool = False
    bindings: list[Binding] = field(default_factory=list)
    #: Its bindings that are closed or closing, as long as its calls may cross their ends.
    ended: EndedBindings = field(default_factory=EndedBindings)
    watched: bool = False

    @property
    def is_intermediate(self) -> bool:
        """Return whether it has a miniport edge and a protocol edge."""
        return self.miniport_driver is not None and self.protocol_driver is not None

    @property
    def waits_above(self) -> bool:
        """Return whether it waits until NDIS has unbound protocols from its virtual adapters."""
        return any(a.state is AdapterState.CLOSING and a.bindings for a in self.adapters)

    def height(self) -> int:
        """Return how many drivers stand above this one, one on another, in the longest chain.

        Intermediate drivers may be bound in a circle: then it is the number of all drivers above.
        """
        reached = level = {self}
        height = 0
        while level := {b.protocol for c in level for a in c.adapters for b in a.bindings}:
            reached = reached | level
            height += 1
            if height >= len(reached):
                return len(reached) - 1  # no chain without a circle is that long
        return height

    def __str__(self) -> str:
        return f"{self.name} (pid {self.pid}, epoch {self.epoch})"


@dataclass(slots=True, eq=False)
class Adapter:
    """One life of an adapter of a miniport driver."""

    name: str
    handle: int
    driver: Client
    virtual: bool
    #: Number of this life of the adapter: a later life has a higher one.
    epoch: int
    state: AdapterState = AdapterState.INITIALIZING
    context: int | None = None
    #: NDIS_TCP_CONNECTION_OFFLOAD as reported, and as enabled now. None: no chimney.
    capabilities: dict[str, Any] | None = None
    config: dict[str, Any] | None = None
    parameters: dict[str, Any] | None = None
    #: What protocols learn of it when they are bound: CurrentMacAddress, MtuSize, link speeds.
    facts: dict[str, Any] = field(default_factory=dict)
    chimney_owner: Binding | None = None
    paused: bool = False
    bindings: list[Binding] = field(default_factory=list)
    requests: dict[int, Request] = field(default_factory=dict)
    nbls: dict[int, NblRequest] = field(default_factory=dict)
    #: The ordinary data path: the lists given to the driver to send; and the lists that it indicated, each
    #: with the number of bindings that have not returned it.
    sends: dict[int, PacketSend] = field(default_factory=dict)
    indicated: dict[int, int] = field(default_factory=dict)
    oids: dict[int, OidRequest] = field(default_factory=dict)
    #: Called when the last binding is closed. Set while the adapter waits to be halted.
    on_unbound: Callable[[], None] | None = None
    on_halted: Callable[[], None] | None = None
    completed: int = 0

    @property
    def alive(self) -> bool:
        """Return whether requests may still be passed to its driver."""
        return self.state in (AdapterState.UP, AdapterState.CLOSING) and not self.driver.closed


@dataclass(slots=True, eq=False)
class Binding:
    """A protocol's binding to an adapter. Its handle is the SourceHandle of all that it passes down."""

    handle: int
    protocol: Client
    adapter: Adapter
    context: int
    state: BindingState = BindingState.OPEN
    #: When NDIS closes it by force, if it is UNBINDING until then.
    close_by: float = 0.0
    #: Objects offloaded through it: OffloadHandle -> (layer, PVOID of the driver below).
    objects: dict[int, tuple[int, int]] = field(default_factory=dict)
    #: OffloadHandles named by pending initiates, and by pending terminates.
    offloading: set[int | None] = field(default_factory=set)
    terminating: set[int | None] = field(default_factory=set)
    #: Objects whose terminate failed. Their events pass, and one more terminate may name them (R-DIS-43).
    lost: dict[int, tuple[int, int]] = field(default_factory=dict)
    #: The ones among them that NDIS itself terminates, or has terminated. The driver above does not know of
    #: that, and may still name each of them once. The latest MAX_SWEPT are kept, in their order.
    swept: dict[int | None, None] = field(default_factory=dict)
    #: Outstanding requests of this binding: of all kinds, and the block lists among them.
    outstanding: int = 0
    lists: int = 0
    #: The net buffer lists among them, by the OffloadHandle of their connection.
    io: dict[int, set[int]] = field(default_factory=dict)
    #: Frame lists that were indicated to its protocol and are not returned.
    received: dict[int, None] = field(default_factory=dict)
    #: The same for lists with data of connections. False: the indication is not answered yet.
    kept: dict[int, bool] = field(default_factory=dict)
    #: Closes a closing binding if it can be closed now. Set when the binding begins to close. Any part of the
    #: core may return what the binding waits for, so each of them calls this.
    on_return: Callable[[], None] | None = None

    def came_back(self) -> None:
        """Note that something outstanding through this binding is completed."""
        if self.on_return is not None:
            self.on_return()


@dataclass(slots=True, eq=False)
class Request:
    """A state-manipulation request that an adapter has been given and has not completed.

    It keeps what NDIS lent, to compare it with what comes back.
    """

    operation: OperationRow
    binding: Binding
    root: int
    blocks: list[int]
    layers: list[int]
    handles: list[int | None]
    cells: list[int | None]
    contexts: list[int | None]
    columns: dict[str, Any]
    started_at: float
    #: When the driver below this one completed the list. Since then only this driver holds the request.
    back_at: float = 0.0
    #: Set for requests that NDIS itself made: called instead of a driver above.
    then: Callable[[], None] | None = None
    #: Send data that goes down with new offloads: OffloadHandle -> net buffer lists.
    chains: dict[int, list[int]] = field(default_factory=dict)
    #: A status that an armed fault puts in place of the outcome.
    verdict: int | None = None

    def connections_on_offer(self) -> list[int]:
        """Return the OffloadHandles of the connections that an initiate offers to the driver below."""
        return [
            handle
            for handle, context, layer in zip(self.handles, self.contexts, self.layers, strict=True)
            if handle is not None and context is None and layer == Layer.TCP
        ]


@dataclass(slots=True, eq=False)
class NblRequest:
    """A net buffer list that an adapter has been given and has not completed."""

    operation: OperationRow
    binding: Binding
    offload_handle: int
    context: int | None
    #: A fault dropped or delayed its completion: the driver below does not have it any more.
    waylaid: bool = False
    #: It went down with a connection that is on offer. If it is not completed before the initiate fails, it
    #: comes back with its connection. Once the connection is offloaded, it is a send as any other.
    along: bool = False


@dataclass(slots=True, eq=False)
class PacketSend:
    """The net buffer lists of one NdisSendNetBufferLists that an adapter has not completed."""

    binding: Binding
    context: int | None
    started_at: float
    #: When the driver below this one completed some of them. Since then only this driver holds those.
    back_at: float = 0.0
    #: Lists that a fault dropped, or whose completion it dropped. The driver below will not complete them.
    waylaid: set[int] | None = None


@dataclass(slots=True, eq=False)
class OidRequest:
    """An OID request that a miniport has been given and has not completed."""

    binding: Binding
    request: dict[str, Any]
    started_at: float
    back_at: float = 0.0
    #: Whether it is a set request that enables the chimney.
    enabling: bool = False
    #: NDIS itself made it, to disable the chimney of a protocol that leaves.
    releasing: bool = False


@dataclass(slots=True)
class Injected:
    """What a fault does to the call in hand. :class:`ndisbus.core.faults.Faults` sets it."""

    #: The request fails with this status and is not passed down.
    status: int | None = None
    #: The call was delayed. Objects that it names may have gone since, without the driver's fault.
    late: bool = False


#: Serves a call of a driver. Arguments: the client, the message, the payload frames.
Handler = Callable[[Client, "Message", Sequence[bytes]], None]
Handlers = dict[str, Handler]


def status_of(values: list[Any] | None) -> int:
    """Return the status in an answer; NDIS_STATUS_FAILURE if there is no answer."""
    if not values or type(values[0]) is not int:
        return int(NdisStatus.FAILURE)
    return int(values[0])
