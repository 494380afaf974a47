"""Whatever bytes come in, the sender is told and the bus goes on."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import msgpack
import pytest
import zmq

from ndisbus.ddi.calls import CALLS
from ndisbus.messages.codec import MAX_MESSAGES, PROTOCOL_VERSION, decode_packet, encode_packet

if TYPE_CHECKING:
    from tests.process.conftest import Bus

pytestmark = pytest.mark.process

DEADLINE_MS = 20_000


class Client:
    """A bare DEALER: says what it likes."""

    def __init__(self, endpoint: str) -> None:
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.socket = self.context.socket(zmq.DEALER)
        self.socket.linger = 0
        self.socket.connect(endpoint)

    def say(self, *frames: bytes) -> None:
        self.socket.send_multipart(frames)

    def answers(self) -> list[Any]:
        """The messages of the next packet, without what the bus asks of its own accord."""
        while True:
            assert self.socket.poll(DEADLINE_MS), "no answer"
            said = [m for m, _ in decode_packet(self.socket.recv_multipart())]
            if wanted := [m for m in said if m[0] not in ("ping", "inspect")]:
                return wanted

    def refusal(self) -> dict[str, Any]:
        [[name, _, [refused]]] = self.answers()
        assert name == "refused"
        return dict(refused)


@pytest.fixture
def client(bus: Bus) -> Iterator[Client]:
    c = Client(bus.endpoint)
    yield c
    c.context.destroy(linger=0)


def hello(client: Client, name: str) -> dict[str, Any]:
    client.say(encode_packet([["hello", 1, [PROTOCOL_VERSION, {"Name": name, "Pid": os.getpid()}]]]))
    [[said, call_id, [info]]] = client.answers()
    assert (said, call_id) == ("ready", 1)
    return dict(info)


BAD = {
    "empty": b"",
    "not msgpack": b"\xc1",
    "truncated": encode_packet([["hello", 1, [PROTOCOL_VERSION, {"Name": "x" * 40}]]])[:-10],
    "trailing": encode_packet([["hello", 1, []]]) + b"\x01",
    "a number": msgpack.packb(7),
    "no messages": msgpack.packb([]),
    "a message that is a map": msgpack.packb([{"hello": 1}]),
    "name is a number": msgpack.packb([[1, None, []]]),
    "call id is a string": msgpack.packb([["hello", "1", []]]),
    "too many parameters": msgpack.packb([["hello", 1, [0] * 9]]),
    "claims payload": msgpack.packb([["hello", 1, [], 3]]),
    "array of 4 billion": b"\xdd\xff\xff\xff\xff",
    "bin of 4 GiB": b"\x91\xc6\xff\xff\xff\xff",
    "deep": b"\x91" * 5000 + b"\x90",
    "too many messages": msgpack.packb([["x", None, []]] * (MAX_MESSAGES + 1)),
}


@pytest.mark.parametrize("packet", BAD.values(), ids=BAD.keys())
def test_undecodable_packet_is_refused_with_a_reason(bus: Bus, client: Client, packet: bytes) -> None:
    client.say(packet)
    said = client.refusal()
    assert said["Call"] == "packet"
    assert len(said["Reason"]) > 10
    # The same connection is served as if nothing had happened.
    client.say(encode_packet([["control", 5, ["fault.list", {}]]]))
    assert client.answers() == [["return", 5, [0, {"Faults": []}]]]


def test_unclaimed_payload_is_refused(bus: Bus, client: Client) -> None:
    client.say(encode_packet([["control", 5, ["fault.list", {}]]]), b"payload", b"more")
    assert "2 payload frames that no message claims" in client.refusal()["Reason"]


def test_call_before_hello_is_refused(bus: Bus, client: Client) -> None:
    client.say(encode_packet([["NdisMRegisterMiniportDriver", 3, [None, {"Adapters": ["nic0"]}]]]))
    assert client.refusal() == {"Call": "NdisMRegisterMiniportDriver", "Reason": "say hello first"}
    assert bus.ps()["Adapters"] == []


def test_garbage_of_one_client_does_not_disturb_another(bus: Bus, client: Client) -> None:
    hello(client, "good")
    noise = random.Random(20)
    other = Client(bus.endpoint)
    try:
        for _ in range(300):
            other.say(*(noise.randbytes(noise.randrange(60)) for _ in range(noise.randrange(1, 4))))
        refused = 0
        while refused < 300:
            answers = other.answers()
            assert {m[0] for m in answers} == {"refused"}
            refused += len(answers)
    finally:
        other.context.destroy(linger=0)
    survey = bus.ps()
    assert [p["Name"] for p in survey["Processes"]] == ["good"]
    assert survey["Refused"] >= 300
    assert survey["BugChecks"] == []


def test_registered_driver_with_a_garbled_packet_is_told(bus: Bus, client: Client) -> None:
    hello(client, "sloppy")
    client.say(b"\xc1")
    assert client.refusal()["Call"] == "packet"
    assert bus.driver("sloppy") is not None


def test_mutated_calls_never_stop_the_bus(bus: Bus) -> None:
    """Well-formed packets with nonsense inside: at worst a bug check of the sender."""
    noise = random.Random(21)
    calls = [name for name, call in CALLS.items() if call.from_driver]
    calls += ["return", "ping", "goodbye", "inspect", "closed", "MiniportInitiateOffload"]
    values: list[Any] = [None, 0, -1, 1 << 63, 1.5, True, "", "x", b"", [], {}, {"Header": {}}, {"b": [1]}]
    values += [[None], {"Name": 1}, {"b": 1, "t": "x"}, {"Header": {"Type": [1]}}, {"Adapters": ["a"]}]
    for i in range(150):
        client = Client(bus.endpoint)
        try:
            hello(client, f"noise{i}")
            for _ in range(5):
                name = noise.choice(calls)
                number = (
                    len(CALLS[name].params) if name in CALLS and noise.random() < 0.8 else noise.randrange(6)
                )
                args = [noise.choice(values) for _ in range(number)]
                client.say(encode_packet([[name, noise.choice([None, 1, 7]), args]]))
            client.say(encode_packet([["control", 99, ["fault.list", {}]]]))
            while not any(m[1] == 99 for m in client.answers()):
                pass
        finally:
            client.context.destroy(linger=0)
    assert bus.answers()


def test_oversized_frame_costs_its_sender_the_connection_only(bus: Bus, client: Client) -> None:
    """Beyond the limit of a frame ZeroMQ drops the connection before anything is stored."""
    hello(client, "good")
    greedy = Client(bus.endpoint)
    monitor = greedy.socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
    try:
        greedy.say(bytes(80 * 1024 * 1024))
        assert monitor.poll(DEADLINE_MS), "the connection was not dropped"
    finally:
        greedy.socket.disable_monitor()
        monitor.close(linger=0)
        greedy.context.destroy(linger=0)
    assert bus.driver("good") is not None


def test_packet_over_the_codec_limit_is_refused(bus: Bus, client: Client) -> None:
    client.say(encode_packet([["control", 5, ["fault.list", {}], 2]]), bytes(40 << 20), bytes(40 << 20))
    assert "at most" in client.refusal()["Reason"]


def test_second_driver_of_a_name_is_refused_and_the_first_stays(bus: Bus, client: Client) -> None:
    hello(client, "twin")
    other = Client(bus.endpoint)
    try:
        other.say(encode_packet([["hello", 4, [PROTOCOL_VERSION, {"Name": "twin", "Pid": 1}]]]))
        # The bus asks the first one whether it is still there before it says no.
        assert "is here already" in other.refusal()["Reason"]
    finally:
        other.context.destroy(linger=0)
    first = bus.driver("twin")
    assert first is not None and first["Pid"] == os.getpid()


def test_name_is_free_again_when_its_connection_is_gone(bus: Bus, client: Client) -> None:
    """The process lives on, so only the connection tells: the bus finds out when it is asked for the name."""
    first = Client(bus.endpoint)
    epoch = hello(first, "phoenix")["Epoch"]
    monitor = first.socket.get_monitor_socket(zmq.EVENT_CLOSED)
    first.socket.close(linger=0)
    monitor.close(linger=0)
    first.context.destroy(linger=0)
    said: Any = None
    for _ in range(100):
        client.say(encode_packet([["hello", 1, [PROTOCOL_VERSION, {"Name": "phoenix", "Pid": os.getpid()}]]]))
        [[name, _, [said]]] = client.answers()
        if name == "ready":
            break
    else:
        pytest.fail(f"still refused: {said}")
    assert said["Epoch"] > epoch
