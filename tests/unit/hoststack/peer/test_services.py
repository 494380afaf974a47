"""The services of a remote host: any split of the input gives the same output."""

from __future__ import annotations

import hashlib
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hoststack.peer import services
from hoststack.peer.services import (
    BACKLOG,
    SERVICES,
    Chargen,
    Discard,
    Echo,
    Exchange,
    Http,
    Service,
    frame,
    pattern,
)


def drain(service: Service, room: int = 1 << 16) -> bytes:
    out = bytearray()
    while data := service.produce(room):
        assert len(data) <= room
        out += data
    return bytes(out)


def talk(service: Service, request: bytes, cuts: list[int] | None = None) -> bytes:
    edges = [0, *sorted(c % (len(request) + 1) for c in cuts or ()), len(request)]
    out = bytearray()
    for a, b in pairwise(edges):
        if b > a:
            service.receive(request[a:b])
        out += drain(service)
    return bytes(out)


@given(st.binary(max_size=2000), st.lists(st.integers(0, 2000), max_size=5))
def test_echo_gives_back_every_byte_in_order(data: bytes, cuts: list[int]) -> None:
    assert talk(Echo(), data, cuts) == data


def test_echo_takes_no_more_while_the_client_does_not_read() -> None:
    echo = Echo()
    echo.receive(bytes(BACKLOG - 1))
    full = [echo.full]
    echo.receive(b"x")
    full.append(echo.full)
    echo.produce(1)
    assert [*full, echo.full] == [False, True, False]
    echo.ended()
    assert echo.finished
    assert len(drain(echo)) == BACKLOG - 1


def test_discard_says_nothing() -> None:
    discard = Discard()
    discard.receive(b"anything")
    assert discard.produce(10) == b""
    assert not discard.finished


@given(st.lists(st.integers(1, 9000), min_size=1, max_size=6))
def test_chargen_is_one_endless_stream_however_it_is_taken(sizes: list[int]) -> None:
    chargen = Chargen()
    got = b"".join(chargen.produce(n) for n in sizes)
    lines = got.split(b"\r\n")
    assert all(len(line) == 72 for line in lines[:-1])
    for one, following in pairwise(lines[:-1]):
        assert one[1:] == following[:-1]
    chargen.ended()
    assert chargen.produce(10) == b""


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=4), st.lists(st.integers(0, 2000), max_size=6))
def test_an_exchange_answers_each_message_reversed(messages: list[bytes], cuts: list[int]) -> None:
    server, client = Exchange(), Exchange(answer=False)
    answers = talk(server, b"".join(map(frame, messages)), cuts)
    client.receive(answers)
    assert (server.messages, client.messages, client.error) == (len(messages), len(messages), "")
    assert client.last == messages[-1][::-1]


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda m: b"YCHG" + m[4:], "begins with"),
        (lambda m: m[:-1] + b"!", "SHA-256"),
        (lambda m: m[:4] + b"\xff" * 8 + m[12:], "longer than"),
    ],
)
def test_a_damaged_message_ends_an_exchange_with_a_reason(damage, reason) -> None:  # type: ignore[no-untyped-def]
    server = Exchange()
    server.receive(damage(frame(b"hello")))
    assert reason in server.error
    assert server.finished
    assert server.messages == 0


def body_of(response: bytes) -> bytes:
    return response.partition(b"\r\n\r\n")[2]


@given(st.lists(st.integers(0, 500), max_size=6))
def test_http_answers_pipelined_requests_in_their_order(cuts: list[int]) -> None:
    request = (
        b"GET /bytes/300 HTTP/1.1\r\nHost: a\r\n\r\n"
        b"POST /sha256 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
        b"GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n"
    )
    response = talk(Http(), request, cuts)
    assert pattern(0, 300) in response
    assert hashlib.sha256(b"hello").hexdigest().encode() in response
    assert response.index(pattern(0, 300)) < response.index(b"2cf24dba") < response.index(b"404")


def test_a_thousand_pipelined_requests_are_no_recursion() -> None:
    response = talk(Http(), b"GET /bytes/1 HTTP/1.1\r\nHost: a\r\n\r\n" * 1500)
    assert response.count(b"HTTP/1.1 200") == 1500


def test_a_long_body_is_made_as_it_is_taken() -> None:
    http = Http()
    http.receive(b"GET /bytes/1000000 HTTP/1.1\r\nHost: a\r\n\r\n")
    full = http.full
    got = drain(http, 1000)
    assert body_of(got) == pattern(0, 1_000_000)
    assert (full, http.full) == (True, False)
    assert not http.finished


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"200"),
        (b"HEAD /bytes/70000 HTTP/1.1\r\nHost: a\r\n\r\n", b"200"),
        (b"GET /bytes/x HTTP/1.1\r\nHost: a\r\n\r\n", b"400"),
        (b"DELETE / HTTP/1.1\r\nHost: a\r\n\r\n", b"405"),
        (b"garbage\r\n\r\n", b"400"),
        (b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi", b"200"),
    ],
)
def test_http_statuses(request_: bytes, status: bytes) -> None:
    response = talk(Http(), request_)
    assert response.split(b" ")[1] == status
    if request_.startswith(b"HEAD"):
        assert body_of(response) == b""
    if b"echo" in request_:
        assert body_of(response) == b"hi"


def test_a_number_too_long_to_be_read_is_no_number_and_no_exception() -> None:
    http = Http()
    answer = talk(http, b"GET /bytes/" + b"9" * 5000 + b" HTTP/1.1\r\nhost: x\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert talk(http, b"GET /bytes/3 HTTP/1.1\r\nhost: x\r\n\r\n").endswith(b"\x00\x01\x02")


def test_a_body_to_be_echoed_is_not_kept_without_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "MAX_MESSAGE", 1000)
    http = Http()
    head = b"POST /echo?x HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
    assert talk(http, head + b"3e8\r\n" + bytes(1000) + b"\r\n") == b""
    answer = talk(http, b"1\r\nx\r\n" + b"1\r\nx\r\n")
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert http.finished
    assert talk(http, b"1\r\nx\r\n0\r\n\r\n") == b""
    # Of a body that is not echoed nothing is kept.
    http = Http()
    head = b"POST /sha256 HTTP/1.1\r\nhost: x\r\ncontent-length: 2000\r\n\r\n"
    assert talk(http, head + bytes(2000)).startswith(b"HTTP/1.1 200 ")


def test_http_closes_when_it_is_asked_to_and_when_the_client_has_closed() -> None:
    http = Http()
    talk(http, b"GET /bytes/3 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert http.finished
    half = Http()
    half.receive(b"GET /bytes/100000 HTTP/1.1\r\nHost: a\r\n\r\n")
    half.ended()
    assert not half.finished
    assert body_of(drain(half)) == pattern(0, 100_000)
    assert half.finished


@given(st.binary(max_size=400))
def test_any_bytes_get_an_answer_or_patience_but_no_exception(data: bytes) -> None:
    for make in SERVICES.values():
        service = make()
        service.receive(data)
        service.produce(100)
        service.ended()
        service.produce(100)
