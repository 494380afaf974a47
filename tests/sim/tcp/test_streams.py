"""Streams through two machines and a bad network, with machines torn out of the middle of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from ndisbus.tcp import acks, expiry, handover, text, windows
from ndisbus.tcp.machine import TcpMachine
from ndisbus.tcp.reassembly import OutOfOrder
from tests.support.tcp_observer import Violation
from tests.support.tcp_plan import Impairments, Plan
from tests.support.tcp_world import World, run

RUNS = 20


@pytest.mark.parametrize("first", range(1, 161, RUNS))
def test_every_byte_once_and_in_order_and_every_run_ends(first: int) -> None:
    """R-TS-01, R-OSD-08: see tests/support/tcp_observer.py for what is checked of each segment.

    All that a successor gets are the packed structures, the data and a clock that shows something else.
    """
    outcomes = [run(seed).outcome for seed in range(first, first + RUNS)]
    assert sum(outcome == "delivered" for outcome in outcomes) > RUNS / 2


def test_hand_overs_cost_nothing_that_a_remote_end_could_see() -> None:
    """R-OSD-06: without loss there are as many segments as without, and as few are repeated.

    The successor comes at once here; a longer gap is a delay, which may well cost a retransmission.
    """
    torn, calm = [], []
    for seed in range(1, 51):
        plan = Plan.from_seed(seed, largest=50_000)
        plan.abort = None
        plan.paths = (Impairments(delay=plan.paths[0].delay), Impairments(delay=plan.paths[1].delay))
        a, b = plan.ends
        for how in a.hand_overs + b.hand_overs:
            how.gap = 0
        torn.append(World(plan).run())
        plan.ends = (replace(a, hand_overs=[]), replace(b, hand_overs=[]))
        calm.append(World(plan).run())
    assert all(result.outcome == "delivered" for result in torn + calm)
    assert sum(result.hand_overs for result in torn) > 150
    repeated = [sum(result.retransmitted for result in results) for results in (torn, calm)]
    assert repeated[0] <= repeated[1] + 3
    segments = [sum(result.segments for result in results) for results in (torn, calm)]
    assert segments[0] < 1.02 * segments[1]


def test_a_seed_is_one_run() -> None:
    lines: tuple[list[str], list[str]] = ([], [])
    results = [run(11, trace=line.append) for line in lines]
    assert results[0] == results[1]
    assert lines[0] == lines[1]
    assert results[0] != run(12)


@pytest.mark.soak
@pytest.mark.parametrize("first", range(100_000, 120_000, 1000))
def test_many_streams(first: int) -> None:
    """The same for twenty thousand seeds; ``make soak``."""
    for seed in range(first, first + 1000):
        run(seed)


# -- that faults would show


def _patched(owner: Any, name: str, wrap: Callable[..., Any]) -> Callable[[pytest.MonkeyPatch], None]:
    def apply(monkeypatch: pytest.MonkeyPatch) -> None:
        original = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *args, **kwargs: wrap(original, *args, **kwargs))

    return apply


def _forget_the_timestamp_delta(take_over: Callable[..., None], m: TcpMachine, now: int) -> None:
    take_over(m, now)
    m.timestamps.delta = 0


def _forget_the_timers(take_over: Callable[..., None], m: TcpMachine, now: int) -> None:
    take_over(m, now)
    m.timer.off()


def _forget_unread_data(hand_over: Callable[..., Any], m: TcpMachine, now: int) -> Any:
    result = hand_over(m, now)
    result.received.clear()
    return result


def _forget_pending_data(hand_over: Callable[..., Any], m: TcpMachine, now: int) -> Any:
    result = hand_over(m, now)
    del result.send_data[1:]
    return result


def _shrink_the_window(offer: Callable[..., int], m: TcpMachine) -> int:
    return max(0, offer(m) - 300)


def _ignore_the_window(window: Callable[..., None], m: TcpMachine, *args: Any) -> None:
    window(m, *args)
    m.delegated.snd_wnd += 3000


def _twice(deliver: Callable[..., None], m: TcpMachine, payload: bytes) -> None:
    deliver(m, payload)
    if len(payload) == 77:
        deliver(m, payload)


def _no_retransmission(retransmission: Callable[..., None], m: TcpMachine, now: int) -> None:
    m.timer.off()


def _sack_too_much(sack_blocks: Callable[..., Any], gaps: OutOfOrder, limit: int) -> Any:
    return tuple((a, (b + 1) & 0xFFFFFFFF) for a, b in sack_blocks(gaps, limit))


@pytest.mark.parametrize(
    "fault",
    [
        _patched(handover, "take_over", _forget_the_timestamp_delta),
        _patched(handover, "take_over", _forget_the_timers),
        _patched(handover, "hand_over", _forget_unread_data),
        _patched(handover, "hand_over", _forget_pending_data),
        _patched(windows, "offer", _shrink_the_window),
        _patched(acks, "_window", _ignore_the_window),
        _patched(text, "_deliver", _twice),
        _patched(expiry, "_retransmission", _no_retransmission),
        _patched(OutOfOrder, "sack_blocks", _sack_too_much),
    ],
    ids=lambda fault: fault.__closure__[-1].cell_contents.__name__,
)
def test_a_fault_of_the_machine_is_found(
    fault: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The simulation is worth what it finds: each of these would be found within a few runs."""
    fault(monkeypatch)
    with pytest.raises(Violation):  # noqa: PT012
        for seed in range(1, 120):
            run(seed)
