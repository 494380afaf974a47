"""Two stacks, and a third station on their segment that forges segments of their connection."""

from __future__ import annotations

import random

import pytest

from ndisbus.net.checksum import pseudo_header
from ndisbus.net.ethernet import ETHERTYPE_IPV4, EthernetHeader
from ndisbus.net.ipv4 import Ipv4Header
from ndisbus.net.segment import ACK, FIN, SYN, Segment
from ndisbus.net.tcp import PROTOCOL, build
from tests.support.net_world import NetWorld


@pytest.mark.parametrize("flags", [0, FIN, SYN, SYN | ACK, ACK])
def test_one_forged_segment_with_a_timestamp_far_ahead_stops_nothing(flags: int) -> None:
    """RFC7323-4.3-LAST: the attacker knows the sequence numbers, and guesses the ACK wrong.

    Taken for TS.Recent, its timestamp would make PAWS drop all that the remote end sends from then on.
    """
    world = NetWorld()
    a, b = world.host("a"), world.host("b")
    server = b.network.listen((None, 7))
    client = a.network.connect(("10.77.0.2", 7))
    served = server.accept()[0]
    client.sendall(b"before")
    assert served.recv_exactly(6) == b"before"
    world.run(1.0)
    machine = served.socket.machine
    assert machine is not None
    assert machine.stamped
    d = machine.delegated
    for _ in range(3):
        forged = Segment(
            d.rcv_nxt,
            (d.snd_max + 100_000) & 0xFFFFFFFF if flags & ACK else 0,
            flags,
            1000,
            b"" if flags & SYN else b"forged",
            0,
            machine.const.remote_port,
            machine.const.local_port,
            ts_val=(d.ts_recent + 0x7000_0000) & 0xFFFFFFFF,
            ts_ecr=0,
        )
        source, destination = bytes((10, 77, 0, 1)), bytes((10, 77, 0, 2))
        payload = build(forged, pseudo_header(source, destination, PROTOCOL))
        packet = Ipv4Header(source, destination, PROTOCOL).build(payload)
        ethernet = EthernetHeader(b.interface.mac, a.interface.mac, ETHERTYPE_IPV4)
        a.tap.send(ethernet.build() + packet, world.now())
        world.run(0.1)
    data = random.Random(1).randbytes(50_000)
    client.sendall(data)
    assert served.recv_exactly(len(data)) == data
    assert client.socket.tcb.delegated.retransmit_count == 0
