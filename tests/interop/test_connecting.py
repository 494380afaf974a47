"""Our stack as the client of Linux, and in this process, so that a test sees both ends."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import selectors
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from hoststack import (
    SHUT_WR,
    Connection,
    ConnectionRefused,
    ConnectionReset,
    ConnectionTimedOut,
    SocketOptions,
    Unreachable,
)
from hoststack.net.socket import Socket
from hoststack.net.socket_events import SocketEvent
from ndisbus.ddi.tcp_enums import TcpOffloadConnectionState as State
from ndisbus.wire.capture import INBOUND, PcapngWriter
from ndisbus.wire.impair import ImpairedLink, Impairments
from tests.interop.iperf3 import PORT, run_client
from tests.interop.lab import DEADLINE, LINUX, LINUX4, OURS, Lab, Ours, bad_frames, noise, tshark, until
from tests.interop.traffic import Background, read_exactly, read_to_end, reset

pytestmark = pytest.mark.interop

FAMILIES = pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6], ids=["ipv4", "ipv6"])


def pair(
    lab: Lab,
    ours: Ours,
    family: socket.AddressFamily = socket.AF_INET,
    options: SocketOptions | None = None,
    rcvbuf: int | None = None,
) -> tuple[Connection, socket.socket]:
    """A connection that we opened: our end, and Linux's."""
    listener, port = lab.listen(family)
    if rcvbuf is not None:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
    connection = ours.connect(LINUX[family], port, options or SocketOptions())
    # The last ACK of the handshake may be on its way yet.
    accepting = Background(lambda: lab.accept(listener))
    ours.until(lambda: accepting.done, "Linux accepts")
    return connection, accepting.result()


# --- data


@FAMILIES
def test_data_goes_both_ways_and_each_half_closes_by_itself(lab: Lab, family: socket.AddressFamily) -> None:
    ours = lab.ours()
    connection, linux = pair(lab, ours, family)
    up, down = noise(2_000_000, 1), noise(2_000_000, 2)
    reading = Background(lambda: read_to_end(linux))
    connection.sendall(up)
    connection.shutdown(SHUT_WR)
    ours.until(lambda: reading.done, "Linux has everything")
    assert reading.result() == up
    ours.until(lambda: connection.socket.state is State.TcpConnectionFinWait2, "Linux has our FIN")

    def send() -> None:
        linux.sendall(down)
        linux.shutdown(socket.SHUT_WR)

    sending = Background(send)
    assert connection.recv_all() == down
    sending.result()
    ours.until(lambda: connection.socket.state is State.TcpConnectionTimeWait, "TIME_WAIT")


@FAMILIES
def test_linux_closes_first(lab: Lab, family: socket.AddressFamily) -> None:
    ours = lab.ours()
    connection, linux = pair(lab, ours, family)
    linux.shutdown(socket.SHUT_WR)
    assert connection.recv() == b""
    assert connection.socket.state is State.TcpConnectionCloseWait
    data = noise(500_000)
    reading = Background(lambda: read_to_end(linux))
    connection.sendall(data)
    connection.close()
    ours.until(lambda: reading.done, "Linux has everything")
    assert reading.result() == data
    ours.until(lambda: connection.socket.state is State.TcpConnectionClosed, "LAST_ACK is over")


@FAMILIES
def test_options_are_what_both_sides_want(lab: Lab, family: socket.AddressFamily) -> None:
    """What our SYN offers is what Linux's ``ss -ti`` shows: all eight settings of our side."""
    ours = lab.ours()
    data = noise(100_000)
    for timestamps, sack, scaling in itertools.product((True, False), repeat=3):
        options = SocketOptions(timestamps=timestamps, sack=sack, window_scaling=scaling)
        connection, linux = pair(lab, ours, family, options)
        shown = lab.ss("dport", str(connection.getsockname()[1]))
        words = shown.split()
        assert ("ts" in words, "sack" in words, "wscale:" in shown) == (timestamps, sack, scaling)
        reading = Background(lambda linux=linux: read_exactly(linux, len(data)))  # type: ignore[misc]
        connection.sendall(data)
        ours.until(lambda reading=reading: reading.done, "Linux has everything")  # type: ignore[misc]
        assert reading.result() == data
        connection.close()
        linux.close()


def test_netcat_listens(lab: Lab, tool: Callable[[str], None]) -> None:
    tool("nc")
    ours = lab.ours()
    data = noise(1_000_000)
    with subprocess.Popen(
        ["ip", "netns", "exec", lab.name, "nc", "-l", LINUX4, "5000"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    ) as netcat:
        assert netcat.stdout is not None
        until(lambda: lab.ss("state", "listening", "sport", "5000"), "netcat listens")
        output = Background(netcat.stdout.read)
        connection = ours.connect(LINUX4, 5000)
        connection.sendall(data)
        connection.close()
        ours.until(lambda: output.done, "netcat ends")
        assert output.result() == data
        assert netcat.wait(DEADLINE) == 0


@FAMILIES
@pytest.mark.parametrize("reverse", [False, True], ids=["up", "down"])
def test_iperf3_serves(
    lab: Lab, tool: Callable[[str], None], family: socket.AddressFamily, reverse: bool
) -> None:
    """Our client speaks iperf3's protocol to ``iperf3 -s``, with two streams."""
    tool("iperf3")
    ours = lab.ours()
    report = lab.directory / "report"
    with (
        report.open("w") as file,
        subprocess.Popen(
            ["ip", "netns", "exec", lab.name, "iperf3", "-s", "-1", "-J"], stdout=file
        ) as server,
    ):
        until(lambda: lab.ss("state", "listening", "sport", str(PORT)), "iperf3 listens")
        moved, told = run_client(ours.network, LINUX[family], seconds=1, streams=2, reverse=reverse)
        ours.until(lambda: server.poll() is not None, "iperf3 ends")
    done = json.loads(report.read_text())
    assert "error" not in done
    counted = sum(stream["bytes"] for stream in told["streams"])
    assert moved > 0
    if reverse:
        assert 0 <= counted - moved < 16_000_000, "what was on its way when the time was over"
    else:
        assert counted == moved, "all of it was acknowledged"


# --- windows


def test_zero_window_of_ours(lab: Lab) -> None:
    """We read nothing: Linux probes our closed window, and goes on when it opens."""
    ours = lab.ours()
    connection, linux = pair(lab, ours, options=SocketOptions(rcvbuf=20_000))
    data = noise(3_000_000)

    def send() -> None:
        linux.sendall(data)
        linux.shutdown(socket.SHUT_WR)

    sending = Background(send)
    port = str(connection.getsockname()[1])
    ours.until(lambda: "timer:(persist" in lab.ss("dport", port), "Linux probes")
    assert connection.recv_all() == data
    sending.result()


def test_zero_window_of_linux(lab: Lab) -> None:
    """Linux reads nothing: we probe, and go on when its window opens."""
    ours = lab.ours()
    connection, linux = pair(lab, ours, rcvbuf=20_000)
    data = noise(300_000)
    socket_ = connection.socket
    left = memoryview(data)

    def fill() -> bool:
        nonlocal left
        left = left[socket_.send(bytes(left[:65536])) :]
        return not left

    heard = (-1, 0)

    def probed() -> bool:
        """Whether Linux got two more segments since the last ones that it had room for."""
        nonlocal heard
        fill()
        shown = lab.ss("dport", str(connection.getsockname()[1]))
        taken, segments = (
            int(found[1]) if (found := re.search(rf"{key}:(\d+)", shown)) else 0
            for key in ("bytes_received", "segs_in")
        )
        if taken != heard[0]:
            heard = taken, segments
        return segments >= heard[1] + 2

    ours.until(probed, "two probes")
    reading = Background(lambda: read_exactly(linux, len(data)))
    ours.until(fill, "everything is queued")
    ours.until(lambda: reading.done, "Linux has everything")
    assert reading.result() == data
    assert len(tshark(lab.captures[0], "tcp.analysis.zero_window_probe")) >= 2


# --- ends


def test_simultaneous_close(lab: Lab) -> None:
    """Both FINs cross on the wire: CLOSING on both sides, then TIME_WAIT."""
    # So long lies between Linux's FIN and its ACK of ours, and so long we may be busy with something else.
    ours = lab.ours("delay=600ms")
    connection, linux = pair(lab, ours)
    port = str(connection.getsockname()[1])
    linux.shutdown(socket.SHUT_WR)
    connection.shutdown(SHUT_WR)
    states: list[State] = []

    def passed() -> bool:
        state = connection.socket.state
        if not states or states[-1] is not state:
            states.append(state)
        return state is State.TcpConnectionTimeWait

    ours.until(passed, "TIME_WAIT")
    wanted = [State.TcpConnectionFinWait1, State.TcpConnectionClosing, State.TcpConnectionTimeWait]
    assert states == wanted
    ours.until(lambda: lab.ss("dport", port).startswith("TIME-WAIT"), "TIME-WAIT of Linux")
    assert connection.recv() == b"" and linux.recv(1) == b""


def test_simultaneous_open(lab: Lab) -> None:
    """Both SYNs cross on the wire, and make one connection."""
    ours = lab.ours("delay=150ms")
    # So that the SYNs leave at once.
    lab.ip("neigh add 10.77.0.2 lladdr 02:77:00:00:00:02 dev tap0 nud permanent")
    assert ours.network.ping(LINUX4) > 0.3
    linux = lab.tcp()
    linux.bind((LINUX4, 6001))
    connecting = Background(lambda: linux.connect((OURS[socket.AF_INET], 6002)))
    until(lambda: "SYN-SENT" in lab.ss("sport", "6001"), "the SYN of Linux")
    connection = ours.network.connect((LINUX4, 6001), source_address=(None, 6002))
    ours.until(lambda: connecting.done, "Linux is connected")
    connecting.result()
    both = tshark(lab.captures[0], "tcp.flags.syn == 1 && tcp.flags.ack == 0", "ip.src")
    assert sorted(set(both)) == [LINUX4, OURS[socket.AF_INET]]
    connection.sendall(b"hello")
    ours.run_until(lambda: False, 0.2)
    assert read_exactly(linux, 5) == b"hello"
    linux.sendall(b"there")
    assert connection.recv_exactly(5) == b"there"


@FAMILIES
def test_reset_by_linux(lab: Lab, family: socket.AddressFamily) -> None:
    ours = lab.ours()
    connection, linux = pair(lab, ours, family)
    connection.sendall(b"x")
    read_exactly(linux, 1)
    reset(linux)
    with pytest.raises(ConnectionReset):
        connection.recv()


@FAMILIES
def test_reset_by_ours(lab: Lab, family: socket.AddressFamily) -> None:
    ours = lab.ours()
    connection, linux = pair(lab, ours, family)
    connection.sendall(b"x")
    connection.abort()
    with pytest.raises(ConnectionResetError):
        read_to_end(linux)


@FAMILIES
def test_refused_and_unreachable(lab: Lab, family: socket.AddressFamily) -> None:
    ours = lab.ours()
    with pytest.raises(ConnectionRefused):
        ours.connect(LINUX[family], 4)
    nobody = "10.77.0.99" if family == socket.AF_INET else "fd77::99"
    with pytest.raises(Unreachable):
        ours.connect(nobody, 4)
    beyond = "192.0.2.1" if family == socket.AF_INET else "2001:db8::1"
    with pytest.raises(Unreachable):
        ours.connect(beyond, 4)


def test_linux_that_falls_silent_is_given_up(lab: Lab) -> None:
    ours = lab.ours("out.loss=0&seed=3")
    connection, _ = pair(lab, ours, options=SocketOptions(user_timeout=2))
    lab.ip("link set tap0 down")
    connection.sendall(b"anybody there?")
    with pytest.raises((ConnectionTimedOut, Unreachable)):
        connection.recv()


# --- many


@FAMILIES
def test_thousand_connections_at_once(lab: Lab, family: socket.AddressFamily) -> None:
    """We open a thousand connections, and an echo of Linux's answers on each of them."""
    ours = lab.ours()
    listener, port = lab.listen(family, 1024)
    server = Background(lambda: _echo_server(listener, 1000))
    left = set(range(1000))
    wrong: list[str] = []

    class Client:
        def __init__(self, number: int) -> None:
            self.number = number
            self.message = noise(64 + number * 4, number)
            self.came = bytearray()

        def event(self, own: Socket, event: SocketEvent) -> None:
            if event is SocketEvent.CONNECTED:
                assert own.send(self.message) == len(self.message)
                own.shutdown()
            elif event is SocketEvent.READABLE:
                self.came += own.recv() or b""
            elif event is SocketEvent.REMOTE_CLOSED:
                self.came += own.recv() or b""
                if self.came != self.message:
                    wrong.append(f"{own}: {len(self.came)} of {len(self.message)} bytes came back")
                left.discard(self.number)
            elif event is SocketEvent.FAILED:
                wrong.append(str(own.error))
                left.discard(self.number)

    stack = ours.peer.stack
    stack.advance(ours.now())
    for number in range(1000):
        stack.tcp_connect((LINUX[family], port), on_event=Client(number).event)
    ours.until(lambda: not left, "all echoes are back")
    assert not wrong
    server.result()


def _echo_server(listener: socket.socket, count: int) -> None:
    """Serve so many connections: everything that comes, back."""
    with selectors.DefaultSelector() as selector:
        listener.setblocking(False)
        selector.register(listener, selectors.EVENT_READ)
        pending: dict[socket.socket, bytes] = {}
        while count:
            for key, _ in selector.select(10):
                own = key.fileobj
                assert isinstance(own, socket.socket)
                if own is listener:
                    made, _ = own.accept()
                    selector.register(made, selectors.EVENT_READ)
                    pending[made] = b""
                elif part := own.recv(1 << 16):
                    pending[own] += part
                else:
                    selector.unregister(own)
                    own.sendall(pending.pop(own))
                    own.close()
                    count -= 1


# --- a bad wire


@FAMILIES
def test_stream_is_whole_over_a_wire_that_gets_worse(lab: Lab, family: socket.AddressFamily) -> None:
    """Loss, reordering, duplicates and corruption are switched on and off while data moves both ways."""
    ours = lab.ours("seed=5&reorder=1%")
    link = ours.peer.stations[0].link.inner
    assert isinstance(link, ImpairedLink)
    connection, linux = pair(lab, ours, family)
    up, down = hashlib.sha256(), hashlib.sha256()
    phases = [
        Impairments(),
        Impairments(loss=0.03),
        Impairments(reorder=0.05, reorder_gap=5),
        Impairments(duplicate=0.1, corrupt=0.05),
        Impairments(loss=1.0),
        Impairments(),
    ]
    blocks = [noise(300_000, n) for n in range(len(phases))]

    def far() -> None:
        for block in blocks:
            linux.sendall(block[::-1])
        linux.shutdown(socket.SHUT_WR)

    sending = Background(far)
    reading = Background(lambda: read_to_end(linux))
    for phase, block in zip(phases, blocks, strict=True):
        link.impair(ingress=phase, egress=phase)
        if phase.loss == 1.0:
            ours.run_until(lambda: False, 0.5)
            link.impair(ingress=Impairments(), egress=Impairments())
        connection.sendall(block)
        up.update(block)
        while connection.socket.unacknowledged:
            # Whether data comes or an ACK, both are worth a look.
            if connection.socket.available:
                down.update(connection.recv(1 << 20))
            ours.run_until(lambda: connection.socket.available or not connection.socket.unacknowledged, 30)
    connection.shutdown(SHUT_WR)
    for part in connection:
        down.update(part)
    ours.until(lambda: reading.done, "Linux has everything")
    assert hashlib.sha256(reading.result()).digest() == up.digest()
    assert down.digest() == hashlib.sha256(b"".join(b[::-1] for b in blocks)).digest()
    sending.result()
    done = link.faults["out"].to_wire()
    assert all(done[kind] for kind in ("Lost", "Reordered", "Duplicated", "Corrupted")), done


def test_captures_are_judged(lab: Lab, tool: Callable[[str], None], tmp_path: Path) -> None:
    """The check that every test ends with finds a bad checksum, and a comment explains one away."""
    tool("tshark")
    ours = lab.ours()
    ours.network.ping(LINUX4)
    connection, _ = pair(lab, ours)
    connection.sendall(b"good")
    connection.drain()
    [good] = tshark(
        lab.captures[0], "tcp.len == 4 && tcp.srcport == " + str(connection.getsockname()[1]), "frame.number"
    )
    assert good
    raw = subprocess.run(
        ["tshark", "-r", str(lab.captures[0]), "-Y", f"frame.number == {good}", "-T", "jsonraw", "-x"],
        capture_output=True,
        timeout=60,
        check=True,
    )
    frame = bytearray.fromhex(json.loads(raw.stdout)[0]["_source"]["layers"]["frame_raw"][0])
    frame[-1] ^= 1
    cut = bytes(frame[:40])
    path = tmp_path / "c.pcapng"
    with path.open("wb") as file:
        writer = PcapngWriter(file, name="x", mtu=1500)
        for sample, comment in ((frame, ""), (cut, ""), (frame, "corrupted: bit 0 of byte 9 flipped")):
            writer.write(writer.packet(bytes(sample), 0.0, INBOUND, comment))
    assert len(bad_frames(path)) == 2
