"""The intermediate driver: both edges, IM call entries and IM offload entries, both block-list overlays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from imdriver.config import ChimneyPolicy, ImConfig
    from imdriver.driver import ImDriver

__all__ = ["ChimneyPolicy", "ImConfig", "ImDriver"]


def __getattr__(name: str) -> Any:
    # Loaded when asked for, so that ``python -m imdriver.life`` does not import that module twice.
    if name == "ImDriver":
        from imdriver.driver import ImDriver  # noqa: PLC0415

        return ImDriver
    if name in ("ChimneyPolicy", "ImConfig"):
        from imdriver import config  # noqa: PLC0415

        return getattr(config, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
