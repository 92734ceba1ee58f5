"""One published layout of a token store: how it comes to be, how it is filled, and which of its tokens its application accepts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import yaml

from ..databases import Database
from ..systems import FOLDER, description_of

SQL = Path(__file__).resolve().parent / "sql"
Accepted = dict[str, set[str]]


class PublishedStore(ABC):
    """A layout by name. Its folder under `sql` has rows.sql, and system.yml where the collection ships no description of it."""

    least_major = 12

    def __init__(self, name: str) -> None:
        self.name = name
        self.folder = SQL / name

    @property
    def source(self) -> Path:
        """The file of its system description."""
        own = self.folder / "system.yml"
        return own if own.exists() else FOLDER / f"{self.name}.yml"

    def description(self) -> dict[str, Any]:
        """Return its normalised system description. Raises GroundError where there is none."""
        if self.source.parent == FOLDER:
            return description_of(self.name)
        return description_of(yaml.safe_load(self.source.read_text(encoding="utf-8")))

    @abstractmethod
    def create(self, database: Database) -> None:
        """Make the tables in an empty database."""

    def fill(self, database: Database, rows: int) -> None:
        """Put `rows` tokens into its largest table: the same ones every time, at times that count from now.

        No expiry is nearer than a quarter of an hour, so that no token expires while a test looks on.
        """
        with database.connect() as connection:
            connection.execute("SELECT set_config('ground.rows', %s, false)", [str(rows)])
            connection.execute((SQL / "prelude.sql").read_bytes())
            connection.execute((self.folder / "rows.sql").read_bytes())
            connection.execute("ANALYZE")

    @abstractmethod
    def accepted(self, database: Database) -> Accepted:
        """Return the ids, as text, that the application itself would accept, by the name of the token store in the description."""


class WrittenStore(PublishedStore):
    """A layout whose tables are written down here; each file names where its facts are from."""

    def create(self, database: Database) -> None:
        with database.connect() as connection:
            connection.execute((self.folder / "tables.sql").read_bytes())

    def accepted(self, database: Database) -> Accepted:
        found: Accepted = {store["name"]: set() for store in self.description()["token_stores"]}
        for name, token in database.query((self.folder / "accepted.sql").read_bytes()):
            found.setdefault(name, set()).add(token)
        return found
