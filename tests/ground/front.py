"""A front of a server on a port of its own: it speaks TLS for one that was built without, and can cut what passes through.

The server behind it is real and sees every byte that the client sent. What a test with it shows is how a client of ours does TLS; how
that server would do it, it does not.
"""

from __future__ import annotations

import math
import select
import socket
import ssl
import threading
from contextlib import suppress

from .cluster import ServerCertificate


class Front:
    """Passes on what comes in to `behind`; every connection is cut after `cut_after` bytes of answers, where that is given."""

    def __init__(self, behind: tuple[str, int], tls: ServerCertificate | None = None, *, cut_after: int | None = None) -> None:
        self._behind = behind
        self._context = _context(tls) if tls is not None else None
        self._cut_after = cut_after
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Cut all connections and take no more."""
        for one in (self._listener, *self._open):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _address = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=[client], daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with suppress(OSError):  # a handshake that fails, or a server that is gone: the client sees its connection closed
            if self._context is not None:
                client = self._context.wrap_socket(client, server_side=True)
            with client, socket.create_connection(self._behind) as server:
                self._open |= {client, server}
                _pass_on(client, server, math.inf if self._cut_after is None else self._cut_after)
                self._open -= {client, server}


def _pass_on(client: socket.socket, server: socket.socket, most: float) -> None:
    """Pass on what comes from either side, in one thread because TLS does not bear two; end after `most` bytes of answers."""
    while True:
        waiting = isinstance(client, ssl.SSLSocket) and client.pending()
        ready = [client] if waiting else select.select([client, server], [], [])[0]
        for source in ready:
            data = source.recv(65536 if source is client else int(min(65536, most)))
            if not data:
                return
            if source is server:
                most -= len(data)
            (server if source is client else client).sendall(data)
            if most == 0:
                return


def _context(tls: ServerCertificate) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tls.certificate, tls.key)
    if tls.authority is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(tls.authority)
    return context
