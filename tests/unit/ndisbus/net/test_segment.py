"""Segments as values: sequence space, equality, and how they are printed."""

from __future__ import annotations

import pytest

from ndisbus.net.segment import ACK, FIN, PSH, RST, SYN, URG, Segment


@pytest.mark.parametrize(
    ("flags", "payload", "length"),
    [
        (ACK, b"", 0),
        (ACK, b"abc", 3),
        (SYN, b"", 1),
        (SYN | ACK, b"ab", 3),
        (FIN | ACK, b"ab", 3),
        (SYN | FIN, b"", 2),
        (RST | PSH | URG, b"", 0),
    ],
)
def test_syn_and_fin_use_a_sequence_number_each(flags: int, payload: bytes, length: int) -> None:
    assert Segment(1, 2, flags, 3, payload).length == length
    assert Segment(1, 2, flags, 3, memoryview(payload)).length == length


def test_equality_is_of_all_members() -> None:
    a = Segment(1, 2, ACK, 3, b"x", ts_val=4, ts_ecr=5, sack=((6, 7),))
    b = Segment(1, 2, ACK, 3, memoryview(b"x"), ts_val=4, ts_ecr=5, sack=((6, 7),))
    assert a == b
    b.ts_ecr = 6
    assert a != b
    assert a != "a"


def test_printed_as_tcpdump_prints() -> None:
    syn = Segment(
        0xFFFFFFFF,
        0,
        SYN,
        65535,
        source_port=1024,
        destination_port=80,
        ts_val=9,
        mss=1460,
        window_scale=7,
        sack_permitted=True,
    )
    assert repr(syn) == (
        "1024 > 80: Flags [S], seq 4294967295:0, win 65535, "
        "options [mss 1460,sackOK,TS val 9 ecr 0,wscale 7], length 0"
    )
    data = Segment(10, 7, FIN | PSH | ACK | URG, 500, b"hello", 3, 1, 2, sack=((20, 30), (40, 50)))
    assert repr(data) == (
        "1 > 2: Flags [FP.U], seq 10:16, ack 7, win 500, urg 3, options [sack 2 {20:30}{40:50}], length 5"
    )
    assert repr(Segment(5, 0, 0, 0)) == "0 > 0: Flags [none], seq 5, win 0, length 0"
