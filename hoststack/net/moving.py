"""A connection leaves its machine for the chimney, and comes back: between a Tcb and a TcpMachine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hoststack.net.errors import ConnectionAborted
from ndisbus.ddi.tcp_enums import OFFLOADABLE_TCP_STATES
from ndisbus.ddi.tcp_enums import TcpOffloadConnectionState as State
from ndisbus.errors import LocalProtocolError
from ndisbus.net import tcp
from ndisbus.net.checksum import pseudo_header

if TYPE_CHECKING:
    from hoststack.model.objects import Tcb
    from hoststack.net.socket import Socket
    from hoststack.net.transport import Transport

__all__ = ["attach", "detach"]

_REMOTE_CLOSED: Final = (
    State.TcpConnectionCloseWait,
    State.TcpConnectionClosing,
    State.TcpConnectionLastAck,
    State.TcpConnectionTimeWait,
)


def detach(transport: Transport, socket: Socket, now: float) -> None:
    """Take a connection out of its machine, so that its Tcb is complete and can be offloaded.

    What is owed at the moment is sent first (R-TMR-06). Send data, received data and segments that came out
    of order (as ``held``, to be forwarded) are in the Tcb then. Raises LocalProtocolError without a machine
    and in a state that cannot be offloaded.
    """
    tcb, machine = socket.tcb, socket.machine
    if machine is None:
        raise LocalProtocolError(f"{socket} is not served by the host", rule="R-INIT-02")
    tick = transport.clock.at(now)
    # The machine's events must be handled before it is dropped.
    socket.take_turn(tick, now)
    if machine is not socket.machine or machine.state not in OFFLOADABLE_TCP_STATES:
        raise LocalProtocolError(
            f"{socket}: a connection in state {socket.state.name} cannot be offloaded", rule="R-STATE-06"
        )
    given = machine.hand_over(tick)
    if given.last:
        socket.send_segments(given.last, tcb.delegated.snd_max, now)
    socket.machine = socket.builder = None
    tcb.send_queue = list(given.send_data) or None
    received = b"".join(given.received)
    tcb.receive_buffer = bytearray(received) if received else None
    pseudo = _pseudo(tcb)
    tcb.held = [tcp.build(s, pseudo) for s in given.segments] or None
    transport.timers.drop(socket)
    socket.path_entry.hop.stamp(now)
    transport.interfaces.soon()


def attach(transport: Transport, socket: Socket, now: float) -> None:
    """Continue in the host with what the Tcb holds: after an upload, or an offload that was refused.

    Segments in ``held`` that are not whole are dropped and counted. Raises LocalProtocolError if there is a
    machine.
    """
    tcb = socket.tcb
    if socket.machine is not None:
        raise LocalProtocolError(f"{socket} is already served by the host")
    received = (bytes(tcb.receive_buffer),) if tcb.receive_buffer else ()
    tick = transport.clock.at(now)
    machine = transport.opening.resume(tcb, tick, tcb.send_queue or (), received, reading=not socket.closed)
    held = tcb.held or ()
    tcb.send_queue = tcb.receive_buffer = tcb.held = None
    socket.machine = machine
    if machine.state in _REMOTE_CLOSED:
        tcb.remote_closed = True
    # What the application did while the connection was on its way.
    if isinstance(socket.error, ConnectionAborted):
        machine.abort()
    elif socket.shut:
        machine.shutdown()
    for data in held:
        # As if they had just arrived, with verified checksums.
        transport.deliver_bytes(socket.key, data, now)
    transport.touch(socket)


def _pseudo(tcb: Tcb) -> int:
    # The same in both directions: the sum does not depend on the order.
    const = tcb.path.const
    return pseudo_header(const.source_address, const.destination_address, tcp.PROTOCOL)
