"""Hosts that are served by a thread of their own: threads, idle programs, forks, interpreters that end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hoststack import (
    SHUT_WR,
    BugChecked,
    BusUnavailable,
    Connection,
    ConnectionRefused,
    ConnectionState,
    HelloRefused,
    Host,
    HostClosed,
    LiveHost,
    LocalProtocolError,
    NotConnected,
    Server,
    SocketTimeout,
)
from hoststack.model.events import HostEvent
from hoststack.net import SocketEvent
from tests.support.cable_host import CableHost
from tools.torture_stack import RealStack, leftovers, three_layers, with_peer

pytestmark = pytest.mark.process

ROOT = Path(__file__).parents[2]
REMOTE = "10.77.0.2"


@pytest.fixture(scope="module")
def stack() -> Iterator[RealStack]:
    with RealStack(with_peer()) as stack:
        yield stack


@pytest.fixture
def host(stack: RealStack) -> Iterator[LiveHost]:
    with LiveHost.attach("threaded", stack.endpoint, timeout=20) as host:
        yield host


def program(stack: RealStack, code: str) -> subprocess.CompletedProcess[str]:
    """Run a Python program against the stack."""
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**stack.environment, "NDISBUS_ENDPOINT": stack.endpoint},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def echo(host: LiveHost, number: int, rounds: int) -> int:
    """Echo over a connection that moves down and up again; bytes that came back."""
    moved = 0
    with host.connect((REMOTE, 7), timeout=20) as connection:
        for i in range(rounds):
            if i % 8 == 2:
                connection.offload()
            elif i % 8 == 6:
                connection.upload()
            data = bytes([number, i % 256]) * (1 + 37 * i % 2000)
            connection.sendall(data)
            assert connection.recv_exactly(len(data)) == data
            moved += len(data)
    return moved


def test_six_threads_use_one_host(host: LiveHost) -> None:
    with ThreadPoolExecutor(6) as pool:
        moved = list(pool.map(lambda n: echo(host, n, 40), range(6)))
    assert all(moved)


@pytest.mark.soak
def test_six_threads_use_one_host_for_a_minute(host: LiveHost) -> None:
    end = time.monotonic() + 60

    def work(number: int) -> int:
        rounds = 0
        while time.monotonic() < end:
            echo(host, number, 40)
            rounds += 40
        return rounds

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(work, range(6)))


def test_several_threads_use_one_connection(host: LiveHost) -> None:
    """One sends, others receive: every byte reaches one of them."""
    size = 200_000
    with host.connect((REMOTE, 7), timeout=20) as connection:
        got: list[int] = []

        def read() -> None:
            while data := connection.recv(5000):
                got.append(len(data))
                if sum(got) == size:
                    connection.shutdown(1)

        readers = [threading.Thread(target=read) for _ in range(3)]
        for reader in readers:
            reader.start()
        connection.sendall(bytes(size))
        for reader in readers:
            reader.join(20)
        assert sum(got) == size


def test_a_host_answers_while_its_program_does_something_else(stack: RealStack, host: LiveHost) -> None:
    """The program is blocked in a read of a pipe; netstat and ps are told about it, and an echo comes."""
    with host.connect((REMOTE, 7), timeout=20) as connection:
        assert connection.offload().succeeded
        command = [sys.executable, "-m", "hoststack", "netstat", "--json", "threaded"]
        netstat = subprocess.Popen(
            command, cwd=ROOT, env=stack.environment, stdout=subprocess.PIPE, text=True
        )
        assert netstat.stdout is not None
        shown = netstat.stdout.read()  # blocks until the host has answered
        netstat.stdout.close()
        assert netstat.wait(20) == 0
        assert f'"{REMOTE}"' in shown
        assert '"Offloaded"' in shown
        ps = stack.run("-m", "ndisbus", "ps", "--json")
        assert ps.returncode == 0
        assert '"threaded"' in ps.stdout


@pytest.mark.soak
def test_a_program_that_sleeps_for_half_a_minute_is_served(stack: RealStack, host: LiveHost) -> None:
    with host.connect((REMOTE, 7), timeout=20) as connection:
        for _ in range(2):
            connection.sendall(b"before")
            seen = []
            end = time.monotonic() + 30
            while time.monotonic() < end:  # this program calls nothing of the host meanwhile
                seen.append(stack.run("-m", "hoststack", "netstat", "--json", "threaded").stdout)
            assert all(f'"{REMOTE}"' in s for s in seen)
            assert connection.recv_exactly(6) == b"before"


def test_a_server_thread_and_a_thread_for_each_connection(stack: RealStack, host: LiveHost) -> None:
    """As people write echo servers with ``socket``; the remote host connects from a thread of its own."""
    own = str(host.driver.addresses.wanted[0].ip)

    def serve(connection: Connection) -> None:
        with connection, connection.makefile("rwb") as file:
            connection.offload()
            for line in file:
                file.write(line.upper())
                file.flush()

    def listen(server: Server, pool: ThreadPoolExecutor) -> None:
        for _ in range(5):
            connection, (address, _port) = server.accept()
            assert address == "10.77.0.9"
            pool.submit(serve, connection)

    with host.listen((own, 4000), timeout=20) as server, ThreadPoolExecutor(6) as pool:
        assert server.getsockname() == (own, 4000)
        listening = pool.submit(listen, server, pool)
        with CableHost(stack) as remote:
            connections = [remote.network.connect((own, 4000)) for _ in range(5)]
            for i, connection in enumerate(connections):
                connection.sendall(b"line %d\n" % i)
            for i, connection in enumerate(connections):
                assert connection.recv_exactly(7) == b"LINE %d\n" % i
                connection.shutdown(SHUT_WR)
                assert connection.recv_all() == b""
        listening.result(20)


def test_connections_have_the_methods_of_the_chimney(host: LiveHost) -> None:
    with host.connect((REMOTE, 7)) as one, host.connect(("fd77::2", 7)) as two:
        assert {one.served_by, two.served_by} == {ConnectionState.IN_HOST}
        with pytest.raises(LocalProtocolError, match="InHost: only what is Offloaded can be queried"):
            one.query()
        assert one.offload().succeeded
        assert {one.served_by} == {ConnectionState.OFFLOADED}
        state = one.query("whole")
        assert state is not None
        assert len(state) == 3
        assert one.upload().succeeded
        assert one.upload().succeeded, "what is back already is left out"
        assert host.offload([one, two]).succeeded
        read = host.query([one, two])
        assert all(read.result_of(c.tcb) for c in (one, two))
        assert host.upload([one, two]).succeeded
        assert {one.served_by, two.served_by} == {ConnectionState.IN_HOST}


def test_a_host_tells_its_addresses(stack: RealStack, host: LiveHost) -> None:
    with host.connect((REMOTE, 7)) as v4, host.connect(("fd77::2", 7)) as v6:
        assert [str(a.ip) for a in host.addresses] == [v4.getsockname()[0], v6.getsockname()[0]]
    with LiveHost.attach("one", stack.endpoint, timeout=20, addresses=["10.77.0.9/24"]) as other:
        assert [str(a) for a in other.addresses] == ["10.77.0.9/24"]


def test_a_connection_that_was_closed_while_it_was_offloaded_says_so(host: LiveHost) -> None:
    connection = host.connect((REMOTE, 7))
    assert connection.offload().succeeded
    connection.close()
    assert "Established" not in repr(connection)
    for use in (connection.query, connection.upload, connection.offload, lambda: host.offload([connection])):
        with pytest.raises(NotConnected, match=r"10\.77\.0\.2:7: it was closed by this program$"):
            use()
    connection.wait_closed()
    assert "Established" not in repr(connection)
    assert host.pump(lambda: connection.served_by is ConnectionState.IN_HOST, timeout=20)
    with pytest.raises(NotConnected, match="closed by this program"):
        host.query([connection])
    assert "Established" not in repr(connection)


def test_what_the_stack_serves_is_not_for_the_raw_operations(host: LiveHost) -> None:
    """Otherwise the machine would go on in the host while the target has the connection too."""
    with host.connect((REMOTE, 7)) as connection:
        tcb = connection.tcb
        for use in (
            lambda: host.chimney.offload([tcb]),
            lambda: host.chimney.terminate([tcb]),
            lambda: host.chimney.query([tcb]),
            lambda: host.chimney.send(tcb, b"x"),
            lambda: host.act(lambda: host.driver.offload([tcb])),
        ):
            with pytest.raises(LocalProtocolError, match="belongs to the network stack"):
                use()
        connection.sendall(b"still here")
        assert connection.recv_exactly(10) == b"still here"


def test_a_second_caller_is_not_kept_from_waiting_by_the_first(host: LiveHost) -> None:
    with (
        host.connect((REMOTE, 7)) as silent,
        host.connect((REMOTE, 7)) as busy,
        ThreadPoolExecutor(1) as pool,
    ):
        silent.settimeout(None)
        waiting = pool.submit(silent.recv, 5)
        busy.settimeout(0.05)
        with pytest.raises(SocketTimeout, match=r"within 0\.05 s"):
            busy.recv()
        silent.sendall(b"hello")
        assert waiting.result(20) == b"hello"


def test_an_interrupted_caller_gives_up_and_the_host_goes_on(host: LiveHost) -> None:
    """The main thread waits in recv when SIGINT comes; nothing of the host is torn by it."""
    with host.connect((REMOTE, 7)) as connection:
        connection.settimeout(None)

        def interrupt() -> None:
            host.pump(lambda: False, 0.2)
            os.kill(os.getpid(), signal.SIGINT)

        thread = threading.Thread(target=interrupt)
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            connection.recv()
        thread.join(20)
        connection.sendall(b"on")
        assert connection.recv_exactly(2) == b"on"


def test_closing_tells_those_who_wait(stack: RealStack) -> None:
    host = LiveHost.attach("leaver", stack.endpoint, timeout=20)
    server = host.listen(("", 4000), timeout=None)
    with ThreadPoolExecutor(2) as pool:
        accepting = pool.submit(server.accept)
        waiting = pool.submit(host.pump, lambda: False, 600.0)
        host.close()
        for caller in (accepting, waiting):
            with pytest.raises(HostClosed, match="'leaver' was closed"):
                caller.result(20)
    with pytest.raises(HostClosed):
        host.ping(REMOTE)
    server.close()
    assert not [t for t in threading.enumerate() if "leaver" in t.name]
    stack.wait_for(lambda survey: not leftovers(survey), "the host left something")


def test_what_ends_the_loop_reaches_every_caller_and_later_calls(stack: RealStack, host: LiveHost) -> None:
    with pytest.raises(HelloRefused, match="threaded"):
        LiveHost.attach("threaded", stack.endpoint, timeout=20)

    with RealStack(three_layers()) as other:  # one that may have seen a bug check
        sinner = Host.attach("sinner", other.endpoint, timeout=20)
        with ThreadPoolExecutor(2) as pool:
            waiting = [pool.submit(sinner.pump, lambda: False, 600.0) for _ in range(2)]
            sinner.act(lambda: sinner.driver.ndis.oid_request(0xDEAD, {}))
            errors = [caller.exception(20) for caller in waiting]
        assert [type(e) for e in errors] == [BugChecked] * 2
        for use in (sinner.upload_everything, lambda: sinner.pump(timeout=0)):
            with pytest.raises(BugChecked, match="NdisOidRequest"):
                use()
        sinner.close()


def test_a_callback_may_act_and_cannot_wait(host: LiveHost) -> None:
    seen: list[object] = []
    with host.connect((REMOTE, 7)) as connection:

        def on_event(_: object, event: SocketEvent) -> None:
            if event is not SocketEvent.READABLE:
                return
            seen.append(connection.recv())
            try:
                connection.recv()
            except LocalProtocolError as error:
                seen.append(str(error))

        host.act(lambda: setattr(connection.socket, "on_event", on_event))
        connection.sendall(b"hello")
        assert host.pump(lambda: len(seen) == 2, 20)
    assert seen[0] == b"hello"
    assert "a callback of a host cannot wait" in str(seen[1])


def test_callbacks_of_two_hosts_cannot_wait_for_each_other(stack: RealStack, host: LiveHost) -> None:
    with LiveHost.attach("other", stack.endpoint, timeout=20) as other, ThreadPoolExecutor(1) as pool:
        assert pool.submit(host.act, lambda: other.ping(REMOTE)).result(20) < 20
        circle = pool.submit(host.act, lambda: other.act(lambda: host.ping(REMOTE)))
        assert "'other' cannot wait for host 'threaded'" in str(circle.exception(20))
        assert host.ping(REMOTE) + other.ping(REMOTE) < 20


def test_errors_of_connections_reach_the_thread_that_asked(host: LiveHost) -> None:
    with ThreadPoolExecutor(4) as pool:
        refused = [pool.submit(host.connect, (REMOTE, 81)) for _ in range(4)]
        for attempt in refused:
            with pytest.raises(ConnectionRefused):
                attempt.result(20)


def test_without_a_bus_attaching_fails_in_time(tmp_path: Path) -> None:
    with pytest.raises(BusUnavailable, match="no bus let 'alone' in"):
        LiveHost.attach("alone", f"ipc://{tmp_path}/none", timeout=0.2)
    assert not [t for t in threading.enumerate() if "alone" in t.name]


def test_a_host_that_is_not_threaded_belongs_to_one_thread_at_a_time(stack: RealStack) -> None:
    with (
        LiveHost.attach("single", stack.endpoint, timeout=20, threaded=False) as host,
        host.connect((REMOTE, 7)) as connection,
        ThreadPoolExecutor(1) as pool,
    ):
        connection.sendall(b"hello")
        assert connection.recv_exactly(5) == b"hello"
        inside, told = threading.Event(), threading.Event()

        def until() -> bool:
            inside.set()
            return told.is_set()

        pumping = pool.submit(host.pump, until, 20.0)
        assert inside.wait(20)
        with pytest.raises(LocalProtocolError, match="threaded=True"):
            host.ping(REMOTE)
        told.set()
        assert pumping.result(20)
        assert host.ping(REMOTE) < 20


def test_a_caller_that_ends_its_thread_does_not_end_the_host(host: LiveHost) -> None:
    def leave() -> bool:
        raise SystemExit(3)

    with ThreadPoolExecutor(1) as pool:
        for use in (host.act, host.pump):
            assert type(pool.submit(use, leave).exception(20)) is SystemExit
            assert host.ping(REMOTE) < 20


def test_a_caller_that_is_interrupted_while_it_wakes_the_host_leaves_others_to_wake_it(
    host: LiveHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = host.runner._owner  # type: ignore[attr-defined]
    real, sent = owner._sender, []

    class Interrupted:
        def send(self, data: bytes) -> int:
            sent.append(data)
            if len(sent) == 1:
                raise KeyboardInterrupt
            return int(real.send(data))

    with monkeypatch.context() as patch:
        patch.setattr(owner, "_sender", Interrupted())
        with pytest.raises(KeyboardInterrupt):
            host.act(lambda: None)
        assert host.act(lambda: "heard") == "heard"
    assert len(sent) > 1


@pytest.mark.parametrize("threaded", [True, False])
def test_closing_twice_does_nothing_and_what_comes_after_it_is_told(stack: RealStack, threaded: bool) -> None:
    with LiveHost.attach("twice", stack.endpoint, timeout=20, threaded=threaded) as host:
        host.close()
        host.close()
        for use in (lambda: host.ping(REMOTE), host.pump, lambda: host.chimney.control("ps")):
            with pytest.raises(HostClosed, match="'twice' was closed"):
                use()


def test_a_host_without_a_network_is_closed_twice(stack: RealStack) -> None:
    for threaded in (True, False):
        host = Host.attach("twice", stack.endpoint, timeout=20, threaded=threaded)
        host.close()
        host.close()


def test_a_host_that_is_not_threaded_is_not_closed_under_another_thread(stack: RealStack) -> None:
    inside, told = threading.Event(), threading.Event()

    def until() -> bool:
        inside.set()
        return told.is_set()

    with (
        LiveHost.attach("busy", stack.endpoint, timeout=20, threaded=False) as host,
        ThreadPoolExecutor(1) as pool,
    ):
        pumping = pool.submit(host.pump, until, 20.0)
        assert inside.wait(20)
        with pytest.raises(LocalProtocolError, match="threaded=True"):
            host.close()
        told.set()
        assert pumping.result(20)
        assert host.ping(REMOTE) < 20


@pytest.mark.parametrize("threaded", [True, False])
def test_a_callback_may_close_the_host(stack: RealStack, threaded: bool) -> None:
    host = Host.attach("quitter", stack.endpoint, timeout=20, threaded=threaded)
    host.act(lambda: host.driver.events.subscribe(HostEvent, lambda _: host.close()))

    def use() -> None:
        host.disable_chimney()
        host.pump(timeout=20)

    with pytest.raises(HostClosed, match="'quitter' was closed"):
        use()
    stack.wait_for(lambda survey: not leftovers(survey), "the host left something")


FORK = """
import os, sys, warnings
from hoststack import ChimneyError, HostForked, LiveHost
warnings.simplefilter("ignore")
with (
    LiveHost.attach("forker", timeout=20, threaded={threaded}) as host,
    host.connect(("10.77.0.2", 7)) as connection,
    host.listen(("", 4000)),
):
    pid = os.fork()
    if pid == 0:
        found = []
        for use in (lambda: connection.recv(), lambda: host.ping("10.77.0.2"), host.close, connection.close):
            try:
                use()
            except HostForked as error:
                found.append(str(os.getpid()) in str(error) and str(os.getppid()) in str(error))
        print(found, flush=True)
        sys.exit(7)  # through __exit__ of all of them, and the exit handlers of the interpreter
    _, status = os.waitpid(pid, 0)
    print("child", os.waitstatus_to_exitcode(status))
    connection.sendall(b"parent")
    print(connection.recv_exactly(6).decode())
"""


@pytest.mark.parametrize("threaded", [True, False])
def test_a_forked_child_is_told_at_once(stack: RealStack, threaded: bool) -> None:
    done = program(stack, FORK.format(threaded=threaded))
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["[True, True, True, True]", "child 7", "parent"]
    assert done.stderr == ""


def test_an_interpreter_ends_although_its_host_was_not_closed(stack: RealStack) -> None:
    code = (
        "from hoststack import LiveHost\n"
        "host = LiveHost.attach('careless', timeout=20)\n"
        "connection = host.connect(('10.77.0.2', 7))\n"
        "print(connection.offload().succeeded)\n"
    )
    done = program(stack, code)
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")
    stack.wait_for(lambda survey: not leftovers(survey), "the program left something")


def test_a_host_that_is_forgotten_leaves(stack: RealStack) -> None:
    host = LiveHost.attach("forgotten", stack.endpoint, timeout=20)
    thread = next(t for t in threading.enumerate() if "forgotten" in t.name)
    del host
    __import__("gc").collect()
    thread.join(20)
    assert not thread.is_alive()


def test_an_idle_host_costs_nothing(stack: RealStack, host: LiveHost) -> None:
    """No busy loop: the thread sleeps until something happens."""
    with host.connect((REMOTE, 7)) as connection:
        before = time.process_time()
        connection.settimeout(1.0)
        with pytest.raises(SocketTimeout):
            connection.recv()
        assert time.process_time() - before < 0.3
