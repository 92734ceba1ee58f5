# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds the layer that refuses a connection without reading a word: for messages in a language that nobody here reads.

A server's message comes in the language of `lc_messages`, and a driver keeps only its text of a failed connection. So the
layers are tried again one by one, up to the first answer of the server, in which its SQLSTATE stands. No secret is sent.
"""

from __future__ import annotations

import socket
import ssl
import struct
from typing import Mapping, NamedTuple

TIMEOUT = 3.0  # seconds for one step on one host
_PROTOCOL_3 = 196608
_SSL_REQUEST = 80877103
_REQUIRES_TLS = ("require", "verify-ca", "verify-full")


class Finding(NamedTuple):
    """How far a host let us come: the `layer` that refused (None: it asked for a password) and its SQLSTATE if it said one."""

    layer: str | None
    sqlstate: str | None = None


def probe(host: str, port: int, parameters: Mapping[str, str]) -> Finding:
    """Return how far a connection to `host` (a name, an address or a socket's folder) with libpq's `parameters` comes."""
    local = host.startswith(("/", "@"))
    try:
        channel = _local(host, port) if local else socket.create_connection((host, port), timeout=TIMEOUT)
    except socket.gaierror:
        return Finding("name")
    except OSError:
        return Finding("port")
    try:
        with channel:
            return _asked(channel, "disable" if local else parameters.get("sslmode", "prefer"), parameters)
    except ssl.SSLError:
        return Finding("tls")
    except OSError:
        # It listens, but what it says is not PostgreSQL's protocol, or nothing.
        return Finding("port")


def _local(folder: str, port: int) -> socket.socket:
    channel = socket.socket(socket.AF_UNIX)
    channel.settimeout(TIMEOUT)
    path = f"{folder}/.s.PGSQL.{port}"
    try:
        channel.connect("\0" + path[1:] if folder.startswith("@") else path)
    except OSError:
        channel.close()
        raise
    return channel


def _asked(channel: socket.socket, mode: str, parameters: Mapping[str, str]) -> Finding:
    if mode not in ("disable", "allow"):
        channel.sendall(struct.pack("!ii", 8, _SSL_REQUEST))
        answer = _received(channel, 1)
        if answer == b"S":
            context = ssl.create_default_context()
            # Whose certificate it is does not matter here: nothing but the names of a user and a database is sent.
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            with context.wrap_socket(channel) as wrapped:
                return _first_answer(wrapped, parameters)
        if answer != b"N" or mode in _REQUIRES_TLS:
            return Finding("tls" if answer == b"N" else "port")
    return _first_answer(channel, parameters)


def _first_answer(channel: socket.socket, parameters: Mapping[str, str]) -> Finding:
    user = parameters.get("user", "")
    pairs = {"user": user, "database": parameters.get("dbname") or user}
    body = struct.pack("!i", _PROTOCOL_3) + b"".join(f"{name}\0{text}\0".encode() for name, text in pairs.items()) + b"\0"
    channel.sendall(struct.pack("!i", len(body) + 4) + body)
    kind, size = struct.unpack("!ci", _received(channel, 5))
    if kind == b"R":
        return Finding(None)
    if kind != b"E" or not 4 < size < 65536:
        return Finding("port")
    # Fields are a letter and text up to a zero byte; C is the SQLSTATE in every language.
    fields = {part[:1]: part[1:] for part in _received(channel, size - 4).split(b"\0") if part}
    return Finding("unknown", fields.get(b"C", b"").decode("ascii", "replace") or None)


def _received(channel: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        part = channel.recv(count - len(data))
        if not part:
            raise ConnectionError("the other side closed the connection")
        data += part
    return data
