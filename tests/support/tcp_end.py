"""One end of a simulated connection: the application, and the machine that it speaks through."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Final, Protocol

from ndisbus.net.segment import SYN, Segment
from ndisbus.state.path import PathOffloadStateConst
from ndisbus.tcp.ending import answer_closed
from ndisbus.tcp.events import EventKind, TcpEvent
from ndisbus.tcp.machine import TcpMachine
from tests.support.tcp_observer import Observer, Violation
from tests.support.tcp_plan import SECOND, EndPlan, settings_of

__all__ = ["End", "Net"]

_FATAL: Final = (EventKind.RESET, EventKind.REFUSED, EventKind.TIMED_OUT)


class Net(Protocol):
    """What an end needs of the world around it."""

    now: int

    def post(self, at: int, what: Callable[..., None], *args: object) -> None:
        """Call ``what`` at that time."""

    def send(self, end: End, segment: Segment) -> None:
        """Put a segment on its way to the other end."""

    def moved(self) -> None:
        """Bytes got further."""

    def ended(self, end: End) -> None:
        """This end's connection is gone."""

    def tell(self, end: End, what: str) -> None:
        """For a trace."""


class End:
    """An application and its connection. ``outgoing``: what it sends; ``expected``: what it is to receive."""

    def __init__(
        self,
        net: Net,
        name: str,
        plan: EndPlan,
        path: PathOffloadStateConst,
        ports: tuple[int, int],
        outgoing: bytes,
        expected: bytes,
        rng: Random,
    ) -> None:
        self.net = net
        self.name = name
        self.plan = plan
        self.path = path
        self.ports = ports
        self.outgoing = outgoing
        self.expected = expected
        self.rng = rng
        self.observer = Observer(name, outgoing, plan.mtu, 40 if len(path.source_address) == 4 else 60)
        self.settings = (settings_of(plan, offloaded=False), settings_of(plan, offloaded=True))
        self.origin = plan.origin
        self.machine: TcpMachine | None = None
        self.on_syn: Callable[[Segment], None] | None = None
        """Who listens, until there is a machine."""
        self.on_upload: Callable[[], None] = lambda: None
        self.away: list[Segment] | None = None
        """While the machine is torn out: the segments that arrived meanwhile."""
        self.gone = False
        self.error: str | None = None
        self.heard_fin = False
        self.got_fin = False
        self.read = 0
        self.announced = 0
        self.sent = 0
        self.written = 0
        self.hand_overs = 0
        self.uploads = 0
        self.largest_window = plan.receive_window
        self.connected = False
        self._blocked = False
        self.shut = False
        self._read_posted = False
        self._write_posted = False
        self._stalls = sorted(plan.stalls)
        self._stalled_until = 0
        self._timer_at = -1
        self._timers_now = 0

    # -- time

    def clock(self) -> int:
        """This end's clock, in its ticks."""
        return self.origin + self.net.now * self.plan.ticks_per_second // SECOND

    def _when(self, tick: int) -> int:
        """The first time at which the clock shows ``tick``."""
        return -(-(tick - self.origin) * SECOND // self.plan.ticks_per_second)

    # -- the wire

    def arrive(self, segment: Segment) -> None:
        """A segment from the other end."""
        if self.away is not None:
            self.away.append(segment)
            return
        machine = self.machine
        if machine is None or self.gone:
            if machine is None and segment.flags & SYN and self.on_syn is not None:
                self.on_syn(segment)
                return
            answer = answer_closed(segment)
            if answer is not None:
                self.net.send(self, answer)
            return
        self._feed(machine, segment)
        self.pump()

    def _feed(self, machine: TcpMachine, segment: Segment) -> None:
        self.observer.arrives(segment)
        frame = bytearray(segment.payload)
        segment.payload = memoryview(frame)
        machine.receive(segment, self.clock())
        # The frame's buffer is used again: who kept a view into it, shows.
        frame[:] = b"\xee" * len(frame)

    def pump(self) -> None:
        """Take everything that the machine has to give now."""
        for _ in range(1000):
            machine = self.machine
            if machine is None:
                return
            segments = machine.transmit(self.clock())
            for segment in segments:
                self.send(segment)
            if machine.events:
                self.take_events(machine)
            elif not segments:
                break
        else:
            raise Violation(f"{self.name}: the machine sends and tells without end: {self.machine!r}")
        if machine.available > self.largest_window:
            raise Violation(
                f"{self.name}: {machine.available} bytes unread, the window is {self.largest_window}"
            )
        self._set_timer(machine)

    def send(self, segment: Segment) -> None:
        if (segment.source_port, segment.destination_port) != self.ports:
            raise Violation(f"{self.name}: wrong ports: {segment!r}")
        self.observer.sends(segment)
        self.net.send(self, segment)

    def _set_timer(self, machine: TcpMachine) -> None:
        deadline = machine.next_deadline()
        if deadline is None or self.gone:
            self._timer_at = -1
            return
        at = max(self._when(deadline), self.net.now)
        if self.plan.lateness:
            at += self.rng.randrange(self.plan.lateness)
        if at != self._timer_at:
            self._timer_at = at
            self.net.post(at, self._timer)

    def _timer(self) -> None:
        machine = self.machine
        if machine is None or self._timer_at != self.net.now:
            return
        self._timer_at = -1
        before = self.clock()
        machine.on_timer(before)
        self.pump()
        if self._timer_at == self.net.now:
            self._timers_now += 1
            if self._timers_now > 20:
                raise Violation(f"{self.name}: timers of the same instant without end: {machine!r}")
        else:
            self._timers_now = 0

    # -- what the machine tells

    def take_events(self, machine: TcpMachine) -> None:
        while machine.events:
            self._event(machine, machine.events.popleft())

    def _event(self, machine: TcpMachine, event: TcpEvent) -> None:
        kind = event.kind
        self.net.tell(self, repr(event))
        if kind is EventKind.DATA:
            self.announced += event.value
            self.net.moved()
            self.post_read()
        elif kind is EventKind.SENT:
            self.sent += event.value
            self.net.moved()
            if self._blocked:
                self._blocked = False
                self.post_write(0)
        elif kind is EventKind.CONNECTED:
            self.connected = True
            self.post_write(0)
        elif kind is EventKind.FIN:
            self.heard_fin = True
            self.post_read()
        elif kind is EventKind.UPLOAD:
            self.uploads += 1
            self.net.post(self.net.now, self.on_upload)
        elif kind in _FATAL:
            self.error = event.text or kind.value
        elif kind is EventKind.CLOSED:
            self.error = self.error or machine.error
            self.over(machine)

    def over(self, machine: TcpMachine) -> None:
        if not self.gone:
            self.gone = True
            self._take(machine.read())
            self.got_fin = self.got_fin or self.heard_fin
            self.net.ended(self)

    # -- the application

    def post_write(self, delay: int) -> None:
        if not self._write_posted and not self.shut:
            self._write_posted = True
            self.net.post(self.net.now + delay, self._write)

    def _write(self) -> None:
        self._write_posted = False
        machine = self.machine
        if machine is None or self.gone or not self.connected:
            return  # take_over() goes on
        plan = self.plan
        while self.written < plan.size:
            if machine.queued >= plan.write_limit:
                self._blocked = True
                break
            size = self.rng.randint(1, plan.write_chunk)
            piece = self.outgoing[self.written : self.written + size]
            machine.send(piece)
            self.written += len(piece)
            if plan.write_interval and self.written < plan.size:
                self.post_write(plan.write_interval)
                break
        if self.written == plan.size and not self.shut:
            if plan.close == "at once" or (plan.close == "after theirs" and self.got_fin):
                self._shutdown()
            elif plan.close == "later":
                self.net.post(self.net.now + plan.close_delay, self._shutdown)
        self.pump()

    def _shutdown(self) -> None:
        if self.shut or self.gone:
            return
        self.shut = True
        self.net.tell(self, "shutdown")
        self.observer.finish()
        if self.machine is not None:
            self.machine.shutdown()
            self.pump()

    def post_read(self) -> None:
        if not self._read_posted:
            self._read_posted = True
            self.net.post(max(self.net.now + self.plan.read_interval, self._stalled_until), self._read)

    def _read(self) -> None:
        self._read_posted = False
        machine = self.machine
        if machine is None or self.gone:
            return
        if self._stalled_until > self.net.now:
            self.post_read()
            return
        self._take(machine.read(self.plan.read_chunk or None))
        if self._stalls and self.read >= self._stalls[0][0]:
            self._stalled_until = self.net.now + self._stalls.pop(0)[1]
        if machine.available:
            self.post_read()
        elif self.heard_fin and not self.got_fin:
            if not machine.at_end:
                raise Violation(f"{self.name}: all is read up to the FIN, but it is not the end: {machine!r}")
            self.got_fin = True
            if self.plan.close == "after theirs" and self.written == self.plan.size:
                self._shutdown()
        self.pump()

    def _take(self, data: bytes) -> None:
        if data != self.expected[self.read : self.read + len(data)]:
            raise Violation(f"{self.name}: wrong bytes were received at {self.read}")
        self.read += len(data)

    def abort(self) -> None:
        """The application gives up."""
        if self.gone:
            return
        if self.machine is not None:
            self.machine.abort()
        elif self.away is not None:
            self.net.post(self.net.now + SECOND, self.abort)
        self.pump()
