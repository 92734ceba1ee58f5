"""Which tokens a selection means: claims by whole keys, patterns, windows in columns of every type, and rows that are no tokens."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from ansible_collections.pgops.runbook.plugins.module_utils._errors import InvalidValue
from tests.ground.databases import Database
from tests.integration.hindering import with_changes
from tests.integration.revoking import Trial

STORE: dict[str, Any] = {
    "name": "app",
    "tokens": {"table": "tokens", "id": "id"},
    "revoke": {"how": "timestamp", "column": "revoked_at"},
}


@pytest.fixture
def trial(database: Database) -> Trial:
    database.query(f"ALTER DATABASE {database.name} SET timezone = 'Pacific/Kiritimati'")
    return Trial(database)


def selected(trial: Trial, select: Any, store: Any, **options: Any) -> set[int]:
    """Return the numbers of the tokens that a revocation takes, which is taken back again."""
    before = trial.everything()
    result = trial.revoke(select, store, **options)
    found = {row[0] for row in trial.sql("SELECT id FROM tokens WHERE revoked_at IS NOT NULL")}
    assert result["selected"] == result["revoked"] == len(found)
    if found:
        trial.take_back(result)
    assert trial.everything() == before
    return found


# --- claims ---------------------------------------------------------------------------------------------------------------

KEYS = (
    ["sub", "admin"],
    ["sub", "nonadmin"],
    ["administrator"],
    ["admin"],
    ["Admin", "is_admin"],
    ["personal_code"],
    ["personalXcode"],
    ["100%"],
    ["100x"],
    ["back\\slash"],
    ["quo'te\"d", "sub"],
    [],
)


def filled(trial: Trial, kind: str, texts: list[Any]) -> None:
    trial.sql(f"CREATE TABLE tokens (id int PRIMARY KEY, revoked_at timestamptz, claims {kind})")
    for number, text in enumerate([*texts, None]):
        trial.sql(f"INSERT INTO tokens VALUES (%s, NULL, %s::{kind})", [number, text])


LAYOUTS: dict[str, tuple[str, str | None, Any]] = {
    "comma": ("text", None, ",".join),
    "spaced comma": ("varchar(200)", ",", ", ".join),
    "marked": ("text", "::_::", "::_::".join),
    "words": ("text", " ", " ".join),
    "lines": ("text", "\n", "\n".join),
    "array": ("text[]", None, list),
    "varchar array": ("varchar(50)[]", None, list),
    "jsonb array": ("jsonb", None, json.dumps),
    "json array": ("json", None, json.dumps),
    "jsonb object": ("jsonb", None, lambda keys: json.dumps({key: ["admin", {"admin": 1}] for key in keys})),
    "json object": ("json", None, lambda keys: json.dumps(dict.fromkeys(keys, "admin"))),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_claims_are_compared_as_whole_keys_and_patterns_literally(trial: Trial, layout: str) -> None:
    kind, separator, written = LAYOUTS[layout]
    filled(trial, kind, [written(keys) for keys in KEYS])
    claims: dict[str, Any] = {"column": "claims", **({"separator": separator} if separator else {})}
    store = with_changes(STORE, tokens={"claims": claims})
    by_key = {"admin": {0, 3}, "sub": {0, 1, 10}, "personal_code": {5}, "100%": {7}, "back\\slash": {9}, "quo'te\"d": {10}, "adm": set()}
    for key, expected in by_key.items():
        assert {row["id"] for row in preview(trial, {"claims": [key]}, store)} == expected, key
    patterns = {"admin*": {0, 2, 3}, "*admin": {0, 1, 3, 4}, "personal_*": {5}, "100%": {7}, "*\\*": {9}, "*'t*": {10}, "a*n": {0, 3}}
    for pattern, expected in patterns.items():
        assert {row["id"] for row in preview(trial, {"claim_pattern": pattern}, store, max_tokens=100)} == expected, pattern
    assert selected(trial, {"claims": ["admin", "administrator"]}, store) == {0, 2, 3}
    assert selected(trial, {"claims": ["sub"], "claim_pattern": "*admin"}, store, max_share=100) == {0, 1}


def preview(trial: Trial, select: Any, store: Any, **options: Any) -> list[dict[str, int]]:
    result = trial.run(select, store, check=True, sample=100, **options)
    return [{"id": int(id_)} for id_ in result["stores"][0]["sample"]]


def test_what_is_told_of_claims(trial: Trial) -> None:
    filled(trial, "text", ["sub,admin", "sub,admin", "administrator", "sub", ""])
    store = with_changes(STORE, tokens={"claims": "claims"})
    result = trial.run({"claim_pattern": "*admin*"}, store, check=True, max_tokens=10)["stores"][0]
    assert result["claim_sets"] == [{"claims": "sub,admin", "tokens": 2}, {"claims": "administrator", "tokens": 1}]
    assert result["matched_claims"] == [{"claim": "admin", "tokens": 2}, {"claim": "administrator", "tokens": 1}]


def test_a_claim_column_that_holds_no_list_is_refused(trial: Trial) -> None:
    trial.sql("CREATE TABLE tokens (id int PRIMARY KEY, revoked_at timestamptz, claims int)")
    with pytest.raises(InvalidValue, match="allowed: text with a separator, an array of texts, json or jsonb"):
        trial.run({"claims": ["admin"]}, with_changes(STORE, tokens={"claims": "claims"}), check=True)


# --- windows --------------------------------------------------------------------------------------------------------------

AT = datetime(2026, 1, 15, 10, 0, 0, tzinfo=UTC)
OFFSETS = (-1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 59.0, 59.5, 60.0, 60.5, 61.0)
COLUMNS: dict[str, tuple[str, dict[str, str], Any]] = {
    "timestamptz": ("timestamptz", {}, lambda at: at),
    "utc": ("timestamp", {"time_zone": "UTC"}, lambda at: at.replace(tzinfo=None)),
    "nepal": ("timestamp", {"time_zone": "Asia/Kathmandu"}, lambda at: at.astimezone(ZoneInfo("Asia/Kathmandu")).replace(tzinfo=None)),
    "seconds": ("bigint", {"unit": "s"}, lambda at: int(at.timestamp())),
    "int4": ("int", {"unit": "s"}, lambda at: int(at.timestamp())),
    "milliseconds": ("bigint", {"unit": "ms"}, lambda at: int(at.timestamp() * 1000)),
}


@pytest.mark.parametrize("column", COLUMNS)
def test_a_window_is_half_open_and_ends_at_whole_seconds(trial: Trial, column: str) -> None:
    kind, declared, stored = COLUMNS[column]
    trial.sql(f"CREATE TABLE tokens (id int PRIMARY KEY, revoked_at timestamptz, issued {kind})")
    for number, offset in enumerate((*OFFSETS, None)):
        value = None if offset is None else stored(AT + timedelta(seconds=offset))
        trial.sql(f"INSERT INTO tokens VALUES (%s, NULL, %s::{kind})", [number, value])
    store = with_changes(STORE, tokens={"issued_at": {"column": "issued", **declared}})
    inside = {number for number, offset in enumerate(OFFSETS) if 0 <= offset < 60}
    # A whole second lies in the column, so that what is half a second too early is not told from what is in time.
    assert selected(trial, {"issued_from": "2026-01-15T12:00:00+02:00", "issued_to": "2026-01-15T10:01:00Z"}, store) == inside
    rounded = {"issued_from": "2026-01-15T10:00:00.7Z", "issued_to": "2026-01-15T10:00:59.2Z"}
    assert selected(trial, rounded, store) == inside
    result = trial.run(rounded, store, check=True)
    assert result["window"] == {"from": "2026-01-15T10:00:00+00:00", "to": "2026-01-15T10:01:00+00:00", "rounded": True}
    assert any("widened to whole seconds" in warning for warning in result["warnings"])
    assert selected(trial, {"issued_from": "2026-01-15T10:00:00Z"}, store) == {n for n, offset in enumerate(OFFSETS) if offset >= 0}
    assert selected(trial, {"issued_to": "2026-01-15T10:01:00Z"}, store) == {n for n, offset in enumerate(OFFSETS) if offset < 60}


def test_a_wall_clock_that_was_set_back_is_taken_in_both_passes(trial: Trial) -> None:
    """In Tallinn 03:00 to 04:00 on 2025-10-26 came twice, from 00:00 and from 01:00 UTC on."""
    trial.sql("CREATE TABLE tokens (id int PRIMARY KEY, revoked_at timestamptz, issued timestamp)")
    trial.sql("INSERT INTO tokens SELECT n, NULL, timestamp '2025-10-26 02:30' + n * interval '15 min' FROM generate_series(0, 8) n")
    store = with_changes(STORE, tokens={"issued_at": {"column": "issued", "time_zone": "Europe/Tallinn"}})
    # 03:00, 03:15, 03:30, 03:45 could be of either pass.
    assert selected(trial, {"issued_from": "2025-10-26T01:00:00Z"}, store) == {2, 3, 4, 5, 6, 7, 8}
    assert selected(trial, {"issued_to": "2025-10-26T00:30:00Z"}, store) == {0, 1, 2, 3}
    assert selected(trial, {"issued_to": "2025-10-26T01:00:00Z"}, store) == {0, 1, 2, 3, 4, 5}


def test_a_day_that_touches_the_window_is_in_it(trial: Trial) -> None:
    trial.sql("CREATE TABLE tokens (id int PRIMARY KEY, revoked_at timestamptz, issued date)")
    trial.sql("INSERT INTO tokens SELECT n, NULL, date '2026-01-10' + n FROM generate_series(0, 9) n")
    window = {"issued_from": "2026-01-13T23:00:00Z", "issued_to": "2026-01-15T01:00:00Z"}
    in_zone = with_changes(STORE, tokens={"issued_at": {"column": "issued", "time_zone": "UTC"}})
    assert selected(trial, window, in_zone) == {3, 4, 5}
    assert selected(trial, window, with_changes(STORE, tokens={"issued_at": "issued"})) == {3, 4, 5}
    anywhere = {"issued_from": "2026-01-14T10:00:00Z", "issued_to": "2026-01-14T12:00:00Z"}
    assert selected(trial, anywhere, with_changes(STORE, tokens={"issued_at": "issued"})) == {3, 4, 5}


# --- expiry ---------------------------------------------------------------------------------------------------------------


def test_what_has_expired_by_the_seconds_that_it_lives_is_left_alone(trial: Trial) -> None:
    trial.sql("CREATE TABLE tokens (id int PRIMARY KEY, revoked_at timestamptz, issued timestamptz, seconds bigint)")
    trial.sql(
        """
        INSERT INTO tokens VALUES (1, NULL, now() - interval '1 h', 3000), (2, NULL, now() - interval '1 h', 3400),
            (3, NULL, now() - interval '1 h', NULL), (4, NULL, NULL, 10), (5, NULL, now() - interval '1 h', 9223372036854775807),
            (6, NULL, now() - interval '1 h', -5), (7, NULL, 'infinity', 5)
        """
    )
    own = with_changes(STORE, tokens={"issued_at": "issued", "expires_in": "seconds"})
    result = trial.there_and_back({"all": True}, own)
    assert (result["selected"], result["expired"], result["revoked"]) == (7, 2, 5)
    same = with_changes(STORE, tokens={"issued_at": "issued", "lifetime": "50 min"})
    assert trial.there_and_back({"all": True}, same)["expired"] == 5
    assert trial.there_and_back({"all": True}, same, clock_skew="15 min")["expired"] == 0


# --- rows that are no tokens of the store ---------------------------------------------------------------------------------


def test_only_rows_with_the_values_of_where_are_tokens(trial: Trial) -> None:
    trial.sql("CREATE TABLE tokens (id int PRIMARY KEY, revoked_at timestamptz, kind text, live boolean, version int)")
    trial.sql("INSERT INTO tokens SELECT n, NULL, (ARRAY['a', 'b''%', NULL])[1 + n % 3], n % 2 = 0, n % 4 FROM generate_series(0, 23) n")
    store = with_changes(STORE, tokens={"where": {"kind": "b'%", "live": True, "version": 2}})
    assert selected(trial, {"all": True}, store) == {n for n in range(24) if n % 3 == 1 and n % 4 == 2}
    assert selected(trial, {"ids": [str(n) for n in range(24)]}, store) == {10, 22}
    two = [with_changes(STORE, name=kind, tokens={"where": {"kind": kind}}) for kind in ("a", "b'%")]
    result = trial.there_and_back({"all": True}, *two)
    assert [store["revoked"] for store in result["stores"]] == [8, 8]
