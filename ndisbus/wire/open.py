"""Opening a link from its spec: the medium, then its wrappers.

From the station outwards a frame passes: tracing, capture, impairments, the medium. So a capture shows
what the station sent and what it was given, and marks what the impairments did to it.
"""

from __future__ import annotations

from ndisbus.wire.link import Link
from ndisbus.wire.spec import LinkSpec

__all__ = ["open_link"]


def open_link(spec: str | LinkSpec, *, station: str) -> Link:
    """Open what ``spec`` names (see :mod:`ndisbus.wire.spec`).

    ``station`` is this process's name on a cable, where the spec gives none. Clock: time.monotonic().
    Raises :class:`ndisbus.wire.link.LinkError`: what was asked for, why not, and what to do.
    """
    raise NotImplementedError
