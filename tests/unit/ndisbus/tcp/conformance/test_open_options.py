"""What the SYNs agree on: MSS, window scale, SACK, timestamps; and what a new connection begins with."""

from __future__ import annotations

from typing import Any

import pytest

from ndisbus.net.segment import Segment
from tests.unit.ndisbus.tcp.conformance.ladder import ESTABLISHED, START, V4, V6, Endpoint

ALL = {"timestamps": True, "sack": True, "scaling": True}
T = 7_000_000


def connected(remote: dict[str, Any] | None = None, **options: Any) -> tuple[Endpoint, Segment]:
    """An active OPEN, answered by a SYN-ACK with the options ``remote``; and the SYN."""
    end = Endpoint.opening(**options)
    syn = end.expect("S", seq=0)
    remote = {"mss": 1000} if remote is None else remote
    end.gets("SA", seq=0, ack=1, options=remote)
    end.timestamps = remote.get("ts_val") is not None and syn.ts_val is not None
    end.drop_sent()
    end.expect_state(ESTABLISHED)
    return end, syn


# -- MSS


@pytest.mark.parametrize(
    ("mtu", "addresses", "mss"),
    [(1500, V4, 1460), (1500, V6, 1440), (9000, V4, 8960), (576, V4, 536), (1280, V6, 1220)],
)
def test_the_syn_tells_our_mss(mtu: int, addresses: tuple[bytes, bytes], mss: int) -> None:
    """RFC9293-MUST-14, RFC9293-MUST-67, RFC9293-SHLD-5, RFC9293-MAY-3.

    The MTU less fixed headers, options not counted.
    """
    for offered in ({}, ALL):
        end = Endpoint.opening(mtu=mtu, addresses=addresses, options=offered)
        assert end.expect("S").mss == mss
        answering = Endpoint.accepting(mtu=mtu, addresses=addresses, options=offered)
        assert answering.expect("SA").mss == mss


@pytest.mark.parametrize(("addresses", "mss"), [(V4, 536), (V6, 1220)])
def test_without_an_mss_option_the_default_counts(addresses: tuple[bytes, bytes], mss: int) -> None:
    """RFC9293-MUST-15: 536 for IPv4, 1220 for IPv6, in both roles."""
    end, _ = connected({}, addresses=addresses)
    end.send(5000)
    assert max(len(sent.segment.payload) for sent in end.drop_sent()) == mss
    other = Endpoint.accepting(remote={"mss": None}, addresses=addresses)
    other.gets("A", seq=1, ack=1)
    other.drop_sent()
    other.send(5000)
    assert max(len(sent.segment.payload) for sent in other.drop_sent()) == mss


def test_the_remote_ends_mss_counts() -> None:
    """RFC9293-MUST-14, RFC9293-MUST-16: from the SYN or the SYN-ACK."""
    end, _ = connected({"mss": 700})
    end.send(5000)
    end.expect("A", seq=1, length=700)
    other = Endpoint.accepting(remote={"mss": 700})
    other.gets("A", seq=1, ack=1)
    other.drop_sent()
    other.send(5000)
    other.expect("A", seq=1, length=700)


def test_a_remote_ends_mss_beyond_our_path_is_cut() -> None:
    """RFC9293-MUST-16: the path's MTU counts."""
    end, _ = connected({"mss": 65_535}, mtu=1500)
    end.send(5000)
    end.expect("A", seq=1, length=1460)


@pytest.mark.parametrize("mss", [0, 1, 10])
def test_an_absurd_mss_does_not_stop_the_connection(mss: int) -> None:
    """RFC9293-MUST-16: what the remote end asks for may be silly, the stream flows."""
    end, _ = connected({"mss": mss})
    end.send(100)
    acked = 1
    for _ in range(200):
        for sent in end.drop_sent():
            acked = max(acked, end.relative_out(sent.segment.seq) + len(sent.segment.payload))
        if acked == 101:
            break
        end.gets("A", ack=acked)
    assert acked == 101


# -- window scale


def test_windows_are_scaled_when_both_offer_it() -> None:
    """RFC7323-2.2-BOTH, RFC7323-2.3-SYN: not in the SYNs themselves, from then on in both directions."""
    end = Endpoint.opening(receive_window=1_000_000, options={"scaling": True})
    syn = end.expect("S")
    assert syn.window_scale is not None
    assert syn.window == 0xFFFF
    end.gets("SA", seq=0, ack=1, window=1000, options={"mss": 1000, "window_scale": 5})
    assert end.delegated.snd_wnd == 1000
    assert end.expect_ack(1).window << syn.window_scale > 0xFFFF
    end.gets("A", window=1000)
    assert end.delegated.snd_wnd == 32_000


def test_windows_are_not_scaled_when_the_remote_end_does_not_offer_it() -> None:
    """RFC7323-2.2-BOTH: neither what we get nor what we offer."""
    end = Endpoint.opening(receive_window=1_000_000, options={"scaling": True})
    end.drop_sent()
    end.gets("SA", seq=0, ack=1, window=1000, options={"mss": 1000})
    assert end.expect_ack(1).window == 0xFFFF
    end.gets("A", window=2000)
    assert end.delegated.snd_wnd == 2000


def test_a_listener_scales_only_for_a_syn_that_offers_it() -> None:
    """RFC7323-2.2-ANSWER, RFC7323-2.3-SYN: and its SYN-ACK's window is not scaled."""
    bare = Endpoint.accepting(receive_window=1_000_000, options={"scaling": True})
    assert bare.expect("SA").window_scale is None
    bare.gets("A", seq=1, ack=1, window=2000)
    assert bare.delegated.snd_wnd == 2000
    both = Endpoint.accepting(receive_window=1_000_000, remote={"window_scale": 3}, options={"scaling": True})
    answer = both.expect("SA")
    assert answer.window_scale is not None
    assert answer.window == 0xFFFF
    both.gets("A", seq=1, ack=1, window=2000)
    assert both.delegated.snd_wnd == 16_000


def test_the_window_of_the_remote_ends_syn_is_not_scaled() -> None:
    """RFC7323-2.3-SYN: SEG.WND of a SYN is taken as it stands."""
    end = Endpoint.accepting(remote={"window_scale": 7}, options={"scaling": True})
    assert end.delegated.snd_wnd in (0, 60_000)  # or it is taken from the ACK only
    end.gets("A", seq=1, ack=1, window=100)
    assert end.delegated.snd_wnd == 12_800


@pytest.mark.parametrize("shift", [15, 255])
def test_a_shift_above_14_is_taken_as_14(shift: int) -> None:
    """RFC7323-2.3-14, RFC7323-2.3-LIMIT: and the connection goes on."""
    end, _ = connected({"mss": 1000, "window_scale": shift}, options={"scaling": True})
    end.gets("A", window=0xFFFF)
    assert end.delegated.snd_wnd == 0xFFFF << 14


def test_our_own_shift_is_14_at_most() -> None:
    """RFC7323-2.3-14: whatever the buffer."""
    end = Endpoint.opening(receive_window=0xFFFF_FFFF, options={"scaling": True})
    assert end.expect("S").window_scale == 14


# -- SACK


def test_sack_is_used_when_both_permit_it() -> None:
    """RFC2018-2-1, RFC2018-2-2: SACK-permitted in the SYNs, SACK options afterwards."""
    end, syn = connected({"mss": 1000, "sack_permitted": True}, options={"sack": True})
    assert syn.sack_permitted
    assert not syn.sack
    end.gets("A", seq=1001, size=100)
    assert end.expect_ack(1).sack


def test_sack_is_not_used_when_the_remote_end_does_not_permit_it() -> None:
    """RFC2018-2-2, RFC2018-4-NOT: no SACK option unless the remote end sent SACK-permitted, in both roles."""
    end, _ = connected({"mss": 1000}, options={"sack": True})
    end.gets("A", seq=1001, size=100)
    assert not end.expect_ack(1).sack
    other = Endpoint.accepting(options={"sack": True})
    other.gets("A", seq=1, ack=1)
    other.drop_sent()
    other.gets("A", seq=1001, size=100)
    assert not other.expect_ack(1).sack


# -- timestamps


def test_the_syn_has_a_timestamp_without_an_echo() -> None:
    """RFC7323-3.2-SYN: TSval from the clock, TSecr 0, for there is no ACK."""
    end = Endpoint.opening(options={"timestamps": True})
    syn = end.expect("S")
    assert syn.ts_val == START & 0xFFFF_FFFF
    assert syn.ts_ecr == 0


def test_timestamps_are_used_when_both_send_them() -> None:
    """RFC7323-3.2-EVERY, RFC7323-3.2-ECHO: from the ACK of the SYN-ACK on, which echoes it."""
    end = Endpoint.opening(options={"timestamps": True})
    end.drop_sent()
    end.gets("SA", seq=0, ack=1, options={"mss": 1000, "ts_val": T, "ts_ecr": START & 0xFFFF_FFFF})
    ack = end.expect_ack(1)
    assert ack.ts_val is not None
    assert ack.ts_ecr == T


def test_timestamps_are_not_used_when_the_remote_end_sends_none() -> None:
    """RFC7323-3.2-EVERY: both SYNs have to have one."""
    end, _ = connected({"mss": 1000}, options={"timestamps": True})
    end.send(100)
    assert end.expect("A").ts_val is None


def test_a_listener_answers_with_a_timestamp_only_if_the_syn_has_one() -> None:
    """RFC7323-3.2-ANSWER, RFC7323-3.2-ECHO: the SYN-ACK echoes that of the SYN."""
    bare = Endpoint.accepting(options={"timestamps": True})
    assert bare.expect("SA").ts_val is None
    both = Endpoint.accepting(remote={"ts_val": T}, options={"timestamps": True})
    answer = both.expect("SA")
    assert answer.ts_val is not None
    assert answer.ts_ecr == T


def test_a_listener_that_does_not_want_options_gets_none() -> None:
    """RFC7323-2.2-ANSWER, RFC7323-3.2-ANSWER, RFC2018-2-2.

    What we do not offer is not used, whatever the SYN has.
    """
    remote = {"ts_val": T, "window_scale": 7, "sack_permitted": True}
    answer = Endpoint.accepting(remote=remote).expect("SA")
    assert answer.ts_val is None
    assert answer.window_scale is None
    assert not answer.sack_permitted


# -- the first windows and timers


@pytest.mark.parametrize(
    ("mss", "segments"), [(536, 4), (1000, 4), (1095, 4), (1096, 3), (2190, 3), (2191, 2), (8000, 2)]
)
def test_the_initial_window(mss: int, segments: int) -> None:
    """RFC5681-3.1-IW: 4, 3 or 2 segments, by SMSS."""
    end, _ = connected({"mss": mss}, mtu=9000)
    end.send(60_000)
    assert len(end.drop_sent()) == segments


def test_the_initial_window_counts_data_bytes() -> None:
    """RFC5681-3.1-IW: SMSS is without the options that each segment carries."""
    end, _ = connected({"mss": 1460, "ts_val": T}, options={"timestamps": True})
    end.send(60_000)
    assert sum(len(sent.segment.payload) for sent in end.drop_sent()) == 3 * 1448


def test_one_segment_after_a_lost_syn() -> None:
    """RFC5681-3.1-IW-LOST: the path has shown that it loses."""
    end = Endpoint.opening()
    end.wait(1000)
    end.drop_sent()
    end.gets("SA", seq=0, ack=1, options={"mss": 1000})
    end.drop_sent()
    end.send(60_000)
    assert len(end.drop_sent()) == 1


def test_one_segment_after_a_lost_syn_ack() -> None:
    """RFC5681-3.1-IW-LOST: likewise at the other end."""
    end = Endpoint.accepting()
    end.wait(1000)
    end.drop_sent()
    end.gets("A", seq=1, ack=1)
    end.drop_sent()
    end.send(60_000)
    assert len(end.drop_sent()) == 1


def test_the_ack_of_the_syn_does_not_open_the_window() -> None:
    """RFC5681-3.1-IW-SYN: CWND is the initial window still."""
    end, _ = connected({"mss": 1000})
    assert end.delegated.c_wnd == 4000
    other = Endpoint.accepting()
    other.gets("A", seq=1, ack=1)
    assert other.delegated.c_wnd == 4000


def test_ssthresh_is_high_at_first() -> None:
    """RFC5681-3.1-HIGH: no window that the remote end could offer is beyond it."""
    end, _ = connected({"mss": 1000})
    assert end.delegated.ss_thresh >= 0xFFFF


@pytest.mark.parametrize("passive", [False, True])
def test_the_rto_is_three_seconds_after_a_lost_syn(passive: bool) -> None:
    """RFC6298-5.7-SYN: when data transmission begins, and no round trip could be measured."""
    end = Endpoint.accepting() if passive else Endpoint.opening()
    end.wait(1000)
    end.drop_sent()
    end.gets("A" if passive else "SA", seq=1 if passive else 0, ack=1, options={"mss": 1000})
    end.drop_sent()
    end.send(1000)
    end.drop_sent()
    begin = end.elapsed
    end.wait(60_000)
    assert end.drop_sent()[0].at - begin == 3000


def test_the_handshake_measures_the_round_trip() -> None:
    """RFC6298-2.2: SYN and SYN-ACK are a measurement like any other."""
    end = Endpoint.opening(rto_min_ms=1)
    end.drop_sent()
    end.wait(200)
    end.gets("SA", seq=0, ack=1, options={"mss": 1000})
    assert end.delegated.s_rtt == 200 * 8
