"""How large the processes of a stack are: memory, descriptors, files. In long use they must not grow."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import psutil

__all__ = ["Gauge", "Size", "files_in", "sizes"]

#: What a process may grow by over its first measurement: a share, and a constant. Caches fill, and Python
#: does not give all memory back.
_SHARE: Final = 0.25
_MEMORY: Final = 8 << 20
_OBJECTS: Final = 10
_DESCRIPTORS: Final = 3


@dataclass(frozen=True)
class Size:
    """One process at one time: bytes of resident memory, descriptors, objects in its driver's heap."""

    pid: int
    memory: int
    descriptors: int
    objects: int


def sizes(pids: Mapping[str, int], survey: Mapping[str, Any]) -> dict[str, Size]:
    """The sizes of these processes now; those that are gone are left out."""
    heaps = {p["Pid"]: int(p["Heap"]) for p in survey["Processes"]} | {
        survey["Bus"]["Pid"]: int(survey["Bus"]["Heap"])
    }
    found = {}
    for name, pid in pids.items():
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            found[name] = Size(pid, process.memory_info().rss, process.num_fds(), heaps.get(pid, 0))
    return found


def files_in(directory: Path) -> list[str]:
    """All files and sockets below a directory."""
    return sorted(str(p.relative_to(directory)) for p in directory.rglob("*") if not p.is_dir())


@dataclass
class Gauge:
    """Compares each measurement with the first one of the same process, and its files with the first ones."""

    first: dict[tuple[str, int], Size] = field(default_factory=dict)
    files: list[str] | None = None
    #: Everything that was measured, for the report.
    rows: list[dict[str, Any]] = field(default_factory=list)

    def measure(self, where: str, found: Mapping[str, Size], files: Iterable[str]) -> list[str]:
        """Note a measurement; what has grown, as texts."""
        files = list(files)
        self.rows.append(
            {"where": where, "sizes": {n: asdict(s) for n, s in found.items()}, "files": len(files)}
        )
        problems = []
        if self.files is None:
            self.files = files
        elif files != self.files:
            more, less = sorted(set(files) - set(self.files)), sorted(set(self.files) - set(files))
            problems.append(f"files: {', '.join(more) or 'none'} more, {', '.join(less) or 'none'} less")
        for name, size in found.items():
            was = self.first.setdefault((name, size.pid), size)
            for what, now, before, slack in (
                ("bytes of memory", size.memory, was.memory, _MEMORY),
                ("objects", size.objects, was.objects, _OBJECTS),
            ):
                if now > before * (1 + _SHARE) + slack:
                    problems.append(f"{name} (pid {size.pid}) has {now} {what}, it had {before}")
            if size.descriptors > was.descriptors + _DESCRIPTORS:
                text = f"{size.descriptors} descriptors, it had {was.descriptors}"
                problems.append(f"{name} (pid {size.pid}) has {text}")
        return problems
