"""The caches of a system, on real servers of Redis: what is wrong with one is found, what cannot be asked is unknown."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ansible_collections.pgops.runbook.plugins.module_utils import _health
from ansible_collections.pgops.runbook.plugins.module_utils._connection import connect
from ansible_collections.pgops.runbook.plugins.module_utils._health import caches
from ansible_collections.pgops.runbook.plugins.module_utils._health.look import Look
from ansible_collections.pgops.runbook.plugins.module_utils._health.model import Limits
from tests.ground.databases import Database
from tests.ground.redis import RedisServer
from tests.integration.watching import eventually, finding, look, options, status_of

pytestmark = pytest.mark.any_driver
PASSWORD = "s3cret-of-redis"
DECLARED: dict[str, Any] = {
    "engine": "redis",
    "keys": ["session:{id}"],
    "password_required": True,
    "max_memory": "64 MB",
    "eviction": "allkeys-lru",
    "save": [{"after": "900 s", "changes": 1}],
    "disabled_commands": ["FLUSHDB", "FLUSHALL"],
}
WELL = {
    "maxmemory": "64mb",
    "maxmemory-policy": "allkeys-lru",
    "save": "900 1",
    "rename-command FLUSHALL": '""',
    "rename-command FLUSHDB": '""',
}
ALL = [check.id for check in caches.CHECKS]


@pytest.fixture(scope="module")
def well() -> Iterator[RedisServer]:
    with RedisServer(WELL, password=PASSWORD) as server:
        yield server


@pytest.fixture(scope="module")
def bare() -> Iterator[RedisServer]:
    """A server as it comes, that anybody may use."""
    with RedisServer() as server:
        yield server


def watch(database: Database, server: RedisServer, cache: dict[str, Any] | None = None, **connection: Any) -> dict[str, Any]:
    system = {"name": "shop", "schemas": ["public"], "caches": [cache or DECLARED]}
    return look(database, "daily", checks=["redis"], system=system, cache_connection={**server.connection, **connection})


def test_a_cache_as_declared_is_well(database: Database, well: RedisServer) -> None:
    result = watch(database, well)
    assert {check: status_of(result, check) for check in ALL} == dict.fromkeys(ALL, "ok")
    assert result["metrics"][f"redis.max_bytes[127.0.0.1:{well.port}]"] == 64 * 1024**2
    assert 0 < result["metrics"][f"redis.memory[127.0.0.1:{well.port}]"] < 80
    assert PASSWORD not in str(result)


def test_a_cache_as_it_comes_is_not(database: Database, bare: RedisServer) -> None:
    place = f"127.0.0.1:{bare.port}"
    result = watch(database, bare)
    found = {each["check"]: each for each in result["findings"]}
    assert {check: each["severity"] for check, each in found.items()} == {
        "redis.memory": "warning",
        "redis.policy": "warning",
        "redis.password": "critical",
        "redis.commands": "warning",
        "redis.persistence": "warning",
    }
    assert "no limit" in found["redis.memory"]["message"]
    assert found["redis.policy"]["message"] == "drops by noeviction, declared is allkeys-lru; its limit is none, declared is 64 MB"
    assert found["redis.commands"]["value"] == 2
    assert found["redis.persistence"]["message"] == "saves never, declared is 900 1"
    assert {each["object"] for each in found.values()} == {place}
    # What nobody declares is not asked for; that everybody may read is told all the same.
    found = {each["check"]: each for each in watch(database, bare, {"engine": "redis"})["findings"]}
    assert {check: each["severity"] for check, each in found.items()} == {"redis.memory": "warning", "redis.password": "warning"}


def test_memory_near_its_limit(database: Database) -> None:
    with RedisServer({"maxmemory": "20mb", "maxmemory-policy": "noeviction"}) as server:
        client = server.client()
        while client.info()["used_memory"] < 17 * 1024**2:
            client.set(f"k{client.dbsize()}", b"x" * 200_000)
        found = finding(watch(database, server, {"engine": "redis"}), f"redis.memory[127.0.0.1:{server.port}]")
        assert (found["severity"], 80 < found["value"] < 95) == ("warning", True)


def test_a_cache_that_is_gone_is_critical_once(database: Database) -> None:
    with RedisServer() as server:
        connection = server.connection
        place = f"127.0.0.1:{server.port}"
    system = {"name": "shop", "caches": [DECLARED]}
    result = look(database, "daily", checks=["redis"], system=system, cache_connection=connection)
    assert [found["key"] for found in result["findings"]] == [f"redis.reachable[{place}]"]
    assert result["findings"][0]["severity"] == "critical"
    assert set(result["unknown"]) == set(ALL) - {"redis.reachable"}


def test_a_cache_of_which_nobody_said_where_it_is_is_unknown(database: Database) -> None:
    result = look(database, "daily", checks=["redis"], system={"name": "shop", "caches": [DECLARED]})
    assert set(result["unknown"]) == set(ALL)
    assert "cache_connection" in finding(result, "redis.reachable[cache]")["action"]


def test_a_wrong_password_is_told_and_not_shown(database: Database, well: RedisServer) -> None:
    result = watch(database, well, password="wr0ng-of-redis")
    assert finding(result, f"redis.reachable[127.0.0.1:{well.port}]")["severity"] == "critical"
    assert "wr0ng-of-redis" not in str(result)


def test_what_the_user_may_not_ask_is_unknown(database: Database) -> None:
    users = ("watcher on >watch-it +ping +info",)
    with RedisServer(WELL, password=PASSWORD, users=users) as server:
        result = watch(database, server, username="watcher", password="watch-it")
        assert {check for check in ALL if status_of(result, check) == "unknown"} == {"redis.policy", "redis.commands", "redis.persistence"}
        assert "ACL SETUSER watcher +config" in finding(result, f"redis.policy[127.0.0.1:{server.port}]")["action"]
        assert {status_of(result, check) for check in ("redis.memory", "redis.password", "redis.reachable")} == {"ok"}


def test_a_save_that_failed_is_critical(database: Database) -> None:
    with RedisServer({"maxmemory": "64mb", "save": "900 1"}) as server:
        client = server.client()
        client.set("a", 1)
        client.config_set("dbfilename", "dump.rdb")
        target = server.folder / "nowhere"
        target.mkdir()
        target.chmod(0o777)
        client.config_set("dir", str(target))
        # Its folder goes away under it.
        target.rename(server.folder / "elsewhere")
        (server.folder / "elsewhere").rmdir()
        client.bgsave()
        eventually(lambda: client.info()["rdb_last_bgsave_status"] == "err")
        found = finding(watch(database, server), f"redis.persistence[127.0.0.1:{server.port}]")
        assert found["severity"] == "critical"


def test_changes_that_wait_for_long_are_told(database: Database, well: RedisServer) -> None:
    well.client().set("a", 1)
    with connect(options(database), application_name="pgops.runbook/pg_health", read_only=True) as session:
        system = {"caches": [{**DECLARED, "max_memory_bytes": 64 * 1024**2, "save": [{"after_seconds": 900.0, "changes": 1}]}]}
        seen = Look(session, system, _health.Expected(caches=well.connection))
        seen.now = datetime.now(UTC) + timedelta(minutes=31)
        (reading,) = caches.CHECKS[-1].run(seen, Limits())
    assert (reading.status, "not saved for 3" in reading.message) == ("warning", True)


def test_keys_that_were_dropped_are_counted(database: Database) -> None:
    with RedisServer({"maxmemory": "3mb", "maxmemory-policy": "allkeys-lru"}) as server:
        client = server.client()
        for number in range(400):
            client.set(f"k{number}", b"x" * 10_000)
        result = watch(database, server, {"engine": "redis"})
        place = f"127.0.0.1:{server.port}"
        assert result["metrics"][f"redis.evictions_total[{place}]"] > 0
        # When they were dropped, nobody knows yet.
        assert status_of(result, "redis.evictions") == "ok"
