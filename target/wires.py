"""Opening the wires of a target's adapters: the part of a target's process that is not sans-I/O."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from target.hardware.config import TargetConfig

if TYPE_CHECKING:
    from ndisbus.wire.link import Link

__all__ = ["open_wires"]


@contextlib.contextmanager
def open_wires(config: TargetConfig) -> Iterator[list[Link | None]]:
    """Open the links that ``config.wires`` names, for :class:`target.TargetDriver`. Close them at the end.

    Raises :class:`ndisbus.wire.link.LinkError` for a wire that cannot be opened.
    """
    from ndisbus.wire.open import open_link  # noqa: PLC0415 - brings sockets and devices

    with contextlib.ExitStack() as stack:
        links: list[Link | None] = []
        for adapter, spec in zip(config.adapters, config.wires, strict=False):
            if spec == "none":
                links.append(None)
                continue
            # Several adapters may be on one cable: each is a station of its own.
            link = open_link(spec, station=f"{config.name}-{adapter}")
            stack.callback(link.close)
            links.append(link)
        yield links
