"""Layouts of Django applications: made by the installed package's own migrations, and asked by its own code."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..databases import Database
from ..errors import GroundError
from ..process import run_interruptibly
from .store import Accepted, PublishedStore

PROGRAM = Path(__file__).resolve().parent / "django_site" / "program.py"


class DjangoStore(PublishedStore):
    """A Django application in a site of its own, which runs in another process."""

    # Django 5.2 refuses to work with an older server.
    least_major = 14

    def create(self, database: Database) -> None:
        self._run(database, "migrate")

    def fill(self, database: Database, rows: int) -> None:
        super().fill(database, rows)
        self._run(database, "fill", str(rows))
        database.query("ANALYZE")

    def accepted(self, database: Database) -> Accepted:
        return {name: set(ids) for name, ids in self._run(database, "accepted").items()}

    def renew(self, database: Database, refresh_tokens: Iterable[str]) -> dict[str, int]:
        """Return the HTTP status with which Django OAuth Toolkit's token endpoint answers each refresh token, by its id."""
        return dict(self._run(database, "renew", *refresh_tokens))

    def _run(self, database: Database, *command: str) -> Any:
        address = json.dumps(database.cluster.address(database.name))
        environment = {**os.environ, "GROUND_DATABASE": address, "PYTHONWARNINGS": "ignore"}
        done = run_interruptibly([sys.executable, str(PROGRAM), self.name, *command], PROGRAM.parent, environment)
        if done.returncode != 0:
            raise GroundError(f"{self.name} {command[0]}: {done.stderr.strip()}")
        return json.loads(done.stdout or "null")
