"""No clean-up brings a revoked token back: what stays although a rule covers it."""

from __future__ import annotations

from typing import Any

import pytest
from psycopg.sql import SQL

from ansible_collections.pgops.runbook.plugins.module_utils._errors import DatabaseError, InvalidValue, MissingObject
from tests.integration.cleaning import STORE, TABLES, WITHOUT_OWN_EXPIRY, Cleaner, numbers, rule

pytestmark = pytest.mark.any_driver

DENIED_LONG_AGO = rule("app.denied", "denied_at")
ISSUED_LONG_AGO = rule("app.tokens", "issued_at")


def fill(cleaner: Cleaner, *rows: tuple[str, str | None, str | None]) -> None:
    """Make a token and a deny row for each of `rows`: a name, the token's expiry, the deny row's own.

    Both were issued and denied a year ago. Expiries are texts such as `-6 min`, `infinity`, None for NULL, `none` for no row.
    """
    for name, token, own in rows:
        for table, time, written in (("tokens", "issued_at", token), ("denied", "denied_at", own)):
            if written != "none":
                insert = SQL("INSERT INTO app.{} (id, {}, expires_at) VALUES (md5(%s)::uuid, now() - interval '1 year', {})")
                cleaner.sql(insert.format(SQL(table), SQL(time), SQL(moment(written))), [name])


def moment(written: str | None) -> str:
    """Return the expression for a distance from now."""
    if written is None:
        return "NULL"
    return "'infinity'" if written == "infinity" else f"now() + interval '{written}'"


def left(cleaner: Cleaner, table: str, *names: str) -> set[str]:
    """Return which of `names` still have a row."""
    found = cleaner.sql(
        SQL("SELECT n FROM unnest(%s::text[]) AS n WHERE md5(n)::uuid IN (SELECT id FROM {})").format(SQL(table)), [list(names)]
    )
    return {row[0] for row in found}


@pytest.fixture
def app(cleaner: Cleaner) -> Cleaner:
    cleaner.sql(TABLES)
    return cleaner


# Name, the token's expiry, the deny row's own expiry, whether the deny row may go; the clock skew is 5 minutes.
OWN = [
    ("both past", "-6 min", "-6 min", True),
    ("within the skew", "-4 min", "-4 min", False),
    ("own within the skew", "-6 min", "-4 min", False),
    ("alive", "5 min", "5 min", False),
    ("own null", "-6 min", None, False),
    ("own infinity", "-6 min", "infinity", False),
    ("own ends before the token", "1 h", "-6 min", False),
    ("own ended, token within the skew", "-4 min", "-6 min", False),
    ("own ended, token never expires", None, "-6 min", False),
    ("own ended, token infinity", "infinity", "-6 min", False),
    ("orphan past", "none", "-6 min", True),
    ("orphan within the skew", "none", "-4 min", False),
    ("orphan alive", "none", "1 h", False),
    ("orphan null", "none", None, False),
]


@pytest.mark.parametrize("protects", [True, False])
def test_deny_rows_with_their_own_expiry(app: Cleaner, protects: bool) -> None:
    fill(app, *[row[:3] for row in OWN])
    written = {**DENIED_LONG_AGO, **({"protects": "app"} if protects else {})}
    planned, result = app.run([written], token_stores=[STORE], check=True), app.run([written], token_stores=[STORE])
    assert left(app, "app.denied", *[row[0] for row in OWN]) == {row[0] for row in OWN if not row[3]}
    assert numbers(planned) == numbers(result)
    row = result["rules"][0]
    assert (row["matched"], row["protected"], row["removed"], row["rows_left"]) == (14, 12, 2, 12)
    assert app.run([written], token_stores=[STORE])["changed"] is False


WITHOUT = [
    ("past", "-6 min", True),
    ("within the skew", "-4 min", False),
    ("alive", "1 h", False),
    ("never expires", None, False),
    ("infinity", "infinity", False),
    ("orphan", "none", False),
]


def test_deny_rows_whose_tokens_alone_know_the_expiry(app: Cleaner) -> None:
    app.sql("ALTER TABLE app.denied ALTER expires_at SET DEFAULT '-infinity'")
    fill(app, *[(name, token, "-1 year") for name, token, _goes in WITHOUT])
    result = app.run([DENIED_LONG_AGO], token_stores=[WITHOUT_OWN_EXPIRY])
    assert left(app, "app.denied", *[row[0] for row in WITHOUT]) == {row[0] for row in WITHOUT if not row[2]}
    assert (result["matched"], result["protected"]) == (6, 5)


def test_a_token_with_two_rows_is_alive_while_one_of_them_is(app: Cleaner) -> None:
    """Trap 8: ids that are not unique."""
    fill(app, ("t", "-1 h", "-1 h"), ("t", "1 h", "none"))
    for store in (STORE, WITHOUT_OWN_EXPIRY):
        assert app.run([DENIED_LONG_AGO], token_stores=[store])["removed"] == 0
    app.sql("DELETE FROM app.tokens WHERE expires_at > now()")
    assert app.run([DENIED_LONG_AGO], token_stores=[WITHOUT_OWN_EXPIRY])["removed"] == 1


def test_deny_rows_of_nobody_knows_what(app: Cleaner) -> None:
    """Neither the deny list nor the tokens have an expiry: nothing can be known, so nothing goes."""
    store = {**WITHOUT_OWN_EXPIRY, "tokens": {"table": "app.tokens", "id": "id"}}
    fill(app, ("t", "-1 h", "-1 h"), ("orphan", "none", "-1 h"))
    assert app.run([DENIED_LONG_AGO], token_stores=[store])["removed"] == 0
    assert app.run([DENIED_LONG_AGO], token_stores=[STORE])["removed"] == 2


def test_deny_rows_without_an_id_have_no_known_expiry(app: Cleaner) -> None:
    app.sql("INSERT INTO app.denied VALUES (NULL, 'epoch', '-infinity')")
    app.sql("INSERT INTO app.tokens VALUES (NULL, 'epoch', '-infinity')")
    assert app.run([DENIED_LONG_AGO], token_stores=[WITHOUT_OWN_EXPIRY])["removed"] == 0


def test_the_skew_comes_on_top_of_the_rules_age(app: Cleaner) -> None:
    app.sql("INSERT INTO app.denied SELECT md5(m::text)::uuid, now(), now() - m * interval '1 min' FROM generate_series(0, 100) AS m")
    result = app.run([rule("app.denied", older_than="30 min")], token_stores=[STORE], clock_skew="10 min")
    assert app.sql("SELECT count(*) FROM app.denied") == [(40,)]  # 0 to 39; the fortieth was past by the time that the statement took
    assert app.sql("SELECT %s::timestamptz - %s::timestamptz = interval '40 min'", [result["as_of"], result["rules"][0]["cutoff"]]) == [
        (True,)
    ]


def test_every_store_that_shares_a_deny_table_counts(app: Cleaner) -> None:
    app.sql("CREATE TABLE app.more (id uuid, issued_at timestamptz, expires_at timestamptz)")
    other = {"name": "more", "tokens": {**STORE["tokens"], "table": "app.more"}, "revoke": WITHOUT_OWN_EXPIRY["revoke"]}  # type: ignore[dict-item]
    fill(app, ("here alive", "1 h", "-1 h"), ("there alive", "none", "-1 h"), ("here past", "-1 h", "-1 h"), ("there past", "none", "-1 h"))
    app.sql(
        "INSERT INTO app.more VALUES (md5('there alive')::uuid, 'epoch', now() + interval '1 h'),"
        " (md5('there past')::uuid, 'epoch', 'epoch')"
    )
    result = app.run([DENIED_LONG_AGO], token_stores=[WITHOUT_OWN_EXPIRY, other])
    assert left(app, "app.denied", "here alive", "there alive", "here past", "there past") == {"here alive", "there alive"}
    assert result["removed"] == 2


PARTITIONED = """
DROP TABLE app.denied;
CREATE TABLE app.denied (id uuid, denied_at timestamptz, expires_at timestamptz) PARTITION BY RANGE (denied_at);
CREATE TABLE app.denied_old PARTITION OF app.denied FOR VALUES FROM (MINVALUE) TO ('2020-01-01');
CREATE TABLE app.denied_new PARTITION OF app.denied DEFAULT;
"""


@pytest.mark.parametrize(
    ("named", "cleaned"), [("app.denied", "app.denied_new"), ("app.denied_new", "app.denied"), ("app.denied", "app.denied")]
)
def test_a_partition_and_a_parent_of_a_deny_table_are_deny_tables(app: Cleaner, named: str, cleaned: str) -> None:
    app.sql(PARTITIONED)
    fill(app, ("alive", "1 h", "1 h"), ("past", "-1 h", "-1 h"))
    store = {**STORE, "revoke": {**STORE["revoke"], "table": named}}  # type: ignore[dict-item]
    result = app.run([rule(cleaned, "denied_at")], token_stores=[store])
    assert (result["removed"], result["protected"]) == (1, 1)
    assert left(app, "app.denied", "alive", "past") == {"alive"}


def test_a_parent_by_inheritance_is_a_deny_table(app: Cleaner) -> None:
    app.sql(
        "CREATE TABLE app.all_denied (id uuid, denied_at timestamptz, expires_at timestamptz);ALTER TABLE app.denied INHERIT app.all_denied"
    )
    fill(app, ("alive", "1 h", "1 h"))
    assert app.run([rule("app.all_denied", "denied_at")], token_stores=[STORE])["protected"] == 1
    app.sql("CREATE TABLE app.base (denied_at timestamptz); ALTER TABLE app.denied INHERIT app.base")
    with pytest.raises(MissingObject, match=r"app\.base has no column 'id'"):
        app.run([rule("app.base", "denied_at")], token_stores=[STORE])


# Name, the token's expiry, the deny row's own expiry, whether the token row may go by a rule on the time of issue.
TOKENS = [
    ("past, covered", "-1 h", "-1 h", True),
    ("alive, covered", "1 h", "1 h", True),
    ("alive, covered longer", "1 h", "2 h", True),
    ("alive, not covered to its end", "1 h", "30 min", False),
    ("within the skew, not covered", "-4 min", "-1 h", False),
    ("past, not covered but dead", "-1 h", "-2 h", True),
    ("never expires, covered for a while", None, "1 h", False),
    ("past, denied for good", "-1 h", None, False),
    ("alive, denied for good", "1 h", None, False),
    ("alive, not denied", "1 h", "none", True),
    ("past, not denied", "-1 h", "none", True),
]


def test_token_rows_that_a_deny_row_with_its_own_expiry_needs(app: Cleaner) -> None:
    fill(app, *[row[:3] for row in TOKENS])
    planned, result = app.run([ISSUED_LONG_AGO], token_stores=[STORE], check=True), app.run([ISSUED_LONG_AGO], token_stores=[STORE])
    assert left(app, "app.tokens", *[row[0] for row in TOKENS]) == {row[0] for row in TOKENS if not row[3]}
    assert numbers(planned) == numbers(result)
    assert (result["matched"], result["protected"]) == (11, 5)


def test_token_rows_stay_while_a_deny_row_needs_them(app: Cleaner) -> None:
    fill(app, ("alive", "1 h", "-1 h"), ("past", "-1 h", "-1 h"), ("not denied", "-1 h", "none"))
    result = app.run([ISSUED_LONG_AGO], token_stores=[WITHOUT_OWN_EXPIRY])
    assert left(app, "app.tokens", "alive", "past", "not denied") == {"alive", "past"}
    assert (result["protected"], result["removed"]) == (2, 1)


@pytest.mark.parametrize("order", [1, -1])
def test_deny_rows_go_before_the_token_rows_that_they_need(app: Cleaner, order: int) -> None:
    fill(app, ("alive", "1 h", "-1 h"), ("past", "-1 h", "-1 h"), ("not denied", "-1 h", "none"), ("orphan", "none", "-1 h"))
    rules = [DENIED_LONG_AGO, ISSUED_LONG_AGO][::order]
    planned, result = app.run(rules, token_stores=[WITHOUT_OWN_EXPIRY], check=True), app.run(rules, token_stores=[WITHOUT_OWN_EXPIRY])
    assert numbers(planned) == numbers(result)
    assert [row["table"] for row in result["rules"]] == ["app.denied", "app.tokens"][::order]
    assert left(app, "app.tokens", "alive", "past", "not denied") == {"alive"}
    assert left(app, "app.denied", "alive", "past", "not denied", "orphan") == {"alive", "orphan"}


def test_a_token_row_whose_deny_row_was_passed_over_stays(app: Cleaner) -> None:
    """Were it to go, nothing would ever say that the deny row may go too."""
    fill(app, ("past", "-1 h", "-1 h"))
    rules = [DENIED_LONG_AGO, ISSUED_LONG_AGO]
    with app.database.connect() as holder:
        holder.execute("BEGIN")
        holder.execute("SELECT * FROM app.denied FOR UPDATE")
        result = app.run(rules, token_stores=[WITHOUT_OWN_EXPIRY])
        assert [row["removed"] for row in result["rules"]] == [0, 0]
        assert result["stopped"] == "locked"
    again = app.run(rules, token_stores=[WITHOUT_OWN_EXPIRY])
    assert [row["removed"] for row in again["rules"]] == [1, 1]


DENIED_ID = {
    "text": "md5('t')::uuid::text",
    "upper": "upper(md5('t')::uuid::text)",
    "varchar": "md5('t')::uuid::text::varchar(40)",
    "without dashes": "md5('t')",
    "in braces": "'{' || md5('t')::uuid::text || '}'",
}


@pytest.mark.parametrize("form", list(DENIED_ID))
def test_ids_of_different_types_are_the_same_id(app: Cleaner, form: str) -> None:
    app.sql(SQL("ALTER TABLE app.denied ALTER id TYPE text USING {}").format(SQL("id::text")))
    fill(app, ("t", "1 h", "none"), ("dead", "-1 h", "none"))
    app.sql(
        SQL("INSERT INTO app.denied VALUES ({}, 'epoch', 'epoch'), (md5('dead')::uuid::text, 'epoch', 'epoch')").format(
            SQL(DENIED_ID[form])
        )
    )
    assert app.run([DENIED_LONG_AGO], token_stores=[STORE])["removed"] == 1
    assert app.sql("SELECT id::uuid = md5('t')::uuid FROM app.denied") == [(True,)]


@pytest.mark.parametrize(
    ("deny", "token"),
    [
        ("bytea USING decode(md5(id::text), 'hex')", "text"),
        ("bytea USING decode(md5(id::text), 'hex')", "uuid"),
        ("bigint USING 1", "text"),
        ("numeric USING 1", "bigint USING 1"),
        ("text[] USING ARRAY[id::text]", "text"),
    ],
)
def test_ids_that_cannot_be_compared_are_refused(app: Cleaner, deny: str, token: str) -> None:
    """Compared as texts they would match nothing, and every denied token would look like one that is gone."""
    fill(app, ("alive", "1 h", "-1 h"))
    app.sql(SQL(f"ALTER TABLE app.denied ALTER id TYPE {deny}; ALTER TABLE app.tokens ALTER id TYPE {token}"))
    with pytest.raises(InvalidValue, match=r"token_stores\[0\]: app\.denied\.id is of type .* and app\.tokens\.id is of type") as caught:
        app.run([DENIED_LONG_AGO], token_stores=[STORE])
    assert deny.split(maxsplit=1)[0] in str(caught.value)
    assert token.split(maxsplit=1)[0] in str(caught.value)
    assert app.count("app.denied") == 1


@pytest.mark.parametrize(
    ("deny", "token"),
    [
        ('text COLLATE "C"', 'text COLLATE "POSIX"'),
        ('varchar(40) COLLATE "POSIX"', "text"),
        ('text COLLATE "C"', "uuid USING id::uuid"),
        ("bytea USING id::text::bytea", "bytea USING id::text::bytea"),
        ("app.label USING id::text::app.label", "app.label USING id::text::app.label"),
        ("app.label USING id::text::app.label", 'char(36) COLLATE "C"'),
    ],
)
def test_ids_with_collations_and_types_of_their_own(app: Cleaner, deny: str, token: str) -> None:
    fill(app, ("alive", "1 h", "-1 h"), ("dead", "-1 h", "-1 h"))
    app.sql('CREATE DOMAIN app.label AS text COLLATE "POSIX"')
    app.sql(SQL(f"ALTER TABLE app.denied ALTER id TYPE {deny}; ALTER TABLE app.tokens ALTER id TYPE {token}"))
    assert app.run([DENIED_LONG_AGO], token_stores=[STORE], check=True)["removed"] == 1
    assert app.run([DENIED_LONG_AGO, ISSUED_LONG_AGO], token_stores=[STORE])["rules"][0]["removed"] == 1


TIMES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "timestamp": ("timestamp", "({at}) AT TIME ZONE 'Asia/Kolkata'", {"time_zone": "Asia/Kolkata"}),
    "date": ("date", "(({at}) AT TIME ZONE 'UTC')::date", {"time_zone": "UTC"}),
    "seconds": ("bigint", "extract(epoch FROM {at})::bigint", {"unit": "s"}),
    "milliseconds": ("bigint", "(extract(epoch FROM {at}) * 1000)::bigint", {"unit": "ms"}),
}


@pytest.mark.parametrize("deny", list(TIMES))
@pytest.mark.parametrize("token", list(TIMES))
def test_expiries_of_different_types_are_compared_as_instants(app: Cleaner, deny: str, token: str) -> None:
    rows = {
        "covered": ("3 days", "6 days"),
        "not covered": ("6 days", "3 days"),
        "dead": ("-6 days", "-8 days"),
        "no expiry": ("3 days", None),
    }
    for table, kind in (("tokens", token), ("denied", deny)):
        type_, expression, _written = TIMES[kind]
        using = SQL(expression.replace("{at}", "expires_at"))
        app.sql(SQL("ALTER TABLE app.{} ALTER expires_at TYPE {} USING {}").format(SQL(table), SQL(type_), using))
    for name, expiries in rows.items():
        for table, time, kind, after in (("tokens", "issued_at", token, expiries[0]), ("denied", "denied_at", deny, expiries[1])):
            expression = TIMES[kind][1].replace("{at}", f"now() + interval '{after}'") if after else "NULL"
            values = f"(md5('{name}')::uuid, 'epoch', {expression})"
            app.sql(SQL("INSERT INTO app.{} (id, {}, expires_at) VALUES {}").format(SQL(table), SQL(time), SQL(values)))
    store = {
        "name": "app",
        "tokens": {"table": "app.tokens", "id": "id", "expires_at": {"column": "expires_at", **TIMES[token][2]}},
        "revoke": {**STORE["revoke"], "expires_at": {"column": "expires_at", **TIMES[deny][2]}},  # type: ignore[dict-item]
    }
    app.run([ISSUED_LONG_AGO, DENIED_LONG_AGO], token_stores=[store])
    assert left(app, "app.tokens", *rows) == {"not covered", "no expiry"}
    assert left(app, "app.denied", *rows) == {"covered", "not covered", "no expiry"}


def test_sentinels_at_the_end_of_time_are_no_error(app: Cleaner) -> None:
    app.sql("ALTER TABLE app.tokens ALTER expires_at TYPE bigint USING 0; ALTER TABLE app.denied ALTER expires_at TYPE date USING now()")
    app.sql("INSERT INTO app.tokens VALUES (md5('t')::uuid, 'epoch', 9223372036854775807), (md5('u')::uuid, 'epoch', -9223372036854775808)")
    app.sql("INSERT INTO app.denied VALUES (md5('t')::uuid, 'epoch', '9999-12-31'), (md5('u')::uuid, 'epoch', '5874897-12-31')")
    store = {
        **STORE,
        "tokens": {"table": "app.tokens", "id": "id", "expires_at": {"column": "expires_at", "unit": "s"}},
    }
    assert app.run([ISSUED_LONG_AGO, DENIED_LONG_AGO], token_stores=[store])["stopped"] == "done"
    assert app.count("app.denied") == 2


@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Kolkata"])
@pytest.mark.parametrize("kind", ["timestamp", "date"])
def test_sentinels_at_both_ends_of_the_calendar_are_no_error(app: Cleaner, zone: str, kind: str) -> None:
    """In a zone west of UTC the last wall clock is beyond the last instant, in one east of it the first is before the first."""
    app.sql(SQL("ALTER TABLE app.tokens ALTER expires_at TYPE {} USING expires_at").format(SQL(kind)))
    fill(app, ("end", "1 h", "1 h"), ("infinite", "1 h", "1 h"), ("start", "1 h", "-1 h"))
    first, last = ("4713-01-01 BC", "294276-12-31 23:59:59" if kind == "timestamp" else "5874897-12-31")
    for name, value in (("end", last), ("infinite", "infinity"), ("start", first)):
        app.sql("UPDATE app.tokens SET expires_at = %s WHERE id = md5(%s)::uuid", [value, name])
    store = {**STORE, "tokens": {**STORE["tokens"], "expires_at": {"column": "expires_at", "time_zone": zone}}}  # type: ignore[dict-item]
    result = app.run([ISSUED_LONG_AGO, DENIED_LONG_AGO], token_stores=[store])
    assert result["stopped"] == "done"
    assert left(app, "app.tokens", "end", "infinite", "start") == {"end", "infinite"}


def test_the_tables_of_a_store_that_no_rule_is_about_need_not_exist(app: Cleaner) -> None:
    other = {"name": "x", "tokens": {"table": "x.tokens", "id": "id"}, "revoke": {"how": "denylist", "table": "x.denied", "id": "id"}}
    assert app.run([DENIED_LONG_AGO], token_stores=[STORE, other])["stopped"] == "done"


def test_a_store_that_a_rule_is_about_must_be_whole(app: Cleaner) -> None:
    fill(app, ("t", "-1 h", "-1 h"))
    tokens: dict[str, Any] = STORE["tokens"]  # type: ignore[assignment]
    for tokens_, message in (
        ({**tokens, "table": "app.gone"}, r"token_stores\[0\].tokens.table: table app.gone does not exist"),
        ({**tokens, "id": "jti"}, r"token_stores\[0\]: table app.tokens has no column 'jti'"),
        ({**tokens, "expires_at": "exp"}, r"token_stores\[0\]: table app.tokens has no column 'exp'"),
    ):
        with pytest.raises(MissingObject, match=message):
            app.run([DENIED_LONG_AGO], token_stores=[{**STORE, "tokens": tokens_}])
    assert app.count("app.denied") == 1


def test_a_token_table_that_hides_rows_stops_the_run(app: Cleaner) -> None:
    """A hidden token row would make a live token look like one that is gone."""
    app.sql("CREATE ROLE janitor LOGIN PASSWORD 'secret'")
    try:
        fill(app, ("t", "1 h", "-1 h"))
        app.sql("GRANT USAGE ON SCHEMA app TO janitor; GRANT SELECT, UPDATE, DELETE ON app.denied TO janitor")
        login = {"login_user": "janitor", "login_password": "secret"}
        with pytest.raises(DatabaseError, match=r"token_stores\[0\].tokens.table: the role may not SELECT app.tokens"):
            app.run([DENIED_LONG_AGO], token_stores=[STORE], login=login)
        app.sql("GRANT SELECT ON app.tokens TO janitor; ALTER TABLE app.tokens ENABLE ROW LEVEL SECURITY")
        with pytest.raises(DatabaseError, match=r"token_stores\[0\].tokens.table: row-level security hides rows of app.tokens"):
            app.run([DENIED_LONG_AGO], token_stores=[STORE], login=login)
        assert app.count("app.denied") == 1
    finally:
        app.sql("DROP OWNED BY janitor; DROP ROLE janitor")


NOT_TABLES = {
    "a deny view": ("ALTER TABLE app.denied RENAME TO base; CREATE VIEW app.denied AS SELECT * FROM app.base", "revoke", "denied", "view"),
    "a token view": (
        "ALTER TABLE app.tokens RENAME TO base; CREATE VIEW app.tokens AS SELECT * FROM app.base WHERE expires_at < now()",
        "tokens",
        "tokens",
        "view",
    ),
    "a materialized view": (
        "ALTER TABLE app.denied RENAME TO base; CREATE MATERIALIZED VIEW app.denied AS SELECT * FROM app.base",
        "revoke",
        "denied",
        "materialized view",
    ),
    "a foreign table": (
        "ALTER TABLE app.denied RENAME TO base; CREATE FOREIGN DATA WRAPPER w; CREATE SERVER s FOREIGN DATA WRAPPER w;"
        "CREATE FOREIGN TABLE app.denied (id uuid, denied_at timestamptz, expires_at timestamptz) SERVER s",
        "revoke",
        "denied",
        "foreign table",
    ),
}


@pytest.mark.parametrize("what", list(NOT_TABLES))
@pytest.mark.parametrize("about", ["app.base", "s"])
def test_a_store_whose_lists_are_no_tables_is_refused_whatever_the_rule_is_on(app: Cleaner, what: str, about: str) -> None:
    """The rows lie in a table that the store does not name, so that a rule on that table would not be protected."""
    prepare, part, name, kind = NOT_TABLES[what]
    fill(app, ("alive", "1 h", "1 h"))
    app.sql(SQL(prepare))
    app.sql("CREATE TABLE s (at timestamptz); INSERT INTO s VALUES ('epoch'); ALTER TABLE app.base ADD at timestamptz DEFAULT 'epoch'")
    for check in (True, False):
        with pytest.raises(InvalidValue, match=rf"token_stores\[0\].{part}.table: app.{name} is a {kind}"):
            app.run([rule(about, "at")], token_stores=[STORE], check=check)
    assert (app.count("app.base"), app.count("s")) == (1, 1)


EPOCH = {"column": "expires_at", "unit": "ms"}


@pytest.mark.parametrize("sentinel", [None, 9223372036854775807, 0, 253402300799000])
@pytest.mark.parametrize("where", ["rule", "revoke", "tokens"])
def test_seconds_that_are_declared_as_milliseconds_are_refused(app: Cleaner, where: str, sentinel: int | None) -> None:
    """Every row would look expired, also where one value is a sentinel, and also where only the store says so."""
    fill(app, ("alive", "20 days", "20 days"))
    table = SQL("tokens" if where == "tokens" else "denied")
    app.sql(SQL("ALTER TABLE app.{} ALTER expires_at TYPE bigint USING extract(epoch FROM expires_at)::bigint").format(table))
    if sentinel is not None:
        app.sql(SQL("INSERT INTO app.{} VALUES (md5(random()::text)::uuid, now(), %s)").format(table), [sentinel])
    part = "tokens" if where == "tokens" else "revoke"
    store = {**STORE, part: {**STORE[part], "expires_at": EPOCH}}  # type: ignore[dict-item]
    written = rule("app.denied", EPOCH) if where == "rule" else DENIED_LONG_AGO
    path = r"rules\[0\].column" if where == "rule" else rf"token_stores\[0\].{part}.expires_at"
    with pytest.raises(InvalidValue, match=rf"^{path}: .* seconds since 1970"):
        app.run([written], token_stores=[store])
