"""The offload target: the miniport at the bottom of the stack that runs offloaded connections.

``python -m target`` runs it as a process on the bus. To run one of your own, subclass :class:`TargetDriver`::

    from ndisbus.drivers import run_driver
    from target import TargetConfig, TargetDriver, open_wires

    config = TargetConfig(name="mynic", wires=("cable:lan",))
    with open_wires(config) as wires:
        driver = MyTarget(config, wires)
        run_driver(driver, name=config.name, readers=driver.readers())

Public names (``__all__``):

- ``TargetDriver``: the driver. Its handlers have the names of the DDI, ``miniport_*``. It takes a
  configuration and a link for each adapter. The links may be of your own (the protocol
  :class:`ndisbus.wire.link.Link`).
- ``TargetConfig``, ``VoluntaryUploads``: what its hardware can hold and do, and when it asks for uploads.
- ``open_wires``: opens the links that a configuration names.

Its folders are layers. Each imports only what stands below it:

- ``cli``: the command line.
- ``driver``: the handlers, which lead into the folders. ``wires`` opens links.
- ``control``: commands of ``ndisbus fault knob``.
- ``operations/``: initiate, query, update, invalidate, terminate, OID requests, pause.
- ``data/``: I/O requests, sending, delivery, and the flow that runs a connection.
- ``network/``: received frames, neighbor reachability.
- ``hardware/``: the adapter and its parts, and the events it raises.
- ``model/``: contexts, life, posted requests.
"""

from __future__ import annotations

from importlib import import_module

# Type checkers treat this as true. Importing typing would take longer than the rest of this module.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from target.driver import TargetDriver
    from target.hardware.config import TargetConfig, VoluntaryUploads
    from target.wires import open_wires

__all__ = ["TargetConfig", "TargetDriver", "VoluntaryUploads", "open_wires"]

#: Imported on first use. So an interrupt while the command starts is handled by ndisbus.cli.entry.
_MODULE_OF = {
    "TargetConfig": "target.hardware.config",
    "TargetDriver": "target.driver",
    "VoluntaryUploads": "target.hardware.config",
    "open_wires": "target.wires",
}

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name in _MODULE_OF:
            return getattr(import_module(_MODULE_OF[name]), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
