"""Somebody is gone: killed, stalled beyond the limit, bug-checked, or left.

What a dead driver held for the layers above is completed upwards at once, in the order it was issued,
and its bindings are unbound (a surprise removal). What it had offloaded below is terminated and freed.
Each request is completed exactly once, whatever dies.
"""

from __future__ import annotations

from typing import Any, Final

from ndisbus.core.base import Core
from ndisbus.core.model import Adapter, AdapterState, BindingState, BugCheck, Peer
from ndisbus.ddi.enums import Layer, TcpOffloadEventType, TcpUploadReason
from ndisbus.ddi.status import NdisStatus

__all__ = ["RemovalPart"]

#: Hung drivers that are remembered after their removal; beyond that the oldest is forgotten.
MAX_CUT_OFF: Final = 32
_FAILURE: Final = int(NdisStatus.FAILURE)


class RemovalPart(Core):
    """Removal of peers, hang detection."""

    def process_died(self, peer: Peer, reason: str) -> None:
        """The process is gone: :meth:`remove_peer`, and it is not listed as cut off any more."""
        if self.cut_off.get(peer.name) is peer:
            del self.cut_off[peer.name]
        self.remove_peer(peer, reason)

    def remove_peer(
        self, peer: Peer, reason: str, *, bug_check: BugCheck | None = None, hung: bool = False
    ) -> None:
        """Close a driver's epoch and clean up on both sides of it. Harmless when it is closed already.

        A ``hung`` one stays listed as cut off, since its process is there.
        """
        if peer.closed:
            return
        if hung:
            while len(self.cut_off) >= MAX_CUT_OFF:
                del self.cut_off[next(iter(self.cut_off))]
            self.cut_off[peer.name] = peer
        info: dict[str, Any] = {"Reason": reason, "Epoch": peer.epoch}
        if bug_check is not None:
            info["BugCheck"] = bug_check.to_wire()
        self.send(peer, ["closed", None, [info]])
        peer.closed = True
        self.emit("closed", driver=peer.name, pid=peer.pid, epoch=peer.epoch, reason=reason)
        for adapter in peer.adapters:
            adapter.state = AdapterState.DEAD  # before anything else happens: nobody is to be bound to it now
        for pending in list(peer.pending.values()):
            pending.then(None)
        peer.pending.clear()
        for adapter in list(peer.adapters):
            self._remove_adapter(adapter, reason)
        for binding in list(peer.bindings):
            binding.state = BindingState.ABANDONED
            self.settle(binding)
        self.bind_all()

    def _remove_adapter(self, adapter: Adapter, reason: str) -> None:
        """A surprise removal: fail what is outstanding, abort what was offloaded, unbind."""
        adapter.state = AdapterState.DEAD
        self.adapters.pop(adapter.handle, None)
        adapter.driver.adapters.remove(adapter)
        # Net buffer lists first, as always: those of a connection are back before its terminate completes.
        self.abort_nbls(adapter)
        self.abort_packets(adapter)
        for request in list(adapter.requests.values()):
            self.fail_up(adapter, request, _FAILURE)
        self.abort_oids(adapter)
        retrieve, abort = (
            int(TcpOffloadEventType.TcpIndicateRetrieve),
            int(TcpOffloadEventType.TcpIndicateAbort),
        )
        failure = int(TcpUploadReason.HardwareFailure)
        for binding in list(adapter.bindings):
            for handle, (layer, _) in list(binding.objects.items()):
                if layer == Layer.TCP:
                    self.send(
                        binding.protocol, ["ProtocolTcpOffloadEvent", None, [handle, retrieve, failure]]
                    )
                    self.send(binding.protocol, ["ProtocolTcpOffloadEvent", None, [handle, abort, 0]])
            if binding.state is BindingState.OPEN:
                self.unbind(binding, f"{adapter.driver.name}: {reason}")
            else:
                self.settle(binding)

    # -- hangs ---------------------------------------------------------------------------------

    def watch_hang(self, peer: Peer) -> None:
        """Begin asking a miniport, at the check interval, whether it hangs."""
        if not peer.watched:
            peer.watched = True
            self.schedule(self.now + self.config.check_interval, lambda: self._check_hang(peer))

    def _check_hang(self, peer: Peer) -> None:
        if peer.closed:
            return
        up = (AdapterState.UP, AdapterState.CLOSING)
        adapters = [a for a in peer.adapters if a.state in up and a.context is not None]
        if not adapters:
            peer.watched = False
            return
        overdue = self._overdue(peer)
        if overdue:
            self.remove_peer(peer, overdue, hung=True)
            return
        adapter = adapters[0]
        asked_at = self.now
        answered = False

        def heard(values: list[Any] | None) -> None:
            nonlocal answered
            answered = True
            if peer.closed:
                return
            if values and values[0] is True:
                self._reset(peer, adapter)
            self.schedule(
                max(self.now, asked_at + self.config.check_interval), lambda: self._check_hang(peer)
            )

        self.call(peer, "MiniportCheckForHangEx", [adapter.context], heard)

        def too_late() -> None:
            if answered or peer.closed:
                return
            # A driver that sends is alive, only slow to come to this question.
            quiet = self.now - max(asked_at, peer.heard_at)
            if quiet + 1e-9 < self.config.hang_limit:
                self.schedule(max(asked_at, peer.heard_at) + self.config.hang_limit, too_late)
                return
            reason = f"no answer to MiniportCheckForHangEx for {self.config.hang_limit:g} s"
            self.remove_peer(peer, reason, hung=True)

        self.schedule(asked_at + self.config.hang_limit, too_late)

    def _overdue(self, peer: Peer) -> str:
        """A request this driver has held for too long, if it is not a driver below that holds it."""
        limit = self.config.request_limit
        for adapter in peer.adapters:
            for root, request in adapter.requests.items():
                if self.now - max(request.started_at, request.back_at) <= limit:
                    continue
                if adapter.paused and request.operation.op == "initiate":
                    continue  # a paused target may queue them for as long as it likes (R-PAUSE-02)
                if not any(root in b.adapter.requests for b in peer.bindings):
                    return f"held {request.operation.request} {root:#x} for more than {limit:g} s"
            for first, send in adapter.sends.items():
                if first in (send.waylaid or ()) or any(first in b.adapter.sends for b in peer.bindings):
                    continue
                if self.now - max(send.started_at, send.back_at) > limit:
                    return f"held a list of NdisSendNetBufferLists for more than {limit:g} s"
                break  # they stand in the order in which they came
            for oid in adapter.oids.values():
                if self.now - max(oid.started_at, oid.back_at) <= limit:
                    continue
                # Below an intermediate driver the request bears another RequestId, so any one will do.
                if not any(o.binding is b for b in peer.bindings for o in b.adapter.oids.values()):
                    return f"held NdisOidRequest {oid.request['Oid']:#010x} for more than {limit:g} s"
        return ""

    def _reset(self, peer: Peer, adapter: Adapter) -> None:
        """The miniport says that its hardware hangs: MiniportResetEx, and a failed reset removes it."""
        self.emit("reset", adapter=adapter.name, driver=peer.name)

        def reset(values: list[Any] | None) -> None:
            if values is not None and values[0] != NdisStatus.SUCCESS:
                self.remove_peer(peer, f"MiniportResetEx of {adapter.name} failed", hung=True)

        self.call(peer, "MiniportResetEx", [adapter.context], reset)
