"""Which partitions hold nothing but rows that are past, how a table must be divided for that, and what is in the way."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.pgops.runbook.plugins.module_utils._cleanup.partition_bounds import upper_bound
from ansible_collections.pgops.runbook.plugins.module_utils._errors import DatabaseError, InvalidValue
from tests.integration.cleaning import Cleaner
from tests.integration.partitioning import MONTHS, divided, tables

pytestmark = pytest.mark.any_driver

MARCH, BEFORE_MARCH = "2020-03-01T00:00+00:00", "2020-02-29T23:59:59.999999+00:00"
SECONDS = ("1577836800", "1580515200", "1583020800", "1585699200")
DAYS = ("'2020-01-01'", "'2020-02-01'", "'2020-03-01'", "'2020-04-01'")
SCRIPT = """
CREATE SCHEMA app; CREATE TABLE app.t (at {type}) PARTITION BY RANGE (at);
CREATE TABLE app.first PARTITION OF app.t FOR VALUES FROM (MINVALUE) TO ({0});
CREATE TABLE app.jan PARTITION OF app.t FOR VALUES FROM ({0}) TO ({1});
CREATE TABLE app.feb PARTITION OF app.t FOR VALUES FROM ({1}) TO ({2});
CREATE TABLE app.mar PARTITION OF app.t FOR VALUES FROM ({2}) TO ({3});
CREATE TABLE app.last PARTITION OF app.t FOR VALUES FROM ({3}) TO (MAXVALUE);
CREATE TABLE app.rest PARTITION OF app.t DEFAULT;
"""


def in_utc(day: str) -> str:
    return day[:-1] + " 00:00Z'"


@pytest.mark.parametrize(
    ("kind", "bounds", "column"),
    [
        ("timestamptz", tuple(map(in_utc, DAYS)), {}),
        ("timestamptz(0)", tuple(map(in_utc, DAYS)), {}),
        ("app.moment", tuple(map(in_utc, DAYS)), {}),
        ("timestamp", DAYS, {"time_zone": "UTC"}),
        ("date", DAYS, {"time_zone": "UTC"}),
        ("bigint", tuple(second + "000" for second in SECONDS), {"unit": "ms"}),
        ("bigint", SECONDS, {"unit": "s"}),
        ("int", SECONDS, {"unit": "s"}),
    ],
)
def test_a_partition_is_past_when_its_exclusive_upper_bound_is_reached(
    cleaner: Cleaner, kind: str, bounds: tuple[str, ...], column: dict[str, Any]
) -> None:
    script = SCRIPT.format(*bounds, type=kind).replace("CREATE TABLE", "CREATE DOMAIN app.moment AS timestamptz; CREATE TABLE", 1)
    with divided(cleaner, script, column={"column": "at", **column}, read_only=True) as table:
        assert table.names(MARCH) == ["app.first", "app.jan", "app.feb"]
        assert table.names(BEFORE_MARCH) == ["app.first", "app.jan"]
        assert table.names("2019-12-31T00:00+00:00") == []
        assert table.names("2999-12-31T00:00+00:00") == ["app.first", "app.jan", "app.feb", "app.mar"]


def test_the_zone_of_a_wall_clock_decides(cleaner: Cleaner) -> None:
    script = SCRIPT.format(*DAYS, type="timestamp")
    with divided(cleaner, script, column={"column": "at", "time_zone": "America/New_York"}) as table:
        assert table.names(MARCH) == ["app.first", "app.jan"]
        assert table.names("2020-03-01T05:00+00:00") == ["app.first", "app.jan", "app.feb"]


def test_what_a_partition_knows(cleaner: Cleaner) -> None:
    with divided(cleaner, MONTHS) as table:
        (found,) = table.due("2020-02-15T00:00+00:00")
        leaf = next(each for each in table.relation.leaves if each.name.name == "t01")
        assert (found.oid, found.leaves, found.parent_oid) == (leaf.oid, (leaf.oid,), table.relation.oid)
        assert (found.upper, found.limit) == ("2020-02-01 00:00:00+00", "2020-02-15 00:00:00+00")


def test_further_keys_let_rows_with_the_bounds_own_time_in(cleaner: Cleaner) -> None:
    script = """
    CREATE SCHEMA app; CREATE TABLE app.t (at timestamptz, id int, x text) PARTITION BY RANGE (at, id, x);
    CREATE TABLE app.a PARTITION OF app.t FOR VALUES FROM ('2020-01-01Z', MINVALUE, MINVALUE) TO ('2020-03-01Z', MINVALUE, MINVALUE);
    CREATE TABLE app.b PARTITION OF app.t FOR VALUES FROM ('2020-03-01Z', MINVALUE, MINVALUE) TO ('2020-03-01Z', -5, 'it''s), (');
    CREATE TABLE app.c PARTITION OF app.t FOR VALUES FROM ('2020-03-01Z', -5, 'it''s), (') TO ('2020-03-01Z', MAXVALUE, MAXVALUE);
    """
    with divided(cleaner, script) as table:
        assert table.names(MARCH) == ["app.a"]
        assert table.names("2020-03-01T00:00:00.000001+00:00") == ["app.a", "app.b", "app.c"]


def test_bounds_far_away(cleaner: Cleaner) -> None:
    script = """
    CREATE SCHEMA app; CREATE TABLE app.t (at timestamptz) PARTITION BY RANGE (at);
    CREATE TABLE app.nothing PARTITION OF app.t FOR VALUES FROM (MINVALUE) TO ('-infinity');
    CREATE TABLE app."Ro.me %s" PARTITION OF app.t FOR VALUES FROM ('-infinity') TO ('0044-03-15 BC');
    CREATE TABLE app.now PARTITION OF app.t FOR VALUES FROM ('0044-03-15 BC') TO ('infinity');
    """
    with divided(cleaner, script) as table:
        assert table.names(MARCH) == ["app.nothing", 'app."Ro.me %s"']
        assert [each.outcome for each in table.drop(MARCH)] == ["dropped", "dropped"]
    assert tables(cleaner) == ["now", "t"]


@pytest.mark.parametrize(
    ("bound", "found"),
    [
        ("FOR VALUES FROM (1) TO (2)", ("2", True)),
        ("FOR VALUES FROM ('-2') TO ('-1')", ("-1", True)),
        ("FOR VALUES FROM ('a', 'TO (') TO ('b''', MINVALUE)", ("b'", True)),
        ("FOR VALUES FROM ('a', 'TO (') TO ('b', true)", ("b", False)),
        ("FOR VALUES FROM (MINVALUE) TO (MAXVALUE)", None),
        ("FOR VALUES FROM ('MAXVALUE') TO ('MAXVALUE')", ("MAXVALUE", True)),
        ("DEFAULT", None),
    ],
)
def test_the_text_of_a_bound(bound: str, found: tuple[str, bool] | None) -> None:
    assert upper_bound(bound) == found


@pytest.mark.parametrize("bound", ["", "FOR VALUES IN (1)", "FOR VALUES FROM (1) TO (2); x", "FOR VALUES FROM (1) TO ()"])
def test_what_is_no_bound_of_a_range_is_never_guessed(bound: str) -> None:
    with pytest.raises(DatabaseError, match="cannot be read"):
        upper_bound(bound)


YEARS = """
CREATE SCHEMA app; CREATE TABLE app.t (at timestamptz, id int) PARTITION BY RANGE (at);
CREATE TABLE app.y2018 PARTITION OF app.t FOR VALUES FROM ('2018-01-01Z') TO ('2019-01-01Z') PARTITION BY HASH (id);
CREATE TABLE app.h0 PARTITION OF app.y2018 FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE app.h1 PARTITION OF app.y2018 FOR VALUES WITH (MODULUS 2, REMAINDER 1);
CREATE TABLE app.y2020 PARTITION OF app.t FOR VALUES FROM ('2020-01-01Z') TO ('2021-01-01Z') PARTITION BY RANGE (at);
CREATE TABLE app.jan PARTITION OF app.y2020 FOR VALUES FROM ('2020-01-01Z') TO ('2020-02-01Z');
CREATE TABLE app.feb PARTITION OF app.y2020 FOR VALUES FROM ('2020-02-01Z') TO ('2020-03-01Z');
CREATE TABLE app.rest PARTITION OF app.t DEFAULT PARTITION BY RANGE (at);
CREATE TABLE app.old PARTITION OF app.rest FOR VALUES FROM ('2000-01-01Z') TO ('2001-01-01Z');
INSERT INTO app.t SELECT '2018-05-05', n FROM generate_series(1, 20) AS n; INSERT INTO app.t VALUES ('2000-02-02', 1), ('2020-01-31Z', 1);
"""


def test_what_is_divided_further_goes_whole_and_what_is_not_past_is_looked_into(cleaner: Cleaner) -> None:
    with divided(cleaner, YEARS) as table:
        assert table.names("2020-02-02T00:00+00:00") == ["app.old", "app.y2018", "app.jan"]
        assert table.names("2021-01-01T00:00+00:00") == ["app.old", "app.y2018", "app.y2020"]
        leaves = {each.oid: each.name.name for each in table.relation.leaves}
        assert [sorted(leaves[oid] for oid in each.leaves) for each in table.due("2020-02-02T00:00+00:00")] == [
            ["old"],
            ["h0", "h1"],
            ["jan"],
        ]
        found = table.drop("2020-02-02T00:00+00:00")
        assert [(each.rows, each.outcome) for each in found] == [(1, "dropped"), (20, "dropped"), (1, "dropped")]
        assert found[1].bytes == 2 * 8192
    assert tables(cleaner) == ["feb", "rest", "t", "y2020"]


def test_ranges_below_another_division(cleaner: Cleaner) -> None:
    script = """
    CREATE SCHEMA app; CREATE TABLE app.t (tenant int, at timestamptz) PARTITION BY LIST (tenant);
    CREATE TABLE app.one PARTITION OF app.t FOR VALUES IN (1) PARTITION BY RANGE (at);
    CREATE TABLE app.one_a PARTITION OF app.one FOR VALUES FROM ('2020-01-01Z') TO ('2020-02-01Z');
    CREATE TABLE app.one_b PARTITION OF app.one FOR VALUES FROM ('2020-02-01Z') TO ('2020-04-01Z');
    CREATE TABLE app.two PARTITION OF app.t DEFAULT PARTITION BY RANGE (at);
    CREATE TABLE app.two_a PARTITION OF app.two FOR VALUES FROM ('2020-01-01Z') TO ('2020-02-02Z');
    """
    with divided(cleaner, script) as table:
        assert table.names(MARCH) == ["app.one_a", "app.two_a"]
        assert [each.outcome for each in table.drop(MARCH)] == ["dropped", "dropped"]
    assert tables(cleaner) == ["one", "one_b", "t", "two"]
    says = r"app\.t is divided by LIST \(tenant\), and its partition app\.three no further"
    with divided(cleaner, "CREATE TABLE app.three PARTITION OF app.t FOR VALUES IN (3)") as table, pytest.raises(InvalidValue, match=says):
        table.due(MARCH)


@pytest.mark.parametrize(
    ("divides", "says"),
    [
        ("", "is a table and not divided into partitions$"),
        ("PARTITION BY LIST (id)", r"is divided by LIST \(id\)"),
        ("PARTITION BY HASH (at)", r"is divided by HASH \(at\)"),
        ("PARTITION BY RANGE (id, at)", r"is divided by RANGE \(id, at\)"),
        ("PARTITION BY RANGE (other)", r"is divided by RANGE \(other\)"),
        ("PARTITION BY RANGE ((at AT TIME ZONE 'UTC'))", r"is divided by RANGE \(.*UTC.*\)"),
        ("PARTITION BY RANGE (at backwards)", r"is divided by RANGE \(at public\.backwards\)"),
    ],
)
def test_a_table_that_is_divided_otherwise(cleaner: Cleaner, divides: str, says: str) -> None:
    cleaner.sql(
        """CREATE OPERATOR CLASS backwards FOR TYPE timestamptz USING btree AS OPERATOR 1 >, OPERATOR 2 >=, OPERATOR 3 =,
        OPERATOR 4 <=, OPERATOR 5 <, FUNCTION 1 timestamptz_cmp(timestamptz, timestamptz)"""
    )
    script = f"CREATE SCHEMA app; CREATE TABLE app.t (id int, at timestamptz, other timestamptz) {divides}"
    with divided(cleaner, script) as table, pytest.raises(InvalidValue, match=says) as caught:
        table.require()
    assert caught.value.message.startswith(
        "rules[0].action: drop_partitions needs a table that is divided by RANGE of the rule's column at"
    )
    assert "divide the table by RANGE (at, ...)" in (caught.value.hint or "")


def test_children_by_inheritance_are_no_partitions(cleaner: Cleaner) -> None:
    script = "CREATE SCHEMA app; CREATE TABLE app.t (at timestamptz); CREATE TABLE app.c () INHERITS (app.t)"
    with divided(cleaner, script) as table, pytest.raises(InvalidValue, match="children by inheritance, which have no bounds"):
        table.require()


def test_only_an_owner_may(cleaner: Cleaner) -> None:
    cleaner.sql(MONTHS + "CREATE ROLE sweeper LOGIN PASSWORD 'x'; CREATE ROLE keeper;")
    cleaner.sql("GRANT USAGE ON SCHEMA app TO sweeper; GRANT ALL ON ALL TABLES IN SCHEMA app TO sweeper")
    login: dict[str, Any] = {"login_user": "sweeper", "login_password": "x"}
    try:
        with divided(cleaner, read_only=True, **login) as table:
            with pytest.raises(DatabaseError, match=r"'sweeper' does not own app\.t, and only the owner") as caught:
                table.require()
            assert caught.value.sqlstate == "42501"
            cleaner.sql("ALTER TABLE app.t OWNER TO keeper; GRANT keeper TO sweeper")
            table.require()
            with pytest.raises(DatabaseError, match=r"does not own app\.t01") as caught:
                table.due(MARCH)
            assert "Use the role '" in (caught.value.hint or "")
            cleaner.sql("ALTER TABLE app.t01 OWNER TO keeper; ALTER TABLE app.t02 OWNER TO sweeper")
            assert table.names(MARCH) == ["app.t01", "app.t02"]
        with divided(cleaner, **login) as table:
            cleaner.sql("GRANT ALL ON ALL TABLES IN SCHEMA app TO sweeper, keeper; GRANT USAGE, CREATE ON SCHEMA app TO keeper")
            assert [each.outcome for each in table.drop(MARCH)] == ["dropped", "dropped"]
    finally:
        cleaner.sql("DROP OWNED BY sweeper, keeper; DROP ROLE sweeper, keeper")


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("CREATE VIEW app.v AS SELECT id FROM app.t02", r"view app\.v"),
        ("CREATE MATERIALIZED VIEW app.m AS SELECT id FROM app.t02", r"materialized view app\.m"),
        ("CREATE FUNCTION app.f() RETURNS SETOF app.t02 LANGUAGE sql AS 'SELECT NULL::app.t02'", r"function app\.f\(\)"),
        ("CREATE TABLE app.u (x app.t02[])", r"column x of table app\.u|table app\.u"),
        ("ALTER TABLE app.t02 ADD PRIMARY KEY (id); CREATE TABLE app.u (x int REFERENCES app.t02)", r"constraint u_x_fkey on table app\.u"),
        ("CREATE SEQUENCE app.s OWNED BY app.t02.id; CREATE TABLE app.u (x int DEFAULT nextval('app.s'))", "default value for column x"),
    ],
)
def test_what_depends_on_a_partition_is_named_before_anything_happens(cleaner: Cleaner, script: str, says: str) -> None:
    with divided(cleaner, MONTHS + script) as table:
        before = tables(cleaner)
        with pytest.raises(
            InvalidValue, match=r"partition app\.t02 cannot be dropped because other objects depend on it: .*" + says
        ) as caught:
            table.drop(MARCH)
        assert caught.value.sqlstate == "2BP01"
        assert tables(cleaner) == before
        # The server agrees.
        with pytest.raises(Exception, match="other objects depend on it"):
            cleaner.sql("DROP TABLE app.t02")


def test_what_belongs_to_a_partition_goes_with_it(cleaner: Cleaner) -> None:
    script = """
    ALTER TABLE app.t ADD PRIMARY KEY (id, at); CREATE INDEX ON app.t01 (id); CREATE STATISTICS app.s ON id, at FROM app.t01;
    CREATE TABLE app.kinds (id int PRIMARY KEY);
    ALTER TABLE app.t ADD kind int REFERENCES app.kinds, ADD big bigserial, ADD ref int, ADD ref_at timestamptz;
    ALTER TABLE app.t ADD FOREIGN KEY (ref, ref_at) REFERENCES app.t;
    CREATE TABLE app.r (id int, at timestamptz, FOREIGN KEY (id, at) REFERENCES app.t);
    ALTER TABLE app.t01 ADD CHECK (id < 1000), ADD UNIQUE (id), ADD FOREIGN KEY (ref) REFERENCES app.t01 (id);
    CREATE FUNCTION app.f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
    CREATE TRIGGER one AFTER INSERT ON app.t FOR EACH ROW EXECUTE FUNCTION app.f();
    CREATE TRIGGER own AFTER INSERT ON app.t01 FOR EACH ROW EXECUTE FUNCTION app.f();
    CREATE SEQUENCE app.q OWNED BY app.t01.id; CREATE POLICY p ON app.t01 USING (id > (SELECT min(u.id) FROM app.t01 u));
    CREATE VIEW app.v AS SELECT id FROM app.t; CREATE RULE r AS ON UPDATE TO app.t01 WHERE false DO ALSO SELECT 1;
    CREATE PUBLICATION pub FOR TABLE app.t01;
    """
    with divided(cleaner, MONTHS + script) as table:
        assert [(each.outcome, each.rows) for each in table.drop(MARCH)] == [("dropped", 10), ("dropped", 10)]
    assert cleaner.count("app.v") == 20
