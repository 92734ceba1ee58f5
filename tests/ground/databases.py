"""An empty database for a single test."""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import Any

import psycopg

from .cluster import Cluster


@dataclass
class Database:
    """One database of a cluster."""

    cluster: Cluster
    name: str

    @classmethod
    def create(cls, cluster: Cluster, name: str) -> Database:
        """Create an empty database."""
        cluster.create_database(name)
        return cls(cluster, name)

    def __enter__(self) -> Database:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.drop()

    def drop(self) -> None:
        """Drop the database, ending its sessions."""
        self.cluster.drop_database(self.name)

    def connect(self, **parameters: Any) -> psycopg.Connection[tuple[Any, ...]]:
        """Return an autocommit connection of psycopg 3 with its session in UTC."""
        return self.cluster.connect(self.name, **parameters)

    def login(self, *, tcp: bool = True) -> dict[str, Any]:
        """Return the connection options of the collection's modules."""
        return self.cluster.login(self.name, tcp=tcp)

    def query(self, statement: Any, parameters: Any = None) -> list[tuple[Any, ...]]:
        """Run one statement in a session of its own and return its rows."""
        with self.connect() as connection:
            cursor = connection.execute(statement, parameters)
            return cursor.fetchall() if cursor.description else []
