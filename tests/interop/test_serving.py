"""Linux's programs and sockets as clients of ``hoststack peer``."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import socket
from collections.abc import Callable

import pytest

from hoststack.peer.services import pattern
from tests.interop.lab import LINUX, OURS, OURS4, Lab, noise, tshark, until
from tests.interop.traffic import Background, both_ways, many_echoes, read_exactly, read_to_end, reset

pytestmark = pytest.mark.interop

FAMILIES = pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6], ids=["ipv4", "ipv6"])
ECHO, DISCARD, CHARGEN = 7, 9, 19


def url(family: socket.AddressFamily, path: str) -> str:
    host = OURS[family]
    return f"http://[{host}]{path}" if family == socket.AF_INET6 else f"http://{host}{path}"


# --- programs


@FAMILIES
def test_curl_gets_and_posts(lab: Lab, tool: Callable[[str], None], family: socket.AddressFamily) -> None:
    tool("curl")
    lab.peer()
    size = 4_000_003
    assert lab.run("curl", "-sSgf", url(family, f"/bytes/{size}")) == pattern(0, size)
    data = noise(size)
    posted = lab.run("curl", "-sSgf", "--data-binary", "@-", url(family, "/sha256"), data=data)
    assert posted.decode().strip() == hashlib.sha256(data).hexdigest()
    # With «Expect: 100-continue», and in chunks.
    chunked = ("-H", "Transfer-Encoding: chunked", "-H", "Expect: 100-continue", "-T", "-")
    put = lab.run("curl", "-sSgf", *chunked, url(family, "/sha256"), data=data)
    assert put.decode().strip() == hashlib.sha256(data).hexdigest()
    assert b"/bytes/N" in lab.run("curl", "-sSgf", url(family, "/"))


def test_curl_keeps_its_connection_for_several_requests(lab: Lab, tool: Callable[[str], None]) -> None:
    tool("curl")
    lab.peer()
    urls = [url(socket.AF_INET, f"/bytes/{n}") for n in (1, 10_000, 0, 70_000)]
    assert lab.run("curl", "-sSf", *urls) == b"".join(pattern(0, n) for n in (1, 10_000, 0, 70_000))
    assert len(tshark(lab.captures[0], "tcp.flags.syn == 1 && tcp.flags.ack == 0")) == 1


@FAMILIES
def test_netcat_echo(lab: Lab, tool: Callable[[str], None], family: socket.AddressFamily) -> None:
    tool("nc")
    lab.peer()
    data = noise(2_000_000)
    assert lab.run("nc", "-N", OURS[family], str(ECHO), data=data) == data


@FAMILIES
@pytest.mark.parametrize("direction", ["up", "down", "parallel"])
def test_iperf3(lab: Lab, tool: Callable[[str], None], family: socket.AddressFamily, direction: str) -> None:
    """``iperf3 -c`` against iperf3's protocol on our stack, either way, and four streams at once."""
    tool("iperf3")
    lab.python("-m", "tests.interop.iperf3", lab.link(capture=False))
    more = {"up": (), "down": ("-R",), "parallel": ("-P", "4")}[direction]
    done = json.loads(lab.run("iperf3", "-J", "-t", "1", "-c", OURS[family], *more))
    assert "error" not in done
    sent, received = (done["end"][k]["bytes"] for k in ("sum_sent", "sum_received"))
    assert received > 0
    # What was on its way when the time was over is not counted by the receiver.
    assert 0 <= sent - received < 16_000_000


def test_ping(lab: Lab, tool: Callable[[str], None]) -> None:
    tool("ping")
    lab.peer()
    for size in (0, 56, 1472, 1473, 20_000):
        # More than 1472 bytes are fragments, both ways.
        done = lab.run("ping", "-n", "-c3", "-i0.01", "-W10", "-s", str(size), OURS4)
        assert b"3 received" in done
    for size in (56, 1453, 20_000):
        assert b"3 received" in lab.run("ping", "-n", "-c3", "-i0.01", "-W10", "-s", str(size), "fd77::2")


# --- sockets


@FAMILIES
def test_echo_both_ways_at_once_and_half_close(lab: Lab, family: socket.AddressFamily) -> None:
    """Linux closes its half first: everything comes back behind it, then our end."""
    lab.peer()
    data = noise(8_000_000)
    assert both_ways(lab.connect(ECHO, family), data) == data
    for size in (0, 1, 2, 1447, 1448, 1449, 65_535):
        assert both_ways(lab.connect(ECHO, family), data[:size]) == data[:size]


def test_connection_goes_through_every_state_to_time_wait(lab: Lab) -> None:
    lab.peer()
    client = lab.connect(ECHO)
    port = client.getsockname()[1]
    assert lab.ss("sport", str(port)).startswith("ESTAB")
    assert both_ways(client, b"x") == b"x"
    client.close()
    assert lab.ss("sport", str(port)).startswith("TIME-WAIT"), "our FIN was in order"


@FAMILIES
def test_options_are_what_both_sides_want(lab: Lab, family: socket.AddressFamily) -> None:
    """``ss -ti`` shows what was negotiated: all eight settings of Linux's side."""
    lab.peer()
    data = noise(200_000)
    for timestamps, sack, scaling in itertools.product((1, 0), repeat=3):
        lab.sysctl("net/ipv4/tcp_timestamps", timestamps)
        lab.sysctl("net/ipv4/tcp_sack", sack)
        lab.sysctl("net/ipv4/tcp_window_scaling", scaling)
        client = lab.connect(ECHO, family)
        shown = lab.ss("sport", str(client.getsockname()[1]))
        words = shown.split()
        assert ("ts" in words, "sack" in words, "wscale:" in shown) == (
            bool(timestamps),
            bool(sack),
            bool(scaling),
        )
        room = 1500 - (40 if family == socket.AF_INET else 60) - (12 if timestamps else 0)
        assert f"mss:{room} " in shown
        assert both_ways(client, data) == data


def test_ecn_and_fast_open_are_asked_for_and_declined(lab: Lab) -> None:
    lab.peer()
    lab.sysctl("net/ipv4/tcp_ecn", 1)
    client = lab.connect(ECHO)
    assert "ecn" not in lab.ss("sport", str(client.getsockname()[1])).split()
    assert both_ways(client, b"x" * 5000) == b"x" * 5000
    lab.sysctl("net/ipv4/tcp_fastopen", 1)
    client = lab.tcp()
    # Without a cookie the data has to wait for the handshake, which a socket with a timeout does not.
    client.settimeout(None)
    client.sendto(b"fast", socket.MSG_FASTOPEN, (OURS4, ECHO))
    assert both_ways(client, b"er") == b"faster"


def test_keepalive_of_linux_is_answered(lab: Lab) -> None:
    lab.peer()
    client = lab.tcp()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 1)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 20)
    client.connect((OURS4, ECHO))
    until(lambda: len(tshark(lab.captures[0], "tcp.analysis.keep_alive_ack")) >= 1, "an answer to a probe")
    assert both_ways(client, b"still here") == b"still here"


@FAMILIES
def test_a_port_without_a_listener_refuses_at_once(lab: Lab, family: socket.AddressFamily) -> None:
    lab.peer()
    with pytest.raises(ConnectionRefusedError):
        lab.connect(4, family)


@FAMILIES
def test_reset_in_the_middle_harms_no_other_connection(lab: Lab, family: socket.AddressFamily) -> None:
    lab.peer()
    bystander = lab.connect(ECHO, family)
    for _ in range(5):
        victim = lab.connect(CHARGEN, family)
        read_exactly(victim, 100_000)
        reset(victim)
    assert both_ways(bystander, noise(100_000)) == noise(100_000)


def test_client_that_closes_with_data_unread_is_a_reset(lab: Lab) -> None:
    """Chargen goes on sending to a closed socket: Linux answers with RST, and ours gives up at once."""
    lab.peer()
    client = lab.connect(CHARGEN)
    port = client.getsockname()[1]
    read_exactly(client, 10_000)
    client.close()
    until(lambda: not lab.ss("sport", str(port)), "the connection is gone")
    assert len(tshark(lab.captures[0], f"tcp.flags.reset == 1 && tcp.port == {port}")) >= 1


def test_zero_window_of_linux(lab: Lab) -> None:
    """Linux reads nothing: its window closes, ours probes, and goes on when it opens."""
    lab.peer()
    client = lab.tcp()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 20_000)
    client.connect((OURS4, CHARGEN))
    until(lambda: len(tshark(lab.captures[0], "tcp.analysis.zero_window_probe")) >= 2, "two probes")
    expected = read_exactly(client, 1_000_000)
    line = bytes(range(32, 127)) * 2
    lines = [line[n % 95 : n % 95 + 72] + b"\r\n" for n in range(1_000_000 // 74 + 1)]
    assert expected == b"".join(lines)[:1_000_000]
    reset(client)


def test_zero_window_of_ours(lab: Lab) -> None:
    """Linux does not read what our echo sends, so the echo stops reading: Linux probes, then all goes on."""
    lab.peer("", "--window", "16384")
    client = lab.tcp()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 20_000)
    client.connect((OURS4, ECHO))
    data = noise(3_000_000)

    def send() -> None:
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)

    sending = Background(send)
    port = client.getsockname()[1]
    until(lambda: "timer:(persist" in lab.ss("sport", str(port)), "Linux probes")
    assert read_to_end(client) == data
    sending.result()


@FAMILIES
def test_thousand_connections_at_once(lab: Lab, family: socket.AddressFamily) -> None:
    lab.peer(capture=False)
    connections = [lab.connect(ECHO, family) for _ in range(1000)]
    shown = lab.ss("state", "established", "dport", str(ECHO))
    assert len(shown.splitlines()) == 1000
    many_echoes(connections, [noise(64 + n * 4, n) for n in range(1000)], 60)


def test_thousand_connections_one_after_the_other(lab: Lab) -> None:
    lab.peer(capture=False)
    for n in range(1000):
        client = lab.connect(ECHO)
        client.sendall(b"%d" % n)
        assert client.recv(100) == b"%d" % n
        client.close()


# --- what can be wrong with a wire

IMPAIRED = [
    ("loss=1%", 1_000_000),
    ("loss=5%", 400_000),
    ("loss=10%", 150_000),
    ("bursts=1%,30%", 400_000),
    ("reorder=5%&reorder-gap=8", 2_000_000),
    ("duplicate=5%", 2_000_000),
    ("corrupt=2%", 400_000),
    ("delay=20ms&jitter=5ms", 1_000_000),
    ("rate=20mbit&limit=50", 1_000_000),
    ("loss=2%&reorder=3%&duplicate=3%&corrupt=1%&delay=2ms&jitter=2ms", 400_000),
]


@FAMILIES
@pytest.mark.parametrize(("options", "size"), IMPAIRED, ids=[options for options, _ in IMPAIRED])
def test_stream_is_whole_over_a_bad_wire(
    lab: Lab, family: socket.AddressFamily, options: str, size: int
) -> None:
    """An echo, so both directions at once, each with the impairments."""
    # Neither side's address resolution is the point here, and ARP has no checksum.
    lab.ip("neigh add 10.77.0.2 lladdr 02:77:00:00:00:02 dev tap0 nud permanent")
    lab.peer(f"{options}&seed=11")
    data = noise(size)
    assert both_ways(lab.connect(ECHO, family), data, 60) == data
    if "delay" not in options and "rate" not in options:
        assert tshark(lab.captures[0], "frame.comment"), "nothing was done to any frame"


@pytest.mark.parametrize("mtu", [576, 1280, 1492, 4000, 9000])
def test_every_mtu(labs: Callable[..., Lab], mtu: int) -> None:
    lab = labs(mtu=mtu)
    # IPv6 is for links of 1280 bytes and more.
    lab.peer("", *(() if mtu >= 1280 else ("--address", "10.77.0.2/24")))
    data = noise(1_000_000)
    for family in (socket.AF_INET, socket.AF_INET6) if mtu >= 1280 else (socket.AF_INET,):
        client = lab.connect(ECHO, family)
        header = 40 if family == socket.AF_INET else 60
        assert f"mss:{mtu - header - 12} " in lab.ss("sport", str(client.getsockname()[1]))
        assert both_ways(client, data) == data
    lengths = {int(n) for n in tshark(lab.captures[0], "tcp.srcport == 7 && tcp.len", "frame.len")}
    assert max(lengths) == mtu + 14, "our segments fill the MTU"


def test_small_segments_of_linux(lab: Lab) -> None:
    lab.peer()
    client = lab.tcp()
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 100)
    client.connect((OURS4, ECHO))
    data = noise(300_000)
    assert both_ways(client, data) == data
    sent = {int(n) for n in tshark(lab.captures[0], "tcp.srcport == 7 && tcp.len", "tcp.len")}
    assert max(sent) <= 100


# --- through a router


@pytest.mark.parametrize("mtu", [1280, 600])
def test_path_mtu_is_discovered(lab: Lab, mtu: int) -> None:
    """A router says that our segments need fragmentation (or are too big); ours goes on in smaller ones."""
    far = f"{lab.name}-far"
    lab.add_namespace(far)
    families = (socket.AF_INET, socket.AF_INET6) if mtu >= 1280 else (socket.AF_INET,)
    lab.ip(f"link add v0 mtu {mtu} type veth peer name v1 netns {far} mtu 1500")
    lab.ip("link set v0 up")
    lab.ip("addr add 10.78.0.1/24 dev v0")
    lab.ip("link set v1 up", far)
    lab.ip("addr add 10.78.0.2/24 dev v1", far)
    # The far host takes segments of 1460 bytes, and sends none that do not fit.
    lab.ip(f"route add 10.77.0.0/24 via 10.78.0.1 mtu lock {mtu} advmss 1460", far)
    lab.sysctl("net/ipv4/ip_forward", 1)
    gateways = ["--gateway", "0.0.0.0/0=10.77.0.1"]
    if len(families) > 1:
        lab.ip("addr add fd78::1/64 dev v0 nodad")
        lab.ip("addr add fd78::2/64 dev v1 nodad", far)
        lab.ip(f"route add fd77::/64 via fd78::1 mtu lock {mtu} advmss 1440", far)
        lab.sysctl("net/ipv6/conf/all/forwarding", 1)
        gateways += ["--gateway", "::/0=fd77::1"]
    lab.peer("", *gateways)
    data = noise(500_000)
    for family in families:
        with lab.inside(far):
            client = lab.own(socket.socket(family, socket.SOCK_STREAM))
        client.settimeout(30)
        client.connect((OURS[family], ECHO))
        assert both_ways(client, data) == data
    asked = "icmp.type == 3 && icmp.code == 4 || icmpv6.type == 2"
    assert len(tshark(lab.captures[0], asked)) >= len(families)


def test_ss_text_is_what_these_tests_take_it_for(lab: Lab) -> None:
    """Words of ss that a test looks for are there between two sockets of Linux, too."""
    listener, port = lab.listen()
    client = lab.tcp()
    client.connect((LINUX[socket.AF_INET], port))
    server = lab.accept(listener)
    shown = lab.ss("sport", str(client.getsockname()[1]))
    assert {"ts", "sack"} <= set(shown.split()) and re.search(r"wscale:\d+,\d+", shown)
    server.close()
