"""The turns of a stack's sockets: those that something happened to, and those that wait for the link.

A socket whose link takes no more frames for its next hop keeps what it has to send, and its timers stand
still: nothing is retransmitted that did not leave. It has its turn when the link takes frames again.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from ndisbus.ddi.tcp_enums import TcpOffloadConnectionState
from ndisbus.wire.waiting import WaitingSenders

if TYPE_CHECKING:
    from hoststack.net.clock import Clock
    from hoststack.net.interface import Interface
    from hoststack.net.socket import Socket

__all__ = ["Turns"]

#: Most turns of one call, so that a crowd of sockets does not keep the stack from what arrives.
TURNS: Final = 512
_CLOSED: Final = TcpOffloadConnectionState.TcpConnectionClosed


class Turns:
    """See the module. ``touched``: sockets that have their turn at the end of the batch."""

    __slots__ = ("_clock", "_waiting", "touched")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.touched: deque[Socket] = deque()
        self._waiting: dict[Interface, WaitingSenders[Socket]] = {}

    def touch(self, socket: Socket) -> None:
        """Give a socket its turn at the end of the batch."""
        if not socket.touched:
            socket.touched = True
            self.touched.append(socket)

    def has_room(self, socket: Socket) -> bool:
        """Return whether the link takes frames for a socket's next hop. If not, the socket waits for it.

        The last segment of a connection is not kept: it leaves in any case.
        """
        hop = socket.path_entry.hop
        if hop.interface.takes(hop.mac) or socket.state is _CLOSED:
            return True
        socket.waiting = True
        self._waiting.setdefault(hop.interface, WaitingSenders()).add(hop.mac, socket)
        return False

    @property
    def waiting(self) -> int:
        """Number of sockets that wait for a link."""
        return sum(map(len, self._waiting.values()))

    @property
    def due(self) -> bool:
        """Whether a socket could have its turn now."""
        return bool(self.touched) or any(w.ready(i.takes) for i, w in self._waiting.items())

    def settle(self, now: float) -> None:
        """Give sockets their turns: first those that have waited, then those that were touched."""
        tick = self._clock.tick
        for interface, waiting in list(self._waiting.items()):
            for socket in waiting.take(interface.takes, TURNS):
                socket.waiting = False
                _go_on(socket, tick, now)
            if not waiting:
                del self._waiting[interface]
        touched = self.touched
        for _ in range(TURNS):
            if not touched:
                return
            socket = touched.popleft()
            socket.touched = False
            socket.take_turn(tick, now)


def _go_on(socket: Socket, tick: int, now: float) -> None:
    """Give a socket the turn that it has waited for, with the timers that expired meanwhile."""
    machine = socket.machine
    if machine is not None:
        due = machine.next_deadline()
        if due is not None and due <= tick:
            machine.on_timer(tick)
        socket.take_turn(tick, now)
