"""An intermediate driver of one's own: it says what became of each request that passes through it.

Start the bus and the target in one terminal, this in another, and a host in a third::

    honcho start bus target
    python examples/custom_im.py
    python examples/custom_host.py
"""

from __future__ import annotations

import sys

from imdriver import ImConfig, ImDriver
from ndisbus.drivers import BlockList, run_driver


class Talking(ImDriver):
    """Prints the number of blocks of each offload and upload, on the way down and on the way up."""

    def miniport_initiate_offload(self, miniport_adapter_context: int, block_list: BlockList) -> None:
        """MiniportInitiateOffload: a host above offloads."""
        print("down: initiate,", len(block_list), "blocks", flush=True)  # noqa: T201
        super().miniport_initiate_offload(miniport_adapter_context, block_list)

    def protocol_initiate_offload_complete(
        self, protocol_binding_context: int, block_list: BlockList
    ) -> None:
        """ProtocolInitiateOffloadComplete: the target below has answered."""
        print("up: initiate,", len(block_list), "blocks", flush=True)  # noqa: T201
        super().protocol_initiate_offload_complete(protocol_binding_context, block_list)

    def protocol_terminate_offload_complete(
        self, protocol_binding_context: int, block_list: BlockList
    ) -> None:
        """ProtocolTerminateOffloadComplete: the target below has given the state back."""
        print("up: terminate,", len(block_list), "blocks", flush=True)  # noqa: T201
        super().protocol_terminate_offload_complete(protocol_binding_context, block_list)


def main() -> int:
    """Run until it is stopped; the exit code of :func:`run_driver`."""
    return run_driver(Talking(ImConfig(adapters=("myim0",))), name="myim")


if __name__ == "__main__":
    sys.exit(main())
