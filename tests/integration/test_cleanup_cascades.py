"""Rows that go along by another way than the shortest, or by the same key again and again, as tokens that were renewed from each other."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.pgops.runbook.plugins.module_utils._errors import InvalidValue
from tests.integration.cleaning import STORE, TABLES, Cleaner, rule

pytestmark = pytest.mark.any_driver

USERS = rule("app.users", "gone_at")
SESSIONS = """
CREATE TABLE app.users (id int PRIMARY KEY, gone_at timestamptz);
INSERT INTO app.users VALUES (1, 'epoch'), (2, 'epoch'), (3, NULL);
CREATE TABLE app.teams (id int PRIMARY KEY, who int CONSTRAINT owned REFERENCES app.users ON DELETE CASCADE);
INSERT INTO app.teams SELECT id, id FROM app.users;
CREATE TABLE app.sessions (id int PRIMARY KEY, who int CONSTRAINT mine REFERENCES app.users ON DELETE CASCADE,
    team int CONSTRAINT ours REFERENCES app.teams ON DELETE CASCADE);
INSERT INTO app.sessions SELECT id, id FROM app.users UNION ALL SELECT 4, NULL;
ALTER TABLE app.tokens ADD PRIMARY KEY (id), ADD who int CONSTRAINT whose REFERENCES app.users ON DELETE CASCADE,
    ADD session int CONSTRAINT within REFERENCES app.sessions ON DELETE CASCADE,
    ADD was uuid CONSTRAINT renewed REFERENCES app.tokens ON DELETE CASCADE;
INSERT INTO app.tokens (id, issued_at, expires_at)
SELECT md5(n::text)::uuid, now() - interval '10 days', now() + interval '20 days' FROM generate_series(1, 10) AS n;
INSERT INTO app.denied SELECT id, now(), expires_at FROM app.tokens;
"""
# Each was renewed from the one before it.
CHAIN = "UPDATE app.tokens AS t SET was = md5((n - 1)::text)::uuid FROM generate_series(2, 10) AS n WHERE t.id = md5(n::text)::uuid;"
LINKS = {
    "by another way": "UPDATE app.tokens SET session = 1 WHERE id = md5('9')::uuid",
    "by both ways": "UPDATE app.tokens SET session = 1, who = 1 WHERE id = md5('9')::uuid",
    "by another way to the session": "UPDATE app.sessions SET team = 1 WHERE id = 4;"
    " UPDATE app.tokens SET session = 4 WHERE id = md5('9')::uuid",
    "from one of those": CHAIN + "UPDATE app.tokens SET who = 1 WHERE id = md5('8')::uuid",
    "from one of those of another way": CHAIN + "UPDATE app.tokens SET session = 1 WHERE id = md5('1')::uuid",
    "and of another user": CHAIN + "UPDATE app.tokens SET session = 1, who = 2 WHERE id = md5('1')::uuid",
}


@pytest.fixture
def app(cleaner: Cleaner) -> Cleaner:
    cleaner.sql(TABLES)
    cleaner.sql(SESSIONS)
    return cleaner


@pytest.mark.parametrize("link", list(LINKS))
@pytest.mark.parametrize("check", [False, True])
def test_a_token_row_that_a_deny_row_needs_goes_by_no_cascade(app: Cleaner, link: str, check: bool) -> None:
    app.sql(LINKS[link])
    app.sql("UPDATE app.denied SET expires_at = now() + interval '1 day' WHERE id = md5('9')::uuid")
    hit = 2 if link == "and of another user" else 1
    with pytest.raises(InvalidValue, match=rf"rules\[0\].table: .* {hit} of the 2 rows of app.users .* store 'app' still need"):
        app.run([USERS], check=check, token_stores=[STORE])
    assert (app.count("app.users"), app.count("app.tokens")) == (3, 10)
    app.sql("UPDATE app.denied SET expires_at = now() + interval '30 days'")
    assert app.run([USERS], token_stores=[STORE])["removed"] == 2


@pytest.mark.parametrize("check", [False, True])
def test_nothing_is_in_the_way_of_what_takes_no_such_row_along(app: Cleaner, check: bool) -> None:
    app.sql(CHAIN + "UPDATE app.tokens SET session = 3 WHERE id = md5('1')::uuid; UPDATE app.tokens SET who = 1 WHERE id = md5('10')::uuid")
    app.sql("UPDATE app.denied SET expires_at = now() + interval '1 day' WHERE id = md5('9')::uuid")
    assert app.run([USERS], check=check, token_stores=[STORE])["removed"] == 2
    assert app.count("app.tokens") == (10 if check else 9)


def test_tokens_that_go_take_those_along_that_were_renewed_from_them(app: Cleaner) -> None:
    app.sql(CHAIN + "UPDATE app.tokens SET issued_at = now() - interval '2 years', expires_at = 'epoch' WHERE id = md5('1')::uuid")
    app.sql("UPDATE app.denied SET expires_at = now() + interval '1 day' WHERE id = md5('9')::uuid")
    old: dict[str, Any] = rule("app.tokens", "issued_at", "365 d")
    with pytest.raises(InvalidValue, match=r'"renewed" of app.tokens .* 1 of the 1 row of app.tokens'):
        app.run([old], token_stores=[STORE])
    assert app.count("app.tokens") == 10


def test_a_long_chain_is_not_followed_anew_from_each_of_its_rows(app: Cleaner) -> None:
    app.sql("TRUNCATE app.tokens, app.denied")
    app.sql(
        "INSERT INTO app.tokens (id, issued_at, expires_at, was)"
        " SELECT md5(n::text)::uuid, 'epoch', 'epoch', md5((nullif(n, 1) - 1)::text)::uuid FROM generate_series(1, 20000) AS n"
    )
    app.sql("CREATE INDEX ON app.tokens (was); ANALYZE app.tokens")
    result = app.run([rule("app.tokens", "issued_at", "365 d")], check=True, token_stores=[STORE], login={"statement_timeout": "60 s"})
    assert result["removed"] == 20000


RING = """
CREATE TABLE app.notes (id int PRIMARY KEY, at timestamptz, log int, logged timestamptz);
CREATE TABLE app.log (id int, at timestamptz, note int REFERENCES app.notes ON DELETE CASCADE, PRIMARY KEY (id, at))
    PARTITION BY RANGE (at);
CREATE TABLE app.log_1 PARTITION OF app.log FOR VALUES FROM ('2020-01-01Z') TO ('2020-02-01Z');
CREATE TABLE app.log_2 PARTITION OF app.log FOR VALUES FROM ('2100-01-01Z') TO ('2100-02-01Z');
ALTER TABLE app.notes ADD FOREIGN KEY (log, logged) REFERENCES app.log ON DELETE CASCADE;
INSERT INTO app.log VALUES (1, '2020-01-01Z', NULL);
INSERT INTO app.notes VALUES (1, '2020-01-01Z', 1, '2020-01-01Z');
INSERT INTO app.log VALUES (2, '2100-01-01Z', 1);
INSERT INTO app.notes VALUES (2, '2100-01-01Z', 2, '2100-01-01Z');
"""


def test_only_what_refers_to_a_partition_itself_is_in_the_way_of_dropping_it(app: Cleaner) -> None:
    app.sql(RING)
    drop = {**rule("app.log", "at", "1 d", action="drop_partitions"), "name": "drop"}
    result = app.run([{**rule("app.notes", "at", "1 d"), "name": "notes"}, drop])
    assert [row["removed"] for row in result["rules"]] == [1, 1]
    assert (app.count("app.log"), app.count("app.notes")) == (0, 0)
