"""One TCP segment as values: what a machine takes and returns. :mod:`ndisbus.net.tcp` has its bytes."""

from __future__ import annotations

from typing import Final

__all__ = ["ACK", "CWR", "ECE", "FIN", "PSH", "RST", "SYN", "URG", "Segment"]

FIN: Final = 1
SYN: Final = 2
RST: Final = 4
PSH: Final = 8
ACK: Final = 16
URG: Final = 32
ECE: Final = 64
CWR: Final = 128

_LETTERS: Final = (
    (SYN, "S"),
    (FIN, "F"),
    (RST, "R"),
    (PSH, "P"),
    (ACK, "."),
    (URG, "U"),
    (ECE, "E"),
    (CWR, "W"),
)


class Segment:
    """A TCP header with its options and payload (RFC 9293 3.1; options: RFC 9293 3.2, 7323, 2018).

    ``seq``, ``ack``, ``ts_val``, ``ts_ecr``: 32 bits. ``flags``: the low eight bits of the header's flags.
    ``window``: the raw 16-bit field, unscaled. ``urgent``: the urgent pointer, an offset from ``seq``. None
    in ``ts_val``, ``mss``, ``window_scale``: the option is absent. ``sack``: (left, right) edges in the order
    of the option. The payload may be a view into a frame: copy it to keep it longer.
    """

    __slots__ = (
        "ack",
        "destination_port",
        "flags",
        "mss",
        "payload",
        "sack",
        "sack_permitted",
        "seq",
        "source_port",
        "ts_ecr",
        "ts_val",
        "urgent",
        "window",
        "window_scale",
    )

    def __init__(
        self,
        seq: int,
        ack: int,
        flags: int,
        window: int,
        payload: bytes | memoryview = b"",
        urgent: int = 0,
        source_port: int = 0,
        destination_port: int = 0,
        ts_val: int | None = None,
        ts_ecr: int = 0,
        mss: int | None = None,
        window_scale: int | None = None,
        sack_permitted: bool = False,
        sack: tuple[tuple[int, int], ...] = (),
    ) -> None:
        self.seq = seq
        self.ack = ack
        self.flags = flags
        self.window = window
        self.payload = payload
        self.urgent = urgent
        self.source_port = source_port
        self.destination_port = destination_port
        self.ts_val = ts_val
        self.ts_ecr = ts_ecr
        self.mss = mss
        self.window_scale = window_scale
        self.sack_permitted = sack_permitted
        self.sack = sack

    @property
    def length(self) -> int:
        """SEG.LEN: the number of sequence numbers used, SYN and FIN included."""
        flags = self.flags
        return len(self.payload) + (flags & 1) + (flags >> 1 & 1)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Segment):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in Segment.__slots__)

    __hash__ = None  # type: ignore[assignment]  # members may change

    def __repr__(self) -> str:
        """Return the text of tcpdump: ``1 > 2: Flags [P.], seq 10:15, ack 7, win 500, length 5``."""
        size = len(self.payload)
        letters = "".join(letter for bit, letter in _LETTERS if self.flags & bit) or "none"
        parts = [f"{self.source_port} > {self.destination_port}: Flags [{letters}]"]
        end = (self.seq + self.length) & 0xFFFFFFFF
        parts.append(f"seq {self.seq}:{end}" if self.length else f"seq {self.seq}")
        if self.flags & ACK:
            parts.append(f"ack {self.ack}")
        parts.append(f"win {self.window}")
        if self.flags & URG:
            parts.append(f"urg {self.urgent}")
        options = self._options()
        if options:
            parts.append(f"options [{','.join(options)}]")
        parts.append(f"length {size}")
        return ", ".join(parts)

    def _options(self) -> list[str]:
        options = []
        if self.mss is not None:
            options.append(f"mss {self.mss}")
        if self.sack_permitted:
            options.append("sackOK")
        if self.ts_val is not None:
            options.append(f"TS val {self.ts_val} ecr {self.ts_ecr}")
        if self.window_scale is not None:
            options.append(f"wscale {self.window_scale}")
        if self.sack:
            blocks = "".join(f"{{{left}:{right}}}" for left, right in self.sack)
            options.append(f"sack {len(self.sack)} {blocks}")
        return options
