"""NDIS itself, sans-I/O: messages and the time go in, messages come out.

The folder owns what NDIS knows and decides: clients, adapters, bindings, requests that are not completed,
hang detection, faults. It must not know of sockets, processes, signals or the wall clock. The broker
(:mod:`ndisbus.runtime.broker`) and the simulation (:mod:`ndisbus.sim`) run the same :class:`NdisCore`. The
folder imports nothing from ``driver/``.

The core has parts. A part is an object. Its constructor takes the parts that it may ask, and its ``handlers``
name the calls that it serves. A part asks only parts that come before it in this list. If an earlier part
has to reach a later one, it is given a function: ``Binding.on_return``, ``Adapter.on_unbound``, the
continuation of a call. One Protocol, ``outbound.Interceptor``, applies faults to calls that leave. The table
in docs/architecture.md says what each part owns and asks.

Files in reading order:

- What NDIS knows: ``model``, ``ended`` (what a client may not know yet), ``registry``, ``clock``,
  ``violation``.
- What goes out: ``tracing``, ``fault_rules``, ``outbound``.
- Net buffer lists and OIDs: ``io``, ``packets``, ``oids``.
- Block lists: ``lent``, ``sizes``, ``request_books``, ``terminator``, ``requests``, ``completions``.
- Begin and end of clients, adapters and bindings: ``bindings``, ``indications``, ``removal`` (fails
  what a dead driver held), ``hangs``, ``epochs``, ``adapters``, ``registration``.
- From a message to a part: ``dispatch``, ``joining`` (messages in parts), ``faults``, ``admission``,
  ``survey``, ``control``.
- All parts together: ``core``.
"""

from __future__ import annotations

from ndisbus.core.core import NdisCore
from ndisbus.core.model import BugCheck, CoreConfig

__all__ = ["BugCheck", "CoreConfig", "NdisCore"]
