"""What a revocation does outside its own tables: cached sessions in a real Redis, an endpoint that is asked, and how much it all takes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pgops.runbook.plugins.module_utils._cache import Cache
from ansible_collections.pgops.runbook.plugins.module_utils._errors import InvalidValue
from ansible_collections.pgops.runbook.plugins.module_utils._revocation import cached
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.report import Unproven
from tests.ground.databases import Database
from tests.ground.introspection import Answer, IntrospectionServer
from tests.ground.redis import RedisServer
from tests.ground.systems import description_of
from tests.ground.templates import SystemDatabase
from tests.integration.hindering import DELETED, DENIED, STAMPED, WINDOW, Revoker, with_changes
from tests.integration.spending import spending

CACHES = [{"engine": "redis", "keys": ["session:{id}", "user_sessions:{user_id}"], "other_keys": ["otp:*"]}]
OTHERS = {"otp:1", "cache:session:1", "session:none", "user_sessions:nobody"}


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
def revoker(database: Database) -> Revoker:
    return Revoker(database).filled()


class Sessions:
    """The sessions of a test in Redis."""

    def __init__(self, server: RedisServer) -> None:
        self.server = server
        self.options = {"caches": CACHES, "cache_connection": server.connection}

    def fill(self, revoker: Revoker, table: str = "app.sessions") -> None:
        rows = revoker.sql(f"SELECT id::text, subject FROM {table}")
        keys = {f"session:{row[0]}" for row in rows} | {f"user_sessions:{row[1]}" for row in rows} | OTHERS
        with self.server.client() as client:
            client.flushall()
            client.mset(dict.fromkeys(keys, "x"))

    def keys(self, pattern: str = "*") -> set[str]:
        with self.server.client() as client:
            return {key.decode() for key in client.scan_iter(pattern, count=1000)}

    def without_server(self) -> dict[str, Any]:
        return {"caches": CACHES, "cache_connection": {**self.server.connection, "port": 1}}


@pytest.fixture
def sessions(redis: RedisServer, revoker: Revoker) -> Sessions:
    made = Sessions(redis)
    made.fill(revoker)
    return made


# --- cached sessions ------------------------------------------------------------------------------------------------------


def test_cached_sessions_of_a_user_go_and_all_others_stay(revoker: Revoker, sessions: Sessions) -> None:
    before = sessions.keys()
    result = revoker.run({"subjects": ["user1"]}, STAMPED, **sessions.options)
    numbers = [row[0] for row in revoker.sql("SELECT id FROM app.sessions WHERE subject = 'user1' AND expires_at > now()")]
    # Also those of sessions that were revoked before: a cache may not know that.
    gone = {f"session:{number}" for number in numbers} | {"user_sessions:user1"}
    assert before - sessions.keys() == gone
    assert len(gone) == 21
    assert [(one["deleted"], one["remaining"], one["error"]) for one in result["caches"]] == [(21, 0, None)]
    again = revoker.run({"subjects": ["user1"]}, STAMPED, **sessions.options)
    assert (again["changed"], again["caches"][0]["deleted"]) == (False, 0)


@pytest.mark.parametrize("store", [DENIED, STAMPED, DELETED], ids=lambda store: store["name"])
def test_cached_sessions_of_a_window(revoker: Revoker, sessions: Sessions, store: dict[str, Any]) -> None:
    sessions.fill(revoker, store["tokens"]["table"])
    expired = {f"session:{row[0]}" for row in revoker.sql(f"SELECT id FROM {store['tokens']['table']} WHERE expires_at < now()")}
    result = revoker.run(WINDOW, store, batch_rows=9, **sessions.options)
    assert sessions.keys() == OTHERS | expired
    assert result["caches"][0]["remaining"] == 0
    revoker.undo(result["revocation_id"])
    assert revoker.run(WINDOW, store, **sessions.options)["revoked"] == result["revoked"]


def test_all_cached_sessions(revoker: Revoker, sessions: Sessions) -> None:
    revoker.run({"all": True}, STAMPED, **sessions.options)
    assert sessions.keys() == {"otp:1", "cache:session:1"}
    sessions.fill(revoker)
    # Nothing is left to be revoked, and what a cache holds of it goes nevertheless.
    again = revoker.run({"all": True}, STAMPED, **sessions.options)
    assert (again["revoked"], again["changed"], sessions.keys()) == (0, True, {"otp:1", "cache:session:1"})


def test_check_mode_touches_no_cache(revoker: Revoker, sessions: Sessions) -> None:
    before = sessions.keys()
    assert revoker.run(WINDOW, STAMPED, check=True, **sessions.options)["caches"] == []
    assert sessions.keys() == before


def test_whoever_is_revoked_already_loses_the_cached_session(revoker: Revoker, sessions: Sessions) -> None:
    """The application has revoked it by itself and forgotten the cache."""
    revoker.sql("UPDATE app.sessions SET revoked_at = now() WHERE subject = 'user2'")
    result = revoker.run({"subjects": ["user2"]}, with_changes(STAMPED, dependents=[]), **sessions.options)
    assert (result["revoked"], result["changed"], result["caches"][0]["deleted"]) == (0, True, 21)
    assert revoker.sql("SELECT 1 FROM pg_namespace WHERE nspname = 'pgops_runbook'") == []


@pytest.mark.parametrize(
    ("store", "select"),
    [(STAMPED, {"subjects": ["user1"]}), (DELETED, WINDOW), (DENIED, {"subjects": ["user1"]}), (STAMPED, {"all": True})],
    ids=["stamped", "deleted", "denied", "all"],
)
@pytest.mark.parametrize("revoked_before", [False, True])
def test_a_cache_that_is_down_and_the_next_run_whatever_it_selects(
    revoker: Revoker, sessions: Sessions, store: dict[str, Any], select: dict[str, Any], revoked_before: bool
) -> None:
    table = store["tokens"]["table"]
    sessions.fill(revoker, table)
    if revoked_before:
        revoker.run(select, store)
        sessions.fill(revoker, table)
    wanted = sessions.keys("session:*") if revoked_before and store is DELETED else None
    with pytest.raises(Unproven, match=r"tokens were revoked, which stands, but: cache 127.0.0.1:1: .* refused the connection") as caught:
        revoker.run(select, store, **sessions.without_server())
    result = caught.value.as_result()
    assert (result["remaining"], result["changed"]) == (0, not revoked_before)
    alive = {f"session:{row[0]}" for row in revoker.sql(f"SELECT id FROM {table} WHERE subject = 'user1' AND expires_at > now()")}
    again = revoker.run({"subjects": ["stranger"]}, store, **sessions.options)
    assert again["revoked"] == 0
    if "all" in select:
        assert sessions.keys() == {"otp:1", "cache:session:1"}
    elif wanted is None:
        assert not sessions.keys() & (alive | {"user_sessions:user1"})
    assert sessions.keys() & OTHERS >= {"otp:1", "cache:session:1"}
    third = revoker.run({"subjects": ["stranger"]}, store, **sessions.options)
    assert (third["changed"], third["caches"][0]["deleted"]) == (False, 0)


def test_a_cache_that_stays_down_makes_no_record_grow(revoker: Revoker, sessions: Sessions) -> None:
    """Each run keeps its own, and none of them that of the others before it."""
    kept = []
    for user in ("user1", "user2", "user3"):
        with pytest.raises(Unproven):
            revoker.run({"subjects": [user]}, STAMPED, **sessions.without_server())
        kept.append(
            revoker.value(
                "SELECT count(*) FROM pgops_runbook.changed_rows r JOIN pgops_runbook.changes USING (change_id) WHERE change = 'cached'"
            )
        )
    # 18 or so sessions of a user, and the user by itself.
    assert kept[1] - kept[0] < 25
    assert kept[2] - kept[1] < 25
    deleted = revoker.run({"subjects": ["stranger"]}, STAMPED, **sessions.options)["caches"][0]["deleted"]
    assert (
        deleted
        == revoker.value("SELECT count(*) FROM app.sessions WHERE expires_at > now() AND subject IN ('user1', 'user2', 'user3')") + 3
    )


def test_limits_and_a_cache_that_is_down(revoker: Revoker, sessions: Sessions) -> None:
    """No row of a token is changed where a limit does the work."""
    revoker.sql("CREATE TABLE app.limits (subject text PRIMARY KEY, not_before timestamptz); INSERT INTO app.limits VALUES ('user1', NULL)")
    limit = {"table": "app.limits", "column": "not_before", "by": "subject", "id": "subject"}
    store = {**with_changes(STAMPED, dependents=[], not_before=[limit]), "revoke": {"how": "not_before"}}
    with pytest.raises(Unproven, match="cache"):
        revoker.run({"subjects": ["user1"]}, store, **sessions.without_server())
    revoker.run({"subjects": ["stranger"]}, STAMPED, **sessions.options)
    alive = {f"session:{row[0]}" for row in revoker.sql("SELECT id FROM app.sessions WHERE subject = 'user1' AND expires_at > now()")}
    assert not sessions.keys() & (alive | {"user_sessions:user1"})


def test_a_reinstated_revocation_leaves_the_cache_alone(revoker: Revoker, sessions: Sessions) -> None:
    with pytest.raises(Unproven) as caught:
        revoker.run(WINDOW, STAMPED, **sessions.without_server())
    revoker.undo(caught.value.result["revocation_id"])
    before = sessions.keys()
    revoker.run({"subjects": ["stranger"]}, STAMPED, **sessions.options)
    assert sessions.keys() == before


def test_ended_between_the_commit_and_the_cache(revoker: Revoker, sessions: Sessions, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(BaseException):
        pass

    def die(*_given: Any, **_options: Any) -> Any:
        raise Killed

    monkeypatch.setattr(cached.Cached, "forget", die)
    with pytest.raises(Killed):
        revoker.run(WINDOW, DELETED, **sessions.options)
    monkeypatch.undo()
    changed = [
        row[0] for row in revoker.sql("SELECT split_part(before, ',', 1) FROM pgops_runbook.changed_rows WHERE cache_values IS NOT NULL")
    ]
    assert len(changed) == 90
    revoker.run({"subjects": ["stranger"]}, DELETED, **sessions.options)
    assert revoker.value("SELECT count(*) FROM app.sessions WHERE expires_at > now()") == 0
    assert len(sessions.keys("session:*")) == 10 + 1


def test_one_cache_that_is_down_hides_no_other(revoker: Revoker, sessions: Sessions) -> None:
    caches = [{**CACHES[0], "host": "127.0.0.1", "port": 1}, {**CACHES[0], "host": sessions.server.host, "port": sessions.server.port}]
    with pytest.raises(Unproven) as caught:
        revoker.run(WINDOW, STAMPED, caches=caches, cache_connection={})
    assert [one["error"] is None for one in caught.value.result["caches"]] == [False, True]
    assert len(sessions.keys("session:*")) == 10 + 1


def test_keys_that_are_written_anew(revoker: Revoker, sessions: Sessions, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that was under way caches what it had read before: that goes in the next round. Who never stops is an error."""
    count, client, times = Cache.remaining, sessions.server.client(), [1]

    def rewritten(self: Any, *given: Any) -> int:
        if times[0]:
            times[0] -= 1
            client.set("session:5", "stale")
        return count(self, *given)

    monkeypatch.setattr(Cache, "remaining", rewritten)
    (told,) = revoker.run(WINDOW, STAMPED, **sessions.options)["caches"]
    assert (told["remaining"], told["deleted"], told["error"]) == (0, 90 + 5 + 1, None)
    times[0] = 1000
    with pytest.raises(Unproven, match="1 keys of revoked tokens are there again"):
        revoker.run(WINDOW, STAMPED, **sessions.options)
    # New sessions of a service that goes on are nobody's fault.
    result = revoker.run({"all": True}, STAMPED, **sessions.options)
    assert ["keys were written after all had been deleted" in one for one in result["warnings"]] == [True]


def test_the_sessions_of_azth(system_database: Callable[..., SystemDatabase]) -> None:
    """As it is described: by user and by tenant, with a password, and its one-time codes along with them."""
    made = system_database("azth", rows=200)
    revoker, described = Revoker(made.database if hasattr(made, "database") else made), description_of("azth")
    ((tenant,),) = revoker.sql(
        "SELECT u.tenant_id::text FROM sessions s JOIN users u ON u.id = s.user_id WHERE s.expires_at > now()"
        " GROUP BY 1 ORDER BY count(*) DESC LIMIT 1"
    )
    rows = revoker.sql(
        "SELECT s.id::text, s.user_id::text, u.tenant_id::text, s.expires_at > now() FROM sessions s JOIN users u ON u.id = s.user_id"
    )
    with RedisServer(password="hush") as server:
        client = server.client()
        client.mset({**{f"session:{row[0]}": "x" for row in rows}, **{f"user_sessions:{row[1]}": "x" for row in rows}, "otp:1": "x"})
        options = {"caches": described["caches"], "cache_connection": server.connection}
        result = revoker.run({"tenants": [tenant]}, *described["token_stores"], **options)
        left = {key.decode() for key in client.scan_iter()}
    mine = {f"session:{row[0]}" for row in rows if row[2] == tenant and row[3]} | {
        f"user_sessions:{row[1]}" for row in rows if row[2] == tenant and row[3]
    }
    everything = {f"session:{row[0]}" for row in rows} | {f"user_sessions:{row[1]}" for row in rows} | {"otp:1"}
    assert mine
    assert left == everything - mine
    assert result["remaining"] == 0
    assert "hush" not in json.dumps(result)


# --- an endpoint ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def endpoint(revoker: Revoker) -> Iterator[IntrospectionServer]:
    """The application's own endpoint, which answers from its tables."""

    def is_active(token: str) -> bool:
        return bool(
            revoker.value(
                "SELECT count(*) FROM app.tokens t WHERE token = %s AND expires_at > now()"
                " AND NOT EXISTS (SELECT FROM app.denied d WHERE d.id = t.id)",
                [token],
            )
        )

    with IntrospectionServer(is_active, credentials=("runbook", "hush")) as server:
        yield server


def asking(server: IntrospectionServer) -> dict[str, Any]:
    return {"introspection": {"url": server.url, "client_id": "runbook", "client_secret": "hush", "sample": 4}}


def told(revoker: Revoker, result: Any) -> str:
    """Return everything that leaves the run: what it says, and what its record holds."""
    record = revoker.sql("SELECT t::text FROM pgops_runbook.changed_rows t UNION ALL SELECT t::text FROM pgops_runbook.revocations t")
    return json.dumps(result) + str(record)


def test_the_endpoint_is_asked_and_says_that_it_is_so(revoker: Revoker, endpoint: IntrospectionServer) -> None:
    result = revoker.run(WINDOW, **asking(endpoint))
    assert result["introspection"] == {"asked": 4, "inactive": 4, "still_active": 0, "errors": []}
    assert all(token.startswith("secret-") for token in endpoint.seen)
    assert "secret-" not in told(revoker, result)
    assert "hush" not in told(revoker, result)
    # Nothing was revoked, nothing is asked.
    assert revoker.run(WINDOW, **asking(endpoint))["introspection"]["asked"] == 0


def test_an_endpoint_that_still_takes_them(revoker: Revoker, endpoint: IntrospectionServer) -> None:
    endpoint.instead = Answer(200, b'{"active": true}', {"Content-Type": "application/json"})
    with pytest.raises(
        Unproven, match="77 tokens were revoked, which stands, but: the introspection endpoint calls 4 of 4 revoked"
    ) as caught:
        revoker.run(WINDOW, **asking(endpoint))
    assert "secret-" not in told(revoker, caught.value.as_result())
    assert revoker.accepted() == 0


@pytest.mark.parametrize("how", ["silent", "echo"])
def test_an_endpoint_that_does_not_answer(revoker: Revoker, endpoint: IntrospectionServer, how: str) -> None:
    """Even one that repeats the token in its error page."""
    options = asking(endpoint)
    if how == "silent":
        options["introspection"]["url"] = "http://localhost:1/introspect"
    else:
        endpoint.instead = Answer(500, b"no such token: secret-1")
    with pytest.raises(Unproven, match="77 tokens were revoked, which stands, but: the introspection endpoint did not answer") as caught:
        revoker.run(WINDOW, **options)
    assert "secret-" not in told(revoker, caught.value.as_result())
    assert caught.value.result["introspection"]["asked"] == 3


@pytest.mark.parametrize("check", [True, False])
def test_no_store_says_where_the_token_stands(revoker: Revoker, endpoint: IntrospectionServer, check: bool) -> None:
    before = revoker.content()
    with pytest.raises(InvalidValue, match="in which column the token itself stands"):
        revoker.run(WINDOW, STAMPED, check=check, **asking(endpoint))
    assert revoker.content() == before


# --- much -----------------------------------------------------------------------------------------------------------------

MUCH = """
INSERT INTO app.tokens (id, issued_at, subject) SELECT md5('m' || n)::uuid, timestamptz '2026-01-15 00:00:00Z' + n * interval '1 ms', 'much'
FROM generate_series(1, {rows}) AS n; ANALYZE app.tokens
"""
MEASURED = """
import json, sys
sys.path[:0] = PATH
from ansible_collections.pgops.runbook.plugins.module_utils import _revocation
from ansible_collections.pgops.runbook.plugins.module_utils._connection import ConnectionOptions, connect
given = json.load(sys.stdin)
options = _revocation.read_options(given["options"])
def peak():
    (line,) = [line for line in open("/proc/self/status") if line.startswith("VmHWM")]
    return int(line.split()[1])
with connect(ConnectionOptions.from_params(given["login"]), application_name="pgops.runbook/measured", read_only=False) as session:
    before = peak()
    result = _revocation.run(session, options, check_mode=False)
    print(json.dumps([result["revoked"], peak() - before, len(json.dumps(result))]))
"""


def measured(revoker: Revoker, tmp_path: Path, **options: Any) -> tuple[int, int, int]:
    """Return how many tokens a process of its own has revoked, by how many KiB it grew, and how long the result was."""
    script = tmp_path / "measured.py"
    script.write_text(MEASURED.replace("PATH", repr(sys.path)), encoding="utf-8")
    given = {
        "options": {"token_stores": [with_changes(DENIED, tokens={"renewed_from": None})], "reason": "much", **options},
        "login": revoker.database.login(tcp=False),
    }
    done = subprocess.run([sys.executable, script], input=json.dumps(given), capture_output=True, text=True, check=True)
    revoked, grown, length = json.loads(done.stdout)
    return revoked, grown, length


def test_memory_does_not_grow_with_the_tokens(revoker: Revoker, tmp_path: Path, sessions: Sessions) -> None:
    few = measured(revoker, tmp_path, select=WINDOW, **sessions.options)
    revoker.sql(MUCH.replace("{rows}", "200000"))
    many = measured(revoker, tmp_path, select=WINDOW, **sessions.options)
    assert (few[0], many[0]) == (77, 200_000)
    assert many[1] - few[1] < 24 << 10
    assert many[2] < 5000


def test_a_hundred_thousand_ids(revoker: Revoker) -> None:
    revoker.sql(MUCH.replace("{rows}", "100000"))
    ids = [row[0] for row in revoker.sql("SELECT md5('m' || n)::uuid::text FROM generate_series(1, 100000) AS n")]
    strangers = [row[0] for row in revoker.sql("SELECT md5('x' || n)::uuid::text FROM generate_series(1, 500) AS n")]
    with spending(revoker.database.cluster) as spent:
        result = revoker.run({"ids": [*strangers, *ids]})
    assert spent.seconds < 20
    assert (result["revoked"], result["remaining"], result["not_found"]) == (100_000, 0, 500)
    assert len(json.dumps(result)) < 5000
    ((length,),) = revoker.sql("SELECT max(length(t::text)) FROM pgops_runbook.revocations t")
    assert length < 1000
