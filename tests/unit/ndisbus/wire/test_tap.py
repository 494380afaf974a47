"""What can be said of TAP devices without one; tests/interop has the rest, as root."""

from __future__ import annotations

import errno
import fcntl
import os
import sys
from pathlib import Path

import pytest

from ndisbus.errors import LocalProtocolError
from ndisbus.wire import tap
from ndisbus.wire.link import LinkCounters, LinkError
from ndisbus.wire.tap import TapLink

FRAME = b"\xff" * 6 + b"\x02\0\0\0\0\x01" + b"\x88\xb5"

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="TAP devices are Linux's")


@pytest.mark.parametrize("name", ["", "a" * 16, "a b", "a/b", "..", "tap%d"])
def test_bad_names_are_refused(name: str) -> None:
    with pytest.raises(LinkError, match="cannot be the name of a network device"):
        TapLink(name)


def test_unknown_namespace_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tap, "_NETNS", tmp_path)
    with pytest.raises(LinkError, match="tap:t0: network namespace 'far': No such file or directory"):
        TapLink("t0", "far")


def test_kernel_without_tap_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tap, "_DEVICE", str(tmp_path / "tun"))
    with pytest.raises(
        LinkError, match=r"No such file or directory; the kernel has no TUN/TAP here \(modprobe tun\)"
    ):
        TapLink("t0")


@pytest.mark.parametrize(
    ("number", "hint"),
    [
        (errno.EPERM, "run as root"),
        (errno.EBUSY, "another process has the device"),
        (errno.EINVAL, "a device of this name exists and is not a TAP device; choose another name"),
        (errno.E2BIG, "see ip-tuntap"),
    ],
)
def test_refusals_say_what_to_do(
    number: int, hint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    (tmp_path / "tun").touch()
    monkeypatch.setattr(tap, "_DEVICE", str(tmp_path / "tun"))
    monkeypatch.setattr(fcntl, "ioctl", refuse)
    before = sum(1 for _ in Path("/proc/self/fd").iterdir())
    with pytest.raises(LinkError, match=f"tap:t0: {os.strerror(number)}; {hint}"):
        TapLink("t0")
    assert sum(1 for _ in Path("/proc/self/fd").iterdir()) == before, "nothing stays open"


@pytest.fixture
def half() -> TapLink:
    """A link whose device is a pipe's reading end: whatever is written to it is refused."""
    link = TapLink.__new__(TapLink)
    link._name, link._mtu, link._counters = "tap:t0", 100, LinkCounters()
    link._fd, writer = os.pipe()
    os.set_blocking(link._fd, False)
    os.write(writer, bytes(119))
    os.close(writer)
    return link


def test_sizes_and_errors_are_counted(half: TapLink, monkeypatch: pytest.MonkeyPatch) -> None:
    half.send(FRAME[:13], 0.0)
    half.send(FRAME + bytes(105), 0.0)
    half.send(FRAME, 0.0)
    assert half.counters.dropped == {"too short": 1, "too long": 1, "refused": 1}
    for number, reason in ((errno.EIO, "down"), (errno.ENOBUFS, "full"), (errno.EAGAIN, "full")):

        def refuse(*_: object, number: int = number) -> int:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(os, "write", refuse)
        before = half.counters.dropped.get(reason, 0)
        half.send(FRAME, 0.0)
        assert half.counters.dropped[reason] == before + 1
    assert half.counters.sent == 0
    half.close()


def test_device_that_is_gone_is_an_error(half: TapLink, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: object) -> bytes:
        raise OSError(errno.EBADFD, os.strerror(errno.EBADFD))

    monkeypatch.setattr(os, "read", gone)
    with pytest.raises(LinkError, match="tap:t0: the device is gone"):
        half.receive(0.0)
    half.close()


def test_closed_link_is_silent(half: TapLink) -> None:
    half.close()
    half.close()
    assert half.fileno() is None
    assert half.receive(0.0) == []
    with pytest.raises(LocalProtocolError, match="tap:t0 is closed"):
        half.send(FRAME, 0.0)
