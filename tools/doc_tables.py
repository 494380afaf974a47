"""Writes the generated parts of docs/protocol.md and docs/architecture.md.

    python tools/doc_tables.py            rewrite those parts
    python tools/doc_tables.py --check    write nothing; exit 1 if a part is stale

A part stands between ``<!-- generated: NAME -->`` and ``<!-- end generated -->``. Tables come from the call
table and the structures, examples from a recorded conversation (:mod:`tools.doc_examples`), state diagrams
from the tables of the three drivers. Both forms exit with 1 for a name that is not generated.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
if __name__ == "__main__":  # as a script, only the folder of the script is on the path
    sys.path.insert(0, str(ROOT))

import hoststack.model.life  # noqa: E402
import hoststack.model.move  # noqa: E402
import hoststack.net.neighbor_life  # noqa: E402
import imdriver.life  # noqa: E402
import target.model.life  # noqa: E402
from tools import doc_calls, doc_examples, doc_structures  # noqa: E402

__all__ = ["PAGES", "parts", "render", "stale"]

PAGES = ("docs/protocol.md", "docs/architecture.md")

_PART = re.compile(
    r"(<!-- generated: (?P<name>[\w -]+) -->\n)(?P<body>.*?)(<!-- end generated -->)", re.DOTALL
)
_OPENING = re.compile(r"<!-- generated: ([\w -]+) -->")


class PageError(Exception):
    """A page's markers do not make sense; the message names page and marker."""


@cache
def parts() -> dict[str, Callable[[], str]]:
    """Everything that can be generated, by the name in the marker."""
    found: dict[str, Callable[[], str]] = {
        "calls": doc_calls.calls,
        "limits": doc_structures.limits,
        "state types": doc_structures.state_types,
        "state layouts": doc_structures.state_layouts,
        "structures": doc_structures.structures,
        "oids": doc_structures.oids,
        "statuses": doc_structures.statuses,
        "enumerations": doc_structures.enumerations,
        "net buffer list slots": doc_structures.net_buffer_list_slots,
        "life of a state object": hoststack.model.life.LIFE.markdown,
        "owners while a connection moves": hoststack.model.move.owners_markdown,
        "life of an object at the target": target.model.life.LIFE.markdown,
        "life of an IM call entry": imdriver.life.CALL_ENTRY.markdown,
        "life of an IM offload entry": imdriver.life.OFFLOAD_ENTRY.markdown,
        "life of a neighbor cache entry": hoststack.net.neighbor_life.LIFE.markdown,
    }
    for name, example in doc_examples.record().items():
        found[f"example {name}"] = lambda example=example: doc_examples.to_markdown(example)  # type: ignore[misc]
    return found


def render(page: str, where: str) -> str:
    """The text of a page with all its parts made anew. PageError for a marker that leads nowhere."""

    def replace(match: re.Match[str]) -> str:
        name = match["name"]
        make = parts().get(name)
        if make is None:
            raise PageError(f"{where}: {name!r} is not a generated part; correct the marker")
        if _OPENING.search(match["body"]):
            raise PageError(f"{where}: {name!r} has no end before the next part begins")
        return f"{match[1]}\n{make().strip()}\n\n{match[4]}"

    text = _PART.sub(replace, page)
    opened, closed = len(_OPENING.findall(page)), len(_PART.findall(page))
    if opened != closed:
        raise PageError(f"{where}: {opened} parts begin, {closed} end")
    return text


def stale(root: Path) -> Iterator[tuple[Path, str]]:
    """The pages below ``root`` that are not what :func:`render` gives, each with what it gives."""
    for name in PAGES:
        path = root / name
        page = path.read_text(encoding="utf-8")
        text = render(page, name)
        if text != page:
            yield path, text


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code (0: good, 1: there are complaints)."""
    parser = argparse.ArgumentParser(description="Generate the tables, examples and diagrams of the docs.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a page is stale")
    parser.add_argument("--root", type=Path, default=ROOT, help="root of the tree (default: this repository)")
    options = parser.parse_args(argv)
    try:
        found = list(stale(options.root))
    except (PageError, FileNotFoundError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    for path, text in found:
        if options.check:
            name = path.relative_to(options.root)
            sys.stderr.write(f"{name} is stale; run python tools/doc_tables.py\n")
        else:
            path.write_text(text, encoding="utf-8")
    return 1 if found and options.check else 0


if __name__ == "__main__":
    raise SystemExit(main())
