"""The cable, with all stations in this process; tests/process has those that are killed and stopped."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import socket
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ndisbus.errors import LocalProtocolError
from ndisbus.rundir import locked
from ndisbus.wire.cable import BATCH, CableLink
from ndisbus.wire.cable_station import AWAY, BACKLOG, ROOM
from ndisbus.wire.link import LinkError

DEADLINE = 30.0
ALL = b"\xff" * 6


def mac(name: str) -> bytes:
    return b"\x02" + name.encode()[:5].rjust(5, b"\0")


def frame(to: str | None, source: str, payload: bytes = b"x" * 46) -> bytes:
    return (mac(to) if to else ALL) + mac(source) + b"\x88\xb5" + payload


def take(link: CableLink, count: int, *, others: tuple[CableLink, ...] = ()) -> list[bytes]:
    """The next ``count`` frames; ``others`` get their turns meanwhile."""
    frames: list[bytes] = []
    end = time.monotonic() + DEADLINE
    while len(frames) < count:
        for each in others:
            assert not each.receive(0.0)
        fd = link.fileno()
        assert fd is not None
        left = end - time.monotonic()
        if left <= 0 or not select.select([fd], [], [], left)[0]:
            pytest.fail(f"{len(frames)} of {count} frames within {DEADLINE:g} s")
        frames += link.receive(0.0)
    return frames


@pytest.fixture
def directory() -> Iterator[Path]:
    """A segment without stations."""
    # Not tmp_path: a socket's path is at most 107 bytes long.
    above = Path(tempfile.mkdtemp(prefix="nd"))
    yield above / "lan"
    shutil.rmtree(above)


@pytest.fixture
def plug(directory: Path) -> Iterator[Callable[..., CableLink]]:
    """Makes stations, which leave when the test ends, and the directory with them."""
    links: list[CableLink] = []

    def make(name: str, **options: Any) -> CableLink:
        links.append(CableLink(directory, name, **options))
        return links[-1]

    yield make
    for link in links:
        link.close()
    assert not directory.exists() or list(directory.iterdir()), "an empty directory stays behind"


Plug = Callable[..., CableLink]


# --- frames


def test_frame_reaches_every_other_station(plug: Plug) -> None:
    a, b, c = (plug(n) for n in "abc")
    a.send(frame(None, "a"), 0.0)
    assert take(b, 1) == take(c, 1) == [frame(None, "a")]
    assert a.receive(0.0) == []
    assert a.stations == ["b", "c"]
    assert (a.name, a.mtu, a.inner, a.next_deadline()) == ("cable:lan", 1500, None, None)


def test_answer_goes_to_the_one_station_that_was_heard(plug: Plug) -> None:
    a, b, c = (plug(n) for n in "abc")
    a.send(frame("b", "a"), 0.0)
    take(b, 1), take(c, 1)
    b.send(frame("a", "b"), 0.0)
    take(a, 1)
    assert c.receive(0.0) == []
    # The address moves: the station that used it last has it.
    c.send(frame("a", "b"), 0.0)
    take(a, 1)
    a.send(frame("b", "a"), 0.0)
    take(c, 1)
    assert b.receive(0.0) == []


def test_descriptor_is_readable_while_frames_wait(plug: Plug) -> None:
    a, b = plug("a"), plug("b")
    fd = b.fileno()
    assert fd is not None
    assert not select.select([fd], [], [], 0)[0]
    for _ in range(3):
        a.send(frame(None, "a"), 0.0)
    assert select.select([fd], [], [], DEADLINE)[0]
    take(b, 3)
    assert not select.select([fd], [], [], 0)[0]


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    deadline=None,
    max_examples=25,
)
@given(payloads=st.lists(st.binary(max_size=200), max_size=60))
def test_frames_arrive_whole_and_in_order(plug: Plug, directory: Path, payloads: list[bytes]) -> None:
    with (
        contextlib.closing(CableLink(directory, "x")) as x,
        contextlib.closing(CableLink(directory, "y")) as y,
    ):
        sent = [frame("y", "x", p) for p in payloads]
        for f in sent:
            x.send(f, 0.0)
        assert take(y, len(sent), others=(x,)) == sent
    assert not directory.exists()


def test_frames_of_wrong_sizes_are_dropped_and_counted(plug: Plug) -> None:
    a, b = plug("a", mtu=9000), plug("b", mtu=1500)
    a.send(ALL + mac("a"), 0.0)
    a.send(frame(None, "a", bytes(9005)), 0.0)
    a.send(frame(None, "a", bytes(9004)), 0.0)
    a.send(frame(None, "a", bytes(1504)), 0.0)
    assert len(take(b, 1)[0]) == 1518
    assert a.counters.to_wire()["Dropped"] == {"too long": 1, "too short": 1}
    assert b.counters.to_wire() == {
        "Sent": 0,
        "SentBytes": 0,
        "Received": 1,
        "ReceivedBytes": 1518,
        "Dropped": {"too long": 1},
    }


def test_what_is_no_datagram_of_a_station_is_dropped_and_counted(plug: Plug, directory: Path) -> None:
    a = plug("a")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as stranger:
        stranger.connect(str(directory / "a.station"))
        for datagram in (
            b"",
            b"\0" + frame(None, "b"),
            b"\x01b" + bytes(13),
            b"\xff" * 100,
            b"\x29" + bytes(60),
        ):
            stranger.send(datagram)
            assert a.receive(0.0) == []
        assert a.counters.dropped == {"malformed": 5}
        stranger.send(b"\x01z" + frame("a", "z"))
    assert take(a, 1) == [frame("a", "z")]
    a.send(frame("z", "a"), 0.0)
    assert a.counters.dropped["alone"] == 1, "there is no station z to answer to"


def test_addresses_remembered_are_bounded(plug: Plug) -> None:
    a, b = plug("a"), plug("b")
    for n in range(4200):
        a.send(ALL + b"\x02" + n.to_bytes(5, "big") + b"\x88\xb5", 0.0)
        b.receive(0.0)
    assert len(b._behind) == 4096


# --- a station that does not take its frames


def test_station_that_takes_nothing_costs_the_others_nothing(plug: Plug) -> None:
    a, stuck, well = plug("a"), plug("stuck"), plug("well")
    arrived = 0
    count = BACKLOG + 1000
    for _ in range(count):
        a.send(frame(None, "a", bytes(1400)), 0.0)
        arrived += len(well.receive(0.0))
        a.receive(0.0)
    assert arrived == count
    assert set(a.counters.dropped) == {"full"}
    # What waited comes as soon as it is taken, and the rest is lost.
    kept = count - a.counters.dropped["full"]
    assert kept >= BACKLOG
    assert len(take(stuck, kept, others=(a,))) == kept
    a.send(frame(None, "a"), 0.0)
    assert take(stuck, 1) == take(well, 1)


def test_a_sender_that_asks_waits_for_a_full_station_and_for_no_other(plug: Plug) -> None:
    a, slow, well = plug("a"), plug("slow"), plug("well")
    for link in (slow, well):
        link.send(frame(None, link.station), 0.0)
    take(a, 2)
    sent = 0
    while a.takes(mac("slow")):
        a.send(frame("slow", "a"), 0.0)
        sent += 1
        assert sent < BACKLOG
    assert sent >= ROOM
    assert a.takes(mac("well"))
    assert a.takes(ALL)
    assert a.takes(mac("new"))
    assert a.counters.dropped == {}
    take(slow, sent - ROOM // 2, others=(a,))
    assert a.takes(mac("slow"))


def test_no_sender_waits_for_a_station_that_is_away(plug: Plug) -> None:
    """It may be stopped: frames for it are dropped then, as TCP expects of a network."""
    a, stopped = plug("a"), plug("stopped")
    stopped.send(frame(None, "stopped"), 0.0)
    take(a, 1)
    while a.takes(mac("stopped")):
        a.send(frame("stopped", "a"), 5.0)
    assert a.next_deadline() == 5.0 + AWAY
    a.receive(5.0 + AWAY / 2)
    assert not a.takes(mac("stopped"))
    a.receive(5.0 + AWAY)
    assert a.takes(mac("stopped"))
    assert a.next_deadline() is None
    # It is back: senders wait for it as before.
    assert len(stopped.receive(9.0)) > 0
    a.receive(9.0)
    while a.takes(mac("stopped")):
        a.send(frame("stopped", "a"), 9.0)
    assert a.next_deadline() == 9.0 + AWAY
    assert a.counters.dropped == {}


def test_descriptor_wakes_the_sender_once_there_is_room_again(plug: Plug) -> None:
    a, b = plug("a"), plug("b")
    for _ in range(BACKLOG):
        a.send(frame(None, "a"), 0.0)
    fd = a.fileno()
    assert fd is not None
    assert not select.select([fd], [], [], 0)[0], "or it would spin while the other one sleeps"
    first = len(b.receive(0.0))
    assert 0 < first < BACKLOG
    assert select.select([fd], [], [], DEADLINE)[0]
    take(b, BACKLOG - first, others=(a,))
    assert not select.select([fd], [], [], 0)[0]


def test_where_no_descriptor_tells_of_room_a_deadline_does(
    plug: Plug, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(select, "epoll")
    a, b = plug("a"), plug("b")
    assert a.next_deadline() is None
    for n in range(BACKLOG):
        a.send(frame(None, "a", n.to_bytes(50, "big")), 1.0)
    assert a.receive(1.0) == []
    due = a.next_deadline()
    assert due is not None and 1.0 < due < 1.1
    assert take(b, BACKLOG, others=(a,)) == [frame(None, "a", n.to_bytes(50, "big")) for n in range(BACKLOG)]
    assert a.next_deadline() is None


def test_one_receive_returns_a_limited_number_of_frames(plug: Plug) -> None:
    a, b = plug("a"), plug("b")
    for _ in range(3 * BATCH):
        a.send(frame(None, "a"), 0.0)
    assert 0 < len(b.receive(0.0)) <= BATCH


# --- coming and going


def test_stations_come_in_any_order_and_later(plug: Plug) -> None:
    a = plug("a")
    a.send(frame(None, "a"), 0.0)
    assert a.counters.dropped == {"alone": 1}
    for n in range(20):
        late = plug(f"late{n}")
        a.send(frame(None, "a"), 0.0)
        take(late, 1)
        late.send(frame("a", f"late{n}"), 0.0)
        take(a, 1)
    assert len(a.stations) == 20


def test_many_stations_hear_one_another(plug: Plug) -> None:
    links = [plug(f"s{n}") for n in range(40)]
    for link in links:
        link.send(frame(None, link.station), 0.0)
        for other in links:
            if other is not link:
                assert take(other, 1) == [frame(None, link.station)]


def test_station_that_left_is_forgotten_and_its_successor_found(plug: Plug) -> None:
    a, b = plug("a"), plug("b")
    a.send(frame(None, "a"), 0.0)
    take(b, 1)
    b.send(frame("a", "b"), 0.0)
    take(a, 1)
    b.close()
    b.close()
    assert b.fileno() is None
    assert b.receive(0.0) == []
    with pytest.raises(LocalProtocolError, match="station b has left cable:lan"):
        b.send(frame("a", "b"), 0.0)
    a.send(frame("b", "a"), 0.0)
    assert a.stations == []
    again = plug("b")
    a.send(frame("b", "a"), 0.0)
    assert take(again, 1) == [frame("b", "a")]


def test_what_waits_for_a_station_that_goes_is_lost_and_counted(plug: Plug) -> None:
    a, b = plug("a"), plug("b")
    for _ in range(100):
        a.send(frame(None, "a"), 0.0)
    b.close()
    a.receive(0.0)
    a.send(frame(None, "a"), 0.0)
    assert a.counters.dropped["gone"] > 50
    assert a.stations == []
    fd = a.fileno()
    assert fd is not None
    assert not select.select([fd], [], [], 0)[0]


def test_a_name_is_one_station(plug: Plug) -> None:
    plug("a")
    with pytest.raises(LinkError, match=r"cable:lan already has a station a; .*station=NAME"):
        plug("a")


def leave_stale(directory: Path, name: str) -> Path:
    """What a station leaves behind that is killed."""
    directory.mkdir(mode=0o700, exist_ok=True)
    path = directory / f"{name}.station"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as dead:
        dead.bind(str(path))
    return path


def test_stale_file_does_not_hold_a_name(plug: Plug, directory: Path) -> None:
    leave_stale(directory, "b")
    b, a = plug("b"), plug("a")
    a.send(frame(None, "a"), 0.0)
    take(b, 1)


def test_stale_file_of_another_is_removed_by_the_station_that_finds_it(plug: Plug, directory: Path) -> None:
    a = plug("a")
    path = leave_stale(directory, "dead")
    a.send(frame(None, "a"), 0.0)
    assert not path.exists()
    assert a.counters.dropped == {"alone": 1}


def test_last_station_removes_stale_files_and_the_directory(plug: Plug, directory: Path) -> None:
    a, b = plug("a"), plug("b")
    leave_stale(directory, "dead")
    a.close()
    assert [p.name for p in directory.iterdir()] == ["b.station"]
    leave_stale(directory, "dead")
    b.close()
    assert not directory.exists()


def test_killed_station_that_is_back_gets_the_first_frame(plug: Plug, directory: Path) -> None:
    a = plug("a")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as b:
        b.bind(str(directory / "b.station"))
        b.settimeout(DEADLINE)
        b.sendto(b"\x01b" + frame("a", "b"), str(directory / "a.station"))
        take(a, 1)
        a.send(frame("b", "a"), 0.0)
        assert b.recv(2000) == b"\x01a" + frame("b", "a")
    again = plug("b")
    a.send(frame("b", "a"), 0.0)
    assert take(again, 1) == [frame("b", "a")]
    assert not a.counters.dropped


def test_station_whose_directory_was_replaced_leaves_its_successor_alone(plug: Plug, directory: Path) -> None:
    old = plug("a")
    shutil.rmtree(directory)
    plug("a")
    old.close()
    assert (directory / "a.station").exists()


def test_what_is_no_socket_is_left_alone(plug: Plug, directory: Path) -> None:
    directory.mkdir()
    other = directory / "b.station"
    other.write_text("mine")
    a = plug("a")
    a.send(frame(None, "a"), 0.0)
    with pytest.raises(LinkError, match="exists and is not a socket; move it away"):
        plug("b")
    assert other.read_text() == "mine"
    a.close()
    other.unlink()
    directory.rmdir()


def test_a_stream_socket_is_left_alone(plug: Plug, directory: Path) -> None:
    directory.mkdir()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
        other.bind(str(directory / "b.station"))
        other.listen()
        a = plug("a")
        a.send(frame(None, "a"), 0.0)
        assert a.counters.dropped == {"refused": 1, "alone": 1}
        a.close()
        assert (directory / "b.station").exists()
    (directory / "b.station").unlink()
    directory.rmdir()


def test_directory_held_by_one_that_is_stopped_stops_no_station_that_sends_or_leaves(
    plug: Plug, directory: Path
) -> None:
    a = plug("a")
    stale = leave_stale(directory, "dead")
    with locked(directory):
        a.send(frame(None, "a"), 0.0)
        a.close()
    assert stale.exists(), "tidying up is left to the next one"
    plug("b").close()
    assert not directory.exists()


def test_directory_that_vanished_is_no_trouble(plug: Plug, directory: Path) -> None:
    a, b = plug("a"), plug("b")
    a.send(frame(None, "a"), 0.0)
    shutil.rmtree(directory)
    a.send(frame(None, "a"), 0.0)
    assert len(take(b, 2)) == 2, "who is known is known"
    a.close()


def test_directory_is_this_users_only(plug: Plug, directory: Path) -> None:
    before = os.umask(0)
    try:
        plug("a")
    finally:
        os.umask(before)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700


@pytest.mark.parametrize("name", ["", "a/b", "-x", "ü", "a" * 41])
def test_bad_names_are_refused(directory: Path, name: str) -> None:
    with pytest.raises(LinkError, match="cannot be the name of a station"):
        CableLink(directory, name)


def test_path_too_long_says_what_to_do(directory: Path) -> None:
    with pytest.raises(LinkError, match=r"a socket's path in it has \d+ bytes.*NDISBUS_RUNTIME_DIR"):
        CableLink(directory / ("x" * 100), "a")


def test_directory_that_cannot_be_made_says_why(directory: Path) -> None:
    directory.write_text("a file")
    with pytest.raises(LinkError, match="File exists"):
        CableLink(directory, "a")


def test_change_of_the_directory_within_one_tick_of_its_clock_is_seen(
    plug: Plug, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = plug("a")
    assert a.stations == []
    about = directory.stat()
    plug("b")
    # As if the second change had fallen into the same tick as the first.
    os.utime(directory, ns=(about.st_atime_ns, about.st_mtime_ns))
    monkeypatch.setattr(time, "time_ns", lambda: about.st_mtime_ns + 1_000_000)
    assert a.stations == ["b"]


def test_the_last_to_leave_removes_the_directory_though_another_is_leaving_too(tmp_path: Path) -> None:
    """Two that leave at once: one has the directory in its hands, and the other one's file is the last."""
    directory = tmp_path / "lan"
    station = CableLink(directory, "a")
    with locked(directory):
        station.close()
    assert not directory.exists()
