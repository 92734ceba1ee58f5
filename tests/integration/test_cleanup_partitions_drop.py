"""Partitions that leave while others are at work, and what becomes of a drop that is cut short."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from psycopg.sql import SQL

from ansible_collections.pgops.runbook.plugins.module_utils._cleanup import partition_finish, partition_marks, partitions
from ansible_collections.pgops.runbook.plugins.module_utils._errors import DatabaseError, InvalidValue
from tests.integration.cleaning import Cleaner
from tests.integration.partitioning import MONTHS, WITH_DEFAULT, Divided, comment, divided, open_transaction, tables, traffic
from tests.integration.watching import eventually

pytestmark = pytest.mark.any_driver

KEYED = (
    MONTHS
    + "ALTER TABLE app.t ADD PRIMARY KEY (id, at); CREATE TABLE app.r (id int, at timestamptz, FOREIGN KEY (id, at) REFERENCES app.t);"
)
FEB_FIRST = "2020-03-01T00:00Z"


@pytest.fixture
def concurrent(cleaner: Cleaner) -> Cleaner:
    """A server that can detach concurrently."""
    if cleaner.database.cluster.installation.major < 14:
        pytest.skip("PostgreSQL 14 came with DETACH CONCURRENTLY")
    return cleaner


@pytest.mark.parametrize("script", [MONTHS, WITH_DEFAULT, KEYED])
def test_rows_and_bytes_leave_and_the_rest_stays(cleaner: Cleaner, script: str) -> None:
    with divided(cleaner, script) as table:
        ((size,),) = cleaner.sql("SELECT pg_total_relation_size('app.t01')")
        (found,) = table.drop()
        assert (str(found.name), found.outcome, found.rows, found.bytes, found.why) == ("app.t01", "dropped", 10, size, None)
        assert table.leftovers() == []
        assert table.drop() == []
    assert "t01" not in tables(cleaner)
    assert cleaner.count("app.t") == 30


@pytest.mark.parametrize("script", [MONTHS, WITH_DEFAULT])
@pytest.mark.parametrize("free", [None, lambda: True])
def test_nobody_who_reads_or_writes_fails_or_waits_long(cleaner: Cleaner, script: str, free: Any) -> None:
    months = "".join(
        f"CREATE TABLE app.o{n} PARTITION OF app.t FOR VALUES FROM ('{1000 + n}-01-01Z') TO ('{1001 + n}-01-01Z');" for n in range(30)
    )
    statements = (
        "SELECT count(*) FROM app.t",
        "SELECT * FROM app.t WHERE at >= '2020-04-01Z'",
        "INSERT INTO app.t VALUES (1, '2020-04-04Z')",
        "UPDATE app.t SET id = id WHERE at = '2020-04-10 00:00:03Z'",
        "WITH s AS (SELECT pg_sleep(0.02)) SELECT count(*) FROM app.t, s",
    )
    with divided(cleaner, script + months) as table:
        cleaner.sql("INSERT INTO app.t SELECT n, timestamptz '1000-01-01Z' + n * interval '1 day' FROM generate_series(1, 10000) AS n")
        with traffic(cleaner, *statements, lock_timeout="1 s") as took:
            time.sleep(0.2)
            found = table.drop(free=free)
            time.sleep(0.2)
        assert {each.outcome for each in found} == {"dropped"}
        assert (len(found), sum(each.rows for each in found)) == (31, 10010)
    assert len(took) > 100


@pytest.mark.parametrize("free", [None, lambda: True])
@pytest.mark.parametrize("script", [MONTHS, WITH_DEFAULT])
def test_a_table_in_use_is_left_and_said_to_be_locked(cleaner: Cleaner, script: str, free: Any) -> None:
    with divided(cleaner, script, lock_timeout="500 ms") as table:
        cleaner.sql("COMMENT ON TABLE app.t01 IS 'mine'")
        with open_transaction(cleaner, "SELECT 1 FROM app.t", name="a long report") as holder:
            # Five times lock_timeout, which is long enough here for a busy machine to make no difference.
            with traffic(cleaner, "SELECT count(*) FROM app.t", lock_timeout="2500 ms"):
                began = time.monotonic()
                (found,) = table.drop(free=free)
                assert 0.49 < time.monotonic() - began < 15
            assert (found.outcome, found.rows) == ("locked", 0)
            assert f"pid {holder.info.backend_pid} (a long report, user " in (found.why or "")
            assert table.leftovers() == []
            assert comment(cleaner) == "mine"
    with divided(cleaner) as table:
        assert [each.outcome for each in table.drop(free=free)] == ["dropped"]


@pytest.mark.parametrize("held", ["app.t", "app.t01"])
def test_what_is_locked_against_changes_keeps_its_comment(cleaner: Cleaner, monkeypatch: pytest.MonkeyPatch, held: str) -> None:
    """As by a vacuum, which can begin in the moment before the detachment."""
    monkeypatch.setattr(partitions, "outlast", lambda *_arguments: True)
    with divided(cleaner, MONTHS, lock_timeout="100 ms") as table:
        cleaner.sql("COMMENT ON TABLE app.t01 IS 'mine'")
        (due,) = table.due("2020-02-01T00:00Z")
        with open_transaction(cleaner, f"LOCK TABLE ONLY {held} IN SHARE UPDATE EXCLUSIVE MODE"):
            assert partitions.drop(table.session, table.relation, due, free=None).outcome == "locked"
        assert comment(cleaner) == "mine"
        assert cleaner.count("app.t") == 40


def test_a_detachment_that_the_server_breaks_off_leaves_no_mark(concurrent: Cleaner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partitions, "outlast", lambda *_arguments: True)
    with divided(concurrent, MONTHS, lock_timeout="20 s", statement_timeout="300 ms") as table:
        with open_transaction(concurrent, "LOCK TABLE ONLY app.t IN SHARE UPDATE EXCLUSIVE MODE"), pytest.raises(DatabaseError) as caught:
            table.drop()
        assert caught.value.sqlstate == "57014"
        assert (comment(concurrent), table.leftovers()) == (None, [])


def test_free_is_asked_while_nobody_can_write(cleaner: Cleaner) -> None:
    answers: list[Any] = []

    def free() -> bool:
        for table in ("app.t", "app.t01"):
            with cleaner.database.connect() as other:
                other.execute("SET lock_timeout = '50ms'")
                try:
                    other.execute(f"INSERT INTO {table} VALUES (1, '2020-01-20Z')")
                    answers.append("written")
                except Exception as error:  # noqa: BLE001 (which one it is, is what is asked)
                    answers.append(getattr(error, "sqlstate", error))
        return len(answers) > 2

    with divided(cleaner, MONTHS, lock_timeout="2 s") as table:
        (kept,) = table.drop(free=free)
        assert (kept.outcome, kept.rows, kept.why) == ("kept", 0, "it holds rows that are protected")
        assert cleaner.count("app.t") == 40
        (dropped,) = table.drop(free=free)
        assert (dropped.outcome, dropped.rows) == ("dropped", 10)
    assert answers == ["55P03"] * 4


def test_a_question_that_takes_too_long_ends_and_nothing_changes(cleaner: Cleaner) -> None:
    with divided(cleaner, MONTHS, lock_timeout="200 ms") as table:
        began = time.monotonic()
        (found,) = table.drop(free=lambda: table.session.value("SELECT pg_sleep(60)") is None)
        assert time.monotonic() - began < 30
        assert (found.outcome, found.why) == ("kept", "what has to be asked while it is locked took longer than lock_timeout (200 ms)")
        assert cleaner.count("app.t01") == 10
        # Its timeout ended with the transaction.
        assert table.session.value("SHOW statement_timeout") == "15min"
        assert table.session.value("SHOW lock_timeout") == "200ms"


def test_rows_that_are_referred_to_hold_their_partition(cleaner: Cleaner) -> None:
    with divided(cleaner, KEYED) as table:
        cleaner.sql("INSERT INTO app.r SELECT id, at FROM app.t02 LIMIT 1")
        first, second = table.due(FEB_FIRST)
        assert partitions.drop(table.session, table.relation, first, free=None).outcome == "dropped"
        with pytest.raises(DatabaseError, match='violates foreign key constraint "r_id_at_fkey') as caught:
            partitions.drop(table.session, table.relation, second, free=None)
        assert caught.value.sqlstate == "23503"
        assert (cleaner.count("app.t02"), cleaner.count("app.t"), comment(cleaner, "app.t02")) == (10, 30, None)
        cleaner.sql("DELETE FROM app.r")
        assert partitions.drop(table.session, table.relation, second, free=None).rows == 10


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE app.t01 RENAME TO other; CREATE TABLE app.t01 (id int, at timestamptz)",
        "ALTER TABLE app.t RENAME TO other; CREATE TABLE app.t (id int, at timestamptz)",
        "ALTER TABLE app.t DETACH PARTITION app.t01",
        "ALTER TABLE app.t DETACH PARTITION app.t01; ALTER TABLE app.t ATTACH PARTITION app.t01"
        " FOR VALUES FROM ('2019-12-01Z') TO ('2020-02-01Z')",
    ],
)
@pytest.mark.parametrize("free", [None, lambda: True])
def test_what_is_no_longer_what_was_planned_is_left_alone(cleaner: Cleaner, change: str, free: Any) -> None:
    with divided(cleaner, MONTHS) as table:
        relation, (due,) = table.relation, table.due("2020-02-01T00:00Z")
        cleaner.sql(change)
        before = tables(cleaner)
        with pytest.raises(DatabaseError, match=r"partition app\.t01 of app\.t has been changed by others"):
            partitions.drop(table.session, relation, due, free=free)
        assert tables(cleaner) == before
        assert comment(cleaner) is None


class Killed(Exception):
    """Stands for kill -9."""


def killed_at(table: Divided, patches: pytest.MonkeyPatch, module: Any, name: str, when: str = "") -> None:
    """End a drop where it would call a function, with `when` among its arguments."""
    original = getattr(module, name)

    def end(*arguments: Any) -> Any:
        if when in str(arguments):
            raise Killed
        return original(*arguments)

    with patches.context() as patch:
        patch.setattr(module, name, end)
        with pytest.raises(Killed):
            table.drop()


def marked(table: Divided, patches: pytest.MonkeyPatch) -> None:
    """Leave a partition that is marked and in its place."""
    killed_at(table, patches, partitions, "about", "CONCURRENTLY")


def detached(table: Divided, patches: pytest.MonkeyPatch) -> None:
    """Leave a table that is detached and not dropped."""
    killed_at(table, patches, partition_finish, "_drop_detached")


def test_killed_before_the_detachment(concurrent: Cleaner, monkeypatch: pytest.MonkeyPatch) -> None:
    with divided(concurrent, MONTHS) as table:
        concurrent.sql("COMMENT ON TABLE app.t01 IS 'mine'")
        marked(table, monkeypatch)
        marked(table, monkeypatch)
        said = comment(concurrent) or ""
        assert said.startswith("pgops.runbook.pg_cleanup drops this table")
        assert '"was_partition_of": "app.t"' in said
        assert concurrent.count("app.t") == 40
        # A rule that has become longer leaves the partition in its place, as it was.
        ((left,), finished) = (table.leftovers(), table.finish())
        assert (left.state, finished, comment(concurrent)) == ("attached", [None], "mine")
        marked(table, monkeypatch)
        assert [each.outcome for each in table.drop()] == ["dropped"]
        assert table.leftovers() == []


def test_killed_while_the_detachment_is_pending(concurrent: Cleaner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partitions, "outlast", lambda *_arguments: True)
    with open_transaction(concurrent) as holder, divided(concurrent, MONTHS, lock_timeout="20 s") as table:
        holder.execute("SELECT 1 FROM app.t")
        ended: list[Any] = []

        def drop() -> None:
            with pytest.raises(DatabaseError) as caught:
                table.drop()
            ended.append(caught.value)

        run = threading.Thread(target=drop)
        run.start()
        try:
            eventually(lambda: bool(concurrent.sql("SELECT 1 FROM pg_inherits WHERE inhdetachpending")))
        finally:
            concurrent.sql("SELECT pg_terminate_backend(%s)", [table.session.backend_pid])
            run.join()
        assert len(ended) == 1
        with divided(concurrent, lock_timeout="100 ms") as again:
            assert [each.state for each in again.leftovers()] == ["pending"]
            assert again.due("2020-02-01T00:00Z") == []
            with open_transaction(concurrent, "SELECT 1 FROM app.t01"):
                assert [each and each.outcome for each in again.finish()] == ["locked"]
            assert [each.state for each in again.leftovers()] == ["pending"]
            holder.execute("ROLLBACK")
            assert [each and (each.outcome, each.rows) for each in again.finish()] == [("dropped", 10)]
            assert again.leftovers() == []
    assert tables(concurrent) == ["t", "t02", "t03", "t04"]


def test_a_detachment_that_waits_in_vain_is_finished_next_time(concurrent: Cleaner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partitions, "outlast", lambda *_arguments: True)
    with divided(concurrent, MONTHS, lock_timeout="100 ms") as table:
        with open_transaction(concurrent, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", "SELECT 1 FROM app.t"):
            assert [each.outcome for each in table.drop()] == ["locked"]
            assert [each.state for each in table.leftovers()] == ["pending"]
        assert [each and each.outcome for each in table.finish()] == ["dropped"]


def test_beside_a_detachment_of_somebody_else(concurrent: Cleaner) -> None:
    with divided(concurrent, MONTHS, lock_timeout="2 s") as table:
        with open_transaction(concurrent, "SELECT 1 FROM app.t"), concurrent.database.connect() as other:
            other.execute("SET lock_timeout = '100ms'")
            with pytest.raises(Exception, match="lock timeout"):
                other.execute("ALTER TABLE app.t DETACH PARTITION app.t02 CONCURRENTLY")
        assert table.leftovers() == []
        assert [(str(each.name), each.outcome) for each in table.drop(FEB_FIRST)] == [("app.t01", "dropped")]
    assert tables(concurrent) == ["t", "t02", "t03", "t04"]


def test_killed_before_the_drop(concurrent: Cleaner, monkeypatch: pytest.MonkeyPatch) -> None:
    with divided(concurrent, MONTHS) as table:
        detached(table, monkeypatch)
        assert (concurrent.count("app.t"), concurrent.count("app.t01")) == (30, 10)
    with divided(concurrent, lock_timeout="200 ms") as table:
        assert [(str(each.name), each.state) for each in table.leftovers()] == [("app.t01", "detached")]
        with open_transaction(concurrent, "SELECT 1 FROM app.t01"):
            assert [each and each.outcome for each in table.finish()] == ["locked"]
        assert [each and (each.outcome, each.rows) for each in table.finish()] == [("dropped", 10)]
        assert table.finish() == []


@pytest.mark.parametrize(
    "change",
    [
        "COMMENT ON TABLE app.t01 IS NULL",
        "DO $$ BEGIN EXECUTE format('COMMENT ON TABLE app.t01 IS %L', obj_description('app.t01'::regclass) || ' '); END $$",
        "ALTER TABLE app.t01 OWNER TO pg_monitor",
        "ALTER TABLE app.t RENAME TO u",
        "CREATE TABLE app.p (id int, at timestamptz) PARTITION BY LIST (id); ALTER TABLE app.p ATTACH PARTITION app.t01 DEFAULT",
    ],
)
def test_only_what_bears_exactly_the_mark_is_known_again(concurrent: Cleaner, monkeypatch: pytest.MonkeyPatch, change: str) -> None:
    with divided(concurrent, MONTHS) as table:
        detached(table, monkeypatch)
        (left,) = table.leftovers()
        relation = table.relation
        concurrent.sql(change)
        table.table = "app.u" if change.endswith(" u") else "app.t"
        assert table.leftovers() == []
        kept = partitions.finish(table.session, relation, left)
        assert kept is not None
        assert (kept.outcome, kept.why) == ("kept", "it has been changed by others since it was marked")
        assert concurrent.count("app.t01") == 10


def test_a_table_that_was_put_back_is_a_partition_again(concurrent: Cleaner, monkeypatch: pytest.MonkeyPatch) -> None:
    with divided(concurrent, MONTHS) as table:
        detached(table, monkeypatch)
        concurrent.sql("ALTER TABLE app.t ATTACH PARTITION app.t01 FOR VALUES FROM ('2020-01-01Z') TO ('2020-02-01Z')")
        assert table.finish() == [None]
        assert (comment(concurrent), concurrent.count("app.t")) == (None, 40)


@pytest.mark.parametrize("moment", ["'2020-02-01Z'", "NULL"])
def test_a_detached_table_with_a_row_that_is_not_past_is_kept(concurrent: Cleaner, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    with divided(concurrent, MONTHS) as table:
        detached(table, monkeypatch)
        concurrent.sql(
            "DO $$ BEGIN EXECUTE (SELECT format('ALTER TABLE app.t01 DROP CONSTRAINT %I', conname)"
            " FROM pg_constraint WHERE conrelid = 'app.t01'::regclass AND contype = 'c'); END $$"
        )
        concurrent.sql(f"INSERT INTO app.t01 VALUES (99, {moment})")
        (kept,) = table.finish()
        assert kept is not None
        assert kept.outcome == "kept"
        assert "1 of its 11 rows are not before 2020-02-01 00:00:00+00" in (kept.why or "")
        assert concurrent.count("app.t01") == 11


def test_a_detached_table_that_others_have_come_to_depend_on(concurrent: Cleaner, monkeypatch: pytest.MonkeyPatch) -> None:
    with divided(concurrent, MONTHS) as table:
        detached(table, monkeypatch)
        concurrent.sql("CREATE VIEW app.v AS SELECT * FROM app.t01")
        with pytest.raises(InvalidValue, match=r"view app\.v"):
            table.finish()
        assert concurrent.count("app.v") == 10


@pytest.mark.parametrize(
    "said", ["it's \\ 100 %s", "", partition_marks._BEGIN, partition_marks._BEGIN + "[1]", partition_marks._BEGIN + "{}"]
)
def test_any_comment_comes_back(concurrent: Cleaner, monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    with divided(concurrent, MONTHS) as table:
        concurrent.sql(SQL("COMMENT ON TABLE app.t01 IS {}").format(said))
        marked(table, monkeypatch)
        assert table.finish() == [None]
        assert comment(concurrent) == (said or None)


def test_objects_of_the_application_do_not_stand_in_for_the_servers_own(cleaner: Cleaner) -> None:
    with divided(cleaner, WITH_DEFAULT) as table:
        cleaner.sql("CREATE FUNCTION app.pg_total_relation_size(oid) RETURNS bigint LANGUAGE sql AS 'SELECT (1 / 0)::bigint'")
        cleaner.sql("CREATE FUNCTION app.lt(timestamptz, date) RETURNS boolean LANGUAGE sql AS 'SELECT true'")
        cleaner.sql("CREATE FUNCTION app.unnest(bigint[]) RETURNS SETOF bigint LANGUAGE sql AS 'SELECT (1 / 0)::bigint'")
        table.session.execute("SET search_path TO pg_catalog, app, public, pg_temp")
        assert [each.outcome for each in table.drop()] == ["dropped"]
