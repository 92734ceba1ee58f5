"""A schema is restored whole, in one transaction, or nothing is changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pgops.runbook.plugins.module_utils._errors import InvalidValue, MissingObject, Refused
from ansible_collections.pgops.runbook.plugins.module_utils._restore import schema as schema_restore
from ansible_collections.pgops.runbook.plugins.module_utils._restore.engine import restore
from ansible_collections.pgops.runbook.plugins.module_utils._restore.options import read_options
from tests.ground.databases import Database
from tests.integration.backing import bin_dir, fill, login, made
from tests.integration.watching import run_script

pytestmark = pytest.mark.any_driver

ODD = """
CREATE SCHEMA "odd one"; CREATE TYPE "odd one".mood AS ENUM ('good', 'bad');
CREATE FUNCTION "odd one".twice(n int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 2 * n;';
CREATE TABLE "odd one"."T"(id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, m "odd one".mood DEFAULT 'good', t text,
  d int GENERATED ALWAYS AS ("odd one".twice(id)) STORED);
COMMENT ON SCHEMA "odd one" IS 'odd; very'; GRANT USAGE ON SCHEMA "odd one" TO PUBLIC;
INSERT INTO "odd one"."T" (t) SELECT E'a\\tb\\\\' || n FROM generate_series(1, 50) AS n;
"""


def bring(database: Database, backup: Path, schema: str, *, check: bool = False, **options: Any) -> dict[str, Any]:
    given = {"path": str(backup), "mode": "schema", "schema": schema, "bin_dir": bin_dir(), "target": database.name, **options}
    return restore(login(database), read_options(given), check_mode=check)


STORE = {"name": "orders", "tokens": {"table": "shop.orders", "id": "id", "issued_at": "at"}, "revoke": {"how": "delete"}}


def schemas(database: Database) -> list[str]:
    return [name for (name,) in database.query("SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_|^information' ORDER BY 1")]


@pytest.fixture
def shop(database: Database) -> Database:
    fill(database)
    run_script(database, ODD)
    return database


FORMS = [{"compression": "zstd"}, {"format": "custom"}, {"format": "plain", "kind": "schemas", "schemas": ["odd one"]}]


@pytest.mark.parametrize("options", FORMS, ids=str)
def test_a_schema_that_is_gone_comes_back(shop: Database, tmp_path: Path, options: dict[str, Any]) -> None:
    backup = made(shop, tmp_path, **options)
    run_script(shop, 'DROP SCHEMA "odd one" CASCADE')
    planned = bring(shop, backup, "odd one", check=True)
    assert schemas(shop) == ["public", "shop"]
    done = bring(shop, backup, "odd one")
    keys = ("changed", "action", "schema", "kept", "tables", "rows")
    assert [done[key] for key in keys] == [planned[key] for key in keys] == [True, "restored", "odd one", None, 1, 50]
    assert shop.query("""SELECT count(*), max(d), max(t) FROM "odd one"."T" """) == [(50, 100, "a\tb\\9")]
    assert shop.query("SELECT obj_description(oid, 'pg_namespace') FROM pg_namespace WHERE nspname = 'odd one'") == [("odd; very",)]
    again = bring(shop, backup, "odd one")
    assert (again["changed"], again["action"]) == (False, "present")


def test_a_schema_is_replaced_only_by_name_and_the_old_one_is_kept(shop: Database, tmp_path: Path) -> None:
    backup = made(shop, tmp_path, compression="gzip")
    run_script(shop, "DELETE FROM shop.orders WHERE id > 10")
    with pytest.raises(Refused, match=r"schema shop is there, not empty, .*990 rows missing"):
        bring(shop, backup, "shop")
    run_script(shop, "CREATE VIEW public.outside AS SELECT id FROM shop.orders")
    with pytest.raises(Refused, match=r"schema shop: rule _RETURN on view (public\.)?outside outside of it"):
        bring(shop, backup, "shop", replace="shop")
    run_script(shop, "DROP VIEW public.outside")
    for check in (True, False):
        with pytest.raises(Refused, match=r"store orders: 990 \(990 whose rows are gone\)"):
            bring(shop, backup, "shop", replace="shop", token_stores=[STORE], check=check)
    planned = bring(shop, backup, "shop", replace="shop", token_stores=[STORE], accept_tokens_back=True, check=True)
    done = bring(shop, backup, "shop", replace="shop", token_stores=[STORE], accept_tokens_back=True)
    assert done["tokens_back"] == planned["tokens_back"]
    assert (done["action"], done["tables"], done["rows"]) == ("replaced", 4, 2700)
    assert schemas(shop) == ["odd one", "public", "shop", done["kept"]]
    assert shop.query("SELECT count(*) FROM shop.orders") == [(1000,)]
    assert shop.query(f"SELECT count(*) FROM {done['kept']}.orders") == [(10,)]
    run_script(shop, f"UPDATE shop.orders SET total = 0 WHERE id = 1; DROP SCHEMA {done['kept']} CASCADE")
    done = bring(shop, backup, "shop", replace="shop", keep_old=False)
    assert (done["kept"], schemas(shop)) == (None, ["odd one", "public", "shop"])
    with pytest.raises(MissingObject, match="holds no schema nowhere"):
        bring(shop, backup, "nowhere")


def test_the_schema_public(shop: Database, tmp_path: Path) -> None:
    backup = made(shop, tmp_path, format="custom")
    run_script(shop, "DROP TABLE public.empty")
    done = bring(shop, backup, "public")
    assert (done["action"], shop.query("SELECT count(*) FROM public.empty")) == ("restored", [(0,)])


def test_nothing_is_changed_where_something_fails(shop: Database, tmp_path: Path) -> None:
    backup = made(shop, tmp_path / "full")
    plain = made(shop, tmp_path / "plain", format="plain")
    with pytest.raises(Refused, match="is a plain dump, of which a schema cannot be taken alone"):
        bring(shop, plain, "shop")
    with pytest.raises(InvalidValue, match="schema: is missing"):
        bring(shop, backup, "")
    member = max((backup / "database").glob("*.dat.*"), key=lambda path: path.stat().st_size)
    data = bytearray(member.read_bytes())
    data[len(data) // 2] ^= 1
    member.write_bytes(bytes(data))
    run_script(shop, "DELETE FROM shop.orders WHERE id > 10")
    with pytest.raises(Refused, match="has another content than when it was written"):
        bring(shop, backup, "shop", replace="shop")
    assert schemas(shop) == ["odd one", "public", "shop"]


def test_tokens_whose_deny_list_is_younger_than_the_backup(database: Database, tmp_path: Path) -> None:
    run_script(database, "CREATE SCHEMA app; CREATE TABLE app.jwt (id int PRIMARY KEY, issued_at timestamptz, expires_at timestamptz)")
    run_script(database, "INSERT INTO app.jwt VALUES (1, now(), 'infinity')")
    backup = made(database, tmp_path)
    run_script(database, "CREATE TABLE app.denied (id int PRIMARY KEY); INSERT INTO app.denied VALUES (1)")
    tokens = {"table": "app.jwt", "id": "id", "issued_at": "issued_at", "expires_at": "expires_at"}
    stores = [{"name": "jwt", "tokens": tokens, "revoke": {"how": "denylist", "table": "app.denied", "id": "id"}}]
    with pytest.raises(Refused, match=r"store jwt: unknown how many, because table app\.denied does not exist after the restore"):
        bring(database, backup, "app", replace="app", token_stores=stores)
    done = bring(database, backup, "app", replace="app", token_stores=stores, accept_tokens_back=True)
    assert (done["action"], done["tokens_back"][0]["back"]) == ("replaced", 0)


@pytest.mark.parametrize("keep_old", [True, False])
def test_what_comes_to_depend_on_the_old_one_meanwhile(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keep_old: bool
) -> None:
    """A table outside gets a column of a type inside while the rows are being loaded: the column must not go with the old schema."""
    run_script(database, "CREATE SCHEMA app; CREATE TYPE app.kind AS ENUM ('a'); CREATE TABLE app.t AS SELECT 1 AS n")
    backup = made(database, tmp_path)
    run_script(database, "DELETE FROM app.t")
    load = schema_restore.Script.run

    def interfere(script: Any) -> None:
        run_script(database, "CREATE TABLE IF NOT EXISTS public.outside (kind app.kind); INSERT INTO public.outside VALUES ('a')")
        load(script)

    monkeypatch.setattr(schema_restore.Script, "run", interfere)
    with pytest.raises(Refused, match=r"schema app: table (public\.)?outside outside of it would go on using"):
        bring(database, backup, "app", replace="app", keep_old=keep_old)
    assert database.query("SELECT DISTINCT kind::text FROM public.outside") == [("a",)]
    assert database.query("SELECT count(*) FROM app.t") == [(0,)]


def test_a_publication_would_go_on_with_the_old_tables(database: Database, tmp_path: Path) -> None:
    run_script(database, "CREATE SCHEMA app; CREATE TABLE app.t (n int PRIMARY KEY); INSERT INTO app.t VALUES (1)")
    backup = made(database, tmp_path)
    run_script(database, "DELETE FROM app.t; CREATE PUBLICATION published FOR TABLE app.t")
    for check in (True, False):
        with pytest.raises(Refused, match=r"schema app: publication of table (app\.)?t in publication published outside of it"):
            bring(database, backup, "app", replace="app", check=check)
    if database.cluster.installation.major >= 15:
        run_script(database, "DROP PUBLICATION published; CREATE PUBLICATION published FOR TABLES IN SCHEMA app")
        with pytest.raises(Refused, match=r"schema app: publication of schema app in publication published outside of it"):
            bring(database, backup, "app", replace="app")
