"""Generates ``ndisbus/driver/calls.py`` from the call table: ``python tools/generate_calls.py [--check]``.

The generated class has one typed method per call that a driver makes, so editors and type checkers
know the interface, and no pair of names is spelled by hand a second time.
"""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path
from typing import Final

from ndisbus.ddi import call as ddi
from ndisbus.ddi.calls import CALLS

__all__ = ["TARGET", "main", "render"]

_WIDTH: Final = 110
TARGET: Final = Path(__file__).resolve().parent.parent / "ndisbus/driver/calls.py"

_TYPES: Final = {
    ddi.HANDLE: "int | None",
    ddi.ULONG: "int",
    ddi.TEXT: "str",
    ddi.BLOCKS_PROTOCOL: "BlockList",
    ddi.BLOCKS_MINIPORT: "BlockList",
    ddi.NBL: "NblChain",
    ddi.STRUCT: "Wire",
}

_HEAD: Final = '''"""Generated from the call table by ``python tools/generate_calls.py``; do not edit.

One method per function that a driver calls, under its DDI name in snake_case without ``Ndis``.
"""

from __future__ import annotations

from typing import Any, Protocol, TypeAlias

from ndisbus.driver.base import Reply
from ndisbus.lists.blocklist import BlockList
from ndisbus.lists.nbl_chain import NblChain

__all__ = ["NdisCalls", "ToWire", "Wire"]


class ToWire(Protocol):
    """A structure with a wire form."""

    def to_wire(self) -> dict[str, Any]:
        """Members by DDI name."""
        ...


Wire: TypeAlias = ToWire | dict[str, Any]


class NdisCalls:
    """The functions that NDIS offers to drivers."""

    def call(self, name: str, *args: Any) -> Any:
        """Call a function by its DDI name."""
        raise NotImplementedError
'''


def render() -> str:
    """The text of ``client.py``."""
    out = [_HEAD]
    for call in CALLS.values():
        if not call.from_driver:
            continue
        names = [ddi.python_name(p.name) for p in call.params]
        params = ", ".join(f"{n}: {_TYPES[p.carries]}" for n, p in zip(names, call.params, strict=True))
        returns = "Reply" if call.answered else "None"
        signature = f"    def {ddi.python_name(call.name)}(self, {params}) -> {returns}:"
        if len(signature) > _WIDTH:
            body = "".join(
                f"        {n}: {_TYPES[p.carries]},\n" for n, p in zip(names, call.params, strict=True)
            )
            signature = f"    def {ddi.python_name(call.name)}(\n        self,\n{body}    ) -> {returns}:"
        doc = f"{call.name} (DDI page {call.source.removesuffix('.md')})"
        if call.leads_to:
            doc += f"; leads to {call.leads_to}"
        if call.outs:
            doc += f"; the answer carries {', '.join(call.outs)}"
        doc = "\n        ".join(textwrap.wrap(doc + ".", 96, break_long_words=False))
        if "\n" in doc:
            doc += "\n        "
        prefix = "reply: Reply = " if call.answered else ""
        statement = _statement(prefix, [f'"{call.name}"', *names])
        if call.answered:
            statement += "\n        return reply"
        out.append(f'\n{signature}\n        """{doc}"""\n        {statement}\n')
    return "".join(out)


def _statement(prefix: str, arguments: list[str]) -> str:
    """The call, broken as the formatter would break it: the check of the format covers this file too."""
    line = f"{prefix}self.call({', '.join(arguments)})"
    if len(line) + 8 <= _WIDTH:
        return line
    inner = ", ".join(arguments)
    if len(inner) + 12 <= _WIDTH:
        return f"{prefix}self.call(\n            {inner}\n        )"
    inner = "".join(f"            {a},\n" for a in arguments)
    return f"{prefix}self.call(\n{inner}        )"


def main(argv: list[str] | None = None) -> int:
    """Write the file, or with ``--check`` tell by the exit code whether it is up to date."""
    args = sys.argv[1:] if argv is None else argv
    text = render()
    if "--check" in args:
        return 0 if TARGET.read_text(encoding="utf-8") == text else 1
    TARGET.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
