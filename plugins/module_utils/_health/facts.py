# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the server says of itself, asked by many checks and answered in one statement."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Iterable, List, Set, Tuple, Union

from ansible_collections.pgops.runbook.plugins.module_utils._connection import Database
from ansible_collections.pgops.runbook.plugins.module_utils._errors import DatabaseError, MissingObject, RunbookError

Answer = Union[Any, RunbookError]


@dataclass(frozen=True)
class Fact:
    """One question to the server: a SELECT of one row with one json value, without parameters and without a percent sign.

    It reads no table of a user and calls no function per relation, so that it waits for nobody. `relations` are the views of
    pg_catalog that it names and that not every version has.
    """

    name: str
    statement: str
    relations: Tuple[str, ...] = ()


class Facts:
    """The answers by fact. `views` are the views that this server has."""

    def __init__(self, database: Database, views: Iterable[str]) -> None:
        self._database = database
        self._views: Set[str] = set(views)
        self._answers: Dict[Fact, Answer] = {}

    def gather(self, facts: Iterable[Fact]) -> None:
        """Ask all of `facts` in one statement. Where that fails nothing is known yet, and each is asked by itself when it is needed."""
        wanted: List[Fact] = [fact for fact in dict.fromkeys(facts) if not self._missing(fact)]
        if not wanted:
            return
        sql = self._database.sql
        columns = [sql.SQL("({}) AS {}").format(sql.SQL(fact.statement), sql.Identifier(fact.name)) for fact in wanted]
        try:
            row = self._database.rows(sql.SQL("SELECT {}").format(sql.SQL(", ").join(columns)))[0]
        except DatabaseError:
            if self._database.closed:
                raise
            return
        self._answers.update({fact: row[fact.name] for fact in wanted})

    def answer(self, fact: Fact) -> Any:
        """Return the answer to `fact`. Raises MissingObject where the server lacks a view that it needs, DatabaseError where it refuses."""
        if fact not in self._answers:
            self._answers[fact] = self._ask(fact)
        found = self._answers[fact]
        if isinstance(found, RunbookError):
            raise found
        return found

    def _ask(self, fact: Fact) -> Answer:
        missing = self._missing(fact)
        if missing:
            return MissingObject(f"this server has no {missing[0]}", object_name=missing[0])
        sql = self._database.sql
        try:
            return self._database.rows(sql.SQL("SELECT ({}) AS answer").format(sql.SQL(fact.statement)))[0]["answer"]
        except RunbookError as error:
            return error

    def _missing(self, fact: Fact) -> List[str]:
        return [name for name in fact.relations if name not in self._views]
