"""Carrying out a scenario: one step after the other, until a step does not end as expected."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Final

from hoststack.api.errors import HostTimeout
from hoststack.api.host import Host
from hoststack.model import synthetic
from hoststack.model.events import HostEvent
from hoststack.model.objects import Neighbor, Path, StateObject, Tcb
from hoststack.model.operation import Operation
from hoststack.scenario.check import Scenario, Step
from ndisbus.errors import ChimneyError

__all__ = ["ScenarioResult", "ScenarioRun", "StepResult"]

#: How long an ``expect`` without a timeout waits for its conditions (seconds).
_SETTLE: Final = 2.0
_CONTROLLED: Final = frozenset(("kill", "stall", "resume", "restart"))


@dataclass(slots=True, frozen=True)
class StepResult:
    """How a step ended. ``seconds``: its duration on the runner's clock."""

    where: str
    verb: str
    passed: bool
    text: str
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "where": self.where,
            "verb": self.verb,
            "passed": self.passed,
            "text": self.text,
            "seconds": round(self.seconds, 6),
        }


@dataclass(slots=True, frozen=True)
class ScenarioResult:
    """How a scenario ended. If it failed, the last step is the one that failed."""

    name: str
    seed: int
    passed: bool
    steps: tuple[StepResult, ...]

    def to_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "name": self.name,
            "seed": self.seed,
            "passed": self.passed,
            "steps": [s.to_dict() for s in self.steps],
        }


class _Unexpected(Exception):
    """A step did not end as the scenario says."""


class ScenarioRun:
    """One run of a scenario on a host. ``progress`` is called with the result of each step."""

    def __init__(
        self, host: Host, scenario: Scenario, progress: Callable[[StepResult], None] = lambda _: None
    ) -> None:
        self.host = host
        self.scenario = scenario
        self.progress = progress
        self.results: list[StepResult] = []
        self.objects: dict[str, list[StateObject]] = {}
        self.running: list[tuple[Step, Operation]] = []
        self.seen: Counter[str] = Counter()
        self.faults: list[int] = []
        self._define()

    def _define(self) -> None:
        """Make the objects. Random values are drawn from the scenario's seed."""
        rng = random.Random(self.scenario.seed)
        for n in self.scenario.neighbors:
            self.objects[n["name"]] = [
                synthetic.neighbor(n["mac"], vlan_id=n["vlan"], source=n["source"], name=n["name"])
            ]
        for p in self.scenario.paths:
            through = self.objects[p["neighbor"]][0]
            assert isinstance(through, Neighbor)
            self.objects[p["name"]] = [
                synthetic.path(through, p["source"], p["destination"], mtu=p["mtu"], name=p["name"])
            ]
        for c in self.scenario.connections:
            over = self.objects[c["path"]][0]
            assert isinstance(over, Path)
            made = synthetic.connections(
                over, c["count"], rng=rng, first_port=c["first_port"], remote_port=c["remote_port"]
            )
            for tcb in made:
                tcb.delegated.state = c["state"]
                tcb.needs_ip_options = c["ip_options"]
                if c["unsent"]:
                    tcb.send_queue = [rng.randbytes(c["unsent"])]
                if c["buffered"]:
                    tcb.receive_buffer = bytearray(rng.randbytes(c["buffered"]))
            self.objects[c["name"]] = list(made)

    def run(self) -> ScenarioResult:
        """Carry out the steps up to the first that fails. Removes the faults that the scenario added.

        If the scenario uses the inventory, raises what reading this machine's connections raises.
        """
        with ExitStack() as opened:
            for event in self.host.events():  # events from before the run, such as Bound
                self._count_event(event)
            opened.callback(self.host.driver.events.subscribe(HostEvent, self._count_event))
            opened.callback(self._disarm)
            self._take_inventory(opened)
            passed = all(self._step(step) for step in self.scenario.steps)
            if passed and self.running:
                passed = self._step(Step("join", {"timeout": None}, "the end of the scenario"))
        return ScenarioResult(self.scenario.name, self.scenario.seed, passed, tuple(self.results))

    def _count_event(self, event: HostEvent) -> None:
        self.seen[type(event).__name__] += 1

    def _take_inventory(self, opened: ExitStack) -> None:
        """Open connections over loopback, until the scenario ends, and read them from the kernel."""
        wanted = self.scenario.inventory
        if wanted is None:
            return
        # Imported here, because these modules work on Linux only.
        from hoststack.inventory.loopback import LoopbackConnections  # noqa: PLC0415
        from hoststack.inventory.objects import inventory_objects  # noqa: PLC0415

        connections = opened.enter_context(LoopbackConnections(wanted["connections"]))
        rng = random.Random(self.scenario.seed)
        found = inventory_objects(
            connections, rng, others=wanted["others"], pause=lambda s: self.host.pump(timeout=s)
        )
        self.objects["inventory.neighbors"] = list(found.neighbors)
        self.objects["inventory.paths"] = list(found.paths)
        self.objects["inventory.connections"] = list(found.connections)
        text = "; ".join((str(found), *found.notes))
        result = StepResult("define.inventory", "inventory", True, text, 0.0)
        self.results.append(result)
        self.progress(result)

    def _disarm(self) -> None:
        faults, self.faults = self.faults, []
        for fault in faults:
            self.host.control("fault.remove", {"Id": fault})

    # -- steps ---------------------------------------------------------------------------------

    def _step(self, step: Step) -> bool:
        runner = self.host.runner
        began = runner.now()
        try:
            text = self._perform(step)
        except (_Unexpected, ChimneyError) as e:
            passed, text = False, str(e)
        else:
            passed = True
        result = StepResult(step.where, step.verb, passed, text, runner.now() - began)
        self.results.append(result)
        self.progress(result)
        return passed

    def _perform(self, step: Step) -> str:
        a = step.arguments
        if step.verb == "repeat":
            return self._repeat(step)
        if step.verb == "parallel":
            return self._parallel(step)
        if step.verb in _CONTROLLED:
            self.host.runner.process(step.verb, a["name"])
            return str(a["name"])
        if step.verb == "wait_bound":
            return self._wait_bound(a)
        if step.verb == "expect":
            return self._expect(a)
        if step.verb == "fault":
            return self._fault(a)
        if step.verb == "sleep":
            self.host.pump(timeout=a["seconds"])
            return f"{a['seconds']:g} s"
        if step.verb == "send":
            return self._send(a)
        if step.verb == "join":
            return self._join(a["timeout"])
        operation = self._start(step)
        if not a["wait"]:
            self.running.append((step, operation))
            return str(operation)
        return self._finish(step, operation)

    def _named(self, names: tuple[str, ...]) -> list[Any]:
        return [obj for name in names for obj in self.objects[name]]

    def _start(self, step: Step) -> Operation:
        """Start the operation of a step."""
        a, host = step.arguments, self.host
        match step.verb:
            case "offload":
                return host.offload(self._named(a["objects"]), wait=False)
            case "query":
                return host.query(self._named(a["objects"]), a["classes"], wait=False)
            case "update":
                objects = self._named(a["objects"])
                for obj in objects:
                    if a["mac"] is not None:
                        obj.cached.dl_destination_address = a["mac"]
                    if a["mtu"] is not None:
                        obj.cached.path_mtu = a["mtu"]
                return host.update(objects, wait=False)
            case "relink":
                return host.relink(self._named(a["paths"]), self._named((a["neighbor"],))[0], wait=False)
            case "failover":
                old, new = self._named((a["old"], a["new"]))
                return host.failover(old, new, invalidate=a["invalidate"], wait=False)
            case "invalidate":
                return host.invalidate(self._named(a["objects"]), wait=False)
            case "terminate" if a["all"]:
                return host.upload_everything(wait=False)
            case "terminate":
                return host.terminate(self._named(a["objects"]), idle=a["idle"], wait=False)
            case "disable":
                return host.disable_chimney(wait=False)
            case "enable":
                return host.enable_chimney(wait=False)
        raise AssertionError(f"{step.verb} is not an operation")

    def _finish(self, step: Step, operation: Operation) -> str:
        """Wait for an operation and compare its outcome with what the step expects."""
        a = step.arguments
        timeout = self.scenario.timeout if a["timeout"] is None else a["timeout"]
        self.host.wait(operation, timeout)
        counts = operation.counts()
        text = ", ".join(f"{n} {symbol}" for symbol, n in counts.items()) or "done"
        if operation.refused is not None:
            text = f"refused: {operation.refused}"
        if a["refused"] is not None:
            if operation.refused is None or a["refused"] not in operation.refused:
                raise _Unexpected(f"{text}; expected a refusal with {a['refused']!r}")
        elif a["expect"] == "success":
            if not operation.succeeded:
                raise _Unexpected(f"{text}; expected success")
        elif isinstance(a["expect"], dict):
            wanted = {symbol: n for symbol, n in a["expect"].items() if n}
            if counts != wanted:
                raise _Unexpected(f"{text}; expected {wanted}")
        return text

    def _join(self, timeout: float | None) -> str:
        """Wait for the operations that were started by ``parallel`` or with ``wait: false``."""
        running, self.running = self.running, []
        texts = []
        for step, operation in running:
            if timeout is not None:
                step = Step(step.verb, {**step.arguments, "timeout": timeout}, step.where)  # noqa: PLW2901
            try:
                texts.append(f"{step.verb}: {self._finish(step, operation)}")
            except (_Unexpected, HostTimeout) as e:
                raise _Unexpected(f"{step.where}: {e}") from None
        return "; ".join(texts) or "nothing was running"

    def _repeat(self, step: Step) -> str:
        for i in range(step.arguments["times"]):
            for inner in step.arguments["steps"]:
                if not self._step(inner):
                    raise _Unexpected(f"round {i + 1} of {step.arguments['times']} failed in {inner.where}")
        return f"{step.arguments['times']} times"

    def _parallel(self, step: Step) -> str:
        """Start all inner steps in their order without waiting between them, then wait for all."""
        for inner in step.arguments["steps"]:
            if "wait" in inner.arguments:
                self.running.append((inner, self._start(inner)))
            elif not self._step(inner):
                raise _Unexpected(f"{inner.where} failed")
        return self._join(None)

    def _wait_bound(self, a: dict[str, Any]) -> str:
        timeout = self.scenario.timeout if a["timeout"] is None else a["timeout"]
        driver = self.host.driver
        if not self.host.pump(lambda: self.host.driver.chimney.state == a["chimney"], timeout):
            chimney = driver.chimney
            reason = f" ({chimney.reason})" if chimney.reason else ""
            raise _Unexpected(
                f"after {timeout:g} s the chimney is {chimney.state}{reason}; expected {a['chimney']}"
            )
        binding = self.host.driver.binding
        return f"{a['chimney']} on {binding.adapter if binding else 'no adapter'}"

    def _expect(self, a: dict[str, Any]) -> str:
        """Wait until every condition of the step holds, or fail with those that do not."""
        timeout = _SETTLE if a["timeout"] is None else a["timeout"]
        wanted = {k: v for k, v in a.items() if v is not None and k not in ("timeout", "events")}

        def differences() -> list[str]:
            found = self._count()
            wrong = [f"{k} is {found[k]}, expected {v}" for k, v in wanted.items() if found[k] != v]
            for name, least in (a["events"] or {}).items():
                if self.seen[name] < least:
                    wrong.append(f"{self.seen[name]} events {name}, expected {least}")
            return wrong

        if not self.host.pump(lambda: not differences(), timeout):
            raise _Unexpected("; ".join(differences()))
        return ", ".join(f"{k} {v}" for k, v in wanted.items()) or "events seen"

    def _count(self) -> dict[str, Any]:
        driver = self.host.driver
        counters = driver.inspect()
        tcbs = [o for objects in self.objects.values() for o in objects if isinstance(o, Tcb)]
        return {
            "offloaded": sum(t.is_offloaded for t in tcbs),
            "in_host": sum(t.connection_state.value == "InHost" for t in tcbs),
            "lost": sum(t.lost for t in tcbs),
            "handles": counters["handles"],
            "operations": counters["operations"],
            "posted": counters["posted"],
            "violations": counters["violations"],
            "chimney": driver.chimney.state,
        }

    def _send(self, a: dict[str, Any]) -> str:
        tcbs = [o for o in self._named(a["objects"]) if isinstance(o, Tcb)]
        for tcb in tcbs:
            self.host.send(tcb, bytes(a["bytes"]))
        return f"{a['bytes']} bytes on each of {len(tcbs)} connections"

    def _fault(self, a: dict[str, Any]) -> str:
        if a["add"] is not None:
            fault = int(self.host.control("fault.add", a["add"])["Id"])
            self.faults.append(fault)
            return f"fault {fault}: {a['add']}"
        if a["reset"]:
            self._disarm()
            return "the scenario's faults are removed"
        hits = {f["Id"]: f["Hits"] for f in self.host.control("fault.list", {})["Faults"]}
        idle = [f for f in self.faults if not hits.get(f)]
        if idle or not self.faults:
            raise _Unexpected(f"faults {idle} never fired" if idle else "no fault is armed")
        return f"{len(self.faults)} faults fired"
