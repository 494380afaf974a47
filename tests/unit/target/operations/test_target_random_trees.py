"""Random trees on random capacities, compared with a plain recursive computation of the same outcome."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from ndisbus.ddi.status import ALLOWED_STATUS, INITIATE_LINKER, INITIATE_PLACEHOLDER, NdisStatus
from ndisbus.lists.blocklist import Key
from target import TargetConfig

S, P, F = NdisStatus.SUCCESS, NdisStatus.OFFLOAD_PARTIAL_SUCCESS, NdisStatus.FAILURE
IPS = [b"\x0a\x00\x00" + bytes([i]) for i in range(3)]
MACS = [b"", b"\x02\xaa\x00\x00\x00\x01", b"\x02\xbb\x00\x00\x00\x02"]


@dataclass(eq=False)
class Node:
    """A block: what it is (new, linker, placeholder), what is offered, and its dependents."""

    kind: str
    layer: int
    make: dict[str, Any]
    children: list[Node] = field(default_factory=list)
    obj: Any = None
    status: NdisStatus | None = None
    owned: bool = False


def nodes(layer: int, kinds: list[str]) -> st.SearchStrategy[Node]:
    makes: dict[int, st.SearchStrategy[dict[str, Any]]] = {
        0: st.fixed_dictionaries({"vlan": st.integers(0, 3), "mac": st.sampled_from(MACS)}),
        1: st.fixed_dictionaries({"mtu": st.sampled_from([1400, 1500, 1600]), "src": st.sampled_from(IPS)}),
        2: st.fixed_dictionaries(
            {
                "window": st.sampled_from([100, 200, 400]),
                "state": st.sampled_from([4, 4, 4, 5, 10]),
                "remote": st.sampled_from([80, 80, 81]),
            }
        ),
    }
    children: st.SearchStrategy[list[Node]] = st.just([])
    if layer < 2:
        children = st.lists(nodes(layer + 1, kinds if layer == 0 else ["new"]), max_size=4)
    here = ["new"] if layer == 2 else kinds
    return st.builds(Node, st.sampled_from(here), st.just(layer), makes[layer], children)


configs = st.builds(
    TargetConfig,
    neighbor_entries=st.integers(0, 4),
    path_entries=st.integers(0, 5),
    tcp_entries=st.integers(0, 8),
    hw_address_entries=st.integers(0, 2),
    ip_address_entries=st.integers(0, 3),
    vlan_entries=st.integers(1, 3),
    interface_vlans=st.frozensets(st.integers(1, 3), max_size=2),
    max_rcv_window=st.sampled_from([200, 400]),
    max_path_mtu=st.sampled_from([1500, 1600]),
    xmit_buffer_bytes=st.none() | st.integers(0, 60),
    xmit_reserve=st.just(10),
    rcv_buffer_bytes=st.none() | st.integers(0, 2000),
    host_memory_objects=st.none() | st.integers(0, 14),
    unwelcome_ports=st.sampled_from([frozenset(), frozenset({81})]),
)


class Reference:
    """The same decisions, written down as directly as possible: recursion, and lists of what is held."""

    def __init__(self, config: TargetConfig) -> None:
        self.c = config
        self.held: list[Node] = []

    def layer(self, n: int) -> list[Node]:
        return [x for x in self.held if x.layer == n]

    def why_not(self, node: Node) -> NdisStatus | None:
        c, m, same = self.c, node.make, self.layer(node.layer)
        checks: list[tuple[bool, str]]
        if node.layer == 0:
            vlans = {x.make["vlan"] for x in same if x.make["vlan"]}
            macs = {x.make["mac"] for x in same if x.make["mac"]}
            checks = [
                (
                    bool(m["vlan"] and c.interface_vlans and m["vlan"] not in c.interface_vlans),
                    "OFFLOAD_VLAN_MISMATCH",
                ),
                (bool(m["mac"]) and c.hw_address_entries == 0, "OFFLOAD_HW_ADDRESS_ENTRIES"),
                (len(same) >= c.neighbor_entries, "OFFLOAD_NEIGHBOR_ENTRIES"),
                (bool(m["vlan"]) and len(vlans | {m["vlan"]}) > c.vlan_entries, "OFFLOAD_VLAN_ENTRIES"),
                (
                    bool(m["mac"]) and len(macs | {m["mac"]}) > c.hw_address_entries,
                    "OFFLOAD_HW_ADDRESS_ENTRIES",
                ),
            ]
        elif node.layer == 1:
            checks = [
                (m["mtu"] > c.max_path_mtu, "OFFLOAD_PATH_MTU"),
                (len(same) >= c.path_entries, "OFFLOAD_PATH_ENTRIES"),
                (
                    len({x.make["src"] for x in same} | {m["src"]}) > c.ip_address_entries,
                    "OFFLOAD_IP_ADDRESS_ENTRIES",
                ),
            ]
        else:
            xmit, rcv = c.xmit_buffer_bytes, c.rcv_buffer_bytes
            checks = [
                (m["state"] == 10, "FAILURE"),
                (m["remote"] in c.unwelcome_ports, "OFFLOAD_CONNECTION_REJECTED"),
                (m["window"] > c.max_rcv_window, "OFFLOAD_TCP_RCV_WINDOW"),
                (len(same) >= c.tcp_entries, "OFFLOAD_TCP_ENTRIES"),
                (xmit is not None and (len(same) + 1) * 10 > xmit, "OFFLOAD_TCP_XMIT_BUFFER"),
                (
                    rcv is not None and sum(x.make["window"] for x in same) + m["window"] > rcv,
                    "OFFLOAD_TCP_RCV_BUFFER",
                ),
            ]
        checks.append(
            (c.host_memory_objects is not None and len(self.held) >= c.host_memory_objects, "RESOURCES")
        )
        return next((NdisStatus[name] for wrong, name in checks if wrong), None)

    def visit(self, node: Node, parent: Node | None, root: bool) -> bool:
        """Give a node and what hangs from it their statuses; False if everything is over."""
        if node.kind == "placeholder":
            node.status = S
        elif node.kind == "new":
            reason = self.why_not(node)
            if node.layer > 0 and (parent is None or parent.kind == "placeholder"):
                reason = F
            if reason is not None:
                node.status = reason
                self.fail(node.children)
                return not root
            node.owned = True
            self.held.append(node)
        for child in node.children:
            self.visit(child, node, False)
        real = [c for c in node.children if c.kind != "placeholder"]
        failed = [c for c in real if c.status is not None and not c.status.is_success]
        if node.kind == "new":
            node.status = P if failed else S
        elif node.kind == "linker":
            node.status = F if failed and len(failed) == len(real) else P if failed else S
        return True

    def fail(self, items: list[Node]) -> None:
        for node in items:
            node.status = S if node.kind == "placeholder" else F
            self.fail(node.children)


def spec_of(node: Node) -> Any:
    return (node.obj if node.kind != "placeholder" else None, [spec_of(c) for c in node.children])


def all_of(items: list[Node]) -> list[Node]:
    return [x for node in items for x in (node, *all_of(node.children))]


def make_objects(h: Any, items: list[Node]) -> None:
    for node in all_of(items):
        node.obj = (h.neighbor, h.path, h.tcp)[node.layer](**node.make)


@settings(max_examples=150, deadline=None)
@given(config=configs, forest=st.lists(nodes(0, ["new", "placeholder"]), min_size=1, max_size=4))
def test_statuses_of_random_trees(make: Any, config: TargetConfig, forest: list[Node]) -> None:
    """R-INIT-04, R-INIT-05, R-TREE-02, R-TREE-10, R-PART-01, R-PART-02, R-HND-03, R-TERM-07: statuses are the
    reference's, cells are written exactly for what was taken, and after a terminate nothing is left."""
    h = make(config)
    make_objects(h, forest)
    reference = Reference(config)
    going = True
    for i, node in enumerate(forest):
        if going:
            going = reference.visit(node, None, i == 0)
        else:
            reference.fail([node])
    done = h.run("initiate", [spec_of(n) for n in forest])
    expected = all_of(forest)
    assert done.status == [n.status for n in expected]
    assert set(done.status) <= ALLOWED_STATUS["initiate"]
    for node, status in zip(expected, done.status, strict=True):
        assert (node.obj.context is not None) == node.owned
        if node.kind == "placeholder":
            assert status in INITIATE_PLACEHOLDER
    in_use = h.adapter.hardware.in_use()
    assert [in_use[k] for k in ("neighbor", "path", "tcp")] == [len(reference.layer(n)) for n in range(3)]
    everything_goes(h, reference.held)


def everything_goes(h: Any, held: list[Node]) -> None:
    """Terminate, one layer after the other: all succeed, and neither hardware nor heap holds anything."""
    for layer in (2, 1, 0):
        objects = [n.obj for n in held if n.layer == layer]
        if objects:
            assert set(h.run("terminate", objects).status) == {S}
    assert set(h.adapter.hardware.in_use().values()) == {0}
    assert list(h.port.ndis.heap.objects) == [h.ctx]
    assert not h.port.lent


@settings(max_examples=100, deadline=None)
@given(
    config=configs,
    base=st.lists(nodes(0, ["new"]), min_size=1, max_size=2),
    more=st.lists(st.lists(nodes(2, ["new"]), max_size=4), min_size=1, max_size=4),
    grouped=st.booleans(),
)
def test_statuses_of_random_linkers(
    make: Any, config: TargetConfig, base: list[Node], more: list[list[Node]], grouped: bool
) -> None:
    """R-TREE-03, R-TREE-05, R-HND-04: new connections under paths that are offloaded already."""
    h = make(config)
    make_objects(h, base)
    reference = Reference(config)
    for i, node in enumerate(base):
        if not reference.visit(node, None, i == 0):
            break
    h.run("initiate", [spec_of(n) for n in base])
    paths = [n for n in reference.held if n.layer == 1]
    linkers = []
    for path, children in zip(paths, more, strict=False):
        linkers.append(Node("linker", 1, path.make, children, path.obj))
        make_objects(h, children)
    if not linkers:
        return
    # Either siblings at the root, or all of them under a placeholder.
    forest = [Node("placeholder", 0, {}, linkers)] if grouped else linkers
    for node in forest:
        reference.visit(node, None, False)
    done = h.run("initiate", [spec_of(n) for n in forest])
    assert done.status == [n.status for n in all_of(forest)]
    for node, status in zip(all_of(forest), done.status, strict=True):
        if node.kind == "linker":
            assert status in INITIATE_LINKER
            assert done.wire[Key.CONTEXT][all_of(forest).index(node)] == node.obj.context
    everything_goes(h, reference.held)
