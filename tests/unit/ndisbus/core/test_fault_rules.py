"""The fault table: what a rule takes, how often, and which rules are refused."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ndisbus.core.fault_rules import Fault, FaultTable, parse_status
from ndisbus.ddi.call_rows import IO_OPERATIONS, STATE_OPERATIONS
from ndisbus.ddi.calls import CALLS
from ndisbus.ddi.status import ALLOWED_STATUS, NdisStatus
from ndisbus.errors import LocalProtocolError

INITIATE = "NdisInitiateOffload"


def table(seed: int = 0) -> FaultTable:
    return FaultTable(random.Random(seed))


def ask(
    t: FaultTable,
    call: str = INITIATE,
    driver: str = "host",
    adapter: str | None = "nic0",
    direction: str = "down",
) -> Fault | None:
    return t.match(call, driver=driver, adapter=adapter, direction=direction)


def test_empty_table_is_inactive_and_matches_nothing() -> None:
    t = table()
    assert not t.active
    assert ask(t) is None
    assert t.list() == []


def test_standing_rule_hits_every_time() -> None:
    t = table()
    rule = t.add({"Action": "drop", "Call": INITIATE})
    assert t.active
    assert [ask(t) for _ in range(3)] == [rule] * 3
    assert ask(t, "NdisQueryOffloadState") is None
    [line] = t.list()
    assert (line["Seen"], line["Hits"], line["Armed"]) == (3, 3, True)


def test_times_spends_a_rule_that_stays_listed() -> None:
    t = table()
    t.add({"Action": "drop", "Call": INITIATE, "Times": 2})
    assert [ask(t) is not None for _ in range(4)] == [True, True, False, False]
    assert not t.active
    [line] = t.list()
    # A spent rule does not count any further.
    assert (line["Seen"], line["Hits"], line["Armed"]) == (2, 2, False)


def test_nth_takes_that_call_only() -> None:
    t = table()
    t.add({"Action": "drop", "Call": INITIATE, "Nth": 3})
    assert [ask(t) is not None for _ in range(5)] == [False, False, True, False, False]
    assert not t.active


def test_skip_lets_the_first_through() -> None:
    t = table()
    t.add({"Action": "drop", "Call": INITIATE, "Skip": 2, "Times": 2})
    assert [ask(t) is not None for _ in range(6)] == [False, False, True, True, False, False]


@pytest.mark.parametrize(("key", "value"), [("Driver", "host"), ("Adapter", "nic0"), ("Direction", "down")])
def test_filters_leave_the_others_alone(key: str, value: str) -> None:
    t = table()
    rule = t.add({"Action": "drop", "Call": INITIATE, key: value})
    assert ask(t) is rule
    other: dict[str, Any] = {key.lower(): "up" if key == "Direction" else "other"}
    assert ask(t, **other) is None
    # What a filter keeps away is not seen either.
    assert rule.seen == 1


def test_adapter_filter_does_not_match_a_call_without_an_adapter() -> None:
    t = table()
    t.add({"Action": "drop", "Call": INITIATE, "Adapter": "nic0"})
    assert ask(t, adapter=None) is None


def test_glob_takes_all_calls_that_look_like_it() -> None:
    t = table()
    t.add({"Action": "delay", "Call": "NdisM*Complete", "Delay": 0.5})
    taken = {c for c in CALLS if ask(t, c) is not None}
    assert taken == {c for c in CALLS if c.startswith("NdisM") and c.endswith("Complete")}
    assert len(taken) > 4


def test_earlier_rule_has_precedence_and_hides_the_call_from_later_ones() -> None:
    t = table()
    first = t.add({"Action": "drop", "Call": INITIATE, "Times": 1})
    second = t.add({"Action": "duplicate", "Call": "*", "Nth": 1})
    assert ask(t) is first
    assert second.seen == 0
    assert ask(t) is second


def test_remove_and_reset() -> None:
    t = table()
    a = t.add({"Action": "drop", "Call": INITIATE})
    b = t.add({"Action": "drop", "Call": "NdisOidRequest"})
    t.remove(a.id)
    assert ask(t) is None
    before = t.active
    with pytest.raises(LocalProtocolError, match="Id: there is no fault"):
        t.remove(a.id)
    t.reset()
    assert t.list() == [] and (before, t.active) == (True, False)
    # An id never comes to mean another rule.
    assert t.add({"Action": "drop", "Call": INITIATE}).id == b.id + 1


def test_probability_follows_the_seed() -> None:
    def run(seed: int) -> list[bool]:
        t = table(seed)
        t.add({"Action": "drop", "Call": INITIATE, "Probability": 0.3})
        return [ask(t) is not None for _ in range(200)]

    assert run(1) == run(1) != run(2)
    assert 30 < sum(run(1)) < 90


@given(
    nth=st.none() | st.integers(1, 8),
    skip=st.integers(0, 5),
    times=st.none() | st.integers(1, 5),
    calls=st.integers(0, 20),
)
def test_hits_are_what_the_arithmetic_says(nth: int | None, skip: int, times: int | None, calls: int) -> None:
    spec: dict[str, Any] = {"Action": "drop", "Call": INITIATE}
    spec |= {"Nth": nth} if nth else {"Skip": skip, "Times": times}
    t = table()
    rule = t.add(spec)
    hit = [i for i in range(1, calls + 1) if ask(t) is not None]
    if nth:
        assert hit == [nth][: int(calls >= nth)]
    else:
        assert hit == list(range(skip + 1, calls + 1))[:times]
    assert rule.hits == len(hit)
    assert rule.armed == t.active == (not (nth and hit) and rule.hits != times)


REFUSED = [
    ({}, "Action"),
    ({"Action": "explode", "Call": INITIATE}, "Action"),
    ({"Action": "drop"}, "Call"),
    ({"Action": "drop", "Call": "ndisinitiateoffload"}, "did you mean NdisInitiateOffload"),
    ({"Action": "drop", "Call": "NdisNoSuchCall"}, "Call: NdisNoSuchCall is not a call"),
    ({"Action": "drop", "Call": "Foo*"}, "Call"),
    ({"Action": "drop", "Call": 5}, "Call"),
    ({"Action": "drop", "Call": INITIATE, "Colour": "red"}, "Colour"),
    ({"Action": "drop", "Call": INITIATE, "Direction": "sideways"}, "Direction"),
    ({"Action": "drop", "Call": INITIATE, "Driver": 7}, "Driver"),
    ({"Action": "drop", "Call": INITIATE, "Adapter": ""}, "Adapter"),
    ({"Action": "drop", "Call": INITIATE, "Nth": 0}, "Nth"),
    ({"Action": "drop", "Call": INITIATE, "Nth": True}, "Nth"),
    ({"Action": "drop", "Call": INITIATE, "Nth": 2, "Times": 2}, "Times"),
    ({"Action": "drop", "Call": INITIATE, "Nth": 2, "Skip": 1}, "Skip"),
    ({"Action": "drop", "Call": INITIATE, "Times": -1}, "Times"),
    ({"Action": "drop", "Call": INITIATE, "Probability": 0}, "Probability"),
    ({"Action": "drop", "Call": INITIATE, "Probability": 1.5}, "Probability"),
    ({"Action": "drop", "Call": INITIATE, "Probability": float("nan")}, "Probability"),
    ({"Action": "drop", "Call": INITIATE, "Delay": 1}, "Delay"),
    ({"Action": "drop", "Call": INITIATE, "Status": "FAILURE"}, "Status"),
    ({"Action": "delay", "Call": INITIATE}, "Delay"),
    ({"Action": "delay", "Call": INITIATE, "Delay": -1}, "Delay"),
    ({"Action": "delay", "Call": INITIATE, "Delay": 1e9}, "Delay"),
    ({"Action": "fail", "Call": INITIATE}, "Status"),
    ({"Action": "fail", "Call": INITIATE, "Status": "NDIS_STATUS_NONSENSE"}, "Status"),
    ({"Action": "fail", "Call": INITIATE, "Status": 0xDEADBEEF}, "Status: 0xdeadbeef"),
    ({"Action": "fail", "Call": INITIATE, "Status": "SUCCESS"}, "Status"),
    ({"Action": "fail", "Call": INITIATE, "Status": "PENDING"}, "Status"),
    ({"Action": "fail", "Call": "NdisQueryOffloadState", "Status": "RESOURCES"}, "Status"),
    ({"Action": "fail", "Call": "NdisTcpOffloadEventHandler", "Status": "FAILURE"}, "Call"),
    ({"Action": "fail", "Call": "NdisOpenAdapterEx", "Status": "FAILURE"}, "Call"),
]


@pytest.mark.parametrize(("spec", "names"), REFUSED)
def test_senseless_rule_is_refused_by_name_of_its_key(spec: dict[str, Any], names: str) -> None:
    t = table()
    with pytest.raises(LocalProtocolError, match=names):
        t.add(spec)
    assert not t.active and t.list() == []


@pytest.mark.parametrize("operation", STATE_OPERATIONS + IO_OPERATIONS, ids=lambda o: o.op)
def test_fail_takes_exactly_the_failures_of_its_operation(operation: Any) -> None:
    """A fault brings about nothing that a driver itself might not say."""
    for name in (operation.request, operation.handler):
        for status in NdisStatus:
            spec = {"Action": "fail", "Call": name, "Status": status.symbol}
            if status in ALLOWED_STATUS[operation.op] and not status.is_success:
                assert table().add(spec).status is status
            else:
                with pytest.raises(LocalProtocolError):
                    table().add(spec)
    with pytest.raises(LocalProtocolError, match="Call"):
        table().add({"Action": "fail", "Call": operation.completion, "Status": "FAILURE"})


def test_oid_request_fails_with_any_failure() -> None:
    spec = {"Action": "fail", "Call": "*OidRequest", "Status": "OFFLOAD_POLICY"}
    assert table().add(spec).status is NdisStatus.OFFLOAD_POLICY
    with pytest.raises(LocalProtocolError, match="Status"):
        table().add(spec | {"Status": "PENDING"})


def test_status_by_number_symbol_and_short_name() -> None:
    resources = NdisStatus.RESOURCES
    for name in (0xC000009A, "NDIS_STATUS_RESOURCES", "RESOURCES", "resources", "0xC000009A", resources):
        assert parse_status(name) is resources
    wrongs: tuple[object, ...] = ("0xZZ", "", None, 1.5, True, [])
    for wrong in wrongs:
        with pytest.raises(LocalProtocolError, match="Status"):
            parse_status(wrong)


def test_rules_survive_the_way_to_the_client_and_back() -> None:
    t = table()
    spec = {"Action": "fail", "Call": "Ndis[IU]*Offload", "Status": "FAILURE", "Driver": "im", "Times": 3}
    t.add({**spec, "Skip": None})
    [line] = t.list()
    for key in ("Id", "Seen", "Hits", "Armed"):
        del line[key]
    assert line["Delay"] == 0.0
    del line["Delay"]
    again = table()
    again.add(line)
    [copy] = again.list()
    assert {k: copy[k] for k in line} == line
