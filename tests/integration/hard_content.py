"""A database with everything that is hard to dump and restore, and how the tests measure, dump and restore it."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import psycopg

from ansible_collections.pgops.runbook.plugins.module_utils._connection import ConnectionOptions, connect
from ansible_collections.pgops.runbook.plugins.module_utils._content.compare import Difference, compare
from ansible_collections.pgops.runbook.plugins.module_utils._content.measure import Measured, measure
from ansible_collections.pgops.runbook.plugins.module_utils._content.scope import Scope
from tests.ground import servers
from tests.ground.cluster import Cluster
from tests.ground.databases import Database

ROLES = """
DO $$ DECLARE r text; BEGIN
    FOREACH r IN ARRAY ARRAY['content_reader', 'content_owner', 'Content "Odd" Role'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = r) THEN EXECUTE format('CREATE ROLE %I LOGIN', r); END IF;
    END LOOP;
END $$;
"""

HARD = Path(__file__).with_name("hard_content.sql").read_text(encoding="utf-8")
# What newer servers have beside it.
SINCE = {
    14: """
ALTER TABLE app.events DISABLE TRIGGER events_noted;
CREATE TYPE app.mspan AS RANGE (subtype = int, multirange_type_name = app.many);
CREATE FUNCTION app.modern(n int) RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT n + 1 WHERE n IN (1, 2) AND n BETWEEN 1 AND 5 AND n > 0; END;
CREATE TABLE app.squeezed (t text COMPRESSION pglz, r int4multirange); INSERT INTO app.squeezed VALUES ('x', '{[1,3),[5,7)}');
CREATE STATISTICS app.by_expression ON (lower(subject)), state FROM app.tokens;
""",
    15: """
CREATE SCHEMA other;
CREATE TABLE app.nulls (a int UNIQUE NULLS NOT DISTINCT);
CREATE PUBLICATION content_pub_filtered FOR TABLE app.tokens (id, subject) WHERE (id > 5);
CREATE PUBLICATION content_pub_schema FOR TABLES IN SCHEMA other;
CREATE VIEW app.invoker WITH (security_invoker) AS SELECT 1 AS one;
CREATE UNLOGGED SEQUENCE app.unlogged_counter;
""",
    18: """
CREATE TABLE app.virtual (a int CONSTRAINT a_is_there NOT NULL, b int GENERATED ALWAYS AS (a * 2) VIRTUAL, c int, d int);
INSERT INTO app.virtual (a) VALUES (1), (2);
ALTER TABLE app.virtual ADD CONSTRAINT c_there NOT NULL c NOT VALID;
ALTER TABLE app.virtual ADD CONSTRAINT lax CHECK (a > 0) NOT ENFORCED;
CREATE TABLE app.periods (id int, during tstzrange, d int);
""",
}
WITH_CONTRIB = """
CREATE SCHEMA ext;
CREATE EXTENSION citext SCHEMA ext;
CREATE EXTENSION hstore;
CREATE TABLE app.extended (mail ext.citext PRIMARY KEY, more hstore, CHECK (mail IN ('a', 'b')));
INSERT INTO app.extended VALUES ('a', 'x=>1,y=>NULL');
GRANT EXECUTE ON FUNCTION hstore_version_diag(hstore) TO content_reader;
REVOKE EXECUTE ON FUNCTION hstore_version_diag(hstore) FROM PUBLIC;
COMMENT ON EXTENSION hstore IS 'ours';
"""


def fill(database: Database) -> None:
    """Make the hard content in an empty database."""
    installation = database.cluster.installation
    with database.connect() as connection:
        connection.execute(ROLES)
        for part in HARD.split("-- commit"):
            connection.execute("--" + part)
        for major, statements in SINCE.items():
            if installation.major >= major:
                connection.execute(statements)
        if installation.has_contrib:
            connection.execute(WITH_CONTRIB)


def session(database: Database, **options: Any) -> Any:
    """Return a session of the collection's own."""
    login = {**database.login(tcp=False), **options}
    return connect(ConnectionOptions.from_params(login), application_name="pgops.runbook/test", read_only=True)


def measured(database: Database, scope: Scope | None = None, **options: Any) -> Measured:
    """Measure a database as the superuser."""
    with session(database) as opened:
        return measure(opened, scope or Scope(), **options)


def differences(expected: Measured, database: Database, **options: Any) -> list[Difference]:
    """Compare what was measured with what a database holds now."""
    return compare(expected, measured(database, expected.scope.restored()), **options)


def run_client(database: Database, program: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a client program of the newest major for a database."""
    command = [servers.find(18).program(program), *arguments, "-d", database.cluster.conninfo(database.name)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def dump(database: Database, file: Path, *arguments: str) -> Path:
    """Dump a database into `file` (custom format)."""
    done = run_client(database, "pg_dump", "-Fc", "-Z1", "-f", file, *arguments)
    assert done.returncode == 0, done.stderr
    return file


def restore(file: Path, cluster: Cluster, name: str, *arguments: str) -> Database:
    """Restore a dump into a new database. An older server does not know one setting of the newest client."""
    with cluster.connect() as connection:
        connection.execute(psycopg.sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(psycopg.sql.Identifier(name)))
    database = Database(cluster, name)
    done = run_client(database, "pg_restore", *arguments, file)
    errors = [line for line in done.stderr.splitlines() if "error:" in line and "transaction_timeout" not in line]
    assert not errors, done.stderr
    return database
