"""A link: the interface of what carries Ethernet frames, and the base of its wrappers.

Times are seconds on the caller's clock, real or virtual. A wrapper (impairments, capture, tracing) is a link
around an ``inner`` link. A frame that is sent passes the wrappers from the outermost to the innermost.
"""

from __future__ import annotations

from typing import Any, Final, Protocol

from ndisbus.errors import ChimneyError

__all__ = [
    "ETHERNET_HEADER",
    "ETHERNET_OVERHEAD",
    "Link",
    "LinkCounters",
    "LinkError",
    "LinkWrapper",
    "Medium",
    "NoLink",
    "innermost",
]

#: Bytes of an Ethernet header without a tag, and with one tag, which is the most that a header has.
ETHERNET_HEADER: Final = 14
ETHERNET_OVERHEAD: Final = ETHERNET_HEADER + 4


class LinkError(ChimneyError):
    """A link cannot be opened, or has gone. The text says what was wrong, where, and what to do."""


class LinkCounters:
    """Frames and bytes (of whole frames) that passed a link, and dropped frames by reason."""

    __slots__ = ("dropped", "received", "received_bytes", "sent", "sent_bytes")

    def __init__(self) -> None:
        self.sent = 0
        self.sent_bytes = 0
        self.received = 0
        self.received_bytes = 0
        self.dropped: dict[str, int] = {}

    def drop(self, reason: str) -> None:
        """Count one more frame dropped for ``reason``."""
        self.dropped[reason] = self.dropped.get(reason, 0) + 1

    def to_wire(self) -> dict[str, Any]:
        """Return the counters as a map, for ``ps`` and netstat."""
        return {
            "Sent": self.sent,
            "SentBytes": self.sent_bytes,
            "Received": self.received,
            "ReceivedBytes": self.received_bytes,
            "Dropped": dict(sorted(self.dropped.items())),
        }


class Link(Protocol):
    """Carries whole Ethernet frames (no preamble, no FCS), and may lose any of them.

    ``mtu`` is the most bytes behind the Ethernet header. A frame has at most ``mtu`` + 18 bytes (one tag). A
    frame that is longer, or shorter than a header, is dropped with a counted reason. Nothing here blocks.
    """

    @property
    def name(self) -> str:
        """Name for people: the spec without its options, such as ``cable:lan`` or ``tap:tap0``."""
        ...

    @property
    def mtu(self) -> int:
        """Most bytes behind the Ethernet header."""
        ...

    @property
    def counters(self) -> LinkCounters:
        """Counters of this link."""
        ...

    @property
    def inner(self) -> Link | None:
        """The link that this one wraps; None if it wraps none."""
        ...

    def send(self, frame: bytes, now: float) -> None:
        """Send a frame. It is sent, kept for a while or dropped; the caller never waits."""
        ...

    def takes(self, mac: bytes) -> bool:
        """Return whether a frame to this station address is taken now.

        False: a queue is filled. Keep the frame, and ask again after the next :meth:`receive`; a frame that
        is sent nevertheless may be dropped. A station that takes nothing for long does not make senders wait:
        then this is true, and frames for it are dropped.
        """
        ...

    def receive(self, now: float) -> list[bytes]:
        """Return the frames that have arrived, oldest first: at most a batch, so call again until none comes.

        What is due by ``now`` happens here too, such as the sending of a delayed frame.
        """
        ...

    def next_deadline(self) -> float | None:
        """Return when :meth:`receive` must be called even if the descriptor is not readable; None: never.

        A link without a descriptor returns a time in the past while frames wait.
        """
        ...

    def fileno(self) -> int | None:
        """Return a descriptor that is readable when :meth:`receive` must be called; None if there is none."""
        ...

    def close(self) -> None:
        """Leave the wire and release everything. A second call does nothing."""
        ...


class LinkWrapper:
    """Base of the wrappers: everything passes to and from ``inner``."""

    __slots__ = ("_inner",)

    def __init__(self, inner: Link) -> None:
        self._inner = inner

    @property
    def inner(self) -> Link:
        """The link that this one wraps."""
        return self._inner

    @property
    def name(self) -> str:
        """The inner link's name."""
        return self._inner.name

    @property
    def mtu(self) -> int:
        """The inner link's MTU."""
        return self._inner.mtu

    @property
    def counters(self) -> LinkCounters:
        """The inner link's counters."""
        return self._inner.counters

    def send(self, frame: bytes, now: float) -> None:
        """Send a frame: see :class:`Link`."""
        self._inner.send(frame, now)

    def takes(self, mac: bytes) -> bool:
        """Return whether the inner link takes a frame: see :class:`Link`."""
        return self._inner.takes(mac)

    def receive(self, now: float) -> list[bytes]:
        """Return arrived frames: see :class:`Link`."""
        return self._inner.receive(now)

    def next_deadline(self) -> float | None:
        """Return the next deadline: see :class:`Link`."""
        return self._inner.next_deadline()

    def fileno(self) -> int | None:
        """Return the descriptor: see :class:`Link`."""
        return self._inner.fileno()

    def close(self) -> None:
        """Close the inner link: see :class:`Link`."""
        self._inner.close()


class Medium:
    """Base of the links that wrap no other link: a name, an MTU and counters."""

    __slots__ = ("_counters", "_mtu", "_name")

    def __init__(self, name: str, mtu: int) -> None:
        self._name = name
        self._mtu = mtu
        self._counters = LinkCounters()

    @property
    def inner(self) -> None:
        """None: a medium wraps no link."""
        return None

    @property
    def name(self) -> str:
        """Name for people: see :class:`Link`."""
        return self._name

    @property
    def mtu(self) -> int:
        """Most bytes behind the Ethernet header: see :class:`Link`."""
        return self._mtu

    @property
    def counters(self) -> LinkCounters:
        """Counters of this link: see :class:`Link`."""
        return self._counters

    def takes(self, mac: bytes) -> bool:
        """Return True: this medium makes no sender wait. See :class:`Link`."""
        return True

    def fits(self, size: int) -> bool:
        """Return whether a frame of ``size`` bytes can be sent. One that cannot is counted as dropped."""
        if ETHERNET_HEADER <= size <= self.mtu + ETHERNET_OVERHEAD:
            return True
        self._counters.drop("too short" if size < ETHERNET_HEADER else "too long")
        return False


class NoLink(Medium):
    """A cable that is not plugged in. Sent frames are dropped as ``unplugged``; no frame arrives."""

    __slots__ = ()

    def __init__(self, mtu: int = 1500) -> None:
        super().__init__("none", mtu)

    def send(self, frame: bytes, now: float) -> None:
        """Drop the frame."""
        self._counters.drop("unplugged")

    def receive(self, now: float) -> list[bytes]:
        """Return []: no frame ever arrives."""
        return []

    def next_deadline(self) -> float | None:
        """Return None: nothing is ever due."""
        return None

    def fileno(self) -> int | None:
        """Return None: there is no descriptor."""
        return None

    def close(self) -> None:
        """Do nothing: there is nothing to release."""


def innermost(link: Link) -> Link:
    """Return the link under all wrappers."""
    while link.inner is not None:
        link = link.inner
    return link
