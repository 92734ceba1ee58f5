# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the server says of itself, asked by many checks and answered in one statement."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, Iterable, List, Mapping, Tuple, Union

from ansible_collections.pgops.runbook.plugins.module_utils._connection import Database
from ansible_collections.pgops.runbook.plugins.module_utils._errors import DatabaseError, MissingObject, RunbookError
from ansible_collections.pgops.runbook.plugins.module_utils._health.model import Unseen

Answer = Union[Any, RunbookError]


@dataclass(frozen=True)
class Fact:
    """One question to the server: a SELECT of one row with one json value, without parameters and without a percent sign.

    It reads no table of a user and calls no function per relation, so that it waits for nobody. `relations` are the views of
    pg_catalog that it names and that not every version has or not every role may read, `functions` the functions that not every
    role may call: privileges are looked at when a statement begins, so that no CASE in it can avoid them.
    """

    name: str
    statement: str
    relations: Tuple[str, ...] = ()
    functions: Tuple[str, ...] = ()


@dataclass(frozen=True)
class Catalog:
    """What of pg_catalog there is for the role: may it read each view, and call each function (by signature) that not everybody may."""

    role: str = ""
    views: Mapping[str, bool] = field(default_factory=dict)
    functions: Mapping[str, bool] = field(default_factory=dict)

    def refusal(self, fact: Fact) -> RunbookError | None:
        """Return why the role cannot ask `fact`: a MissingObject, or an Unseen with the grants that it takes; None where it can."""
        for name in fact.relations:
            if name not in self.views:
                return MissingObject(f"this server has no {name}", object_name=name)
        views = [name for name in fact.relations if not self.views[name]]
        calls = [call for call, allowed in self.functions.items() if not allowed and call.partition("(")[0] in fact.functions]
        if not views and not calls:
            return None
        role = '"' + self.role.replace('"', '""') + '"'
        privileges = ["SELECT ON pg_catalog." + name for name in views] + [f"EXECUTE ON FUNCTION pg_catalog.{call}" for call in calls]
        grants = "; GRANT ".join(f"{privilege} TO {role}" for privilege in privileges)
        message = f"the role {self.role} may not read {' and '.join([*views, *calls])}"
        return Unseen(message, hint=f"As a superuser: GRANT {grants};")


class Facts:
    """The answers by fact."""

    def __init__(self, database: Database, catalog: Catalog) -> None:
        self._database = database
        self._catalog = catalog
        self._answers: Dict[Fact, Answer] = {}

    def gather(self, facts: Iterable[Fact]) -> None:
        """Ask all of `facts` in one statement. Where that fails nothing is known yet, and each is asked by itself when it is needed."""
        wanted: List[Fact] = [fact for fact in dict.fromkeys(facts) if self._catalog.refusal(fact) is None]
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
        """Return the answer to `fact`.

        Raises MissingObject where the server lacks a view that it needs, Unseen where the role may not ask, DatabaseError where the
        server refuses.
        """
        if fact not in self._answers:
            self._answers[fact] = self._ask(fact)
        found = self._answers[fact]
        if isinstance(found, RunbookError):
            raise found
        return found

    def _ask(self, fact: Fact) -> Answer:
        refusal = self._catalog.refusal(fact)
        if refusal:
            return refusal
        sql = self._database.sql
        try:
            return self._database.rows(sql.SQL("SELECT ({}) AS answer").format(sql.SQL(fact.statement)))[0]["answer"]
        except RunbookError as error:
            return error
