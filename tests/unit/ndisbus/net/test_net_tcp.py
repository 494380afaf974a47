"""TCP headers: every segment survives the way to bytes and back, and option lists of any kind do no harm."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ndisbus.errors import DecodeError, LocalProtocolError
from ndisbus.net import tcp
from ndisbus.net.checksum import pseudo_header
from ndisbus.net.segment import ACK, PSH, SYN, URG, Segment

PSEUDO = pseudo_header(bytes((10, 0, 0, 1)), bytes((10, 0, 0, 2)), tcp.PROTOCOL)

word16 = st.integers(0, 0xFFFF)
word32 = st.integers(0, 0xFFFFFFFF)
payloads = st.one_of(
    st.binary(max_size=40), st.integers(120, 1500).map(lambda n: bytes(i * 7 & 255 for i in range(n)))
)


@st.composite
def segments(draw: st.DrawFn) -> Segment:
    """Segments whose options a header can hold."""
    flags = draw(st.integers(0, 255))
    stamped = draw(st.booleans())
    options: dict[str, Any] = {}
    if stamped:
        options |= {"ts_val": draw(word32), "ts_ecr": draw(word32)}
    if flags & SYN:
        options |= {
            "mss": draw(st.none() | word16),
            "window_scale": draw(st.none() | st.integers(0, 255)),
            "sack_permitted": draw(st.booleans()),
        }
    else:
        most = 3 if stamped else 4
        options["sack"] = tuple(draw(st.lists(st.tuples(word32, word32), max_size=most)))
    return Segment(
        draw(word32),
        draw(word32),
        flags,
        draw(word16),
        draw(payloads),
        draw(word16),
        draw(word16),
        draw(word16),
        **options,
    )


def with_options(options: bytes, flags: int = ACK, payload: bytes = b"data") -> bytes:
    """A segment with this option list, padded to whole words."""
    options += bytes(-len(options) % 4)
    plain = tcp.build(Segment(1, 2, flags, 3, payload), PSEUDO)
    head = bytearray(plain[:20])
    head[12] = 20 + len(options) << 2
    return bytes(head) + options + payload


@given(segments())
def test_round_trip(segment: Segment) -> None:
    data = tcp.build(segment, PSEUDO)
    assert tcp.parse_segment(data, PSEUDO) == segment
    assert len(data) == (data[12] >> 4) * 4 + len(segment.payload)


@given(segments(), st.data())
def test_damage_is_noticed(segment: Segment, data: st.DataObject) -> None:
    good = tcp.build(segment, PSEUDO)
    at = data.draw(st.integers(0, len(good) - 1))
    bit = data.draw(st.integers(0, 7))
    bad = bytearray(good)
    bad[at] ^= 1 << bit
    with pytest.raises(DecodeError, match="tcp: bad checksum"):
        tcp.parse_segment(bytes(bad), PSEUDO)


def test_views_are_payload_too() -> None:
    segment = Segment(1, 2, ACK, 3, memoryview(b"some data")[5:])
    assert tcp.parse_segment(tcp.build(segment, PSEUDO), PSEUDO).payload == b"data"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "short header"),
        (bytes(19), "short header"),
        (bytes(12) + b"\x40" + bytes(7), "bad header length"),
        (bytes(12) + b"\x60" + bytes(7), "bad header length"),
    ],
    ids=["nothing", "19 bytes", "offset 4", "offset beyond the end"],
)
def test_impossible_headers(data: bytes, reason: str) -> None:
    with pytest.raises(DecodeError, match=f"tcp: {reason}"):
        tcp.parse_segment(data, None)


UNKNOWN = [
    pytest.param(b"\xfd\x06abcd", id="unknown kind"),
    pytest.param(b"\x05\x0a" + bytes(8), id="SACK"),
    pytest.param(b"\x05\x05abc", id="SACK of no whole blocks"),
    pytest.param(b"\x02\x03\x01", id="MSS of one byte"),
    pytest.param(b"\x08\x04ab", id="short timestamps"),
    pytest.param(b"\x1d\x12" + bytes(16), id="TCP-AO"),
    pytest.param(b"\xff\x02", id="no data"),
]


@pytest.mark.parametrize("option", UNKNOWN)
@pytest.mark.parametrize("flags", [ACK, SYN])
def test_options_are_skipped_and_the_rest_is_processed(option: bytes, flags: int) -> None:
    """R-RFC-04, RFC 9293 3.1 (MUST-6): what stands behind an option that is not understood counts in full."""
    stamps = b"\x08\x0a" + (7).to_bytes(4, "big") + (8).to_bytes(4, "big")
    segment = tcp.parse_segment(with_options(option + stamps, flags), None)
    assert (segment.ts_val, segment.ts_ecr) == (7, 8)
    assert (segment.seq, segment.ack, segment.window, segment.payload) == (1, 2, 3, b"data")


@pytest.mark.parametrize(
    "bad",
    [b"\xfd\x00", b"\xfd\x01", b"\xfd\x40", b"\x08\x0aab", b"\x02"],
    ids=["length 0", "length 1", "length beyond the header", "cut short", "no length"],
)
def test_illegal_length_ends_the_list(bad: bytes) -> None:
    """RFC 9293 3.1 (MUST-7): prepared for an illegal option length; what came before it is kept."""
    head = b"\x02\x04\x05\xb4"
    filler = bytes((1,)) * (-len(bad) % 4)
    segment = tcp.parse_segment(with_options(head + filler + bad, SYN), None)
    assert segment.mss == 1460
    assert segment.ts_val is None
    assert segment.payload == b"data"


def test_end_of_option_list() -> None:
    """RFC 9293 3.2: nothing behind End of Option List counts."""
    segment = tcp.parse_segment(with_options(b"\x00\x02\x04\x05\xb4", SYN), None)
    assert segment.mss is None


def test_options_of_a_syn_count_in_a_syn_only() -> None:
    """RFC 7323 2.2, RFC 2018 2: elsewhere window scale and SACK-permitted are ignored, and so is MSS."""
    options = b"\x02\x04\x05\xb4\x03\x03\x07\x01\x04\x02\x01\x01"
    syn = tcp.parse_segment(with_options(options, SYN), None)
    assert (syn.mss, syn.window_scale, syn.sack_permitted) == (1460, 7, True)
    later = tcp.parse_segment(with_options(options, ACK), None)
    assert (later.mss, later.window_scale, later.sack_permitted) == (None, None, False)
    built = tcp.build(Segment(1, 2, ACK, 3, mss=1460, window_scale=7, sack_permitted=True), PSEUDO)
    assert len(built) == 20


@pytest.mark.parametrize(("stamped", "sent"), [(False, 4), (True, 3)])
def test_as_many_sack_blocks_as_fit(stamped: bool, sent: int) -> None:
    """RFC 2018 3: four blocks, three beside timestamps; the first ones go (RFC 2018 4)."""
    blocks = tuple((10 * i, 10 * i + 5) for i in range(6))
    segment = Segment(1, 2, ACK, 3, sack=blocks, ts_val=1 if stamped else None)
    assert tcp.parse_segment(tcp.build(segment, PSEUDO), PSEUDO).sack == blocks[:sent]


def test_layout_of_a_usual_segment() -> None:
    """Two No Operations in front of the timestamps, as RFC 7323 appendix A suggests."""
    segment = Segment(
        0x01020304, 0x05060708, PSH | ACK | URG, 0x090A, b"xy", 0x0B0C, 0x0D0E, 0x0F10, ts_val=1, ts_ecr=2
    )
    data = tcp.build(segment, PSEUDO)
    assert data[:16].hex() == "0d0e0f10010203040506070880" + "38" + "090a"
    assert data[18:].hex() == "0b0c" + "0101080a0000000100000002" + b"xy".hex()


@pytest.mark.parametrize(
    "segment",
    [
        Segment(1 << 32, 0, ACK, 0),
        Segment(0, -1, ACK, 0),
        Segment(0, 0, ACK, 1 << 16),
        Segment(0, 0, ACK, 0, ts_val=1 << 32),
        Segment(0, 0, SYN, 0, mss=1 << 16),
        Segment(0, 0, SYN, 0, window_scale=256),
        Segment(0, 0, ACK, 0, sack=((0, 1 << 32),)),
    ],
)
def test_members_that_do_not_fit(segment: Segment) -> None:
    with pytest.raises(LocalProtocolError, match="does not fit"):
        tcp.build(segment, PSEUDO)
