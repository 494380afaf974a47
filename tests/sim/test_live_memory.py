"""What a connection held is freed when it has ended, by reference counts.

The processes run the cycle collector rarely (:mod:`ndisbus.runtime.collector`). A connection that waits for
it keeps its buffers for minutes.
"""

from __future__ import annotations

import gc

import pytest

from hoststack.model.objects import Tcb
from hoststack.net.socket import Socket
from ndisbus.tcp.machine import TcpMachine
from target.model.contexts import TcpContext
from target.model.posted import TcpIo
from tests.support.live_stack import Flow, LiveStack

KINDS = (Tcb, Socket, TcpMachine, TcpContext, TcpIo)


def use(stack: LiveStack, number: int, how: str) -> None:
    """A connection that is offloaded, used and ended."""
    socket = stack.connect("10.77.0.2", 7)
    flow = Flow(stack, socket, 3000, number)
    operation = stack.act(lambda h: h.offload_sockets([socket]))
    stack.wait(lambda: operation.done and flow.done)
    flow.check()
    if how == "uploaded":
        operation = stack.act(lambda h: h.upload_sockets([socket], idle=True))
        stack.wait(lambda: operation.done)
    stack.act(lambda _: socket.abort() if how == "aborted" else socket.close())
    stack.wait(lambda: socket.finished)
    socket.on_event = None


def there() -> dict[str, int]:
    objects = gc.get_objects()
    return {kind.__name__: sum(type(o) is kind for o in objects) for kind in KINDS}


@pytest.mark.parametrize("how", ["closed", "uploaded", "aborted"])
def test_nothing_of_a_connection_that_ended_waits_for_the_cycle_collector(how: str) -> None:
    stack = LiveStack(1)
    stack.ready()
    gc.collect()
    gc.disable()
    try:
        for number in range(5):
            use(stack, number, how)
        left = there()
        gc.collect()
        assert left == there()
    finally:
        gc.enable()
