"""Token introspection at a real HTTP endpoint that answers from a real table, and at ones that answer anything else."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pgops.runbook.plugins.module_utils._introspection import (
    IntrospectionError,
    ask,
    ask_sample,
    read_endpoint,
)
from tests.ground.certificates import Authority
from tests.ground.cluster import ServerCertificate
from tests.ground.databases import Database
from tests.ground.introspection import Answer, IntrospectionServer
from tests.ground.ports import free_port

CREDENTIALS = ("run book:1", "s3cret+/:%&\u00e4")
TOKEN = "eyJ.a+b/c=&token=x \u00e4"


@pytest.fixture
def accepted(database: Database) -> Callable[[str], bool]:
    """The application's own rule, over a table with one live, one expired and one revoked token."""
    database.query("CREATE TABLE tokens (token text PRIMARY KEY, expires_at timestamptz NOT NULL, revoked boolean NOT NULL)")
    for token, expires, revoked in ((TOKEN, "1 hour", False), ("expired", "-1 hour", False), ("revoked", "1 hour", True)):
        database.query("INSERT INTO tokens VALUES (%s, now() + %s::interval, %s)", [token, expires, revoked])
    question = "SELECT EXISTS (SELECT FROM tokens WHERE token = %s AND NOT revoked AND expires_at > now())"
    return lambda token: bool(database.query(question, [token])[0][0])


@pytest.fixture
def lying() -> Iterator[IntrospectionServer]:
    """An endpoint that says what a test puts into `instead`."""
    with IntrospectionServer(lambda _token: True) as server:
        yield server


def options(server: IntrospectionServer, **more: Any) -> dict[str, Any]:
    login = dict(zip(("client_id", "client_secret"), server.credentials or (), strict=False))
    return {"url": server.url, **login, **more}


def failed(given: dict[str, Any], token: str = TOKEN) -> IntrospectionError:
    with pytest.raises(IntrospectionError) as caught:
        ask(read_endpoint(given), token)
    told = str(caught.value.as_result())
    assert given["url"].partition("?")[0] in told
    secrets = (token, given.get("client_secret") or token, "key=12345")
    assert [secret for secret in secrets if secret in told] == []
    # A traceback must not show the error of the library either.
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    return caught.value


def test_it_says_what_the_table_says_and_no_more_after_a_revocation(database: Database, accepted: Callable[[str], bool]) -> None:
    with IntrospectionServer(accepted, credentials=CREDENTIALS) as server:
        endpoint = read_endpoint(options(server))
        assert [ask(endpoint, token) for token in (TOKEN, "expired", "revoked", "unknown")] == [True, False, False, False]
        assert server.seen[0] == TOKEN
        sample = [TOKEN, "revoked"]
        assert ask_sample(endpoint, sample) == {"asked": 2, "inactive": 1, "still_active": 1, "errors": []}
        database.query("UPDATE tokens SET revoked = true")
        assert ask_sample(endpoint, iter(sample)) == {"asked": 2, "inactive": 2, "still_active": 0, "errors": []}


def test_it_needs_no_credentials_where_the_endpoint_wants_none(accepted: Callable[[str], bool]) -> None:
    with IntrospectionServer(accepted) as server:
        assert ask(read_endpoint(options(server, client_id="", client_secret=None)), TOKEN)


def test_wrong_credentials(accepted: Callable[[str], bool]) -> None:
    with IntrospectionServer(accepted, credentials=CREDENTIALS) as server:
        wrong = failed(options(server, client_secret="guess"))
        assert (wrong.status, "refused client_id and client_secret" in wrong.message) == (401, True)
        assert "who gave no client_id" in failed({"url": server.url}).message
        told = ask_sample(read_endpoint({"url": server.url}), ["a"] * 10)
        assert (told["asked"], told["inactive"], told["still_active"]) == (3, 0, 0)
        ((message, times),) = ((one["message"], one["times"]) for one in told["errors"])
        assert ("HTTP 401" in message, times) == (True, 3)


def test_tls(accepted: Callable[[str], bool], tmp_path: Path) -> None:
    (tmp_path / "others").mkdir()
    ours, others = Authority.create(tmp_path, "ours"), Authority.create(tmp_path / "others", "others")
    with IntrospectionServer(accepted, tls=ServerCertificate(*ours.issue("server"))) as server:
        assert ask(read_endpoint(options(server, ca_cert=str(ours.file))), TOKEN)
        for given in (options(server), options(server, ca_cert=str(others.file))):
            assert "Give the authority" in str(failed(given).hint)
        elsewhere = {"url": server.url.replace("localhost", "127.0.0.1"), "ca_cert": str(ours.file)}
        assert "could not be reached by TLS" in failed(elsewhere).message
        assert server.seen == [TOKEN]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_token_is_not_sent_where_a_redirect_leads(lying: IntrospectionServer, status: int) -> None:
    with IntrospectionServer(lambda _token: True) as other:
        lying.instead = Answer(status, headers={"Location": f"{other.url}?token={TOKEN.encode().hex()}"})
        error = failed(options(lying))
        assert other.seen == []
    assert (error.status, "not followed" in str(error.hint)) == (status, True)


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (403, "refused the caller"),
        (404, "does not exist"),
        (400, "refused the question"),
        (500, "failed"),
        (503, "failed"),
        (204, "refused"),
    ],
)
def test_other_answers_are_errors(lying: IntrospectionServer, status: int, words: str) -> None:
    lying.instead = Answer(status, TOKEN.encode())
    error = failed(options(lying))
    assert error.status == status
    assert f"{words}" in error.message
    assert f"HTTP {status}" in error.message


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b"[]", b"true", b"{}", b'{"active": "true"}', b'{"active": 1}', b'{"active": null}', b"\xff", b"[" * 100_000],
)
def test_what_is_no_answer_is_no_proof(lying: IntrospectionServer, body: bytes) -> None:
    lying.instead = Answer(200, body)
    assert failed(options(lying)).status == 200


def test_an_endless_answer_is_given_up(lying: IntrospectionServer) -> None:
    lying.instead = Answer(200, b" " * (2 << 20))
    assert "too long" in failed(options(lying)).message


def drip(handler: BaseHTTPRequestHandler, given_up: threading.Event) -> None:
    """Send the body a byte at a time, each in time for the socket."""
    handler.send_response(200)
    handler.end_headers()
    while not given_up.wait(0.1):
        handler.wfile.write(b" ")


def be_silent(_handler: BaseHTTPRequestHandler, given_up: threading.Event) -> None:
    given_up.wait()


@pytest.mark.parametrize("before", [be_silent, drip])
def test_a_slow_endpoint_is_given_up(lying: IntrospectionServer, before: Callable[[BaseHTTPRequestHandler, threading.Event], None]) -> None:
    given_up = threading.Event()
    # Far longer than the timeout, and far shorter than it would take until the endpoint's last byte.
    rescue = threading.Timer(30, given_up.set)
    rescue.start()
    lying.instead = Answer(before=lambda handler: before(handler, given_up))
    try:
        assert "did not answer within 0.5 s" in failed(options(lying, timeout="500 ms")).message
        assert not given_up.is_set(), "it has waited for the endpoint's end"
    finally:
        rescue.cancel()
        given_up.set()


def test_an_answer_that_breaks_off(lying: IntrospectionServer) -> None:
    lying.instead = Answer(200, b'{"active"', {"Content-Length": "1000"})
    assert failed(options(lying)).status == 200
    lying.instead = Answer(before=lambda handler: handler.connection.shutdown(socket.SHUT_RDWR))
    assert "could not be reached" in failed(options(lying)).message
    lying.instead = Answer(before=lambda handler: handler.wfile.write(f"{TOKEN.encode().hex()}\r\n\r\n".encode()) and None)
    assert "not HTTP" in failed(options(lying)).message


def test_nobody_listens() -> None:
    error = failed({"url": f"http://127.0.0.1:{free_port()}/introspect?key=12345"})
    assert "could not be reached" in error.message
    assert error.status is None


def test_no_proxy_gets_the_tokens_of_this_machine(lying: IntrospectionServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    assert ask(read_endpoint(options(lying)), TOKEN)
