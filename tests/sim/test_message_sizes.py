"""Lists and data of any size: they go through in parts, or they are refused before anything changes.

The limits are made small here, so that a few hundred connections exceed them. ``tools/big_tree.py`` has real
sizes.
"""

from __future__ import annotations

import random
from functools import partial

import pytest

from hoststack.chimney.driver import HostDriver
from hoststack.model.life import State
from hoststack.model.objects import Tcb
from ndisbus.driver.port import DriverPort
from ndisbus.errors import ChimneyError
from ndisbus.messages import codec, packet
from tests.support.stack import Stack, make_tree

#: The largest packet of these tests, in bytes: a list of about 80 new connections.
SMALL = 20_000


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make packets small, and with them the parts of messages."""
    monkeypatch.setattr(codec, "MAX_PACKET", SMALL)
    monkeypatch.setattr(packet, "MAX_PACKET", SMALL)
    for name, size in (
        ("ndisbus.messages.packet.ROOM", 1000),
        ("ndisbus.messages.packet.PART_BYTES", 4000),
        ("ndisbus.messages.parts.PART_BYTES", 4000),
        ("ndisbus.messages.parts.MAX_FRAME", SMALL - 4000),
        ("ndisbus.driver.sizes.MAX_PACKET", SMALL),
        ("ndisbus.driver.sizes.MAX_FRAME", SMALL - 4000),
        ("ndisbus.driver.sizes.FEW", 16),
        ("ndisbus.driver.ndis.FEW", 16),
        ("ndisbus.driver.sizes._SMALL", 4000),
        ("ndisbus.driver.ndis.MAX_PACKET", SMALL),
        ("ndisbus.core.sizes.MAX_PACKET", SMALL),
        ("ndisbus.core.sizes.ROOM", 1000),
        ("ndisbus.core.sizes.FEW", 16),
        ("ndisbus.messages.packet.FEW", 16),
    ):
        monkeypatch.setattr(name, size)


def connections(stack: Stack, count: int) -> list[Tcb]:
    """``count`` connections on one path."""
    return make_tree(stack.rng, paths=1, connections=count)[2]


def states(tcbs: list[Tcb]) -> set[State]:
    return {t.state for t in tcbs}


@pytest.mark.parametrize("ims", [0, 1, 2])
@pytest.mark.usefixtures("small")
def test_a_list_longer_than_a_packet_goes_down_and_comes_up(ims: int) -> None:
    stack = Stack(1, ims=ims)
    stack.ready()
    tcbs = connections(stack, 400)
    assert stack.do(lambda h: h.offload(tcbs)).succeeded
    assert states(tcbs) == {State.OFFLOADED}
    read = stack.do(lambda h: h.query(tcbs, "whole"))
    assert read.succeeded
    assert all(read.result_of(t) is not None for t in tcbs)
    assert stack.do(lambda h: h.terminate(tcbs, idle=True)).succeeded
    assert states(tcbs) == {State.GONE}
    assert not stack.leftovers()


@pytest.mark.parametrize("count", range(60, 100, 5))
@pytest.mark.usefixtures("small")
def test_a_list_just_at_the_limit_ends_no_driver(count: int) -> None:
    """A packet of the intermediate driver is a little longer than the host's."""
    stack = Stack(2)
    stack.ready()
    tcbs = connections(stack, count)
    assert stack.do(lambda h: h.offload(tcbs)).succeeded
    assert stack.do(lambda h: h.terminate(tcbs, idle=True)).succeeded
    assert not stack.sim.closings
    assert not stack.leftovers()


@pytest.mark.usefixtures("small")
def test_data_that_moves_with_connections_may_exceed_a_packet() -> None:
    stack = Stack(3)
    stack.ready()
    tcbs = connections(stack, 20)
    for i, tcb in enumerate(tcbs):
        stack.sim.act("host0", partial(HostDriver.send, tcb=tcb, data=bytes((i,)) * 3000))
    assert stack.do(lambda h: h.offload(tcbs)).succeeded
    assert stack.do(lambda h: h.terminate(tcbs, idle=True)).succeeded
    assert all(b"".join(t.send_queue or ()) == bytes((i,)) * 3000 for i, t in enumerate(tcbs))
    assert not stack.leftovers()


@pytest.mark.usefixtures("small")
def test_data_too_large_for_a_message_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    stack = Stack(4)
    stack.ready()
    monkeypatch.setattr("ndisbus.driver.ndis.MAX_JOINED", 30_000)
    big, other = connections(stack, 20), connections(stack, 3)
    for tcb in big:
        stack.sim.act("host0", partial(HostDriver.send, tcb=tcb, data=b"x" * 3000))
    with pytest.raises(ChimneyError, match="bytes"):
        stack.sim.act("host0", lambda h: h.offload(big))
    assert states(big) == {State.NEW}
    assert all(b"".join(t.send_queue or ()) == b"x" * 3000 for t in big)
    # Each for itself goes down, and so does what is offloaded in the same turn.
    assert stack.do(lambda h: h.offload(other)).succeeded
    assert stack.do(lambda h: h.offload(big[:5])).succeeded
    assert stack.do(lambda h: h.terminate([*big[:5], *other], idle=True)).succeeded
    assert not stack.leftovers()


def test_data_that_does_not_fit_into_a_terminate_is_lost_with_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The target finds it out before it gives anything back, and the connections that fit come back whole."""
    stack = Stack(12)
    stack.ready()
    tcbs = connections(stack, 20)
    for tcb in tcbs:
        stack.sim.act("host0", partial(HostDriver.send, tcb=tcb, data=b"x" * 3000))
    assert stack.do(lambda h: h.offload(tcbs)).succeeded
    monkeypatch.setattr("ndisbus.driver.ndis.MAX_JOINED", 30_000)
    back = stack.do(lambda h: h.terminate(tcbs))
    whole = [t for t in tcbs if back.status_of(t) == 0]
    assert 0 < len(whole) < 20
    assert all(b"".join(t.send_queue or ()) == b"x" * 3000 for t in whole)
    stack.sim.run_for(5)
    assert all(t.lost for t in tcbs if t not in whole)
    assert not stack.sim.closings
    assert stack.do(lambda h: h.upload_everything()).succeeded
    assert not stack.leftovers()


@pytest.mark.parametrize("what", ["offload", "query", "update", "invalidate", "terminate"])
def test_too_many_blocks_change_nothing(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stack = Stack(5)
    stack.ready()
    tcbs = connections(stack, 30)
    if what != "offload":
        assert stack.do(lambda h: h.offload(tcbs)).succeeded
    before = states(tcbs)
    monkeypatch.setattr("hoststack.chimney.trees.MAX_BLOCKS", 20)
    with pytest.raises(ChimneyError, match="at most 20"):
        stack.sim.act("host0", lambda h: getattr(h, what)(tcbs))
    assert states(tcbs) == before
    monkeypatch.undo()
    if what == "offload":
        assert stack.do(lambda h: h.offload(tcbs)).succeeded
    assert stack.do(lambda h: h.terminate(tcbs, idle=True)).succeeded
    assert not stack.leftovers()


def test_a_deferred_list_with_too_many_blocks_is_an_outcome(monkeypatch: pytest.MonkeyPatch) -> None:
    """An operation that waits behind others cannot raise when its turn comes."""
    stack = Stack(6)
    stack.ready()
    first, second = make_tree(stack.rng, paths=1, connections=30)[2], None
    second = [make_tree(stack.rng, paths=1, connections=1)[2][0] for _ in range(1)]
    begun = stack.begin("host0", lambda h: h.offload(first[:10]))
    waiting = stack.begin("host0", lambda h: h.offload(first[10:] + second))
    assert begun is not None
    assert waiting is not None
    monkeypatch.setattr("hoststack.chimney.trees.MAX_BLOCKS", 15)
    stack.sim.run_until(lambda: waiting.done)
    assert begun.succeeded
    assert "at most 15" in (waiting.refused or "")
    assert states(first[10:]) == {State.NEW}


@pytest.mark.usefixtures("small")
def test_a_host_that_does_not_join_parts_is_refused_before_anything_moves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    say_hello = DriverPort.hello

    def hello(port: DriverPort) -> None:
        say_hello(port)
        if port.identity["Name"] == "host0":
            del port.outbox[-1][0][2][1]["Parts"]

    monkeypatch.setattr(DriverPort, "hello", hello)
    stack = Stack(7, hosts=1, ims=0)
    stack.ready()
    host = stack.sim.processes["host0"].port
    assert not host.divides
    tcbs = connections(stack, 150)
    with pytest.raises(ChimneyError, match="at most"):
        stack.sim.act("host0", lambda h: h.offload(tcbs))
    assert states(tcbs) == {State.NEW}
    # In small lists they all go down; their state would not come back in one packet.
    for at in range(0, 150, 30):
        assert stack.do(lambda h, at=at: h.offload(tcbs[at : at + 30])).succeeded
    monkeypatch.setattr("ndisbus.driver.ndis.MAX_PACKET", 1 << 30)
    whole = stack.do(lambda h: h.query(tcbs, "whole"))
    assert not whole.succeeded
    # Objects whose query failed are uploaded (R-QRY-05); that list is too long as well, so NDIS ends them.
    stack.sim.run_for(10)
    assert states(tcbs) == {State.GONE}
    assert stack.do(lambda h: h.upload_everything()).succeeded
    assert not stack.sim.closings
    assert not stack.leftovers()


def test_an_upload_of_very_many_objects_is_several_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    stack = Stack(11)
    stack.ready()
    tcbs = connections(stack, 90)
    for at in range(0, 90, 30):
        assert stack.do(lambda h, at=at: h.offload(tcbs[at : at + 30])).succeeded
    monkeypatch.setattr("hoststack.chimney.trees.MAX_BLOCKS", 40)
    stack.sim.act("target", lambda d: d.control("upload_all", {}))
    stack.sim.run_until(lambda: not any(t.is_offloaded for t in tcbs))
    assert stack.do(lambda h: h.upload_everything()).succeeded
    stack.sim.run_for(1)
    assert not stack.leftovers()


def test_a_host_that_stops_in_the_middle_of_a_message_is_removed() -> None:
    stack = Stack(8)
    stack.ready()
    process = stack.sim.processes["host0"]
    start = ["part", None, ["NdisInitiateOffload", 0, 3, 1, {"Block": [1, 2]}]]
    stack.sim.inject("host0", start)
    stack.sim.run_for(5)
    assert not stack.sim.closings
    stack.sim.run_for(6)
    assert [(name, "parts" in why) for name, why in stack.sim.closings] == [("host0", True)]
    stack.sim.run_until(lambda: process.port.attached)
    assert not stack.sim.control("ps")["BugChecks"]


BAD_PARTS = {
    "wrong order": (["NdisInitiateOffload", 1, 3, 1, {"Block": [1]}], "part 0 expected"),
    "too many": (["NdisInitiateOffload", 0, 100_000, 1, {"Block": [1]}], "parts are accepted"),
    "not a list": (["NdisOffloadTcpSend", 0, 2, 1, {"Block": [1]}], "not a call that may be divided"),
    "no blocks": (["NdisInitiateOffload", 0, 2, 1, {}], "an array of pointers"),
    "bad value": (
        ["NdisInitiateOffload", 0, 2, 1, {"Block": [1], "Type": [999]}],
        "does not fit 8 bits",
    ),
    "no parameters": ([], "expected"),
    "columns without blocks": (
        ["NdisInitiateOffload", 0, 2, 1, {"Block": [], "Type": []}],
        "a part without blocks",
    ),
    "no columns": (["NdisInitiateOffload", 0, 2, 1, None], "expected"),
}


@pytest.mark.parametrize("bad", BAD_PARTS)
def test_a_part_that_does_not_fit_is_a_bug_check_of_its_sender(bad: str) -> None:
    args, why = BAD_PARTS[bad]
    stack = Stack(9)
    stack.ready()
    stack.sim.inject("host0", ["part", None, args])
    stack.sim.run_until(lambda: bool(stack.sim.closings))
    [report] = stack.sim.control("ps")["BugChecks"]
    assert report["Driver"] == "host0"
    assert why in report["Reason"]


def test_a_message_between_two_parts_is_a_bug_check() -> None:
    stack = Stack(10)
    stack.ready()
    stack.sim.inject("host0", ["part", None, ["NdisInitiateOffload", 0, 2, 1, {"Block": [1]}]])
    stack.sim.inject("host0", ["goodbye", None, []])
    stack.sim.run_until(lambda: bool(stack.sim.closings))
    [report] = stack.sim.control("ps")["BugChecks"]
    assert "between part 0 and part 1" in report["Reason"]


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("seed", range(5))
def test_a_death_between_two_parts_leaves_nothing(seed: int) -> None:
    """The target dies at any step while long lists are under way."""
    stack = Stack(seed + 20)
    stack.ready()
    tcbs = connections(stack, 300)
    operation = stack.begin("host0", lambda h: h.offload(tcbs))
    assert operation is not None
    for _ in range(random.Random(seed).randrange(150)):
        stack.sim.step()
    stack.sim.kill("target")
    stack.sim.run_until(lambda: operation.done)
    stack.sim.restart("target")
    stack.ready()
    stack.sim.run_for(5)
    assert not stack.leftovers()
