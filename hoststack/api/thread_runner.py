"""A host that is served by a thread of its own, whatever the program does meanwhile.

One thread owns the driver, its stack and its ZeroMQ socket. Callers hand it scripts and wait for futures, so
any number of threads may use a host and no lock is held while anything runs. The state cannot be torn by a
KeyboardInterrupt either: that is raised in the caller, whose script is then closed by the owner.

The owner sleeps in ``poll`` until the bus, a timer or a caller wants it. What ends its loop, such as a bug
check, is raised in every caller that waits and in every later call.
"""

from __future__ import annotations

import contextlib
import math
import os
import socket
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, TypeVar

from hoststack.api.errors import HostClosed, HostForked
from hoststack.api.runners import Runner, ask_bus, signal_process
from hoststack.api.scripts import Script, Scripts, drive
from ndisbus.errors import LocalProtocolError
from ndisbus.runtime.driver_process import DriverProcess

if TYPE_CHECKING:
    from hoststack.chimney.driver import HostDriver

__all__ = ["ThreadRunner"]

T = TypeVar("T")

#: How long an interpreter that ends waits for a host to leave the bus (seconds).
_EXIT_LIMIT: Final = 2.0


#: In the thread of an owner: ``owner``.
_here = threading.local()
#: Held while it is decided which owner may wait for which.
_guard = threading.Lock()


class _Owner:
    """The thread and what it owns. It does not refer to the runner: a forgotten host can be collected."""

    def __init__(self, process: DriverProcess) -> None:
        self.process = process
        self.pid = os.getpid()
        self.scripts = Scripts()
        #: Why nothing is run any more.
        self.over: BaseException | None = None
        self._trace: TracebackType | None = None
        self.closing = False
        #: The owner that a callback of this one waits for.
        self.waits_for: _Owner | None = None
        #: Reentrant, because the garbage collector may close a file of a connection while it is held.
        self._lock = threading.RLock()
        #: Scripts to be started; None instead of one whose caller has given up.
        self._calls: deque[tuple[Script[Any] | None, Future[Any]]] = deque()
        self._until = math.inf
        self._receiver, self._sender = socket.socketpair()
        self._receiver.setblocking(False)
        self._sender.setblocking(False)
        process.add_reader(self._receiver, self._woken)
        self.thread = threading.Thread(target=self._serve, name=f"hoststack {process.name}", daemon=True)
        self.thread.start()

    @property
    def here(self) -> bool:
        """Whether the calling thread is the owner: it calls from a callback."""
        return threading.get_ident() == self.thread.ident

    # -- for callers ---------------------------------------------------------------------------

    def post(self, script: Script[Any] | None, future: Future[Any]) -> None:
        """Have the owner run a script, or close the one of this future. Raises why it cannot."""
        with self._lock:
            if self.over is not None:
                raise self.over.with_traceback(self._trace)
            self._calls.append((script, future))
        self.wake()

    def wake(self) -> None:
        """Make the owner look at its calls."""
        with contextlib.suppress(OSError):  # full: it is being woken; closed: it is over
            self._sender.send(b"\0")

    def stop(self) -> None:
        """Make the owner leave the bus and end."""
        self.closing = True
        self.wake()

    # -- the thread ----------------------------------------------------------------------------

    def _serve(self) -> None:
        _here.owner = self
        process = self.process
        over: BaseException = HostClosed(f"host {process.name!r} was closed")
        try:
            while not self.closing:
                self._until = self.scripts.next_deadline()
                process.run_until(self._turn, self._until - time.monotonic())
        except BaseException as e:  # whatever it is, the callers are told
            over = e
        self.scripts.fail(over)
        try:
            process.close()
        except BaseException as e:
            over = e
        self._end(over)

    def _turn(self) -> bool:
        """Carry out what callers want; whether the loop has to look at the clock anew."""
        calls, now = self._calls, time.monotonic()
        while calls:
            script, future = calls.popleft()
            if script is None:
                self.scripts.cancel(future)
            else:
                self.scripts.start(script, future, now)
        self.scripts.turn(now)
        return self.closing or self.scripts.next_deadline() < self._until

    def _woken(self, now: float) -> None:
        with contextlib.suppress(BlockingIOError):
            self._receiver.recv(4096)  # the loop looks at the calls after this

    def _end(self, over: BaseException) -> None:
        with self._lock:
            self.over, self._trace = over, over.__traceback__
            calls, self._calls = self._calls, deque()
        for script, future in calls:
            if script is not None:
                script.close()
                future.set_exception(over)
        self._receiver.close()
        self._sender.close()


def _abandoned(owner: _Owner) -> None:
    """The host was forgotten, or the interpreter ends."""
    if owner.pid == os.getpid():
        owner.stop()
        if not owner.here:
            owner.thread.join(_EXIT_LIMIT)


class ThreadRunner(Runner):
    """A driver on the bus at ``endpoint`` (default: where every process looks), served by its own thread."""

    def __init__(self, driver: HostDriver, *, name: str, endpoint: str | None = None) -> None:
        self.driver = driver
        self._owner = _Owner(DriverProcess(driver, name=name, endpoint=endpoint))
        self._forgotten = weakref.finalize(self, _abandoned, self._owner)

    def run(self, script: Script[T]) -> T:
        owner = self._owner
        self._check()
        if owner.here:
            return drive(script, _at_once)
        future: Future[T] = Future()
        with _waiting_for(owner):
            return self._wait(owner, script, future)

    def _wait(self, owner: _Owner, script: Script[T], future: Future[T]) -> T:
        try:
            # From here on the script is the owner's alone, which may be running it.
            owner.post(script, future)
            return future.result()
        except BaseException:
            if not future.done():  # the caller was interrupted, or nothing is run any more
                with contextlib.suppress(Exception):
                    owner.post(None, future)
            raise

    def _check(self) -> None:
        if self.abandon():
            raise HostForked(self._owner.process.name, self._owner.pid, os.getpid())

    def now(self) -> float:
        return time.monotonic()

    def control(self, verb: str, arguments: dict[str, Any]) -> dict[str, Any]:
        return self.run(ask_bus(self._owner.process.port, verb, arguments))

    def process(self, action: str, name: str) -> None:
        """See :func:`hoststack.api.runners.signal_process`."""
        signal_process(self.control("ps", {}), action, name)

    def abandon(self) -> bool:
        return self._owner.pid != os.getpid()

    def close(self) -> None:
        """Leave the bus and wait for the thread. From a callback: leave once the callback has returned."""
        self._check()
        self._forgotten.detach()
        self._owner.stop()
        if not self._owner.here:
            self._owner.thread.join()


@contextlib.contextmanager
def _waiting_for(owner: _Owner) -> Iterator[None]:
    """Note that a callback of a host waits for another host. Raises if that waits for the first one."""
    me: _Owner | None = getattr(_here, "owner", None)
    if me is None:
        yield
        return
    with _guard:
        other: _Owner | None = owner
        while other is not None and other is not me:
            other = other.waits_for
        if other is me:
            raise LocalProtocolError(
                f"a callback of host {me.process.name!r} cannot wait for host {owner.process.name!r}, "
                "which waits for the first one"
            )
        me.waits_for = owner
    try:
        yield
    finally:
        me.waits_for = None


def _at_once(done: Callable[[], object], seconds: float) -> bool:
    if not done():
        raise LocalProtocolError("a callback of a host cannot wait: the host is served by the same thread")
    return True
