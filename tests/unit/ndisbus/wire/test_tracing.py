"""Frames as lines, and the events of a traced link."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ndisbus.wire.memory import MemorySegment
from ndisbus.wire.tracing import TracingLink, describe

MACS = "020000000002 020000000001"
#: 10.77.0.1 > 10.77.0.2, protocol and length to be filled in, without a checksum.
SYN4 = (
    MACS
    + "0800 4500003c 00004000 40060000 0a4d0001 0a4d0002"
    + "c0000007 00000064 00000000 a0027210 00000000 020405b4 0402080a 00000001 00000000 01030307"
)


def checksum(data: bytes | bytearray) -> int:
    return -sum(int.from_bytes(data[n : n + 2], "big") for n in range(0, len(data), 2)) % 0xFFFF


def frame(text: str) -> bytes:
    """From hexadecimal digits, with an IPv4 header's checksum filled in."""
    raw = bytearray.fromhex(text)
    at = 18 if raw[12:14] == b"\x81\x00" else 14
    if raw[at - 2 : at] == b"\x08\x00" and len(raw) >= at + 20:
        raw[at + 10 : at + 12] = checksum(raw[at : at + 20]).to_bytes(2, "big")
        if raw[at + 9] == 6 and len(raw) >= at + 40:
            segment = raw[at + 20 :]
            pseudo = raw[at + 12 : at + 20] + b"\0\x06" + len(segment).to_bytes(2, "big")
            raw[at + 36 : at + 38] = checksum(pseudo + segment).to_bytes(2, "big")
    return bytes(raw)


@pytest.mark.parametrize(
    ("raw", "line"),
    [
        (
            frame(SYN4),
            "IP 10.77.0.1.49152 > 10.77.0.2.7: Flags [S], seq 100:101, win 29200, "
            "options [mss 1460,sackOK,TS val 1 ecr 0,wscale 7], length 0",
        ),
        (frame(SYN4)[:-1] + b"\x08", "IP 10.77.0.1.49152 > 10.77.0.2.7: tcp: bad checksum"),
        (
            frame(MACS + "8100 6005 0800 4500001c 00000000 40110000 0a4d0001 0a4d0002 00350036 00080000"),
            "vlan 5 p 3 IP 10.77.0.1.53 > 10.77.0.2.54: UDP, length 8",
        ),
        (
            frame(MACS + "0800 4500001c 00000000 40010000 0a4d0001 0a4d0002 08000000 00010001"),
            "IP 10.77.0.1 > 10.77.0.2: ICMP echo request, length 8",
        ),
        (
            frame(MACS + "0800 4500001c 00000000 402f0000 0a4d0001 0a4d0002 08000000 00010001"),
            "IP 10.77.0.1 > 10.77.0.2: protocol 47, length 8",
        ),
        (
            frame(MACS + "0800 4500001c 00002001 40060000 0a4d0001 0a4d0002 08000000 00010001"),
            "IP 10.77.0.1 > 10.77.0.2: fragment, protocol 6, length 8",
        ),
        (
            frame(
                MACS
                + "86dd 60000000 00083aff"
                + "fe80"
                + "00" * 13
                + "01"
                + "ff02"
                + "00" * 13
                + "02"
                + "85"
                + "00" * 7
            ),
            "IP fe80::1 > ff02::2: ICMP6 router solicitation, length 8",
        ),
        (
            frame(MACS + "0806 0001 0800 0604 0001 020000000001 0a4d0001 000000000000 0a4d0002"),
            "ARP who has 10.77.0.2? tell 10.77.0.1",
        ),
        (
            frame(MACS + "0806 0001 0800 0604 0002 020000000001 0a4d0001 020000000002 0a4d0002"),
            "ARP 10.77.0.1 is at 02:00:00:00:00:01",
        ),
        (frame(MACS + "0806 0001 0800 0604 0009" + "00" * 20), "ARP operation 9"),
        (frame(MACS + "0806 0001"), "arp: short header"),
        (frame(MACS + "88b5 00"), "02:00:00:00:00:01 > 02:00:00:00:00:02 ethertype 0x88b5"),
        (frame(MACS + "0800 45"), "02:00:00:00:00:01 > 02:00:00:00:00:02 ipv4: short header"),
        (b"", "ethernet: short header"),
    ],
)
def test_frames_in_words(raw: bytes, line: str) -> None:
    assert describe(raw) == line


@given(st.binary(max_size=100))
def test_any_bytes_have_a_line(raw: bytes) -> None:
    for start in ("", MACS + "0800", MACS + "86dd", MACS + "0806", MACS + "8100"):
        assert "\n" not in describe(bytes.fromhex(start) + raw)


@given(st.integers(14, len(frame(SYN4)) - 1), st.integers(0, 255))
def test_a_damaged_frame_has_a_line(at: int, value: int) -> None:
    raw = bytearray(frame(SYN4))
    raw[at] = value
    assert describe(bytes(raw))


def test_every_frame_is_an_event() -> None:
    segment = MemorySegment("lan")
    events: list[dict[str, Any]] = []
    closed: list[bool] = []
    link = TracingLink(segment.station("a"), events.append, lambda: closed.append(True))
    far = segment.station("b")
    raw = frame(MACS + "88b5 00")
    link.send(raw, 1.0)
    far.send(raw, 2.0)
    assert link.receive(3.0) == [raw]
    common = {"event": "frame", "link": "memory:lan", "length": 15, "frame": describe(raw)}
    assert events == [common | {"t": 1.0, "direction": "out"}, common | {"t": 3.0, "direction": "in"}]
    link.close()
    link.close()
    assert closed == [True]
