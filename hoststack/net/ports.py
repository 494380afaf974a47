"""Which local port a new connection or listener gets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from hoststack.net.errors import AddressInUse
from hoststack.net.isn import PortPicker
from ndisbus.ddi.tcp_enums import TcpOffloadConnectionState as State
from ndisbus.net.peek import connection_key

if TYPE_CHECKING:
    from hoststack.net.listener import Listener
    from hoststack.net.socket import Socket
    from ndisbus.randomness import Randomness

__all__ = ["Ports"]

_TIME_WAIT: Final = State.TcpConnectionTimeWait


class Ports:
    """Chooses ports that ``sockets`` and ``listeners`` leave free. ``picker``: the order to try them in."""

    __slots__ = ("_listeners", "_sockets", "picker")

    def __init__(
        self,
        sockets: Mapping[bytes, Socket],
        listeners: Mapping[tuple[bytes, int], Listener],
        rng: Randomness,
    ) -> None:
        self._sockets = sockets
        self._listeners = listeners
        self.picker = PortPicker(rng)

    def for_connection(self, source: bytes, own_port: int, destination: bytes, port: int) -> bytes:
        """Return the key of a new connection; an own port of 0 is chosen here. Raises AddressInUse.

        The key may be that of a connection in TIME_WAIT that gives way to the new one.
        """
        sockets = self._sockets
        if own_port:
            key = connection_key(destination, source, port, own_port)
            if key in sockets and not self._may_reuse(key):
                raise AddressInUse(f"port {own_port}: already connected to this remote address and port")
            return key
        taken = {p for _, p in self._listeners}

        def free(own: int) -> bool:
            return own not in taken and connection_key(destination, source, port, own) not in sockets

        def waiting(own: int) -> bool:
            return own not in taken and self._may_reuse(connection_key(destination, source, port, own))

        seed = source + destination + port.to_bytes(2, "big")
        chosen = self.picker.pick(seed, free) or self.picker.pick(seed, waiting)
        if chosen is None:
            raise AddressInUse(f"all {len(self.picker.ports)} ephemeral ports are in use")
        return connection_key(destination, source, port, chosen)

    def for_listener(self) -> int:
        """Return a port without a listener or a connection. Raises AddressInUse."""
        used = {p for _, p in self._listeners} | {s.tcb.const.local_port for s in self._sockets.values()}
        found = self.picker.pick(b"", lambda p: p not in used)
        if found is None:
            raise AddressInUse(f"no port to listen on: all {len(self.picker.ports)} are in use")
        return found

    def _may_reuse(self, key: bytes) -> bool:
        """Whether a connection in TIME_WAIT may give way to ours: timestamps tell them apart (RFC 6191)."""
        old = self._sockets.get(key)
        machine = None if old is None else old.machine
        return machine is not None and machine.state is _TIME_WAIT and machine.stamped
