"""Which frames are whose, and what the target's own look like."""

from __future__ import annotations

from typing import Any

import pytest

from ndisbus.ddi.state_types import OffloadStateType
from ndisbus.net.ethernet import ETHERTYPE_ARP, ETHERTYPE_IPV4, EthernetHeader
from ndisbus.net.fragments import fragment
from ndisbus.net.ipv4 import Ipv4Header
from ndisbus.net.peek import peek
from ndisbus.net.segment import ACK, PSH, Segment
from ndisbus.state.images import NeighborOffloadStateCached, PathOffloadStateCached, TcpOffloadStateCached
from target import TargetConfig
from tests.support.wired import FAR_MAC, NIC_MAC

V6 = {"src": bytes.fromhex("fd77" + 13 * "00" + "01"), "dst": bytes.fromhex("fd77" + 13 * "00" + "02")}
OTHER_MAC = b"\x02\x00\x00\x00\x00\x77"


def data(w: Any, t: Any, payload: bytes = b"x", **kw: Any) -> bytes:
    """A data segment from the remote end, the next in order."""
    context = w.ctx_of(t)
    result: bytes = w.say(t, ACK | PSH, context.delegated.rcv_nxt, 1000, payload, **kw)
    return result


# -- demultiplexing ----------------------------------------------------------------------------


@pytest.mark.parametrize("path", [{}, V6], ids=["IPv4", "IPv6"])
def test_r_tree_12_a_segment_finds_its_connection_directly(w: Any, path: dict[str, bytes]) -> None:
    """R-TREE-12: of two connections on a path and one on another path, the one that is meant gets it."""
    a = w.live(path=path)
    p = a.below[1]
    b = w.tcp(local=5001, rcv_nxt=7000, snd_una=1000, snd_nxt=1000, snd_max=1000, snd_wnd=9999)
    assert w.statuses("initiate", [(p, [b])]) == ["SUCCESS"] * 2
    other = w.live(path={**path, "src": bytes(reversed(path.get("src", b"\x0a\0\0\1")))})
    assert data(w, b, b"for b")
    assert w.answer() == b"for b"
    assert w.ctx_of(b).delegated.rcv_nxt == 7005
    assert [w.ctx_of(t).delegated.rcv_nxt for t in (a, other)] == [5000, 5000]
    assert w.ordinary() == []


def test_what_belongs_to_no_offloaded_connection_is_the_hosts(w: Any) -> None:
    """Another port, another address: untouched, in one indication, in order."""
    t = w.live()
    frames = [
        w.builder(t, remote=81).frame(Segment(1, 1, ACK, 1, b"a")),
        w.builder(t, addresses=(b"\x0a\0\0\1", b"\x0a\0\0\3")).frame(Segment(1, 1, ACK, 1, b"b")),
    ]
    w.put(*frames)
    assert len(w.calls) == 1
    assert w.ordinary() == frames
    assert w.heard() == []


def test_tables_follow_the_connections(w: Any) -> None:
    """A connection that was terminated is the host's; one that takes its place is found."""
    t = w.live()
    data(w, t)
    w.answer()
    w.heard()
    assert w.statuses("terminate", [t]) == ["SUCCESS"]
    late = w.builder(w.live(path={"src": b"\x0b\0\0\1"}), addresses=(b"\x0a\0\0\1", b"\x0a\0\0\2"))
    frame = late.frame(Segment(5001, 1000, ACK, 1, b"y"))
    w.put(frame)
    assert w.ordinary() == [frame]
    again = w.tcp(rcv_nxt=5001, snd_una=1000, snd_nxt=1000, snd_max=1000, snd_wnd=9999)
    assert w.statuses("initiate", [(t.below[1], [again])]) == ["SUCCESS"] * 2
    w.put(frame)
    assert w.answer() == b"y"
    w.run("terminate", [again])
    w.run("terminate", [(None, [t.below[1]])])
    assert w.adapter.hardware.demux.find(peek(frame).key, None) == (None, False)


def test_r_ip_05_arp_and_icmp_go_to_the_host(w: Any) -> None:
    """R-IP-05, R-RFC-03: ICMP for path MTU is not an exception, even about an offloaded connection."""
    t = w.live()
    arp = EthernetHeader(b"\xff" * 6, FAR_MAC, ETHERTYPE_ARP).build() + bytes(28)
    inner = w.builder(t).frame(Segment(1, 1, ACK, 1))[14:42]
    packet = Ipv4Header(b"\x0a\0\0\2", b"\x0a\0\0\1", 1).build(b"\3\4" + bytes(6) + inner)
    too_big = EthernetHeader(NIC_MAC, FAR_MAC, ETHERTYPE_IPV4).build() + packet
    w.put(arp, too_big)
    assert w.ordinary() == [arp, too_big]


def test_r_ip_03_fragments_go_to_the_host(w: Any) -> None:
    """R-IP-03, R-RFC-03: each of them, the first one with its ports, too; nothing is put together here."""
    t = w.live()
    whole = w.builder(t).frame(Segment(5000, 1000, ACK, 65535, bytes(900)))
    # A router on the path was allowed to fragment it.
    packet = Ipv4Header(b"\x0a\0\0\2", b"\x0a\0\0\1", 6, identification=5).build(whole[34:])
    frames = [whole[:14] + p for p in fragment(packet, 576)]
    assert len(frames) == 2
    w.put(*frames)
    assert w.ordinary() == frames
    assert w.ctx_of(t).delegated.rcv_nxt == 5000


def test_r_ip_04_packets_with_options_go_to_the_host(w: Any) -> None:
    """R-IP-04."""
    t = w.live()
    plain = w.builder(t).frame(Segment(5000, 1000, ACK, 65535, b"x"))
    header = Ipv4Header(b"\x0a\0\0\2", b"\x0a\0\0\1", 6, options=b"\x94\x04\0\0")
    frame = plain[:14] + header.build(plain[34:])
    w.put(frame)
    assert w.ordinary() == [frame]
    assert w.ctx_of(t).flow is None


@pytest.mark.parametrize("supported", [0, 1])
def test_ipv6_extension_headers_are_walked_if_that_is_enabled(wired: Any, supported: int) -> None:
    w = wired(TargetConfig(support_ipv6_extension_headers=True))
    w.enable(support_ipv6_extension_headers=supported)
    t = w.live(path=V6)
    plain = w.builder(t).frame(Segment(5000, 1000, ACK, 65535, b"x"))
    size = int.from_bytes(plain[18:20], "big") + 8
    hop_by_hop = b"\x06\0\x01\x04\0\0\0\0"
    frame = plain[:18] + size.to_bytes(2, "big") + b"\0" + plain[21:54] + hop_by_hop + plain[54:]
    w.put(frame)
    assert w.ordinary() == ([] if supported else [frame])
    assert w.ctx_of(t).delegated.rcv_nxt == 5000 + supported


# -- Ethernet addresses ------------------------------------------------------------------------


def test_r_state_10_without_a_source_address_the_interfaces_own_is_used(w: Any) -> None:
    """R-STATE-10."""
    t = w.live()
    data(w, t, to=NIC_MAC)
    w.advance(1)
    [frame] = w.far.frames()
    assert frame[:12] == FAR_MAC + NIC_MAC


def test_r_state_09_a_source_address_of_the_host_is_used_for_everything(w: Any) -> None:
    """R-STATE-09: and frames to it are for us, as are those to the interface."""
    t = w.live(neighbor={"mac": OTHER_MAC})
    for to in (OTHER_MAC, NIC_MAC):
        data(w, t, to=to)
        w.advance(1)
        [frame] = w.far.frames()
        assert frame[:12] == FAR_MAC + OTHER_MAC


def test_a_source_address_that_is_none_of_ethernet_cannot_be_configured(w: Any) -> None:
    n = w.neighbor(mac=bytes(range(1, 9)))
    assert w.statuses("initiate", [n]) == ["OFFLOAD_HW_ADDRESS_ENTRIES"]


def test_r_state_11_frames_to_a_group_are_for_the_connection_too(w: Any) -> None:
    """R-STATE-11: multicast and broadcast addresses; frames for other stations are dropped."""
    t = w.live()
    for to in (b"\x01\x00\x5e\x00\x00\x01", b"\xff" * 6):
        data(w, t, b"g", to=to)
        assert w.answer() == b"g"
    before = w.ctx_of(t).delegated.rcv_nxt
    data(w, t, to=b"\x02\x00\x00\x00\x00\x55")
    assert w.ctx_of(t).delegated.rcv_nxt == before
    assert w.ordinary() == []
    assert w.station.counters["for another station"] == 1


def test_several_adapters_have_addresses_of_their_own() -> None:
    config = TargetConfig(adapters=("a", "b", "c"), mac=b"\x02\x00\x00\x00\x00\xff")
    macs = [config.of_adapter(name).mac.hex() for name in config.adapters]
    assert macs == ["0200000000ff", "020000000100", "020000000101"]


# -- 802.1Q ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("vlan", "priority", "tag"),
    [(0, 0, None), (0, 5, 0xA000), (7, 0, 0x0007), (7, 6, 0xC007)],
)
@pytest.mark.parametrize("path", [{}, V6], ids=["IPv4", "IPv6"])
def test_r_vlan_05_tags_of_frames_sent(
    w: Any, vlan: int, priority: int, tag: int | None, path: dict[str, bytes]
) -> None:
    """R-VLAN-05: a tag for a VLAN or a priority, and else none; CFI is 0."""
    t = w.live(neighbor={"vlan": vlan}, cached={"user_priority": priority}, path=path)
    w.post("send", t, w.nbl(b"data"))
    [frame] = w.far.frames()
    ethertype = b"\x86\xdd" if path else b"\x08\x00"
    expected = ethertype if tag is None else b"\x81\x00" + tag.to_bytes(2, "big") + ethertype
    assert frame[12 : 12 + len(expected)] == expected


@pytest.mark.parametrize(
    ("vlan", "tag", "accepted"),
    [
        (0, None, True),
        (0, 0, True),
        (0, 9, True),
        (7, 7, True),
        (7, None, False),
        (7, 0, False),
        (7, 8, False),
    ],
)
def test_r_vlan_06_tags_of_frames_received(w: Any, vlan: int, tag: int | None, accepted: bool) -> None:
    """R-VLAN-06, R-VLAN-07: no filter without a VlanId; with one, only frames with that tag; dropped, and no
    business of the host. A priority changes nothing.
    """
    t = w.live(neighbor={"vlan": vlan})
    priority = 0 if tag is None else 3
    frame = w.builder(t, vlan=tag or 0, priority=priority).frame(Segment(5000, 1000, ACK, 65535, b"x"))
    assert (frame[12:14] == b"\x81\x00") == (tag is not None)
    w.put(frame)
    assert w.ctx_of(t).delegated.rcv_nxt == 5000 + accepted
    assert w.ordinary() == []


def test_r_vlan_01_the_same_connection_in_two_vlans(wired: Any) -> None:
    """R-VLAN-01: tag zero and several others at once, on one interface, told apart by their tags."""
    w = wired(TargetConfig(vlan_entries=2))
    ts = {vlan: w.live(neighbor={"vlan": vlan}) for vlan in (0, 7, 8)}
    for vlan, t in ts.items():
        data(w, t, bytes([vlan]) * (vlan + 1), vlan=vlan)
        assert w.answer() == bytes([vlan]) * (vlan + 1)
    assert [w.ctx_of(t).delegated.rcv_nxt for t in ts.values()] == [5001, 5008, 5009]


def test_r_vlan_08_identifiers_are_read_when_the_adapter_is_initialised(make: Any) -> None:
    """R-VLAN-08: the configuration stands for the registry; a change counts from the next initialisation."""
    h = make(TargetConfig(interface_vlans=frozenset({5})))
    assert h.statuses("initiate", [h.neighbor(vlan=6)]) == ["OFFLOAD_VLAN_MISMATCH"]
    h.driver.config = TargetConfig(interface_vlans=frozenset({6}))
    assert h.statuses("initiate", [h.neighbor(vlan=6)]) == ["OFFLOAD_VLAN_MISMATCH"]
    h.ask("MiniportHaltEx", [h.ctx, 0])
    h.initialize("nic0", 0x10000000010)
    h.enable()
    assert h.statuses("initiate", [h.neighbor(vlan=6)]) == ["SUCCESS"]


# -- IP ----------------------------------------------------------------------------------------


def test_r_ip_01_df_and_r_ip_02_the_upper_half_of_the_identifications(w: Any) -> None:
    """R-IP-01, R-IP-02: every datagram, even a full one, and more of them than the half has numbers."""
    t = w.live(cached={"ttl_or_hop_limit": 77, "tos_or_traffic_class": 0x28})
    w.adapter.ip_ids._next_4 = 0x7FFE
    seen = []
    for i in range(4):
        w.post("send", t, w.nbl(bytes(1460)))
        [frame] = w.far.frames()
        assert frame[14 + 6] == 0x40
        assert frame[14 + 7] == 0
        assert (frame[14 + 1], frame[14 + 8]) == (0x28, 77)
        assert len(frame) == 1514
        seen.append(int.from_bytes(frame[18:20], "big"))
        w.say(t, ACK, 5000, 1000 + 1460 * (i + 1))
    assert seen == [0xFFFE, 0xFFFF, 0x8000, 0x8001]


def test_headers_of_ipv6_come_from_the_state(w: Any) -> None:
    t = w.live(path=V6, cached={"ttl_or_hop_limit": 9, "tos_or_traffic_class": 0x1C, "flow_label": 0xABCDE})
    w.post("send", t, w.nbl(b"data"))
    [frame] = w.far.frames()
    assert frame[14:18].hex() == "61cabcde"
    assert frame[21] == 9
    assert frame[22:54] == V6["src"] + V6["dst"]


# -- updates of what headers are made from ----------------------------------------------------


def test_r_upd_07_a_new_mac_address_of_the_next_hop_is_used_from_the_next_frame_on(w: Any) -> None:
    """R-UPD-07: the same neighbor, another address."""
    t = w.live()
    n = t.below[0]
    w.post("send", t, w.nbl(b"a"))
    new = NeighborOffloadStateCached(OTHER_MAC, 0).pack()
    kind = int(OffloadStateType.NeighborOffloadCachedState)
    assert w.statuses("update", [n], types={n: kind}, states={n: new}) == ["SUCCESS"]
    w.post("send", t, w.nbl(b"b"))
    assert [f[:6] for f in w.far.frames()] == [FAR_MAC, OTHER_MAC]


def test_r_upd_05_a_relinked_path_sends_through_its_new_neighbor(w: Any) -> None:
    """R-UPD-05: destination, source and tag are those of the new neighbor, for connections that run, too."""
    t = w.live()
    w.post("send", t, w.nbl(b"a"))
    new = w.neighbor(vlan=7, mac=OTHER_MAC, dest=b"\x02\0\0\0\0\x0a")
    assert w.statuses("initiate", [new]) == ["SUCCESS"]
    p = t.below[1]
    kinds = {
        new: int(OffloadStateType.NeighborOffloadCachedState),
        p: int(OffloadStateType.Ip4OffloadCachedState),
    }
    states = {
        new: NeighborOffloadStateCached(b"\x02\0\0\0\0\x0a", 0).pack(),
        p: PathOffloadStateCached(1500).pack(),
    }
    assert w.statuses("update", [(new, [p])], types=kinds, states=states) == ["SUCCESS"] * 2
    w.post("send", t, w.nbl(b"b"))
    first, second = w.far.frames()
    assert first[:14] == FAR_MAC + NIC_MAC + b"\x08\x00"
    assert second[:18] == b"\x02\0\0\0\0\x0a" + OTHER_MAC + b"\x81\x00\x00\x07\x08\x00"
    data(w, t, vlan=7, to=OTHER_MAC)
    assert w.answer() == b"x"


def test_r_upd_08_a_smaller_path_mtu_cuts_the_data_anew(w: Any) -> None:
    """R-UPD-08: what is unacknowledged goes again, in segments that fit; later ones fit as well."""
    t = w.live()
    w.post("send", t, w.nbl(bytes(2920)))
    assert [len(f) for f in w.far.frames()] == [1514, 1514]
    p = t.below[1]
    kind = int(OffloadStateType.Ip4OffloadCachedState)
    new = PathOffloadStateCached(1000).pack()
    assert w.statuses("update", [p], types={p: kind}, states={p: new}) == ["SUCCESS"]
    end = w.end(t)
    w.play(end, seconds=5)
    assert bytes(end.received) == bytes(2920)
    assert {len(f) for f, _, _ in w.far.heard} <= {54, 1014, 14 + 40 + 2920 % 960}
    assert max(len(f) for f, _, _ in w.far.heard) == 1014


def test_cached_header_variables_are_updated(w: Any) -> None:
    t = w.live()
    w.post("send", t, w.nbl(b"a"))
    new = TcpOffloadStateCached(
        initial_rcv_wnd=65536, ttl_or_hop_limit=3, tos_or_traffic_class=0x10, user_priority=4
    ).pack()
    kind = int(OffloadStateType.TcpOffloadCachedState)
    assert w.statuses("update", [t], types={t: kind}, states={t: new}) == ["SUCCESS"]
    w.far.frames()
    w.post("send", t, w.nbl(b"b"))
    [frame] = w.far.frames()
    assert frame[12:16] == b"\x81\x00\x80\x00"
    assert (frame[18 + 1], frame[18 + 8]) == (0x10, 3)


# -- the host's own frames ---------------------------------------------------------------------


def test_frames_of_the_host_go_out_as_they_are(w: Any) -> None:
    frame = FAR_MAC + NIC_MAC + b"\x08\x06" + bytes(28)
    w.adapter.link.send(frame, w.now)
    assert w.far.link.receive(0.0) == [frame]


def test_a_neighbor_without_an_ethernet_address_sends_nothing(w: Any) -> None:
    """Counted; the connection itself is none the worse for it."""
    t = w.live(neighbor={"dest": b""})
    w.post("send", t, w.nbl(b"a"))
    assert w.far.frames() == []
    assert w.inspect()["refused: frame for a neighbor without an Ethernet address"] == 1
    assert w.adapter.stats.v4.ip.out_discards == 1
    n = t.below[0]
    new = NeighborOffloadStateCached(FAR_MAC, 0).pack()
    kind = int(OffloadStateType.NeighborOffloadCachedState)
    w.statuses("update", [n], types={n: kind}, states={n: new})
    end = w.end(t)
    w.play(end, seconds=5)
    assert bytes(end.received) == b"a"


def test_hardware_that_hangs_hears_and_sends_nothing(w: Any) -> None:
    t = w.live()
    w.control("hang", {})
    data(w, t)
    assert w.station.counters["hardware hangs"] == 1
    assert w.ctx_of(t).delegated.rcv_nxt == 5000
    w.ask("MiniportResetEx", [w.ctx])
    data(w, t)
    assert w.ctx_of(t).delegated.rcv_nxt == 5001


def test_without_an_adapter_the_wire_is_drained(wired: Any) -> None:
    w = wired(start=False)
    w.put(FAR_MAC + NIC_MAC + b"\x08\x06" + bytes(28))
    assert w.nic.waiting == 0
    assert w.driver.next_deadline() is None
