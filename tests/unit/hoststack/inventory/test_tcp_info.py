"""struct tcp_info: images laid out by the offsets of the C structure, and the kernel's own answers."""

from __future__ import annotations

import dataclasses
import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hoststack.inventory.tcp_info import TcpInfo, parse_tcp_info, read_socket

# offsetof(struct tcp_info, tcpi_x) as a C compiler gives it; the table under test is not used here.
OFFSETS = {
    "rto": (8, "I"),
    "snd_mss": (16, "I"),
    "unacked": (24, "I"),
    "last_data_sent": (44, "I"),
    "last_ack_recv": (56, "I"),
    "pmtu": (60, "I"),
    "rtt": (68, "I"),
    "rttvar": (72, "I"),
    "snd_ssthresh": (76, "I"),
    "snd_cwnd": (80, "I"),
    "rcv_ssthresh": (64, "I"),
    "notsent_bytes": (144, "I"),
    "snd_wnd": (228, "I"),
    "rcv_wnd": (232, "I"),
}
FULL = 280
LINUX_ONLY = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has TCP_INFO in this form")


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname(), timeout=20) as client,
    ):
        server, _ = listener.accept()
        with server:
            yield client, server


@pytest.mark.parametrize("byteorder", ["little", "big"])
def test_members_are_found_at_the_offsets_of_the_c_structure(byteorder: str) -> None:
    order = "<" if byteorder == "little" else ">"
    image = bytearray(FULL)
    expected = {}
    for number, (name, (offset, code)) in enumerate(OFFSETS.items(), start=1000):
        struct.pack_into(order + code, image, offset, number)
        expected[name] = number
    info = parse_tcp_info(bytes(image), "little" if byteorder == "little" else "big")
    assert {name: getattr(info, name) for name in OFFSETS} == expected
    untold = {f.name for f in dataclasses.fields(info) if getattr(info, f.name) is None}
    assert untold == set(), "a whole image leaves no member untold"


@pytest.mark.parametrize(("byteorder", "scales"), [("little", 0xA7), ("big", 0x7A)])
def test_bit_fields_are_split_as_the_byte_order_has_it(byteorder: str, scales: int) -> None:
    image = bytes([1, 0, 2, 3, 4, 7, scales, 0])
    info = parse_tcp_info(image, "little" if byteorder == "little" else "big")
    assert (info.snd_wscale, info.rcv_wscale) == (7, 10)
    assert (info.state, info.retransmits, info.probes, info.backoff) == (1, 2, 3, 4)
    assert (info.timestamps, info.sack, info.window_scaling) == (True, True, True)


@pytest.mark.parametrize(
    ("options", "expected"), [(1, (True, False, False)), (2, (False, True, False)), (4, (False, False, True))]
)
def test_options_are_told_apart(options: int, expected: tuple[bool, bool, bool]) -> None:
    info = parse_tcp_info(bytes([1, 0, 0, 0, 0, options, 0, 0]))
    assert (info.timestamps, info.sack, info.window_scaling) == expected


@given(image=st.binary(min_size=FULL, max_size=FULL + 64), length=st.integers(0, FULL))
def test_a_shorter_image_loses_exactly_the_members_beyond_its_end(image: bytes, length: int) -> None:
    whole = parse_tcp_info(image)
    part = parse_tcp_info(image[:length])
    told = {f.name for f in dataclasses.fields(TcpInfo) if getattr(part, f.name) is not None}
    for name, (offset, code) in OFFSETS.items():
        assert (name in told) == (offset + struct.calcsize(code) <= length)
    assert all(getattr(part, name) == getattr(whole, name) for name in told)


def test_an_empty_image_tells_nothing() -> None:
    info = parse_tcp_info(b"")
    assert info == TcpInfo()
    assert info.timestamps is None
    assert info.sack is None
    assert info.window_scaling is None


@LINUX_ONLY
def test_the_kernels_answer_agrees_with_the_socket_options(pair: tuple[socket.socket, socket.socket]) -> None:
    client, server = pair
    client.sendall(b"x" * 100)
    assert len(server.recv(100, socket.MSG_WAITALL)) == 100
    info = read_socket(client).info
    assert info.state == 1
    assert info.snd_mss == client.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG)
    assert (info.rtt or 0) > 0


@LINUX_ONLY
def test_what_was_set_on_a_socket_is_what_is_read(pair: tuple[socket.socket, socket.socket]) -> None:
    client, server = pair
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 33)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 7)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 5)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 4321)
    client.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 42)
    client.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, 0x28)
    # A new TOS makes the kernel forget the socket's route, and with it the MTU, until it sends again.
    client.sendall(b"x")
    assert server.recv(1) == b"x"
    facts = read_socket(client)
    options = facts.options
    assert (options.nodelay, options.keepalive, options.user_timeout) == (1, 1, 4321)
    assert (options.keep_idle, options.keep_interval, options.keep_count) == (33, 7, 5)
    assert (options.ttl, options.tos) == (42, 0x28)
    assert options.mtu is not None
    assert options.mtu >= 1280
    assert facts.notes == ()


@LINUX_ONLY
def test_bytes_that_the_remote_end_does_not_take_stay_queued(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    client, _server = pair
    client.setblocking(False)
    sent = 0
    with suppress(BlockingIOError):
        while True:
            sent += client.send(bytes(65536))
    facts = read_socket(client)
    assert facts.options.queued is not None
    assert facts.options.unsent is not None
    assert 0 < facts.options.unsent <= facts.options.queued <= sent


def test_a_system_without_the_form_read_here_gives_a_note(
    pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    facts = read_socket(pair[0])
    assert facts.info == TcpInfo()
    assert facts.options.mtu is None
    assert facts.options.queued is None
    noted = {note.partition(":")[0] for note in facts.notes}
    assert {"TCP_INFO", "IP_MTU", "TCP_TIMESTAMP", "SIOCOUTQ", "SIOCOUTQNSD"} <= noted


def test_a_closed_socket_is_an_error_and_not_a_note(pair: tuple[socket.socket, socket.socket]) -> None:
    pair[0].close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        read_socket(pair[0])
