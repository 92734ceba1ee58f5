# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asks a token introspection endpoint (RFC 7662) whether it still accepts tokens.

A token is sent to the endpoint that was named and nowhere else: encrypted, without following redirects, and it stands in no message.
"""

from __future__ import annotations

import base64
import http.client
import ipaddress
import json
import socket
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass, field
from typing import Any, Iterable, Mapping

from ansible_collections.pgops.runbook.plugins.module_utils._duration import time_to_wait
from ansible_collections.pgops.runbook.plugins.module_utils._errors import InvalidValue, RunbookError

TIMEOUT = 10.0
# An endpoint that fails so often in a row is not asked about the rest of a sample: each failure may take the whole timeout.
FAILURES = 3
_LONGEST_ANSWER = 1 << 20
_NAMES = ("url", "client_id", "client_secret", "ca_cert", "timeout")


class IntrospectionError(RunbookError):
    """The endpoint could not be asked, or its answer says nothing about the token. `status` is HTTP's, None where there was none."""

    def __init__(self, message: str, *, url: str, hint: str | None = None, status: int | None = None) -> None:
        super().__init__(f"the introspection endpoint {url} {message}", object_name=url, hint=hint)
        self.status = status


@dataclass(frozen=True)
class Endpoint:
    """Where to ask, and as whom."""

    url: str = field(repr=False)
    client_id: str | None = None
    client_secret: str | None = field(default=None, repr=False)
    ca_cert: str | None = None
    timeout: float = TIMEOUT

    def __post_init__(self) -> None:
        _check_url(self.url, "introspection.url")

    @property
    def place(self) -> str:
        """The address as messages name it: without the query, which may hold a key."""
        return _place(self.url)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Leaves a redirect what it is, an answer that says nothing about the token."""

    def redirect_request(self, *_arguments: Any) -> None:
        """Follow none."""


def read_endpoint(mapping: Mapping[str, Any], path: str = "introspection") -> Endpoint:
    """Return the endpoint that the options in `mapping` name; None and the empty string count as not given. Raises InvalidValue."""
    given = {name: value for name, value in mapping.items() if value not in (None, "")}
    unknown = sorted(set(given) - set(_NAMES))
    if unknown:
        raise InvalidValue(f"{path}.{unknown[0]}: no such option; there are {', '.join(sorted(_NAMES))}", object_name=path)
    for name in _NAMES[:-1]:
        if name in given and not isinstance(given[name], str):
            raise InvalidValue(f"{path}.{name}: write text, in quotes where YAML would read something else", object_name=path)
    if "url" not in given:
        raise InvalidValue(f"{path}.url: the address of the endpoint is required", object_name=path)
    _check_url(given["url"], f"{path}.url")
    if ("client_id" in given) != ("client_secret" in given):
        lacking = "client_secret" if "client_id" in given else "client_id"
        raise InvalidValue(f"{path}.{lacking}: client_id and client_secret go together; give both or neither", object_name=path)
    if "timeout" in given:
        given["timeout"] = time_to_wait(given["timeout"], f"{path}.timeout")
    endpoint = Endpoint(**given)
    if endpoint.ca_cert is not None:
        try:
            ssl.create_default_context(cafile=endpoint.ca_cert)
        except OSError as error:
            why = error.strerror or str(error)
            raise InvalidValue(f"{path}.ca_cert: {endpoint.ca_cert} cannot be used: {why}; it has to be a readable PEM file") from None
    return endpoint


def ask(endpoint: Endpoint, token: str) -> bool:
    """Return whether the endpoint calls `token` active. Raises IntrospectionError."""
    body = urllib.parse.urlencode({"token": token}).encode("ascii")
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
    if endpoint.client_id is not None:
        # RFC 6749, 2.3.1: both are form-encoded before they are put together.
        pair = ":".join(urllib.parse.quote_plus(text) for text in (endpoint.client_id, endpoint.client_secret or ""))
        headers["Authorization"] = f"Basic {base64.b64encode(pair.encode('ascii')).decode('ascii')}"
    request = urllib.request.Request(endpoint.url, data=body, headers=headers, method="POST")
    try:
        with _opener(endpoint).open(request, timeout=endpoint.timeout) as answer:
            status, content = answer.status, _content(answer, endpoint)
    except urllib.error.HTTPError as error:
        error.close()
        raise _refused(endpoint, error.code) from None
    except (OSError, http.client.HTTPException) as error:
        raise _unreached(endpoint, error) from None
    if status != 200:
        raise _refused(endpoint, status)
    return _active(endpoint, content)


def ask_sample(endpoint: Endpoint, tokens: Iterable[str]) -> dict[str, Any]:
    """Return of how many `tokens` the endpoint was `asked`, how many are `inactive` and `still_active`, and the `errors` that came.

    Every error counts as asked and is said once, with how often it came. After a few in a row the rest is not asked.
    """
    told: dict[str, Any] = {"asked": 0, "inactive": 0, "still_active": 0}
    errors: dict[str, int] = {}
    in_a_row = 0
    for token in tokens:
        told["asked"] += 1
        try:
            told["still_active" if ask(endpoint, token) else "inactive"] += 1
            in_a_row = 0
        except IntrospectionError as error:
            text = error.as_result()["msg"]
            errors[text] = errors.get(text, 0) + 1
            in_a_row += 1
            if in_a_row == FAILURES:
                break
    return {**told, "errors": [{"message": text, "times": times} for text, times in errors.items()]}


def _opener(endpoint: Endpoint) -> urllib.request.OpenerDirector:
    handlers: list[urllib.request.BaseHandler] = [_NoRedirect()]
    parts = urllib.parse.urlsplit(endpoint.url)
    if parts.scheme == "https":
        handlers.append(urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=endpoint.ca_cert)))
    if _loopback(parts.hostname or ""):
        # A proxy would carry the token away from this machine, maybe in clear text, and know another one by that name.
        handlers.append(urllib.request.ProxyHandler({}))
    return urllib.request.build_opener(*handlers)


def _content(answer: http.client.HTTPResponse, endpoint: Endpoint) -> bytes:
    """Return the body. The timeout holds for the whole of it: a socket's own begins anew with every byte."""
    end = time.monotonic() + endpoint.timeout
    content = b""
    while len(content) <= _LONGEST_ANSWER:
        part = answer.read1(65536)
        if not part:
            return content
        content += part
        if time.monotonic() > end:
            raise TimeoutError
    raise IntrospectionError("gave an answer that is too long to be one", url=endpoint.place, status=answer.status)


def _active(endpoint: Endpoint, content: bytes) -> bool:
    try:
        said = json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError):
        raise IntrospectionError(
            "did not answer with JSON", url=endpoint.place, hint="Check that url is the endpoint itself and no page.", status=200
        ) from None
    active = said.get("active") if isinstance(said, dict) else None
    if not isinstance(active, bool):
        raise IntrospectionError("did not say whether the token is active: true or false", url=endpoint.place, status=200)
    return active


def _refused(endpoint: Endpoint, status: int) -> IntrospectionError:
    if status in (401, 403):
        who = "client_id and client_secret" if endpoint.client_id is not None else "the caller, who gave no client_id and client_secret"
        return IntrospectionError(f"refused {who} (HTTP {status})", url=endpoint.place, status=status)
    if 300 <= status < 400:
        hint = "A redirect is not followed, because the token would go there: give the address that it leads to."
        return IntrospectionError(f"sends callers to another address (HTTP {status})", url=endpoint.place, hint=hint, status=status)
    if status == 404:
        return IntrospectionError("does not exist (HTTP 404)", url=endpoint.place, hint="Check url.", status=status)
    what = "failed" if status >= 500 else "refused the question"
    return IntrospectionError(f"{what} (HTTP {status})", url=endpoint.place, status=status)


def _unreached(endpoint: Endpoint, error: Exception) -> IntrospectionError:
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(cause, (TimeoutError, socket.timeout)):  # two classes before Python 3.10
        return IntrospectionError(f"did not answer within {endpoint.timeout:g} s", url=endpoint.place)
    if isinstance(cause, ssl.SSLError):
        hint = "Give the authority that signed its certificate as ca_cert, and in url a name that stands in it."
        return IntrospectionError(f"could not be reached by TLS: {cause}", url=endpoint.place, hint=hint)
    if isinstance(cause, http.client.HTTPException) and not isinstance(cause, ConnectionError):
        # Its words may be the server's, and those the token.
        return IntrospectionError("gave an answer that is not HTTP, or broke off", url=endpoint.place)
    return IntrospectionError(f"could not be reached: {cause}", url=endpoint.place)


def _check_url(url: str, path: str) -> None:
    try:
        parts = urllib.parse.urlsplit(url)
        host, _port = parts.hostname, parts.port
    except ValueError:
        # The address is not repeated as long as it is not known where it would hold a password.
        raise InvalidValue(f"{path}: it is no address; write https://host/path", object_name=path) from None
    if parts.username is not None or parts.password is not None:
        raise InvalidValue(f"{path}: no user and password in the address; give client_id and client_secret", object_name=path)
    if parts.scheme not in ("https", "http") or not host or not url.isascii() or any(ord(one) <= 32 for one in url):
        raise InvalidValue(f"{path}: it is no address; write https://host/path", object_name=path)
    if parts.fragment:
        raise InvalidValue(f"{path}: {_place(url)} has a fragment (#), which no server gets to see; leave it out", object_name=path)
    if parts.scheme == "http" and not _loopback(host):
        message = f"{path}: {_place(url)} is not encrypted and would show tokens to the network"
        raise InvalidValue(message, object_name=path, hint="Write https://; http:// is for this machine only.")


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _place(url: str) -> str:
    return url.partition("#")[0].partition("?")[0]
