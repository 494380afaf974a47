"""Who owns each byte while connections move: some seeds of the play, and faults that it must find.

``make ownership`` plays many more seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import pytest

from hoststack.chimney import initiate, send_data, upload
from hoststack.chimney.data import posted_send
from hoststack.chimney.engine import Engine
from hoststack.chimney.trees import Tree
from hoststack.model.life import State
from hoststack.model.objects import Tcb
from hoststack.model.operation import Operation
from hoststack.net.socket import Socket
from imdriver.entries import ImCallEntry
from imdriver.operations import StateOperations
from ndisbus.lists.blocklist import BlockList
from ndisbus.lists.heap import Heap
from ndisbus.lists.nbl import NetBufferList
from tests.support.ownership.play import Play


@pytest.mark.parametrize("first", range(0, 40, 10))
def test_each_byte_has_one_owner_at_every_instant(first: int) -> None:
    for seed in range(first, first + 10):
        try:
            Play(seed).run()
        except BaseException as error:
            error.add_note(f"seed {seed}: python tools/ownership.py --seed {seed} --trace")
            raise


def test_the_same_seed_is_the_same_run() -> None:
    told: list[list[str]] = [[], []]
    for lines in told:
        Play(1, lines.append).run()
    assert told[0] == told[1]
    assert len(told[0]) > 10


# -- faults that are planted --------------------------------------------------------------------------


def found(first: int) -> tuple[int, str]:
    """The first of 200 seeds that finds something, and what."""
    for seed in range(first, first + 200):
        try:
            Play(seed).run()
        except Exception as error:
            return seed, f"{type(error).__name__}: {error}"
    pytest.fail("the fault was not found within 200 seeds")


def _end_of_file_while_bytes_are_below(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that reports the end of the stream as soon as it knows the FIN and has nothing itself."""
    monkeypatch.setattr(Socket, "at_end", property(lambda s: s.tcb.remote_closed and not s.available))


def _reads_what_is_lent(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host whose applications read received data that went down as BufferedData."""
    lend = send_data.lend

    def lent(heap: Heap, tcb: Tcb) -> list[NetBufferList]:
        chains = lend(heap, tcb)
        if tcb.buffered is not None:
            tcb.receive_buffer = bytearray(tcb.buffered)
        return chains

    monkeypatch.setattr(initiate, "lend", lent)


def _books_sends_at_the_completion(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that does not expect completions of lent sends before the initiate's."""
    pass_down, completed = Engine.pass_down, initiate.completed

    def passed(
        host: Engine, operation: Operation, function: Callable[[int, BlockList], None], tree: Tree
    ) -> None:
        for tcb in [o for o in operation.objects if isinstance(o, Tcb)]:
            for address in (tcb.lent or ()) if operation.op == "initiate" else ():
                host.posted.pop(address, None)
        pass_down(host, operation, function, tree)

    def done(host: Engine, operation: Operation, block_list: BlockList) -> None:
        for tcb in [o for o in operation.objects if isinstance(o, Tcb)]:
            for nbl in (tcb.lent or {}).values():
                host.posted[nbl.address] = posted_send(tcb, nbl)
        completed(host, operation, block_list)

    monkeypatch.setattr(Engine, "pass_down", passed)
    monkeypatch.setattr(initiate, "completed", done)


def _takes_home_what_is_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """An intermediate driver whose call entry keeps lists that were completed before the initiate."""
    take_along = StateOperations._take_along
    books: dict[ImCallEntry, dict[int, list[int]]] = {}

    def taken(driver: StateOperations, entry: ImCallEntry) -> None:
        take_along(driver, entry)
        books[entry] = {i: list(io.left) for i, io in (entry.sends or {}).items()}

    def home(driver: StateOperations, entry: ImCallEntry, indexes: Iterable[int]) -> None:
        for i in indexes:
            for address in books[entry].get(i, ()):
                driver.take_home(address)

    monkeypatch.setattr(StateOperations, "_take_along", taken)
    monkeypatch.setattr(StateOperations, "_home_again", home)


def _takes_a_removal_for_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that keeps a connection although its adapter was removed while it was on offer."""
    completed, tcp_event = initiate.completed, upload.tcp_event

    def event(host: Engine, offload_context: int, event_type: int, information: int) -> None:
        tcb = host.connection_of(offload_context)
        if tcb is None or tcb.state is not State.OFFLOADING:
            tcp_event(host, offload_context, event_type, information)

    def done(host: Engine, operation: Operation, block_list: BlockList) -> None:
        for tcb in [o for o in operation.objects if isinstance(o, Tcb)]:
            tcb.served = False
        completed(host, operation, block_list)

    monkeypatch.setattr(upload, "tcp_event", event)
    monkeypatch.setattr(initiate, "completed", done)


@pytest.mark.parametrize(
    ("plant", "first", "signs"),
    [
        pytest.param(_end_of_file_while_bytes_are_below, 20, ("was told of the end",), id="1-end of file"),
        pytest.param(_reads_what_is_lent, 0, ("two owners", "in place of"), id="2-read what is lent"),
        pytest.param(_books_sends_at_the_completion, 0, ("which is not posted",), id="3-booked too late"),
        pytest.param(_takes_home_what_is_home, 55, ("KeyError",), id="4-taken home twice"),
        pytest.param(
            _takes_a_removal_for_a_refusal, 55, ("have no owner", "in place of"), id="5-removed, not refused"
        ),
    ],
)
def test_a_planted_fault_is_found(
    monkeypatch: pytest.MonkeyPatch,
    plant: Callable[[pytest.MonkeyPatch], None],
    first: int,
    signs: Sequence[str],
) -> None:
    """One fault of each kind: what the play says shows that it found this one and not another.

    ``first``: the first of the seeds, so that the test need not play many that do not meet the fault.
    """
    plant(monkeypatch)
    seed, what = found(first)
    assert any(sign in what for sign in signs), f"seed {seed}: {what}"
