"""A backup takes the place of a database: in one transaction, only where it was named, and without anybody on it."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from ansible_collections.pgops.runbook.plugins.module_utils._errors import DatabaseError, Refused, RunbookError
from ansible_collections.pgops.runbook.plugins.module_utils._restore import whole
from tests.ground.cluster import Cluster
from tests.ground.databases import Database
from tests.integration import backing, restoring
from tests.integration.handmade import rewritten

COUNT = "SELECT count(*) FROM t"


@pytest.fixture
def live(cluster: Cluster) -> Iterator[Database]:
    """A database of 100 rows; what takes its place, and what it becomes, goes after the test."""
    with restoring.passing(cluster), Database.create(cluster, "swapped") as made:
        made.query("CREATE TABLE t AS SELECT n FROM generate_series(1, 100) n")
        yield made


@pytest.fixture
def backup(live: Database, tmp_path: Path) -> Path:
    """A backup of it; after that it lost half of its rows."""
    path = backing.made(live, tmp_path / "backups")
    live.query("DELETE FROM t WHERE n > 50")
    return path


@pytest.mark.any_driver
@pytest.mark.usefixtures("_one_driver")
def test_it_takes_the_place_and_the_old_one_is_kept(live: Database, backup: Path) -> None:
    live.query("ALTER DATABASE swapped SET work_mem TO '9MB'")
    planned = restoring.restore(live, backup.parent, mode="swap", replace="swapped", check_mode=True)
    result = restoring.restore(live, backup.parent, mode="swap", replace="swapped")
    again = restoring.restore(live, backup.parent, mode="swap", replace="swapped")
    assert [one["action"] for one in (planned, result, again)] == ["swapped", "swapped", "present"]
    assert [one["changed"] for one in (planned, result, again)] == [True, True, False]
    assert re.fullmatch(r"swapped_before_\d{8}_\d{6}", result["kept"])
    assert (live.query(COUNT), Database(live.cluster, result["kept"]).query(COUNT)) == ([(100,)], [(50,)])
    # The settings are those of the backup; those of the old one have stayed with it.
    assert live.query("SHOW work_mem") != [("9MB",)]
    assert Database(live.cluster, result["kept"]).query("SHOW work_mem") == [("9MB",)]
    assert again["kept"] is None


def test_the_old_one_is_dropped_where_that_is_asked_for(live: Database, backup: Path) -> None:
    before = restoring.databases(live.cluster)
    result = restoring.restore(live, backup.parent, mode="swap", replace="swapped", keep_old=False)
    assert (result["action"], result["kept"], live.query(COUNT)) == ("swapped", None, [(100,)])
    assert restoring.databases(live.cluster) == before


def test_where_there_is_none_it_gets_the_name(live: Database, backup: Path) -> None:
    live.drop()
    result = restoring.restore(live, backup.parent, mode="swap")
    assert (result["action"], result["kept"], live.query(COUNT)) == ("restored", None, [(100,)])


def test_an_empty_one_needs_no_word(live: Database, backup: Path) -> None:
    live.query("DROP TABLE t")
    assert restoring.restore(live, backup.parent, mode="swap")["action"] == "swapped"


@pytest.mark.parametrize("replace", ["", "swapped_other"])
def test_one_that_is_not_named_is_not_replaced(live: Database, backup: Path, replace: str) -> None:
    for check_mode in (True, False):
        with pytest.raises(Refused, match="the very one that was backed up, on the same server") as refused:
            restoring.restore(live, backup.parent, mode="swap", replace=replace, check_mode=check_mode)
        assert "replace=swapped" in str(refused.value.hint)
    assert live.query(COUNT) == [(50,)]


def test_another_that_is_not_named_is_not_replaced_either(live: Database, backup: Path) -> None:
    with Database.create(live.cluster, "swapped_other") as other:
        other.query("CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'")
        with pytest.raises(Refused, match="database swapped_other is there and not empty"):
            restoring.restore(live, backup.parent, mode="swap", target="swapped_other")


PARTS: list[dict[str, Any]] = [
    {"kind": "schema_only"},
    {"kind": "tables", "tables": ["public.t"]},
    {"kind": "schemas", "schemas": ["public"]},
]


@pytest.mark.parametrize("options", PARTS, ids=str)
def test_a_part_of_a_database_takes_nobodys_place(live: Database, tmp_path: Path, options: dict[str, Any]) -> None:
    """What is not in it would be gone for the application, which only sees the name."""
    path = backing.made(live, tmp_path, name="part", **options)
    live.query("CREATE TABLE more AS SELECT 1 AS n; DELETE FROM t WHERE n > 50")
    for chosen in ({"path": str(path)}, {"folder": str(tmp_path), "name": "part"}):
        for check_mode in (True, False):
            with pytest.raises(Refused, match=rf"is of the kind {options['kind']}, and no whole database"):
                restoring.restore(live, mode="swap", replace="swapped", check_mode=check_mode, **chosen)
    assert live.query(COUNT) == [(50,)]
    # An empty one has nothing to lose.
    live.query("DROP TABLE t, more")
    assert restoring.restore(live, path=str(path), mode="swap")["action"] == "swapped"


def test_sessions_hinder_it_and_are_ended_only_on_request(live: Database, backup: Path) -> None:
    with live.connect(application_name="somebody's") as somebody:
        for check_mode in (True, False):
            with pytest.raises(Refused, match=r"1 session is on database swapped: postgres .*somebody's"):
                restoring.restore(live, backup.parent, mode="swap", replace="swapped", check_mode=check_mode)
        result = restoring.restore(live, backup.parent, mode="swap", replace="swapped", disconnect=True)
        with pytest.raises(psycopg.OperationalError):
            somebody.execute("SELECT 1")
    assert (result["action"], live.query(COUNT)) == ("swapped", [(100,)])


def test_sessions_that_this_role_may_not_end(live: Database, backup: Path) -> None:
    """They are named before anything is restored, and not after hours of it."""
    live.query("CREATE ROLE swapped_clerk LOGIN CREATEDB")
    live.query("ALTER DATABASE swapped OWNER TO swapped_clerk")
    clerk = backing.login(live, login_user="swapped_clerk")
    try:
        with live.connect(application_name="superior"):
            for check_mode in (True, False):
                with pytest.raises(Refused, match=r"1 session is on database swapped: postgres .*superior") as refused:
                    restoring.restore(clerk, backup.parent, mode="swap", replace="swapped", disconnect=True, check_mode=check_mode)
                assert "swapped_clerk may not end" in str(refused.value.hint)
    finally:
        live.query("ALTER DATABASE swapped OWNER TO postgres")
        live.query("DROP ROLE swapped_clerk")


def test_applications_that_come_back_at_once_do_not_hinder_it(live: Database, backup: Path) -> None:
    """Ten of them connect again as soon as they are sent away."""
    stop = threading.Event()
    refused: list[str] = []

    def come_back() -> None:
        while not stop.is_set():
            try:
                with live.connect() as session:
                    while not stop.is_set():
                        session.execute(COUNT)
                        time.sleep(0.001)
            except psycopg.Error as error:
                refused.append(str(error))

    crowd = [threading.Thread(target=come_back) for _number in range(10)]
    for one in crowd:
        one.start()
    try:
        result = restoring.restore(live, backup.parent, mode="swap", replace="swapped", disconnect=True)
    finally:
        stop.set()
        for one in crowd:
            one.join()
    assert (result["action"], live.query(COUNT)) == ("swapped", [(100,)])
    assert not [said for said in refused if "not currently accepting" in said]


def test_somebody_who_comes_while_it_is_restored(live: Database, backup: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    guests = []
    compare = whole.compare

    def come(*given: Any, **options: Any) -> Any:
        if given[1] != "swapped":
            guests.append(live.connect())
        return compare(*given, **options)

    monkeypatch.setattr(whole, "compare", come)
    with pytest.raises(Refused, match="1 session is on database swapped"):
        restoring.restore(live, backup.parent, mode="swap", replace="swapped")
    guests[0].close()
    assert (live.query(COUNT), restoring.hidden(live.cluster)) == ([(50,)], set())


def test_prepared_transactions_and_slots(live: Database, backup: Path) -> None:
    if live.query("SELECT current_setting('wal_level')") == [("logical",)]:
        live.query("SELECT pg_create_logical_replication_slot('swapped_slot', 'test_decoding')")
    live.query("CREATE SUBSCRIPTION swapped_sub CONNECTION 'host=/nowhere' PUBLICATION p WITH (connect = false)")
    try:
        result = restoring.restore(live, backup.parent, mode="swap", replace="swapped", check_mode=True)
        assert any("keeps its subscriptions (swapped_sub)" in text for text in result["warnings"])
    finally:
        for words in ("SET (slot_name = NONE)", "DISABLE"):
            live.query(f"ALTER SUBSCRIPTION swapped_sub {words}")
        live.query("DROP SUBSCRIPTION swapped_sub")


def test_a_role_that_does_not_own_it(live: Database, backup: Path) -> None:
    live.query("CREATE ROLE swapped_maker LOGIN CREATEDB")
    try:
        with pytest.raises(Refused, match="role swapped_maker does not own database swapped"):
            restoring.restore(
                backing.login(live, login_user="swapped_maker"),
                backup.parent,
                mode="swap",
                replace="swapped",
                owners=False,
                privileges=False,
            )
        live.query("ALTER ROLE swapped_maker NOCREATEDB")
        with pytest.raises(Refused, match="role swapped_maker may not make databases"):
            restoring.restore(backing.login(live, login_user="swapped_maker"), backup.parent, target="x", owners=False, privileges=False)
    finally:
        live.query("DROP ROLE swapped_maker")


def test_settings_that_the_server_refuses_are_told_before_a_row_is_loaded(live: Database, tmp_path: Path) -> None:
    live.query("CREATE ROLE swapped_role")
    live.query("ALTER ROLE swapped_role IN DATABASE swapped SET work_mem TO '1MB'")
    path = backing.made(live, tmp_path)
    live.query("ALTER ROLE swapped_role IN DATABASE swapped RESET ALL")
    live.query("DROP ROLE swapped_role")
    with pytest.raises(Refused, match="roles: swapped_role"):
        restoring.restore(live, path=str(path), target="swapped_2", owners=False, privileges=False)
    document = backing.manifest(path)
    assert document["settings"]["role_config"] == {"swapped_role": ["work_mem=1MB"]}
    assert restoring.hidden(live.cluster) == set()
    with pytest.raises((Refused, DatabaseError)):
        restoring.restore(live, path=str(path), target="swapped_2")


def test_a_setting_that_the_server_does_not_know_hinders_nothing(live: Database, tmp_path: Path) -> None:
    """As one of a server before it was taken out, or of a newer one."""
    path = backing.made(live, tmp_path)
    config, of_role = ["bygone_setting=0.2", "work_mem=7MB", "own.setting=x"], ["bygone_setting=1", "work_mem=8MB"]
    rewritten(path, lambda document: document["settings"].update(config=config, role_config={"postgres": of_role}))
    result = restoring.restore(live, path=str(path), target="swapped_2")
    assert result["warnings"] == ["this server does not know the setting bygone_setting, which the database had: it is left out"]
    found = live.query(
        "SELECT setrole::int > 0, setconfig FROM pg_db_role_setting s JOIN pg_database d ON d.oid = setdatabase"
        " WHERE datname = 'swapped_2' ORDER BY 1"
    )
    assert found == [(False, ["work_mem=7MB", "own.setting=x"]), (True, ["work_mem=8MB"])]


STORE = {
    "name": "app",
    "tokens": {"table": "tokens", "id": "id", "expires_at": {"column": "expires_at", "time_zone": "UTC"}},
    "revoke": {"how": "denylist", "table": "denied", "id": "id", "expires_at": {"column": "expires_at", "time_zone": "UTC"}},
}


def test_tokens_that_were_revoked_since_are_told_before_they_come_back(live: Database, tmp_path: Path) -> None:
    live.query(
        "CREATE TABLE tokens (id uuid PRIMARY KEY, expires_at timestamp); CREATE TABLE denied (id uuid PRIMARY KEY, expires_at timestamp)"
    )
    live.query("INSERT INTO tokens SELECT md5(n::text)::uuid, now() + interval '1 day' FROM generate_series(1, 10) n")
    path = backing.made(live, tmp_path)
    live.query("INSERT INTO denied SELECT * FROM tokens LIMIT 3")
    options = {"path": str(path), "mode": "swap", "replace": "swapped", "token_stores": [STORE]}
    with pytest.raises(Refused, match="store app: 3"):
        restoring.restore(live, **options)
    assert live.query("SELECT count(*) FROM denied") == [(3,)]
    result = restoring.restore(live, **options, accept_tokens_back=True)
    assert [(one["store"], one["back"]) for one in result["tokens_back"]] == [("app", 3)]
    assert (result["warnings"], live.query("SELECT count(*) FROM denied")) == ([], [(0,)])


def test_a_token_that_is_revoked_in_the_last_moment_does_not_come_back_unsaid(
    live: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the tokens were counted and before the names change: nothing can undo the swap then, so the run fails and says it."""
    live.query("CREATE TABLE tokens (id int PRIMARY KEY, expires_at timestamp); CREATE TABLE denied (LIKE tokens)")
    live.query("INSERT INTO tokens SELECT n, now() + interval '1 day' FROM generate_series(1, 10) n")
    path = backing.made(live, tmp_path)
    live.query("DELETE FROM t")
    publish = whole._publish

    def late(*given: Any) -> None:
        live.query("INSERT INTO denied SELECT * FROM tokens LIMIT 2")
        publish(*given)

    monkeypatch.setattr(whole, "_publish", late)
    options = {"path": str(path), "mode": "swap", "replace": "swapped", "token_stores": [STORE], "keep_old": False}
    with pytest.raises(RunbookError, match=r"2 tokens of store app were revoked .* and are accepted again") as refused:
        restoring.restore(live, **options)
    kept = re.search(r"swapped_before_\d{8}_\d{6}", refused.value.message)
    assert kept is not None
    assert live.query(COUNT) == [(100,)]
    # It is kept although it was not to be: only there it stands which ones they are.
    assert Database(live.cluster, kept.group()).query("SELECT count(*) FROM denied") == [(2,)]


def test_a_session_role_restores_every_format(live: Database, tmp_path: Path) -> None:
    """It owns what is restored, and the login role nothing."""
    live.query("CREATE ROLE swapped_owner CREATEDB")
    with Database.create(live.cluster, "swapped_theirs") as theirs:
        theirs.query("ALTER DATABASE swapped_theirs OWNER TO swapped_owner")
        theirs.query("SET ROLE swapped_owner; CREATE TABLE t AS SELECT 1 AS n")
        for form in ("directory", "plain"):
            path = backing.made(theirs, tmp_path, format=form, name=form)
            restoring.restore(backing.login(live, session_role="swapped_owner"), path=str(path), target=f"swapped_{form}")
            again = Database(live.cluster, f"swapped_{form}")
            assert again.query("SELECT tableowner FROM pg_tables WHERE tablename = 't'") == [("swapped_owner",)]
            again.drop()
    live.query("DROP ROLE swapped_owner")
