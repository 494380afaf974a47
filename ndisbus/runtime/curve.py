"""CURVE keys: which clients a bus that listens beyond loopback accepts.

A directory holds ``bus.key``, ``bus.key_secret``, ``client.key``, ``client.key_secret``. The public keys of
further clients are in ``clients/``. The bus accepts exactly these clients. A client's machine needs only
``bus.key`` and ``client.key_secret``. ``NDISBUS_CURVE_DIR`` names the directory.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import zmq
import zmq.auth
from zmq.utils import z85

from ndisbus.errors import ChimneyError

__all__ = ["ZAP_ENDPOINT", "BusKeys", "ClientKeys", "CurveKeyError", "answer_zap", "curve_dir", "make_keys"]

ZAP_ENDPOINT: Final = "inproc://zeromq.zap.01"


class CurveKeyError(ChimneyError):
    """Keys that are missing or cannot be read."""


def curve_dir() -> Path | None:
    """Return the directory that NDISBUS_CURVE_DIR names; None if it is not set."""
    named = os.environ.get("NDISBUS_CURVE_DIR")
    return Path(named) if named else None


def make_keys(directory: Path) -> bool:
    """Make keys for a bus and a client unless the directory has keys. Returns whether they were made."""
    if (directory / "bus.key_secret").exists():
        return False
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    before = os.umask(0o077)
    try:
        for name in ("bus", "client"):
            zmq.auth.create_certificates(directory, name)
    finally:
        os.umask(before)
    return True


@dataclass(frozen=True, slots=True)
class BusKeys:
    """The bus's key pair, and the public keys of the clients it accepts (Z85 text)."""

    public: bytes
    secret: bytes
    clients: frozenset[bytes]

    @classmethod
    def load(cls, directory: Path) -> BusKeys:
        """Read the keys of a directory. Raises :class:`CurveKeyError` if a file is missing or not a key."""
        public, secret = _load(directory / "bus.key_secret", secret=True)
        files = [directory / "client.key", *sorted((directory / "clients").glob("*.key"))]
        clients = frozenset(_load(f, secret=False)[0] for f in files if f.exists())
        if not clients:
            raise CurveKeyError(
                f"{directory}: no client's public key (client.key, clients/*.key), so no client could connect"
            )
        return cls(public, secret, clients)

    def apply(self, sock: zmq.Socket[bytes]) -> None:
        """Set up a socket that binds for CURVE."""
        sock.curve_server = True
        sock.curve_secretkey = self.secret
        sock.curve_publickey = self.public
        # libzmq asks ZAP about clients only if a domain is set.
        sock.zap_domain = b"ndisbus"


@dataclass(frozen=True, slots=True)
class ClientKeys:
    """A client's key pair and the bus's public key."""

    public: bytes
    secret: bytes
    bus: bytes

    @classmethod
    def load(cls, directory: Path) -> ClientKeys:
        """Read the keys of a directory. Raises :class:`CurveKeyError` if a file is missing or not a key."""
        public, secret = _load(directory / "client.key_secret", secret=True)
        return cls(public, secret, _load(directory / "bus.key", secret=False)[0])

    @classmethod
    def from_environment(cls, endpoint: str) -> ClientKeys | None:
        """Return the keys of ``NDISBUS_CURVE_DIR`` for a tcp endpoint; None for other endpoints."""
        directory = curve_dir()
        return cls.load(directory) if directory is not None and endpoint.startswith("tcp://") else None

    def apply(self, sock: zmq.Socket[bytes]) -> None:
        """Set up a socket that connects for CURVE."""
        sock.curve_secretkey = self.secret
        sock.curve_publickey = self.public
        sock.curve_serverkey = self.bus


def _load(path: Path, *, secret: bool) -> tuple[bytes, bytes]:
    try:
        public, private = zmq.auth.load_certificate(path)
    except (OSError, ValueError) as error:
        raise CurveKeyError(f"{path}: {error}; run 'ndisbus serve --curve-dir' once to make keys") from error
    if secret and private is None:
        raise CurveKeyError(f"{path}: the file does not contain a secret key; copy the file NAME.key_secret")
    return public, private or b""


def answer_zap(zap: zmq.Socket[bytes], clients: frozenset[bytes]) -> None:
    """Tell libzmq whether a client may connect (ZeroMQ RFC 27, ZAP)."""
    get: Any = zap.get
    while get(zmq.EVENTS) & int(zmq.POLLIN):
        _answer(zap, clients)


def _answer(zap: zmq.Socket[bytes], clients: frozenset[bytes]) -> None:
    # The REP socket has removed the envelope.
    version, request_id, _domain, _address, _identity, mechanism, *credentials = zap.recv_multipart()
    known = mechanism == b"CURVE" and len(credentials) == 1 and z85.encode(credentials[0]) in clients
    code, text = (b"200", b"OK") if known else (b"400", b"this client's key is not known to the bus")
    zap.send_multipart([version, request_id, code, text, b"", b""])
