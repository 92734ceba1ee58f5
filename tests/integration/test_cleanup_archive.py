"""The table that rows go to: it keeps every column, is readable by nobody by accident, and is refused where it would lose anything."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from ansible_collections.pgops.runbook.plugins.module_utils._cleanup import archive
from ansible_collections.pgops.runbook.plugins.module_utils._errors import RunbookError
from ansible_collections.pgops.runbook.plugins.module_utils._names import RelationName, parse_relation
from ansible_collections.pgops.runbook.plugins.module_utils._relation import look_up
from tests.integration.cleaning import Cleaner

pytestmark = pytest.mark.any_driver

PATH = "rules[0].archive"
COLUMNS = """
SELECT a.attname, format_type(a.atttypid, a.atttypmod), l.collname, a.attnotnull, a.atthasdef, a.attgenerated::text, a.attidentity::text
FROM pg_attribute a LEFT JOIN pg_collation l ON l.oid = a.attcollation
WHERE a.attrelid = %s::regclass AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
"""


class Mover:
    """Moves rows of one table into its archive as the engine does."""

    def __init__(self, cleaner: Cleaner, source: str = "s.tokens", target: str = "s.kept", create: bool = True) -> None:
        self.cleaner, self.source, self.target = cleaner, parse_relation(source), parse_relation(target)
        self.written = {"table": target, "create": create}

    def resolve(self, session: Any) -> archive.Archive:
        found = look_up(session, [self.source, self.target])
        with session.transaction(read_only=True, snapshot=True):
            return archive.resolve(session, found[self.source], found[self.target], self.written, PATH)

    def prepare(self, session: Any) -> tuple[archive.Archive, bool]:
        made = self.resolve(session)
        return made, archive.prepare(session, made, look_up(session, [self.source])[self.source])

    def move(self, session: Any, kept: archive.Archive, name: RelationName | None = None) -> dict[str, Any]:
        sql = session.sql
        leaf = next(one for one in look_up(session, [self.source])[self.source].leaves if one.name == (name or self.source))
        row: dict[str, Any] = session.row(
            sql.SQL(
                "WITH gone AS (DELETE FROM ONLY {leaf} AS row_ WHERE true RETURNING {returning}), kept AS ({insert})"
                " SELECT (SELECT count(*) FROM gone) AS gone, (SELECT count(*) FROM kept) AS kept, {unkept} AS unkept"
            ).format(
                leaf=leaf.name.identifier(sql),
                returning=archive.returning(session, kept, "row_"),
                insert=archive.insert(session, kept, "gone"),
                unkept=archive.unkept_columns(session, kept, leaf),
            )
        )
        return row

    def whole(self, **login: Any) -> dict[str, Any]:
        """Make the archive and move everything."""
        with self.cleaner.open(**login) as session:
            kept, _made = self.prepare(session)
            return self.move(session, kept)

    def refused(self, **login: Any) -> RunbookError:
        with self.cleaner.open(**login) as session, pytest.raises(RunbookError) as caught:
            self.resolve(session)
        assert caught.value.message.startswith(f"{PATH}.table: ")
        assert caught.value.object_name
        return caught.value


@pytest.fixture
def app(cleaner: Cleaner) -> Cleaner:
    cleaner.sql("CREATE SCHEMA s; CREATE TABLE s.tokens (id int, note varchar(10)); INSERT INTO s.tokens VALUES (1, 'a'), (2, NULL)")
    return cleaner


def role(cleaner: Cleaner, name: str, *statements: str) -> dict[str, Any]:
    """Make a role that may move rows of s.tokens, and return its login."""
    name = f"{name}_{cleaner.database.name}"
    cleaner.sql(f"DROP ROLE IF EXISTS {name}; CREATE ROLE {name} LOGIN")
    cleaner.sql(f"GRANT USAGE ON SCHEMA s TO {name}; GRANT SELECT, UPDATE, DELETE ON s.tokens TO {name}")
    for statement in statements:
        cleaner.sql(statement.replace(":me", name))
    return {"login_user": name}


def test_every_value_is_kept_as_it_is(app: Cleaner) -> None:
    app.sql("""
        CREATE DOMAIN s.short AS varchar(5) CHECK (VALUE <> 'no');
        CREATE TYPE s.mood AS ENUM ('good', 'bad');
        DROP TABLE s.tokens;
        CREATE TABLE s.tokens (
            id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, gone int, "select" text COLLATE "C" NOT NULL DEFAULT 'x',
            "A b""c%s{}" s.short,
            twice int GENERATED ALWAYS AS (("row_") * 2) STORED, row_ int UNIQUE CHECK (row_ > 0), price numeric(10,2), bits "bit",
            moods s.mood[], body jsonb, at timestamptz(3) DEFAULT now(), kinds "char", source text
        );
        ALTER TABLE s.tokens DROP COLUMN gone;
        INSERT INTO s.tokens ("A b""c%s{}", row_, price, bits, moods, body, source)
        SELECT 'ab', n, n / 3.0, B'101', '{good,bad}', '{"a": 1}', repeat('x', 100000) FROM generate_series(1, 50) AS n;
    """)
    before = app.sql("SELECT t.*::text FROM s.tokens t ORDER BY id")
    assert Mover(app).whole() == {"gone": 50, "kept": 50, "unkept": 0}
    assert (app.count("s.tokens"), app.sql("SELECT t.*::text FROM s.kept t ORDER BY id")) == (0, before)
    columns, source = app.sql(COLUMNS, ["s.kept"]), app.sql(COLUMNS, ["s.tokens"])
    assert [row[:3] for row in columns] == [row[:3] for row in source]
    assert {row[3:] for row in columns} == {(False, False, "", "")}
    assert app.sql("SELECT count(*) FROM pg_constraint WHERE conrelid = 's.kept'::regclass") == [(0,)]


def test_it_is_made_once(app: Cleaner) -> None:
    with app.open() as session:
        kept, made = Mover(app).prepare(session)
        again = archive.prepare(session, kept, look_up(session, [Mover(app).source])[Mover(app).source])
        later, made_later = Mover(app).prepare(session)
    assert (kept.create, [str(column) for column in kept.add]) == (True, ['"id" integer', '"note" character varying(10)'])
    assert (made, again, made_later) == (True, False, False)
    assert (later.create, later.add, later.columns) == (False, (), ("id", "note"))


def test_nobody_else_reads_what_is_made(app: Cleaner) -> None:
    login = role(app, "mover", "GRANT CREATE ON SCHEMA s TO :me", "ALTER DEFAULT PRIVILEGES FOR ROLE :me GRANT SELECT ON TABLES TO PUBLIC")
    role(app, "reader", f"ALTER DEFAULT PRIVILEGES FOR ROLE {login['login_user']} IN SCHEMA s GRANT ALL ON TABLES TO :me WITH GRANT OPTION")
    app.sql("CREATE POLICY everybody ON s.tokens USING (true); ALTER TABLE s.tokens ENABLE ROW LEVEL SECURITY")
    app.sql(f"ALTER TABLE s.tokens OWNER TO {login['login_user']}")
    assert Mover(app).whole(**login) == {"gone": 2, "kept": 2, "unkept": 0}
    acl = "SELECT x.grantee::regrole::text FROM pg_class c, aclexplode(c.relacl) AS x WHERE c.oid = 's.kept'::regclass"
    assert set(app.column(acl)) == {login["login_user"]}
    assert app.sql("SELECT relowner::regrole::text, relrowsecurity FROM pg_class WHERE oid = 's.kept'::regclass") == [
        (login["login_user"], True)
    ]
    assert app.sql("SELECT count(*) FROM pg_policy WHERE polrelid = 's.kept'::regclass") == [(0,)]


def test_an_archive_has_no_row_level_security_that_the_source_has_not(app: Cleaner) -> None:
    Mover(app).whole()
    assert app.sql("SELECT relrowsecurity FROM pg_class WHERE oid = 's.kept'::regclass") == [(False,)]


def test_new_columns_are_added_to_what_is_there(app: Cleaner) -> None:
    Mover(app).whole()
    app.sql('ALTER TABLE s.tokens ADD "from" text COLLATE "C" NOT NULL DEFAULT \'here\', ADD at timestamptz NOT NULL DEFAULT now()')
    app.sql("INSERT INTO s.tokens VALUES (3, 'c')")
    error = Mover(app, create=False).refused()
    assert type(error).__name__ == "MissingObject"
    assert 's.kept lacks columns of s.tokens: "from" text COLLATE "pg_catalog"."C", "at" timestamp with time zone' in error.message
    change = error.as_result()["msg"].partition(" run ")[2].rstrip(".")
    assert change.startswith('ALTER TABLE "s"."kept" ADD COLUMN "from"')
    assert Mover(app).whole() == {"gone": 1, "kept": 1, "unkept": 0}
    assert app.sql('SELECT id, "from", at IS NULL FROM s.kept ORDER BY id') == [(1, None, True), (2, None, True), (3, "here", False)]
    app.sql('ALTER TABLE s.kept DROP "from", DROP at')
    app.sql(change)
    app.sql("INSERT INTO s.tokens VALUES (4, 'd')")
    assert Mover(app, create=False).whole()["kept"] == 1


def test_an_archive_with_more_columns_and_identities_of_its_own(app: Cleaner) -> None:
    app.sql("""
        CREATE TABLE s.kept (
            note varchar(10), more text, id int GENERATED ALWAYS AS IDENTITY, kept_at timestamptz NOT NULL DEFAULT now(),
            number bigint GENERATED ALWAYS AS IDENTITY, length int GENERATED ALWAYS AS (length(note)) STORED
        )
    """)
    assert Mover(app, create=False).whole() == {"gone": 2, "kept": 2, "unkept": 0}
    assert app.sql("SELECT id, note, more, kept_at IS NOT NULL, number, length FROM s.kept ORDER BY id") == [
        (1, "a", None, True, 1, 1),
        (2, None, None, True, 2, None),
    ]


def test_tables_with_as_many_columns_as_there_can_be(app: Cleaner) -> None:
    app.sql("ALTER TABLE s.tokens " + ", ".join(f"ADD c{number} bool" for number in range(1598)))
    assert Mover(app).whole() == {"gone": 2, "kept": 2, "unkept": 0}
    app.sql("ALTER TABLE s.kept DROP c7")
    assert "more than 1600" in Mover(app).refused().message


def test_a_partitioned_archive(app: Cleaner) -> None:
    app.sql("CREATE TABLE s.kept (note varchar(10), id int) PARTITION BY RANGE (id)")
    assert "without a partition" in Mover(app).refused().message
    app.sql("CREATE TABLE s.kept_1 (id int, x int, note varchar(10)); ALTER TABLE s.kept_1 DROP x")
    app.sql("ALTER TABLE s.kept ATTACH PARTITION s.kept_1 DEFAULT; ALTER TABLE s.tokens ADD at timestamptz")
    assert Mover(app).whole() == {"gone": 2, "kept": 2, "unkept": 0}
    assert app.count("s.kept_1") == 2


def test_triggers_that_swallow_rows_are_named_and_show_in_the_numbers(app: Cleaner) -> None:
    app.sql("CREATE TABLE s.kept (LIKE s.tokens); CREATE FUNCTION s.no() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'")
    app.sql("CREATE TRIGGER swallow BEFORE INSERT ON s.kept FOR EACH ROW WHEN (NEW.id = 1) EXECUTE FUNCTION s.no()")
    app.sql("CREATE TRIGGER never BEFORE INSERT ON s.kept FOR EACH ROW EXECUTE FUNCTION s.no(); ALTER TABLE s.kept DISABLE TRIGGER never")
    app.sql("CREATE TRIGGER other BEFORE DELETE ON s.kept FOR EACH ROW EXECUTE FUNCTION s.no()")
    with app.open() as session:
        kept = Mover(app).resolve(session)
        assert kept.triggers == ("swallow",)
        assert Mover(app).move(session, kept) == {"gone": 2, "kept": 1, "unkept": 0}


# What changes on either side between the plan and a batch, and how many of the source's columns would then not be kept as they are.
@pytest.mark.parametrize(
    ("change", "unkept"),
    [
        ("ALTER TABLE s.tokens ADD more text DEFAULT 'x'", 1),
        ("ALTER TABLE s.tokens ADD more text; ALTER TABLE s.kept ADD more text", 1),
        ("ALTER TABLE s.tokens ALTER note TYPE varchar(20)", 1),
        ("ALTER TABLE s.kept ALTER note TYPE text", 1),
        ("ALTER TABLE s.kept ADD more text", 0),
    ],
)
def test_a_change_of_columns_while_it_runs_shows_in_the_numbers(app: Cleaner, change: str, unkept: int) -> None:
    with app.open() as session:
        kept, _made = Mover(app).prepare(session)
        app.sql(change)
        with session.transaction():
            session.execute("SET LOCAL search_path TO s, public")
            assert Mover(app).move(session, kept) == {"gone": 2, "kept": 2, "unkept": unkept}


@pytest.mark.parametrize("prepare", ["", "CREATE TABLE s.kept (id int)"], ids=["made", "extended"])
def test_two_that_make_it_at_the_same_time(app: Cleaner, prepare: str) -> None:
    """Both have seen that it must be made; one waits at the catalogue for the other, and finds it made."""
    app.sql(prepare or "SELECT")
    done: list[bool] = []
    with app.open() as first, app.open() as second:
        plans = [Mover(app).resolve(session) for session in (first, second)]
        source = look_up(first, [Mover(app).source])[Mover(app).source]
        waiting = threading.Thread(target=lambda: done.append(archive.prepare(second, plans[1], source)))
        with first.transaction():
            archive._extend(first, plans[0]) if prepare else archive._make(first, plans[0])
            waiting.start()
            stuck = "SELECT count(*) FROM pg_locks WHERE NOT granted AND pid = %s"
            while app.sql(stuck, [second.backend_pid]) == [(0,)]:
                assert waiting.is_alive()
        waiting.join(20)
        assert done == [False]
        assert Mover(app).move(second, plans[1]) == {"gone": 2, "kept": 2, "unkept": 0}


def test_another_schema_and_a_name_that_needs_quotes(app: Cleaner) -> None:
    app.sql('CREATE SCHEMA "Old ""s"""')
    target = '"Old ""s"""."kept.%s{}"'
    assert Mover(app, target=target).whole() == {"gone": 2, "kept": 2, "unkept": 0}
    assert app.count(target) == 2


def test_a_column_that_only_a_partition_or_child_has(app: Cleaner) -> None:
    app.sql("CREATE TABLE s.child (extra text) INHERITS (s.tokens)")
    error = Mover(app).refused()
    assert "s.child has columns that s.tokens lacks" in error.message
    assert '"extra"' in error.message
    assert Mover(app, source="s.child").whole() == {"gone": 0, "kept": 0, "unkept": 0}
