"""One table with expired rows, the one rule that is applied to it, and what must be true of it whatever hinders the run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest

from ansible_collections.pgops.runbook.plugins.module_utils._cleanup import dropping, pace, statements, walk
from ansible_collections.pgops.runbook.plugins.module_utils._cleanup.report import Interrupted
from ansible_collections.pgops.runbook.plugins.module_utils._errors import Busy
from tests.integration.children import until
from tests.integration.cleaning import Cleaner, rule

ACTIONS = ("delete", "archive", "soft_delete", "purge")
WAYS = ("pages", "index", "pick")
EVERY = [(action, way) for action in ACTIONS for way in WAYS]
SPREAD = [("delete", "pages"), ("archive", "pages"), ("archive", "index"), ("archive", "pick"), ("soft_delete", "index"), ("purge", "pick")]
DROP = "drop_partitions"
# Few rows are many, so that small tables are walked through in many batches.
SMALL = {"FIRST_ROWS": 60, "LEAST_ROWS": 10, "_FIRST_PAGES": 1, "_LEAST_PAGES": 1}
_BATCHES = ("pick", "pick_oldest", "take_range")

PROCESS = """
import json, sys
sys.path[:0] = {path!r}
from ansible_collections.pgops.runbook.plugins.module_utils import _cleanup
from ansible_collections.pgops.runbook.plugins.module_utils._cleanup import walk
from ansible_collections.pgops.runbook.plugins.module_utils._connection import ConnectionOptions, connect
given = json.load(sys.stdin)
for name, number in given["sizes"].items():
    setattr(walk, name, number)
options = _cleanup.read_options(given["options"])
with connect(ConnectionOptions.from_params(given["login"]), application_name="pgops.runbook/pg_cleanup", read_only=False) as session:
    print("begun", flush=True)
    result = _cleanup.clean_up(session, options, check_mode=False)
print(json.dumps(result), flush=True)
"""


class Scene:
    """The table `t`, of whose rows `expired` are to go, by one rule with the given action, in the given way."""

    def __init__(self, cleaner: Cleaner, action: str, way: str = "pick", *, batch_rows: int = 100, schema: str = "public") -> None:
        self.cleaner, self.action, self.way = cleaner, action, way
        self.table, self.kept = f"{schema}.t", f"{schema}.kept"
        self.parameters: dict[str, Any] = {"batch_rows": batch_rows, "token_stores": [], "vacuum": "never"}
        self.rules = [self._rule()]
        self._fill()
        self.all = self.ids(self.table)
        self.expired = self.ids(self.table, "at < now()")

    @classmethod
    def small(cls, cleaner: Cleaner, action: str, way: str, patches: pytest.MonkeyPatch, **more: Any) -> Scene:
        """Return one that is walked through in the way that it names."""
        for name, number in sizes(way).items():
            patches.setattr(walk, name, number)
        return cls(cleaner, action, way, **more)

    def _rule(self) -> dict[str, Any]:
        if self.action == "archive":
            return rule(self.table, "at", action="archive", archive={"table": self.kept, "create": True})
        if self.action == "soft_delete":
            return rule(self.table, "at", action="soft_delete", mark={"column": "deleted_at"})
        if self.action == "purge":
            return rule(self.table, "at", action="purge", mark={"column": "deleted_at"})
        return rule(self.table, "at", action=self.action)

    def _fill(self) -> None:
        sql = self.cleaner.sql
        columns = "id int, at timestamptz, deleted_at timestamptz, pad text DEFAULT repeat('x', 40)"
        if self.action == DROP:
            sql(f"CREATE TABLE {self.table} ({columns}) PARTITION BY RANGE (at)")
            for year in range(2010, 2018):
                sql(f"CREATE TABLE {self.table}{year} PARTITION OF {self.table} FOR VALUES FROM ('{year}-01-01') TO ('{year + 1}-01-01')")
            sql(f"CREATE TABLE {self.table}_now PARTITION OF {self.table} FOR VALUES FROM ('2018-01-01') TO (MAXVALUE)")
            sql(
                f"INSERT INTO {self.table} SELECT n, timestamptz '2010-06-01' + n % 8 * interval '1 year' FROM generate_series(1, 400) AS n"
            )
            sql(f"INSERT INTO {self.table} SELECT n, 'infinity' FROM generate_series(401, 500) AS n")
            return
        share = 25 if self.way == "index" else 2
        rows = 10_000 if self.way == "index" else 1_200
        marked = "'epoch'" if self.action == "purge" else "NULL"
        sql(f"CREATE TABLE {self.table} ({columns})")
        sql(
            f"INSERT INTO {self.table} (id, at, deleted_at) SELECT n, CASE WHEN n % {share} = 0 THEN now() - n * interval '1 s'"
            f" ELSE 'infinity' END, CASE WHEN n % {share} = 0 THEN {marked}::timestamptz END FROM generate_series(1, {rows}) AS n"
        )
        if self.way == "index":
            sql(f"CREATE INDEX ON {self.table} (at)")

    # --- running ------------------------------------------------------------------------------------------------------

    def run(self, **parameters: Any) -> dict[str, Any]:
        """Clean up and return the result."""
        return self.cleaner.run(self.rules, **{**self.parameters, **parameters})

    def broken(self, **parameters: Any) -> Interrupted:
        """Clean up, which an error ends in the middle, and return that; what it says was done is what has been done."""
        with pytest.raises(Interrupted) as caught:
            self.run(**parameters)
        self.require_nothing_lost(caught.value.result)
        return caught.value

    def start(self) -> subprocess.Popen[str]:
        """Start a run in a process of its own, and return when it is connected."""
        given = {
            "sizes": sizes(self.way),
            "options": {"rules": self.rules, **self.parameters},
            "login": self.cleaner.database.login(tcp=False),
        }
        program = PROCESS.replace("{path!r}", repr(sys.path))
        process = subprocess.Popen(
            [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ}
        )
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(given))
        process.stdin.close()
        assert process.stdout.readline() == "begun\n"
        return process

    @contextmanager
    def running(self, **parameters: Any) -> Iterator[dict[str, Any]]:
        """Run in the background during the block; what it gives or raises is in the dictionary after it."""
        given: dict[str, Any] = {}

        def body() -> None:
            try:
                given["result"] = self.run(**parameters)
            except Exception as error:  # noqa: BLE001  (handed to the test)
                given["error"] = error

        thread = threading.Thread(target=body)
        thread.start()
        try:
            yield given
        finally:
            thread.join(60)
        assert not thread.is_alive()

    def finish(self, **parameters: Any) -> dict[str, Any]:
        """Run as soon as the server has noticed that the one before is gone; that must do the rest, and one more nothing."""
        result = until(lambda: self._unless_busy(**parameters))
        assert (result["stopped"], result["remaining"]) == ("done", 0)
        self.require_nothing_lost()
        assert self.left() == []
        again = self.run(**parameters)
        assert (again["changed"], again["stopped"], again["matched"]) == (False, "done", 0)
        return result

    def _unless_busy(self, **parameters: Any) -> dict[str, Any] | None:
        try:
            return self.run(**parameters)
        except Busy:
            return None

    # --- looking ------------------------------------------------------------------------------------------------------

    def ids(self, table: str, where: str = "true") -> list[int]:
        """Return the rows of a table that fulfil a condition, each as often as it is there."""
        return self.cleaner.column(f"SELECT id FROM {table} WHERE {where}")

    def archived(self) -> list[int]:
        """Return the rows in the archive."""
        return self.ids(self.kept) if self._has_archive() else []

    def _has_archive(self) -> bool:
        return bool(self.cleaner.sql("SELECT to_regclass(%s) IS NOT NULL", [self.kept])[0][0])

    def left(self) -> list[int]:
        """Return the expired rows that the rule has still to do something with."""
        if self.action == DROP:
            # A partition that has left the table and is still there is left as well.
            names = "SELECT oid::regclass::text FROM pg_class WHERE relname ~ '^t20[0-9]{2}$'"
            while True:
                try:
                    return sorted(row for name in self.cleaner.column(names) for row in self.ids(name))
                except psycopg.errors.UndefinedTable:
                    continue  # what a killed run had sent before is still done: one went while they were counted
        return self.ids(self.table, "at < now()" + (" AND deleted_at IS NULL" if self.action == "soft_delete" else ""))

    def require_nothing_lost(self, result: dict[str, Any] | None = None, again: int = 0) -> None:
        """Require each row in one place, those that are not expired untouched, and that `result` says what was done.

        `again` rows at the most may have come back since.
        """
        here, kept, left = self.ids(self.table), self.archived(), self.left()
        assert self.ids(self.table, "at = 'infinity' AND deleted_at IS NULL") == sorted(set(self.all) - set(self.expired))
        if self.action == "archive":
            # In one statement: the last batch of a killed run may be committed between two.
            either = f"(SELECT id FROM {self.table} UNION ALL SELECT id FROM {self.kept}) AS either"
            assert self.ids(either if self._has_archive() else self.table) == self.all
            assert not set(kept) - set(self.expired)
        elif self.action == "soft_delete":
            assert here == self.all
        assert not set(left) - set(self.expired)
        if result is not None:
            done = result["marked" if self.action == "soft_delete" else "removed"]
            assert done - again <= len(self.expired) - len(left) <= done
            assert result["archived"] == (done if self.action == "archive" else 0)
            assert result["changed"] is (done > 0)


def sizes(way: str) -> dict[str, int]:
    """Return the sizes of batches with which a table is walked through in a way."""
    return {} if way == "pick" else SMALL


def before_batch(patches: pytest.MonkeyPatch, number: int, act: Callable[[Any], object]) -> list[str]:
    """Call `act` with the session before batch `number`, counted from 0; the list that is returned grows by the kind of each batch."""
    seen: list[str] = []

    def wrap(place: Any, name: str) -> None:
        real = getattr(place, name)

        def batch(database: Any, *given: Any, **more: Any) -> Any:
            seen.append(name)
            if len(seen) == number + 1:
                act(database)
            return real(database, *given, **more)

        patches.setattr(place, name, batch)

    for name in _BATCHES:
        wrap(statements, name)
    wrap(dropping.partitions, "drop")
    return seen


def leaping(patches: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Return what lets so many seconds pass at once for the bounds of a run, which may otherwise take as long as a busy machine needs."""
    passed: list[float] = []
    patches.setattr(pace, "time", SimpleNamespace(monotonic=lambda: time.monotonic() + sum(passed)))
    return passed.append


def noted(patches: pytest.MonkeyPatch, place: Any, name: str) -> list[tuple[tuple[Any, ...], Any]]:
    """Return a list that grows by what each call of a function was given and what it returned, after it."""
    seen: list[tuple[tuple[Any, ...], Any]] = []
    real = getattr(place, name)

    def noting(*given: Any, **more: Any) -> Any:
        result = real(*given, **more)
        seen.append((given, result))
        return result

    patches.setattr(place, name, noting)
    return seen


def on_row(scene: Scene, act: str, which: str | None = None) -> None:
    """Let the statement `act` of PL/pgSQL run when the row comes that fulfils `which`: the one in the middle unless it is said."""
    chosen = which or f"OLD.id = {scene.expired[len(scene.expired) * 2 // 3]}"
    scene.cleaner.sql(
        f"CREATE FUNCTION hinder() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF {chosen} THEN {act}; END IF;"
        " IF TG_OP = 'DELETE' THEN RETURN OLD; END IF; RETURN NEW; END $$"
    )
    scene.cleaner.sql(f"CREATE TRIGGER hinder BEFORE DELETE OR UPDATE ON {scene.table} FOR EACH ROW EXECUTE FUNCTION hinder()")


@contextmanager
def held_up(scene: Scene) -> Iterator[None]:
    """Let no run come past the row in the middle of the expired ones before the block ends; it sleeps in front of it."""
    on_row(scene, "WHILE NOT pg_try_advisory_xact_lock(7) LOOP PERFORM pg_sleep(0.05); END LOOP")
    with scene.cleaner.database.connect() as holder:
        holder.execute("SELECT pg_advisory_lock(7)")
        try:
            yield
        finally:
            # A session that is only closed may keep its locks for a moment.
            holder.execute("SELECT pg_advisory_unlock(7)")


def let_be(scene: Scene) -> None:
    """Take away what `on_row` does."""
    scene.cleaner.sql("DROP FUNCTION IF EXISTS hinder() CASCADE")
