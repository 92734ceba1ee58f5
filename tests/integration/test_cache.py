"""Sessions in a real Redis: those of revoked tokens go, all others stay, for any number of tokens and any id."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pgops.runbook.plugins.module_utils._cache import Cache, cache, open_cache, read_connection
from ansible_collections.pgops.runbook.plugins.module_utils._errors import InvalidValue
from tests.ground.certificates import Authority
from tests.ground.cluster import ServerCertificate
from tests.ground.redis import RedisServer

KEYS = ("session:{id}", "user_sessions:{user_id}")
HOSTILE = ["*", "?", "[a-z]", "\\", "a*", "\\*", "{id}", "x\ny", "a b", "\u00e4", "'; FLUSHALL", "\x00", "*:*", "]["]

Opener = Callable[..., Cache]


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer() as running:
        yield running


@pytest.fixture
def opened(server: RedisServer) -> Iterator[Opener]:
    """A function `(*keys, other_keys=(), whole=False, **connection)` that opens the empty server."""
    server.client().flushall()
    made: list[Cache] = []

    def make(*keys: str, other_keys: tuple[str, ...] = (), whole: bool = False, **connection: Any) -> Cache:
        entry = {"engine": "redis", "keys": list(keys), "other_keys": list(other_keys)}
        made.append(open_cache(entry, read_connection({**server.connection, **connection}), whole=whole))
        return made[-1]

    yield make
    for one in made:
        one.close()


def fill(server: RedisServer, *keys: str) -> None:
    server.client().mset(dict.fromkeys(keys, "x"))


def left(server: RedisServer, database: int = 0) -> set[str]:
    return {key.decode() for key in server.client(db=database).scan_iter(count=10_000)}


@contextmanager
def peak_of_memory() -> Iterator[Callable[[], int]]:
    """Give a function that returns by how many bytes this process has grown at the most since the start of the block."""

    def now(name: str) -> int:
        (line,) = (line for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines() if line.startswith(name))
        return int(line.split()[1]) * 1024

    gc.collect()
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak begins anew
    before = now("VmRSS:")
    yield lambda: now("VmHWM:") - before


def test_sessions_of_these_tokens_go_and_all_others_stay(server: RedisServer, opened: Opener) -> None:
    fill(server, "session:a", "session:b", "session:ab", "user_sessions:1", "user_sessions:2", "otp:a", "cache:session:a")
    # Not every value is text, and not every key has one type.
    server.client().sadd("user_sessions:3", "x")
    server.client().hset("session:c", "name", "x")
    one = opened(*KEYS, other_keys=("otp:*", "cache:*"))
    rows = [{"id": "a", "user_id": 1}, {"id": "c", "user_id": 3}, {"id": "none", "user_id": None}, {"id": "a", "user_id": 1}]
    assert one.remaining(rows) == 4
    counts = one.forget(iter(rows))
    assert counts.as_result() == {"rows": 4, "asked": 5, "deleted": 4, "scanned": 0, "kept": 0}
    assert one.remaining(rows) == 0
    assert left(server) == {"session:b", "session:ab", "user_sessions:2", "otp:a", "cache:session:a"}
    assert one.forget(rows).found == 0


def test_patterns_take_the_keys_of_their_tokens_only(server: RedisServer, opened: Opener) -> None:
    fill(server, "session:a", "session:a:1", "session:a:b:2", "session:ab:1", "session:b:1", "session:c:1", "tenant:t:1:x", "tenant:u:1:x")
    one = opened("session:{id}", "session:{id}:*", "tenant:{tenant_id}:*:x")
    rows = [{"id": "a", "tenant_id": "t"}, {"id": "b", "tenant_id": None}]
    assert one.remaining(rows) == 5
    counts = one.forget(rows)
    assert (counts.found, counts.kept) == (5, 0)
    assert left(server) == {"session:ab:1", "session:c:1", "tenant:u:1:x"}
    assert one.remaining(rows) == 0


@pytest.mark.parametrize("hostile", HOSTILE)
def test_no_id_widens_what_goes(server: RedisServer, opened: Opener, hostile: str) -> None:
    others = {f"session:{name}" for name in ("1", "a", "ab", "\\\\", "1:x", "z:x")} | {f"session:q{hostile}", f"session:{hostile}q"}
    mine = {f"session:{hostile}", f"session:{hostile}:x"}
    fill(server, *others, *mine)
    one = opened("session:{id}", "session:{id}:*")
    rows = [{"id": hostile}]
    assert one.remaining(rows) == 2
    assert one.forget(rows).found == 2
    assert left(server) == others - mine
    # Beside another token the pattern is the common one, and the keys are told apart here.
    fill(server, *others, *mine)
    assert one.forget([*rows, {"id": "of nobody"}]).found == 2
    assert left(server) == others - mine


def test_all_sessions_go_and_other_keys_stay(server: RedisServer, opened: Opener) -> None:
    stay = {"otp:1", "cache:x", "xsession:1", "session", "session:config:main"}
    fill(server, *stay, *(f"session:{number}" for number in range(12_345)), "user_sessions:1", "user_sessions:*")
    one = opened(*KEYS, other_keys=("otp:*", "cache:*", "session:config:*"), whole=True)
    assert one.remaining() == 12_347
    counts = one.forget_all()
    assert (counts.found, counts.kept) == (12_347, 1)
    assert counts.scanned >= 12_348
    assert left(server) == stay
    assert one.remaining() == 0
    assert one.forget_all().found == 0


def test_only_the_database_that_is_named_is_touched(server: RedisServer, opened: Opener) -> None:
    fill(server, "session:a")
    server.client(db=3).set("session:a", "x")
    assert opened(*KEYS, database=3).forget([{"id": "a"}]).found == 1
    assert (left(server), left(server, 3)) == ({"session:a"}, set())


def test_a_key_that_is_the_same_for_all_goes_with_any_token(server: RedisServer, opened: Opener) -> None:
    fill(server, "revoked-list", "other")
    one = opened("revoked-list")
    assert one.forget([]).found == 0
    assert one.forget([{"id": "a"}, {"id": "b"}]).found == 1
    assert left(server) == {"other"}


def test_many_tokens_take_little_memory(server: RedisServer, opened: Opener) -> None:
    many = 200_000
    client = server.client()
    for start in range(0, many, 20_000):
        client.mset({f"session:{number:032x}": "x" for number in range(start, start + 20_000)})
    fill(server, "session:stays", "other")
    rows = ({"id": f"{number:032x}", "user_id": number % 1000} for number in range(many))
    one = opened(*KEYS)
    with peak_of_memory() as grown:
        counts = one.forget(rows)
    assert (counts.rows, counts.found) == (many, many)
    assert left(server) == {"session:stays", "other"}
    assert grown() < 24 << 20


def test_patterns_of_many_tokens_go_over_the_keys_a_few_times(server: RedisServer, opened: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "TOKENS_PER_PASS", 5000)
    many = 20_000
    server.client().mset({f"session:{number:032x}:{part}": "x" for number in range(2 * many) for part in "ab"})
    one = opened("session:{id}:*")
    before = server.client().info("commandstats")["cmdstat_scan"]["calls"]
    with peak_of_memory() as grown:
        counts = one.forget({"id": f"{number:032x}"} for number in range(many))
    scans = server.client().info("commandstats")["cmdstat_scan"]["calls"] - before
    assert (counts.found, len(left(server))) == (2 * many, 2 * many)
    # Four times over at most 80,000 keys, in steps of 5,000, and not once for each token.
    assert 4 * 8 <= scans <= 5 * 17
    assert grown() < 24 << 20


def test_the_server_is_asked_for_nothing_but_these_commands(server: RedisServer, opened: Opener) -> None:
    fill(server, "session:a", "session:a:x")
    server.client().config_resetstat()
    one = opened("session:{id}", "session:{id}:*", whole=True)
    one.forget([{"id": "a"}])
    one.forget_all()
    assert one.remaining() == 0
    asked = {name.partition("_")[2] for name in server.client().info("commandstats")}
    assert asked - {"info", "client", "client|setinfo", "config", "config|resetstat"} == {"unlink", "exists", "scan"}


def test_a_server_without_unlink_is_asked_to_delete() -> None:
    with RedisServer({"rename-command": 'UNLINK ""'}) as older:
        fill(older, "session:a", "session:b")
        with open_cache({"keys": list(KEYS)}, read_connection(older.connection)) as one:
            assert one.command == "DEL"
            assert one.forget([{"id": "a"}]).found == 1
        assert left(older) == {"session:b"}


def test_a_socket_will_do(server: RedisServer, opened: Opener) -> None:
    fill(server, "session:a")
    assert opened(*KEYS, host=str(server.socket)).forget([{"id": "a"}]).found == 1


def test_a_connection_that_was_closed_while_nothing_was_asked_is_made_anew(server: RedisServer, opened: Opener) -> None:
    fill(server, "session:a")
    one = opened(*KEYS)
    server.client().client_kill_filter(_type="normal", skipme=True)
    assert one.forget([{"id": "a"}]).found == 1


def test_passwords_and_users() -> None:
    rules = ["remover on >s3cret ~session:* +unlink +exists +scan", "free on nopass ~* +@all"]
    with RedisServer(password="hunter2", users=rules) as guarded:
        for login in ({"password": "hunter2"}, {"username": "remover", "password": "s3cret"}, {"username": "free", "password": None}):
            fill(guarded, "session:a", "session:b:1")
            connection = read_connection({**guarded.connection, **login})
            with open_cache({"keys": ["session:{id}", "session:{id}:*"]}, connection, whole=True) as one:
                assert one.forget([{"id": "a"}, {"id": "b"}]).found == 2


def test_tls_with_and_without_a_client_certificate(tmp_path: Any) -> None:
    authority = Authority.create(tmp_path, "ours")
    certificate, key = authority.issue("client")
    given = {"host": "localhost", "ca_cert": str(authority.file), "password": "hunter2"}
    for asked, more in ((None, {}), (authority.file, {"cert": str(certificate), "key": str(key)})):
        with RedisServer(password="hunter2", tls=ServerCertificate(*authority.issue("server"), asked)) as guarded:
            guarded.client().mset({f"session:{number}": "x" for number in range(30_000)})
            connection = read_connection({**given, **more, "port": guarded.tls_port})
            with open_cache({"keys": list(KEYS)}, connection, whole=True) as one:
                assert one.forget({"id": number} for number in range(10_000)).found == 10_000
                assert one.forget_all().found == 20_000


def test_wrong_templates_are_named_before_the_server_is_asked() -> None:
    with pytest.raises(InvalidValue, match=r"session:\{token\}"):
        open_cache({"keys": ["session:{token}"]}, read_connection({"host": "nowhere.invalid"}))
