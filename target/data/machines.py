"""Which connections have a TCP machine, when each is run, and what their current state is.

A connection gets a machine when it has something to do: a segment, a request, a timer. Until then it is the
packed image that came down, and the time at which it came. A machine made later starts at that time, so its
timers and timestamps are the same as if it had been made at once. :func:`wake_after` reads from the image
when the connection has something to do by itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import islice
from struct import Struct
from typing import Final

from ndisbus.ddi.tcp_enums import TCP_FLAG_KEEP_ALIVE_ENABLED, TIMER_NOT_RUNNING
from ndisbus.driver.pace import paced
from ndisbus.state.images import TCP_STATE_OFF
from target.data.flow import TcpFlow
from target.hardware.adapter import Adapter
from target.model.contexts import Context, NeighborContext, TcpContext
from target.model.flow import Flow
from target.network import reachability

__all__ = ["adopt", "current_image", "expire", "flow_of", "go_on", "wake_after"]

#: States in which this end owes nothing.
_QUIET: Final = frozenset((4, 7))  # ESTABLISHED, CLOSE_WAIT

_OFF: Final = TCP_STATE_OFF
#: Most connections whose timers run in one turn. The others stay due; the bus and the wire come in between.
_EXPIRIES: Final = 256


def _fields(*members: tuple[str, str]) -> Struct:
    """Return a struct that reads these members, in layout order, from the image of a whole TCP state."""
    form, at = "<", 0
    for name, code in members:
        form += f"{_OFF[name] - at}x{code}"
        at = _OFF[name] + (2 if code == "H" else 4)
    return Struct(form)


_WAKE: Final = _fields(
    ("cached.Flags", "H"),
    ("cached.KaTimeout", "I"),
    ("delegated.State", "I"),
    ("delegated.SndUna", "I"),
    ("delegated.SndMax", "I"),
    ("delegated.KeepAlive.TimeoutDelta", "I"),
    ("delegated.Retransmit.TimeoutDelta", "I"),
)
_ALIVE: Final = _fields(
    ("cached.Flags", "H"),
    ("cached.KaTimeout", "I"),
    ("delegated.TsRecentAge", "I"),
    ("delegated.TsTime", "I"),
    ("delegated.KeepAlive.TimeoutDelta", "I"),
    ("delegated.Retransmit.TimeoutDelta", "I"),
)
_STAMPS: Final = Struct("<II")  # TsRecentAge and TsTime are adjacent
_STAMPS_AT: Final = _OFF["delegated.TsRecentAge"]
_STAMPS_END: Final = _STAMPS_AT + _STAMPS.size
_DELTA: Final = Struct("<I")
_KEEP_ALIVE_AT: Final = _OFF["delegated.KeepAlive.TimeoutDelta"]
_RETRANSMIT_AT: Final = _OFF["delegated.Retransmit.TimeoutDelta"]
_MASK: Final = 0xFFFFFFFF


def flow_of(adapter: Adapter, tcp: TcpContext) -> Flow:
    """Return the connection's flow. It is made now if it does not exist. The adapter must have a wire."""
    if tcp.flow is None:
        tcp.flow = TcpFlow(adapter, tcp)
    return tcp.flow


def adopt(adapter: Adapter, taken: Iterable[Context], now: float) -> None:
    """Start the clocks of objects that were taken over ``now``, and send what is owed (R-CONC-03)."""
    if adapter.link is None:
        return
    per_second = adapter.parameters.ticks_per_second
    limit = adapter.config.voluntary.low_activity
    for obj in paced(taken, adapter.ndis.working):
        if type(obj) is TcpContext:
            obj.since = now
            after = 0 if obj.io is not None and obj.io.sends else wake_after(obj.image())
            if after is None and limit is None:
                continue
            at = math.inf if after is None else now + after / per_second
            adapter.wake(obj, at if limit is None else min(at, now + limit))
        elif type(obj) is NeighborContext:
            obj.since = now
    expire(adapter, now)


def expire(adapter: Adapter, now: float) -> None:
    """Run connections that are due, up to a limit for one turn. Hardware that hangs runs none."""
    if adapter.hung:
        return
    for tcp in islice(adapter.wakes.due(now), _EXPIRIES):
        if tcp.serving:
            flow_of(adapter, tcp).expire(now)


def go_on(adapter: Adapter, now: float) -> None:
    """Run connections that waited for the link, up to a limit for one turn."""
    link = adapter.link
    if link is None or adapter.hung or not adapter.waiting:
        return
    for tcp in adapter.waiting.take(link.takes, _EXPIRIES):
        if tcp.serving:
            flow_of(adapter, tcp).expire(now)


def wake_after(image: bytes) -> int | None:
    """Return the ticks until a connection does something by itself.

    None: never; 0: it may owe something now.
    """
    flags, timeout, state, una, top, keep_alive, retransmit = _WAKE.unpack_from(image)
    if state not in _QUIET or una != top:
        return 0
    due = retransmit
    if flags & TCP_FLAG_KEEP_ALIVE_ENABLED:
        due = min(due, timeout if keep_alive == TIMER_NOT_RUNNING else keep_alive)
    elif keep_alive != TIMER_NOT_RUNNING:
        due = min(due, keep_alive)  # blind reset protection (R-BRA-06)
    return None if due == TIMER_NOT_RUNNING else due


def current_image(adapter: Adapter, obj: Context) -> bytes:
    """Return the three structures of an object, with clocks and running timers at their current values.

    On an adapter without a wire the clocks of its objects do not run.
    """
    if adapter.link is None:
        return obj.image()
    now = adapter.ndis.now()
    if type(obj) is TcpContext:
        if obj.flow is not None:
            obj.flow.write_back(now)
            return obj.image()
        since, asked, elapsed = adapter.elapsed
        if since != obj.since or asked != now:
            elapsed = adapter.ticks_since(obj.since, now)
        return _later(obj.image(), elapsed) if elapsed else obj.image()
    if isinstance(obj, NeighborContext):
        obj.delegated.nic_reachability_delta = reachability.current_nrd(adapter, obj, adapter.ticks(now))
    return obj.image()


def _later(image: bytes, elapsed: int) -> bytes:
    """Return the image of a connection without a machine, ``elapsed`` ticks after it was taken over."""
    flags, timeout, age, time, keep_alive, retransmit = _ALIVE.unpack_from(image)
    stamps = _STAMPS.pack(min(age + elapsed, _MASK), (time + elapsed) & _MASK)
    if flags & TCP_FLAG_KEEP_ALIVE_ENABLED and keep_alive == TIMER_NOT_RUNNING:
        keep_alive = timeout
    if keep_alive == TIMER_NOT_RUNNING == retransmit:
        return image[:_STAMPS_AT] + stamps + image[_STAMPS_END:]
    out = bytearray(image)
    out[_STAMPS_AT:_STAMPS_END] = stamps
    for at, delta in ((_KEEP_ALIVE_AT, keep_alive), (_RETRANSMIT_AT, retransmit)):
        if delta != TIMER_NOT_RUNNING:
            _DELTA.pack_into(out, at, max(delta - elapsed, 0))
    return bytes(out)
