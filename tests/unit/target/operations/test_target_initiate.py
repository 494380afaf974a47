"""Initiate: traversal, statuses, contexts, admission."""

from __future__ import annotations

from typing import Any

import pytest

from ndisbus.ddi.state_types import OffloadStateType
from ndisbus.ddi.status import ALLOWED_STATUS, INITIATE_LINKER, NdisStatus
from ndisbus.ddi.tcp_enums import TcpConstFlags, TcpOffloadConnectionState
from ndisbus.lists.blocklist import Key
from ndisbus.state.images import TCP_STATE_OFF, TcpOffloadStateDelegated
from target import TargetConfig
from target.operations.admission import peek_tcp

S, P, F = "SUCCESS", "OFFLOAD_PARTIAL_SUCCESS", "FAILURE"
MAC_A, MAC_B = b"\x02\xaa\x00\x00\x00\x01", b"\x02\xbb\x00\x00\x00\x01"


def permuted(columns: dict[str, Any], order: list[int]) -> dict[str, Any]:
    """The same tree with its blocks stored in another order."""
    return {
        k: [v[i] for i in order] if isinstance(v, list) and len(v) == len(order) else v
        for k, v in columns.items()
    }


def reference_tree(h: Any) -> tuple[list[Any], list[Any]]:
    """The tree of the traversal example, and its objects in the order in which they are to be visited."""
    n1, n2 = h.neighbor(), h.neighbor()
    p1, p2, p3 = h.path(), h.path(), h.path()
    t = [h.tcp() for _ in range(5)]
    spec = [(n1, [(p1, [t[0], t[1]]), (p2, [t[2]])]), (n2, [(p3, [t[3], t[4]])])]
    return spec, [n1, p1, t[0], t[1], p2, t[2], n2, p3, t[3], t[4]]


def test_r_tree_09_reference_tree_is_visited_in_the_printed_order_however_it_is_stored(h: Any) -> None:
    """R-TREE-08, R-TREE-09, R-TREE-10, R-DIS-03: N1 P1 T1 T2 P2 T3 N2 P3 T4 T5."""
    spec, visited = reference_tree(h)
    columns, _, nodes = h.wire(spec)
    breadth_first = [0, 6, 1, 4, 7, 2, 3, 5, 8, 9]
    order = breadth_first
    h._nodes[columns[Key.BLOCK][0]] = [nodes[i] for i in order]
    h.receive("MiniportInitiateOffload", [h.ctx, permuted(columns, order)])
    done = h.done(columns[Key.BLOCK][0])
    assert {s.name for s in done.status} == {S}
    # Contexts are made as blocks are visited, and addresses are never reused.
    assert sorted(visited, key=lambda o: o.context) == visited


def test_r_tree_10_the_order_decides_who_gets_the_last_entries(make: Any) -> None:
    """R-TREE-10: with three entries the first path's two connections and the second's first are taken."""
    h = make(TargetConfig(tcp_entries=3))
    spec, (_, _, t1, t2, _, t3, _, _, t4, t5) = reference_tree(h)
    h.run("initiate", spec)
    assert [t.context is not None for t in (t1, t2, t3, t4, t5)] == [True, True, True, False, False]


def worked_example(h: Any) -> tuple[list[Any], list[Any]]:
    n1, p1, p2, t1, t2, t3 = h.neighbor(), h.path(), h.path(mtu=1600), h.tcp(), h.tcp(), h.tcp()
    return [(n1, [(p1, [t1, t2]), (p2, [t3])])], [n1, p1, t1, t2, p2, t3]


def test_r_part_03_worked_example_to_the_letter(h: Any) -> None:
    """R-PART-02, R-PART-03, R-INIT-04, R-INIT-05, R-HND-02, R-HND-03, R-DIS-01, R-DIS-02: figure
    failure-case.
    """
    spec, objects = worked_example(h)
    h.control("knob.set", {"point": "initiate.tcp", "mode": "nth", "nth": 2, "status": "RESOURCES"})
    h.control("knob.set", {"point": "initiate.path", "mode": "nth", "nth": 2, "status": "FAILURE"})
    assert h.statuses("initiate", spec) == [P, P, S, "RESOURCES", F, F]
    assert [o.context is not None for o in objects] == [True, True, True, False, False, False]
    assert NdisStatus.OFFLOAD_PARTIAL_SUCCESS.value == 0x40020004
    # TCP3 was never attempted: the knob at the connections saw two of them.
    knob = h.control("knob.remove", {"name": "nth_initiate.tcp"})
    assert (knob["hits"], knob["fired"]) == (2, 1)


def test_r_part_01_a_failed_root_ends_the_traversal(make: Any) -> None:
    """R-PART-01, R-DIS-02: not even the root's next block is tried, though there is room for it."""
    h = make(TargetConfig(interface_vlans=frozenset({5})))
    bad, good = h.neighbor(vlan=6), h.neighbor()
    path, tcp = h.path(), h.tcp()
    assert h.statuses("initiate", [bad, (good, [(path, [tcp])])]) == ["OFFLOAD_VLAN_MISMATCH", F, F, F]
    assert h.inspect()["neighbor"] == 0
    assert h.statuses("initiate", [(good, [(path, [tcp])]), bad]) == [S, S, S, "OFFLOAD_VLAN_MISMATCH"]


def test_r_part_02_dependents_of_a_failed_path_fail_and_the_next_path_is_tried(make: Any) -> None:
    """R-PART-02, R-DIS-02."""
    h = make(TargetConfig(max_path_mtu=9000))
    n, p1, p2, t1, t2 = h.neighbor(), h.path(mtu=9001), h.path(), h.tcp(), h.tcp()
    assert h.statuses("initiate", [(n, [(p1, [t1]), (p2, [t2])])]) == [P, "OFFLOAD_PATH_MTU", F, S, S]


def test_r_part_05_partial_success_looks_one_layer_up_only(make: Any) -> None:
    """R-PART-05, R-INIT-04: all paths are offloaded, so the neighbor is SUCCESS although a path is
    partial.
    """
    h = make(TargetConfig(tcp_entries=1))
    n, p1, p2 = h.neighbor(), h.path(), h.path()
    spec = [(n, [(p1, [h.tcp(), h.tcp()]), (p2, [h.tcp()])])]
    assert h.statuses("initiate", spec) == [S, P, S, "OFFLOAD_TCP_ENTRIES", P, "OFFLOAD_TCP_ENTRIES"]


def test_r_tree_05_linker_statuses(make: Any) -> None:
    """R-TREE-03, R-TREE-05: all offloaded, some, none; and nothing but those three (R-INIT-04)."""
    h = make(TargetConfig(tcp_entries=3))
    _n, p, _ = h.stack(0)
    first, second, third = h.tcp(), h.tcp(), h.tcp()
    before = p.context
    assert h.statuses("initiate", [(p, [first, second])]) == [S, S, S]
    assert h.statuses("initiate", [(p, [third, h.tcp()])]) == [P, S, "OFFLOAD_TCP_ENTRIES"]
    assert h.statuses("initiate", [(p, [h.tcp(), h.tcp()])]) == [F] + ["OFFLOAD_TCP_ENTRIES"] * 2
    assert {NdisStatus[s] for s in (S, P, F)} == INITIATE_LINKER
    assert p.context == before
    path = h.adapter.find(p.context)
    assert {t.address for t in path.dependents.values()} == {first.context, second.context, third.context}


def test_r_tree_05_a_linker_whose_linkers_all_failed_fails_too(make: Any) -> None:
    """R-TREE-05."""
    h = make(TargetConfig(tcp_entries=1))
    n, p1, p2 = h.neighbor(), h.path(), h.path()
    h.run("initiate", [(n, [p1, p2])])
    assert h.statuses("initiate", [(n, [(p1, [h.tcp()]), (p2, [h.tcp()])])]) == [
        P,
        S,
        S,
        F,
        "OFFLOAD_TCP_ENTRIES",
    ]
    spec = [(n, [(p1, [h.tcp()]), (p2, [h.tcp()])])]
    assert h.statuses("initiate", spec) == [F, F, "OFFLOAD_TCP_ENTRIES", F, "OFFLOAD_TCP_ENTRIES"]


def test_r_tree_05_a_placeholder_is_no_success_of_its_linker(make: Any) -> None:
    """R-TREE-05, R-TREE-02: all real dependents failed, so the linker fails, placeholder or not."""
    h = make(TargetConfig(tcp_entries=0))
    n, p, _ = h.stack(0)
    assert h.statuses("initiate", [(n, [None, (p, [h.tcp()])])]) == [F, S, F, "OFFLOAD_TCP_ENTRIES"]


def test_r_tree_02_placeholders_always_succeed(make: Any) -> None:
    """R-TREE-02: without dependents, with failing ones, and below a failed block."""
    h = make(TargetConfig(tcp_entries=0, max_path_mtu=1000))
    assert h.statuses("initiate", [None]) == [S]
    n, p = h.neighbor(), h.path(mtu=900)
    h.run("initiate", [(n, [p])])
    assert h.statuses("initiate", [(None, [(p, [h.tcp()])])]) == [S, F, "OFFLOAD_TCP_ENTRIES"]
    bad = h.path(mtu=1001)
    assert h.statuses("initiate", [(n, [(bad, [None, h.tcp()])])])[1:] == ["OFFLOAD_PATH_MTU", S, F]


def test_r_tree_07_links_of_placeholders_are_followed(h: Any) -> None:
    """R-TREE-07: dependents and the next block of a placeholder."""
    _n, p1, _ = h.stack(0)
    t1, n2 = h.tcp(), h.neighbor()
    assert h.statuses("initiate", [(None, [(p1, [t1])]), n2]) == [S, S, S, S]
    assert t1.context
    assert n2.context


def test_r_tree_06_new_offloads_below_a_linker_get_contexts_of_their_own(h: Any) -> None:
    """R-TREE-03, R-TREE-06, R-HND-01: new paths and connections are linked to what the linker names."""
    n, _, _ = h.stack(0)
    p, t = h.path(), h.tcp()
    h.run("initiate", [(n, [(p, [t])])])
    tcp = h.adapter.find(t.context)
    assert tcp.path.address == p.context
    assert tcp.path.neighbor.address == n.context


def test_r_tree_11_one_internal_tree_per_neighbor(h: Any) -> None:
    """R-TREE-11, R-TREE-12: connection to path to neighbor, and no links between neighbors."""
    spec, (n1, p1, t1, t2, p2, t3, n2, p3, t4, t5) = reference_tree(h)
    h.run("initiate", spec)
    find = h.adapter.find
    assert [find(t.context).path.address for t in (t1, t2, t3, t4, t5)] == [
        o.context for o in (p1, p1, p2, p3, p3)
    ]
    assert [find(p.context).neighbor.address for p in (p1, p2, p3)] == [n1.context, n1.context, n2.context]
    assert list(find(n1.context).dependents) == [p1.context, p2.context]
    assert list(find(n2.context).dependents) == [p3.context]


def test_r_hnd_05_the_ndis_offload_handles_are_kept(h: Any) -> None:
    """R-HND-05, R-HND-01: for all three layers, and each object has a context that designates it alone."""
    n, p, (t,) = h.stack(1)
    for obj in (n, p, t):
        assert h.adapter.find(obj.context).ndis_handle == obj.handle.address
        assert obj.context >> 40 == 5
    assert len({n.context, p.context, t.context}) == 3


def test_r_hnd_03_cells_of_refused_objects_stay_null(make: Any) -> None:
    """R-HND-03, R-BLK-09: the cell of a refused block is as it was, and Status is written everywhere."""
    h = make(TargetConfig(path_entries=0))
    n, p, t = h.neighbor(), h.path(), h.tcp()
    done = h.run("initiate", [(n, [(p, [t])])])
    assert done.wire[Key.CONTEXT][1:] == [None, None]
    assert len(done.wire[Key.STATUS]) == 3


def test_r_blk_10_the_same_list_comes_back_untouched(h: Any) -> None:
    """R-BLK-10, R-BLK-12: same pointers, SourceHandle and reserved words as they were."""
    n = h.neighbor()
    columns, _, nodes = h.wire([n])
    reserved = {k: [17] for k in (*Key.PROTOCOL_RESERVED, *Key.IM_RESERVED)}
    root = columns[Key.BLOCK][0]
    h._nodes[root] = nodes
    h.receive("MiniportInitiateOffload", [h.ctx, columns | reserved])
    done = h.done(root)
    assert done.wire[Key.BLOCK] == columns[Key.BLOCK]
    assert done.wire[Key.SOURCE_HANDLE] == columns[Key.SOURCE_HANDLE]
    assert {k: done.wire[k] for k in reserved} == reserved


def test_r_init_03_state_is_the_targets_own_after_the_completion(h: Any) -> None:
    """R-INIT-03: what a query gives is what was offered, although the tree is gone."""
    n, p, (t,) = h.stack(1, snd_una=77, rcv_nxt=88)
    h.run("query", [(n, [(p, [t])])])
    assert n.result == n.image
    assert p.result == p.image
    tail = TCP_STATE_OFF["delegated.SendDataHead"]
    assert t.result[:tail] == t.image[:tail]


@pytest.mark.parametrize("state", [s for s in TcpOffloadConnectionState if s.name != "TcpConnectionMaxState"])
def test_r_state_06_states_that_may_be_offloaded(h: Any, state: TcpOffloadConnectionState) -> None:
    """R-STATE-06: all but CLOSED, LISTEN, SYN_SENT, SYN_RCVD and TIME_WAIT."""
    _n, p, _ = h.stack(0)
    expected = F if state in (0, 1, 2, 3, 10) else S
    assert h.statuses("initiate", [(p, [h.tcp(state=state)])])[1] == expected
    assert h.inspect().get("refused: TCP state cannot be offloaded", 0) == (expected == F)


def test_peek_reads_the_members_it_means() -> None:
    """The one-glance structure lies where the state module says."""
    image = bytearray(188)
    for n, name in enumerate(
        (
            "const.Header.Length",
            "const.Flags",
            "const.RemotePort",
            "const.LocalPort",
            "cached.Header.Length",
            "cached.InitialRcvWnd",
            "delegated.Header.Length",
            "delegated.State",
            "delegated.SendDataHead",
            "delegated.SendDataTail",
            "delegated.BufferedData",
        ),
        1,
    ):
        image[TCP_STATE_OFF[name]] = n
    assert peek_tcp(bytes(image)) == tuple(range(1, 12))
    assert peek_tcp(bytes(187)) is None
    assert TCP_STATE_OFF["delegated.BufferedData"] + 8 == 188
    assert TcpOffloadStateDelegated.SIZE == 120


def one(config: dict[str, Any], layer: str, before: Any = None, **offered: Any) -> tuple[Any, ...]:
    return config, layer, before, offered


CASES = {
    "RESOURCES": [
        one({"host_memory_objects": 0}, "neighbor"),
        one({"host_memory_objects": 1}, "path"),
        one({"host_memory_objects": 2}, "tcp"),
    ],
    "OFFLOAD_NEIGHBOR_ENTRIES": [one({"neighbor_entries": 1}, "neighbor", {})],
    "OFFLOAD_PATH_ENTRIES": [one({"path_entries": 1}, "path", {})],
    "OFFLOAD_TCP_ENTRIES": [one({"tcp_entries": 1}, "tcp", {})],
    "OFFLOAD_HW_ADDRESS_ENTRIES": [
        one({"hw_address_entries": 0}, "neighbor", mac=MAC_A),
        one({"hw_address_entries": 1}, "neighbor", {"mac": MAC_A}, mac=MAC_B),
    ],
    "OFFLOAD_IP_ADDRESS_ENTRIES": [
        one({"ip_address_entries": 1}, "path", {"src": b"\x0a\x01\x01\x01"}, src=b"\x0a\x02\x02\x02")
    ],
    "OFFLOAD_TCP_XMIT_BUFFER": [one({"xmit_buffer_bytes": 30000, "xmit_reserve": 16384}, "tcp", {})],
    "OFFLOAD_TCP_RCV_BUFFER": [one({"rcv_buffer_bytes": 100000}, "tcp", {}, window=34465)],
    "OFFLOAD_TCP_RCV_WINDOW": [one({"max_rcv_window": 8191}, "tcp", window=8192)],
    "OFFLOAD_VLAN_ENTRIES": [one({"vlan_entries": 1}, "neighbor", {"vlan": 2}, vlan=3)],
    "OFFLOAD_VLAN_MISMATCH": [one({"interface_vlans": frozenset({2, 4})}, "neighbor", vlan=3)],
    "OFFLOAD_PATH_MTU": [one({"max_path_mtu": 1500}, "path", mtu=1501)],
    "OFFLOAD_CONNECTION_REJECTED": [
        one({"unwelcome_ports": frozenset({80})}, "tcp", remote=80),
        one({"unwelcome_ports": frozenset({5000})}, "tcp", local=5000),
    ],
    "FAILURE": [
        one({"support_ipv6": False}, "path", src=bytes(16), dst=bytes(16)),
        one({"support_ipv4": False}, "path"),
        one({"support_sack": False}, "tcp", flags=int(TcpConstFlags.TCP_FLAG_SACK_ENABLED)),
        one({}, "tcp", state=0),
    ],
}


@pytest.mark.parametrize(
    ("status", "case"),
    [(s, c) for s, cases in CASES.items() for c in cases],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_r_init_06_to_15_each_status_has_its_cause(make: Any, status: str, case: Any) -> None:
    """R-INIT-06, R-INIT-07, R-INIT-08, R-INIT-09, R-INIT-10, R-INIT-11, R-INIT-12, R-INIT-13, R-INIT-14,
    R-INIT-15,
    R-STATE-09, R-VLAN-02, R-OID-10: the condition brings exactly this status, and nothing is taken."""
    config, layer, before, offered = case
    ipv6 = config.get("support_ipv4") is False
    h = make(TargetConfig(**config))
    maker = {"neighbor": h.neighbor, "path": h.path, "tcp": h.tcp}[layer]
    base = [h.neighbor(), h.path(**({"src": bytes(16), "dst": bytes(16)} if ipv6 else {}))]
    below = base[: {"neighbor": 0, "path": 1, "tcp": 2}[layer]]

    def offer(obj: Any) -> list[str]:
        spec: Any = [obj]
        for b in reversed(below):
            spec = [(b, spec)]
        return list(h.statuses("initiate", spec))

    if below:
        assert set(h.statuses("initiate", [(below[0], below[1:])])) == {S}
    if before is not None:
        assert offer(maker(**before))[-1] == S
    taken = h.adapter.hardware.in_use()
    refused = maker(**offered)
    assert offer(refused)[-1] == status
    assert refused.context is None
    assert h.adapter.hardware.in_use() == taken


def test_every_status_of_an_initiate_is_reached(h: Any) -> None:
    """R-DIS-04, R-DIS-05: the cases above and the two successes are the whole list, under the header's
    names.
    """
    assert {NdisStatus[s] for s in CASES} | {
        NdisStatus.SUCCESS,
        NdisStatus.OFFLOAD_PARTIAL_SUCCESS,
    } == ALLOWED_STATUS["initiate"]


def test_r_init_08_an_entry_comes_free_with_a_terminate(make: Any) -> None:
    """R-INIT-08, R-TERM-07: TCP_ENTRIES, then room."""
    h = make(TargetConfig(tcp_entries=1))
    _n, p, (t,) = h.stack(1)
    other = h.tcp()
    assert h.statuses("initiate", [(p, [other])]) == [F, "OFFLOAD_TCP_ENTRIES"]
    h.run("terminate", [t])
    assert h.statuses("initiate", [(p, [other])]) == [S, S]


def test_addresses_and_identifiers_are_shared_and_come_free_with_the_last_user(make: Any) -> None:
    h = make(TargetConfig(vlan_entries=1, hw_address_entries=1, ip_address_entries=1))
    n1, n2, n3 = h.neighbor(vlan=7, mac=MAC_A), h.neighbor(vlan=7, mac=MAC_A), h.neighbor(vlan=8, mac=MAC_B)
    assert h.statuses("initiate", [n1, n2, n3]) == [S, S, "OFFLOAD_VLAN_ENTRIES"]
    h.run("terminate", [n1])
    assert h.statuses("initiate", [n3]) == ["OFFLOAD_VLAN_ENTRIES"]
    h.run("terminate", [n2])
    assert h.statuses("initiate", [n3]) == [S]


def test_r_state_10_the_interfaces_own_address_needs_no_entry(make: Any) -> None:
    """R-STATE-10, R-STATE-09: no address given, or the interface's own, is fine on a target with a fixed
    one.
    """
    h = make(TargetConfig(hw_address_entries=0))
    own = h.driver.config.mac
    assert h.statuses("initiate", [h.neighbor(), h.neighbor(mac=own), h.neighbor(mac=MAC_A)]) == [
        S,
        S,
        "OFFLOAD_HW_ADDRESS_ENTRIES",
    ]


def test_r_vlan_01_tag_zero_and_a_nonzero_tag_are_handled_by_the_smallest_target(make: Any) -> None:
    """R-VLAN-01."""
    h = make(TargetConfig(vlan_entries=1))
    assert h.statuses("initiate", [h.neighbor(vlan=0), h.neighbor(vlan=4095)]) == [S, S]


def test_r_vlan_03_any_identifier_while_the_interface_has_none(make: Any) -> None:
    """R-VLAN-03, R-VLAN-02: accepted as long as there is room."""
    h = make(TargetConfig(vlan_entries=2))
    spec = [h.neighbor(vlan=v) for v in (9, 10, 11, 9, 0)]
    assert h.statuses("initiate", spec) == [S, S, "OFFLOAD_VLAN_ENTRIES", S, S]


def test_r_vlan_04_zero_or_a_matching_identifier_where_the_interface_has_some(make: Any) -> None:
    """R-VLAN-04: zero and matching accepted, another nonzero one refused; and not for lack of room."""
    h = make(TargetConfig(interface_vlans=frozenset({5, 6}), vlan_entries=2))
    spec = [h.neighbor(vlan=v) for v in (0, 5, 7, 6)]
    assert h.statuses("initiate", spec) == [S, S, "OFFLOAD_VLAN_MISMATCH", S]


@pytest.mark.parametrize("what", ["neighbor", "path", "tcp"])
@pytest.mark.parametrize("damage", ["short", "long", "length", "missing"])
def test_state_that_is_not_well_formed_is_refused(h: Any, what: str, damage: str) -> None:
    n, p, _ = h.stack(0)
    obj = {"neighbor": h.neighbor, "path": h.path, "tcp": h.tcp}[what]()
    image = obj.image
    broken = {"short": image[:-1], "long": image + b"\0", "length": b"\x01" + image[1:], "missing": None}[
        damage
    ]
    spec = {"neighbor": [obj], "path": [(n, [obj])], "tcp": [(p, [obj])]}[what]
    assert h.statuses("initiate", spec, states={obj: broken})[-1] == F
    assert h.inspect()["refused: state is missing or not well formed"] == 1


def test_blocks_that_hang_wrongly_are_refused(h: Any) -> None:
    """R-TREE-11: a connection without a path, a path without a neighbor, a linker under a stranger."""
    n, p, (t,) = h.stack(1)
    other = h.neighbor()
    h.run("initiate", [other])
    assert h.statuses("initiate", [h.tcp()]) == [F]
    assert h.statuses("initiate", [h.path()]) == [F]
    assert h.statuses("initiate", [(None, [(None, [h.tcp()])])]) == [S, S, F]
    assert h.statuses("initiate", [(other, [(p, [h.tcp()])])]) == [F, F, F]
    assert h.statuses("initiate", [(t, [])]) == [F]
    part = h.path()
    assert h.statuses(
        "initiate", [(n, [part])], types={part: int(OffloadStateType.Ip4OffloadCachedState)}
    ) == [F, F]


def test_nothing_is_attached_to_an_invalid_object(h: Any) -> None:
    """R-INV-04: a path that was invalidated takes no new connection."""
    _n, p, _ = h.stack(0)
    h.run("invalidate", [p])
    assert h.statuses("initiate", [(p, [h.tcp()])]) == [F, F]


def test_r_state_01_three_layers_in_their_order(h: Any) -> None:
    """R-STATE-01: a reserved or foreign type cannot be offloaded."""
    n = h.neighbor()
    assert h.statuses("initiate", [n], types={n: 16}) == [F]
    assert h.statuses("initiate", [n], types={n: 254}) == [F]


def test_contexts_belong_to_their_adapter(make: Any) -> None:
    """R-HND-04: the PVOID of one adapter means nothing on another."""
    h = make(TargetConfig(adapters=("nic0", "nic1")))
    _n, _p, (t,) = h.stack(1)
    assert h.statuses("query", [t], name="nic1") == [F]
    assert h.statuses("query", [t]) == [S]


def test_r_conc_02_initiates_of_other_objects_may_overlap(make: Any) -> None:
    """R-CONC-02, R-INIT-17, R-BLK-15: two lists at once; objects are live at once, completions keep their
    order.
    """
    h = make(TargetConfig(latency=1.0))
    n, p, t = h.neighbor(), h.path(), h.tcp()
    first = h.request("initiate", [(n, [(p, [t])])])
    h.advance(0.5)
    second = h.request("initiate", [h.neighbor()])
    assert h.inspect()["tcp"] == 1
    assert h.adapter.connections()[0].life.value == "offloading"
    assert h.done(first) is None
    h.advance(0.5)
    assert h.done(first) is not None
    assert h.done(second) is None
    h.advance(0.5)
    assert h.done(second) is not None


def test_r_conc_04_no_indication_while_an_initiate_is_in_progress(make: Any) -> None:
    """R-CONC-04: events and status indications wait, in order, for the completion."""
    h = make(TargetConfig())
    _n, _p, (_t,) = h.stack(1)
    h.control("latency", {"seconds": 1})
    root = h.request("initiate", [h.neighbor()])
    h.control("indicate", {"reason": "LowActivity"})
    h.control("pause", {})
    assert h.take() == []
    h.advance(1)
    names = [name for name, _ in h.take()]
    assert names == ["NdisMInitiateOffloadComplete", "NdisTcpOffloadEventHandler", "NdisMIndicateStatusEx"]
    assert root
