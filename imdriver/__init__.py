"""The intermediate driver: both edges, IM call entries and IM offload entries, both block-list overlays.

Owns: what it borrows from requests on their way down and must restore on their way up. Must not know: the
state structures and the payload that pass through it, except for the 802.1Q values that it may set, and the
reachability that it asks the drivers above for.

Files in reading order:

- driver: the driver, put together from its conversations; cli and config: how it is started
- edges, registration: both edges, and the tables of entry points; adapter: the adapters above and below
- entries, life: call entries and offload entries, and their lives; overlay: the two forms of one list, with
  SourceHandle and ImReserved saved and restored
- operations, io, packets, indications, oids: one conversation each; stamps: 802.1Q values in an initiate
"""

from __future__ import annotations

# Type checkers treat this as true. Importing typing would take longer than the rest of this module.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from imdriver.config import ChimneyPolicy, ImConfig
    from imdriver.driver import ImDriver

__all__ = ["ChimneyPolicy", "ImConfig", "ImDriver"]


def __getattr__(name: str) -> object:
    # Loaded on first use, so that ``python -m imdriver.life`` does not import that module twice.
    if name == "ImDriver":
        from imdriver.driver import ImDriver  # noqa: PLC0415

        return ImDriver
    if name in ("ChimneyPolicy", "ImConfig"):
        from imdriver import config  # noqa: PLC0415

        return getattr(config, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
