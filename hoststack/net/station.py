"""A stack at the end of a link. Sans-I/O: for a remote host's loop, the simulation and tests alike."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Interface, IPv6Interface
from typing import TYPE_CHECKING, Final

from hoststack.net.interface import Interface

if TYPE_CHECKING:
    from hoststack.net.stack import NetStack
    from ndisbus.wire.link import Link

__all__ = ["Station"]

#: Most batches of frames taken from the link at once, so that timers and applications get their turns.
_BATCHES: Final = 16


class Station:
    """One interface of ``stack`` on ``link``, which its loop serves.

    The loop calls :meth:`poll` whenever the link's descriptor is readable or :meth:`next_deadline` has come.
    """

    def __init__(
        self,
        stack: NetStack,
        link: Link,
        mac: bytes,
        addresses: Iterable[IPv4Interface | IPv6Interface | str],
        *,
        name: str = "eth0",
        mtu: int | None = None,
        vlan_id: int = 0,
        announce: bool = True,
    ) -> None:
        self.stack = stack
        self.link = link
        self.interface = Interface(
            name,
            mac,
            mtu or link.mtu,
            addresses,
            self._transmit,
            vlan_id=vlan_id,
            announce=announce,
            takes=link.takes,
        )
        stack.add_interface(self.interface)

    def _transmit(self, frames: list[bytes]) -> None:
        send, now = self.link.send, self.stack.now
        for frame in frames:
            send(frame, now)

    def poll(self, now: float) -> None:
        """Take what the link has, let timers run, carry out what the application did."""
        stack = self.stack
        stack.advance(now)
        for _ in range(_BATCHES):
            frames = self.link.receive(now)
            if not frames:
                break
            stack.receive(self.interface, frames, now)
        stack.on_timer(now)

    def next_deadline(self) -> float | None:
        """When :meth:`poll` is wanted though the link is silent (seconds)."""
        mine, wire = self.stack.next_deadline(), self.link.next_deadline()
        if mine is None or (wire is not None and wire < mine):
            return wire
        return mine
