"""Requests that move and change offloaded objects: one module for each conversation with the host.

Must not know the driver object, the command line or the wire.

Read in this order: ``lists`` (common parts of operations on existing objects), ``admission`` and
``initiate``, ``query``, ``update``, ``hardware_failure``, ``invalidate``, ``terminate``, ``pause``, ``oid``.
"""
