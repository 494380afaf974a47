"""The supervisor's decisions, as scripted histories and as properties of any history."""

from __future__ import annotations

import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ndisbus.errors import IllegalTransition, LocalProtocolError
from ndisbus.runtime.supervise import (
    CANNOT_START,
    REPEAT,
    SETTLE,
    Action,
    Exit,
    Log,
    Phase,
    Policy,
    Restart,
    Signal,
    Spawn,
    Supervisor,
)

TERM, INT, KILL = signal.SIGTERM, signal.SIGINT, signal.SIGKILL


def acts(actions: list[Action]) -> list[Action]:
    """What is done, without what is said."""
    return [action for action in actions if not isinstance(action, Log)]


def said(actions: list[Action]) -> str:
    return "\n".join(action.text for action in actions if isinstance(action, Log))


def running(policy: Policy | None = None, pid: int = 123) -> Supervisor:
    core = Supervisor("target", policy)
    assert core.start(0.0) == [Spawn()]
    core.spawned(pid, 0.0)
    assert core.phase is Phase.RUNNING
    return core


def settle(core: Supervisor, returncode: int, now: float) -> list[Action]:
    """End the child, and let the moment pass in which our own stop signal might come."""
    return core.exited(returncode, now) + core.tick(now + SETTLE)


# --- restarting


def test_first_crash_restarts_within_a_tenth_of_a_second() -> None:
    core = running()
    assert said(core.exited(-KILL, 1.0)) == (
        "supervise: target (pid 123) killed by SIGKILL; restarting in 0.1 s"
    )
    assert core.deadline == pytest.approx(1.1)
    assert core.tick(1.09) == []
    assert core.tick(1.1) == [Spawn()]


def test_delays_double_up_to_the_longest_and_start_anew_after_a_stable_run() -> None:
    core = running(Policy(backoff_min=0.1, backoff_max=0.7, stable=2.0))
    now, delays = 0.0, []
    for uptime in (0.5, 0.5, 0.5, 0.5, 0.5, 2.0, 1.9):
        now += uptime
        core.exited(-KILL, now)
        assert core.deadline is not None
        delays.append(core.deadline - now)
        now = core.deadline
        core.tick(now)
        core.spawned(9, now)
    assert delays == pytest.approx([0.1, 0.2, 0.4, 0.7, 0.7, 0.1, 0.2])


def test_thousands_of_crashes_do_not_overflow() -> None:
    core = running(Policy(stable=10.0))
    now = 0.0
    for _ in range(3000):
        core.exited(1, now)
        assert core.deadline is not None
        assert core.deadline - now <= 5.0 + 1e-6
        now = core.deadline
        core.tick(now)
        core.spawned(9, now)


@pytest.mark.parametrize(
    ("restart", "returncode", "outcome"),
    [
        (Restart.ALWAYS, 0, None),
        (Restart.ALWAYS, 3, None),
        (Restart.ALWAYS, -TERM, None),
        (Restart.ON_FAILURE, 0, 0),
        (Restart.ON_FAILURE, -TERM, 143),
        (Restart.ON_FAILURE, 143, 143),
        (Restart.ON_FAILURE, 3, None),
        (Restart.ON_FAILURE, -KILL, None),
        (Restart.NEVER, 0, 0),
        (Restart.NEVER, 3, 3),
        (Restart.NEVER, -KILL, 137),
        (Restart.NEVER, -TERM, 143),
    ],
)
def test_what_follows_an_end_that_was_not_asked_for(
    restart: Restart, returncode: int, outcome: int | None
) -> None:
    core = running(Policy(restart))
    actions = acts(settle(core, returncode, 5.0))
    if outcome is None:
        assert actions == []
        assert core.phase is Phase.WAITING
    else:
        assert actions == [Exit(outcome)]
        assert core.phase is Phase.DONE


def test_command_that_cannot_be_started_at_first_is_final() -> None:
    core = Supervisor("target")
    core.start(0.0)
    actions = core.spawn_failed("nosuch: No such file or directory", 0.0)
    assert "cannot be started: nosuch: No such file" in said(actions)
    assert acts(actions) == [Exit(CANNOT_START)]


@pytest.mark.parametrize("code", [2, 78])
def test_a_wrong_command_line_is_final_but_not_of_a_child_that_has_run(code: int) -> None:
    core = running()
    actions = core.exited(code, 0.3)
    assert "command line is wrong" in said(actions)
    assert acts(actions) == [Exit(code)]
    proved = running()
    assert acts(settle(proved, 1, 5.0)) == []
    proved.tick(9.0)
    proved.spawned(8, 9.0)
    assert acts(proved.exited(code, 9.1)) == []
    assert proved.phase is Phase.WAITING


def test_command_that_cannot_be_started_later_is_tried_again() -> None:
    core = running()
    core.exited(1, 1.0)
    core.tick(1.1)
    assert acts(core.spawn_failed("Resource temporarily unavailable", 1.1)) == []
    assert core.deadline == pytest.approx(1.3)
    assert core.tick(1.3) == [Spawn()]


# --- stopping


def test_stop_forwards_term_and_exits_zero() -> None:
    core = running(Policy(grace=3.0))
    assert core.stop(INT, 1.0) == [Signal(TERM)]
    assert core.tick(3.9) == []
    assert acts(core.exited(-TERM, 3.9)) == [Exit(0)]


@pytest.mark.parametrize("returncode", [0, 1, -TERM, -KILL])
def test_stop_that_we_were_asked_for_is_success_however_the_child_ends(returncode: int) -> None:
    core = running()
    core.stop(TERM, 1.0)
    assert acts(core.exited(returncode, 1.5)) == [Exit(0)]


def test_child_that_does_not_end_within_the_grace_is_killed() -> None:
    core = running(Policy(grace=3.0))
    core.stop(TERM, 1.0)
    actions = core.tick(4.0)
    assert acts(actions) == [Signal(KILL)]
    assert "still running 3 s after the stop signal" in said(actions)
    assert core.tick(99.0) == []


def test_grace_never_waits_for_ever_and_zero_does_not_wait() -> None:
    patient = running(Policy(grace=None))
    patient.stop(TERM, 1.0)
    assert patient.deadline is None
    assert patient.tick(1e9) == []
    hasty = running(Policy(grace=0.0))
    assert hasty.stop(TERM, 1.0) == [Signal(TERM)]
    assert acts(hasty.tick(1.0)) == [Signal(KILL)]


def test_second_stop_kills_at_once_but_an_echo_of_the_first_does_not() -> None:
    core = running()
    core.stop(TERM, 1.0)
    assert core.stop(TERM, 1.0 + REPEAT / 2) == []
    actions = core.stop(INT, 1.0 + REPEAT)
    assert acts(actions) == [Signal(KILL)]
    assert "SIGINT again" in said(actions)


@pytest.mark.parametrize("returncode", [0, -TERM, -INT, 143, 130])
@pytest.mark.parametrize("restart", list(Restart))
def test_child_seen_to_end_just_before_our_own_stop_signal_is_no_crash(
    restart: Restart, returncode: int
) -> None:
    core = running(Policy(restart))
    assert core.exited(returncode, 1.0) == []
    assert core.tick(1.0 + SETTLE / 2) == []
    assert core.stop(TERM, 1.0 + SETTLE / 2) == [Exit(0)]


def test_stop_between_crash_and_restart_exits_zero() -> None:
    core = running()
    core.exited(-KILL, 1.0)
    assert core.stop(TERM, 1.05) == [Exit(0)]
    assert core.tick(2.0) == []


def test_stop_while_the_child_is_being_started_reaches_it_when_it_is_there() -> None:
    core = Supervisor("target")
    core.start(0.0)
    assert core.stop(TERM, 0.1) == []
    assert acts(core.spawned(7, 0.2)) == [Signal(TERM)]
    assert acts(core.exited(-TERM, 0.3)) == [Exit(0)]


def test_stop_while_a_child_is_being_started_that_cannot_be() -> None:
    core = Supervisor("target")
    core.start(0.0)
    core.stop(TERM, 0.1)
    assert core.spawn_failed("no", 0.2) == [Exit(0)]


# --- illegal


def test_illegal_pairs_raise_and_change_nothing() -> None:
    core = Supervisor("target")
    with pytest.raises(IllegalTransition, match="supervisor of target: exited is not legal in state new"):
        core.exited(0, 0.0)
    assert core.start(0.0) == [Spawn()], "still new"
    with pytest.raises(IllegalTransition):
        core.start(0.0)
    core.spawned(1, 0.0)
    with pytest.raises(IllegalTransition):
        core.spawned(2, 0.0)
    assert "pid 1)" in said(core.exited(1, 1.0)), "still running, and the first"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("grace", -1.0),
        ("grace", float("nan")),
        ("grace", float("inf")),
        ("backoff_min", 0.0),
        ("backoff_min", 9.0),
        ("backoff_max", float("inf")),
        ("stable", -1.0),
        ("stable", float("nan")),
    ],
)
def test_policy_that_makes_no_sense_is_refused(field: str, value: float) -> None:
    with pytest.raises(LocalProtocolError):
        Policy(**{field: value})  # type: ignore[arg-type]


# --- any history

_EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["exit", "fail", "stop", "tick"]),
        st.sampled_from([0, 1, 130, 143, -TERM, -KILL, -signal.SIGSEGV]),
        st.floats(0.0, 4.0),
    ),
    max_size=60,
)
_POLICIES = st.builds(Policy, st.sampled_from(Restart), st.none() | st.floats(0.0, 5.0))


@given(_POLICIES, _EVENTS)
def test_any_history_keeps_one_child_and_ends_once(
    policy: Policy, events: list[tuple[str, int, float]]
) -> None:
    core = Supervisor("im", policy)
    now, pid = 0.0, 0
    alive = asked = pending = False
    over: list[int] = []

    def apply(actions: list[Action]) -> None:
        nonlocal alive, pid, pending
        for action in acts(actions):
            assert not over, "nothing follows Exit"
            match action:
                case Spawn():
                    assert not alive and not asked and not pending
                    pending = True
                case Signal():
                    assert alive and asked
                case Exit(code):
                    assert not alive
                    assert not asked or code == 0
                    over.append(code)

    apply(core.start(now))
    for kind, code, wait in events:
        now += wait
        if pending:
            pending = False
            if kind == "fail":
                apply(core.spawn_failed("no", now))
            else:
                pid += 1
                alive = True
                apply(core.spawned(pid, now))
        elif kind == "exit" and alive:
            alive = False
            apply(core.exited(code, now))
        elif kind == "stop":
            asked = asked or not over
            apply(core.stop(TERM, now))
        else:
            apply(core.tick(now))
        # The child or the clock will cause the next step, unless all is over.
        assert over or alive or pending or core.deadline is not None
        assert (core.phase is Phase.DONE) == bool(over)
