"""How a driver's process ends when it is asked to: it gives back what it holds for others, then it leaves.

A limit holds for it, because a driver above may be stalled. Limits of outer layers are longer: the supervisor
kills after its grace, and honcho later than that.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ndisbus.runtime.driver_process import DriverProcess

__all__ = ["DEPARTURE_LIMIT", "REPEAT", "Departure"]

#: Seconds in which a driver may give back what it holds. After that it leaves, and what it holds is lost.
DEPARTURE_LIMIT: Final = 2.0
#: Seconds within which a second stop signal is the same request: timeout(1) always sends two.
REPEAT: Final = 0.5


class Departure:
    """The end of a driver's process."""

    def __init__(self, process: DriverProcess) -> None:
        self._process = process
        #: When the process was asked to end; infinite while it was not.
        self.asked_at = math.inf

    def ask(self, now: float) -> None:
        """Handle a stop signal. The first one begins the departure, a later one ends the process at once."""
        if self.asked_at == math.inf:
            self.asked_at = now
            self._process.port.depart()
        elif now - self.asked_at >= REPEAT:
            self._process.stop()

    def run(self) -> bool:
        """Serve until the process is asked to end, and then until the driver has departed.

        Returns False if the driver still held something when its time was over.
        """
        process = self._process
        process.run_until(lambda: self.asked_at < math.inf, math.inf)
        # Without a bus there is nothing to give back: it has gone, or it has cut the driver off.
        return process.run_until(process.port.departed, DEPARTURE_LIMIT)
