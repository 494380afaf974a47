"""The worked examples of docs/protocol.md: a short conversation with a real NdisCore, recorded.

A host called "probe" and a target called "nic" are played by hand, message by message, as a person would
who has only the page; what NDIS says in return is what it really says. ``tools/doc_tables.py`` puts the
recording into the page.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ndisbus.core import CoreConfig, NdisCore
from ndisbus.ddi.enums import Oid
from ndisbus.ddi.state_types import OffloadStateType
from ndisbus.ddi.structures import (
    NdisClientChimneyOffloadGenericCharacteristics,
    NdisClientChimneyOffloadTcpCharacteristics,
    NdisOidRequest,
    NdisProviderChimneyOffloadGenericCharacteristics,
    NdisProviderChimneyOffloadTcpCharacteristics,
    NdisTaskOffload,
    NdisTaskOffloadHeader,
    NdisTaskTcpConnectionOffload,
    NdisTcpConnectionOffload,
)
from ndisbus.ddi.tcp_enums import TcpOffloadConnectionState
from ndisbus.lists.blocklist import BLOCK_SIZE
from ndisbus.lists.frame_lists import PACKET_SIZE
from ndisbus.messages.codec import PROTOCOL_VERSION, Message, encode_packet
from ndisbus.state.images import (
    NeighborOffloadStateCached,
    NeighborOffloadStateConst,
    NeighborOffloadStateDelegated,
    PathOffloadStateCached,
    PathOffloadStateConst,
    PathOffloadStateDelegated,
    TcpOffloadStateCached,
    TcpOffloadStateConst,
    TcpOffloadStateDelegated,
    pack_state,
)

__all__ = ["Example", "Recorder", "diagnostic", "record", "start_nic", "start_probe", "to_markdown"]

_HEX_WIDTH = 48
"""Bytes of frame 0 per line."""
_WIDTH = 100
_SHORT = 40
_BIG = 1 << 30
"""Integers from here on (pointers, statuses, OIDs) are shown in hexadecimal."""


@dataclass(frozen=True)
class Example:
    """One packet: who sent it, its messages, and the payload frames behind frame 0."""

    sender: str
    messages: list[Message]
    frames: Sequence[bytes] = ()

    @property
    def frame0(self) -> bytes:
        """The bytes of frame 0."""
        return encode_packet(self.messages)


# --- rendering -------------------------------------------------------------------------------


def _scalar(value: object) -> str:
    if value is None:
        return "nil"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return f"{value:#x}" if value >= _BIG else str(value)
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, bytes):
        return f"h'{value.hex()}'"
    if isinstance(value, float):
        return repr(value)
    raise TypeError(f"{type(value).__name__} has no place in a message")


def diagnostic(value: object, indent: int = 0, used: int = 0) -> str:
    """``value`` in the page's diagnostic notation.

    ``indent``: columns by which the lines after the first are indented; ``used``: columns of the first line
    that are taken already. Raises TypeError for what no message holds.
    """
    flat = _flat(value)
    if used + len(flat) <= _WIDTH:
        return flat
    pad = " " * (indent + 2)
    if isinstance(value, bytes):
        lines = [value[i : i + 32].hex() for i in range(0, len(value), 32)]
        return "h'" + f"\n{pad}".join(lines) + "'"
    if isinstance(value, dict):
        items, brackets = [(f"{_scalar(k)}: ", v) for k, v in value.items()], "{}"
    elif isinstance(value, (list, tuple)):
        items, brackets = [("", v) for v in value], "[]"
    else:
        return flat
    long = [i for i, (_, v) in enumerate(items) if len(_flat(v)) > _SHORT]
    if brackets == "[]" and len(long) == 1 and isinstance(items[long[0]][1], (dict, list)):
        # One long element: its neighbours stay on the lines of its brackets.
        at = long[0]
        before = "".join(f"{_flat(v)}, " for _, v in items[:at])
        after = "".join(f", {_flat(v)}" for _, v in items[at + 1 :])
        return f"[{before}{diagnostic(items[at][1], indent, _WIDTH)}{after}]"
    inner = [f"{pad}{k}{diagnostic(v, indent + 2, len(pad) + len(k) + 1)}" for k, v in items]
    return f"{brackets[0]}\n" + ",\n".join(inner) + "\n" + " " * indent + brackets[1]


def _flat(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_scalar(k)}: {_flat(v)}" for k, v in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_flat, value)) + "]"
    return _scalar(value)


def to_markdown(example: Example) -> str:
    """Hex of frame 0, the payload frames if there are any, and the rendering, as fenced blocks."""
    data = example.frame0.hex()
    step = 2 * _HEX_WIDTH
    out = ["```msgpack-hex", *(data[i : i + step] for i in range(0, len(data), step)), "```", ""]
    out += ["```msgpack-diag", diagnostic(example.messages), "```"]
    for i, frame in enumerate(example.frames, 1):
        out += ["", f"Frame {i}: {len(frame)} bytes, `{bytes(frame).hex()}`."]
    return "\n".join(out) + "\n"


# --- the conversation ------------------------------------------------------------------------


class Recorder:
    """A bus with hand-played drivers: :meth:`say` delivers a message and notes what NDIS sends."""

    def __init__(self) -> None:
        self.core = NdisCore(CoreConfig(seed=1))
        self.examples: dict[str, Example] = {}
        self.inbox: dict[str, list[tuple[Message, Sequence[bytes]]]] = {}

    def say(self, key: str, message: Message, frames: Sequence[bytes] = (), note: str = "") -> None:
        """Send as the driver ``key``; with ``note`` the packet becomes the example of that name."""
        if note:
            self.examples[note] = Example(key, [message], frames)
        # A copy, as if it came off the wire: the core works on what it is given.
        self.core.receive(key, _copy(message), frames, 1.0)
        for to, sent, payload in self.core.drain():
            self.inbox.setdefault(to, []).append((_copy(sent), payload))

    def hear(self, key: str, name: str, note: str = "") -> Message:
        """The oldest message for ``key``, which must be ``name``. AssertionError if it has another name."""
        message, frames = self.inbox[key].pop(0)
        if message[0] != name:
            raise AssertionError(f"{key} expected {name}, NDIS sent {message}")
        if note:
            self.examples[note] = Example("NDIS", [message], frames)
        return message


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _copy(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_copy(v) for v in value]
    return int(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _images() -> list[bytes]:
    """The state behind the three blocks: a neighbor, a path over it, an established connection on that."""
    host_mac, peer_mac = bytes.fromhex("020000000001"), bytes.fromhex("020000000002")
    neighbor = (
        NeighborOffloadStateConst(host_mac),
        NeighborOffloadStateCached(peer_mac, 0),
        NeighborOffloadStateDelegated(0),
    )
    path = (
        PathOffloadStateConst(bytes([192, 0, 2, 1]), bytes([192, 0, 2, 2])),
        PathOffloadStateCached(1500),
        PathOffloadStateDelegated(),
    )
    tcp = (
        TcpOffloadStateConst(flags=2, remote_port=7, local_port=49152, remote_mss=1460),
        TcpOffloadStateCached(initial_rcv_wnd=65535, rcv_indication_size=1460, ttl_or_hop_limit=64),
        TcpOffloadStateDelegated(
            state=TcpOffloadConnectionState.TcpConnectionEstablished,
            rcv_nxt=2001,
            rcv_wnd=65535,
            snd_una=1001,
            snd_nxt=1001,
            snd_max=1001,
            snd_wnd=65535,
            max_snd_wnd=65535,
            send_wl1=2001,
            c_wnd=14600,
            ss_thresh=65535,
        ),
    )
    return [pack_state(neighbor), pack_state(path), pack_state(tcp)]


def record() -> dict[str, Example]:
    """Play the conversation; the examples by name."""
    r = Recorder()
    adapter = start_nic(r)
    space, binding = start_probe(r)
    base = space << 40
    handles = [base + 0x100 + 0x20 * i for i in range(3)]
    cells = [h + 0x10 for h in handles]
    blocks = [base + 0x1000 + 0xA0 * i for i in range(3)]
    _offload(r, adapter, binding, blocks, handles, cells)
    _use(r, adapter, base, handles[2])
    _terminate(r, adapter, binding, base + 0x2000, handles, cells)
    _frames(r, adapter, binding, base + 0x5000)
    _break(r, binding, base)
    return r.examples


def _options(r: Recorder, key: str, handler: str, tables: Sequence[Any], note: str = "") -> None:
    asked = r.hear(key, handler, note and "set-options")
    for i, table in enumerate(tables):
        name = note if i == 0 else ""
        r.say(key, ["NdisSetOptionalHandlers", 3 + i, [asked[2][0], table.full().to_wire()]], note=name)
        r.hear(key, "return")
    r.say(key, ["return", asked[1], [0]], note=note and "set-options-return")


def start_nic(r: Recorder) -> int:
    """Bring the target "nic" up, with adapter "nic0"; its NdisMiniportHandle."""
    r.say("nic", ["hello", 1, [PROTOCOL_VERSION, {"Name": "nic", "Pid": 4242}]])
    base = r.hear("nic", "ready")[2][0]["AddressSpace"] << 40
    register = ["NdisMRegisterMiniportDriver", 2, [base + 0x10, {"Name": "nic", "Adapters": ["nic0"]}]]
    r.say("nic", register)
    tables = (NdisProviderChimneyOffloadGenericCharacteristics, NdisProviderChimneyOffloadTcpCharacteristics)
    _options(r, "nic", "MiniportSetOptions", tables)
    r.hear("nic", "return")
    asked = r.hear("nic", "MiniportInitializeEx")
    adapter = int(asked[2][0])
    capabilities = NdisTcpConnectionOffload(tcp_connection_offload_capacity=1024).to_wire()
    attributes = {
        "MiniportAdapterContext": base + 0x20,
        "TcpConnectionOffloadCapabilities": capabilities,
        "CurrentMacAddress": bytes.fromhex("020000000001"),
        "MtuSize": 1500,
        "XmitLinkSpeed": 10**10,
        "RcvLinkSpeed": 10**10,
    }
    r.say("nic", ["NdisMSetMiniportAttributes", 3, [adapter, attributes]])
    r.hear("nic", "return")
    r.say("nic", ["NdisMGetOffloadHandlers", 4, [adapter, 1]])
    r.hear("nic", "return")
    r.say("nic", ["return", asked[1], [0]])
    return adapter


def start_probe(r: Recorder) -> tuple[int, int]:
    """Attach the host "probe" and enable the chimney; its address space and NdisBindingHandle."""
    r.say("probe", ["hello", 1, [PROTOCOL_VERSION, {"Name": "probe", "Pid": 4711}]], note="hello")
    ready = r.hear("probe", "ready", "ready")
    space = int(ready[2][0]["AddressSpace"])
    base = space << 40
    register = ["NdisRegisterProtocolDriver", 2, [base + 0x10, {"Name": "probe", "Bind": ["nic0"]}]]
    r.say("probe", register, note="register")
    tables = (NdisClientChimneyOffloadGenericCharacteristics, NdisClientChimneyOffloadTcpCharacteristics)
    _options(r, "probe", "ProtocolSetOptions", tables, "set-optional")
    protocol = r.hear("probe", "return", "register-return")[2][1]
    asked = r.hear("probe", "ProtocolBindAdapterEx", "bind")
    context = base + 0x20
    opening = ["NdisOpenAdapterEx", 5, [protocol, context, {"AdapterName": "nic0"}]]
    r.say("probe", opening, note="open")
    binding = int(r.hear("probe", "return", "open-return")[2][1])
    r.say("probe", ["return", asked[1], [0]])
    task = NdisTaskTcpConnectionOffload(tcp_connection_offload_capacity=16)
    header = NdisTaskOffloadHeader.of([NdisTaskOffload(task_buffer=task)])
    request = NdisOidRequest(
        request_type=1, oid=int(Oid.OID_TCP_TASK_OFFLOAD), information_buffer=header, request_id=base + 0x30
    )
    r.say("probe", ["NdisOidRequest", None, [binding, request.to_wire()]], note="oid")
    passed = r.hear("nic", "MiniportOidRequest")
    r.say("nic", ["return", passed[1], [0, passed[2][1]]])
    r.hear("probe", "ProtocolOidRequestComplete")
    return space, binding


def _offload(
    r: Recorder, adapter: int, binding: int, blocks: list[int], handles: list[int], cells: list[int]
) -> None:
    types = (
        OffloadStateType.NeighborOffloadState,
        OffloadStateType.Ip4OffloadState,
        OffloadStateType.TcpOffloadState,
    )
    columns = {
        "Block": blocks,
        "Type": [int(t) for t in types],
        "Revision": 1,
        "Size": BLOCK_SIZE,
        "DependentBlockList": [blocks[1], blocks[2], None],
        "OffloadHandle": handles,
        "OffloadHandle->MiniportOffloadContext": cells,
        "State": _images(),
    }
    r.say("probe", ["NdisInitiateOffload", None, [binding, columns]], note="initiate-down")
    given = r.hear("nic", "MiniportInitiateOffload", "initiate-handler")[2][1]
    contexts = [(2 << 40) + 0x100 + 0x40 * i for i in range(3)]
    done = {
        "Block": given["Block"],
        "Status": 0,
        "SourceHandle": given["SourceHandle"],
        "*MiniportOffloadContext": contexts,
    }
    r.say("nic", ["NdisMInitiateOffloadComplete", None, [adapter, done]], note="initiate-complete")
    r.hear("probe", "ProtocolInitiateOffloadComplete", "initiate-seen")


def _use(r: Recorder, adapter: int, base: int, connection: int) -> None:
    nbl, nb, mdl, data = base + 0x3000, base + 0x3010, base + 0x3020, b"hello, world"
    chain = [
        {
            "NetBufferList": nbl,
            "FirstNetBuffer": nb,
            "NetBuffers": [
                {
                    "NetBuffer": nb,
                    "CurrentMdl": mdl,
                    "DataLength": len(data),
                    "MdlChain": mdl,
                    "Mdls": [{"Mdl": mdl, "ByteCount": len(data), "Frame": 0}],
                }
            ],
        }
    ]
    columns = {"NetBufferList": [nbl], "NetBufferLists": [chain]}
    r.say("probe", ["NdisOffloadTcpSend", None, [connection, columns], 1], [data], note="send")
    given = r.hear("nic", "MiniportTcpOffloadSend", "send-handler")[2][2]
    done = {"NetBufferList": [nbl], "SourceHandle": given["SourceHandle"], "Status": [0]}
    r.say("nic", ["NdisTcpOffloadSendComplete", None, [adapter, done]], note="send-complete")
    r.hear("probe", "ProtocolTcpOffloadSendComplete", "send-seen")
    r.say("nic", ["NdisTcpOffloadEventHandler", None, [connection, 3, 10]], note="event")
    r.hear("probe", "ProtocolTcpOffloadEvent", "event-seen")


def _terminate(
    r: Recorder, adapter: int, binding: int, first: int, handles: list[int], cells: list[int]
) -> None:
    blocks = [first + 0xA0 * i for i in range(3)]
    contexts = [(2 << 40) + 0x100 + 0x40 * i for i in range(3)]
    columns = {
        "Block": blocks,
        "Type": [3, 7, 15],
        "Revision": 1,
        "Size": BLOCK_SIZE,
        "DependentBlockList": [blocks[1], blocks[2], None],
        "OffloadHandle": handles,
        "OffloadHandle->MiniportOffloadContext": cells,
        "*MiniportOffloadContext": contexts,
    }
    r.say("probe", ["NdisTerminateOffload", None, [binding, columns]], note="terminate-down")
    given = r.hear("nic", "MiniportTerminateOffload")[2][1]
    tcp = TcpOffloadStateDelegated.unpack_from(_images()[2], 0x44)
    tcp.snd_una = tcp.snd_nxt = tcp.snd_max = 1013
    state = [NeighborOffloadStateDelegated(120).pack(), PathOffloadStateDelegated().pack(), tcp.pack()]
    done = {"Block": blocks, "Status": 0, "SourceHandle": given["SourceHandle"], "State": state}
    r.say("nic", ["NdisMTerminateOffloadComplete", None, [adapter, done]])
    r.hear("probe", "ProtocolTerminateOffloadComplete", "terminate-seen")


def _frames(r: Recorder, adapter: int, binding: int, first: int) -> None:
    """Two frames down, and one up: ARP, who-has and is-at."""
    host, peer = bytes.fromhex("020000000001"), bytes.fromhex("020000000002")
    asks = [b"\xff" * 6 + host + _arp(1, host, bytes(6), bytes([192, 0, 2, last])) for last in (2, 3)]
    lists = [first, first + PACKET_SIZE]
    columns = {"NetBufferList": lists, "SourceHandle": binding, "DataLength": [len(f) for f in asks]}
    down = ["NdisSendNetBufferLists", None, [binding, columns, 0, 0], 1]
    r.say("probe", down, [b"".join(asks)], note="frames")
    given = r.hear("nic", "MiniportSendNetBufferLists", "frames-handler")[2][1]
    done = {"NetBufferList": lists, "SourceHandle": given["SourceHandle"], "Status": [0, 0]}
    r.say("nic", ["NdisMSendNetBufferListsComplete", None, [adapter, done, 0]], note="frames-complete")
    r.hear("probe", "ProtocolSendNetBufferListsComplete", "frames-seen")
    answer = host + peer + _arp(2, peer, host, bytes([192, 0, 2, 1]))
    indicated = {"NetBufferList": [(2 << 40) + 0x300], "SourceHandle": adapter, "DataLength": [len(answer)]}
    up = ["NdisMIndicateReceiveNetBufferLists", None, [adapter, indicated, 0, 1, 0], 1]
    r.say("nic", up, [answer], note="frames-up")
    seen = r.hear("probe", "ProtocolReceiveNetBufferLists", "frames-up-seen")[2][1]
    back = {"NetBufferList": seen["NetBufferList"], "SourceHandle": seen["SourceHandle"]}
    r.say("probe", ["NdisReturnNetBufferLists", None, [binding, back, 0]], note="frames-return")
    r.hear("nic", "MiniportReturnNetBufferLists", "frames-returned")


def _arp(operation: int, sender: bytes, target: bytes, address: bytes) -> bytes:
    """EtherType and ARP of a frame between 192.0.2.1, or .2, and ``address``."""
    own = bytes([192, 0, 2, sender[-1]])
    return (
        bytes.fromhex("0806 0001 0800 06 04") + operation.to_bytes(2, "big") + sender + own + target + address
    )


def _break(r: Recorder, binding: int, base: int) -> None:
    r.say("late", ["NdisOpenAdapterEx", 9, [base, base, {"AdapterName": "nic0"}]])
    r.hear("late", "refused", "refused")
    # A handle that belongs to another driver or does not exist.
    columns = {"Block": [base + 0x4000], "Type": [3]}
    r.say("probe", ["NdisTerminateOffload", None, [binding + 0x10, columns]])
    r.hear("probe", "closed", "closed")
