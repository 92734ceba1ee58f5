"""What limits a throttle takes, and the arithmetic behind two of them."""

from __future__ import annotations

import re
from typing import Any

import pytest

from ansible_collections.pgops.runbook.plugins.module_utils._cleanup import throttle_archive, throttle_replicas, throttle_sessions
from ansible_collections.pgops.runbook.plugins.module_utils._cleanup.throttle import Limits, Throttle, read_limits
from ansible_collections.pgops.runbook.plugins.module_utils._cleanup.throttle_replicas import WalHistory
from ansible_collections.pgops.runbook.plugins.module_utils._system.faults import Faults
from ansible_collections.pgops.runbook.plugins.module_utils._wal_position import segment_number, wal_bytes

MB = 1 << 20


def read(**written: Any) -> Limits:
    faults = Faults()
    limits = read_limits(written, faults)
    assert faults.found == []
    return limits


def test_what_is_left_out_has_its_default() -> None:
    assert read() == Limits(replica_lag=30.0, oldest_transaction=3600.0, archive_backlog=64, blocked_sessions=5, max_pause=300.0)
    assert read(replica_lag="", blocked_sessions="") == Limits()


def test_limits_are_read() -> None:
    written = {"replica_lag": "200 ms", "oldest_transaction": 90, "archive_backlog": "7", "blocked_sessions": 0, "max_pause": "2 h"}
    assert read(**written) == Limits(0.2, 90.0, 7, 0, 7200.0)


@pytest.mark.parametrize("off", [None, False, "off", "Off ", "no", "False"])
@pytest.mark.parametrize("name", ["replica_lag", "oldest_transaction", "archive_backlog", "blocked_sessions", "max_pause"])
def test_each_can_be_switched_off(name: str, off: Any) -> None:
    limits = read(**{name: off})
    assert getattr(limits, name) is None
    assert [getattr(limits, other) for other in vars(limits) if other != name and getattr(limits, other) is None] == []


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ({"replica_lag": "a while"}, "throttle.replica_lag: 'a while' is not a duration"),
        ({"replica_lag": True}, "throttle.replica_lag: True is not a duration"),
        ({"oldest_transaction": -1}, "throttle.oldest_transaction: -1 is not a duration"),
        ({"max_pause": []}, "throttle.max_pause: [] is not a duration"),
        ({"archive_backlog": 1.5}, "throttle.archive_backlog: 1.5 is not a whole number from 0 up"),
        ({"archive_backlog": "1 GB"}, "throttle.archive_backlog: '1 GB' is not a whole number from 0 up"),
        ({"blocked_sessions": -1}, "throttle.blocked_sessions: -1 is not a whole number from 0 up"),
        ({"blocked_sessions": True}, "throttle.blocked_sessions: True is not a whole number from 0 up"),
        ({"replica_log": 1}, "throttle.replica_log: unknown key, did you mean replica_lag?"),
        (["off"], "throttle: ['off'] is not a mapping with replica_lag, oldest_transaction"),
    ],
)
def test_a_wrong_limit_is_named(written: Any, said: str) -> None:
    faults = Faults()
    read_limits(written, faults)
    (fault,) = faults.found
    assert fault.startswith(said)
    assert "off" in fault or "allowed" in fault or "mapping" in fault


def test_without_limits_nothing_is_asked() -> None:
    class Untouched:
        in_transaction = False

    throttle = Throttle(read(replica_lag="off", oldest_transaction="off", archive_backlog="off", blocked_sessions="off"))
    assert throttle.wait(Untouched(), lambda: False)
    assert (throttle.paused_seconds, throttle.reasons, throttle.unknown) == (0.0, [], [])


@pytest.mark.parametrize(
    ("name", "size", "number"),
    [
        ("000000010000000000000001", 16 * MB, 1),
        ("0000000A00000001000000FF", 16 * MB, 511),
        ("000000010000000200000003", 1024 * MB, 11),
        ("00000001000000010000000F", 1 * MB, 4096 + 15),
        ("00000002.history", 16 * MB, None),
        ("000000010000000000000003.00000028.backup", 16 * MB, None),
        ("000000010000000000000003.partial", 16 * MB, None),
        ("", 16 * MB, None),
        (None, 16 * MB, None),
    ],
)
def test_segments_are_numbered(name: str | None, size: int, number: int | None) -> None:
    assert segment_number(name, size) == number


def test_a_position_in_the_wal() -> None:
    assert wal_bytes("0/16B3740") == 0x16B3740
    assert wal_bytes("A/FF000000") == 0xAFF000000


def test_who_has_all_of_the_wal_is_never_late() -> None:
    history = WalHistory()
    history.note(0.0, 100)
    assert history.lag(0.0, 100, None) == 0.0
    history.note(500.0, 100)
    assert history.lag(500.0, 100, said=400.0) == 0.0
    assert history.lag(500.0, 130, said=400.0) == 0.0


def test_lag_counts_from_when_the_wal_was_there() -> None:
    history = WalHistory()
    for at, position in ((0.0, 100), (10.0, 100), (11.0, 200), (20.0, 200), (30.0, 300)):
        history.note(at, position)
    # What is between 100 and 200 was written from second 10 to 11.
    assert history.lag(30.0, 100, None) == 19.0
    assert history.lag(30.0, 150, None) == 19.0
    assert history.lag(30.0, 200, None) == 0.0
    assert history.lag(35.0, 200, None) == 5.0


def test_what_the_server_says_is_believed_within_bounds() -> None:
    history = WalHistory()
    for at, position in ((10.0, 100), (11.0, 200), (30.0, 300)):
        history.note(at, position)
    assert history.lag(30.0, 100, said=19.5) == 19.5
    assert history.lag(30.0, 100, said=0.001) == 19.0
    assert history.lag(30.0, 100, said=600.0) == 20.0
    # Behind all that was ever seen: only the server knows.
    assert history.lag(30.0, 50, said=600.0) == 600.0
    assert history.lag(30.0, 50, None) == 20.0


def test_a_long_run_is_remembered_in_bounded_room() -> None:
    history = WalHistory()
    for number in range(20_000):
        history.note(number * 0.25, number)
    assert len(history._positions) <= 2000
    assert history.lag(5000.0, -1, None) == 5000.0
    for taken in (100, 5000, 19_000, 19_990):
        exact = 5000.0 - (taken + 1) * 0.25
        assert exact * 0.5 - 1 <= history.lag(5000.0, taken, None) <= exact


def test_what_all_have_taken_is_forgotten() -> None:
    history = WalHistory()
    for number in range(1000):
        history.note(float(number), number)
    before = [history.lag(1000.0, taken, said) for taken in (990, 995, 999) for said in (None, 500.0)]
    history.forget(990)
    assert len(history._positions) == 10
    assert [history.lag(1000.0, taken, said) for taken in (990, 995, 999) for said in (None, 500.0)] == before
    history.forget(5000)
    history.forget(-1)
    assert history._positions == [999]


STATEMENTS = [
    (name, text)
    for module in (throttle_archive, throttle_replicas, throttle_sessions)
    for name, text in vars(module).items()
    if name.isupper() and isinstance(text, str) and "pg_catalog." in text
]


@pytest.mark.parametrize(("name", "text"), STATEMENTS, ids=[name for name, text in STATEMENTS])
def test_a_statement_names_the_schema_of_all_that_it_uses(name: str, text: str) -> None:
    """The search_path of a run begins with the server's own schema, but the nearest types would win against it."""
    bare = re.sub(r"'[^']*'", "''", text)
    called = set(re.findall(r"(?<![.\w])([a-z_]+)\(", bare))
    assert called <= {"coalesce"}
    operators = re.findall(r"[=<>~+*/-]+", re.sub(r"OPERATOR\(pg_catalog\.[^)]*\)|\(\*\)", "", bare))
    assert operators == []
    assert re.findall(r"(?:FROM|JOIN) (?!pg_catalog\.)[a-z]", bare) == []


def test_there_are_statements() -> None:
    assert len(STATEMENTS) >= 6
