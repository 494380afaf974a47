"""The checksum against the definition in RFC 1071, and its arithmetic tricks."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ndisbus.net.checksum import checksum, finish, is_valid, partial, pseudo_header, update


def by_definition(data: bytes) -> int:
    """The ones' complement of the ones' complement sum of 16-bit words."""
    if len(data) & 1:
        data += b"\0"
    total = 0
    for i in range(0, len(data), 2):
        total += data[i] << 8 | data[i + 1]
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


buffers = st.one_of(
    st.binary(max_size=200),
    # Around the sizes at which the way of computing changes.
    st.builds(
        lambda size, seed: (seed * (size // len(seed) + 1))[:size],
        st.sampled_from(
            [128, 129, 191, 192, 193, 383, 384, 767, 768, 769, 1460, 1535, 1536, 1537, 3072, 3073, 65535]
        ),
        st.binary(min_size=1, max_size=64),
    ),
)


@given(buffers)
def test_agrees_with_the_definition(data: bytes) -> None:
    assert checksum(data) == by_definition(data) % 0xFFFF


@given(buffers)
def test_all_kinds_of_buffers(data: bytes) -> None:
    assert partial(memoryview(data)) == partial(bytearray(data)) == partial(data)


def test_example_of_rfc_1071() -> None:
    assert checksum(bytes.fromhex("0001f203f4f5f6f7")) == 0xDDF2 ^ 0xFFFF


@given(data=buffers, initial=st.integers(0, 1 << 128))
def test_what_is_sent_verifies_and_damage_does_not(data: bytes, initial: int) -> None:
    field = checksum(data, initial)
    assert 0 <= field < 0xFFFF
    assert field == finish(partial(data) + initial)
    assert is_valid(partial(data) + initial + field)
    assert not is_valid(partial(data) + initial + (field ^ 0x0100))


@given(even=st.lists(st.binary(max_size=40).map(lambda b: b + b[: len(b) & 1])), odd=st.binary(max_size=9))
def test_parts_add_up(even: list[bytes], odd: bytes) -> None:
    total = sum(map(partial, even)) + partial(odd)
    assert finish(total) == checksum(b"".join(even) + odd)


@given(
    st.binary(min_size=4, max_size=4),
    st.binary(min_size=4, max_size=4),
    st.integers(0, 255),
    st.integers(0, 0xFFFF),
)
def test_pseudo_header_of_ipv4(source: bytes, destination: bytes, protocol: int, length: int) -> None:
    """RFC 9293 section 3.1: addresses, a zero byte, protocol, length."""
    written_out = source + destination + bytes((0, protocol)) + length.to_bytes(2, "big")
    assert (pseudo_header(source, destination, protocol) + length - partial(written_out)) % 0xFFFF == 0


@given(
    st.binary(min_size=16, max_size=16),
    st.binary(min_size=16, max_size=16),
    st.integers(0, 255),
    st.integers(0, 1 << 31),
)
def test_pseudo_header_of_ipv6(source: bytes, destination: bytes, protocol: int, length: int) -> None:
    """RFC 8200 section 8.1: addresses, a length of 32 bits, three zero bytes, next header."""
    written_out = source + destination + length.to_bytes(4, "big") + bytes((0, 0, 0, protocol))
    assert (pseudo_header(source, destination, protocol) + length - partial(written_out)) % 0xFFFF == 0


@given(data=st.binary(min_size=20, max_size=20).filter(any), at=st.integers(0, 9), new=st.integers(1, 0xFFFF))
def test_update_of_a_field(data: bytes, at: int, new: int) -> None:
    old = data[2 * at] << 8 | data[2 * at + 1]
    changed = data[: 2 * at] + new.to_bytes(2, "big") + data[2 * at + 2 :]
    assert update(checksum(data), old, new) == checksum(changed)
