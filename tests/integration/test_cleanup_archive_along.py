"""Rows to archive that refer to others of their own table by a cascade, which would take them along before they are archived."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from psycopg.sql import SQL

from ansible_collections.pgops.runbook.plugins.module_utils._cleanup import walk
from ansible_collections.pgops.runbook.plugins.module_utils._errors import DatabaseError, InvalidValue
from tests.integration.cleaning import Cleaner, rule
from tests.integration.watching import eventually

pytestmark = pytest.mark.any_driver

MOVE = rule("app.notes", "at", "1 d", action="archive", archive={"table": "app.kept", "create": True})
# Each answers the one before it, written ever later, and the third of them is new.
THREAD = """
CREATE SCHEMA app;
CREATE TABLE app.notes (id int PRIMARY KEY, at timestamptz, answers int CONSTRAINT thread REFERENCES app.notes ON DELETE CASCADE);
CREATE INDEX ON app.notes (answers);
INSERT INTO app.notes SELECT n, CASE n WHEN 3 THEN now() ELSE timestamptz '2020-01-01Z' + n * interval '1 day' END, nullif(n - 1, 0)
FROM generate_series(1, 6) AS n;
"""
BY_ANOTHER = """
CREATE SCHEMA app;
CREATE TABLE app.notes (id int PRIMARY KEY, at timestamptz, file int);
CREATE TABLE app.files (id int PRIMARY KEY, note int REFERENCES app.notes ON DELETE CASCADE);
ALTER TABLE app.notes ADD FOREIGN KEY (file) REFERENCES app.files ON DELETE CASCADE;
INSERT INTO app.notes VALUES (1, 'epoch', NULL); INSERT INTO app.files VALUES (1, 1); INSERT INTO app.notes VALUES (2, 'epoch', 1);
"""
DIVIDED = """
CREATE SCHEMA app;
CREATE TABLE app.notes (id int PRIMARY KEY, at timestamptz, answers int) PARTITION BY RANGE (id);
CREATE TABLE app.notes_1 PARTITION OF app.notes FOR VALUES FROM (0) TO (10);
CREATE TABLE app.notes_2 PARTITION OF app.notes FOR VALUES FROM (10) TO (20);
ALTER TABLE app.notes ADD CONSTRAINT thread FOREIGN KEY (answers) REFERENCES app.notes ON DELETE CASCADE;
INSERT INTO app.notes VALUES (1, 'epoch', NULL), (11, 'epoch', NULL);
"""


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pick the rows, so that batch_rows alone decides how many a batch has."""
    monkeypatch.setattr(walk, "LEAST_ROWS", 2)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(("script", "due"), [(THREAD, [1, 2, 4, 5, 6]), (BY_ANOTHER, [1, 2])], ids=["thread", "by another"])
def test_every_row_that_is_due_is_in_the_archive(cleaner: Cleaner, script: str, due: list[int]) -> None:
    cleaner.sql(SQL(script))
    planned, result = cleaner.run([MOVE], check=True), cleaner.run([MOVE], batch_rows=1)
    assert cleaner.column("SELECT id FROM app.kept") == due
    assert cleaner.count("app.notes") == 0
    assert [(one["removed"], one["archived"]) for one in (planned, result)] == [(len(due), len(due))] * 2


@pytest.mark.usefixtures("small")
def test_rows_that_take_nothing_along_still_go_in_batches(cleaner: Cleaner) -> None:
    cleaner.sql(SQL(THREAD))
    cleaner.sql("UPDATE app.notes SET answers = NULL")
    assert cleaner.run([MOVE], batch_rows=1)["rules"][0]["batches"] > 4
    assert cleaner.column("SELECT id FROM app.kept") == [1, 2, 4, 5, 6]


@pytest.mark.parametrize("check", [True, False])
def test_rows_of_one_partition_that_take_those_of_another_along_are_refused(cleaner: Cleaner, check: bool) -> None:
    cleaner.sql(SQL(DIVIDED))
    assert cleaner.run([MOVE], check=True)["archived"] == 2
    cleaner.sql("UPDATE app.notes SET answers = 1 WHERE id = 11")
    with pytest.raises(InvalidValue, match=r'rules\[0\].table: .*"thread" of app\.notes .*before they are archived'):
        cleaner.run([MOVE], check=check)
    assert cleaner.count("app.notes") == 2
    cleaner.sql("UPDATE app.notes SET at = now() WHERE id = 11")
    if not check:
        assert cleaner.run([MOVE])["archived"] == 1


# Deletes of the first one wait for whoever has the advisory lock, for longer than lock_timeout lets them.
WATCHED = """
CREATE FUNCTION app.wait() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  WHILE old.id = 1 AND NOT pg_try_advisory_xact_lock(7) LOOP PERFORM pg_sleep(0.01); END LOOP;
  RETURN old;
END $$;
CREATE TRIGGER wait BEFORE DELETE ON app.notes FOR EACH ROW EXECUTE FUNCTION app.wait();
"""
ASLEEP = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'"


def test_none_is_passed_over_because_somebody_holds_it(cleaner: Cleaner, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be free again when the cascade comes to it."""
    monkeypatch.setattr(walk, "_TID_RANGES", 999_999)
    cleaner.sql(SQL(THREAD + WATCHED))
    ended: list[Any] = []

    def run() -> None:
        with pytest.raises(DatabaseError) as caught:
            cleaner.run([MOVE], login={"lock_timeout": "500 ms"})
        ended.append(caught.value.sqlstate)

    thread = threading.Thread(target=run)
    with cleaner.database.connect() as other:
        other.execute("SELECT pg_advisory_lock(7)")
        other.execute("BEGIN")
        other.execute("SELECT FROM app.notes WHERE id = 6 FOR UPDATE")
        thread.start()
        eventually(lambda: not thread.is_alive() or cleaner.sql(ASLEEP) != [])
        other.execute("ROLLBACK")
        other.execute("SELECT pg_advisory_unlock(7)")
        thread.join()
    assert (ended, cleaner.count("app.notes"), cleaner.count("app.kept")) == (["55P03"], 6, 0)
    assert cleaner.run([MOVE])["archived"] == 5
    assert cleaner.column("SELECT id FROM app.kept") == [1, 2, 4, 5, 6]
