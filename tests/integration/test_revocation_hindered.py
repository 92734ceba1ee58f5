"""What keeps a revocation from its end: killed, cut off, not allowed, refused; the next run goes on, and nothing is half said."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pgops.runbook.plugins.module_utils import _revocation
from ansible_collections.pgops.runbook.plugins.module_utils._errors import Busy, ConnectError, DatabaseError, InvalidValue, RunbookError
from ansible_collections.pgops.runbook.plugins.module_utils._revocation import apply
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.report import Interrupted, Refused
from tests.ground.cluster import Cluster
from tests.ground.databases import Database
from tests.integration.children import until
from tests.integration.hindering import APP, DELETED, DENIED, FLAGGED, WINDOW, Revoker

AUDITED = {"revocation": {"journal": "kept", "audit": "app.audit"}}
PROCESS = """
import json, sys
sys.path[:0] = {path!r}
from ansible_collections.pgops.runbook.plugins.module_utils import _revocation
from ansible_collections.pgops.runbook.plugins.module_utils._connection import ConnectionOptions, connect
given = json.load(sys.stdin)
options = _revocation.read_options(given["options"])
with connect(ConnectionOptions.from_params(given["login"]), application_name="pgops.runbook/killed", read_only=False) as session:
    print("begun", flush=True)
    _revocation.run(session, options, check_mode=False)
"""


@pytest.fixture
def revoker(database: Database) -> Revoker:
    return Revoker(database).filled()


@pytest.fixture
def role(revoker: Revoker) -> Iterator[str]:
    """A role that may read the application's tables, and nothing else."""
    name = f"limited_{revoker.database.name}"
    revoker.sql(f"CREATE ROLE {name} LOGIN; GRANT USAGE ON SCHEMA app TO {name}; GRANT SELECT ON ALL TABLES IN SCHEMA app TO {name}")
    revoker.sql(f"REVOKE TEMPORARY ON DATABASE {revoker.database.name} FROM PUBLIC")
    yield name
    revoker.sql(f"DROP OWNED BY {name}; DROP ROLE {name}")


# --- ended from outside ---------------------------------------------------------------------------------------------------


def end_state(revoker: Revoker) -> dict[str, Any]:
    """Return what the tables hold, less what tells one run from another."""
    return {
        "denied": revoker.sql("SELECT id FROM app.denied ORDER BY 1"),
        "allowed": revoker.content("app.allowed"),
        "codes": revoker.content("app.codes"),
        "sessions": revoker.sql("SELECT id, subject, revoked_at IS NULL, revoked FROM app.sessions ORDER BY 1"),
    }


def test_killed_at_any_moment_and_run_again(revoker: Revoker, tmp_path: Path) -> None:
    """The end is that of a run that was let be, and all runs together can be taken back."""
    stores = [DENIED, DELETED]
    before = revoker.content()
    revoker.sql(
        "CREATE FUNCTION app.slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.01); RETURN NULL; END $$;"
        " CREATE TRIGGER slow AFTER DELETE ON app.allowed FOR EACH STATEMENT EXECUTE FUNCTION app.slow();"
        " CREATE TRIGGER slow AFTER INSERT ON app.denied FOR EACH STATEMENT EXECUTE FUNCTION app.slow();"
        " CREATE TRIGGER slow AFTER DELETE ON app.sessions FOR EACH STATEMENT EXECUTE FUNCTION app.slow()"
    )
    whole = revoker.run(WINDOW, *stores, batch_rows=9)
    wanted, rows = end_state(revoker), counts(revoker)
    revoker.undo(whole["revocation_id"])
    assert revoker.content() == before
    untouched = counts(revoker)
    script = tmp_path / "killed.py"
    script.write_text(PROCESS.replace("{path!r}", repr(sys.path)), encoding="utf-8")
    options = {"token_stores": stores, "select": WINDOW, "reason": "killed", "batch_rows": 9, "max_wait": "500 ms"}
    dice, moments = random.Random(3), []
    for _round in range(6):
        revoker.sql("TRUNCATE pgops_runbook.revocations, pgops_runbook.changes, pgops_runbook.changed_rows")
        for _kill in range(2):
            process = start(script, {"options": options, "login": revoker.database.login(tcp=False)})
            # By the rows that are done, not by a clock: how long they take is up to the machine.
            far = dice.uniform(0, 1) * distance(rows, untouched)
            until(lambda far=far, process=process: process.poll() is not None or distance(counts(revoker), untouched) >= far)
            time.sleep(dice.uniform(0, 0.02))
            process.send_signal(signal.SIGKILL)
            process.wait()
            moments.append(counts(revoker))
        after_busy(revoker, *stores)
        assert end_state(revoker) == wanted
        runs = [row[0] for row in revoker.sql("SELECT revocation_id FROM pgops_runbook.revocations ORDER BY began_at DESC")]
        for revocation_id in runs:
            revoker.undo(revocation_id)
        assert revoker.content() == before
    # Some were killed half way, or the moments say nothing.
    assert len({str(moment) for moment in moments}) > 3


def counts(revoker: Revoker) -> list[int]:
    """Return how many rows each of the application's tables has."""
    return list(revoker.sql("SELECT " + ", ".join(f"(SELECT count(*) FROM {table})" for table in APP))[0])


def distance(some: list[int], others: list[int]) -> int:
    """Return how many rows lie between two counts."""
    return sum(abs(one - other) for one, other in zip(some, others, strict=True))


def start(script: Path, given: dict[str, Any]) -> subprocess.Popen[str]:
    """Start a run in a process of its own, and return when it is connected."""
    process = subprocess.Popen([sys.executable, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ})
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps(given))
    process.stdin.close()
    assert process.stdout.readline() == "begun\n"
    return process


def after_busy(revoker: Revoker, *stores: dict[str, Any], **options: Any) -> dict[str, Any]:
    """Run as soon as the server has noticed that the one before is gone."""
    end = time.monotonic() + 60
    while True:
        try:
            return revoker.run(WINDOW, *stores, batch_rows=9, **options)
        except Busy:
            assert time.monotonic() < end
            time.sleep(0.05)


@pytest.mark.parametrize("batches", range(0, 12, 2))
def test_lost_after_each_batch_and_run_again(revoker: Revoker, monkeypatch: pytest.MonkeyPatch, batches: int) -> None:
    before = revoker.content()
    lose_after(revoker, monkeypatch, batches)
    with pytest.raises(Interrupted) as caught:
        revoker.run(WINDOW, DENIED, FLAGGED, batch_rows=20)
    result = caught.value.as_result()
    assert result["revoked"] == changed_tokens(revoker)
    assert f"({result['revoked']} tokens were revoked by then, and stay so)" in result["msg"]
    assert result["undo"]["revocation_id"] == result["revocation_id"]
    monkeypatch.undo()
    again = after_busy(revoker, DENIED, FLAGGED)
    assert again["remaining"] == 0
    assert changed_tokens(revoker) == 77 + 77
    for revocation_id in (again["revocation_id"], result["revocation_id"]):
        if revoker.sql("SELECT 1 FROM pgops_runbook.revocations WHERE revocation_id = %s", [revocation_id]):
            revoker.undo(revocation_id)
    assert revoker.content() == before


def lose_after(revoker: Revoker, monkeypatch: pytest.MonkeyPatch, batches: int) -> None:
    """Let the server end the session of the run before its batch number `batches`, counted from 0."""
    change, seen = apply.Application._change, []

    def lost(self: Any, *given: Any) -> Any:
        if len(seen) == batches:
            revoker.sql("SELECT pg_terminate_backend(%s)", [self.database.backend_pid])
        seen.append(1)
        return change(self, *given)

    monkeypatch.setattr(apply.Application, "_change", lost)


def changed_tokens(revoker: Revoker) -> int:
    """Return how many tokens the two stores have beside those that were revoked before."""
    return int(revoker.value("SELECT (SELECT count(*) FROM app.denied) + (SELECT count(*) FROM app.sessions WHERE revoked) - 28"))


def test_lost_while_all_is_one_transaction(revoker: Revoker, monkeypatch: pytest.MonkeyPatch) -> None:
    before = revoker.content()
    lose_after(revoker, monkeypatch, 3)
    with pytest.raises(Interrupted) as caught:
        revoker.run(WINDOW, DENIED, FLAGGED, atomic=True)
    assert (caught.value.result["revoked"], caught.value.result["changed"]) == (0, False)
    assert revoker.content() == before


def test_lost_after_the_last_pass(revoker: Revoker, monkeypatch: pytest.MonkeyPatch) -> None:
    """All is revoked and proven; only the record's last row is missing, and the result says what was done."""
    forget = _revocation.revoke.__globals__["Cached"].forget

    def lost(self: Any, *given: Any) -> Any:
        revoker.sql("SELECT pg_terminate_backend(%s)", [self.database.backend_pid])
        return forget(self, *given)

    monkeypatch.setattr(_revocation.revoke.__globals__["Cached"], "forget", lost)
    with pytest.raises(Interrupted) as caught:
        revoker.run(WINDOW)
    assert (caught.value.result["revoked"], caught.value.result["remaining"]) == (77, 0)


def test_a_statement_that_takes_too_long(revoker: Revoker) -> None:
    revoker.sql(
        "CREATE FUNCTION app.slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(120); RETURN NEW; END $$;"
        " CREATE TRIGGER slow BEFORE INSERT ON app.denied FOR EACH ROW EXECUTE FUNCTION app.slow()"
    )
    with pytest.raises(Interrupted) as caught:
        revoker.run(WINDOW, login={"statement_timeout": "5 s"})
    assert (caught.value.sqlstate, caught.value.result["revoked"]) == ("57014", 0)
    revoker.sql("DROP TRIGGER slow ON app.denied")
    assert revoker.run(WINDOW)["revoked"] == 77


def test_a_trigger_that_errors(revoker: Revoker) -> None:
    revoker.sql(
        "CREATE FUNCTION app.refuse() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN IF NEW.id = md5('t5')::uuid THEN RAISE 'not this one'; END IF; RETURN NEW; END $$;"
        " CREATE TRIGGER refuse BEFORE INSERT ON app.denied FOR EACH ROW EXECUTE FUNCTION app.refuse()"
    )
    with pytest.raises(Interrupted, match=r"not this one in app\.refuse.*tokens were revoked by then") as caught:
        revoker.run(WINDOW, batch_rows=10)
    assert caught.value.result["revoked"] == revoker.value("SELECT count(*) FROM app.denied") - 14


def test_a_second_store_that_fails_takes_the_first_along_if_all_is_one(revoker: Revoker) -> None:
    revoker.sql("ALTER TABLE app.sessions ADD CHECK (NOT (id = 5 AND revoked))")
    before = revoker.content()
    with pytest.raises(Interrupted, match="0 tokens were revoked by then") as caught:
        revoker.run(WINDOW, DENIED, FLAGGED, atomic=True)
    assert [store["revoked"] for store in caught.value.result["stores"]] == [0, 0]
    assert revoker.content() == before
    with pytest.raises(Interrupted, match="77 tokens were revoked by then"):
        revoker.run(WINDOW, DENIED, FLAGGED)


def test_all_in_one_transaction(revoker: Revoker) -> None:
    revoker.sql("CREATE TABLE app.seen (number bigserial, what text, xid bigint)")
    revoker.sql(
        "CREATE FUNCTION app.note() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN INSERT INTO app.seen (what, xid) VALUES (TG_TABLE_NAME, txid_current()); RETURN NULL; END $$;"
        " CREATE TRIGGER note AFTER INSERT ON app.denied FOR EACH STATEMENT EXECUTE FUNCTION app.note();"
        " CREATE TRIGGER note AFTER DELETE ON app.allowed FOR EACH STATEMENT EXECUTE FUNCTION app.note();"
        " CREATE TRIGGER note AFTER DELETE ON app.codes FOR EACH STATEMENT EXECUTE FUNCTION app.note();"
        " CREATE TRIGGER note AFTER UPDATE ON app.sessions FOR EACH STATEMENT EXECUTE FUNCTION app.note()"
    )
    result = revoker.run(WINDOW, DENIED, FLAGGED, atomic=True)
    seen = revoker.sql("SELECT what, xid FROM app.seen ORDER BY number")
    # What would make new tokens goes before the tokens of its store.
    assert [row[0] for row in seen] == ["allowed", "denied", "codes", "sessions"]
    assert len({row[1] for row in seen}) == 1
    assert (result["revoked"], result["remaining"]) == (154, 0)


def test_too_much_for_one_transaction(revoker: Revoker) -> None:
    before = revoker.content()
    for check in (True, False):
        with pytest.raises(Refused, match=r"atomic: .* rows are too many for one transaction; batch_rows allows 100"):
            revoker.run(WINDOW, DENIED, FLAGGED, atomic=True, batch_rows=100, check=check)
    assert revoker.content() == before


# --- servers and roles that do not let it ---------------------------------------------------------------------------------


def test_a_server_that_only_reads(revoker: Revoker) -> None:
    revoker.sql(f"ALTER DATABASE {revoker.database.name} SET default_transaction_read_only = on")
    with pytest.raises(ConnectError, match="read"):
        revoker.run(WINDOW)


@pytest.mark.parametrize("check", [True, False])
def test_a_standby(cluster: Cluster, standby: Cluster, database: Database, check: bool) -> None:
    revoker = Revoker(database).filled(20)
    cluster.wait_for(standby)
    place = standby.login(database.name, tcp=False)
    with pytest.raises(RunbookError, match=r"standby|recovery|read-only"):
        revoker.run(WINDOW, check=check, login=place)


@pytest.mark.parametrize("table", ["app.tokens", "app.denied", "app.allowed"])
def test_row_security_that_hides_rows(revoker: Revoker, role: str, table: str) -> None:
    revoker.sql(f"GRANT ALL ON ALL TABLES IN SCHEMA app TO {role}; GRANT TEMPORARY, CREATE ON DATABASE {revoker.database.name} TO {role}")
    revoker.sql(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY; CREATE POLICY few ON {table} USING (false)")
    before = revoker.content()
    for check in (True, False):
        with pytest.raises(DatabaseError, match=f"row-level security hides rows of {table} from this role"):
            revoker.run(WINDOW, check=check, login={"login_user": role})
    assert revoker.content() == before


LACKS = {
    "INSERT": (DENIED, "REVOKE INSERT ON app.denied FROM {role}", "may not INSERT app.denied", "Give it INSERT"),
    "UPDATE": (DENIED, "REVOKE UPDATE ON app.denied FROM {role}", "may not UPDATE app.denied", "Give it UPDATE"),
    "DELETE": (DENIED, "REVOKE DELETE ON app.allowed FROM {role}", "may not DELETE app.allowed", "Give it DELETE"),
    "UPDATE of tokens": (FLAGGED, "REVOKE UPDATE ON app.sessions FROM {role}", "may not UPDATE app.sessions", "Give it UPDATE"),
    "TEMPORARY": (DENIED, "REVOKE TEMPORARY ON DATABASE {name} FROM {role}", "may not make temporary tables", "TEMPORARY on the database"),
    "CREATE": (DENIED, "REVOKE CREATE ON DATABASE {name} FROM {role}", "cannot keep the record", "make that schema, with .* as its owner"),
    "SELECT": (DENIED, "REVOKE SELECT ON app.denied FROM {role}", "may not SELECT app.denied", "Give it SELECT"),
    "audit": (DENIED, "REVOKE CREATE ON SCHEMA app FROM {role}", "may not make app.audit", "Give it CREATE on schema app"),
}


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize("what", LACKS)
def test_a_privilege_that_is_missing_is_named_before_the_first_change(revoker: Revoker, role: str, what: str, check: bool) -> None:
    store, revoke, message, hint = LACKS[what]
    name = revoker.database.name
    revoker.sql(f"GRANT ALL ON ALL TABLES IN SCHEMA app TO {role}; GRANT TEMPORARY, CREATE ON DATABASE {name} TO {role}")
    revoker.sql(f"GRANT CREATE ON SCHEMA app TO {role}")
    revoker.sql(revoke.replace("{role}", role).replace("{name}", name))
    if what == "UPDATE":
        # Only a deny row that ends too early is ever changed.
        revoker.sql("INSERT INTO app.denied SELECT md5('t5')::uuid, now(), now() + interval '1 h'")
    before = revoker.content()
    audit = AUDITED if what == "audit" else {}
    with pytest.raises(DatabaseError, match=message) as caught:
        revoker.run(WINDOW, store, check=check, login={"login_user": role}, **audit)
    result = caught.value.as_result()
    assert not isinstance(caught.value, Interrupted)
    assert result["error"]["sqlstate"] == "42501"
    assert caught.value.hint is not None
    assert re.search(hint, caught.value.hint)
    assert revoker.content() == before
    assert revoker.sql("SELECT 1 FROM pg_namespace WHERE nspname IN ('pgops_runbook', 'kept')") == []


def test_just_enough_privileges(revoker: Revoker, role: str) -> None:
    name = revoker.database.name
    revoker.sql(
        f"GRANT INSERT ON app.denied TO {role}; GRANT DELETE, UPDATE ON app.allowed TO {role}; GRANT TEMPORARY ON DATABASE {name} TO {role}"
    )
    revoker.sql(f"CREATE SCHEMA pgops_runbook AUTHORIZATION {role}")
    login = {"login_user": role}
    assert revoker.run(WINDOW, check=True, login=login)["revoked"] == 77
    result = revoker.run(WINDOW, login=login)
    assert (result["revoked"], result["role"]) == (77, role)
    revoker.sql(f"GRANT DELETE ON app.denied TO {role}; GRANT INSERT ON app.allowed TO {role}")
    assert revoker.undo(result["revocation_id"], login=login)["left"] == 0


@pytest.mark.parametrize("check", [True, False])
def test_a_deny_list_that_wants_more_than_is_described(revoker: Revoker, check: bool) -> None:
    revoker.sql("ALTER TABLE app.denied ADD COLUMN by_whom text; UPDATE app.denied SET by_whom = 'x'")
    revoker.sql("ALTER TABLE app.denied ALTER COLUMN by_whom SET NOT NULL")
    before = revoker.content()
    with pytest.raises(InvalidValue, match=r"app\.denied: no row can be put into it, because by_whom must not be NULL"):
        revoker.run(WINDOW, check=check)
    assert revoker.content() == before


@pytest.mark.parametrize(
    "remedy",
    [
        "ALTER TABLE app.denied ALTER COLUMN by_whom SET DEFAULT 'nobody'",
        "CREATE FUNCTION app.fill() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.by_whom = 'trigger'; RETURN NEW; END $$;"
        " CREATE TRIGGER fill BEFORE INSERT ON app.denied FOR EACH ROW EXECUTE FUNCTION app.fill()",
    ],
)
def test_a_deny_list_that_fills_its_columns_itself(revoker: Revoker, remedy: str) -> None:
    revoker.sql("ALTER TABLE app.denied ADD COLUMN by_whom text; UPDATE app.denied SET by_whom = 'x'")
    revoker.sql("ALTER TABLE app.denied ALTER COLUMN by_whom SET NOT NULL")
    revoker.sql("ALTER TABLE app.denied ADD COLUMN number bigint GENERATED ALWAYS AS IDENTITY")
    revoker.sql(remedy)
    assert revoker.run(WINDOW)["revoked"] == 77


@pytest.mark.parametrize("check", [True, False])
def test_rows_that_a_deletion_would_take_along_unseen(revoker: Revoker, check: bool) -> None:
    revoker.sql(
        "CREATE TABLE app.notes (id bigint REFERENCES app.sessions ON DELETE CASCADE); INSERT INTO app.notes SELECT id FROM app.sessions"
    )
    with pytest.raises(InvalidValue, match=r"would change rows of app\.notes by the foreign key notes_id_fkey"):
        revoker.run(WINDOW, DELETED, check=check)
    assert revoker.value("SELECT count(*) FROM app.sessions") == 100


# --- guards ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("check", [True, False])
def test_guards_stop_before_the_first_change_and_at_the_very_border(revoker: Revoker, check: bool) -> None:
    before = revoker.content()
    accepted = revoker.accepted()
    for guard, message in [
        ({"max_tokens": 76}, "77 tokens would be revoked, more than max_tokens"),
        ({"max_share": 99.99}, "more than max_share"),
    ]:
        with pytest.raises(Refused, match=message) as caught:
            revoker.run(WINDOW, check=check, **guard)
        result = caught.value.as_result()
        assert (result["changed"], result["revoked"], result["stores"][0]["pending"]) == (False, 0, 77)
    assert revoker.content() == before
    assert revoker.sql("SELECT 1 FROM pg_namespace WHERE nspname = 'pgops_runbook'") == []
    assert accepted == 77
    if not check:
        assert revoker.run(WINDOW, max_tokens=77, max_share=100)["revoked"] == 77


@pytest.mark.parametrize(("share", "refused"), [(25.97, True), (25.98, False)])
def test_a_share_of_all_stores_together(revoker: Revoker, share: float, refused: bool) -> None:
    """Twice 20 of 154."""
    select = {**WINDOW, "issued_to": "2026-01-15T00:00:26Z"}
    if refused:
        with pytest.raises(Refused, match=r"40 of 154 accepted tokens \(26\.0 %\) would be revoked, more than max_share \(25\.97 %\)"):
            revoker.run(select, DENIED, FLAGGED, max_share=share)
    else:
        assert revoker.run(select, DENIED, FLAGGED, max_share=share)["revoked"] == 40


# --- the record -----------------------------------------------------------------------------------------------------------


def test_a_revocation_goes_on_under_its_id(revoker: Revoker, monkeypatch: pytest.MonkeyPatch) -> None:
    lose_after(revoker, monkeypatch, 6)
    with pytest.raises(Interrupted):
        revoker.run(WINDOW, batch_rows=20, revocation_id="case-1")
    monkeypatch.undo()
    again = after_busy(revoker, revocation_id="case-1")
    assert (again["revocation_id"], again["remaining"]) == ("case-1", 0)
    assert 0 < again["revoked"] < 77
    third = revoker.run(WINDOW, revocation_id="case-1")
    assert third["changed"] is False
    with pytest.raises(InvalidValue, match="with another selection"):
        revoker.run({"all": True}, revocation_id="case-1")
    undone = revoker.undo("case-1")
    assert undone["reinstated"] == 77 + 100
    with pytest.raises(InvalidValue, match="has been taken back"):
        revoker.run(WINDOW, revocation_id="case-1")
    with pytest.raises(InvalidValue, match="keeps no revocation 'case-2'"):
        revoker.undo("case-2")
    assert revoker.undo("case-1")["changed"] is False


@pytest.mark.parametrize("existing", [False, True])
def test_nobody_else_reads_the_record(revoker: Revoker, role: str, existing: bool) -> None:
    """Whatever default privileges and an open schema would give: rows that were deleted stand in it as they were."""
    revoker.sql(
        f"ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC, {role}; ALTER DEFAULT PRIVILEGES GRANT ALL ON SCHEMAS TO {role}"
    )
    if existing:
        revoker.sql("CREATE SCHEMA pgops_runbook; GRANT USAGE ON SCHEMA pgops_runbook TO PUBLIC")
    revoker.run(WINDOW, DELETED)
    tables = ("revocations", "changes", "changed_rows")
    for table in tables:
        assert revoker.sql("SELECT has_table_privilege(%s, %s, 'SELECT')", [role, f"pgops_runbook.{table}"]) == [(False,)]
    revoker.sql(
        f"ALTER DEFAULT PRIVILEGES REVOKE ALL ON TABLES FROM PUBLIC, {role}; ALTER DEFAULT PRIVILEGES REVOKE ALL ON SCHEMAS FROM {role}"
    )


def test_the_record_says_how_long_it_is_needed(revoker: Revoker) -> None:
    revoker.run(WINDOW)
    note = revoker.value("SELECT obj_description('pgops_runbook.changed_rows'::regclass)")
    assert "may be deleted" in note


def test_a_row_in_the_audit_table_for_everything_that_is_done(revoker: Revoker) -> None:
    result = revoker.run(WINDOW, requested_by="ops", **AUDITED)
    rows = revoker.sql("SELECT action, revocation_id, role_name, requested_by, reason, selection, counts, ended_at IS NULL FROM app.audit")
    assert [(row[0], row[1], row[3], row[4], row[7]) for row in rows] == [("revoked", result["revocation_id"], "ops", "a test", False)]
    assert rows[0][5]["issued_from"].startswith("2026-01-15")
    assert (rows[0][6]["revoked"], rows[0][6]["stores"][0]["name"]) == (77, "denied")
    revoker.undo(result["revocation_id"], **AUDITED)
    assert revoker.sql("SELECT action, counts ->> 'reinstated', ended_at IS NULL FROM app.audit ORDER BY at DESC LIMIT 1") == [
        ("reinstated", str(77 + 100), False)
    ]
    assert revoker.sql("SELECT 1 FROM pg_namespace WHERE nspname = 'pgops_runbook'") == []


def test_an_interrupted_run_is_in_the_audit_table_too(revoker: Revoker, monkeypatch: pytest.MonkeyPatch) -> None:
    lose_after(revoker, monkeypatch, 1)
    with pytest.raises(Interrupted):
        revoker.run(WINDOW, **AUDITED)
    assert revoker.sql("SELECT action, ended_at IS NULL FROM app.audit") == [("revoked", True)]


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize(
    ("table", "made", "message"),
    [
        ("app.audit", "CREATE TABLE app.audit (at timestamptz, action text)", "app.audit has no column 'ended_at'"),
        ("nowhere.audit", "SELECT 1", "schema nowhere does not exist"),
    ],
)
def test_an_audit_table_that_does_not_do(revoker: Revoker, table: str, made: str, message: str, check: bool) -> None:
    revoker.sql(made)
    before = revoker.content()
    with pytest.raises(RunbookError, match=message):
        revoker.run(WINDOW, check=check, revocation={"audit": table})
    assert revoker.content() == before
    assert revoker.sql("SELECT 1 FROM pg_namespace WHERE nspname = 'pgops_runbook'") == []


def test_nothing_is_made_where_there_is_nothing_to_do(revoker: Revoker) -> None:
    assert revoker.run({"subjects": ["nobody"]}, **AUDITED)["changed"] is False
    assert revoker.sql("SELECT 1 FROM pg_namespace WHERE nspname = 'kept'") == []
    assert set(revoker.content()) == set(APP)
    assert revoker.sql("SELECT to_regclass('app.audit') IS NULL") == [(True,)]
