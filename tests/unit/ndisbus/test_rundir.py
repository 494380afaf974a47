"""The runtime directory, the endpoints and the pid files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

import ndisbus
from ndisbus import rundir
from ndisbus.rundir import AlreadyRunning, EndpointError, RuntimeDirError


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A runtime directory that does not exist yet."""
    path = tmp_path / "run"
    monkeypatch.setenv("NDISBUS_RUNTIME_DIR", str(path))
    monkeypatch.delenv("NDISBUS_ENDPOINT", raising=False)
    return path


@pytest.fixture
def other() -> Iterator[subprocess.Popen[bytes]]:
    """A live process that is not this one; it ends when its input does."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


def test_version_is_that_of_pyproject() -> None:
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]
    assert ndisbus.__version__ == project["version"]


# --- the directory


def test_directory_is_made_private_whatever_the_umask(directory: Path) -> None:
    before = os.umask(0)
    try:
        assert rundir.runtime_dir() == directory
    finally:
        os.umask(before)
    assert directory.stat().st_mode & 0o777 == 0o700
    assert rundir.runtime_dir() == directory, "the second time it is there"


def test_parents_that_had_to_be_made_are_private_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a" / "run"
    monkeypatch.setenv("NDISBUS_RUNTIME_DIR", str(path))
    rundir.runtime_dir()
    assert path.parent.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("mode", [0o701, 0o710, 0o704, 0o755, 0o770])
def test_directory_open_to_others_is_refused(directory: Path, mode: int) -> None:
    directory.mkdir()
    directory.chmod(mode)
    with pytest.raises(RuntimeDirError, match=f"mode {mode:04o}"):
        rundir.runtime_dir()


def test_directory_of_another_user_is_refused(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory.mkdir(mode=0o700)
    stranger = os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: stranger)
    with pytest.raises(RuntimeDirError, match=f"belongs to uid {stranger - 1}, not to {stranger}"):
        rundir.runtime_dir()


def test_link_is_refused(directory: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    directory.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RuntimeDirError, match="is a link"):
        rundir.runtime_dir()


def test_file_in_its_place_is_refused(directory: Path) -> None:
    directory.write_text("")
    with pytest.raises(RuntimeDirError, match="File exists"):
        rundir.runtime_dir()


def test_parent_that_anybody_may_change_is_refused_unless_sticky(directory: Path, tmp_path: Path) -> None:
    tmp_path.chmod(0o1777)
    rundir.runtime_dir()
    tmp_path.chmod(0o777)
    with pytest.raises(RuntimeDirError, match="writable by all users"):
        rundir.runtime_dir()


# --- endpoints


def test_default_endpoint_lies_in_the_directory(directory: Path) -> None:
    assert rundir.default_endpoint() == f"ipc://{directory}/bus.sock"


def test_default_endpoint_is_what_the_environment_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NDISBUS_ENDPOINT", "tcp://127.0.0.1:7000")
    assert rundir.default_endpoint() == "tcp://127.0.0.1:7000"


def test_default_endpoint_in_too_deep_a_directory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NDISBUS_RUNTIME_DIR", str(tmp_path / ("d" * 100)))
    with pytest.raises(EndpointError, match="shorter directory"):
        rundir.default_endpoint()


def test_socket_path_may_have_just_as_many_bytes_as_fit_with_the_trace() -> None:
    room = rundir.IPC_PATH_MAX - len(".trace")
    fits = "/" + "x" * (room - 1)
    assert rundir.trace_endpoint(f"ipc://{fits}") == f"ipc://{fits}.trace"
    with pytest.raises(EndpointError, match=f"{rundir.IPC_PATH_MAX + 1} bytes"):
        rundir.trace_endpoint(f"ipc://{fits}x")
    # Bytes count, not letters.
    with pytest.raises(EndpointError, match=f"{rundir.IPC_PATH_MAX + 1} bytes"):
        rundir.trace_endpoint(f"ipc:///{'x' * (room - 2)}é")


def test_trace_of_tcp_is_the_next_port() -> None:
    assert rundir.trace_endpoint("tcp://127.0.0.1:7000") == "tcp://127.0.0.1:7001"
    assert rundir.trace_endpoint("tcp://[::1]:7000") == "tcp://[::1]:7001"


@pytest.mark.parametrize(
    "endpoint", ["tcp://127.0.0.1:7000", "tcp://127.9.8.7:1", "tcp://localhost:7000", "tcp://[::1]:7000"]
)
def test_loopback_needs_no_keys(endpoint: str) -> None:
    assert rundir.check_endpoint(endpoint, curve=False) == endpoint


@pytest.mark.parametrize(
    "host",
    ["0.0.0.0", "*", "192.0.2.1", "[::]", "example.net", "eth0", "localhost.example.net", "127.0.0.1.x"],
)
def test_beyond_loopback_needs_keys(host: str) -> None:
    endpoint = f"tcp://{host}:7000"
    with pytest.raises(EndpointError, match="CURVE"):
        rundir.check_endpoint(endpoint, curve=False)
    assert rundir.check_endpoint(endpoint, curve=True) == endpoint


@pytest.mark.parametrize(
    "endpoint",
    [
        "",
        "bus.sock",
        "inproc://bus",
        "udp://127.0.0.1:1",
        "ipc://",
        "ipc://*",
        "ipc://@abstract",
        "tcp://127.0.0.1",
        "tcp://:7000",
        "tcp://127.0.0.1:",
        "tcp://127.0.0.1:*",
        "tcp://127.0.0.1:0",
        "tcp://127.0.0.1:65535",
        "tcp://127.0.0.1:65536",
        "tcp://127.0.0.1:-1",
    ],
)
@pytest.mark.parametrize("curve", [False, True])
def test_endpoint_that_is_none_of_ours_is_refused_by_name(endpoint: str, curve: bool) -> None:
    with pytest.raises(EndpointError) as caught:
        rundir.check_endpoint(endpoint, curve)
    assert str(caught.value).startswith(f"{endpoint}: ")


# --- pid files


def test_pid_is_held_inside_and_free_outside(directory: Path) -> None:
    with rundir.write_pid("bus") as held:
        assert rundir.read_pid("bus") == held.record
        assert held.record.pid == os.getpid()
        assert set(json.loads((directory / "bus.pid").read_text())) == {"name", "pid", "create_time", "cmd"}
        assert rundir.list_pids() == [held.record]
    assert rundir.read_pid("bus") is None
    assert list(directory.iterdir()) == []


def test_name_that_is_held_is_refused(directory: Path) -> None:
    with rundir.write_pid("bus"), pytest.raises(AlreadyRunning, match=f"bus is already.*{os.getpid()}"):
        rundir.write_pid("bus")


def _forge(directory: Path, name: str, pid: int, create_time: float) -> Path:
    rundir.runtime_dir()
    path = directory / f"{name}.pid"
    path.write_text(json.dumps({"name": name, "pid": pid, "create_time": create_time, "cmd": ["x"]}))
    return path


def test_pid_that_is_another_process_by_now_is_stale(directory: Path) -> None:
    path = _forge(directory, "bus", os.getpid(), create_time=1.0)
    assert rundir.read_pid("bus") is None
    assert not path.exists()


def test_zombie_is_stale(directory: Path, other: subprocess.Popen[bytes]) -> None:
    start = psutil.Process(other.pid).create_time()
    path = _forge(directory, "target", other.pid, start)
    found = rundir.read_pid("target")
    assert found is not None and found.pid == other.pid
    other.kill()
    # Wait for its end without reaping it.
    os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)
    assert rundir.read_pid("target") is None
    assert not path.exists()


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"name": "bus", "pid": "x"}', "null"])
def test_file_that_is_no_record_gives_way(directory: Path, content: str) -> None:
    rundir.runtime_dir()
    (directory / "bus.pid").write_text(content)
    assert rundir.list_pids() == []
    with rundir.write_pid("bus") as held:
        assert rundir.read_pid("bus") == held.record


def test_release_leaves_the_file_of_a_successor(directory: Path, other: subprocess.Popen[bytes]) -> None:
    held = rundir.write_pid("im")
    path = _forge(directory, "im", other.pid, psutil.Process(other.pid).create_time())
    held.release()
    assert path.exists()


def test_list_is_sorted_and_clears_the_stale(directory: Path) -> None:
    with rundir.write_pid("target"), rundir.write_pid("bus"):
        stale = _forge(directory, "im", os.getpid(), create_time=1.0)
        assert [record.name for record in rundir.list_pids()] == ["bus", "target"]
        assert not stale.exists()


@pytest.mark.parametrize("name", ["", "a/b", "..", ".hidden", "a b", "../bus", "bus\n"])
def test_name_that_is_no_file_name_is_refused(directory: Path, name: str) -> None:
    with pytest.raises(RuntimeDirError, match=r"process name .* is not allowed"):
        rundir.read_pid(name)
