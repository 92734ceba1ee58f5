"""Copies of published layouts: the tables and the rows are made once for each, in template databases."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from ..cluster import Cluster
from ..databases import Database
from ..errors import ServerTooOld
from . import STORES
from .store import Accepted, PublishedStore

# Rows are at least a quarter of an hour from their expiry when they are made.
FRESH_SECONDS = 450.0


@dataclass
class PublishedDatabase(Database):
    """A filled layout with its normalised description."""

    store: PublishedStore
    description: dict[str, Any] = field(default_factory=dict)

    def accepted(self) -> Accepted:
        """Return the ids that the application accepts now, by the name of the token store."""
        return self.store.accepted(self)


class PublishedDatabases:
    """Filled layouts in a cluster, each made when first asked for."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self._tables: dict[str, str] = {}
        self._filled: dict[tuple[str, int], tuple[str, float]] = {}

    def copy(self, layout: str, name: str, rows: int) -> PublishedDatabase:
        """Create database `name` with a layout and `rows` tokens in it; with none where `rows` is 0. Raises ServerTooOld."""
        store = STORES[layout]
        if self.cluster.installation.major < store.least_major:
            raise ServerTooOld(f"{layout} needs PostgreSQL {store.least_major} or newer")
        self.cluster.create_database(name, self._template(store, rows) if rows else self._empty(store))
        made = PublishedDatabase(self.cluster, name, store, store.description())
        # A copy has rows but no statistics about them, as no database in use ever is.
        made.query("ANALYZE")
        return made

    def _empty(self, store: PublishedStore) -> str:
        if store.name not in self._tables:
            name = f"tables_{store.name}"
            self.cluster.drop_database(name)
            store.create(Database.create(self.cluster, name))
            self._tables[store.name] = name
        return self._tables[store.name]

    def _template(self, store: PublishedStore, rows: int) -> str:
        name, made_at = self._filled.get((store.name, rows), ("", 0.0))
        if not name or time.monotonic() - made_at > FRESH_SECONDS:
            name = f"rows_{store.name}_{rows}"
            self.cluster.drop_database(name)
            self.cluster.create_database(name, self._empty(store))
            store.fill(Database(self.cluster, name), rows)
            self._filled[store.name, rows] = name, time.monotonic()
        return name
