"""Deny lists: what a deny row says, how long it lasts, and that it is taken back as exactly as it was written."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from ansible_collections.pgops.runbook.plugins.module_utils._errors import InvalidValue
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.report import Unproven
from tests.ground.databases import Database
from tests.integration.hindering import with_changes
from tests.integration.revoking import Trial, of_store

pytestmark = pytest.mark.any_driver

STORE: dict[str, Any] = {
    "name": "app",
    "tokens": {"table": "tokens", "id": "id", "expires_at": "expires_at"},
    "revoke": {"how": "denylist", "table": "denied", "id": "id", "revoked_at": "denied_at", "expires_at": "expires_at"},
}
ALL = {"all": True}
IN_A_DAY = datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)
SKEW = timedelta(minutes=5)


@pytest.fixture
def trial(database: Database) -> Trial:
    # A session zone of the database's own must not matter anywhere.
    database.query(f"ALTER DATABASE {database.name} SET timezone = 'Pacific/Kiritimati'")
    database.query(f"ALTER DATABASE {database.name} SET datestyle = 'SQL, DMY'")
    return Trial(database)


def timed(column: str, **more: str) -> dict[str, Any]:
    return {"column": column, **more}


# The type of a deny row's end, what is declared of it, and what it must be for a token that ends at `IN_A_DAY`.
def wall(zone: str) -> datetime:
    return (IN_A_DAY + SKEW).astimezone(ZoneInfo(zone)).replace(tzinfo=None)


KINDS = {
    "timestamptz": ("timestamptz", {}, IN_A_DAY + SKEW),
    "utc": ("timestamp", {"time_zone": "UTC"}, wall("UTC")),
    "tallinn": ("timestamp", {"time_zone": "Europe/Tallinn"}, wall("Europe/Tallinn")),
    "date": ("date", {"time_zone": "America/St_Johns"}, wall("America/St_Johns").date()),
    "day": ("date", {}, wall("Pacific/Kiritimati").date()),
    "seconds": ("bigint", {"unit": "s"}, int((IN_A_DAY + SKEW).timestamp())),
    "milliseconds": ("bigint", {"unit": "ms"}, int((IN_A_DAY + SKEW).timestamp() * 1000)),
    "int4": ("integer", {"unit": "s"}, int((IN_A_DAY + SKEW).timestamp())),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_deny_row_ends_when_its_token_does_and_the_skew_later(database: Database, driver: str, monkeypatch: Any, kind: str) -> None:
    trial = Trial.with_driver(database, driver, monkeypatch)
    type_, declared, expected = KINDS[kind]
    trial.sql("CREATE TABLE tokens (id uuid PRIMARY KEY, expires_at timestamptz)")
    trial.sql(f"CREATE TABLE denied (id uuid PRIMARY KEY, denied_at timestamptz NOT NULL, expires_at {type_} NOT NULL)")
    trial.sql("INSERT INTO tokens VALUES (md5('a')::uuid, %s)", [IN_A_DAY])
    store = with_changes(STORE, revoke={"expires_at": timed("expires_at", **declared)})
    trial.revoke(ALL, store)
    assert trial.value("SELECT expires_at FROM denied") == expected


TOKENS = {
    "timestamptz": ("timestamptz", {}, IN_A_DAY),
    "tallinn": ("timestamp", {"time_zone": "Europe/Tallinn"}, IN_A_DAY.astimezone(ZoneInfo("Europe/Tallinn")).replace(tzinfo=None)),
    "day": ("date", {}, date.today() + timedelta(days=1)),
    "seconds": ("bigint", {"unit": "s"}, int(IN_A_DAY.timestamp())),
    "int4": ("integer", {"unit": "s"}, int(IN_A_DAY.timestamp())),
    "milliseconds": ("bigint", {"unit": "ms"}, int(IN_A_DAY.timestamp() * 1000)),
}
NEVER = {
    "timestamptz": (None, "infinity", "294276-12-31 00:00:00Z"),
    "tallinn": (None, "infinity", "294276-12-31 00:00:00"),
    "day": (None, "infinity", "5874897-12-31"),
    "seconds": (None, 9223372036854775807, 253402300800),
    "int4": (None, 2147483647),
    "milliseconds": (None, 9223372036854775807),
}


@pytest.mark.parametrize("token", TOKENS)
def test_a_token_that_never_ends_is_denied_for_ever(trial: Trial, token: str) -> None:
    """Whatever its type has for never, and whatever that of the deny list has: a second run finds nothing left to do."""
    type_, declared, normal = TOKENS[token]
    stores = []
    for kind, (deny_type, deny_declared, _expected) in KINDS.items():
        trial.sql(f"CREATE TABLE {kind}_tokens (id int PRIMARY KEY, expires_at {type_})")
        trial.sql(f"CREATE TABLE {kind}_denied (id int PRIMARY KEY, denied_at timestamptz NOT NULL, expires_at {deny_type} NOT NULL)")
        for number, value in enumerate((normal, *NEVER[token])):
            trial.sql(f"INSERT INTO {kind}_tokens VALUES (%s, %s::text::{type_})", [number, None if value is None else str(value)])
        tokens = {"table": f"{kind}_tokens", "expires_at": timed("expires_at", **declared)}
        revoke = {"table": f"{kind}_denied", "expires_at": timed("expires_at", **deny_declared)}
        stores.append(with_changes(STORE, name=kind, tokens=tokens, revoke=revoke))
    result = trial.there_and_back(ALL, *stores)
    assert [(store["revoked"], store["extended"]) for store in result["stores"]] == [(1 + len(NEVER[token]), 0)] * len(KINDS)


SHORT = """
CREATE TABLE tokens (id uuid PRIMARY KEY, expires_at timestamptz);
CREATE TABLE denied (id uuid, denied_at timestamptz, expires_at timestamptz, reason text);
INSERT INTO tokens SELECT md5(n::text)::uuid, now() + n * interval '1 hour' FROM generate_series(1, 6) n;
INSERT INTO denied
SELECT md5(n::text)::uuid, now() - interval '1 day', now() + interval '3 hours 1 minute', 'old' FROM generate_series(1, 5) n;
"""


def test_a_deny_row_that_ends_too_early_is_extended(trial: Trial) -> None:
    trial.sql(SHORT + "ALTER TABLE denied ADD PRIMARY KEY (id)")
    result = trial.there_and_back(ALL, STORE)
    store = of_store(result, "app")
    assert (store["already_revoked"], store["pending"], store["revoked"], store["extended"]) == (3, 3, 3, 2)
    trial.revoke(ALL, STORE)
    rows = trial.sql("SELECT d.expires_at - t.expires_at, d.reason FROM denied d JOIN tokens t USING (id) ORDER BY t.expires_at")
    assert [row for row in rows if row[0] > timedelta()][-3:] == [(SKEW, "old"), (SKEW, "old"), (SKEW, None)]


@pytest.mark.parametrize("marked", [True, False])
def test_without_a_unique_constraint_a_second_row_is_put_beside_one_that_ends_too_early(trial: Trial, marked: bool) -> None:
    trial.sql(SHORT + "INSERT INTO denied SELECT * FROM denied LIMIT 2")
    store = with_changes(STORE, revoke={} if marked else {"revoked_at": None})
    result = trial.there_and_back(ALL, store)
    assert (result["revoked"], result["stores"][0]["extended"]) == (3, 0)


def test_the_row_of_an_id_that_stands_twice_lasts_as_long_as_the_longest(trial: Trial) -> None:
    trial.sql(
        """
        CREATE TABLE tokens (id uuid, expires_at timestamptz, number serial);
        CREATE TABLE denied (id uuid PRIMARY KEY, denied_at timestamptz, expires_at timestamptz);
        INSERT INTO tokens (id, expires_at) VALUES (md5('a')::uuid, now() - interval '1 h'), (md5('a')::uuid, now() + interval '2 h'),
            (md5('a')::uuid, now() + interval '1 h'), (md5('b')::uuid, now() + interval '1 h');
        """
    )
    result = trial.there_and_back({"ids": [trial.value("SELECT md5('a')::uuid::text")]}, STORE)
    assert (result["selected"], result["expired"], result["pending"], result["revoked"]) == (3, 1, 1, 1)
    trial.revoke(ALL, STORE)
    longest = "SELECT id, max(expires_at) + interval '5 min' AS expires_at FROM tokens GROUP BY id"
    assert trial.sql(f"SELECT count(*) FROM denied JOIN ({longest}) AS longest USING (id, expires_at)") == [(2,)]


@pytest.mark.every_driver
def test_the_key_of_a_deny_row_need_not_be_the_id_and_its_reason_is_written(trial: Trial) -> None:
    trial.sql(
        """
        CREATE TABLE tokens (id int PRIMARY KEY, hash text, expires_at timestamptz);
        CREATE TABLE denied (hash text PRIMARY KEY, expires_at timestamptz NOT NULL, why text NOT NULL);
        INSERT INTO tokens SELECT n, 'h' || n, now() + interval '1 h' FROM generate_series(1, 3) n;
        """
    )
    store = with_changes(STORE, revoke={"id": "hash", "references": "hash", "reason": "why", "revoked_at": None})
    result = trial.there_and_back({"ids": [2]}, store, reason="50% 'stolen' \\ {laptop}")
    assert result["stores"][0]["sample"] == ["2"]
    trial.revoke({"ids": [2]}, store, reason="50% 'stolen' \\ {laptop}")
    assert trial.sql("SELECT hash, why FROM denied") == [("h2", "50% 'stolen' \\ {laptop}")]


def test_a_token_without_the_key_cannot_be_denied_and_is_not_called_revoked(trial: Trial) -> None:
    trial.sql(
        """
        CREATE TABLE tokens (id int PRIMARY KEY, hash text, expires_at timestamptz);
        CREATE TABLE denied (hash text PRIMARY KEY, expires_at timestamptz NOT NULL);
        INSERT INTO tokens VALUES (1, 'h', now() + interval '1 h'), (2, NULL, now() + interval '1 h'), (3, NULL, now() - interval '1 h');
        """
    )
    store = with_changes(STORE, revoke={"id": "hash", "references": "hash", "revoked_at": None})
    preview = trial.run(ALL, store, check=True)
    assert (preview["pending"], preview["already_revoked"]) == (2, 0)
    with pytest.raises(Unproven, match="1 rows could not be changed and may still be accepted") as caught:
        trial.run(ALL, store)
    result = caught.value.as_result()
    assert (result["revoked"], result["remaining"]) == (1, 1)
    assert trial.sql("SELECT hash FROM denied") == [("h",)]


def test_an_id_that_was_denied_anew_counts_once_beside_a_token_that_cannot_be_denied(trial: Trial) -> None:
    trial.sql(
        """
        CREATE TABLE tokens (id int PRIMARY KEY, hash text, expires_at timestamptz);
        CREATE TABLE denied (hash text, expires_at timestamptz);
        INSERT INTO tokens VALUES (1, 'h', now() + interval '1 h'), (2, NULL, now() + interval '1 h');
        INSERT INTO denied VALUES ('h', now() + interval '1 min');
        """
    )
    store = with_changes(STORE, revoke={"id": "hash", "references": "hash", "revoked_at": None})
    with pytest.raises(Unproven) as caught:
        trial.run(ALL, store)
    (told,) = caught.value.as_result()["stores"]
    assert (told["revoked"], told["extended"], told["remaining"]) == (1, 0, 1)
    assert trial.sql("SELECT count(*), count(*) FILTER (WHERE expires_at > now() + interval '1 h') FROM denied") == [(2, 1)]


@pytest.mark.parametrize(("tokens", "denied"), [("text", "uuid"), ("uuid", "text"), ("varchar(36)", "uuid"), ("uuid", "char(36)")])
def test_a_uuid_and_its_text(trial: Trial, tokens: str, denied: str) -> None:
    trial.sql(
        f"""
        CREATE TABLE tokens (id {tokens}, expires_at timestamptz);
        CREATE TABLE denied (id {denied} PRIMARY KEY, denied_at timestamptz, expires_at timestamptz);
        INSERT INTO tokens SELECT upper(md5(n::text)::uuid::text)::{tokens}, now() + n * interval '1 h' FROM generate_series(1, 4) n;
        INSERT INTO denied SELECT md5('1')::uuid::{denied}, now(), now() + interval '1 day';
        INSERT INTO denied SELECT md5('2')::uuid::{denied}, now(), now() + interval '1 minute';
        """
    )
    result = trial.there_and_back(ALL, STORE)
    assert (result["revoked"], result["already_revoked"], result["stores"][0]["extended"]) == (3, 1, 1)


def test_ids_that_cannot_be_compared_are_refused(trial: Trial) -> None:
    trial.sql("CREATE TABLE tokens (id bigint, expires_at timestamptz)")
    trial.sql("CREATE TABLE denied (id uuid, denied_at timestamptz, expires_at timestamptz)")
    with pytest.raises(InvalidValue, match="cannot be compared"):
        trial.run(ALL, STORE)


def test_a_deny_row_that_is_extended_twice_in_one_revocation_comes_back_as_it_was(trial: Trial) -> None:
    trial.sql(SHORT + "ALTER TABLE denied ADD PRIMARY KEY (id); ALTER TABLE tokens DROP CONSTRAINT tokens_pkey")
    before = trial.everything()
    trial.run(ALL, STORE, revocation_id="incident")
    trial.sql("INSERT INTO tokens SELECT md5(n::text)::uuid, now() + interval '1 day' FROM generate_series(1, 6) n")
    result = trial.run(ALL, STORE, revocation_id="incident")
    assert (result["revoked"], result["stores"][0]["extended"]) == (6, 6)
    trial.sql("DELETE FROM tokens WHERE expires_at > now() + interval '20 h'")
    trial.take_back(result)
    assert trial.everything() == before
