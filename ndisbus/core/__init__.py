"""NDIS itself, sans-I/O: messages and the time go in, messages come out.

The folder owns what NDIS knows and decides: clients, adapters, bindings, requests that are not completed,
hang detection, faults. It must not know of sockets, processes, signals or the wall clock: the broker
(:mod:`ndisbus.runtime.broker`) and the simulation (:mod:`ndisbus.sim`) run the same :class:`NdisCore`. It
imports nothing from ``driver/``.

The core has parts. A part is an object that is made with the parts it may ask, and serves the calls that its
``handlers`` name. A part asks only parts that come before it in this list. Where something has to go the
other way, the earlier part is given a function: ``Binding.on_return``, ``Adapter.on_unbound``, the
continuation of a call. One Protocol, ``outbound.Interceptor``, lets faults meet calls that leave. The table
in docs/architecture.md says what each part owns and asks.

Files in reading order:

- What there is: ``model``, ``registry``, ``clock``, ``violation``.
- What goes out: ``tracing``, ``fault_rules``, ``outbound``.
- Net buffer lists and OIDs: ``io``, ``packets``, ``oids``.
- Block lists: ``lent``, ``request_books``, ``terminator``, ``requests``, ``completions``.
- Lives: ``bindings``, ``indications``, ``removal``, ``hangs``, ``adapters``, ``registration``.
- From a message to a part: ``dispatch``, ``faults``, ``admission``, ``survey``, ``control``.
- The whole: ``core``.
"""

from __future__ import annotations

from ndisbus.core.core import NdisCore
from ndisbus.core.model import BugCheck, CoreConfig

__all__ = ["BugCheck", "CoreConfig", "NdisCore"]
