"""Tables out of a real backup, from the options to the result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pgops.runbook.plugins.module_utils._errors import MissingObject, Refused
from ansible_collections.pgops.runbook.plugins.module_utils._restore.engine import restore
from ansible_collections.pgops.runbook.plugins.module_utils._restore.options import read_options
from tests.ground.databases import Database
from tests.integration.backing import bin_dir, fill, login, made
from tests.integration.watching import create_role, drop_role, run_script

STORE = {"name": "orders", "tokens": {"table": "shop.orders", "id": "id", "issued_at": "at"}, "revoke": {"how": "delete"}}


def bring(database: Database, backup: Path, *tables: str, check: bool = False, user: str | None = None, **options: Any) -> dict[str, Any]:
    given = {"path": str(backup), "mode": "tables", "tables": list(tables), "bin_dir": bin_dir(), "target": database.name, **options}
    return restore(login(database, **({"login_user": user} if user else {})), read_options(given), check_mode=check)


def told(result: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(result[key] for key in ("changed", "action", "target", "tables", "rows"))


def test_a_second_run_changes_nothing(database: Database, tmp_path: Path) -> None:
    fill(database)
    backup = made(database, tmp_path)
    run_script(database, "DELETE FROM shop.orders WHERE id > 400; UPDATE shop.orders SET total = 0 WHERE id = 1")
    with pytest.raises(Refused, match=r"store orders: 600 \(600 whose rows are gone\)"):
        bring(database, backup, "shop.orders", how="missing_rows", token_stores=[STORE])
    for check in (True, False):
        done = bring(database, backup, "shop.orders", how="missing_rows", token_stores=[STORE], accept_tokens_back=True, check=check)
        assert told(done) == (True, "rows_copied", database.name, 1, 600)
        assert [(one["store"], one["gone"], one["back"]) for one in done["tokens_back"]] == [("orders", 600, 600)]
    done = bring(database, backup, "shop.orders", how="missing_rows", token_stores=[STORE])
    assert told(done) == (False, "present", database.name, 1, 0)
    assert (done["restored"][0]["present"], done["restored"][0]["different"]) == (1000, 1)
    for check in (True, False):
        done = bring(database, backup, "shop.orders", "shop.customers", token_stores=[STORE], check=check)
        assert told(done) == (True, "replaced", database.name, 2, 1200)
        assert [one["action"] for one in done["restored"]] == ["replaced", "present"]
        assert done["tokens_back"] == [
            {"store": "orders", "how": "delete", "back": 0, "revoked": 0, "denied": 0, "gone": 0, "unknown": None}
        ]
    assert told(bring(database, backup, "shop.orders", token_stores=[STORE])) == (False, "present", database.name, 1, 1000)
    assert database.query("SELECT total > 0 FROM shop.orders WHERE id = 1") == [(True,)]
    # The view over it is the same one, so that what hangs on that is too.
    run_script(database, "REFRESH MATERIALIZED VIEW shop.totals_kept")
    with pytest.raises(MissingObject, match=r"table shop\.nowhere does not exist"):
        bring(database, backup, "shop.nowhere")
    run_script(database, "CREATE TABLE shop.since (id int)")
    with pytest.raises(MissingObject, match=r"the backup holds no rows of table shop\.since"):
        bring(database, backup, "shop.since", check=True)
    with pytest.raises(MissingObject, match="database nowhere does not exist"):
        bring(database, backup, "shop.orders", target="nowhere")


def test_who_may_do_it(database: Database, tmp_path: Path) -> None:
    fill(database)
    backup = made(database, tmp_path, format="custom")
    create_role(database.cluster, "shop_owner")
    create_role(database.cluster, "shop_reader")
    run_script(database, "GRANT USAGE ON SCHEMA shop TO shop_reader; GRANT SELECT ON shop.orders TO shop_reader")
    run_script(database, "ALTER SCHEMA shop OWNER TO shop_owner; ALTER TABLE shop.customers DISABLE ROW LEVEL SECURITY")
    for table in ("TABLE shop.orders", "TABLE shop.customers", "VIEW shop.totals"):
        run_script(database, f"ALTER {table} OWNER TO shop_owner")
    run_script(database, "DELETE FROM shop.orders WHERE id > 900")
    with pytest.raises(Refused, match=r"shop\.orders: its owner is shop_owner, and only a member of that role can replace it"):
        bring(database, backup, "shop.orders", user="shop_reader")
    with pytest.raises(Refused, match=r"shop\.orders: this role may not SELECT and INSERT"):
        bring(database, backup, "shop.orders", how="missing_rows", user="shop_reader")
    done = bring(database, backup, "shop.orders", how="missing_rows", user="shop_owner")
    assert told(done) == (True, "rows_copied", database.name, 1, 100)
    run_script(database, "DELETE FROM shop.orders WHERE id > 900")
    done = bring(database, backup, "shop.orders", user="shop_owner", keep_old=False)
    assert told(done) == (True, "replaced", database.name, 1, 1000)
    assert database.query("SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = 'shop.orders'::regclass") == [("shop_owner",)]
    assert database.query("SELECT has_table_privilege('shop_reader', 'shop.orders', 'SELECT')") == [(True,)]
    for role in ("shop_owner", "shop_reader"):
        run_script(database, f"REASSIGN OWNED BY {role} TO postgres")
        drop_role(database.cluster, database, role)
