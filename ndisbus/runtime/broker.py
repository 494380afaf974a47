"""The bus's process: a ROUTER loop around :class:`ndisbus.core.NdisCore`.

One turn of the loop polls once. It handles deaths first, then the messages that have arrived. Then it sends
one packet to each client that has messages. Everything that NDIS knows is in the core. This module has only
sockets, processes and the clock.
"""

from __future__ import annotations

import math
import select
import time
from collections.abc import Callable
from typing import Any, Final, cast

import zmq

from ndisbus.core import NdisCore
from ndisbus.core.model import Client
from ndisbus.errors import DecodeError
from ndisbus.messages.codec import MAX_PACKET, ROOM, decode_packet
from ndisbus.rundir import check_endpoint, trace_endpoint
from ndisbus.runtime import curve
from ndisbus.runtime.connection import HOT_MS, set_heartbeats
from ndisbus.runtime.deathwatch import INTERVAL, DeathWatch, process_info
from ndisbus.runtime.endpoint import bind
from ndisbus.runtime.pauses import PauseWatch
from ndisbus.runtime.sender import Sender
from ndisbus.runtime.trace_link import TracePublisher

__all__ = ["Broker"]

#: Most packets that are handled before the loop looks at the clock and at deaths again.
TURN: Final = 256
#: Longest time in seconds for which packets are handled before the loop looks at the clock again.
SLICE: Final = 0.05
#: A timer that runs late by this time (seconds) shows that this process was stalled. So does a turn in which
#: it neither ran nor waited by choice for this time.
STALL: Final = 0.25
#: After a stall, the loop reads until nothing has arrived for this time (milliseconds).
_SETTLE: Final = 20
#: Payload frames of at least this size (bytes) are passed on without a copy. Copying smaller ones is cheaper.
NO_COPY: Final = 16 * 1024
#: A client that sent nothing for this time (seconds) is pinged, which shows a lost connection.
QUIET: Final = 1.0
#: While messages keep coming, the loop looks at nothing else for this time (seconds).
HOT: Final = HOT_MS / 1000
#: After a packet above this size (bytes) the loop sends what is due and looks at everything else.
LARGE: Final = 512 * 1024
#: As a plain number: computing with the flag type is slow.
_READABLE: Final = int(zmq.POLLIN)


class Broker:
    """The bus at ``endpoint``. :meth:`open` binds, :meth:`run` works until :meth:`stop`, :meth:`close` ends.

    ``keys`` are needed beyond loopback. Raises :class:`ndisbus.rundir.EndpointError` for an endpoint that is
    not allowed, :class:`ndisbus.runtime.endpoint.EndpointInUse` for one on which another process listens.
    """

    def __init__(self, core: NdisCore, endpoint: str, *, keys: curve.BusKeys | None = None) -> None:
        self.core = core
        self.endpoint = check_endpoint(endpoint, keys is not None)
        self.keys = keys
        # Not zmq.Poller: it makes several system calls more in each round.
        self._poll = select.poll()
        self._watch = DeathWatch(lambda fd: self._poll.register(fd, select.POLLIN), self._poll.unregister)
        self._readers: dict[int, Callable[[], object]] = {}
        self._stopping = False
        self._open = False
        self._unbind: Callable[[], None] = lambda: None
        self._probe_at = 0.0
        #: Whether payload is received without a copy. Set while frames are large, cleared by small frames.
        self._copy = True
        #: Whether the packet handled last was large.
        self._large = False
        #: Whether a message has just come, so that more are likely.
        self._hot = False
        self._pauses = PauseWatch()

    # -- life ----------------------------------------------------------------------------------

    def open(self) -> None:
        """Make the sockets and bind them. From then on clients can connect."""
        # Made here, in the process that uses it, and never before a fork.
        self._context = zmq.Context()
        self._context.linger = 0
        self._router = self._context.socket(zmq.ROUTER)
        self._open = True
        try:
            self._router.router_mandatory = True
            self._router.sndhwm = self._router.rcvhwm = 0
            self._router.rcvtimeo = HOT_MS
            # Only a zmq.Frame that was received is passed on without a copy. For bytes that needs a thread.
            self._router.copy_threshold = 2 * MAX_PACKET
            # Limit of one frame; the codec checks the packet. A larger frame ends its sender's connection.
            self._router.maxmsgsize = MAX_PACKET + ROOM
            if self.endpoint.startswith("tcp://"):
                set_heartbeats(self._router)
            if self.keys is not None:
                self._zap = self._context.socket(zmq.REP)
                self._zap.bind(curve.ZAP_ENDPOINT)
                keys = self.keys
                self.add_reader(self._zap.fd, lambda: curve.answer_zap(self._zap, keys.clients))
                self.keys.apply(self._router)
            self._unbind = bind(self._router, self.endpoint)
            self._trace = TracePublisher(self._context, trace_endpoint(self.endpoint), self.keys)
        except BaseException:
            self._unbind()
            self._context.destroy(linger=0)
            self._open = False
            raise
        self.add_reader(self._trace.socket.fd, self._subscriptions)
        self._fd = cast(int, self._router.fd)
        self._get: Any = self._router.get
        self._sender = Sender(self.core, self._router, self._gone)
        self._poll.register(self._fd, select.POLLIN)
        self.core.admission.ready_extra = process_info()

    def add_reader(self, fd: Any, callback: Callable[[], object]) -> None:
        """Call ``callback`` now and whenever the descriptor is readable. It must read all there is."""
        self._readers[fd] = callback
        self._poll.register(fd, select.POLLIN)
        # A ZeroMQ descriptor is edge-triggered: read ZMQ_EVENTS until it is 0 before polling.
        callback()

    def stop(self) -> None:
        """Make :meth:`run` return after this turn."""
        self._stopping = True

    def close(self) -> None:
        """Close the sockets and remove the file of an ipc socket."""
        if self._open:
            self._open = False
            self._watch.close()
            self._unbind()
            self._trace.unbind()
            self._context.destroy(linger=0)

    # -- the loop ------------------------------------------------------------------------------

    def run(self) -> None:
        """Serve until a reader calls :meth:`stop`."""
        core, readers, watch = self.core, self._readers, self._watch
        poll, router_fd = self._poll.poll, self._fd
        get = self._get
        while not self._stopping:
            if self._hot:
                self._serve_hot()
            # The descriptor signals changes only, and a send may have consumed one.
            readable = bool(get(zmq.EVENTS) & _READABLE)
            limit = TURN if readable else 1
            timeout = 0 if readable or self._sender.backlog else self._timeout()
            self._pauses.waits(timeout / 1000)
            events = poll(timeout)
            now, paused = self._pauses.waited()
            core.clock.now = now
            if paused > STALL:
                core.resumed(now, paused)
            for fd, _ in events:
                if fd == router_fd:
                    readable = True
                elif watch.owns(fd):
                    # Deaths come first: what a dead driver still had in its pipe is not served.
                    self._died(watch.died(fd))
                else:
                    readers[fd]()
            if watch.polled:
                for token in watch.sweep():
                    self._died(token)
            deadline = core.next_deadline()
            due = deadline is not None and deadline <= now
            if paused > STALL or (due and deadline is not None and now - deadline > STALL):
                self._catch_up(now)
            elif readable:
                # A driver that answered in time must not count as late because its answer is still unread.
                # The socket takes from all connections in turn, so this hears everyone who has said anything.
                self._receive(now, limit, 2 * len(core.registry.clients) if due else 0)
                self._hot = True
            if due:
                core.on_timer(now)
            if now >= self._probe_at:
                self._probe(now)
            if core.out.outbox:
                self._sender.flush()
            if self._sender.backlog:
                self._sender.turn()
            if core.out.trace is not None:
                self._trace.flush()
                self._subscriptions()

    def _serve_hot(self) -> None:
        """Wait in recv itself while messages keep coming: it costs half of a round of poll.

        After at most :data:`HOT` seconds the loop looks at everything else again. So a death is noticed, and
        a timer runs, at most that much later.
        """
        core, get, recv, clock = self.core, self._get, self._router.recv, time.monotonic
        until = clock() + HOT
        deadline = core.next_deadline()
        self._hot = False
        if self._watch.polled or core.out.trace is not None or (deadline is not None and deadline < until):
            return
        if self._sender.backlog:
            return
        try:
            while True:
                key = recv()
                core.clock.now = now = clock()
                several = self._packet(key, now) > 1
                if core.out.outbox:
                    self._sender.flush()
                if now >= until or self._stopping or self._large:
                    self._hot = True
                    return
                # Only under load it pays to collect further messages before answering.
                if several and get(zmq.EVENTS) & _READABLE:
                    self._receive(now, TURN)
                    if core.out.outbox:
                        self._sender.flush()
        except zmq.Again:
            return

    def _timeout(self) -> int:
        """Return the milliseconds until something is due, rounded up, so that it is due then."""
        until = self._probe_at
        deadline = self.core.next_deadline()
        if deadline is not None and deadline < until:
            until = deadline
        left = until - time.monotonic()
        if self._watch.polled and left > INTERVAL:
            left = INTERVAL
        return math.ceil(left * 1000) if left > 0 else 0

    def _receive(self, now: float, limit: int, least: int = 0) -> None:
        """Handle up to ``limit`` packets, for at most :data:`SLICE` seconds, but ``least`` in any case.

        After a wait the limit is 1, so that its answer leaves at once.
        """
        recv, get, clock = self._router.recv, self._get, time.monotonic
        until = now + SLICE
        limit = max(limit, least)
        handled = 0
        while True:
            try:
                key = recv(zmq.NOBLOCK)
            except zmq.Again:
                return
            self._packet(key, now)
            handled += 1
            if self._large:
                # Other clients do not wait for the rest of a long message.
                self._sender.flush()
                self._sender.turn()
            if handled >= limit or (handled >= least and clock() >= until):
                return
            if not get(zmq.EVENTS) & _READABLE:
                return

    def _packet(self, key: bytes, now: float) -> int:
        """Handle the packet whose sender key was just received. Returns its number of messages."""
        recv, get = self._router.recv, self._get
        frames: list[Any] = [recv()]
        size = len(frames[0])
        while get(zmq.RCVMORE):
            frame: Any = recv(copy=self._copy)
            if self._copy is (len(frame) >= NO_COPY):
                self._copy = self._sender.copy = not self._copy
            size += len(frame)
            frames.append(frame)
        self._large = size > LARGE
        try:
            messages = decode_packet(frames, self.core.room_of(key) if size > MAX_PACKET else 0)
        except DecodeError as e:
            self.core.reject(key, e, now)
            return 1
        receive = self.core.receive
        for message, payload in messages:
            if message[0] == "hello":
                self._hello(key, message, now)
            else:
                receive(key, message, payload, now)
        return len(messages)

    def _catch_up(self, now: float) -> None:
        """Read what arrived while this process was stalled, before the clock is used to judge drivers."""
        until = now + STALL
        while time.monotonic() < until and (
            self._get(zmq.EVENTS) & _READABLE or any(fd == self._fd for fd, _ in self._poll.poll(_SETTLE))
        ):
            self._receive(now, TURN)

    # -- clients --------------------------------------------------------------------------

    def _hello(self, key: bytes, message: Any, now: float) -> None:
        core = self.core
        self._ask_namesake(message)
        core.receive(key, message, (), now)
        # A driver that was cut off stays watched: it is listed until its process ends.
        self._watch.forget(
            lambda client: client.closed and core.registry.cut_off.get(client.name) is not client
        )
        client = core.registry.clients.get(key)
        if client is not None and not client.closed and not self._watch.watch(client, client.info):
            self._died(client)

    def _ask_namesake(self, message: Any) -> None:
        """Ping the client that has this name now. Its driver may have reconnected on another connection."""
        identity = message[2][1] if len(message[2]) == 2 else None
        name = identity.get("Name") if type(identity) is dict else None
        for client in list(self.core.registry.clients.values()):
            if client.name == name and not client.closed:
                self.core.out.call(client, "ping", [], lambda _: None)
                self._sender.flush()

    def _probe(self, now: float) -> None:
        """Ping clients that have been quiet. Sending shows whether the connection still works."""
        self._probe_at = now + QUIET
        for client in list(self.core.registry.clients.values()):
            if client.closed or now - client.heard_at < QUIET:
                continue
            # Each unanswered ping doubles the wait before the next one.
            owed = sum(p.name == "ping" for p in client.pending.values())
            if now - client.heard_at >= QUIET * 2**owed:
                self.core.out.call(client, "ping", [], lambda _: None)

    def _died(self, client: Client) -> None:
        self.core.removal.process_died(client, f"process {client.pid} died")

    def _gone(self, key: bytes, reason: str) -> None:
        client = self.core.registry.clients.get(key)
        # A control client that did not wait for its answer does not matter.
        if client is not None:
            self.core.removal.remove(client, reason)

    # -- trace ---------------------------------------------------------------------------------

    def _subscriptions(self) -> None:
        listened = self._trace.subscriptions()
        self.core.out.trace = self._trace.note if listened else None
