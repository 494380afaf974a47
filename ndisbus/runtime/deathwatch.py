"""Identity of a process, and detection of its death if it runs on this machine.

On Linux a poller waits for its pidfd. On other systems psutil is asked every 20 ms.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import psutil

__all__ = ["INTERVAL", "DeathWatch", "host_id", "process_info"]

#: Seconds between two checks of processes without a pidfd.
INTERVAL: Final = 0.02
#: Seconds by which two readings of a process's start may differ: the clock may have been set in between.
_SAME_START: Final = 2.0


@cache
def host_id() -> str:
    """Return a text that is equal for two processes if a pid means the same process to both."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip())
    with contextlib.suppress(OSError):
        # Containers of one machine have the same boot id, but not the same pids.
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return "/".join(parts)


def process_info() -> dict[str, Any]:
    """Return Pid, CreateTime (seconds since 1970) and Host of this process, as hello and ready carry them."""
    return {"Pid": os.getpid(), "CreateTime": psutil.Process().create_time(), "Host": host_id()}


@dataclass(slots=True, eq=False)
class _Watched:
    token: Any
    process: psutil.Process
    fd: int | None


class DeathWatch:
    """Watches processes of this machine. A ``token`` identifies the process that died.

    ``register`` and ``unregister`` are called with pidfds, for the owner's poller.
    """

    def __init__(self, register: Callable[[int], object], unregister: Callable[[int], object]) -> None:
        self._register = register
        self._unregister = unregister
        self._by_fd: dict[int, _Watched] = {}
        #: Processes without a pidfd. While there are any, the owner calls :meth:`sweep` every INTERVAL.
        self.polled: list[_Watched] = []

    def watch(self, token: Any, info: dict[str, Any]) -> bool:
        """Watch the process that ``info`` (see :func:`process_info`) describes. Returns False if it is dead.

        A process of another machine is not watched, nor one that does not match ``info``. Heartbeats must
        detect its death.
        """
        pid, created = info.get("Pid"), info.get("CreateTime")
        local = info.get("Host") == host_id()
        if not local or type(pid) is not int or not isinstance(created, (int, float)):
            return True
        fd: int | None = None
        try:
            # Open the pidfd first: from then on the pid cannot come to mean another process.
            if hasattr(os, "pidfd_open"):
                with contextlib.suppress(OSError):
                    fd = os.pidfd_open(pid)
            process = psutil.Process(pid)
            same = abs(process.create_time() - created) <= _SAME_START
        except (psutil.NoSuchProcess, ValueError, OverflowError):
            if fd is not None:
                os.close(fd)
            return False
        if not same:
            if fd is not None:
                os.close(fd)
            return True
        watched = _Watched(token, process, fd)
        if fd is None:
            self.polled.append(watched)
        else:
            self._by_fd[fd] = watched
            self._register(fd)
        return True

    def owns(self, fd: Any) -> bool:
        """Return whether a descriptor that the poller reports belongs to this object."""
        return fd in self._by_fd

    def died(self, fd: int) -> Any:
        """Stop watching the process of a pidfd that became readable. Returns its token."""
        watched = self._by_fd[fd]
        self._drop(watched)
        return watched.token

    def sweep(self) -> list[Any]:
        """Return the tokens of the processes without a pidfd that have died."""
        dead = [w for w in self.polled if not _alive(w.process)]
        for w in dead:
            self._drop(w)
        return [w.token for w in dead]

    def forget(self, gone: Callable[[Any], bool]) -> None:
        """Stop watching the processes whose token ``gone`` accepts."""
        for w in [*self._by_fd.values(), *self.polled]:
            if gone(w.token):
                self._drop(w)

    def close(self) -> None:
        """Stop watching all processes."""
        self.forget(lambda _: True)

    def _drop(self, watched: _Watched) -> None:
        if watched.fd is None:
            self.polled.remove(watched)
            return
        del self._by_fd[watched.fd]
        self._unregister(watched.fd)
        os.close(watched.fd)


def _alive(process: psutil.Process) -> bool:
    try:
        # A zombie is dead: it only waits for its parent to reap it.
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
