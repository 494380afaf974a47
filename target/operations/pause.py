"""Pause, resume, upload all and departure: status indications to every bound protocol (R-PAUSE-08)."""

from __future__ import annotations

from functools import partial
from typing import Any

from ndisbus.ddi.enums import NDIS_OFFLOAD_NOT_SUPPORTED
from ndisbus.ddi.status import NdisStatus
from ndisbus.ddi.structures import NdisStatusIndication, NdisTcpConnectionOffload
from ndisbus.errors import LocalProtocolError
from target.hardware.adapter import Adapter
from target.operations import initiate

__all__ = ["depart", "departed", "pause", "resume", "upload_all"]


def pause(adapter: Adapter) -> None:
    """Pause (NDIS_STATUS_OFFLOAD_PAUSE): initiates wait, objects are served (R-PAUSE-01, R-PAUSE-02).

    Raises LocalProtocolError if the adapter is already paused.
    """
    if adapter.paused:
        raise LocalProtocolError(f"{adapter.name} is already paused; resume it first")
    adapter.paused = True
    _indicate(adapter, NdisStatus.OFFLOAD_PAUSE)


def upload_all(adapter: Adapter, *, resume_after: bool = False) -> None:
    """Give everything back (NDIS_STATUS_UPLOAD_ALL); new I/O requests are refused (R-PAUSE-03).

    New initiates wait until a resume. With ``resume_after`` the adapter resumes by itself when everything has
    been uploaded (R-PAUSE-06, R-PAUSE-07).
    """
    adapter.paused = True
    adapter.uploading = True
    _indicate(adapter, NdisStatus.UPLOAD_ALL)
    if resume_after:
        # A command may have resumed it before everything was uploaded.
        adapter.when(
            lambda: not adapter.hardware.objects,
            lambda: resume(adapter) if adapter.paused and not adapter.departing else None,
        )


def depart(adapter: Adapter) -> None:
    """Give everything back for good: the driver leaves. Initiates are refused from now on."""
    adapter.departing = True
    queued, adapter.queued = adapter.queued, []
    for block_list in queued:
        initiate.refuse(adapter, block_list)
    upload_all(adapter)


def departed(adapter: Adapter) -> bool:
    """Return whether nothing is left of what the drivers above had offloaded or asked for."""
    return not (adapter.hardware.objects or adapter.initiating or len(adapter.pipeline))


def resume(adapter: Adapter, changes: dict[str, Any] | None = None) -> None:
    """Resume (NDIS_STATUS_OFFLOAD_RESUME) with the current capabilities (R-OID-11); queued initiates begin.

    ``changes``: new values for members of TargetConfig that are capabilities. Raises LocalProtocolError if
    the adapter is not paused, or if a member cannot be changed.
    """
    if not adapter.paused:
        raise LocalProtocolError(f"{adapter.name} is not paused; only a paused adapter can resume")
    if changes:
        adapter.hardware.config = adapter.config.changed(changes)
        _clip(adapter)
    adapter.paused = adapter.uploading = False
    _indicate(adapter, NdisStatus.OFFLOAD_RESUME, adapter.config.capabilities())
    queued, adapter.queued = adapter.queued, []
    for block_list in queued:
        initiate.start(adapter, block_list)


def _clip(adapter: Adapter) -> None:
    """Disable what the hardware does not support any more."""
    enabled, can = adapter.enabled, adapter.config.task()
    if enabled is not None:
        for member in ("support_ipv4", "support_ipv6", "support_ipv6_extension_headers", "support_sack"):
            if not getattr(can, member):
                setattr(enabled, member, NDIS_OFFLOAD_NOT_SUPPORTED)


def _indicate(adapter: Adapter, status: NdisStatus, buffer: NdisTcpConnectionOffload | None = None) -> None:
    indication = NdisStatusIndication(
        source_handle=adapter.handle, status_code=int(status), status_buffer=buffer
    )
    adapter.indicate(partial(adapter.ndis.m_indicate_status_ex, adapter.handle, indication))
