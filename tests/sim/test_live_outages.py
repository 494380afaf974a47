"""An offloaded connection through an outage of the wire: the target asks for the upload, the host goes on."""

from __future__ import annotations

import pytest

from ndisbus.wire.link import Link, LinkWrapper
from tests.support.live_stack import Flow, LiveStack


class Cable(LinkWrapper):
    """A link that can be cut, and then loses everything."""

    __slots__ = ("cut",)

    def __init__(self, inner: Link) -> None:
        super().__init__(inner)
        self.cut = False

    def send(self, frame: bytes, now: float) -> None:
        if not self.cut:
            super().send(frame, now)

    def receive(self, now: float) -> list[bytes]:
        frames = super().receive(now)
        return [] if self.cut else frames


@pytest.mark.parametrize("through_im", [False, True])
@pytest.mark.parametrize("outage", [10.0, 90.0])
def test_an_offloaded_connection_outlives_an_outage(outage: float, through_im: bool) -> None:
    """RFC9293-SHLD-11, R-TMR-22: after TcpMaximumRetransmissions of the target, R2 of the host counts."""
    stack = LiveStack(1, through_im=through_im)
    cable = stack.remote.station.link = Cable(stack.remote.station.link)
    stack.ready()
    flow = Flow(stack, stack.connect("10.77.0.2", 7), 3_000, 1)
    stack.wait(lambda: flow.done)
    operation = stack.act(lambda h: h.offload_sockets([flow.socket]))
    stack.wait(lambda: operation.done)
    assert flow.socket.tcb.is_offloaded
    cable.cut = True
    again = Flow(stack, flow.socket, 20_000, 2)
    stack.sim.run_for(outage)
    assert flow.socket.error is None
    cable.cut = False
    stack.wait(lambda: again.done, limit=120.0)
    again.check()
    assert flow.socket.error is None
    assert not stack.violations()
