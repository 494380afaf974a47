"""The runtimes around the cores: who notices whose death, and who comes back under which epoch."""

from __future__ import annotations

import os
import random
import re
import select
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ndisbus.ddi.status import NdisStatus
from ndisbus.driver.base import Driver, MiniportDriver, Reply
from ndisbus.errors import BusUnavailable
from ndisbus.lists.nbl_chain import NblChain
from ndisbus.runtime import run_driver
from ndisbus.runtime.control_client import ControlClient
from ndisbus.runtime.driver_process import DriverProcess
from ndisbus.runtime.outcomes import BugChecked
from ndisbus.runtime.trace_link import TraceSubscriber
from tests.process.conftest import until

if TYPE_CHECKING:
    from tests.process.conftest import Bus

pytestmark = pytest.mark.process

DEADLINE = 20.0


class Tiny(MiniportDriver):
    """Registers an adapter; notes down what happens to it."""

    def __init__(self, adapter: str = "tiny0") -> None:
        self.adapter = adapter
        self.events: list[str] = []

    def driver_entry(self) -> Any:
        self.events.append("entry")
        path = {"Name": "tiny", "Adapters": [self.adapter]}
        status, _ = yield self.ndis.m_register_miniport_driver(None, path)
        self.events.append(f"registered {status}")

    def miniport_initialize_ex(
        self, ndis_miniport_handle: int, miniport_driver_context: int | None, parameters: dict[str, Any]
    ) -> Any:
        context = self.ndis.heap.address()
        attributes = {"MiniportAdapterContext": context, "TcpConnectionOffloadCapabilities": None}
        yield self.ndis.m_set_miniport_attributes(ndis_miniport_handle, attributes)
        self.events.append("up")
        return NdisStatus.SUCCESS

    def miniport_halt_ex(self, miniport_adapter_context: int, halt_action: int) -> Any:
        self.events.append("halt")
        return NdisStatus.SUCCESS

    def detached(self, reason: str) -> None:
        self.events.append(f"detached: {reason}")

    def inspect(self) -> dict[str, int]:
        return {"events": len(self.events)}


#: The same in a process of its own: name and what goes wrong are arguments.
CHILD = """
import sys
sys.path.insert(0, "tests/process")
from ndisbus.runtime.run_driver import run_driver
from ndisbus.driver.base import MiniportDriver
from ndisbus.ddi.status import NdisStatus

name, trouble = sys.argv[1:]

class Tiny(MiniportDriver):
    def driver_entry(self):
        if trouble == "raise":
            raise RuntimeError("a driver's bug")
        yield self.ndis.m_register_miniport_driver(None, {"Name": name, "Adapters": [name + "-nic"]})
    def miniport_initialize_ex(self, handle, context, parameters):
        if trouble == "forge":
            handle += 1
        there = self.ndis.heap.address()
        attributes = {"MiniportAdapterContext": there, "TcpConnectionOffloadCapabilities": None}
        yield self.ndis.m_set_miniport_attributes(handle, attributes)
        return NdisStatus.SUCCESS

sys.exit(run_driver(Tiny(), name=name))
"""


def spawn(bus: Bus, name: str, trouble: str = "none") -> subprocess.Popen[str]:
    return bus.spawn("-c", CHILD, name, trouble)


def up(bus: Bus, name: str, after: int = 0) -> dict[str, Any]:
    """The driver's line in ps, once its adapter is up under an epoch later than ``after``."""

    def found() -> Any:
        survey = bus.ps()
        adapters = {a["Driver"] for a in survey["Adapters"] if a["State"] == "up"}
        lines = [p for p in survey["Processes"] if p["Name"] == name and p["Epoch"] > after]
        return lines[0] if lines and name in adapters else None

    line: dict[str, Any] = until(found, f"{name} is up")
    return line


@pytest.fixture
def tiny(bus: Bus) -> Iterator[tuple[Tiny, DriverProcess]]:
    driver = Tiny()
    with DriverProcess(driver, name="tiny", endpoint=bus.endpoint) as process:
        assert process.run_until(lambda: "up" in driver.events, DEADLINE)
        yield driver, process


def test_driver_comes_up_and_says_goodbye(bus: Bus) -> None:
    driver = Tiny()
    process = DriverProcess(driver, name="tiny", endpoint=bus.endpoint)
    assert process.run_until(lambda: len(driver.events) == 3, DEADLINE)
    assert driver.events == ["entry", "registered 0", "up"]
    process.close()
    # Nothing of it is there any more, although its process lives: it said so.
    survey = bus.ps()
    assert survey["Processes"] == survey["Adapters"] == survey["BugChecks"] == []
    assert driver.events[3:] == ["halt", "detached: left"]


def test_who_leaves_may_have_asked_for_a_survey(bus: Bus) -> None:
    """Its answer comes in the packet of the farewell: the bus does not wait for another driver then."""
    driver = Tiny()
    process = DriverProcess(driver, name="tiny", endpoint=bus.endpoint)
    assert process.run_until(lambda: "up" in driver.events, DEADLINE)
    process.port.control("ps", {})
    process.close()
    assert driver.events[3:] == ["halt", "detached: left"]


def test_run_until_gives_up_in_time_without_a_bus(idle_bus: Bus) -> None:
    driver = Tiny()
    with DriverProcess(driver, name="tiny", endpoint=idle_bus.endpoint) as process:
        assert not process.run_until(lambda: process.ready, 0.3)
        assert driver.events == []
        # The order of starting does not matter: the bus may come later.
        idle_bus.start()
        assert process.run_until(lambda: "up" in driver.events, DEADLINE)


def test_killed_bus_is_noticed_and_the_driver_comes_back(bus: Bus, tiny: tuple[Tiny, DriverProcess]) -> None:
    driver, process = tiny
    bus.kill()
    assert process.run_until(lambda: not process.ready, DEADLINE)
    # NDIS's place was taken: the adapter was halted before the driver was told.
    assert driver.events[3] == "halt"
    assert driver.events[4].startswith("detached: ")
    assert not process.run_until(lambda: process.ready, 0.2)
    bus.start()
    assert process.run_until(lambda: driver.events.count("up") == 2, DEADLINE)
    assert driver.events[5:] == ["entry", "registered 0", "up"]


def test_killed_bus_leaves_a_stale_socket_that_the_next_one_removes(bus: Bus) -> None:
    bus.kill()
    assert (bus.directory / "bus.sock").exists()
    bus.start()
    assert bus.ps()["Processes"] == []


def test_second_bus_is_refused_with_the_pid_of_the_first(bus: Bus) -> None:
    second = bus.run("serve")
    assert second.returncode == 1
    assert f"pid {bus.pid}" in second.stderr
    # Even where the first one's pid file is not seen, as with another runtime directory.
    other = bus.directory / "other"
    other.mkdir(mode=0o700)
    bus.env |= {"NDISBUS_RUNTIME_DIR": str(other)}
    second = bus.run("serve", "--endpoint", bus.endpoint)
    assert second.returncode == 1
    assert f"pid {bus.pid} is listening there already" in second.stderr
    other.rmdir()
    assert bus.answers()


def test_stopped_bus_exits_with_0_and_leaves_no_socket(bus: Bus) -> None:
    assert bus.stop() == 0
    assert [p.name for p in bus.directory.iterdir()] == []


def test_death_of_a_local_driver_is_noticed(bus: Bus) -> None:
    """Nothing is sent to the driver meanwhile, so only its pidfd can tell."""
    child = spawn(bus, "victim")
    up(bus, "victim")
    with TraceSubscriber(bus.endpoint) as trace:
        assert trace.read(DEADLINE) == []
        end = time.monotonic() + DEADLINE
        child.kill()
        closed = None
        while closed is None and time.monotonic() < end:
            closed = next((e for e in trace.read(1.0) or () if e["event"] == "closed"), None)
    assert closed is not None and closed["driver"] == "victim"
    assert str(child.pid) in closed["reason"] or "connection" in closed["reason"]
    assert bus.ps()["Processes"] == []


def test_restarted_driver_has_its_name_and_a_new_epoch(bus: Bus) -> None:
    first = spawn(bus, "phoenix")
    epoch = up(bus, "phoenix")["Epoch"]
    first.kill()
    first.wait(DEADLINE)
    second = spawn(bus, "phoenix")
    line = up(bus, "phoenix", after=epoch)
    assert line["Pid"] == second.pid
    assert bus.ps()["Refused"] == 0


def test_stall_beyond_the_limit_costs_the_epoch(idle_bus: Bus) -> None:
    bus = idle_bus
    bus.start("--check-interval", "0.05", "--hang-limit", "1")
    child = spawn(bus, "sleepy")
    epoch = up(bus, "sleepy")["Epoch"]
    child.send_signal(signal.SIGSTOP)
    until(lambda: bus.driver("sleepy") is None, "the hung driver is removed")
    child.send_signal(signal.SIGCONT)
    # The same process, let in again from registration on.
    line = up(bus, "sleepy", after=epoch)
    assert line["Pid"] == child.pid
    assert bus.ps()["CutOff"] == []


def test_hung_process_is_listed_as_cut_off_until_it_dies(idle_bus: Bus) -> None:
    bus = idle_bus
    bus.start("--check-interval", "0.05", "--hang-limit", "1")
    child = spawn(bus, "sleepy")
    up(bus, "sleepy")
    child.send_signal(signal.SIGSTOP)
    [row] = until(lambda: bus.ps()["CutOff"], "the hung driver is cut off")
    assert (row["Name"], row["Pid"], row["State"]) == ("sleepy", child.pid, "cut off: hung")
    # The hello of another driver does not make the bus forget to watch it.
    other = spawn(bus, "other")
    up(bus, "other")
    child.kill()
    until(lambda: not bus.ps()["CutOff"], "its death is noticed")
    other.kill()


def test_epochs_grow_across_a_restart_of_the_bus(idle_bus: Bus) -> None:
    bus = idle_bus
    bus.start()
    child = spawn(bus, "loyal")
    before = up(bus, "loyal")
    bus.kill()
    bus.start()
    after = up(bus, "loyal", after=before["Epoch"])
    assert after["Pid"] == child.pid and after["Space"] != before["Space"]


def first_epoch(bus: Bus, name: str) -> int:
    """The epoch of a driver that the bus has never heard of."""
    with DriverProcess(Driver(), name=name, endpoint=bus.endpoint) as process:
        assert process.run_until(lambda: process.ready, DEADLINE)
        return process.port.epoch


def test_epochs_grow_although_the_former_bus_had_many_hellos(idle_bus: Bus) -> None:
    """Each driver is a new one, so none can tell the later bus what the former one gave out."""
    bus = idle_bus
    bus.start()
    before = [first_epoch(bus, f"d{i}") for i in range(40)]
    bus.kill()
    bus.start()
    after = [first_epoch(bus, f"e{i}") for i in range(3)]
    assert before + after == sorted(set(before + after))


class Restless(Driver):
    """Always has a question for the bus in flight."""

    process: DriverProcess
    reply: Reply | None = None
    answers = 0

    def detached(self, reason: str) -> None:
        self.reply = None  # its answer will not come

    def ask(self) -> None:
        if self.ndis.attached and (self.reply is None or self.reply.answer is not None):
            self.answers += self.reply is not None
            self.reply = self.process.port.control("fault.list", {})


def test_a_driver_that_was_busy_elsewhere_finds_the_next_bus(idle_bus: Bus) -> None:
    """It does not serve its socket while the bus is killed and the next one listens already.

    What the driver then says belongs to the former bus. The next one must not hear of it: it would refuse it.
    """
    bus = idle_bus
    bus.start()
    driver = Restless()
    with DriverProcess(driver, name="busy", endpoint=bus.endpoint) as process:
        driver.process = process

        def twenty() -> bool:
            driver.ask()
            return driver.answers >= 20

        for _ in range(4):
            driver.answers = 0
            assert process.run_until(twenty, DEADLINE)
            epoch = process.port.epoch
            bus.kill()
            bus.start()
            # Long enough for a socket that connects again by itself: at most 0.2 s between two attempts.
            select.select([], [], [], 0.5)
            driver.ndis.return_net_buffer_lists(0x10000000010, NblChain([0x20]), 0)
            driver.answers = 0
            assert process.run_until(twenty, DEADLINE)
            assert process.port.epoch > epoch


def test_stall_below_the_limit_costs_nothing(idle_bus: Bus) -> None:
    bus = idle_bus
    bus.start("--check-interval", "0.05", "--hang-limit", "20")
    child = spawn(bus, "sleepy")
    epoch = up(bus, "sleepy")["Epoch"]
    with TraceSubscriber(bus.endpoint) as trace:
        child.send_signal(signal.SIGSTOP)
        # Long enough that it is asked whether it hangs and owes the answer.
        asked = 0
        while asked == 0:
            asked = sum(e.get("call") == "MiniportCheckForHangEx" for e in trace.read(DEADLINE) or ())
        child.send_signal(signal.SIGCONT)
        while sum(e.get("call") == "MiniportCheckForHangEx" for e in trace.read(DEADLINE) or ()) == 0:
            pass
    line = bus.driver("sleepy")
    assert line is not None and line["Epoch"] == epoch


def test_stalled_bus_does_not_take_its_drivers_for_hung(idle_bus: Bus) -> None:
    """The answer is in its pipe when it goes on, and is read before the bus looks at the clock."""
    bus = idle_bus
    bus.start("--check-interval", "0.05", "--hang-limit", "3")
    child = spawn(bus, "awake")
    epoch = up(bus, "awake")["Epoch"]
    with TraceSubscriber(bus.endpoint) as trace:
        bus.owe_answer(trace, child)
        with bus.paused(3.5):
            child.send_signal(signal.SIGCONT)  # its answer comes while the bus does not listen
    line = bus.driver("awake")
    assert line is not None and line["Epoch"] == epoch


def test_bug_check_ends_the_driver_with_70_and_the_report(bus: Bus) -> None:
    child = spawn(bus, "forger", "forge")
    output, _ = child.communicate(timeout=DEADLINE)
    assert child.returncode == run_driver.EX_SOFTWARE
    assert "bug check: forger" in output and "NdisMSetMiniportAttributes(NdisMiniportHandle)" in output
    [report] = bus.ps()["BugChecks"]
    assert (report["Driver"], report["Pid"]) == ("forger", child.pid)


def test_bug_check_is_raised_in_a_driver_process(bus: Bus, tiny: tuple[Tiny, DriverProcess]) -> None:
    driver, process = tiny
    driver.ndis.m_get_offload_handlers(12345, 1)
    with pytest.raises(BugChecked) as caught:
        process.run_until(lambda: False, DEADLINE)
    assert caught.value.report["Call"] == "NdisMGetOffloadHandlers"
    assert driver.events[3] == "halt"


def test_taken_name_is_a_clear_error(bus: Bus, tiny: tuple[Tiny, DriverProcess]) -> None:
    _, first = tiny
    child = spawn(bus, "tiny")
    # The bus asks the holder of the name whether it is there; it has to run for that.
    assert first.run_until(lambda: child.poll() is not None, DEADLINE)
    output, _ = child.communicate()
    assert child.returncode == run_driver.EX_UNAVAILABLE
    assert f"a driver called 'tiny' is here already (pid {os.getpid()})" in output
    assert first.ready


def test_bug_of_a_driver_ends_it_with_a_traceback(bus: Bus) -> None:
    child = spawn(bus, "buggy", "raise")
    output, _ = child.communicate(timeout=DEADLINE)
    assert child.returncode == 1
    assert "Traceback" in output and "a driver's bug" in output
    until(lambda: bus.driver("buggy") is None, "the bus noticed")


def test_run_driver_says_when_it_is_ready_and_stops_in_order(bus: Bus) -> None:
    child = spawn(bus, "polite")
    up(bus, "polite")
    assert child.stdout is not None
    line = child.stdout.readline()
    assert re.fullmatch(rf"polite: pid {child.pid}, epoch \d+, bus {re.escape(bus.endpoint)}\n", line)
    assert (bus.directory / "polite.pid").exists()
    child.send_signal(signal.SIGTERM)
    assert child.wait(DEADLINE) == 0
    assert not (bus.directory / "polite.pid").exists()
    assert bus.driver("polite") is None


def test_a_wait_may_be_longer_than_the_system_can_wait_in_one_go(
    bus: Bus, tiny: tuple[Tiny, DriverProcess]
) -> None:
    """40 days are more milliseconds than fit into an int."""
    _, process = tiny
    ours, theirs = socket.socketpair()
    with ours, theirs:
        process.add_reader(theirs, lambda _: theirs.recv(1))
        rounds = []

        def third() -> bool:
            ours.send(b"x")
            rounds.append(process.ready)
            return len(rounds) > 2

        assert process.run_until(third, 40 * 86400.0)
        process.remove_reader(theirs)


def test_readers_are_called(bus: Bus, tiny: tuple[Tiny, DriverProcess]) -> None:
    _, process = tiny
    a, b = socket.socketpair()
    with a, b:
        read: list[bytes] = []
        process.add_reader(a, lambda _now: read.append(a.recv(10)))
        b.send(b"frame")
        assert process.run_until(lambda: read, DEADLINE)
        process.remove_reader(a)
        b.send(b"more")
        assert not process.run_until(lambda: len(read) > 1, 0.05)
    assert read == [b"frame"]


def free_port() -> int:
    """Two free ports in a row, below those that the system gives to other programs."""
    for _ in range(100):
        port = random.randrange(20_000, 32_000)
        with socket.socket() as first, socket.socket() as second:
            try:
                first.bind(("127.0.0.1", port))
                second.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            return port
    raise AssertionError("no two free ports in a row")


def test_tcp_with_curve_lets_in_known_clients_only(
    idle_bus: Bus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bus = idle_bus
    keys, stranger = tmp_path / "keys", tmp_path / "stranger"
    bus.endpoint = f"tcp://127.0.0.1:{free_port()}"
    monkeypatch.setenv("NDISBUS_CURVE_DIR", str(keys))
    from ndisbus.runtime.curve import make_keys  # noqa: PLC0415 - this test only

    assert make_keys(keys) and not make_keys(keys)
    assert (keys / "bus.key_secret").stat().st_mode & 0o077 == 0
    bus.start("--endpoint", bus.endpoint, "--curve-dir", str(keys))
    driver = Tiny()
    with DriverProcess(driver, name="tiny", endpoint=bus.endpoint) as process:
        assert process.run_until(lambda: "up" in driver.events, DEADLINE)
    # Right bus, wrong client: its public key is not in the directory.
    make_keys(stranger)
    (stranger / "bus.key").write_bytes((keys / "bus.key").read_bytes())
    monkeypatch.setenv("NDISBUS_CURVE_DIR", str(stranger))
    heard: list[str] = []
    with DriverProcess(Tiny(), name="spy", endpoint=bus.endpoint) as process:
        process.on_change = lambda what, why: heard.append(f"{what}: {why}")
        assert process.run_until(lambda: heard, DEADLINE)
        assert not process.ready
    assert heard == [f"waiting: {bus.endpoint}: the bus does not accept this client's keys"]
    monkeypatch.delenv("NDISBUS_CURVE_DIR")
    with pytest.raises(BusUnavailable), ControlClient(bus.endpoint) as client:
        client.request("ps", {}, 0.5)


def test_tcp_death_of_the_bus_is_noticed(idle_bus: Bus) -> None:
    bus = idle_bus
    bus.endpoint = f"tcp://127.0.0.1:{free_port()}"
    bus.start("--endpoint", bus.endpoint)
    second = bus.run("serve", "--endpoint", bus.endpoint)
    assert second.returncode == 1 and f"pid {bus.pid}" in second.stderr
    driver = Tiny()
    with DriverProcess(driver, name="tiny", endpoint=bus.endpoint) as process:
        assert process.run_until(lambda: "up" in driver.events, DEADLINE)
        bus.kill()
        assert process.run_until(lambda: not process.ready, DEADLINE)
