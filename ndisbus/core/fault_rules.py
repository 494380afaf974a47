"""Fault rules: which calls NDIS drops, delays, duplicates or fails, and how often.

Sans-I/O: the table decides, :class:`ndisbus.core.faults.Faults` carries it out. A rule counts the calls that
it saw and the calls that it hit. So a fault that was armed and never fired can be found.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Final

from ndisbus.ddi.call import Call
from ndisbus.ddi.calls import CALLS
from ndisbus.ddi.status import ALLOWED_STATUS, MISPRINTED_STATUS, NdisStatus
from ndisbus.errors import LocalProtocolError, value_text
from ndisbus.randomness import Randomness

__all__ = ["ACTIONS", "DIRECTIONS", "Fault", "FaultTable", "find_calls", "parse_status"]

ACTIONS: Final = ("drop", "delay", "duplicate", "fail")
DIRECTIONS: Final = ("down", "up")

_KEYS: Final = frozenset(
    {
        "Action",
        "Call",
        "Driver",
        "Adapter",
        "Direction",
        "Nth",
        "Skip",
        "Times",
        "Probability",
        "Delay",
        "Status",
    }
)
#: Longest delay, in seconds. To hold a call back for longer, drop it.
_LONGEST: Final = 3600.0
_GLOB: Final = frozenset("*?[")


@dataclass(slots=True, eq=False)
class Fault:
    """One rule.

    ``call`` is a DDI name or a glob over DDI names. A filter that is None accepts everything. A rule sees the
    calls that match it and that no earlier rule took. It lets the first ``skip`` of them through, or takes
    only call ``nth`` (the first is 1). It takes each remaining one with ``probability``. After ``times`` hits
    the rule is not ``armed`` any more, but still listed. ``delay`` is in seconds.
    """

    id: int
    action: str
    call: str
    driver: str | None = None
    adapter: str | None = None
    direction: str | None = None
    nth: int | None = None
    skip: int = 0
    times: int | None = None
    probability: float = 1.0
    delay: float = 0.0
    status: NdisStatus | None = None
    seen: int = 0
    hits: int = 0
    armed: bool = True

    def to_wire(self) -> dict[str, Any]:
        """Return the rule as a map for ``ndisbus fault list`` and ``ndisbus ps``. ``Status`` is a symbol."""
        return {
            "Id": self.id,
            "Action": self.action,
            "Call": self.call,
            "Driver": self.driver,
            "Adapter": self.adapter,
            "Direction": self.direction,
            "Nth": self.nth,
            "Skip": self.skip,
            "Times": self.times,
            "Probability": self.probability,
            "Delay": self.delay,
            "Status": None if self.status is None else self.status.symbol,
            "Seen": self.seen,
            "Hits": self.hits,
            "Armed": self.armed,
        }


class FaultTable:
    """The rules in force, in the order in which they were added.

    ``active`` says whether any rule is armed. The hot path reads nothing else while none is.
    """

    def __init__(self, rng: Randomness | None = None) -> None:
        self.active = False
        self._rng = rng
        self._rules: dict[int, Fault] = {}
        self._last_id = 0
        #: Name of a call -> the armed rules that match it. Filled when the call is seen for the first time.
        self._by_call: dict[str, list[Fault]] = {}

    def add(self, spec: dict[str, Any]) -> Fault:
        """Arm a rule. Keys are those of :meth:`Fault.to_wire` without ``Id``, ``Seen``, ``Hits``, ``Armed``.

        ``Action`` and ``Call`` are required. Raises :class:`LocalProtocolError` naming the key that is
        unknown, missing or illegal. Examples: a call that is not in the call table, ``fail`` without a
        status, or with a status that the operation cannot end with.
        """
        rule = _parse(spec, self._last_id + 1)
        if rule.probability < 1.0 and self._rng is None:
            raise LocalProtocolError("Probability: this bus has no source of random numbers, so it must be 1")
        self._last_id = rule.id
        self._rules[rule.id] = rule
        self._changed()
        return rule

    def remove(self, fault_id: int) -> None:
        """Remove a rule. Raises :class:`LocalProtocolError` if no rule has this id."""
        if type(fault_id) is not int or fault_id not in self._rules:
            raise LocalProtocolError(
                f"Id: there is no fault {value_text(fault_id)}; 'ndisbus fault list' shows all"
            )
        del self._rules[fault_id]
        self._changed()

    def reset(self) -> None:
        """Remove all rules. Ids continue from where they were."""
        self._rules.clear()
        self._changed()

    def list(self) -> list[dict[str, Any]]:
        """Return all rules with their counters, also those that are not armed any more."""
        return [r.to_wire() for r in self._rules.values()]

    def match(self, call: str, *, driver: str, adapter: str | None, direction: str) -> Fault | None:
        """Return the rule that takes this call, or None. Counts the calls that each rule saw and hit."""
        rules = self._by_call.get(call)
        if rules is None:
            rules = [r for r in self._rules.values() if r.armed and fnmatchcase(call, r.call)]
            self._by_call[call] = rules
        for r in rules:
            if r.driver is not None and r.driver != driver:
                continue
            if r.adapter is not None and r.adapter != adapter:
                continue
            if r.direction is not None and r.direction != direction:
                continue
            r.seen += 1
            if r.seen <= r.skip or (r.nth is not None and r.seen != r.nth):
                continue
            if r.probability < 1.0 and self._rng is not None and self._rng.random() >= r.probability:
                if r.nth is not None:
                    self._spend(r)
                continue
            r.hits += 1
            if r.nth is not None or r.hits == r.times:
                self._spend(r)
            return r
        return None

    def _spend(self, rule: Fault) -> None:
        rule.armed = False
        self._changed()

    def _changed(self) -> None:
        # Make a new map and never clear the old one: match() may be iterating over one of its lists.
        self._by_call = {}
        self.active = any(r.armed for r in self._rules.values())


def parse_status(value: Any) -> NdisStatus:
    """Return the status of a number or a symbol, with or without ``NDIS_STATUS_``.

    Raises :class:`LocalProtocolError` for anything else.
    """
    if type(value) is int:
        try:
            return NdisStatus(value)
        except ValueError:
            raise LocalProtocolError(
                f"Status: {value:#x} is not an NDIS_STATUS of the chimney interface"
            ) from None
    if type(value) is NdisStatus:
        return value
    if type(value) is str:
        symbol = value.upper()
        for s in NdisStatus:
            if symbol in (s.name, s.symbol):
                return s
        if symbol in MISPRINTED_STATUS:
            return MISPRINTED_STATUS[symbol]
        if symbol.startswith("0X"):
            try:
                return parse_status(int(symbol, 16))
            except ValueError:
                pass
    raise LocalProtocolError(f"Status: {value_text(value)} is not an NDIS_STATUS of the chimney interface")


def _parse(spec: Any, fault_id: int) -> Fault:
    if type(spec) is not dict:
        raise LocalProtocolError(f"a fault must be a map, got {value_text(spec)}")
    unknown = sorted(str(k) for k in set(spec) - _KEYS)
    if unknown:
        raise LocalProtocolError(
            f"{unknown[0]}: a fault does not have this key; it has {', '.join(sorted(_KEYS))}"
        )
    # A key that is nil counts as missing.
    given = {k: v for k, v in spec.items() if v is not None}
    action = given.get("Action")
    if action not in ACTIONS:
        raise LocalProtocolError(f"Action: {value_text(action)} is not one of {', '.join(ACTIONS)}")
    pattern, calls = find_calls(given.get("Call"))
    rule = Fault(fault_id, action, pattern)
    for key, attribute in (("Driver", "driver"), ("Adapter", "adapter")):
        if key in given:
            if type(given[key]) is not str or not given[key]:
                raise LocalProtocolError(f"{key}: a name expected, got {value_text(given[key])}")
            setattr(rule, attribute, given[key])
    if "Direction" in given:
        if given["Direction"] not in DIRECTIONS:
            raise LocalProtocolError(f"Direction: {value_text(given['Direction'])} is neither down nor up")
        rule.direction = given["Direction"]
    rule.nth = _count(given, "Nth", 1)
    rule.times = _count(given, "Times", 1)
    rule.skip = _count(given, "Skip", 0) or 0
    if rule.nth is not None and (rule.times not in (None, 1) or rule.skip):
        key = "Skip" if rule.skip else "Times"
        raise LocalProtocolError(f"{key}: not allowed with Nth, which hits one call only")
    if "Probability" in given:
        rule.probability = _number(given, "Probability")
        if not 0 < rule.probability <= 1:
            raise LocalProtocolError(f"Probability: {rule.probability} is not above 0 and at most 1")
    if (action == "delay") is not ("Delay" in given):
        reason = "seconds expected" if action == "delay" else f"not allowed with action {action}"
        raise LocalProtocolError(f"Delay: {reason}")
    if action == "delay":
        rule.delay = _number(given, "Delay")
        if not 0 < rule.delay <= _LONGEST:
            raise LocalProtocolError(f"Delay: {rule.delay} is not above 0 and at most {_LONGEST:g} seconds")
    if (action == "fail") is not ("Status" in given):
        reason = "required with action fail" if action == "fail" else f"not allowed with action {action}"
        raise LocalProtocolError(f"Status: {reason}")
    if action == "fail":
        rule.status = parse_status(given["Status"])
        for call in calls:
            _check_failure(call, rule.status)
    return rule


def find_calls(pattern: Any) -> tuple[str, list[Call]]:
    """Return a name or pattern and its calls. Raises :class:`LocalProtocolError` if no call matches."""
    if type(pattern) is not str or not pattern:
        raise LocalProtocolError(f"Call: a DDI name or a pattern expected, got {value_text(pattern)}")
    if pattern in CALLS:
        return pattern, [CALLS[pattern]]
    if not _GLOB & set(pattern):
        same = [n for n in CALLS if n.lower() == pattern.lower()]
        hint = f"; did you mean {same[0]}?" if same else "; docs/protocol.md lists the calls"
        raise LocalProtocolError(f"Call: {pattern} is not a call of the interface{hint}")
    calls = [c for c in CALLS.values() if fnmatchcase(c.name, pattern)]
    if not calls:
        raise LocalProtocolError(f"Call: the pattern {pattern} matches no call of the interface")
    return pattern, calls


def _check_failure(call: Call, status: NdisStatus) -> None:
    """Check that a call may fail with a status. Raises :class:`LocalProtocolError` if not.

    Only requests can fail, and only with a status that their operation may end with. OID requests may end
    with any status.
    """
    if not call.completed_by:
        raise LocalProtocolError(
            f"Call: {call.name} is not a request, so it cannot fail; name a request or its miniport handler, "
            "such as NdisInitiateOffload, or drop the call"
        )
    failures = sorted(s for s in ALLOWED_STATUS.get(call.op, NdisStatus) if not s.is_success)
    if status not in failures:
        names = ", ".join(s.symbol for s in failures)
        raise LocalProtocolError(f"Status: {call.name} does not fail with {status.symbol}; legal are {names}")


def _count(given: dict[str, Any], key: str, least: int) -> int | None:
    value = given.get(key)
    if value is None:
        return None
    if type(value) is not int or value < least:
        raise LocalProtocolError(f"{key}: a number of at least {least} expected, got {value_text(value)}")
    return value


def _number(given: dict[str, Any], key: str) -> float:
    value = given[key]
    if type(value) not in (int, float) or not math.isfinite(value):
        raise LocalProtocolError(f"{key}: a number expected, got {value_text(value)}")
    return float(value)
