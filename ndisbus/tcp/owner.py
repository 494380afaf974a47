"""The loop around a machine, the same for a host's connections and a target's.

After each event of a connection (segments, an expiry, a call of the user) the connection has a *turn*: its
owner is told what happened, and what is owed to the remote end leaves. This module alone defines the order:

1. Data and acknowledgments are reported first, so that an ACK that leaves offers the space that is left.
2. Segments leave.
3. The end of the connection is reported last: nothing leaves after it.

A host gives a connection its turn at the end of a batch of frames, a target after each segment. In between,
:meth:`MachineOwner.deliver` sends the ACK that RFC 5681 4.2 wants for each out-of-order segment.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Final

from ndisbus.net.segment import Segment
from ndisbus.tcp import arrival, output
from ndisbus.tcp.events import EventKind, TcpEvent
from ndisbus.tcp.machine import TcpMachine

__all__ = ["MachineOwner", "ticks_of"]

_ROUNDING: Final = 1e-3
"""Part of a tick by which a deadline in seconds may be before the tick that it stands for."""

_LAST: Final = (EventKind.UPLOAD, EventKind.RESET, EventKind.CLOSED)
"""Events that are reported after all owed segments have left."""


def ticks_of(now: float, ticks_per_second: int) -> int:
    """Return a time in seconds as a reading of a machine's clock. Rounding never misses an expiry."""
    return int(now * ticks_per_second + _ROUNDING)


class MachineOwner(ABC):
    """The owner of a machine. ``machine`` is None while another layer serves the connection.

    ``tick`` is always ``ticks_of(now, ...)``. A batch computes it once.
    """

    __slots__ = ()

    machine: TcpMachine | None

    # -- what differs

    @abstractmethod
    def send_segments(self, segments: list[Segment], high: int, now: float) -> None:
        """Send at least one segment. ``high``: SndMax before they were made."""

    @abstractmethod
    def tell(self, event: TcpEvent, now: float) -> None:
        """Act on an event of the machine. May take the machine away, or call it."""

    @abstractmethod
    def settled(self, now: float) -> None:
        """Record when the machine must be called again (:meth:`machine_deadline`): a turn is over."""

    @property
    def may_send(self) -> bool:
        """Return whether segments leave in this turn."""
        return True

    # -- what does not

    def deliver(self, segment: Segment, tick: int, now: float) -> bool:
        """Give the machine a segment: see TcpMachine.receive. The caller must give it a turn later."""
        machine = self.machine
        assert machine is not None
        if machine.gaps is not None and machine.ack_clock.owed and self.may_send:
            # The segment before was out of order. Its ACK leaves first: the remote end counts duplicates.
            high = machine.delegated.snd_max
            segments = output.transmit(machine, tick)
            if segments:
                self.send_segments(segments, high, now)
        return arrival.receive(machine, segment, tick)

    def take_turn(self, tick: int, now: float) -> None:
        """Report what happened and send what is owed, until nothing is left of either."""
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
                high = machine.delegated.snd_max
                segments = output.transmit(machine, tick)
                if segments:
                    self.send_segments(segments, high, now)
            if not events:
                break
            self.tell(events.popleft(), now)
            if self.machine is not machine:
                return
        self.settled(now)

    def machine_deadline(self) -> float | None:
        """Return when the machine's on_timer() is due, in seconds; None: never."""
        machine = self.machine
        if machine is None:
            return None
        due = machine.next_deadline()
        return None if due is None else due / machine.settings.parameters.ticks_per_second
