"""Rows that tables have lost are copied back, and nothing else is touched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pgops.runbook.plugins.module_utils._connection import ConnectionOptions, connect
from ansible_collections.pgops.runbook.plugins.module_utils._errors import Refused
from ansible_collections.pgops.runbook.plugins.module_utils._names import parse_relation
from ansible_collections.pgops.runbook.plugins.module_utils._restore.missing_rows import copy_missing_rows
from ansible_collections.pgops.runbook.plugins.module_utils._restore.request import Request
from tests.ground.databases import Database
from tests.integration.dumping import archive, backup
from tests.integration.watching import run_script

TABLES = """
CREATE SCHEMA app;
CREATE TABLE app.people (
  id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text, at timestamptz, twice int GENERATED ALWAYS AS (id * 2) STORED);
CREATE TABLE app.visits (person int REFERENCES app.people DEFERRABLE INITIALLY DEFERRED, day date, details json, PRIMARY KEY (person, day));
INSERT INTO app.people (name, at) SELECT 'person ' || n, '2026-01-01'::timestamptz + n * interval '1 h' FROM generate_series(1, 30) AS n;
INSERT INTO app.visits SELECT n, '2026-02-01'::date + n, '{"a": 1}' FROM generate_series(1, 30) AS n;
"""


def copy_back(database: Database, folder: Path, manifest: dict[str, Any], *tables: str, check: bool = False, **options: Any) -> list[dict]:
    request = Request(archive(folder, manifest), manifest, tuple(map(parse_relation, tables)), **options)
    with connect(ConnectionOptions.from_params(database.login(tcp=False)), application_name="restore", read_only=check) as session:
        return [one.as_result() for one in copy_missing_rows(session, request, check_mode=check).tables]


def numbers(results: list[dict]) -> list[tuple[Any, ...]]:
    return [tuple(one[key] for key in ("table", "in_backup", "present", "different", "inserted", "vetoed", "rewritten")) for one in results]


def test_what_is_gone_comes_back_and_what_is_there_stays(database: Database, tmp_path: Path) -> None:
    run_script(database, TABLES)
    manifest = backup(database, tmp_path, "custom", ".zst")
    run_script(database, "DELETE FROM app.visits WHERE person <= 12; DELETE FROM app.people WHERE id <= 10")
    run_script(database, "UPDATE app.people SET name = 'renamed' WHERE id > 28; INSERT INTO app.people (name) VALUES ('new')")
    run_script(database, "ALTER TABLE app.people ADD since date DEFAULT '2026-11-01', ADD number serial")
    run_script(database, """UPDATE app.visits SET details = '{"a": 2}' WHERE person = 20; SELECT setval('app.people_id_seq', 5)""")
    wanted = [("app.people", 30, 20, 2, 10, 0, 0), ("app.visits", 30, 18, 1, 12, 0, 0)]
    # Whatever order they are named in, parents come first.
    assert numbers(copy_back(database, tmp_path, manifest, "app.visits", "app.people", check=True)) == wanted
    assert database.query("SELECT count(*) FROM app.people") == [(21,)]
    done = copy_back(database, tmp_path, manifest, "app.visits", "app.people")
    assert numbers(done) == wanted
    assert (done[0]["key"], done[0]["defaults"], done[0]["compared"]) == (["id"], ["since", "number"], True)
    assert done[0]["sequences_moved"] == ["app.people_id_seq"]
    found = database.query("SELECT id, name, at, twice, since FROM app.people WHERE id IN (3, 29, 31) ORDER BY id")
    assert [(row[0], row[1], row[3], str(row[4])) for row in found] == [
        (3, "person 3", 6, "2026-11-01"),
        (29, "renamed", 58, "2026-11-01"),
        (31, "new", 62, "2026-11-01"),
    ]
    run_script(database, "INSERT INTO app.people (name) VALUES ('after')")
    assert database.query("SELECT id FROM app.people WHERE name = 'after'") == [(32,)]
    again = copy_back(database, tmp_path, manifest, "app.people", "app.visits")
    assert numbers(again) == [("app.people", 30, 30, 2, 0, 0, 0), ("app.visits", 30, 30, 1, 0, 0, 0)]


def test_triggers_that_veto_or_rewrite_are_noticed(database: Database, tmp_path: Path) -> None:
    run_script(database, TABLES)
    manifest = backup(database, tmp_path)
    run_script(
        database,
        """
        CREATE FUNCTION app.odd() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
          IF NEW.id = 3 THEN RETURN NULL; END IF; IF NEW.id < 6 THEN NEW.name := upper(NEW.name); END IF; RETURN NEW; END $$;
        CREATE TRIGGER odd BEFORE INSERT ON app.people FOR EACH ROW EXECUTE FUNCTION app.odd();
        ALTER TABLE app.visits DROP CONSTRAINT visits_person_fkey; DELETE FROM app.people WHERE id < 9""",
    )
    (done,) = copy_back(database, tmp_path, manifest, "app.people")
    assert numbers([done]) == [("app.people", 30, 22, 0, 7, 1, 4)]
    assert done["triggers"] == ["odd"]


def test_rows_that_a_trigger_gives_other_keys_are_taken_back(database: Database, tmp_path: Path) -> None:
    """Under another key nobody would know them for what they are, and the next run would insert them again."""
    run_script(database, TABLES)
    manifest = backup(database, tmp_path)
    run_script(
        database,
        """
        CREATE FUNCTION app.number() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.id := NEW.id + 1000; RETURN NEW; END $$;
        CREATE TRIGGER number BEFORE INSERT ON app.people FOR EACH ROW WHEN (NEW.id < 3) EXECUTE FUNCTION app.number();
        ALTER TABLE app.visits DROP CONSTRAINT visits_person_fkey; DELETE FROM app.people WHERE id < 9""",
    )
    with pytest.raises(Refused, match=r"table app\.people: 2 rows got other keys than they have in the backup \(its triggers are number\)"):
        copy_back(database, tmp_path, manifest, "app.people")
    assert database.query("SELECT count(*) FROM app.people") == [(22,)]


def test_nothing_is_inserted_where_something_does_not_fit(database: Database, tmp_path: Path) -> None:
    run_script(database, TABLES)
    manifest = backup(database, tmp_path)
    run_script(database, "DELETE FROM app.visits WHERE person <= 12; DELETE FROM app.people WHERE id <= 10")
    with pytest.raises(Refused, match='violates foreign key constraint "visits_person_fkey"') as caught:
        copy_back(database, tmp_path, manifest, "app.visits")
    assert "name both tables" in (caught.value.hint or "")
    run_script(
        database,
        "CREATE UNIQUE INDEX one ON app.people ((id % 100)); INSERT INTO app.people (id, name) OVERRIDING SYSTEM VALUE VALUES (103, 'x')",
    )
    with pytest.raises(Refused, match='violates unique constraint "one"'):
        copy_back(database, tmp_path, manifest, "app.people")
    assert database.query("SELECT count(*) FROM app.people") == [(21,)]


def test_a_key_that_no_index_knows(database: Database, tmp_path: Path) -> None:
    run_script(database, "CREATE TABLE t (a int, b text, c int); INSERT INTO t SELECT n, n % 3, n FROM generate_series(1, 9) AS n")
    manifest = backup(database, tmp_path, "plain", ".gz")
    run_script(database, "DELETE FROM t WHERE a > 4")
    with pytest.raises(Refused, match=r"table public\.t has no primary key"):
        copy_back(database, tmp_path, manifest, "t")
    with pytest.raises(Refused, match=r"share their values, 9 of them, in the key \(b\)"):
        copy_back(database, tmp_path, manifest, "t", key=("b",))
    with pytest.raises(Refused, match=r"has no column d"):
        copy_back(database, tmp_path, manifest, "t", key=("a", "d"))
    assert numbers(copy_back(database, tmp_path, manifest, "t", key=("a", "b"))) == [("public.t", 9, 4, 0, 5, 0, 0)]
    run_script(database, "ALTER TABLE t ADD PRIMARY KEY (a); UPDATE t SET b = NULL WHERE a = 1")
    (tmp_path / "again").mkdir()
    manifest = backup(database, tmp_path / "again")
    with pytest.raises(Refused, match=r"have no value in the key \(b\)"):
        copy_back(database, tmp_path / "again", manifest, "t", key=("b",))
