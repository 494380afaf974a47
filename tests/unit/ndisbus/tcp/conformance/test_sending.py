"""What is sent when: segment sizes, PSH, Nagle, the sender's silly windows (RFC 9293 3.7, 3.8.6.2.1)."""

from __future__ import annotations

import pytest

from ndisbus.net.segment import PSH
from ndisbus.state.images import PathOffloadStateCached
from tests.unit.ndisbus.tcp.conformance.ladder import V6, Endpoint

RTO = 1000


def test_a_segment_is_as_large_as_the_remote_ends_mss() -> None:
    """RFC9293-MUST-16, RFC9293-SHLD-28: the smaller of the remote end's MSS and what the path takes."""
    end = Endpoint.established(mss=1000, mtu=1500)
    end.send(1500)
    end.expect("A", length=1000)


def test_a_segment_is_as_large_as_the_path_takes() -> None:
    """RFC9293-MUST-16: the path's MTU less the IP and TCP headers."""
    end = Endpoint.established(mss=1460, mtu=1000)
    end.send(1500)
    end.expect("A", length=960)
    six = Endpoint.established(mss=8940, mtu=1500, addresses=V6)
    six.send(3000)
    six.expect("A", length=1440)


def test_options_take_their_room_from_the_data() -> None:
    """RFC9293-MUST-16, RFC9293-3.7.1-OPTIONS: a segment with timestamps carries 12 bytes less."""
    end = Endpoint.established(mss=1460, mtu=1500, timestamps=True)
    end.send(3000)
    end.expect("A", length=1448)


def test_sack_blocks_take_their_room_from_the_data() -> None:
    """RFC9293-3.7.1-OPTIONS: whatever options a segment carries, it fits the path."""
    end = Endpoint.established(mss=1460, mtu=1500, timestamps=True, sack=True)
    for seq in (2001, 4001, 6001):
        end.gets("A", seq=seq, size=1000)
    end.drop_sent()
    end.send(3000)
    for sent in end.drop_sent():
        segment = sent.segment
        options = 12 + (4 + 8 * len(segment.sack) if segment.sack else 0)
        assert 20 + 20 + options + len(segment.payload) <= 1500


def test_a_smaller_path_mtu_makes_smaller_segments() -> None:
    """RFC9293-3.7.2-PMTUD: data that was too large for the path is sent again in segments that fit.

    R-RFC-01: RFC 1191.
    """
    end = Endpoint.established(mss=1460, mtu=1500)
    end.send(2920)
    end.expect("A", seq=1, length=1460)
    end.expect("A", seq=1461, length=1460)
    end.machine.path_cached = PathOffloadStateCached(576)
    end.machine.path_changed(end.now)
    end.collect()
    end.wait(RTO)
    sizes = [len(sent.segment.payload) for sent in end.sent]
    assert sizes
    assert max(sizes) == 536
    end.expect("A", seq=1, length=536)


def test_queued_pieces_are_sent_as_large_segments() -> None:
    """RFC9293-SHLD-27, RFC9293-SHLD-28, RFC9293-MAY-16: boundaries of SEND calls are none of segments."""
    end = Endpoint.established()
    for _ in range(25):
        end.queue(100)
    end.collect()
    end.expect("A", seq=1, length=1000)
    end.expect("A", seq=1001, length=1000)
    end.expect("A", seq=2001, length=500, psh=True)
    end.expect_nothing()


def test_the_last_buffered_segment_has_psh() -> None:
    """RFC9293-MUST-61, RFC1122-4.2.2.2: SEND has no PUSH flag here, so the end of the queue is marked."""
    end = Endpoint.established()
    end.send(3000)
    end.expect("A", seq=1)
    end.expect("A", seq=1001)
    end.expect("A", seq=2001, psh=True)


def test_a_segment_followed_by_others_of_its_buffer_has_no_psh() -> None:
    """RFC9293-SHLD-27: within one buffer only the last segment is marked."""
    end = Endpoint.established()
    end.send(3000)
    end.expect("A", seq=1, psh=False)
    end.expect("A", seq=1001, psh=False)


def test_data_is_not_buffered_indefinitely() -> None:
    """RFC9293-MUST-60: whatever the window and Nagle hold back goes out in the end."""
    end = Endpoint.established(nagle=True, send_window=1300)
    end.send(1000)
    end.expect_data(1)
    end.send(500)  # less than a segment, more than the window has room for
    end.expect_nothing()
    end.gets("A", ack=1001, window=300)
    end.wait(1000)
    end.expect("A", seq=1001, length=300)


def test_nagle_holds_small_data_back() -> None:
    """RFC9293-SHLD-7: while something is unacknowledged only a full segment goes out.

    R-RFC-02: Nagle.
    """
    end = Endpoint.established(nagle=True)
    end.send(10)
    end.expect("A", seq=1, length=10)
    end.send(10)
    end.send(10)
    end.expect_nothing()
    end.gets("A", ack=11)
    end.expect("A", seq=11, length=20)


def test_nagle_lets_full_segments_go() -> None:
    """RFC9293-SHLD-7: Eff.snd.MSS bytes are sent whatever is unacknowledged."""
    end = Endpoint.established(nagle=True)
    end.send(10)
    end.expect("A", seq=1, length=10)
    end.send(500)
    end.expect_nothing()
    end.send(700)
    end.expect("A", seq=11, length=1000)
    end.expect_nothing()
    end.gets("A", ack=1011)
    end.expect("A", seq=1011, length=200)


def test_nagle_ends_with_the_fin() -> None:
    """RFC9293-3.8.6.2.1-FIN: CLOSE implies a push: the last bytes and the FIN do not wait for an ACK."""
    end = Endpoint.established(nagle=True)
    end.send(10)
    end.expect("A", seq=1, length=10)
    end.send(10)
    end.expect_nothing()
    end.shutdown()
    end.expect("FA", seq=11, length=10)


def test_nagle_can_be_switched_off() -> None:
    """RFC9293-MUST-17: per connection, by the cached flag."""
    end = Endpoint.established(nagle=False)
    for seq in (1, 11, 21):
        end.send(10)
        end.expect("A", seq=seq, length=10, psh=True)


def test_a_small_opening_of_the_window_is_not_used() -> None:
    """RFC9293-MUST-38, RFC9293-3.8.6.2.1-SWS, RFC1122-4.2.3.4: no segment for an opening of 100 bytes.

    R-RFC-05: silly windows.
    """
    end = Endpoint.established(send_window=4000)
    end.send(10_000)
    end.expect_data(1, 1001, 2001, 3001)
    end.gets("A", ack=1001, window=3100)
    end.expect_nothing()
    end.gets("A", ack=1001, window=3999)
    end.expect_nothing()
    end.gets("A", ack=1001, window=4000)
    end.expect_data(4001)
    end.expect_nothing()


def test_half_of_the_largest_window_is_used() -> None:
    """RFC9293-3.8.6.2.1-SWS: Fs = 1/2 of the largest window seen, when that is less than a segment."""
    end = Endpoint.established(send_window=1200)
    end.send(10_000)
    end.expect_data(1)
    end.gets("A", ack=1001, window=599)
    end.expect_nothing()
    end.gets("A", ack=1001, window=600)
    end.expect("A", seq=1001, length=600)


def test_the_override_timeout_sends_what_the_window_allows() -> None:
    """RFC9293-3.8.6.2.1-OVERRIDE: within 0.1 to 1 second of holding back."""
    end = Endpoint.established(send_window=4000)
    end.send(4000)
    end.drop_sent()
    end.gets("A", ack=4001, window=300)
    end.send(4000)
    end.expect_nothing()
    end.wait(1000)
    sent = end.sent[0]
    assert 100 <= sent.at <= 1000
    end.expect("A", seq=4001, length=300)
    end.expect_nothing()


def test_all_that_is_queued_fits_the_window() -> None:
    """RFC9293-3.8.6.2.1-SWS: D <= U and pushed: the end of the queue goes out, however small."""
    end = Endpoint.established(send_window=4000)
    end.send(3000)
    end.drop_sent()
    end.send(50)
    end.expect("A", seq=3001, length=50, psh=True)


def test_no_byte_is_sent_beyond_the_window() -> None:
    """RFC9293-3.8.6-WINDOW, RFC5681-2-LIMIT: the smaller of RWND and CWND bounds what is outstanding."""
    end = Endpoint.established(send_window=2500, c_wnd=100_000)
    end.send(20_000)
    end.wait(900)
    assert max(end.relative_out(s.segment.seq) + len(s.segment.payload) for s in end.drop_sent()) <= 2501
    narrow = Endpoint.established(send_window=60_000, c_wnd=2500)
    narrow.send(20_000)
    assert (
        max(narrow.relative_out(s.segment.seq) + len(s.segment.payload) for s in narrow.drop_sent()) <= 2501
    )


def test_an_empty_ack_has_no_psh() -> None:
    """RFC9293-3.9.1.2-PSH: PSH belongs to data."""
    end = Endpoint.established()
    end.gets("A", size=1000)
    end.gets("A", size=1000)
    assert not end.expect_ack(2001).flags & PSH


def test_mss_is_not_sent_on_an_established_connection() -> None:
    """RFC9293-MUST-65, RFC2018-2-1, RFC7323-2.2-SYN-ONLY: no MSS, no SACK-permitted, no scale without SYN."""
    end = Endpoint.established(timestamps=True, sack=True, scales=(7, 7))
    end.send(5000)
    end.gets("A", seq=2001, size=1000)
    end.shutdown()
    sent = end.drop_sent()
    assert len(sent) >= 6
    for one in sent:
        assert one.segment.mss is None
        assert one.segment.window_scale is None
        assert not one.segment.sack_permitted


@pytest.mark.parametrize("value", [0, 16, 255])
def test_the_diffserv_field_and_ttl_are_the_users(value: int) -> None:
    """RFC9293-MUST-48, RFC9293-MUST-49, RFC9293-SHLD-21.

    They stand in the cached structure, an update changes them.

    The headers are made from there; the machine leaves both as they are.
    """
    end = Endpoint.established(cached={"tos_or_traffic_class": value, "ttl_or_hop_limit": max(value, 1)})
    end.send(1000)
    end.gets("A")
    assert end.machine.cached.tos_or_traffic_class == value
    assert end.machine.cached.ttl_or_hop_limit == max(value, 1)
