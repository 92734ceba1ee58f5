"""Limits before which an application accepts nothing: raised for what they are about, and put back as they were."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

import pytest

from ansible_collections.pgops.runbook.plugins.module_utils._errors import InvalidValue
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.report import Unproven
from tests.ground.databases import Database
from tests.integration.hindering import with_changes
from tests.integration.revoking import Trial

TABLES = """
CREATE TABLE realm (name text, not_before {kind});
CREATE TABLE users (id int PRIMARY KEY, not_before {kind});
CREATE TABLE clients (id text PRIMARY KEY, not_before {kind});
CREATE TABLE tokens (id int PRIMARY KEY, user_id int, client text, at timestamptz, expires_at timestamptz);
INSERT INTO realm VALUES ('main', NULL);
INSERT INTO users SELECT n, CASE WHEN n > 1 THEN {early} END FROM generate_series(1, 3) n;
INSERT INTO clients SELECT 'client' || n, {early} FROM generate_series(0, 2) n;
INSERT INTO tokens SELECT n, n % 4, 'client' || n % 3, timestamptz '2026-01-15 10:00Z' + n * interval '0.5 s',
    CASE WHEN n % 5 = 0 THEN now() - interval '1 h' ELSE now() + interval '1 h' END
FROM generate_series(1, 24) n;
"""
KINDS: dict[str, tuple[str, dict[str, str], str]] = {
    "timestamptz": ("timestamptz", {}, "timestamptz '2026-01-01Z'"),
    "utc": ("timestamp", {"time_zone": "UTC"}, "timestamp '2026-01-01'"),
    "tallinn": ("timestamp", {"time_zone": "Europe/Tallinn"}, "timestamp '2026-01-01'"),
    "seconds": ("bigint", {"unit": "s"}, "0"),
    "int4": ("int", {"unit": "s"}, "0"),
    "milliseconds": ("bigint", {"unit": "ms"}, "0"),
}
TO = "2026-01-15T10:00:08Z"
# The tokens that were issued before it, in whole seconds as a token says it; and by the column's own value.
BEFORE = "date_trunc('second', at) < timestamptz '2026-01-15 10:00:08Z'"
ALIVE = "expires_at > now()"


def store(how: str, kind: str = "timestamptz", **parts: Any) -> dict[str, Any]:
    column = {"column": "not_before", **KINDS[kind][1]}
    made: dict[str, Any] = {
        "name": "app",
        "tokens": {"table": "tokens", "id": "id", "subject": "user_id", "client": "client", "issued_at": "at", "expires_at": "expires_at"},
        "revoke": {"how": how},
        "not_before": [
            {"table": "realm", "column": column, "by": "all"},
            {"table": "users", "column": column, "by": "subject", "id": "id"},
            {"table": "clients", "column": column, "by": "client", "id": "id"},
        ],
    }
    return with_changes(made, **parts)


@pytest.fixture
def trial(database: Database) -> Trial:
    database.query(f"ALTER DATABASE {database.name} SET timezone = 'Pacific/Kiritimati'")
    return Trial(database)


def fill(trial: Trial, kind: str = "timestamptz") -> None:
    trial.sql(TABLES.replace("{kind}", KINDS[kind][0]).replace("{early}", KINDS[kind][2]))


SELECTIONS: dict[str, tuple[dict[str, Any], str, list[str]]] = {
    "all": ({}, "true", ["public.realm"]),
    "subjects": ({"subjects": ["1", "2"]}, "user_id IN (1, 2)", ["public.users"]),
    "client": ({"clients": ["client1"]}, "client = 'client1'", ["public.clients"]),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("who", SELECTIONS)
@pytest.mark.parametrize("how", ["not_before", "delete"])
def test_a_limit_is_raised_to_the_end_of_the_window(trial: Trial, who: str, kind: str, how: str) -> None:
    fill(trial, kind)
    select, where, tables = SELECTIONS[who]
    expected = trial.value(f"SELECT count(*) FROM tokens WHERE {ALIVE} AND {BEFORE} AND {where}")
    result = trial.there_and_back({**select, "issued_to": TO}, store(how, kind))
    assert (result["revoked"], result["stores"][0]["not_before"]) == (expected, "2026-01-15T10:00:08+00:00")
    assert [one["table"] for one in result["stores"][0]["dependents"]] == tables


@pytest.mark.parametrize("how", ["not_before", "delete"])
def test_everything_before_now_is_refused(trial: Trial, how: str) -> None:
    """Without an end the limit is the next whole second, and a later run raises it again: other tokens may have been issued since."""
    fill(trial, "seconds")
    before = trial.everything()
    started = datetime.now(UTC).timestamp()
    preview = trial.run({"all": True}, store(how, "seconds"), check=True)
    result = trial.run({"all": True}, store(how, "seconds"))
    assert preview["pending"] == result["pending"] == result["revoked"] == 20
    assert started <= trial.value("SELECT not_before FROM realm") <= datetime.now(UTC).timestamp() + 1
    trial.take_back(result)
    assert trial.everything() == before


def test_a_limit_that_was_raised_twice_under_one_id_comes_back_as_it_was(trial: Trial) -> None:
    fill(trial)
    before = trial.everything()
    trial.run({"subjects": ["1", "2"]}, store("not_before"), revocation_id="incident")
    time.sleep(1.0)  # a limit is a whole second
    result = trial.run({"subjects": ["1", "2"]}, store("not_before"), revocation_id="incident")
    assert result["changed"]
    trial.take_back(result)
    assert trial.everything() == before


def test_a_limit_is_never_lowered(trial: Trial) -> None:
    fill(trial)
    trial.sql("UPDATE users SET not_before = '2026-02-01'; UPDATE realm SET not_before = 'infinity'")
    assert trial.there_and_back({"subjects": ["1"], "issued_to": TO}, store("not_before"))["changed"] is False
    result = trial.there_and_back({"issued_to": TO}, store("not_before"))
    assert (result["changed"], result["already_revoked"] > 0) == (False, True)


@pytest.mark.parametrize(
    "select",
    [{"ids": ["1"]}, {"subjects": ["1"], "clients": ["client1"]}, {"subjects": ["1"], "issued_from": "2026-01-15T10:00:00Z"}],
)
def test_a_narrower_selection_raises_no_limit(trial: Trial, select: dict[str, Any]) -> None:
    fill(trial)
    with pytest.raises(InvalidValue, match="is revoked by limits, which take everything before a time; select by all, clients, subjects"):
        trial.run(select, store("not_before"))
    result = trial.there_and_back(select, store("delete"))
    assert (result["stores"][0]["not_before"], result["dependents"]) == (None, 0)


def test_whoever_has_no_row_for_a_limit_is_not_called_revoked(trial: Trial) -> None:
    fill(trial)
    with pytest.raises(Unproven, match="could not be changed and may still be accepted") as caught:
        trial.run({"subjects": ["0", "1"], "issued_to": TO}, store("not_before"))
    left = trial.value(f"SELECT count(*) FROM tokens WHERE {ALIVE} AND {BEFORE} AND user_id = 0")
    assert caught.value.as_result()["remaining"] == left > 0
    assert trial.there_and_back({"subjects": ["0", "1"], "issued_to": TO}, store("delete"))["revoked"] >= left


def test_what_a_limit_of_another_kind_refuses_already(trial: Trial) -> None:
    fill(trial)
    trial.sql("UPDATE realm SET not_before = '2026-01-15 10:00:04Z'")
    result = trial.there_and_back({"subjects": ["1"], "issued_to": TO}, store("not_before"))
    early = "date_trunc('second', at) < timestamptz '2026-01-15 10:00:04Z'"
    assert result["already_revoked"] == trial.value(f"SELECT count(*) FROM tokens WHERE {ALIVE} AND {early} AND user_id = 1") > 0


def test_a_day_is_no_limit_for_an_hour(trial: Trial) -> None:
    """A limit that is a day cannot lie at ten o'clock, and is neither raised too little nor too much."""
    fill(trial)
    trial.sql("ALTER TABLE users ALTER not_before TYPE date")
    before = trial.everything()
    with pytest.raises(InvalidValue, match=r"public\.users\.not_before is of type date"):
        trial.run({"subjects": ["1"], "issued_to": TO}, store("not_before"))
    assert trial.everything() == before


@pytest.mark.parametrize("select", [{"all": True}, {"subjects": ["1"]}])
@pytest.mark.parametrize("at", ["NULL", "now() + interval '1 h'"])
def test_a_token_that_no_limit_reaches_is_not_called_revoked(trial: Trial, select: dict[str, Any], at: str) -> None:
    """Nobody knows when it was issued, or by a clock that is ahead: whoever takes everything means it too."""
    fill(trial)
    trial.sql(f"INSERT INTO tokens VALUES (100, 1, 'client1', {at}, now() + interval '2 h')")
    with pytest.raises(Unproven, match="1 rows could not be changed and may still be accepted"):
        trial.run(select, store("not_before"))
    assert trial.run(select, store("delete"))["remaining"] == 0
    assert trial.value("SELECT count(*) FROM tokens WHERE id = 100") == 0
