"""The header on the wire: checksum and options (RFC 9293 3.1, 3.2), byte for byte."""

from __future__ import annotations

import pytest

from ndisbus.errors import DecodeError
from ndisbus.net import tcp
from ndisbus.net.checksum import pseudo_header
from ndisbus.net.segment import ACK, FIN, PSH, RST, SYN, Segment
from tests.unit.ndisbus.tcp.conformance.ladder import V4, V6, Endpoint, incoming

PSEUDO = pseudo_header(*V4, tcp.PROTOCOL)


def ones_complement(data: bytes) -> int:
    """The sum of RFC 1071, the slow way."""
    total = 0
    for at in range(0, len(data) + len(data) % 2, 2):
        total += int.from_bytes((data + b"\0")[at : at + 2], "big")
        total = (total & 0xFFFF) + (total >> 16)
    return total


def whole(options: bytes, flags: int = ACK, payload: bytes = b"text") -> bytes:
    """A segment with exactly these option bytes (a multiple of four), made by hand, without a checksum."""
    assert len(options) % 4 == 0
    offset = (20 + len(options)) // 4 << 4
    ports = (80).to_bytes(2, "big") + (49_152).to_bytes(2, "big")
    head = ports + (7).to_bytes(4, "big") + (9).to_bytes(4, "big") + bytes((offset, flags))
    return head + (500).to_bytes(2, "big") + bytes(4) + options + payload


@pytest.mark.parametrize("addresses", [V4, V6])
@pytest.mark.parametrize("payload", [b"", b"a", b"ab", incoming(0, 999)])
def test_the_checksum_is_computed(addresses: tuple[bytes, bytes], payload: bytes) -> None:
    """RFC9293-MUST-2: over pseudo header, header and text; the sum with the checksum in place is all ones."""
    data = tcp.build(Segment(1, 2, ACK | PSH, 3, payload), pseudo_header(*addresses, tcp.PROTOCOL))
    size = len(data).to_bytes(4, "big")
    pseudo = addresses[0] + addresses[1] + size + (6).to_bytes(4, "big")
    assert ones_complement(pseudo + data) == 0xFFFF


def test_the_checksum_is_verified() -> None:
    """RFC9293-MUST-3: a damaged segment is not taken; neither is one for other addresses."""
    data = bytearray(tcp.build(Segment(1, 2, ACK, 3, b"text"), PSEUDO))
    assert tcp.parse_segment(bytes(data), PSEUDO).payload == b"text"
    with pytest.raises(DecodeError):
        tcp.parse_segment(bytes(data), pseudo_header(V4[0], bytes([10, 77, 0, 3]), tcp.PROTOCOL))
    data[-1] ^= 1
    with pytest.raises(DecodeError):
        tcp.parse_segment(bytes(data), PSEUDO)


def test_the_mandatory_options_are_understood() -> None:
    """RFC9293-MUST-4: end of option list (0), no-operation (1), maximum segment size (2)."""
    segment = tcp.parse_segment(whole(b"\x01\x01\x02\x04\x05\xb4\x00\xff", SYN), None)
    assert segment.mss == 1460
    assert tcp.parse_segment(whole(b"\x00\x04\x05\xb4\x02\x04\x05\xb4", SYN), None).mss is None


@pytest.mark.parametrize("flags", [SYN, SYN | ACK, ACK, FIN | ACK, RST, RST | ACK, PSH | ACK])
def test_an_option_may_come_in_any_segment(flags: int) -> None:
    """RFC9293-MUST-5: timestamps, for one."""
    option = b"\x01\x01\x08\x0a" + (77).to_bytes(4, "big") + (78).to_bytes(4, "big")
    segment = tcp.parse_segment(whole(option, flags), None)
    assert (segment.ts_val, segment.ts_ecr) == (77, 78)
    assert segment.flags == flags


@pytest.mark.parametrize("kind", [6, 7, 9, 19, 30, 34, 69, 253, 254, 255])
def test_an_unknown_option_is_skipped(kind: int) -> None:
    """RFC9293-MUST-6, RFC9293-MUST-68: by its length, without error, and the rest counts."""
    segment = tcp.parse_segment(whole(bytes([kind, 6, 1, 2, 3, 4, 1, 1, 2, 4, 3, 232]), SYN), None)
    assert segment.mss == 1000
    assert segment.payload == b"text"


@pytest.mark.parametrize(
    "option", [b"\xfd\x00\x01\x01", b"\xfd\x01\x01\x01", b"\xfd\x28\x01\x01", b"\x01\x01\x01\xfd"]
)
def test_an_illegal_option_length_does_no_harm(option: bytes) -> None:
    """RFC9293-MUST-7: 0, 1, beyond the header, none at all: the segment's text is taken all the same."""
    segment = tcp.parse_segment(whole(option), None)
    assert segment.payload == b"text"
    assert (segment.seq, segment.ack, segment.window) == (7, 9, 500)


@pytest.mark.parametrize("before", range(4))
def test_options_need_no_alignment(before: int) -> None:
    """RFC9293-MUST-64: an option may begin at any byte."""
    stamps = b"\x08\x0a" + (77).to_bytes(4, "big") + (78).to_bytes(4, "big")
    options = b"\x01" * before + stamps
    options += bytes(-len(options) % 4)
    segment = tcp.parse_segment(whole(options), None)
    assert (segment.ts_val, segment.ts_ecr) == (77, 78)
    assert segment.payload == b"text"


@pytest.mark.parametrize(
    "segment",
    [
        Segment(1, 0, SYN, 3, mss=1460),
        Segment(1, 0, SYN, 3, mss=1460, window_scale=7),
        Segment(1, 0, SYN, 3, mss=1460, sack_permitted=True),
        Segment(1, 0, SYN, 3, mss=1460, sack_permitted=True, window_scale=7, ts_val=1),
        Segment(1, 2, ACK, 3, ts_val=1, sack=((1, 2), (3, 4), (5, 6))),
        Segment(1, 2, ACK, 3, sack=((1, 2), (3, 4), (5, 6), (7, 8))),
    ],
)
def test_the_header_ends_on_a_word_and_is_padded_with_zeros(segment: Segment) -> None:
    """RFC9293-MUST-69, RFC9293-MUST-68.

    Walked by its lengths the list ends at the header's end, or with zeros.
    """
    data = tcp.build(segment, PSEUDO)
    length = (data[12] >> 4) * 4
    assert length % 4 == 0
    options = data[20:length]
    at = 0
    while at < len(options) and options[at] != 0:
        at += 1 if options[at] == 1 else options[at + 1]
    assert at <= len(options)
    assert not any(options[at:])


def test_what_the_machine_sends_survives_the_wire() -> None:
    """RFC9293-MUST-14, RFC7323-3.2-EVERY: SYN, data and SACK with all options, through bytes and back."""
    end = Endpoint.opening(options={"timestamps": True, "sack": True, "scaling": True})
    agreed = {"mss": 1000, "ts_val": 7, "ts_ecr": 1, "sack_permitted": True, "window_scale": 2}
    end.gets("SA", seq=0, ack=1, options=agreed)
    end.timestamps = True
    end.send(3000)
    end.gets("A", seq=1001, size=500)
    assert len(end.sent) >= 4
    for sent in end.sent:
        assert tcp.parse_segment(tcp.build(sent.segment, PSEUDO), PSEUDO) == sent.segment
