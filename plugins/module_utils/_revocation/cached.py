# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The cached sessions of the tokens: remembered before a token's row goes, forgotten after the database has committed."""

from __future__ import annotations

from typing import Any, Iterator, Mapping

from ansible_collections.pgops.runbook.plugins.module_utils._cache import CacheError, open_cache
from ansible_collections.pgops.runbook.plugins.module_utils._cache.client import load
from ansible_collections.pgops.runbook.plugins.module_utils._cache.options import cache_options
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.journal import CHANGES, ROWS, Journal
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.look import Look
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.options import Options
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.targets import cache_values, placeholders_of
from ansible_collections.pgops.runbook.plugins.module_utils._token_store import Selection

_ROWS_AT_ONCE = 5000
_TABLE = "pgops_cached"
# What each criterion puts into a cache key by itself, so that a session goes of which the database has no row any more.
_GIVEN = {"ids": "id", "subjects": "user_id", "tenants": "tenant_id", "clients": "client_id", "families": "family"}


class Cached:
    """What the caches hold of the selected tokens. Nothing is done where the system has no cache."""

    def __init__(self, database: Any, options: Options) -> None:
        self.database, self.options = database, options
        self._placeholders = placeholders_of(options)
        self._wanted = bool(options.caches)
        self._table = database.sql.Identifier("pg_temp", _TABLE)

    def require_usable(self) -> None:
        """Refuse caches that no run could reach as they are described. Raises InvalidValue and CacheClientMissing; asks no server.

        A cache that is merely down must not keep the database from revoking.
        """
        for cache in self.options.caches:
            cache_options(cache, self.options.cache_connection)  # type: ignore[arg-type]
        if self._wanted:
            load()

    def begin(self) -> None:
        """Make the place where the values of cache keys are remembered until the end of the session."""
        if self._wanted:
            create = "CREATE TEMPORARY TABLE {} (ordinal bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, cache_values jsonb)"
            self.database.execute(self.database.sql.SQL(create).format(self.database.sql.Identifier(_TABLE)))

    def remember(self, looks: list[Look]) -> None:
        """Remember the values of all selected tokens that have not expired, revoked before or not: a cache may not know that they are."""
        for look in looks if self._wanted and not self.options.selection.all else ():
            sql = self.database.sql
            values = cache_values(self.database, look.store, look.acceptance, self._placeholders)
            self.database.execute(
                sql.SQL("INSERT INTO {} (cache_values) {}").format(self._table, look.found.select(sql, values, look.acceptance.alive()))
            )

    def forget(self, journal: Journal, revocation_id: str) -> tuple[list[dict[str, Any]], bool]:
        """Delete the sessions from every cache; return what became of each, and whether all of them are gone.

        Sessions that an earlier run could not delete go along. A cache that fails is said in its result and hides no other.
        """
        unfinished = journal.unfinished(revocation_id) if self._wanted else []
        results = [self._forget(cache, journal, unfinished) for cache in self.options.caches]
        return results, all(result["error"] is None for result in results)

    def _forget(self, cache: Mapping[str, Any], journal: Journal, unfinished: list[dict[str, Any]]) -> dict[str, Any]:
        everything = self.options.selection.all or any(one["everything"] for one in unfinished)
        place = cache_options(cache, self.options.cache_connection).place  # type: ignore[arg-type]
        result: dict[str, Any] = {"cache": place, "deleted": 0, "remaining": None, "error": None}
        try:
            with open_cache(cache, self.options.cache_connection, whole=everything) as opened:  # type: ignore[arg-type]
                counts = opened.forget_all() if everything else opened.forget(self._rows(journal, unfinished))
                result.update(counts.as_result())
                result["remaining"] = opened.remaining(None if everything else self._rows(journal, unfinished))
        except CacheError as error:
            result["deleted"] = error.deleted or result["deleted"]
            result["error"] = str(error)
        if result["remaining"]:
            result["error"] = f"{result['remaining']} keys of revoked tokens are there again: somebody writes them anew"
        return result

    def _rows(self, journal: Journal, unfinished: list[dict[str, Any]]) -> Iterator[Mapping[str, Any]]:
        yield from given_values(self.options.selection)
        sql = self.database.sql
        yield from self._pages(sql.SQL("SELECT ordinal, cache_values FROM {}").format(self._table), "ordinal")
        for one in unfinished:
            changes = sql.SQL("SELECT change_id FROM {} WHERE revocation_id = {}").format(
                journal.table(CHANGES), sql.Literal(one["revocation_id"])
            )
            kept = sql.SQL(
                "SELECT row_number() OVER (ORDER BY change_id, ctid) AS ordinal, cache_values FROM {}"
                " WHERE cache_values IS NOT NULL AND change_id IN ({})"
            ).format(journal.table(ROWS), changes)
            yield from self._pages(kept, "ordinal")

    def _pages(self, query: Any, ordinal: str) -> Iterator[Mapping[str, Any]]:
        """Yield the values page by page, so that millions of them never stand in memory."""
        sql, last = self.database.sql, 0
        page = sql.SQL("SELECT ordinal, cache_values FROM ({}) AS pages_ WHERE {} > %s ORDER BY 1 LIMIT {}").format(
            query, sql.Identifier(ordinal), sql.Literal(_ROWS_AT_ONCE)
        )
        while True:
            rows = self.database.rows(page, (last,))
            yield from (row["cache_values"] for row in rows)
            if len(rows) < _ROWS_AT_ONCE:
                return
            last = rows[-1]["ordinal"]


def given_values(selection: Selection) -> Iterator[Mapping[str, Any]]:
    """Yield what a selection by one list of values says about cache keys; under further criteria it would say too much."""
    given = [name for name, values in selection.lists.items() if values]
    if len(given) == 1 and given[0] in _GIVEN and not (selection.issued_from or selection.issued_to or selection.claim_pattern):
        yield from ({_GIVEN[given[0]]: value} for value in selection.lists[given[0]])
