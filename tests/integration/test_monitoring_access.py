"""pg_monitoring_access opens exactly what the checks need, says so, and takes exactly that away again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from ansible_collections.pgops.runbook.plugins.module_utils._health.needs import columns_read
from ansible_collections.pgops.runbook.plugins.module_utils._system import load
from tests.ground.cluster import Cluster
from tests.ground.databases import Database
from tests.integration.granting import access, grant, lacking, roles
from tests.integration.watching import SYSTEM, look, run_script, stock

pytestmark = pytest.mark.any_driver

ROLE = 'Moni"tor %s'
MORE = """
CREATE SCHEMA "Num bers"; CREATE SEQUENCE "Num bers"."Next ""%s"; SELECT nextval('"Num bers"."Next ""%s"');
CREATE SEQUENCE vault.plain MAXVALUE 100; SELECT setval('vault.plain', 99);
CREATE TABLE vault.wide (id int GENERATED ALWAYS AS IDENTITY, note text);
INSERT INTO vault.wide (note) SELECT 'secret of somebody ' || n FROM generate_series(1, 100) AS n; ANALYZE vault.wide;
"""


@pytest.fixture
def shop(database: Database) -> Iterator[Database]:
    """The small system with sequences beside it, and a role that has nothing yet."""
    stock(database)
    run_script(database, MORE)
    with roles(database, **{ROLE: ""}):
        yield database


def as_role(database: Database, statement: str) -> list[tuple[Any, ...]]:
    with database.connect(user=ROLE) as connection:
        return connection.execute(statement).fetchall()  # type: ignore[call-overload,no-any-return]


def refused(database: Database, statement: str) -> bool:
    try:
        as_role(database, statement)
    except psycopg.errors.InsufficientPrivilege:
        return True
    return False


def test_what_the_checks_need_is_open_and_what_rows_hold_is_not(shop: Database) -> None:
    standing = "SELECT count(*) FROM pg_sequences WHERE last_value IS NULL"
    with roles(shop, bare=""):
        run_script(shop, "GRANT pg_monitor TO bare")
        with shop.connect(user="bare") as bare:
            assert bare.execute(standing).fetchall() == [(3,)], "what pg_monitor alone sees"
    grant(shop, ROLE, system=SYSTEM)
    assert as_role(shop, standing) == [(0,)]
    assert as_role(shop, "SELECT last_value FROM pg_sequences WHERE sequencename = 'plain'") == [(99,)]
    widths = "SELECT count(stawidth), count(stanullfrac) FROM pg_statistic WHERE NOT stainherit AND staattnum > 0 AND starelid = "
    assert as_role(shop, widths + "'vault.wide'::regclass") == [(2, 2)]
    for closed in (
        "SELECT stavalues1 FROM pg_statistic",
        "SELECT * FROM pg_statistic",
        "SELECT stavalues2 FROM pg_statistic",
        "SELECT note FROM vault.wide",
        "SELECT state FROM vault.logins",
        "SELECT * FROM vault.tokens",
        "SELECT rolpassword FROM pg_authid",
        "UPDATE vault.tokens SET issued_at = NULL",
        "SELECT nextval('vault.plain')",
        "SELECT setval('vault.plain', 1)",
        "CREATE TABLE vault.mine ()",
    ):
        assert refused(shop, closed), closed
    assert as_role(shop, "SELECT count(*) FROM pg_stats WHERE schemaname = 'vault' AND tablename = 'wide'") == [(0,)]


def test_nothing_is_unknown_for_lack_of_a_privilege(shop: Database) -> None:
    grant(shop, ROLE, system=SYSTEM)
    with shop.connect():
        result = look(shop, "monthly", login={"login_user": ROLE})
    assert lacking(result) == []


def test_each_column_is_one_that_a_check_reads(shop: Database) -> None:
    grant(shop, ROLE, system=SYSTEM, row_counts=False)
    needed = 0
    with shop.connect() as admin, shop.connect():
        for relation, columns in columns_read(load(SYSTEM)).items():
            for column in sorted(columns):
                names = psycopg.sql.Identifier(column), psycopg.sql.Identifier(*relation), psycopg.sql.Identifier(ROLE)
                admin.execute(psycopg.sql.SQL("REVOKE SELECT ({}) ON {} FROM {}").format(*names))
                result = look(shop, "daily", checks=["token", "login"], login={"login_user": ROLE})
                assert lacking(result), f"no check reads {relation}.{column}"
                admin.execute(psycopg.sql.SQL("GRANT SELECT ({}) ON {} TO {}").format(*names))
                needed += 1
    assert needed == 11


def test_check_mode_is_the_run_and_a_second_run_changes_nothing(shop: Database) -> None:
    before = access(shop, ROLE)
    options: dict[str, Any] = {"system": SYSTEM, "history_schema": "My history"}
    planned = grant(shop, ROLE, check=True, **options)
    assert access(shop, ROLE) == before
    done = grant(shop, ROLE, **options)
    assert done == planned
    assert done["changed"] is True
    between = access(shop, ROLE)
    for check in (True, False):
        again = grant(shop, ROLE, check=check, **options)
        assert (again["changed"], again["grants"], again["missing"]) == (False, [], [])
    assert access(shop, ROLE) == between
    ending = grant(shop, ROLE, check=True, state="absent", **options)
    assert access(shop, ROLE) == between
    ended = grant(shop, ROLE, state="absent", **options)
    assert ended == ending
    assert access(shop, ROLE) == before
    assert grant(shop, ROLE, state="absent", **options)["changed"] is False


def test_its_statements_are_those_that_a_person_would_run(shop: Database) -> None:
    planned = grant(shop, ROLE, check=True, system=SYSTEM)
    with shop.connect() as person:
        for step in planned["grants"]:
            person.execute(step["statement"])
    assert grant(shop, ROLE, system=SYSTEM)["changed"] is False
    written = {(step["what"], step["on"]): step["statement"] for step in planned["grants"]}
    quoted = '"Moni""tor %s"'
    assert written['SELECT (I"d %s, Revoked At, iat)', 'Web App."Tok%ens.v2"'] == (
        f'GRANT SELECT ("I""d %s", "Revoked At", "iat") ON TABLE "Web App"."Tok%ens.v2" TO {quoted};'
    )
    assert written["SELECT", "all sequences of schema Num bers"] == f'GRANT SELECT ON ALL SEQUENCES IN SCHEMA "Num bers" TO {quoted};'


def test_sequences_that_come_later_are_open_too(shop: Database) -> None:
    grant(shop, ROLE, system=SYSTEM)
    run_script(shop, 'CREATE SEQUENCE "Num bers".later; SELECT nextval(\'"Num bers".later\')')
    assert as_role(shop, "SELECT last_value FROM pg_sequences WHERE sequencename = 'later'") == [(1,)]
    assert grant(shop, ROLE, system=SYSTEM)["changed"] is False


def test_only_the_sequences_that_are_closed_are_granted(shop: Database) -> None:
    run_script(shop, "GRANT USAGE ON SEQUENCE vault.plain TO PUBLIC")
    before = access(shop, ROLE)
    steps = grant(shop, ROLE, sequence_schemas=["vault"], default_privileges=False)["grants"]
    assert [step["on"] for step in steps if "equence" in step["on"]] == ["sequence vault.wide_id_seq"]
    grant(shop, ROLE, sequence_schemas=["vault"], default_privileges=False, state="absent")
    assert access(shop, ROLE) == before


def test_absent_leaves_what_others_gave(shop: Database) -> None:
    others = """
        GRANT CONNECT ON DATABASE "{0}" TO PUBLIC;
        GRANT USAGE ON SCHEMA vault TO PUBLIC; GRANT SELECT (id) ON vault.tokens TO PUBLIC;
        CREATE ROLE helpers; GRANT helpers TO "Moni""tor %s"; GRANT SELECT ON vault.denied TO helpers;
        GRANT SELECT ON SEQUENCE vault.plain TO "Moni""tor %s" WITH GRANT OPTION;
        ALTER TABLE vault.logins OWNER TO "Moni""tor %s"; ALTER SEQUENCE "Num bers"."Next ""%s" OWNER TO "Moni""tor %s";
        GRANT SELECT ON vault.logins TO helpers; GRANT SELECT ON SEQUENCE "Num bers"."Next ""%s" TO helpers"""
    run_script(shop, others.replace("{0}", shop.name))
    try:
        before = access(shop, ROLE)
        steps = grant(shop, ROLE, system=SYSTEM)["grants"]
        # What is its own has entries for it as well.
        assert not {"schema vault", "vault.denied", "vault.logins", f"database {shop.name}"} & {step["on"] for step in steps}
        assert ("SELECT (expires_at, issued_at)", "vault.tokens") not in {(step["what"], step["on"]) for step in steps}
        assert ("SELECT (issued_at)", "vault.tokens") in {(step["what"], step["on"]) for step in steps}
        grant(shop, ROLE, system=SYSTEM, state="absent")
        assert access(shop, ROLE) == before
    finally:
        run_script(shop, "DROP OWNED BY helpers; DROP ROLE helpers")


def test_the_history_schema_goes_only_where_it_is_empty_and_was_made_here(shop: Database) -> None:
    grant(shop, ROLE, history_schema="pgops")
    with shop.connect(user=ROLE) as own:
        own.execute("CREATE TABLE pgops.snapshot ()")
    result = grant(shop, ROLE, history_schema="pgops", state="absent")
    assert "DROP SCHEMA" not in {step["what"] for step in result["grants"]}
    assert "DROP SCHEMA" in {gap["what"] for gap in result["not_granted"]}
    run_script(shop, "DROP TABLE pgops.snapshot")
    assert [step["what"] for step in grant(shop, ROLE, history_schema="pgops", state="absent")["grants"]] == ["DROP SCHEMA"]
    run_script(shop, "CREATE SCHEMA kept")
    grant(shop, ROLE, history_schema="kept")
    grant(shop, ROLE, history_schema="kept", state="absent")
    assert shop.query("SELECT count(*) FROM pg_namespace WHERE nspname IN ('kept', 'pgops')") == [(1,)]


def test_a_superuser_and_an_owner_need_nothing(shop: Database, cluster: Cluster) -> None:
    assert grant(shop, cluster.superuser, system=SYSTEM)["grants"] == []


def test_functions_of_extensions_are_open_wherever_they_are(shop: Database, cluster: Cluster) -> None:
    if not cluster.installation.has_contrib:
        pytest.skip("this server comes without extensions")
    before = access(shop, ROLE)
    run_script(
        shop, 'CREATE SCHEMA "Ext Tools"; CREATE EXTENSION amcheck SCHEMA "Ext Tools"; CREATE EXTENSION pgstattuple SCHEMA "Ext Tools"'
    )
    between = access(shop, ROLE)
    assert not [step for step in grant(shop, ROLE, check=True, integrity=False)["grants"] if "bt_index_check" in step["on"]]
    granted = {step["on"] for step in grant(shop, ROLE)["grants"]}
    assert "schema Ext Tools" in granted
    assert "function Ext Tools.bt_index_check(regclass, bool)" in granted
    assert not [on for on in granted if "parent_check" in on or "pgstattuple" in on]
    # As the checks name a relation: by its oid, for which its schema need not be open.
    ((index, table),) = shop.query("SELECT 'vault.tokens_pkey'::regclass::oid, 'vault.tokens'::regclass::oid")
    assert as_role(shop, f'SELECT "Ext Tools".bt_index_check({index}, true) IS NOT NULL') == [(True,)]
    assert as_role(shop, f'SELECT table_len > 0 FROM "Ext Tools".pgstattuple_approx({table})') == [(True,)]
    assert refused(shop, f'SELECT "Ext Tools".bt_index_parent_check({index})')
    grant(shop, ROLE, state="absent")
    assert access(shop, ROLE) == between != before
