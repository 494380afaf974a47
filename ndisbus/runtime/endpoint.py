"""Binding an endpoint: never over a live bus, and despite the socket file of a dead one."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import struct
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import zmq

from ndisbus.errors import ChimneyError
from ndisbus.rundir import locked

__all__ = ["EndpointInUse", "bind", "is_deserted"]


class EndpointInUse(ChimneyError):
    """Another process listens at the endpoint. ``pid`` is its pid; None if it cannot be found."""

    def __init__(self, endpoint: str, pid: int | None) -> None:
        who = f"pid {pid}" if pid else "a process of another user"
        super().__init__(
            f"{endpoint}: {who} is listening there already; stop it, "
            "or choose another endpoint (--endpoint, NDISBUS_ENDPOINT)"
        )
        self.pid = pid


def bind(sock: zmq.Socket[bytes], endpoint: str) -> Callable[[], None]:
    """Bind a socket. An ipc socket is for this user only, and a stale file of its name is removed.

    Returns a function that removes the socket's file if it is still the same file; libzmq leaves it behind.

    Raises :class:`EndpointInUse` if a live process listens there, :class:`ChimneyError` if binding fails for
    another reason.
    """
    if not endpoint.startswith("ipc://"):
        _bind(sock, endpoint)
        return lambda: None
    path = Path(endpoint.removeprefix("ipc://"))
    if not path.parent.is_dir():
        raise ChimneyError(
            f"{endpoint}: the directory {path.parent} does not exist; create it, or choose another endpoint"
        )
    with locked(path.parent):
        # libzmq removes any file of that name, even the socket of a live bus. So check first.
        _clear(endpoint, path)
        before = os.umask(0o077)
        try:
            _bind(sock, endpoint)
        finally:
            os.umask(before)
        made = path.lstat()

    def remove() -> None:
        with locked(path.parent), contextlib.suppress(FileNotFoundError):
            now = path.lstat()
            if (now.st_dev, now.st_ino) == (made.st_dev, made.st_ino):
                path.unlink()

    return remove


def is_deserted(endpoint: str) -> bool:
    """Return whether certainly no process listens at an ipc endpoint; False for other endpoints."""
    if not endpoint.startswith("ipc://"):
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(endpoint.removeprefix("ipc://"))
        except (FileNotFoundError, ConnectionRefusedError):
            return True
        except BlockingIOError:
            pass
    return False


def _bind(sock: zmq.Socket[bytes], endpoint: str) -> None:
    try:
        sock.bind(endpoint)
    except zmq.ZMQError as error:
        if error.errno == zmq.EADDRINUSE:
            raise EndpointInUse(endpoint, _tcp_listener(endpoint)) from error
        raise ChimneyError(f"{endpoint}: cannot listen there: {error.strerror}") from error


def _clear(endpoint: str, path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise ChimneyError(
            f"{endpoint}: the file {path} is not a socket; move it away, or choose another endpoint"
        )
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
        except BlockingIOError:
            pass  # a process listens and is too busy to accept
        raise EndpointInUse(endpoint, _unix_listener(probe))


def _unix_listener(probe: socket.socket) -> int | None:
    if not sys.platform.startswith("linux"):
        return None
    with contextlib.suppress(OSError):
        pid, _, _ = struct.unpack("3i", probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        return int(pid) or None
    return None


def _tcp_listener(endpoint: str) -> int | None:
    port = int(endpoint.rpartition(":")[2])
    with contextlib.suppress(psutil.Error):
        for c in psutil.net_connections("tcp"):
            if c.status == psutil.CONN_LISTEN and c.laddr and c.laddr.port == port:
                return c.pid
    return None
