"""Scenarios and the blocking API on whole simulated stacks."""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner

from hoststack import Host, HostDriver, HostTimeout, SimulationRunner
from hoststack.cli.main import main
from hoststack.model import synthetic
from hoststack.scenario.check import Scenario, load, parse
from hoststack.scenario.run import ScenarioResult, ScenarioRun, StepResult
from imdriver import ImDriver
from ndisbus.errors import BusUnavailable, ChimneyError, LocalProtocolError
from ndisbus.sim import Simulation
from target.driver import TargetDriver

SCENARIOS = sorted((Path(__file__).parents[4] / "scenarios").glob("*.yaml"))
DEFINE = """\
define:
  neighbors: [{name: gw, mac: "02:00:00:00:00:01"}]
  paths: [{name: p, neighbor: gw, source: 10.0.0.1, destination: 10.0.0.2}]
  connections: [{name: c, path: p, count: 3, unsent: 100, buffered: 10}, {name: o, path: p, ip_options: true}]
"""


def stack(seed: int = 0, *, target: bool = True) -> Host:
    sim = Simulation(seed)
    if target:
        sim.start("target", TargetDriver)
        sim.start("im", ImDriver)
    sim.start("host", lambda: HostDriver("host"))
    return Host(SimulationRunner(sim, "host"))


def play(text: str, *, target: bool = True) -> ScenarioResult:
    return ScenarioRun(stack(target=target), parse(DEFINE + text, "s.yaml")).run()


def failure(text: str, *, target: bool = True) -> str:
    result = play(text, target=target)
    assert not result.passed
    assert not result.steps[-1].passed
    assert all(s.passed for s in result.steps[:-1])
    return result.steps[-1].text


@pytest.mark.parametrize("file", SCENARIOS, ids=lambda p: p.stem)
@pytest.mark.parametrize("seed", range(3))
def test_the_scenarios_of_the_project_pass_and_leave_nothing(file: Path, seed: int) -> None:
    scenario = load(file)
    if scenario.inventory is not None and not sys.platform.startswith("linux"):
        pytest.skip("only Linux says what an inventory asks for")
    host = stack(seed)
    result = ScenarioRun(host, scenario).run()
    assert result.passed, result.steps[-1]
    survey = host.control("ps")
    assert survey["BugChecks"] == []
    assert all(a["Outstanding"] == 0 for a in survey["Adapters"])
    assert all(sum(b["Objects"].values()) == 0 for b in survey["Bindings"])


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads what Linux knows of connections")
def test_an_inventory_opens_real_connections_and_closes_them() -> None:
    before = len(psutil.Process().net_connections("tcp"))
    scenario = parse(
        "define: {inventory: {connections: 6, others: false}}\n"
        "steps:\n"
        "  - wait_bound: {}\n"
        "  - offload: {objects: inventory.connections}\n"
        "  - expect: {offloaded: 6}\n"
        "  - terminate: {all: true}\n"
    )
    result = ScenarioRun(stack(), scenario).run()
    assert result.passed, result.steps[-1]
    assert result.steps[0].text.startswith("6 connections (")
    assert len(psutil.Process().net_connections("tcp")) == before


def test_one_seed_gives_one_result() -> None:
    def once() -> list[dict[str, object]]:
        return ScenarioRun(stack(5), load(SCENARIOS[0])).run().to_dict()["steps"]  # type: ignore[no-any-return]

    assert once() == once()


def test_data_travels_down_and_comes_home() -> None:
    host = stack()
    run = ScenarioRun(
        host,
        parse(
            DEFINE
            + "steps:\n  - wait_bound: {}\n  - offload: {objects: c}\n"
            + "  - terminate: {objects: c, idle: true}\n"
            + "  - expect: {handles: 0, posted: 0, violations: 0, lost: 0}\n"
        ),
    )
    before = [(b"".join(t.send_queue or ()), bytes(t.receive_buffer or b"")) for t in run.objects["c"]]  # type: ignore[attr-defined]
    assert run.run().passed
    for tcb, (unsent, received) in zip(run.objects["c"], before, strict=True):
        assert len(unsent) == 100
        assert tcb.read() == received  # type: ignore[attr-defined]
        left = b"".join(tcb.send_queue or ())  # type: ignore[attr-defined]
        assert unsent.endswith(left)


def test_a_refused_object_is_an_outcome_and_not_an_error() -> None:
    text = (
        "steps:\n  - wait_bound: {}\n"
        "  - offload: {objects: [c, o], expect: {SUCCESS: 5, OFFLOAD_POLICY: 1}}\n"
    )
    assert play(text).passed
    assert "expected success" in failure(text.replace("{SUCCESS: 5, OFFLOAD_POLICY: 1}", "success"))
    assert "expected {" in failure(text.replace("POLICY: 1", "POLICY: 2"))


def test_refusals_can_be_expected() -> None:
    assert play("steps:\n  - offload: {objects: c, refused: not bound}\n", target=False).passed
    assert "a refusal with 'tired'" in failure(
        "steps:\n  - offload: {objects: c, refused: tired}\n", target=False
    )


def test_a_failed_step_ends_the_scenario_and_says_where() -> None:
    result = play(
        "steps:\n  - wait_bound: {}\n  - expect: {offloaded: 7, timeout: 0.1}\n  - sleep: {seconds: 1}\n"
    )
    assert [s.passed for s in result.steps] == [True, False]
    assert result.steps[-1].text == "offloaded is 0, expected 7"
    assert result.steps[-1].where == "s.yaml:7: steps[1].expect"
    assert json.loads(json.dumps(result.to_dict()))["passed"] is False


def test_without_an_adapter_waiting_ends_with_a_reason() -> None:
    assert "the chimney is unbound" in failure("steps:\n  - wait_bound: {timeout: 0.5}\n", target=False)


def test_an_illegal_request_fails_its_step() -> None:
    assert "not legal" in failure("steps:\n  - wait_bound: {}\n  - query: {objects: c}\n")


def test_rounds_and_operations_without_a_wait() -> None:
    text = (
        "steps:\n  - wait_bound: {}\n  - repeat:\n      times: 3\n      steps:\n"
        "        - offload: {objects: c, wait: false}\n        - join: {}\n"
        "        - terminate: {objects: c, wait: false}\n"
    )
    result = play(text)
    assert not result.passed  # the second round offers what is still being uploaded
    assert "round 2" in result.steps[-1].text
    assert play(text + "        - join: {timeout: 5}\n").passed
    end = play("steps:\n  - wait_bound: {}\n  - offload: {objects: c, wait: false, expect: any}\n")
    assert end.passed
    assert end.steps[-1].verb == "join"


def test_faults_are_armed_counted_and_taken_away() -> None:
    text = (
        "steps:\n  - wait_bound: {}\n"
        "  - fault:\n      add: {Action: fail, Call: NdisQueryOffloadState, Status: FAILURE, Driver: host}\n"
        "  - offload: {objects: c}\n"
    )
    assert "never fired" in failure(text + "  - fault: {fired: true}\n")
    assert play(text + "  - query: {objects: c, expect: {FAILURE: 3}}\n  - fault: {fired: true}\n").passed
    host = stack()
    ScenarioRun(host, parse(DEFINE + text)).run()
    assert host.control("fault.list")["Faults"] == []
    assert "no fault is armed" in failure("steps:\n  - fault: {fired: true}\n")
    assert play(text + "  - fault: {reset: true}\n  - query: {objects: c}\n").passed


def test_a_process_that_is_not_there_cannot_be_killed() -> None:
    assert "nobody" in failure("steps:\n  - kill: nobody\n")


def test_the_progress_is_told_step_by_step() -> None:
    told: list[StepResult] = []
    scenario: Scenario = parse(
        DEFINE + "steps:\n  - wait_bound: {}\n  - sleep: {seconds: 0.1}\n  - expect: {chimney: enabled}\n"
    )
    ScenarioRun(stack(), scenario, told.append).run()
    assert [s.verb for s in told] == ["wait_bound", "sleep", "expect"]
    assert told[1].seconds >= 0.1


# -- the blocking API --------------------------------------------------------------------------


def test_a_host_in_plain_python() -> None:
    with stack() as host:
        host.wait_bound()
        gateway, backup = synthetic.neighbor(b"\2\0\0\0\0\1"), synthetic.neighbor(b"\2\0\0\0\0\2")
        path = synthetic.path(gateway, bytes(16), bytes(15) + b"\1")
        tcbs = synthetic.connections(path, 10, rng=random.Random(3))
        assert host.offload(tcbs).counts() == {"NDIS_STATUS_SUCCESS": 12}
        operation = host.query(tcbs, "whole", wait=False)
        assert not operation.done
        with pytest.raises(HostTimeout, match="not completed within 0 s"):
            host.wait(operation, 0.0)
        host.wait(operation)
        assert (operation.result_of(tcbs[3]) or ())[:2] == (tcbs[3].const, tcbs[3].cached)
        assert host.update([path]).succeeded
        assert host.failover(gateway, backup, invalidate=False).succeeded
        assert path.neighbor is backup
        host.send(tcbs[0], b"data")
        assert host.upload_everything().succeeded
        assert host.driver.inspect()["handles"] == 0
        assert host.disable_chimney().succeeded
        assert host.enable_chimney().succeeded
        assert [type(e).__name__ for e in host.events()][:2] == ["Bound", "OperationDone"]
        assert list(host.events()) == []


def test_waiting_for_an_adapter_names_what_is_missing() -> None:
    with pytest.raises(HostTimeout, match="no adapter was offered to 'host'"):
        stack(target=False).wait_bound(0.5)


def test_control_requests_raise_what_the_bus_says() -> None:
    with pytest.raises(ChimneyError, match="unknown verb"):
        stack().control("dance")


def test_an_operation_knows_only_its_own_objects() -> None:
    host = stack()
    stranger = synthetic.neighbor(b"\2\0\0\0\0\1")
    operation = host.offload([], wait=False)
    with pytest.raises(LocalProtocolError, match="not among the objects"):
        operation.status_of(stranger)


# -- the command line --------------------------------------------------------------------------


def test_the_command_line_checks_a_file(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["run", str(SCENARIOS[0]), "--check"])
    assert result.exit_code == 0
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("stepz: []\n")
    result = CliRunner().invoke(main, ["run", str(wrong)])
    assert result.exit_code == 2
    assert f"{wrong}:1: scenario: unknown key 'stepz'" in result.stderr


def test_without_a_bus_the_exit_code_is_its_own(tmp_path: Path) -> None:
    file = tmp_path / "quick.yaml"
    file.write_text("timeout: 0.2\nsteps: [{wait_bound: {}}]\n")
    result = CliRunner().invoke(main, ["run", str(file), "--endpoint", f"ipc://{tmp_path}/nobody"])
    assert result.exit_code == 69
    assert "no bus let 'scenario' in" in result.stderr


@pytest.mark.parametrize("args", [["-h"], ["run", "-h"], ["tour", "-h"], ["tour", "--help"]], ids=" ".join)
def test_help_is_short_too(args: list[str]) -> None:
    result = CliRunner().invoke(main, args)
    assert result.exit_code == 0
    assert result.output.startswith("Usage: ")


def test_a_host_says_who_it_is_and_where() -> None:
    host = stack()
    assert repr(host).startswith("<Host 'host', unbound, chimney ")
    host.wait_bound()
    assert repr(host) == "<Host 'host', on im0-a, chimney enabled>"


def test_a_dead_bus_is_not_a_missing_adapter() -> None:
    host = stack(target=False)
    host.wait_attached()
    host.runner.simulation.kill_bus()  # type: ignore[attr-defined]
    with pytest.raises(BusUnavailable, match="ndisbus serve"):
        host.wait_bound(0.5)
