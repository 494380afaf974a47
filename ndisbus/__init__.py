"""NDIS itself: the call table, the wire, the bus, the runtime that hosts a driver, and supervision.

:mod:`ndisbus.drivers` has what people need who write a driver.
"""

from __future__ import annotations

__all__ = ["__version__"]

#: Equal to ``project.version`` in pyproject.toml; a test compares the two.
__version__ = "0.2.0"
