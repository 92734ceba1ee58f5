"""The playbook token_report over all five systems, as an operator runs it and reads it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.ground.evidence import fingerprint
from tests.ground.runner import PlaybookResult
from tests.ground.templates import SystemDatabase, SystemDatabases

SYSTEMS = ("tim", "oauth2_server", "tmi", "showtrack", "azth")
Playbook = Callable[..., PlaybookResult]


@pytest.fixture(scope="module")
def fleet(system_databases: SystemDatabases) -> dict[str, SystemDatabase]:
    """One filled database of every system."""
    return {name: system_databases.copy(name, f"reported_{name}", 2000) for name in SYSTEMS}


def hosts_of(fleet: dict[str, SystemDatabase], *names: str) -> dict[str, dict[str, Any]]:
    return {f"{name}-db": {"pgops_system": name, "pgops_connection": fleet[name].login()} for name in names or SYSTEMS}


def lines_of(done: PlaybookResult) -> list[str]:
    (printed,) = done.find(action="debug")
    lines: list[str] = printed.result["token_report_lines"]
    return lines


def test_all_systems_are_reported_and_nothing_is_changed(fleet: dict[str, SystemDatabase], run_playbook: Playbook) -> None:
    before = {name: fingerprint(database) for name, database in fleet.items()}
    done = run_playbook("token_report", hosts_of(fleet))
    assert done.rc == 0, done.stdout
    assert done.changed == 0
    assert {name: fingerprint(database) for name, database in fleet.items()} == before
    lines = lines_of(done)
    assert lines[0].startswith("token_report, ")
    assert lines[0].endswith(" UTC, 5 hosts")
    text = "\n".join(lines)
    for name in SYSTEMS:
        assert f"OK      {name}-db ({name}), " in text
    ((total,),) = fleet["tim"].query("SELECT count(*) FROM custom.jwt_metadata")
    assert f"        custom (custom.jwt_metadata): {total:,} tokens = " in text
    assert "%  name role sub (" in text
    assert "        clients (public.clients): 3, 3 active" in text
    assert "        registrations (public.users): " in text
    assert "        codes of the last hour (public.authorization_codes): " in text
    # What is not there says so, and what to add.
    assert "not recorded: custom: the type of a token; add token_stores[custom].tokens.type to the description" in text
    assert "not recorded: token_stores: what the system issues: it has no token store" in text
    assert "        unknown:" not in text
    (kept,) = done.find(host="tim-db", action="pg_token_info")
    assert kept.result["stores"][0]["counts"]["total"] == total


def test_no_secret_is_printed(fleet: dict[str, SystemDatabase], run_playbook: Playbook) -> None:
    done = run_playbook("token_report", hosts_of(fleet, "oauth2_server"), arguments=["-vvv"])
    assert done.rc == 0, done.stdout
    kept = done.stdout + str(done.tasks)
    columns = (("tokens", "access_token"), ("tokens", "refresh_token"), ("clients", "client_secret"), ("authorization_codes", "code"))
    for table, column in columns:
        secrets = [row[0] for row in fleet["oauth2_server"].query(f"SELECT DISTINCT {column} FROM {table} WHERE {column} IS NOT NULL")]
        assert secrets
        assert [secret for secret in secrets if secret in kept] == []


@pytest.mark.any_driver
def test_tokens_are_looked_up(fleet: dict[str, SystemDatabase], run_playbook: Playbook, driver: str) -> None:
    tim = fleet["tim"]
    ((denied,),) = tim.query("SELECT jwt_uuid::text FROM custom.denylist d JOIN custom.jwt_metadata m USING (jwt_uuid) LIMIT 1")
    ((orphan,),) = tim.query(
        "SELECT jwt_uuid::text FROM tara.denylist d"
        " WHERE NOT EXISTS (SELECT FROM tara.jwt_metadata m WHERE m.jwt_uuid = d.jwt_uuid) LIMIT 1"
    )
    nowhere = "4b2bc14c-c234-4f63-a4dd-4522860d9b36"
    done = run_playbook("token_report", hosts_of(fleet, "tim"), extra_vars={"ids": f"{denied}, {orphan},{nowhere}"}, driver=driver)
    assert done.rc == 0, done.stdout
    (kept,) = done.find(action="pg_token_info")
    assert [token["status"] for token in kept.result["tokens"]] == ["revoked", "revoked", "not_found"]
    assert kept.result["reports"] == []
    lines = lines_of(done)
    assert f"        {denied}: revoked in custom" in lines
    assert f"        {orphan}: revoked in tara" in lines
    assert any(line.startswith("          tara: revoked, only the deny list has it, revoked by denylist at ") for line in lines)
    assert f"        {nowhere}: not found" in lines


def test_empty_answers_of_a_survey_count_as_not_given(fleet: dict[str, SystemDatabase], run_playbook: Playbook) -> None:
    empty = dict.fromkeys(("ids", "stores", "reports", "days", "time_zone", "target"), "")
    done = run_playbook("token_report", hosts_of(fleet, "tim"), extra_vars=empty)
    assert done.rc == 0, done.stdout
    (kept,) = done.find(action="pg_token_info")
    assert (kept.result["window"]["days"], kept.result["time_zone"], len(kept.result["reports"])) == (30, "UTC", 9)


def test_a_mistyped_answer_reads_no_tables(fleet: dict[str, SystemDatabase], run_playbook: Playbook) -> None:
    done = run_playbook("token_report", hosts_of(fleet, "tim"), extra_vars={"id": "4b2bc14c-c234-4f63-a4dd-4522860d9b36"})
    assert done.rc != 0
    assert "id is no answer that this runbook knows, did you mean ids?" in done.stdout
    assert not done.find(action="pg_token_info")


def test_ids_without_an_id_read_no_tables(fleet: dict[str, SystemDatabase], run_playbook: Playbook) -> None:
    done = run_playbook("token_report", hosts_of(fleet, "tim"), extra_vars={"ids": ", ,"})
    assert done.rc != 0
    assert "ids: is given and has no value in it" in "\n".join(lines_of(done))


def test_answers_of_a_survey_are_texts(fleet: dict[str, SystemDatabase], run_playbook: Playbook) -> None:
    given = {"reports": "counts,\nissued", "days": "7", "time_zone": "Europe/Tallinn", "stores": "tara"}
    done = run_playbook("token_report", hosts_of(fleet, "tim"), extra_vars=given, check=True)
    assert done.rc == 0, done.stdout
    (kept,) = done.find(action="pg_token_info")
    assert (kept.result["window"]["days"], kept.result["reports"]) == (7, ["counts", "issued"])
    assert [store["name"] for store in kept.result["stores"]] == ["tara"]


def test_a_dead_database_does_not_hide_the_others(fleet: dict[str, SystemDatabase], run_playbook: Playbook) -> None:
    hosts = hosts_of(fleet, "tim")
    hosts["dead-db"] = {"pgops_system": "azth", "pgops_connection": {"login_host": "127.0.0.1", "login_port": 1, "login_db": "azth"}}
    hosts["wrong-db"] = {"pgops_system": {"name": "wrong", "tables": []}, "pgops_connection": {}}
    done = run_playbook("token_report", hosts)
    assert done.rc != 0
    text = "\n".join(lines_of(done))
    assert "OK      tim-db (tim), " in text
    assert "FAILED  dead-db (azth)" in text
    assert "broke off: Look the tokens up and read the reports: " in text
    assert "FAILED  wrong-db (no system)" in text
    assert {host: counts["failures"] for host, counts in done.stats.items() if host in hosts} == {"tim-db": 0, "dead-db": 1, "wrong-db": 1}
