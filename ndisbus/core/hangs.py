"""Hang detection: MiniportCheckForHangEx at the check interval, and a time limit for each request.

A driver lives as long as it advances: it answers, sends a call, or its ``progress`` counter grows. How many
messages wait before the question in its queue does not matter, until both the question and a request have
waited for so long that it cannot be the queue any more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ndisbus.core.model import AdapterState
from ndisbus.ddi.status import NdisStatus
from ndisbus.errors import RemoteProtocolError

if TYPE_CHECKING:
    from ndisbus.core.clock import Clock
    from ndisbus.core.model import Adapter, Client, CoreConfig, OidRequest, PacketSend, Request
    from ndisbus.core.outbound import Outbound
    from ndisbus.core.removal import Removal
    from ndisbus.messages.codec import Message

__all__ = ["HangWatch"]

#: A driver may hold a list of so many blocks twice as long as one of a single block.
_BLOCKS: Final = 100_000
#: How many times as long as a request the question may wait in the queue of a driver that advances.
_PATIENCE: Final = 6


class HangWatch:
    """Asks miniports whether they hang, and removes those that do."""

    __slots__ = ("clock", "config", "out", "removal", "resumed_at")

    def __init__(self, config: CoreConfig, clock: Clock, out: Outbound, removal: Removal) -> None:
        self.config = config
        self.clock = clock
        self.out = out
        self.removal = removal
        #: When NDIS itself last ran again after a pause. No time before it counts against a driver.
        self.resumed_at = 0.0

    def resumed(self, paused: float) -> None:
        """Give every driver a fresh limit: NDIS itself, and perhaps the whole machine, did not run.

        A short pause changes nothing. Otherwise a bus that often waits for a processor would find no hang.
        """
        if paused >= self.config.hang_limit / 4:
            self.resumed_at = self.clock.now

    def progress(self, client: Client, message: Message) -> None:
        """Take a driver's sign of life. A counter that does not grow is not one."""
        args = message[2]
        if len(args) != 1 or type(args[0]) is not int or args[0] < 0:
            raise RemoteProtocolError("progress takes one counter, an integer that is not negative")
        if args[0] > client.progress:
            client.progress = args[0]
            client.heard_at = self.clock.now

    def watch(self, client: Client) -> None:
        """Start to ask a miniport at the check interval whether it hangs."""
        if not client.watched:
            client.watched = True
            self.clock.schedule(self.clock.now + self.config.check_interval, lambda: self._check_hang(client))

    def _check_hang(self, client: Client) -> None:
        if client.closed:
            return
        up = (AdapterState.UP, AdapterState.CLOSING)
        adapters = [a for a in client.adapters if a.state in up and a.context is not None]
        if not adapters:
            client.watched = False
            return
        overdue = self._overdue(client)
        if overdue:
            self.removal.remove(client, overdue, hung=True)
            return
        adapter = adapters[0]
        asked_at = self.clock.now
        answered = False

        def heard(values: list[Any] | None) -> None:
            nonlocal answered
            answered = True
            if client.closed:
                return
            if values and values[0] is True:
                self._reset(client, adapter)
            self.clock.schedule(
                max(self.clock.now, asked_at + self.config.check_interval), lambda: self._check_hang(client)
            )

        self.out.call(client, "MiniportCheckForHangEx", [adapter.context], heard)

        def too_late() -> None:
            if answered or client.closed:
                return
            # A driver that advances is alive. It only takes long to reach this question.
            since = max(asked_at, client.heard_at, self.resumed_at)
            reason = f"no answer to MiniportCheckForHangEx for {self.config.hang_limit:g} s"
            if self.clock.now - since + 1e-9 < self.config.hang_limit:
                waited = self.clock.now - max(asked_at, self.resumed_at)
                overdue = waited > _PATIENCE * self.config.request_limit and self._overdue(client)
                if not overdue:
                    self.clock.schedule(since + self.config.hang_limit, too_late)
                    return
                reason = f"{overdue}, and did not answer MiniportCheckForHangEx for {waited:.0f} s"
            self.removal.remove(client, reason, hung=True)

        self.clock.schedule(asked_at + self.config.hang_limit, too_late)

    def _overdue(self, client: Client) -> str:
        """Describe a request that this driver itself has held for too long; "" if there is none."""
        limit = self.config.request_limit
        for adapter in client.adapters:
            for root, request in adapter.requests.items():
                # A long list takes longer, without a driver's fault.
                allowed = limit * (1 + len(request.blocks) / _BLOCKS)
                if self._held(request) <= allowed:
                    continue
                if adapter.paused and request.operation.op == "initiate":
                    continue  # a paused target may queue requests for any time (R-PAUSE-02)
                if not any(root in b.adapter.requests for b in client.bindings):
                    return f"held {request.operation.request} {root:#x} for more than {allowed:g} s"
            for first, send in adapter.sends.items():
                if first in (send.waylaid or ()) or any(first in b.adapter.sends for b in client.bindings):
                    continue
                if self._held(send) > limit:
                    return f"held a list of NdisSendNetBufferLists for more than {limit:g} s"
                break  # the lists are in the order in which they came, so later ones are younger
            for oid in adapter.oids.values():
                if self._held(oid) <= limit:
                    continue
                # Below an intermediate driver the request has a different RequestId, so compare without it.
                if not any(o.binding is b for b in client.bindings for o in b.adapter.oids.values()):
                    return f"held NdisOidRequest {oid.request['Oid']:#010x} for more than {limit:g} s"
        return ""

    def _held(self, request: Request | PacketSend | OidRequest) -> float:
        """Return for how long a driver has held a request, without time in which NDIS itself did not run."""
        return self.clock.now - max(request.started_at, request.back_at, self.resumed_at)

    def _reset(self, client: Client, adapter: Adapter) -> None:
        """Call MiniportResetEx for a miniport whose hardware hangs. A failed reset removes the adapter."""
        self.out.emit("reset", adapter=adapter.name, driver=client.name)

        def reset(values: list[Any] | None) -> None:
            if values is not None and values[0] != NdisStatus.SUCCESS:
                self.removal.remove(client, f"MiniportResetEx of {adapter.name} failed", hung=True)

        self.out.call(client, "MiniportResetEx", [adapter.context], reset)
