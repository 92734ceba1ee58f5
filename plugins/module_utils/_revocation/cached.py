# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The cached sessions of the tokens: remembered before a token's row goes, forgotten after the database has committed."""

from __future__ import annotations

from typing import Any, Iterator, Mapping, Sequence

from ansible_collections.pgops.runbook.plugins.module_utils._cache import CacheError, open_cache
from ansible_collections.pgops.runbook.plugins.module_utils._cache.client import load
from ansible_collections.pgops.runbook.plugins.module_utils._cache.options import cache_options
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.journal import CHANGES, ROWS, Change, Journal
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.look import Look
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.names import CACHED
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.options import Options
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.targets import cache_values, placeholders_of
from ansible_collections.pgops.runbook.plugins.module_utils._token_store import Selection

_ROWS_AT_ONCE = 5000
_ROUNDS = 3  # what a request that was under way writes anew is deleted again
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
        self._own = 0  # so many of the remembered values are this run's, and no earlier one's

    def require_usable(self) -> None:
        """Refuse caches that no run could reach as they are described. Raises InvalidValue and CacheClientMissing; asks no server.

        A cache that is merely down must not keep the database from revoking.
        """
        for cache in self.options.caches:
            cache_options(cache, self.options.cache_connection)  # type: ignore[arg-type]
        if self._wanted:
            load()

    def begin(self) -> None:
        """Make the place where the values of cache keys are remembered until the end of the session, with those that were given."""
        if not self._wanted:
            return
        sql = self.database.sql
        create = "CREATE TEMPORARY TABLE {} (ordinal bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, cache_values jsonb)"
        self.database.execute(sql.SQL(create).format(sql.Identifier(_TABLE)))
        for placeholder, values in given_values(self.options.selection).items():
            insert = (
                "INSERT INTO {} (cache_values) SELECT pg_catalog.jsonb_build_object({}::text, one) FROM pg_catalog.unnest(%s::text[]) one"
            )
            self.database.execute(sql.SQL(insert).format(self._table, sql.Literal(placeholder)), (list(values),))

    def remember(self, looks: list[Look]) -> None:
        """Remember the values of all selected tokens that have not expired, revoked before or not: a cache may not know that they are."""
        for look in looks if self._wanted and not self.options.selection.all else ():
            sql = self.database.sql
            values = cache_values(self.database, look.store, look.acceptance, self._placeholders)
            self.database.execute(
                sql.SQL("INSERT INTO {} (cache_values) {}").format(self._table, look.found.select(sql, values, look.acceptance.alive()))
            )

    def forget(self, journal: Journal, unfinished: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Delete the sessions from every cache, those of `unfinished` revocations along with them, and return what became of each.

        A cache that fails is said in its result and hides no other.
        """
        if self._wanted:
            last = self.database.sql.SQL("SELECT coalesce(pg_catalog.max(ordinal), 0) FROM {}").format(self._table)
            self._own = int(self.database.value(last))
            self._remember_unfinished(journal, [one["revocation_id"] for one in unfinished])
        everything = self.options.selection.all or any(one["everything"] for one in unfinished)
        return [self._forget(cache, everything=everything) for cache in self.options.caches]

    def keep(self, journal: Journal, revocation_id: str) -> None:
        """Keep in the record of a revocation what is remembered, also of tokens that it found revoked and did not change."""
        sql = self.database.sql
        with self.database.transaction():
            number = journal.change_id(Change("", "", CACHED, "", None, ()), revocation_id)
            self.database.execute(
                sql.SQL(
                    "INSERT INTO {} (change_id, cache_values)"
                    " SELECT {}, cache_values FROM (SELECT DISTINCT cache_values FROM {} WHERE ordinal <= {}) AS own_"
                ).format(journal.table(ROWS), sql.Literal(number), self._table, sql.Literal(self._own))
            )

    def _remember_unfinished(self, journal: Journal, revocation_ids: Sequence[str]) -> None:
        if not revocation_ids:
            return
        sql = self.database.sql
        self.database.execute(
            sql.SQL(
                "INSERT INTO {} (cache_values) SELECT DISTINCT r.cache_values FROM {} AS r JOIN {} AS c USING (change_id)"
                " WHERE r.cache_values IS NOT NULL AND c.revocation_id = ANY (%s)"
            ).format(self._table, journal.table(ROWS), journal.table(CHANGES)),
            (list(revocation_ids),),
        )

    def _forget(self, cache: Mapping[str, Any], *, everything: bool) -> dict[str, Any]:
        place = cache_options(cache, self.options.cache_connection).place  # type: ignore[arg-type]
        result: dict[str, Any] = {"cache": place, "deleted": 0, "remaining": None, "error": None}
        deleted = 0
        try:
            with open_cache(cache, self.options.cache_connection, whole=everything) as opened:  # type: ignore[arg-type]
                for _round in range(_ROUNDS):
                    counts = opened.forget_all() if everything else opened.forget(self._rows())
                    deleted += counts.found
                    result["remaining"] = opened.remaining(None if everything else self._rows())
                    if not result["remaining"]:
                        break
                result.update({**counts.as_result(), "deleted": deleted})
        except CacheError as error:
            result.update({"deleted": deleted + (error.deleted or 0), "error": str(error)})
        if result["remaining"] and everything:
            # Whoever logs in again gets a new session; on a busy service there is always one.
            result["warning"] = f"cache {place}: {result['remaining']} keys were written after all had been deleted, {_ROUNDS} times"
        elif result["remaining"]:
            result["error"] = f"{result['remaining']} keys of revoked tokens are there again: somebody writes them anew"
        return result

    def _rows(self) -> Iterator[Mapping[str, Any]]:
        """Yield the remembered values page by page, so that millions of them never stand in memory."""
        sql, last = self.database.sql, 0
        page = sql.SQL("SELECT ordinal, cache_values FROM {} WHERE ordinal > %s ORDER BY ordinal LIMIT {}").format(
            self._table, sql.Literal(_ROWS_AT_ONCE)
        )
        while True:
            rows = self.database.rows(page, (last,))
            yield from (row["cache_values"] for row in rows)
            if len(rows) < _ROWS_AT_ONCE:
                return
            last = rows[-1]["ordinal"]


def given_values(selection: Selection) -> dict[str, tuple[str, ...]]:
    """Return by placeholder what a selection by one list of values says about cache keys; under further criteria it would say too much."""
    given = [name for name, values in selection.lists.items() if values]
    if len(given) == 1 and given[0] in _GIVEN and not (selection.issued_from or selection.issued_to or selection.claim_pattern):
        return {_GIVEN[given[0]]: selection.lists[given[0]]}
    return {}
