"""What was backed up comes back from every format: pg_dump and plain queries say so here, and not what the collection measures."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ground.cluster import Cluster
from tests.ground.databases import Database
from tests.integration import backing, hard_content, restoring

pytestmark = pytest.mark.any_driver

FORMS = {
    "directory": {"format": "directory", "compression": "auto"},
    "custom": {"format": "custom", "compression": "gzip"},
    "plain": {"format": "plain", "compression": "none"},
}
# One question for each kind of content that is hard. None of the answers may be empty, or the content was never there.
ITEMS = {
    "row-level security": """
        SELECT c.oid::regclass::text, c.relrowsecurity, c.relforcerowsecurity,
            p.polname, p.polcmd, p.polpermissive, pg_get_expr(p.polqual, c.oid)
        FROM pg_class c JOIN pg_policy p ON p.polrelid = c.oid WHERE c.relrowsecurity ORDER BY 1, 4""",
    "large objects": "SELECT oid, md5(lo_get(oid)), lomacl FROM pg_largeobject_metadata ORDER BY 1",
    "partitions": """
        SELECT inhrelid::regclass, inhparent::regclass, pg_get_expr(c.relpartbound, c.oid)
        FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid WHERE c.relispartition AND c.relkind = 'r'
        ORDER BY inhrelid::regclass::text""",
    "rows of partitions": "SELECT tableoid::regclass, * FROM app.events ORDER BY id",
    "rows by hash": "SELECT tableoid::regclass, count(*), sum(id) FROM app.hashed GROUP BY 1 ORDER BY 1",
    "inheritance": "SELECT tableoid::regclass, *, (SELECT count(*) FROM ONLY app.animal) FROM app.animal ORDER BY id",
    "generated columns": "SELECT small, doubled FROM app.types WHERE doubled IS NOT NULL ORDER BY id",
    "identity columns": """
        SELECT attrelid::regclass, attname, attidentity,
            pg_sequence_last_value(pg_get_serial_sequence(attrelid::regclass::text, attname)::regclass)
        FROM pg_attribute WHERE attidentity <> '' ORDER BY attrelid::regclass::text""",
    "domains": """
        SELECT typname, typnotnull, typdefault, conname, pg_get_constraintdef(c.oid) FROM pg_type t JOIN pg_constraint c ON contypid = t.oid
        ORDER BY 1, 4""",
    "arrays": """
        SELECT moods, pairs, mails, matrix, odd_bounds, array_dims(odd_bounds), texts FROM app.types
        WHERE texts IS NOT NULL ORDER BY id""",
    "ranges": "SELECT whole, spans FROM app.types WHERE spans IS NOT NULL ORDER BY id",
    "NaN": "SELECT id, number, real_, double FROM app.types WHERE number = 'NaN' OR real_ = 'NaN' OR double = 'NaN' ORDER BY id",
    "infinity": """
        SELECT id, double, day, moment, instant FROM app.types
        WHERE 'infinity' IN (day, moment) OR abs(double) = 'Infinity' ORDER BY id""",
    "BC dates": "SELECT day, moment FROM app.types WHERE '0001-01-01' > day OR '0001-01-01' > moment ORDER BY id",
    "bytea": "SELECT id, length(bytes), md5(bytes) FROM app.types WHERE bytes IS NOT NULL ORDER BY id",
    "jsonb": "SELECT id, doc::text, docb::text FROM app.types WHERE docb IS NOT NULL ORDER BY id",
    "quoted and unicode names": """
        SELECT nspname, relname, attname FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace JOIN pg_attribute ON attrelid = c.oid
        WHERE (nspname || relname || attname) ~ '["\\u0080-\\uffff%]' AND attnum > 0 ORDER BY 1, 2, 3""",
    "materialized views": "SELECT state, n, (SELECT count(*) FROM pg_matviews WHERE NOT ispopulated) FROM app.summary ORDER BY 1",
    "event triggers": "SELECT evtname, evtevent, evtenabled, evttags, evtfoid::regproc FROM pg_event_trigger ORDER BY 1",
    "extensions": "SELECT extname, extversion, extnamespace::regnamespace FROM pg_extension ORDER BY 1",
    "an empty table": "SELECT count(*), to_regclass('app.empty')::text FROM app.empty",
    "sequences": "SELECT schemaname, sequencename, last_value FROM pg_sequences ORDER BY 1, 2",
}


@pytest.fixture(scope="module")
def source(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """The hard content after a dump and a restore by hand, which write some expressions in another way; after a second one all is equal."""
    with Database.create(cluster, "round_trip_first") as first:
        hard_content.fill(first)
        file = hard_content.dump(first, tmp_path_factory.mktemp("first") / "first.dump")
        with hard_content.restore(file, cluster, "round_trip") as made:
            yield made


def whole_text(database: Database) -> list[str]:
    """Return all that pg_dump says of a database, without what is new in each dump."""
    done = hard_content.run_client(database, "pg_dump")
    assert done.returncode == 0, done.stderr
    return [line for line in done.stdout.splitlines() if not re.match(r"\\(un)?restrict ", line)]


def brought_back(source: Database, folder: Path, form: str) -> Database:
    """Back a database up and restore it beside itself."""
    path = backing.made(source, folder, **FORMS[form])
    target = f"{source.name}_{form}"
    result = restoring.restore(source, path=str(path), target=target)
    assert result["action"] == "restored", result
    return Database(source.cluster, target)


@pytest.mark.parametrize("form", FORMS)
def test_each_kind_of_hard_content_comes_back(source: Database, tmp_path: Path, form: str) -> None:
    with brought_back(source, tmp_path, form) as again:
        for item, question in ITEMS.items():
            # As text, because no driver knows infinity or the years before Christ.
            asked = f"SELECT answer::text FROM ({question}) AS answer"
            expected = source.query(asked)
            assert expected, item
            assert again.query(asked) == expected, item
        assert list(difflib.unified_diff(whole_text(source), whole_text(again), lineterm="")) == []
    told = backing.manifest(next(path.parent for path in tmp_path.glob("*/manifest.json")))["coverage"]["left_out"]
    assert [one["object"] for one in told if one["what"] == "rows of foreign table" and "another server" in one["why"]] == ["app.far"]
    assert [one["object"] for one in told if one["what"] == "materialized view"] == ["app.summary"]


@pytest.mark.parametrize("form", FORMS)
def test_an_empty_database_comes_back_empty(database: Database, tmp_path: Path, form: str) -> None:
    database.query("COMMENT ON SCHEMA public IS 'nothing in it'")
    with brought_back(database, tmp_path, form) as again:
        assert whole_text(again) == whole_text(database)
        assert again.query("SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace") == [(0,)]
