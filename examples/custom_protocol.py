"""A protocol driver of one's own: it binds to an adapter and says what frames arrive beside the chimney.

Start the bus, the target and the remote host in one terminal, this in another, and a host in a third::

    honcho start bus target im peer
    python examples/custom_protocol.py nic0
    python examples/live_host.py
"""

from __future__ import annotations

import sys
from typing import Any

from ndisbus.drivers import NblChain, NdisStatus, ProtocolDriver, Steps, run_driver


class Listener(ProtocolDriver):
    """Opens the adapters that it is given, and counts the frames that they indicate."""

    def __init__(self, name: str, adapters: list[str]) -> None:
        self.name = name
        self.adapters = adapters
        self.handle = 0
        #: ProtocolBindingContext -> (NdisBindingHandle, name of the adapter).
        self.bindings: dict[int, tuple[int, str]] = {}
        self.frames = 0

    def driver_entry(self) -> Steps:
        """DriverEntry: register. What is yielded is a call whose answer the handler waits for."""
        status, self.handle = yield self.ndis.register_protocol_driver(
            self.ndis.heap.address(), {"Name": self.name, "Bind": self.adapters}
        )
        print("registered" if status == NdisStatus.SUCCESS else f"not registered: {status:#x}", flush=True)  # noqa: T201

    def protocol_bind_adapter_ex(
        self, protocol_driver_context: int | None, bind_context: int, parameters: dict[str, Any]
    ) -> Steps:
        """ProtocolBindAdapterEx: an adapter is there. Open it."""
        name = str(parameters["AdapterName"])
        context = self.ndis.heap.address()
        status, handle = yield self.ndis.open_adapter_ex(self.handle, context, {"AdapterName": name})
        if status == NdisStatus.SUCCESS:
            self.bindings[context] = handle, name
            print("bound to", name, flush=True)  # noqa: T201
        return status

    def protocol_unbind_adapter_ex(self, unbind_context: int, protocol_binding_context: int) -> NdisStatus:
        """ProtocolUnbindAdapterEx: the adapter goes. Close it."""
        self.ndis.close_adapter_ex(self.bindings[protocol_binding_context][0])
        return NdisStatus.SUCCESS

    def protocol_close_adapter_complete_ex(self, protocol_binding_context: int) -> None:
        """ProtocolCloseAdapterCompleteEx: the binding is gone."""
        _, name = self.bindings.pop(protocol_binding_context)
        print("unbound from", name, flush=True)  # noqa: T201

    def protocol_receive_net_buffer_lists(
        self, protocol_binding_context: int, chain: NblChain, port_number: int, count: int, receive_flags: int
    ) -> None:
        """ProtocolReceiveNetBufferLists: count the frames; the base gives the lists back."""
        self.frames += count
        print(self.frames, "frames", flush=True)  # noqa: T201
        super().protocol_receive_net_buffer_lists(
            protocol_binding_context, chain, port_number, count, receive_flags
        )

    def detached(self, reason: str) -> None:
        """The bus is gone, and the bindings with it; driver_entry follows when it is back."""
        self.bindings.clear()

    def inspect(self) -> dict[str, int]:
        """Counters for ``ndisbus ps``."""
        return {"bindings": len(self.bindings), "frames": self.frames}


def main() -> int:
    """Run until it is stopped; the exit code of :func:`run_driver`."""
    return run_driver(Listener("listener", sys.argv[1:] or ["nic0"]), name="listener")


if __name__ == "__main__":
    sys.exit(main())
