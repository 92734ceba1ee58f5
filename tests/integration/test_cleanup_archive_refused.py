"""Archives that could lose rows or values are refused before the first change, with what would be right."""

from __future__ import annotations

import pytest

from tests.integration.cleaning import Cleaner
from tests.integration.test_cleanup_archive import Mover, role

pytestmark = pytest.mark.any_driver

KEPT = "CREATE TABLE s.kept (LIKE s.tokens);"

# What makes the archive unfit, and words of the refusal.
UNFIT: dict[str, tuple[str, str]] = {
    "a view": ("CREATE VIEW s.kept AS SELECT * FROM s.tokens", "s.kept is a view"),
    "a materialized view": ("CREATE MATERIALIZED VIEW s.kept AS SELECT * FROM s.tokens", "is a materialized view"),
    "a foreign table": (
        "CREATE FOREIGN DATA WRAPPER w; CREATE SERVER far FOREIGN DATA WRAPPER w; CREATE FOREIGN TABLE s.kept (id int) SERVER far",
        "is a foreign table",
    ),
    "a foreign partition": (
        "CREATE FOREIGN DATA WRAPPER w; CREATE SERVER far FOREIGN DATA WRAPPER w;"
        "CREATE TABLE s.kept (LIKE s.tokens) PARTITION BY LIST (id); CREATE FOREIGN TABLE s.kept_1 PARTITION OF s.kept DEFAULT SERVER far",
        "has a foreign table as a partition, s.kept_1",
    ),
    "an unlogged table": (KEPT + "ALTER TABLE s.kept SET UNLOGGED", 'ALTER TABLE "s"."kept" SET LOGGED'),
    "an unlogged partition": (
        "CREATE TABLE s.kept (LIKE s.tokens) PARTITION BY LIST (id); CREATE UNLOGGED TABLE s.kept_1 PARTITION OF s.kept DEFAULT",
        "s.kept_1 is UNLOGGED",
    ),
    "a rewrite rule": (KEPT + "CREATE RULE aside AS ON INSERT TO s.kept DO INSTEAD NOTHING", 'rewrite rule on INSERT, "aside"'),
    "a child": ("CREATE TABLE s.kept () INHERITS (s.tokens)", "related to s.tokens"),
    "a longer varchar": ("CREATE TABLE s.kept (id int, note varchar(20))", "of type character varying(20) in s.kept and of type character"),
    "a shorter varchar": ("CREATE TABLE s.kept (id int, note varchar(5))", 'ALTER COLUMN "note" TYPE character varying(10)'),
    "another type": ("CREATE TABLE s.kept (id bigint, note varchar(10))", "column 'id' is of type bigint in s.kept and of type integer"),
    "a generated column": ("CREATE TABLE s.kept (id int, x text, note varchar(10) GENERATED ALWAYS AS (x || 'a') STORED)", "is generated"),
    "a column that must be given": (KEPT + "ALTER TABLE s.kept ADD more text NOT NULL", 'ALTER COLUMN "more" DROP NOT NULL'),
    "a domain that must be given": (
        KEPT + "CREATE DOMAIN s.given AS text NOT NULL; ALTER TABLE s.kept ADD more s.given",
        "column 'more' of s.kept is NOT NULL without a default",
    ),
    "a type of that name": ("CREATE TYPE s.kept AS ENUM ('a')", "s.kept is a type"),
    "a composite type": ("CREATE TYPE s.kept AS (id int)", "s.kept is a composite type"),
    "a partition that lacks a column": (
        "CREATE TABLE s.top (id int) PARTITION BY LIST (id); CREATE TABLE s.kept PARTITION OF s.top DEFAULT",
        "as a partition or typed table",
    ),
    "a domain for older rows": (
        KEPT + "CREATE DOMAIN s.given AS text NOT NULL; ALTER TABLE s.tokens ADD more s.given DEFAULT 'x'",
        "its type refuses the NULL of older rows",
    ),
}


@pytest.fixture
def app(cleaner: Cleaner) -> Cleaner:
    cleaner.sql("CREATE SCHEMA s; CREATE TABLE s.tokens (id int, note varchar(10)); INSERT INTO s.tokens VALUES (1, 'a'), (2, NULL)")
    return cleaner


@pytest.mark.parametrize("why", list(UNFIT))
def test_an_archive_that_would_lose_something(app: Cleaner, why: str) -> None:
    prepare, words = UNFIT[why]
    app.sql(prepare)
    assert words in Mover(app).refused().as_result()["msg"]


@pytest.mark.parametrize(
    ("target", "create", "words"),
    [
        ("s.tokens", True, "is the table itself"),
        ("s.kept", False, 'CREATE TABLE "s"."kept" (LIKE "s"."tokens")'),
        ("old.kept", True, "schema 'old' does not exist"),
        ("old.kept", False, "schema 'old' does not exist"),
        ("pg_catalog.kept", True, "a schema of the server's own"),
        ("s." + "k" * 64, True, "(63 bytes)"),
    ],
)
def test_a_name_that_cannot_be(app: Cleaner, target: str, create: bool, words: str) -> None:
    assert words in Mover(app, target=target, create=create).refused().as_result()["msg"]


@pytest.mark.parametrize("target", ["s.top", "s.other", "s.below"])
def test_relatives_of_a_partition(app: Cleaner, target: str) -> None:
    app.sql("""
        DROP TABLE s.tokens;
        CREATE TABLE s.top (id int, note varchar(10)) PARTITION BY LIST (id);
        CREATE TABLE s.tokens PARTITION OF s.top FOR VALUES IN (1, 2) PARTITION BY LIST (id);
        CREATE TABLE s.below PARTITION OF s.tokens DEFAULT;
        CREATE TABLE s.other PARTITION OF s.top DEFAULT;
    """)
    assert "by partitioning or inheritance" in Mover(app, target=target).refused().message


def test_an_unlogged_source_may_have_an_unlogged_archive(app: Cleaner) -> None:
    app.sql("ALTER TABLE s.tokens SET UNLOGGED; CREATE UNLOGGED TABLE s.kept (LIKE s.tokens)")
    assert Mover(app).whole()["kept"] == 2


def test_a_role_that_may_not_make_it(app: Cleaner) -> None:
    login = role(app, "mover")
    error = Mover(app).refused(**login)
    assert error.sqlstate == "42501"
    assert f'GRANT USAGE, CREATE ON SCHEMA "s" TO "{login["login_user"]}"' in str(error.hint)
    app.sql(f"GRANT USAGE, CREATE ON SCHEMA s TO {login['login_user']}")
    assert Mover(app).whole(**login)["kept"] == 2


def test_a_role_that_may_not_insert(app: Cleaner) -> None:
    app.sql(KEPT)
    login = role(app, "mover", "GRANT INSERT (id) ON s.kept TO :me")
    error = Mover(app).refused(**login)
    assert error.sqlstate == "42501"
    assert f'GRANT INSERT ON "s"."kept" TO "{login["login_user"]}"' in str(error.hint)
    app.sql(f"GRANT INSERT (note) ON s.kept TO {login['login_user']}")
    assert Mover(app).whole(**login)["kept"] == 2


def test_a_role_that_may_not_enter_the_schema(app: Cleaner) -> None:
    app.sql("CREATE SCHEMA old; CREATE TABLE old.kept (LIKE s.tokens)")
    login = role(app, "mover", "GRANT INSERT ON old.kept TO :me")
    assert 'GRANT USAGE ON SCHEMA "old"' in str(Mover(app, target="old.kept").refused(**login).hint)


def test_a_role_that_may_not_add_columns(app: Cleaner) -> None:
    app.sql("CREATE TABLE s.kept (id int)")
    error = Mover(app).refused(**role(app, "mover", "GRANT INSERT ON s.kept TO :me"))
    assert error.sqlstate == "42501"
    assert 'ALTER TABLE "s"."kept" ADD COLUMN "note" character varying(10)' in str(error.hint)


def test_row_level_security_that_could_refuse_rows(app: Cleaner) -> None:
    app.sql(KEPT + "ALTER TABLE s.kept ENABLE ROW LEVEL SECURITY")
    error = Mover(app).refused(**role(app, "mover", "GRANT INSERT ON s.kept TO :me"))
    assert "row-level security of s.kept applies to this role" in error.message
    assert Mover(app).whole()["kept"] == 2
