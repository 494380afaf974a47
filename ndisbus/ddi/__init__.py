"""The interface in names and numbers: calls, structures, enumerations, statuses.

The folder owns what the documentation of the interface states. It must not know what a driver, NDIS or the
wire does with it. It has no state. It imports only :mod:`ndisbus.errors`.

Files in reading order:

- Calls: ``call`` (what a call is), ``call_rows`` (the names, written once), ``calls`` (the call table).
- Numbers: ``enums`` (NDIS), ``tcp_enums`` (offloaded connections), ``state_types`` (types of offload
  state), ``status`` (NDIS_STATUS, and which operation may end with which).
- Structures: ``cstruct`` (how a structure is described), ``structures``, ``characteristics`` (tables of
  entry points), ``task_offload`` (what OID_TCP_TASK_OFFLOAD carries).
"""
