"""What refers to the rows that go: foreign keys, rewrite rules and triggers are told of before the first change."""

from __future__ import annotations

from typing import Any

import pytest
from psycopg.sql import SQL

from ansible_collections.pgops.runbook.plugins.module_utils._cleanup import preflight
from ansible_collections.pgops.runbook.plugins.module_utils._errors import InvalidValue, RunbookError
from tests.integration.cleaning import STORE, TABLES, WITHOUT_OWN_EXPIRY, Cleaner, numbers, rule

pytestmark = pytest.mark.any_driver

TOKENS = rule("app.tokens", "issued_at")
USERS = rule("app.users", "gone_at")
LIVE = """
INSERT INTO app.tokens SELECT md5(n::text)::uuid, now() - interval '10 days', now() + interval '20 days' FROM generate_series(1, 10) AS n;
INSERT INTO app.denied SELECT id, now(), expires_at FROM app.tokens;
"""
KEY = "ALTER TABLE app.tokens ADD PRIMARY KEY (id);"
WITH_USERS = """
CREATE TABLE app.users (id int PRIMARY KEY, gone_at timestamptz);
INSERT INTO app.users VALUES (1, 'epoch');
"""


@pytest.fixture
def app(cleaner: Cleaner) -> Cleaner:
    cleaner.sql(TABLES)
    return cleaner


# What links the tables, the rule, and the words of the refusal: the constraints in the order in which they act.
REACHING: dict[str, tuple[str, dict[str, Any], tuple[str, ...]]] = {
    "cascade": (
        KEY + "ALTER TABLE app.denied ADD CONSTRAINT away FOREIGN KEY (id) REFERENCES app.tokens ON DELETE CASCADE",
        TOKENS,
        ('"away" of app.denied (ON DELETE CASCADE)',),
    ),
    "set null": (
        KEY + "ALTER TABLE app.denied ADD CONSTRAINT away FOREIGN KEY (id) REFERENCES app.tokens ON DELETE SET NULL",
        TOKENS,
        ('"away" of app.denied (ON DELETE SET NULL)',),
    ),
    "set default": (
        KEY + "ALTER TABLE app.denied ADD CONSTRAINT away FOREIGN KEY (id) REFERENCES app.tokens ON DELETE SET DEFAULT",
        TOKENS,
        ('"away" of app.denied (ON DELETE SET DEFAULT)',),
    ),
    "through the tokens": (
        WITH_USERS
        + KEY
        + "ALTER TABLE app.tokens ADD who int CONSTRAINT whose REFERENCES app.users ON DELETE CASCADE;"
        + "ALTER TABLE app.denied ADD CONSTRAINT away FOREIGN KEY (id) REFERENCES app.tokens ON DELETE CASCADE",
        USERS,
        ('"whose" of app.tokens (ON DELETE CASCADE)', '"away" of app.denied (ON DELETE CASCADE)'),
    ),
    "from somewhere else": (
        WITH_USERS + "ALTER TABLE app.denied ADD who int CONSTRAINT by REFERENCES app.users ON DELETE CASCADE",
        USERS,
        ('"by" of app.denied (ON DELETE CASCADE)',),
    ),
    "from a partition": (
        "CREATE TABLE app.users (id int, gone_at timestamptz, PRIMARY KEY (id, gone_at)) PARTITION BY RANGE (gone_at);"
        "CREATE TABLE app.users_old PARTITION OF app.users DEFAULT;"
        "ALTER TABLE app.denied ADD who int, ADD since timestamptz,"
        " ADD CONSTRAINT by FOREIGN KEY (who, since) REFERENCES app.users ON DELETE CASCADE",
        rule("app.users_old", "gone_at"),
        ('"by" of app.denied (ON DELETE CASCADE)',),
    ),
    "to a partition": (
        WITH_USERS + "DROP TABLE app.denied;"
        "CREATE TABLE app.denied (id uuid, denied_at timestamptz, expires_at timestamptz, who int) PARTITION BY RANGE (denied_at);"
        "CREATE TABLE app.denied_all PARTITION OF app.denied DEFAULT;"
        "ALTER TABLE app.denied_all ADD CONSTRAINT by FOREIGN KEY (who) REFERENCES app.users ON DELETE CASCADE",
        USERS,
        ('"by" of app.denied_all (ON DELETE CASCADE)',),
    ),
    "through a partition": (
        WITH_USERS + "CREATE TABLE app.grants (id int, who int CONSTRAINT mine REFERENCES app.users ON DELETE CASCADE, PRIMARY KEY (id))"
        " PARTITION BY RANGE (id); CREATE TABLE app.grants_all PARTITION OF app.grants DEFAULT;"
        "ALTER TABLE app.denied ADD grant_id int CONSTRAINT by REFERENCES app.grants_all ON DELETE CASCADE",
        USERS,
        ('"mine" of app.grants (ON DELETE CASCADE)', '"by" of app.denied (ON DELETE CASCADE)'),
    ),
}


@pytest.mark.parametrize("way", list(REACHING))
@pytest.mark.parametrize("check", [False, True])
def test_a_foreign_key_that_would_reach_deny_rows_is_refused(app: Cleaner, way: str, check: bool) -> None:
    """The server would remove or change deny rows of tokens that are alive, and no predicate of ours is asked."""
    prepare, written, said = REACHING[way]
    app.sql(prepare)
    app.sql(LIVE)
    app.sql("CREATE TABLE s (at timestamptz); INSERT INTO s VALUES ('epoch')")
    with pytest.raises(InvalidValue) as caught:
        app.run([rule("s", "at"), written], check=check, token_stores=[STORE])
    message = str(caught.value)
    assert message.startswith("rules[1].table: ")
    positions = [message.index(one) for one in said]
    assert positions == sorted(positions)
    assert "store 'app'" in message
    assert (app.count("s"), app.count("app.denied")) == (1, 10)


def test_foreign_keys_that_do_not_reach_deny_rows_are_no_hindrance(app: Cleaner) -> None:
    app.sql(WITH_USERS + KEY + "ALTER TABLE app.denied ADD PRIMARY KEY (id)")
    app.sql("CREATE TABLE app.notes (who int REFERENCES app.users ON DELETE CASCADE, denied uuid REFERENCES app.denied ON DELETE CASCADE)")
    app.sql(LIVE)
    app.sql("INSERT INTO app.notes SELECT 1, id FROM app.denied")
    assert app.run([USERS], token_stores=[STORE])["removed"] == 1
    assert (app.count("app.notes"), app.count("app.denied")) == (0, 10)


def test_a_column_that_says_nothing_about_the_denial_may_be_set_to_null(app: Cleaner) -> None:
    app.sql(WITH_USERS + "ALTER TABLE app.denied ADD who int REFERENCES app.users ON DELETE SET NULL")
    app.sql("ALTER TABLE app.tokens ADD who int REFERENCES app.users ON DELETE SET NULL")
    app.sql(LIVE + "UPDATE app.denied SET who = 1, expires_at = NULL; UPDATE app.tokens SET who = 1")
    assert app.run([USERS], token_stores=[STORE])["removed"] == 1
    assert app.sql("SELECT count(*), count(id), count(who) FROM app.denied") == [(10, 10, 0)]


def test_a_ring_of_foreign_keys_comes_to_an_end(app: Cleaner) -> None:
    app.sql("CREATE TABLE app.a (id int PRIMARY KEY, b int, at timestamptz); CREATE TABLE app.b (id int PRIMARY KEY, a int)")
    app.sql("ALTER TABLE app.a ADD FOREIGN KEY (b) REFERENCES app.b ON DELETE CASCADE, ADD up int REFERENCES app.a ON DELETE CASCADE")
    app.sql("ALTER TABLE app.b ADD FOREIGN KEY (a) REFERENCES app.a ON DELETE CASCADE; INSERT INTO app.a VALUES (1, NULL, 'epoch')")
    assert app.run([rule("app.a", "at")], token_stores=[STORE])["removed"] == 1


@pytest.mark.parametrize("check", [False, True])
def test_token_rows_that_a_deny_row_needs_do_not_go_by_a_cascade(app: Cleaner, check: bool) -> None:
    """Without its token row, a deny row that ends too early would be taken for one that is over."""
    app.sql(WITH_USERS + "INSERT INTO app.users VALUES (2, 'epoch')")
    app.sql("ALTER TABLE app.tokens ADD who int CONSTRAINT whose REFERENCES app.users ON DELETE CASCADE")
    app.sql(LIVE + "UPDATE app.tokens SET who = CASE WHEN id = md5('1')::uuid THEN 1 ELSE 2 END")
    app.sql("UPDATE app.denied SET expires_at = now() + interval '1 day' WHERE id = md5('1')::uuid")
    with pytest.raises(InvalidValue, match=r'rules\[0\].table: .*"whose" of app.tokens .* 1 of the 2 rows') as caught:
        app.run([USERS], check=check, token_stores=[STORE])
    assert "store 'app'" in str(caught.value)
    app.sql("UPDATE app.denied SET expires_at = now() + interval '30 days'")
    if not check:
        assert app.run([USERS], token_stores=[STORE])["removed"] == 2
        assert (app.count("app.tokens"), app.count("app.denied")) == (0, 10)


HOLDING = """
CREATE TABLE parent (id int PRIMARY KEY, at timestamptz);
INSERT INTO parent SELECT n, now() - interval '1 h' FROM generate_series(1, 100) AS n;
CREATE TABLE child (id int CONSTRAINT holds REFERENCES parent ON DELETE {action}, at timestamptz);
INSERT INTO child VALUES (95, 'epoch'), (95, 'epoch'), (96, 'epoch');
"""
PARENT = rule("parent", "at")


@pytest.mark.parametrize("action", ["NO ACTION", "RESTRICT"])
@pytest.mark.parametrize("check", [False, True])
def test_rows_that_are_still_referred_to_are_counted_before_the_first_change(cleaner: Cleaner, action: str, check: bool) -> None:
    cleaner.sql(SQL(HOLDING.replace("{action}", action)))
    with pytest.raises(InvalidValue) as caught:
        cleaner.run([PARENT], check=check, batch_rows=10)
    assert f'"holds" of public.child (ON DELETE {action}, not indexed)' in str(caught.value)
    assert "2 of the 100 rows" in str(caught.value)
    assert (caught.value.sqlstate, caught.value.object_name) == ("23503", "public.parent")
    assert cleaner.count("parent") == 100
    cleaner.sql("CREATE INDEX ON child (id)")
    with pytest.raises(InvalidValue, match=f"ON DELETE {action}\\)"):
        cleaner.run([PARENT], check=check)


def test_references_to_rows_that_stay_are_no_hindrance_and_are_listed(cleaner: Cleaner) -> None:
    cleaner.sql(SQL(HOLDING.replace("{action}", "NO ACTION")))
    cleaner.sql(
        "UPDATE parent SET at = 'infinity' WHERE id > 90; CREATE TABLE other (id int CONSTRAINT goes REFERENCES parent ON DELETE CASCADE)"
    )
    cleaner.sql("CREATE INDEX ON other (id)")
    planned, result = cleaner.run([PARENT], check=True), cleaner.run([PARENT])
    assert result["removed"] == 90
    assert (
        planned["rules"][0]["references"]
        == result["rules"][0]["references"]
        == [
            {"constraint": "goes", "table": "public.other", "on_delete": "cascade", "indexed": True},
            {"constraint": "holds", "table": "public.child", "on_delete": "no action", "indexed": False},
        ]
    )


@pytest.mark.parametrize("children_first", [True, False])
def test_referring_rows_go_first_however_the_rules_are_written(cleaner: Cleaner, children_first: bool) -> None:
    cleaner.sql(SQL(HOLDING.replace("{action}", "NO ACTION")))
    rules = [rule("child", "at"), PARENT] if children_first else [PARENT, rule("child", "at")]
    planned, result = cleaner.run(rules, check=True), cleaner.run(rules)
    assert numbers(planned) == numbers(result)
    assert {row["table"]: row["removed"] for row in result["rules"]} == {"public.child": 3, "public.parent": 100}
    assert [row["table"] for row in result["rules"]] == [f"public.{one['table']}" for one in rules]


def test_what_a_cascade_reaches_may_be_held_too(cleaner: Cleaner) -> None:
    cleaner.sql(SQL(HOLDING.replace("{action}", "CASCADE")))
    cleaner.sql("ALTER TABLE child ADD k int GENERATED ALWAYS AS IDENTITY PRIMARY KEY")
    cleaner.sql("CREATE TABLE leaf (k int CONSTRAINT kept REFERENCES child, at timestamptz)")
    assert cleaner.run([PARENT], check=True)["removed"] == 100
    cleaner.sql("INSERT INTO leaf SELECT min(k) FROM child")
    with pytest.raises(InvalidValue, match=r'1 of the 100 rows .*"holds" of public.child .*"kept" of public.leaf'):
        cleaner.run([PARENT])
    assert cleaner.count("parent") == 100


def test_rows_that_refer_to_their_own_table(cleaner: Cleaner) -> None:
    cleaner.sql("CREATE TABLE t (id int PRIMARY KEY, up int CONSTRAINT tree REFERENCES t, at timestamptz)")
    cleaner.sql("INSERT INTO t VALUES (1, NULL, 'epoch'), (2, 1, 'epoch'), (3, NULL, 'infinity')")
    assert cleaner.run([rule("t", "at")])["removed"] == 2
    cleaner.sql("INSERT INTO t VALUES (1, NULL, 'epoch'), (2, 1, 'epoch'); UPDATE t SET up = 2 WHERE id = 3")
    with pytest.raises(InvalidValue, match=r'1 of the 2 rows .*"tree" of public.t '):
        cleaner.run([rule("t", "at")])


def test_a_partitioned_table_that_is_referred_to(cleaner: Cleaner) -> None:
    cleaner.sql("CREATE TABLE p (id int PRIMARY KEY, at timestamptz) PARTITION BY RANGE (id)")
    cleaner.sql("CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10); CREATE TABLE p2 PARTITION OF p DEFAULT")
    cleaner.sql("CREATE TABLE c (id int CONSTRAINT held REFERENCES p) PARTITION BY RANGE (id); CREATE TABLE c1 PARTITION OF c DEFAULT")
    cleaner.sql("INSERT INTO p SELECT n, 'epoch' FROM generate_series(1, 20) AS n; INSERT INTO c VALUES (5), (15)")
    with pytest.raises(InvalidValue, match=r'2 of the 20 rows .*"held" of public.c '):
        cleaner.run([rule("p", "at")])
    with pytest.raises(InvalidValue, match=r'1 of the 9 rows .*"held" of public.c '):
        cleaner.run([rule("p1", "at")])
    assert len(cleaner.run([rule("p", "at", "36500 days")], check=True)["rules"][0]["references"]) == 1


def test_references_that_this_role_may_not_read_are_left_to_the_server(cleaner: Cleaner) -> None:
    cleaner.sql(SQL(HOLDING.replace("{action}", "NO ACTION")))
    cleaner.sql("CREATE ROLE janitor LOGIN PASSWORD 'secret'")
    try:
        cleaner.sql("GRANT SELECT, UPDATE, DELETE ON parent TO janitor")
        login = {"login_user": "janitor", "login_password": "secret"}
        assert cleaner.run([PARENT], check=True, login=login)["removed"] == 100
        with pytest.raises(RunbookError, match='"holds"') as caught:
            cleaner.run([PARENT], login=login)
        assert caught.value.as_result()["error"]["type"] == "Interrupted"
    finally:
        cleaner.sql("DROP OWNED BY janitor; DROP ROLE janitor")


@pytest.mark.parametrize("how", ["INSTEAD NOTHING", "ALSO NOTIFY gone"])
def test_a_rewrite_rule_is_named_before_the_first_change(cleaner: Cleaner, how: str) -> None:
    cleaner.sql("CREATE TABLE t (at timestamptz); INSERT INTO t VALUES ('epoch')")
    cleaner.sql(SQL('CREATE RULE "keep all" AS ON DELETE TO t DO {}').format(SQL(how)))
    for check in (True, False):
        with pytest.raises(InvalidValue, match=r'rules\[0\].table: public.t has a rewrite rule on DELETE, "keep all"'):
            cleaner.run([rule("t", "at")], check=check)
    cleaner.sql('ALTER TABLE t DISABLE RULE "keep all"')
    assert cleaner.run([rule("t", "at")])["removed"] == 1


DENIED_BELOW = """
INSERT INTO app.tokens SELECT md5(n::text)::uuid, now() - interval '10 days', now() + (n - 10.5) * interval '1 day'
FROM generate_series(1, 20) AS n;
INSERT INTO app.denied SELECT md5(n::text)::uuid, now() - interval '9 days', {ends} FROM generate_series(3, 18, 3) AS n;
ALTER TABLE app.tokens ADD PRIMARY KEY (id);
ALTER TABLE app.denied ADD CONSTRAINT holds FOREIGN KEY (id) REFERENCES app.tokens DEFERRABLE INITIALLY DEFERRED;
"""


def test_deny_rows_that_keep_what_they_refer_to_are_looked_for_once(app: Cleaner, monkeypatch: pytest.MonkeyPatch) -> None:
    app.sql(SQL(DENIED_BELOW.replace("{ends}", "NULL")))
    monkeypatch.setattr(preflight, "_count", lambda *_given: pytest.fail("the protected rows were looked up again"))
    tokens, denied = rule("app.tokens"), rule("app.denied", "denied_at")
    planned = app.run([tokens], check=True, token_stores=[WITHOUT_OWN_EXPIRY])
    result = app.run([tokens], token_stores=[WITHOUT_OWN_EXPIRY])
    assert numbers(planned) == numbers(result)
    assert (result["matched"], result["protected"], result["removed"], app.count("app.denied")) == (10, 3, 7, 6)
    both = app.run([tokens, denied], token_stores=[WITHOUT_OWN_EXPIRY])
    assert [row["removed"] for row in both["rules"]] == [3, 3]
    assert (app.count("app.tokens"), app.count("app.denied")) == (10, 3)


def test_deny_rows_that_do_not_keep_what_they_refer_to_are_looked_for(app: Cleaner) -> None:
    app.sql(SQL(DENIED_BELOW.replace("{ends}", "now() + interval '1 year'")))
    with pytest.raises(InvalidValue, match=r"3 of the 10 rows of app\.tokens that would go are still referred to"):
        app.run([rule("app.tokens")], token_stores=[STORE])
    app.sql("CREATE TABLE app.seen (id uuid REFERENCES app.tokens); INSERT INTO app.seen SELECT md5('1')::uuid; DELETE FROM app.denied")
    with pytest.raises(InvalidValue, match=r"1 of the 10 rows of app\.tokens that would go are still referred to"):
        app.run([rule("app.tokens")], token_stores=[WITHOUT_OWN_EXPIRY])
    assert app.count("app.tokens") == 20


def test_deny_rows_whose_ids_the_server_compares_otherwise_are_looked_for(app: Cleaner) -> None:
    app.sql("ALTER TABLE app.tokens ALTER id TYPE character(9); ALTER TABLE app.denied ALTER id TYPE text")
    app.sql("ALTER TABLE app.tokens ADD PRIMARY KEY (id); ALTER TABLE app.denied ADD FOREIGN KEY (id) REFERENCES app.tokens")
    app.sql("INSERT INTO app.tokens VALUES ('a', now() - interval '9 days', now() - interval '1 day'), ('b', 'epoch', 'epoch')")
    app.sql("INSERT INTO app.denied (id, denied_at) VALUES ('a   ', now() - interval '9 days')")
    for check in (True, False):
        with pytest.raises(InvalidValue, match=r"1 of the 2 rows of app\.tokens that would go are still referred to"):
            app.run([rule("app.tokens")], check=check, token_stores=[WITHOUT_OWN_EXPIRY])
    assert app.count("app.tokens") == 2


def make_citext(cleaner: Cleaner) -> None:
    """Make texts without case known to the database, in a schema of their own; a server without contrib has none."""
    if not cleaner.sql("SELECT name FROM pg_available_extensions WHERE name = 'citext'"):
        pytest.skip("this server has no extension citext")
    cleaner.sql("CREATE SCHEMA types; CREATE EXTENSION citext SCHEMA types")


def test_rows_that_refer_by_an_operator_of_a_type_of_their_own(app: Cleaner) -> None:
    make_citext(app)
    app.sql("CREATE TABLE app.users (name types.citext PRIMARY KEY, gone_at timestamptz)")
    app.sql("CREATE TABLE app.badges (name types.citext REFERENCES app.users)")
    app.sql("INSERT INTO app.users VALUES ('Anna', 'epoch'), ('Bo', 'epoch'); INSERT INTO app.badges VALUES ('ANNA'), ('Bo')")
    with pytest.raises(InvalidValue, match=r"2 of the 2 rows of app\.users that would go are still referred to"):
        app.run([USERS])
    assert app.count("app.users") == 2


def test_a_role_that_may_not_use_the_operator_of_a_foreign_key(app: Cleaner) -> None:
    make_citext(app)
    app.sql("CREATE ROLE badger LOGIN PASSWORD 'secret'")
    try:
        app.sql("CREATE TABLE app.users (name types.citext PRIMARY KEY, gone_at timestamptz)")
        app.sql("CREATE TABLE app.badges (name types.citext REFERENCES app.users); GRANT USAGE ON SCHEMA app TO badger")
        app.sql("INSERT INTO app.users VALUES ('Bo', 'epoch'); INSERT INTO app.badges VALUES ('Bo')")
        app.sql("GRANT SELECT, UPDATE, DELETE ON app.users, app.badges TO badger")
        with pytest.raises(InvalidValue, match=r"1 of the 1 row of app\.users that would go are still referred to"):
            app.run([USERS], login={"login_user": "badger", "login_password": "secret"})
    finally:
        app.sql("DROP OWNED BY badger; DROP ROLE badger")
