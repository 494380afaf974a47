"""What a Linux kernel tells about a TCP socket that this process holds.

:func:`parse_tcp_info` reads an image of ``struct tcp_info`` (linux/tcp.h). The structure only ever
grew at its end, so an image may be shorter or longer than the table here: a field that is not wholly
inside the image is ``None``, and bytes behind the last field of the table are ignored.
:func:`read_socket` asks the kernel; what a system cannot answer becomes ``None`` and a note.
"""

from __future__ import annotations

import errno
import fcntl
import socket
import struct
import sys
from dataclasses import dataclass, fields
from typing import Final, Literal, TypeAlias

__all__ = [
    "LINUX_STATE_NAMES",
    "SocketFacts",
    "SocketOptions",
    "TcpInfo",
    "parse_tcp_info",
    "read_socket",
    "read_socket_options",
    "read_tcp_info",
]

ByteOrder: TypeAlias = Literal["little", "big"]

# linux/tcp.h and netinet/ip.h numbers that the socket module does not name on every Python 3.11.
_TCP_TIMESTAMP: Final = 24
_IP_MTU: Final = 14
_IPV6_MTU: Final = 24
# asm/sockios.h: bytes in the send queue from SndUna on, and the part of them that was never sent.
_SIOCOUTQ: Final = 0x5411
_SIOCOUTQNSD: Final = 0x894B

# Answers that mean "this system has no such option (here)", as against a broken socket.
_NOT_TOLD: Final = frozenset(
    {errno.ENOPROTOOPT, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOTCONN, errno.ENOTTY, errno.EPERM}
)

# enum in net/tcp_states.h. NEW_SYN_RECV is never seen by a socket's owner, but an image may hold it.
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

_OPTION_TIMESTAMPS: Final = 1
_OPTION_SACK: Final = 2
_OPTION_WSCALE: Final = 4

# (name, struct code) in the order of the structure, which is naturally aligned throughout. The two
# bytes of bit-fields are split after reading. The last word changed its division between kernel
# releases and is kept whole.
_LAYOUT: Final[tuple[tuple[str, str], ...]] = (
    *((name, "B") for name in ("state", "ca_state", "retransmits", "probes", "backoff", "options")),
    ("_wscale", "B"),
    ("_app_limited", "B"),
    *((name, "I") for name in ("rto", "ato", "snd_mss", "rcv_mss")),
    *((name, "I") for name in ("unacked", "sacked", "lost", "retrans", "fackets")),
    *((name, "I") for name in ("last_data_sent", "last_ack_sent", "last_data_recv", "last_ack_recv")),
    *((name, "I") for name in ("pmtu", "rcv_ssthresh", "rtt", "rttvar", "snd_ssthresh", "snd_cwnd")),
    *((name, "I") for name in ("advmss", "reordering", "rcv_rtt", "rcv_space", "total_retrans")),
    *((name, "Q") for name in ("pacing_rate", "max_pacing_rate", "bytes_acked", "bytes_received")),
    *((name, "I") for name in ("segs_out", "segs_in", "notsent_bytes", "min_rtt")),
    *((name, "I") for name in ("data_segs_in", "data_segs_out")),
    *((name, "Q") for name in ("delivery_rate", "busy_time", "rwnd_limited", "sndbuf_limited")),
    *((name, "I") for name in ("delivered", "delivered_ce")),
    *((name, "Q") for name in ("bytes_sent", "bytes_retrans")),
    *((name, "I") for name in ("dsack_dups", "reord_seen", "rcv_ooopack", "snd_wnd", "rcv_wnd", "rehash")),
    *((name, "H") for name in ("total_rto", "total_rto_recoveries")),
    ("total_rto_time", "I"),
    *((name, "I") for name in ("received_ce", "delivered_e1_bytes", "delivered_e0_bytes")),
    *((name, "I") for name in ("delivered_ce_bytes", "received_e1_bytes", "received_e0_bytes")),
    *((name, "I") for name in ("received_ce_bytes", "accecn_word")),
)


@dataclass(slots=True, frozen=True)
class TcpInfo:
    """``struct tcp_info``: the member ``tcpi_x`` is ``x`` here; ``None`` means the kernel did not give it.

    ``rto``, ``ato``, ``rtt``, ``rttvar``, ``min_rtt``, ``rcv_rtt``, ``busy_time``, ``rwnd_limited`` and
    ``sndbuf_limited`` are microseconds; ``last_*`` and ``total_rto_time`` milliseconds; ``unacked``,
    ``sacked``, ``lost``, ``retrans``, ``snd_cwnd`` and ``snd_ssthresh`` segments; ``pmtu``, ``snd_wnd``,
    ``rcv_wnd``, ``rcv_space`` and the MSS values bytes. ``state`` is a key of :data:`LINUX_STATE_NAMES`.
    """

    state: int | None = None
    ca_state: int | None = None
    retransmits: int | None = None
    probes: int | None = None
    backoff: int | None = None
    options: int | None = None
    snd_wscale: int | None = None
    rcv_wscale: int | None = None
    delivery_rate_app_limited: int | None = None
    fastopen_client_fail: int | None = None
    rto: int | None = None
    ato: int | None = None
    snd_mss: int | None = None
    rcv_mss: int | None = None
    unacked: int | None = None
    sacked: int | None = None
    lost: int | None = None
    retrans: int | None = None
    fackets: int | None = None
    last_data_sent: int | None = None
    last_ack_sent: int | None = None
    last_data_recv: int | None = None
    last_ack_recv: int | None = None
    pmtu: int | None = None
    rcv_ssthresh: int | None = None
    rtt: int | None = None
    rttvar: int | None = None
    snd_ssthresh: int | None = None
    snd_cwnd: int | None = None
    advmss: int | None = None
    reordering: int | None = None
    rcv_rtt: int | None = None
    rcv_space: int | None = None
    total_retrans: int | None = None
    pacing_rate: int | None = None
    max_pacing_rate: int | None = None
    bytes_acked: int | None = None
    bytes_received: int | None = None
    segs_out: int | None = None
    segs_in: int | None = None
    notsent_bytes: int | None = None
    min_rtt: int | None = None
    data_segs_in: int | None = None
    data_segs_out: int | None = None
    delivery_rate: int | None = None
    busy_time: int | None = None
    rwnd_limited: int | None = None
    sndbuf_limited: int | None = None
    delivered: int | None = None
    delivered_ce: int | None = None
    bytes_sent: int | None = None
    bytes_retrans: int | None = None
    dsack_dups: int | None = None
    reord_seen: int | None = None
    rcv_ooopack: int | None = None
    snd_wnd: int | None = None
    rcv_wnd: int | None = None
    rehash: int | None = None
    total_rto: int | None = None
    total_rto_recoveries: int | None = None
    total_rto_time: int | None = None
    received_ce: int | None = None
    delivered_e1_bytes: int | None = None
    delivered_e0_bytes: int | None = None
    delivered_ce_bytes: int | None = None
    received_e1_bytes: int | None = None
    received_e0_bytes: int | None = None
    received_ce_bytes: int | None = None
    accecn_word: int | None = None

    @property
    def timestamps(self) -> bool | None:
        """RFC 7323 timestamps are in use."""
        return None if self.options is None else bool(self.options & _OPTION_TIMESTAMPS)

    @property
    def sack(self) -> bool | None:
        """RFC 2018 selective acknowledgements are in use."""
        return None if self.options is None else bool(self.options & _OPTION_SACK)

    @property
    def window_scaling(self) -> bool | None:
        """RFC 7323 window scaling is in use; without it both scale factors mean nothing."""
        return None if self.options is None else bool(self.options & _OPTION_WSCALE)


def parse_tcp_info(image: bytes, byteorder: ByteOrder = sys.byteorder) -> TcpInfo:
    """Read as many members as ``image`` holds wholly; an empty image gives a record of ``None``."""
    order = "<" if byteorder == "little" else ">"
    values: dict[str, int] = {}
    offset = 0
    for name, code in _LAYOUT:
        end = offset + struct.calcsize(order + code)
        if end > len(image):
            break
        (values[name],) = struct.unpack_from(order + code, image, offset)
        offset = end
    # C compilers put the first bit-field into the low bits on little-endian machines, else into the high.
    if (scales := values.pop("_wscale", None)) is not None:
        low, high = scales & 0xF, scales >> 4
        values["snd_wscale"], values["rcv_wscale"] = (low, high) if byteorder == "little" else (high, low)
    if (bits := values.pop("_app_limited", None)) is not None:
        little = byteorder == "little"
        values["delivery_rate_app_limited"] = bits & 1 if little else bits >> 7
        values["fastopen_client_fail"] = (bits >> 1) & 3 if little else (bits >> 5) & 3
    return TcpInfo(**values)


@dataclass(slots=True, frozen=True)
class SocketOptions:
    """Options of one TCP socket; ``None`` where the system has no such option.

    ``keep_idle`` and ``keep_interval`` are seconds, ``user_timeout`` milliseconds (0 = system default),
    ``rcvbuf`` what the kernel allots (twice what was asked for, on Linux), ``ts_time`` the timestamp the
    socket would send now, ``queued`` the sequence space from SndUna to the last byte written, including
    a FIN, and ``unsent`` the part of ``queued`` that was never sent.
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
    """Everything read from one socket, and what could not be read and why."""

    info: TcpInfo
    options: SocketOptions
    notes: tuple[str, ...]


def _option_table(ipv4: bool) -> tuple[tuple[str, str, int, int | None], ...]:
    """(field, name for notes, level, option number or None where this Python does not know it)."""
    tcp, sol = socket.IPPROTO_TCP, socket.SOL_SOCKET
    linux = sys.platform == "linux"

    def number(name: str) -> int | None:
        value = getattr(socket, name, None)
        return value if isinstance(value, int) else None

    keep_idle = "TCP_KEEPIDLE" if hasattr(socket, "TCP_KEEPIDLE") else "TCP_KEEPALIVE"
    network: tuple[tuple[str, str, int, int | None], ...]
    if ipv4:
        ip = socket.IPPROTO_IP
        network = (
            ("ttl", "IP_TTL", ip, number("IP_TTL")),
            ("tos", "IP_TOS", ip, number("IP_TOS")),
            ("mtu", "IP_MTU", ip, _IP_MTU if linux else None),
        )
    else:
        ip6 = socket.IPPROTO_IPV6
        network = (
            ("ttl", "IPV6_UNICAST_HOPS", ip6, number("IPV6_UNICAST_HOPS")),
            ("tos", "IPV6_TCLASS", ip6, number("IPV6_TCLASS")),
            ("mtu", "IPV6_MTU", ip6, _IPV6_MTU if linux else None),
        )
    return (
        ("nodelay", "TCP_NODELAY", tcp, number("TCP_NODELAY")),
        ("maxseg", "TCP_MAXSEG", tcp, number("TCP_MAXSEG")),
        ("rcvbuf", "SO_RCVBUF", sol, number("SO_RCVBUF")),
        ("keepalive", "SO_KEEPALIVE", sol, number("SO_KEEPALIVE")),
        ("keep_idle", keep_idle, tcp, number(keep_idle)),
        ("keep_interval", "TCP_KEEPINTVL", tcp, number("TCP_KEEPINTVL")),
        ("keep_count", "TCP_KEEPCNT", tcp, number("TCP_KEEPCNT")),
        ("user_timeout", "TCP_USER_TIMEOUT", tcp, number("TCP_USER_TIMEOUT")),
        ("priority", "SO_PRIORITY", sol, number("SO_PRIORITY")),
        ("ts_time", "TCP_TIMESTAMP", tcp, _TCP_TIMESTAMP if linux else None),
        *network,
    )


def _is_ipv4(sock: socket.socket) -> bool:
    """An IPv6 socket that talks to a mapped address (::ffff:a.b.c.d) sends IPv4."""
    return sock.family == socket.AF_INET or str(sock.getsockname()[0]).lower().startswith("::ffff:")


def read_socket_options(sock: socket.socket) -> tuple[SocketOptions, tuple[str, ...]]:
    """Read the options of a connected TCP socket, with a note for each that the system does not tell.

    Raises :class:`OSError` if the socket itself is unusable (closed, not a socket).
    """
    values: dict[str, int] = {}
    notes: list[str] = []
    for field, name, level, number in _option_table(_is_ipv4(sock)):
        if number is None:
            notes.append(f"{name}: this system has no such socket option")
            continue
        try:
            values[field] = sock.getsockopt(level, number)
        except OSError as error:
            if error.errno not in _NOT_TOLD:
                raise
            notes.append(f"{name}: {error.strerror}")
    if "ts_time" in values:
        values["ts_time"] &= 0xFFFF_FFFF  # an unsigned 32-bit clock that getsockopt hands over as a C int
    for field, name, request in (("queued", "SIOCOUTQ", _SIOCOUTQ), ("unsent", "SIOCOUTQNSD", _SIOCOUTQNSD)):
        amount, why = _queue_length(sock, request)
        if amount is None:
            notes.append(f"{name}: {why}")
        else:
            values[field] = amount
    return SocketOptions(**values), tuple(notes)


def _queue_length(sock: socket.socket, request: int) -> tuple[int | None, str]:
    """(bytes, "") or (None, reason)."""
    if sys.platform != "linux":
        return None, "this system has no such ioctl"
    try:
        answer = fcntl.ioctl(sock.fileno(), request, struct.pack("=i", 0))
    except OSError as error:
        if error.errno not in _NOT_TOLD:
            raise
        return None, error.strerror or str(error)
    (amount,) = struct.unpack("=i", answer)
    return int(amount), ""


def read_tcp_info(sock: socket.socket) -> tuple[TcpInfo, tuple[str, ...]]:
    """TCP_INFO of a TCP socket, or an empty record and a note where the system has none in Linux's form.

    Raises :class:`OSError` if the socket itself is unusable.
    """
    number = getattr(socket, "TCP_INFO", None)
    if sys.platform != "linux" or not isinstance(number, int):
        return TcpInfo(), ("TCP_INFO: only Linux gives it in the form read here; defaults are used",)
    try:
        image = sock.getsockopt(socket.IPPROTO_TCP, number, 1024)
    except OSError as error:
        if error.errno not in _NOT_TOLD:
            raise
        return TcpInfo(), (f"TCP_INFO: {error.strerror}; defaults are used",)
    info = parse_tcp_info(image)
    missing = [field.name for field in fields(info) if getattr(info, field.name) is None]
    if "rcv_wnd" in missing:
        return info, (f"TCP_INFO: this kernel's structure of {len(image)} bytes ends before {missing[0]}",)
    return info, ()


def read_socket(sock: socket.socket) -> SocketFacts:
    """TCP_INFO and the options of one connected TCP socket. Raises :class:`OSError` as its parts do."""
    info, info_notes = read_tcp_info(sock)
    options, option_notes = read_socket_options(sock)
    return SocketFacts(info, options, info_notes + option_notes)
