"""What a real Redis refuses, or does not live to answer: the message says what it was and what to do, and a second run is safe."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pgops.runbook.plugins.module_utils._cache import CacheError, open_cache, read_connection
from tests.ground.certificates import Authority
from tests.ground.cluster import ServerCertificate
from tests.ground.front import Front
from tests.ground.ports import free_port
from tests.ground.redis import RedisServer
from tests.integration.children import until

SECRET = "hunter2"
USERS = (
    f"nothing on >{SECRET} ~*",
    f"reader on >{SECRET} ~* +exists +scan",
    f"no_scan on >{SECRET} ~* +unlink +exists",
    f"no_exists on >{SECRET} ~* +unlink +scan",
    f"elsewhere on >{SECRET} ~other:* +@all",
    f"off_duty off >{SECRET} ~* +@all",
)


@pytest.fixture(scope="module")
def guarded() -> Iterator[RedisServer]:
    with RedisServer(password=SECRET, users=USERS) as running:
        yield running


def refused(*keys: str, whole: bool = False, **connection: Any) -> CacheError:
    """Return why a cache with these keys cannot be opened."""
    with pytest.raises(CacheError) as caught:
        open_cache({"keys": list(keys or ("session:{id}",))}, read_connection(connection), whole=whole).close()
    told = str(caught.value.as_result())
    assert SECRET not in told
    assert (connection["host"] if connection["host"].startswith("/") else f"{connection['host']}:{connection['port']}") in told
    return caught.value


def test_nobody_listens() -> None:
    error = refused(host="127.0.0.1", port=free_port())
    assert (error.reason, error.message.endswith("refused the connection")) == ("refused", True)


def test_no_such_name() -> None:
    assert refused(host="cache.invalid", port=6379).reason == "name"


def test_no_such_socket(tmp_path: Path) -> None:
    assert "is the path of its socket" in str(refused(host=f"{tmp_path}/redis.sock").hint)


def test_a_silent_server(guarded: RedisServer) -> None:
    with guarded.paused():
        error = refused(**{**guarded.connection, "timeout": "200 ms"})
    assert error.reason == "timeout"
    assert "within 0.2 s" in error.message


@pytest.mark.parametrize(
    ("login", "words"),
    [
        ({"password": ""}, "wants a password for the default user"),
        ({"password": "guess"}, "refused the login of the default user"),
        ({"username": "reader", "password": "guess"}, "refused the login of the user reader"),
        ({"username": "nobody"}, "refused the login of the user nobody"),
        ({"username": "off_duty"}, "refused the login of the user off_duty"),
    ],
)
def test_a_login_that_is_refused(guarded: RedisServer, login: dict[str, str], words: str) -> None:
    error = refused(**{**guarded.connection, **login})
    assert error.reason == "login"
    assert words in error.message
    assert "guess" not in str(error.as_result())


@pytest.mark.parametrize(
    ("user", "words"),
    [
        ("nothing", "does not let the user nothing use UNLINK"),
        ("reader", "does not let the user reader use UNLINK"),
        ("no_scan", "does not let the user no_scan use SCAN"),
        ("no_exists", "does not let the user no_exists use EXISTS"),
        ("elsewhere", "does not let the user elsewhere use UNLINK on the keys of sessions"),
    ],
)
def test_a_user_who_lacks_a_permission(guarded: RedisServer, user: str, words: str) -> None:
    error = refused("session:{id}:*", **{**guarded.connection, "username": user})
    assert error.reason == "permission"
    assert words in error.message
    assert f"ACL SETUSER {user} " in str(error.hint)


def test_a_password_that_the_server_does_not_ask_for() -> None:
    with RedisServer() as free:
        assert refused(**free.connection, password=SECRET).reason == "login"


def test_tls_that_does_not_hold(tmp_path: Path, guarded: RedisServer) -> None:
    (tmp_path / "others").mkdir()
    ours, others = Authority.create(tmp_path, "ours"), Authority.create(tmp_path / "others", "others")
    certificate = ours.issue("server")
    front = Front((guarded.host, guarded.port), ServerCertificate(*certificate))
    picky = Front((guarded.host, guarded.port), ServerCertificate(*certificate, ours.file))
    try:
        given = {"port": front.port, "password": SECRET, "timeout": "5 s"}
        assert "authority that signed" in str(refused(host="localhost", **given, tls=True).hint)
        assert "authority that signed" in str(refused(host="localhost", **given, ca_cert=str(others.file)).hint)
        assert refused(host="127.0.0.1", **given, ca_cert=str(ours.file)).reason == "tls"
        error = refused(host="localhost", **{**given, "port": picky.port}, ca_cert=str(ours.file))
        assert error.reason in ("tls", "lost")
        # A port that does not speak TLS, and one that speaks nothing else.
        error = refused(host="localhost", **{**given, "port": guarded.port, "timeout": "1 s"}, ca_cert=str(ours.file))
        assert "speaks TLS on this port" in str(error.hint)
        assert "may want TLS" in str(refused(host="localhost", **given).hint)
    finally:
        front.close()
        picky.close()


def test_a_read_only_replica() -> None:
    with RedisServer() as primary, RedisServer({"replicaof": f"127.0.0.1 {primary.port}"}) as replica:
        error = refused(**replica.connection)
    assert error.reason == "read_only"
    assert "Give the address of the primary." in error.as_result()["msg"]


def test_a_server_that_cannot_save() -> None:
    with RedisServer({"save": "3600 1000000"}) as full:
        # Where its file belongs there is a folder, which no account can write over.
        (full.folder / "dump.rdb").mkdir()
        full.client().bgsave()
        until(lambda: full.client().info("persistence")["rdb_last_bgsave_status"] == "err")
        error = refused(**full.connection)
    assert error.reason == "not_saving"
    assert "MISCONF" in error.message


def test_a_server_that_is_still_loading() -> None:
    with RedisServer({"appendonly": "yes"}) as slow:
        # It answers after every two megabytes that it has read.
        slow.client().mset({f"session:{number}": os.urandom(100_000) for number in range(200)})
        slow.client().bgrewriteaof()
        until(lambda: not slow.client().info("persistence")["aof_rewrite_in_progress"])
        slow.kill()
        slow.settings.update({"key-load-delay": "20000"})
        slow.start(loading=True)
        error = refused(**slow.connection)
    assert error.reason == "loading"
    assert "still loading" in error.message


def test_a_cluster_is_not_supported() -> None:
    with RedisServer({"cluster-enabled": "yes"}) as node:
        # First with no slots, then with all of them: a single node answers for every key, and its cluster may grow.
        assert refused(**node.connection).reason == "cluster"
        node.client().execute_command("CLUSTER", "ADDSLOTS", *range(16384))
        until(lambda: b"cluster_state:ok" in node.client().execute_command("CLUSTER", "INFO"))
        assert refused(**node.connection).reason == "cluster"


def test_a_server_that_dies_in_the_middle_and_comes_back() -> None:
    many = 50_000
    with RedisServer({"appendonly": "yes", "appendfsync": "always"}) as mortal:
        mortal.client().mset({f"session:{number}": "x" for number in range(many)})

        def rows() -> Iterator[dict[str, int]]:
            for number in range(many):
                if number == 35_000:
                    mortal.kill()
                yield {"id": number}

        with open_cache({"keys": ["session:{id}"]}, read_connection(mortal.connection)) as cache:
            with pytest.raises(CacheError) as caught:
                cache.forget(rows())
            assert caught.value.deleted == 30_000
            assert "after 30000 keys had been deleted" in caught.value.message
            assert caught.value.as_result()["deleted"] == 30_000
            assert "Deleting again is safe." in caught.value.as_result()["msg"]
            mortal.start()
            assert cache.remaining({"id": number} for number in range(many)) == 20_000
            assert cache.forget({"id": number} for number in range(many)).found == 20_000
            assert cache.forget({"id": number} for number in range(many)).found == 0


def test_a_connection_that_is_cut_in_the_middle() -> None:
    many = 50_000
    with RedisServer() as server:
        server.client().mset({f"session:{number}": "x" for number in range(many)})
        # Enough for the answers to the questions at the start and to a few deletions of a hundred keys each.
        front = Front((server.host, server.port), cut_after=1000)
        try:
            connection = read_connection({**server.connection, "port": front.port})
            with open_cache({"keys": ["session:{id}"]}, connection) as cache, pytest.raises(CacheError) as caught:
                cache.forget({"id": number} for number in range(many))
        finally:
            front.close()
        assert caught.value.reason == "lost"
        gone = many - server.client().dbsize()
        # What the server did and could not tell any more is not counted.
        assert caught.value.deleted is not None
        assert 0 <= caught.value.deleted <= gone < many
        with open_cache({"keys": ["session:{id}"]}, read_connection(server.connection)) as cache:
            assert cache.forget({"id": number} for number in range(many)).found == many - gone


def test_a_server_that_turns_into_a_replica_in_the_middle() -> None:
    with RedisServer() as primary:
        primary.client().mset({f"session:{number}": "x" for number in range(30_000)})

        def rows() -> Iterator[dict[str, int]]:
            for number in range(30_000):
                if number == 15_000:
                    primary.client().replicaof("127.0.0.1", free_port())
                yield {"id": number}

        with open_cache({"keys": ["session:{id}"]}, read_connection(primary.connection)) as cache, pytest.raises(CacheError) as caught:
            cache.forget(rows())
        assert (caught.value.reason, caught.value.deleted) == ("read_only", 10_000)
