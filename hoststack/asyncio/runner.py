"""A host driver on an asyncio event loop.

The loop watches the descriptors of the driver's process and calls :meth:`LoopRunner.turn`, which moves
messages without waiting. A script runs in the task that asked for it, so what it takes from a socket is taken
when that task runs: a task that is cancelled while it waits has taken nothing.
"""

from __future__ import annotations

import asyncio
import os
import select
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar

from hoststack.api.errors import HostClosed, HostForked
from hoststack.api.runners import ask_bus
from hoststack.api.scripts import Script, Wait
from ndisbus.errors import LocalProtocolError
from ndisbus.runtime.driver_process import DriverProcess
from ndisbus.runtime.inbox import GOODBYE_LIMIT

if TYPE_CHECKING:
    from hoststack.chimney.driver import HostDriver

__all__ = ["LoopRunner"]

T = TypeVar("T")

_READ: Final = select.POLLIN


class _Poller:
    """The poller of the driver's process: the event loop waits, this one only looks."""

    def __init__(self, loop: asyncio.AbstractEventLoop, wake: Callable[[], None]) -> None:
        self._loop = loop
        self._wake = wake
        self._poll = select.poll()

    def register(self, fd: int, mask: int) -> None:
        self._poll.register(fd, mask)
        self._loop.add_reader(fd, self._wake)

    def unregister(self, fd: int) -> None:
        self._poll.unregister(fd)
        self._loop.remove_reader(fd)

    def poll(self, timeout: float | None) -> list[tuple[int, int]]:
        return self._poll.poll(0)


class LoopRunner:
    """Runs ``driver`` as ``name`` on the bus at ``endpoint``, on the running event loop."""

    def __init__(self, driver: HostDriver, *, name: str, endpoint: str | None = None) -> None:
        self.driver = driver
        self.loop = asyncio.get_running_loop()
        self._pid = os.getpid()
        self._process = DriverProcess(
            driver, name=name, endpoint=endpoint, poller=_Poller(self.loop, self.turn)
        )
        self._waiting: dict[asyncio.Future[bool], Callable[[], object]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._soon = False
        #: Why nothing is run any more.
        self.over: BaseException | None = None
        #: Called with the reason when the loop of the driver ends.
        self.on_over: Callable[[BaseException], None] = lambda _: None
        self.wake()

    def now(self) -> float:
        """The clock by which the driver is driven, in seconds."""
        return time.monotonic()

    async def run(self, script: Script[T]) -> T:
        """Run a script to its end. A task that is cancelled closes the script, which undoes what it began."""
        self._check()
        try:
            self._process.port.now = self.now()
            wait = next(script)
            while True:
                held = await self._wait(wait)
                self._process.port.now = self.now()
                wait = script.send(held)
        except StopIteration as stop:
            result: T = stop.value
            return result
        finally:
            script.close()
            self.wake()

    async def control(self, verb: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """A control request to the bus. Raises what the bus answers."""
        return await self.run(ask_bus(self._process.port, verb, arguments))

    def wake(self) -> None:
        """Take a turn soon: something was done that may have to go out."""
        if not self._soon and self.over is None and not self.loop.is_closed():
            self._soon = True
            self.loop.call_soon(self.turn)

    def turn(self) -> None:
        """Move what has arrived and what is to go out, run timers, and wake the tasks that can go on."""
        self._soon = False
        if self.over is not None or self._pid != os.getpid():
            return
        try:
            self._process.run_until(self._look, 0.0)
            delay = self._process.idle_seconds()
        except Exception as error:
            self._end(error)
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if delay is not None:
            self._timer = self.loop.call_later(delay, self.turn)

    def _look(self) -> bool:
        for future, condition in list(self._waiting.items()):
            if not future.done():
                try:
                    if condition():
                        future.set_result(True)
                except Exception as error:
                    future.set_exception(error)
        return False

    async def _wait(self, wait: Wait) -> bool:
        if wait.condition():
            return True
        self._check()
        self.wake()
        future: asyncio.Future[bool] = self.loop.create_future()
        self._waiting[future] = wait.condition
        timer = None
        if wait.seconds is not None:
            timer = self.loop.call_later(wait.seconds, _late, future)
        try:
            return await future
        finally:
            del self._waiting[future]
            if timer is not None:
                timer.cancel()

    def _check(self) -> None:
        if self._pid != os.getpid():
            raise HostForked(self._process.name, self._pid, os.getpid())
        if self.over is not None:
            raise self.over
        if asyncio.get_running_loop() is not self.loop:
            raise LocalProtocolError(
                f"host {self._process.name!r} belongs to another event loop: use it where it was attached"
            )

    async def close(self) -> None:
        """Leave the bus in an orderly way."""
        port = self._process.port
        if self.over is None and self._pid == os.getpid() and port.attached:
            port.goodbye()
            await self._wait(Wait(lambda: not port.attached, GOODBYE_LIMIT))
        self.abort()

    def abort(self) -> None:
        """Leave the bus without letting the event loop go on meanwhile."""
        if self._pid != os.getpid():
            raise HostForked(self._process.name, self._pid, os.getpid())
        if self.over is None:
            self._end(HostClosed(f"host {self._process.name!r} was closed"))

    def _end(self, over: BaseException) -> None:
        self.over = over
        if self._timer is not None:
            self._timer.cancel()
        for future in self._waiting:
            if not future.done():
                future.set_exception(over)
        try:
            self._process.close()
        finally:
            self.on_over(over)


def _late(future: asyncio.Future[bool]) -> None:
    if not future.done():
        future.set_result(False)
