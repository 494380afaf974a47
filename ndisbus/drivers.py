"""All names for people who write a driver. docs/drivers.md says how to use them.

::

    import sys
    from ndisbus.drivers import ProtocolDriver, run_driver

    class MyProtocol(ProtocolDriver):
        ...

    sys.exit(run_driver(MyProtocol(), name="mine"))

- ``ProtocolDriver``, ``MiniportDriver``: bases whose handlers answer every call with the interface's default.
  An intermediate driver has both edges: build it on ``imdriver.ImDriver``. ``target.TargetDriver`` is the
  offload target.
- ``run_driver``: runs a driver as a whole process. ``DriverProcess`` is for programs with their own loop.
- ``Ndis``: the type of a driver's ``self.ndis``, on which it calls the functions of NDIS.
- ``Steps``: the type of a handler that waits for answers of NDIS, a generator.
- ``BlockList`` and ``Key``: the trees of offload blocks; ``NblChain``: chains of net buffer lists.
- ``NdisStatus``: the NDIS_STATUS values.
- ``BugChecked``, ``HelloRefused``, ``LocalProtocolError``, ``RemoteProtocolError``, ``ChimneyError``: errors.
"""

from __future__ import annotations

from ndisbus.ddi.status import NdisStatus
from ndisbus.driver.base import Driver, MiniportDriver, ProtocolDriver, Steps
from ndisbus.driver.port import Ndis
from ndisbus.errors import ChimneyError, LocalProtocolError, RemoteProtocolError
from ndisbus.lists.blocklist import BlockList, Key
from ndisbus.lists.nbl_chain import NblChain
from ndisbus.runtime.driver_process import DriverProcess
from ndisbus.runtime.outcomes import BugChecked, HelloRefused
from ndisbus.runtime.run_driver import run_driver

__all__ = [
    "BlockList",
    "BugChecked",
    "ChimneyError",
    "Driver",
    "DriverProcess",
    "HelloRefused",
    "Key",
    "LocalProtocolError",
    "MiniportDriver",
    "NblChain",
    "Ndis",
    "NdisStatus",
    "ProtocolDriver",
    "RemoteProtocolError",
    "Steps",
    "run_driver",
]
