"""Which introspection endpoints are taken; a token is never sent in clear text to another machine."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.pgops.runbook.plugins.module_utils._errors import InvalidValue
from ansible_collections.pgops.runbook.plugins.module_utils._introspection import Endpoint, read_endpoint

URL = "https://login.example.com/oauth/introspect"


@pytest.mark.parametrize(
    "url",
    [URL, "https://10.0.0.1:8443/i?tenant=1", "http://localhost:8080/i", "http://127.0.0.2/i", "http://[::1]:80/i", "HTTP://LOCALHOST/i"],
)
def test_encrypted_or_on_this_machine(url: str) -> None:
    assert read_endpoint({"url": url, "timeout": ""}) == Endpoint(url)


def test_all_options() -> None:
    given = {"url": URL, "client_id": "c", "client_secret": "s3cret", "timeout": "3 s", "ca_cert": None}
    endpoint = read_endpoint(given)
    assert endpoint == Endpoint(URL, "c", "s3cret", None, 3.0)
    assert "s3cret" not in repr(endpoint)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "there.url: the address of the endpoint is required"),
        ({"url": URL, "secret": "x"}, "there.secret: no such option; there are ca_cert, client_id, client_secret, timeout, url"),
        ({"url": "http://login.example.com/i?key=hunter2"}, "there.url: http://login.example.com/i is not encrypted"),
        ({"url": "http://127.0.0.1.example.com/"}, "is not encrypted"),
        ({"url": "http://localhost.example.com/"}, "is not encrypted"),
        ({"url": "https://user:hunter2@login.example.com/i"}, "there.url: no user and password in the address"),
        ({"url": "ftp://localhost/i"}, "there.url: it is no address; write https://host/path"),
        ({"url": "https:///i"}, "no address"),
        ({"url": "https://[hunter2/i"}, "no address"),
        ({"url": "https://localhost:hunter2/i"}, "no address"),
        ({"url": f"{URL}\r\nX: hunter2"}, "no address"),
        ({"url": f"{URL}#hunter2"}, "has a fragment"),
        ({"url": URL, "client_id": "c"}, "there.client_secret: client_id and client_secret go together"),
        ({"url": URL, "client_secret": "hunter2"}, "there.client_id: client_id and client_secret go together"),
        ({"url": URL, "client_id": 7, "client_secret": "hunter2"}, "there.client_id: write text"),
        ({"url": URL, "timeout": "soon"}, "there.timeout: 'soon' is not a duration"),
        ({"url": URL, "timeout": 0}, "there.timeout: 0 is no time to wait"),
        ({"url": URL, "ca_cert": "/nowhere/ca.pem"}, "there.ca_cert: /nowhere/ca.pem cannot be used: No such file"),
    ],
)
def test_a_wrong_option_is_named(given: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        read_endpoint(given, "there")
    told = caught.value.as_result()["msg"]
    assert words in told
    assert "hunter2" not in told


def test_no_way_round_the_check() -> None:
    with pytest.raises(InvalidValue, match="not encrypted"):
        Endpoint("http://login.example.com/")
