"""Copies of filled systems: one template database for each, from which every test takes its own."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from . import load, schema
from .cluster import Cluster
from .databases import Database
from .systems import description_of


@dataclass
class SystemDatabase(Database):
    """A filled system: its normalised description, and how many rows each schedule's rules must remove."""

    description: dict[str, Any] = field(default_factory=dict)
    expected: load.Expected = field(default_factory=load.Expected)


class SystemDatabases:
    """Filled systems as template databases of a cluster, each made when first asked for."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self._templates: dict[str, SystemDatabase] = {}

    def copy(self, system: str | Mapping[str, Any], name: str, rows: int) -> SystemDatabase:
        """Create database `name` with `system` in it: a built-in name or a description. `rows` is for its largest table."""
        template = self._template(system, rows)
        self.cluster.create_database(name, template.name)
        with self.cluster.connect(name) as connection:
            # A copy has rows but no statistics about them, as no database in use ever is.
            connection.execute("ANALYZE")
        return SystemDatabase(self.cluster, name, template.description, template.expected)

    def _template(self, system: str | Mapping[str, Any], rows: int) -> SystemDatabase:
        description = description_of(system)
        digest = hashlib.sha256(json.dumps([description, rows], sort_keys=True, default=str).encode()).hexdigest()[:12]
        found = self._templates.get(digest)
        # A template older than this would have rows crossing a cut-off between check mode and the run.
        if found is None or (datetime.now(UTC) - found.expected.now).total_seconds() > load.SAFE_SECONDS / 2:
            found = self._templates[digest] = self._fill(f"template_{digest}", description, rows)
        return found

    def _fill(self, name: str, description: dict[str, Any], rows: int) -> SystemDatabase:
        self.cluster.drop_database(name)
        self.cluster.create_database(name)
        with self.cluster.connect(name) as connection:
            schema.create_system(connection, description)
            expected = load.fill(connection, description, rows)
        return SystemDatabase(self.cluster, name, description, expected)
