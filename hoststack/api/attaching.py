"""How a host joins the bus, and what it says of itself: for every kind of host."""

from __future__ import annotations

from typing import Protocol, TypeVar

from hoststack.api.runners import ProcessRunner, Runner
from hoststack.chimney.driver import HostDriver

__all__ = ["describe", "join", "open_runner"]


class _Joining(Protocol):
    runner: Runner

    def wait_bound(self) -> None: ...


H = TypeVar("H", bound=_Joining)


def open_runner(driver: HostDriver, name: str, endpoint: str | None, threaded: bool) -> Runner:
    """What serves a driver of this process: a thread of its own, or the calls of the program."""
    if threaded:
        from hoststack.api.thread_runner import ThreadRunner  # noqa: PLC0415 - only for those who want it

        return ThreadRunner(driver, name=name, endpoint=endpoint)
    return ProcessRunner(driver, name=name, endpoint=endpoint)


def join(host: H, wait_bound: bool) -> H:
    """Wait until the host is bound, if ``wait_bound``. A host that fails to bind leaves the bus."""
    try:
        if wait_bound:
            host.wait_bound()
    except BaseException:
        host.runner.close()
        raise
    return host


def describe(host: object, driver: HostDriver) -> str:
    """The text of a host: its name, the adapter that it is bound to, and its chimney."""
    where = "unbound" if driver.binding is None else f"on {driver.binding.adapter}"
    return f"<{type(host).__name__} {driver.name!r}, {where}, chimney {driver.chimney.state}>"
