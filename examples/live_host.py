"""Download over HTTP from the remote host: begun in the host, continued by the adapter, checked at the end.

Start everything but the host in one terminal, and this in another::

    honcho start bus target im peer
    python examples/live_host.py
"""

from __future__ import annotations

import hashlib
import sys

from hoststack import BusUnavailable, ChimneyError, LiveHost

SIZE = 500_000


def main() -> int:
    """Exit code 0 if every byte arrived, 69 without a bus, else 1."""
    try:
        with LiveHost.attach("livehost") as host:
            print(f"ping: {host.ping('10.77.0.2') * 1000:.1f} ms")  # noqa: T201
            connection = host.connect(("10.77.0.2", 80))
            connection.sendall(f"GET /bytes/{SIZE} HTTP/1.1\r\nHost: peer\r\n\r\n".encode())
            received = connection.recv_exactly(SIZE // 4)

            # In the middle of the answer the connection moves to the adapter...
            print("offload:", connection.offload().counts())  # noqa: T201
            received += connection.recv_exactly(SIZE // 4)
            print(f"{connection} is {connection.served_by.value}")  # noqa: T201

            # ...and back.
            print("upload:", connection.upload().counts())  # noqa: T201
            head = received.index(b"\r\n\r\n") + 4
            received += connection.recv_exactly(head + SIZE - len(received))
            connection.close()
    except ChimneyError as error:
        print(f"live_host: {error}", file=sys.stderr)  # noqa: T201
        return 69 if isinstance(error, BusUnavailable) else 1
    expected = (bytes(range(256)) * (SIZE // 256 + 1))[:SIZE]
    same = hashlib.sha256(received[head:]).digest() == hashlib.sha256(expected).digest()
    print(f"{len(received) - head} bytes,", "as they should be" if same else "NOT as they should be")  # noqa: T201
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
