"""Links as text: what they mean, and what is said about the wrong ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ndisbus.wire.impair import UNIMPAIRED, Bursts, Impairments
from ndisbus.wire.link import LinkError
from ndisbus.wire.spec import IMPAIRMENT_KEYS, LINK_KEYS, LinkSpec, parse_link


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("none", LinkSpec("none")),
        ("cable:lan", LinkSpec("cable", "lan")),
        ("tap:tap0", LinkSpec("tap", "tap0")),
        ("none?mtu=9000", LinkSpec("none", mtu=9000)),
        ("cable:lan?station=peer&mtu=576&seed=7", LinkSpec("cable", "lan", station="peer", mtu=576, seed=7)),
        (
            "tap:tap0?netns=far&capture=a=b.pcapng&trace=-",
            LinkSpec("tap", "tap0", netns="far", capture="a=b.pcapng", trace="-"),
        ),
        (
            "cable:lan?loss=5%&out.loss=0.5&in.delay=10ms",
            LinkSpec(
                "cable", "lan", ingress=Impairments(loss=0.05, delay=0.01), egress=Impairments(loss=0.5)
            ),
        ),
        (
            "cable:lan?in.rate=1.5mbit&in.rate-burst=3kb&in.limit=9&in.duplicate=1&in.corrupt=.01",
            LinkSpec(
                "cable",
                "lan",
                ingress=Impairments(rate=1.5e6, rate_burst=3000, limit=9, duplicate=1.0, corrupt=0.01),
            ),
        ),
        (
            "cable:lan?out.bursts=1%,25%&out.jitter=250us&out.reorder=1e-3&out.reorder-gap=5&out.reorder-hold=1s",
            LinkSpec(
                "cable",
                "lan",
                egress=Impairments(
                    bursts=Bursts(0.01, 0.25), jitter=0.00025, reorder=0.001, reorder_gap=5, reorder_hold=1.0
                ),
            ),
        ),
        ("cable:lan?bursts=0.1,0.2,0.3,0.4&in.bursts=1%,2%", None),
        ("cable:lan?loss=0&delay=0", LinkSpec("cable", "lan", ingress=UNIMPAIRED, egress=UNIMPAIRED)),
    ],
)
def test_good_specs(text: str, spec: LinkSpec | None) -> None:
    parsed = parse_link(text)
    if spec is not None:
        assert parsed == spec
    else:
        assert parsed.ingress.bursts == Bursts(0.01, 0.02)
        assert parsed.egress.bursts == Bursts(0.1, 0.2, 0.3, 0.4)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "write cable:NAME, tap:NAME or none"),
        ("wire:x", "write cable:NAME, tap:NAME or none"),
        ("cable", "write cable:NAME, tap:NAME or none"),
        ("none:x", "write cable:NAME, tap:NAME or none"),
        ("cable:", "cable: needs a name, such as cable:cable0"),
        ("cable:../x", "'../x' cannot be the name of a cable"),
        ("cable:lan?", "nothing follows the question mark"),
        (
            "cable:lan?los=5%",
            "'los' is not an option of a link; did you mean loss?; the options are station, mtu",
        ),
        ("cable:lan?in.delai=5ms", "did you mean in.delay?"),
        ("cable:lan?in.capture=x", "'in.capture' is not an option of a link"),
        ("cable:lan?up.loss=1%", "'up.loss' is not an option of a link"),
        ("cable:lan?netns=x", "netns is for tap only"),
        ("tap:tap0?mtu=1500", "mtu is for cable and none only"),
        ("cable:lan?loss", "loss needs a value: loss=..."),
        ("cable:lan?capture=", "capture needs a value"),
        ("cable:lan?loss=1%&loss=2%", "loss is given twice"),
        ("cable:lan?in.loss=1%&in.loss=2%", "in.loss is given twice"),
        ("cable:lan?loss=1%&&delay=1s", "'' is not an option of a link"),
        ("cable:lan?loss=101%", "loss=101%: a probability expected, such as 0.05 or 5%"),
        ("cable:lan?loss=nan", "a probability expected"),
        ("cable:lan?loss=much", "a probability expected"),
        ("cable:lan?bursts=1%", "bursts=1%: two to four probabilities expected"),
        ("cable:lan?bursts=1%,0", "the first burst would never end"),
        ("cable:lan?delay=10", "delay=10: a time with its unit expected, such as 10ms"),
        ("cable:lan?delay=-1s", "a time with its unit expected"),
        ("cable:lan?delay=2000000ms&jitter=7200s", "jitter: 7200.0 is not between 0 and 3600 seconds"),
        ("cable:lan?rate=10", "rate=10: a rate with its unit expected, such as 10mbit"),
        ("cable:lan?rate=0mbit", "a rate with its unit expected"),
        ("cable:lan?rate-burst=0", "a number of bytes expected"),
        ("cable:lan?limit=0", "limit=0: a number from 1 to 1000000 expected"),
        ("cable:lan?mtu=67", "mtu=67: a number of bytes from 68 to 65521 expected"),
        ("cable:lan?mtu=65522", "a number of bytes from 68 to 65521 expected"),
        ("cable:lan?seed=x", "seed=x: a whole number expected"),
        ("cable:lan?station=a/b", "a station's name is up to 40"),
    ],
)
def test_wrong_specs_say_what_is_wrong(text: str, reason: str) -> None:
    with pytest.raises(LinkError) as caught:
        parse_link(text)
    assert reason in str(caught.value)
    assert str(caught.value).startswith(f"link {text!r}: ")


@given(
    st.one_of(
        st.text(max_size=40),
        st.builds(
            "{}?{}={}".format,
            st.sampled_from(("cable:x", "tap:y", "none")),
            st.sampled_from((*LINK_KEYS, *IMPAIRMENT_KEYS, *(f"in.{k}" for k in IMPAIRMENT_KEYS))),
            st.text(max_size=12),
        ),
    )
)
def test_any_text_is_a_spec_or_a_link_error(text: str) -> None:
    try:
        spec: Any = parse_link(text)
    except LinkError:
        return
    assert spec.kind in ("cable", "tap", "none")


def test_every_impairment_has_a_key() -> None:
    assert {k.replace("-", "_") for k in IMPAIRMENT_KEYS} == set(Impairments.__slots__)


def test_page_of_the_wire_has_every_key_in_its_tables() -> None:
    page = (Path(__file__).parents[4] / "docs" / "wire.md").read_text(encoding="utf-8")
    rows = [line.split("|") for line in page.splitlines() if line.startswith("| `")]
    cells = [[cell.strip() for cell in row[1:-1]] for row in rows]
    keys = {first.strip("`"): (second, third) for first, second, third in (c for c in cells if len(c) == 3)}
    assert set(keys) == set(LINK_KEYS) | set(IMPAIRMENT_KEYS)
    for key, (kinds, _) in LINK_KEYS.items():
        assert keys[key][0] in (", ".join(kinds), "all")
    for key in IMPAIRMENT_KEYS:
        for example in keys[key][0].split(" or "):
            parse_link(f"cable:lan?{key}={example.strip('`')}")
