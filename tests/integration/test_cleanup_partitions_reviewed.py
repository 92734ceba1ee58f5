"""Partitions of a table that others go on reading, and what a killed run detached under a rule that has changed since."""

from __future__ import annotations

import time

import pytest

from ansible_collections.pgops.runbook.plugins.module_utils import _lock_tries
from ansible_collections.pgops.runbook.plugins.module_utils._cleanup import partition_marks, partitions
from ansible_collections.pgops.runbook.plugins.module_utils._names import parse_relation
from ansible_collections.pgops.runbook.plugins.module_utils._relation import look_up
from ansible_collections.pgops.runbook.plugins.module_utils._time_column import time_column
from tests.integration.cleaning import Cleaner, rule
from tests.integration.partitioning import noted_tries, traffic
from tests.integration.watching import eventually

pytestmark = pytest.mark.any_driver

LOG = """
CREATE TABLE public.log (at timestamptz NOT NULL, id int) PARTITION BY RANGE ({key});
CREATE TABLE public.log_old PARTITION OF public.log FOR VALUES FROM ({first}) TO ({last});
INSERT INTO public.log VALUES ('2020-01-15Z', 1);
"""
BY_TIME = LOG.format(key="at", first="'2020-01-01Z'", last="'2020-02-01Z'")
BY_TIME_AND_ID = LOG.format(key="at, id", first="'2020-01-01Z', 0", last="'2020-02-01Z', 9")
MARKED_WITH = "2020-06-01Z"


def test_readers_do_not_queue_behind_the_lock_for_a_partition(cleaner: Cleaner, monkeypatch: pytest.MonkeyPatch) -> None:
    cleaner.sql(BY_TIME)
    cleaner.sql("CREATE TABLE public.log_rest PARTITION OF public.log DEFAULT")
    with cleaner.database.connect() as report, traffic(cleaner, "SELECT FROM public.log WHERE id = 1") as took:

        def readers_come_by() -> None:
            before = len(took)
            # The first of them may have begun before the pause.
            eventually(lambda: len(took) > before + 1)

        tried = noted_tries(monkeypatch, readers_come_by)
        report.execute("BEGIN")
        report.execute("SELECT count(*) FROM public.log")
        result = cleaner.run([rule("public.log", "at", "1 d", action="drop_partitions")])
        report.execute("ROLLBACK")
    assert result["stopped"] == "locked"
    assert len(tried.waits) == len(tried.pauses) + 1 > 2
    # The server itself ends each wait; and however long a busy machine takes for one, the pause after it is so many times as long.
    assert max(tried.waits) <= 200
    assert all(pause >= 10 * held for held, pause in zip(tried.seconds, tried.pauses, strict=False))
    # Some were held up, or this would show nothing.
    assert len([one for one in took if one > 0.05]) > 2


def test_waits_are_short_and_end_and_pauses_are_long(cleaner: Cleaner, monkeypatch: pytest.MonkeyPatch) -> None:
    passed, pauses = [0.0], []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        passed[0] += seconds

    monkeypatch.setattr(time, "monotonic", lambda: passed[0])
    monkeypatch.setattr(time, "sleep", sleep)
    with cleaner.open() as session:
        waits = []
        for wait in _lock_tries.Tries(session):
            waits.append(wait)
            # The second one waits for two locks, one after the other.
            passed[0] += wait / 1000 * (2 if len(waits) == 2 else 1)
    # Less than the server's deadlock_timeout of a second, after which it would end one of two that wait for each other.
    assert waits[:3] == [100, 150, 200]
    assert set(waits[3:]) == {200}
    assert len(waits) > 8
    assert pauses[:3] == pytest.approx([1.2, 3.6, 2.4])
    assert 27 < passed[0] < 30


def detached(cleaner: Cleaner) -> None:
    """Leave a table that is detached and not dropped, as a run that is killed does."""
    with cleaner.open() as session:
        name = parse_relation("public.log")
        log = look_up(session, [name])[name]
        limit = session.sql.SQL("{}::timestamptz").format(session.sql.Literal(MARKED_WITH))
        (partition,) = partitions.due(session, log, time_column(log, {"column": "at"}, "column"), limit)
        partition_marks.put(session, partition)
        session.execute("ALTER TABLE public.log DETACH PARTITION public.log_old")


def keeping_since(cleaner: Cleaner, day: str) -> dict[str, object]:
    """Return a rule that keeps what is of that day or later."""
    ((seconds,),) = cleaner.sql("SELECT extract(epoch FROM now() - %s::timestamptz)::int8", [day])
    return rule("public.log", "at", f"{seconds} s", action="drop_partitions")


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize("script", [BY_TIME, BY_TIME_AND_ID])
def test_a_leftover_within_a_longer_retention_stays(cleaner: Cleaner, script: str, check: bool) -> None:
    cleaner.sql(script)
    detached(cleaner)
    result = cleaner.run([keeping_since(cleaner, "2020-01-31Z")], check=check)
    assert cleaner.count("public.log_old") == 1
    assert (result["rules"][0]["matched"], result["rules"][0]["protected"], result["rules"][0]["partitions"]) == (0, 0, [])
    (warning,) = result["warnings"]
    assert "public.log_old was detached from public.log by an earlier run and is kept for longer by now: attach it again" in warning


@pytest.mark.parametrize(("script", "day"), [(BY_TIME, "2020-02-02Z"), (BY_TIME_AND_ID, "2020-06-02Z")])
def test_a_leftover_before_the_present_limit_goes(cleaner: Cleaner, script: str, day: str) -> None:
    """Under a rule that keeps rows for longer than the one that marked it, too; where the last time may lie in it, only as marked."""
    cleaner.sql(script)
    detached(cleaner)
    planned, result = (cleaner.run([keeping_since(cleaner, day)], check=check) for check in (True, False))
    assert planned["rules"][0]["partitions"] == result["rules"][0]["partitions"] == ["public.log_old"]
    assert (result["removed"], result["warnings"]) == (1, [])
    assert cleaner.sql("SELECT to_regclass('public.log_old')") == [(None,)]
