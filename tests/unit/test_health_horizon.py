"""How what holds the xmin horizon back is judged: by transaction ids and by time, and what is not known is never young."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.pgops.runbook.plugins.module_utils._health.blocking import Blocking, Root, Waiter
from ansible_collections.pgops.runbook.plugins.module_utils._health.horizon import ASSIGNED, CLOCK, HORIZON, Holder, holders
from ansible_collections.pgops.runbook.plugins.module_utils._health.locks import _action, who
from ansible_collections.pgops.runbook.plugins.module_utils._health.model import Limits
from ansible_collections.pgops.runbook.plugins.module_utils._health.transactions import XMIN, _status

HOUR, DAY = 3600.0, 86400.0
DEFAULT = Limits(XMIN.warning, XMIN.critical)


@pytest.mark.parametrize(
    ("kind", "xids", "seconds", "estimate", "status"),
    [
        ("session", 10**6, 2 * HOUR, None, "ok"),
        ("session", 10**6 + 1, HOUR, None, "ok"),
        ("session", 10**6 + 1, HOUR + 1, None, "warning"),
        ("session", 10**7, HOUR + 1, None, "warning"),
        ("session", 10**7 + 1, 1, None, "critical"),
        ("session", 1, DAY, None, "ok"),
        ("prepared", 1, DAY + 1, None, "critical"),
        # Nobody knows for how long.
        ("slot", 10**6 + 1, None, None, "warning"),
        ("standby", 10**6 + 1, None, None, "warning"),
        ("standby", 10**6, None, None, "ok"),
        # Inactive for a minute, and who knows how long it has held before.
        ("slot", 10**6 + 1, 60, None, "warning"),
        ("slot", 1, DAY + 1, None, "critical"),
        # At this pace it is minutes old, or hours.
        ("standby", 10**6 + 1, None, 600, "ok"),
        ("standby", 10**6 + 1, None, HOUR + 1, "warning"),
        ("slot", 10**6 + 1, HOUR + 1, 600, "warning"),
        # A quiet night makes an estimate of days out of one transaction id.
        ("slot", 1, None, 90 * DAY, "ok"),
    ],
)
def test_ids_and_time(kind: str, xids: int, seconds: float | None, estimate: float | None, status: str) -> None:
    holder = Holder(kind, "name", xids, seconds, hidden=False, catalogue=False, facts={}, estimate=estimate)
    assert _status(DEFAULT, holder) == status


def test_what_is_switched_off_is_off() -> None:
    holder = Holder("slot", "name", 10**9, 30 * DAY, hidden=False, catalogue=False, facts={})
    assert _status(Limits(10**6, None), holder) == "warning"
    assert _status(Limits(None, None), holder) == "ok"


def test_the_pace_of_the_history_tells_how_old_a_slot_may_be() -> None:
    row = {"database": None, "pid": None, "role": None, "state": "active", "what": "physical", "seconds": None, "catalog": None}
    rows = [{**row, "kind": "slot", "name": "far", "transactions": 5000}, {**row, "kind": "session", "name": "a", "transactions": 7000}]
    answers: dict[Any, Any] = {HORIZON: rows, CLOCK: {"next": 10**6}}
    for rate, estimate in (((10.0, 3600.0), 500.0), ((0.0, 3600.0), None), (None, None)):
        history = SimpleNamespace(rate=lambda metric, value, now, rate=rate: rate if (metric, value) == (ASSIGNED, 1e6) else ())
        look: Any = SimpleNamespace(fact=answers.__getitem__, history=history, now=None, details={})
        session, slot = holders(look)
        assert (session.estimate, slot.estimate) == (None, estimate)
        assert [each["kind"] for each in look.details["horizon"]] == ["session", "slot"]


def test_an_autovacuum_at_the_root_is_not_to_be_ended() -> None:
    facts = {"pid": 7, "user": None, "database": "app", "application": "", "state": "active", "what": "autovacuum worker"}
    waiter = Waiter("relation", "AccessExclusiveLock", 5.0, exact=True, counts=True, relation="public.t", blockers={7})
    found = Blocking({9: waiter}, [Root(facts, {9: waiter}, None)], 0)
    assert who(facts) == "process 7 of the server in app, autovacuum worker"
    assert "pg_terminate_backend" not in str(_action(found))
    assert "wraparound" in str(_action(found))
