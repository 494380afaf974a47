"""The data of OID_TCP_TASK_OFFLOAD: a header and the task offload structures behind it.

Layouts of NDIS_TASK_OFFLOAD_HEADER, NDIS_ENCAPSULATION_FORMAT and NDIS_TASK_OFFLOAD: the NDIS 5 headers.
No header has the number of the chimney's task or the layout of NDIS_TASK_TCP_CONNECTION_OFFLOAD. The pages
use it to discover and enable the chimney (DDI page oid-tcp-task-offload, R-DIS-25). So here it has the
members of NDIS_TCP_CONNECTION_OFFLOAD without the header, under a task number of our own.
"""

# ruff: noqa: RUF009 - member() and header() make dataclass fields, as field() does.

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Self

from ndisbus.ddi.cstruct import CMember, Struct, member
from ndisbus.ddi.enums import NDIS_OFFLOAD_SUPPORTED, NdisEncapsulation
from ndisbus.errors import DecodeError

__all__ = [
    "NDIS_TASK_OFFLOAD_VERSION",
    "TCP_CONNECTION_OFFLOAD_TASK",
    "NdisEncapsulationFormat",
    "NdisTaskOffload",
    "NdisTaskOffloadHeader",
    "NdisTaskTcpConnectionOffload",
]

NDIS_TASK_OFFLOAD_VERSION: Final = 1

TCP_CONNECTION_OFFLOAD_TASK: Final = 0x100
"""NDIS_TASK of the chimney. Our own number: the published ones are 0..2 (checksum, IPsec, large send)."""

_TASK_BUFFER: Final = 0x14  # FIELD_OFFSET(NDIS_TASK_OFFLOAD, TaskBuffer)


@dataclass(kw_only=True, slots=True)
class NdisEncapsulationFormat(Struct):
    """NDIS_ENCAPSULATION_FORMAT; ``encapsulation_header_size``: bytes.

    ``encapsulation`` has a value of the old enumeration NDIS_ENCAPSULATION: 2 is IEEE_802_3_Encapsulation.
    """

    NAME: ClassVar[str] = "NDIS_ENCAPSULATION_FORMAT"
    SIZE: ClassVar[int] = 0xC

    encapsulation: int = member("Encapsulation", "ULONG", 0x0, default=2)
    fixed_header_size: int = member("Flags.FixedHeaderSize", "ULONG", 0x4, bits=1, default=1)
    encapsulation_header_size: int = member("EncapsulationHeaderSize", "ULONG", 0x8, default=14)


@dataclass(kw_only=True, slots=True)
class NdisTaskTcpConnectionOffload(Struct):
    """NDIS_TASK_TCP_CONNECTION_OFFLOAD: chimney capabilities to report or to enable. Layout: ours."""

    NAME: ClassVar[str] = "NDIS_TASK_TCP_CONNECTION_OFFLOAD"
    SIZE: ClassVar[int] = 0x10

    encapsulation: int = member(
        "Encapsulation", "ULONG", 0x0, default=int(NdisEncapsulation.NDIS_ENCAPSULATION_IEEE_802_3)
    )
    support_ipv4: int = member("SupportIPv4", "ULONG", 0x4, bits=2, default=NDIS_OFFLOAD_SUPPORTED)
    support_ipv6: int = member(
        "SupportIPv6", "ULONG", 0x4, bits=2, bit_position=2, default=NDIS_OFFLOAD_SUPPORTED
    )
    support_ipv6_extension_headers: int = member(
        "SupportIPv6ExtensionHeaders", "ULONG", 0x4, bits=2, bit_position=4, default=0
    )
    support_sack: int = member(
        "SupportSack", "ULONG", 0x4, bits=2, bit_position=6, default=NDIS_OFFLOAD_SUPPORTED
    )
    tcp_connection_offload_capacity: int = member("TcpConnectionOffloadCapacity", "ULONG", 0x8, default=0)
    flags: int = member("Flags", "ULONG", 0xC, default=0)


@dataclass(kw_only=True, slots=True)
class NdisTaskOffload(Struct):
    """NDIS_TASK_OFFLOAD: one capability. ``offset_next_task``: bytes from this structure, 0 in the last.

    ``task_buffer``: NdisTaskTcpConnectionOffload for the chimney, bytes for every other task.
    """

    NAME: ClassVar[str] = "NDIS_TASK_OFFLOAD"
    SIZE: ClassVar[int] = 0x18

    version: int = member("Version", "ULONG", 0x0, default=NDIS_TASK_OFFLOAD_VERSION)
    size: int = member("Size", "ULONG", 0x4, default=0x18)
    task: int = member("Task", "ULONG", 0x8, default=TCP_CONNECTION_OFFLOAD_TASK)
    offset_next_task: int = member("OffsetNextTask", "ULONG", 0xC, default=0)
    task_buffer_length: int = member("TaskBufferLength", "ULONG", 0x10, default=0)
    task_buffer: Struct | bytes = member("TaskBuffer", "ANY", _TASK_BUFFER, size=1)

    def __post_init__(self) -> None:
        self.task_buffer_length = self.task_buffer_length or self._buffer_size()

    def _buffer_size(self) -> int:
        buffer = self.task_buffer
        return buffer.SIZE if isinstance(buffer, Struct) else len(buffer)

    @classmethod
    def read_member(cls, m: CMember, value: object, whole: dict[str, Any], where: str) -> Any:
        """Read TaskBuffer: a structure for the chimney's task, otherwise bytes. Raises DecodeError."""
        if m.name == "TaskBuffer":
            if whole.get("Task") == TCP_CONNECTION_OFFLOAD_TASK:
                return NdisTaskTcpConnectionOffload.from_wire(value, where)
            if type(value) is bytes:
                return value
            raise DecodeError(where, "bytes are expected for this task")
        return Struct.read_member(m, value, whole, where)

    def check(self, where: str) -> None:
        """Raise DecodeError unless TaskBufferLength is the size of TaskBuffer."""
        if self.task_buffer_length != self._buffer_size():
            reason = f"is {self.task_buffer_length}, TaskBuffer has {self._buffer_size()} bytes"
            raise DecodeError(f"{where}.TaskBufferLength", reason)


@dataclass(kw_only=True, slots=True)
class NdisTaskOffloadHeader(Struct):
    """NDIS_TASK_OFFLOAD_HEADER and, under ``Tasks``, the NDIS_TASK_OFFLOAD structures behind it.

    ``offset_first_task``: bytes from the header; 0 in a set disables all offload (R-OID-07).
    """

    NAME: ClassVar[str] = "NDIS_TASK_OFFLOAD_HEADER"
    SIZE: ClassVar[int] = 0x1C

    version: int = member("Version", "ULONG", 0x0, default=NDIS_TASK_OFFLOAD_VERSION)
    size: int = member("Size", "ULONG", 0x4, default=0x1C)
    reserved: int = member("Reserved", "ULONG", 0x8, default=0)
    offset_first_task: int = member("OffsetFirstTask", "ULONG", 0xC, default=0)
    encapsulation_format: NdisEncapsulationFormat = member(
        "EncapsulationFormat", "STRUCT", 0x10, nested=NdisEncapsulationFormat, factory=NdisEncapsulationFormat
    )
    tasks: list[NdisTaskOffload] = member("Tasks", "STRUCT[]", None, nested=NdisTaskOffload, factory=list)

    @classmethod
    def of(cls, tasks: Iterable[NdisTaskOffload]) -> Self:
        """Return a header with these tasks behind it and all offsets set. No tasks disables everything."""
        result = cls(tasks=list(tasks))
        result.offset_first_task = cls.SIZE if result.tasks else 0
        for task in result.tasks:
            task.offset_next_task = _TASK_BUFFER + task.task_buffer_length
        if result.tasks:
            result.tasks[-1].offset_next_task = 0
        return result

    def chimney(self) -> NdisTaskTcpConnectionOffload | None:
        """Return the chimney's capabilities, or None if no task has them."""
        for task in self.tasks:
            if isinstance(task.task_buffer, NdisTaskTcpConnectionOffload):
                return task.task_buffer
        return None

    def check(self, where: str) -> None:
        """Raise DecodeError unless the offsets lead to exactly the tasks that follow."""
        first = self.SIZE if self.tasks else 0
        if self.offset_first_task != first:
            reason = f"is {self.offset_first_task:#x}; with {len(self.tasks)} tasks it must be {first:#x}"
            raise DecodeError(f"{where}.OffsetFirstTask", reason)
        for i, task in enumerate(self.tasks):
            last = i == len(self.tasks) - 1
            following = 0 if last else _TASK_BUFFER + task.task_buffer_length
            if task.offset_next_task != following:
                reason = f"is {task.offset_next_task:#x}, must be {following:#x}"
                raise DecodeError(f"{where}.Tasks[{i}].OffsetNextTask", reason)
