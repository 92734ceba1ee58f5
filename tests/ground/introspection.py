"""A token introspection endpoint on this machine that answers from a table, as an application's own does, or misbehaves on request."""

from __future__ import annotations

import base64
import json
import ssl
import threading
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType

from .cluster import ServerCertificate


@dataclass
class Answer:
    """What the endpoint says instead of the truth."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    before: Callable[[BaseHTTPRequestHandler], None] = lambda _handler: None


class IntrospectionServer:
    """Asks `is_active` about each token, a query of the test's; wants the client's `credentials` where there are any."""

    def __init__(
        self, is_active: Callable[[str], bool], *, credentials: tuple[str, str] | None = None, tls: ServerCertificate | None = None
    ) -> None:
        self.is_active = is_active
        self.credentials = credentials
        self.instead: Answer | None = None
        self.seen: list[str] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.port: int = self._server.server_address[1]
        self.scheme = "http"
        if tls is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(tls.certificate, tls.key)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
            self.scheme = "https"

    @property
    def url(self) -> str:
        """The address of the endpoint."""
        return f"{self.scheme}://localhost:{self.port}/oauth/introspect"

    def __enter__(self) -> IntrospectionServer:
        threading.Thread(target=self._server.serve_forever, args=[0.02], daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode("ascii")
                (token,) = urllib.parse.parse_qs(body, strict_parsing=True, errors="strict")["token"]
                outer.seen.append(token)
                answer = outer.instead or outer.truth(token, self.headers.get("Authorization"), self.headers["Content-Type"])
                answer.before(self)
                self.send_response(answer.status)
                for name, text in {"Content-Length": str(len(answer.body)), "Connection": "close", **answer.headers}.items():
                    self.send_header(name, text)
                self.end_headers()
                self.wfile.write(answer.body)

            def do_GET(self) -> None:
                outer.seen.append(self.path)
                self.send_error(405)

            def log_message(self, *_arguments: object) -> None:
                """Say nothing."""

        return Handler

    def truth(self, token: str, authorization: str | None, kind: str) -> Answer:
        """Return what an endpoint that follows the RFC says of `token`."""
        if kind != "application/x-www-form-urlencoded":
            return Answer(415)
        if authorization != self._expected():
            return Answer(401, headers={"WWW-Authenticate": 'Basic realm="introspection"'})
        return Answer(200, json.dumps({"active": self.is_active(token)}).encode(), {"Content-Type": "application/json"})

    def _expected(self) -> str | None:
        if self.credentials is None:
            return None
        pair = ":".join(urllib.parse.quote_plus(text) for text in self.credentials)
        return f"Basic {base64.b64encode(pair.encode()).decode()}"
