"""Options become libpq's parameters; what is empty is not given; a secret is never shown."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from ansible_collections.pgops.runbook.plugins.doc_fragments.postgresql import ModuleDocFragment
from ansible_collections.pgops.runbook.plugins.module_utils import _arguments, _connection, _driver
from ansible_collections.pgops.runbook.plugins.module_utils._connection import ConnectionOptions
from ansible_collections.pgops.runbook.plugins.module_utils._errors import DriverMissing, InvalidValue

ALWAYS = {"client_encoding": "utf8"}
EMPTY: dict[str, Any] = dict.fromkeys(_arguments.CONNECTION_ARGUMENTS)


def parameters(**given: Any) -> dict[str, str]:
    return ConnectionOptions.from_params({**EMPTY, **given}).parameters()


def test_nothing_given_leaves_all_to_libpq() -> None:
    assert parameters() == ALWAYS


@pytest.mark.parametrize("empty", [None, ""])
def test_empty_counts_as_not_given(empty: str | None) -> None:
    options = ConnectionOptions.from_params(dict.fromkeys(EMPTY, empty))
    assert options.parameters() == ALWAYS
    assert options.milliseconds() == {"lock_timeout": 5000, "statement_timeout": 900000}
    assert options.session_role is None


@pytest.mark.parametrize("empty", [None, ""])
def test_empty_counts_as_not_given_inside_connect_params(empty: str | None) -> None:
    assert parameters(login_host="db1", connect_params={"host": empty, "sslmode": empty}) == {**ALWAYS, "host": "db1"}


def test_every_option_has_its_libpq_name() -> None:
    given = {
        "login_host": "db1",
        "login_port": 5433,
        "login_user": "pgops",
        "login_password": "hidden",
        "login_db": "tim",
        "ssl_mode": "verify-full",
        "ca_cert": "/etc/ca.pem",
        "ssl_cert": "/etc/cert.pem",
        "ssl_key": "/etc/key.pem",
        "connect_timeout": "3 s",
        "target_session_attrs": "read-write",
    }
    assert parameters(**given) == {
        **ALWAYS,
        "host": "db1",
        "port": "5433",
        "user": "pgops",
        "password": "hidden",
        "dbname": "tim",
        "sslmode": "verify-full",
        "sslrootcert": "/etc/ca.pem",
        "sslcert": "/etc/cert.pem",
        "sslkey": "/etc/key.pem",
        "connect_timeout": "3",
        "target_session_attrs": "read-write",
    }


def test_connect_params_win() -> None:
    found = parameters(login_host="db1", connect_params={"host": "db2", "keepalives_idle": 30, "client_encoding": "latin1"})
    assert found == {**ALWAYS, "host": "db2", "keepalives_idle": "30"}


def test_several_hosts_and_ports() -> None:
    found = parameters(login_host="db1,db2", login_port="5432, 5433")
    assert (found["host"], found["port"]) == ("db1,db2", "5432,5433")


def test_socket_replaces_localhost() -> None:
    assert parameters(login_host="localhost", login_unix_socket="/run/pg")["host"] == "/run/pg"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"login_port": "0"}, "login_port: '0' is no port"),
        ({"login_port": "5432,"}, "login_port: '5432,' is no port"),
        ({"login_port": "[5432, 5433]"}, "is no port"),
        ({"ssl_mode": "on"}, "ssl_mode: 'on' is not one of allow, disable"),
        ({"target_session_attrs": "master"}, "target_session_attrs: 'master' is not one of any"),
        ({"connect_timeout": "soon"}, "connect_timeout: 'soon' is not a duration"),
        ({"lock_timeout": "0 s"}, "lock_timeout: '0 s' is not between"),
        ({"statement_timeout": "40 days"}, "statement_timeout: '40 days' is not between"),
        ({"login_host": "db1", "login_unix_socket": "/run/pg"}, "login_host is db1, login_unix_socket /run/pg: give one"),
    ],
)
def test_wrong_options_are_named(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        ConnectionOptions.from_params({**EMPTY, **given})
    assert message in caught.value.message
    assert caught.value.object_name in given


@pytest.mark.parametrize(
    "given",
    [
        {"login_db": "postgresql://pgops:s3cr3t@db1/tim"},
        {"login_db": "host=db1 password = s3cr3t"},
        {"login_host": "postgres://pgops:s3cr3t@db1"},
        {"connect_params": {"dbname": "postgres://pgops:s3cr3t@db1"}},
    ],
)
def test_a_connection_string_is_refused_without_showing_it(given: dict[str, Any]) -> None:
    with pytest.raises(InvalidValue, match="holds a connection string") as caught:
        ConnectionOptions.from_params(given)
    assert "s3cr3t" not in str(caught.value.as_result())


def test_no_secret_in_the_representation() -> None:
    options = ConnectionOptions.from_params({"login_password": "s3cr3t", "connect_params": {"password": "0ther", "sslpassword": "th1rd"}})
    assert not any(secret in repr(options) for secret in ("s3cr3t", "0ther", "th1rd"))
    assert options.secrets() >= {"s3cr3t", "0ther", "th1rd"}


def test_only_what_is_known_to_be_harmless_in_connect_params_is_shown_in_results() -> None:
    inside = {"password": "0ther", "sslmode": "disable", "host": "s3cr3t", "port": 5, "pasword": "typo", "options": "-c key=x"}
    params = {"login_password": "s3cr3t", "connect_params": inside}
    hidden = {str(value) for value in inside.values()}
    _arguments.keep_readable(hidden, params)
    assert hidden == {"s3cr3t", "0ther", "typo", "-c key=x"}
    assert _arguments.secret_values(params) == hidden


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("postgresql://pgops:s3cr3t@db1/tim", "s3cr3t"),
        ("postgres://pgops:s3c%40r3t@db1,db2/tim?sslmode=require", "s3c%40r3t"),
        ("postgresql://db1/tim?user=pgops&password=s3cr3t&port=1", "s3cr3t"),
        ("host=db1 PASSWORD = s3cr3t dbname=tim", "s3cr3t"),
        (r"password='it\'s' host=db1", r"it\'s"),
    ],
)
@pytest.mark.parametrize("inside", [False, True])
def test_a_connection_string_is_hidden_wherever_it_stands(text: str, secret: str, inside: bool) -> None:
    hidden = {text} if inside else set()
    _arguments.keep_readable(hidden, {"connect_params": {"host": text}} if inside else {"session_role": text})
    assert hidden == {text, secret}


def test_the_session_is_named_after_module_and_job() -> None:
    assert _arguments.application_name("pg_health", {}) == "pgops.runbook/pg_health"
    assert _arguments.application_name("pg_health", {"JOB_ID": "42"}) == "pgops.runbook/pg_health/42"


def test_empty_variables_are_hidden_from_libpq_and_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGSSLMODE", "")
    monkeypatch.setenv("PGHOST", "db1")
    monkeypatch.delenv("PGCONNECT_TIMEOUT", raising=False)
    with _connection._environment():
        assert "PGSSLMODE" not in os.environ
        assert (os.environ["PGHOST"], os.environ["PGCONNECT_TIMEOUT"]) == ("db1", "10")
    assert os.environ["PGSSLMODE"] == ""
    assert "PGCONNECT_TIMEOUT" not in os.environ
    monkeypatch.setenv("PGCONNECT_TIMEOUT", "3")
    with _connection._environment():
        assert os.environ["PGCONNECT_TIMEOUT"] == "3"


def test_a_missing_driver_names_both_and_the_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg2", None)
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(DriverMissing) as caught:
        _driver.load()
    text = caught.value.as_result()["msg"]
    assert all(word in text for word in (sys.executable, "psycopg2-binary", "psycopg[binary]"))


@pytest.mark.parametrize(("version", "taken"), [("3.1", False), ("3.1.3", False), ("3.1.4", True), ("3.2.0.dev1", True), ("4.0", True)])
def test_a_psycopg_that_is_too_old_is_not_taken(version: str, taken: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg2", None)
    monkeypatch.setattr(psycopg, "__version__", version)
    if taken:
        assert _driver.load().name == "psycopg"
    else:
        with pytest.raises(DriverMissing, match=f"psycopg {version} is older than 3.1.4"):
            _driver.load()


def test_the_documentation_says_what_the_arguments_are() -> None:
    documented = yaml.safe_load(ModuleDocFragment.DOCUMENTATION)["options"]
    assert set(documented) == set(_arguments.CONNECTION_ARGUMENTS)
    for name, spec in _arguments.CONNECTION_ARGUMENTS.items():
        told = {key: documented[name].get(key) for key in ("type", "aliases", "choices", "default")}
        assert told == {key: spec.get(key) for key in told}, name


def test_the_documentation_says_which_drivers_are_tested() -> None:
    required = " ".join(yaml.safe_load(ModuleDocFragment.DOCUMENTATION)["requirements"])
    pinned = (Path(__file__).parents[2] / "requirements" / "runtime.txt").read_text(encoding="utf-8")
    for told, package in (("psycopg2", "psycopg2-binary"), ("psycopg", "psycopg[binary]")):
        (version,) = re.findall(rf"^{re.escape(package)}==(\S+)", pinned, re.MULTILINE)
        assert f"{told} {version}" in required


def test_values_of_a_connection_string_are_quoted() -> None:
    assert _driver.conninfo({"dbname": "it's a \\ name", "user": ""}) == r"dbname='it\'s a \\ name' user=''"


@pytest.mark.parametrize(
    ("oid", "text", "expected"),
    [
        (16, "t", True),
        (20, "-9223372036854775808", -9223372036854775808),
        (701, "NaN", "NaN"),
        (701, "-Infinity", "-Infinity"),
        (701, "1e-05", 1e-05),
        (1700, "12.00", 12),
        (1700, "-0.50", -0.5),
        (1700, "NaN", "NaN"),
        (1700, "123456789012345678901234567890", 123456789012345678901234567890),
        (3802, '{"a": [1, 2.5, null]}', {"a": [1, 2.5, None]}),
        (114, "1e999", "1e999"),
        (1007, "{{1,NULL},{3,4}}", [[1, None], [3, 4]]),
        (1007, "[2:3]={5,6}", [5, 6]),
        (1009, r'{a,"b,c","d\"e","\\","",NULL,"NULL"}', ["a", "b,c", 'd"e', "\\", "", None, "NULL"]),
        (1009, "{}", []),
        (1020, "{(1,1),(0,0);(2,2),(1,1)}", ["(1,1),(0,0)", "(2,2),(1,1)"]),
        (999999, "(1,x)", "(1,x)"),
    ],
)
def test_texts_become_json_safe_values(oid: int, text: str, expected: Any) -> None:
    found = _driver.converter(oid)(text)
    assert (type(found), found) == (type(expected), expected)


def test_array_literals_survive_a_round_trip() -> None:
    strings = ["a", "", "NULL", None, "{x}", 'say "hi"', "back\\slash", "a,b", " "]
    assert _driver.parse_array(_driver.array_literal(strings), str) == strings
