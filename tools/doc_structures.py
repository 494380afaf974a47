"""Tables of docs/protocol.md that say what is in a message: limits, state images, structures, numbers."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence
from typing import Final

from ndisbus.ddi import structures as ns
from ndisbus.ddi.characteristics import Characteristics
from ndisbus.ddi.cstruct import CMember, Struct
from ndisbus.ddi.enums import (
    IndicateOffloadEvent,
    NdisChimneyOffloadType,
    NdisEncapsulation,
    NdisReceiveFlags,
    NdisRequestType,
    NdisReturnFlags,
    NdisSendCompleteFlags,
    NdisSendFlags,
    Oid,
)
from ndisbus.ddi.state_types import Layer, OffloadStateType, classes_of, layer_of
from ndisbus.ddi.status import ALLOWED_STATUS, NdisStatus
from ndisbus.ddi.tcp_enums import (
    TcpCachedFlags,
    TcpConstFlags,
    TcpDisconnectFlags,
    TcpOffloadConnectionState,
    TcpOffloadEventType,
    TcpUploadReason,
)
from ndisbus.lists import heap, nbl_wire, validate
from ndisbus.lists.nbl_objects import MAX_CHAIN
from ndisbus.messages import codec, parts
from ndisbus.state.images import OffloadState, state_size, structures_of

__all__ = [
    "STRUCTURES",
    "enumerations",
    "limits",
    "net_buffer_list_slots",
    "oids",
    "state_layouts",
    "state_types",
    "statuses",
    "structures",
]

STRUCTURES: Final[tuple[type[Struct], ...]] = (
    ns.NdisObjectHeader,
    ns.NdisProviderChimneyOffloadGenericCharacteristics,
    ns.NdisProviderChimneyOffloadTcpCharacteristics,
    ns.NdisClientChimneyOffloadGenericCharacteristics,
    ns.NdisClientChimneyOffloadTcpCharacteristics,
    ns.NdisTcpOffloadEventHandlers,
    ns.NdisTcpConnectionOffload,
    ns.OffloadEncapsulation,
    ns.NdisOffloadEncapsulation,
    ns.NdisTcpConnectionOffloadParameters,
    ns.TcpOffloadStats,
    ns.IpOffloadStats,
    ns.NdisEncapsulationFormat,
    ns.NdisTaskTcpConnectionOffload,
    ns.NdisTaskOffload,
    ns.NdisTaskOffloadHeader,
    ns.NdisOidRequest,
    ns.NdisStatusIndication,
)
_WHOLE: Final = (
    OffloadStateType.NeighborOffloadState,
    OffloadStateType.Ip4OffloadState,
    OffloadStateType.TcpOffloadState,
)


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    out = ["| " + " | ".join(head) + " |", "| " + " | ".join("---" for _ in head) + " |"]
    out += ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]
    return out


def limits() -> str:
    """What a packet may hold at most."""
    rows: list[tuple[str, str]] = [
        ("one packet, all frames together", f"{codec.MAX_PACKET} bytes"),
        (
            "the same where an intermediate driver passes a message on",
            f"{codec.MAX_PACKET + codec.ROOM // 2} bytes",
        ),
        ("the same from the bus to a driver", f"{codec.MAX_PACKET + codec.ROOM} bytes"),
        ("messages in a packet", str(codec.MAX_MESSAGES)),
        ("parameters of a message", str(codec.MAX_PARAMS)),
        ("a string", f"{codec.MAX_STR} bytes"),
        ("entries of a map", str(codec.MAX_MAP)),
        ("elements of an array", str(codec.MAX_ARRAY)),
        ("nesting of arrays and maps inside one parameter", f"{codec.MAX_DEPTH} levels"),
        ("parts of a message", str(parts.MAX_PARTS)),
        ("a message in parts, as section 2 counts it", f"{parts.MAX_JOINED} bytes"),
        ("one payload frame of a message in parts", f"{parts.MAX_FRAME} bytes"),
        ("blocks of a block list", str(validate.MAX_BLOCKS)),
        ("lists of a chain, net buffers of a list, MDLs of a net buffer", f"{MAX_CHAIN} each"),
        ("low bits of a pointer, within one address space", str(heap.ADDRESS_BITS)),
    ]
    return "\n".join(_table(("what", "at most"), rows))


# --- state -----------------------------------------------------------------------------------


def state_types() -> str:
    """OFFLOAD_STATE_TYPE: which structures follow a block, and how many bytes that makes."""
    rows = []
    for t in OffloadStateType:
        try:
            layer = layer_of(t).name.lower()
        except ValueError:
            continue
        names = ", ".join(classes_of(t)) or "none"
        rows.append((int(t), f"`{t.name}`", layer, names, state_size(t)))
    return "\n".join(
        _table(("`Type`", "name", "layer", "structures in `State`, in this order", "bytes"), rows)
    )


def state_layouts() -> str:
    """Every member of the nine state structures, with its place."""
    out: list[str] = []
    for whole in _WHOLE:
        start = 0
        for structure, size in zip(structures_of(whole), _sizes(whole), strict=True):
            out += ["", f"#### {structure.NAME}", "", _caption(structure, whole, start, size), ""]
            rows = [_row(m, start) for m in structure.MEMBERS]
            out += _table(("member", "offset", "bytes", f"offset in `{whole.name}`", "note"), rows)
            start += size
    return "\n".join(out)


def _sizes(whole: OffloadStateType) -> list[int]:
    sizes = [s.SIZE for s in structures_of(whole)]
    sizes[0] += state_size(whole) - sum(sizes)  # the addresses of a path lie behind its constant state
    return sizes


def _caption(structure: type[OffloadState], whole: OffloadStateType, start: int, size: int) -> str:
    text = (
        f"{structure.SIZE:#x} bytes, `Header.Length` {structure.SIZE:#x}; at {start:#x} of a `{whole.name}`."
    )
    if size != structure.SIZE:
        text += f"\nWith the two IPv4 addresses behind it {size:#x} bytes, with IPv6 addresses 0x38."
    return text


def _row(m: CMember, start: int) -> tuple[object, ...]:
    assert m.offset is not None
    assert m.size is not None
    notes = []
    if m.bits:
        low = m.bit_position
        notes.append(f"bits {low} to {low + m.bits - 1}")
    if m.c_type == "PVOID":
        notes.append("pointer, 0 is NULL")
    if m.c_type.startswith("UCHAR["):
        notes.append("bytes")
    if m.c_type == "PUCHAR":
        notes.append("distance to the address")
    if m.shares:
        notes.append("same storage, in a query")
    return f"`{m.name}`", f"{m.offset:#04x}", m.size, f"{start + m.offset:#04x}", ", ".join(notes)


# --- structures that travel as maps ------------------------------------------------------------


def structures() -> str:
    """Every structure that is a map: its members, what each holds, what a sender usually puts there."""
    out: list[str] = []
    for s in STRUCTURES:
        out += ["", f"#### {s.NAME}", ""]
        rows = [(f"`{m.name}`", _type(m), _default(s, m)) for m in s.MEMBERS]
        out += _table(("member", "holds", "usual value"), rows)
    return "\n".join(out)


def _type(m: CMember) -> str:
    if m.c_type == "STRUCT" and m.nested is not None:
        return f"map: {m.nested.NAME}"
    if m.c_type == "STRUCT[]" and m.nested is not None:
        return f"array of maps: {m.nested.NAME}"
    if m.c_type == "HANDLER":
        return "name of the entry point, or nil"
    if m.c_type == "ANY":
        return "see below"
    if m.c_type == "PVOID":
        return "pointer or nil"
    if m.c_type == "BOOLEAN":
        return "boolean"
    if m.c_type.startswith("UCHAR["):
        return f"bin of {m.array_length} bytes"
    if m.c_type.startswith("PVOID["):
        return f"array of {m.array_length} pointers or nil"
    return f"integer of {m.bits or 8 * (m.size or 0)} bits"


#: Members whose value follows from others; the page says how.
_COMPUTED: Final = frozenset(("OffsetFirstTask", "OffsetNextTask", "TaskBufferLength", "StatusBufferSize"))


def _default(s: type[Struct], m: CMember) -> str:
    if m.name in _COMPUTED:
        return ""
    if m.c_type == "HANDLER":
        assert issubclass(s, Characteristics)
        return f'`"{s.entry_points()[m.name]}"`'
    field = s.__dataclass_fields__[m.attr]
    if m.name == "Header":
        make = field.default_factory
        assert callable(make)
        h = make()
        return f"Type {h.type:#x}, Revision {h.revision}, Size {h.size:#x}"
    value = field.default
    if isinstance(value, int):
        return f"{int(value):#x}" if value >= 1 << 16 else str(int(value))
    if m.name == "Guid":
        return "zeros"
    if m.name == "NdisReserved":
        return "nils"
    return "nil" if value is None else ""


def oids() -> str:
    """The OIDs of the chimney and what their InformationBuffer holds."""
    rows = []
    for oid in Oid:
        structure = ns.OID_STRUCTURES.get(oid)
        rows.append((f"`{int(oid):#010x}`", f"`{oid.name}`", structure.NAME if structure else "bin"))
    return "\n".join(_table(("OID", "name", "`InformationBuffer`"), rows))


# --- numbers -----------------------------------------------------------------------------------


def statuses() -> str:
    """Every NDIS_STATUS, and the operations that may end with it."""
    rows = []
    for s in NdisStatus:
        where = [op.replace("_", " ") for op, allowed in ALLOWED_STATUS.items() if s in allowed]
        rows.append((f"`{int(s):#010x}`", f"`{s.symbol}`", ", ".join(where) or "-"))
    return "\n".join(_table(("number", "symbol", "an operation may end with it"), rows))


_ENUMERATIONS: Final[tuple[tuple[str, type[enum.IntEnum] | type[enum.IntFlag]], ...]] = (
    ("TCP_OFFLOAD_EVENT_TYPE, `EventType`", TcpOffloadEventType),
    ("TCP_UPLOAD_REASON, `EventSpecificInformation` of TcpIndicateRetrieve", TcpUploadReason),
    ("INDICATE_OFFLOAD_EVENT, `IndicationCode`", IndicateOffloadEvent),
    ("TCP_OFFLOAD_CONNECTION_STATE, `State` of the delegated state", TcpOffloadConnectionState),
    ("Flags of TCP_OFFLOAD_STATE_CONST (bits)", TcpConstFlags),
    ("Flags of TCP_OFFLOAD_STATE_CACHED (bits)", TcpCachedFlags),
    ("`Flags` of a disconnect (bits)", TcpDisconnectFlags),
    ("`SendFlags` (bits)", NdisSendFlags),
    ("`SendCompleteFlags` (bits)", NdisSendCompleteFlags),
    ("`ReceiveFlags` (bits)", NdisReceiveFlags),
    ("`ReturnFlags` (bits)", NdisReturnFlags),
    ("NDIS_CHIMNEY_OFFLOAD_TYPE, `ChimneyType`", NdisChimneyOffloadType),
    ("NDIS_ENCAPSULATION_xxx, `Encapsulation` (bits)", NdisEncapsulation),
    ("NDIS_REQUEST_TYPE, `RequestType`", NdisRequestType),
    ("Layers of state", Layer),
)


def enumerations() -> str:
    """The numbers behind the names of enumerations and flags."""
    rows = [
        (title, ", ".join(f"{int(m.value)} {m.name}" for m in kind if "Max" not in str(m.name)))
        for title, kind in _ENUMERATIONS
    ]
    return "\n".join(_table(("enumeration", "values"), rows))


def net_buffer_list_slots() -> str:
    """The names that NetBufferListInfo may use."""
    rows = [(f"`{name}`", slot) for name, slot in sorted(nbl_wire._INFO_SLOTS.items(), key=lambda kv: kv[1])]
    return "\n".join(_table(("name", "slot"), rows))
