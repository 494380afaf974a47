"""What an application may choose for a connection."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ndisbus.ddi.tcp_enums import MAX_RT_NO_LIMIT
from ndisbus.errors import LocalProtocolError

__all__ = ["DEFAULT_OPTIONS", "SocketOptions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SocketOptions:
    """Options of a socket; a listener's go to the connections it accepts.

    ``timestamps``, ``sack``, ``window_scaling``: offered in the SYN (RFC 7323, RFC 2018). ``mss``: largest
    segment to ask for, at most what the interface takes; None for just that. ``nagle``: RFC 9293 3.7.4.
    ``keepalive`` with ``keep_idle``, ``keep_interval`` (seconds) and ``keep_count`` (probes): RFC 9293 3.8.4.
    ``rcvbuf``, ``sndbuf``: bytes; the receive buffer is the largest window that is offered. ``ttl``: also the
    hop limit. ``tos``: also the traffic class. ``priority``: 802.1p, 0..7. ``user_timeout``: seconds without
    an acknowledgment after which the connection is given up (MaxRT); None for 100 s (R2 of RFC 9293 3.8.3),
    infinity for no limit.

    Raises :class:`LocalProtocolError` for values out of range.
    """

    timestamps: bool = True
    sack: bool = True
    window_scaling: bool = True
    mss: int | None = None
    nagle: bool = True
    keepalive: bool = False
    keep_idle: float = 7200.0
    keep_interval: float = 1.0
    keep_count: int = 10
    rcvbuf: int = 262_144
    sndbuf: int = 262_144
    ttl: int = 64
    tos: int = 0
    priority: int = 0
    user_timeout: float | None = None

    def __post_init__(self) -> None:
        for name, value, low, high in (
            ("mss", 536 if self.mss is None else self.mss, 48, 0xFFFF),
            ("keep_count", self.keep_count, 1, 0xFF),
            ("rcvbuf", self.rcvbuf, 1, 1 << 30),
            ("sndbuf", self.sndbuf, 1, 1 << 30),
            ("ttl", self.ttl, 1, 0xFF),
            ("tos", self.tos, 0, 0xFF),
            ("priority", self.priority, 0, 7),
        ):
            if not low <= value <= high:
                raise LocalProtocolError(f"SocketOptions.{name} = {value}: must be {low}..{high}")
        for name, seconds in (("keep_idle", self.keep_idle), ("keep_interval", self.keep_interval)):
            if seconds <= 0:
                raise LocalProtocolError(f"SocketOptions.{name} = {seconds}: must be more than 0 s")
        if self.user_timeout is not None and self.user_timeout <= 0:
            raise LocalProtocolError(
                f"SocketOptions.user_timeout = {self.user_timeout}: must be more than 0 s"
            )

    def max_rt(self, ticks_per_second: int) -> int:
        """MaxRT of the cached state (R-TMR-10)."""
        if self.user_timeout is None:
            return 0
        ticks = self.user_timeout * ticks_per_second
        return max(1, int(ticks)) if ticks < MAX_RT_NO_LIMIT else MAX_RT_NO_LIMIT


DEFAULT_OPTIONS: Final = SocketOptions()
