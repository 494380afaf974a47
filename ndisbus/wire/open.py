"""Opening a link from its spec: the medium, then its wrappers.

A frame from the station passes: tracing, capture, impairments, the medium. So a capture shows what the
station sent and received, and marks what the impairments did to it.
"""

from __future__ import annotations

import contextlib
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TextIO

from ndisbus.rundir import runtime_dir
from ndisbus.wire.cable import CableLink
from ndisbus.wire.capture import CaptureLink
from ndisbus.wire.impair import UNIMPAIRED, ImpairedLink
from ndisbus.wire.link import Link, LinkError, NoLink
from ndisbus.wire.spec import LinkSpec, parse_link
from ndisbus.wire.tap import TapLink
from ndisbus.wire.tracing import TracingLink

__all__ = ["cable_directory", "open_link"]

_MTU: Final = 1500


def cable_directory(name: str) -> Path:
    """Return the directory of a cable's sockets, in this user's runtime directory."""
    return runtime_dir() / f"cable-{name}"


def open_link(
    spec: str | LinkSpec,
    *,
    station: str,
    emit: Callable[[dict[str, Any]], object] | None = None,
) -> Link:
    """Open the link of ``spec`` (see :mod:`ndisbus.wire.spec`). Use it with time.monotonic() as ``now``.

    ``station`` is this process's name on a cable if the spec gives none. The impairments follow from the
    spec's seed (default 0) and the station's name. ``emit`` is called with the events of the frames, see
    :class:`ndisbus.wire.tracing.TracingLink`. Raises :class:`ndisbus.wire.link.LinkError` if the link cannot
    be opened.
    """
    if isinstance(spec, str):
        spec = parse_link(spec)
    station = spec.station or station
    with contextlib.ExitStack() as undo:
        link = _medium(spec, station)
        # If a later wrapper cannot be opened, close what was opened.
        undo.callback(link.close)
        if spec.ingress != UNIMPAIRED or spec.egress != UNIMPAIRED:
            rng = random.Random(f"{spec.seed}/{spec.name}/{station}")
            link = ImpairedLink(link, rng, ingress=spec.ingress, egress=spec.egress)
        if spec.capture is not None:
            link = CaptureLink(link, spec.capture, origin=time.time_ns() - time.monotonic_ns())
            undo.callback(link.close)
        if emit is not None:
            link = TracingLink(link, emit)
        if spec.trace is not None:
            lines = _Lines(spec.trace)
            link = TracingLink(link, lines.write, lines.close)
        undo.pop_all()
    return link


def _medium(spec: LinkSpec, station: str) -> Link:
    if spec.kind == "cable":
        return CableLink(cable_directory(spec.name), station, mtu=spec.mtu or _MTU, segment=spec.name)
    if spec.kind == "tap":
        return TapLink(spec.name, spec.netns)
    return NoLink(spec.mtu or _MTU)


class _Lines:
    """Writes events as lines of a file, or to stderr for "-". Times count from the first event."""

    def __init__(self, path: str) -> None:
        self._start: float | None = None
        try:
            # Line by line, so that the file is complete even if the process is killed.
            self._file: TextIO = sys.stderr if path == "-" else Path(path).open("w", buffering=1)  # noqa: SIM115
        except OSError as error:
            raise LinkError(f"trace {path}: {error.strerror}") from error

    def write(self, event: dict[str, Any]) -> None:
        """Write one line."""
        if self._start is None:
            self._start = event["t"]
        arrow = "←" if event["direction"] == "in" else "→"
        self._file.write(
            f"{event['t'] - self._start:10.6f} {event['link']} {arrow} {event['length']:5} {event['frame']}\n"
        )

    def close(self) -> None:
        """Close the file; stderr stays open."""
        if self._file is not sys.stderr:
            self._file.close()
