"""Builds the site: ``python tools/build_docs.py [DIRECTORY]`` (default: build/site).

The pages of docs/ and the reference of the Python API, made from docstrings, in one site with one search.
pdoc makes both: each page becomes a module of a package ``guide``, which exists only while the site is
built, and its links are turned into links of the site. Nothing is fetched, and the finished pages fetch
nothing.

Exits with 1 if pdoc warns, or if a link leads nowhere; the message says which.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
import re
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

__all__ = ["GUIDE", "PACKAGES", "links_of_site", "main", "pages", "wrong_links"]

PACKAGES: Final = ("ndisbus", "target", "imdriver", "hoststack")
GUIDE: Final = "guide"
_ROOT: Final = Path(__file__).resolve().parent.parent
_LINK: Final = re.compile(r"(?<!!)\[([^\]]*)\]\(([^)\s]+)\)")
_FENCE: Final = re.compile(r"(```.*?```)", re.DOTALL)
_SCRIPT: Final = re.compile(r"<script.*?</script>", re.DOTALL)
_FETCHED: Final = re.compile(r'<(?:script|img|link|iframe)\b[^>]*\b(?:src|href)="(?:https?:)?//[^"]*"')
#: What pdoc says where it shows an annotation as it is written, without links; and for a module that it
#: also finds by itself, in a package without ``__all__``.
_HARMLESS: Final = ("Error parsing type annotation", "The module specification")


def pages(root: Path) -> dict[Path, str]:
    """The pages of the site, with the name of the module that each becomes; docs/index.md is the package."""
    found = {root / "docs/index.md": GUIDE}
    for page in sorted((root / "docs").glob("*.md")):
        found.setdefault(page, f"{GUIDE}.{page.stem}")
    for name in ("README", "CONTRIBUTING", "CHANGELOG"):
        found[root / f"{name}.md"] = f"{GUIDE}.{name.lower()}"
    return found


def _url(module: str, start: str) -> str:
    """The address of a module's page, seen from the page of another one."""
    here, there = (Path(*m.split(".")).with_suffix(".html") for m in (start, module))
    return Path(os.path.relpath(there, here.parent)).as_posix()


def links_of_site(text: str, page: Path, root: Path, known: Mapping[Path, str]) -> str:
    """The text of a page with links that fit the site.

    A link to a page leads to that page, one to a module of a package to its reference. What is not part of
    the site, such as an example, is named without a link.
    """

    def link(match: re.Match[str]) -> str:
        label, target = match[1], match[2]
        file, mark, anchor = target.partition("#")
        if "://" in target or not file:
            return match[0]
        path = (page.parent / file).resolve()
        if path in known:
            return f"[{label}]({_url(known[path], known[page])}{mark}{anchor})"
        inside = path.relative_to(root)
        if inside.parts[0] in PACKAGES and path.suffix == ".py":
            module = ".".join(inside.with_suffix("").parts).removesuffix(".__init__")
            return f"[{label}]({_url(module, known[page])})"
        return label

    outside = _FENCE.split(text)  # every second part is a fenced block
    return "".join(part if i % 2 else _LINK.sub(link, part) for i, part in enumerate(outside))


def _modules() -> list[str]:
    """All modules of the packages. Loads what a package exports lazily: pdoc looks only at what is there."""
    names = []
    for name in PACKAGES:
        package = importlib.import_module(name)
        for exported in package.__all__:
            setattr(package, exported, getattr(package, exported))
        names.append(name)
        found = pkgutil.walk_packages(package.__path__, f"{name}.")
        names.extend(m.name for m in found if not m.name.endswith(".__main__"))
    return names


def _write_guide(folder: Path, root: Path) -> list[str]:
    """Write the package of pages; returns the names of its modules."""
    known = pages(root)
    for page, module in known.items():
        text = links_of_site(page.read_text(encoding="utf-8"), page, root, known)
        file = folder / Path(*module.split("."))
        file = file / "__init__.py" if page.name == "index.md" else file.with_suffix(".py")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f'__docformat__ = "markdown"\n__doc__ = {text!r}\n', encoding="utf-8")
    return list(known.values())


def _ids(page: Path) -> set[str]:
    return set(re.findall(r'\bid="([^"]+)"', page.read_text(encoding="utf-8")))


def wrong_links(site: Path) -> Iterator[str]:
    """Links from pages of the guide that lead nowhere, and what any page would fetch from elsewhere."""
    for page in sorted(site.rglob("*.html")):
        for found in _FETCHED.findall(page.read_text(encoding="utf-8")):
            yield f"{page.relative_to(site)}: {found} is not part of the site"
    for page in sorted([site / f"{GUIDE}.html", *(site / GUIDE).glob("*.html")]):
        text = _SCRIPT.sub("", page.read_text(encoding="utf-8"))
        for target in sorted(set(re.findall(r'href="([^"]+)"', text))):
            if "://" in target:
                continue
            file, _, anchor = target.partition("#")
            other = (page.parent / file).resolve() if file else page
            if not other.exists() or (anchor and anchor not in _ids(other)):
                yield f"{page.relative_to(site)}: {target} leads nowhere"


def main(arguments: Sequence[str] | None = None) -> int:
    """Build the site; returns the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    site = Path(arguments[0]) if arguments else _ROOT / "build/site"
    import pdoc  # noqa: PLC0415 - tests of the links do without
    import pdoc.render  # noqa: PLC0415

    shutil.rmtree(site, ignore_errors=True)
    with tempfile.TemporaryDirectory() as folder:
        names = [*_write_guide(Path(folder), _ROOT), *_modules()]
        sys.path.insert(0, folder)
        pdoc.render.configure(docformat="restructuredtext", show_source=False, footer_text="tcp-chimney")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            pdoc.pdoc(*names, output_directory=site)
    wrong = [str(w.message) for w in caught if not str(w.message).startswith(_HARMLESS)]
    wrong.extend(wrong_links(site))
    for line in wrong:
        sys.stderr.write(f"docs: {line}\n")
    sys.stdout.write(f"{site / 'index.html'}: {len(list(site.rglob('*.html')))} pages\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
