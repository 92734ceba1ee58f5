"""Taking a revocation back: nothing is lost that the record does not tell of, whatever has become of the tables since."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.pgops.runbook.plugins.module_utils._errors import DatabaseError, InvalidValue, MissingObject
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.report import Unproven
from tests.ground.databases import Database
from tests.integration.revoking import Trial

ALL = {"all": True}
TOKENS = {"table": "tokens", "id": "id", "subject": "subject"}
DELETE: dict[str, Any] = {"name": "app", "tokens": TOKENS, "revoke": {"how": "delete"}}
CODES = {"table": "codes", "column": "token_id", "references": "id", "on_revoke": "delete"}


@pytest.fixture
def trial(database: Database) -> Trial:
    return Trial(database)


CASCADE = """
CREATE TABLE tokens (id int PRIMARY KEY, subject text);
CREATE TABLE codes (id int PRIMARY KEY, token_id int REFERENCES tokens ON DELETE CASCADE, kind text, subject text);
INSERT INTO tokens VALUES (1, 'a'), (2, 'a'), (3, 'b');
INSERT INTO codes VALUES (1, 1, 'x', 'a'), (2, 1, 'y', 'b'), (3, 3, 'x', 'a');
"""
NARROW = {
    "where": [{**CODES, "where": {"kind": "x"}}],
    "two together": [{**CODES, "when": ["id"]}, {**CODES, "column": "subject", "references": "subject", "when": ["subject"]}],
    "by another column": [{**CODES, "column": "subject", "references": "subject"}],
    "cleared elsewhere": [{**CODES, "column": "subject", "references": "subject", "on_revoke": "clear"}],
    "of another token column": [{**CODES, "column": "token_id", "references": "other"}],
}


@pytest.mark.parametrize("entries", NARROW.values(), ids=NARROW)
@pytest.mark.parametrize("check", [True, False])
def test_a_cascade_over_rows_that_the_description_does_not_take_is_refused(trial: Trial, entries: Any, check: bool) -> None:
    trial.sql(CASCADE + "ALTER TABLE tokens ADD other int")
    before = trial.everything()
    with pytest.raises(InvalidValue, match=r"would change rows of (public\.)?codes by the foreign key"):
        trial.run({"ids": ["1"], "subjects": ["a"]}, {**DELETE, "dependents": entries}, check=check)
    assert trial.everything() == before


@pytest.mark.parametrize("entry", [CODES, {**CODES, "on_revoke": "clear"}, {**CODES, "when": ["id"]}])
def test_a_cascade_that_finds_no_row_left_is_not(trial: Trial, entry: Any) -> None:
    trial.sql(CASCADE)
    assert trial.there_and_back({"ids": ["1", "2"]}, {**DELETE, "dependents": [entry]})["dependents"] == 2


def test_what_refers_to_a_token_at_the_last_moment_goes_on_record_first(trial: Trial) -> None:
    """A row that comes between the deletion of the others and that of the tokens, here from a trigger."""
    trial.sql(
        CASCADE
        + """
        CREATE FUNCTION comes_late() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN IF OLD.id = 1 THEN INSERT INTO public.codes VALUES (9, 2); END IF; RETURN OLD; END $$;
        CREATE TRIGGER comes_late AFTER DELETE ON codes FOR EACH ROW EXECUTE FUNCTION comes_late();
        """
    )
    result = trial.run(ALL, {**DELETE, "dependents": [CODES]})
    assert (result["revoked"], result["dependents"], result["remaining"]) == (3, 4, 0)
    assert trial.take_back(result)["reinstated"] == 7
    assert trial.value("SELECT string_agg(id::text, ',' ORDER BY id) FROM codes WHERE token_id IS NOT NULL") == "1,2,3,9"


DENIED = "CREATE TABLE tokens (id int PRIMARY KEY, subject text); CREATE TABLE denied (id int PRIMARY KEY, at timestamptz);"
UNREACHABLE = {"engine": "redis", "host": "127.0.0.1", "port": 1, "keys": ["session:{id}"]}


@pytest.mark.parametrize("first", [True, False])
def test_a_revocation_that_went_on_with_other_caches_comes_back_whole(trial: Trial, first: bool) -> None:
    """Rows are kept one by one only for the sake of caches: here some are, and the time of revocation finds them all."""
    given = {**DELETE, "revoke": {"how": "denylist", "table": "denied", "id": "id", "revoked_at": "at"}}
    trial.sql(DENIED + "INSERT INTO tokens VALUES (1, 'a'), (2, 'a'), (3, 'a')")
    for with_caches in (first, not first):
        if with_caches:
            with pytest.raises(Unproven):
                trial.run({"subjects": ["a"]}, given, revocation_id="incident", caches=[UNREACHABLE])
        else:
            trial.run({"subjects": ["a"]}, given, revocation_id="incident")
        trial.sql("INSERT INTO tokens VALUES (4, 'a') ON CONFLICT DO NOTHING")
    assert trial.value("SELECT count(*) FROM denied") == 4
    undone = trial.take_back({"revocation_id": "incident"})
    assert (undone["reinstated"], undone["left"], trial.value("SELECT count(*) FROM denied")) == (4, 0, 0)


def test_rows_that_are_kept_no_longer_count_as_left(trial: Trial) -> None:
    trial.sql("CREATE TABLE tokens (id int PRIMARY KEY, subject text, revoked boolean); INSERT INTO tokens VALUES (1, 'a'), (2, 'a')")
    result = trial.run(ALL, {**DELETE, "revoke": {"how": "flag", "column": "revoked"}})
    trial.sql("DELETE FROM pgops_runbook.changed_rows WHERE key = ARRAY['1']")
    undone = trial.undo(result["revocation_id"])
    assert (undone["reinstated"], undone["left"]) == (1, 1)


SECRETS = "CREATE TABLE tokens (id int PRIMARY KEY, subject text, pad char(5), at timestamptz DEFAULT now()); INSERT INTO tokens VALUES"
TWO = f"{SECRETS} (1, 'a', 'x'), (2, NULL, NULL)"


def test_deleted_rows_come_back_into_a_table_that_has_got_columns_since(trial: Trial) -> None:
    trial.sql(TWO)
    before = trial.sql("SELECT * FROM tokens ORDER BY id")
    trial.run({"ids": ["1"]}, DELETE, revocation_id="incident")
    trial.sql("ALTER TABLE tokens ADD extra int DEFAULT 7")
    result = trial.run({"ids": ["2"]}, DELETE)
    trial.take_back({"revocation_id": "incident"})
    trial.take_back(result)
    assert trial.sql("SELECT * FROM tokens ORDER BY id") == [(*row, 7) for row in before]


def test_deleted_rows_whose_column_is_gone_stay_on_record(trial: Trial) -> None:
    trial.sql(TWO)
    result = trial.run(ALL, DELETE)
    trial.sql("ALTER TABLE tokens DROP COLUMN pad")
    for check in (True, False):
        with pytest.raises(MissingObject, match=r"has no column pad any more"):
            trial.undo(result["revocation_id"], check=check)
    trial.sql("ALTER TABLE tokens ADD pad char(5)")
    assert trial.undo(result["revocation_id"])["reinstated"] == 2


@pytest.mark.parametrize("kind", ["int USING 0", "varchar(3) USING ''"])
def test_a_value_that_fits_no_longer_is_not_shown(trial: Trial, kind: str) -> None:
    trial.sql(f"{SECRETS} (1, 'TOPSECRET', 'x')")
    result = trial.run(ALL, DELETE)
    trial.sql(f"ALTER TABLE tokens ALTER subject TYPE {kind}")
    with pytest.raises(DatabaseError, match=r"does not fit its column any more") as caught:
        trial.undo(result["revocation_id"])
    assert "TOPSECRET" not in str(caught.value.as_result())
    assert trial.value("SELECT count(*) FROM tokens") == 0


def test_a_denial_that_the_application_has_made_anew_since_stays(trial: Trial) -> None:
    """The deny list has no time of revocation, so that only its end tells the one row from the other."""
    trial.sql(
        "CREATE TABLE tokens (id int PRIMARY KEY, subject text, ends timestamptz);"
        " CREATE TABLE denied (id int PRIMARY KEY, ends timestamptz);"
        " INSERT INTO tokens SELECT n, 'a', now() + interval '1 day' FROM generate_series(1, 3) n"
    )
    revoke = {"how": "denylist", "table": "denied", "id": "id", "expires_at": "ends"}
    result = trial.run(ALL, {**DELETE, "tokens": {**TOKENS, "expires_at": "ends"}, "revoke": revoke})
    trial.sql("DELETE FROM denied WHERE id = 1")
    trial.sql("INSERT INTO denied VALUES (1, now() + interval '30 days')")
    undone = trial.undo(result["revocation_id"])
    assert (undone["reinstated"], undone["left"], trial.sql("SELECT id FROM denied")) == (2, 1, [(1,)])
