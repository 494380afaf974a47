"""The end of a run: everything is taken back, and nothing may be left over in any layer."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from hoststack.live.nethost import NetHost
from hoststack.net.socket import Socket
from ndisbus.errors import ChimneyError
from ndisbus.sim import SimulationStuck
from tests.support.ownership.broken import Broken
from tools.torture_stack import leftovers

if TYPE_CHECKING:
    from tests.support.live_stack import LiveStack
    from tests.support.ownership.play import Play

__all__ = ["leave_nothing"]

#: What the host's counters say of forgotten connections.
_KEPT: Final = ("tcbs", "offloaded", "operations", "posted", "returns", "sends", "offloaded sockets")
#: How often what is left over is looked at, if there is something.
_TRIES: Final = 5


def leave_nothing(play: Play) -> None:
    """Take everything back, and look for what is still held. Raises :class:`Broken`."""
    stack, host = play.stack, play.stack.host
    for socket in list(host.stack.transport.sockets.values()):
        with contextlib.suppress(ChimneyError):
            stack.act(_aborting(socket))
    play.run_for(2.0)
    upload = stack.act(lambda h: h.upload_everything())
    play.wait(lambda: upload.done and not host.stack.transport.sockets, 200.0, "the last upload")
    play.run_for(2.0)
    for _ in range(_TRIES):
        problems = _left_over(stack)
        if not problems:
            return
        play.run_for(0.3)  # a frame or a question may have been under way
    raise Broken("\n".join(_left_over(stack)))


def _left_over(stack: LiveStack) -> list[str]:
    """What is held although nothing is offloaded any more."""
    host = stack.host
    problems = [f"the host keeps {k}: {v}" for k, v in host.inspect().items() if v and k in _KEPT]
    problems += [f"the host holds {o!r}" for o in host.held()]
    for adapter in stack.sim.driver("target").adapters.values():
        problems += [f"the target's {k}: {v}" for k, v in adapter.hardware.in_use().items() if v]
    try:
        survey = stack.sim.control("ps")
    except (ChimneyError, SimulationStuck) as e:
        return [*problems, f"ps: {e}"]
    return problems + [f"ps: {k}: {v}" for k, v in leftovers(survey).items()]


def _aborting(socket: Socket) -> Callable[[NetHost], None]:
    return lambda _: socket.abort()
