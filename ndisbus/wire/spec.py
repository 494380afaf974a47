"""A link as text: ``cable:NAME``, ``tap:NAME`` or ``none``, with options behind a question mark.

``cable:lan?loss=1%&delay=10ms&out.rate=10mbit&capture=lan.pcapng``. An impairment applies to both directions.
With ``in.`` or ``out.`` before it, it applies to received or sent frames only. This module only parses;
:mod:`ndisbus.wire.open` opens.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from ndisbus.errors import LocalProtocolError
from ndisbus.wire.impair import UNIMPAIRED, Bursts, Impairments
from ndisbus.wire.link import LinkError

__all__ = ["IMPAIRMENT_KEYS", "LINK_KEYS", "LinkSpec", "parse_link"]

_KINDS: Final = ("cable", "tap", "none")
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")
_NUMBER: Final = r"[0-9]+(?:\.[0-9]*)?|\.[0-9]+"
_TIME: Final = re.compile(rf"({_NUMBER})(us|ms|s)")
_RATE: Final = re.compile(rf"({_NUMBER})(kbit|mbit|gbit|bit)")
_SIZE: Final = re.compile(rf"({_NUMBER})(kb|mb|b)?")
_TIMES: Final = {"us": 1e-6, "ms": 1e-3, "s": 1.0}
_RATES: Final = {"bit": 1.0, "kbit": 1e3, "mbit": 1e6, "gbit": 1e9}
_SIZES: Final = {None: 1.0, "b": 1.0, "kb": 1e3, "mb": 1e6}
#: Least and most MTU of a TAP or cable: IPv4 needs 68 (RFC 791), and a length has 16 bits.
_MTU: Final = (68, 65_521)


@dataclass(frozen=True, slots=True)
class LinkSpec:
    """The contents of a spec. ``kind`` is cable, tap or none. ``mtu`` is None if the spec gives none."""

    kind: str
    name: str = ""
    station: str | None = None
    mtu: int | None = None
    netns: str | None = None
    seed: int = 0
    ingress: Impairments = UNIMPAIRED
    egress: Impairments = UNIMPAIRED
    capture: str | None = None
    trace: str | None = None


def parse_link(text: str) -> LinkSpec:
    """Parse a spec.

    Raises :class:`ndisbus.wire.link.LinkError`, which says what is wrong and what is right.
    """
    medium, mark, query = text.partition("?")
    kind, colon, name = medium.partition(":")
    if kind not in _KINDS or (kind == "none") is bool(colon):
        raise LinkError(
            f"link '{text}': not a link; write cable:NAME, tap:NAME or none, then ?KEY=VALUE&... for options"
        )
    if kind != "none" and not name:
        raise LinkError(f"link '{text}': {kind}: needs a name, such as {kind}:{kind}0")
    if kind == "cable" and not _NAME.fullmatch(name):
        raise LinkError(
            f"link '{text}': '{name}' cannot be the name of a cable: use up to 40 letters, digits, "
            "'.', '_' and '-', the first one a letter or a digit"
        )
    if mark and not query:
        raise LinkError(f"link '{text}': nothing follows the question mark")
    given: dict[str, Any] = {}
    both: dict[str, Any] = {}
    one_way: dict[str, dict[str, Any]] = {"in": {}, "out": {}}
    for pair in query.split("&") if query else ():
        key, equals, value = pair.partition("=")
        side, dot, bare = key.partition(".")
        if dot and side in one_way and bare in IMPAIRMENT_KEYS:
            where, parse = one_way[side], IMPAIRMENT_KEYS[bare]
        elif key in IMPAIRMENT_KEYS:
            where, parse, bare = both, IMPAIRMENT_KEYS[key], key
        elif key in LINK_KEYS and kind in LINK_KEYS[key][0]:
            where, parse, bare = given, LINK_KEYS[key][1], key
        else:
            _unknown(text, kind, key)
        if not equals or not value:
            raise LinkError(f"link '{text}': {key} needs a value: {key}=...")
        if bare in where:
            raise LinkError(f"link '{text}': {key} is given twice")
        try:
            where[bare] = parse(value)
        except ValueError as error:
            raise LinkError(f"link '{text}': {key}={value}: {error}") from None
    try:
        ingress, egress = (Impairments(**_renamed(both | one_way[side])) for side in ("in", "out"))
    except LocalProtocolError as error:
        raise LinkError(f"link '{text}': {error}") from None
    return LinkSpec(kind, name, **given, ingress=ingress, egress=egress)


def _unknown(text: str, kind: str, key: str) -> NoReturn:
    if key in LINK_KEYS:
        raise LinkError(f"link '{text}': {key} is for {' and '.join(LINK_KEYS[key][0])} only")
    known = [k for k, (kinds, _) in LINK_KEYS.items() if kind in kinds] + list(IMPAIRMENT_KEYS)
    directed = [f"{side}.{k}" for side in ("in", "out") for k in IMPAIRMENT_KEYS]
    close = difflib.get_close_matches(key, known + directed, 1)
    hint = f"; did you mean {close[0]}?" if close else ""
    raise LinkError(
        f"link '{text}': '{key}' is not an option of a link{hint}; the options are "
        f"{', '.join(known)} "
        "(rate and those after it also with in. or out. in front)"
    )


def _renamed(given: dict[str, Any]) -> dict[str, Any]:
    """Turn keys of a spec into member names: a hyphen becomes an underscore."""
    return {k.replace("-", "_"): v for k, v in given.items()}


# --- values ----------------------------------------------------------------------------------


def _chance(value: str) -> float:
    percent = value.endswith("%")
    try:
        number = float(value.removesuffix("%")) / (100 if percent else 1)
    except ValueError:
        number = math.nan
    if not 0 <= number <= 1:
        raise ValueError("a probability expected, such as 0.05 or 5%")
    return number


def _time(value: str) -> float:
    match = _TIME.fullmatch(value)
    if match is None:
        if value == "0":
            return 0.0
        raise ValueError("a time with its unit expected, such as 10ms, 250us or 1.5s")
    return float(match[1]) * _TIMES[match[2]]


def _rate(value: str) -> float:
    match = _RATE.fullmatch(value)
    if match is None or not float(match[1]):
        raise ValueError("a rate with its unit expected, such as 10mbit, 500kbit or 1gbit")
    return float(match[1]) * _RATES[match[2]]


def _size(value: str) -> int:
    match = _SIZE.fullmatch(value)
    if match is None or float(match[1]) * _SIZES[match[2]] < 1:
        raise ValueError("a number of bytes expected, such as 15000 or 15kb")
    return int(float(match[1]) * _SIZES[match[2]])


def _count(value: str) -> int:
    if not (value.isascii() and value.isdigit() and 1 <= int(value) <= 1_000_000):
        raise ValueError("a number from 1 to 1000000 expected")
    return int(value)


def _seed(value: str) -> int:
    if not (value.isascii() and value.isdigit()):
        raise ValueError("a whole number expected")
    return int(value)


def _bursts(value: str) -> Bursts:
    parts = [_chance(part) for part in value.split(",")]
    if not 2 <= len(parts) <= 4:
        raise ValueError(
            "two to four probabilities expected: a burst begins, it ends, loss within (1), loss outside (0); "
            "such as 1%,25%"
        )
    return Bursts(*parts)


def _mtu(value: str) -> int:
    low, high = _MTU
    if not (value.isascii() and value.isdigit() and low <= int(value) <= high):
        raise ValueError(f"a number of bytes from {low} to {high} expected")
    return int(value)


def _station(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise ValueError("a station's name is up to 40 letters, digits, '.', '_' and '-'")
    return value


#: Option -> the kinds of links that have it, and its reader. The reader's ValueError says what is right.
LINK_KEYS: Final[dict[str, tuple[tuple[str, ...], Callable[[str], Any]]]] = {
    "station": (("cable",), _station),
    "mtu": (("cable", "none"), _mtu),
    "netns": (("tap",), str),
    "capture": (_KINDS, str),
    "trace": (_KINDS, str),
    "seed": (_KINDS, _seed),
}
#: Option -> its reader. Each option may have ``in.`` or ``out.`` before it.
IMPAIRMENT_KEYS: Final[dict[str, Callable[[str], Any]]] = {
    "rate": _rate,
    "rate-burst": _size,
    "loss": _chance,
    "bursts": _bursts,
    "corrupt": _chance,
    "duplicate": _chance,
    "delay": _time,
    "jitter": _time,
    "reorder": _chance,
    "reorder-gap": _count,
    "reorder-hold": _time,
    "limit": _count,
}
