"""Knobs, commands, the table of life, the pipeline, options."""

from __future__ import annotations

import sys
import types
from functools import partial
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from ndisbus.ddi.status import ALLOWED_STATUS, NdisStatus
from ndisbus.errors import IllegalTransition, LocalProtocolError
from target import TargetConfig, TargetDriver
from target.cli import main, make_config
from target.control import COMMANDS
from target.hardware.knobs import POINTS, Knobs
from target.hardware.pipeline import Pipeline
from target.model.life import LIFE, Event, Life


def test_knob_modes() -> None:
    k = Knobs()
    k.set("query")
    k.set("update", mode="nth", nth=3)
    k.set("send", mode="sticky", status="UPLOAD_IN_PROGRESS")
    fired = [[k.fire(p) is not None for _ in range(5)] for p in ("query", "update", "send")]
    assert fired == [[True] + [False] * 4, [False, False, True, False, False], [True] * 5]
    assert [(x["hits"], x["fired"], x["armed"]) for x in k.listed()] == [
        (1, 1, False),
        (3, 1, False),
        (5, 5, True),
    ]
    assert k.remove("sticky_send").fired == 5
    assert k.fire("send") is None
    assert [x["name"] for x in k.reset()] == ["once_query", "nth_update"]
    assert len(k) == 0


def test_two_knobs_at_one_point_fire_one_after_the_other() -> None:
    k = Knobs()
    k.set("initiate.tcp", status="RESOURCES", name="a")
    k.set("initiate.tcp", status=int(NdisStatus.OFFLOAD_TCP_ENTRIES), name="b")
    assert [k.fire("initiate.tcp") for _ in range(3)] == [
        NdisStatus.RESOURCES,
        NdisStatus.OFFLOAD_TCP_ENTRIES,
        None,
    ]
    k.set("query", name="a")
    assert [x["point"] for x in k.listed()] == ["query", "initiate.tcp"]


def test_a_knob_that_never_fired_can_be_told() -> None:
    k = Knobs()
    assert k.set("invalidate", mode="nth", nth=2).to_map()["fired"] == 0
    k.fire("invalidate")
    assert k.listed()[0] == {
        "name": "nth_invalidate",
        "point": "invalidate",
        "status": "NDIS_STATUS_FAILURE",
        "mode": "nth",
        "nth": 2,
        "hits": 1,
        "fired": 0,
        "armed": True,
    }


@pytest.mark.parametrize(
    "bad",
    [
        {"point": "nowhere"},
        {"point": "query", "status": "RESOURCES"},
        {"point": "query", "status": "NO_SUCH"},
        {"point": "query", "status": 12345},
        {"point": "query", "mode": "often"},
        {"point": "query", "mode": "nth", "nth": 0},
        {"point": "initiate.tcp", "status": "SUCCESS"},
    ],
)
def test_knobs_that_cannot_be(bad: dict[str, Any]) -> None:
    with pytest.raises(LocalProtocolError):
        Knobs().set(**bad)
    with pytest.raises(LocalProtocolError):
        Knobs().remove("x")


def test_knobs_bring_only_what_the_interface_allows() -> None:
    """R-INIT-06, R-QRY-04, R-UPD-10, R-INV-06, R-TERM-17: statuses a point may bring are statuses of its
    operation.
    """
    for point, (default, allowed) in POINTS.items():
        op = point.partition(".")[0]
        assert default in allowed
        if op in ALLOWED_STATUS:
            assert allowed <= ALLOWED_STATUS[op]


@pytest.mark.parametrize("layer", ["neighbor", "path", "tcp"])
@pytest.mark.parametrize("status", sorted(POINTS["initiate.tcp"][1]))
def test_every_failure_of_an_initiate_can_be_injected(h: Any, layer: str, status: NdisStatus) -> None:
    """R-HND-03: at every layer; the object gets no context, and the refusal is counted."""
    h.control("knob.set", {"point": f"initiate.{layer}", "status": status.name})
    objects = {"neighbor": h.neighbor(), "path": h.path(), "tcp": h.tcp()}
    spec = [(objects["neighbor"], [(objects["path"], [objects["tcp"]])])]
    done = dict(zip(objects, h.run("initiate", spec).status, strict=True))
    assert done[layer] == status
    assert objects[layer].context is None
    assert h.inspect()["refused: injected failure"] == 1


def test_knob_commands(h: Any) -> None:
    c = h.control
    assert c("knob.set", {"point": "query", "mode": "sticky", "name": "q"})["armed"] is True
    assert h.inspect()["knobs"] == 1
    listed = c("knob.list", {})
    assert [k["name"] for k in listed["knobs"]] == ["q"]
    assert listed["points"]["query"] == ["NDIS_STATUS_FAILURE"]
    assert c("knob.remove", {"name": "q"})["fired"] == 0
    assert c("knob.reset", {}) == {"removed": []}


@pytest.mark.parametrize(
    ("command", "arguments", "text"),
    [
        ("dance", {}, "unknown command dance"),
        ("knob.set", {}, "point is missing"),
        ("knob.set", {"pint": "query"}, "unknown argument pint"),
        ("indicate", {"event": "wave"}, "retrieve, disconnect or abort"),
        ("indicate", {"reason": "Boredom"}, "Boredom is not a TCP_UPLOAD_REASON"),
        ("indicate", {"reason": 12}, "not a TCP_UPLOAD_REASON"),
        ("indicate", {"connection": 5}, "connection 5 does not exist"),
        ("pause", {"adapter": "nic7"}, "adapter nic7 does not exist"),
        ("corrupt", {"object": 5}, "object 5 does not exist"),
        ("backlog", {}, "number of bytes"),
        ("latency", {"seconds": -1}, "0 or more"),
    ],
)
def test_commands_say_what_is_wrong(h: Any, command: str, arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(LocalProtocolError, match=text):
        h.control(command, arguments)


def test_hang_is_answered_until_a_reset(h: Any) -> None:
    assert h.ask("MiniportCheckForHangEx", [h.ctx]) == [False]
    assert h.control("hang", {}) == {"adapters": ["nic0"], "hung": True}
    assert h.ask("MiniportCheckForHangEx", [h.ctx]) == [True]
    assert h.ask("MiniportResetEx", [h.ctx]) == [0]
    assert h.ask("MiniportCheckForHangEx", [h.ctx]) == [False]


def test_commands_choose_an_adapter(make: Any) -> None:
    h = make(TargetConfig(adapters=("a", "b")))
    h.stack(1)
    h.control("hang", {"adapter": "b"})
    assert [h.ask("MiniportCheckForHangEx", [h.adapters[n]])[0] for n in ("a", "b")] == [False, True]
    tables = h.control("tables", {})
    assert [tables[n]["in_use"]["tcp"] for n in ("a", "b")] == [1, 0]


def test_tables_show_what_the_hardware_holds(h: Any) -> None:
    """R-TREE-11: one tree per neighbor."""
    n, _p, ts = h.stack(3)
    shown = h.control("tables", {"limit": 2})["nic0"]
    assert shown["in_use"]["tcp"] == 3
    [tree] = shown["trees"]
    assert (tree["address"], tree["life"]) == (n.context, "offloaded")
    [path] = tree["paths"]
    assert path["connections"] == 3
    assert [t["address"] for t in path["tcp"]] == [t.context for t in ts[:2]]


def test_every_command_is_reachable(h: Any) -> None:
    h.stack(1)
    for command in COMMANDS:
        if command in ("knob.set", "knob.remove", "backlog"):
            continue
        assert isinstance(h.control(command, {}), dict)


# -- life --------------------------------------------------------------------------------------


def test_illegal_steps_leave_an_object_as_it_was(h: Any) -> None:
    n, _, _ = h.stack(0)
    obj = h.adapter.find(n.context)
    with pytest.raises(IllegalTransition, match="neighbor 0x"):
        obj.step(Event.TERMINATED)
    assert obj.life is Life.OFFLOADED


def test_rules_that_the_table_holds() -> None:
    """R-INV-03, R-STATE-06: no update when invalid or updating; invalid ends by a terminate only.

    Queries and terminates are for every object that is offloaded, whatever became of it.
    """
    assert LIFE.legal_in(Event.UPDATE) == {Life.OFFLOADED}
    leads = {event for state, event, to in LIFE if state is Life.INVALID and to is not Life.INVALID}
    assert leads == {Event.TERMINATE, Event.LOSE, Event.HALT}
    for event in (Event.QUERY, Event.TERMINATE):
        assert LIFE.legal_in(event) == {Life.OFFLOADED, Life.UPDATING, Life.INVALID, Life.LOST}
    assert Life.GONE not in LIFE.rows


# -- pipeline ----------------------------------------------------------------------------------


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


# -- the command line --------------------------------------------------------------------------


def test_options_make_a_configuration() -> None:
    assert make_config(name="t", tcp_entries=None, latency=0.5) == TargetConfig(name="t", latency=0.5)


def test_the_command_line_runs_a_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[tuple[TargetDriver, dict[str, Any]]] = []

    def run_driver(driver: TargetDriver, **options: Any) -> int:
        started.append((driver, options))
        return 3

    module = types.ModuleType("ndisbus.runtime.run_driver")
    module.run_driver = run_driver  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ndisbus.runtime.run_driver", module)
    arguments = [
        "--name",
        "t2",
        "--adapter",
        "x",
        "--adapter",
        "y",
        "--tcp-entries",
        "9",
        "--vlan",
        "5",
        "--no-ipv6",
        "--latency",
        "0.25",
        "--endpoint",
        "ipc://e",
    ]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 3
    [(driver, options)] = started
    assert options == {"name": "t2", "endpoint": "ipc://e", "readers": {}}
    config = driver.config
    assert (config.adapters, config.tcp_entries, config.interface_vlans) == (("x", "y"), 9, frozenset({5}))
    assert (config.support_ipv6, config.latency, config.path_entries) == (
        False,
        0.25,
        TargetConfig().path_entries,
    )


def test_an_impossible_configuration_is_a_usage_error() -> None:
    result = CliRunner().invoke(main, ["--no-ipv4", "--no-ipv6"])
    assert result.exit_code == 2
    assert "R-OID-10" in result.output
