"""Others who are at work while tokens are revoked: they issue, renew, revoke and touch the same tokens, and none slips through."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from ansible_collections.pgops.runbook.plugins.module_utils import _open_transactions
from ansible_collections.pgops.runbook.plugins.module_utils._errors import Busy
from ansible_collections.pgops.runbook.plugins.module_utils._revocation import passes
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.report import Unproven
from tests.ground.cluster import Cluster
from tests.ground.databases import Database
from tests.ground.servers import Installation
from tests.integration.children import until
from tests.integration.clock import Clock
from tests.integration.hindering import DELETED, DENIED, FLAGGED, STAMPED, WINDOW, Revoker, with_changes

# A trigger that makes every deny row take a while, so that others get their turn in the middle of a batch.
SLOW = """
CREATE FUNCTION app.slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.002); RETURN NEW; END $$;
CREATE TRIGGER slow BEFORE INSERT ON app.denied FOR EACH ROW EXECUTE FUNCTION app.slow();
"""
IN_WINDOW = "INSERT INTO app.tokens (issued_at) VALUES ('2026-01-15 12:00:00Z')"


@pytest.fixture
def revoker(database: Database) -> Revoker:
    return Revoker(database).filled()


# --- tokens that are issued meanwhile -------------------------------------------------------------------------------------


@pytest.mark.usefixtures("_one_driver")
def test_a_stream_of_tokens_into_the_window(revoker: Revoker) -> None:
    revoker.sql(SLOW)
    streaming = threading.Event()

    def issue(session: Any, stop: threading.Event) -> None:
        while not stop.is_set():
            session.execute(IN_WINDOW)
            streaming.set()
            time.sleep(0.005)
            if late.is_set():
                return

    late = threading.Event()
    with revoker.meanwhile(issue, sessions=2):
        until(streaming.is_set)
        with revoker.running(WINDOW, batch_rows=20, max_wait="10 s") as given:
            revoker.until_it_waits()
            late.set()  # the application has been told: it stops issuing into the window
    result = given["result"]
    assert revoker.accepted() == 0
    assert (result["remaining"], result["revoked"]) == (0, revoker.value("SELECT count(*) FROM app.denied") - 14)
    assert result["passes"] >= 2
    assert result["late"] > 0


@pytest.mark.parametrize("issued", ["'2026-01-15 12:00:00Z'", "now()"])
def test_a_transaction_that_was_open_before_and_commits_late(revoker: Revoker, issued: str) -> None:
    """`now()` is when the transaction began, also where the row becomes visible much later."""
    began = revoker.value("SELECT now() - interval '1 s'")
    window = WINDOW if "2026" in issued else {"issued_from": began.isoformat(), "issued_to": "2100-01-01T00:00:00Z"}
    with revoker.open_transaction(f"INSERT INTO app.tokens (issued_at) VALUES ({issued})") as other:
        pid = other.info.backend_pid
        with revoker.running(window, max_wait="20 s") as given:
            revoker.until_it_waits()
            time.sleep(1.0)  # of which a busy machine may take most before the wait begins to be measured
            other.execute("COMMIT")
    result = given["result"]
    assert revoker.accepted(f"issued_at >= '{window['issued_from']}'") == 0
    assert (result["remaining"], result["late"]) == (0, 1)
    assert [one["pid"] for one in result["waited"]["transactions"]["shown"]] == [pid]
    assert result["waited"]["still_open"]["count"] == 0
    assert result["waited"]["seconds"] > 0.2


def test_a_transaction_that_has_only_read_so_far_and_issues_while_it_is_waited_for(revoker: Revoker) -> None:
    with revoker.open_transaction("SELECT count(*) FROM app.tokens") as other, revoker.running(WINDOW, max_wait="20 s") as given:
        revoker.until_it_waits()
        other.execute(IN_WINDOW)
        other.execute("COMMIT")
    assert revoker.accepted() == 0
    assert (given["result"]["late"], given["result"]["remaining"]) == (1, 0)


def test_everything_on_a_service_that_goes_on_issuing(revoker: Revoker) -> None:
    revoker.sql(SLOW)

    def issue(session: Any, stop: threading.Event) -> None:
        while not stop.is_set():
            session.execute("BEGIN")
            session.execute("INSERT INTO app.tokens DEFAULT VALUES")
            time.sleep(0.003)
            session.execute("COMMIT")

    with revoker.meanwhile(issue, sessions=3):
        until(lambda: revoker.value("SELECT count(*) >= 110 FROM app.tokens"))
        began = revoker.value("SELECT now()")
        result = revoker.run({"all": True}, max_wait="10 s")
    assert result["remaining"] == 0
    assert passes.OPEN_ENDED_PASSES < result["passes"] < passes.MOST_PASSES
    assert revoker.accepted(f"issued_at <= '{began}'") == 0
    assert result["late"] > 0


def test_a_long_reader_does_not_make_a_busy_service_unproven(revoker: Revoker) -> None:
    """A dump uses up the time for waiting. Those who write for some milliseconds are waited for nevertheless."""

    def issue(session: Any, stop: threading.Event) -> None:
        while not stop.is_set():
            session.execute("BEGIN")
            session.execute("INSERT INTO app.tokens DEFAULT VALUES")
            time.sleep(0.05)
            session.execute("COMMIT")

    with revoker.open_transaction("SELECT 1") as dump, revoker.meanwhile(issue, sessions=3):
        pid = dump.info.backend_pid
        result = revoker.run({"all": True}, max_wait="1 s")
    assert result["remaining"] == 0
    assert [str(pid) in one for one in result["warnings"]] == [True]


def test_chains_that_are_renewed_meanwhile(revoker: Revoker) -> None:
    """An application that renews what is not denied, and nothing that it has only just issued; the successors lie after the window.

    One that renewed every token at once, over and over, would always be a token ahead of the run.
    """

    def renew(session: Any, stop: threading.Event) -> None:
        while not stop.is_set():
            session.execute("BEGIN")
            session.execute(
                "INSERT INTO app.tokens (renewed_from, subject) SELECT t.id, 'renewed' FROM app.tokens t WHERE t.expires_at > now()"
                " AND NOT EXISTS (SELECT FROM app.denied d WHERE d.id = t.id)"
                " AND NOT EXISTS (SELECT FROM app.tokens s WHERE s.renewed_from = t.id)"
                " AND t.issued_at < now() - interval '500 ms' ORDER BY t.issued_at DESC LIMIT 3"
            )
            time.sleep(0.05)
            session.execute("COMMIT")
            time.sleep(0.05)

    with revoker.meanwhile(renew, sessions=2):
        twice = "SELECT count(*) FROM app.tokens s JOIN app.tokens t ON s.renewed_from = t.id WHERE t.subject = 'renewed'"
        until(lambda: revoker.value(twice))
        result = revoker.run(WINDOW, max_wait="20 s")
    assert revoker.value("SELECT count(*) FROM app.tokens WHERE subject = 'renewed'") > 0
    assert (revoker.accepted(), result["remaining"]) == (0, 0)


# --- the same tokens ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("store", [DENIED, STAMPED, FLAGGED, DELETED], ids=lambda store: store["name"])
def test_the_application_revokes_the_same_tokens(revoker: Revoker, store: dict[str, Any]) -> None:
    """Each in its own order, so that the two meet everywhere."""
    revoker.sql(SLOW)
    acts = {
        "denied": "INSERT INTO app.denied SELECT md5('t' || %s)::uuid, now(), now() + interval '2 days' ON CONFLICT DO NOTHING",
        "stamped": "UPDATE app.sessions SET revoked_at = now() WHERE id = %s AND revoked_at IS NULL",
        "flagged": "UPDATE app.sessions SET revoked = true WHERE id = %s AND NOT revoked",
        "deleted": "DELETE FROM app.sessions WHERE id = %s",
    }
    done = []

    def revoke(session: Any, stop: threading.Event) -> None:
        for number in range(100, 0, -3):
            done.append(session.execute(acts[store["name"]], [number]).rowcount)
            time.sleep(0.002)

    with revoker.meanwhile(revoke):
        result = revoker.run(WINDOW, store, batch_rows=7, max_wait="10 s")
    assert result["remaining"] == 0
    if store is DENIED:
        assert revoker.accepted() == 0
        assert revoker.value("SELECT count(*) FROM app.denied") == 14 + sum(done) + result["revoked"]
    if store is STAMPED:
        assert revoker.value("SELECT count(*) FROM app.sessions WHERE revoked_at IS NULL AND expires_at > now()") == 0


@pytest.mark.parametrize("isolation", ["read committed", "serializable"])
def test_rows_that_are_touched_all_the_time(revoker: Revoker, isolation: str) -> None:
    """Many an application notes when a token was used last, and every note is a new place of the row."""
    revoker.sql(f"ALTER DATABASE {revoker.database.name} SET default_transaction_isolation = '{isolation}'")

    def touch(session: Any, stop: threading.Event) -> None:
        session.execute("SET default_transaction_isolation = 'read committed'")
        while not stop.is_set():
            session.execute("UPDATE app.sessions SET used_at = clock_timestamp() WHERE id = 5")

    with revoker.meanwhile(touch):
        results = [revoker.run({"ids": ["5"]}, store) for store in (FLAGGED, STAMPED, DELETED)]
    assert [(one["revoked"], one["remaining"]) for one in results] == [(1, 0)] * 3


def test_an_uncommitted_deny_row_of_the_same_id(revoker: Revoker) -> None:
    """The run cannot know how it ends, and waits. The row ends too early for the token, and is made to last."""
    deny = "INSERT INTO app.denied SELECT md5('t5')::uuid, now(), now() + interval '1 h'"
    patience = {"max_wait": "20 s", "login": {"lock_timeout": "100 ms"}}
    with revoker.open_transaction(deny) as other, revoker.running(WINDOW, **patience) as given:
        revoker.until_it_waits()
        other.execute("COMMIT")
    result = given["result"]
    assert (result["remaining"], result["stores"][0]["extended"]) == (0, 1)
    assert revoker.value("SELECT count(*) FROM app.denied d JOIN app.tokens t USING (id) WHERE d.expires_at < t.expires_at") == 0
    assert revoker.accepted() == 0


def test_one_uncommitted_deny_row_keeps_no_other_token_from_being_revoked(revoker: Revoker) -> None:
    with revoker.open_transaction("INSERT INTO app.denied SELECT md5('t5')::uuid, now(), now() + interval '2 days'") as other:
        with pytest.raises(Unproven) as caught:
            revoker.run(WINDOW, login={"lock_timeout": "100 ms"})
        assert revoker.accepted() == 1
        result = caught.value.as_result()
        assert (result["remaining"], result["revoked"]) == (1, 76)
        assert f"pid {other.info.backend_pid}" in result["msg"]
        other.execute("ROLLBACK")
    again = revoker.run(WINDOW)
    assert (again["revoked"], revoker.accepted()) == (1, 0)


def test_a_deadlock_with_the_application_ends_no_run(revoker: Revoker) -> None:
    """The application denies the last id first; the run, whose order is that of the ids, waits for it, and it for the run."""
    first, last = revoker.sql(
        "SELECT min(id::text), max(id::text) FROM app.tokens t WHERE expires_at > now()"
        " AND NOT EXISTS (SELECT FROM app.denied d WHERE d.id = t.id)"
    )[0]
    deny = "INSERT INTO app.denied VALUES ('{}', now(), now() + interval '2 days') ON CONFLICT DO NOTHING"
    patience = {"max_wait": "20 s", "login": {"lock_timeout": "10 s"}}
    before = ("SET LOCAL deadlock_timeout = '20 s'", deny.format(last))
    with revoker.open_transaction(*before) as other, revoker.running(WINDOW, **patience) as given:
        revoker.until_it_is_blocked()
        other.execute(deny.format(first))
        other.execute("COMMIT")
    assert (given["result"]["remaining"], revoker.accepted()) == (0, 0)


# --- locks ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("store", [STAMPED, FLAGGED, DELETED], ids=lambda store: store["name"])
def test_locked_rows_are_passed_over_and_taken_when_they_are_free(revoker: Revoker, store: dict[str, Any]) -> None:
    lock = "SELECT FROM app.sessions WHERE id <= 5 FOR UPDATE"
    with revoker.open_transaction(lock) as other, revoker.running(WINDOW, store, batch_rows=10, max_wait="20 s") as given:
        revoker.until_it_waits()
        changed = revoker.value("SELECT count(*) FROM app.sessions WHERE id <= 10 AND revoked_at IS NULL AND NOT revoked")
        other.execute("COMMIT")
    # The first five, and the tenth, which has expired. A store that revokes by deleting knows of no revoked ones.
    assert changed == 6
    assert (given["result"]["revoked"], given["result"]["remaining"], given["result"]["late"]) == (90 if store is DELETED else 77, 0, 5)


def test_locked_rows_that_are_never_free_are_said(revoker: Revoker) -> None:
    with revoker.open_transaction("SELECT FROM app.sessions WHERE id <= 5 FOR UPDATE") as other:
        started = time.monotonic()
        with pytest.raises(Unproven) as caught:
            revoker.run(WINDOW, STAMPED, login={"lock_timeout": "10 min"})
        assert time.monotonic() - started < 60, "it has waited for a lock"
        pid = other.info.backend_pid
    result = caught.value.as_result()
    assert (result["revoked"], result["remaining"], result["changed"]) == (72, 5, True)
    assert "72 tokens were revoked, which stands, but: 5 rows could not be changed and may still be accepted" in result["msg"]
    assert [one["pid"] for one in result["waited"]["still_open"]["shown"]] == [pid]
    again = revoker.run(WINDOW, STAMPED)
    assert (again["revoked"], again["remaining"]) == (5, 0)


def test_rows_that_are_freed_before_the_run_asks_who_is_at_work(revoker: Revoker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is left to wait for, and still the next pass has something to do."""
    with revoker.open_transaction("SELECT FROM app.sessions FOR UPDATE") as other:
        ask = passes.open_transactions

        def freed(database: Any) -> Any:
            if other.info.transaction_status:
                other.execute("COMMIT")
            return ask(database)

        monkeypatch.setattr(passes, "open_transactions", freed)
        result = revoker.run(WINDOW, with_changes(STAMPED, dependents=[]))
    assert (result["revoked"], result["remaining"]) == (77, 0)


@pytest.mark.parametrize("mode", ["SHARE", "ACCESS EXCLUSIVE"])
def test_a_deny_list_that_is_locked_as_a_whole(revoker: Revoker, mode: str) -> None:
    with revoker.open_transaction(f"LOCK TABLE app.denied IN {mode} MODE"):
        with pytest.raises(Exception, match="lock") as caught:
            revoker.run(WINDOW, login={"lock_timeout": "100 ms"}, batch_rows=10)
        if mode == "SHARE":
            assert isinstance(caught.value, Unproven)
            assert (caught.value.result["remaining"], caught.value.result["revoked"]) == (77, 0)
        else:
            assert getattr(caught.value, "sqlstate", None) == "55P03"
    again = revoker.run(WINDOW)
    assert (again["revoked"], revoker.accepted()) == (77, 0)


def test_two_runs_at_once(revoker: Revoker) -> None:
    revoker.sql("INSERT INTO app.tokens DEFAULT VALUES")
    with revoker.open_transaction("SELECT count(*) FROM app.tokens") as other, revoker.running(WINDOW, max_wait="5 min") as given:
        revoker.until_it_waits()
        (pid,) = revoker.pids()
        with pytest.raises(Busy, match=f"pid {pid}, pgops.runbook/pg_token_revoke"):
            revoker.run({"all": True})
        with pytest.raises(Busy):
            revoker.undo("anything")
        assert revoker.run({"all": True}, check=True)["changed"] is True
        other.execute("COMMIT")
    assert given["result"]["revoked"] == 77


# --- whose end is not to be waited for ------------------------------------------------------------------------------------


def test_a_reader_that_stays_is_a_warning(revoker: Revoker) -> None:
    with revoker.open_transaction("SELECT count(*) FROM app.tokens") as reader:
        result = revoker.run(WINDOW)
        assert [str(reader.info.backend_pid) in one and "only read" in one for one in result["warnings"]] == [True]
    assert result["remaining"] == 0


def test_a_writer_that_stays_is_a_failure_that_names_it(revoker: Revoker) -> None:
    with revoker.open_transaction(IN_WINDOW) as writer:
        with pytest.raises(Unproven, match=f"1 transactions that have written .*pid {writer.info.backend_pid}") as caught:
            revoker.run(WINDOW)
        assert caught.value.result["revoked"] == 77
        assert caught.value.result["waited"]["still_open"]["writers"] == 1
        # Nothing to revoke is no proof either, as long as somebody may have issued a token.
        with pytest.raises(Unproven) as caught:
            revoker.run(WINDOW)
        assert caught.value.result["changed"] is False
        writer.execute("COMMIT")
    assert (revoker.run(WINDOW)["revoked"], revoker.accepted()) == (1, 0)


@pytest.fixture(scope="module")
def preparing(installation: Installation) -> Iterator[Cluster]:
    with Cluster(installation, settings={"autovacuum": "off", "max_prepared_transactions": 5}) as server:
        yield server


def test_a_prepared_transaction(preparing: Cluster) -> None:
    with Database.create(preparing, "prepared") as database:
        revoker = Revoker(database).filled()
        with database.connect() as session:
            session.execute("BEGIN")
            session.execute(IN_WINDOW)
            session.execute("PREPARE TRANSACTION 'the bill'")
        with pytest.raises(Unproven, match="prepared the bill"):
            revoker.run(WINDOW)
        with revoker.running(WINDOW, max_wait="20 s") as given:
            revoker.until_it_waits()
            revoker.sql("COMMIT PREPARED 'the bill'")
        assert (given["result"]["revoked"], revoker.accepted()) == (1, 0)


def test_no_wait_is_asked_for(revoker: Revoker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_open_transactions, "time", Clock())
    with revoker.open_transaction("SELECT 1"):
        assert revoker.run(WINDOW, max_wait="0 s")["waited"]["seconds"] == 0


# --- triggers -------------------------------------------------------------------------------------------------------------

VETO = """
CREATE FUNCTION app.veto() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF {condition} THEN RETURN NULL; END IF; RETURN NEW; END $$;
CREATE TRIGGER veto BEFORE {event} ON {table} FOR EACH ROW EXECUTE FUNCTION app.veto();
"""


@pytest.mark.parametrize(
    ("store", "event", "table", "condition", "left"),
    [
        (DENIED, "INSERT", "app.denied", "true", 77),
        (DENIED, "INSERT", "app.denied", "NEW.id = md5('t5')::uuid", 1),
        (STAMPED, "UPDATE", "app.sessions", "NEW.id <= 20", 16),
        (FLAGGED, "UPDATE", "app.sessions", "true", 77),
    ],
)
def test_rows_that_a_trigger_keeps_from_changing(
    revoker: Revoker, store: dict[str, Any], event: str, table: str, condition: str, left: int
) -> None:
    revoker.sql(VETO.replace("{condition}", condition).replace("{event}", event).replace("{table}", table))
    with pytest.raises(Unproven, match=f"{left} rows could not be changed") as caught:
        revoker.run(WINDOW, store, batch_rows=10)
    result = caught.value.as_result()
    assert (result["revoked"], result["remaining"]) == (77 - left, left)
    assert result["passes"] < 8


def test_a_trigger_that_takes_every_deny_row_away_again(revoker: Revoker) -> None:
    revoker.sql(
        "CREATE FUNCTION app.undo() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN DELETE FROM app.denied WHERE id = NEW.id; RETURN NULL; END $$;"
        " CREATE TRIGGER undo AFTER INSERT ON app.denied FOR EACH ROW EXECUTE FUNCTION app.undo()"
    )
    with pytest.raises(Unproven, match="77 rows could not be changed"):
        revoker.run(WINDOW)


def test_limits_on_a_service_that_goes_on_issuing(revoker: Revoker) -> None:
    """What was issued before the limit ends with it, what is issued after it does not keep the run from its end."""
    revoker.sql("CREATE TABLE app.limits (only_one bool PRIMARY KEY, not_before timestamptz); INSERT INTO app.limits VALUES (true, NULL)")
    store = with_changes(DENIED, revoke=None, not_before=[{"table": "app.limits", "column": "not_before", "by": "all"}], allowlist=None)
    store["revoke"] = {"how": "not_before"}

    def issue(session: Any, stop: threading.Event) -> None:
        while not stop.is_set():
            session.execute("INSERT INTO app.tokens DEFAULT VALUES")
            time.sleep(0.01)

    with revoker.meanwhile(issue, sessions=2):
        until(lambda: revoker.value("SELECT count(*) > 100 FROM app.tokens"))
        began = revoker.value("SELECT now()")
        result = revoker.run({"all": True}, store, max_wait="5 s")
    assert (result["remaining"], result["passes"]) == (0, 2)
    assert revoker.value("SELECT not_before >= %s FROM app.limits", [began]) is True
