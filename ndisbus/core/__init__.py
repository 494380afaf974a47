"""NDIS itself: registry, bindings, block-list conversion, outstanding requests, hang detection.

:class:`NdisCore` is sans-I/O: it takes a message and the time and returns messages. The broker
(:mod:`ndisbus.runtime.broker`) and the simulation (:mod:`ndisbus.sim`) run the same object.
"""

from __future__ import annotations

from ndisbus.core.core import NdisCore
from ndisbus.core.model import BugCheck, CoreConfig

__all__ = ["BugCheck", "CoreConfig", "NdisCore"]
