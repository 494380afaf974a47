"""Processes: the only place with sockets to the bus, signals, process ids and the wall clock.

The folder owns the loops around the sans-I/O objects: the bus's around ``NdisCore``, a driver's around its
``DriverPort``, the supervisor's around ``Supervisor``. They move packets, pass the time in and notice deaths.
The folder must not know what a call means: that is for ``core/`` and ``driver/``.

Files in reading order:

- Connections: ``curve`` (keys), ``endpoint`` (binding), ``connection`` (a client's socket), ``deathwatch``.
- The bus: ``trace_link``, ``pauses``, ``sender``, ``broker``.
- A driver: ``outcomes``, ``poller``, ``reconnect``, ``inbox``, ``driver_process``, ``departure``,
  ``signals``, ``collector``, ``run_driver``.
- The command line's connection: ``control_client``.
- The supervisor: ``supervise`` decides, ``supervise_run`` carries it out.
"""
