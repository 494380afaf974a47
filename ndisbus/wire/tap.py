"""A TAP device of Linux: the other end of the wire is the kernel's own network stack.

The device may exist already (``ip tuntap add dev NAME mode tap``). Otherwise it is made, and lives as long as
the link. In both cases it has to be up, and the administrator gives it its addresses. This needs root
(CAP_NET_ADMIN), or a device that belongs to this user. Linux documents the interface in
Documentation/networking/tuntap.rst.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import re
import socket
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from ndisbus.errors import LocalProtocolError
from ndisbus.wire.link import ETHERNET_OVERHEAD, LinkError, Medium

__all__ = ["BATCH", "TapLink", "inside"]

#: Most frames of one :meth:`TapLink.receive`.
BATCH: Final = 128
_DEVICE: Final = "/dev/net/tun"
_NETNS: Final = Path("/run/netns")
_TUNSETIFF: Final = 0x400454CA
_SIOCGIFMTU: Final = 0x8921
_IFF_TAP: Final = 0x0002
_IFF_NO_PI: Final = 0x1000
_CLONE_NEWNET: Final = 0x40000000
_NAME: Final = re.compile(r"[^\s/:%]{1,15}")


class TapLink(Medium):
    """The station at the far end of TAP device ``name``, in network namespace ``netns`` (None: this one).

    The MTU is that of the device at opening. Drop reasons: ``down`` (the device is not up), ``full``,
    ``refused``, and wrong sizes. Raises LinkError if the system has no TAP devices, does not permit this one,
    or if the device is in use.
    """

    def __init__(self, name: str, netns: str | None = None) -> None:
        if not sys.platform.startswith("linux"):
            raise LinkError(
                f"tap:{name}: TAP devices exist on Linux only (this is {sys.platform}); use a cable"
            )
        if not _NAME.fullmatch(name) or name in (".", ".."):
            raise LinkError(
                f"tap: '{name}' cannot be the name of a network device: use 1 to 15 characters, "
                "without spaces, '/', ':' and '%'"
            )
        shown = f"tap:{name}"
        with inside(netns, shown):
            self._fd = _attach(name, shown)
            try:
                mtu = _mtu_of(name)
            except OSError as error:
                os.close(self._fd)
                raise LinkError(f"{shown}: its MTU cannot be read: {error.strerror}") from error
        super().__init__(shown, mtu)

    def send(self, frame: bytes, now: float) -> None:
        """Send a frame: see Link. Raises LocalProtocolError once closed, LinkError if the device has gone."""
        if self._fd < 0:
            raise LocalProtocolError(f"{self._name} is closed")
        size, c = len(frame), self._counters
        if not self.fits(size):
            return
        try:
            os.write(self._fd, frame)
        except OSError as error:
            c.drop(self._why(error))
            return
        c.sent += 1
        c.sent_bytes += size

    def receive(self, now: float) -> list[bytes]:
        """Return arrived frames: see Link. Raises LinkError if the device has gone."""
        frames: list[bytes] = []
        if self._fd < 0:
            return frames
        read, fd, c = os.read, self._fd, self._counters
        longest = self._mtu + ETHERNET_OVERHEAD
        for _ in range(BATCH):
            try:
                frame = read(fd, longest + 1)
            except BlockingIOError:
                break
            except OSError as error:
                c.drop(self._why(error))
                break
            # The device's MTU may have been raised since it was opened.
            if len(frame) > longest:
                c.drop("too long")
                continue
            c.received += 1
            c.received_bytes += len(frame)
            frames.append(frame)
        return frames

    def next_deadline(self) -> float | None:
        """Return None: nothing here depends on time."""
        return None

    def fileno(self) -> int | None:
        """Return the device's descriptor."""
        return None if self._fd < 0 else self._fd

    def close(self) -> None:
        """Close the device. A device that was made by opening it is removed."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _why(self, error: OSError) -> str:
        """Return the drop reason of an error. Raises LinkError if the device cannot be used any more."""
        if error.errno in (errno.EBADFD, errno.ENODEV):
            raise LinkError(f"{self._name}: the device is gone") from error
        if error.errno == errno.EIO:
            return "down"
        if error.errno in (errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM):
            return "full"
        return "refused"


def _attach(name: str, what: str) -> int:
    """Return a descriptor of the device, which is made if it does not exist."""
    try:
        fd = os.open(_DEVICE, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise LinkError(f"{what}: {_DEVICE}: {error.strerror}; {_hint(error)}") from error
    try:
        fcntl.ioctl(fd, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TAP | _IFF_NO_PI))
    except OSError as error:
        os.close(fd)
        raise LinkError(f"{what}: {error.strerror}; {_hint(error)}") from error
    return fd


def _hint(error: OSError) -> str:
    if error.errno in (errno.EPERM, errno.EACCES):
        return "run as root, or give the device to this user (ip tuntap add dev NAME mode tap user USER)"
    if error.errno == errno.EBUSY:
        return "another process has the device"
    if error.errno == errno.EINVAL:
        return "a device of this name exists and is not a TAP device; choose another name"
    if error.errno in (errno.ENOENT, errno.ENXIO, errno.ENODEV):
        return "the kernel has no TUN/TAP here (modprobe tun)"
    return "see ip-tuntap(8)"


def _mtu_of(name: str) -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        answer = fcntl.ioctl(asking, _SIOCGIFMTU, struct.pack("16si20x", name.encode(), 0))
    mtu: int = struct.unpack("16si20x", answer)[1]
    return mtu


@contextlib.contextmanager
def inside(netns: str | None, what: str) -> Iterator[None]:
    """Move this thread to a named network namespace while a device there is opened."""
    if netns is None:
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    path = _NETNS / netns
    try:
        there = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise LinkError(
            f"{what}: network namespace '{netns}': {error.strerror} (ip netns list shows them)"
        ) from error
    here = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        # os.setns came with Python 3.12.
        if libc.setns(there, _CLONE_NEWNET):
            why = os.strerror(ctypes.get_errno())
            raise LinkError(f"{what}: network namespace '{netns}': {why}; run as root")
        try:
            yield
        finally:
            if libc.setns(here, _CLONE_NEWNET):
                raise LinkError(f"{what}: cannot leave network namespace '{netns}'; restart the process")
    finally:
        os.close(here)
        os.close(there)
