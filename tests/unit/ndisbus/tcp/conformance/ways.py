"""Conformance tests of what a hand-over drops, and of what a target does otherwise; by reason."""

from __future__ import annotations

from typing import Final

__all__ = ["DROPPED", "OTHERWISE_ON_A_TARGET"]

DROPPED: Final = {
    "a pending ACK is sent before (R-TMR-06)": [
        "test_an_ack_waits_for_a_while",
        "test_every_second_full_segment_is_acknowledged_at_once",
        "test_an_ack_rides_on_data",
        "test_old_data_is_answered_at_once_and_not_taken_twice",
        "test_fin_wait_2_still_receives",
        "test_the_window_offered_follows_the_buffer",
        "test_an_empty_ack_has_no_psh",
        "test_a_delayed_ack_echoes_the_first_segment",
    ],
    "segments behind a gap are given to the successor, which acknowledges them once more": [
        "test_a_fin_ahead_of_a_gap_waits_for_the_gap_to_fill",
        "test_a_segment_beyond_a_gap_is_answered_at_once",
        "test_a_segment_that_fills_a_gap_is_acknowledged_at_once",
        "test_case_2_the_first_segment_is_lost",
        "test_case_3_every_other_segment_is_lost",
        "test_data_segments_carry_blocks_too",
    ],
    "a round trip that is being measured without timestamps": [
        "test_the_first_measurement",
        "test_later_measurements",
        "test_a_sample_is_taken_at_least_once_a_round_trip",
    ],
    "how far a recovery has got: its first hole goes out once more": [
        "test_fast_retransmit_with_the_third_duplicate",
        "test_each_further_duplicate_inflates_the_window",
        "test_a_partial_ack_retransmits_the_next_hole",
        "test_a_partial_ack_deflates_the_window_partially",
        "test_a_full_ack_ends_recovery",
        "test_recovery_ends_only_with_all_that_was_outstanding",
        "test_duplicates_in_recovery_retransmit_nothing_more",
        "test_a_duplicate_of_exactly_recover_starts_no_recovery",
        "test_a_second_loss_in_a_later_window_is_a_new_recovery",
        "test_a_timeout_in_recovery_ends_it",
        "test_partial_acks_and_the_timer",
        "test_several_holes_are_repaired_one_per_round_trip",
    ],
    "the scoreboard: the remote end repeats its SACK blocks": [
        "test_the_third_duplicate_starts_recovery",
        "test_new_data_waits_for_the_pipe",
        "test_a_second_hole_goes_before_new_data",
        "test_sacked_data_is_not_sent_again_in_recovery",
        "test_what_may_be_lost_is_sent_when_nothing_else_is_left",
        "test_the_last_segment_is_rescued",
        "test_what_is_lost_and_what_not_yet",
        "test_a_duplicate_that_reports_nothing_new_sends_nothing",
        "test_after_a_timeout_nothing_reported_anew_is_sent_again",
        "test_limited_transmit_is_governed_by_the_pipe",
        "test_a_timeout_in_recovery_does_not_raise_ssthresh",
        "test_a_timeout_does_not_count_what_is_sacked",
        "test_the_rescue_does_not_come_with_the_fast_retransmission",
        "test_there_is_one_rescue_in_a_recovery",
    ],
    "the RTO's back-off after an ACK of a retransmission": [
        "test_the_back_off_stays_until_there_is_a_new_measurement",
    ],
    "the count of challenge ACKs": [
        "test_challenges_are_throttled",
        "test_syn_challenges_are_throttled",
    ],
    "the urgent pointers (R-SEND-04, R-IP-07)": [
        "test_all_segments_up_to_the_urgent_point_carry_it",
        "test_urgent_data_of_any_length",
    ],
}

OTHERWISE_ON_A_TARGET: Final = {
    "a SYN on a connection that has one: R-BRA-03, R-IP-06": [
        "test_a_syn_draws_a_challenge_ack",
        "test_data_beside_a_syn_is_not_taken",
        "test_a_syn_leaves_ts_recent",
        "test_a_challenge_ack_has_a_timestamp",
        "test_syn_received_goes_back_to_listen_for_a_new_syn",
        "test_syn_challenges_are_throttled",
    ],
    "an RST elsewhere in the window: R-BRA-02": [
        "test_challenges_are_throttled",
    ],
    "urgent data: R-IP-07, R-IP-08": [
        "test_urgent_data_is_announced",
        "test_the_pointer_is_one_past_the_last_urgent_byte",
        "test_urgent_data_may_be_announced_before_it_comes",
        "test_the_same_urgent_data_is_announced_once",
        "test_urgent_data_that_was_read_is_not_announced_again",
        "test_an_urgent_pointer_is_forgotten_when_it_is_passed",
        "test_urg_after_the_remote_ends_fin_is_ignored",
        "test_urg_is_seen_while_our_window_is_closed",
        "test_odd_pointers_do_no_harm",
        "test_data_without_urg_after_urgent_data_flows_on",
        "test_urgent_data_is_sent",
        "test_all_segments_up_to_the_urgent_point_carry_it",
        "test_urgent_data_of_any_length",
    ],
    "what is in vain leads to an upload: R-TMR-08, R-TMR-18, R-TMR-22": [
        "test_fin_wait_2_does_not_last_for_ever",
        "test_a_half_closed_connection_lasts_as_long_as_its_user_reads",
        "test_closing_both_halves_starts_the_limit_of_fin_wait_2",
        "test_the_connection_is_closed_in_the_end",
        "test_an_outage_shorter_than_r2_ends_nothing",
        "test_an_outage_while_the_window_is_closed_ends_nothing",
        "test_the_application_can_set_r2",
        "test_probing_without_any_answer_ends",
        "test_a_remote_end_that_never_answers_is_given_up",
    ],
}
