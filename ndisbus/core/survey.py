"""The data of ``ndisbus ps``: processes, adapters, bindings, bug checks, faults."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING, Any

from ndisbus.ddi.state_types import Layer

if TYPE_CHECKING:
    from ndisbus.core.admission import Admission
    from ndisbus.core.clock import Clock
    from ndisbus.core.dispatch import BugChecks
    from ndisbus.core.fault_rules import FaultTable
    from ndisbus.core.model import Adapter, Binding, Client, CoreConfig
    from ndisbus.core.outbound import Outbound
    from ndisbus.core.registry import Registry
    from ndisbus.lists.heap import Heap

__all__ = ["Survey", "said_counters"]


class Survey:
    """Reads from the other parts and changes nothing."""

    __slots__ = ("admission", "bug_checks", "clock", "config", "heap", "out", "registry", "table")

    def __init__(
        self,
        config: CoreConfig,
        clock: Clock,
        out: Outbound,
        registry: Registry,
        heap: Heap,
        table: FaultTable,
        bug_checks: BugChecks,
        admission: Admission,
    ) -> None:
        self.config = config
        self.clock = clock
        self.out = out
        self.registry = registry
        self.heap = heap
        self.table = table
        self.bug_checks = bug_checks
        self.admission = admission

    def show(self, found: dict[int, dict[str, Any] | None]) -> dict[str, Any]:
        """Return all data of ``ndisbus ps``. ``found``: what the drivers reported of themselves, by epoch."""
        now = self.clock.now
        processes = []
        for c in self.registry.open_clients():
            said = found.get(c.epoch)
            processes.append(_process(c, "no answer" if said is None else "ready", said))
        adapters = [_adapter(a, now) for a in self.registry.adapters.values()]
        # Adapters of a dead driver that are still being unbound count too.
        left = {b.adapter.handle: b.adapter for b in self.registry.bindings.values()}
        adapters += [_adapter(a, now) for a in left.values() if a.handle not in self.registry.adapters]
        return {
            "Now": now,
            "Seed": self.config.seed,
            "Processes": processes,
            # A separate list: a program that waits for a driver must not mistake one of these for it.
            "CutOff": [_process(p, "cut off: hung", None) for p in self.registry.cut_off.values()],
            "Bus": {"Pid": self.admission.ready_extra.get("Pid"), "Heap": len(self.heap.objects)},
            "Adapters": adapters,
            "Bindings": [_binding(b) for b in self.registry.bindings.values()],
            "BugChecks": [r.to_wire() for r in self.bug_checks.reports],
            "Faults": self.table.list(),
            "Refused": self.out.refused,
            "Stale": self.admission.stale,
        }


def _adapter(a: Adapter, now: float) -> dict[str, Any]:
    ages = [now - r.started_at for r in a.requests.values()]
    ages += [now - s.started_at for s in islice(a.sends.values(), 1)]
    return {
        "Name": a.name,
        "Driver": a.driver.name,
        "Epoch": a.epoch,
        "State": a.state.value,
        "Virtual": a.virtual,
        "Paused": a.paused,
        "ChimneyOwner": None if a.chimney_owner is None or a.driver.closed else a.chimney_owner.protocol.name,
        "Outstanding": len(a.requests) + len(a.nbls) + len(a.oids) + len(a.sends),
        "Sends": len(a.sends),
        "Receives": len(a.indicated),
        "OldestAge": max(ages, default=0.0),
        "Completed": a.completed,
    }


def _binding(b: Binding) -> dict[str, Any]:
    layers = Counter(Layer(layer).name.lower() for layer, _ in b.objects.values())
    return {
        "Protocol": b.protocol.name,
        "Adapter": b.adapter.name,
        "State": b.state.value,
        "Outstanding": b.outstanding,
        "Received": len(b.received),
        "Objects": {k: layers.get(k, 0) for k in ("neighbor", "path", "tcp")},
    }


def _process(p: Client, state: str, said: dict[str, Any] | None) -> dict[str, Any]:
    kinds = [k for k, there in (("miniport", p.miniport_driver), ("protocol", p.protocol_driver)) if there]
    return {
        "Name": p.name,
        "Pid": p.pid,
        "Epoch": p.epoch,
        "Kind": "intermediate" if p.is_intermediate else "".join(kinds) or "unregistered",
        "State": state,
        "Space": p.space,
        **(said or said_counters(None)),
    }


def said_counters(said: Any) -> dict[str, Any]:
    """Return the counters that a driver reported. It may send anything; only numbers under names are kept."""
    said = said if type(said) is dict else {}
    counters = said.get("Counters")
    counters = counters if type(counters) is dict else {}
    return {
        "Counters": {k: v for k, v in counters.items() if type(k) is str and type(v) is int},
        **{k: said[k] if type(said.get(k)) is int else 0 for k in ("Sent", "Lent", "Heap")},
    }
