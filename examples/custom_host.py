"""A host of one's own: offload connections, look at them, and take them back.

Start a stack without a host in one terminal, and this in another::

    honcho start bus target im
    python examples/custom_host.py
"""

from __future__ import annotations

import random
import sys

from hoststack import BusUnavailable, ChimneyError, Host, events, synthetic
from ndisbus.state.images import TcpOffloadStateDelegated


def main() -> int:
    """Exit code 0 if every connection went down and came back, 69 without a bus, else 1."""
    gateway = synthetic.neighbor(bytes.fromhex("020000000001"), name="gateway")
    path = synthetic.path(gateway, bytes([10, 0, 0, 1]), bytes([192, 0, 2, 7]), name="to the server")
    connections = synthetic.connections(path, 100, rng=random.Random(1))
    connections[0].send_queue = [b"data that was written before the offload"]

    try:
        with Host.attach("customhost", timeout=5.0) as host:
            print("bound to", host.adapter)  # noqa: T201

            # Down: the connections, the path and the neighbor go in one tree.
            offloaded = host.offload(connections)
            print("offload:", offloaded.refused or offloaded.counts())  # noqa: T201
            if not offloaded.succeeded:
                return 1

            # There: read the delegated state of one of them.
            answer = host.query(connections[:1]).result_of(connections[0])
            if answer is not None and isinstance(answer[0], TcpOffloadStateDelegated):
                print("SndUna, SndMax:", answer[0].snd_una, answer[0].snd_max)  # noqa: T201

            # A smaller path MTU, as if ICMP had reported it.
            path.cached.path_mtu = 1400
            print("update:", host.update([path]).counts())  # noqa: T201

            # Up: the connections, and with them what nothing depends on any more.
            uploaded = host.terminate(connections, idle=True)
            print("upload:", uploaded.counts())  # noqa: T201
            for event in host.events():
                if isinstance(event, events.UploadIndicated):
                    print("the target asked for", event.tcb)  # noqa: T201
            return 0 if uploaded.succeeded else 1
    except ChimneyError as error:
        print(f"custom_host: {error}", file=sys.stderr)  # noqa: T201
        return 69 if isinstance(error, BusUnavailable) else 1


if __name__ == "__main__":
    sys.exit(main())
