"""What follows a token that a run has deleted itself: committed later, it leads to a row that is no longer there."""

from __future__ import annotations

from typing import Any

import pytest

from tests.ground.databases import Database
from tests.integration.hindering import with_changes
from tests.integration.revoking import Trial
from tests.integration.spending import spending

STORE: dict[str, Any] = {
    "name": "app",
    "tokens": {"table": "tokens", "id": "id", "issued_at": "at", "expires_at": "expires_at"},
    "revoke": {"how": "delete"},
}
RENEWED = with_changes(STORE, tokens={"renewed_from": "was"})
FAMILY = with_changes(STORE, tokens={"family": "family"})
BOTH = with_changes(STORE, tokens={"renewed_from": "was", "family": "family"})
CODES = {"table": "codes", "column": "token", "references": "id", "on_revoke": "delete"}
OF_SESSION = {"table": "codes", "column": "token", "references": "session", "on_revoke": "delete"}
TABLES = """
CREATE TABLE tokens (
    id text PRIMARY KEY, at timestamptz DEFAULT now(), was text, family text, session text,
    expires_at timestamptz DEFAULT now() + interval '1 day'
);
CREATE TABLE codes (id int PRIMARY KEY, token {type});
INSERT INTO tokens (id, at, was, family, session) VALUES
    ('1', now() - interval '9 min', NULL, NULL, 's1'), ('2', now() - interval '8 min', '1', '1', 's2'),
    ('9', now() - interval '7 min', NULL, '9', 's9');
INSERT INTO codes VALUES (1, {one}), (2, {two}), (9, {nine})
"""


@pytest.fixture
def trial(database: Database) -> Trial:
    return Trial(database)


def filled(trial: Trial, type_: str = "text", one: str = "'1'", two: str = "'2'", nine: str = "'9'") -> None:
    trial.sql(TABLES.format(type=type_, one=one, two=two, nine=nine))


def left(trial: Trial, table: str = "tokens") -> list[Any]:
    return [row[0] for row in trial.sql(f"SELECT id FROM {table} ORDER BY 1")]


def late(trial: Trial, select: Any, store: Any, *statements: str, **options: Any) -> dict[str, Any]:
    """Revoke while a transaction is open that has run `statements` and commits after the first pass; return the result."""
    with trial.open_transaction(*statements) as other, trial.running(select, store, max_wait="20 s", **options) as given:
        trial.until_it_waits()
        other.execute("COMMIT")
    assert "error" not in given, given["error"]
    assert given["result"]["remaining"] == 0
    return dict(given["result"])


@pytest.mark.parametrize("atomic", [False, True])
@pytest.mark.parametrize(("store", "row"), [(RENEWED, "'2', NULL"), (FAMILY, "NULL, '1'"), (BOTH, "'2', NULL"), (BOTH, "NULL, '1'")])
def test_a_successor_of_a_deleted_token(trial: Trial, store: Any, row: str, atomic: bool) -> None:
    filled(trial)
    before = trial.everything()
    result = late(trial, {"ids": ["1"]}, store, f"INSERT INTO tokens (id, was, family) VALUES ('3', {row})", atomic=atomic)
    assert left(trial) == ["9"]
    assert (result["revoked"], result["late"]) == (3, 1)
    trial.sql("INSERT INTO tokens VALUES ('8')")
    trial.take_back(result)
    trial.sql("DELETE FROM tokens WHERE id IN ('3', '8')")
    assert trial.everything() == before


def test_a_successor_whose_own_successors_are_there_too(trial: Trial) -> None:
    filled(trial)
    late(trial, {"ids": ["2"]}, BOTH, "INSERT INTO tokens (id, was, family) VALUES ('3', '2', NULL), ('4', '3', 'x'), ('5', NULL, 'x')")
    assert left(trial) == ["1", "9"]


def test_nothing_of_the_family_that_was_issued_before(trial: Trial) -> None:
    filled(trial)
    older = "INSERT INTO tokens (id, at, family) VALUES ('old', now() - interval '1 hour', '1'), ('new', now(), '1'), ('other', now(), '9')"
    result = late(trial, {"ids": ["2"]}, FAMILY, older)
    assert left(trial) == ["1", "9", "old", "other"]
    assert result["revoked"] == 2


def test_a_token_whose_time_of_issue_is_not_known_leads_to_no_more_than_the_one_it_followed(trial: Trial) -> None:
    filled(trial)
    trial.sql("UPDATE tokens SET at = now() - interval '20 min' WHERE id = '2'")
    trial.sql("INSERT INTO tokens (id, at, family) VALUES ('3', NULL, '1')")
    assert trial.run({"ids": ["1"]}, FAMILY)["revoked"] == 2
    assert left(trial) == ["2", "9"]


@pytest.mark.parametrize("atomic", [False, True])
@pytest.mark.parametrize(("reference", "key"), [(CODES, "'2'"), (OF_SESSION, "'s2'")])
def test_what_refers_to_a_deleted_token(trial: Trial, reference: Any, key: str, atomic: bool) -> None:
    if reference is CODES:
        filled(trial)
    else:
        filled(trial, "text", "'s1'", "'s2'", "'s9'")
    store = {**RENEWED, "dependents": [reference]}
    result = late(trial, {"ids": ["1"]}, store, f"INSERT INTO codes VALUES (3, {key}), (4, 'another')", atomic=atomic)
    assert (left(trial), left(trial, "codes")) == (["9"], [4, 9])
    assert result["dependents"] == 3


@pytest.mark.parametrize("select", [{"all": True}, {"ids": ["1", "2"]}])
def test_what_refers_to_a_deleted_token_of_a_store_without_chains(trial: Trial, select: Any) -> None:
    filled(trial)
    late(trial, select, {**STORE, "dependents": [CODES]}, "INSERT INTO codes VALUES (3, '2')")
    assert left(trial, "codes") == ([] if "all" in select else [9])


def test_an_allow_list_and_a_reference_of_another_type(trial: Trial) -> None:
    uuid = "'00000000-0000-0000-0000-00000000000%d'"
    filled(trial, "uuid", *(uuid % number for number in (1, 2, 9)))
    trial.sql("UPDATE tokens SET id = '00000000-0000-0000-0000-00000000000' || id")
    store = {**STORE, "allowlist": {"table": "codes", "id": "token"}}
    late(trial, {"ids": ["00000000-0000-0000-0000-000000000002"]}, store, f"INSERT INTO codes VALUES (3, {uuid % 2}), (4, {uuid % 4})")
    assert left(trial, "codes") == [1, 4, 9]


def test_nothing_is_remembered_where_nothing_is_deleted_or_followed(trial: Trial) -> None:
    filled(trial)
    trial.sql("ALTER TABLE tokens ADD gone timestamptz")
    trial.sql("CREATE TABLE made (name text)")
    trial.sql(
        "CREATE FUNCTION note() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.made SELECT object_identity"
        " FROM pg_event_trigger_ddl_commands() WHERE object_identity LIKE '%remembered%'; END $$;"
        " CREATE EVENT TRIGGER note ON ddl_command_end EXECUTE FUNCTION note()"
    )
    stamped = {**BOTH, "revoke": {"how": "timestamp", "column": "gone"}, "dependents": [CODES]}
    trial.run({"ids": ["1"]}, stamped)
    trial.run({"all": True}, BOTH, check=True)
    trial.run({"ids": ["9"]}, STORE)
    assert trial.sql("SELECT name FROM made") == []
    trial.run({"ids": ["1"]}, BOTH)
    assert len(trial.sql("SELECT name FROM made")) == 1


@pytest.mark.parametrize("size", [4000])
@pytest.mark.parametrize("select", [{"families": ["x"]}, {"ids": ["1"]}])
def test_a_large_family_costs_no_more_than_its_members(trial: Trial, size: int, select: Any) -> None:
    trial.sql("CREATE TABLE tokens (id int PRIMARY KEY, at timestamptz, family text, expires_at timestamptz)")
    trial.sql(f"INSERT INTO tokens SELECT n, now() - interval '1 day' + n * interval '1 s', 'x' FROM generate_series(1, {size}) n")
    with spending(trial.database.cluster) as spent:
        assert trial.run(select, FAMILY, check=True)["selected"] == size
    assert spent.seconds < 4
