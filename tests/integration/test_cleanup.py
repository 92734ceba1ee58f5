"""Which rows go: every kind of time column, every name, every refusal before the first change."""

from __future__ import annotations

from typing import Any

import pytest
from psycopg.sql import SQL

from ansible_collections.pgops.runbook.plugins.module_utils._errors import (
    DatabaseError,
    DescriptionError,
    InvalidValue,
    MissingObject,
    RunbookError,
)
from tests.ground import evidence
from tests.integration.cleaning import STORE, TABLES, UTC, Cleaner, numbers, rule

pytestmark = pytest.mark.any_driver

# Label, and the value as an expression over now(); the label says what must happen to it at an age of one hour.
FINITE = """
VALUES ('goes: 2 h ago', now() - interval '2 h'), ('goes: 61 min ago', now() - interval '61 min'),
       ('stays: 59 min ago', now() - interval '59 min'), ('stays: ahead', now() + interval '2 h'), ('stays: null', NULL)
"""
MOMENTS = FINITE + ", ('stays: infinity', 'infinity'), ('goes: -infinity', '-infinity')"
COLUMNS = {
    "timestamptz": ("timestamptz", MOMENTS, "at", {}),
    "timestamptz(0)": ("timestamptz(0)", MOMENTS, "at", {}),
    "timestamp, UTC": ("timestamp", MOMENTS, "at AT TIME ZONE 'UTC'", UTC),
    "timestamp, Tallinn": ("timestamp", MOMENTS, "at AT TIME ZONE 'Europe/Tallinn'", {"time_zone": "Europe/Tallinn"}),
    "timestamp, Auckland": ("timestamp(3)", MOMENTS, "at AT TIME ZONE 'Pacific/Auckland'", {"time_zone": "Pacific/Auckland"}),
    "seconds, bigint": ("bigint", FINITE, "extract(epoch FROM at)::bigint", {"unit": "s"}),
    "seconds, integer": ("integer", FINITE, "extract(epoch FROM at)::integer", {"unit": "s"}),
    "milliseconds": ("bigint", FINITE, "(extract(epoch FROM at) * 1000)::bigint", {"unit": "ms"}),
    "domain": ("public.moment", MOMENTS, "at", {}),
}


@pytest.mark.every_driver
@pytest.mark.parametrize("kind", list(COLUMNS))
def test_every_kind_of_time_column(cleaner: Cleaner, kind: str) -> None:
    type_, moments, expression, written = COLUMNS[kind]
    cleaner.sql("CREATE DOMAIN moment AS timestamptz")
    fill = SQL("CREATE TABLE t AS SELECT label, ({})::{} AS at FROM ({}) AS v(label, at)")
    cleaner.sql(fill.format(SQL(expression), SQL(type_), SQL(moments)))
    planned = cleaner.run([rule("t", "at", "1 h", **written)], check=True)
    result = cleaner.run([rule("t", "at", "1 h", **written)])
    assert cleaner.column("SELECT label FROM t WHERE label LIKE 'goes%'") == []
    assert cleaner.count("t") == 4 - (moments is FINITE)
    assert numbers(planned) == numbers(result)
    assert result["removed"] == 3 - (moments is FINITE)


def test_the_zone_of_the_session_and_the_role_do_not_matter(cleaner: Cleaner) -> None:
    """Trap 1: in a session east of UTC a naive comparison removes rows hours before their time."""
    cleaner.sql("CREATE ROLE traveller LOGIN SUPERUSER PASSWORD 'secret'")
    try:
        cleaner.sql("ALTER ROLE traveller SET timezone = 'Pacific/Kiritimati'")
        cleaner.sql("CREATE TABLE t (minutes int, at timestamp, day date, instant timestamptz)")
        cleaner.sql(
            "INSERT INTO t SELECT m, at AT TIME ZONE 'UTC', (at AT TIME ZONE 'UTC')::date, at"
            " FROM generate_series(-900, 900, 10) AS m, LATERAL (SELECT now() + m * interval '1 min') AS v(at)"
        )
        login = {"login_user": "traveller", "login_password": "secret"}
        day = cleaner.run([rule("t", "day", time_zone="UTC")], check=True, login=login)
        assert day == cleaner.run([rule("t", "day", time_zone="UTC")], check=True) | {"as_of": day["as_of"], "rules": day["rules"]}
        result = cleaner.run([rule("t", "at", **UTC), rule("t", "instant", name="instant")], login=login)
        assert [row["removed"] for row in result["rules"]] == [91, 0]  # -900 to 0
        assert cleaner.sql("SELECT min(minutes) FROM t") == [(10,)]
    finally:
        cleaner.sql("DROP ROLE traveller")


@pytest.mark.parametrize(
    ("zone", "wall", "goes"),
    [
        # The clock in Tallinn went from 04:00 back to 03:00 at 01:00 UTC on 2023-10-29; the cut-off is 00:30 UTC, the first 03:30.
        ("Europe/Tallinn", "2023-10-29 02:59", True),
        ("Europe/Tallinn", "2023-10-29 03:00", False),  # it may be the second 03:00, at 01:00 UTC
        ("Europe/Tallinn", "2023-10-29 03:29", False),
        ("Europe/Tallinn", "2023-10-29 03:31", False),
        ("UTC", "2023-10-29 00:29:59.999999", True),
        ("UTC", "2023-10-29 00:30", False),
    ],
)
def test_a_wall_clock_that_was_set_back_is_past_when_both_passes_are_over(cleaner: Cleaner, zone: str, wall: str, goes: bool) -> None:
    from ansible_collections.pgops.runbook.plugins.module_utils import _instant
    from ansible_collections.pgops.runbook.plugins.module_utils._names import parse_relation
    from ansible_collections.pgops.runbook.plugins.module_utils._relation import look_up
    from ansible_collections.pgops.runbook.plugins.module_utils._time_column import time_column

    cleaner.sql("CREATE TABLE t (at timestamp)")
    with cleaner.open(read_only=True) as session:
        (relation,) = look_up(session, [parse_relation("t")]).values()
        time = time_column(relation, {"column": "at", "time_zone": zone}, "x")
        limit = _instant.constant(session, time, _instant.Instant(1_698_539_400_000_000))
        sql = session.sql
        assert session.value(sql.SQL("SELECT {}::timestamp < {}").format(sql.Literal(wall), limit)) is goes


def test_a_date_is_past_when_its_day_has_ended_in_its_zone(cleaner: Cleaner) -> None:
    cleaner.sql("CREATE TABLE t AS SELECT d::date AS day FROM generate_series(current_date - 5, current_date + 5, interval '1 day') AS d")
    for zone in ("Pacific/Kiritimati", "UTC", "Etc/GMT+12", None):
        ended = cleaner.sql("SELECT count(*) FROM t WHERE day < (now() AT TIME ZONE %s)::date", [zone or "Etc/GMT+12"])[0][0]
        written = {"time_zone": zone} if zone else {}
        assert cleaner.run([rule("t", "day", **written)], check=True)["removed"] == ended
    cleaner.sql("INSERT INTO t VALUES ('infinity'), (NULL)")
    cleaner.run([rule("t", "day", "100 days")])
    assert cleaner.count("t") == 13


def test_whole_seconds_are_past_when_they_are_over(cleaner: Cleaner) -> None:
    cleaner.sql("CREATE TABLE t (at bigint)")
    cleaner.sql("INSERT INTO t SELECT floor(extract(epoch FROM now()))::bigint + s FROM generate_series(-10, 3600) AS s")
    result = cleaner.run([rule("t", "at", unit="s")])
    newest_gone, as_of = cleaner.sql("SELECT min(at) - 1, extract(epoch FROM %s::timestamptz) FROM t", [result["as_of"]])[0]
    assert newest_gone + 1 <= as_of
    assert newest_gone + 2 > as_of


def test_the_constant_is_converted_and_not_the_column(cleaner: Cleaner) -> None:
    """Trap 3: an index on the column can be used."""
    from ansible_collections.pgops.runbook.plugins.module_utils._cleanup import plan, read_options, statements

    cleaner.sql("CREATE TABLE t AS SELECT (now() - n * interval '1 h') AT TIME ZONE 'UTC' AS at FROM generate_series(1, 20000) AS n")
    cleaner.sql("CREATE INDEX t_at ON t (at)")
    cleaner.sql("ANALYZE t")
    options = read_options({"rules": [rule("t", "at", "19990 h", time_zone="Europe/Tallinn")]})
    with cleaner.open() as session:
        target = plan.make_plan(session, options).rules[0].target
        ran: list[Any] = []
        one = {"picked": 1, "gone": 1, "kept": 0, "last": None}
        with pytest.MonkeyPatch.context() as patches:
            patches.setattr(session, "row", lambda statement, *_more: ran.append(statement) or one)
            statements.pick(session, target, target.relation.leaves[0], 100)
        lines = session.rows(session.sql.SQL("EXPLAIN {}").format(ran[0]))
    text = "\n".join(line["QUERY PLAN"] for line in lines)
    assert "t_at" in text
    assert "Tid Scan" in text
    # The condition is asked once more of the rows that were picked: a server older than the fixes of trap 21 needs it.
    assert "IS TRUE" in text
    assert "Seq Scan on t " not in text


@pytest.mark.every_driver
def test_names_with_capitals_quotes_spaces_percents_and_unicode(cleaner: Cleaner) -> None:
    cleaner.sql('CREATE SCHEMA "Schémä %s"')
    cleaner.sql('CREATE TABLE "Schémä %s"."My ""Table"".x" ("Zeit ""%%(a)s é" timestamptz)')
    cleaner.sql("""INSERT INTO "Schémä %s"."My ""Table"".x" SELECT now() - interval '1 h' FROM generate_series(1, 3)""")
    written = rule('Schémä %s."My ""Table"".x"', 'Zeit "%%(a)s é')
    planned, result, again = cleaner.run([written], check=True), cleaner.run([written]), cleaner.run([written])
    assert result["rules"][0]["table"] == 'Schémä %s."My ""Table"".x"'
    assert (planned["removed"], result["removed"], again["removed"]) == (3, 3, 0)


def test_names_are_not_folded(cleaner: Cleaner) -> None:
    cleaner.sql(
        "CREATE TABLE t (at timestamptz); INSERT INTO t VALUES ('epoch');"
        'CREATE TABLE "T" (at timestamptz); INSERT INTO "T" VALUES (\'epoch\')'
    )
    cleaner.run([rule("T", "at")])
    assert (cleaner.count("t"), cleaner.count('"T"')) == (1, 0)


def test_an_object_of_the_same_name_in_a_schema_in_front_changes_nothing(cleaner: Cleaner) -> None:
    cleaner.sql("CREATE TABLE t (at timestamptz); INSERT INTO t VALUES ('epoch')")
    cleaner.sql("CREATE FUNCTION now(int DEFAULT 1) RETURNS timestamptz LANGUAGE sql AS $$ SELECT 'infinity'::timestamptz $$")
    cleaner.sql("CREATE FUNCTION public.count(tid) RETURNS int LANGUAGE sql AS $$ SELECT 7 $$")
    assert cleaner.run([rule("t", "at")])["removed"] == 1


def test_a_second_run_changes_nothing(cleaner: Cleaner) -> None:
    cleaner.sql("CREATE TABLE t (at timestamptz); INSERT INTO t SELECT now() - interval '1 h' FROM generate_series(1, 25)")
    first = cleaner.run([rule("t", "at")], batch_rows=10)
    second = cleaner.run([rule("t", "at")], batch_rows=10)
    assert (first["changed"], first["removed"], first["rules"][0]["batches"]) == (True, 25, 3)
    assert (second["changed"], second["removed"], second["stopped"]) == (False, 0, "done")


def test_a_row_that_two_rules_cover_is_counted_once(cleaner: Cleaner) -> None:
    cleaner.sql("CREATE TABLE t (created timestamptz, expires timestamptz)")
    cleaner.sql("INSERT INTO t SELECT now() - n * interval '1 day', now() - (n - 5) * interval '1 day' FROM generate_series(0, 20) AS n")
    rules = [
        rule("t", "expires", "1 day", name="expired"),
        rule("t", "created", "10 days", name="old"),
        rule("t", "created", "3 days", name="older"),
    ]
    planned, result = cleaner.run(rules, check=True), cleaner.run(rules)
    assert numbers(planned) == numbers(result)
    assert [row["removed"] for row in result["rules"]] == [15, 0, 3]
    assert [row["rows_left"] for row in planned["rules"]] == [3, 3, 3]


PARTITIONED = """
CREATE TABLE p (id int, at timestamptz) PARTITION BY RANGE (id);
CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (100);
CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (100) TO (1000) PARTITION BY RANGE (id);
CREATE TABLE p2a PARTITION OF p2 FOR VALUES FROM (100) TO (200);
CREATE TABLE p2b PARTITION OF p2 DEFAULT;
"""


def test_partitions_with_equal_ctids(cleaner: Cleaner) -> None:
    """Trap 20: the first rows of each partition have the same ctids, expired in one and alive in the other."""
    cleaner.sql(PARTITIONED)
    cleaner.sql(
        "INSERT INTO p SELECT n, now() + CASE WHEN (n / 100) % 2 = 0 THEN -interval '1 h' ELSE interval '1 h' END"
        " FROM generate_series(0, 399) AS n"
    )
    planned, result = cleaner.run([rule("p", "at")], check=True), cleaner.run([rule("p", "at")], batch_rows=7)
    assert result["removed"] == 200
    assert cleaner.sql("SELECT count(*), bool_and(at > now()) FROM p") == [(200, True)]
    assert numbers(planned) == numbers(result)
    assert result["rules"][0]["rows_left"] == 200


def test_a_rule_for_a_partition_and_one_for_its_parent(cleaner: Cleaner) -> None:
    cleaner.sql(PARTITIONED)
    cleaner.sql("INSERT INTO p SELECT n, now() - interval '1 h' FROM generate_series(0, 299) AS n")
    rules = [rule("p2", "at", "30 min"), rule("p", "at", "0 s"), rule("p1", "at", "0 s")]
    planned, result = cleaner.run(rules, check=True), cleaner.run(rules)
    assert numbers(planned) == numbers(result)
    assert [row["removed"] for row in result["rules"]] == [200, 100, 0]
    assert [row["rows_left"] for row in planned["rules"]] == [0, 0, 0]


def test_children_of_an_inherited_table(cleaner: Cleaner) -> None:
    cleaner.sql("CREATE TABLE mother (at timestamptz); CREATE TABLE child (extra timestamptz) INHERITS (mother)")
    cleaner.sql(
        "INSERT INTO mother VALUES ('epoch'), ('infinity');"
        "INSERT INTO child VALUES ('epoch', 'epoch'), ('infinity', 'epoch'), ('infinity', NULL)"
    )
    rules = [rule("child", "extra"), rule("mother", "at")]
    planned, result = cleaner.run(rules, check=True), cleaner.run(rules)
    assert [row["removed"] for row in result["rules"]] == [2, 1]
    assert (cleaner.count("ONLY mother"), cleaner.count("child")) == (1, 1)
    # A child's own column says nothing about rows of its parent, so that only the last counts may differ; here they do not overlap.
    assert planned["rules"][0]["removed"] == 2


REFUSED: dict[str, tuple[str, dict[str, Any], type[RunbookError], str]] = {
    "schema": ("", rule("nowhere.t", "at"), MissingObject, "rules[1].table: schema 'nowhere' does not exist"),
    "table": ("", rule("app.nothing", "at"), MissingObject, "rules[1].table: table app.nothing does not exist"),
    "column": ("", rule("app.denied", "expires"), MissingObject, "rules[1].column: table app.denied has no column 'expires'"),
    "not a time": (
        "CREATE TABLE t (at text)",
        rule("t", "at"),
        InvalidValue,
        "rules[1].column: public.t.at is of type text, which is not a time",
    ),
    "interval": ("CREATE TABLE t (at interval)", rule("t", "at"), InvalidValue, "which is not a time"),
    "array": ("CREATE TABLE t (at timestamptz[])", rule("t", "at"), InvalidValue, "which is not a time"),
    "own type": (
        "CREATE TYPE app.timestamptz AS (a int); CREATE TABLE t (at app.timestamptz)",
        rule("t", "at"),
        InvalidValue,
        "which is not a time",
    ),
    "no zone": (
        "CREATE TABLE t (at timestamp)",
        rule("t", "at"),
        InvalidValue,
        "rules[1].column: public.t.at is of type timestamp without time zone",
    ),
    "no unit": ("CREATE TABLE t (at bigint)", rule("t", "at"), InvalidValue, "no unit is given; allowed: s or ms"),
    "ms in int": ("CREATE TABLE t (at int)", rule("t", "at", unit="ms"), InvalidValue, "cannot hold today in milliseconds"),
    "ms in s": (
        "CREATE TABLE t AS SELECT 1700000000::bigint AS at",
        rule("t", "at", unit="ms"),
        InvalidValue,
        "which are seconds since 1970",
    ),
    "unit of a time": ("CREATE TABLE t (at timestamptz)", rule("t", "at", unit="s"), InvalidValue, "unit is for integers only"),
    "view": ("CREATE VIEW v AS SELECT now() AS at", rule("v", "at"), InvalidValue, "rules[1].table: public.v is a view"),
    "materialized view": ("CREATE MATERIALIZED VIEW v AS SELECT now() AS at", rule("v", "at"), InvalidValue, "is a materialized view"),
    "index": ("CREATE INDEX i ON app.tokens (id)", rule("app.i", "at"), InvalidValue, "is a index"),
    "foreign table": (
        "CREATE FOREIGN DATA WRAPPER w; CREATE SERVER s FOREIGN DATA WRAPPER w; CREATE FOREIGN TABLE f (at timestamptz) SERVER s",
        rule("f", "at"),
        InvalidValue,
        "rules[1].table: public.f is a foreign table",
    ),
    "foreign partition": (
        "CREATE FOREIGN DATA WRAPPER w; CREATE SERVER s FOREIGN DATA WRAPPER w; CREATE TABLE p (at timestamptz) PARTITION BY RANGE (at);"
        "CREATE FOREIGN TABLE f PARTITION OF p DEFAULT SERVER s",
        rule("p", "at"),
        InvalidValue,
        "public.f is a foreign table",
    ),
    "protects another's table": (
        "CREATE TABLE t (at timestamptz)",
        rule("t", "at", protects="app"),
        InvalidValue,
        "rules[1].protects: store 'app'",
    ),
}


@pytest.mark.parametrize("what", list(REFUSED))
@pytest.mark.parametrize("check", [False, True])
def test_a_rule_that_cannot_be_carried_out_stops_all_before_the_first_change(cleaner: Cleaner, what: str, check: bool) -> None:
    prepare, wrong, kind, message = REFUSED[what]
    cleaner.sql(TABLES)
    cleaner.sql("INSERT INTO app.tokens (expires_at) VALUES ('epoch')")
    cleaner.sql(prepare)
    store = {"name": "app", "tokens": {"table": "app.tokens", "id": "id"}, "revoke": {"how": "denylist", "table": "app.denied", "id": "id"}}
    with pytest.raises(kind) as caught:
        cleaner.run([rule("app.tokens"), wrong], check=check, token_stores=[store])
    assert message in str(caught.value)
    assert "rules[1]" in str(caught.value)
    assert caught.value.object_name
    assert cleaner.count("app.tokens") == 1


@pytest.mark.every_driver
def test_a_zone_that_only_the_server_can_judge(cleaner: Cleaner) -> None:
    """Python may know a zone that the server does not; what was not found before the connection is found after it."""
    from ansible_collections.pgops.runbook.plugins.module_utils._cleanup import Options, clean_up, read_options

    cleaner.sql("CREATE TABLE t (at timestamp)")
    known = read_options({"rules": [rule("t", "at", time_zone="UTC")]}).rules[0]
    written = {**known, "column": {**known["column"], "time_zone": "Moon/Base"}}
    with (
        cleaner.open() as session,
        pytest.raises(InvalidValue, match=r"rules\[0\].column: the server does not know the time zone 'Moon/Base'"),
    ):
        clean_up(session, Options((written,), (), 0.0), check_mode=False)


def test_wrong_options_stop_before_any_connection(cleaner: Cleaner) -> None:
    with pytest.raises(DescriptionError, match=r"rules\[0\].older_than"):
        cleaner.run([rule("t", "at", "-1 h")], login={"login_port": "1"})


@pytest.mark.every_driver
def test_a_privilege_that_is_lacking_is_named_before_the_first_change(cleaner: Cleaner) -> None:
    cleaner.sql("CREATE ROLE janitor LOGIN PASSWORD 'secret'")
    login = {"login_user": "janitor", "login_password": "secret"}
    try:
        cleaner.sql(
            "CREATE SCHEMA app; CREATE TABLE app.a (at timestamptz); CREATE TABLE app.b (at timestamptz);INSERT INTO app.a VALUES ('epoch')"
        )
        cleaner.sql("GRANT SELECT, UPDATE, DELETE ON app.a, app.b TO janitor")
        rules = [rule("app.a", "at"), rule("app.b", "at")]
        with pytest.raises(DatabaseError, match=r"may not SELECT or UPDATE or DELETE app\.a"):
            cleaner.run(rules, login=login)
        cleaner.sql("GRANT USAGE ON SCHEMA app TO janitor; REVOKE DELETE ON app.b FROM janitor")
        with pytest.raises(DatabaseError, match=r"rules\[1\].table: the role may not DELETE app.b") as caught:
            cleaner.run(rules, login=login, check=True)
        assert caught.value.sqlstate == "42501"
        assert cleaner.count("app.a") == 1
        cleaner.sql("GRANT DELETE ON app.b TO janitor")
        assert cleaner.run(rules, login=login)["removed"] == 1
    finally:
        cleaner.sql("DROP OWNED BY janitor; DROP ROLE janitor")


@pytest.mark.every_driver
def test_row_level_security_is_an_error_and_never_a_zero(cleaner: Cleaner) -> None:
    """Trap 24: a policy hides rows without a word."""
    cleaner.sql("CREATE ROLE janitor LOGIN PASSWORD 'secret'")
    login = {"login_user": "janitor", "login_password": "secret"}
    try:
        cleaner.sql(
            "CREATE TABLE t (at timestamptz); INSERT INTO t VALUES ('epoch');"
            "ALTER TABLE t OWNER TO janitor; ALTER TABLE t ENABLE ROW LEVEL SECURITY"
        )
        cleaner.sql(
            "CREATE POLICY nothing ON t USING (false); ALTER TABLE t FORCE ROW LEVEL SECURITY; GRANT USAGE ON SCHEMA public TO janitor"
        )
        for check in (True, False):
            with pytest.raises(DatabaseError, match=r"rules\[0\].table: row-level security hides rows of public.t") as caught:
                cleaner.run([rule("t", "at")], login=login, check=check)
            assert caught.value.sqlstate == "42501"
            assert "BYPASSRLS" in (caught.value.hint or "")
        cleaner.sql("ALTER TABLE t NO FORCE ROW LEVEL SECURITY")
        assert cleaner.run([rule("t", "at")], login=login)["removed"] == 1
    finally:
        cleaner.sql("DROP OWNED BY janitor; DROP ROLE janitor")


@pytest.mark.every_driver
def test_check_mode_writes_nothing_and_its_numbers_are_the_runs(cleaner: Cleaner) -> None:
    cleaner.sql(TABLES)
    cleaner.sql(
        "INSERT INTO app.tokens SELECT md5(n::text)::uuid, now(), now() + n * interval '1 min' FROM generate_series(-500, 500) AS n"
    )
    cleaner.sql("INSERT INTO app.denied SELECT id, now(), expires_at FROM app.tokens")
    rules = [rule("app.tokens", older_than="1 h"), rule("app.denied")]
    before = (evidence.fingerprint(cleaner.database), evidence.write_counters(cleaner.database))
    planned = cleaner.run(rules, check=True, token_stores=[STORE])
    assert (evidence.fingerprint(cleaner.database), evidence.write_counters(cleaner.database)) == before
    result = cleaner.run(rules, token_stores=[STORE])
    assert numbers(planned) == numbers(result)
    assert (planned["changed"], planned["stopped"], planned["rules"][0]["batches"]) == (True, "check_mode", 0)
    assert result["removed"] == 441 + 496
    assert evidence.write_counters(cleaner.database)[2] > before[1][2]


def test_no_rules_at_all(cleaner: Cleaner) -> None:
    result = cleaner.run([])
    assert (result["changed"], result["removed"], result["rules"], result["stopped"]) == (False, 0, [], "done")


def test_no_key_of_the_result_hides_a_method_of_dictionaries(cleaner: Cleaner) -> None:
    cleaner.sql("CREATE TABLE t (at timestamptz)")
    result = cleaner.run([rule("t", "at")])
    assert not {key for part in (result, result["rules"][0]) for key in part if hasattr(dict, key)}
