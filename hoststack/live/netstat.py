"""The answer to the control command ``netstat``: the connections of a stack, and which side serves each.

:mod:`hoststack.cli.netstat` draws it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from heapq import nsmallest
from ipaddress import ip_address
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final, get_args

from hoststack.net.listener import Listener
from hoststack.net.socket import Socket
from ndisbus.ddi.tcp_enums import TcpOffloadConnectionState as State
from ndisbus.errors import LocalProtocolError

if TYPE_CHECKING:
    from hoststack.net.stack import NetStack

__all__ = ["MOST_ROWS", "STATES", "answer", "connections"]

#: Most connections in one answer.
MOST_ROWS: Final = 500

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


#: A place in the list: listeners first, then by local port, local and remote address, remote port.
Place = tuple[int, int, str, str, int]


def connections(stack: NetStack) -> list[dict[str, Any]]:
    """Listeners, then connections sorted by port, as maps with the keys of the JSON output."""
    return [_row(o) for _, o in sorted(_places(stack), key=itemgetter(0))]


def answer(stack: NetStack, arguments: dict[str, Any]) -> dict[str, Any]:
    """Return a slice of the list, so that no answer takes long, whatever the number of connections.

    Arguments: ``After``, the ``Next`` of the answer before this one; ``Limit``, the most rows; ``State`` and
    ``OffloadState``, which rows. ``Next`` of the answer is nil if nothing follows. The first answer also has
    the numbers of connections: ``Total``, ``Matching``, by ``States`` and by ``OffloadStates``.

    Raises :class:`LocalProtocolError` for other arguments.
    """
    after, limit = arguments.get("After"), arguments.get("Limit", MOST_ROWS)
    wanted = {k: arguments[k] for k in ("State", "OffloadState") if arguments.get(k) is not None}
    if after is not None and (type(after) is not list or tuple(map(type, after)) != get_args(Place)):
        raise LocalProtocolError("After: the Next of an answer expected")
    if type(limit) is not int or limit < 0:
        raise LocalProtocolError("Limit: a number of rows expected")
    found = list(_places(stack))
    result: dict[str, Any] = {}
    if wanted:
        matching = [(p, o) for p, o in found if all(_state(o)[k] == v for k, v in wanted.items())]
    else:
        matching = found
    if after is None:
        states = [_state(o) for _, o in found]
        result = {
            "Total": len(found),
            "Matching": len(matching),
            "States": dict(Counter(s["State"] for s in states)),
            "OffloadStates": dict(Counter(s["OffloadState"] for s in states)),
        }
    else:
        place = tuple(after)
        matching = [(p, o) for p, o in matching if p > place]
    limit = min(limit, MOST_ROWS)
    rows = nsmallest(limit + 1, matching, key=itemgetter(0))
    more = len(rows) > limit
    del rows[limit:]
    result["Connections"] = [_row(o) for _, o in rows]
    result["Next"] = list(rows[-1][0]) if more and rows else None
    return result


def _places(stack: NetStack) -> Iterator[tuple[Place, Listener | Socket]]:
    for listener in stack.transport.listeners.values():
        yield (
            (0, listener.port, str(ip_address(listener.address)) if listener.address else "", "", 0),
            listener,
        )
    for socket in stack.transport.sockets.values():
        (local, port), (remote, remote_port) = socket.local, socket.remote
        yield (1, port, local, remote, remote_port), socket


def _state(of: Listener | Socket) -> dict[str, str]:
    if isinstance(of, Listener):
        return {"State": STATES[State.TcpConnectionListen], "OffloadState": "InHost"}
    return {"State": STATES[of.state], "OffloadState": of.tcb.connection_state.value}


def _row(of: Listener | Socket) -> dict[str, Any]:
    if isinstance(of, Listener):
        address = str(ip_address(of.address)) if of.address else "*"
        ends = (address, of.port), ("*", 0)
        queues = 0, len(of.ready)
    else:
        ends = of.local, of.remote
        queues = of.unacknowledged, of.unread
    return {
        "Proto": "TCP",
        "LocalAddress": ends[0][0],
        "LocalPort": ends[0][1],
        "ForeignAddress": ends[1][0],
        "ForeignPort": ends[1][1],
        **_state(of),
        "SendQueue": queues[0],
        "ReceiveQueue": queues[1],
    }
