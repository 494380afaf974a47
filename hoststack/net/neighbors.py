"""The neighbor cache: link addresses of next hops, and whether they still answer (RFC 4861 7.2, 7.3).

One cache serves ARP and neighbor discovery. :mod:`hoststack.net.link_output` sends the questions,
:mod:`hoststack.net.discovery` hears the answers, and :mod:`hoststack.net.neighbor_life` is the table of what
follows from them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final

from hoststack.model.objects import Neighbor
from hoststack.net.neighbor_life import ACTIONS, LIFE, Action, NeighborEvent, NeighborState
from hoststack.net.timers import Timed
from ndisbus.state.images import (
    NeighborOffloadStateCached,
    NeighborOffloadStateConst,
    NeighborOffloadStateDelegated,
)

if TYPE_CHECKING:
    from hoststack.net.clock import Clock
    from hoststack.net.hooks import StackHooks
    from hoststack.net.interface import Interface
    from hoststack.net.interfaces import Interfaces
    from hoststack.net.link_output import LinkOutput
    from hoststack.net.statistics import Statistics
    from hoststack.net.timers import StackTimers

__all__ = ["NeighborCache", "NeighborEntry"]

#: RFC 4861 section 10, in seconds and solicitations. REACHABLE_TIME is NceStaleTicks, without the random
#: spread, so that the host and a target agree about it.
RETRANS_TIMER: Final = 1.0
DELAY_FIRST_PROBE_TIME: Final = 5.0
MAX_SOLICIT: Final = 3
#: Bytes of frames that wait for one neighbor, and entries in all; the oldest go first.
QUEUE_BYTES: Final = 131_072
MAX_ENTRIES: Final = 1024
#: Reachability ages are compared modulo 2**32 (R-NUD-03): half of that is the oldest there is.
NEVER_CONFIRMED: Final = 0x7FFF_FFFF

_S = NeighborState
_E = NeighborEvent
_NO_MAC: Final = bytes(6)


class NeighborEntry(Timed):
    """What is known of one neighbor. ``neighbor`` is the object that can be offloaded."""

    __slots__ = (
        "address",
        "cache",
        "confirmed",
        "due",
        "interface",
        "mac",
        "neighbor",
        "state",
        "tries",
        "users",
        "waiting",
        "waiting_bytes",
    )

    def __init__(self, cache: NeighborCache, interface: Interface, address: bytes) -> None:
        self.queued = None
        self.cache = cache
        self.interface = interface
        self.address = address
        self.neighbor = Neighbor(
            NeighborOffloadStateConst(vlan_id=interface.vlan_id),
            NeighborOffloadStateCached(
                dl_destination_address=_NO_MAC, host_reachability_delta=NEVER_CONFIRMED
            ),
            NeighborOffloadStateDelegated(nic_reachability_delta=NEVER_CONFIRMED),
            name=str(ip_address(address)),
        )
        self.neighbor.reachable = False
        self.state = _S.UNREACHABLE
        #: The link address, ``b""`` while it is not known.
        self.mac = b""
        self.tries = 0
        #: When the state's timer runs out (seconds).
        self.due: float | None = None
        #: When it was last confirmed that datagrams arrive there.
        self.confirmed: float | None = None
        #: Paths that go through it.
        self.users = 0
        self.waiting: deque[bytes] | None = None
        self.waiting_bytes = 0

    def __repr__(self) -> str:
        mac = self.mac.hex(":") or "?"
        return f"<neighbor {self.neighbor.name} at {mac} on {self.interface.name}, {self.state}>"

    def deadline(self) -> float | None:
        return self.due

    # -- sending -------------------------------------------------------------------------------

    def ready(self, now: float) -> bool:
        """Whether a frame can be sent to :attr:`mac` now; starts the DELAY of a stale entry."""
        if self.interface.tentative and self.interface.silent(len(self.address)):
            return False
        state = self.state
        if state is _S.REACHABLE:
            return True
        if state is _S.STALE:
            self.happen(_E.SEND, now)
        return bool(self.mac)

    def output(self, frame: bytes, source: bytes, now: float) -> None:
        """Send a frame, whose first six bytes are filled in here, or keep it until there is an address.

        ``source``: its IP source address, which a solicitation uses too.
        """
        if self.ready(now):
            self.interface.out.append(self.mac + frame[6:])
        else:
            self.hold(frame, source, now)

    def hold(self, frame: bytes, source: bytes, now: float) -> None:
        """Keep a frame until the link address is known, and begin to look for it."""
        waiting = self.waiting
        if waiting is None:
            waiting = self.waiting = deque()
        waiting.append(frame)
        self.waiting_bytes += len(frame)
        while self.waiting_bytes > QUEUE_BYTES:
            self.waiting_bytes -= len(waiting.popleft())
            self.cache.statistics.count("neighbor: queue full")
        self.happen(_E.SEND, now, source=source)

    def seek(self, now: float) -> None:
        """Begin to look for the link address if it is not known, without a frame to send."""
        if not self.mac:
            self.happen(_E.SEND, now)

    def stamp(self, now: float) -> int:
        """Write the age of the last confirmation, in ticks, into the neighbor's structures (R-NUD-01).

        The delegated one is left alone while a target has it. Returns the age.
        """
        age = NEVER_CONFIRMED
        if self.confirmed is not None:
            age = min(int((now - self.confirmed) * self.cache.clock.ticks_per_second), NEVER_CONFIRMED)
        self.neighbor.cached.host_reachability_delta = age
        if not self.neighbor.is_offloaded:
            self.neighbor.delegated.nic_reachability_delta = age
        return age

    # -- life ----------------------------------------------------------------------------------

    def heard(self, mac: bytes, now: float) -> None:
        """The neighbor told its link address without being asked."""
        self.happen(_E.HEARD_SAME if mac == self.mac else _E.HEARD_NEW, now, mac=mac)

    def answered(self, mac: bytes, now: float, *, override: bool = True) -> None:
        """The neighbor answered; ``mac`` is ``b""`` in an answer without an address (RFC 4861 7.2.5)."""
        if self.mac and mac in (b"", self.mac):
            self.happen(_E.ANSWERED_SAME, now)
        elif mac and (override or not self.mac):
            self.happen(_E.ANSWERED_NEW, now, mac=mac)
        elif mac:
            self.happen(_E.CONTRADICTED, now)

    def advertised(self, mac: bytes, now: float, *, override: bool) -> None:
        """An unsolicited advertisement."""
        if mac and mac != self.mac and self.mac and not override:
            self.happen(_E.CONTRADICTED, now)
        elif mac:
            self.heard(mac, now)

    def confirm(self, now: float) -> None:
        """TCP saw forward progress over this neighbor (RFC 4861 7.3.1; R-NUD-04)."""
        if self.state is _S.REACHABLE:
            # The usual case, and frequent: only the times change.
            self.confirmed = now
            self.due = now + self.cache.reachable_time
        else:
            self.happen(_E.CONFIRMED, now)

    def doubt(self, now: float) -> None:
        """TCP retransmits without an answer (RFC 1122 3.3.1.4): probe the neighbor."""
        self.happen(_E.DOUBTED, now)

    def on_timer(self, now: float) -> None:
        self.due = None
        asking = self.state in (_S.INCOMPLETE, _S.PROBE)
        self.happen(_E.EXHAUSTED if asking and self.tries >= MAX_SOLICIT else _E.TIMEOUT, now)

    def happen(self, event: NeighborEvent, now: float, *, mac: bytes = b"", source: bytes = b"") -> None:
        """Apply an event by the table: change the state and do the actions."""
        before = self.state
        state = LIFE.after(before, event, self)
        action = ACTIONS[before, event]
        neighbor = self.neighbor
        self.state = state
        if Action.RECORD in action:
            self._record(mac)
        if state is _S.REACHABLE:
            self.confirmed = now
            self.due = now + self.cache.reachable_time
        elif state is not before:
            self.due = now + DELAY_FIRST_PROBE_TIME if state is _S.DELAY else None
        neighbor.reachable = state is _S.REACHABLE
        if Action.COUNT in action:
            self.tries = 0
        if action & (Action.SOLICIT | Action.PROBE):
            self._ask(now, source, self.mac if Action.PROBE in action else b"")
        if Action.RELEASE in action:
            self._release()
        if Action.FAIL in action:
            self._fail(now)
        if state is _S.DELAY and before is not _S.DELAY and neighbor.is_offloaded:
            self.cache.hooks.neighbor_delayed(neighbor)
        self.cache.timers.refresh(self)

    def _ask(self, now: float, source: bytes, mac: bytes) -> None:
        """Solicit the neighbor, or leave that to :meth:`resume` while an own address is being tested."""
        if self.interface.silent(len(self.address)):
            self.due = None
            return
        self.tries += 1
        self.due = now + RETRANS_TIMER
        self.cache.link.ask(self.interface, self.address, source, mac)

    def resume(self, now: float) -> None:
        """The test of an own address is over: send what waits, or ask for the link address."""
        if self.state in (_S.INCOMPLETE, _S.PROBE) and self.due is None:
            self._ask(now, b"", self.mac)
            self.cache.timers.refresh(self)
        elif self.mac:
            self._release()

    def _record(self, mac: bytes) -> None:
        self.mac = mac
        cached = self.neighbor.cached
        if cached.dl_destination_address != mac:
            cached.dl_destination_address = mac
            if self.neighbor.is_away:
                self.cache.hooks.neighbor_changed(self.neighbor)

    def _release(self) -> None:
        if self.interface.silent(len(self.address)):
            return
        if self.waiting:
            mac = self.mac
            self.interface.out += [mac + frame[6:] for frame in self.waiting]
            self.cache.interfaces.soon()
        self.waiting = None
        self.waiting_bytes = 0

    def _fail(self, now: float) -> None:
        self.mac = b""
        dropped, self.waiting, self.waiting_bytes = self.waiting, None, 0
        for _ in dropped or ():
            self.cache.statistics.count("neighbor: unreachable")
        for failed in self.cache.on_failed:
            failed(self, now)
        if self.neighbor.is_offloaded:
            self.cache.hooks.neighbor_lost(self.neighbor)


class NeighborCache:
    """The entries of all interfaces, by interface and address. The oldest entry without users makes room.

    ``reachable_time``: seconds that a confirmation holds. ``on_failed(entry, now)``, each in turn: the
    neighbor does not answer.
    """

    __slots__ = (
        "_entries",
        "clock",
        "hooks",
        "interfaces",
        "link",
        "on_failed",
        "reachable_time",
        "statistics",
        "timers",
    )

    def __init__(
        self,
        *,
        clock: Clock,
        statistics: Statistics,
        timers: StackTimers,
        hooks: StackHooks,
        interfaces: Interfaces,
        link: LinkOutput,
        reachable_time: float,
    ) -> None:
        self.clock = clock
        self.statistics = statistics
        self.timers = timers
        self.hooks = hooks
        self.interfaces = interfaces
        self.link = link
        self.reachable_time = reachable_time
        self.on_failed: list[Callable[[NeighborEntry, float], object]] = []
        self._entries: dict[tuple[str, bytes], NeighborEntry] = {}

    def __iter__(self) -> Iterator[NeighborEntry]:
        return iter(self._entries.values())

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, interface: Interface, address: bytes) -> NeighborEntry | None:
        """The entry for an address, if there is one."""
        return self._entries.get((interface.name, address))

    def get(self, interface: Interface, address: bytes) -> NeighborEntry:
        """The entry for an address; a new one is UNREACHABLE, which is where a search begins."""
        entry = self._entries.get((interface.name, address))
        if entry is None:
            if len(self._entries) >= MAX_ENTRIES:
                self._make_room()
            entry = self._entries[interface.name, address] = NeighborEntry(self, interface, address)
        return entry

    def entry_of(self, neighbor: Neighbor) -> NeighborEntry | None:
        """The entry behind a neighbor object."""
        return next((e for e in self._entries.values() if e.neighbor is neighbor), None)

    def resume(self, interface: Interface, address: bytes) -> None:
        """The test of an own address of an interface is over; see :meth:`NeighborEntry.resume`."""
        if not interface.silent(len(address)):
            for entry in list(self._entries.values()):
                if entry.interface is interface and len(entry.address) == len(address):
                    entry.resume(self.clock.now)

    def _make_room(self) -> None:
        for key, entry in self._entries.items():
            if not entry.users and not entry.waiting and not entry.neighbor.is_offloaded:
                del self._entries[key]
                self.timers.drop(entry)
                self.statistics.count("neighbor: cache full")
                return
