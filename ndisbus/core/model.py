"""What NDIS knows: clients, adapters, bindings, outstanding requests. Data, and what they count."""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ndisbus.ddi.status import NdisStatus

if TYPE_CHECKING:
    from ndisbus.ddi.call_rows import OperationRow
    from ndisbus.messages.codec import Message

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
    """Limits, in seconds."""

    #: How often a miniport is asked by MiniportCheckForHangEx.
    check_interval: float = 0.25
    #: How long it may owe the answer before it is a dead adapter.
    hang_limit: float = 2.0
    #: How long a request may be outstanding before the driver that holds it is taken for hung.
    request_limit: float = 10.0
    #: How long a protocol may take to close a binding that it was told to unbind.
    unbind_limit: float = 5.0
    #: How long the second terminate of objects whose first one failed may be wanting (R-DIS-43).
    lost_limit: float = 2.0
    #: Seed of everything random (faults with a probability).
    seed: int = 0


class AdapterState(enum.Enum):
    """Life of an adapter."""

    INITIALIZING = "initializing"
    UP = "up"
    CLOSING = "closing"
    DEAD = "dead"


class BindingState(enum.Enum):
    """Life of a binding. In ABANDONED its protocol is dead and NDIS cleans up after it."""

    OPEN = "open"
    UNBINDING = "unbinding"
    CLOSING = "closing"
    ABANDONED = "abandoned"
    CLOSED = "closed"


@dataclass(slots=True, frozen=True)
class BugCheck:
    """A report: which driver did what, in which parameter of which call, against which rule."""

    driver: str
    pid: int
    epoch: int
    call: str
    parameter: str
    rule: str
    reason: str
    at: float

    def to_wire(self) -> dict[str, Any]:
        """As a map, for ``closed`` messages and ``ndisbus ps``."""
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


#: Called with the values of a ``return``, or with None when the client is gone.
Continuation = Callable[[list[Any] | None], None]


@dataclass(slots=True, eq=False)
class Pending:
    """A call of NDIS that the client has not answered."""

    name: str
    then: Continuation


@dataclass(slots=True, eq=False)
class Client:
    """One registered process (one epoch of one driver)."""

    key: Any
    name: str
    pid: int
    space: int
    epoch: int
    info: dict[str, Any]
    heard_at: float
    closed: bool = False
    next_call: int = 0
    pending: dict[int, Pending] = field(default_factory=dict)
    #: Handles NDIS gave it on registration; None while that edge is not registered.
    miniport_driver: int | None = None
    miniport_context: int | None = None
    protocol_driver: int | None = None
    #: The protocol edge's handle from the moment its registration begins (ProtocolSetOptions).
    protocol_handle: int | None = None
    protocol_context: int | None = None
    #: Which characteristics it registered: "provider-generic", "provider-tcp", "client-generic", ...
    handlers: set[str] = field(default_factory=set)
    #: Adapter names its protocol edge binds to, or "auto".
    bind: tuple[str, ...] | str = ()
    #: The adapter that "auto" stands for; kept so that the client gets the same one again.
    assigned: str | None = None
    #: Epoch of the intermediate driver that was asked for that adapter; it is asked once.
    asked_epoch: int = 0
    binding_now: set[str] = field(default_factory=set)
    #: Adapters (handles) that it closed of its own accord; they are not offered to it again.
    given_up: set[int] = field(default_factory=set)
    adapters: list[Adapter] = field(default_factory=list)
    bindings: list[Binding] = field(default_factory=list)
    #: Bindings that NDIS closed; the driver may still close them once. The value is the binding's context
    #: if it was closed by force: what comes late through it fails. Otherwise it was given up, and is None.
    closed_handles: dict[int, int | None] = field(default_factory=dict)
    #: All of its bindings that are closed or closing: NDIS has taken back what was indicated through them.
    past_bindings: set[int] = field(default_factory=set)
    watched: bool = False

    @property
    def is_intermediate(self) -> bool:
        """Whether it has both edges."""
        return self.miniport_driver is not None and self.protocol_driver is not None

    def forced(self, handle: int | None) -> int | None:
        """ProtocolBindingContext of a binding that was closed by force; None for any other handle."""
        return self.closed_handles.get(handle) if self.closed_handles and handle is not None else None

    def __str__(self) -> str:
        return f"{self.name} (pid {self.pid}, epoch {self.epoch})"


@dataclass(slots=True, eq=False)
class Adapter:
    """One adapter instance of a miniport driver."""

    name: str
    handle: int
    driver: Client
    virtual: bool
    state: AdapterState = AdapterState.INITIALIZING
    context: int | None = None
    #: NDIS_TCP_CONNECTION_OFFLOAD as reported, and as enabled now; None: no chimney.
    capabilities: dict[str, Any] | None = None
    config: dict[str, Any] | None = None
    parameters: dict[str, Any] | None = None
    #: What protocols are told of it when they are bound: CurrentMacAddress, MtuSize, link speeds.
    facts: dict[str, Any] = field(default_factory=dict)
    chimney_owner: Binding | None = None
    paused: bool = False
    bindings: list[Binding] = field(default_factory=list)
    requests: dict[int, Request] = field(default_factory=dict)
    nbls: dict[int, NblRequest] = field(default_factory=dict)
    #: The ordinary data path: lists given to the driver to send, and lists that it indicated, with how many
    #: bindings have not returned them.
    sends: dict[int, PacketSend] = field(default_factory=dict)
    indicated: dict[int, int] = field(default_factory=dict)
    oids: dict[int, OidRequest] = field(default_factory=dict)
    #: Called when the last binding is closed; set while the adapter is to be halted.
    on_unbound: Callable[[], None] | None = None
    on_halted: Callable[[], None] | None = None
    completed: int = 0

    @property
    def alive(self) -> bool:
        """Whether requests may still be passed to its driver."""
        return self.state in (AdapterState.UP, AdapterState.CLOSING) and not self.driver.closed


@dataclass(slots=True, eq=False)
class Binding:
    """A protocol's binding to an adapter. Its handle is also the SourceHandle of what it passes down."""

    handle: int
    protocol: Client
    adapter: Adapter
    context: int
    state: BindingState = BindingState.OPEN
    #: What is offloaded through it: OffloadHandle -> (layer, the driver below's PVOID).
    objects: dict[int, tuple[int, int]] = field(default_factory=dict)
    #: OffloadHandles that pending initiates offer, and that pending terminates name.
    offloading: set[int | None] = field(default_factory=set)
    terminating: set[int | None] = field(default_factory=set)
    #: Objects whose terminate failed: known for their events and for one more terminate (R-DIS-43).
    lost: dict[int, tuple[int, int]] = field(default_factory=dict)
    #: Those of them that NDIS terminated itself in the end.
    swept: set[int | None] = field(default_factory=set)
    #: Requests of this binding that are not completed: of all kinds, and the block lists among them.
    outstanding: int = 0
    lists: int = 0
    #: The net buffer lists among them, by the OffloadHandle of their connection.
    io: dict[int, set[int]] = field(default_factory=dict)
    #: Lists that were indicated to its protocol and are not returned.
    received: dict[int, None] = field(default_factory=dict)
    #: The same of the chimney: lists with data of connections. False: the indication is not answered yet.
    kept: dict[int, bool] = field(default_factory=dict)
    #: Set from when the binding begins to close: see whether it can. Whatever it waits for may come back
    #: through any part of the core, so the books lead to :class:`ndisbus.core.bindings.Bindings` themselves.
    on_return: Callable[[], None] | None = None

    def came_back(self) -> None:
        """Something that was outstanding through this binding is completed."""
        if self.on_return is not None:
            self.on_return()


@dataclass(slots=True, eq=False)
class Request:
    """A state-manipulation request that an adapter has been given and has not completed.

    Holds what NDIS lent, to compare it with what comes back.
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
    #: When the driver below this one gave the list back; it has the request to itself since then.
    back_at: float = 0.0
    #: Set for requests that NDIS itself made.
    then: Callable[[], None] | None = None
    #: Send data that goes along with new offloads: OffloadHandle -> net buffer lists.
    chains: dict[int, list[int]] = field(default_factory=dict)
    #: A status that an armed fault puts in the place of the outcome.
    verdict: int | None = None


@dataclass(slots=True, eq=False)
class NblRequest:
    """A net buffer list that an adapter has been given and has not completed."""

    operation: OperationRow
    binding: Binding
    offload_handle: int
    context: int | None
    #: A fault took its completion away, or holds it back: the driver below does not have it any more.
    waylaid: bool = False
    #: It went down with its connection, and comes back with it if it is not completed before.
    along: bool = False


@dataclass(slots=True, eq=False)
class PacketSend:
    """The net buffer lists of one NdisSendNetBufferLists that an adapter has not completed."""

    binding: Binding
    context: int | None
    started_at: float
    #: When the driver below this one completed some of them; it has those to itself since then.
    back_at: float = 0.0
    #: Lists that a fault took away, or the completion of: the driver below will not complete them.
    waylaid: set[int] | None = None


@dataclass(slots=True, eq=False)
class OidRequest:
    """An OID request that a miniport has been given and has not completed."""

    binding: Binding
    request: dict[str, Any]
    started_at: float
    back_at: float = 0.0
    #: Whether it is a set that enables the chimney.
    enabling: bool = False


@dataclass(slots=True)
class Injected:
    """What a fault does to the call that is being handled. :class:`ndisbus.core.faults.Faults` sets it."""

    #: The request fails with this status before it is passed down.
    status: int | None = None
    #: The call was held back: what it names may be gone, which the driver that made it could not know.
    late: bool = False


#: Serves a call of a driver: the client, the message, the payload frames.
Handler = Callable[[Client, "Message", Sequence[bytes]], None]
Handlers = dict[str, Handler]


def status_of(values: list[Any] | None) -> int:
    """The status in an answer; NDIS_STATUS_FAILURE if there is none."""
    if not values or type(values[0]) is not int:
        return int(NdisStatus.FAILURE)
    return int(values[0])
