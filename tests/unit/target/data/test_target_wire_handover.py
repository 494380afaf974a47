"""Connections that run change hands: taken over, queried, updated, invalidated, lost, given back."""

from __future__ import annotations

from typing import Any

import pytest

from ndisbus.ddi.state_types import OffloadStateType
from ndisbus.ddi.status import NdisStatus
from ndisbus.ddi.structures import NdisTaskOffloadHeader, NdisTcpConnectionOffloadParameters
from ndisbus.ddi.tcp_enums import (
    TCP_FLAG_KEEP_ALIVE_ENABLED,
    TCP_FLAG_KEEP_ALIVE_RESTART,
    TCP_FLAG_MAX_RT_RESTART,
    TCP_FLAG_SACK_ENABLED,
    TCP_FLAG_TIMESTAMP_ENABLED,
    TCP_FLAG_UPDATE_RCV_WND,
    TIMER_NOT_RUNNING,
    TcpOffloadConnectionState,
)
from ndisbus.lists.nbl import data_of, iter_chain
from ndisbus.net.segment import ACK, FIN, PSH, RST, SYN, Segment
from ndisbus.state.images import TcpOffloadStateCached
from target import TargetConfig
from target.data.machines import flow_of
from target.model.contexts import TcpContext
from tests.support.lists import first_of

State = TcpOffloadConnectionState
DISCONNECT, RETRIEVE, ABORT = 2, 3, 4
TIMEOUT, INVALID, REQUESTED, HARDWARE = 8, 9, 10, 11
REFUSED = NdisStatus.OFFLOAD_DATA_NOT_ACCEPTED
CACHED = int(OffloadStateType.TcpOffloadCachedState)


def payloads(segments: list[Segment]) -> bytes:
    return b"".join(bytes(s.payload) for s in segments)


def ticks(w: Any, per_second: int = 100, **kw: Any) -> None:
    w.adapter.set_parameters(NdisTcpConnectionOffloadParameters(ticks_per_second=per_second, **kw))


def delegated(w: Any, t: Any, op: str = "query") -> Any:
    """The delegated structure as a query or a terminate writes it."""
    assert w.statuses(op, [t]) == ["SUCCESS"]
    return t.structures()[2]


# -- laziness ----------------------------------------------------------------------------------


def test_a_connection_with_nothing_to_do_has_no_machine(w: Any) -> None:
    """It stays the image that came down; the first segment, or the first request, makes the machine."""
    quiet, heard, asked = w.live(), w.live(local=5001), w.live(local=5002)
    w.advance(1000)
    assert not any(w.ctx_of(t).flow for t in (quiet, heard, asked))
    w.say(heard, ACK, 5000, 1000, b"x")
    w.post("send", asked, w.nbl(b"y"))
    assert [bool(w.ctx_of(t).flow) for t in (quiet, heard, asked)] == [False, True, True]
    w.run("query", [quiet])
    assert w.ctx_of(quiet).flow is None


@pytest.mark.parametrize(
    ("what", "seconds"),
    [
        ({"cached": {"flags": TCP_FLAG_KEEP_ALIVE_ENABLED}}, 7.0),
        ({"cached": {"flags": TCP_FLAG_KEEP_ALIVE_ENABLED}, "keep_alive_timeout_delta": 400}, 0.4),
        ({"keep_alive_timeout_delta": 500}, 0.5),
        ({"state": State.TcpConnectionFinWait2}, 0.0),
        ({"snd_nxt": 1001, "snd_max": 1001}, 0.0),
    ],
    ids=["keepalive", "keepalive under way", "blind reset check", "FIN_WAIT_2", "in flight"],
)
def test_what_may_do_something_by_itself_is_looked_at_in_time(
    w: Any, what: dict[str, Any], seconds: float
) -> None:
    """R-TMR-05: not later than its earliest timer."""
    t = w.live(**({"chain": w.nbl(b"?")} if "snd_nxt" in what else {}), **what)
    if seconds:
        w.advance(seconds - 0.001)
        assert w.ctx_of(t).flow is None
        assert w.heard() == []
        w.advance(0.001)
    assert w.ctx_of(t).flow is not None


def test_a_machine_that_is_made_late_knows_when_the_connection_came(w: Any) -> None:
    """R-TS-04, R-TMR-05: its clock and its timers began then."""
    flags = TCP_FLAG_TIMESTAMP_ENABLED
    w.now = 10.0
    t = w.live(
        flags=flags,
        cached={"flags": TCP_FLAG_KEEP_ALIVE_ENABLED},
        ts_time=777,
        ts_recent_age=5,
        keep_alive_timeout_delta=60_000,
    )
    w.advance(20.0)
    w.post("send", t, w.nbl(b"x"))
    [s] = w.heard()
    assert s.ts_val == 777 + 20_000
    d = delegated(w, t)
    assert (d.ts_time, d.ts_recent_age) == (20_777, 20_005)
    assert d.keep_alive_timeout_delta == 40_000


# -- query -------------------------------------------------------------------------------------


@pytest.mark.parametrize("running", [False, True], ids=["image", "machine"])
def test_r_qry_03_variables_are_alive(w: Any, running: bool) -> None:
    """R-QRY-03, R-QRY-06, R-TS-05: clocks move on and running timers run down, with a machine and without;
    a timer that does not run is -1; the query does not disturb the connection.
    """
    t = w.live(
        cached={"flags": TCP_FLAG_KEEP_ALIVE_ENABLED},
        ts_time=0xFFFFFFFF,
        ts_recent_age=3,
        keep_alive_timeout_delta=7000,
        keep_alive_probe_count=2,
    )
    if running:
        flow_of(w.adapter, w.ctx_of(t))
    for seconds in (1.5, 2.0):
        w.advance(seconds)
        d = delegated(w, t)
        elapsed = int(w.now * 1000)
        assert d.ts_time == elapsed - 1
        assert d.ts_recent_age == 3 + elapsed
        assert d.keep_alive_timeout_delta == 7000 - elapsed
        assert d.keep_alive_probe_count == 2
        assert d.retransmit_timeout_delta == TIMER_NOT_RUNNING
    w.advance(3.499)
    assert w.heard() == []
    w.advance(0.001)
    assert len(w.heard()) == 1


def test_a_query_shows_what_was_sent_and_received(w: Any) -> None:
    """R-QRY-03: sequence numbers, windows, round trip and retransmission timer."""
    t = w.live()
    w.post("send", t, w.nbl(b"hello"))
    w.say(t, ACK, 5000, 1000, b"abc", window=4321)
    w.answer()
    d = delegated(w, t)
    assert (d.snd_una, d.snd_nxt, d.snd_max) == (1000, 1005, 1005)
    assert (d.rcv_nxt, d.snd_wnd) == (5003, 4321)
    assert d.retransmit_timeout_delta != TIMER_NOT_RUNNING
    assert d.retransmit_timeout_delta == w.ctx_of(t).flow.machine.timer.due


def test_the_time_stands_still_without_a_wire(h: Any) -> None:
    """No wire, no machine: what comes back is what went down."""
    _n, _p, (t,) = h.stack(1, ts_time=5, keep_alive_timeout_delta=9)
    h.advance(100)
    assert delegated(h, t) == t.structures()[2]
    assert (t.structures()[2].ts_time, t.structures()[2].keep_alive_timeout_delta) == (5, 9)


# -- timestamps --------------------------------------------------------------------------------


def test_r_ts_04_the_first_worked_table(w: Any) -> None:
    """R-TS-01, R-TS-02, R-TS-04, R-TS-05, R-TS-06: target clock 200 at the offload with TsTime 100; its
    timestamp at 210 is 110, the echoes of 100 and 110 mean round trips of 5, and at 250 TsTime 150 goes up.
    """
    ticks(w)
    w.now = 2.0
    # The host has sent one byte with timestamp 100, whose echo is still to come.
    t = w.live(
        flags=TCP_FLAG_TIMESTAMP_ENABLED,
        ts_time=100,
        snd_nxt=1001,
        snd_max=1001,
        chain=w.nbl(b"1"),
        retransmit_timeout_delta=300,
    )
    w.now = 2.05
    w.say(t, ACK, 5000, 1001, ts_val=1, ts_ecr=100)
    first = w.ctx_of(t).delegated
    assert (first.s_rtt, first.rtt_var) == (5 * 8, 5 * 4 // 2)
    w.now = 2.10
    w.post("send", t, w.nbl(b"2"))
    assert [s.ts_val for s in w.heard()] == [110]
    w.now = 2.15
    w.say(t, ACK, 5000, 1002, ts_val=2, ts_ecr=110)
    assert w.ctx_of(t).delegated.s_rtt == 5 * 8
    w.now = 2.50
    d = delegated(w, t, "terminate")
    assert d.ts_time == 150
    assert d.ts_recent == 2
    assert d.ts_recent_age == 35


# -- terminate ---------------------------------------------------------------------------------


def test_r_term_15_a_delayed_ack_goes_out_before_the_terminate_completes(w: Any) -> None:
    """R-TERM-15, R-TMR-06."""
    t = w.live()
    w.say(t, ACK, 5000, 1000, b"x")
    w.answer()
    assert w.heard() == []
    root = w.request("terminate", [t])
    [ack] = w.heard()
    assert (ack.flags & ACK, ack.ack) == (ACK, 5001)
    assert w.done(root).status == [NdisStatus.SUCCESS]
    w.advance(10)
    assert w.heard() == []


def test_r_term_13_segments_that_come_during_a_terminate_are_the_hosts(w: Any) -> None:
    """R-TERM-13: not processed, and so are all later ones; R-TERM-06: in whatever state."""
    t = w.live()
    w.say(t, ACK, 5000, 1000, b"a")
    w.answer()
    w.control("latency", {"seconds": 1})
    root = w.request("terminate", [t])
    during = w.say(t, ACK, 5001, 1000, b"b")
    assert w.ordinary() == [during]
    after_builder = w.builder(t)
    w.advance(1)
    assert w.done(root).status == [NdisStatus.SUCCESS]
    assert t.structures()[2].rcv_nxt == 5001
    after = after_builder.frame(Segment(5001, 1000, ACK, 1, b"c"))
    w.put(after)
    assert w.ordinary() == [after]


def test_r_term_16_data_that_came_early_is_dropped(w: Any) -> None:
    """R-TERM-16: though SACK told of it: neither indicated nor acknowledged, nor handed up."""
    t = w.live(flags=TCP_FLAG_SACK_ENABLED)
    w.say(t, ACK, 5010, 1000, b"early")
    [dup] = w.heard()
    assert dup.sack == ((5010, 5015),)
    d = delegated(w, t, "terminate")
    assert d.rcv_nxt == 5000
    assert d.buffered_data is None
    assert w.indicated_data == []
    assert w.ordinary() == []
    assert all(s.ack == 5000 for s in w.heard())


def test_r_osd_12_what_is_not_acknowledged_is_handed_back(w: Any) -> None:
    """R-OSD-04, R-OSD-11, R-OSD-12, R-OSD-13: the first list begins at SndUna, the numbers fit its bytes."""
    t = w.live(c_wnd=6)
    a, b, c = w.nbl(b"aaaa"), w.nbl(b"bbbb"), w.nbl(b"cccc")
    w.post("send", t, a, b, c)
    w.say(t, ACK, 5000, 1002)
    done = w.run("terminate", [t])
    assert done.status == [NdisStatus.SUCCESS]
    assert w.completions() == []
    chain = list(iter_chain(done.nbls[t.returned]))
    assert [x.address for x in chain] == [a.address, b.address, c.address]
    assert b"".join(data_of(first_of(x)) for x in chain) == b"aabbbbcccc"
    d = t.structures()[2]
    assert (d.send_data_head, d.send_data_tail) == (a.address, c.address)
    assert d.snd_una == 1002
    assert 1006 <= d.snd_max <= 1012
    assert d.snd_nxt == d.snd_max
    assert d.retransmit_timeout_delta != TIMER_NOT_RUNNING


def test_r_osd_13_with_everything_acknowledged_no_chain_comes_back(w: Any) -> None:
    """R-OSD-13."""
    t = w.live()
    w.post("send", t, w.nbl(b"aaaa"))
    w.say(t, ACK, 5000, 1004)
    d = delegated(w, t, "terminate")
    assert t.returned is None
    assert d.snd_una == d.snd_nxt == d.snd_max == 1004
    assert d.retransmit_timeout_delta == TIMER_NOT_RUNNING


def test_r_brd_07_undelivered_data_goes_up_behind_what_fills_a_request(w: Any) -> None:
    """R-BRD-07, R-TMR-20: the partly filled request first, the refused rest in BufferedData, in order."""
    t = w.live()
    w.say(t, ACK, 5000, 1000, b"refused ")
    w.answer(REFUSED)
    w.say(t, ACK, 5008, 1000, b"and more")
    done = w.run("terminate", [t])
    buffered = done.nbls[t.structures()[2].buffered_data]
    assert data_of(buffered.first_net_buffer) == b"refused and more"
    assert t.structures()[2].rcv_nxt == 5016
    other = w.live(local=5001)
    request = w.nbl(bytes(100))
    w.post("receive", other, request)
    w.say(other, ACK, 5000, 1000, b"placed")
    w.request("terminate", [other])
    assert w.completions("receive") == [(request.address, "SUCCESS")]


def test_timers_are_handed_back_as_they_stand(w: Any) -> None:
    """R-TMR-12, R-TMR-25, R-TMR-05: keepalive after a probe, and a retransmission that has backed off."""
    t = w.live(cached={"flags": TCP_FLAG_KEEP_ALIVE_ENABLED}, keep_alive_timeout_delta=100)
    w.advance(0.1)
    assert len(w.heard()) == 1
    w.advance(0.3)
    d = delegated(w, t, "terminate")
    assert (d.keep_alive_probe_count, d.keep_alive_timeout_delta) == (1, 700)
    sending = w.live(local=5001)
    w.post("send", sending, w.nbl(b"x"))
    first = delegated(w, sending).retransmit_timeout_delta
    w.advance(first / 1000)
    w.advance(0.05)
    d = delegated(w, sending, "terminate")
    assert (d.retransmit_count, d.retransmit_timeout_delta) == (1, 2 * first - 50)


def test_r_tmr_19_a_window_probe_is_handed_over_and_back(w: Any) -> None:
    """R-TMR-19, R-TMR-13: the three values of the persist algorithm."""
    chain = w.nbl(b"xyz")
    t = w.live(
        chain=chain,
        snd_wnd=0,
        retransmit_count=1,
        retransmit_timeout_delta=300,
        snd_wnd_probe_count=1,
        s_rtt=800,
    )
    w.advance(0.299)
    assert w.heard() == []
    w.advance(0.001)
    assert len(w.heard()) == 1
    w.advance(0.1)
    d = delegated(w, t, "terminate")
    assert (d.snd_wnd_probe_count, d.retransmit_count) == (1, 2)
    assert 0 < d.retransmit_timeout_delta < TIMER_NOT_RUNNING


# -- states that end ---------------------------------------------------------------------------


def test_r_tmr_08_fin_wait_2_expires(w: Any) -> None:
    """R-TMR-07, R-TMR-08, R-TMR-09, R-EVT-10, R-DIS-14, R-EVT-05: the rest of its time came down in
    Retransmit.TimeoutDelta; then CLOSED, and an upload with TimeoutExpiration although half-closed.
    """
    t = w.live(state=State.TcpConnectionFinWait2, retransmit_timeout_delta=5000)
    w.advance(4.999)
    assert w.events() == []
    w.advance(0.001)
    assert w.events() == [(t.handle.address, RETRIEVE, TIMEOUT)]
    assert delegated(w, t, "terminate").state == State.TcpConnectionClosed


def test_r_tmr_04_time_wait_is_offered_for_upload(w: Any) -> None:
    """R-TMR-04, R-OPEN-01, R-EVT-11: the FIN is acknowledged, and the rest of 2 MSL goes up."""
    t = w.live(state=State.TcpConnectionFinWait2)
    w.say(t, ACK | FIN, 5000, 1000)
    assert [s.ack for s in w.heard()] == [5001]
    assert w.events() == [(t.handle.address, DISCONNECT, 0), (t.handle.address, RETRIEVE, REQUESTED)]
    w.advance(10)
    d = delegated(w, t, "terminate")
    assert d.state == State.TcpConnectionTimeWait
    assert 0 < d.retransmit_timeout_delta <= 60_000


def test_a_disconnect_completes_before_time_wait_asks_for_the_upload(w: Any) -> None:
    """R-DISC-09: simultaneous end: the FIN was acknowledged, so it has succeeded."""
    t = w.live()
    d = w.nbl(b"bye")
    w.post("disconnect", t, d, flags=1)
    w.say(t, ACK | FIN, 5000, 1004)
    assert w.calls[-2][0] == "NdisTcpOffloadDisconnectComplete"
    assert w.completions() == [(d.address, "SUCCESS")]
    assert w.events()[-1] == (t.handle.address, RETRIEVE, REQUESTED)


def test_r_ip_06_a_syn_in_time_wait_goes_to_the_host(w: Any) -> None:
    """R-IP-06."""
    t = w.live(state=State.TcpConnectionFinWait2)
    w.say(t, ACK | FIN, 5000, 1000)
    syn = w.say(t, SYN, 9_000_000, 0)
    assert w.ordinary() == [syn]


def test_r_ip_06_a_syn_in_order_uploads_the_connection_closed(w: Any) -> None:
    """R-IP-06, R-BRA-03, R-DIS-46, R-OPEN-01: the SYN waits for the upload, for a listener to find it."""
    t = w.live()
    syn = w.say(t, SYN, 5000, 0)
    assert w.events() == [(t.handle.address, RETRIEVE, REQUESTED)]
    assert w.heard() == []
    assert w.ordinary() == []
    assert delegated(w, t, "terminate").state == State.TcpConnectionClosed
    assert w.ordinary() == [syn]


def test_r_bra_02_and_r_bra_03_one_challenge_for_suspicious_segments(w: Any) -> None:
    """R-BRA-02, R-BRA-03, R-BRA-04: in the window but out of order; the check is handed up with the
    connection, which has no keepalive of its own; R-BRA-06.
    """
    t = w.live()
    w.say(t, RST, 5100, 0)
    w.say(t, RST, 5200, 0)
    assert [(s.flags & (ACK | RST), s.ack) for s in w.heard()] == [(ACK, 5000)]
    assert w.events() == []
    w.advance(60)
    assert delegated(w, t, "terminate").keep_alive_timeout_delta == 240_000


def test_r_bra_05_a_check_without_an_answer_ends_in_an_upload(w: Any) -> None:
    """R-BRA-05, R-BRA-06, R-OPEN-01: probes sent before the offload count."""
    t = w.live(keep_alive_probe_count=1, keep_alive_timeout_delta=1000)
    w.advance(1)
    w.advance(1)
    assert len(w.heard()) == 2
    assert w.events() == []
    w.advance(1)
    assert w.events() == [(t.handle.address, RETRIEVE, TIMEOUT)]
    assert delegated(w, t, "terminate").state == State.TcpConnectionClosed


def test_r_tmr_22_retransmissions_in_vain_ask_for_an_upload(w: Any) -> None:
    """R-TMR-22, R-EVT-10, R-OID-14: TcpMaximumRetransmissions; the data is handed back, nothing is lost."""
    ticks(w, 1000, tcp_maximum_retransmissions=2)
    t = w.live()
    x = w.nbl(b"data")
    w.post("send", t, x)
    for _ in range(1000):
        w.advance(0.1)
        if w.calls:
            break
    assert w.events() == [(t.handle.address, RETRIEVE, TIMEOUT)]
    assert payloads(w.heard()) == b"data" * 3
    w.advance(1000)
    assert w.heard() == []
    done = w.run("terminate", [t])
    assert data_of(done.nbls[t.returned].first_net_buffer) == b"data"


# -- update ------------------------------------------------------------------------------------


def update(w: Any, t: Any, **members: Any) -> None:
    given = {
        "initial_rcv_wnd": 65536,
        "ka_probe_count": 3,
        "ka_timeout": 7000,
        "ka_interval": 1000,
        **members,
    }
    state = TcpOffloadStateCached(**given).pack()
    assert w.statuses("update", [t], types={t: CACHED}, states={t: state}) == ["SUCCESS"]


def test_r_state_18_a_larger_window_is_advertised(w: Any) -> None:
    """R-STATE-18, R-UPD-09."""
    t = w.live(window=4000, rcv_wnd=4000)
    update(w, t, flags=TCP_FLAG_UPDATE_RCV_WND, initial_rcv_wnd=30_000)
    [s] = w.heard()
    assert (s.ack, s.window) == (5000, 30_000)


def test_r_upd_11_keepalive_parameters_take_effect(w: Any) -> None:
    """R-UPD-11, R-TMR-11, R-DIS-13: switched on by an update, and restarted by the flag."""
    t = w.live()
    on = TCP_FLAG_KEEP_ALIVE_ENABLED
    update(w, t, flags=on | TCP_FLAG_KEEP_ALIVE_RESTART, ka_timeout=3000)
    w.advance(2)
    update(w, t, flags=on | TCP_FLAG_KEEP_ALIVE_RESTART, ka_timeout=2000)
    w.advance(1.999)
    assert w.heard() == []
    w.advance(0.001)
    assert len(w.heard()) == 1


def test_r_tmr_24_max_rt_restart_sets_total_rt_to_zero(w: Any) -> None:
    """R-TMR-24."""
    t = w.live(total_rt=5000)
    update(w, t, flags=TCP_FLAG_MAX_RT_RESTART, max_rt=9000)
    assert delegated(w, t).total_rt == 0


def test_an_update_without_restart_leaves_an_idle_connection_idle(w: Any) -> None:
    t = w.live(total_rt=5000)
    update(w, t, ttl_or_hop_limit=3)
    assert w.ctx_of(t).flow is None
    assert delegated(w, t).total_rt == 5000
    assert w.ctx_of(t).cached.ttl_or_hop_limit == 3


# -- invalidate, corrupt hardware --------------------------------------------------------------


@pytest.mark.parametrize("what", ["neighbor", "path", "connection"])
def test_r_inv_04_an_invalidate_stops_sending_at_once(w: Any, what: str) -> None:
    """R-INV-04, R-DIS-11, R-INV-03: no data, no retransmission, no ACK; what comes waits for the upload."""
    t = w.live()
    w.post("send", t, w.nbl(b"x"))
    w.say(t, ACK, 5000, 1000, b"y")
    w.answer()
    w.heard()
    w.control("latency", {"seconds": 1})
    obj = {"neighbor": t.below[0], "path": t.below[1], "connection": t}[what]
    w.request("invalidate", [obj])
    w.advance(0.5)
    during = w.say(t, ACK, 5001, 1000, b"z")
    w.advance(0.5)
    assert w.events() == [(t.handle.address, RETRIEVE, INVALID)]
    w.advance(100)
    assert w.heard() == []
    root = w.request("terminate", [t])
    w.advance(1)
    assert w.done(root).status == [NdisStatus.SUCCESS]
    assert w.ordinary() == [during]
    d = t.structures()[2]
    assert d.rcv_nxt == 5001
    # It was running, and fires at once on the host (R-TMR-05).
    assert d.retransmit_timeout_delta == 0
    assert w.heard() == []


def test_r_hwf_01_corrupt_hardware_is_silent(w: Any) -> None:
    """R-HWF-01: its frames are dropped, its timers stand; when that is found out the host is told."""
    t = w.live()
    x = w.nbl(b"x")
    w.post("send", t, x)
    w.heard()
    w.control("corrupt", {})
    w.say(t, ACK | PSH, 5000, 1001, b"y")
    w.advance(100)
    assert w.station.counters["connection's hardware state is corrupt"] == 1
    assert w.heard() == []
    assert w.ordinary() == []
    assert w.take() == []
    assert w.statuses("query", [t]) == ["FAILURE"]
    assert w.events() == [(t.handle.address, RETRIEVE, HARDWARE), (t.handle.address, ABORT, 0)]
    assert w.ctx_of(t).flow is None
    lost = w.say(t, ACK, 5000, 1001, b"y")
    assert w.ordinary() == [lost]
    assert w.statuses("terminate", [t]) == ["FAILURE"]
    assert w.completions() == [(x.address, "REQUEST_ABORTED")]


def test_what_runs_is_gone_with_its_adapter(w: Any) -> None:
    t = w.live()
    w.post("send", t, w.nbl(b"x"))
    w.far.frames()
    w.ask("MiniportHaltEx", [w.ctx, 1])
    w.now += 100
    w.port.on_timer(w.now)
    assert w.far.frames() == []
    assert w.driver.next_deadline() is None


def test_parameters_with_another_tick_are_for_later_connections(w: Any) -> None:
    """R-TMR-02: and a tick that there is none is refused."""
    from ndisbus.ddi.enums import Oid  # noqa: PLC0415

    old = w.live()
    flow_of(w.adapter, w.ctx_of(old))
    good = NdisTcpConnectionOffloadParameters(ticks_per_second=10)
    assert w.oid(Oid.OID_TCP_CONNECTION_OFFLOAD_PARAMETERS, good)[0] == NdisStatus.SUCCESS
    new = w.live(local=5001)
    flow_of(w.adapter, w.ctx_of(new))
    w.advance(2)
    assert (delegated(w, old).ts_time, delegated(w, new).ts_time) == (2000, 20)
    bad = NdisTcpConnectionOffloadParameters(ticks_per_second=60)
    assert w.oid(Oid.OID_TCP_CONNECTION_OFFLOAD_PARAMETERS, bad)[0] == NdisStatus.FAILURE
    assert w.adapter.parameters == good
    # They end with the chimney of the protocol that set them.
    assert w.oid(Oid.OID_TCP_TASK_OFFLOAD, NdisTaskOffloadHeader.of([]))[0] == NdisStatus.SUCCESS
    assert w.adapter.parameters == NdisTcpConnectionOffloadParameters()


def test_contexts_of_idle_connections_stay_small() -> None:
    """What a wire adds to a context without work: two references, no objects."""
    assert {"flow", "since"} <= set(TcpContext.__slots__)
    assert TargetConfig().wires == ()


def test_what_runs_can_be_seen(w: Any) -> None:
    """Machines and frames that are held, in ``ps``; states, machines and the wire, in the tables."""
    quiet, busy = w.live(), w.live(local=5001)
    w.say(busy, ACK | FIN, 5000, 1000)
    counters = w.inspect()
    assert (counters["machines"], counters["held_frames"]) == (1, 0)
    tables = w.control("tables", {})["nic0"]
    shown = {t["address"]: t for n in tables["trees"] for p in n["paths"] for t in p["tcp"]}
    assert [shown[t.context]["machine"] for t in (quiet, busy)] == [False, True]
    assert shown[busy.context]["state"] == "TcpConnectionCloseWait"
    assert tables["wire"]["name"] == "memory:memory"
    assert tables["wire"]["Received"] == 2
    w.control("indicate", {"reason": "UploadRequested"})
    w.say(busy, ACK, 5001, 1000)
    assert w.inspect()["held_frames"] == 1
    w.run("terminate", [quiet, busy])
    counters = w.inspect()
    assert (counters["machines"], counters["held_frames"]) == (0, 0)
    w.put(b"\x02\x00\x00\x00\x00\x55" + bytes(60))
    assert w.inspect()["dropped: for another station"] == 1


def test_without_a_wire_the_tables_say_so(h: Any) -> None:
    assert h.control("tables", {})["nic0"]["wire"] is None
