"""The offload target: the miniport at the bottom of the stack that runs offloaded connections.

``TargetDriver`` is the driver, ``TargetConfig`` what its hardware can do. ``python -m target`` runs it.
"""

from __future__ import annotations

from target.driver import TargetDriver
from target.hardware.config import TargetConfig

__all__ = ["TargetConfig", "TargetDriver"]
