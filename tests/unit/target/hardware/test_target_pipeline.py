"""The pipeline: operations finish in order and not before their time."""

from __future__ import annotations

from functools import partial

from hypothesis import given
from hypothesis import strategies as st

from target.hardware.pipeline import Pipeline


@given(st.lists(st.tuples(st.floats(0, 3), st.booleans()), max_size=20), st.floats(0, 2))
def test_operations_finish_in_order_and_not_before_their_time(
    steps: list[tuple[float, bool]], latency: float
) -> None:
    """R-BLK-15: whatever the latency, and whatever has to wait."""
    pipeline, now, gates, done = Pipeline(latency), 0.0, [], []
    begun = []

    def finish(i: int) -> None:
        done.append((i, now))

    for i, (wait, open_) in enumerate(steps):
        now += wait
        pipeline.run(now)
        gates.append(open_)
        begun.append(now)
        pipeline.submit(partial(finish, i), now, partial(gates.__getitem__, i))
    for i in range(len(gates)):
        gates[i] = True
    now += 10
    pipeline.run(now)
    assert [i for i, _ in done] == list(range(len(steps)))
    assert all(at >= begun[i] + latency for i, at in done)
    assert len(pipeline) == 0
    assert pipeline.next_deadline() is None


def test_pipeline_deadline_and_nesting() -> None:
    p = Pipeline(0.0)
    done: list[int] = []

    def outer() -> None:
        p.submit(lambda: done.append(2), 0.0)
        done.append(1)

    p.submit(outer, 0.0)
    assert done == [1, 2]
    p.latency = 2.0
    p.submit(lambda: done.append(3), 1.0)
    assert p.next_deadline() == 3.0
    p.clear()
    p.run(9.0)
    assert done == [1, 2]
