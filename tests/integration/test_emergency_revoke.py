"""The emergency revocation, from the survey's answers to the database and back."""

from __future__ import annotations

import re
import shlex
import uuid
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from psycopg import sql

from tests.ground.evidence import fingerprint
from tests.ground.redis import RedisServer
from tests.ground.runner import PlaybookResult
from tests.ground.servers import CHECKOUT
from tests.ground.templates import SystemDatabase

Playbook = Callable[..., PlaybookResult]
Systems = Callable[..., SystemDatabase]
TABLES = (("custom", "denylist"), ("custom", "allowlist"), ("tara", "denylist"), ("tara", "allowlist"))
ACCEPTED = """
SELECT count(DISTINCT m.jwt_uuid) FROM {s}.jwt_metadata m
WHERE m.expires_at > (now() AT TIME ZONE 'UTC') AND m.jwt_uuid NOT IN (SELECT jwt_uuid FROM {s}.denylist)
"""
DEAD = {"pgops_system": "tim", "pgops_connection": {"login_host": "127.0.0.1", "login_port": 1, "login_db": "tim"}}
SURVEY = (
    *("issued_from", "issued_to", "claims", "claim_pattern", "ids", "subjects", "clients", "tenants", "providers", "types", "scopes"),
    *("addresses", "families", "all_tokens", "stores", "reason", "max_tokens", "max_share", "revocation_id", "state", "confirm"),
    *("expected_tokens", "target", "requested_by"),
)
ALL = {"target": "databases", "all_tokens": True, "reason": "signing key leaked"}


def hosts_of(*databases: SystemDatabase) -> dict[str, dict[str, Any]]:
    return {f"tim-{number}": {"pgops_system": "tim", "pgops_connection": one.login()} for number, one in enumerate(databases, 1)}


def printed(done: PlaybookResult) -> list[list[str]]:
    """Return the lines of the preview and, where there is one, of the report."""
    return [task.result["token_revoke_lines"] for task in done.find(action="debug") if task.status == "ok"]


def content(database: SystemDatabase) -> list[list[tuple[Any, ...]]]:
    """Return every row of the tables that a revocation changes."""
    return [database.query(sql.SQL("SELECT * FROM {} ORDER BY 1").format(sql.Identifier(*table))) for table in TABLES]


def accepted(database: SystemDatabase) -> int:
    """Return how many tokens TIM accepts, the way it asks itself."""
    return sum(int(database.query(sql.SQL(ACCEPTED).format(s=sql.Identifier(schema)))[0][0]) for schema in ("custom", "tara"))


@pytest.mark.parametrize("arguments", [(), ("--check",)])
def test_nobody_said_which_hosts(system_database: Systems, run_playbook: Playbook, arguments: tuple[str, ...]) -> None:
    database = system_database("tim")
    before = fingerprint(database)
    answers = {**ALL, "target": "", "confirm": True}
    done = run_playbook("emergency_revoke", hosts_of(database), extra_vars=answers, arguments=arguments)
    assert done.rc != 0
    assert "nobody said which hosts" in done.stdout
    assert not done.find(action="pg_token_revoke")
    assert fingerprint(database) == before


@pytest.mark.parametrize(
    ("target", "limit", "said"),
    [("tim-9", None, "matches no host of the inventory"), ("tim-1", "tim-2", "matches no host of the inventory within --limit tim-2")],
)
def test_a_target_without_hosts_does_not_end_green(run_playbook: Playbook, target: str, limit: str | None, said: str) -> None:
    arguments = ["--limit", limit] if limit else []
    done = run_playbook("emergency_revoke", {"tim-1": DEAD, "tim-2": DEAD}, extra_vars={**ALL, "target": target}, arguments=arguments)
    assert done.rc != 0
    assert said in done.stdout


@pytest.mark.any_driver
def test_preview_confirm_again_and_undo(system_database: Systems, run_playbook: Playbook, driver: str) -> None:
    database = system_database("tim")
    hosts, before, print_before, live = hosts_of(database), content(database), fingerprint(database), accepted(database)

    preview = run_playbook("emergency_revoke", hosts, extra_vars=ALL, driver=driver)
    assert (preview.rc, preview.changed) == (0, 0), preview.stdout
    assert fingerprint(database) == print_before
    (lines,) = printed(preview)
    assert lines[0].endswith("1 host: preview, nothing was changed")
    assert lines[1:3] == ["selection: all tokens", "reason: signing key leaked"]
    (counted,) = preview.find(action="pg_token_revoke")
    total = counted.result["revoked"]
    assert total >= live > 0
    assert f"PREVIEW  tim-1 (tim): {total} tokens would be revoked" in lines
    assert lines[-1].startswith("to act: the same command with -e confirm=true")
    assert f"expected_tokens={total}" in lines[-1]

    checked = run_playbook("emergency_revoke", hosts, extra_vars={**ALL, "confirm": True}, driver=driver, check=True)
    assert (checked.rc, checked.changed) == (0, 0)
    assert printed(checked)[0][-1] == "check mode: nothing is changed although confirm is true"
    assert fingerprint(database) == print_before

    done = run_playbook("emergency_revoke", hosts, extra_vars={**ALL, "confirm": True, "expected_tokens": f"{total:,}"}, driver=driver)
    assert done.rc == 0, done.stdout
    assert accepted(database) == 0
    told, report = printed(done)
    assert told[-1] == "confirmed: acting now"
    assert f"OK      tim-1 (tim): {total} tokens revoked, and no selected token is accepted any more" in report

    again = run_playbook("emergency_revoke", hosts, extra_vars={**ALL, "confirm": "yes"}, driver=driver)
    assert (again.rc, again.changed) == (0, 0), again.stdout

    (undo,) = [line.strip() for line in report if line.strip().startswith("undo: ")]
    words = shlex.split(undo)
    given = [word for flag, word in zip(words, words[1:], strict=False) if flag == "-e"]
    arguments = [part for word in given for part in ("-e", word)]
    assert words[1:3] == ["ansible-playbook", "pgops.runbook.emergency_revoke"]
    revoked = fingerprint(database)
    looked = run_playbook("emergency_revoke", hosts, arguments=arguments, driver=driver)
    assert (looked.rc, looked.changed) == (0, 0), looked.stdout
    assert fingerprint(database) == revoked
    assert "rows would be as before" in "\n".join(printed(looked)[0])
    undone = run_playbook("emergency_revoke", hosts, arguments=[*arguments, "-e", "confirm=true"], driver=driver)
    assert undone.rc == 0, undone.stdout
    assert content(database) == before
    assert accepted(database) == live


def test_the_hosts_may_be_said_with_limit(system_database: Systems, run_playbook: Playbook) -> None:
    database = system_database("tim")
    answers = {**ALL, "target": "", "confirm": "true"}
    hosts = {**hosts_of(database), "left-out": DEAD}
    done = run_playbook("emergency_revoke", hosts, extra_vars=answers, arguments=["--limit", "tim-1"])
    assert done.rc == 0, done.stdout
    assert accepted(database) == 0


def test_what_a_survey_leaves_empty_counts_as_not_given(system_database: Systems, run_playbook: Playbook) -> None:
    database = system_database("tim")
    before = fingerprint(database)
    answers = {**dict.fromkeys(SURVEY, ""), "target": "tim-1", "reason": "a user asked", "claims": "admin, nonadmin", "stores": "custom"}
    done = run_playbook("emergency_revoke", hosts_of(database), extra_vars=answers)
    assert done.rc == 0, done.stdout
    (lines,) = printed(done)
    assert lines[1] == "selection: claims admin, nonadmin"
    assert "         not covered: tara, which stores leaves out" in lines
    assert fingerprint(database) == before


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ({}, "selects nothing in particular"),
        ({"all_tokens": True, "reason": ""}, "reason: is missing"),
        ({"issued_from": "2026-01-15 10:00"}, "is not a time with its zone"),
        ({"claim_pattern": "admin*"}, "max_tokens: is missing"),
        ({"state": "reinstated"}, "revocation_id: is missing"),
        ({"all_tokens": True, "stores": "custm"}, "'custm' is not one of"),
        ({"all_tokens": True, "pgops_system": "timm"}, "timm"),
        ({"all_tokens": True, "confirm": "perhaps"}, "token_revoke_confirm"),
        ({"all_tokens": True, "state": "gone"}, "token_revoke_state"),
        ({"issued_from": "2026-01-15T10:00:00Z", "subjects": ","}, "select.subjects: is given and has no value in it"),
        ({"issued_from": "2026-01-15T10:00:00Z", "claims": ["", " "]}, "select.claims: is given and has no value in it"),
        ({"all_tokens": True, "stores": " "}, "stores: is given and has no value in it"),
    ],
)
def test_bad_answers_are_named_before_anything_is_connected_to(run_playbook: Playbook, answers: dict[str, Any], said: str) -> None:
    given = {"target": "databases", "reason": "a test", "confirm": True, **answers}
    done = run_playbook("emergency_revoke", {"tim-1": DEAD}, extra_vars=given)
    assert done.rc != 0
    assert done.changed == 0
    assert said in done.stdout
    assert "onnection refused" not in done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-e", "subjcts=ann"], "subjcts is no answer that this runbook knows, did you mean subjects?"),
        (["-e", "issued_form=2026-01-15T10:00:00Z"], "issued_form is no answer that this runbook knows, did you mean issued_from?"),
        (["-e", "pgops_conection={}"], "did you mean pgops_connection?"),
        (["-e", "user=ann"], "user is no answer that this runbook knows;"),
        (["-e", "subjects=ann, bob"], "words behind a space belong to no answer"),
        (["-e", '{"token_revoke_select": {"claims": "admin"}}'], "token_revoke_select is no answer"),
    ],
)
def test_a_mistyped_answer_does_not_widen_the_selection(
    system_database: Systems, run_playbook: Playbook, arguments: list[str], said: str
) -> None:
    database = system_database("tim")
    before = fingerprint(database)
    answers = {"target": "tim-1", "issued_from": "2020-01-01T00:00:00Z", "reason": "a test", "confirm": True}
    done = run_playbook("emergency_revoke", hosts_of(database), extra_vars=answers, arguments=arguments)
    assert done.rc != 0
    assert said in done.stdout
    assert not done.find(action="pg_token_revoke")
    assert fingerprint(database) == before


def test_variables_of_awx_and_of_ones_own_are_no_typos(run_playbook: Playbook) -> None:
    theirs = {"awx_job_id": 7, "tower_user_name": "ann", "ansible_become": False}
    own = {**theirs, "pgops_summary": {}, "pgops_revocation": {}, "site_name": "north"}
    answers = {**dict.fromkeys(SURVEY, ""), **own, "target": "databases", "pgops_other_variables": ["site_*"]}
    done = run_playbook("emergency_revoke", {"tim-1": DEAD}, extra_vars=answers)
    assert "no answer that this runbook knows" not in done.stdout
    assert "reason: is missing" in done.stdout


def test_the_playbook_knows_every_answer_that_it_reads() -> None:
    preflight, play = yaml.safe_load((CHECKOUT / "playbooks/emergency_revoke.yml").read_text(encoding="utf-8"))
    known = set(preflight["vars"]["emergency_answers"])
    read = set(re.findall(r"{{ (\w+) \| default", str(play["vars"])))
    assert read - known == {"pgops_cache_connection", "pgops_introspection"}
    assert {name for name in known if not name.startswith("token_revoke_")} == read & known
    assert set(SURVEY) - {"target"} == read & known
    options = yaml.safe_load((CHECKOUT / "roles/token_revoke/meta/argument_specs.yml").read_text(encoding="utf-8"))
    assert known - read <= set(options["argument_specs"]["main"]["options"])


def test_answers_that_differ_by_host_are_shown_by_host(system_database: Systems, run_playbook: Playbook) -> None:
    hosts = hosts_of(system_database("tim"), system_database("tim"))
    hosts["tim-2"]["claims"] = "admin"
    answers = {"target": "databases", "issued_from": "2026-01-15T10:00:00Z", "reason": "a test"}
    done = run_playbook("emergency_revoke", hosts, extra_vars=answers)
    assert done.rc == 0, done.stdout
    (lines,) = printed(done)
    assert lines[1] == "selection: not the same on all hosts, see each"
    assert "         selection: issued_from 2026-01-15T10:00:00+00:00" in lines
    assert [line for line in lines if line.startswith("         selection: ") and "claims admin" in line]


def test_a_host_without_preview_keeps_all_others_from_acting(system_database: Systems, run_playbook: Playbook) -> None:
    database = system_database("tim")
    before = fingerprint(database)
    lost = {**hosts_of(database)["tim-1"], "ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1}
    hosts = {"dead-db": DEAD, "lost-host": lost, **hosts_of(database)}

    preview = run_playbook("emergency_revoke", hosts, extra_vars=ALL)
    assert preview.rc != 0
    (lines,) = printed(preview)
    text = "\n".join(lines)
    assert "FAILED   dead-db (tim): " in text
    assert "the host does not answer" in text
    assert "PREVIEW  tim-1 (tim): " in text
    assert preview.stats["tim-1"]["failures"] == 0
    (artifact,) = preview.find(action="set_stats")
    assert artifact.result["ansible_stats"]["data"]["pgops_summary"]["status"] == {
        "dead-db": "failed",
        "lost-host": "failed",
        "tim-1": "ok",
    }

    done = run_playbook("emergency_revoke", hosts, extra_vars={**ALL, "confirm": True})
    assert done.rc != 0
    assert "nothing was changed: dead-db, lost-host could not be previewed" in done.stdout
    assert printed(done)[0][-1].startswith("confirmed, but nothing is changed: dead-db, lost-host could not be previewed")
    assert [one.result["msg"] for one in done.find(host="tim-1") if one.status == "failed"]
    assert fingerprint(database) == before


def test_a_host_that_fails_while_acting_is_named_and_fails_alone(system_database: Systems, run_playbook: Playbook) -> None:
    good, bad = system_database("tim"), system_database("tim")
    bad.query("CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not this one'; END $$")
    bad.query("CREATE TRIGGER refuses BEFORE INSERT ON tara.denylist FOR EACH ROW EXECUTE FUNCTION refuse()")
    done = run_playbook("emergency_revoke", hosts_of(good, bad), extra_vars={**ALL, "confirm": True})
    assert done.rc != 0
    _preview, report = printed(done)
    assert report[0].endswith("2 hosts: 1 done, 1 failed")
    assert any(line.startswith("OK      tim-1 (tim): ") for line in report)
    assert any(line.startswith("FAILED  tim-2 (tim): ") and "not this one" in line for line in report)
    assert len([line for line in report if line.strip().startswith("undo: ")]) == 2, "what tim-2 has revoked by then can be taken back too"
    assert [done.stats[host]["failures"] for host in ("tim-1", "tim-2")] == [0, 1]
    assert accepted(good) == 0


@pytest.mark.parametrize("expected", ["1", 0, "many"])
def test_another_number_than_expected_stops_all_hosts(system_database: Systems, run_playbook: Playbook, expected: Any) -> None:
    one, two = system_database("tim"), system_database("tim")
    before = [fingerprint(database) for database in (one, two)]
    done = run_playbook("emergency_revoke", hosts_of(one, two), extra_vars={**ALL, "confirm": True, "expected_tokens": expected})
    assert done.rc != 0
    assert f"nothing was changed: expected_tokens is {expected}, and there are" in done.stdout
    assert printed(done)[0][-1].startswith(f"confirmed, but nothing is changed: expected_tokens is {expected}, and there are")
    assert [done.stats[host]["failures"] for host in ("tim-1", "tim-2")] == [1, 1]
    assert [fingerprint(database) for database in (one, two)] == before


def test_thousands_of_ids_from_a_survey_flood_nothing(system_database: Systems, run_playbook: Playbook) -> None:
    database = system_database("tim")
    known = [str(row[0]) for row in database.query("SELECT jwt_uuid FROM custom.jwt_metadata")]
    ids = "\n".join([*known, *(str(uuid.uuid5(uuid.NAMESPACE_OID, str(n))) for n in range(5000))])
    done = run_playbook(
        "emergency_revoke", hosts_of(database), extra_vars={"target": "tim-1", "reason": "a leak", "ids": ids, "confirm": "yes"}
    )
    assert done.rc == 0, done.stdout
    assert len(done.stdout) < 20_000
    assert any("not covered: 5,000 ids that no store has" in line for line in printed(done)[0])


def test_cached_sessions_go_too_and_a_cache_that_is_down_is_named(system_database: Systems, run_playbook: Playbook) -> None:
    database = system_database("azth")
    ((session, user),) = database.query("SELECT id::text, user_id::text FROM sessions WHERE expires_at > now() LIMIT 1")
    with RedisServer(password="hush-hush") as server:
        cached = server.client()
        cached.mset({f"session:{session}": "x", f"user_sessions:{user}": "x", "cache:settings": "x"})
        cache = {**server.connection, "timeout": "1 s"}
        hosts = {"azth-1": {"pgops_system": "azth", "pgops_connection": database.login(), "pgops_cache_connection": cache}}
        answers = {"target": "azth-1", "subjects": user, "reason": "account taken over", "confirm": True}
        with server.paused():
            down = run_playbook("emergency_revoke", hosts, extra_vars=answers)
        assert down.rc != 0
        assert database.query("SELECT count(*) FROM sessions WHERE user_id::text = %s AND expires_at > now()", [user]) == [(0,)]
        report = "\n".join(printed(down)[-1])
        assert "FAILED  azth-1 (azth): " in report
        assert "which stands, but: cache " in report
        hosts["azth-1"]["pgops_cache_connection"] = {**cache, "timeout": "30 s"}
        again = run_playbook("emergency_revoke", hosts, extra_vars=answers)
        assert again.rc == 0, again.stdout
        assert cached.keys() == [b"cache:settings"]
        assert "hush-hush" not in down.stdout + again.stdout
