"""What comes back over a session and what goes in: the same values with both drivers, and none that JSON does not have."""

from __future__ import annotations

import decimal
import json
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from ansible_collections.pgops.runbook.plugins.module_utils._connection import ConnectionOptions, Database, connect
from ansible_collections.pgops.runbook.plugins.module_utils._errors import DatabaseError
from tests.ground.cluster import Cluster

# An expression, and what every driver must make of it: only what JSON has, and exactly this.
VALUES: list[tuple[str, Any]] = [
    ("NULL", None),
    ("true", True),
    ("7::smallint", 7),
    ("9223372036854775807::bigint", 9223372036854775807),
    ("26::oid", 26),
    ("1.5::real", 1.5),
    ("0.1::double precision + 0.2", 0.30000000000000004),
    ("'NaN'::double precision", "NaN"),
    ("'-Infinity'::double precision", "-Infinity"),
    ("12.50::numeric(10,2)", 12.5),
    ("3.00::numeric", 3),
    ("sum(x) FROM generate_series(1, 3) AS x", 6),
    ("'NaN'::numeric", "NaN"),
    ("'ünï\"c''ode'::text", "ünï\"c'ode"),
    ("'ab'::char(4)", "ab  "),
    ("'x'::\"char\"", "x"),
    ("'\\xdeadbeef00'::bytea", "\\xdeadbeef00"),
    ("date '2026-03-29'", "2026-03-29"),
    ("date 'infinity'", "infinity"),
    ("timestamp '2026-03-29 03:30:00.5'", "2026-03-29 03:30:00.5"),
    ("timestamptz '2026-03-29 03:30:00+03'", "2026-03-29 00:30:00+00"),
    ("timestamptz '-infinity'", "-infinity"),
    ("timestamptz '0044-03-15 12:00:00+00 BC'", "0044-03-15 12:00:00+00 BC"),
    ("timestamp '12000-01-01'", "12000-01-01 00:00:00"),
    ("time '24:00:00'", "24:00:00"),
    ("timetz '04:05:06+02'", "04:05:06+02"),
    ("interval '1 year 2 months 3 days 04:05:06.7'", "1 year 2 mons 3 days 04:05:06.7"),
    ("interval '-1 day'", "-1 days"),
    ("inet '10.0.0.0/8'", "10.0.0.0/8"),
    ("cidr '2001:db8::/32'", "2001:db8::/32"),
    ("macaddr '08:00:2b:01:02:03'", "08:00:2b:01:02:03"),
    ("uuid 'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
    ('json \'{"a": [1, 2.5, null], "b": "é"}\'', {"a": [1, 2.5, None], "b": "é"}),
    ("jsonb '\"text\"'", "text"),
    ("jsonb 'null'", None),
    ("'{1,NULL,3}'::int[]", [1, None, 3]),
    ("'{{1,2},{3,4}}'::bigint[]", [[1, 2], [3, 4]]),
    ("'[0:1]={1,2}'::int[]", [1, 2]),
    ("ARRAY[1.50, 'NaN', 2]::numeric[]", [1.5, "NaN", 2]),
    ("ARRAY['a', 'b,c', 'd\"e', '\\', '', NULL, 'NULL']", ["a", "b,c", 'd"e', "\\", "", None, "NULL"]),
    ("ARRAY[true, false]", [True, False]),
    ("ARRAY[uuid 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11']", ["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"]),
    ("ARRAY[timestamptz 'infinity', timestamptz '2026-01-01 00:00+00']", ["infinity", "2026-01-01 00:00:00+00"]),
    ("ARRAY[inet '::1']", ["::1"]),
    ("ARRAY[interval '1 hour']", ["01:00:00"]),
    ('ARRAY[jsonb \'{"k": "a,b"}\']', [{"k": "a,b"}]),
    ("ARRAY['\\x00ff'::bytea]", ["\\x00ff"]),
    ("ARRAY[box '(1,1),(0,0)', box '(2,2),(1,1)']", ["(1,1),(0,0)", "(2,2),(1,1)"]),
    ("ARRAY[]::text[]", []),
    ("int4range(1, 5)", "[1,5)"),
    ("ARRAY[int4range(1, 5), 'empty']", ["[1,5)", "empty"]),
    ("tstzrange('2026-01-01 00:00+00', NULL)", '["2026-01-01 00:00:00+00",)'),
    ("12.34::money", "$12.34"),
    ("B'101'", "101"),
    ("'1011'::bit varying(9)", "1011"),
    ("point '(1,2)'", "(1,2)"),
    ("'a & b'::tsquery", "'a' & 'b'"),
    ("'16/B374D848'::pg_lsn", "16/B374D848"),
    ("'pg_class'::regclass", "pg_class"),
    ("xml '<a>b</a>'", "<a>b</a>"),
    ("ROW(1, 'a b', NULL)", '(1,"a b",)'),
    ("'pg_catalog'::name", "pg_catalog"),
    ("'17'::xid", "17"),
]


@pytest.fixture(scope="module")
def both(cluster: Cluster) -> Iterator[dict[str, Database]]:
    """A session with each driver, which is what the `driver` of a test chooses from."""
    options = ConnectionOptions.from_params(cluster.login())
    with pytest.MonkeyPatch.context() as patch:
        one = connect(options, application_name="pgops.runbook/test", read_only=False)
        patch.setitem(sys.modules, "psycopg2", None)
        other = connect(options, application_name="pgops.runbook/test", read_only=False)
    with one, other:
        yield {session.driver_name: session for session in (one, other)}


@pytest.fixture
def session(both: dict[str, Database], driver: str) -> Database:
    return both[driver]


@pytest.mark.parametrize(("expression", "expected"), VALUES)
def test_values_are_json_safe_and_the_same_with_every_driver(session: Database, expression: str, expected: Any) -> None:
    try:
        found = session.value(f"SELECT {expression}")
    except DatabaseError as error:
        if error.sqlstate == "0A000":
            pytest.skip(f"this server does not have it: {error.message}")
        raise
    assert (type(found), found) == (type(expected), expected)
    assert json.loads(json.dumps(found)) == expected


def test_rows_and_counts(session: Database) -> None:
    assert session.rows("SELECT x AS n, 'a' || x AS t FROM generate_series(1, 2) AS x") == [{"n": 1, "t": "a1"}, {"n": 2, "t": "a2"}]
    assert session.rows("CREATE TEMPORARY TABLE kept (id int)") == []
    assert session.execute("INSERT INTO pg_temp.kept SELECT generate_series(1, 5)") == 5
    assert session.rows("DELETE FROM pg_temp.kept WHERE id > %s RETURNING id", [4]) == [{"id": 5}]
    assert session.row("SELECT 1 AS a WHERE false") is None
    assert session.value("SELECT 1 AS a WHERE false") is None
    with pytest.raises(DatabaseError, match="2 rows came back"):
        session.row("SELECT generate_series(1, 2)")


def test_parameters_are_bound_alike(session: Database) -> None:
    moment = datetime(2026, 3, 29, 3, 30, tzinfo=timezone(timedelta(hours=3)))
    identifier = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"
    assert session.value("SELECT %s::timestamptz", [moment]) == "2026-03-29 00:30:00+00"
    assert session.value("SELECT %(a)s::int + %(b)s::int", {"a": 1, "b": 2}) == 3
    assert session.value("SELECT uuid %s = ANY(%s)", [identifier, [identifier]]) is True
    assert session.value("SELECT 2 = ANY(%s)", [[1, 2]]) is True
    assert session.value("SELECT 2::bigint = ANY(%s)", [(1, 2)]) is True
    assert session.value("SELECT 'x' = ANY(%s)", [[]]) is False
    assert session.value("SELECT %s::text[]", [["a,b", None, 'q"', "\\"]]) == ["a,b", None, 'q"', "\\"]
    assert session.value("SELECT %s::interval", [timedelta(minutes=90)]) == "01:30:00"
    assert session.value("SELECT %s::numeric", [decimal.Decimal("1.25")]) == 1.25
    assert session.value("SELECT %s::text || '100%%'", ["'; DROP"]) == "'; DROP100%"
    assert session.value("SELECT '100%'") == "100%"
    assert session.value("SELECT %s IS NULL", [None]) is True
