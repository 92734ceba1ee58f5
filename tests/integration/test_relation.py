"""What the catalogue says about relations."""

from __future__ import annotations

import pytest

from ansible_collections.pgops.runbook.plugins.module_utils._errors import MissingObject
from ansible_collections.pgops.runbook.plugins.module_utils._names import RelationName, parse_relation
from ansible_collections.pgops.runbook.plugins.module_utils._relation import Relation, look_up, require
from tests.integration.cleaning import Cleaner
from tests.integration.watching import eventually

pytestmark = pytest.mark.any_driver


def relation(cleaner: Cleaner, name: str, *, sizes: bool = False, **login: str) -> Relation:
    with cleaner.open(read_only=True, **login) as session:
        return look_up(session, [parse_relation(name)], sizes=sizes)[parse_relation(name)]


def test_many_relations_in_one_query(cleaner: Cleaner) -> None:
    cleaner.sql('CREATE SCHEMA "S 1"; CREATE TABLE "S 1"."T é" (a int); CREATE VIEW v AS SELECT 1 AS a; CREATE SEQUENCE s')
    names = [
        RelationName("S 1", "T é"),
        RelationName("public", "v"),
        RelationName("public", "s"),
        RelationName("S 1", "t é"),
        RelationName("no", "t"),
    ]
    with cleaner.open(read_only=True) as session:
        before = session.round_trips
        found = look_up(session, [*names, names[0]])
        assert session.round_trips == before + 1
        assert look_up(session, []) == {}
    assert list(found) == names
    assert [found[name].exists for name in names] == [True, True, True, False, False]
    assert [found[name].schema_exists for name in names] == [True, True, True, True, False]
    assert [found[name].kind_name for name in names[:3]] == ["table", "view", "sequence"]
    assert [found[name].is_table for name in names] == [True, False, False, False, False]


@pytest.mark.every_driver
def test_columns_with_their_types_below_domains(cleaner: Cleaner) -> None:
    cleaner.sql("CREATE DOMAIN inner_ AS timestamptz NOT NULL; CREATE DOMAIN outer_ AS inner_; CREATE TYPE uuid AS (a int)")
    cleaner.sql('CREATE TABLE t ("A ""b""" timestamp(3) NOT NULL, gone int, d outer_, own public.uuid, n numeric(5, 2), l text[])')
    cleaner.sql("ALTER TABLE t DROP gone")
    columns = relation(cleaner, "t").columns or {}
    assert {name: (column.type, column.base, column.category, column.nullable) for name, column in columns.items()} == {
        'A "b"': ("timestamp(3) without time zone", "timestamp", "D", False),
        "d": ("public.outer_", "timestamptz", "D", True),
        "own": ("public.uuid", "", "C", True),
        "n": ("numeric(5,2)", "numeric", "N", True),
        "l": ("text[]", "_text", "A", True),
    }
    with pytest.raises(MissingObject, match=r"table public\.t has no column 'gone'") as caught:
        relation(cleaner, "t").column("gone")
    assert "Its columns are: A" in (caught.value.hint or "")


def test_columns_that_an_index_finds(cleaner: Cleaner) -> None:
    cleaner.sql("CREATE TABLE t (a int PRIMARY KEY, b int, c int, d int, e int, f int, UNIQUE (b, c))")
    cleaner.sql("CREATE INDEX ON t (d) WHERE d > 0; CREATE INDEX ON t USING brin (e); CREATE INDEX ON t USING hash (f)")
    found = relation(cleaner, "t").columns or {}
    assert [name for name, column in found.items() if column.indexed] == ["a", "b", "f"]
    cleaner.sql("CREATE TABLE p (a int) PARTITION BY LIST (a); CREATE TABLE p1 PARTITION OF p DEFAULT; CREATE INDEX ON p1 (a)")
    assert (relation(cleaner, "p").columns or {})["a"].indexed is False
    cleaner.sql("CREATE INDEX ON p (a)")
    assert (relation(cleaner, "p").columns or {})["a"].indexed is True


def test_partitions_at_every_depth(cleaner: Cleaner) -> None:
    cleaner.sql(
        "CREATE TABLE p (a int, b int) PARTITION BY LIST (a); CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1) PARTITION BY LIST (b);"
        "CREATE TABLE p11 PARTITION OF p1 DEFAULT; CREATE TABLE p2 PARTITION OF p DEFAULT; CREATE TABLE other (a int)"
    )
    p, p1, p11, p2, other = (relation(cleaner, name) for name in ("p", "p1", "p11", "p2", "other"))
    assert [str(leaf.name) for leaf in p.leaves] == ["public.p11", "public.p2"]
    assert [str(leaf.name) for leaf in p11.leaves] == ["public.p11"]
    assert all(p.related(one) and one.related(p) for one in (p, p1, p11, p2))
    assert p11.related(p1)
    assert not p11.related(p2)
    assert not other.related(p)
    assert not other.related(relation(cleaner, "nothing"))
    assert not relation(cleaner, "nothing").related(relation(cleaner, "nowhere"))


def test_a_partition_that_is_detached_is_no_longer_below(cleaner: Cleaner) -> None:
    cleaner.sql("CREATE TABLE p (a int) PARTITION BY LIST (a); CREATE TABLE p1 PARTITION OF p DEFAULT; ALTER TABLE p DETACH PARTITION p1")
    assert relation(cleaner, "p").leaves == ()
    assert not relation(cleaner, "p").related(relation(cleaner, "p1"))


def test_privileges_of_the_role(cleaner: Cleaner) -> None:
    cleaner.sql("CREATE ROLE reader LOGIN PASSWORD 'secret'")
    login = {"login_user": "reader", "login_password": "secret"}
    try:
        cleaner.sql("CREATE SCHEMA s; CREATE TABLE s.t (a int, b int); GRANT SELECT, DELETE ON s.t TO reader")
        assert relation(cleaner, "s.t", **login).leaves[0].privileges == set()
        cleaner.sql("GRANT USAGE ON SCHEMA s TO reader")
        assert relation(cleaner, "s.t", **login).leaves[0].privileges == {"SELECT", "DELETE"}
        cleaner.sql("REVOKE SELECT ON s.t FROM reader; GRANT SELECT (a) ON s.t TO reader")
        found = relation(cleaner, "s.t", **login)
        assert "SELECT" not in found.leaves[0].privileges
        assert {name: column.readable for name, column in (found.columns or {}).items()} == {"a": True, "b": False}
        cleaner.sql("ALTER TABLE s.t ENABLE ROW LEVEL SECURITY")
        assert relation(cleaner, "s.t", **login).leaves[0].hides_rows is True
        assert relation(cleaner, "s.t").leaves[0].hides_rows is False
    finally:
        cleaner.sql("DROP OWNED BY reader; DROP ROLE reader")


def test_estimates_say_when_nothing_was_counted(cleaner: Cleaner) -> None:
    cleaner.sql("CREATE TABLE t AS SELECT n FROM generate_series(1, 1000) AS n; CREATE TABLE empty (a int)")
    cleaner.sql("CREATE MATERIALIZED VIEW m AS SELECT * FROM t")
    cleaner.sql("SELECT pg_stat_reset()")
    assert relation(cleaner, "t").bytes is None
    # Whether the counters of the filling session had arrived before the reset is a matter of chance; a zero would be a lie.
    assert relation(cleaner, "t").rows_estimate in (None, 1000)
    assert relation(cleaner, "empty", sizes=True).rows_estimate == 0
    assert (relation(cleaner, "t", sizes=True).bytes or 0) > 8192
    cleaner.sql("ANALYZE t")
    cleaner.sql("ANALYZE m")
    assert relation(cleaner, "t").rows_estimate == 1000
    # Counters begin at nothing after a crash, and know only what came since.
    cleaner.sql("SELECT pg_stat_reset()")
    cleaner.sql("INSERT INTO t VALUES (1)")
    eventually(lambda: cleaner.sql("SELECT pg_stat_get_live_tuples('t'::regclass) > 0") == [(True,)])
    assert relation(cleaner, "t").rows_estimate == 1000
    assert relation(cleaner, "m").rows_estimate == 1000


def test_require_says_which_of_the_two_is_missing(cleaner: Cleaner) -> None:
    with pytest.raises(MissingObject, match=r"^table public\.nothing does not exist$"):
        require(relation(cleaner, "nothing"))
    with pytest.raises(MissingObject, match=r"^schema 'nowhere' does not exist$"):
        require(relation(cleaner, "nowhere.t"))
