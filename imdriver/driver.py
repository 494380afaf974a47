"""The intermediate driver, composed of its conversations."""

from __future__ import annotations

from typing import Any

from imdriver.config import ChimneyPolicy
from imdriver.entries import ImCallEntry, ImIoEntry, ImOffloadEntry, ImPacketEntry
from imdriver.indications import Indications
from imdriver.io import IoOperations
from imdriver.oids import OidRequests
from imdriver.operations import StateOperations
from imdriver.packets import Packets
from ndisbus.errors import LocalProtocolError, value_text

__all__ = ["ImDriver"]


class ImDriver(StateOperations, IoOperations, OidRequests, Packets, Indications):
    """An intermediate driver: a protocol edge below, a miniport edge with virtual adapters above."""

    def inspect(self) -> dict[str, int]:
        """Return the counters. Entries are counted in the heap itself, so that a leaked entry is seen."""
        call_entries = io_entries = packet_entries = offload_entries = 0
        for address, o in self.ndis.heap.objects.items():
            if type(o) is ImCallEntry:
                call_entries += 1
            elif type(o) is ImIoEntry:
                io_entries += 1
            elif type(o) is ImPacketEntry:
                packet_entries += 1
            elif type(o) is ImOffloadEntry and address == o.entry_address:
                offload_entries += 1
        return {
            "call_entries": call_entries,
            "offload_entries": offload_entries,
            "io_entries": io_entries,
            "packet_entries": packet_entries,
            "packets_above": len(self.passed_up),
            "adapters": len(self.adapters),
            "refused": self.refused,
            "stray_indications": self.strays,
        }

    def control(self, command: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Carry out a command of ``ndisbus fault``.

        ``no-memory {"sends": n}``: the next n sends find no memory (R-IM-14). The answer says how many are
        armed and how many have fired. ``chimney {"policy": "pass" | "block"}``: changes the policy. Raises
        :class:`LocalProtocolError` for anything else.
        """
        if command == "no-memory":
            sends = arguments.get("sends", self.no_memory_sends)
            if type(sends) is not int or sends < 0:
                raise LocalProtocolError(f"no-memory: sends = {value_text(sends)} is not a number of sends")
            self.no_memory_sends = sends
            return {"armed": self.no_memory_sends, "fired": self.no_memory_fired}
        if command == "chimney":
            policy = arguments.get("policy", self.chimney.value)
            try:
                self.chimney = ChimneyPolicy(policy)
            except ValueError:
                raise LocalProtocolError(
                    f"chimney: policy = {value_text(policy)} is neither pass nor block"
                ) from None
            return {"policy": self.chimney.value}
        raise LocalProtocolError(
            f"{self.config.name} does not know the command '{command}'; it knows no-memory and chimney"
        )
