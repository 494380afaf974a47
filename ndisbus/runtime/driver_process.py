"""A driver's process: a DEALER loop around :class:`ndisbus.driver.port.DriverPort`.

The loop says hello, moves packets of messages, and runs the driver's timers. If the bus dies or closes the
driver's epoch, it makes a new connection and registers the driver under a new epoch.
:mod:`ndisbus.runtime.reconnect` says when.
"""

from __future__ import annotations

import math
import random
import select
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Self

import zmq

from ndisbus import __version__
from ndisbus.driver.base import Driver, kind_of
from ndisbus.driver.port import DriverPort
from ndisbus.errors import RemoteProtocolError
from ndisbus.messages.codec import Packer
from ndisbus.messages.packet import is_long, packets
from ndisbus.rundir import check_endpoint, default_endpoint
from ndisbus.runtime.connection import ABSENT, HOT_MS, Connection, Phase
from ndisbus.runtime.curve import ClientKeys
from ndisbus.runtime.deathwatch import INTERVAL, DeathWatch, process_info
from ndisbus.runtime.inbox import SLICE, Inbox
from ndisbus.runtime.outcomes import BugChecked, HelloRefused
from ndisbus.runtime.poller import HasFileno, Poller
from ndisbus.runtime.reconnect import Reconnect

__all__ = ["DriverProcess"]

#: Most packets that are handled before the loop looks at the clock again.
TURN: Final = 256
#: Longest wait in one go (seconds): poll() takes milliseconds that fit into an int.
LONGEST: Final = 3600.0
#: While packets keep coming, the loop looks at nothing else for this time (seconds).
HOT: Final = HOT_MS / 1000
#: A packet below this size (bytes) is certainly within all limits.
SMALL: Final = 65536


class DriverProcess:
    """Runs ``driver`` as ``name`` on the bus at ``endpoint`` (default: the user's own bus).

    ``seed`` is only for the jitter of reconnecting. If the owner gives a ``poller``, :meth:`run_until` with a
    timeout of 0 never waits. The owner then calls it when a descriptor is readable and after
    :meth:`idle_seconds`. The calls that move messages raise :class:`BugChecked` and :class:`HelloRefused`,
    and what a handler of the driver raises.
    """

    def __init__(
        self,
        driver: Driver,
        *,
        name: str,
        endpoint: str | None = None,
        seed: int = 0,
        poller: Poller | None = None,
    ) -> None:
        endpoint = endpoint or default_endpoint()
        self._keys = ClientKeys.from_environment(endpoint)
        self.endpoint = check_endpoint(endpoint, self._keys is not None)
        self.name = name
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.context.linger = 0
        identity = {"Name": name, "Kind": kind_of(driver), "Version": __version__, **process_info()}
        self.port = DriverPort(driver, identity)
        self.phase = Phase.AWAY
        #: Called for every change: "ready", "lost" with the reason, "waiting" with the reason.
        self.on_change: Callable[[str, str], None] = lambda _what, _why: None
        self._connection: Connection | None = None
        self._reconnect = Reconnect(random.Random(f"{seed}/{name}"), time.monotonic())
        self._pack = Packer()
        self._inbox = Inbox(self.port, self._flush)
        # Not zmq.Poller: it makes several system calls more in each round.
        self._poll: Poller = select.poll() if poller is None else poller
        self._may_wait = poller is None
        self._watch = DeathWatch(lambda fd: self._poll.register(fd, select.POLLIN), self._poll.unregister)
        self._readers: dict[int, Callable[[float], object]] = {}
        self._urgent: set[int] = set()
        #: Whether a packet has just come, so that more are likely.
        self._hot = False
        self._stopping = False
        self._closed = False
        self.port.now = time.monotonic()

    # -- for the owner -------------------------------------------------------------------------

    @property
    def ready(self) -> bool:
        """Whether the bus has admitted the driver."""
        return self.port.attached

    def add_reader(
        self, source: int | HasFileno, callback: Callable[[float], object], *, urgent: bool = True
    ) -> None:
        """Call ``callback(now)`` whenever ``source``, a descriptor or an object with one, is readable.

        While packets keep coming, a source that is not ``urgent`` is looked at only every :data:`HOT`
        seconds. That makes the packets cheaper. A wire cannot wait so long.
        """
        fd = source if isinstance(source, int) else source.fileno()
        self._readers[fd] = callback
        if urgent:
            self._urgent.add(fd)
        self._poll.register(fd, select.POLLIN)

    def remove_reader(self, source: int | HasFileno) -> None:
        """Undo :meth:`add_reader`."""
        fd = source if isinstance(source, int) else source.fileno()
        del self._readers[fd]
        self._urgent.discard(fd)
        self._poll.unregister(fd)

    def run_until(self, predicate: Callable[[], Any], timeout: float) -> bool:
        """Move messages until ``predicate()`` holds or ``timeout`` seconds have passed. Returns whether it
        holds.

        The predicate is called after each turn, and may make calls.
        """
        until = time.monotonic() + timeout
        rounds = 0
        while True:
            self.port.now = now = time.monotonic()
            done = bool(predicate())
            self._flush()
            # Even if the timeout is 0, handle what has arrived.
            if done or self._stopping or (now >= until and rounds):
                return done
            self._round(until, predicate)
            rounds += 1

    def run_forever(self) -> None:
        """Move messages until :meth:`stop` is called, by a handler or a reader."""
        while not self._stopping:
            self._flush()
            self._round(math.inf)

    def idle_seconds(self) -> float | None:
        """Return how long an owner with its own loop may wait for descriptors only; None: for any time."""
        connection = self._connection
        if self.port.outbox or self._inbox.waiting or (connection is not None and connection.readable()):
            return 0.0
        milliseconds = self._timeout(math.inf)
        return None if milliseconds is None else milliseconds / 1000

    def stop(self) -> None:
        """Make the running call return after this turn."""
        self._stopping = True

    def close(self) -> None:
        """Leave the bus in an orderly way. The driver's handlers see everything closed."""
        if self._closed:
            return
        self._closed = True
        try:
            if self.port.attached and self._connection is not None:
                self.port.goodbye()
                self._flush()
                self._inbox.await_farewell(self._connection.socket)
            self.port.lost("left the bus", time.monotonic())
        finally:
            self._disconnect()
            self._watch.close()
            self.context.destroy(linger=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    # -- the loop ------------------------------------------------------------------------------

    def _round(self, until: float, predicate: Callable[[], Any] | None = None) -> None:
        """Wait for something to happen, at most until ``until``, and handle it."""
        if self.phase is Phase.AWAY and time.monotonic() >= self._reconnect.due:
            self._connect()
        connection = self._connection
        waiting = self._inbox.waiting
        hot = self._hot and self._may_wait and not (self._urgent or self._watch.polled or waiting)
        if hot and connection is not None and self.phase is Phase.READY:
            if self._serve_hot(connection, until, predicate):
                return
            connection = self._connection
        # The descriptor signals changes only, and a send may have consumed one.
        readable = connection is not None and (bool(waiting) or connection.readable())
        limit = TURN if readable else 1
        events = self._poll.poll(0 if readable else self._timeout(until))
        self.port.now = now = time.monotonic()
        for fd, _ in events:
            if connection is not None and fd == connection.fd:
                readable = True
            elif connection is not None and fd == connection.monitor_fd:
                reason = connection.lost()
                if reason:
                    self._lost(reason, now)
                    connection = None
            elif self._watch.owns(fd):
                self._watch.died(fd)
                self._lost("the bus died", now)
                connection = None
            elif fd in self._readers:
                self._readers[fd](now)
        if self._watch.polled and self._watch.sweep():
            self._lost("the bus died", now)
        if readable and self._connection is not None:
            self._receive(self._connection, now, limit)
            self._hot = True
        now = self.port.now
        deadline = self.port.next_deadline()
        if deadline is not None and deadline <= now:
            self.port.on_timer(now)
        if self.phase is not Phase.READY:
            self._look_after_hello(now)

    def _serve_hot(self, connection: Connection, until: float, predicate: Callable[[], Any] | None) -> bool:
        """Wait in recv itself while packets keep coming: it costs half of a round of poll.

        Returns True as soon as ``predicate()`` holds; False if the loop must look at other things. That
        happens after at most :data:`HOT` seconds, so the death of the bus is noticed by then.
        """
        port, inbox, clock = self.port, self._inbox, time.monotonic
        recv: Any = connection.socket.recv
        get: Any = connection.socket.get
        deadline_of = port.next_deadline
        leave_at = min(clock() + HOT, until)
        self._hot = False
        while True:
            deadline = deadline_of()
            if deadline is not None and deadline < leave_at:
                return False
            try:
                frames = [recv()]
            except zmq.Again:
                return False
            while get(zmq.RCVMORE):
                frames.append(recv())
            port.now = now = clock()
            inbox.put(frames)
            several = len(inbox.waiting) > 1
            now = inbox.run(now, now + SLICE)
            if port.refusals or not port.attached:
                self._look_at_port(now)
                return False
            if predicate is not None and predicate():
                self._hot = True
                return True
            if port.outbox:
                self._flush()
            if now >= leave_at or self._stopping or inbox.waiting:
                self._hot = True
                return False
            # Only under load it pays to collect further messages before answering.
            if several and connection.readable():
                self._receive(connection, now, TURN)
                if self._connection is not connection:
                    return False
                if predicate is not None and predicate():
                    self._hot = True
                    return True
                self._flush()

    def _timeout(self, until: float) -> int | None:
        """Return the most milliseconds to wait, rounded up, so that what is due by then is due."""
        deadline = self.port.next_deadline()
        if deadline is not None and deadline < until:
            until = deadline
        if self.phase is not Phase.READY:
            until = min(until, self._reconnect.deadline())
        now = time.monotonic()
        if self._watch.polled:
            until = min(until, now + INTERVAL)
        if until == math.inf:
            return None
        return math.ceil(min(until - now, LONGEST) * 1000) if until > now else 0

    def _receive(self, connection: Connection, now: float, limit: int) -> None:
        """Handle up to ``limit`` packets, for at most :data:`SLICE` seconds.

        After a wait the limit is 1, so that its answer leaves at once.
        """
        port, inbox, recv = self.port, self._inbox, connection.socket.recv_multipart
        until = now + SLICE
        while True:
            if not inbox.waiting:
                try:
                    inbox.put(recv(zmq.NOBLOCK))
                except zmq.Again:
                    return
            now = inbox.run(now, until)
            if port.attached is not (self.phase is Phase.READY) or port.refusals:
                self._look_at_port(now)
                if self._connection is not connection:
                    return
            limit -= not inbox.waiting
            if now >= until or not (limit and (inbox.waiting or connection.readable())):
                return

    def _flush(self) -> None:
        connection = self._connection
        if self.port.outbox and connection is not None:
            self._inbox.said(time.monotonic())
            sends = self.port.drain()
            if len(sends) == 1 and not sends[0][1] and not is_long(sends[0]):
                head = self._pack((sends[0][0],))
                if len(head) < SMALL:
                    connection.send([head])
                    return
            for frames in packets(self._pack, sends, divisible=self.port.divides):
                connection.send(frames)
                self._inbox.said(time.monotonic())

    # -- the connection ------------------------------------------------------------------------

    def _connect(self) -> None:
        self._connection = connection = Connection(self.context, self.endpoint, self._keys)
        self._poll.register(connection.fd, select.POLLIN)
        self._poll.register(connection.monitor_fd, select.POLLIN)
        self.phase = Phase.HELLO
        self._reconnect.said_hello(time.monotonic())
        self.port.outbox.clear()
        self.port.hello()
        self._flush()
        if connection.failure:
            self._lost(connection.failure, time.monotonic())

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        self._inbox.clear()
        if connection is not None:
            self._poll.unregister(connection.fd)
            self._poll.unregister(connection.monitor_fd)
            connection.close()
        self._watch.close()
        self.phase = Phase.AWAY

    def _look_at_port(self, now: float) -> None:
        """Act if the bus has admitted, closed or refused the port."""
        port = self.port
        refusals, port.refusals = port.refusals, []
        if port.attached and self.phase is Phase.HELLO:
            self.phase = Phase.READY
            self._inbox.admitted(port.ready_info)
            self._reconnect.admitted(now)
            self.on_change("ready", "")
            if not self._watch.watch(self, port.ready_info):
                self._lost("the bus died", now)
        elif not port.attached and self.phase is Phase.READY:
            info = port.closed_info or {}
            reason = str(info.get("Reason", "the bus closed this epoch"))
            self._lost(reason, now)
            if "BugCheck" in info:
                raise BugChecked(info["BugCheck"], reason)
        elif refusals and self.phase is Phase.HELLO:
            self._hello_refused(str(refusals[0].get("Reason")), now)
        elif refusals and port.attached:
            what = refusals[0]
            raise RemoteProtocolError(f"the bus refused {what.get('Call')}: {what.get('Reason')}")

    def _hello_refused(self, reason: str, now: float) -> None:
        # After a broken connection the bus may take a moment to notice that it is broken.
        if self.port.epoch and self._reconnect.name_may_be_held(now) and "here already" in reason:
            self._retry(now)
            return
        self._disconnect()
        raise HelloRefused(f"{self.name}: the bus at {self.endpoint} refused it: {reason}")

    def _lost(self, reason: str, now: float) -> None:
        """Drop a broken connection: fail what is in flight, then reconnect."""
        if self.phase is Phase.READY:
            self._reconnect.lost(now)
            self.on_change("lost", reason)
        else:
            self._reconnect.failed("" if reason == ABSENT else reason)
        self._retry(now, absent=reason == ABSENT)
        self.port.lost(reason, now)

    def _retry(self, now: float, *, absent: bool = False) -> None:
        self._disconnect()
        self._reconnect.retry(now, absent=absent)

    def _look_after_hello(self, now: float) -> None:
        if self.phase is Phase.HELLO and now >= self._reconnect.due:
            self._retry(now)
        why = self._reconnect.overdue(now)
        if why:
            self.on_change("waiting", f"{self.endpoint}: {why}")
