"""The connections of a stack as ``netstat -t`` shows them, with who serves each: the offload state.

:func:`connections` is the answer to the control command ``netstat``; :func:`table` is what people see.
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final

from ndisbus.ddi.enums import TcpOffloadConnectionState as State

if TYPE_CHECKING:
    from rich.table import Table

    from hoststack.net.stack import NetStack

__all__ = ["STATES", "connections", "table"]

#: TCP states by the names that netstat has for them.
STATES: Final = {
    State.TcpConnectionClosed: "CLOSED",
    State.TcpConnectionListen: "LISTENING",
    State.TcpConnectionSynSent: "SYN_SENT",
    State.TcpConnectionSynRcvd: "SYN_RECEIVED",
    State.TcpConnectionEstablished: "ESTABLISHED",
    State.TcpConnectionFinWait1: "FIN_WAIT_1",
    State.TcpConnectionFinWait2: "FIN_WAIT_2",
    State.TcpConnectionCloseWait: "CLOSE_WAIT",
    State.TcpConnectionClosing: "CLOSING",
    State.TcpConnectionLastAck: "LAST_ACK",
    State.TcpConnectionTimeWait: "TIME_WAIT",
}


def connections(stack: NetStack) -> list[dict[str, Any]]:
    """Listeners, then connections by their ports: plain maps with the keys of the JSON output."""
    rows: list[dict[str, Any]] = []
    for listener in stack.transport.listeners.values():
        address = str(ip_address(listener.address)) if listener.address else "*"
        rows.append(
            {
                "Proto": "TCP",
                "LocalAddress": address,
                "LocalPort": listener.port,
                "ForeignAddress": "*",
                "ForeignPort": 0,
                "State": STATES[State.TcpConnectionListen],
                "OffloadState": "InHost",
                "SendQueue": 0,
                "ReceiveQueue": len(listener.ready),
            }
        )
    found = []
    for socket in stack.transport.sockets.values():
        (local, port), (remote, remote_port) = socket.local, socket.remote
        found.append(
            {
                "Proto": "TCP",
                "LocalAddress": local,
                "LocalPort": port,
                "ForeignAddress": remote,
                "ForeignPort": remote_port,
                "State": STATES[socket.state],
                "OffloadState": socket.tcb.connection_state.value,
                "SendQueue": socket.unacknowledged,
                "ReceiveQueue": socket.available,
            }
        )
    found.sort(key=lambda r: (r["LocalPort"], r["LocalAddress"], r["ForeignAddress"], r["ForeignPort"]))
    return rows + found


def _end(address: str, port: int) -> str:
    shown = f"[{address}]" if ":" in address else address
    return f"{shown}:{port or '*'}"


def table(rows: list[dict[str, Any]]) -> Table:
    """The rows in the columns of ``netstat -t``, and the queues."""
    # Imported here: a driver answers with rows, and needs nothing to draw them with.
    from rich.markup import escape  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    found = Table(title=None, box=None, pad_edge=False, collapse_padding=True)
    for heading in ("Proto", "Local Address", "Foreign Address", "State", "Offload State"):
        found.add_column(heading, no_wrap=True)
    for heading in ("Recv-Q", "Send-Q"):
        found.add_column(heading, justify="right", no_wrap=True, min_width=len(heading))
    for r in rows:
        found.add_row(
            r["Proto"],
            escape(_end(r["LocalAddress"], r["LocalPort"])),  # brackets are markup to rich
            escape(_end(r["ForeignAddress"], r["ForeignPort"])),
            r["State"],
            r["OffloadState"],
            str(r["ReceiveQueue"]),
            str(r["SendQueue"]),
        )
    return found
