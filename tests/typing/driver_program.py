"""Drivers of one's own; mypy checks them."""

from __future__ import annotations

import sys
from typing import Any

from imdriver import ImConfig, ImDriver
from ndisbus.drivers import (
    BlockList,
    MiniportDriver,
    NblChain,
    NdisStatus,
    ProtocolDriver,
    Steps,
    run_driver,
)
from target import TargetConfig, TargetDriver, open_wires


class Protocol(ProtocolDriver):
    """A protocol edge."""

    def driver_entry(self) -> Steps:
        status, _ = yield self.ndis.register_protocol_driver(self.ndis.heap.address(), {"Name": "typed"})
        assert status == NdisStatus.SUCCESS

    def protocol_tcp_offload_send_complete(self, protocol_binding_context: int, chain: NblChain) -> None:
        self.sent = len(chain)


class Miniport(MiniportDriver):
    """A miniport edge."""

    def miniport_oid_request(self, miniport_adapter_context: int, oid_request: dict[str, Any]) -> Any:
        return super().miniport_oid_request(miniport_adapter_context, oid_request)


class Middle(ImDriver):
    """Both edges."""

    def protocol_query_offload_complete(self, protocol_binding_context: int, block_list: BlockList) -> None:
        super().protocol_query_offload_complete(protocol_binding_context, block_list)


class Nic(TargetDriver):
    """A target."""


def main() -> int:
    """One of them as a process."""
    config = TargetConfig(name="typed", adapters=("typed0",))
    with open_wires(config) as links:
        nic = Nic(config, links)
        run_driver(nic, name=config.name, readers=nic.readers())
    run_driver(Middle(ImConfig(adapters=("a",))), name="middle")
    return run_driver(Protocol(), name=sys.argv[0]) or run_driver(Miniport(), name="miniport")
