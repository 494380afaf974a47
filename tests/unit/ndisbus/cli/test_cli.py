"""The command line of the bus: what it prints, what it returns, what it says when it cannot."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from ndisbus import __version__
from ndisbus.cli import ps, wait
from ndisbus.cli.main import main
from ndisbus.core import NdisCore
from ndisbus.driver.base import ProtocolDriver
from ndisbus.errors import BusUnavailable
from ndisbus.messages.codec import PROTOCOL_VERSION
from ndisbus.messages.trace_events import Filter
from ndisbus.runtime.control_client import ControlClient
from ndisbus.runtime.driver_process import DriverProcess

ROOT = Path(__file__).parents[4]
DEADLINE = 20.0
EX_UNAVAILABLE = 69


@pytest.fixture(scope="module")
def directory() -> Iterator[Path]:
    # Not tmp_path: a socket's path is at most 107 bytes long.
    path = Path(tempfile.mkdtemp(prefix="nd"))
    yield path
    shutil.rmtree(path)


@pytest.fixture(autouse=True)
def environment(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NDISBUS_RUNTIME_DIR", str(directory))
    monkeypatch.delenv("NDISBUS_ENDPOINT", raising=False)
    monkeypatch.delenv("NDISBUS_CURVE_DIR", raising=False)


@pytest.fixture(scope="module")
def bus(directory: Path) -> Iterator[int]:
    """The pid of a bus for all tests of this module."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("NDISBUS_")}
    env["NDISBUS_RUNTIME_DIR"] = str(directory)
    argv = [sys.executable, "-m", "ndisbus", "serve", "--seed", "7", "--json"]
    child = subprocess.Popen(argv, cwd=ROOT, env=env, stdout=subprocess.PIPE)
    assert child.stdout is not None
    try:
        said = json.loads(child.stdout.readline())
        expected = {"Endpoint": f"ipc://{directory}/bus.sock", "Pid": child.pid, "Seed": 7, "Curve": False}
        assert said == expected
        yield child.pid
    finally:
        child.terminate()
        assert child.wait(DEADLINE) == 0
        child.stdout.close()


@pytest.fixture
def no_bus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tmp_path.chmod(0o700)
    monkeypatch.setenv("NDISBUS_ENDPOINT", f"ipc://{os.path.relpath(tmp_path)}/none.sock")


@pytest.fixture
def host(bus: int) -> Iterator[DriverProcess]:
    """A driver on the bus, as idle as can be."""

    class Host(ProtocolDriver):
        def driver_entry(self) -> Any:
            yield self.ndis.register_protocol_driver(None, {"Name": "idle", "Bind": []})

        def inspect(self) -> dict[str, int]:
            return {"tcbs": 3, "posted": 0}

        def control(self, command: str, arguments: dict[str, Any]) -> dict[str, Any]:
            return {"command": command, **arguments}

    with DriverProcess(Host(), name="idle") as process:
        assert process.run_until(lambda: process.ready, DEADLINE)
        yield process


def run(*args: str) -> Result:
    return CliRunner().invoke(main, args)


def served(process: DriverProcess, *args: str) -> subprocess.CompletedProcess[str]:
    """A command in a process of its own, while this one answers the bus."""
    child = subprocess.Popen(
        [sys.executable, "-m", "ndisbus", *args],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.run_until(lambda: child.poll() is not None, DEADLINE)
    finally:
        child.kill()
        out, err = child.communicate()
    return subprocess.CompletedProcess(args, child.returncode, out, err)


def test_help_names_every_command_without_importing_any() -> None:
    code = "import sys; from ndisbus.cli.main import main\ntry: main(['--help'])\nexcept SystemExit: pass\n"
    code += "print(sorted(m for m in sys.modules if m in ('zmq', 'rich', 'psutil', 'ndisbus.core')))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    for command in ("serve", "ps", "trace", "fault", "adapter", "wait", "supervise", "bench"):
        assert f"\n  {command} " in done.stdout
    assert done.stdout.endswith("[]\n")


@pytest.mark.parametrize(
    "args",
    [
        ["serve"],
        ["ps"],
        ["trace"],
        ["fault"],
        ["fault", "add"],
        ["fault", "knob"],
        ["fault", "restart"],
        ["adapter", "add"],
        ["wait"],
        ["supervise"],
        ["bench"],
    ],
    ids=" ".join,
)
def test_every_command_has_help(args: list[str]) -> None:
    result = run(*args, "--help")
    assert result.exit_code == 0
    assert "Usage: " in result.output


def test_version_and_unknown_command() -> None:
    assert run("--version").output.strip().endswith(__version__)
    assert run("explode").exit_code == 2


@pytest.mark.usefixtures("no_bus")
@pytest.mark.parametrize(
    "args",
    [
        ["ps"],
        ["trace", "--count", "1"],
        ["fault", "list"],
        ["fault", "add", "NdisOidRequest", "--drop"],
        ["fault", "reset"],
        ["fault", "knob", "x", "y"],
        ["adapter", "add"],
        ["adapter", "remove", "x"],
        ["wait", "x", "--timeout", "0.1"],
        ["fault", "kill", "x"],
        ["fault", "stall", "x"],
        ["fault", "resume", "x"],
        ["fault", "restart", "x"],
    ],
    ids=" ".join,
)
def test_without_a_bus_every_command_says_so(args: list[str]) -> None:
    result = run(*args)
    assert result.exit_code == EX_UNAVAILABLE
    assert result.stdout == ""
    # Found out at once: after the patience for an answer it would be "no bus answered".
    assert "no bus is listening at ipc://" in result.stderr and "ndisbus serve" in result.stderr
    assert result.stderr.startswith(f"ndisbus: {args[0]}")
    as_json = run(*args, "--json")
    assert as_json.exit_code == EX_UNAVAILABLE
    assert "no bus is listening" in json.loads(as_json.stderr)["Error"]


@pytest.mark.usefixtures("no_bus")
def test_fault_without_a_bus_finds_what_the_pid_files_name() -> None:
    source = (
        "import time; from ndisbus.rundir import write_pid\n"
        "with write_pid('lone'): print(1, flush=True); time.sleep(60)"
    )
    child = subprocess.Popen([sys.executable, "-c", source], cwd=ROOT, stdout=subprocess.PIPE)
    try:
        assert child.stdout is not None and child.stdout.readline()
        assert run("fault", "kill", "lone").output == f"lone (pid {child.pid}) is killed\n"
    finally:
        child.kill()
        child.communicate()


def test_fault_kill_of_a_bus_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tmp_path.chmod(0o700)
    monkeypatch.setenv("NDISBUS_RUNTIME_DIR", str(tmp_path))
    result = run("fault", "kill", "bus")
    assert result.exit_code == EX_UNAVAILABLE
    assert "fault kill: no bus has a pid file" in result.stderr


@pytest.mark.parametrize("command", ["ps", "trace", "serve"])
def test_wrong_endpoint_is_a_wrong_command_line(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    result = run(command, "--endpoint", "http://x")
    assert result.exit_code == 2
    assert "Invalid value for --endpoint: http://x: use ipc://PATH or tcp://HOST:PORT" in result.stderr
    monkeypatch.setenv("NDISBUS_ENDPOINT", "foo")
    result = run(command)
    assert result.exit_code == 2
    assert "Invalid value for NDISBUS_ENDPOINT: foo: use ipc://PATH" in result.stderr


def test_an_endpoint_beyond_loopback_needs_keys() -> None:
    result = run("serve", "--endpoint", "tcp://0.0.0.0:5555")
    assert result.exit_code == 2
    assert "Invalid value for --endpoint: tcp://0.0.0.0:5555: 0.0.0.0 is beyond loopback" in result.stderr


def test_a_wrong_policy_of_a_supervisor_is_a_wrong_command_line() -> None:
    result = run("supervise", "x", "--backoff-min", "-1", "--", "true")
    assert result.exit_code == 2
    assert "back-off from -1.0" in result.stderr


def test_wait_says_that_no_protocol_enabled_the_chimney(monkeypatch: pytest.MonkeyPatch) -> None:
    survey = {"Adapters": [{"Name": "nic0", "State": "up", "ChimneyOwner": None}], "Processes": []}
    monkeypatch.setattr(wait, "request", lambda *_args, **_options: survey)
    late = run("wait", "nic0", "--offloading", "--timeout", "0")
    assert late.exit_code == 1
    assert "nic0 is up, but no protocol enabled its chimney within 0 s" in late.stderr
    assert "nic1 was not ready within 0 s" in run("wait", "nic1", "--timeout", "0").stderr


def test_ps_of_an_empty_bus(bus: int) -> None:
    result = run("ps")
    assert result.exit_code == 0
    assert "No driver is on the bus" in result.output
    assert "seed 7" in result.output
    survey = json.loads(run("ps", "--json").output)
    [line] = survey["Processes"]
    assert (line["Name"], line["Kind"], line["Pid"], line["State"]) == ("bus", "bus", bus, "ready")
    assert line["Rss"] > 1 << 20 and line["CpuSeconds"] > 0
    assert "CutOff" not in survey and "Bus" not in survey and survey["Seed"] == 7


def test_ps_shows_a_driver_with_what_it_costs(bus: int, host: DriverProcess) -> None:
    done = served(host, "ps")
    assert done.returncode == 0, done.stderr
    for text in ("idle", "protocol", str(os.getpid()), "ready", "tcbs 3", "posted"):
        assert text in done.stdout
    [_, line] = json.loads(served(host, "ps", "--json").stdout)["Processes"]
    assert line["Pid"] == os.getpid()
    assert line["Counters"] == {"tcbs": 3, "posted": 0}
    assert line["Rss"] > 1 << 20 and line["CpuSeconds"] > 0


def test_ps_shows_a_hung_driver_that_was_cut_off(capsys: pytest.CaptureFixture[str]) -> None:
    core = NdisCore()
    core.receive("key", ["hello", 1, [PROTOCOL_VERSION, {"Name": "hung", "Pid": os.getpid()}]], (), 0.0)
    core.removal.remove(core.registry.clients["key"], "no answer", hung=True)
    survey = ps._Meter(local=True).add(core.survey.show({}))
    [line] = survey["Processes"]
    assert (line["Name"], line["Pid"], line["State"]) == ("hung", os.getpid(), "cut off: hung")
    assert line["Rss"] > 1 << 20
    ps._show(survey, as_json=False, everything=False)
    said = capsys.readouterr().out
    assert "cut off: hung" in said and "Counters" not in said and "No driver is on the bus" in said


def test_wait(bus: int, host: DriverProcess) -> None:
    done = served(host, "wait", "bus", "idle", "--json")
    assert done.returncode == 0, done.stderr
    [first, second] = json.loads(done.stdout)
    assert first == {"Name": "bus", "State": "ready"}
    assert (second["Name"], second["Pid"]) == ("idle", os.getpid())
    late = served(host, "wait", "nobody", "--timeout", "0.2")
    assert late.returncode == 1
    assert "nobody was not ready within 0.2 s" in late.stderr


def test_fault_add_list_remove_reset(bus: int) -> None:
    said = json.loads(
        run("fault", "add", "NdisM*Complete", "--delay", "0.5", "--times", "2", "--json").output
    )
    number = str(said["Id"])
    assert run("fault", "add", "NdisInitiateOffload", "--fail", "RESOURCES", "--nth", "3").exit_code == 0
    listed = json.loads(run("fault", "list", "--json").output)["Faults"]
    assert [(f["Action"], f["Times"], f["Nth"], f["Status"]) for f in listed] == [
        ("delay", 2, None, None),
        ("fail", None, 3, "NDIS_STATUS_RESOURCES"),
    ]
    table = run("fault", "list").output
    assert "delay 0.5 s" in table and "times 2" in table and "fail RESOURCES" in table and "nth 3" in table
    assert run("fault", "remove", number).exit_code == 0
    again = run("fault", "remove", number)
    assert again.exit_code == 1 and f"there is no fault {number}" in again.stderr
    assert run("fault", "reset").exit_code == 0
    assert run("fault", "list").output == "No fault is armed.\n"


def test_fault_add_needs_exactly_one_action_that_makes_sense(bus: int) -> None:
    none = run("fault", "add", "NdisOidRequest")
    assert none.exit_code == 2 and "Error: give one of --drop" in none.stderr
    two = run("fault", "add", "NdisOidRequest", "--drop", "--duplicate")
    assert two.exit_code == 2 and "Error: give only one of --drop" in two.stderr
    unknown = run("fault", "add", "NdisNonsense", "--drop")
    assert unknown.exit_code == 1
    assert "NdisNonsense is not a call of the interface" in unknown.stderr
    status = run("fault", "add", "NdisQueryOffloadState", "--fail", "RESOURCES")
    assert status.exit_code == 1
    assert "legal are NDIS_STATUS_FAILURE" in status.stderr
    assert run("fault", "list").output == "No fault is armed.\n"


def test_fault_knob_reaches_the_driver(bus: int, host: DriverProcess) -> None:
    done = served(host, "fault", "knob", "idle", "refuse", "count=3", 'what="7"', "name=eth0", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"command": "refuse", "count": 3, "what": "7", "name": "eth0"}
    assert "count: 3" in served(host, "fault", "knob", "idle", "refuse", "count=3").stdout
    nobody = served(host, "fault", "knob", "nobody", "refuse")
    assert nobody.returncode == 1
    assert "there is no driver called 'nobody'; drivers on this bus: idle" in nobody.stderr
    assert run("fault", "knob", "idle", "refuse", "count").exit_code == 2


def test_fault_of_a_process_that_is_not_there(bus: int) -> None:
    for command in ("kill", "stall", "resume", "restart"):
        result = run("fault", command, "nobody")
        assert result.exit_code == 1
        assert "there is no process called 'nobody'" in result.stderr


def test_adapter_without_an_intermediate_driver(bus: int) -> None:
    result = run("adapter", "add")
    assert result.exit_code == 1
    assert "there is no intermediate driver" in result.stderr
    assert run("adapter", "remove", "im0-z").exit_code == 1


def test_trace_sees_who_comes_and_stops_at_its_count(bus: int) -> None:
    child = subprocess.Popen(
        [sys.executable, "-m", "ndisbus", "trace", "--count", "2", "--format", "json", "--event", "hello"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert child.stdout is not None and child.stderr is not None
        # Said once it is sure to miss nothing.
        assert child.stderr.readline().startswith("ndisbus: tracing ipc://")
        for name in ("first", "second", "third"):
            with DriverProcess(ProtocolDriver(), name=name) as process:
                assert process.run_until(lambda p=process: p.ready, DEADLINE)  # type: ignore[misc]
        out, err = child.communicate(timeout=DEADLINE)
    finally:
        child.kill()
        child.communicate()
    assert (child.returncode, err) == (0, "")
    events = [json.loads(line) for line in out.splitlines()]
    assert [(e["event"], e["driver"]) for e in events] == [("hello", "first"), ("hello", "second")]


@pytest.mark.parametrize("ended_by", [signal.SIGTERM, signal.SIGINT])
def test_trace_prints_its_diagram_when_a_signal_ends_it(bus: int, ended_by: signal.Signals) -> None:
    child = subprocess.Popen(
        [sys.executable, "-m", "ndisbus", "trace", "--format", "mermaid"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert child.stderr is not None and child.stderr.readline().startswith("ndisbus: tracing ipc://")
        child.send_signal(ended_by)
        out, err = child.communicate(timeout=DEADLINE)
    finally:
        child.kill()
        child.communicate()
    assert (child.returncode, err) == (0, "")
    assert out.startswith("sequenceDiagram\n")


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        ("Nope", "Nope is not a call of the interface"),
        ("ndisoidrequest", "did you mean NdisOidRequest?"),
        ("Nope*", "the pattern Nope* matches no call of the interface"),
    ],
)
def test_trace_refuses_what_is_no_call(call: str, reason: str) -> None:
    result = run("trace", "--call", call)
    assert result.exit_code == 2
    assert reason in result.stderr


def test_text_trace_leaves_the_heartbeat_out_unless_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Filter] = []
    monkeypatch.setattr("ndisbus.cli.trace.is_deserted", lambda _: False)
    monkeypatch.setattr("ndisbus.cli.trace.TraceSubscriber.read", lambda *_: [])
    monkeypatch.setattr("ndisbus.cli.trace._watch", lambda _s, _a, _f, wanted, _c, _d: seen.append(wanted))
    heartbeat = "MiniportCheckForHangEx"
    event = {"t": 1.0, "event": "call", "from": "ndis", "to": "target", "call": heartbeat}
    for args in ([], ["--all"], ["--call", heartbeat], ["--json"], ["--format", "mermaid"]):
        assert run("trace", *args).exit_code == 0
    assert [wanted(event) for wanted in seen] == [False, True, True, True, True]


def test_trace_ends_after_its_duration_with_a_diagram(bus: int) -> None:
    result = run("trace", "--duration", "0.2", "--format", "mermaid")
    assert result.exit_code == 0
    assert result.stdout.startswith("sequenceDiagram\n    participant p0 as ndis\n")


def test_second_bus_is_refused(bus: int) -> None:
    result = run("serve")
    assert result.exit_code == 1
    assert f"bus is already running (pid {bus})" in result.stderr


def test_control_client_without_an_answer_gives_up() -> None:
    client = ControlClient("tcp://127.0.0.1:1")
    with client, pytest.raises(BusUnavailable, match=r"no bus answered within 0\.1 s at tcp:"):
        client.request("ps", {}, 0.1)
