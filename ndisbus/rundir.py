"""The places of the stack's files: the runtime directory, the bus's endpoint and the pid files.

The bus serves every process that can open its socket. So the directory of the socket is open to one user only
(mode 0700). Everything here concerns one machine and is not visible on the wire.
"""

from __future__ import annotations

import contextlib
import fcntl
import ipaddress
import json
import os
import re
import stat
import sys
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import platformdirs
import psutil

from ndisbus.errors import ChimneyError, value_text

__all__ = [
    "AlreadyRunning",
    "EndpointError",
    "PidFile",
    "PidRecord",
    "RuntimeDirError",
    "check_endpoint",
    "default_endpoint",
    "list_pids",
    "locked",
    "read_pid",
    "runtime_dir",
    "trace_endpoint",
    "write_pid",
]

#: Most bytes of a socket's path, without the final NUL: sun_path has 108 on Linux and 104 on the BSDs.
IPC_PATH_MAX = 107 if sys.platform.startswith("linux") else 103

_TRACE_SUFFIX = ".trace"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")

#: Seconds by which two readings of one process's start may differ: Linux computes it from the time of
#: boot, which changes when the clock is set.
_SAME_START = 2.0


class RuntimeDirError(ChimneyError):
    """The runtime directory cannot be made, or is not private to this user."""


class EndpointError(ChimneyError):
    """An endpoint that the bus does not accept."""


class AlreadyRunning(ChimneyError):
    """A live process has this name. ``pid`` is the process."""

    def __init__(self, name: str, pid: int) -> None:
        super().__init__(
            f"{name} is already running (pid {pid}); stop it, "
            "or set NDISBUS_RUNTIME_DIR to another directory for a second stack"
        )
        self.name = name
        self.pid = pid


# --- the directory ---------------------------------------------------------------------------


def runtime_dir() -> Path:
    """Return the directory of this user's stack. It is made with mode 0700 if it does not exist.

    ``NDISBUS_RUNTIME_DIR`` overrides it. Raises RuntimeDirError if the path is not a directory, belongs to
    another user, can be opened by others, or is in a place where others could replace it.
    """
    override = os.environ.get("NDISBUS_RUNTIME_DIR")
    with warnings.catch_warnings():
        # If XDG_RUNTIME_DIR is not set, platformdirs uses a directory in the system's temporary one, with a
        # warning. Owner and mode are checked below, so the warning is not needed.
        warnings.simplefilter("ignore")
        path = Path(override).absolute() if override else Path(platformdirs.user_runtime_dir("ndisbus"))
    try:
        # Path.mkdir(parents=True) would give the parents the default mode.
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.mkdir(mode=0o700, exist_ok=True)
        about, above = path.lstat(), path.parent.stat()
    except OSError as error:
        raise RuntimeDirError(f"runtime directory {path}: {error.strerror}") from error
    _require_private(path, about, above)
    return path


def _require_private(path: Path, about: os.stat_result, above: os.stat_result) -> None:
    me = os.geteuid()
    hint = "name another with NDISBUS_RUNTIME_DIR"
    if not stat.S_ISDIR(about.st_mode):
        raise RuntimeDirError(f"runtime directory {path} is a link, not a directory; {hint}")
    if about.st_uid != me:
        raise RuntimeDirError(f"runtime directory {path} belongs to uid {about.st_uid}, not to {me}; {hint}")
    if about.st_mode & 0o077:
        mode = stat.S_IMODE(about.st_mode)
        raise RuntimeDirError(
            f"runtime directory {path} is open to others (mode {mode:04o}); chmod 700 it, or {hint}"
        )
    if above.st_uid not in (me, 0):
        raise RuntimeDirError(
            f"{path.parent}, which holds the runtime directory, belongs to uid {above.st_uid}; {hint}"
        )
    if above.st_mode & 0o002 and not above.st_mode & stat.S_ISVTX:
        raise RuntimeDirError(
            f"{path.parent}, which holds the runtime directory, is writable by all users; {hint}"
        )


# --- endpoints -------------------------------------------------------------------------------


def default_endpoint() -> str:
    """Return ``NDISBUS_ENDPOINT`` unchecked (see check_endpoint), or the socket in the runtime directory.

    Raises RuntimeDirError as runtime_dir does, and EndpointError if the directory's path is too long.
    """
    named = os.environ.get("NDISBUS_ENDPOINT")
    if named:
        return named
    endpoint = f"ipc://{runtime_dir() / 'bus.sock'}"
    trace_endpoint(endpoint)
    return endpoint


def check_endpoint(endpoint: str, curve: bool) -> str:
    """Return the endpoint if a bus may use it. ``curve`` says whether CURVE keys are set.

    Raises EndpointError for an unknown transport or form, for a path that is too long for a socket, and for
    an address beyond loopback without keys.
    """
    trace_endpoint(endpoint)
    if endpoint.startswith("tcp://"):
        host, _ = _tcp_parts(endpoint)
        if not curve and not _is_loopback(host):
            raise EndpointError(
                f"{endpoint}: {host} is beyond loopback: every host that reaches it could control the stack; "
                "set CURVE keys, or use 127.0.0.1"
            )
    return endpoint


def trace_endpoint(endpoint: str) -> str:
    """Return where the bus at ``endpoint`` publishes its trace: path + ``.trace``, or the next tcp port."""
    if endpoint.startswith("ipc://"):
        path = endpoint.removeprefix("ipc://")
        _check_ipc(endpoint, path)
        return f"ipc://{path}{_TRACE_SUFFIX}"
    if endpoint.startswith("tcp://"):
        host, port = _tcp_parts(endpoint)
        if port == 65535:
            raise EndpointError(f"{endpoint}: the trace needs the next port; choose a port below 65535")
        return f"tcp://{host}:{port + 1}"
    raise EndpointError(f"{endpoint}: use ipc://PATH or tcp://HOST:PORT")


def _check_ipc(endpoint: str, path: str) -> None:
    if not path or path == "*":
        raise EndpointError(f"{endpoint}: the path is missing; use ipc://PATH")
    if path.startswith("@"):
        raise EndpointError(f"{endpoint}: an abstract socket is open to every local user; name a path")
    # The trace's socket has the longer path of the two.
    size = len(os.fsencode(path)) + len(_TRACE_SUFFIX)
    if size > IPC_PATH_MAX:
        raise EndpointError(
            f"{endpoint}: with {_TRACE_SUFFIX} the socket's path has {size} bytes, and this system allows "
            f"{IPC_PATH_MAX}; set NDISBUS_RUNTIME_DIR to a shorter directory"
        )


def _tcp_parts(endpoint: str) -> tuple[str, int]:
    """Return host (IPv6 in brackets, as ZeroMQ writes it) and port."""
    host, colon, port = endpoint.removeprefix("tcp://").rpartition(":")
    if not colon or not host:
        raise EndpointError(f"{endpoint}: use tcp://HOST:PORT")
    if not (port.isascii() and port.isdigit() and 1 <= int(port) <= 65535):
        raise EndpointError(f"{endpoint}: port '{port}' is not a number from 1 to 65535")
    return host, int(port)


def _is_loopback(host: str) -> bool:
    bare = host.removeprefix("[").removesuffix("]")
    if bare == "localhost":
        return True
    try:
        return ipaddress.ip_address(bare).is_loopback
    except ValueError:
        # The name of a host or an interface may resolve to any address.
        return False


# --- pid files -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PidRecord:
    """The contents of a pid file. ``create_time`` (seconds since 1970) shows whether a pid was used again."""

    name: str
    pid: int
    create_time: float
    cmd: list[str]


class PidFile:
    """This process's hold on a name. A context manager: leaving it, or release(), releases the name."""

    def __init__(self, path: Path, record: PidRecord) -> None:
        self.path = path
        self.record = record

    def release(self) -> None:
        """Remove the file if it is still ours. A second call does nothing."""
        with locked(self.path.parent):
            if _parse(self.path) == self.record:
                self.path.unlink()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.release()


def write_pid(name: str) -> PidFile:
    """Take ``name`` for this process. Raises AlreadyRunning if a live process has it."""
    directory = runtime_dir()
    path = _pid_path(directory, name)
    me = psutil.Process()
    record = PidRecord(name, me.pid, me.create_time(), me.cmdline())
    with locked(directory):
        holder = _live(path)
        if holder is not None:
            raise AlreadyRunning(name, holder.pid)
        # Written to another file and renamed: a reader never sees half a file.
        with tempfile.NamedTemporaryFile("w", dir=directory, prefix=".pid-", delete=False) as aside:
            json.dump(asdict(record), aside)
        Path(aside.name).replace(path)
    return PidFile(path, record)


def read_pid(name: str) -> PidRecord | None:
    """Return the process that has ``name``, or None. The file of a process that has ended is removed."""
    directory = runtime_dir()
    path = _pid_path(directory, name)
    with locked(directory):
        return _live(path)


def list_pids() -> list[PidRecord]:
    """Return every live process with a name, sorted by name. Files of ended processes are removed."""
    directory = runtime_dir()
    with locked(directory):
        found = [_live(path) for path in sorted(directory.glob("[!.]*.pid"))]
    return [record for record in found if record is not None]


def _pid_path(directory: Path, name: str) -> Path:
    if not _NAME.fullmatch(name):
        raise RuntimeDirError(
            f"the process name {value_text(name)} is not allowed: use letters, digits, '.', '_' and '-', "
            "and begin with a letter or digit"
        )
    return directory / f"{name}.pid"


@contextlib.contextmanager
def locked(directory: Path, *, wait: bool = True) -> Iterator[bool]:
    """Lock a directory. Yields whether it is locked, which is always true with ``wait``.

    Otherwise two processes could both remove one stale file (of a pid, of a socket) and both take its name.
    """
    handle = os.open(directory, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(handle)


def _live(path: Path) -> PidRecord | None:
    record = _parse(path)
    if record is None or not _is_running(record):
        path.unlink(missing_ok=True)
        return None
    return record


def _parse(path: Path) -> PidRecord | None:
    """Return the record; None if the file is missing or damaged, as after a power failure."""
    try:
        fields: Any = json.loads(path.read_bytes())
        return PidRecord(
            str(fields["name"]),
            int(fields["pid"]),
            float(fields["create_time"]),
            [str(word) for word in fields["cmd"]],
        )
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def _is_running(record: PidRecord) -> bool:
    try:
        process = psutil.Process(record.pid)
        same = abs(process.create_time() - record.create_time) <= _SAME_START
        # A zombie is dead: it only waits for its parent to reap it.
        return same and process.status() != psutil.STATUS_ZOMBIE
    except (psutil.NoSuchProcess, ValueError):
        return False
