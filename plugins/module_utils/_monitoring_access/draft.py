# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The draft of a plan: groups of privileges are asked for, measured together, and become statements where something is to be done."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List, NamedTuple, Sequence, Set

from ansible_collections.pgops.runbook.plugins.module_utils._monitoring_access.measure import State, Thing, measure
from ansible_collections.pgops.runbook.plugins.module_utils._monitoring_access.options import Options
from ansible_collections.pgops.runbook.plugins.module_utils._monitoring_access.plan import Gap, Plan, Step


class Role(NamedTuple):
    """The role that monitors."""

    name: str
    oid: int
    superuser: bool
    bypasses_rls: bool
    inherits: bool


class Piece(NamedTuple):
    """The target of one GRANT or REVOKE: `privilege` and `target` composed, with their words."""

    what: str
    on: str
    privilege: Any
    target: Any


# Puts things of one group together; is given all of the group as well, because a statement may say ALL.
Compose = Callable[[Sequence[Thing], Sequence[Thing]], List[Piece]]


@dataclass
class Draft:
    """Collects what the role should have. `holders` are the roles whose privileges count as the role's own."""

    database: Any
    options: Options
    role: Role
    holders: List[str]
    plan: Plan = field(default_factory=Plan)
    _groups: List[Any] = field(default_factory=list)
    _asked: Set[Thing] = field(default_factory=set)

    @property
    def sql(self) -> Any:
        """The driver's composition module."""
        return self.database.sql

    @property
    def grantee(self) -> Any:
        """The role as a statement names it."""
        return self.sql.Identifier(self.role.name)

    def ask(self, things: Sequence[Thing], compose: Compose) -> None:
        """Want all of `things`; `compose` makes targets of those that are lacking, or that are to be taken away."""
        new = [thing for thing in things if thing not in self._asked]
        if new:
            self._asked.update(new)
            self._groups.append((new, compose))

    def ask_one(self, thing: Thing, on: str, target: Any) -> None:
        """Want one privilege on a whole object."""
        piece = Piece(thing.privilege, on, self.sql.SQL(thing.privilege), target)
        self.ask([thing], lambda _some, _every: [piece])

    def do(self, what: str, on: str, statement: Any) -> None:
        """Add a statement."""
        self.plan.steps.append(Step(what, on, statement))

    def miss(self, what: str, on: str, reason: str, statement: Any = None) -> None:
        """Add what this session may not do."""
        self.plan.missing.append(Gap(what, on, reason, statement))

    def leave(self, what: str, on: str, reason: str, statement: Any = None) -> None:
        """Add what is left to a person."""
        self.plan.not_granted.append(Gap(what, on, reason, statement))

    def settle(self) -> None:
        """Measure everything that was asked for, and plan it."""
        if not self._groups:
            return
        things = [thing for group, _compose in self._groups for thing in group]
        states = measure(self.database, things, self.role.name, self.holders)
        for group, compose in self._groups:
            present = [thing for thing in group if thing in states]
            self._settle(present, compose, states)
        self._groups.clear()

    def change(self, piece: Piece) -> Any:
        """Return the statement that gives, or takes away, what a piece names."""
        form = "GRANT {} ON {} TO {}" if self.options.present else "REVOKE {} ON {} FROM {}"
        return self.sql.SQL(form).format(piece.privilege, piece.target, self.grantee)

    def _settle(self, group: Sequence[Thing], compose: Compose, states: Dict[Thing, State]) -> None:
        if self.options.present:
            wanted = [thing for thing in group if not states[thing].held]
            possible = [thing for thing in wanted if states[thing].may_grant]
        else:
            wanted = [thing for thing in group if states[thing].direct]
            possible = [thing for thing in wanted if states[thing].direct == states[thing].revocable]
        for piece in compose(possible, group) if possible else ():
            self.do(piece.what, piece.on, self.change(piece))
        granted = set(possible)
        refused = [thing for thing in wanted if thing not in granted]
        owners = sorted({states[thing].owner for thing in refused})
        for piece in compose(refused, group) if refused else ():
            self.miss(piece.what, piece.on, self._refusal(owners), self.change(piece))

    def _refusal(self, owners: Sequence[str]) -> str:
        whose = " or ".join(owners)
        if self.options.present:
            return f"{self.database.user} may not grant it: {whose} or a superuser may"
        return f"{self.database.user} may not revoke it: it was granted by somebody else, or belongs to {whose}"
