"""Commands of ``ndisbus fault`` for the target."""

from __future__ import annotations

from typing import Any

import pytest

from ndisbus.ddi.status import NdisStatus
from ndisbus.errors import LocalProtocolError
from target import TargetConfig
from target.control import COMMANDS
from target.hardware.knobs import POINTS


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
