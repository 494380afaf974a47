"""A driver's side of NDIS, sans-I/O.

The folder owns the base classes of drivers, the functions that they call, and the port that hosts one
driver: messages from the bus become handler calls, function calls become messages. It must not know
sockets, processes or clocks, and it imports nothing from ``core/``.

Files in reading order: ``base`` (what a driver is), ``calls`` (the functions of NDIS; generated), ``ndis``
(what a driver calls them through), ``port`` (hosts a driver), ``shared_memory`` (lists that are lent),
``sizes`` (what fits into a message), ``replies`` (answers, and handlers that wait for them), ``pace`` (long
loops), ``notes`` (what a port records for its teardown), ``teardown`` (what happens when the bus has gone).

Some of the files name ``port`` for the type checker, and ``port`` imports all of them: a circle. A driver
calls the port through ``self.ndis``, and the port calls the driver. Each needs the type of the other.
"""
