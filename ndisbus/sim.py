"""The simulation: NDIS and any number of drivers in one process, on virtual time.

It runs the same core and the same ports as the bus, with the same bytes between them: every packet goes
through the codec. A seed decides the order in which queues are served, and how long packets take if they take
time. Time jumps to what is due next. A call kills, stalls or restarts a process, now or between two later
packets. The seed determines the whole run.

    sim = Simulation(seed=1)
    sim.start("target", lambda: TargetDriver(...))
    sim.run_until(lambda: ...)
    sim.kill("target")
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import chain
from typing import Any, Final

from ndisbus.core import CoreConfig, NdisCore
from ndisbus.driver.base import Driver
from ndisbus.driver.port import DriverPort, Outgoing
from ndisbus.errors import ChimneyError, DecodeError
from ndisbus.hop import Hop
from ndisbus.messages.codec import ROOM, Message, Packer, decode_packet, encode_packet
from ndisbus.messages.packet import packets
from ndisbus.timer_queue import TimerQueue

__all__ = ["SimulatedProcess", "Simulation", "SimulationStuck"]

#: Virtual seconds from the death of a local process until the bus notices it (as by pidfd).
NOTICE: Final = 0.001


class SimulationStuck(ChimneyError):
    """The condition does not hold, and nothing is due any more or the virtual deadline has passed."""


class SimulatedProcess:
    """One driver process: its port, and the two hops between it and the bus."""

    def __init__(self, sim: Simulation, name: str, make: Callable[[], Driver], pid: int) -> None:
        self.sim = sim
        self.name = name
        self.make = make
        self.pid = pid
        self.key = f"{name}#{pid}"
        self.driver = make()
        self.port = DriverPort(self.driver, {"Name": name, "Pid": pid, "Kind": "simulated"})
        self.to_bus = sim.hop(f"{self.key} to the bus")
        self.to_driver = sim.hop(f"the bus to {self.key}")
        self.alive = True
        self.stalled = False
        #: It has said goodbye, and ends when the bus has answered.
        self.leaving = False

    def flush(self) -> None:
        """Move what the port wants to send into the queue."""
        for head, *frames in self.sim.packets(self.port.drain(), self.port.divides):
            self.to_bus.put(head, frames, self.sim.now)

    def deliver(self) -> None:
        """Let the driver handle the oldest packet."""
        self.sim.handled += 1
        head, frames = self.to_driver.take()
        for message, payload in decode_packet([head, *frames], ROOM):
            if message[0] == "refused":
                self.sim.refusals.append((self.name, message[2][0]["Reason"]))
            self.port.receive(message, payload, self.sim.now)
        if self.port.closed_info is not None and not self.port.attached:
            info = self.port.closed_info
            self.sim.closings.append((self.name, str(info.get("Reason"))))
            if self.leaving:
                self.end()
                return
            self.port.hello()
        if not self.sim.shuffle:
            self.timer()
        self.flush()

    def end(self) -> None:
        """Be dead: what was sent is delivered, what was sent to it is lost."""
        self.alive = False
        self.to_driver.clear()

    def timer(self) -> None:
        """Run the driver's timers if they are due."""
        if self.timer_due():
            self.port.on_timer(self.sim.now)
            self.flush()

    def timer_due(self) -> bool:
        """Return whether one of the driver's timers is due."""
        deadline = self.port.next_deadline()
        return deadline is not None and deadline <= self.sim.now


class Simulation:
    """A bus and its processes on virtual time.

    With ``shuffle`` every message is a packet of its own, and any queue or due timer may be next. Without it,
    queues are served in a fixed order, and packets and timers behave as in real processes: messages that are
    sent together travel in one packet, and timers run after each packet.

    ``delay``: the longest time in seconds that a packet takes from a process to the bus, or back. Each
    direction of each process has its own (:class:`ndisbus.hop.Hop`).
    """

    def __init__(
        self,
        seed: int = 0,
        config: CoreConfig | None = None,
        *,
        shuffle: bool = True,
        delay: float = 0.0,
    ) -> None:
        self.seed = seed
        self.delay = delay
        self.rng = random.Random(seed)
        self.config = config or CoreConfig(seed=seed)
        self.shuffle = shuffle
        self.now = 0.0
        self.trace_events: list[dict[str, Any]] = []
        self.refusals: list[tuple[str, str]] = []
        self.closings: list[tuple[str, str]] = []
        self.processes: dict[str, SimulatedProcess] = {}
        #: Packets that the bus or a process has handled.
        self.handled = 0
        self._between: TimerQueue[Callable[[], None]] = TimerQueue()
        self._pids = 100
        self._events: TimerQueue[Callable[[], None]] = TimerQueue()
        self.core: NdisCore | None = None
        self._replies: dict[int, list[Any]] = {}
        self._control_id = 0
        self._pack = Packer()
        self.start_bus()

    # -- processes -----------------------------------------------------------------------------

    def start_bus(self, epoch_base: int = 0) -> None:
        """Start NDIS, which counts epochs from ``epoch_base``. Processes that already run say hello to it."""
        rng = random.Random(self.config.seed)
        self.core = NdisCore(self.config, self.trace_events.append, rng, epoch_base=epoch_base)
        self.core.clock.now = self.now
        for process in self.processes.values():
            if process.alive:
                process.port.hello()
                process.flush()

    def kill_bus(self) -> None:
        """Kill the bus as kill -9 does: everything in its queues is lost, and drivers notice."""
        self.core = None
        for process in self.processes.values():
            process.to_bus.clear()
            process.to_driver.clear()
            if process.alive:
                process.port.lost("the bus is gone", self.now)
                process.flush()
                if process.leaving:
                    process.end()

    def start(self, name: str, make: Callable[[], Driver]) -> SimulatedProcess:
        """Start a process. ``make`` builds its driver, also at every restart."""
        self._pids += 1
        process = self.processes[name] = SimulatedProcess(self, name, make, self._pids)
        if self.core is not None:
            process.port.hello()
            process.flush()
        return process

    def kill(self, name: str) -> None:
        """Kill a process as kill -9 does: what it had sent is delivered, what was sent to it is lost."""
        process = self.processes[name]
        process.end()
        self.at(self.now + NOTICE, lambda: self._notice(process))

    def _notice(self, process: SimulatedProcess) -> None:
        if self.core is None:
            return
        # As with ZeroMQ, what was in the pipe is delivered first.
        while process.to_bus:
            self._to_bus(process)
        self.core.clock.now = self.now
        client = self.core.registry.clients.get(process.key)
        if client is not None:
            self.core.removal.process_died(client, "the process died")
        self._route()

    def leave(self, name: str) -> None:
        """Let a process leave in an orderly way, as a goodbye does: it ends when the bus has answered."""
        process = self.processes[name]
        if not process.port.attached:
            process.end()
            return
        process.leaving = True
        process.port.goodbye()
        process.flush()

    def stop(self, name: str, limit: float = 2.0) -> None:
        """End a process as SIGTERM does: it gives back what it holds, within ``limit`` seconds, and ends.

        Runs the simulation until the process has ended.
        """
        process = self.processes[name]
        self.act(name, lambda _: process.port.depart())
        until = self.now + limit
        self.at(until, lambda: None)
        self.run_until(lambda: self.now >= until or process.port.departed(), limit=limit + 1.0)
        self.leave(name)
        self.run_until(lambda: not process.alive)

    def restart(self, name: str) -> SimulatedProcess:
        """Start a process again. Its death is noticed before the next process of that name can say hello."""
        self.processes[name].end()
        self._notice(self.processes[name])
        return self.start(name, self.processes[name].make)

    def stall(self, name: str, seconds: float | None = None) -> None:
        """Stop a process as SIGSTOP does; with ``seconds``, continue it after that virtual time."""
        process = self.processes[name]
        process.stalled = True
        if seconds is not None:
            self.at(self.now + seconds, lambda: self.resume(name))

    def resume(self, name: str) -> None:
        """SIGCONT."""
        self.processes[name].stalled = False

    def at(self, when: float, action: Callable[[], None]) -> None:
        """Call ``action`` at a moment of virtual time."""
        self._events.push(when, action)

    def between(self, packets: int, action: Callable[[], None]) -> None:
        """Call ``action`` when that many further packets (at least 1) have been handled, before the next."""
        self._between.push(self.handled + packets, action)

    def hop(self, name: str) -> Hop:
        """Return a new hop, with delays of its own that follow from the seed and the name."""
        return Hop(random.Random(f"{self.seed}/{name}"), self.delay)

    def driver(self, name: str) -> Any:
        """Return the driver object of a process."""
        return self.processes[name].driver

    def act(self, name: str, action: Callable[[Any], Any]) -> Any:
        """Let a driver do something, and queue what it sends. Returns the result of ``action``."""
        process = self.processes[name]
        process.port.now = self.now
        result = action(process.driver)
        process.flush()
        return result

    # -- control -------------------------------------------------------------------------------

    def control(self, verb: str, arguments: dict[str, Any] | None = None, *, limit: float = 5.0) -> Any:
        """Make a control request as ``ndisbus`` does. Raises :class:`ChimneyError` if it is refused."""
        assert self.core is not None
        self._control_id += 1
        mine = self._control_id
        self.core.receive("control", ["control", mine, [verb, arguments or {}]], (), self.now)
        self._route()
        self.run_until(lambda: mine in self._replies, limit=limit)
        name, values = self._replies.pop(mine)
        if name == "refused":
            raise ChimneyError(values[0]["Reason"])
        return values[1]

    # -- running -------------------------------------------------------------------------------

    def step(self) -> bool:
        """Serve one queue, or jump to what is due next. Returns False if nothing is left to do."""
        ready = self._ready()
        if ready:
            (self.rng.choice(ready) if self.shuffle else ready[0])()
            for action in self._between.due(self.handled):
                action()
            return True
        due = self._next_due()
        if due is None:
            return False
        self.now = max(self.now, due)
        for action in self._events.due(self.now):
            action()
        if self.core is not None:
            self.core.on_timer(self.now)
            self._route()
        for process in self.processes.values():
            if process.alive and not process.stalled:
                process.port.on_timer(self.now)
                process.flush()
        return True

    def run_until(self, done: Callable[[], bool], *, limit: float = 60.0, steps: int = 2_000_000) -> None:
        """Run until ``done`` holds. Raises :class:`SimulationStuck` after ``limit`` virtual seconds."""
        end = self.now + limit
        for _ in range(steps):
            if done():
                return
            if self.now > end:
                raise SimulationStuck(f"the condition did not hold after {limit:g} virtual seconds")
            if not self.step():
                raise SimulationStuck("the condition does not hold, and nothing is due any more")
        raise SimulationStuck(f"the condition did not hold after {steps} steps")

    def run_for(self, seconds: float) -> None:
        """Run for ``seconds`` of virtual time."""
        end = self.now + seconds
        reached = False

        def mark() -> None:
            nonlocal reached
            reached = True

        self.at(end, mark)
        self.run_until(lambda: reached, limit=seconds + 1)

    def _ready(self) -> list[Callable[[], None]]:
        out: list[Callable[[], None]] = []
        for process in self.processes.values():
            # From a dead process too: what it had sent is delivered.
            if process.to_bus.ready(self.now) and self.core is not None:
                out.append(partial(self._to_bus, process))
            if process.alive and not process.stalled:
                if process.to_driver.ready(self.now):
                    out.append(process.deliver)
                if self.shuffle and process.timer_due():
                    out.append(process.timer)
        return out

    def _to_bus(self, process: SimulatedProcess) -> None:
        assert self.core is not None
        self.handled += 1
        head, frames = process.to_bus.take()
        try:
            messages = decode_packet([head, *frames], self.core.room_of(process.key))
        except DecodeError as e:
            self.core.reject(process.key, e, self.now)
        else:
            for message, payload in messages:
                self.core.receive(process.key, message, payload, self.now)
        self._route()

    def _route(self) -> None:
        if self.core is None:
            return
        by_key: dict[Any, list[Outgoing]] = {}
        for key, message, frames in self.core.drain():
            if key == "control":
                self._replies[message[1]] = [message[0], message[2]]
            else:
                by_key.setdefault(key, []).append((message, frames))
        for process in self.processes.values():
            own = by_key.get(process.key)
            if own and process.alive:
                for head, *payload in self.packets(own, self.core.joins_parts(process.key)):
                    process.to_driver.put(head, payload, self.now)

    def packets(self, messages: Sequence[Outgoing], divisible: bool = False) -> Iterator[list[Any]]:
        """Iterate over the packets that carry ``messages``, each as its list of frames."""
        if not self.shuffle:
            return packets(self._pack, messages, divisible=divisible) if messages else iter(())
        return chain.from_iterable(packets(self._pack, (m,), divisible=divisible) for m in messages)

    def _next_due(self) -> float | None:
        due: list[float] = []
        if (at := self._events.next_deadline()) is not None:
            due.append(at)
        if self.core is not None and (at := self.core.next_deadline()) is not None:
            due.append(at)
        for process in self.processes.values():
            if self.core is not None and (at := process.to_bus.next_due) is not None:
                due.append(at)
            if process.alive and not process.stalled:
                due += [
                    at for at in (process.port.next_deadline(), process.to_driver.next_due) if at is not None
                ]
        return min(due) if due else None

    def inject(self, name: str, message: Message, frames: Sequence[bytes] = ()) -> None:
        """Queue a message as if the process had sent it, for tests of how the bus reacts."""
        self.processes[name].to_bus.put(encode_packet([message]), frames, self.now)
