"""Indexes that failed, repeat each other, serve nobody or are missing: found, and nothing else taken for one of them."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import psycopg
import pytest

from ansible_collections.pgops.runbook.plugins.module_utils._health import indexes_missing, indexes_order, indexes_unused
from ansible_collections.pgops.runbook.plugins.module_utils._health.model import Check, Limits, Reading
from tests.ground.cluster import Cluster
from tests.ground.databases import Database
from tests.ground.servers import Installation
from tests.integration.children import until
from tests.integration.watching import create_role, drop_role, eventually, finding, look, run_script, statements_in, status_of

pytestmark = pytest.mark.any_driver


def seen(database: Database, *checks: str, **params: Any) -> dict[str, Any]:
    """Look at some checks of the whole database, every size counting."""
    limits = {"index.duplicate": {"minimum": 0}, "index.unused": {"warning": 0}, "fk.unindexed": {"minimum": 0}}
    return look(database, None, **{"system": None, "checks": list(checks), "thresholds": limits, **params})


def keys(result: dict[str, Any]) -> set[str]:
    """Return the keys of the findings."""
    return {found["key"] for found in result["findings"]}


def message(result: dict[str, Any], check: str) -> str:
    """Return what a check says."""
    return str(next(each["message"] for each in result["checks"] if each["id"] == check))


def action(result: dict[str, Any], key: str) -> str:
    """Return what is to be done about a finding."""
    return str(finding(result, key)["action"]).replace("As the owner: ", "")


def fail(database: Database, statement: str) -> None:
    """Run what fails on equal keys and leaves an index behind."""
    with pytest.raises(psycopg.errors.UniqueViolation):
        run_script(database, statement)


@contextmanager
def blocked(database: Database, table: str, statement: str) -> Iterator[None]:
    """Run a concurrent build of an index that waits for an open transaction while the block runs."""

    def build(session: psycopg.Connection[Any]) -> None:
        session.execute(statement)  # type: ignore[call-overload]

    with database.connect() as holder, database.connect() as builder:
        holder.execute(f"BEGIN; LOCK TABLE {table} IN ROW EXCLUSIVE MODE")  # type: ignore[call-overload]
        thread = threading.Thread(target=build, args=(builder,))
        thread.start()
        try:
            waits = "SELECT count(*) FROM pg_locks WHERE locktype = 'virtualxid' AND NOT granted"
            eventually(lambda: database.query(waits) == [(1,)])
            yield
        finally:
            holder.execute("COMMIT")
            thread.join(60)


# --- invalid ------------------------------------------------------------------------------------------------------------

TWICE = "CREATE TABLE {0} AS SELECT n % 5 AS id, n AS other FROM generate_series(1, 10) AS n"


def test_a_build_in_progress_is_none_and_a_failed_one_is(database: Database) -> None:
    run_script(database, f"{TWICE.format('busy')}; {TWICE.format('failed')}")
    fail(database, "CREATE UNIQUE INDEX CONCURRENTLY failed_id ON failed (id)")
    with blocked(database, "busy", "CREATE INDEX CONCURRENTLY busy_id ON busy (id)"):
        assert database.query("SELECT indisvalid FROM pg_index WHERE indexrelid = 'busy_id'::regclass") == [(False,)]
        result = seen(database, "index.invalid")
        assert keys(result) == {"index.invalid[public.failed_id]"}
        run_script(database, "DROP INDEX failed_id")
        result = seen(database, "index.invalid")
        assert (keys(result), message(result, "index.invalid")) == (set(), "no index is left invalid; 1 being built")
        # Who cannot see what others build does not know.
        login = create_role(database.cluster, "index watch")
        result = seen(database, "index.invalid", login=login)
        assert {found["key"]: found["severity"] for found in result["findings"]} == {"index.invalid[public.busy_id]": "unknown"}
        for grant in statements_in(action(result, "index.invalid[public.busy_id]")):
            run_script(database, grant)
        assert keys(seen(database, "index.invalid", login=login)) == set()
        drop_role(database.cluster, database, "index watch")
    assert message(seen(database, "index.invalid"), "index.invalid") == "no index is left invalid"


def test_reindexing_a_table_is_a_build_of_all_its_indexes(database: Database) -> None:
    run_script(database, f"{TWICE.format('busy')}; CREATE INDEX busy_id ON busy (id); CREATE INDEX busy_other ON busy (other)")
    with blocked(database, "busy", "REINDEX TABLE CONCURRENTLY busy"):
        assert database.query("SELECT count(*) FROM pg_index WHERE indrelid = 'busy'::regclass AND NOT indisvalid") == [(2,)]
        assert keys(seen(database, "index.invalid")) == set()


def test_each_invalid_index_has_its_own_remedy(database: Database) -> None:
    run_script(
        database,
        """CREATE SCHEMA "Odd %s"; CREATE TABLE "Odd %s"."T.""1" AS SELECT n % 5 AS id, n AS other FROM generate_series(1, 10) AS n;
        CREATE INDEX "good" ON "Odd %s"."T.""1" (lower(id::text)) WHERE id > 0; CREATE TABLE keyed (id int PRIMARY KEY);""",
    )
    odd = '"Odd %s"."T.""1"'
    fail(database, f'CREATE UNIQUE INDEX CONCURRENTLY "a ""b;" ON {odd} (id)')
    run_script(
        database, f"CREATE INDEX the_same_with_a_longer_name ON {odd} (lower(id::text)) WHERE id > 0; CREATE INDEX plain ON {odd} (id)"
    )
    run_script(
        database,
        """UPDATE pg_index SET indisvalid = false
           WHERE indexrelid::regclass::text ~ 'the_same|plain|keyed';""",
    )
    with database.connect() as holder:
        holder.execute(f"BEGIN; LOCK TABLE {odd} IN ACCESS EXCLUSIVE MODE")  # type: ignore[call-overload]
        locked = seen(database, "index.invalid")
    result = seen(database, "index.invalid")
    assert keys(result) == keys(locked)
    unique = 'index.invalid[Odd %s."a ""b;"]'
    assert "is locked now" in action(locked, unique)
    assert 'DROP INDEX CONCURRENTLY "Odd %s"."a ""b;"; then: CREATE UNIQUE INDEX CONCURRENTLY "a ""b;" ON "Odd %s"' in action(
        result, unique
    )
    twin = action(result, "index.invalid[Odd %s.the_same_with_a_longer_name]")
    assert twin.startswith('DROP INDEX CONCURRENTLY "Odd %s"."the_same_with_a_longer_name"; "Odd %s".good is valid')
    remedies = {
        "index.invalid[Odd %s.plain]": 'REINDEX INDEX CONCURRENTLY "Odd %s"."plain"',
        "index.invalid[public.keyed_pkey]": 'REINDEX INDEX CONCURRENTLY "public"."keyed_pkey"',
        "index.invalid[Odd %s.the_same_with_a_longer_name]": 'DROP INDEX CONCURRENTLY "Odd %s"."the_same_with_a_longer_name"',
    }
    for key, remedy in remedies.items():
        assert f"{remedy};" in action(result, key)
        run_script(database, remedy)
    assert keys(seen(database, "index.invalid")) == {unique}
    assert keys(seen(database, "index.invalid", system={"name": "own", "schemas": ["public"]})) == set()


def test_the_index_of_a_partitioned_table_waits_for_its_partitions(database: Database) -> None:
    run_script(
        database,
        """CREATE TABLE parent (id int) PARTITION BY RANGE (id); CREATE TABLE low PARTITION OF parent FOR VALUES FROM (0) TO (9);
        CREATE TABLE high PARTITION OF parent FOR VALUES FROM (9) TO (99);
        CREATE INDEX parent_id ON ONLY parent (id); CREATE INDEX low_id ON low (id); ALTER INDEX parent_id ATTACH PARTITION low_id""",
    )
    result = seen(database, "index.invalid")
    assert (keys(result), "1 of partitioned tables" in message(result, "index.invalid")) == (set(), True)
    run_script(database, "CREATE INDEX high_id ON high (id); ALTER INDEX parent_id ATTACH PARTITION high_id")
    assert message(seen(database, "index.invalid"), "index.invalid") == "no index is left invalid"
    run_script(database, "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'parent_id'::regclass")
    assert "ATTACH PARTITION" in action(seen(database, "index.invalid"), "index.invalid[public.parent_id]")
    run_script(database, "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'low_id'::regclass")
    # The parent is invalid because its child is.
    assert keys(seen(database, "index.invalid")) == {"index.invalid[public.low_id]"}


def test_a_standby_does_not_know_what_the_primary_builds(database: Database, standby: Cluster) -> None:
    run_script(database, TWICE.format("failed"))
    fail(database, "CREATE UNIQUE INDEX CONCURRENTLY failed_id ON failed (id)")
    database.cluster.wait_for(standby)
    result = seen(database, "index.invalid", cluster=standby)
    assert (status_of(result, "index.invalid"), "public.failed_id" in message(result, "index.invalid")) == ("skipped", True)
    run_script(database, "DROP INDEX failed_id")
    database.cluster.wait_for(standby)
    assert status_of(seen(database, "index.invalid", cluster=standby), "index.invalid") == "ok"


# --- duplicates ---------------------------------------------------------------------------------------------------------

DUPLICATES = """
CREATE TABLE t (a int, b int, c text, d text COLLATE "C");
INSERT INTO t SELECT n, n, n, n FROM generate_series(1, 1000) AS n;
ALTER TABLE t ADD CONSTRAINT t_pk PRIMARY KEY (a);
CREATE UNIQUE INDEX same_as_pk ON t (a);
CREATE INDEX covered_by_pk ON t (a);
CREATE INDEX two ON t (b, c); CREATE INDEX two_again ON t (b, c);
CREATE INDEX first_of_two ON t (b);
CREATE INDEX first_descending ON t (b DESC);
CREATE INDEX second_of_two ON t (c);
CREATE INDEX pattern ON t (c text_pattern_ops);
CREATE INDEX collated ON t (c COLLATE "C");
CREATE INDEX hashed ON t USING hash (b);
CREATE INDEX partial_one ON t (d) WHERE a > 5; CREATE INDEX partial_one_again_with_a_long_name ON t (d) WHERE a > 5;
CREATE INDEX partial_two ON t (d) WHERE a > 6;
CREATE INDEX expression ON t (lower(d)); CREATE INDEX expression_again_with_a_long_name ON t (lower(d));
CREATE INDEX other_one ON t (upper(d));
CREATE INDEX including ON t (d) INCLUDE (a); CREATE INDEX not_including ON t (d); CREATE INDEX including_more ON t (d) INCLUDE (b);
CREATE TABLE p (id int, k int) PARTITION BY RANGE (id); CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (9);
CREATE INDEX p_one ON p (k); CREATE INDEX p_two ON p (k); CREATE INDEX p1_own ON p1 (k);
CREATE TABLE u (x int NOT NULL); CREATE UNIQUE INDEX u_one ON u (x); CREATE UNIQUE INDEX u_two ON u (x);
CREATE TABLE refers (x int REFERENCES u (x)); ALTER TABLE u REPLICA IDENTITY USING INDEX u_two;
"""


def test_duplicates_and_prefixes_are_found_and_told_apart(database: Database) -> None:
    run_script(database, DUPLICATES)
    # Of two that are the same the one that queries read is kept.
    run_script(database, "SET enable_seqscan = off; SET enable_bitmapscan = off; SELECT count(*) FROM t WHERE b = 5 AND c = '5'")
    scanned = "SELECT indexrelname FROM pg_stat_user_indexes WHERE idx_scan > 0 AND relname = 't'"
    which = str(until(lambda: database.query(scanned)))
    result = seen(database, "index.duplicate")
    same = {each["object"] for each in result["findings"] if "is the same" in each["message"]}
    prefix = {each["object"] for each in result["findings"] if "its columns are the first ones" in each["message"]}
    pairs = {frozenset({"two", "two_again"}), frozenset({"p_one", "p_two"})}
    assert same - {f"public.{name}" for pair in pairs for name in pair} == {
        "public.same_as_pk",
        "public.partial_one_again_with_a_long_name",
        "public.expression_again_with_a_long_name",
        "public.p1_own",
    }
    assert all(len(same & {f"public.{name}" for name in pair}) == 1 for pair in pairs), which
    assert prefix == {"public.covered_by_pk", "public.first_of_two", "public.not_including"}
    assert action(result, "index.duplicate[public.same_as_pk]") == 'DROP INDEX CONCURRENTLY "public"."same_as_pk"; public.t_pk stays.'
    parent = next(iter(same & {"public.p_one", "public.p_two"}))
    assert action(result, f"index.duplicate[{parent}]").startswith("DROP INDEX " + '"public"."p_')
    assert finding(result, "index.duplicate[public.same_as_pk]")["value"] > 8192
    few = seen(database, "index.duplicate", thresholds={})
    assert {each["object"] for each in few["findings"]} == same
    for key in sorted(keys(few)):
        run_script(database, action(few, key).partition(";")[0])
    assert keys(seen(database, "index.duplicate", thresholds={})) == set()


def test_a_lock_hides_no_duplicate(database: Database) -> None:
    run_script(database, DUPLICATES)
    before = keys(seen(database, "index.duplicate"))
    with database.connect() as holder:
        holder.execute("BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE; DROP INDEX same_as_pk")
        assert keys(seen(database, "index.duplicate")) == before


# --- unused -------------------------------------------------------------------------------------------------------------

UNUSED = """
CREATE TABLE master (id int PRIMARY KEY, other int UNIQUE);
INSERT INTO master SELECT n, n FROM generate_series(1, 3000) AS n;
CREATE TABLE t (id int PRIMARY KEY, ref int REFERENCES master, x int, y int, z text NOT NULL, r int4range);
INSERT INTO t SELECT n, n, n, n, n, int4range(n, n + 1) FROM generate_series(1, 3000) AS n;
CREATE INDEX idle ON t (x); CREATE INDEX "I'd %s" ON t (x, y); CREATE INDEX busy ON t (y); CREATE UNIQUE INDEX sure ON t (z);
CREATE INDEX supports ON t (ref, x); CREATE INDEX expressed ON t (lower(z)); ALTER TABLE t REPLICA IDENTITY USING INDEX sure;
ALTER TABLE t ADD CONSTRAINT apart EXCLUDE USING gist (r WITH &&);
CREATE TABLE p (id int, k int, l int) PARTITION BY RANGE (id);
CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (9); CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (9) TO (9999);
INSERT INTO p SELECT n, n, n FROM generate_series(1, 3000) AS n;
CREATE INDEX p_k ON p (k); CREATE INDEX p_l ON p (l);
CREATE TABLE owned AS SELECT n FROM generate_series(1, 3000) AS n; CREATE INDEX owned_n ON owned (n);
ALTER EXTENSION plpgsql ADD TABLE owned;
ANALYZE;
SET enable_seqscan = off; SET enable_bitmapscan = off; SELECT count(*) FROM t WHERE y = 5; SELECT count(*) FROM p2 WHERE k = 50;
"""


def test_a_short_window_says_nothing(database: Database) -> None:
    run_script(database, UNUSED)
    result = seen(database, "index.unused")
    assert status_of(result, "index.unused") == "skipped"
    assert message(result, "index.unused").startswith("no window yet")


def test_what_is_needed_without_being_scanned_is_no_candidate(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexes_unused, "WINDOW_DAYS", 0)
    run_script(database, UNUSED)
    scans = "SELECT count(*) FROM pg_stat_user_indexes WHERE indexrelname IN ('busy', 'p2_k_idx') AND idx_scan > 0"
    eventually(lambda: database.query(scans) == [(2,)])
    result = seen(database, "index.unused")
    assert keys(result) == {"index.unused[public.idle]", "index.unused[public.I'd %s]", "index.unused[public.p_l]"}
    found = finding(result, "index.unused[public.I'd %s]")
    assert found["message"].startswith("a candidate")
    assert "standbys count for themselves" in found["message"]
    assert "DROP" not in str(result["findings"]).upper().replace("BEFORE IT IS DROPPED", "")
    (definition,) = database.query(found["action"].rpartition(": ")[2])
    assert '"I\'d %s"' in definition[0]
    assert keys(seen(database, "index.unused", thresholds={})) == set()
    with database.connect() as holder:
        holder.execute("BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE")
        assert keys(seen(database, "index.unused")) == keys(result)
    system = {"name": "own", "schemas": ["elsewhere"]}
    assert keys(seen(database, "index.unused", system=system)) == set()


def since(database: Database, **params: Any) -> datetime:
    """Return since when the server has counted, as the check sees it."""
    found: list[datetime] = []

    def ask(look: Any, limits: Limits) -> list[Reading]:
        found.append(indexes_unused.counting_since(look))
        return [Reading("asked")]

    own = Check(id="test.own", title="own", tier="hourly", looks_at="", action="", needs="", run=ask)
    seen(database, "avail.connect", extra=[own], **params)
    return found[0]


def test_counters_that_a_crash_has_emptied_do_not_count_from_before(installation: Installation) -> None:
    with Cluster(installation, settings={"autovacuum": "off"}) as own:
        login = create_role(own, "watch", "pg_monitor")
        own.create_database("shop")
        shop = Database(own, "shop")
        run_script(shop, UNUSED)
        before = since(shop, login=login)
        # A database is no older than its first file, whoever may look at that.
        assert since(shop) >= before
        (moment,) = shop.query("SELECT clock_timestamp()")[0]
        assert since(shop, login=login) < moment
        with shop.connect() as witness, shop.connect() as victim:
            os.kill(victim.info.backend_pid, signal.SIGKILL)
            eventually(lambda: not answers(witness))
        eventually(lambda: recovered(shop))
        assert before < moment < since(shop, login=login)
        assert status_of(seen(shop, "index.unused", login=login), "index.unused") == "skipped"
        before = since(shop, login=login)
        run_script(shop, "SELECT pg_stat_reset()")
        eventually(lambda: since(shop, login=login) > before)
        run_script(shop, "ALTER SYSTEM SET track_counts = off; ")
        run_script(shop, "SELECT pg_reload_conf()")
        eventually(lambda: shop.query("SHOW track_counts") == [("off",)])
        assert finding(seen(shop, "index.unused"), "index.unused")["severity"] == "unknown"


def answers(session: psycopg.Connection[Any]) -> bool:
    """Return whether a session is still there."""
    try:
        session.execute("SELECT 1")
    except psycopg.OperationalError:
        return False
    return True


def recovered(database: Database) -> bool:
    """Return whether the server takes connections again."""
    try:
        database.connect().close()
    except psycopg.OperationalError:
        return False
    return True


# --- order --------------------------------------------------------------------------------------------------------------


def test_low_correlations_inform_and_are_unknown_without_statistics(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexes_order, "LEAST_BYTES", 1 << 20)
    assert status_of(seen(database, "index.correlation"), "index.correlation") == "skipped"
    run_script(
        database,
        """CREATE TABLE t AS SELECT n AS id, md5(n::text) AS word, repeat('x', 50) AS pad FROM generate_series(1, 30000) AS n;
        CREATE INDEX t_id ON t (id); CREATE INDEX t_word ON t (word); CREATE INDEX t_pad ON t (pad); ANALYZE t""",
    )
    result = seen(database, "index.correlation")
    assert (status_of(result, "index.correlation"), keys(result)) == ("ok", set())
    assert [(row["table"], row["column"], row["index"]) for row in result["details"]["correlation"]] == [("public.t", "word", "t_word")]
    assert message(result, "index.correlation").startswith("1 of 3 columns")
    login = create_role(database.cluster, "order watch", "pg_monitor")
    result = seen(database, "index.correlation", login=login)
    assert finding(result, "index.correlation")["severity"] == "unknown"
    for grant in statements_in(action(result, "index.correlation")):
        run_script(database, grant)
    assert message(seen(database, "index.correlation", login=login), "index.correlation").startswith("1 of 3 columns")
    with database.connect(user="order watch") as session, pytest.raises(psycopg.errors.InsufficientPrivilege):
        session.execute("SELECT stavalues1 FROM pg_statistic")
    drop_role(database.cluster, database, "order watch")


# --- foreign keys and constraints ---------------------------------------------------------------------------------------

KEYS = """
CREATE TABLE master (a int, b int, PRIMARY KEY (a, b)); CREATE TABLE one (id int PRIMARY KEY);
CREATE TABLE bare (id int, ref int CONSTRAINT "bare.ref %s" REFERENCES one);
CREATE TABLE fine (ref int REFERENCES one); CREATE INDEX ON fine (ref);
CREATE TABLE partly (ref int REFERENCES one); CREATE INDEX ON partly (ref) WHERE ref IS NOT NULL;
CREATE TABLE wrongly (ref int REFERENCES one, other int); CREATE INDEX ON wrongly (ref) WHERE other IS NOT NULL;
CREATE INDEX ON wrongly (ref) WHERE ref IS NOT NULL AND other > 5; CREATE INDEX ON wrongly (other, ref);
CREATE TABLE twofold (x int, y int, z int, FOREIGN KEY (x, y) REFERENCES master); CREATE INDEX ON twofold (y, x, z);
CREATE TABLE both_not_null (x int, y int, FOREIGN KEY (x, y) REFERENCES master);
CREATE INDEX ON both_not_null (x, y) WHERE x IS NOT NULL AND y IS NOT NULL;
CREATE TABLE half (x int, y int, FOREIGN KEY (x, y) REFERENCES master); CREATE INDEX ON half (x);
CREATE TABLE p (id int, ref int REFERENCES one) PARTITION BY RANGE (id);
CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (9); CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (9) TO (99);
CREATE INDEX ON p1 (ref);
"""


def test_foreign_keys_without_an_index(database: Database) -> None:
    run_script(database, KEYS)
    result = seen(database, "fk")
    bare = 'fk.unindexed[public.bare."bare.ref %s"]'
    left = {"fk.unindexed[public.wrongly.wrongly_ref_fkey]", "fk.unindexed[public.half.half_x_y_fkey]", "fk.unindexed[public.p.p_ref_fkey]"}
    assert keys(result) == {bare, *left}
    assert "every row deleted from public.one" in finding(result, bare)["message"]
    run_script(database, "INSERT INTO one VALUES (1); INSERT INTO bare SELECT n, 1 FROM generate_series(1, 1000) AS n")
    # Never counted by VACUUM or ANALYZE, and still known to be large.
    assert bare in keys(seen(database, "fk", thresholds={"fk.unindexed": {"minimum": 32000}}))
    run_script(database, action(result, bare).partition(";")[0])
    run_script(database, "CREATE INDEX ON p2 (ref)")
    assert keys(seen(database, "fk")) == left - {"fk.unindexed[public.p.p_ref_fkey]"}
    result = seen(database, "fk", thresholds={})
    assert (keys(result), "2 without an index on tables smaller" in message(result, "fk.unindexed")) == (set(), True)


@pytest.mark.parametrize(
    ("predicate", "accepted"),
    [
        ("{NULLTEST :arg {VAR :varno 1 :varattno 2 :vartype 23 :location 5} :nulltesttype 1 :argisrow false :location 9}", True),
        ("{NULLTEST :arg {VAR :varno 1 :varattno 2 :vartype 23 :location 5} :nulltesttype 0 :argisrow false :location 9}", False),
        ("{NULLTEST :arg {VAR :varno 1 :varattno 3 :vartype 23 :location 5} :nulltesttype 1 :argisrow false :location 9}", False),
        ("", False),
    ],
)
def test_which_predicates_leave_only_nulls_out(predicate: str, accepted: bool) -> None:
    assert indexes_missing.only_leaves_nulls_out(predicate, [2]) is accepted


def test_constraints_that_nobody_validated(database: Database) -> None:
    run_script(
        database,
        """CREATE TABLE one (id int PRIMARY KEY); CREATE TABLE "T %s" (id int, x int); CREATE TABLE child () INHERITS ("T %s");
        ALTER TABLE "T %s" ADD CONSTRAINT "c;1" CHECK (x > 0) NOT VALID;
        ALTER TABLE "T %s" ADD CONSTRAINT f FOREIGN KEY (x) REFERENCES one NOT VALID; ALTER TABLE "T %s" ADD CHECK (id > 0);
        CREATE DOMAIN d AS int; ALTER DOMAIN d ADD CONSTRAINT large CHECK (VALUE > 5) NOT VALID;""",
    )
    if database.cluster.installation.major >= 18:
        run_script(database, 'ALTER TABLE "T %s" ADD CONSTRAINT loose CHECK (x > 1) NOT ENFORCED')
    result = seen(database, "constraint")
    expected = {"constraint.not_valid[public.T %s.c;1]", "constraint.not_valid[public.T %s.f]", "constraint.not_valid[public.d.large]"}
    assert keys(result) == expected
    for key in expected:
        run_script(database, action(result, key).rpartition(";")[0])
    assert message(seen(database, "constraint"), "constraint.not_valid") == "every constraint is validated"


@pytest.mark.parametrize("make", [lambda database: run_script(database, DUPLICATES + "DROP TABLE t CASCADE")])
def test_no_statement_needs_more_than_a_plain_role(database: Database, make: Callable[[Database], None]) -> None:
    make(database)
    login = create_role(database.cluster, "plain watch")
    result = seen(database, "index", "fk", "constraint", login=login)
    assert {each["check"] for each in result["findings"] if each["severity"] == "unknown"} == {"index.correlation"}
    drop_role(database.cluster, database, "plain watch")
