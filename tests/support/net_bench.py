"""One network stack on a bench: a test hands it frames and looks at what it sends.

The stack is 10.77.0.1 and fd77::1 at 02:00:00:00:00:01; the other end, which the test plays, is 10.77.0.2
and fd77::2 at 02:00:00:00:00:02.
"""

from __future__ import annotations

import random
from ipaddress import ip_address
from typing import Any

from hoststack.model.objects import Neighbor, Path, Tcb
from hoststack.net import Interface, NetStack, StackHooks
from hoststack.net.detection import EMULATED, Conflict, DetectionTiming
from ndisbus.net import arp, icmp, icmpv6, ipv4, ipv6, tcp
from ndisbus.net.checksum import pseudo_header
from ndisbus.net.ethernet import ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, EthernetHeader
from ndisbus.net.nd import NeighborAdvertisement
from ndisbus.net.peek import FrameInfo, peek
from ndisbus.net.segment import ACK, SYN, Segment
from ndisbus.tcp.settings import TcpSettings

MAC = bytes.fromhex("020000000001")
REMOTE_MAC = bytes.fromhex("020000000002")
IP, REMOTE = ip_address("10.77.0.1").packed, ip_address("10.77.0.2").packed
IP6, REMOTE6 = ip_address("fd77::1").packed, ip_address("fd77::2").packed


class Recorder(StackHooks):
    """Remembers what the stack asked of the chimney."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def segments(self, tcb: Tcb, segments: Any) -> bool:
        self.calls.append(("segments", tcb, list(segments)))
        return True

    def disconnect(self, tcb: Tcb, *, abortive: bool) -> None:
        self.calls.append(("disconnect", tcb, abortive))

    def path_mtu(self, path: Path) -> None:
        self.calls.append(("path_mtu", path))

    def neighbor_changed(self, neighbor: Neighbor) -> None:
        self.calls.append(("neighbor_changed", neighbor))

    def relink(self, paths: Any, neighbor: Neighbor) -> None:
        self.calls.append(("relink", list(paths), neighbor))

    def neighbor_delayed(self, neighbor: Neighbor) -> None:
        self.calls.append(("neighbor_delayed", neighbor))

    def neighbor_lost(self, neighbor: Neighbor) -> None:
        self.calls.append(("neighbor_lost", neighbor))


class Bench:
    """The stack, its interface, and the frames that it sent since they were last taken."""

    #: For tests that record them.
    conflicts: list[Conflict]

    def __init__(
        self,
        *,
        announce: bool = False,
        mtu: int = 1500,
        vlan_id: int = 0,
        timing: DetectionTiming = EMULATED,
        loops: bool = False,
    ) -> None:
        self.now = 100.0
        self.hooks = Recorder()
        self.frames: list[bytes] = []
        self.stack = NetStack(TcpSettings(), random.Random(1), hooks=self.hooks, timing=timing, now=self.now)
        self.interface = Interface(
            "eth0",
            MAC,
            mtu,
            ["10.77.0.1/24", "fd77::1/64"] if mtu >= 1280 else ["10.77.0.1/24"],
            self.frames.extend,
            announce=announce,
            vlan_id=vlan_id,
            loops=loops,
        )
        self.stack.add_interface(self.interface)
        self.stack.flush()

    # -- time and frames

    def run(self, seconds: float) -> None:
        """Let time pass, timers included."""
        end = self.now + seconds
        while (due := self.stack.next_deadline()) is not None and due <= end:
            self.now = max(self.now, due)
            self.stack.on_timer(self.now)
        self.now = end
        self.stack.on_timer(end)

    def take(self) -> list[bytes]:
        """The frames that were sent, once."""
        frames = self.frames[:]
        self.frames.clear()
        return frames

    def give(self, *frames: bytes) -> list[bytes]:
        """Let frames arrive; what the stack sends in return."""
        self.stack.receive(self.interface, list(frames), self.now)
        return self.take()

    def count(self, reason: str) -> int:
        return self.stack.counters[reason]

    # -- making frames

    def frame(self, ethertype: int, packet: bytes, *, to: bytes = MAC, source: bytes = REMOTE_MAC) -> bytes:
        return EthernetHeader(to, source, ethertype).build() + packet

    def ipv4(self, protocol: int, payload: bytes, *, to: bytes = MAC, **header: Any) -> bytes:
        """A frame from the remote host."""
        values: dict[str, Any] = {"source": REMOTE, "destination": IP, "protocol": protocol} | header
        return self.frame(ETHERTYPE_IPV4, ipv4.Ipv4Header(**values).build(payload), to=to)

    def ipv6(self, next_header: int, payload: bytes, *, to: bytes = MAC, **header: Any) -> bytes:
        values: dict[str, Any] = {"source": REMOTE6, "destination": IP6, "next_header": next_header} | header
        return self.frame(ETHERTYPE_IPV6, ipv6.Ipv6Header(**values).build(payload), to=to)

    def icmp(
        self, message: Any, *, source: bytes = REMOTE, destination: bytes = IP, to: bytes = MAC
    ) -> bytes:
        return self.ipv4(icmp.PROTOCOL, icmp.build(message), source=source, destination=destination, to=to)

    def icmpv6(
        self,
        message: Any,
        *,
        source: bytes = REMOTE6,
        destination: bytes = IP6,
        hop_limit: int = 255,
        to: bytes = MAC,
    ) -> bytes:
        payload = icmpv6.build(message, source, destination)
        return self.ipv6(
            icmpv6.PROTOCOL, payload, source=source, destination=destination, hop_limit=hop_limit, to=to
        )

    def tcp(self, segment: Segment, *, source: bytes = REMOTE, destination: bytes = IP) -> bytes:
        payload = tcp.build(segment, pseudo_header(source, destination, tcp.PROTOCOL))
        if len(source) == 4:
            return self.ipv4(tcp.PROTOCOL, payload, source=source, destination=destination)
        return self.ipv6(tcp.PROTOCOL, payload, source=source, destination=destination)

    def arp(
        self, operation: int, *, mac: bytes = REMOTE_MAC, ip: bytes = REMOTE, target: bytes = IP
    ) -> bytes:
        to = MAC if operation == arp.REPLY else b"\xff" * 6
        packet = arp.ArpPacket(operation, mac, ip, MAC if operation == arp.REPLY else bytes(6), target)
        return self.frame(ETHERTYPE_ARP, packet.build(), to=to, source=mac)

    def know_remote(self) -> None:
        """Let the stack know the remote host's link address; the entries of both families are reachable."""
        for address in (REMOTE, REMOTE6):
            entry = self.stack.neighbors.get(self.interface, address)
            entry.heard(REMOTE_MAC, self.now)
            entry.confirm(self.now)

    # -- reading frames

    def segments(self, frames: list[bytes] | None = None) -> list[Segment]:
        """The TCP segments among frames (default: those sent since), which must be well formed."""
        found = []
        for frame in self.take() if frames is None else frames:
            info = peek(frame)
            if info.protocol == tcp.PROTOCOL:
                found.append(tcp.parse_frame(frame, info))
        return found

    def messages(self, frames: list[bytes]) -> list[Any]:
        """The ICMP and ICMPv6 messages among frames."""
        found: list[Any] = []
        for frame in frames:
            info = peek(frame)
            body = frame[info.l4 : info.end]
            if info.version == 4 and info.protocol == icmp.PROTOCOL:
                found.append(icmp.parse(body))
            elif info.version == 6 and info.protocol == icmpv6.PROTOCOL:
                found.append(icmpv6.parse(body, info.source, info.destination, frame[info.l3 + 7]))
        return found

    def info(self, frame: bytes) -> FrameInfo:
        return peek(frame)

    # -- conversations

    def answer_resolution(self) -> None:
        """Answer what the stack asks for the remote host's address."""
        replies = []
        for frame in self.take():
            info = peek(frame)
            if info.ethertype == ETHERTYPE_ARP:
                question = arp.parse(frame[info.l3 :])
                replies.append(self.arp(arp.REPLY, ip=question.target_ip))
            elif info.version == 6:
                for message in self.messages([frame]):
                    answer = NeighborAdvertisement(message.target, REMOTE_MAC, solicited=True, override=True)
                    replies.append(self.icmpv6(answer, source=message.target))
        self.frames += self.give(*replies)

    def connected(self, *, options: Any = None, port: int = 80, **syn_ack: Any) -> tuple[Any, Segment]:
        """A socket of the stack, connected to the remote host, and the SYN that it sent."""
        self.know_remote()
        more = {} if options is None else {"options": options}
        socket = self.stack.tcp_connect(("10.77.0.2", port), **more)
        self.stack.flush()
        (syn,) = self.segments()
        reply = Segment(
            9000,
            (syn.seq + 1) & 0xFFFFFFFF,
            SYN | ACK,
            65535,
            source_port=port,
            destination_port=syn.source_port,
            mss=1460,
            **syn_ack,
        )
        self.give(self.tcp(reply))
        assert socket.connected
        return socket, syn
