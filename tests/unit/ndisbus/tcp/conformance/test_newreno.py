"""Fast recovery without SACK: RFC 6582."""

from __future__ import annotations

from tests.unit.ndisbus.tcp.conformance.ladder import Endpoint

SMSS = 1000


def recovering(segments: int = 8, queued: int = 8) -> Endpoint:
    """So many segments are outstanding, the first is lost and was just retransmitted."""
    end = Endpoint.established(c_wnd=segments * SMSS)
    end.send(queued * SMSS)
    end.drop_sent()
    for _ in range(3):
        end.gets("A", ack=1)
    sent = [s for s in end.drop_sent() if end.relative_out(s.segment.seq) == 1]
    assert len(sent) == 1
    return end


def test_a_partial_ack_retransmits_the_next_hole() -> None:
    """RFC6582-3.2-PARTIAL: the first unacknowledged segment, at once, one per partial ACK.

    R-RFC-05: NewReno.
    """
    end = recovering()
    end.gets("A", ack=3001)
    end.expect_data(3001)
    end.expect_nothing()
    end.gets("A", ack=5001)
    end.expect_data(5001)
    end.expect_nothing()


def test_a_partial_ack_deflates_the_window_partially() -> None:
    """RFC6582-3.2-PARTIAL: by what was acknowledged, then SMSS is added back; recovery goes on."""
    end = recovering()
    assert end.delegated.c_wnd == 7 * SMSS
    end.gets("A", ack=3001)
    assert end.delegated.c_wnd == (7 - 3 + 1) * SMSS
    assert end.delegated.ss_thresh == 4 * SMSS
    end.gets("A", ack=3001)  # still in recovery: another duplicate inflates
    assert end.delegated.c_wnd == 6 * SMSS


def test_a_full_ack_ends_recovery() -> None:
    """RFC6582-3.2-FULL: CWND = min(SSTHRESH, max(FlightSize, SMSS) + SMSS), or SSTHRESH."""
    end = recovering()
    end.gets("A", ack=8001)
    assert end.delegated.c_wnd in (2 * SMSS, 4 * SMSS)
    end.expect_nothing()
    # Not in recovery any more: no fast retransmit and no inflation by a lone duplicate.
    end.send(4000)
    end.drop_sent()
    window = end.delegated.c_wnd
    end.gets("A", ack=8001)
    assert end.delegated.c_wnd == window


def test_recovery_ends_only_with_all_that_was_outstanding() -> None:
    """RFC6582-3.2-FULL.

    "recover" is the highest number sent when recovery began, limited transmit included.
    """
    end = recovering(queued=20)
    end.gets("A", ack=8001)  # two more segments had gone out before the third duplicate
    sent = [end.relative_out(s.segment.seq) for s in end.drop_sent()]
    assert sent[0] == 8001
    end.gets("A", ack=10_001)
    assert end.delegated.c_wnd <= 4 * SMSS


def test_duplicates_in_recovery_retransmit_nothing_more() -> None:
    """RFC6582-3.2-ONCE: one fast retransmit per window."""
    end = recovering()
    for _ in range(4):
        end.gets("A", ack=1)
    end.expect_nothing()


def test_after_a_timeout_old_duplicates_start_no_recovery() -> None:
    """RFC6582-3.2-RTO, RFC6582-4-DUP: not until what was outstanding at the timeout is acknowledged."""
    end = Endpoint.established(c_wnd=8 * SMSS)
    end.send(8 * SMSS)
    end.drop_sent()
    end.wait(1000)
    end.expect_data(1)
    end.gets("A", ack=1001)
    end.expect_data(1001, 2001)
    threshold, window = end.delegated.ss_thresh, end.delegated.c_wnd
    for _ in range(4):
        end.gets("A", ack=1001)  # the remote end had these segments already
    assert not [s for s in end.drop_sent() if end.relative_out(s.segment.seq) == 1001]
    assert end.delegated.ss_thresh == threshold
    assert end.delegated.c_wnd <= window + 2 * SMSS


def test_a_duplicate_of_exactly_recover_starts_no_recovery() -> None:
    """RFC6582-4-DUP: the ACK has to cover more than "recover", by a byte at least."""
    end = recovering()
    end.gets("A", ack=8001)
    end.send(6000)
    end.drop_sent()
    for _ in range(4):
        end.gets("A", ack=8001)
    assert not [s for s in end.drop_sent() if end.relative_out(s.segment.seq) == 8001]


def test_after_that_window_recovery_is_possible_again() -> None:
    """RFC6582-3.2-RTO: duplicates of an ACK beyond "recover" count again."""
    end = Endpoint.established(c_wnd=4 * SMSS)
    end.send(4 * SMSS)
    end.drop_sent()
    end.wait(1000)
    end.gets("A", ack=4001)
    end.drop_sent()
    end.send(10 * SMSS)
    end.gets("A", ack=5001)
    end.gets("A", ack=6001)
    end.drop_sent()
    for _ in range(3):
        end.gets("A", ack=6001)
    assert [s for s in end.drop_sent() if end.relative_out(s.segment.seq) == 6001]


def test_a_second_loss_in_a_later_window_is_a_new_recovery() -> None:
    """RFC6582-3.2-2: each recovery halves the window of its own time."""
    end = recovering(queued=100)
    end.gets("A")
    while end.in_flight < 6 * SMSS:
        end.gets("A", ack=end.snd_una + SMSS)
        end.drop_sent()
    lost, outstanding = end.snd_una, end.in_flight
    for _ in range(3):
        end.gets("A", ack=lost)
    assert [s for s in end.drop_sent() if end.relative_out(s.segment.seq) == lost]
    assert end.delegated.ss_thresh == outstanding // 2


def test_a_timeout_in_recovery_ends_it() -> None:
    """RFC6582-3.2-RTO: slow start from one segment; partial ACKs are ordinary ACKs then."""
    end = recovering()
    end.wait(1000)
    end.expect_data(1)
    assert end.delegated.c_wnd == SMSS
    end.gets("A", ack=1001)
    assert end.delegated.c_wnd == 2 * SMSS
    end.expect_data(1001, 2001)


def test_partial_acks_and_the_timer() -> None:
    """RFC6582-3.2-TIMER, RFC6582-4-IMPATIENT.

    The first partial ACK starts the timer again, later ones do, too.
    """
    end = recovering()
    for ack in (3001, 5001):
        end.wait(600)
        end.gets("A", ack=ack)
        end.expect_data(ack)
    end.wait(999)
    end.expect_nothing()
    end.wait(1)
    end.expect_data(5001)


def test_several_holes_are_repaired_one_per_round_trip() -> None:
    """RFC6582-3.2-PARTIAL: five of eight lost; everything arrives without a timeout."""
    end = recovering()
    missing = [3001, 4001, 6001, 7001]
    for seq in missing:
        end.wait(100)
        end.gets("A", ack=seq)
        end.expect_data(seq)
    end.wait(100)
    end.gets("A", ack=8001)
    assert end.machine.queued == 0
