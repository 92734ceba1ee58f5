"""The revocation engine on a database of its own: rehearsed, carried out, carried out again, taken back, and looked at after each."""

from __future__ import annotations

from typing import Any

import pytest
from psycopg.sql import SQL, Composable, Identifier, Literal

from ansible_collections.pgops.runbook.plugins.module_utils import _driver
from tests.ground.databases import Database
from tests.integration.hindering import Revoker

UTC = {"time_zone": "UTC"}
# What check mode and the run must agree on, store by store.
NUMBERS = (
    *("name", "how", "selected", "expired", "already_revoked", "pending", "elsewhere", "revoked", "changed"),
    *("dependents", "claim_sets", "matched_claims", "sample"),
)
TABLES = """
SELECT c.oid, n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pgops_runbook')
ORDER BY 2, 3
"""
CONTENT = "SELECT {oid}::bigint, count(*), md5(coalesce(string_agg((r_.*)::text, '|' ORDER BY (r_.*)::text), '')) FROM ONLY {table} AS r_"


class Trial(Revoker):
    """Revokes for a test and looks whether everything is as it was told."""

    @classmethod
    def with_driver(cls, database: Database, driver: str, patches: pytest.MonkeyPatch) -> Trial:
        """Return one that uses only `driver`."""
        patches.setattr(_driver, "load", _driver._load_psycopg2 if driver == "psycopg2" else _driver._load_psycopg3)
        return cls(database)

    def everything(self) -> dict[int, tuple[int, str]]:
        """Return how many rows every table has, and a hash over them; the record of revocations aside."""
        with self.database.connect() as session:
            found = session.execute(TABLES).fetchall()
            parts: list[Composable] = [SQL(CONTENT).format(oid=Literal(oid), table=Identifier(*name)) for oid, *name in found]
            return {oid: (rows, digest) for oid, rows, digest in session.execute(SQL(" UNION ALL ").join(parts))}

    def revoke(self, select: Any, *stores: dict[str, Any], **options: Any) -> dict[str, Any]:
        """Rehearse, revoke, and do both once more; return the result.

        The rehearsal writes nothing and says what the run does; afterwards there is nothing left to do.
        """
        before = self.everything()
        preview = self.run(select, *stores, check=True, **options)
        assert self.everything() == before
        result = self.run(select, *stores, **options)
        assert numbers(preview) == numbers(result), f"{numbers(preview)} was foretold, and it was {numbers(result)}"
        assert result["remaining"] == 0, result["warnings"]
        after = self.everything()
        assert (after != before) == result["changed"] == preview["changed"]
        for check in (True, False):
            again = self.run(select, *stores, check=check, **options)
            assert (again["changed"], again["pending"], again["revoked"], again["dependents"]) == (False, 0, 0, 0), numbers(again)
        assert self.everything() == after
        return result

    def take_back(self, result: dict[str, Any]) -> dict[str, Any]:
        """Rehearse taking a revocation back, do it, and do it once more, which changes nothing; return what it said."""
        before = self.everything()
        preview = self.undo(result["revocation_id"], check=True)
        assert self.everything() == before
        undone = self.undo(result["revocation_id"])
        assert preview["changes"] == undone["changes"], f"{preview['changes']} was foretold, and it was {undone['changes']}"
        assert (undone["left"], undone["changed"]) == (0, True), undone["changes"]
        after = self.everything()
        again = self.undo(result["revocation_id"])
        assert (again["changed"], again["was_reinstated"], self.everything()) == (False, True, after)
        return undone

    def there_and_back(self, select: Any, *stores: dict[str, Any], **options: Any) -> dict[str, Any]:
        """Revoke as `revoke` does, take it back, and find every table as it was; return the result of revoking."""
        before = self.everything()
        result = self.revoke(select, *stores, **options)
        if result["changed"]:
            self.take_back(result)
        assert self.everything() == before
        return result


def numbers(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what check mode and the run must agree on."""
    told = [{key: store[key] for key in NUMBERS} for store in result["stores"]]
    return [{**store, "dependents": [(one["table"], one["change"], one["changed"]) for one in store["dependents"]]} for store in told]


def of_store(result: dict[str, Any], name: str) -> dict[str, Any]:
    """Return what a result says of one store."""
    (found,) = [store for store in result["stores"] if store["name"] == name]
    return dict(found)
