"""What docs/retention.md tells an operator to write works as it stands, by the role and with the privileges that it says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from psycopg.sql import SQL

from ansible_collections.pgops.runbook.plugins.module_utils._system import load
from tests.integration.cleaning import Cleaner

pytestmark = pytest.mark.any_driver

PAGE = Path(__file__).resolve().parents[2] / "docs/retention.md"
ID = "c4ca4238-a0b9-2382-0dcc-509a6f75849b"  # md5 of 1
TABLES = """
CREATE SCHEMA app;
CREATE TABLE app.tokens (id uuid PRIMARY KEY, expires_at timestamptz);
CREATE TABLE app.denied (id uuid PRIMARY KEY, expires_at timestamptz);
CREATE TABLE app.mails (user_id int, state text, sent_at timestamptz);
CREATE TABLE app.people (id int, last_seen_at timestamptz, deleted_at timestamptz);
CREATE TABLE app.audit (at timestamptz) PARTITION BY RANGE (at);
CREATE TABLE app.audit_2020 PARTITION OF app.audit FOR VALUES FROM ('2020-01-01Z') TO ('2021-01-01Z');
CREATE TABLE app.audit_rest PARTITION OF app.audit DEFAULT;
INSERT INTO app.tokens SELECT md5(n::text)::uuid, now() - n * interval '10 days' FROM generate_series(-2, 3) AS n;
INSERT INTO app.denied SELECT id, expires_at FROM app.tokens WHERE id <> md5('-2')::uuid;
INSERT INTO app.mails SELECT n % 2, 'sent', now() - n * interval '100 days' FROM generate_series(1, 10) AS n;
INSERT INTO app.people VALUES (1, 'epoch', NULL), (2, 'epoch', now() - interval '1 year'), (3, now(), NULL);
INSERT INTO app.audit VALUES ('2020-05-01Z'), (now());
"""


def blocks(language: str) -> list[str]:
    """Return the blocks of the page in a language."""
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def statements(about: str) -> list[str]:
    """Return the statements of the one block that has `about` in it."""
    (block,) = (block for block in blocks("sql") if about in block)
    return [statement.strip() for statement in re.sub("--.*", "", block).split(";") if statement.strip()]


@pytest.fixture
def shop(cleaner: Cleaner) -> Iterator[Cleaner]:
    """The tables of the page, and the role that it gives privileges to."""
    cleaner.sql(SQL(TABLES))
    cleaner.sql("DROP ROLE IF EXISTS pgops, auditor; CREATE ROLE pgops LOGIN; CREATE ROLE auditor")
    cleaner.sql(SQL("REVOKE TEMPORARY ON DATABASE {} FROM PUBLIC".replace("{}", cleaner.database.name)))
    for statement in statements("pg_read_all_stats"):
        cleaner.sql(SQL(statement.replace("DATABASE shop", f"DATABASE {cleaner.database.name}")))
    for partition in ("audit_2020", "audit_rest"):
        cleaner.sql(SQL(f"ALTER TABLE app.{partition} OWNER TO pgops"))
    yield cleaner
    cleaner.sql("DROP OWNED BY pgops, auditor; DROP ROLE pgops; DROP ROLE auditor")


def test_the_rules_do_what_the_page_says(shop: Cleaner) -> None:
    (text,) = blocks("yaml")
    system = load(yaml.safe_load(text))
    more: dict[str, Any] = {"token_stores": system["token_stores"], "login": {"login_user": "pgops"}}
    daily = shop.run(system["retention"]["daily"], **more)
    assert [row["removed"] for row in daily["rules"]] == [3, 3, 4]
    assert (daily["stopped"], daily["archived"], daily["throttle"]["unknown"]) == ("done", 3, [])
    weekly = shop.run(system["retention"]["weekly"], **more)
    assert [(row["marked"], row["removed"]) for row in weekly["rules"]] == [(1, 0), (0, 1), (0, 1)]
    assert weekly["rules"][2]["partitions"] == ["app.audit_2020"]

    for statement in statements("CREATE INDEX"):
        shop.sql(SQL(statement))
    (both,), (back,) = statements("UNION ALL"), statements("WITH back")
    assert [str(row[0]) for row in shop.sql(SQL(both))] == [ID]
    shop.sql(SQL(back))
    assert [str(row[0]) for row in shop.sql(SQL(both))] == [ID]
    assert (shop.count("app.tokens"), shop.count("app.tokens_archive")) == (4, 2)


def test_a_person_sees_the_run(shop: Cleaner) -> None:
    (watch,) = statements("pg_stat_activity")
    with shop.open(login_user="pgops"):
        ((_pid, name, _wait, state),) = [row for row in shop.sql(SQL(watch)) if row[1].startswith("pgops.runbook/pg_cleanup")]
    assert (name, state) == ("pgops.runbook/pg_cleanup", "idle")
