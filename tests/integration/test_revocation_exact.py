"""Taking a revocation back, row by row: whatever the tables are made of, they are as they were, and no other row is touched."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.pgops.runbook.plugins.module_utils._errors import InvalidValue
from tests.ground.databases import Database
from tests.integration.hindering import with_changes
from tests.integration.revoking import Trial, of_store

ALL = {"all": True}
STORE: dict[str, Any] = {"name": "app", "tokens": {"table": "tokens", "id": "id", "subject": "subject"}, "revoke": {"how": "delete"}}
WAYS: dict[str, Any] = {
    "delete": {"how": "delete"},
    "flag": {"how": "flag", "column": "revoked"},
    "timestamp": {"how": "timestamp", "column": "revoked_at"},
    "seconds": {"how": "timestamp", "column": {"column": "revoked_s", "unit": "s"}},
    "day": {"how": "timestamp", "column": "revoked_on"},
    "denylist": {"how": "denylist", "table": "denied", "id": "id"},
}


@pytest.fixture
def trial(database: Database) -> Trial:
    return Trial(database)


def store(how: str, **parts: Any) -> dict[str, Any]:
    return with_changes({**STORE, "revoke": WAYS[how]}, **parts)


MARKS = "revoked boolean, revoked_at timestamptz, revoked_s bigint, revoked_on date"


@pytest.mark.parametrize("how", WAYS)
def test_rows_that_nothing_tells_apart(trial: Trial, how: str) -> None:
    """No primary key, ids that stand twice and are NULL, whole rows that stand twice, some of them revoked before."""
    trial.sql(
        f"""
        CREATE TABLE tokens (id int, subject text, {MARKS});
        CREATE TABLE denied (id int);
        INSERT INTO tokens (id, subject) VALUES (1, 'a'), (1, 'a'), (2, NULL), (3, 'c'), (4, 'd');
        INSERT INTO tokens VALUES (1, 'a', true, '2026-01-01', 1, '2026-01-01'), (1, 'a', false, NULL, NULL, NULL),
            (2, NULL, NULL, '2026-01-01', 1, '2026-01-01'), (2, 'b', true, '2026-01-01', 1, '2026-01-01');
        INSERT INTO denied VALUES (3), (3), (5);
        """
    )
    if how != "denylist":
        trial.sql("INSERT INTO tokens (subject, revoked) VALUES ('a', NULL), ('a', false)")
    assert trial.there_and_back(ALL, store(how))["changed"]
    assert trial.there_and_back({"subjects": ["a"]}, store(how), batch_rows=1)["changed"]


@pytest.mark.parametrize("how", WAYS)
def test_hostile_names_and_values(trial: Trial, how: str) -> None:
    trial.sql(
        """
        CREATE SCHEMA "Web App";
        CREATE TABLE "Web App"."Tok%ens.v2" ("select" text PRIMARY KEY, "token_" text, "row_" text, "%s" text, "a""b" boolean,
            "revoked at" timestamptz, "{x}" bigint, "order" date);
        CREATE TABLE "Web App"."Den%ied" ("user" text PRIMARY KEY, "deny_" text, "stage_" text);
        INSERT INTO "Web App"."Tok%ens.v2" SELECT v, v, v, v FROM unnest(ARRAY['', ' ', '%', '''', '"', '\\', '(a,b)', '{}', 'NULL',
            E'tab\\tline\\n', '%(x)s', '{0}', 'ünïcödé', ',']) AS v;
        """
    )
    columns = {"revoked": 'a"b', "revoked_at": "revoked at", "revoked_on": "order"}
    revoke = dict(WAYS[how])
    if how == "seconds":
        revoke["column"] = {"column": "{x}", "unit": "s"}
    elif "column" in revoke:
        revoke["column"] = columns[revoke["column"]]
    elif how == "denylist":
        revoke |= {"table": "Web App.Den%ied", "id": "user", "reason": "deny_"}
    tokens = {"table": '"Web App"."Tok%ens.v2"', "id": "select", "subject": "%s", "type": "row_", "client": "token_"}
    if how == "denylist":
        revoke["table"] = '"Web App"."Den%ied"'
    hostile = {"name": "100% 'it' {x}", "tokens": tokens, "revoke": revoke}
    assert trial.there_and_back(ALL, hostile)["revoked"] == 14
    some = ["%", "'", '"', "\\", "(a,b)", "{}", "NULL", "%(x)s", "{0}", ","]
    assert trial.there_and_back({"ids": some, "subjects": some, "types": some, "clients": some}, hostile)["revoked"] == len(some)


@pytest.mark.parametrize("how", WAYS)
def test_partitions_dropped_generated_and_identity_columns(trial: Trial, how: str) -> None:
    trial.sql(
        f"""
        CREATE TABLE tokens (gone int, id bigint GENERATED ALWAYS AS IDENTITY, subject text, also_gone text,
            twice text GENERATED ALWAYS AS (subject || subject) STORED, at date NOT NULL, {MARKS}, amount numeric(9, 3), bytes bytea,
            day interval, ip inet, list text[], doc jsonb, real8 float8, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
        CREATE TABLE tokens_1 PARTITION OF tokens FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
        CREATE TABLE tokens_2 (at date NOT NULL, subject text, id bigint NOT NULL, {MARKS}, gone int, also_gone text, real8 float8,
            twice text GENERATED ALWAYS AS (subject || subject) STORED, amount numeric(9, 3), bytes bytea, day interval, ip inet,
            list text[], doc jsonb);
        ALTER TABLE tokens ATTACH PARTITION tokens_2 FOR VALUES FROM ('2026-02-01') TO ('2026-03-01');
        CREATE TABLE denied (id bigint, part int, PRIMARY KEY (id)) PARTITION BY HASH (id);
        CREATE TABLE denied_1 PARTITION OF denied FOR VALUES WITH (MODULUS 2, REMAINDER 0);
        CREATE TABLE denied_2 PARTITION OF denied FOR VALUES WITH (MODULUS 2, REMAINDER 1);
        ALTER TABLE tokens DROP COLUMN gone, DROP COLUMN also_gone;
        INSERT INTO tokens (subject, at, revoked, amount, bytes, day, ip, list, doc, real8)
        SELECT 'user' || n % 3, date '2026-01-20' + n, CASE n % 3 WHEN 0 THEN false END, n / 7.0, decode(md5(n::text), 'hex'),
            n * interval '1 month 1 day 0.000001 s', '10.0.0.1', ARRAY['a,b', '"', NULL], '{{"a": [1, null, "x\\\\y"]}}', 1.0 / (n + 2)
        FROM generate_series(0, 25) n;
        """.replace("{{", "{").replace("}}", "}")
    )
    assert trial.there_and_back(ALL, store(how))["revoked"] == 26
    assert trial.there_and_back({"subjects": ["user1"]}, store(how), batch_rows=2)["revoked"] == 9
    trial.sql("INSERT INTO tokens (subject, at) VALUES ('new', '2026-01-02')")
    assert trial.value("SELECT max(id) FROM tokens") == 27


@pytest.mark.parametrize("how", [how for how in WAYS if how != "delete"])
def test_inheritance_children(trial: Trial, how: str) -> None:
    trial.sql(CHILDREN)
    assert trial.there_and_back(ALL, store(how))["revoked"] == (3 if how == "denylist" else 4)
    assert trial.there_and_back({"ids": ["1"]}, store(how))["revoked"] == (1 if how == "denylist" else 2)


CHILDREN = f"""
CREATE TABLE tokens (id int PRIMARY KEY, subject text, {MARKS});
CREATE TABLE web_tokens (browser text) INHERITS (tokens);
CREATE TABLE denied (id int);
INSERT INTO tokens (id, subject) VALUES (1, 'a'), (2, 'b');
INSERT INTO web_tokens (id, subject, browser) VALUES (1, 'a', 'x'), (3, 'c', 'y');
"""


@pytest.mark.parametrize("check", [True, False])
def test_rows_of_inheritance_children_could_not_be_brought_back(trial: Trial, check: bool) -> None:
    trial.sql(CHILDREN)
    before = trial.everything()
    with pytest.raises(InvalidValue, match=r"public\.tokens has children by inheritance"):
        trial.run(ALL, store("delete"), check=check)
    assert trial.everything() == before


PARENTS = """
CREATE TABLE tokens (id int PRIMARY KEY, subject text);
CREATE TABLE codes (id int PRIMARY KEY, token_id int REFERENCES tokens, at timestamptz);
"""
CODES = {"table": "codes", "column": "token_id", "references": "id", "on_revoke": "delete"}


def test_what_refers_comes_back_after_what_it_refers_to(trial: Trial) -> None:
    """A run that goes on finds more kinds of rows than the one that began."""
    trial.sql(PARENTS + "INSERT INTO tokens VALUES (1, 'a')")
    given = store("delete", dependents=[CODES])
    trial.run({"subjects": ["a"]}, given, revocation_id="incident")
    trial.sql("INSERT INTO tokens VALUES (2, 'a'); INSERT INTO codes VALUES (1, 2)")
    result = trial.run({"subjects": ["a"]}, given, revocation_id="incident")
    assert (result["revoked"], result["dependents"]) == (1, 1)
    assert [one["reinstated"] for one in trial.take_back(result)["changes"]] == [2, 1]
    assert trial.sql("SELECT t.id, c.id FROM tokens t LEFT JOIN codes c ON token_id = t.id ORDER BY 1") == [(1, None), (2, 1)]


@pytest.mark.parametrize("how", WAYS)
def test_the_middle_one_of_three_revocations_is_taken_back_alone(trial: Trial, how: str) -> None:
    trial.sql(
        f"""
        CREATE TABLE tokens (id int PRIMARY KEY, subject text, {MARKS}, expires_at timestamptz DEFAULT now() + interval '1 h');
        CREATE TABLE denied (id int PRIMARY KEY, expires_at timestamptz);
        INSERT INTO tokens SELECT n, 'user' || n % 3 FROM generate_series(1, 9) n;
        INSERT INTO denied VALUES (1, now()), (2, now());
        """
    )
    given = store(how, tokens={"expires_at": "expires_at"}, **({"revoke": {"expires_at": "expires_at"}} if how == "denylist" else {}))
    first, middle, last = (trial.run({"subjects": [f"user{n}"]}, given) for n in range(3))
    with_all = trial.everything()
    trial.take_back(middle)
    again = trial.run({"subjects": ["user1"]}, given)
    assert again["revoked"] == 3
    if how in ("flag", "delete", "denylist", "day"):
        assert how == "denylist" or trial.everything() == with_all
    trial.take_back(again)
    trial.take_back(first)
    trial.take_back(last)
    assert trial.sql("SELECT count(*) FROM tokens WHERE revoked OR revoked_at IS NOT NULL OR revoked_s IS NOT NULL") == [(0,)]
    assert of_store(trial.run(ALL, given, check=True), "app")["pending"] == 9


def test_a_cascade_that_a_marked_row_would_not_survive_is_refused(trial: Trial) -> None:
    trial.sql(PARENTS.replace("REFERENCES tokens", "REFERENCES tokens ON DELETE CASCADE") + "INSERT INTO tokens VALUES (1, 'a')")
    trial.sql("INSERT INTO codes VALUES (1, 1)")
    stamped = {**CODES, "on_revoke": "timestamp", "mark": "at"}
    with pytest.raises(InvalidValue, match=r"would change rows of public\.codes by the foreign key"):
        trial.run(ALL, store("delete", dependents=[stamped]))
    with pytest.raises(InvalidValue, match=r"would change rows of public\.codes by the foreign key"):
        trial.run(ALL, store("delete"))
    assert trial.there_and_back(ALL, store("delete", dependents=[CODES]))["dependents"] == 1
    assert trial.there_and_back(ALL, store("delete", dependents=[{**CODES, "on_revoke": "clear"}]))["dependents"] == 1


@pytest.mark.parametrize("how", ["flag", "day", "denylist"])
def test_rows_that_a_trigger_touches_when_they_change(trial: Trial, how: str) -> None:
    """What the trigger wrote stays; without a key of its own the row is found all the same."""
    trial.sql(
        f"""
        CREATE TABLE tokens (id int, subject text, touched int DEFAULT 0, {MARKS});
        CREATE TABLE denied (id int, touched int DEFAULT 0);
        CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.touched := coalesce(NEW.touched, 0) + 1; RETURN NEW; END';
        CREATE TRIGGER touch BEFORE INSERT OR UPDATE ON tokens FOR EACH ROW EXECUTE FUNCTION touch();
        CREATE TRIGGER touch BEFORE INSERT OR UPDATE ON denied FOR EACH ROW EXECUTE FUNCTION touch();
        INSERT INTO tokens (id, subject, revoked) VALUES (1, 'a', NULL), (1, 'a', false), (2, 'b', NULL), (2, 'b', true);
        """
    )
    content = "SELECT id, subject, revoked, revoked_on FROM tokens ORDER BY 1, 2, 3"
    before = trial.sql(content)
    result = trial.revoke({"subjects": ["a"]}, store(how))
    assert trial.take_back(result)["reinstated"] == (1 if how == "denylist" else 2)
    assert (trial.sql(content), trial.sql("SELECT * FROM denied")) == (before, [])
