"""What a station remembers of the moments at which its connections have something to do."""

from __future__ import annotations

from typing import Any

from ndisbus.ddi.tcp_enums import TCP_FLAG_KEEP_ALIVE_ENABLED
from ndisbus.net.segment import ACK

KEEP_ALIVE = {"flags": TCP_FLAG_KEEP_ALIVE_ENABLED, "ka_timeout": 7_200_000, "ka_interval": 1000}


def remembered(w: Any) -> int:
    return int(w.adapter.wakes.entries)


def chatter(w: Any, t: Any, i: int) -> None:
    """One byte comes, and a second later it was acknowledged."""
    w.say(t, ACK, 5000 + i, 1000, b"x")
    assert w.answer() == b"x"
    w.advance(1.0)


def test_a_timer_far_away_is_remembered_once_however_often_nearer_ones_come(w: Any) -> None:
    """Each segment that waits for its delayed ACK is nearer than the keepalive timer, two hours away."""
    t = w.live(cached=KEEP_ALIVE)
    for i in range(500):
        chatter(w, t, i)
    assert remembered(w) < 150
    assert [s.ack for s in w.heard()] == [5001 + i for i in range(500)]


def test_connections_that_are_gone_are_forgotten_before_their_timers(w: Any) -> None:
    for i in range(200):
        t = w.live(cached=KEEP_ALIVE, local=5000 + i)
        assert w.statuses("terminate", [t]) == ["SUCCESS"]
    assert remembered(w) < 150


def test_tidying_old_deadlines_keeps_the_others(w: Any) -> None:
    quiet = w.live(cached=KEEP_ALIVE, local=4000)
    busy = w.live(cached=KEEP_ALIVE, local=4001)
    for i in range(300):
        chatter(w, busy, i)
    w.heard()
    w.advance(7200.0 - 300.0)
    probes = w.heard()
    assert [s.source_port for s in probes] == [4000]
    assert quiet is not busy
    w.advance(300.0)
    assert {s.source_port for s in w.heard()} == {4000, 4001}


def test_many_connections_that_go_together_are_forgotten_at_once(w: Any) -> None:
    """Not only when the next ones come."""
    p = w.live().below[1]
    ts = [w.tcp(local=6000 + i, cached=KEEP_ALIVE) for i in range(1000)]
    assert w.statuses("initiate", [(p, ts)]) == ["SUCCESS"] * 1001
    assert remembered(w) == 1000
    w.run("terminate", ts)
    assert len(w.adapter.wakes) == 0
    assert remembered(w) < 150
