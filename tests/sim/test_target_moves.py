"""A connection is offloaded and uploaded while bytes are in flight: none is lost, doubled or out of order."""

from __future__ import annotations

import random

import pytest

from ndisbus.ddi.structures import NdisTcpConnectionOffloadParameters
from ndisbus.ddi.tcp_enums import TCP_FLAG_SACK_ENABLED, TCP_FLAG_TIMESTAMP_ENABLED
from ndisbus.wire.impair import ImpairedLink, Impairments
from target import TargetConfig
from tests.support.moving import Mover
from tests.support.target_wired import Wired


def play(seed: int, *, loss: float = 0.0, move: float = 0.05) -> Mover:
    rng = random.Random(seed)
    bad = Impairments(
        loss=loss,
        delay=rng.choice((0.0, 0.01, 0.2)),
        jitter=rng.choice((0.0, 0.02)),
        reorder=loss / 2,
        duplicate=loss / 2,
        corrupt=loss / 4,
    )
    w = Wired(
        TargetConfig(), link=lambda link: ImpairedLink(link, random.Random(seed + 1), ingress=bad, egress=bad)
    )
    per_second = rng.choice((10, 100, 1000))
    w.adapter.set_parameters(
        NdisTcpConnectionOffloadParameters(
            ticks_per_second=per_second,
            tcp_delayed_ack_ticks=max(per_second // 5, 1),
            tcp_push_ticks=per_second // 2,
            tcp_sws_prevention_ticks=per_second // 2,
            tcp_maximum_retransmissions=30,
        )
    )
    flags = rng.choice((0, TCP_FLAG_TIMESTAMP_ENABLED)) | rng.choice((0, TCP_FLAG_SACK_ENABLED))
    window = rng.choice((2000, 20_000, 65_535))
    t = w.live(
        flags=flags,
        window=window,
        rcv_nxt=rng.choice((5000, 2**32 - 3000)),
        snd_una=2**32 - 1000,
        snd_nxt=2**32 - 1000,
        snd_max=2**32 - 1000,
        ts_time=rng.randrange(2**32),
    )
    mover = Mover(w, t, rng, sizes=(rng.randint(0, 60_000), rng.randint(0, 60_000)))
    mover.run(move=move)
    # An end that gave up (too many ACKs of the other end were lost) has not read anything wrong.
    assert mover.outgoing.startswith(mover.far.received)
    assert mover.incoming.startswith(mover.read)
    assert mover.complete or loss > 0.05
    return mover


@pytest.mark.parametrize("seed", range(12))
def test_streams_survive_moves_on_a_good_wire(seed: int) -> None:
    """R-OSD-07, R-OSD-08, R-BRD-06, R-BRD-07, R-OSD-12: whatever is in flight, queued or half delivered."""
    assert play(seed).moves > 0


@pytest.mark.parametrize("seed", range(100, 112))
def test_streams_survive_moves_on_a_bad_wire(seed: int) -> None:
    """The same with loss, duplication, reordering and corruption."""
    play(seed, loss=0.05)


@pytest.mark.parametrize("seed", range(200, 206))
def test_streams_survive_in_the_target_alone(seed: int) -> None:
    """Without moves: data in requests and indications, sends and the disconnect completed in order."""
    assert play(seed, loss=0.05, move=0.0).moves <= 1


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(1000, 3000))
def test_long_moves(seed: int) -> None:
    """Many more of them; ``make soak``."""
    play(seed, loss=seed % 5 / 20, move=(0.01, 0.05, 0.2)[seed % 3])
