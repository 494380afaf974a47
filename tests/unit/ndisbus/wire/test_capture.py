"""Captures: the file, block by block, and what the impairments note in it."""

from __future__ import annotations

import errno
import io
import os
import random
import shutil
import stat
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ndisbus.wire.capture import INBOUND, OUTBOUND, CaptureLink, PcapngWriter
from ndisbus.wire.impair import ImpairedLink, Impairments
from ndisbus.wire.link import LinkError
from ndisbus.wire.memory import MemorySegment

FRAME = b"\xff" * 6 + b"\x02\0\0\0\0\x01" + b"\x88\xb5" + b"payload"


class Packet(NamedTuple):
    """An enhanced packet block."""

    time: int
    frame: bytes
    direction: int
    comment: str


def blocks(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Type and body of each block; both of its lengths are checked."""
    at = 0
    while at < len(data):
        kind, size = struct.unpack_from("<II", data, at)
        assert size % 4 == 0
        assert struct.unpack_from("<I", data, at + size - 4) == (size,)
        yield kind, data[at + 8 : at + size - 4]
        at += size
    assert at == len(data)


def options(data: bytes) -> dict[int, bytes]:
    """Options up to their end, which has to be there."""
    found: dict[int, bytes] = {}
    at = 0
    while True:
        code, size = struct.unpack_from("<HH", data, at)
        if code == 0:
            assert (size, at + 4) == (0, len(data))
            return found
        found[code] = data[at + 4 : at + 4 + size]
        assert not any(data[at + 4 + size : at + 4 + size + -size % 4]), "padding is of zeros"
        at += 4 + size + -size % 4


def packets(data: bytes) -> list[Packet]:
    """The packets of a file, read by the draft rather than by our writer."""
    found = []
    for kind, body in list(blocks(data))[2:]:
        assert kind == 6
        interface, high, low, captured, size = struct.unpack_from("<IIIII", body)
        assert (interface, captured) == (0, size)
        said = options(body[20 + size + -size % 4 :])
        found.append(
            Packet(
                high << 32 | low,
                body[20 : 20 + size],
                struct.unpack("<I", said[2])[0],
                said.get(1, b"").decode(),
            )
        )
    return found


def test_file_begins_with_section_and_interface() -> None:
    file = io.BytesIO()
    PcapngWriter(file, name="cable:lan", mtu=1500)
    (section, body), (interface, about) = blocks(file.getvalue())
    assert (section, interface) == (0x0A0D0D0A, 1)
    assert struct.unpack_from("<IHHq", body) == (0x1A2B3C4D, 1, 0, -1)
    assert options(body[16:]) == {4: b"tcp-chimney"}
    # Link type Ethernet, snapshot length; name, resolution of 10**-9 s.
    assert struct.unpack_from("<HHI", about) == (1, 0, 1518)
    assert options(about[8:]) == {2: b"cable:lan", 9: b"\x09"}


@given(
    st.lists(
        st.tuples(
            st.binary(max_size=70), st.sampled_from((INBOUND, OUTBOUND)), st.text(max_size=20).map(str.strip)
        )
    )
)
def test_every_packet_is_read_back(given_packets: list[tuple[bytes, int, str]]) -> None:
    file = io.BytesIO()
    writer = PcapngWriter(file, name="x", mtu=1500, origin=1_700_000_000_000_000_000)
    for n, (frame, direction, comment) in enumerate(given_packets):
        writer.write(writer.packet(frame, n + 0.5, direction, comment))
    assert packets(file.getvalue()) == [
        Packet(1_700_000_000_500_000_000 + n * 1_000_000_000, frame, direction, comment)
        for n, (frame, direction, comment) in enumerate(given_packets)
    ]


def test_both_directions_are_in_the_file_at_once(tmp_path: Path) -> None:
    segment = MemorySegment()
    path = tmp_path / "lan.pcapng"
    path.write_text("old")
    link, far = CaptureLink(segment.station("a"), path), segment.station("b")
    link.send(FRAME, 1.0)
    far.send(FRAME + b"1", 2.0)
    far.send(FRAME + b"2", 2.0)
    assert link.receive(3.0) == [FRAME + b"1", FRAME + b"2"]
    # Not closed: this is what is left of a process that was killed.
    assert packets(path.read_bytes()) == [
        Packet(1_000_000_000, FRAME, OUTBOUND, ""),
        Packet(3_000_000_000, FRAME + b"1", INBOUND, ""),
        Packet(3_000_000_000, FRAME + b"2", INBOUND, ""),
    ]
    link.close()
    link.close()


def test_file_is_for_its_owner_only(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        CaptureLink(MemorySegment().station("a"), tmp_path / "c.pcapng").close()
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "c.pcapng").stat().st_mode) == 0o600


def test_faults_stand_in_comments(tmp_path: Path) -> None:
    segment = MemorySegment()
    impaired = ImpairedLink(segment.station("a"), random.Random(1))
    link, far = CaptureLink(impaired, tmp_path / "c.pcapng"), segment.station("b")

    def last(count: int = 1) -> list[Packet]:
        return packets((tmp_path / "c.pcapng").read_bytes())[-count:]

    impaired.impair(egress=Impairments(loss=1.0), ingress=Impairments(corrupt=1.0))
    link.send(FRAME, 1.0)
    assert last() == [Packet(1_000_000_000, FRAME, OUTBOUND, "lost")]
    far.send(FRAME, 2.0)
    [damaged] = link.receive(2.0)
    [shown] = last()
    assert shown.frame == damaged != FRAME, "as it was handed on"
    assert shown.comment.startswith("corrupted: bit ")

    impaired.impair(egress=Impairments(corrupt=1.0, duplicate=1.0), ingress=Impairments(loss=1.0))
    link.send(FRAME, 3.0)
    [shown] = last()
    assert shown.frame == FRAME, "as it was given"
    assert shown.comment.startswith("corrupted: bit ") and shown.comment.endswith("; duplicated")
    far.send(FRAME, 4.0)
    assert link.receive(4.0) == []
    assert last() == [Packet(4_000_000_000, FRAME, INBOUND, "lost")]

    impaired.impair(ingress=Impairments(duplicate=1.0), egress=Impairments(limit=1, delay=1.0))
    far.send(FRAME, 5.0)
    assert link.receive(5.0) == [FRAME, FRAME]
    assert [(p.frame, p.comment) for p in last(2)] == [(FRAME, ""), (FRAME, "duplicate")]
    link.send(FRAME, 6.0)
    link.send(FRAME, 6.0)
    assert [p.comment for p in last(2)] == ["", "dropped: 1 frames wait"]
    link.close()


def test_file_that_cannot_be_made_says_why(tmp_path: Path) -> None:
    with pytest.raises(LinkError, match=r"capture .*nowhere/c.pcapng: No such file or directory"):
        CaptureLink(MemorySegment().station("a"), tmp_path / "nowhere" / "c.pcapng")


def test_full_disk_ends_the_capture_and_not_the_link(tmp_path: Path) -> None:
    segment = MemorySegment()
    impaired = ImpairedLink(segment.station("a"), random.Random(1), egress=Impairments(duplicate=1.0))
    link, far = CaptureLink(impaired, tmp_path / "c.pcapng"), segment.station("b")

    class Full(io.BytesIO):
        def write(self, _: object) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    link._writer._file = Full()
    for _ in range(3):
        link.send(FRAME, 1.0)
    assert len(far.receive(1.0)) == 6
    assert link.error == f"capture {tmp_path}/c.pcapng: No space left on device; nothing more is written"
    assert not link._notes, "nothing piles up for a file that is not written"
    far.send(FRAME, 1.0)
    assert link.receive(1.0) == [FRAME]
    link.close()


@pytest.mark.skipif(shutil.which("tshark") is None, reason="there is no tshark here")
def test_tshark_reads_it(tmp_path: Path) -> None:
    segment = MemorySegment()
    impaired = ImpairedLink(segment.station("a"), random.Random(1))
    path = tmp_path / "c.pcapng"
    link, far = CaptureLink(impaired, path, origin=1_700_000_000_000_000_000), segment.station("b")
    link.send(FRAME, 0.25)
    impaired.impair(ingress=Impairments(loss=1.0))
    far.send(FRAME, 1.0)
    link.receive(1.0)
    link.close()
    fields = ["time_epoch", "len", "interface_name", "packet_flags_direction", "comment"]
    argv = ["tshark", "-r", str(path), "-T", "fields"] + [w for f in fields for w in ("-e", f"frame.{f}")]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True)
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert [(time, size, name, int(way, 16), comment) for time, size, name, way, comment in rows] == [
        ("1700000000.250000000", "21", "memory:memory", OUTBOUND, ""),
        ("1700000001.000000000", "21", "memory:memory", INBOUND, "lost"),
    ]
