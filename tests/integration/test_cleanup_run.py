"""How rows go: batches, locks, limits, interruptions, and what is said when it goes wrong half-way."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from psycopg.sql import SQL

from ansible_collections.pgops.runbook.plugins.module_utils import _cleanup, _lock
from ansible_collections.pgops.runbook.plugins.module_utils._cleanup import apply, report
from ansible_collections.pgops.runbook.plugins.module_utils._errors import Busy, DatabaseError, InvalidValue
from tests.integration.cleaning import STORE, TABLES, Cleaner, rule
from tests.integration.cleanup_scene import before_batch

pytestmark = pytest.mark.any_driver

RULE = rule("t", "at")
HUNDRED = "INSERT INTO t SELECT n, now() - interval '1 h' FROM generate_series(1, 100) AS n"


@pytest.fixture
def full(cleaner: Cleaner) -> Cleaner:
    """A hundred expired rows."""
    cleaner.sql("CREATE TABLE t (id int PRIMARY KEY, at timestamptz)")
    cleaner.sql(HUNDRED)
    return cleaner


@contextmanager
def running(cleaner: Cleaner, **parameters: Any) -> Iterator[dict[str, Any]]:
    """Run a clean-up of `t` in a thread, slowed down by a trigger; what it gives is in the dictionary after the block."""
    cleaner.sql(
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.01);"
        " WHILE OLD.id = 35 AND NOT pg_try_advisory_xact_lock(35) LOOP PERFORM pg_sleep(0.01); END LOOP; RETURN OLD; END $$"
    )
    cleaner.sql("CREATE TRIGGER slow BEFORE DELETE ON t FOR EACH ROW EXECUTE FUNCTION slow()")
    given: dict[str, Any] = {}

    def work() -> None:
        try:
            given["result"] = cleaner.run([RULE], **parameters)
        except Exception as error:  # noqa: BLE001  (handed to the test)
            given["error"] = error

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield given
    finally:
        thread.join(60)
    assert not thread.is_alive()


@contextmanager
def held_up(cleaner: Cleaner) -> Iterator[Callable[[], object]]:
    """Let a run that is slowed down come no further than to row 35, until what this gives is called."""
    with cleaner.database.connect() as holder:
        holder.execute("SELECT pg_advisory_lock(35)")
        yield lambda: holder.execute("SELECT pg_advisory_unlock_all()")


def sessions(cleaner: Cleaner) -> list[tuple[int, str]]:
    return cleaner.sql(  # type: ignore[return-value]
        "SELECT pid, application_name FROM pg_stat_activity"
        " WHERE datname = current_database() AND application_name LIKE 'pgops.runbook/pg_cleanup %'"
    )


def wait_for(condition: Any, seconds: float = 60.0) -> Any:
    """Return the first true answer of `condition`."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        answer = condition()
        if answer:
            return answer
        time.sleep(0.02)
    raise AssertionError("waited in vain")


def test_each_batch_is_a_transaction_of_its_own(full: Cleaner) -> None:
    full.sql("CREATE TABLE seen (xid bigint)")
    full.sql(
        "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN INSERT INTO public.seen VALUES (txid_current()); RETURN OLD; END $$"
    )
    full.sql("CREATE TRIGGER note BEFORE DELETE ON t FOR EACH ROW EXECUTE FUNCTION note()")
    result = full.run([RULE], batch_rows=30)
    assert sorted(row[0] for row in full.sql("SELECT count(*) FROM seen GROUP BY xid")) == [10, 30, 30, 30]
    assert result["rules"][0]["batches"] == 4


def test_a_batch_as_large_as_what_is_left(full: Cleaner) -> None:
    result = full.run([RULE], batch_rows=50)
    assert (result["removed"], result["rules"][0]["batches"], result["stopped"]) == (100, 2, "done")


def test_locked_rows_are_passed_over_and_reported(full: Cleaner) -> None:
    with full.database.connect() as holder:
        holder.execute("BEGIN")
        holder.execute("SELECT * FROM t WHERE id <= 7 FOR UPDATE")
        started = time.monotonic()
        result = full.run([RULE], batch_rows=10, login={"lock_timeout": "60 s"})
        assert time.monotonic() - started < 30
    row = result["rules"][0]
    assert (row["matched"], row["removed"], row["remaining"], row["skipped_locked"], row["rows_left"]) == (100, 93, 7, 7, 7)
    assert (row["stopped"], result["stopped"], result["changed"]) == ("locked", "locked", True)
    again = full.run([RULE])
    assert (again["removed"], again["stopped"], full.count("t")) == (7, "done", 0)


def test_rows_that_are_free_again_by_the_end_go_in_the_last_pass(full: Cleaner, monkeypatch: pytest.MonkeyPatch) -> None:
    holder = full.database.connect()
    holder.execute("BEGIN")
    holder.execute("SELECT * FROM t WHERE id <= 7 FOR UPDATE")
    count = apply.counting.with_rows

    def count_and_release(*given: Any, **more: Any) -> Any:
        found = count(*given, **more)
        if not holder.closed and full.count("t") == 7:
            holder.execute("ROLLBACK")
            holder.close()
        return found

    monkeypatch.setattr(apply.counting, "with_rows", count_and_release)
    result = full.run([RULE])
    assert (result["removed"], result["remaining"], result["stopped"]) == (100, 0, "done")


def test_a_row_that_is_renewed_while_the_batch_runs_stays(full: Cleaner) -> None:
    """Trap 21: the row is picked while it is old and has been extended when its turn comes."""
    with running(full, batch_rows=100) as given:
        wait_for(lambda: sessions(full))
        with full.database.connect() as other:
            other.execute("SET lock_timeout = '20s'")
            other.execute("UPDATE t SET at = now() + interval '1 h' WHERE id = 100")
    left = full.sql("SELECT count(*), coalesce(bool_and(at > now()), true) FROM t")
    assert left in ([(0, True)], [(1, True)])
    assert given["result"]["removed"] + left[0][0] == 100


VETO = "CREATE FUNCTION veto() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF {condition} THEN RETURN NULL; END IF; RETURN OLD; END $$"


@pytest.mark.parametrize(
    ("condition", "kept", "batch"),
    [("true", 100, 10), ("OLD.id <= 30", 30, 10), ("OLD.id % 2 = 0", 50, 10), ("OLD.id > 95", 5, 1000), ("OLD.id = 1", 1, 1)],
)
def test_a_trigger_that_vetoes_does_not_keep_the_run_going(full: Cleaner, condition: str, kept: int, batch: int) -> None:
    full.sql(VETO.replace("{condition}", condition))
    full.sql("CREATE TRIGGER veto BEFORE DELETE ON t FOR EACH ROW EXECUTE FUNCTION veto()")
    result = full.run([RULE], batch_rows=batch)
    row = result["rules"][0]
    assert (row["removed"], row["remaining"], row["skipped_locked"], row["rows_left"]) == (100 - kept, kept, 0, kept)
    assert (row["stopped"], result["stopped"]) == ("vetoed", "vetoed")
    assert result["changed"] is (kept < 100)


def test_more_vetoed_rows_than_there_is_room_for_end_the_search(full: Cleaner) -> None:
    full.sql(VETO.replace("{condition}", "OLD.id <= 50"))
    full.sql("CREATE TRIGGER veto BEFORE DELETE ON t FOR EACH ROW EXECUTE FUNCTION veto()")
    result = full.run([RULE], batch_rows=2)
    assert (result["stopped"], result["rules"][0]["skipped_locked"]) == ("vetoed", 0)
    assert 0 < result["remaining"] == full.count("t")
    assert result["removed"] + result["remaining"] == 100


def test_a_trigger_that_writes_every_row_anew_does_not_keep_the_run_going(full: Cleaner) -> None:
    full.sql(
        "CREATE FUNCTION again() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN INSERT INTO public.t VALUES (nextval('public.s'), OLD.at); RETURN OLD; END $$; CREATE SEQUENCE s START 1000"
    )
    full.sql("CREATE TRIGGER again BEFORE DELETE ON t FOR EACH ROW EXECUTE FUNCTION again()")
    result = full.run([RULE], batch_rows=10)
    row = result["rules"][0]
    assert (row["stopped"], row["remaining"], row["skipped_locked"], row["rows_left"]) == ("vetoed", 100, 0, 100)


REFUSING = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF OLD.id = 95 THEN RAISE 'row % is needed', OLD.id USING ERRCODE = '23503'; END IF;
    RETURN OLD;
END $$;
CREATE TRIGGER "my trigger" BEFORE DELETE ON t FOR EACH ROW EXECUTE FUNCTION refuse();
"""


def test_a_refusal_half_way_is_named_and_what_went_before_is_counted(full: Cleaner) -> None:
    full.sql(REFUSING)
    with pytest.raises(report.Interrupted) as caught:
        full.run([RULE], batch_rows=10)
    result = caught.value.as_result()
    assert "rules[0]: public.t: row 95 is needed" in result["msg"]
    assert result["error"]["sqlstate"] == "23503"
    assert (result["changed"], result["removed"], result["stopped"]) == (True, 90, "error")
    assert (result["rules"][0]["batches"], result["rules"][0]["remaining"], result["rules"][0]["rows_left"]) == (9, 10, None)
    assert full.count("t") == 10


def test_rules_that_were_not_reached_say_so(full: Cleaner) -> None:
    full.sql(REFUSING)
    full.sql(
        "CREATE TABLE u (at timestamptz); INSERT INTO u VALUES ('epoch'); CREATE TABLE s (at timestamptz); INSERT INTO s VALUES ('epoch')"
    )
    with pytest.raises(report.Interrupted) as caught:
        full.run([rule("s", "at"), RULE, rule("u", "at")], batch_rows=1000)
    rows = caught.value.as_result()["rules"]
    assert [(row["name"], row["removed"], row["remaining"], row["stopped"]) for row in rows] == [
        ("public.s", 1, 0, "done"),
        ("public.t", 0, 100, "error"),
        ("public.u", 0, 1, "error"),
    ]
    assert full.count("u") == 1


def test_children_that_go_with_their_parent(full: Cleaner) -> None:
    full.sql("CREATE TABLE child (id int REFERENCES t ON DELETE CASCADE); INSERT INTO child SELECT id FROM t")
    assert full.run([RULE])["removed"] == 100
    assert full.count("child") == 0


def test_max_rows_stops_before_the_first_change(full: Cleaner) -> None:
    full.sql("CREATE TABLE u (at timestamptz); INSERT INTO u VALUES ('epoch')")
    for check in (True, False):
        with pytest.raises(report.Refused, match=r"would remove 101 rows, more than max_rows \(100\)") as caught:
            full.run([RULE, rule("u", "at")], max_rows=100, check=check)
        result = caught.value.as_result()
        assert [(row["matched"], row["removed"], row["remaining"], row["rows_left"]) for row in result["rules"]] == [
            (100, 0, 100, 100),
            (1, 0, 1, 1),
        ]
        assert (result["changed"], result["stopped"], result["error"]["object"]) == (False, "max_rows", "max_rows")
    assert full.count("t") == 100
    assert full.run([RULE, rule("u", "at")], max_rows=101)["removed"] == 101


def test_max_rows_does_not_count_what_stays(cleaner: Cleaner) -> None:
    cleaner.sql(TABLES)
    cleaner.sql("INSERT INTO app.denied SELECT md5(n::text)::uuid, 'epoch', now() + interval '1 h' FROM generate_series(1, 10) AS n")
    result = cleaner.run([rule("app.denied", "denied_at")], token_stores=[STORE], max_rows=1)
    assert (result["matched"], result["protected"], result["removed"]) == (10, 10, 0)


def test_max_runtime_stops_between_two_batches(full: Cleaner) -> None:
    full.sql("CREATE TABLE u (at timestamptz); INSERT INTO u VALUES ('epoch')")
    full.sql("CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.1); RETURN OLD; END $$")
    full.sql("CREATE TRIGGER slow BEFORE DELETE ON t FOR EACH ROW EXECUTE FUNCTION slow()")
    result = full.run([RULE, rule("u", "at")], batch_rows=5, max_runtime="4 s")
    row, other = result["rules"]
    assert (row["stopped"], other["stopped"], result["stopped"]) == ("max_runtime", "max_runtime", "max_runtime")
    assert 0 < row["removed"] < 100
    assert row["removed"] % 5 == 0
    assert (row["remaining"], row["rows_left"]) == (100 - row["removed"], 100 - row["removed"])
    assert (other["removed"], other["remaining"], other["rows_left"]) == (0, 1, 1)
    full.sql("DROP TRIGGER slow ON t")
    again = full.run([RULE, rule("u", "at")], max_runtime="1 min")
    assert (again["removed"], again["stopped"]) == (row["remaining"] + 1, "done")


def test_a_run_that_ends_in_time_is_done_although_little_is_left(full: Cleaner) -> None:
    assert full.run([RULE], max_runtime="1 min")["stopped"] == "done"


def test_a_dba_sees_the_table_and_the_percentage(full: Cleaner) -> None:
    seen = set()
    with running(full, batch_rows=10):
        wait_for(lambda: sessions(full))
        while True:
            found = sessions(full)
            if not found:
                break
            seen.add(found[0][1])
    shown = [re.fullmatch(r"pgops.runbook/pg_cleanup public.t (\d+)%(?: [\d.]+/s \d:\d\d left)?", name) for name in seen]
    assert {int(one[1]) for one in shown if one} & {10, 20, 30, 40, 50, 60, 70, 80}
    assert all(shown), seen


def test_a_long_table_name_leaves_room_for_the_percentage(cleaner: Cleaner) -> None:
    table = "ü" * 31
    cleaner.sql(f'CREATE TABLE "{table}" (at timestamptz)')
    cleaner.sql("CREATE TABLE names (name text)")
    cleaner.sql(
        "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " INSERT INTO public.names VALUES (current_setting('application_name')); RETURN OLD; END $$"
    )
    cleaner.sql(f'CREATE TRIGGER note BEFORE DELETE ON "{table}" FOR EACH ROW EXECUTE FUNCTION note()')
    cleaner.sql(f"INSERT INTO \"{table}\" VALUES ('epoch')")
    cleaner.run([rule(table, "at")])
    ((name,),) = cleaner.sql("SELECT name FROM names")
    # The server writes what is not ASCII as question marks in some versions; the percentage is there in any case.
    assert name.startswith("pgops.runbook/pg_cleanup public.")
    assert name.endswith(" 0%")


def test_the_second_run_is_told_who_is_at_work(full: Cleaner) -> None:
    with held_up(full) as go_on, running(full, batch_rows=10) as given:
        ((pid, _name),) = wait_for(lambda: sessions(full))
        with pytest.raises(Busy) as caught:
            full.run([RULE])
        message = caught.value.message
        preview = full.run([RULE], check=True)
        go_on()
    assert f"pid {pid}, pgops.runbook/pg_cleanup public.t " in message
    assert f"user {full.database.cluster.superuser}, since 20" in message
    assert repr(full.database.name) in message
    assert given["result"]["removed"] == 100
    assert preview["stopped"] == "check_mode"


def test_a_run_with_nothing_to_do_is_busy_too(cleaner: Cleaner) -> None:
    with cleaner.open() as holder:
        _lock.take_lock(holder, _cleanup.OPERATION)
        with pytest.raises(Busy):
            cleaner.run([])
    assert cleaner.run([])["stopped"] == "done"


def test_the_lock_is_free_when_the_run_returns_though_its_session_lives_on(cleaner: Cleaner) -> None:
    options = _cleanup.read_options({"rules": [], "token_stores": []}, "test")
    with cleaner.open() as session:
        assert _cleanup.clean_up(session, options, check_mode=False)["stopped"] == "done"
        assert cleaner.run([])["stopped"] == "done"


def test_the_lock_is_of_one_database_and_one_operation(cleaner: Cleaner) -> None:
    with cleaner.open() as one, cleaner.open() as other, cleaner.open(login_db="postgres") as elsewhere:
        _lock.take_lock(one, "this")
        _lock.take_lock(other, "that")
        _lock.take_lock(elsewhere, "this")
        with pytest.raises(Busy, match=f"pid {one.backend_pid},"):
            _lock.take_lock(other, "this")


def test_a_holder_that_this_role_may_not_see_much_of(cleaner: Cleaner) -> None:
    cleaner.sql("CREATE ROLE nosy LOGIN PASSWORD 'secret'")
    try:
        with cleaner.open() as holder, cleaner.open(login_user="nosy", login_password="secret") as other:
            _lock.take_lock(holder, "this")
            with pytest.raises(
                Busy, match=f"pid {holder.backend_pid}, pgops.runbook/pg_cleanup, user .*, since a time that this role may not see"
            ):
                _lock.take_lock(other, "this")
    finally:
        cleaner.sql("DROP ROLE nosy")


def test_a_lost_connection_says_how_far_it_came_and_the_next_run_finishes(full: Cleaner) -> None:
    with held_up(full), running(full, batch_rows=10) as given:
        ((pid, _name),) = wait_for(lambda: [one for one in sessions(full) if re.search(" [234]0%", one[1])])
        full.sql("SELECT pg_terminate_backend(%s)", [pid])
    error = given["error"]
    assert isinstance(error, report.Interrupted)
    result = error.as_result()
    assert result["changed"] is True
    assert 20 <= result["removed"] <= 90
    assert f"{result['removed']} of 100 rows of this rule were removed" in result["msg"]
    assert result["rules"][0]["rows_left"] is None
    # The batch that was at work when the session was ended is undone.
    assert full.count("t") == 100 - result["removed"]
    full.sql("DROP TRIGGER slow ON t")
    assert full.run([RULE])["removed"] == 100 - result["removed"]
    assert full.count("t") == 0


def test_a_batch_that_takes_too_long_is_undone_and_named(full: Cleaner, monkeypatch: pytest.MonkeyPatch) -> None:
    # Not before: the plan takes as long as a busy machine needs.
    before_batch(monkeypatch, 0, lambda session: session.execute("SET statement_timeout = '300ms'"))
    with held_up(full), running(full, batch_rows=100) as given:
        pass
    error = given["error"]
    assert isinstance(error, report.Interrupted)
    assert (error.sqlstate, error.as_result()["changed"], full.count("t")) == ("57014", False, 100)


def test_a_table_that_is_locked_as_a_whole(full: Cleaner) -> None:
    with full.database.connect() as holder:
        holder.execute("BEGIN")
        holder.execute("LOCK TABLE t IN SHARE MODE")
        with pytest.raises(report.Interrupted) as caught:
            full.run([RULE], login={"lock_timeout": "100 ms"})
        assert (caught.value.sqlstate, caught.value.as_result()["removed"]) == ("55P03", 0)
        holder.execute("ROLLBACK")
        holder.execute("BEGIN")
        holder.execute("LOCK TABLE t IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(DatabaseError, match=r"^rules\[0\]: .*public\.t") as planned:
            full.run([RULE], login={"lock_timeout": "100 ms"})
        assert planned.value.sqlstate == "55P03"
    assert full.run([RULE])["removed"] == 100


def test_a_table_that_is_renamed_while_running(full: Cleaner) -> None:
    with held_up(full) as go_on, running(full, batch_rows=10) as given:
        wait_for(lambda: sessions(full))
        with full.database.connect() as other:
            rename = threading.Thread(target=other.execute, args=("ALTER TABLE t RENAME TO u",))
            rename.start()
            wait_for(lambda: full.sql("SELECT 1 FROM pg_locks WHERE NOT granted AND pid = %s", [other.info.backend_pid]))
            go_on()
            rename.join()
    error = given["error"]
    assert isinstance(error, report.Interrupted)
    assert error.sqlstate == "42P01"
    assert full.count("u") == 100 - error.as_result()["removed"]


NOTING = """
CREATE SCHEMA app; CREATE TABLE app.t (id int, at timestamptz); INSERT INTO app.t VALUES (1, 'epoch'), (2, 'epoch');
CREATE TABLE {schema}.audit (id int);
CREATE FUNCTION app.note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO audit VALUES (OLD.id); RETURN OLD; END $$;
CREATE TRIGGER "note it" AFTER DELETE ON app.t FOR EACH ROW EXECUTE FUNCTION app.note();
CREATE TRIGGER never AFTER DELETE ON app.t FOR EACH ROW EXECUTE FUNCTION app.note(); ALTER TABLE app.t DISABLE TRIGGER never;
CREATE TRIGGER another AFTER INSERT ON app.t FOR EACH ROW EXECUTE FUNCTION app.note();
"""


@pytest.mark.parametrize("schema", ["app", "public"])
def test_a_trigger_finds_the_tables_of_its_schema_without_naming_it(cleaner: Cleaner, schema: str) -> None:
    cleaner.sql(SQL(NOTING.replace("{schema}", schema)))
    cleaner.sql("CREATE SCHEMA other; CREATE TABLE other.audit (id int); CREATE TABLE other.t (at timestamptz)")
    cleaner.sql("INSERT INTO other.t VALUES ('epoch')")
    rules = [rule("other.t", "at"), rule("app.t", "at")]
    planned, result = cleaner.run(rules, check=True), cleaner.run(rules)
    assert [row["triggers"] for row in planned["rules"]] == [row["triggers"] for row in result["rules"]] == [[], ["note it"]]
    assert result["removed"] == 3
    if schema == "app":
        assert (cleaner.count("app.audit"), cleaner.count("other.audit")) == (2, 0)


def test_objects_of_the_application_do_not_stand_in_for_the_servers_own(cleaner: Cleaner) -> None:
    """In the schemas that triggers are given, anybody with CREATE there could put a function or operator that fits better."""
    cleaner.sql("CREATE TABLE t (id varchar(9), at timestamptz(0)); INSERT INTO t VALUES ('a', 'epoch')")
    cleaner.sql("CREATE FUNCTION cardinality(tid[]) RETURNS int LANGUAGE sql AS $$ SELECT 1 / 0 $$")
    cleaner.sql("CREATE FUNCTION vs(varchar, varchar) RETURNS boolean LANGUAGE sql AS $$ SELECT 1 / 0 = 1 $$")
    cleaner.sql("CREATE OPERATOR = (LEFTARG = varchar, RIGHTARG = varchar, FUNCTION = vs)")
    cleaner.sql("CREATE FUNCTION to_timestamp(numeric) RETURNS timestamptz LANGUAGE sql AS $$ SELECT now() + 1 / 0 * interval '1 s' $$")
    cleaner.sql("CREATE TABLE d (id varchar(9), at bigint); INSERT INTO d VALUES ('a', 1)")
    epoch = {"column": "at", "unit": "s"}
    store = {
        "name": "x",
        "tokens": {"table": "t", "id": "id", "expires_at": "at"},
        "revoke": {"how": "denylist", "table": "d", "id": "id", "expires_at": epoch},
    }
    assert cleaner.run([rule("d", epoch), rule("t", "at")], token_stores=[store])["removed"] == 2


def test_a_trigger_that_misses_its_tables_is_told_why(cleaner: Cleaner) -> None:
    cleaner.sql("CREATE SCHEMA far")
    cleaner.sql(SQL(NOTING.replace("{schema}", "far")))
    with pytest.raises(report.Interrupted) as caught:
        cleaner.run([rule("app.t", "at")])
    message = caught.value.as_result()["msg"]
    assert 'relation "audit" does not exist' in message
    assert ", in note() (0 of 2 rows" in message
    assert '"note it"' in message
    assert "search_path" in message
    assert "pg_catalog, app, public" in message


def test_rows_that_expire_while_it_runs_are_left_to_the_next_run(full: Cleaner) -> None:
    """The cut-off is a constant: what is planned is what goes."""
    full.sql(
        "CREATE FUNCTION more() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN INSERT INTO public.t VALUES (OLD.id + 1000, clock_timestamp()); RETURN OLD; END $$"
    )
    full.sql("CREATE TRIGGER more BEFORE DELETE ON t FOR EACH ROW EXECUTE FUNCTION more()")
    result = full.run([RULE], batch_rows=10)
    assert (result["removed"], result["rules"][0]["rows_left"], result["stopped"]) == (100, 100, "done")


def test_a_database_that_is_read_only_is_refused_in_check_mode_too(full: Cleaner) -> None:
    full.sql(f'ALTER DATABASE "{full.database.name}" SET default_transaction_read_only = on')
    with pytest.raises(InvalidValue, match="is read-only by default_transaction_read_only"):
        full.run([RULE], check=True)
    with pytest.raises(Exception, match="read-only"):
        full.run([RULE])
    assert full.count("t") == 100


def test_a_standby_is_refused_in_check_mode_too(full: Cleaner, standby: Any) -> None:
    full.database.cluster.wait_for(standby)
    login = standby.login(full.database.name, tcp=False)
    with pytest.raises(InvalidValue, match="is on a read-only standby") as caught:
        full.run([RULE], check=True, login=login)
    assert caught.value.sqlstate == "25006"
    assert full.run([RULE])["removed"] == 100
