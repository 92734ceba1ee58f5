"""What was renewed from a selected token goes with it, to the end of the chain, and nothing else does."""

from __future__ import annotations

from typing import Any

import pytest

from tests.ground.databases import Database
from tests.integration.hindering import with_changes
from tests.integration.revoking import Trial

STORE: dict[str, Any] = {
    "name": "app",
    "tokens": {"table": "tokens", "id": "id", "issued_at": "at"},
    "revoke": {"how": "timestamp", "column": "revoked_at"},
}
RENEWED = with_changes(STORE, tokens={"renewed_from": "was"})
FAMILY = with_changes(STORE, tokens={"family": "family"})
BOTH = with_changes(STORE, tokens={"renewed_from": "was", "family": "family"})


@pytest.fixture
def trial(database: Database) -> Trial:
    return Trial(database)


def fill(trial: Trial, rows: list[tuple[Any, ...]], id_: str = "int", was: str = "int", family: str = "int", made: str = "%s") -> None:
    """Put rows of (id, minute of issue, renewed from, family) into a new table of tokens."""
    trial.sql(f"CREATE TABLE tokens (id {id_}, at timestamptz, was {was}, family {family}, revoked_at timestamptz)")
    for number, minute, renewed_from, of_family in rows:
        at = None if minute is None else f"2026-01-15 10:{minute:02}:00Z"
        trial.sql(f"INSERT INTO tokens VALUES ({made}, %s, {made}, {made})", [number, at, renewed_from, of_family])


def taken(trial: Trial, select: Any, store: Any) -> list[Any]:
    """Return the ids of the tokens that a revocation takes, which is taken back again."""
    before = trial.everything()
    result = trial.revoke(select, store)
    found = [row[0] for row in trial.sql("SELECT id FROM tokens WHERE revoked_at IS NOT NULL ORDER BY id")]
    assert result["selected"] == result["revoked"] == len(found)
    if found:
        trial.take_back(result)
    assert trial.everything() == before
    return found


def test_renewed_from(trial: Trial) -> None:
    fill(
        trial, [(1, 0, None, None), (2, 1, 1, None), (3, 2, 2, None), (4, 2, 2, None), (5, 3, 4, None), (6, 0, None, None), (7, 1, 6, None)]
    )
    assert taken(trial, {"ids": ["2"]}, RENEWED) == [2, 3, 4, 5]
    assert taken(trial, {"ids": ["5"]}, RENEWED) == [5]
    assert taken(trial, {"issued_to": "2026-01-15T10:00:30Z"}, RENEWED) == [1, 2, 3, 4, 5, 6, 7]
    assert taken(trial, {"ids": ["99"]}, RENEWED) == []


@pytest.mark.parametrize("how", ["revoked", "expired", "deleted"])
def test_a_chain_goes_on_behind_a_token_that_is_no_longer_accepted(trial: Trial, how: str) -> None:
    fill(trial, [(1, 0, None, 1), (2, 1, 1, 1), (3, 2, 2, 1)])
    trial.sql("ALTER TABLE tokens ADD expires_at timestamptz")
    trial.sql(
        {"revoked": "UPDATE tokens SET revoked_at = now()", "expired": "UPDATE tokens SET expires_at = now() - interval '1 day'"}.get(
            how, "DELETE FROM tokens"
        )
        + " WHERE id < 3"
    )
    for store, expected in ((RENEWED, [] if how == "deleted" else [3]), (FAMILY, [] if how == "deleted" else [3])):
        result = trial.there_and_back({"ids": ["1"]}, with_changes(store, tokens={"expires_at": "expires_at"}))
        assert (result["selected"], result["revoked"]) == (0 if how == "deleted" else 3, len(expected))
    assert trial.there_and_back({"families": ["1"]}, with_changes(FAMILY, tokens={"expires_at": "expires_at"}))["revoked"] == 1


@pytest.mark.parametrize("store", [RENEWED, BOTH], ids=["renewed", "both"])
def test_chains_that_go_round_in_a_circle_and_ids_that_stand_twice(trial: Trial, store: Any) -> None:
    fill(trial, [(1, 0, 3, None), (2, 0, 1, None), (3, 0, 2, None), (4, 0, 4, None), (5, 0, None, None), (5, 1, 5, None), (6, 2, 5, None)])
    assert taken(trial, {"ids": ["2"]}, store) == [1, 2, 3]
    assert taken(trial, {"ids": ["4"]}, store) == [4]
    assert taken(trial, {"issued_from": "2026-01-15T10:01:00Z", "issued_to": "2026-01-15T10:02:00Z"}, store) == [5, 6]


def test_a_family_from_the_selected_token_on(trial: Trial) -> None:
    fill(trial, [(1, 0, None, 70), (2, 1, None, 70), (3, 2, None, 70), (4, None, None, 70), (5, 1, None, 80), (6, 1, None, None)])
    assert taken(trial, {"ids": ["2"]}, FAMILY) == [2, 3, 4]
    assert taken(trial, {"ids": ["4"]}, FAMILY) == [1, 2, 3, 4]
    assert taken(trial, {"ids": ["6"]}, FAMILY) == [6]
    assert taken(trial, {"families": ["70"]}, FAMILY) == [1, 2, 3, 4]


@pytest.mark.parametrize("store", [FAMILY, BOTH], ids=["family", "both"])
def test_the_first_token_of_a_chain_may_have_no_family_or_its_own(trial: Trial, store: Any) -> None:
    fill(trial, [(1, 0, None, None), (2, 1, 1, 1), (3, 2, 2, 1), (10, 0, None, 10), (11, 1, 10, 10), (12, 1, None, None)])
    assert taken(trial, {"ids": ["1"]}, store) == [1, 2, 3]
    assert taken(trial, {"families": ["1"]}, store) == [1, 2, 3]
    assert taken(trial, {"ids": ["3"]}, store) == [3]
    assert taken(trial, {"families": ["10"]}, store) == [10, 11]
    assert taken(trial, {"ids": ["10", "12"]}, store) == [10, 11, 12]


def test_a_session_whose_number_is_also_a_tokens_takes_no_other_session_along(trial: Trial) -> None:
    fill(trial, [(1, 0, None, 3), (2, 1, None, 3), (3, 2, None, 1), (4, 3, None, 1), (5, 4, None, 5)])
    assert taken(trial, {"ids": ["1"]}, FAMILY) == [1, 2]
    assert taken(trial, {"ids": ["3"]}, FAMILY) == [3, 4]
    assert taken(trial, {"families": ["3"]}, FAMILY) == [1, 2]
    assert taken(trial, {"ids": ["1"]}, BOTH) == [1, 2]


def test_both_ways_together(trial: Trial) -> None:
    """By renewal into another family, and by that family to one that nothing was renewed from."""
    fill(trial, [(1, 0, None, 7), (2, 1, 1, 8), (3, 2, None, 8), (4, 3, 3, None), (5, 0, None, 8), (6, 9, None, 9)])
    assert taken(trial, {"ids": ["1"]}, BOTH) == [1, 2, 3, 4]


@pytest.mark.parametrize(("id_", "was"), [("uuid", "text"), ("text", "uuid"), ("uuid", "uuid"), ("char(40)", "text"), ("bigint", "int")])
def test_ids_of_different_types(trial: Trial, id_: str, was: str) -> None:
    if "int" in id_:
        fill(trial, [(1, 0, None, None), (2, 1, 1, 1), (3, 2, 2, 1)], id_, was, was)
        assert taken(trial, {"ids": ["1"]}, BOTH) == [1, 2, 3]
        return
    trial.sql(f"CREATE TABLE tokens (id {id_}, at timestamptz, was {was}, family {was}, revoked_at timestamptz)")
    upper = "upper" if {id_, was} == {"uuid", "text"} else "lower"
    trial.sql(
        f"""
        INSERT INTO tokens SELECT {"lower" if id_ == "uuid" else upper}(md5(n::text)::uuid::text)::{id_},
            timestamptz '2026-01-15' + n * interval '1 s',
            CASE WHEN n > 1 AND n < 5 THEN {upper}(md5((n - 1)::text)::uuid::text)::{was} END,
            CASE WHEN n > 1 AND n < 5 THEN {upper}(md5('1')::uuid::text)::{was} END
        FROM generate_series(1, 6) n
        """
    )
    first = trial.value("SELECT id::text FROM tokens ORDER BY at LIMIT 1")
    for store in (RENEWED, FAMILY, BOTH):
        assert len(taken(trial, {"ids": [first]}, store)) == 4, store["tokens"]


def test_a_chain_stays_within_its_store(trial: Trial) -> None:
    fill(trial, [(1, 0, None, 1), (2, 1, 1, 1), (3, 2, 2, 1), (4, 3, 3, 1)])
    trial.sql("ALTER TABLE tokens ADD kind text; UPDATE tokens SET kind = CASE id WHEN 3 THEN 'other' ELSE 'mine' END")
    mine = {"where": {"kind": "mine"}}
    assert taken(trial, {"ids": ["1"]}, with_changes(RENEWED, tokens=mine)) == [1, 2]
    assert taken(trial, {"ids": ["1"]}, with_changes(FAMILY, tokens=mine)) == [1, 2, 4]


def test_a_chain_across_partitions_with_rows_at_the_same_place(trial: Trial) -> None:
    trial.sql(
        """
        CREATE TABLE tokens (id int, at timestamptz, was int, revoked_at timestamptz) PARTITION BY LIST (id);
        CREATE TABLE tokens_1 PARTITION OF tokens FOR VALUES IN (1, 3, 5);
        CREATE TABLE tokens_2 PARTITION OF tokens FOR VALUES IN (2, 4, 6);
        INSERT INTO tokens
        SELECT n, timestamptz '2026-01-15' + n * interval '1 s', CASE WHEN n % 3 > 0 THEN n - 1 END FROM generate_series(1, 6) n;
        """
    )
    assert taken(trial, {"ids": ["3"]}, RENEWED) == [3, 4, 5]


def test_a_long_chain(trial: Trial) -> None:
    trial.sql("CREATE TABLE tokens (id int, at timestamptz, was int, revoked_at timestamptz)")
    trial.sql("INSERT INTO tokens SELECT n, now(), n - 1 FROM generate_series(1, 300) n")
    assert trial.there_and_back({"ids": ["101"]}, RENEWED)["revoked"] == 200
