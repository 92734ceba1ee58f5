"""Children by inheritance: of what their parents may not hold, and of two parents of which a store names one."""

from __future__ import annotations

import pytest

from ansible_collections.pgops.runbook.plugins.module_utils._errors import InvalidValue, MissingObject
from ansible_collections.pgops.runbook.plugins.module_utils._names import parse_relation
from ansible_collections.pgops.runbook.plugins.module_utils._relation import Relation, look_up
from tests.integration.cleaning import STORE, TABLES, Cleaner, rule

pytestmark = pytest.mark.any_driver

FLAG = {
    "name": "app",
    "tokens": {"table": "public.refresh", "id": "id", "expires_at": "expires_at"},
    "revoke": {"how": "flag", "column": "revoked"},
}
REFRESH = "CREATE TABLE public.refresh (id bigint, created_at timestamptz, revoked boolean, expires_at timestamptz)"
ONE = "11111111-1111-1111-1111-111111111111"


def relation(cleaner: Cleaner, written: str) -> Relation:
    """Return what the catalogue says about one relation."""
    name = parse_relation(written)
    with cleaner.open(read_only=True) as session:
        return look_up(session, [name])[name]


def nullable(cleaner: Cleaner, table: str) -> bool:
    """Return whether `expires_at` may be NULL."""
    return relation(cleaner, table).column("expires_at").nullable


def test_a_not_null_that_is_not_valid_says_nothing_of_older_rows(cleaner: Cleaner) -> None:
    with cleaner.open() as session:
        if session.server_version < 180000:
            pytest.skip("NOT NULL constraints that are not valid came with PostgreSQL 18")
    cleaner.sql(REFRESH)
    cleaner.sql("INSERT INTO public.refresh VALUES (7, now() - interval '40 days', true, NULL)")
    cleaner.sql("ALTER TABLE public.refresh ADD CONSTRAINT given NOT NULL expires_at NOT VALID")
    assert cleaner.run([rule("public.refresh", "created_at", "30 days")], token_stores=[FLAG])["protected"] == 1
    cleaner.sql("UPDATE public.refresh SET expires_at = now()")
    assert nullable(cleaner, "public.refresh")
    cleaner.sql("ALTER TABLE public.refresh VALIDATE CONSTRAINT given")
    assert not nullable(cleaner, "public.refresh")


def test_a_child_may_have_nulls_that_its_parent_may_not(cleaner: Cleaner) -> None:
    cleaner.sql(REFRESH)
    cleaner.sql("CREATE TABLE public.refresh_old () INHERITS (public.refresh)")
    # Since PostgreSQL 18 a NOT NULL of the parent alone has to say that it is.
    with cleaner.open() as session:
        alone = session.server_version >= 180000
    change = "ADD CONSTRAINT given NOT NULL expires_at NO INHERIT" if alone else "ALTER expires_at SET NOT NULL"
    cleaner.sql(f"ALTER TABLE ONLY public.refresh {change}")
    cleaner.sql("INSERT INTO public.refresh_old VALUES (7, now() - interval '40 days', true, NULL)")
    assert cleaner.run([rule("public.refresh", "created_at", "30 days")], token_stores=[FLAG])["protected"] == 1
    cleaner.sql("UPDATE public.refresh SET expires_at = now()")
    assert nullable(cleaner, "public.refresh")
    cleaner.sql("ALTER TABLE public.refresh_old ALTER expires_at SET NOT NULL")
    assert not nullable(cleaner, "public.refresh")


def two_parents(cleaner: Cleaner, table: str, columns: str) -> None:
    """Make app.audited, and app.both below it and `table`."""
    cleaner.sql(f"CREATE TABLE app.audited ({columns}); CREATE TABLE app.both () INHERITS ({table}, app.audited)")


def test_deny_rows_in_a_child_of_two_parents_are_protected(cleaner: Cleaner) -> None:
    cleaner.sql(TABLES)
    two_parents(cleaner, "app.denied", "noted timestamptz, id uuid")
    cleaner.sql("INSERT INTO app.tokens VALUES (%s, now(), now() + interval '30 days')", (ONE,))
    cleaner.sql("INSERT INTO app.both VALUES (%s, now(), now() + interval '30 days', now() - interval '1 day')", (ONE,))
    noted = rule("app.audited", "noted", "1 h")
    with pytest.raises(MissingObject, match=r"rules\[0\]\.table: table app\.audited has no column 'expires_at'.* store 'app'"):
        cleaner.run([noted], token_stores=[STORE])
    assert cleaner.count("app.denied") == 1
    cleaner.sql("DROP TABLE app.both, app.audited")
    two_parents(cleaner, "app.denied", "noted timestamptz, id uuid, expires_at timestamptz")
    cleaner.sql("INSERT INTO app.both VALUES (%s, now(), now() + interval '30 days', now() - interval '1 day')", (ONE,))
    cleaner.sql("INSERT INTO app.audited VALUES (now() - interval '1 day', NULL, now() - interval '1 day')")
    result = cleaner.run([noted], token_stores=[STORE])
    assert (result["removed"], result["protected"]) == (1, 1)
    assert cleaner.count("app.denied") == 1


def test_token_rows_in_a_child_of_two_parents_are_protected(cleaner: Cleaner) -> None:
    cleaner.sql(TABLES)
    two_parents(cleaner, "app.tokens", "noted timestamptz, id uuid")
    cleaner.sql("INSERT INTO app.denied VALUES (%s, now(), NULL)", (ONE,))
    cleaner.sql("INSERT INTO app.both VALUES (%s, now(), now() + interval '30 days', now() - interval '1 day')", (ONE,))
    noted = rule("app.audited", "noted", "1 h")
    with pytest.raises(MissingObject, match=r"rules\[0\]\.table: table app\.audited has no column 'expires_at'"):
        cleaner.run([noted], token_stores=[STORE])
    # Deny rows that have no expiry of their own need the token's row, whatever the row says.
    store = {**STORE, "revoke": {"how": "denylist", "table": "app.denied", "id": "id"}}
    assert cleaner.run([noted], token_stores=[store])["protected"] == 1
    assert cleaner.count("app.tokens") == 1


@pytest.mark.parametrize("missing", ["revoked", "expires_at", "kind"])
def test_a_mark_in_a_child_of_two_parents_is_not_lost(cleaner: Cleaner, missing: str) -> None:
    cleaner.sql("CREATE SCHEMA app")
    cleaner.sql("CREATE TABLE public.refresh (id bigint, kind text, revoked boolean, expires_at timestamptz)")
    columns = {"noted": "timestamptz", "kind": "text", "revoked": "boolean", "expires_at": "timestamptz"}
    two_parents(cleaner, "public.refresh", ", ".join(f"{name} {type_}" for name, type_ in columns.items() if name != missing))
    cleaner.sql("INSERT INTO app.both VALUES (7, 'refresh', true, now() + interval '30 days', now() - interval '1 day')")
    store = {**FLAG, "tokens": {**FLAG["tokens"], "where": {"kind": "refresh"}}}  # type: ignore[dict-item]
    noted = rule("app.audited", "noted", "1 h")
    with pytest.raises(MissingObject, match=rf"rules\[0\]\.table: table app\.audited has no column '{missing}'"):
        cleaner.run([noted], token_stores=[store])
    cleaner.sql(f"ALTER TABLE app.audited ADD {missing} {columns[missing]}")
    assert cleaner.run([noted], token_stores=[store])["protected"] == 1
    assert cleaner.count("public.refresh") == 1


def test_what_a_store_reads_is_not_marked_through_another_parent(cleaner: Cleaner) -> None:
    cleaner.sql(TABLES)
    two_parents(cleaner, "app.denied", "noted timestamptz, id uuid, expires_at timestamptz")
    marking = rule("app.audited", "noted", "1 h", action="soft_delete", mark={"column": "expires_at"})
    with pytest.raises(InvalidValue, match=r"rules\[0\]\.mark: 'expires_at' is read by the token store"):
        cleaner.run([marking], token_stores=[STORE])


def test_parents_of_one_child_are_related(cleaner: Cleaner) -> None:
    cleaner.sql("CREATE TABLE a (i int); CREATE TABLE b (i int); CREATE TABLE c () INHERITS (a, b); CREATE TABLE d () INHERITS (a)")
    a, b, c, d = (relation(cleaner, name) for name in ("a", "b", "c", "d"))
    assert all(one.related(other) and other.related(one) for one, other in ((a, b), (a, c), (b, c), (a, d)))
    assert not any(one.related(other) or other.related(one) for one, other in ((b, d), (c, d)))
