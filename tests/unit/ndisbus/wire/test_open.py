"""Opening links from their specs: which wrappers, in which order, and what is left after a failure."""

from __future__ import annotations

import select
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ndisbus.wire.cable import CableLink
from ndisbus.wire.capture import CaptureLink
from ndisbus.wire.impair import ImpairedLink
from ndisbus.wire.link import Link, LinkError, NoLink
from ndisbus.wire.open import cable_directory, open_link
from ndisbus.wire.spec import LinkSpec
from ndisbus.wire.tracing import TracingLink

FRAME = b"\xff" * 6 + b"\x02\0\0\0\0\x01" + b"\x88\xb5"


@pytest.fixture(autouse=True)
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A runtime directory of this test's own, empty again afterwards."""
    directory = Path(tempfile.mkdtemp(prefix="nd"))
    monkeypatch.setenv("NDISBUS_RUNTIME_DIR", str(directory))
    yield directory
    left = list(directory.iterdir())
    shutil.rmtree(directory)
    assert not left


def layers(link: Link | None) -> list[type]:
    found: list[type] = []
    while link is not None:
        found.append(type(link))
        link = link.inner
    return found


def test_plain_links_have_no_wrappers(runtime: Path) -> None:
    link = open_link("cable:lan?mtu=9000", station="target")
    assert layers(link) == [CableLink]
    assert (link.name, link.mtu) == ("cable:lan", 9000)
    assert cable_directory("lan") == runtime / "cable-lan"
    assert [p.name for p in (runtime / "cable-lan").iterdir()] == ["target.station"]
    link.close()
    assert layers(open_link("none", station="x")) == [NoLink]
    assert open_link(LinkSpec("none", mtu=576), station="x").mtu == 576


def test_wrappers_stand_in_their_order(tmp_path: Path) -> None:
    spec = f"cable:lan?station=me&loss=1%&capture={tmp_path}/c&trace={tmp_path}/t"
    link = open_link(spec, station="target", emit=lambda _: None)
    assert layers(link) == [TracingLink, TracingLink, CaptureLink, ImpairedLink, CableLink]
    link.close()
    assert (tmp_path / "c").stat().st_size > 0


def test_trace_is_a_file_with_a_line_per_frame(tmp_path: Path) -> None:
    link = open_link(f"none?trace={tmp_path}/t", station="x")
    link.send(FRAME, 5.0)
    link.send(FRAME, 5.25)
    # Line by line, before it is closed.
    expected = "none →    14 02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff ethertype 0x88b5"
    assert (tmp_path / "t").read_text().splitlines() == [f"  0.000000 {expected}", f"  0.250000 {expected}"]
    link.close()


def test_trace_on_stderr_leaves_it_open(capsys: pytest.CaptureFixture[str]) -> None:
    link = open_link("none?trace=-", station="x")
    link.send(FRAME, 5.0)
    link.close()
    assert "ethertype 0x88b5" in capsys.readouterr().err


def lost(seed: str, station: str) -> list[int]:
    events: list[dict[str, Any]] = []
    link = open_link(f"none?loss=50%{seed}", station=station, emit=events.append)
    inner: Any = link.inner
    numbers = []
    for n in range(64):
        before = inner.faults["out"].lost
        link.send(FRAME + bytes((n,)), 0.0)
        if inner.faults["out"].lost > before:
            numbers.append(n)
    assert len(events) == 64
    return numbers


def test_seed_and_station_decide_what_is_lost() -> None:
    assert lost("", "a") == lost("", "a") == lost("&seed=0", "a")
    assert lost("&seed=1", "a") != lost("", "a")
    assert lost("", "b") != lost("", "a"), "two stations of one seed do not lose the same frames"


def test_two_stations_of_one_cable_hear_one_another() -> None:
    a, b = open_link("cable:lan", station="a"), open_link("cable:lan?delay=20ms", station="b")
    a.send(FRAME, 0.0)
    fd = b.fileno()
    assert fd is not None
    assert select.select([fd], [], [], 10)[0]
    assert b.receive(1.0) == []
    assert b.next_deadline() == 1.02
    assert b.receive(1.02) == [FRAME]
    a.close()
    b.close()


@pytest.mark.parametrize("key", ["capture", "trace"])
def test_what_was_opened_is_closed_again_if_the_rest_fails(key: str, tmp_path: Path, runtime: Path) -> None:
    with pytest.raises(LinkError, match=f"{key} {tmp_path}/no/x: No such file or directory"):
        open_link(f"cable:lan?{key}={tmp_path}/no/x", station="a")
    assert not list(runtime.iterdir())
