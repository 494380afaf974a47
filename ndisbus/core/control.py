"""Control: what ``ndisbus ps``, ``fault`` and ``adapter`` ask of the bus.

Control messages need no hello. Those that concern a driver are passed to it as ``control`` or
``inspect``, and answered when it answers or after a moment; nothing here waits on the data plane.
"""

from __future__ import annotations

from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from ndisbus.core.base import NAME_LIMIT, Core, free_name
from ndisbus.core.model import AdapterState, Peer, Pending
from ndisbus.ddi.enums import Layer
from ndisbus.errors import ChimneyError, LocalProtocolError
from ndisbus.messages.codec import RETURN

if TYPE_CHECKING:
    from ndisbus.core.binding import BindingPart
    from ndisbus.messages.codec import Message

__all__ = ["ControlPart"]

#: How long a driver has for an inspection before it is listed without one (seconds).
_PATIENCE: Final = 0.5


class ControlPart(Core):
    """The verbs of ``control`` messages."""

    def control(self, key: Any, message: Message) -> bool:
        """Handle a control message. False if it is none."""
        if message[0] != "control":
            return False
        call_id, args = message[1], message[2]
        if len(args) != 2 or type(args[0]) is not str or type(args[1]) is not dict:
            self.refuse(key, call_id, "control", "takes [verb, arguments map]")
            return True
        verb, arguments = args
        try:
            match verb:
                case "ps":
                    self._ps(key, call_id)
                case "fault.add":
                    fault = self.faults.add(arguments)
                    self._reply(key, call_id, {"Id": fault.id})
                case "fault.remove":
                    self.faults.remove(arguments.get("Id"))
                    self._reply(key, call_id, {})
                case "fault.list":
                    self._reply(key, call_id, {"Faults": self.faults.list()})
                case "fault.reset":
                    self.faults.reset()
                    self._reply(key, call_id, {})
                case "driver":
                    self._driver(key, call_id, arguments)
                case "adapter.add":
                    self._adapter_add(key, call_id, arguments)
                case "adapter.remove":
                    self._adapter_remove(key, call_id, arguments)
                case _:
                    raise LocalProtocolError(f"unknown verb {verb!r}")
        except ChimneyError as e:
            self.refuse(key, call_id, f"control {verb}", str(e))
        return True

    def _reply(self, key: Any, call_id: int | None, result: dict[str, Any]) -> None:
        self.outbox.append((key, [RETURN, call_id, [0, result]], ()))

    # -- drivers -------------------------------------------------------------------------------

    def _named(self, name: Any) -> Peer:
        for peer in self.peers.values():
            if peer.name == name and not peer.closed:
                return peer
        known = ", ".join(sorted(p.name for p in self.peers.values() if not p.closed)) or "none"
        raise LocalProtocolError(f"no driver called {name!r} is here (there are: {known})")

    def _driver(self, key: Any, call_id: int | None, arguments: dict[str, Any]) -> None:
        peer = self._named(arguments.get("Name"))
        command, rest = arguments.get("Command"), arguments.get("Arguments", {})
        if type(command) is not str or type(rest) is not dict:
            raise LocalProtocolError("Command: a string, Arguments: a map expected")

        def answered(values: list[Any] | None) -> None:
            if values is None:
                self.refuse(key, call_id, "control driver", f"{peer.name} is gone")
            elif values[0] != 0:
                self.refuse(key, call_id, "control driver", f"{peer.name}: {values[-1]}")
            elif type(values[-1]) is not dict:
                self.refuse(
                    key, call_id, "control driver", f"{peer.name} answered {values!r}, which is no map"
                )
            else:
                self._reply(key, call_id, values[-1])

        self._ask(peer, "control", [command, rest], answered)

    def _ask(self, peer: Peer, what: str, args: list[Any], then: Any) -> None:
        peer.next_call += 1
        peer.pending[peer.next_call] = Pending(what, then, self.now)
        self.outbox.append((peer.key, [what, peer.next_call, args], ()))

    # -- adapters ------------------------------------------------------------------------------

    def _adapter_add(self: Any, key: Any, call_id: int | None, arguments: dict[str, Any]) -> None:
        part: BindingPart = self
        under = arguments.get("Under")
        ims = [
            p
            for p in part.peers.values()
            if not p.closed and p.is_intermediate and (under is None or p.name == under)
        ]
        if not ims:
            raise LocalProtocolError("no intermediate driver is here that could expose an adapter")
        im = ims[0]
        taken = {a.name for a in part.adapters.values()}
        stem = next((a.name.rsplit("-", 1)[0] for a in im.adapters), im.name)
        name = arguments.get("Name") or free_name(stem, taken)
        if type(name) is not str or len(name) > NAME_LIMIT or name in taken:
            raise LocalProtocolError(
                f"Name: {name!r} is no free adapter name of at most {NAME_LIMIT} characters"
            )
        self._reconfigure(key, call_id, im, {"AddAdapter": name}, {"Name": name, "Driver": im.name})

    def _adapter_remove(self: Any, key: Any, call_id: int | None, arguments: dict[str, Any]) -> None:
        name = arguments.get("Name")
        for adapter in self.adapters.values():
            if adapter.name == name and adapter.virtual:
                self._reconfigure(key, call_id, adapter.driver, {"RemoveAdapter": name}, {"Name": name})
                return
        raise LocalProtocolError(f"Name: no virtual adapter {name!r} is here")

    def _reconfigure(
        self: Any, key: Any, call_id: int | None, im: Peer, buffer: dict[str, Any], result: dict[str, Any]
    ) -> None:
        def done(values: list[Any] | None) -> None:
            if not values or values[0] != 0:
                self.refuse(key, call_id, "control adapter", f"{im.name} refused {buffer}")
            else:
                self._reply(key, call_id, result)

        self.reconfigure(im, buffer, done)

    # -- ps ------------------------------------------------------------------------------------

    def _ps(self, key: Any, call_id: int | None) -> None:
        peers = [p for p in self.peers.values() if not p.closed]
        found: dict[int, dict[str, Any] | None] = {}
        done = False

        def finish() -> None:
            nonlocal done
            if not done:
                done = True
                self._reply(key, call_id, self.survey(found))

        def inspected(epoch: int, values: list[Any] | None) -> None:
            found[epoch] = _counters(values[-1]) if values else None
            if len(found) == len(peers):
                finish()

        for peer in peers:
            self._ask(peer, "inspect", [], lambda values, e=peer.epoch: inspected(e, values))
        if peers:
            self.schedule(self.now + _PATIENCE, finish)
        else:
            finish()

    def survey(self, found: dict[int, dict[str, Any] | None]) -> dict[str, Any]:
        """Everything ``ndisbus ps`` shows; ``found`` is what the drivers said of themselves, by epoch."""
        processes, adapters, bindings = [], [], []
        for p in self.peers.values():
            if p.closed:
                continue
            said = found.get(p.epoch)
            processes.append(_process(p, "no answer" if said is None else "ready", said))
        for a in self.adapters.values():
            ages = [self.now - r.started_at for r in a.requests.values()]
            ages += [self.now - s.started_at for s in islice(a.sends.values(), 1)]
            adapters.append(
                {
                    "Name": a.name,
                    "Driver": a.driver.name,
                    "Epoch": a.driver.epoch,
                    "State": a.state.value,
                    "Virtual": a.virtual,
                    "Paused": a.paused,
                    "ChimneyOwner": a.chimney_owner.protocol.name if a.chimney_owner else None,
                    "Outstanding": len(a.requests) + len(a.nbls) + len(a.oids) + len(a.sends),
                    "Sends": len(a.sends),
                    "Receives": len(a.indicated),
                    "OldestAge": max(ages, default=0.0),
                    "Completed": a.completed,
                }
            )
        for b in self.bindings.values():
            layers = Counter(Layer(layer).name.lower() for layer, _ in b.objects.values())
            bindings.append(
                {
                    "Protocol": b.protocol.name,
                    "Adapter": b.adapter.name,
                    "State": b.state.value,
                    "Outstanding": b.outstanding,
                    "Received": len(b.received),
                    "Objects": {k: layers.get(k, 0) for k in ("neighbor", "path", "tcp")},
                }
            )
        # A driver that died may have left adapters behind that are still being unbound: they count too.
        live = {id(a) for a in self.adapters.values()}
        for a in {id(b.adapter): b.adapter for b in self.bindings.values()}.values():
            if id(a) not in live and a.state is AdapterState.DEAD:
                adapters.append(
                    {
                        "Name": a.name,
                        "Driver": a.driver.name,
                        "Epoch": a.driver.epoch,
                        "State": "dead",
                        "Virtual": a.virtual,
                        "Paused": a.paused,
                        "ChimneyOwner": None,
                        "Outstanding": len(a.requests) + len(a.nbls) + len(a.oids) + len(a.sends),
                        "Sends": len(a.sends),
                        "Receives": len(a.indicated),
                        "OldestAge": 0.0,
                        "Completed": a.completed,
                    }
                )
        return {
            "Now": self.now,
            "Seed": self.config.seed,
            "Processes": processes,
            # Apart, so that nobody who waits for a driver takes one of these for it.
            "CutOff": [_process(p, "cut off: hung", None) for p in self.cut_off.values()],
            "Bus": {"Pid": self.ready_extra.get("Pid"), "Heap": len(self.heap.objects)},
            "Adapters": adapters,
            "Bindings": bindings,
            "BugChecks": [r.to_wire() for r in self.bug_checks],
            "Faults": self.faults.list(),
            "Refused": self.refused,
            "Stale": self.stale,
        }


def _process(p: Peer, state: str, said: dict[str, Any] | None) -> dict[str, Any]:
    kinds = [k for k, there in (("miniport", p.miniport_driver), ("protocol", p.protocol_driver)) if there]
    return {
        "Name": p.name,
        "Pid": p.pid,
        "Epoch": p.epoch,
        "Kind": "intermediate" if p.is_intermediate else "".join(kinds) or "unregistered",
        "State": state,
        "Space": p.space,
        **(said or _counters(None)),
    }


def _counters(said: Any) -> dict[str, Any]:
    """What a driver said of itself: numbers under names, and nothing else that it may have put there."""
    said = said if type(said) is dict else {}
    counters = said.get("Counters")
    counters = counters if type(counters) is dict else {}
    return {
        "Counters": {k: v for k, v in counters.items() if type(k) is str and type(v) is int},
        **{k: said[k] if type(said.get(k)) is int else 0 for k in ("Sent", "Lent", "Heap")},
    }
