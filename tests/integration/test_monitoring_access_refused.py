"""pg_monitoring_access where it may not, cannot or should not grant: nothing half done, and the reason with the statement."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from ansible_collections.pgops.runbook.plugins.module_utils._errors import Busy, DatabaseError, MissingObject, RunbookError
from ansible_collections.pgops.runbook.plugins.module_utils._lock import lock_key
from ansible_collections.pgops.runbook.plugins.module_utils._monitoring_access import OPERATION, NotAllowed
from tests.ground.cluster import Cluster
from tests.ground.databases import Database
from tests.integration.granting import access, grant, roles
from tests.integration.watching import SYSTEM, finding, look, run_script, stock

pytestmark = pytest.mark.any_driver

ROLE, OWNER, ADMIN = "watcher", "Shop Owner", "role_admin"
OWNED = """
ALTER DATABASE "{}" OWNER TO "Shop Owner"; ALTER SCHEMA vault OWNER TO "Shop Owner"; ALTER SCHEMA "Web App" OWNER TO "Shop Owner";
ALTER TABLE vault.tokens OWNER TO "Shop Owner"; ALTER TABLE vault.denied OWNER TO "Shop Owner";
ALTER TABLE vault.logins OWNER TO "Shop Owner";
CREATE SEQUENCE vault.own; ALTER SEQUENCE vault.own OWNER TO "Shop Owner"; CREATE SEQUENCE vault.others;
"""


@pytest.fixture
def shop(database: Database) -> Iterator[Database]:
    """The small system, half of which belongs to an owner who is no superuser, and the role that is to watch it."""
    stock(database)
    with roles(database, **{ROLE: "", OWNER: "", ADMIN: "CREATEROLE"}):
        run_script(database, OWNED.replace("{}", database.name))
        yield database


def gaps(listed: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return what was not done, by privilege and object."""
    return {f"{gap['what']} on {gap['on']}": gap for gap in listed}


@pytest.mark.parametrize("check", [True, False])
def test_a_session_that_may_not_grant_all_grants_nothing(shop: Database, check: bool) -> None:
    before = access(shop, ROLE)
    with pytest.raises(NotAllowed) as refused:
        grant(shop, ROLE, system=SYSTEM, login={"login_user": OWNER}, check=check)
    assert access(shop, ROLE) == before
    error = refused.value.as_result()
    assert error["error"] == {**error["error"], "type": "NotAllowed", "object": ROLE, "sqlstate": "42501"}
    assert error["msg"].startswith("Shop Owner may not grant to 'watcher' what is needed: ")
    missing = gaps(error["missing"])
    assert missing["SELECT on sequence vault.others"]["reason"] == "Shop Owner may not grant it: postgres or a superuser may"
    assert missing["membership on role pg_monitor"]["statement"].startswith('GRANT "pg_monitor" TO "watcher"')
    assert not any("vault.tokens" in name or "vault.own" in name for name in missing)


def test_what_the_owner_may_grant_is_granted_and_a_superuser_does_the_rest(shop: Database) -> None:
    before = access(shop, ROLE)
    options: dict[str, Any] = {"system": SYSTEM, "partial": True, "login": {"login_user": OWNER}, "history_schema": "pgops"}
    planned = grant(shop, ROLE, check=True, **options)
    result = grant(shop, ROLE, **options)
    assert result == planned
    on = {f"{step['what']} on {step['on']}" for step in result["grants"]}
    assert on >= {"SELECT on sequence vault.own", "USAGE on schema vault", "SELECT (id, issued_at) on vault.tokens"}
    again = grant(shop, ROLE, **options)
    assert (again["changed"], again["missing"]) == (False, result["missing"])
    with shop.connect() as superuser:
        for gap in [*result["missing"], *[gap for gap in result["not_granted"] if "by default" in gap["what"]]]:
            superuser.execute(gap["statement"])
    assert grant(shop, ROLE, system=SYSTEM, history_schema="pgops")["changed"] is False
    grant(shop, ROLE, system=SYSTEM, history_schema="pgops", state="absent")
    assert access(shop, ROLE) == before


def test_owners_for_whom_nobody_may_act_are_named(shop: Database) -> None:
    options: dict[str, Any] = {"sequence_schemas": ["vault"], "configuration": False, "partial": True, "login": {"login_user": OWNER}}
    result = grant(shop, ROLE, check=True, **options)
    assert "SELECT by default on sequences that Shop Owner will make in schema vault" in {
        f"{step['what']} on {step['on']}" for step in result["grants"]
    }
    left = gaps(result["not_granted"])["SELECT by default on sequences that postgres will make in schema vault"]
    assert left["reason"] == "Shop Owner may not act for postgres"
    assert left["statement"] == 'ALTER DEFAULT PRIVILEGES FOR ROLE "postgres" IN SCHEMA "vault" GRANT SELECT ON SEQUENCES TO "watcher";'


def test_a_statement_that_fails_leaves_nothing(shop: Database) -> None:
    """A trigger on commands stands for whatever a server may refuse half way."""
    script = """
        CREATE FUNCTION refuse() RETURNS event_trigger LANGUAGE plpgsql AS
          $$ BEGIN IF current_query() LIKE '%denied%' THEN RAISE EXCEPTION 'not today'; END IF; END $$;
        CREATE EVENT TRIGGER refuse ON ddl_command_start EXECUTE FUNCTION refuse()"""
    run_script(shop, script)
    before = access(shop, ROLE)
    with pytest.raises(DatabaseError, match=r"SELECT \(denied_at, expires_at, id\) on vault.denied: not today; nothing was changed"):
        grant(shop, ROLE, system=SYSTEM)
    assert access(shop, ROLE) == before


@pytest.mark.parametrize("name", ["nobody here", "public", "none", "current_user"])
def test_a_role_that_does_not_exist_is_said_to_be_made_first(database: Database, name: str) -> None:
    for check in (True, False):
        with pytest.raises(MissingObject) as refused:
            grant(database, name, check=check)
        assert refused.value.message == f"role {name!r} does not exist"
        assert f'CREATE ROLE "{name}" LOGIN;' in str(refused.value.hint)


def test_wrong_schemas_are_named(shop: Database) -> None:
    with pytest.raises(MissingObject, match="sequence_schemas: schema 'vaults' does not exist"):
        grant(shop, ROLE, sequence_schemas=["vault", "vaults"])
    for schema in ("pg_history", "public"):
        with pytest.raises(RunbookError, match="is not for histories"):
            grant(shop, ROLE, history_schema=schema)


def test_a_standby_is_refused(shop: Database, cluster: Cluster, standby: Cluster) -> None:
    cluster.wait_for(standby)
    for check in (True, False):
        with pytest.raises(RunbookError, match="standby") as refused:
            grant(shop, ROLE, check=check, cluster=standby)
        assert refused.value.sqlstate == "25006"


def test_a_second_run_at_the_same_time_is_told_who_is_first(shop: Database) -> None:
    with shop.connect() as other:
        other.execute("SELECT pg_advisory_lock(%s)", [lock_key(OPERATION)])
        with pytest.raises(Busy, match="another run of pg_monitoring_access is at work"):
            grant(shop, ROLE)
        assert grant(shop, ROLE, check=True)["changed"] is True


def test_runs_on_databases_of_one_server_do_not_meet(shop: Database, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both make the role a member of pg_monitor, which the server keeps once."""
    # The wait callback of psycopg2, set for each statement, is one for the whole process: threads of one process would share it.
    monkeypatch.setitem(sys.modules, "psycopg2", None)
    with Database.create(cluster, f"{shop.name}_b") as other, Database.create(cluster, f"{shop.name}_c") as third:
        ended: list[Any] = []

        def run(database: Database) -> None:
            try:
                ended.append(grant(database, ROLE)["role"])
            except RunbookError as error:
                ended.append(error.message)

        with roles(third, busy=""):
            threads = [threading.Thread(target=run, args=[database]) for database in (shop, other, third)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(60)
        assert ended == [ROLE] * 3
        for database in (other, third):
            run_script(database, f"DROP OWNED BY {ROLE}")


def test_rows_that_a_policy_hides_are_left_to_a_superuser(shop: Database) -> None:
    run_script(shop, "ALTER TABLE vault.logins ENABLE ROW LEVEL SECURITY; CREATE POLICY all_rows ON vault.logins USING (true)")
    result = grant(shop, ROLE, system=SYSTEM)
    left = gaps(result["not_granted"])["every row on vault.logins"]
    assert left["statement"] == 'ALTER ROLE "watcher" BYPASSRLS;'
    login = {"login_user": ROLE}
    assert "BYPASSRLS" in finding(look(shop, checks=["login"], system=SYSTEM, login=login), "login.stuck[vault.logins]")["action"]
    assert shop.query("SELECT rolbypassrls FROM pg_roles WHERE rolname = %s", [ROLE]) == [(False,)]
    run_script(shop, left["statement"])
    assert look(shop, checks=["login"], system=SYSTEM, login=login)["unknown"] == []
    assert "every row on vault.logins" not in gaps(grant(shop, ROLE, system=SYSTEM)["not_granted"])


def test_ids_that_are_secret_stay_closed(shop: Database) -> None:
    ids = "SELECT has_column_privilege(%s, 'vault.tokens', 'id', 'SELECT'), has_column_privilege(%s, 'vault.denied', 'id', 'SELECT')"
    result = grant(shop, ROLE, system=SYSTEM, token_ids=False)
    assert shop.query(ids, [ROLE, ROLE]) == [(False, False)]
    assert gaps(result["not_granted"])["SELECT (id) on vault.tokens"]["reason"] == "token_ids is false"
    unknown = look(shop, "daily", system=SYSTEM, checks=["token", "login"], login={"login_user": ROLE})["unknown"]
    assert set(unknown) == {"token.duplicate_ids", "token.orphaned_deny"}
    declared = {**SYSTEM, "security": {"secrets": [{"table": "vault.tokens", "columns": ["id"]}]}}
    result = grant(shop, ROLE, system=declared)
    assert shop.query(ids, [ROLE, ROLE]) == [(False, True)]
    assert "never leaves the database" in gaps(result["not_granted"])["SELECT (id) on vault.tokens"]["reason"]


def test_tables_are_counted_by_what_says_least(shop: Database) -> None:
    run_script(shop, "CREATE TABLE vault.notes (note text, kind varchar, at timestamptz, n int); CREATE TABLE vault.texts (note text)")
    tables = {**SYSTEM["schema"]["tables"], "vault.notes": {"columns": {"at": "timestamptz"}}, "vault.texts": {"columns": {"note": "text"}}}
    result = grant(shop, ROLE, system={**SYSTEM, "schema": {"tables": tables}})
    granted = {step["on"]: step["what"] for step in result["grants"]}
    assert (granted["vault.notes"], granted["vault.people"]) == ("SELECT (at)", "SELECT (id)")
    assert "SELECT on a column on vault.texts" in gaps(result["not_granted"])
    run_script(shop, "DROP TABLE vault.logins; ALTER TABLE vault.denied DROP denied_at")
    left = gaps(grant(shop, ROLE, system=SYSTEM)["not_granted"])
    assert left["SELECT (created_at) on vault.logins"]["reason"] == "the table does not exist"
    assert left["SELECT (denied_at) on vault.denied"]["reason"] == "the column does not exist"


def test_a_role_that_does_not_inherit_is_told_of(shop: Database, cluster: Cluster) -> None:
    with roles(shop, stiff="NOINHERIT"):
        result = grant(shop, "stiff")
        with shop.connect(user="stiff") as own:
            effective = own.execute("SELECT pg_has_role('pg_read_all_stats', 'USAGE')").fetchall()
        # Since PostgreSQL 16 the grant itself says that it is inherited.
        assert effective == [(cluster.installation.major >= 16,)]
        assert ("INHERIT on role stiff" in gaps(result["not_granted"])) is (cluster.installation.major < 16)
        assert grant(shop, "stiff")["changed"] is False
        assert grant(shop, "stiff", state="absent")["changed"] is True


def test_a_role_that_administers_pg_monitor_may_give_it_away(shop: Database, cluster: Cluster) -> None:
    run_script(shop, f"GRANT pg_monitor TO {ADMIN} WITH ADMIN OPTION")
    steps = grant(shop, ROLE, partial=True, login={"login_user": ADMIN})["grants"]
    assert ("membership", "role pg_monitor") in {(step["what"], step["on"]) for step in steps}
    ended = grant(shop, ROLE, state="absent", partial=True)
    written = {step["what"]: step["statement"] for step in ended["grants"]}["membership"]
    granted_by = f' GRANTED BY "{ADMIN}"' if cluster.installation.major >= 16 else ""
    assert written == f'REVOKE "pg_monitor" FROM "watcher"{granted_by};'
    assert shop.query("SELECT count(*) FROM pg_auth_members WHERE member = %s::regrole", [ROLE]) == [(0,)]


def test_what_was_given_to_be_passed_on_is_left(shop: Database) -> None:
    script = """
        GRANT pg_monitor TO watcher WITH ADMIN OPTION;
        ALTER DEFAULT PRIVILEGES IN SCHEMA vault GRANT SELECT ON SEQUENCES TO watcher WITH GRANT OPTION"""
    run_script(shop, script)
    before = access(shop, ROLE)
    for state in ("present", "absent"):
        steps = grant(shop, ROLE, system=SYSTEM, state=state)["grants"]
        assert not [step for step in steps if step["what"] == "membership" or "that postgres will make" in step["on"]]
    assert access(shop, ROLE) == before


def test_what_somebody_else_has_granted_is_named(shop: Database) -> None:
    run_script(shop, f"GRANT SELECT (created_at) ON vault.logins TO {ADMIN} WITH GRANT OPTION; GRANT USAGE ON SCHEMA vault TO {ADMIN}")
    with shop.connect(user=ADMIN) as other:
        other.execute(f"GRANT SELECT (created_at) ON vault.logins TO {ROLE}")
    before = access(shop, ROLE)
    with pytest.raises(NotAllowed) as refused:
        grant(shop, ROLE, system=SYSTEM, state="absent")
    assert "vault.logins" in gaps(refused.value.as_result()["missing"])["SELECT (created_at) on vault.logins"]["on"]
    assert access(shop, ROLE) == before


def test_passwords_in_the_rules_of_access_stay_closed(installation: Any) -> None:
    with Cluster(installation) as server:
        database = Database.create(server, "guarded")
        run_script(database, f"CREATE ROLE {ROLE} LOGIN")
        rules = server.data / "pg_hba.conf"
        text = rules.read_text(encoding="utf-8")
        rules.write_text(text + "host all all 10.0.0.0/8 radius radiusservers=127.0.0.1 radiussecrets=hidden\n", encoding="utf-8")
        result = grant(database, ROLE)
        left = gaps(result["not_granted"])["EXECUTE on function pg_catalog.pg_hba_file_rules()"]
        assert "LDAP or RADIUS" in left["reason"]
        assert "hidden" not in str(result)
        may = "SELECT has_function_privilege(%s, 'pg_hba_file_rules()', 'EXECUTE'), has_table_privilege(%s, 'pg_file_settings', 'SELECT')"
        assert database.query(may, [ROLE, ROLE]) == [(False, True)]
        rules.write_text(text, encoding="utf-8")
        assert {step["on"] for step in grant(database, ROLE)["grants"]} == {
            "pg_catalog.pg_hba_file_rules",
            "function pg_catalog.pg_hba_file_rules()",
        }
        with database.connect(user=ROLE) as own:
            assert own.execute("SELECT count(*) > 0 FROM pg_hba_file_rules").fetchall() == [(True,)]
        # What stands open since before is told of, and taken away by a person.
        rules.write_text(text + "host all all 10.0.0.0/8 radius radiusservers=127.0.0.1 radiussecrets=hidden\n", encoding="utf-8")
        result = grant(database, ROLE)
        assert result["changed"] is False
        left = gaps(result["not_granted"])["EXECUTE on function pg_catalog.pg_hba_file_rules()"]
        assert "sees it already" in left["reason"]
        run_script(database, left["statement"])
        assert database.query(may, [ROLE, ROLE]) == [(False, True)]
