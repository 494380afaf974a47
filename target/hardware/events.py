"""TCP events: what the target reports about a connection by itself."""

from __future__ import annotations

from functools import partial
from typing import Final

from ndisbus.ddi.tcp_enums import (
    MANDATORY_UPLOAD_REASONS,
    OPTIONAL_UPLOAD_REASONS,
    TcpOffloadConnectionState,
    TcpOffloadEventType,
    TcpUploadReason,
)
from ndisbus.errors import LocalProtocolError
from target.hardware.adapter import Adapter
from target.model.contexts import TcpContext
from target.model.life import Life

__all__ = ["raise_event", "request_upload", "set_backlog"]

_HALF_CLOSED: Final = frozenset(
    (
        int(TcpOffloadConnectionState.TcpConnectionFinWait1),
        int(TcpOffloadConnectionState.TcpConnectionFinWait2),
        int(TcpOffloadConnectionState.TcpConnectionCloseWait),
    )
)
_OVER: Final = frozenset((Life.TERMINATING, Life.GONE))


def raise_event(adapter: Adapter, tcp: TcpContext, event: TcpOffloadEventType, information: int = 0) -> None:
    """Call NdisTcpOffloadEventHandler with the saved handle (R-HND-06), after initiates in progress."""
    adapter.indicate(partial(_raise, adapter, tcp, int(event), int(information)))


def _raise(adapter: Adapter, tcp: TcpContext, event: int, information: int) -> None:
    if tcp.life not in _OVER:
        adapter.ndis.tcp_offload_event_handler(tcp.ndis_handle, event, information)


def request_upload(adapter: Adapter, tcp: TcpContext, reason: TcpUploadReason) -> bool:
    """Ask the host to upload one connection (R-EVT-03). It may be asked again (R-TERM-20).

    If the reason is mandatory, the connection is not served any more (R-EVT-05). If it is optional, the
    connection is served as before (R-EVT-06). For a half-closed connection an optional request raises no
    event and returns False (R-EVT-14, R-DIS-14).
    """
    if reason in OPTIONAL_UPLOAD_REASONS and tcp.tcp_state in _HALF_CLOSED:
        adapter.refuse("no voluntary upload of a half-closed connection")
        return False
    if reason in MANDATORY_UPLOAD_REASONS:
        tcp.uploading = True
    raise_event(adapter, tcp, TcpOffloadEventType.TcpIndicateRetrieve, reason)
    return True


def set_backlog(adapter: Adapter, tcp: TcpContext, size: int) -> bool:
    """Change the preferred send backlog (bytes) of a connection. Returns whether an event was raised at once.

    A change of less than ``backlog_step`` raises no event. Two events are at least ``backlog_interval``
    apart: an earlier change is reported when that time has passed (R-EVT-15). Raises LocalProtocolError if
    the target does not have the feature (R-STATE-13).
    """
    if adapter.config.send_backlog is None:
        raise LocalProtocolError("this target does not have the send backlog feature", rule="R-STATE-13")
    adapter.io(tcp).backlog_wanted = size
    return _tell_backlog(adapter, tcp, adapter.ndis.now())


def _tell_backlog(adapter: Adapter, tcp: TcpContext, now: float) -> bool:
    posted = tcp.io
    if tcp.life in _OVER or posted is None or posted.backlog_wanted is None or posted.backlog_said is None:
        return False
    if abs(posted.backlog_wanted - posted.backlog_said) < max(adapter.config.backlog_step, 1):
        return False
    if posted.backlog_at is not None:
        due = posted.backlog_at + adapter.config.backlog_interval
        if now < due:
            adapter.timers.push(due, lambda later: void(_tell_backlog(adapter, tcp, later)))
            return False
    posted.backlog_said, posted.backlog_at = posted.backlog_wanted, now
    raise_event(adapter, tcp, TcpOffloadEventType.TcpIndicateSendBacklogChange, posted.backlog_wanted)
    return True


def void(_: object) -> None:
    """Ignore a value."""
