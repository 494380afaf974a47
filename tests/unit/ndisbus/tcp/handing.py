"""What the tests of the machine need beside the ladder: a target's end, and an end torn out and put back."""

from __future__ import annotations

from typing import Any, Final

from ndisbus.ddi.tcp_enums import TcpUploadReason
from ndisbus.state.images import (
    PathOffloadStateCached,
    PathOffloadStateConst,
    TcpOffloadStateCached,
    TcpOffloadStateConst,
    TcpOffloadStateDelegated,
)
from ndisbus.tcp.events import EventKind
from ndisbus.tcp.machine import Handover, TcpMachine
from tests.unit.ndisbus.tcp.conformance.ladder import Endpoint, Sent, make_settings

__all__ = ["NOT_RUNNING", "copies", "move", "target_end", "uploads"]

NOT_RUNNING: Final = 0xFFFFFFFF


def target_end(**options: Any) -> Endpoint:
    """An established connection whose machine is a target's."""
    return Endpoint.established(offloaded=True, **options)


def copies(
    machine: TcpMachine,
) -> tuple[TcpOffloadStateConst, TcpOffloadStateCached, TcpOffloadStateDelegated]:
    """The three structures as they come out of their memory images."""
    return (
        TcpOffloadStateConst.unpack_from(machine.const.pack()),
        TcpOffloadStateCached.unpack_from(machine.cached.pack()),
        TcpOffloadStateDelegated.unpack_from(machine.delegated.pack()),
    )


def move(end: Endpoint, *, clock: int = 0, drop: bool = False, **settings: Any) -> Handover:
    """Tear the connection out and go on in a new machine, whose clock shows ``clock`` ticks more.

    What is to be transmitted before that counts as sent. ``drop``: data out of order is not passed on.
    """
    old = end.machine
    given = old.hand_over(end.now)
    end.sent += [Sent(end.elapsed, segment) for segment in given.last]
    end.start += clock
    end.now += clock
    const, cached, delegated = copies(old)
    end.machine = TcpMachine(
        const,
        cached,
        delegated,
        path_const=PathOffloadStateConst.unpack_from(old.path_const.pack()),
        path_cached=PathOffloadStateCached.unpack_from(old.path_cached.pack()),
        settings=make_settings(**settings) if settings else old.settings,
        now=end.now,
        send_data=given.send_data,
        received=given.received,
        reading=end.reading,
    )
    for segment in () if drop else given.segments:
        end.machine.receive(segment, end.now)
    return given


def uploads(end: Endpoint) -> list[TcpUploadReason]:
    """The reasons for which the machine has asked to be uploaded; they are then forgotten."""
    return [TcpUploadReason(event.value) for event in end.events(EventKind.UPLOAD)]
