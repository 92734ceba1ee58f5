"""Where a cache is: what is given, what a description says, and what is wrong with either."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.pgops.runbook.plugins.module_utils._cache import (
    CacheClientMissing,
    CacheOptions,
    cache_options,
    open_cache,
    read_connection,
)
from ansible_collections.pgops.runbook.plugins.module_utils._errors import InvalidValue

ENTRY = {"engine": "redis", "host": "cache1", "port": 6380, "database": 2, "tls": False, "keys": ["session:{id}"]}


def test_what_is_given_counts_over_the_description() -> None:
    assert cache_options(ENTRY, read_connection(None)) == CacheOptions("cache1", 6380, 2)
    given = {"host": "cache2", "port": "7000", "database": 0, "username": "u", "password": "p", "tls": "yes", "timeout": "3 s"}
    assert cache_options(ENTRY, read_connection(given)) == CacheOptions("cache2", 7000, 0, "u", "p", True, timeout=3.0)
    assert cache_options({}, read_connection({"host": "cache3"})) == CacheOptions("cache3", 6379, 0)


def test_empty_texts_are_not_given() -> None:
    empty = dict.fromkeys(("host", "port", "database", "username", "password", "tls", "ca_cert", "cert", "key", "timeout"), "")
    assert cache_options(ENTRY, read_connection(empty)) == cache_options(ENTRY, read_connection({}))


def test_who_names_a_certificate_gets_tls() -> None:
    assert read_connection({"ca_cert": "/ca.pem"}).tls is True


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"hostname": "x"}, "there.hostname: no such option; there are ca_cert, cert, "),
        ({"port": 0}, "there.port: 0 is not a whole number from 1 to 65535"),
        ({"port": "x"}, "there.port: 'x' is not a whole number"),
        ({"port": True}, "there.port: True is not"),
        ({"database": -1}, "there.database: -1 is not a whole number from 0"),
        ({"tls": "maybe"}, "there.tls: 'maybe' is neither true nor false"),
        ({"timeout": "soon"}, "there.timeout: 'soon' is not a duration"),
        ({"timeout": 0}, "there.timeout: 0 is no time to wait"),
        ({"password": 1234}, "there.password: write text, in quotes"),
        ({"key": "/key.pem"}, "there.key: the key of a client certificate needs cert"),
        ({"tls": False, "ca_cert": "/ca.pem"}, "there.ca_cert: it is of use with tls: true only"),
    ],
)
def test_a_wrong_option_is_named(given: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        read_connection(given, "there")
    assert words in caught.value.message
    assert "1234" not in caught.value.message


@pytest.mark.parametrize(
    ("entry", "given", "words"),
    [
        ({"engine": "memcached"}, {"host": "x"}, "engine memcached; redis is the only one"),
        ({"engine": "redis", "host": None}, {}, "no host, nor has there"),
        (ENTRY, {"ca_cert": "/nowhere/ca.pem"}, "there.ca_cert: /nowhere/ca.pem cannot be used: No such file"),
        (ENTRY, {"cert": "/nowhere/c.pem", "key": "/nowhere/k.pem"}, "there.cert and key: /nowhere/c.pem and /nowhere/k.pem cannot"),
        (ENTRY, {"host": "/run/redis.sock", "tls": True}, "there.tls: a socket"),
    ],
)
def test_what_is_wrong_together_is_named(entry: dict[str, Any], given: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        cache_options(entry, read_connection(given, "there"))
    assert words in caught.value.as_result()["msg"]


def test_a_file_that_is_no_certificate_is_named(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("not a certificate", encoding="ascii")
    with pytest.raises(InvalidValue, match=r"cache_connection\.ca_cert: .*ca\.pem cannot be used"):
        cache_options(ENTRY, read_connection({"ca_cert": str(tmp_path / "ca.pem")}))


def test_no_representation_holds_the_password() -> None:
    connection = read_connection({"password": "hunter2"})
    assert "hunter2" not in repr(connection) + repr(cache_options(ENTRY, connection))


@pytest.mark.parametrize("host", ["10.0.0.1", "::1", "/run/redis.sock"])
def test_messages_name_the_place(host: str) -> None:
    places = {"10.0.0.1": "10.0.0.1:6379", "::1": "[::1]:6379", "/run/redis.sock": "/run/redis.sock"}
    assert CacheOptions(host).place == places[host]


def test_a_missing_client_names_the_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(CacheClientMissing) as caught:
        open_cache(ENTRY, read_connection({}))
    assert f"{sys.executable} -m pip install 'redis>=4.1'" in caught.value.as_result()["msg"]


def test_an_old_client_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "redis", SimpleNamespace(__version__="3.5.3"))
    with pytest.raises(CacheClientMissing, match=r"redis 3\.5\.3 is older than 4\.1"):
        open_cache(ENTRY, read_connection({}))


def test_a_cache_without_keys_is_refused_before_it_is_asked() -> None:
    with pytest.raises(InvalidValue, match="has no keys in the description"):
        open_cache({**ENTRY, "keys": []}, read_connection({}))


@pytest.mark.parametrize("text", ["{id}", "{tenant_id}:{id}"])
def test_keys_that_could_be_anybodys_are_not_forgotten_wholesale(text: str) -> None:
    with pytest.raises(InvalidValue, match="stands for every key"):
        open_cache({**ENTRY, "keys": [text]}, read_connection({}), whole=True)
