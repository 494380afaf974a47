"""The answer to the control command ``netstat``: the connections of a stack, and which side serves each.

:mod:`hoststack.cli.netstat` draws it.
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final

from ndisbus.ddi.tcp_enums import TcpOffloadConnectionState as State

if TYPE_CHECKING:
    from hoststack.net.stack import NetStack

__all__ = ["STATES", "connections"]

#: The names of the TCP states in netstat.
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
    """Listeners, then connections sorted by port, as maps with the keys of the JSON output."""
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
                "ReceiveQueue": socket.unread,
            }
        )
    found.sort(key=lambda r: (r["LocalPort"], r["LocalAddress"], r["ForeignAddress"], r["ForeignPort"]))
    return rows + found
