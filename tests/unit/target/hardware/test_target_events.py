"""Upload requests, backlog events, pause, resume, upload all."""

from __future__ import annotations

from typing import Any

import pytest

from ndisbus.ddi.status import NdisStatus
from ndisbus.ddi.tcp_enums import (
    MANDATORY_UPLOAD_REASONS,
    OPTIONAL_UPLOAD_REASONS,
    TcpOffloadConnectionState,
    TcpOffloadEventType,
    TcpUploadReason,
)
from ndisbus.errors import LocalProtocolError
from target import TargetConfig

RETRIEVE = TcpOffloadEventType.TcpIndicateRetrieve
BACKLOG = TcpOffloadEventType.TcpIndicateSendBacklogChange
S = "SUCCESS"


def statuses(h: Any) -> list[str]:
    return [NdisStatus(p[1]["StatusCode"]).name for p in h.take("NdisMIndicateStatusEx")]


@pytest.mark.parametrize(
    "reason", sorted(OPTIONAL_UPLOAD_REASONS | MANDATORY_UPLOAD_REASONS - {TcpUploadReason.HardwareFailure})
)
def test_r_evt_01_retrieve_carries_the_reason(h: Any, reason: TcpUploadReason) -> None:
    """R-EVT-01, R-EVT-02, R-EVT-03, R-HND-06: one event per connection, with the handle saved for it."""
    _n, _p, ts = h.stack(2)
    assert h.control("indicate", {"reason": reason.name}) == {"raised": 2, "not_allowed": 0}
    assert h.events() == [(t.handle.address, RETRIEVE, reason) for t in ts]


@pytest.mark.parametrize("reason", sorted(OPTIONAL_UPLOAD_REASONS | MANDATORY_UPLOAD_REASONS))
def test_r_evt_05_and_06_what_becomes_of_the_connection(h: Any, reason: TcpUploadReason) -> None:
    """R-EVT-05, R-EVT-06: after a mandatory reason it is not served any more, after another it carries on."""
    _n, _p, (t,) = h.stack(1)
    h.control("indicate", {"reason": int(reason), "connection": t.context})
    h.post("send", t, nbl := h.nbl(b"x"))
    done = h.completions()
    if reason in OPTIONAL_UPLOAD_REASONS:
        assert done == []
        assert h.statuses("query", [t]) == [S]
    else:
        expected = "REQUEST_ABORTED" if reason == TcpUploadReason.HardwareFailure else "UPLOAD_IN_PROGRESS"
        assert done == [(nbl.address, expected)]


def test_r_evt_07_hardware_failure_is_one(h: Any) -> None:
    """R-EVT-07: the reason HardwareFailure comes with corrupt state: an abort follows, a query fails."""
    _n, _p, (t,) = h.stack(1)
    h.control("indicate", {"reason": "HardwareFailure"})
    assert [e[1:] for e in h.events()] == [(RETRIEVE, TcpUploadReason.HardwareFailure), (4, 0)]
    assert h.statuses("query", [t]) == ["FAILURE"]


@pytest.mark.parametrize("state", [s for s in TcpOffloadConnectionState if s in (4, 5, 6, 7, 8, 9)])
@pytest.mark.parametrize(
    "reason", sorted(OPTIONAL_UPLOAD_REASONS | MANDATORY_UPLOAD_REASONS - {TcpUploadReason.HardwareFailure})
)
def test_r_evt_14_half_closed_connections_are_not_given_up_voluntarily(
    h: Any, state: TcpOffloadConnectionState, reason: TcpUploadReason
) -> None:
    """R-EVT-14, R-DIS-14: FIN_WAIT_1, FIN_WAIT_2 and CLOSE_WAIT, for voluntary reasons only."""
    _n, _p, (_t,) = h.stack(1, state=state)
    banned = state in (5, 6, 7) and reason in OPTIONAL_UPLOAD_REASONS
    assert h.control("indicate", {"reason": reason.name}) == {
        "raised": int(not banned),
        "not_allowed": int(banned),
    }
    assert len(h.events()) == int(not banned)


def test_r_term_20_an_upload_request_may_be_repeated(h: Any) -> None:
    """R-TERM-20."""
    h.stack(1)
    for _ in range(3):
        h.control("indicate", {"reason": "UploadRequested"})
    assert len(h.events()) == 3


def test_no_event_for_a_connection_that_is_being_terminated(h: Any) -> None:
    _n, _p, (t,) = h.stack(1)
    h.control("latency", {"seconds": 1})
    h.request("terminate", [t])
    assert h.control("indicate", {}) == {"raised": 0, "not_allowed": 0}


# -- backlog -----------------------------------------------------------------------------------


def test_r_evt_15_small_and_frequent_backlog_changes_raise_nothing(make: Any) -> None:
    """R-EVT-15, R-EVT-01: a step too small, then a change, then one too soon, which is told when time is
    over.
    """
    h = make(TargetConfig(send_backlog=10_000, backlog_step=1000, backlog_interval=2.0))
    _n, _p, (t,) = h.stack(1)

    def set_to(size: int) -> int:
        raised: int = h.control("backlog", {"size": size})["raised"]
        return raised

    assert set_to(10_999) == 0
    assert set_to(11_000) == 1
    assert h.events() == [(t.handle.address, BACKLOG, 11_000)]
    h.advance(1.0)
    assert set_to(20_000) == 0
    assert set_to(30_000) == 0
    assert h.events() == []
    h.advance(1.0)
    assert h.events() == [(t.handle.address, BACKLOG, 30_000)]
    h.advance(10.0)
    assert h.events() == []
    assert h.statuses("query", [t]) == [S]
    assert t.structures()[2].send_backlog_size == 30_000


def test_a_backlog_that_went_back_meanwhile_is_not_told(make: Any) -> None:
    """R-EVT-15."""
    h = make(TargetConfig(send_backlog=10_000, backlog_step=1000, backlog_interval=2.0))
    h.stack(1)
    for size in (20_000, 40_000, 20_500):
        h.control("backlog", {"size": size})
    assert len(h.events()) == 1
    h.advance(2.0)
    assert h.events() == []


def test_r_state_13_without_the_feature_there_is_nothing_to_tell(make: Any) -> None:
    """R-STATE-13."""
    h = make(TargetConfig(send_backlog=None))
    h.stack(1)
    with pytest.raises(LocalProtocolError, match="send backlog feature") as e:
        h.control("backlog", {"size": 1})
    assert e.value.rule == "R-STATE-13"


# -- pause, resume, upload all -----------------------------------------------------------------


def test_r_pause_02_initiates_on_their_way_are_queued(h: Any) -> None:
    """R-PAUSE-01, R-PAUSE-02, R-PAUSE-05: nothing is taken over until a resume; then in their order."""
    _n, p, (t,) = h.stack(1)
    h.control("pause", {})
    assert statuses(h) == ["OFFLOAD_PAUSE"]
    t1, t2 = h.tcp(), h.tcp()
    first, second = h.request("initiate", [(p, [t1])]), h.request("initiate", [(p, [t2])])
    assert h.inspect()["queued_initiates"] == 2
    assert h.inspect()["tcp"] == 1
    h.advance(1000)
    assert h.done(first) is None
    # What is offloaded goes on as before.
    h.post("send", t, h.nbl(b"x"))
    assert h.completions() == []
    assert h.statuses("query", [t]) == [S]
    h.control("resume", {})
    assert [c[0] for c in h.calls] == ["NdisMIndicateStatusEx", *["NdisMInitiateOffloadComplete"] * 2]
    assert [s.name for s in h.done(first).status + h.done(second).status] == [S] * 4
    assert t1.context < t2.context


def test_r_oid_11_a_resume_carries_the_new_report(h: Any) -> None:
    """R-OID-11: capabilities change with a resume only, and what is lost is not enabled any
    more.
    """
    n, _, _ = h.stack(0)
    h.control("pause", {})
    [(_, pause)] = h.take("NdisMIndicateStatusEx")
    assert pause["StatusBuffer"] is None
    h.control("resume", {"tcp_entries": 5, "support_ipv6": False})
    [(handle, resume)] = h.take("NdisMIndicateStatusEx")
    assert handle == h.adapter.handle
    told = resume["StatusBuffer"]
    assert (told["TcpConnectionOffloadCapacity"], told["SupportIPv6"], told["SupportIPv4"]) == (5, 0, 1)
    assert h.statuses("initiate", [(n, [h.path(src=bytes(16), dst=bytes(16))])]) == ["FAILURE"] * 2
    h.control("pause", {})
    with pytest.raises(LocalProtocolError, match="unknown capability latency"):
        h.control("resume", {"latency": 1})


def test_r_pause_03_sends_after_upload_all_go_back(h: Any) -> None:
    """R-PAUSE-03: UPLOAD_IN_PROGRESS, not PAUSED; initiates still arriving are queued."""
    n, p, (t,) = h.stack(1)
    h.control("upload_all", {})
    assert statuses(h) == ["UPLOAD_ALL"]
    nbl = h.nbl(b"x")
    h.post("send", t, nbl)
    assert h.completions() == [(nbl.address, "UPLOAD_IN_PROGRESS")]
    h.request("initiate", [h.neighbor()])
    assert h.inspect()["queued_initiates"] == 1
    assert h.statuses("terminate", [(n, [(p, [t])])]) == [S] * 3


def test_r_pause_07_resume_follows_when_everything_is_uploaded(h: Any) -> None:
    """R-PAUSE-07: after the last path and neighbor, not before."""
    n, p, (t,) = h.stack(1)
    h.control("upload_all", {"resume": True})
    h.run("terminate", [t])
    assert statuses(h) == ["UPLOAD_ALL"]
    h.run("terminate", [(n, [p])])
    assert statuses(h) == ["OFFLOAD_RESUME"]
    assert not h.adapter.paused
    h.stack(1)


def test_a_resume_by_hand_comes_first(h: Any) -> None:
    n, p, (t,) = h.stack(1)
    h.control("upload_all", {"resume": True})
    h.control("resume", {})
    assert statuses(h) == ["UPLOAD_ALL", "OFFLOAD_RESUME"]
    h.run("terminate", [(n, [(p, [t])])])
    assert statuses(h) == []


def test_pausing_twice_and_resuming_without_a_pause_are_refused(h: Any) -> None:
    with pytest.raises(LocalProtocolError, match="not paused"):
        h.control("resume", {})
    h.control("pause", {})
    with pytest.raises(LocalProtocolError, match="already paused"):
        h.control("pause", {})
