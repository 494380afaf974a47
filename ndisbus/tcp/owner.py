"""The loop around a machine, the same for a host's connections and a target's.

After anything that happens to a connection (segments, an expiry, a call of the user) it has a *turn*: its
owner is told what happened, and what is owed to the remote end leaves. The order is written here once:

1. Data and acknowledgments are told first, so that an ACK that leaves shows the room that is left.
2. Segments leave.
3. What ends the connection is told last: nothing leaves after it.

A host gives a connection its turn at the end of a batch of frames, a target after each segment. In between,
:meth:`MachineOwner.deliver` sends the ACK that RFC 5681 4.2 wants for each segment out of order.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Final

from ndisbus.net.segment import Segment
from ndisbus.tcp.events import EventKind, TcpEvent
from ndisbus.tcp.machine import TcpMachine

__all__ = ["MachineOwner", "ticks_of"]

_ROUNDING: Final = 1e-3
"""Part of a tick by which a deadline in seconds may fall short of the tick that it stands for."""

_LAST: Final = (EventKind.UPLOAD, EventKind.RESET, EventKind.CLOSED)
"""Told after every segment that is owed has left."""


def ticks_of(now: float, ticks_per_second: int) -> int:
    """A time in seconds as a reading of a machine's clock. Rounding never hides an expiry."""
    return int(now * ticks_per_second + _ROUNDING)


class MachineOwner(ABC):
    """What has a machine. ``machine`` is None while another layer serves the connection.

    ``tick`` is always ``ticks_of(now, ...)``: a batch works it out once.
    """

    __slots__ = ()

    machine: TcpMachine | None

    # -- what differs

    @abstractmethod
    def send_segments(self, segments: list[Segment], high: int, now: float) -> None:
        """Send segments, of which there is one at least. ``high``: SndMax from before they were made."""

    @abstractmethod
    def tell(self, event: TcpEvent, now: float) -> None:
        """Act on an event of the machine. May take the machine away, or call it."""

    @abstractmethod
    def settled(self, now: float) -> None:
        """A turn is over: note down when the machine wants to be called again (:meth:`machine_deadline`)."""

    @property
    def may_send(self) -> bool:
        """Whether segments leave in this turn."""
        return True

    # -- what does not

    def deliver(self, segment: Segment, tick: int, now: float) -> None:
        """Give the machine a segment. A turn has to follow, sooner or later."""
        machine = self.machine
        assert machine is not None
        if machine.ack_clock.owed and machine.gaps is not None and self.may_send:
            # The one before was out of order: its ACK leaves first, for the remote end counts duplicates.
            self._transmit(machine, tick, now)
        machine.receive(segment, tick)

    def take_turn(self, tick: int, now: float) -> None:
        """Tell what happened and send what is owed, until there is nothing left of either."""
        machine = self.machine
        if machine is None:
            return
        events = machine.events
        while True:
            while events and events[0].kind not in _LAST:
                self.tell(events.popleft(), now)
                if self.machine is not machine:
                    return
            if self.may_send:
                self._transmit(machine, tick, now)
            if not events:
                break
            self.tell(events.popleft(), now)
            if self.machine is not machine:
                return
        self.settled(now)

    def _transmit(self, machine: TcpMachine, tick: int, now: float) -> None:
        high = machine.delegated.snd_max
        segments = machine.transmit(tick)
        if segments:
            self.send_segments(segments, high, now)

    def machine_deadline(self) -> float | None:
        """When the machine's on_timer() has something to do, in seconds; None: never."""
        machine = self.machine
        if machine is None:
            return None
        due = machine.next_deadline()
        return None if due is None else due / machine.settings.parameters.ticks_per_second
