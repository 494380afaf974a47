"""The TAP link by itself: raw frames, before any stack of ours."""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Callable

import pytest

from ndisbus.net import arp, icmp
from ndisbus.wire.link import Link, LinkError
from ndisbus.wire.tap import TapLink
from ndisbus.wire.tracing import describe
from tests.interop.lab import DEADLINE, LINUX4, OURS4, Lab, until

pytestmark = pytest.mark.interop

MAC = bytes.fromhex("027700000002")
LINUX_MAC = bytes.fromhex("027700000001")
ALL = b"\xff" * 6


def address(text: str) -> bytes:
    return bytes(int(n) for n in text.split("."))


def take(link: Link, wanted: str) -> bytes:
    """The next frame that reads so; others are passed over."""
    fd = link.fileno()
    assert fd is not None
    end = time.monotonic() + DEADLINE
    seen = []
    while (left := end - time.monotonic()) > 0:
        select.select([fd], [], [], left)
        for frame in link.receive(time.monotonic()):
            seen.append(describe(frame))
            if wanted in seen[-1]:
                return frame
    return pytest.fail(f"no {wanted!r} within {DEADLINE:g} s, but {seen}")


def echo(ethernet: bytes, source: str, destination: str, data: bytes) -> bytes:
    """An ICMP echo request in a frame."""
    message = icmp.build(icmp.Echo(1, 1, data))
    head = bytearray.fromhex("45000000 00004000 40010000") + address(source) + address(destination)
    head[2:4] = (20 + len(message)).to_bytes(2, "big")
    head[10:12] = (-sum(int.from_bytes(head[n : n + 2], "big") for n in range(0, 20, 2)) % 0xFFFF).to_bytes(
        2, "big"
    )
    return ethernet + b"\x08\x00" + head + message


def test_linux_answers_arp_and_ping(lab: Lab) -> None:
    link = lab.plug()
    assert (link.name, link.mtu) == ("tap:tap0", 1500)
    request = arp.ArpPacket(arp.REQUEST, MAC, address(OURS4), bytes(6), address(LINUX4))
    link.send(ALL + MAC + b"\x08\x06" + request.build(), time.monotonic())
    reply = take(link, f"ARP {LINUX4} is at 02:77:00:00:00:01")
    assert reply[:12] == MAC + LINUX_MAC
    link.send(echo(LINUX_MAC + MAC, OURS4, LINUX4, b"anybody there?"), time.monotonic())
    assert b"anybody there?" in take(link, f"IP {LINUX4} > {OURS4}: ICMP echo reply")


def test_linux_pings_through_the_device(lab: Lab, tool: Callable[[str], None]) -> None:
    tool("ping")
    link = lab.plug()
    lab.ip(f"neigh add {OURS4} lladdr 02:77:00:00:00:02 dev tap0 nud permanent")
    result: list[bytes] = []
    pinging = threading.Thread(target=lambda: result.append(lab.run("ping", "-n", "-c1", "-W10", OURS4)))
    pinging.start()
    request = bytearray(take(link, f"IP {LINUX4} > {OURS4}: ICMP echo request"))
    message = icmp.parse(bytes(request[34:]))
    assert isinstance(message, icmp.Echo)
    message.reply = True
    request[:12] = LINUX_MAC + MAC
    request[26:34] = address(OURS4) + address(LINUX4)
    link.send(bytes(request[:34]) + icmp.build(message), time.monotonic())
    pinging.join(DEADLINE)
    assert b"1 received" in result[0]


def test_frames_to_a_device_that_is_down_are_counted_and_its_end_is_an_error(lab: Lab) -> None:
    link = TapLink("tap0", lab.name)
    frame = ALL + MAC + b"\x88\xb5" + bytes(46)
    lab.ip("link set tap0 down")
    link.send(frame, 0.0)
    assert link.counters.dropped == {"down": 1}
    lab.ip("link set tap0 up")
    link.send(frame, 0.0)
    assert link.counters.sent == 1
    lab.ip("link del tap0")

    def gone() -> str:
        try:
            link.receive(0.0)
        except LinkError as error:
            return str(error)
        return ""

    assert until(gone, "the device is gone") == "tap:tap0: the device is gone"
    with pytest.raises(LinkError, match="the device is gone"):
        link.send(frame, 0.0)
    link.close()


def test_device_in_use_or_of_another_kind_is_refused(lab: Lab) -> None:
    link = TapLink("tap0", lab.name)
    with pytest.raises(LinkError, match="tap:tap0: Device or resource busy; another process has the device"):
        TapLink("tap0", lab.name)
    link.close()
    with pytest.raises(
        LinkError, match="tap:lo: Invalid argument; a device of this name exists and is not a TAP device"
    ):
        TapLink("lo", lab.name)


def test_device_that_was_made_by_opening_it_vanishes_with_the_link(lab: Lab) -> None:
    link = TapLink("own0", lab.name)
    assert b"own0" in lab.run("ip", "-br", "link")
    link.close()
    assert b"own0" not in lab.run("ip", "-br", "link")


def test_mtu_is_the_devices_and_longer_frames_are_dropped(labs: Callable[..., Lab]) -> None:
    lab = labs(mtu=9000)
    link = TapLink("tap0", lab.name)
    assert link.mtu == 9000
    lab.ip("link set tap0 mtu 9500")
    lab.ip(f"neigh add {OURS4} lladdr 02:77:00:00:00:02 dev tap0 nud permanent")
    lab.await_carrier()
    with lab.inside(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.sendto(bytes(9472), (OURS4, 9))
        udp.sendto(b"short", (OURS4, 9))
    take(link, "UDP, length 13")
    assert link.counters.dropped == {"too long": 1}
    link.close()
