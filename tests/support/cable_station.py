"""A station of a cable as a process: it answers each frame with its own address as the source.

Arguments: the directory, the station's name, its address (12 hexadecimal digits). It says that it is there by
a broadcast frame, and ends on SIGTERM.
"""

from __future__ import annotations

import select
import sys

from ndisbus.runtime.signals import SignalPipe
from ndisbus.wire.cable import CableLink


def main(directory: str, name: str, address: str) -> None:
    own = bytes.fromhex(address)
    link = CableLink(directory, name)
    with SignalPipe() as signals:
        link.send(b"\xff" * 6 + own + b"\x88\xb5" + b"here", 0.0)
        fd = link.fileno()
        assert fd is not None
        while True:
            select.select([fd, signals.receiver.fileno()], [], [])
            if signals.arrived():
                break
            for frame in link.receive(0.0):
                # The broadcast frames of new stations are not answered.
                if frame[:6] == own:
                    link.send(frame[6:12] + own + frame[12:], 0.0)
    link.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
