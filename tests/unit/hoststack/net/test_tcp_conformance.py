"""What RFC 9293 asks of TCP and IP together, seen from the wire: addresses, ports, ICMP, options, TIME-WAIT.

The rows of docs/tcp.md that a machine alone cannot show. A bare station on the segment plays the remote host,
frame by frame.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from hoststack.net.errors import AddressInUse, BrokenPipe, SocketError, Unreachable
from hoststack.net.interface import Interface
from hoststack.net.options import SocketOptions
from hoststack.net.socket import Socket
from hoststack.net.socket_events import SocketEvent
from hoststack.net.stack import NetStack
from ndisbus.ddi.tcp_enums import TCP_FLAG_KEEP_ALIVE_ENABLED, TcpOffloadConnectionState
from ndisbus.errors import ChimneyError, LocalProtocolError
from ndisbus.net import arp, ethernet, icmp, ipv4, tcp
from ndisbus.net.checksum import pseudo_header
from ndisbus.net.segment import ACK, FIN, RST, SYN, Segment
from ndisbus.tcp.settings import TcpSettings

HOST = bytes([10, 77, 0, 1])
SECOND = bytes([10, 77, 0, 9])
REMOTE = bytes([10, 77, 0, 2])
HOST_MAC = bytes([2, 0, 0, 0, 0, 1])
REMOTE_MAC = bytes([2, 0, 0, 0, 0, 2])
PLAIN = SocketOptions(timestamps=False, sack=False, window_scaling=False, nagle=False)

ESTABLISHED = TcpOffloadConnectionState.TcpConnectionEstablished
SYN_SENT = TcpOffloadConnectionState.TcpConnectionSynSent
TIME_WAIT = TcpOffloadConnectionState.TcpConnectionTimeWait
CLOSED = TcpOffloadConnectionState.TcpConnectionClosed


class Lan:
    """The stack, and a remote host who answers ARP and otherwise does what the test says."""

    def __init__(self, seed: int = 1) -> None:
        self.stack = NetStack(TcpSettings(), random.Random(seed))
        self.frames: list[bytes] = []
        addresses = ["10.77.0.1/24", "10.77.0.9/24"]
        self.interface = Interface("eth0", HOST_MAC, 1500, addresses, self.frames.extend, announce=False)
        self.stack.add_interface(self.interface)
        self.now = 0.0
        self.packets: list[tuple[ipv4.Ipv4Header, bytes]] = []

    def run(self, seconds: float = 0.0) -> None:
        """Let time pass; ARP requests for the remote host's address are answered."""
        end = self.now + seconds
        for _ in range(10_000):
            self._answer()
            deadline = self.stack.next_deadline()
            if deadline is None or deadline > end:
                break
            self.now = max(self.now, deadline)
            self.stack.on_timer(self.now)
        self.now = end
        self.stack.on_timer(end)
        self._answer()

    def _answer(self) -> None:
        while self.frames:
            header, payload = ethernet.parse(self.frames.pop(0))
            if header.ethertype == ethernet.ETHERTYPE_ARP:
                asked = arp.parse(payload)
                if asked.operation == arp.REQUEST and asked.target_ip == REMOTE:
                    reply = arp.ArpPacket(arp.REPLY, REMOTE_MAC, REMOTE, asked.sender_mac, asked.sender_ip)
                    self.frame(reply.build(), ethernet.ETHERTYPE_ARP)
            elif header.ethertype == ethernet.ETHERTYPE_IPV4:
                self.packets.append(ipv4.parse(payload))

    def frame(self, payload: bytes, ethertype: int, mac: bytes = HOST_MAC) -> None:
        frame = ethernet.EthernetHeader(mac, REMOTE_MAC, ethertype).build() + payload
        self.stack.receive(self.interface, [frame], self.now)

    def ip(self, protocol: int, payload: bytes, *, mac: bytes = HOST_MAC, **header: Any) -> None:
        """A packet from the remote host arrives."""
        fields = {"source": REMOTE, "destination": HOST, **header}
        packet = ipv4.Ipv4Header(protocol=protocol, **fields).build(payload)
        self.frame(packet, ethernet.ETHERTYPE_IPV4, mac)
        self.run()

    def tcp(self, segment: Segment, **header: Any) -> None:
        """A segment from the remote host arrives."""
        pseudo = pseudo_header(header.get("source", REMOTE), header.get("destination", HOST), tcp.PROTOCOL)
        self.ip(tcp.PROTOCOL, tcp.build(segment, pseudo), **header)

    def sent(self) -> list[tuple[ipv4.Ipv4Header, Segment]]:
        """The segments that the stack has sent; they are then forgotten."""
        self.run()
        found = [(h, tcp.parse_segment(p, None)) for h, p in self.packets if h.protocol == tcp.PROTOCOL]
        self.packets.clear()
        return found

    def only(self) -> tuple[ipv4.Ipv4Header, Segment]:
        (found,) = self.sent()
        return found

    def connect(self, port: int = 80, **options: Any) -> tuple[Socket, Segment]:
        """A connection attempt and its SYN."""
        socket = self.stack.tcp_connect(("10.77.0.2", port), **{"options": PLAIN, **options})
        return socket, self.only()[1]

    def established(self, **options: Any) -> tuple[Socket, Segment, Callable[..., Segment]]:
        """A connection that the host opened, its SYN, and what makes segments of the remote host."""
        socket, syn = self.connect(**options)

        def segment(
            flags: int = ACK, seq: int = 1001, ack: int = 1, payload: bytes = b"", **more: Any
        ) -> Segment:
            more = {"source_port": 80, "destination_port": syn.source_port, **more}
            return Segment(seq, (syn.seq + ack) & 0xFFFF_FFFF, flags, 60_000, payload, **more)

        self.tcp(segment(SYN | ACK, seq=1000, mss=1460))
        assert socket.state is ESTABLISHED
        self.sent()
        return socket, syn, segment


def quoted(syn: Segment, ack: int = 0, payload: bytes = b"") -> bytes:
    """The packet that an ICMP error quotes: what the host had sent."""
    pseudo = pseudo_header(HOST, REMOTE, tcp.PROTOCOL)
    segment = Segment(
        (syn.seq + ack) & 0xFFFF_FFFF, 0, ACK, 0, payload, 0, syn.source_port, syn.destination_port
    )
    return ipv4.Ipv4Header(HOST, REMOTE, tcp.PROTOCOL).build(tcp.build(segment, pseudo))


# -- initial sequence numbers


def test_initial_sequence_numbers_follow_a_clock() -> None:
    """RFC9293-MUST-8.

    The same connection again begins as much further on as the 4 microsecond clock has ticked.
    """
    lan = Lan()
    local = ("10.77.0.1", 5000)
    socket, first = lan.connect(local=local)
    socket.abort()
    lan.run(10.0)
    lan.sent()
    _, second = lan.connect(local=local)
    assert (second.seq - first.seq) & 0xFFFF_FFFF == 10 * 250_000


def test_initial_sequence_numbers_have_a_secret_part() -> None:
    """RFC9293-SHLD-1, RFC9293-MUST-9.

    Another port, remote host or secret gives a number that has nothing to do with it.
    """
    numbers = set()
    for seed in (1, 2):
        lan = Lan(seed)
        for own in (5000, 5001):
            for port in (80, 81):
                numbers.add(lan.connect(port, local=("10.77.0.1", own))[1].seq)
    assert len(numbers) == 8
    ordered = sorted(numbers)
    assert min(b - a for a, b in pairwise(ordered)) > 1000


# -- OPEN


def test_a_listener_disturbs_no_connection() -> None:
    """RFC9293-MUST-41: a passive OPEN makes a record of its own, or fails."""
    lan = Lan()
    socket, _, segment = lan.established(local=("10.77.0.1", 5000))
    listener = lan.stack.tcp_listen("10.77.0.1", 5000)
    with pytest.raises(AddressInUse):
        lan.stack.tcp_listen("10.77.0.1", 5000)
    lan.tcp(segment(payload=b"still there"))
    assert socket.recv() == b"still there"
    assert listener.accept() is None


def test_a_port_can_be_listened_on_while_connections_of_it_open() -> None:
    """RFC9293-MUST-42: one in SYN-SENT, one in SYN-RECEIVED, and a second SYN for the listener."""
    lan = Lan()
    socket, _ = lan.connect(local=("10.77.0.1", 5000))
    lan.stack.tcp_listen("10.77.0.1", 5000)
    assert socket.state is SYN_SENT
    for port in (1111, 2222):
        lan.tcp(Segment(1, 0, SYN, 1000, b"", 0, port, 5000))
        answer = lan.only()[1]
        assert answer.flags & (SYN | ACK) == SYN | ACK
        assert answer.destination_port == port
    assert socket.state is SYN_SENT


def test_open_takes_a_local_address() -> None:
    """RFC9293-MUST-43, RFC9293-MUST-45: and every later segment has it."""
    lan = Lan()
    socket, syn, segment = lan.established()
    del socket, syn, segment
    lan.stack.tcp_connect(("10.77.0.2", 80), ("10.77.0.9", 6000), PLAIN)
    header, syn = lan.only()
    assert header.source == SECOND
    answer = Segment(1000, syn.seq + 1 & 0xFFFF_FFFF, SYN | ACK, 1000, b"", 0, 80, 6000, mss=1000)
    lan.tcp(answer, destination=SECOND)
    assert [h.source for h, _ in lan.sent()] == [SECOND]


def test_a_listener_answers_from_the_address_that_was_asked() -> None:
    """RFC9293-MUST-45: a passive OPEN for all addresses keeps to the one of the SYN."""
    lan = Lan()
    lan.stack.tcp_listen(None, 7)
    lan.tcp(Segment(1, 0, SYN, 1000, b"", 0, 4000, 7), destination=SECOND)
    header, _ = lan.only()
    assert header.source == SECOND


def test_the_source_address_is_chosen_by_ip() -> None:
    """RFC9293-MUST-44: from the interface that the route leads through."""
    lan = Lan()
    other: list[bytes] = []
    lan.stack.add_interface(
        Interface("eth1", bytes([2, 0, 0, 0, 0, 7]), 1500, ["192.0.2.1/24"], other.extend, announce=False)
    )
    lan.stack.tcp_connect(("192.0.2.5", 80))
    lan.run()
    _, payload = ethernet.parse(other[0])
    assert arp.parse(payload).sender_ip == bytes([192, 0, 2, 1])
    lan.connect()
    lan.stack.tcp_connect(("10.77.0.2", 81))
    assert lan.only()[0].source in (HOST, SECOND)


@pytest.mark.parametrize("address", ["255.255.255.255", "10.77.0.255", "224.0.0.1", "239.1.2.3", "0.0.0.0"])
def test_open_to_an_invalid_address_is_refused(address: str) -> None:
    """RFC9293-MUST-46, RFC1122-4.2.3.10: broadcast, multicast, unspecified: an error, nothing is sent."""
    lan = Lan()
    with pytest.raises(ChimneyError):
        lan.stack.tcp_connect((address, 80))
    assert not lan.sent()


def test_open_without_a_remote_socket_is_refused() -> None:
    """RFC9293-3.10.1-UNSPECIFIED: an address and a port are needed."""
    lan = Lan()
    for remote in (("", 80), ("10.77.0.2", 0)):
        with pytest.raises(LocalProtocolError):
            lan.stack.tcp_connect(remote)


def test_open_of_a_connection_that_exists_is_refused() -> None:
    """RFC9293-3.10.1-EXISTS: the same four-tuple again."""
    lan = Lan()
    lan.connect(local=("10.77.0.1", 5000))
    with pytest.raises(AddressInUse):
        lan.stack.tcp_connect(("10.77.0.2", 80), ("10.77.0.1", 5000))


# -- what is not for us


@pytest.mark.parametrize("destination", [bytes([10, 77, 0, 255]), bytes([255] * 4), bytes([224, 0, 0, 1])])
@pytest.mark.parametrize("flags", [SYN, ACK, FIN | ACK])
def test_segments_to_many_are_discarded(destination: bytes, flags: int) -> None:
    """RFC9293-MUST-57, RFC1122-4.2.3.10: to a broadcast or multicast address: no connection, no RST."""
    lan = Lan()
    lan.stack.tcp_listen(None, 7)
    for mac in (b"\xff" * 6, HOST_MAC):
        lan.tcp(Segment(1, 1, flags, 1000, b"", 0, 4000, 7), destination=destination, mac=mac)
    assert not lan.sent()


def test_a_syn_in_a_broadcast_frame_is_discarded() -> None:
    """RFC9293-MUST-57: the link layer's broadcast counts, too."""
    lan = Lan()
    lan.stack.tcp_listen(None, 7)
    lan.tcp(Segment(1, 0, SYN, 1000, b"", 0, 4000, 7), mac=b"\xff" * 6)
    assert not lan.sent()


@pytest.mark.parametrize(
    "source",
    [bytes([10, 77, 0, 255]), bytes([255] * 4), bytes([224, 0, 0, 1]), bytes(4), bytes([127, 0, 0, 1]), HOST],
)
def test_a_syn_from_an_invalid_address_is_ignored(source: bytes) -> None:
    """RFC9293-MUST-63, RFC1122-4.2.3.10: broadcast, multicast, unspecified, loopback, our own."""
    lan = Lan()
    lan.stack.tcp_listen(None, 7)
    lan.tcp(Segment(1, 0, SYN, 1000, b"", 0, 4000, 7), source=source)
    assert not lan.sent()


def test_ip_options_are_skipped() -> None:
    """RFC9293-MUST-50: timestamps, record route and unknown ones change nothing for TCP."""
    lan = Lan()
    socket, _, segment = lan.established()
    for number, option in enumerate(
        (b"\x44\x08\x05\x00" + bytes(4), b"\x07\x07\x04" + bytes(4) + b"\x00", b"\x9f\x04ab")
    ):
        payload = b"%d" % number
        lan.tcp(segment(seq=1001 + number, payload=payload), options=option)
    assert socket.recv() == b"012"


# -- ICMP


@pytest.mark.parametrize(
    "message",
    [
        *(lambda packet, code=code: icmp.Unreachable(code, packet) for code in (0, 1, 5)),
        *(lambda packet, code=code: icmp.TimeExceeded(code, packet) for code in (0, 1)),
        lambda packet: icmp.ParameterProblem(0, 0, packet),
    ],
)
@pytest.mark.parametrize("opening", [False, True])
def test_soft_errors_are_told_and_end_nothing(
    message: Callable[[bytes], icmp.IcmpMessage], opening: bool
) -> None:
    """RFC9293-MUST-54, RFC9293-MUST-56, RFC9293-MUST-47, RFC9293-SHLD-25, RFC9293-SHLD-20.

    It is directed to the connection that caused it, and kept there until the application asks.
    """
    lan = Lan()
    if opening:
        socket, syn = lan.connect()
        packet = quoted(syn)
    else:
        socket, syn, _ = lan.established()
        socket.send(b"x" * 100)
        lan.sent()
        packet = quoted(syn, 1, b"x" * 100)
    other, _ = lan.connect(81)
    heard: list[SocketEvent] = []
    socket.on_event = lambda _, event: heard.append(event)
    lan.ip(icmp.PROTOCOL, icmp.build(message(packet)))
    assert socket.state is (SYN_SENT if opening else ESTABLISHED)
    assert socket.error is None
    assert socket.soft_error
    assert not other.soft_error
    assert not heard


@pytest.mark.parametrize("code", [icmp.PROTOCOL_UNREACHABLE, icmp.PORT_UNREACHABLE])
def test_hard_errors_end_an_attempt_only(code: int) -> None:
    """RFC9293-SHLD-26: opening fails at once with the reason; what is established goes on (RFC 5927)."""
    lan = Lan()
    socket, syn = lan.connect()
    lan.ip(icmp.PROTOCOL, icmp.build(icmp.Unreachable(code, quoted(syn))))
    assert isinstance(socket.error, Unreachable)
    assert socket.state is CLOSED
    lan = Lan()
    socket, syn, _ = lan.established()
    socket.send(b"x" * 100)
    lan.sent()
    lan.ip(icmp.PROTOCOL, icmp.build(icmp.Unreachable(code, quoted(syn, 1, b"x" * 100))))
    assert socket.state is ESTABLISHED
    assert socket.soft_error


def test_an_error_about_a_segment_that_was_never_sent_is_ignored() -> None:
    """RFC9293-MUST-54: a host that quotes a number that is not outstanding has not seen our segment."""
    lan = Lan()
    socket, syn = lan.connect()
    lan.ip(icmp.PROTOCOL, icmp.build(icmp.Unreachable(icmp.PORT_UNREACHABLE, quoted(syn, 100_000))))
    assert socket.state is SYN_SENT
    assert not socket.soft_error


def test_source_quench_is_discarded() -> None:
    """RFC9293-MUST-55: silently, whatever it quotes."""
    lan = Lan()
    socket, syn, _ = lan.established()
    socket.send(b"x" * 100)
    lan.sent()
    window = socket.tcb.delegated.c_wnd
    lan.ip(icmp.PROTOCOL, icmp.build(icmp.Other(4, 0, bytes(4) + quoted(syn, 1))))
    assert socket.tcb.delegated.c_wnd == window
    assert socket.state is ESTABLISHED
    assert not socket.soft_error
    assert not lan.sent()


def test_fragmentation_needed_makes_smaller_segments() -> None:
    """RFC9293-3.7.2-PMTUD: packets have DF set, and what was too large goes out again in smaller pieces."""
    lan = Lan()
    socket, syn, _ = lan.established()
    socket.send(b"x" * 1460)
    header, segment = lan.only()
    assert header.dont_fragment
    assert len(segment.payload) == 1460
    error = icmp.Unreachable(icmp.FRAGMENTATION_NEEDED, quoted(syn, 1, b"x" * 100), next_hop_mtu=576)
    lan.ip(icmp.PROTOCOL, icmp.build(error))
    lan.run(3.0)
    sizes = [len(s.payload) for _, s in lan.sent()]
    assert sizes
    assert max(sizes) == 536


# -- what the application sets


@pytest.mark.parametrize(("tos", "ttl"), [(0, 64), (0x28, 1), (0xB8, 255)])
def test_diffserv_and_ttl_reach_the_packets(tos: int, ttl: int) -> None:
    """RFC9293-MUST-48, RFC9293-MUST-49, RFC9293-SHLD-22: unchanged, from the SYN on."""
    lan = Lan()
    options = SocketOptions(tos=tos, ttl=ttl, nagle=False, timestamps=False)
    socket = lan.stack.tcp_connect(("10.77.0.2", 80), options=options)
    header, syn = lan.only()
    assert (header.tos, header.ttl) == (tos, ttl)
    answer = Segment(1, syn.seq + 1 & 0xFFFF_FFFF, SYN | ACK, 1000, b"", 0, 80, syn.source_port)
    lan.tcp(answer)
    socket.send(b"data")
    for header, _ in lan.sent():
        assert (header.tos, header.ttl) == (tos, ttl)


def test_keepalive_is_off_by_default_and_its_interval_is_two_hours() -> None:
    """RFC9293-MUST-25, RFC9293-MUST-28: for who does not ask, and for who asks without an interval."""
    lan = Lan()
    socket, _ = lan.connect(options=SocketOptions())
    assert not socket.tcb.cached.flags & TCP_FLAG_KEEP_ALIVE_ENABLED
    asked, _ = lan.connect(81, options=SocketOptions(keepalive=True))
    assert asked.tcb.cached.flags & TCP_FLAG_KEEP_ALIVE_ENABLED
    assert asked.tcb.cached.ka_timeout >= 7200 * lan.stack.settings.parameters.ticks_per_second


def test_a_full_send_buffer_takes_no_more() -> None:
    """RFC9293-3.10.2-ROOM: how much was taken is told, and when there is room again."""
    lan = Lan()
    events: list[SocketEvent] = []
    socket, _, segment = lan.established(options=SocketOptions(sndbuf=1000, timestamps=False, nagle=False))
    socket.on_event = lambda _, event: events.append(event)
    assert socket.send(b"x" * 1500) == 1000
    assert socket.send(b"x") == 0
    lan.sent()
    lan.tcp(segment(ack=1001))
    assert SocketEvent.WRITABLE in events
    assert socket.send(b"x") == 1


# -- calls on what is closed


def test_calls_on_a_closed_connection_are_errors_or_nothing() -> None:
    """RFC9293-3.10.3-CLOSED, RFC9293-3.10.4-CLOSED, RFC9293-3.10.5-CLOSED: no segment comes of them."""
    lan = Lan()
    socket, _, _ = lan.established()
    socket.abort()
    lan.sent()
    with pytest.raises(SocketError):
        socket.recv()
    with pytest.raises(SocketError):
        socket.send(b"x")
    socket.shutdown()
    socket.close()
    socket.abort()
    assert not lan.sent()
    with pytest.raises(SocketError):
        socket.recv()


def test_send_after_shutdown_is_an_error() -> None:
    """RFC9293-3.10.2-CLOSING: the application gets it from its own call."""
    lan = Lan()
    socket, _, _ = lan.established()
    socket.shutdown()
    with pytest.raises(BrokenPipe):
        socket.send(b"x")


def test_closing_a_listener() -> None:
    """RFC9293-3.10.4-LISTEN, RFC9293-3.10.5-LISTEN.

    New connections are refused, and those that wait to be accepted are reset.
    """
    lan = Lan()
    listener = lan.stack.tcp_listen(None, 7)
    lan.tcp(Segment(1, 0, SYN, 1000, b"", 0, 4000, 7))
    isn = lan.only()[1].seq
    lan.tcp(Segment(2, isn + 1 & 0xFFFF_FFFF, ACK, 1000, b"", 0, 4000, 7))
    listener.close()
    (reset,) = [s for _, s in lan.sent()]
    assert reset.flags & RST
    assert reset.destination_port == 4000
    lan.tcp(Segment(1, 0, SYN, 1000, b"", 0, 4001, 7))
    assert lan.only()[1].flags == RST | ACK


def test_closing_with_data_unread_resets() -> None:
    """RFC9293-MAY-1, RFC9293-SHLD-3: the remote host learns that what it sent is lost."""
    lan = Lan()
    socket, _, segment = lan.established()
    lan.tcp(segment(payload=b"never read"))
    socket.close()
    assert any(s.flags & RST for _, s in lan.sent())


def test_data_after_close_resets() -> None:
    """RFC9293-MAY-1, RFC9293-SHLD-3: the application cannot read it any more."""
    lan = Lan()
    socket, _, segment = lan.established()
    socket.close()
    lan.sent()
    lan.tcp(segment(ack=2, payload=b"too late"))
    assert any(s.flags & RST for _, s in lan.sent())


# -- TIME-WAIT


def waiting(*, timestamps: bool = True) -> tuple[Lan, int]:
    """A listener's connection from port 4000 that the host has closed first: TIME-WAIT; the last SND.NXT."""
    lan = Lan()
    listener = lan.stack.tcp_listen(None, 7)
    stamp: dict[str, Any] = {"ts_val": 1000} if timestamps else {}
    lan.tcp(Segment(5000, 0, SYN, 1000, b"", 0, 4000, 7, **stamp))
    isn = lan.only()[1].seq

    def gets(flags: int, seq: int, ack: int) -> None:
        lan.tcp(Segment(seq, isn + ack & 0xFFFF_FFFF, flags, 1000, b"", 0, 4000, 7, **stamp))

    gets(ACK, 5001, 1)
    socket = listener.accept()
    assert socket is not None
    socket.shutdown()
    lan.sent()
    gets(FIN | ACK, 5001, 2)
    assert socket.state is TIME_WAIT
    lan.sent()
    return lan, isn + 2 & 0xFFFF_FFFF


def test_a_syn_with_a_newer_timestamp_takes_over_from_time_wait() -> None:
    """RFC9293-SHLD-4, RFC9293-MAY-2, RFC6191-2-TS.

    Also with a number below the old one's; ours begins beyond.
    """
    lan, last = waiting()
    lan.tcp(Segment(100, 0, SYN, 1000, b"", 0, 4000, 7, ts_val=2000))
    answer = lan.only()[1]
    assert answer.flags & (SYN | ACK) == SYN | ACK
    assert answer.ack == 101
    assert 0 < (answer.seq - last) & 0xFFFF_FFFF < 0x8000_0000


def test_a_syn_beyond_the_old_numbers_takes_over_from_time_wait() -> None:
    """RFC6191-2-SEQ, RFC9293-MAY-2: if either end has no timestamps, or with an equal one."""
    for timestamps, ts_val in ((False, None), (True, None), (True, 1000)):
        lan, _ = waiting(timestamps=timestamps)
        lan.tcp(Segment(900_000, 0, SYN, 1000, b"", 0, 4000, 7, ts_val=ts_val))
        assert lan.only()[1].flags & (SYN | ACK) == SYN | ACK


def test_an_old_syn_in_time_wait_opens_nothing() -> None:
    """RFC6191-2-OLD, RFC9293-MAY-2: an old timestamp, or an old number without a newer one."""
    for timestamps, seq, ts_val in (
        (False, 4000, None),
        (True, 4000, None),
        (True, 4000, 1000),
        (True, 900_000, 500),
    ):
        lan, _ = waiting(timestamps=timestamps)
        lan.tcp(Segment(seq, 0, SYN, 1000, b"", 0, 4000, 7, ts_val=ts_val))
        assert not [s for _, s in lan.sent() if s.flags & SYN]
