#!/usr/bin/env python3
"""A host stack in one file, written from docs/protocol.md alone: pyzmq and msgpack, nothing of this project.

    python examples/bare_host.py [--endpoint ENDPOINT] [--bind ADAPTER] [--hold SECONDS]

It attaches with bind "auto", enables the chimney, offloads a neighbor, a path and an established connection,
queries them, terminates them, closes its binding and leaves. It prints what it sees. With --hold it keeps the
connection offloaded for a while: kill the target meanwhile, and watch what a host is told.

Exit code 0: everything went as it should. 1: something was refused, failed or went away. 2: something did not
come in time, or the command line is wrong. Numbers in comments are sections of docs/protocol.md.
"""

# ruff: noqa: T201 - printing is what this program is for

from __future__ import annotations

import argparse
import os
import struct
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
import zmq
import zmq.auth

SUCCESS, FAILURE, PENDING = 0, 0xC0000001, 0x103
RECEIVE_FLAGS_RESOURCES = 2
OID_TCP_TASK_OFFLOAD = 0xFC010201
QUERY, SET = 0, 1
CHIMNEY_TASK = 0x100
NEIGHBOR, PATH4, TCP = 4, 8, 17  # OFFLOAD_STATE_TYPE of a whole layer ...
DELEGATED = {NEIGHBOR: 3, PATH4: 7, TCP: 15}  # ... and of its delegated part (7)
EVENTS = {
    1: "TcpIndicateSendBacklogChange",
    2: "TcpIndicateDisconnect",
    3: "TcpIndicateRetrieve",
    4: "TcpIndicateAbort",
}


class Failed(Exception):
    """Something did not go as it should; the program ends with ``code``."""

    def __init__(self, text: str, code: int = 1) -> None:
        super().__init__(text)
        self.code = code


# --- 1: where the bus is -------------------------------------------------------------------------


def default_endpoint() -> str:
    """NDISBUS_ENDPOINT, or the socket in the user's runtime directory."""
    named = os.environ.get("NDISBUS_ENDPOINT")
    if named:
        return named
    directory = os.environ.get("NDISBUS_RUNTIME_DIR")
    if directory:
        return f"ipc://{Path(directory).absolute() / 'bus.sock'}"
    if sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches" / "TemporaryItems"
    else:
        base = Path(os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}")
        if not base.is_dir():
            base = Path(tempfile.gettempdir()) / f"runtime-{os.getuid()}"
    return f"ipc://{base / 'ndisbus' / 'bus.sock'}"


def connect(context: zmq.Context[zmq.Socket[bytes]], endpoint: str) -> zmq.Socket[bytes]:
    """One DEALER socket, with CURVE keys if the endpoint is tcp and keys are named."""
    dealer = context.socket(zmq.DEALER)
    dealer.linger = 500
    keys = os.environ.get("NDISBUS_CURVE_DIR")
    if keys and endpoint.startswith("tcp://"):
        public, secret = zmq.auth.load_certificate(Path(keys) / "client.key_secret")
        bus, _ = zmq.auth.load_certificate(Path(keys) / "bus.key")
        assert secret is not None
        dealer.curve_publickey, dealer.curve_secretkey, dealer.curve_serverkey = public, secret, bus
    try:
        dealer.connect(endpoint)
    except zmq.ZMQError as error:
        dealer.close()
        hint = "use ipc://PATH or tcp://HOST:PORT"
        raise Failed(f"{endpoint} is not an endpoint: {error}; {hint}", 2) from None
    return dealer


# --- 7: state images -----------------------------------------------------------------------------


def neighbor_state(link_address: bytes) -> bytes:
    """Constant, cached and delegated state of a neighbor; a source address of zeros: the interface's."""
    const = struct.pack("<II32sI", 0x2C, 0, b"", 0)
    cached = struct.pack("<II32sI", 0x2C, 0, link_address, 0)
    return const + cached + struct.pack("<III", 0x0C, 0, 0)


def path_state(source: bytes, destination: bytes, mtu: int) -> bytes:
    """State of an IPv4 path. The two pointers are distances from the start to the addresses behind it."""
    const = struct.pack("<IIQQ", 0x18, 0, 0x18, 0x1C) + source + destination
    return const + struct.pack("<III", 0x0C, 0, mtu) + struct.pack("<II", 0x08, 0)


def tcp_state(local_port: int, remote_port: int, snd: int, rcv: int) -> bytes:
    """State of an established connection on which nothing is under way."""
    window, mss, off = 65535, 1460, 0xFFFFFFFF
    const = struct.pack("<IIHHHBxHxxI", 0x18, 0, 0, remote_port, local_port, 0, mss, 0)
    cached = struct.pack("<IIHxxIIBxxxIIIIBBBx", 0x2C, 0, 0, window, mss, 0, 0, 0, 0, 0, 64, 0, 0)
    numbers = (rcv, window, snd, snd, snd, window, window, rcv, 10 * mss, window)
    delegated = struct.pack("<IIIHxx10I", 0x78, 0, 4, 0, *numbers)  # 4: TcpConnectionEstablished
    delegated += struct.pack("<HHIIIIBBxxBxxxIBxxxIQQQ", 0, 0, 0, 0, 0, 0, 0, 0, 0, off, 0, off, 0, 0, 0)
    return const + cached + delegated


def sequence_numbers(delegated: bytes) -> dict[str, int]:
    """What this program looks at of a TCP_OFFLOAD_STATE_DELEGATED."""
    state, _, rcv_nxt, _, snd_una, snd_nxt = struct.unpack_from("<IIIIII", delegated, 8)
    return {"State": state, "RcvNxt": rcv_nxt, "SndUna": snd_una, "SndNxt": snd_nxt}


class Object:
    """A neighbor, path or connection: its NDIS_OFFLOAD_HANDLE, the cell behind that, the content (6)."""

    def __init__(self, name: str, type_: int, state: bytes, address: int) -> None:
        self.name, self.type, self.state = name, type_, state
        self.handle, self.cell = address, address + 0x10
        self.context: int | None = None


# --- the driver ------------------------------------------------------------------------------------


class Host:
    """A protocol driver. Calls go out by :meth:`call` and :meth:`send`; ``handlers`` take what comes in."""

    def __init__(self, dealer: zmq.Socket[bytes], name: str, seconds: float) -> None:
        self.dealer, self.name, self.seconds = dealer, name, seconds
        self.inbox: deque[list[Any]] = deque()  # messages of a packet that were not handled yet
        self.answers: dict[int, list[Any]] = {}
        self.next_call = 0
        self.next_address = 0
        self.protocol: int | None = None
        self.binding: int | None = None
        self.adapter = ""
        self.closed = False
        self.objects: list[Object] = []
        self.sent: dict[int, list[Object]] = {}  # root of a list in flight -> what its blocks name
        self.completed: dict[int, dict[str, Any]] = {}
        self.oid_answers: dict[int, tuple[int, str, Any]] = {}
        self.handlers: dict[str, Callable[[int | None, list[Any]], None]] = {
            "return": lambda call_id, values: self.answers.__setitem__(call_id or 0, values),
            "ready": lambda call_id, values: self.answers.__setitem__(call_id or 0, values),
            "refused": self.refused,
            "closed": self.on_closed,
            "ping": lambda call_id, _: self.answer(call_id, SUCCESS),
            "inspect": lambda call_id, _: self.answer(call_id, SUCCESS, self.counters()),
            "control": lambda call_id, _: self.answer(call_id, FAILURE, "this host knows no commands"),
            "ProtocolSetOptions": self.set_options,
            "ProtocolBindAdapterEx": self.bind,
            "ProtocolUnbindAdapterEx": self.unbind,
            "ProtocolCloseAdapterCompleteEx": self.close_complete,
            "ProtocolNetPnPEvent": lambda call_id, _: self.answer(call_id, 0xC00000BB),
            "ProtocolStatusEx": lambda _, p: print(f"status indication {p[1]['StatusCode']:#x}"),
            "ProtocolOidRequestComplete": self.oid_complete,
            "ProtocolTcpOffloadEvent": self.event,
            # Nothing was posted and no peer exists; should data come all the same, it is not taken.
            "ProtocolTcpOffloadReceiveIndicate": lambda call_id, _: self.answer(call_id, 0xC023100E, 0),
            "ProtocolIndicateOffloadEvent": lambda call_id, p: self.answer(call_id, None, p[1]),
            "ProtocolReceiveNetBufferLists": self.frames_received,
            "ProtocolInitiateOffloadComplete": self.list_complete,
            "ProtocolQueryOffloadComplete": self.list_complete,
            "ProtocolTerminateOffloadComplete": self.list_complete,
        }

    # 2: packets and messages

    def send(self, name: str, call_id: int | None, params: list[Any]) -> None:
        """One message in a packet of its own."""
        self.dealer.send(msgpack.packb([[name, call_id, params]]))

    def answer(self, call_id: int | None, *values: Any) -> None:
        """Answer a call of NDIS's."""
        self.send("return", call_id, list(values))

    def call(self, name: str, *params: Any) -> list[Any]:
        """Call a function that answers, and wait for the answer. Raises Failed unless it is a success."""
        self.next_call += 1
        call_id = self.next_call
        self.send(name, call_id, list(params))
        self.wait(lambda: call_id in self.answers, f"an answer to {name}")
        values = self.answers.pop(call_id)
        if name != "hello" and values[0] != SUCCESS:
            raise Failed(f"{name} was answered with {values[0]:#x}")
        return values

    def wait(self, done: Callable[[], bool], what: str) -> None:
        """Handle messages until ``done``. Failed, with code 2, if that takes too long."""
        end = time.monotonic() + self.seconds
        while not done():
            left = end - time.monotonic()
            if left <= 0:
                raise Failed(f"waited {self.seconds:g} s for {what}", 2)
            self.handle_message(left)

    def handle_message(self, seconds: float) -> None:
        """Handle one message, of the packet at hand or of the next that comes within so many seconds.

        Only one: an answer and a call that builds on it may share a packet, and who waits goes first.
        """
        if not self.inbox:
            if not self.dealer.poll(max(1, round(seconds * 1000))):
                return
            head, *_payload = self.dealer.recv_multipart()
            self.inbox.extend(msgpack.unpackb(head))
        name, call_id, params, *_frames = self.inbox.popleft()
        handler = self.handlers.get(name)
        if handler is None:
            raise Failed(f"NDIS called {name}, which this host does not expect")
        handler(call_id, params)

    def allocate(self, size: int) -> int:
        """An address of our own (3): never used twice."""
        address = self.next_address
        self.next_address += size
        return address

    # 4: being let in, and leaving

    def hello(self) -> None:
        """Ask to be let in; from then on pointers can be made."""
        (ready,) = self.call("hello", 2, {"Name": self.name, "Pid": os.getpid()})
        self.next_address = (ready["AddressSpace"] << 40) + 0x10
        print(f"{self.name}: let in, address space {ready['AddressSpace']}, epoch {ready['Epoch']}")

    def refused(self, call_id: int | None, params: list[Any]) -> None:
        """NDIS did not accept something we sent."""
        raise Failed(f"{params[0]['Call']} was refused: {params[0]['Reason']}")

    def on_closed(self, call_id: int | None, params: list[Any]) -> None:
        """Our epoch has ended: expected after goodbye, bad news at any other time."""
        self.closed = True
        print(f"epoch {params[0]['Epoch']} closed: {params[0]['Reason']}")
        if params[0]["Reason"] != "left":
            raise Failed("NDIS cut this host off")

    def counters(self) -> dict[str, Any]:
        """For ``ndisbus ps``."""
        return {"Counters": {"objects": len(self.objects)}, "Sent": len(self.sent)}

    def leave(self) -> None:
        """Close the binding, if there is one, and say goodbye."""
        if self.binding is not None:
            self.call("NdisCloseAdapterEx", self.binding)
            self.wait(lambda: self.binding is None, "ProtocolCloseAdapterCompleteEx")
        self.send("goodbye", None, [])
        self.wait(lambda: self.closed, "the end of the epoch")

    # 11: registration and binding

    def register(self, adapter: str) -> None:
        """Register the protocol edge; with "auto" NDIS chooses the adapter."""
        path = {"Name": self.name, "Bind": adapter if adapter == "auto" else [adapter]}
        _, self.protocol = self.call("NdisRegisterProtocolDriver", self.allocate(0x10), path)
        self.wait(
            lambda: self.binding is not None, "an adapter (are a target and an intermediate driver there?)"
        )

    def set_options(self, call_id: int | None, params: list[Any]) -> None:
        """Register the entry points of the chimney (9): five completions and an indication, six of TCP."""
        generic: dict[str, Any] = {"Header": {"Type": 0x8E, "Revision": 1, "Size": 0x38}, "Flags": 0}
        for op in ("Initiate", "Terminate", "Update", "Invalidate", "Query"):
            generic[f"{op}OffloadCompleteHandler"] = f"Protocol{op}OffloadComplete"
        generic["IndicateOffloadEventHandler"] = "ProtocolIndicateOffloadEvent"
        tcp: dict[str, Any] = {"Header": {"Type": 0x93, "Revision": 1, "Size": 0x40}, "Flags": 0}
        tcp["OffloadType"] = 1
        for op in ("Send", "Receive", "Disconnect", "Forward"):
            tcp[f"TcpOffload{op}CompleteHandler"] = f"ProtocolTcpOffload{op}Complete"
        tcp["TcpOffloadEventHandler"] = "ProtocolTcpOffloadEvent"
        tcp["TcpOffloadReceiveIndicateHandler"] = "ProtocolTcpOffloadReceiveIndicate"
        for characteristics in (generic, tcp):
            self.call("NdisSetOptionalHandlers", params[0], characteristics)
        self.answer(call_id, SUCCESS)

    def bind(self, call_id: int | None, params: list[Any]) -> None:
        """NDIS offers an adapter: open it, if it is the first and has a chimney."""
        self.adapter = params[2]["AdapterName"]
        capabilities = params[2]["TcpConnectionOffloadCapabilities"]
        if self.binding is not None or capabilities is None:
            print(f"{self.adapter}: not wanted, it has no chimney")
            self.answer(call_id, FAILURE)
            return
        context = self.allocate(0x10)
        _, self.binding = self.call(
            "NdisOpenAdapterEx", self.protocol, context, {"AdapterName": self.adapter}
        )
        self.answer(call_id, SUCCESS)
        print(f"{self.adapter}: bound, room for {capabilities['TcpConnectionOffloadCapacity']} connections")

    def unbind(self, call_id: int | None, params: list[Any]) -> None:
        """The adapter goes. Whatever is left there NDIS terminates, or has lost."""
        print(f"{self.adapter}: NDIS asks to unbind")
        self.call("NdisCloseAdapterEx", self.binding)
        self.answer(call_id, SUCCESS)

    def close_complete(self, call_id: int | None, params: list[Any]) -> None:
        """The binding is gone, and with it everything that was offloaded through it."""
        self.binding = None
        self.objects.clear()
        print(f"{self.adapter}: closed")

    # 10: OIDs

    def oid(self, request_type: int, oid: int, buffer: Any) -> Any:
        """Make an OID request; return its InformationBuffer. Raises Failed with NDIS's reason otherwise."""
        request_id = self.allocate(0x10)
        request = {
            "RequestType": request_type,
            "Oid": oid,
            "InformationBuffer": buffer,
            "RequestId": request_id,
        }
        self.send("NdisOidRequest", None, [self.bound(), request])
        self.wait(lambda: request_id in self.oid_answers, f"the completion of OID {oid:#x}")
        status, reason, answer = self.oid_answers.pop(request_id)
        if status != SUCCESS:
            raise Failed(f"OID {oid:#x} completed with {status:#x} {reason}")
        return answer

    def oid_complete(self, call_id: int | None, params: list[Any]) -> None:
        """Note down what the request came to."""
        _, request, status, reason = params
        self.oid_answers[request["RequestId"]] = (status, reason, request["InformationBuffer"])

    def enable_chimney(self) -> None:
        """See what there is, and enable all of it."""
        offered = self.oid(QUERY, OID_TCP_TASK_OFFLOAD, None)
        tasks = [t for t in offered["Tasks"] if t["Task"] == CHIMNEY_TASK]
        if not tasks:
            raise Failed(f"{self.adapter} offers no chimney")
        task = {**tasks[0], "OffsetNextTask": 0}
        self.oid(SET, OID_TCP_TASK_OFFLOAD, {**offered, "OffsetFirstTask": 28, "Tasks": [task]})
        print(f"{self.adapter}: chimney enabled")

    # 6 and 12: block lists and requests

    def bound(self) -> int:
        """The NdisBindingHandle. Failed if the adapter went away."""
        if self.binding is None:
            raise Failed(f"{self.adapter} is gone")
        return self.binding

    def request(self, name: str, types: list[int], states: list[bytes] | None = None) -> dict[str, Any]:
        """Pass down neighbor, path and connection as one tree, each the dependent of the one before; wait."""
        binding, objects, n = self.bound(), self.objects, len(self.objects)
        blocks = [self.allocate(0xA0) for _ in objects]
        columns: dict[str, Any] = {
            "Block": blocks,
            "Type": types,
            "Revision": 1,
            "Size": 0x98,
            "DependentBlockList": [*blocks[1:], None],
            "OffloadHandle": [o.handle for o in objects],
            "OffloadHandle->MiniportOffloadContext": [o.cell for o in objects],
            "*MiniportOffloadContext": [o.context for o in objects],
        }
        if states is not None:
            columns["State"] = states
        self.sent[blocks[0]] = list(objects)
        self.send(name, None, [binding, columns])
        self.wait(lambda: blocks[0] in self.completed, f"the completion of {name}")
        done = self.completed.pop(blocks[0])
        status = done["Status"] if isinstance(done["Status"], list) else [done["Status"]] * n
        for o, s in zip(self.sent.pop(blocks[0]), status, strict=True):
            print(f"{name}: {o.name} {'SUCCESS' if s == SUCCESS else f'{s:#x}'}")
        if any(s != SUCCESS for s in status):
            raise Failed(f"{name} did not succeed")
        return done

    def list_complete(self, call_id: int | None, params: list[Any]) -> None:
        """A list is ours again; its root tells which. What was stored in our cells is applied at once."""
        columns = params[1]
        root = columns["Block"][0]
        if root not in self.sent:
            raise Failed(f"a list came back that was not passed down: {root:#x}")
        contexts = columns.get("*MiniportOffloadContext")
        if contexts is not None:
            if not isinstance(contexts, list):
                contexts = [contexts] * len(self.sent[root])
            for o, context in zip(self.sent[root], contexts, strict=True):
                if context is not None:
                    o.context = context
        self.completed[root] = columns

    def event(self, call_id: int | None, params: list[Any]) -> None:
        """Something happened to an offloaded connection."""
        handle, event, information = params
        name = next((o.name for o in self.objects if o.handle == handle), f"{handle:#x}")
        print(f"event: {name}: {EVENTS.get(event, event)} {information}")

    def frames_received(self, call_id: int | None, params: list[Any]) -> None:
        """Frames beside the chimney: this host has no use for them, so their lists go back (section 12)."""
        lists, flags = params[1], params[4]
        if not flags & RECEIVE_FLAGS_RESOURCES and self.binding is not None:
            home = {k: lists[k] for k in ("NetBufferList", "SourceHandle")}
            self.send("NdisReturnNetBufferLists", None, [self.binding, home, 0])


# --- the conversation ------------------------------------------------------------------------------


def converse(host: Host, adapter: str, hold: float) -> None:
    """Attach, offload, query, hold, terminate, leave. Raises Failed."""
    host.hello()
    host.register(adapter)
    host.enable_chimney()

    snd, rcv = 1001, 2001
    states = (
        ("neighbor", NEIGHBOR, neighbor_state(bytes.fromhex("020000000002"))),
        ("path", PATH4, path_state(bytes([192, 0, 2, 1]), bytes([192, 0, 2, 2]), 1500)),
        ("connection", TCP, tcp_state(49152, 7, snd, rcv)),
    )
    host.objects = [Object(name, t, state, host.allocate(0x20)) for name, t, state in states]
    host.request("NdisInitiateOffload", [o.type for o in host.objects], [o.state for o in host.objects])
    for o in host.objects:
        if o.context is None:
            raise Failed(f"{o.name}: offloaded, but nothing was stored in its cell")

    images = host.request("NdisQueryOffloadState", [o.type for o in host.objects])["State"]
    if [len(i) for i in images] != [len(o.state) for o in host.objects]:
        raise Failed("the queried state has other sizes than the state that was offloaded")
    print(f"queried: {sequence_numbers(images[2][0x44:])}")

    end = time.monotonic() + hold
    while host.binding is not None and (left := end - time.monotonic()) > 0:
        host.handle_message(left)

    images = host.request("NdisTerminateOffload", [DELEGATED[o.type] for o in host.objects])["State"]
    numbers = sequence_numbers(images[2])
    print(f"uploaded: {numbers}")
    if (numbers["SndUna"], numbers["RcvNxt"]) != (snd, rcv):
        raise Failed("the connection came back with other sequence numbers, although nothing was sent")
    host.objects.clear()
    host.leave()


def main(argv: list[str] | None = None) -> int:
    """Run the program; returns its exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--endpoint", default=None, help="endpoint of the bus (default: as docs/protocol.md says)"
    )
    parser.add_argument("--name", default=f"bare-host-{os.getpid()}", help="name of this driver on the bus")
    parser.add_argument("--bind", default="auto", help="name of an adapter, or auto: one of one's own")
    parser.add_argument("--hold", type=float, default=0.0, help="seconds to stay offloaded")
    parser.add_argument("--deadline", type=float, default=10.0, help="seconds to wait for any one thing")
    options = parser.parse_args(argv)
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    try:
        try:
            dealer = connect(context, options.endpoint or default_endpoint())
        except Failed as failure:
            print(f"failed: {failure}", file=sys.stderr)
            return failure.code
        host = Host(dealer, options.name, options.deadline)
        try:
            converse(host, options.bind, options.hold)
        except Failed as failure:
            print(f"failed: {failure}", file=sys.stderr)
            host.send("goodbye", None, [])
            return failure.code
    finally:
        context.destroy()
    print("everything went as it should")
    return 0


if __name__ == "__main__":
    sys.exit(main())
