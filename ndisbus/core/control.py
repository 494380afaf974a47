"""Control requests: what ``ndisbus ps``, ``fault`` and ``adapter`` ask of the bus.

A control request needs no hello. A request about a driver is passed to the driver as ``control`` or
``inspect``, and is answered when the driver answers or its time is up. Nothing here waits on the data plane.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ndisbus.core.survey import said_counters
from ndisbus.core.violation import NAME_LIMIT, free_name
from ndisbus.errors import ChimneyError, LocalProtocolError, value_text
from ndisbus.messages.codec import RETURN

if TYPE_CHECKING:
    from ndisbus.core.bindings import Bindings
    from ndisbus.core.clock import Clock
    from ndisbus.core.fault_rules import FaultTable
    from ndisbus.core.model import Client
    from ndisbus.core.outbound import Outbound
    from ndisbus.core.registry import Registry
    from ndisbus.core.survey import Survey
    from ndisbus.messages.codec import Message

__all__ = ["Control"]

#: Seconds that a driver has to answer an inspection. After that it is listed without its own report.
_PATIENCE: Final = 0.5


class Control:
    """Serves the verbs of control requests."""

    __slots__ = ("bindings", "clock", "out", "registry", "survey", "table")

    def __init__(
        self,
        clock: Clock,
        out: Outbound,
        registry: Registry,
        table: FaultTable,
        bindings: Bindings,
        survey: Survey,
    ) -> None:
        self.clock = clock
        self.out = out
        self.registry = registry
        self.table = table
        self.bindings = bindings
        self.survey = survey

    def handle(self, key: Any, message: Message) -> bool:
        """Serve a control request. Returns False if the message is not one."""
        if message[0] != "control":
            return False
        call_id, args = message[1], message[2]
        if len(args) != 2 or type(args[0]) is not str or type(args[1]) is not dict:
            self.out.refuse(key, call_id, "control", "takes [verb, arguments map]")
            return True
        verb, arguments = args
        try:
            match verb:
                case "ps":
                    self._ps(key, call_id)
                case "fault.add":
                    fault = self.table.add(arguments)
                    self._reply(key, call_id, {"Id": fault.id})
                case "fault.remove":
                    self.table.remove(arguments.get("Id"))
                    self._reply(key, call_id, {})
                case "fault.list":
                    self._reply(key, call_id, {"Faults": self.table.list()})
                case "fault.reset":
                    self.table.reset()
                    self._reply(key, call_id, {})
                case "driver":
                    self._driver(key, call_id, arguments)
                case "adapter.add":
                    self._adapter_add(key, call_id, arguments)
                case "adapter.remove":
                    self._adapter_remove(key, call_id, arguments)
                case _:
                    raise LocalProtocolError(f"unknown verb {value_text(verb)}")
        except ChimneyError as e:
            self.out.refuse(key, call_id, f"control {verb}", str(e))
        return True

    def _reply(self, key: Any, call_id: int | None, result: dict[str, Any]) -> None:
        self.out.post(key, [RETURN, call_id, [0, result]])

    # -- drivers -------------------------------------------------------------------------------

    def _named(self, name: Any) -> Client:
        client = self.registry.client_named(name)
        if client is not None:
            return client
        known = ", ".join(sorted(c.name for c in self.registry.open_clients())) or "none"
        raise LocalProtocolError(
            f"there is no driver called {value_text(name)}; drivers on this bus: {known}"
        )

    def _driver(self, key: Any, call_id: int | None, arguments: dict[str, Any]) -> None:
        client = self._named(arguments.get("Name"))
        command, rest = arguments.get("Command"), arguments.get("Arguments", {})
        if type(command) is not str or type(rest) is not dict:
            raise LocalProtocolError("Command: a string, Arguments: a map expected")

        def answered(values: list[Any] | None) -> None:
            if values is None:
                self.out.refuse(key, call_id, "control driver", f"{client.name} is gone")
            elif values[0] != 0:
                self.out.refuse(key, call_id, "control driver", f"{client.name}: {values[-1]}")
            elif type(values[-1]) is not dict:
                self.out.refuse(
                    key, call_id, "control driver", f"{client.name} answered with something that is not a map"
                )
            else:
                self._reply(key, call_id, values[-1])

        self._ask(client, "control", [command, rest], answered)

    def _ask(self, client: Client, what: str, args: list[Any], then: Any) -> None:
        self.out.post(client.key, [what, self.out.expect(client, what, then), args])

    # -- adapters ------------------------------------------------------------------------------

    def _adapter_add(self, key: Any, call_id: int | None, arguments: dict[str, Any]) -> None:
        under = arguments.get("Under")
        ims = [
            p
            for p in self.registry.open_clients()
            if p.is_intermediate and (under is None or p.name == under)
        ]
        if not ims:
            raise LocalProtocolError(
                "there is no intermediate driver to expose an adapter; start one with 'python -m imdriver'"
            )
        im = ims[0]
        taken = {a.name for a in self.registry.adapters.values()}
        stem = next((a.name.rsplit("-", 1)[0] for a in im.adapters), im.name)
        name = arguments.get("Name") or free_name(stem, taken)
        if type(name) is not str or len(name) > NAME_LIMIT:
            raise LocalProtocolError(f"Name: a name of 1 to {NAME_LIMIT} characters expected")
        if name in taken:
            raise LocalProtocolError(
                f"Name: there is already an adapter called {value_text(name)}; choose another name"
            )
        self._reconfigure(key, call_id, im, {"AddAdapter": name}, {"Name": name, "Driver": im.name})

    def _adapter_remove(self, key: Any, call_id: int | None, arguments: dict[str, Any]) -> None:
        name = arguments.get("Name")
        for adapter in self.registry.adapters.values():
            if adapter.name == name and adapter.virtual:
                self._reconfigure(key, call_id, adapter.driver, {"RemoveAdapter": name}, {"Name": name})
                return
        raise LocalProtocolError(
            f"Name: there is no virtual adapter called {value_text(name)}; 'ndisbus ps' lists them"
        )

    def _reconfigure(
        self, key: Any, call_id: int | None, im: Client, buffer: dict[str, Any], result: dict[str, Any]
    ) -> None:
        def done(values: list[Any] | None) -> None:
            if not values or values[0] != 0:
                self.out.refuse(key, call_id, "control adapter", f"{im.name} refused {buffer}")
            else:
                self._reply(key, call_id, result)

        self.bindings.reconfigure(im, buffer, done)

    # -- ps ------------------------------------------------------------------------------------

    def _ps(self, key: Any, call_id: int | None) -> None:
        clients = list(self.registry.open_clients())
        found: dict[int, dict[str, Any] | None] = {}
        done = False

        def finish() -> None:
            nonlocal done
            if not done:
                done = True
                self._reply(key, call_id, self.survey.show(found))

        def inspected(epoch: int, values: list[Any] | None) -> None:
            found[epoch] = said_counters(values[-1]) if values else None
            if len(found) == len(clients):
                finish()

        for client in clients:
            self._ask(client, "inspect", [], lambda values, e=client.epoch: inspected(e, values))
        if clients:
            self.clock.schedule(self.clock.now + _PATIENCE, finish)
        else:
            finish()
