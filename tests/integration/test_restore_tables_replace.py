"""Tables replaced by what a backup has of them: everything that hung on the old ones hangs on the new ones, or nothing is changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pgops.runbook.plugins.module_utils._connection import ConnectionOptions, connect
from ansible_collections.pgops.runbook.plugins.module_utils._content.objects import measure_objects
from ansible_collections.pgops.runbook.plugins.module_utils._content.scope import Scope
from ansible_collections.pgops.runbook.plugins.module_utils._errors import DatabaseError, MissingObject, Refused, RunbookError
from ansible_collections.pgops.runbook.plugins.module_utils._names import parse_relation
from ansible_collections.pgops.runbook.plugins.module_utils._restore import attached
from ansible_collections.pgops.runbook.plugins.module_utils._restore.request import Outcome, Request
from ansible_collections.pgops.runbook.plugins.module_utils._restore.table_replace import replace_tables
from tests.ground.databases import Database
from tests.integration.dumping import archive, backup
from tests.integration.watching import run_script

pytestmark = pytest.mark.any_driver

TABLES = """
CREATE SCHEMA app AUTHORIZATION rich_owner;
CREATE TABLE app.people (id int PRIMARY KEY, name text);
CREATE SEQUENCE app.numbers;
CREATE FUNCTION app.note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TABLE app."To ""kens" (
  id int GENERATED ALWAYS AS IDENTITY (START 1000 INCREMENT 2),
  serial_ serial, plain bigint DEFAULT nextval('app.numbers'),
  person int NOT NULL CONSTRAINT person_fk REFERENCES app.people ON DELETE CASCADE DEFERRABLE,
  parent int,
  body text COLLATE "C", twice int GENERATED ALWAYS AS (person * 2) STORED,
  during int4range, CONSTRAINT "body ok" CHECK (length(body) < 1000),
  CONSTRAINT tokens_key PRIMARY KEY (id) INCLUDE (person) WITH (fillfactor = 80),
  UNIQUE (body, person) DEFERRABLE INITIALLY DEFERRED, CONSTRAINT apart EXCLUDE USING gist (during WITH &&)
) WITH (fillfactor = 70, autovacuum_enabled = false, toast.autovacuum_enabled = false);
ALTER TABLE app."To ""kens" ADD CONSTRAINT self_fk FOREIGN KEY (parent) REFERENCES app."To ""kens" (id);
CREATE INDEX "by person" ON app."To ""kens" (person DESC, lower(body)) INCLUDE (parent) WHERE person > 0;
CREATE UNIQUE INDEX "for replicas" ON app."To ""kens" (person, serial_);
ALTER INDEX app."by person" ALTER COLUMN 2 SET STATISTICS 77;
ALTER TABLE app."To ""kens" ALTER serial_ SET NOT NULL, ALTER body SET STATISTICS 55, ALTER body SET STORAGE EXTERNAL,
  ALTER person SET (n_distinct = -0.5);
ALTER TABLE app."To ""kens" CLUSTER ON "for replicas", REPLICA IDENTITY USING INDEX "for replicas";
CREATE STATISTICS app.together (dependencies) ON person, parent FROM app."To ""kens";
CREATE TABLE app.uses (token int CONSTRAINT used REFERENCES app."To ""kens" (id) ON UPDATE CASCADE, at text);
CREATE TRIGGER a_note BEFORE INSERT OR UPDATE OF body ON app."To ""kens"
  FOR EACH ROW WHEN (NEW.person > 0) EXECUTE FUNCTION app.note();
CREATE CONSTRAINT TRIGGER b_note AFTER UPDATE ON app."To ""kens" DEFERRABLE FOR EACH ROW EXECUTE FUNCTION app.note();
ALTER TABLE app."To ""kens" DISABLE TRIGGER a_note; ALTER TABLE app."To ""kens" ENABLE ALWAYS TRIGGER b_note;
CREATE POLICY mine ON app."To ""kens" AS RESTRICTIVE FOR UPDATE TO rich_reader, rich_writer
  USING (person IN (SELECT t.person FROM app."To ""kens" t)) WITH CHECK (body <> '');
CREATE POLICY all_ ON app."To ""kens" USING (true);
ALTER TABLE app."To ""kens" ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE VIEW app.summary WITH (security_barrier = true) AS SELECT id, person, body FROM app."To ""kens" WHERE person > 0
  WITH LOCAL CHECK OPTION;
CREATE VIEW app.grouped AS SELECT id, person, body, count(*) FROM app."To ""kens" GROUP BY id;
CREATE VIEW app.above AS SELECT s.id, p.name FROM app.summary s JOIN app.people p ON p.id = s.person;
COMMENT ON TABLE app."To ""kens" IS 'it''s tokens'; COMMENT ON COLUMN app."To ""kens".body IS 'the body';
COMMENT ON INDEX app."by person" IS 'an index'; COMMENT ON CONSTRAINT self_fk ON app."To ""kens" IS 'a key';
COMMENT ON CONSTRAINT "body ok" ON app."To ""kens" IS 'a check'; COMMENT ON CONSTRAINT used ON app.uses IS 'from there';
COMMENT ON TRIGGER a_note ON app."To ""kens" IS 'a trigger'; COMMENT ON POLICY mine ON app."To ""kens" IS 'a policy';
COMMENT ON STATISTICS app.together IS 'statistics'; COMMENT ON VIEW app.summary IS 'a view';
CREATE PUBLICATION rich FOR TABLE app."To ""kens", app.people;
ALTER TABLE app."To ""kens" OWNER TO rich_owner; ALTER VIEW app.summary OWNER TO rich_owner;
GRANT SELECT, INSERT ON app."To ""kens" TO rich_writer; GRANT SELECT ON app."To ""kens" TO rich_reader WITH GRANT OPTION;
GRANT UPDATE (body), REFERENCES (id) ON app."To ""kens" TO rich_reader; GRANT SELECT (id) ON app."To ""kens" TO PUBLIC;
REVOKE TRUNCATE ON app."To ""kens" FROM rich_owner; GRANT SELECT ON app.summary TO rich_reader;
GRANT USAGE ON SEQUENCE app."To ""kens_id_seq" TO rich_writer;
ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO PUBLIC;
INSERT INTO app.people SELECT n, 'person ' || n FROM generate_series(1, 20) AS n;
INSERT INTO app."To ""kens" (person, body, during) SELECT n, E'row\\t' || n, int4range(n, n + 1) FROM generate_series(1, 20) AS n;
UPDATE app."To ""kens" SET parent = 1000 WHERE person > 3;
INSERT INTO app.uses VALUES (1000, 'once'), (1002, 'twice');
"""
NAME = 'app."To ""kens"'
COUNTED = f"SELECT count(*)::int, sum(person)::int, min(body) FROM {NAME}"


def structure(database: Database) -> dict[str, dict[str, str]]:
    with connect(ConnectionOptions.from_params(database.login(tcp=False)), application_name="look", read_only=True) as session:
        return measure_objects(session, Scope())


def replace(
    database: Database,
    folder: Path,
    manifest: dict[str, Any],
    *tables: str,
    check: bool = False,
    login: dict[str, Any] | None = None,
    **options: Any,
) -> Outcome:
    request = Request(archive(folder, manifest), manifest, tuple(map(parse_relation, tables)), **options)
    place = ConnectionOptions.from_params({**database.login(tcp=False), **(login or {})})
    with connect(place, application_name="restore", read_only=check) as session:
        return replace_tables(session, request, check_mode=check)


@pytest.fixture
def rich(database: Database) -> Database:
    run_script(database, "".join(f"DO $$ BEGIN CREATE ROLE {role}; EXCEPTION WHEN duplicate_object THEN NULL; END $$;" for role in ROLES))
    run_script(database, TABLES)
    return database


ROLES = ("rich_owner", "rich_reader", "rich_writer")


def test_everything_hangs_on_the_new_table(rich: Database, tmp_path: Path) -> None:
    manifest = backup(rich, tmp_path)
    before, counted = structure(rich), rich.query(COUNTED)
    run_script(rich, f"DELETE FROM app.uses; DELETE FROM {NAME} WHERE person > 5; UPDATE {NAME} SET body = 'changed'")
    run_script(rich, f"INSERT INTO {NAME} (person, body) SELECT 1, n::text FROM generate_series(1, 50) AS n")
    run_script(rich, "INSERT INTO app.uses VALUES (1004)")
    now = rich.query(COUNTED)
    planned = replace(rich, tmp_path, manifest, NAME, check=True).tables[0].as_result()
    assert structure(rich) == before
    done = replace(rich, tmp_path, manifest, NAME).tables[0].as_result()
    assert {**planned, "kept": None} == {**done, "kept": None}
    assert (done["action"], done["rows_before"], done["rows"], done["compared"], done["defaults"]) == ("replaced", 55, 20, True, [])
    assert rich.query(COUNTED) == counted
    assert rich.query(COUNTED.replace(NAME, done["kept"])) == now
    after = structure(rich)
    assert {kind: {name: text for name, text in found.items() if "_before_" not in name} for kind, found in after.items()} == before
    # Numbers go on where they were.
    run_script(rich, f"INSERT INTO {NAME} (person, body) VALUES (1, 'new')")
    assert rich.query(f"SELECT id, serial_, plain FROM {NAME} WHERE body = 'new'") == [(1140, 71, 71)]
    # What was replaced neither holds anybody up nor belongs to anything.
    run_script(rich, "DELETE FROM app.uses; DELETE FROM app.people")
    assert rich.query(f"SELECT count(*) FROM {NAME}") == [(0,)]
    assert rich.query("SELECT count(*) FROM app.summary") == [(0,)]
    run_script(rich, f"DROP TABLE {done['kept']}")
    assert structure(rich) == before


PAIR = """
CREATE SCHEMA app;
CREATE TABLE app.people (id int PRIMARY KEY, name text);
CREATE TABLE app.visits (id serial PRIMARY KEY, person int CONSTRAINT of_person REFERENCES app.people, gone text);
CREATE TABLE app.other (person int CONSTRAINT of_other REFERENCES app.people);
INSERT INTO app.people SELECT n, 'person ' || n FROM generate_series(1, 30) AS n;
INSERT INTO app.visits (person) SELECT n FROM generate_series(1, 30) AS n;
"""


@pytest.fixture
def pair(database: Database, tmp_path: Path) -> tuple[Database, Path, dict[str, Any]]:
    run_script(database, PAIR)
    return database, tmp_path, backup(database, tmp_path, "custom")


def test_tables_that_belong_together_are_replaced_together(pair: Any) -> None:
    database, folder, manifest = pair
    before = structure(database)
    same = replace(database, folder, manifest, "app.visits", "app.people")
    assert [one.as_result()["action"] for one in same.tables] == ["present", "present"]
    run_script(database, "UPDATE app.visits SET person = 1; DELETE FROM app.people WHERE id > 10; INSERT INTO app.people VALUES (99)")
    with pytest.raises(Refused, match=r"foreign key of_person of app\.visits does not hold .* violates foreign key constraint") as caught:
        replace(database, folder, manifest, "app.visits")
    assert "together" in (caught.value.hint or "")
    assert structure(database) == before
    run_script(database, "INSERT INTO app.other VALUES (99)")
    with pytest.raises(Refused, match=r"foreign key of_other of app\.other does not hold"):
        replace(database, folder, manifest, "app.visits", "app.people")
    run_script(database, "DELETE FROM app.other")
    done = replace(database, folder, manifest, "app.visits", "app.people", keep_old=False)
    assert [(one.rows_before, one.rows, one.kept) for one in done.tables] == [(30, 30, None), (11, 30, None)]
    assert structure(database) == before
    assert database.query("SELECT count(*), count(DISTINCT person) FROM app.visits") == [(30, 30)]


def test_columns_that_came_and_went(pair: Any) -> None:
    database, folder, manifest = pair
    run_script(
        database, "UPDATE app.people SET name = 'x'; ALTER TABLE app.people ADD since date DEFAULT '2026-11-01' NOT NULL, ADD note text"
    )
    (done,) = replace(database, folder, manifest, "app.people").tables
    assert (done.staged.filled, done.staged.compared) == (("since", "note"), True)
    assert database.query("SELECT count(*), min(since)::text FROM app.people WHERE name LIKE 'person%'") == [(30, "2026-11-01")]
    run_script(database, "UPDATE app.people SET name = 'x'; ALTER TABLE app.people ALTER since DROP DEFAULT")
    with pytest.raises(Refused, match="its column since is NOT NULL without a default"):
        replace(database, folder, manifest, "app.people")
    run_script(database, "UPDATE app.visits SET person = 1; ALTER TABLE app.visits DROP gone")
    with pytest.raises(Refused, match="it has no column gone any more"):
        replace(database, folder, manifest, "app.visits", check=True)


def test_constraints_that_the_rows_may_break(pair: Any) -> None:
    database, folder, _manifest = pair
    run_script(database, "ALTER TABLE app.visits ADD CONSTRAINT odd CHECK (person <> 7) NOT VALID, ADD CONSTRAINT few CHECK (person < 99)")
    run_script(database, "COMMENT ON CONSTRAINT odd ON app.visits IS 'for new ones'")
    if database.cluster.installation.major >= 18:
        run_script(database, "ALTER TABLE app.visits ADD CONSTRAINT there NOT NULL gone NOT VALID, ADD CHECK (person > 7) NOT ENFORCED")
    (folder / "again").mkdir()
    manifest, before = backup(database, folder / "again"), structure(database)
    run_script(database, "DELETE FROM app.visits WHERE person > 3")
    assert replace(database, folder / "again", manifest, "app.visits", check=True).tables[0].rows == 30
    assert replace(database, folder / "again", manifest, "app.visits", keep_old=False).tables[0].rows == 30
    assert structure(database) == before


def test_names_that_agree_where_they_are_cut(pair: Any) -> None:
    database, folder, _manifest = pair
    long = "custom_oauth_authorization_grant_metadata_of_clients"
    for table in (f"{long}_a", f"{long}_b"):
        run_script(database, f"CREATE TABLE app.{table} (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, of_it int, off_it int)")
        run_script(database, f"CREATE INDEX {table}_of ON app.{table} (of_it); CREATE INDEX {table}_off ON app.{table} (off_it)")
        run_script(database, f"CREATE STATISTICS app.{table}_s1 ON id, of_it FROM app.{table}")
        run_script(database, f"CREATE STATISTICS app.{table}_s2 ON id, off_it FROM app.{table}; INSERT INTO app.{table} (of_it) VALUES (1)")
    (folder / "again").mkdir()
    manifest, before = backup(database, folder / "again"), structure(database)
    run_script(database, f"DELETE FROM app.{long}_a; DELETE FROM app.{long}_b")
    done = replace(database, folder / "again", manifest, f"app.{long}_a", f"app.{long}_b").tables
    assert [one.rows for one in done] == [1, 1]
    for one in done:
        run_script(database, f"DROP TABLE {one.kept}")
    assert structure(database) == before


def test_a_preview_takes_no_numbers(pair: Any) -> None:
    database, folder, manifest = pair
    run_script(database, "UPDATE app.visits SET gone = 'y'; ALTER TABLE app.visits ADD number serial")
    state = "SELECT last_value, is_called FROM app.visits_number_seq"
    before = database.query(state)
    assert replace(database, folder, manifest, "app.visits", check=True).tables[0].rows == 30
    assert database.query(state) == before
    assert replace(database, folder, manifest, "app.visits").tables[0].staged.filled == ("number",)
    assert database.query("SELECT count(DISTINCT number) FROM app.visits") == [(30,)]


def test_other_rows_than_the_manifest_says_are_not_taken(pair: Any) -> None:
    database, folder, manifest = pair
    run_script(database, "UPDATE app.visits SET gone = 'y'")
    for key, value, message in (
        ("rows", 31, "30 rows came out of the backup, and its manifest says 31"),
        ("hash", "1", "with other values"),
    ):
        wrong = {**manifest, "tables": [{**table, key: value} for table in manifest["tables"]]}
        with pytest.raises(Refused, match=message):
            replace(database, folder, wrong, "app.visits")


def test_a_run_that_is_broken_off_leaves_nothing(pair: Any) -> None:
    database, folder, manifest = pair
    run_script(database, "UPDATE app.visits SET gone = 'y'")
    before, calls = structure(database), []

    def tick() -> None:
        calls.append(1)
        if len(calls) > 1:  # the first is before anything is loaded
            raise RunbookError("out of time")

    with pytest.raises(RunbookError, match="out of time"):
        replace(database, folder, manifest, "app.visits", tick=tick)
    assert structure(database) == before


def test_a_manifest_without_contents(pair: Any) -> None:
    database, folder, manifest = pair
    without = {**manifest, "tables": None}
    assert replace(database, folder, without, "app.visits", check=True).tables[0].as_result()["compared"] is False


ODD = """
CREATE TABLE parted (id int) PARTITION BY RANGE (id); CREATE TABLE part PARTITION OF parted FOR VALUES FROM (0) TO (9);
CREATE TABLE parent (id int); CREATE TABLE child () INHERITS (parent);
CREATE TABLE kept (id int); CREATE MATERIALIZED VIEW kept_view AS SELECT id FROM kept;
CREATE TABLE ruled (id int); CREATE RULE nothing AS ON DELETE TO ruled DO INSTEAD NOTHING;
CREATE TABLE typed (id int); CREATE FUNCTION of_row(typed) RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE TABLE policed (id int); CREATE TABLE elsewhere (id int); CREATE POLICY p ON elsewhere USING (id IN (SELECT id FROM policed));
CREATE TABLE rowed (id int); CREATE TABLE of_rows (old rowed); CREATE TABLE viewed (id int); CREATE VIEW whole AS SELECT viewed FROM viewed;
CREATE VIEW seen AS SELECT 1 AS id;
"""
REFUSED = {
    "parted": "it is a partitioned table, not an ordinary table",
    "part": "it is a partition, which",
    "parent": "it has part in inheritance",
    "child": "it has part in inheritance",
    "kept": r"the materialized view public\.kept_view would stay",
    "ruled": "its rule nothing would stay",
    "typed": r"function (public\.)?of_row\((public\.)?typed\) would stay",
    "policed": r"policy p on table (public\.)?elsewhere would stay",
    "rowed": r"table (public\.)?of_rows would stay",
    "viewed": r"view (public\.)?whole would stay",
    "seen": "it is a view, not",
}


def test_what_cannot_be_carried_over_is_refused_before_anything_is_done(database: Database, tmp_path: Path) -> None:
    run_script(database, ODD)
    for table, message in REFUSED.items():
        with pytest.raises(Refused, match=rf"table public\.{table}: {message}"):
            replace(database, tmp_path, {**NO_FILES}, table, check=True)
    with pytest.raises(MissingObject, match=r"table public\.nowhere does not exist"):
        replace(database, tmp_path, {**NO_FILES}, "nowhere", check=True)


NO_FILES = {"id": "none", "dump": {"format": "custom"}, "files": [{"path": "database.dump"}], "tables": None}


def test_what_nobody_knew_to_be_lost_takes_everything_back(pair: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    database, folder, manifest = pair
    run_script(
        database, "CREATE POLICY p ON app.visits USING (true); GRANT SELECT ON app.visits TO PUBLIC; UPDATE app.visits SET gone = 'z'"
    )
    before = structure(database)
    for query, message in (
        ("_ROW_SECURITY", r"policies: app\.visits p is lost"),
        ("_GRANTS", r"grants: app\.visits SELECT to PUBLIC is lost"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(attached, query, f"SELECT * FROM ({getattr(attached, query)}) AS none_ WHERE false")
            with pytest.raises(Refused, match=message):
                replace(database, folder, manifest, "app.visits")
    assert structure(database) == before


def test_whoever_began_before_sees_the_rows_of_the_backup_and_never_an_empty_table(pair: Any) -> None:
    database, folder, manifest = pair
    run_script(database, "DELETE FROM app.visits WHERE id > 3")
    with database.connect() as other:
        other.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM pg_class")
        assert replace(database, folder, manifest, "app.visits").tables[0].rows == 30
        assert other.execute("SELECT count(*) FROM app.visits").fetchone() == (30,)


def test_a_lock_that_somebody_holds_costs_nothing_but_the_time(pair: Any) -> None:
    database, folder, manifest = pair
    run_script(database, "UPDATE app.visits SET gone = 'z'")
    before = structure(database)
    with database.connect() as other:
        for held in ("app.visits", "app.people"):
            other.execute(f"BEGIN; SELECT count(*) FROM {held}")
            with pytest.raises(DatabaseError, match=r"app\.visits, app\.people could not be locked within 1 s: locked by pid \d+"):
                replace(database, folder, manifest, "app.visits", login={"lock_timeout": "150 ms"})
            other.execute("ROLLBACK")
    assert structure(database) == before
