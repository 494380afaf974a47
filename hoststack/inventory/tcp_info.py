"""What Linux tells about a TCP socket of this process: ``struct tcp_info``, options and queue lengths.

:func:`parse_tcp_info` reads the members of ``struct tcp_info`` (linux/tcp.h) that offload state needs. The
structure has only grown at its end, so a member keeps its offset. A member that a kernel's shorter image does
not have is ``None``. (pyroute2 reads the structure too, but without tcpi_rcv_wnd and with one scale for both
directions.) :func:`read_socket` asks the kernel. What a system cannot answer becomes ``None`` and a note.
"""

from __future__ import annotations

import errno
import fcntl
import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

__all__ = ["LINUX_STATE_NAMES", "SocketFacts", "SocketOptions", "TcpInfo", "parse_tcp_info", "read_socket"]

ByteOrder: TypeAlias = Literal["little", "big"]

# The enum of net/tcp_states.h. The owner of a socket never sees NEW_SYN_RECV, but an image may have it.
LINUX_STATE_NAMES: Final[dict[int, str]] = {
    1: "ESTABLISHED",
    2: "SYN_SENT",
    3: "SYN_RECV",
    4: "FIN_WAIT1",
    5: "FIN_WAIT2",
    6: "TIME_WAIT",
    7: "CLOSE",
    8: "CLOSE_WAIT",
    9: "LAST_ACK",
    10: "LISTEN",
    11: "CLOSING",
    12: "NEW_SYN_RECV",
}

# offsetof(struct tcp_info, tcpi_x). All members but the first five have 32 bits; those have one byte.
_OFFSETS: Final[dict[str, int]] = {
    "state": 0,
    "retransmits": 2,
    "probes": 3,
    "backoff": 4,
    "options": 5,
    "rto": 8,
    "snd_mss": 16,
    "unacked": 24,
    "last_data_sent": 44,
    "last_data_recv": 52,
    "last_ack_recv": 56,
    "pmtu": 60,
    "rcv_ssthresh": 64,
    "rtt": 68,
    "rttvar": 72,
    "snd_ssthresh": 76,
    "snd_cwnd": 80,
    "notsent_bytes": 144,
    "snd_wnd": 228,
    "rcv_wnd": 232,
}
_FIRST_WORD: Final = 8
_SCALES: Final = 6  # one byte: tcpi_snd_wscale and tcpi_rcv_wscale, four bits each
_OPTION_TIMESTAMPS: Final = 1
_OPTION_SACK: Final = 2
_OPTION_WSCALE: Final = 4


@dataclass(slots=True, frozen=True)
class TcpInfo:
    """Members of ``struct tcp_info``: ``tcpi_x`` is ``x`` here; ``None`` if the kernel did not give it.

    ``rto``, ``rtt`` and ``rttvar`` are microseconds, ``last_*`` milliseconds, ``unacked``, ``snd_cwnd`` and
    ``snd_ssthresh`` segments, the others bytes. ``state`` is a key of :data:`LINUX_STATE_NAMES`.
    """

    state: int | None = None
    retransmits: int | None = None
    probes: int | None = None
    backoff: int | None = None
    options: int | None = None
    snd_wscale: int | None = None
    rcv_wscale: int | None = None
    rto: int | None = None
    snd_mss: int | None = None
    unacked: int | None = None
    last_data_sent: int | None = None
    last_data_recv: int | None = None
    last_ack_recv: int | None = None
    pmtu: int | None = None
    rcv_ssthresh: int | None = None
    rtt: int | None = None
    rttvar: int | None = None
    snd_ssthresh: int | None = None
    snd_cwnd: int | None = None
    notsent_bytes: int | None = None
    snd_wnd: int | None = None
    rcv_wnd: int | None = None

    def _has(self, option: int) -> bool | None:
        return None if self.options is None else bool(self.options & option)

    @property
    def timestamps(self) -> bool | None:
        """RFC 7323 timestamps are in use."""
        return self._has(_OPTION_TIMESTAMPS)

    @property
    def sack(self) -> bool | None:
        """RFC 2018 selective acknowledgments are in use."""
        return self._has(_OPTION_SACK)

    @property
    def window_scaling(self) -> bool | None:
        """RFC 7323 window scaling is in use; without it both scale factors mean nothing."""
        return self._has(_OPTION_WSCALE)


def parse_tcp_info(image: bytes, byteorder: ByteOrder = sys.byteorder) -> TcpInfo:
    """Read the members that ``image`` has completely. An empty image gives a record of ``None``."""
    values: dict[str, int] = {}
    for name, offset in _OFFSETS.items():
        end = offset + (1 if offset < _FIRST_WORD else 4)
        if end <= len(image):
            values[name] = int.from_bytes(image[offset:end], byteorder)
    if len(image) > _SCALES:
        # C puts the first bit field into the low bits on little-endian machines, else into the high bits.
        low, high = image[_SCALES] & 0xF, image[_SCALES] >> 4
        values["snd_wscale"], values["rcv_wscale"] = (low, high) if byteorder == "little" else (high, low)
    return TcpInfo(**values)


@dataclass(slots=True, frozen=True)
class SocketOptions:
    """Options of one TCP socket; ``None`` if the system has no such option.

    ``keep_idle`` and ``keep_interval`` are seconds, ``user_timeout`` milliseconds (0: the system's default).
    ``rcvbuf`` is what the kernel allots (on Linux twice what was asked for), ``ts_time`` the timestamp that
    the socket would send now. ``queued`` is the sequence space from SndUna to the last byte written, a FIN
    included, and ``unsent`` the part of ``queued`` that was never sent.
    """

    nodelay: int | None = None
    maxseg: int | None = None
    rcvbuf: int | None = None
    keepalive: int | None = None
    keep_idle: int | None = None
    keep_interval: int | None = None
    keep_count: int | None = None
    user_timeout: int | None = None
    priority: int | None = None
    ttl: int | None = None
    tos: int | None = None
    mtu: int | None = None
    ts_time: int | None = None
    queued: int | None = None
    unsent: int | None = None


@dataclass(slots=True, frozen=True)
class SocketFacts:
    """Everything read of one socket. ``notes`` says what could not be read, and why."""

    info: TcpInfo
    options: SocketOptions
    notes: tuple[str, ...] = ()


# (field, name of the option) by level.
_TCP_OPTIONS: Final = (
    ("nodelay", "TCP_NODELAY"),
    ("maxseg", "TCP_MAXSEG"),
    ("keep_idle", "TCP_KEEPIDLE" if hasattr(socket, "TCP_KEEPIDLE") else "TCP_KEEPALIVE"),
    ("keep_interval", "TCP_KEEPINTVL"),
    ("keep_count", "TCP_KEEPCNT"),
    ("user_timeout", "TCP_USER_TIMEOUT"),
    ("ts_time", "TCP_TIMESTAMP"),
)
_SOCKET_OPTIONS: Final = (("rcvbuf", "SO_RCVBUF"), ("keepalive", "SO_KEEPALIVE"), ("priority", "SO_PRIORITY"))
_IPV4_OPTIONS: Final = (("ttl", "IP_TTL"), ("tos", "IP_TOS"), ("mtu", "IP_MTU"))
_IPV6_OPTIONS: Final = (("ttl", "IPV6_UNICAST_HOPS"), ("tos", "IPV6_TCLASS"), ("mtu", "IPV6_MTU"))
# Options of Linux for which the socket module does not have a name on every Python 3.11.
_LINUX_NUMBERS: Final = {"TCP_TIMESTAMP": 24, "IP_MTU": 14, "IPV6_MTU": 24}
# asm/sockios.h: bytes in the send queue from SndUna on, and the part of them that was never sent.
_QUEUES: Final = (("queued", "SIOCOUTQ", 0x5411), ("unsent", "SIOCOUTQNSD", 0x894B))

# Errors that mean "this system has no such option", and not that the socket is broken.
_NOT_TOLD: Final = frozenset(
    {errno.ENOPROTOOPT, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOTCONN, errno.ENOTTY, errno.EPERM}
)


@contextmanager
def _noting(name: str, notes: list[str]) -> Iterator[None]:
    """Turn an error that means "the system does not tell this" into a note about ``name``."""
    try:
        yield
    except OSError as error:
        if error.errno not in _NOT_TOLD:
            raise
        notes.append(f"{name}: {error.strerror}")


def read_socket(sock: socket.socket) -> SocketFacts:
    """Read TCP_INFO, the options and the queue lengths of one connected TCP socket.

    Raises :class:`OSError` if the socket itself cannot be used (closed, not a socket).
    """
    notes: list[str] = []
    info = _info(sock, notes)
    # An IPv6 socket with a mapped remote address (::ffff:a.b.c.d) sends IPv4.
    ipv4 = sock.family == socket.AF_INET or str(sock.getsockname()[0]).lower().startswith("::ffff:")
    network = (socket.IPPROTO_IP, _IPV4_OPTIONS) if ipv4 else (socket.IPPROTO_IPV6, _IPV6_OPTIONS)
    values: dict[str, int] = {}
    for level, options in (socket.IPPROTO_TCP, _TCP_OPTIONS), (socket.SOL_SOCKET, _SOCKET_OPTIONS), network:
        for field, name in options:
            number = getattr(socket, name, _LINUX_NUMBERS.get(name) if sys.platform == "linux" else None)
            if number is None:
                notes.append(f"{name}: this system has no such socket option")
                continue
            with _noting(name, notes):
                values[field] = sock.getsockopt(level, number)
    if "ts_time" in values:
        values["ts_time"] &= 0xFFFF_FFFF  # an unsigned 32-bit clock that getsockopt returns as a C int
    for field, name, request in _QUEUES:
        if sys.platform != "linux":
            notes.append(f"{name}: this system has no such ioctl")
            continue
        with _noting(name, notes):
            (values[field],) = struct.unpack("=i", fcntl.ioctl(sock.fileno(), request, bytes(4)))
    return SocketFacts(info, SocketOptions(**values), tuple(notes))


def _info(sock: socket.socket, notes: list[str]) -> TcpInfo:
    number = getattr(socket, "TCP_INFO", None)
    if sys.platform != "linux" or not isinstance(number, int):
        notes.append("TCP_INFO: only Linux gives it in the form read here; defaults are used")
        return TcpInfo()
    image = b""
    with _noting("TCP_INFO", notes):
        image = sock.getsockopt(socket.IPPROTO_TCP, number, 1024)
        if len(image) < _OFFSETS["rcv_wnd"] + 4:
            notes.append(f"TCP_INFO: this kernel's structure of {len(image)} bytes ends before rcv_wnd")
    return parse_tcp_info(image)
