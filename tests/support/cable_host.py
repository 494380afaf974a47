"""A remote host on the cable of a real stack, in this process, for tests that connect to hosts."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from hoststack.api.network import Network, PollingRunner
from hoststack.peer.peer import Peer, station_mac
from ndisbus.wire.open import open_link
from tools.torture_stack import RealStack

__all__ = ["CableHost"]


class CableHost(PollingRunner):
    """10.77.0.9 on the cable ``wire0``. One thread at a time; it is served while one of its methods runs."""

    def __init__(self, stack: RealStack) -> None:
        name = "NDISBUS_RUNTIME_DIR"
        before = os.environ.get(name)
        os.environ[name] = str(stack.run_dir)  # the cable is a socket in there
        try:
            link = open_link("cable:wire0", station="test")
        finally:
            if before is None:
                del os.environ[name]
            else:
                os.environ[name] = before
        self.peer = Peer([(link, station_mac(9), ["10.77.0.9/24"])], serve=False)
        self.network = Network(self.peer.stack, self, timeout=20)

    def run_until(self, done: Callable[[], object], timeout: float) -> bool:
        return self.peer.run_until(done, timeout)

    def now(self) -> float:
        return time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.peer.close()
