"""examples/bare_host.py, which was written from docs/protocol.md alone, against the real core and drivers.

The bus, the intermediate driver and the target run in a thread: a ROUTER socket for the host, whose bytes
go through the codec, and the two drivers beside it.
"""

from __future__ import annotations

import ast
import importlib.util
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import zmq

from imdriver import ImDriver
from ndisbus.core import NdisCore
from ndisbus.driver.port import DriverPort
from ndisbus.messages.codec import Packer, decode_packet
from ndisbus.messages.packet import packets
from target import TargetConfig, TargetDriver

SOURCE = Path(__file__).resolve().parents[3] / "examples/bare_host.py"


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bare_host", SOURCE)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Stack:
    """The bus and the drivers below the host. ``actions`` run in its thread, between two messages."""

    def __init__(self, endpoint: str, config: TargetConfig | None = None, *, im: bool = True) -> None:
        self.endpoint = endpoint
        self.core = NdisCore()
        self.ports = {
            "target": DriverPort(TargetDriver(config or TargetConfig()), {"Name": "target", "Pid": 0})
        }
        if im:
            self.ports["im"] = DriverPort(ImDriver(), {"Name": "im", "Pid": 0})
        self.pack = Packer()
        self.bound = threading.Event()
        self.stopping = False
        #: Called with every message that goes to the host.
        self.watch: Callable[[list[Any]], None] = lambda _: None
        self.thread = threading.Thread(target=self.run)

    def __enter__(self) -> Stack:
        self.thread.start()
        assert self.bound.wait(20)
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping = True
        self.thread.join()

    def run(self) -> None:
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        router = context.socket(zmq.ROUTER)
        router.linger = 0
        router.bind(self.endpoint)
        try:
            for port in self.ports.values():
                port.hello()
            self.settle(router)
            self.bound.set()
            # A goodbye that is still under way is heard, too.
            while not self.stopping or router.poll(100):
                if router.poll(10):
                    key, *frames = router.recv_multipart()
                    for message, payload in decode_packet(frames):
                        self.core.receive(key, message, payload, time.monotonic())
                self.settle(router)
        finally:
            context.destroy(linger=0)

    def settle(self, router: zmq.Socket[bytes]) -> None:
        """Pass messages on until there are none."""
        now = time.monotonic()
        self.core.on_timer(now)
        busy = True
        while busy:
            busy = False
            for name, port in list(self.ports.items()):
                for message, payload in port.drain():
                    busy = True
                    self.core.receive(name, message, payload, now)
            to_host: dict[bytes, list[tuple[list[Any], Sequence[bytes]]]] = {}
            for key, message, payload in self.core.drain():
                busy = True
                if key in self.ports:
                    self.ports[key].receive(message, payload, now)
                elif isinstance(key, bytes):
                    to_host.setdefault(key, []).append((message, payload))
            # As the broker does it: what is ready together shares a packet.
            for host, ready in to_host.items():
                for frames in packets(self.pack, ready):
                    router.send_multipart([host, *frames])
                for message, _ in ready:
                    self.watch(message)

    def kill(self, name: str) -> None:
        """What the bus does when it learns of a death."""
        del self.ports[name]
        self.core.removal.remove(self.core.registry.clients[name], "the process died")

    def left_over(self) -> dict[str, int]:
        """What must not be left behind, as ``ndisbus ps`` counts it."""
        adapters = self.core.registry.adapters.values()
        objects = sum(len(b.objects) for b in self.core.registry.bindings.values())
        requests = sum(len(a.requests) + len(a.oids) + len(a.nbls) for a in adapters)
        entries = self.ports["im"].driver.inspect()["offload_entries"] if "im" in self.ports else 0
        return {
            "objects": objects,
            "requests": requests,
            "entries": entries,
            "bug checks": len(self.core.bug_checks.reports),
        }


NOTHING = {"objects": 0, "requests": 0, "entries": 0, "bug checks": 0}


@pytest.fixture
def endpoint(tmp_path: Path) -> Iterator[str]:
    # A socket's path is short of room, and tmp_path bears the test's name.
    path = tmp_path.parent / "bare.sock"
    yield f"ipc://{path}"
    path.unlink(missing_ok=True)


def run(endpoint: str, *arguments: str) -> int:
    code = load().main(["--endpoint", endpoint, "--name", "probe", "--deadline", "30", *arguments])
    assert isinstance(code, int)
    return code


def test_it_needs_nothing_of_this_project() -> None:
    tree = ast.parse(SOURCE.read_text(encoding="utf-8"))
    imported = {
        a.name.partition(".")[0] for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names
    }
    imported |= {(n.module or "").partition(".")[0] for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    assert imported - sys.stdlib_module_names == {"zmq", "msgpack"}


@pytest.mark.parametrize("im", [True, False], ids=["through an intermediate driver", "on the target itself"])
def test_it_offloads_queries_terminates_and_leaves(
    endpoint: str, im: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    with Stack(endpoint, im=im) as stack:
        assert run(endpoint, *([] if im else ["--bind", "nic0"])) == 0, capsys.readouterr().err
    out = capsys.readouterr().out
    for line in (
        f"{'im0-a' if im else 'nic0'}: chimney enabled",
        "NdisInitiateOffload: connection SUCCESS",
        "NdisQueryOffloadState: connection SUCCESS",
        "queried: {'State': 4, 'RcvNxt': 2001, 'SndUna': 1001, 'SndNxt': 1001}",
        "NdisTerminateOffload: neighbor SUCCESS",
        "closed: left",
    ):
        assert line in out
    assert stack.left_over() == NOTHING
    target = stack.ports["target"].driver.inspect()
    assert (target["neighbor"], target["path"], target["tcp"]) == (0, 0, 0)


#: Seconds that each of two hosts stays: long enough for the other to come on a busy machine.
HOLD = "2"


def test_two_of_them_get_adapters_of_their_own(endpoint: str, capsys: pytest.CaptureFixture[str]) -> None:
    with Stack(endpoint) as stack:
        second: list[int] = []
        other = threading.Thread(
            target=lambda: second.append(
                load().main(["--endpoint", endpoint, "--name", "other", "--hold", HOLD])
            )
        )
        other.start()
        assert run(endpoint, "--hold", HOLD) == 0
        other.join()
        assert second == [0], capsys.readouterr().err
    out = capsys.readouterr().out
    assert "im0-a: chimney enabled" in out
    assert "im0-b: chimney enabled" in out
    assert stack.left_over() == NOTHING


def test_without_a_bus_it_says_so(endpoint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert load().main(["--endpoint", endpoint, "--deadline", "0.2"]) == 2
    assert "waited 0.2 s for an answer to hello" in capsys.readouterr().err


def test_a_wrong_endpoint_is_told_in_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert load().main(["--endpoint", "foo"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("failed: foo is not an endpoint") and error.count("\n") == 1


def test_a_name_that_is_taken_is_refused(endpoint: str, capsys: pytest.CaptureFixture[str]) -> None:
    with Stack(endpoint):
        assert run(endpoint, "--name", "target") == 1
    assert "hello was refused: identity.Name" in capsys.readouterr().err


def test_a_refused_offload_is_told(endpoint: str, capsys: pytest.CaptureFixture[str]) -> None:
    with Stack(endpoint, TargetConfig(tcp_entries=0)) as stack:
        assert run(endpoint) == 1
    captured = capsys.readouterr()
    assert "NdisInitiateOffload: connection 0xc0231004" in captured.out  # NDIS_STATUS_OFFLOAD_TCP_ENTRIES
    assert "NdisInitiateOffload did not succeed" in captured.err
    assert stack.left_over() == NOTHING


def test_the_death_of_the_target_is_told(endpoint: str, capsys: pytest.CaptureFixture[str]) -> None:
    with Stack(endpoint) as stack:

        def kill(message: list[Any]) -> None:
            if message[0] == "ProtocolQueryOffloadComplete":
                stack.kill("target")

        stack.watch = kill
        assert run(endpoint, "--hold", "30") == 1
    captured = capsys.readouterr()
    assert "event: connection: TcpIndicateRetrieve 11" in captured.out
    assert "event: connection: TcpIndicateAbort 0" in captured.out
    assert "im0-a: closed" in captured.out
    assert "failed: im0-a is gone" in captured.err
    assert stack.left_over() == NOTHING
