"""The retention of the systems that ship: what goes is what each application's own janitor takes, and what it accepts stays."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml

from tests.ground.databases import Database
from tests.ground.published.databases import PublishedDatabase
from tests.ground.runner import AnsibleRunner, PlaybookResult
from tests.ground.systems import FOLDER, description_of
from tests.ground.templates import SystemDatabase

Playbook = Callable[..., PlaybookResult]
Systems = Callable[..., SystemDatabase]
Published = Callable[..., PublishedDatabase]
AGE = "40 days"

# The rows that the application's own janitor would remove, by rule: SQL that knows nothing of the engine.
JANITORS = {
    # oauth2_provider/models.py, clear_expired
    "django_oauth_toolkit": {"public.oauth2_provider_grant": "SELECT count(*) FROM oauth2_provider_grant WHERE expires < now()"},
    # token_blacklist/management/commands/flushexpiredtokens.py: the token, and its row in the black list by a cascade
    "simplejwt": {
        "public.token_blacklist_blacklistedtoken": "SELECT count(*) FROM token_blacklist_blacklistedtoken AS b"
        " JOIN token_blacklist_outstandingtoken AS t ON t.id = b.token_id WHERE t.expires_at <= now()",
        "public.token_blacklist_outstandingtoken": "SELECT count(*) FROM token_blacklist_outstandingtoken WHERE expires_at <= now()",
    },
    # persistence/sql/persister_oauth2.go, FlushInactiveAccessTokens and FlushInactiveRefreshTokens, by the expiry that each token has
    "ory_hydra": {
        "public.hydra_oauth2_access": "SELECT count(*) FROM hydra_oauth2_access"
        " WHERE (session_data::jsonb #>> '{id_token,expires_at,access_token}')::timestamptz < now()",
        "public.hydra_oauth2_refresh": "SELECT count(*) FROM hydra_oauth2_refresh"
        " WHERE (session_data::jsonb #>> '{id_token,expires_at,refresh_token}')::timestamptz < now() AND used_times IS NULL",
    },
    # internal/models/cleanup.go
    "supabase_auth": {
        "auth.refresh_tokens": "SELECT count(*) FROM auth.refresh_tokens WHERE revoked IS TRUE AND updated_at < now() - interval '24 h'",
        "auth.sessions": "SELECT count(*) FROM auth.sessions WHERE not_after < now() - interval '72 h'",
        "auth.flow_state": "SELECT count(*) FROM auth.flow_state WHERE created_at < now() - interval '24 h'",
    },
}
# Some of the made-up rows are aged, where none is old enough.
AGED = {
    "simplejwt": "UPDATE token_blacklist_blacklistedtoken SET blacklisted_at = blacklisted_at - interval '1 h'",
    "django_oauth_toolkit": "UPDATE oauth2_provider_grant SET expires = expires - interval '10 days' WHERE id % 3 = 0",
    "supabase_auth": "UPDATE auth.flow_state SET created_at = created_at - interval '2 days' WHERE auth_code < (SELECT max(auth_code)"
    " FROM auth.flow_state) AND ascii(right(auth_code, 1)) % 2 = 0;"
    "UPDATE auth.sessions SET not_after = not_after - interval '5 days' WHERE not_after < now() AND ascii(right(id::text, 1)) % 2 = 0",
}


def host_of(database: Database, system: Any) -> dict[str, dict[str, Any]]:
    return {"db": {"pgops_system": system, "pgops_connection": database.login()}}


def removed(done: PlaybookResult) -> dict[str, int]:
    (found,) = done.find(action="pg_cleanup")
    return {rule["name"]: rule["removed"] for rule in found.result["rules"]}


@pytest.mark.parametrize("layout", JANITORS)
def test_what_goes_is_what_the_application_s_janitor_takes(published_database: Published, run_playbook: Playbook, layout: str) -> None:
    database = published_database(layout)
    for statement in AGED.get(layout, "").split(";"):
        if statement:
            database.query(statement)
    accepted = database.accepted()
    assert all(accepted.values())
    wanted = {rule: database.query(statement)[0][0] for rule, statement in JANITORS[layout].items()}
    assert all(wanted.values()), "every rule has something to do"
    done = run_playbook("daily", host_of(database, layout), extra_vars={"pgops_fail_on": "never"})
    assert done.rc == 0, done.stdout
    assert removed(done) == wanted
    assert database.accepted() == accepted
    again = run_playbook("daily", host_of(database, layout), extra_vars={"pgops_fail_on": "never"})
    assert set(removed(again).values()) == {0}


def test_every_token_of_the_oauth2_server_is_in_one_place(system_database: Systems, run_playbook: Playbook) -> None:
    database = system_database("oauth2_server")
    hosts = host_of(database, "oauth2_server")
    every = "SELECT * FROM tokens ORDER BY token_id"
    both = "SELECT * FROM tokens UNION ALL SELECT * FROM tokens_archive ORDER BY token_id"
    before = database.query(every)
    check = run_playbook("daily", hosts, check=True)
    assert database.query("SELECT to_regclass('tokens_archive')") == [(None,)]
    done = run_playbook("daily", hosts)
    assert done.rc == 0, done.stdout
    assert removed(check) == removed(done) == database.expected.removed["daily"]
    (cleanup,) = done.find(action="pg_cleanup")
    assert cleanup.result["archived"] == database.expected.removed["daily"]["public.tokens"] > 0
    assert database.query(both) == before
    past = "SELECT count(*) FROM {} WHERE expires_at < (now() AT TIME ZONE 'UTC') - interval '7 days'"
    assert database.query(past.format("tokens")) == [(0,)]
    assert database.query(past.format("tokens_archive")) == [(cleanup.result["archived"],)]

    again = run_playbook("daily", hosts)
    assert again.changed == 0, "the archive gets no row twice"
    assert database.query(both) == before


def examples(system: str) -> Iterator[dict[str, Any]]:
    """Yield the rules that a description has as comments for a copy of it, with an age in the place of the open one."""
    text = (FOLDER / f"{system}.yml").read_text(encoding="utf-8")
    for block in re.findall(r"(?:^ *#.*\n)+", text, re.MULTILINE):
        if "<age>" not in block:
            continue
        lines = [re.sub(r"^ *# ?", "", line) for line in block.splitlines()]
        first = min(number for number, line in enumerate(lines) if re.match(r" +(?:retention|weekly|- )", line) or "older_than" in line)
        written = textwrap.dedent("\n".join(lines[first:])).replace("<age>", AGE)
        yield from rules_in(yaml.safe_load(written))


def rules_in(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict) and "table" in value:
        yield value
    else:
        for one in value.values() if isinstance(value, dict) else value:
            yield from rules_in(one)


def with_examples(system: str) -> dict[str, Any]:
    """Return a description with its commented rules as those of the month."""
    written: dict[str, Any] = yaml.safe_load((FOLDER / f"{system}.yml").read_text(encoding="utf-8"))
    return {**written, "retention": {**written.get("retention", {}), "monthly": list(examples(system))}}


@pytest.mark.parametrize(("system", "rules"), [("azth", 3), ("oauth2_server", 1), ("tmi", 1), ("doorkeeper", 2)])
def test_the_commented_rules_are_rules(system: str, rules: int) -> None:
    assert len(description_of(with_examples(system))["retention"]["monthly"]) == rules


def carried_out(ansible_runner: AnsibleRunner, database: Database, system: str) -> dict[str, dict[str, Any]]:
    """Carry the commented rules out; return what became of each."""
    description = description_of(with_examples(system))
    arguments = {"rules": description["retention"]["monthly"], "token_stores": description["token_stores"]}
    done = ansible_runner.module("pg_cleanup", arguments, connection=database.login())
    assert not done["failed"], done["msg"]
    return {rule["table"]: rule for rule in done["rules"]}


def test_the_commented_rules_of_azth(system_database: Systems, ansible_runner: AnsibleRunner) -> None:
    database = system_database("azth")
    database.query("UPDATE notifications SET sent_at = now() - interval '50 days' WHERE id IN (SELECT id FROM notifications LIMIT 20)")
    database.query("UPDATE notifications SET created_at = now() - interval '500 days'")
    database.query("UPDATE roles SET deleted_at = now() - interval '50 days' WHERE id IN (SELECT role_id FROM user_roles LIMIT 1)")
    ((living,), (notifications,), (months,)) = (
        database.query(f"SELECT count(*) {what}")[0]
        for what in (
            "FROM roles WHERE deleted_at IS NULL",
            "FROM notifications",
            "FROM pg_inherits WHERE inhparent = 'audit_logs'::regclass",
        )
    )
    done = carried_out(ansible_runner, database, "azth")
    assert done["public.notifications"]["removed"] == 20
    assert database.query("SELECT count(*) FROM notifications") == [(notifications - 20,)], "what waits to be sent stays, however old"
    assert done["public.roles"]["removed"] == 1
    assert database.query("SELECT count(*), count(deleted_at) FROM roles") == [(living, 0)]
    dropped = done["public.audit_logs"]["partitions"]
    assert len(dropped) > 0
    assert database.query("SELECT count(*) FROM pg_inherits WHERE inhparent = 'audit_logs'::regclass") == [(months - len(dropped),)]
    assert database.query("SELECT count(*) > 0 FROM audit_logs WHERE created_at > now() - interval '40 days'") == [(True,)]


def test_the_commented_rule_of_the_oauth2_server_is_about_its_archive(
    system_database: Systems, run_playbook: Playbook, ansible_runner: AnsibleRunner
) -> None:
    database = system_database("oauth2_server")
    run_playbook("daily", host_of(database, "oauth2_server"))
    ((old,),) = database.query("SELECT count(*) FROM tokens_archive WHERE expires_at < (now() AT TIME ZONE 'UTC') - interval '40 days'")
    database.query("UPDATE tokens_archive SET expires_at = expires_at - interval '40 days' WHERE token_id::text < '8'")
    ((old,),) = database.query("SELECT count(*) FROM tokens_archive WHERE expires_at < (now() AT TIME ZONE 'UTC') - interval '40 days'")
    done = carried_out(ansible_runner, database, "oauth2_server")
    assert done["public.tokens_archive"]["removed"] == old > 0


def test_the_commented_rules_of_doorkeeper_leave_what_is_accepted(published_database: Published, ansible_runner: AnsibleRunner) -> None:
    database = published_database("doorkeeper")
    accepted = database.accepted()
    database.query("UPDATE oauth_access_tokens SET created_at = created_at - interval '90 days' WHERE id % 2 = 0")
    # A renewed age may have ended some of them; from here on nothing may.
    accepted = database.accepted()
    ((expected,),) = database.query(
        "SELECT count(*) FROM oauth_access_tokens WHERE refresh_token IS NULL AND expires_in IS NOT NULL AND revoked_at IS NULL"
        " AND created_at < (now() AT TIME ZONE 'UTC') - interval '40 days'"
    )
    done = carried_out(ansible_runner, database, "doorkeeper")
    assert done["public.oauth_access_tokens"]["removed"] == expected > 0
    assert database.accepted() == accepted
