"""What is refused before any change, and what triggers do to rows: never silently nothing, never more than was said."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ansible_collections.pgops.runbook.plugins.module_utils._cleanup.report import Interrupted
from ansible_collections.pgops.runbook.plugins.module_utils._errors import ConnectError, DatabaseError, InvalidValue
from tests.ground.cluster import Cluster
from tests.ground.databases import Database
from tests.integration.cleaning import STORE, TABLES, Cleaner, rule
from tests.integration.cleanup_scene import ACTIONS, DROP, EVERY, Scene, before_batch, let_be

pytestmark = pytest.mark.any_driver

EACH = [*ACTIONS, DROP]


@pytest.fixture
def scratch(database: Database) -> Cleaner:
    """The engine on an empty database, with whichever driver it takes."""
    return Cleaner(database)


@pytest.fixture
def role(scratch: Cleaner) -> Iterator[str]:
    """A role that may do everything with what the test makes, but is no superuser."""
    name = f"limited_{scratch.database.name}"
    scratch.sql(f"CREATE ROLE {name} LOGIN; GRANT ALL ON SCHEMA public TO {name}")
    yield name
    scratch.sql(f"DROP OWNED BY {name} CASCADE; DROP ROLE {name}")


def granted(scene: Scene, role: str, archive: bool = False) -> None:
    """Let the role use the tables without owning them."""
    if archive:
        scene.cleaner.sql("CREATE TABLE kept (LIKE t)")
    scene.cleaner.sql(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}")


def owned(scene: Scene, role: str, table: str) -> None:
    scene.cleaner.sql(f"ALTER TABLE {table} OWNER TO {role}")


def require_untouched(scene: Scene) -> None:
    assert scene.ids("t") == scene.all
    assert scene.left() == scene.expired
    assert scene.archived() == []


# --- row-level security -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("action", EACH)
@pytest.mark.parametrize("policy", [None, "CREATE POLICY own ON t USING (id % 4 = 0)"])
def test_a_role_that_does_not_see_all_rows_is_refused(scratch: Cleaner, role: str, action: str, policy: str | None) -> None:
    scene = Scene(scratch, action)
    granted(scene, role)
    scratch.sql("ALTER TABLE t ENABLE ROW LEVEL SECURITY")
    if policy:
        scratch.sql(policy)
    for check in (True, False):
        with pytest.raises(DatabaseError, match=r"rules\[0\].table: row-level security hides rows of public\.t") as caught:
            scene.run(check=check, login={"login_user": role})
        assert not isinstance(caught.value, Interrupted)
        assert "BYPASSRLS" in str(caught.value.hint)
    require_untouched(scene)


@pytest.mark.parametrize("action", ["delete", "archive", "soft_delete", "purge"])
def test_an_owner_is_not_bound_until_row_security_is_forced(scratch: Cleaner, role: str, action: str) -> None:
    scene = Scene(scratch, action)
    granted(scene, role, archive=True)
    owned(scene, role, "t")
    scratch.sql("ALTER TABLE t ENABLE ROW LEVEL SECURITY; ALTER TABLE t FORCE ROW LEVEL SECURITY")
    with pytest.raises(DatabaseError, match="row-level security"):
        scene.run(login={"login_user": role})
    require_untouched(scene)
    scratch.sql("ALTER TABLE t NO FORCE ROW LEVEL SECURITY")
    scene.finish(login={"login_user": role})


def test_a_role_that_passes_it_by(scratch: Cleaner, role: str) -> None:
    scene = Scene(scratch, "archive")
    granted(scene, role, archive=True)
    for table in ("t", "kept"):
        scratch.sql(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY; ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
    scratch.sql(f"ALTER ROLE {role} BYPASSRLS")
    scene.finish(login={"login_user": role})
    assert scene.left() == []


@pytest.mark.parametrize("forced", [False, True])
def test_an_archive_that_might_refuse_rows(scratch: Cleaner, role: str, forced: bool) -> None:
    scene = Scene(scratch, "archive")
    granted(scene, role, archive=True)
    scratch.sql("ALTER TABLE kept ENABLE ROW LEVEL SECURITY; CREATE POLICY own ON kept WITH CHECK (id < 100)")
    if forced:
        owned(scene, role, "kept")
        scratch.sql("ALTER TABLE kept FORCE ROW LEVEL SECURITY")
    for check in (True, False):
        with pytest.raises(DatabaseError, match=r"rules\[0\].archive.table: row-level security of public\.kept"):
            scene.run(check=check, login={"login_user": role})
    require_untouched(scene)


@pytest.mark.parametrize("table", ["app.tokens", "app.denied"])
def test_a_table_of_a_store_that_hides_rows(scratch: Cleaner, role: str, table: str) -> None:
    """What is hidden could be what keeps a deny row needed."""
    scratch.sql(TABLES)
    scratch.sql("INSERT INTO app.tokens VALUES (md5('')::uuid, now(), now() + interval '1 h')")
    scratch.sql("INSERT INTO app.denied VALUES (md5('')::uuid, 'epoch', 'epoch')")
    scratch.sql(f"GRANT ALL ON SCHEMA app TO {role}; GRANT ALL ON ALL TABLES IN SCHEMA app TO {role}")
    scratch.sql(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
    for check in (True, False):
        with pytest.raises(DatabaseError, match=f"row-level security hides rows of {table}"):
            scratch.run([rule("app.denied", "denied_at")], token_stores=[STORE], check=check, login={"login_user": role})
    assert scratch.count("app.denied") == 1


def test_a_partition_alone_that_hides_rows(scratch: Cleaner, role: str) -> None:
    scene = Scene(scratch, DROP)
    scratch.sql("ALTER TABLE t2012 ENABLE ROW LEVEL SECURITY")
    granted(scene, role)
    with pytest.raises(DatabaseError, match=r"row-level security hides rows of public\.t2012"):
        scene.run(login={"login_user": role})
    require_untouched(scene)


@pytest.mark.parametrize(("action", "way"), [("delete", "pages"), ("archive", "index"), ("soft_delete", "pick")])
def test_row_security_that_comes_while_it_runs_ends_it(
    scratch: Cleaner, role: str, monkeypatch: pytest.MonkeyPatch, action: str, way: str
) -> None:
    scene = Scene.small(scratch, action, way, monkeypatch)
    granted(scene, role, archive=True)
    before_batch(monkeypatch, 2, lambda _session: scratch.sql("ALTER TABLE t ENABLE ROW LEVEL SECURITY"))
    error = scene.broken(login={"login_user": role})
    assert (error.sqlstate, error.result["changed"]) == ("42501", True)
    scratch.sql("ALTER TABLE t DISABLE ROW LEVEL SECURITY")
    scene.finish(login={"login_user": role})


# --- read-only servers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("action", EACH)
def test_a_standby_is_refused(scratch: Cleaner, standby: Cluster, action: str) -> None:
    scene = Scene(scratch, action)
    scratch.database.cluster.wait_for(standby)
    login = standby.login(scratch.database.name, tcp=False)
    with pytest.raises(InvalidValue, match="is on a read-only standby"):
        scene.run(check=True, login=login)
    with pytest.raises(ConnectError, match="standby"):
        scene.run(login=login)
    require_untouched(scene)
    scene.finish()


@pytest.mark.parametrize("action", EACH)
@pytest.mark.parametrize("where", ["DATABASE {}", "ROLE postgres IN DATABASE {}"])
def test_a_session_that_may_only_read_is_refused(scratch: Cleaner, action: str, where: str) -> None:
    scene = Scene(scratch, action)
    place = where.format(scratch.database.name)
    scratch.sql(f"ALTER {place} SET default_transaction_read_only = on")
    with pytest.raises(InvalidValue, match="read-only"):
        scene.run(check=True)
    with pytest.raises(ConnectError, match="read-only"):
        scene.run()
    writing = "-c default_transaction_read_only=off -c timezone=UTC"
    with scratch.database.connect(options=writing) as session:
        session.execute(f"ALTER {place} RESET default_transaction_read_only")
    require_untouched(scene)
    scene.finish()


# --- triggers -----------------------------------------------------------------------------------------------------------


def on_table(scene: Scene, body: str, table: str = "t", event: str = "DELETE OR UPDATE", when: str = "BEFORE") -> None:
    scene.cleaner.sql(f"CREATE FUNCTION hinder() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} END $$")
    scene.cleaner.sql(f"CREATE TRIGGER hinder {when} {event} ON {table} FOR EACH ROW EXECUTE FUNCTION hinder()")


PASS = "IF TG_OP = 'DELETE' THEN RETURN OLD; END IF; RETURN NEW;"


@pytest.mark.parametrize(("action", "way"), EVERY)
def test_a_trigger_that_vetoes_some_rows(scratch: Cleaner, monkeypatch: pytest.MonkeyPatch, action: str, way: str) -> None:
    scene = Scene.small(scratch, action, way, monkeypatch)
    on_table(scene, f"IF OLD.id % 100 = 0 THEN RETURN NULL; END IF; {PASS}")
    result = scene.run()
    kept = [row for row in scene.expired if row % 100 == 0]
    assert (result["stopped"], result["remaining"], scene.left()) == ("vetoed", len(kept), kept)
    scene.require_nothing_lost(result)
    let_be(scene)
    scene.finish()


@pytest.mark.parametrize("when", ["BEFORE", "AFTER"])
@pytest.mark.parametrize(("action", "way"), EVERY)
def test_a_trigger_that_raises(scratch: Cleaner, monkeypatch: pytest.MonkeyPatch, action: str, way: str, when: str) -> None:
    scene = Scene.small(scratch, action, way, monkeypatch)
    middle = sorted(scene.expired)[len(scene.expired) // 2]
    on_table(scene, f"IF OLD.id = {middle} THEN RAISE 'not %', OLD.id USING ERRCODE = '23000'; END IF; {PASS}", when=when)
    error = scene.broken()
    assert (error.sqlstate, f"not {middle}, in hinder()" in error.message) == ("23000", True)
    assert error.result["changed"] is True
    let_be(scene)
    scene.finish()


@pytest.mark.parametrize("way", ["pages", "index", "pick"])
def test_a_trigger_that_takes_the_mark_back(scratch: Cleaner, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    """The rows are updated and no more marked than before: that is not reported as done, and does not go on for ever."""
    scene = Scene.small(scratch, "soft_delete", way, monkeypatch)
    on_table(scene, "NEW.deleted_at := NULL; RETURN NEW;")
    result = scene.run()
    assert (result["stopped"], result["remaining"], scene.left()) == ("vetoed", len(scene.expired), scene.expired)
    assert (result["marked"], result["changed"]) == (0, False)
    let_be(scene)
    scene.finish()


@pytest.mark.parametrize("way", ["pages", "index", "pick"])
def test_a_trigger_that_marks_another_way_takes_part_in_what_is_left(scratch: Cleaner, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    """Whatever time it writes, a row with one is marked."""
    scene = Scene.small(scratch, "soft_delete", way, monkeypatch)
    on_table(scene, "NEW.deleted_at := 'epoch'; RETURN NEW;")
    assert scene.finish()["marked"] == len(scene.expired)


@pytest.mark.parametrize("way", ["pages", "index", "pick"])
def test_a_trigger_of_the_archive_that_keeps_rows_out(scratch: Cleaner, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    scene = Scene.small(scratch, "archive", way, monkeypatch)
    scratch.sql("CREATE TABLE kept (LIKE t)")
    middle = scene.expired[len(scene.expired) // 2]
    on_table(scene, f"IF NEW.id = {middle} THEN RETURN NULL; END IF; RETURN NEW;", "kept", "INSERT")
    error = scene.broken()
    assert "public.kept took" in error.message
    assert error.result["archived"] > 0
    let_be(scene)
    scene.finish()


def test_a_trigger_of_the_archive_that_rewrites_rows_is_told_before(scratch: Cleaner) -> None:
    scene = Scene(scratch, "archive")
    scratch.sql("CREATE TABLE kept (LIKE t)")
    on_table(scene, "NEW.pad := upper(NEW.pad); RETURN NEW;", "kept", "INSERT")
    for check in (True, False):
        (warning,) = scene.run(check=check)["warnings"]
        assert "hinder" in warning
        assert "public.kept" in warning
    assert (scene.left(), scene.archived()) == ([], scene.expired)


@pytest.mark.parametrize("schema", ["vault", "public", "app"])
def test_a_trigger_of_the_archive_finds_what_it_names_without_a_schema(scratch: Cleaner, schema: str) -> None:
    scratch.sql("CREATE SCHEMA app; CREATE SCHEMA vault")
    scene = Scene(scratch, "archive", schema="app")
    scene.kept = scene.rules[0]["archive"]["table"] = "vault.kept"
    scratch.sql(f"CREATE TABLE vault.kept (LIKE app.t); CREATE TABLE {schema}.audit (id int)")
    on_table(scene, "INSERT INTO audit VALUES (NEW.id); RETURN NEW;", "vault.kept", "INSERT")
    scene.finish()
    assert scene.ids(f"{schema}.audit") == scene.expired


def test_a_trigger_of_the_archive_that_misses_its_tables_is_told_why(scratch: Cleaner) -> None:
    scratch.sql("CREATE SCHEMA far; CREATE TABLE far.audit (id int)")
    scene = Scene(scratch, "archive")
    scratch.sql("CREATE TABLE kept (LIKE t)")
    on_table(scene, "INSERT INTO audit VALUES (NEW.id); RETURN NEW;", "kept", "INSERT")
    error = scene.broken()
    assert "search_path" in str(error.hint)
    assert '"hinder"' in str(error.hint)
    assert error.result["changed"] is False
