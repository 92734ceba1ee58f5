"""Servers that people's messages arrive at: one for mail, one for webhooks. They keep what they are sent."""

from __future__ import annotations

import email
import email.policy
import json
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from tests.ground.certificates import Authority

START_SECONDS = 60.0


def patient(hosts: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return hosts that tell people with time enough also on a busy machine, where they say nothing else."""
    return {name: {"notify_timeout": 60, **host} for name, host in hosts.items()}


@dataclass(frozen=True)
class Mail:
    """A mail as the server took it: for whom it was, and what is in it."""

    recipients: list[str]
    message: EmailMessage
    encrypted: bool

    @property
    def text(self) -> str:
        """The body."""
        part = self.message.get_body(("plain",)) or self.message
        return str(part.get_content())


@dataclass
class Mailbox:
    """A mail server. It refuses recipients that begin with `nobody`."""

    port: int = 0
    mails: list[Mail] = field(default_factory=list)

    async def handle_RCPT(self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]) -> str:
        if address.startswith("nobody"):
            return "550 no such user here"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _server: SMTP, session: Session, envelope: Envelope) -> str:
        message = email.message_from_bytes(envelope.content or b"", policy=email.policy.default)
        assert isinstance(message, EmailMessage)
        self.mails.append(Mail(list(envelope.rcpt_tos), message, session.ssl is not None))
        return "250 OK"

    def to(self, address: str) -> list[Mail]:
        """Return the mails for one address."""
        return [mail for mail in self.mails if address in mail.recipients]


class _Controller(Controller):
    """Listens on a port that the system chooses, and may take its time to begin on a busy machine."""

    def _trigger_server(self) -> None:
        self.port = self.server.sockets[0].getsockname()[1]
        with socket.create_connection(("127.0.0.1", self.port), START_SECONDS) as client:
            client.recv(1024)


@contextmanager
def mail_server(folder: Path | None = None, login: tuple[str, str] | None = None) -> Iterator[Mailbox]:
    """Run a mail server; with STARTTLS where `folder` is given for its certificate, and only for `login` where that is."""
    mailbox = Mailbox()
    options: dict[str, Any] = {}
    if folder is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*Authority.create(folder, "mail").issue("localhost"))
        options = {"tls_context": context, "require_starttls": True}
    if login is not None:

        def authenticate(_server: SMTP, _session: Session, _envelope: Envelope, _mechanism: str, given: Any) -> AuthResult:
            right = isinstance(given, LoginPassword) and (given.login.decode(), given.password.decode()) == login
            return AuthResult(success=right, handled=False)

        options |= {"authenticator": authenticate, "auth_required": True}
    controller = _Controller(mailbox, hostname="127.0.0.1", port=0, ready_timeout=START_SECONDS, **options)
    controller.start()
    try:
        mailbox.port = controller.port
        yield mailbox
    finally:
        controller.stop()


@dataclass
class Inbox:
    """A web server: /500 and /302 answer that, /hang does not answer, all else is taken."""

    port: int
    posts: list[tuple[str, dict[str, str], Any]] = field(default_factory=list)

    def url(self, path: str) -> str:
        """Return the address of `path`."""
        return f"http://127.0.0.1:{self.port}{path}"

    def at(self, path: str) -> list[Any]:
        """Return the bodies that were posted to `path`."""
        return [body for place, _headers, body in self.posts if place == path]


@contextmanager
def web_server() -> Iterator[Inbox]:
    """Run a web server that keeps what is posted."""
    closing = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            inbox.posts.append((self.path, dict(self.headers), body))
            if self.path.startswith("/hang"):
                closing.wait(60)
                return
            code = next((number for number in (500, 302) if self.path.startswith(f"/{number}")), 200)
            self.send_response(code)
            if code == 302:
                self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_arguments: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    inbox = Inbox(server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield inbox
    finally:
        closing.set()
        server.shutdown()
        server.server_close()
        thread.join()
