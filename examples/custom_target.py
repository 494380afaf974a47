"""A target of one's own: it says what it is asked to do, and leaves the work to the target of this project.

Start the bus in one terminal, this in another, and a host in a third::

    ndisbus serve
    python examples/custom_target.py
    python examples/custom_host.py
"""

from __future__ import annotations

import sys

from ndisbus.drivers import BlockList, run_driver
from target import TargetConfig, TargetDriver, open_wires


class TalkingTarget(TargetDriver):
    """A target that prints each list of blocks before it works on it."""

    def miniport_initiate_offload(self, miniport_adapter_context: int, block_list: BlockList) -> None:
        """MiniportInitiateOffload."""
        print("initiate:", len(block_list), "blocks", flush=True)  # noqa: T201
        super().miniport_initiate_offload(miniport_adapter_context, block_list)

    def miniport_terminate_offload(self, miniport_adapter_context: int, block_list: BlockList) -> None:
        """MiniportTerminateOffload."""
        print("terminate:", len(block_list), "blocks", flush=True)  # noqa: T201
        super().miniport_terminate_offload(miniport_adapter_context, block_list)


def main() -> int:
    """Run until it is stopped; the exit code of :func:`run_driver`."""
    config = TargetConfig(name="mytarget", adapters=("mynic0",), wires=("cable:lan",), tcp_entries=1000)
    with open_wires(config) as links:
        driver = TalkingTarget(config, links)
        return run_driver(driver, name=config.name, readers=driver.readers())


if __name__ == "__main__":
    sys.exit(main())
