"""The ledger of one direction: what it calls wrong, and what it does not."""

from __future__ import annotations

import random

import pytest

from tests.support.ownership.ledger import Account, Claim

DATA = random.Random(1).randbytes(100)


def claim(owner: str, start: int, end: int) -> Claim:
    return Claim(owner, start, DATA[start:end])


def account(
    delivered: int = 0,
    acknowledged: int = 0,
    received: tuple[Claim, ...] = (),
    to_send: tuple[Claim, ...] = (),
) -> Account:
    return Account("sent", DATA, delivered, acknowledged, list(received), list(to_send))


# -- all is well ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "right",
    [
        pytest.param(account(delivered=100, acknowledged=100), id="everything was read"),
        pytest.param(account(to_send=(claim("host", 0, 100),)), id="nothing was sent"),
        pytest.param(
            account(10, 40, (claim("remote host", 10, 60),), (claim("host", 40, 100),)),
            id="copies of what is not acknowledged",
        ),
        pytest.param(
            account(10, 60, (claim("host", 10, 20), claim("target", 20, 60)), (claim("remote", 60, 100),)),
            id="one part above, one below",
        ),
        pytest.param(
            account(100, 100, (claim("host", 100, 100),), (claim("remote", 100, 100),)),
            id="layers that have nothing",
        ),
    ],
)
def test_each_byte_has_one_owner(right: Account) -> None:
    assert right.problems() == []


def test_the_order_of_the_claims_does_not_matter() -> None:
    claims = (claim("target", 30, 60), claim("host", 0, 10), claim("way up", 10, 30))
    assert account(0, 0, claims, (claim("remote host", 60, 100),)).problems() == []


# -- something is wrong --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        pytest.param(
            account(10, 10, (claim("host", 20, 60),), (claim("remote host", 60, 100),)),
            "sent: bytes 10..20 have no owner, between the application and the host",
            id="lost between two",
        ),
        pytest.param(
            account(20, 20, (claim("target", 10, 60),), (claim("remote host", 60, 100),)),
            "sent: bytes 10..20 have two owners: the application and the target",
            id="read too early",
        ),
        pytest.param(
            account(0, 0, (claim("host", 0, 40), claim("target", 30, 60)), (claim("remote host", 60, 100),)),
            "sent: bytes 30..40 have two owners: the host and the target",
            id="doubled",
        ),
        pytest.param(
            account(10, 10, (claim("host", 10, 40),), (claim("remote host", 60, 100),)),
            "sent: bytes 40..60 have no owner: the sending end does not keep them any more",
            id="acknowledged for nothing",
        ),
        pytest.param(
            account(10, 50, (claim("host", 10, 40),), (claim("remote host", 40, 100),)),
            "sent: bytes 40..50 were acknowledged, but the receiving end does not have them",
            id="acknowledged and not there",
        ),
        pytest.param(
            account(40, 40, (), (claim("host", 40, 70), claim("target", 60, 100))),
            "sent: bytes 60..70 have two owners: the host and the target",
            id="to be sent twice",
        ),
        pytest.param(
            account(40, 40, (), (claim("host", 40, 70),)),
            "sent: bytes 70..100 were written and have no owner",
            id="written and gone",
        ),
        pytest.param(
            account(40, 40),
            "sent: bytes 40..100 have no owner: the sending end does not keep them any more",
            id="all is gone",
        ),
        pytest.param(
            account(0, 0, (Claim("host", 0, DATA[5:45]),), (claim("remote host", 40, 100),)),
            "sent: the host has bytes 5..45 in place of bytes 0..40",
            id="in the wrong place",
        ),
        pytest.param(
            account(0, 0, (Claim("host", 0, bytes(40)),), (claim("remote host", 40, 100),)),
            "sent: the host has bytes that were not written in place of bytes 0..40",
            id="other bytes",
        ),
    ],
)
def test_what_is_wrong_is_said(wrong: Account, text: str) -> None:
    assert wrong.problems() == [text]


def test_a_random_cut_of_the_bytes_is_right_and_any_shift_of_it_is_not() -> None:
    rng = random.Random(2)
    for _ in range(300):
        cuts = sorted(rng.sample(range(101), 5))
        a, b, c, d, e = cuts
        received = [claim("host", a, b), claim("way up", b, c), claim("target", c, e)]
        to_send = [claim("remote host", d, 100)]
        assert account(a, d, tuple(received), tuple(to_send)).problems() == []
        i = rng.randrange(3)
        by = rng.choice((-1, 1))
        moved = received[i]
        received[i] = Claim(moved.owner, moved.start + by, moved.data)
        assert account(a, d, tuple(received), tuple(to_send)).problems() or not moved.data
