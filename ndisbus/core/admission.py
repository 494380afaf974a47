"""Hello: gives a process an address space and an epoch. Refuses messages outside an open epoch."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, Final

from ndisbus.core.model import Client, CoreConfig
from ndisbus.core.violation import NAME_LIMIT
from ndisbus.errors import RemoteProtocolError, value_text
from ndisbus.lists.heap import space_of_epoch
from ndisbus.messages.codec import PROTOCOL_VERSION
from ndisbus.messages.parts import PARTS_KEY

if TYPE_CHECKING:
    from ndisbus.core.clock import Clock
    from ndisbus.core.epochs import Epochs
    from ndisbus.core.outbound import Outbound
    from ndisbus.core.registry import Registry
    from ndisbus.messages.codec import Message

__all__ = ["MAX_CLOSED", "Admission"]

#: Legal names of drivers. A name is part of file names, command lines and tables.
_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
#: How many closed epochs are remembered.
MAX_CLOSED: Final = 64


class Admission:
    """Handles messages of connections that have no open epoch."""

    __slots__ = ("clock", "config", "epochs", "out", "ready_extra", "registry", "stale")

    def __init__(
        self, config: CoreConfig, clock: Clock, out: Outbound, registry: Registry, epochs: Epochs
    ) -> None:
        self.config = config
        self.clock = clock
        self.out = out
        self.registry = registry
        self.epochs = epochs
        #: Members that the runtime adds to a ready message, such as the bus's own pid.
        self.ready_extra: dict[str, Any] = {}
        #: Number of messages from closed epochs.
        self.stale = 0

    def receive(self, key: Any, client: Client | None, message: Message) -> None:
        """Admit a connection that says hello; refuse anything else. ``client``: its closed epoch, if any."""
        name, call_id = message[0], message[1]
        if name == "hello":
            try:
                self._hello(key, message)
            except RemoteProtocolError as e:
                self.out.refuse(key, call_id, name, str(e))
        elif client is None:
            self.out.refuse(key, call_id, name, "say hello first")
        else:
            self.stale += 1
            self.out.emit("stale", driver=client.name, epoch=client.epoch, call=name)
            reason = f"epoch {client.epoch} of {client.name} is closed; say hello again"
            self.out.refuse(key, call_id, name, reason)

    def _hello(self, key: Any, message: Message) -> None:
        name, pid, identity = _identity(message[2])
        registry = self.registry
        other = registry.client_named(name)
        if other is not None:
            raise RemoteProtocolError(
                f"identity.Name: a driver called {value_text(name)} is here already (pid {other.pid}); "
                "choose another name"
            )
        self._forget_closed()
        registry.cut_off.pop(name, None)
        epoch = self.epochs.next_registration(identity.get("LastEpoch", 0), registry.by_space)
        space = space_of_epoch(epoch)
        client = Client(key, name, pid, space, epoch, identity, self.clock.now)
        client.joins_parts = identity.get(PARTS_KEY) is True
        registry.clients[key] = client
        registry.by_space[space] = client
        self.out.emit("hello", driver=name, pid=pid, epoch=client.epoch)
        c = self.config
        ready = {
            "Version": PROTOCOL_VERSION,
            "AddressSpace": space,
            "Epoch": client.epoch,
            "CheckInterval": c.check_interval,
            "HangLimit": c.hang_limit,
            "Seed": c.seed,
            **self.ready_extra,
        }
        if client.joins_parts:
            ready[PARTS_KEY] = True
        self.out.send(client, ["ready", message[1], [ready]])

    def _forget_closed(self) -> None:
        """Forget all but the latest closed epochs. Late messages of the kept ones are counted as stale."""
        registry = self.registry
        closed = [c for c in registry.by_space.values() if c.closed and not c.bindings]
        for c in closed[:-MAX_CLOSED]:
            del registry.by_space[c.space]
            if registry.clients.get(c.key) is c:
                del registry.clients[c.key]


def _identity(args: list[Any]) -> tuple[str, int, dict[str, Any]]:
    """Return name, pid and identity map of a hello. Raises :class:`RemoteProtocolError` if one is illegal."""
    if len(args) != 2 or type(args[1]) is not dict:
        raise RemoteProtocolError("hello takes [protocol version, identity map]")
    if args[0] != PROTOCOL_VERSION:
        raise RemoteProtocolError(
            f"protocol version {value_text(args[0])}; this bus needs version {PROTOCOL_VERSION}"
        )
    identity = args[1]
    name, pid = identity.get("Name"), identity.get("Pid", 0)
    if type(name) is not str or len(name) > NAME_LIMIT or _NAME.fullmatch(name) is None:
        raise RemoteProtocolError(
            f"identity.Name: 1 to {NAME_LIMIT} characters of A-Z a-z 0-9 . _ - expected, "
            "the first neither '.' nor '-'"
        )
    if type(pid) is not int or pid < 0:
        raise RemoteProtocolError("identity.Pid: a process id expected")
    created = identity.get("CreateTime", 0.0)
    # Encoders of some languages write a float without a fraction as an integer.
    if type(created) not in (int, float) or not 0 <= created < math.inf:
        raise RemoteProtocolError("identity.CreateTime: seconds since 1970 (float) expected")
    last = identity.get("LastEpoch", 0)
    if type(last) is not int or last < 0:
        raise RemoteProtocolError("identity.LastEpoch: the number of an epoch expected")
    if type(identity.get("Host", "")) is not str:
        raise RemoteProtocolError("identity.Host: a string expected")
    return name, pid, identity
