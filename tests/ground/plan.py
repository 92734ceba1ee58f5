"""Decide which rows a system gets: how many in each table, and in which stretch of time each lies.

The rows of a table are numbered from 1, those that no retention rule ever removes first. Foreign keys refer to those
alone, so that a clean-up of one table never fails on, or spreads to, another.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from .bands import SAFE_SECONDS, Band, Weighted, divide, of_event, of_expiry

EXPIRY = re.compile(r"expir|valid_(to|until)|not_after|_until$", re.IGNORECASE)
# Login flows are stuck, says the health check, when they are older than this.
STUCK_SECONDS = 3600.0
DENIED, ORPHANED, ALLOWED, REVOKED, FUTURE = 0.12, 0.01, 0.05, 0.08, 0.0005
# Of tokens that are still alive far fewer have been revoked yet: in any hour well below a tenth of those issued in it.
REVOKED_ALIVE = 0.03

# Shares of the rows asked for; the tokens of all stores together have share 1.
SHARES: Mapping[str, Mapping[str, float]] = {
    "tim": {"custom.jwt_metadata": 0.7, "tara.jwt_metadata": 0.3, "tara.oauth_state": 0.01},
    "oauth2_server": {"public.tokens": 1.0, "public.users": 0.1, "public.user_sessions": 0.3, "public.authorization_codes": 0.15},
    "tmi": {"public.refresh_tokens": 1.0, "public.users": 0.1, "public.user_providers": 0.15},
    "showtrack": {"public.animals": 0.3, "public.journal_entries": 1.0, "public.data_access_audit": 1.0, "public.user_profiles": 0.05},
    "azth": {"public.users": 0.1, "public.notifications": 0.4, "public.audit_logs": 0.5, "public.otp_codes": 0.3},
}
SMALL = re.compile(r"client|tenant|^roles$|permission|brand|setting|config", re.IGNORECASE)


@dataclass(frozen=True)
class TimeColumn:
    """How a moment is written in a column."""

    column: str
    zone: str | None
    unit: str | None


@dataclass(frozen=True)
class Cell:
    """Rows `first` to `last`, and the bands of their time columns; None is NULL, absent is made up to fit the others."""

    first: int
    last: int
    bands: Mapping[str, Band | None]
    revoked: bool = False

    @property
    def rows(self) -> int:
        return self.last - self.first + 1


@dataclass
class TablePlan:
    """One table: its cells, how many of its rows stay whatever the retention, and which rows of another table it mirrors."""

    name: str
    facts: Mapping[str, Any]
    cells: list[Cell]
    times: dict[str, TimeColumn]
    survivors: int = 0
    # column -> (table, column) whose identifier of the same number stands there
    mirrors: dict[str, tuple[str, str]] = field(default_factory=dict)
    issued: str | None = None
    expires: str | None = None
    revoked_at: str | None = None
    flag: tuple[str, bool] | None = None

    @property
    def rows(self) -> int:
        return sum(cell.rows for cell in self.cells)


class Planner:
    """Plans one description."""

    def __init__(self, description: Mapping[str, Any], rows: int) -> None:
        self.description = description
        self.total = rows
        self.tables: dict[str, Any] = {name: table for name, table in description["schema"]["tables"].items() if not table["optional"]}
        self.skew = float(description["clock_skew_seconds"])
        self.stores = [store for store in description["token_stores"] if store["tokens"]["table"] in self.tables]
        self.rules = [rule for rules in description["retention"].values() for rule in rules]
        self.plans: dict[str, TablePlan] = {}

    def plan(self) -> dict[str, TablePlan]:
        """Return the plans by table."""
        for store in self.stores:
            self._tokens(store)
        for store in self.stores:
            if store["revoke"]["how"] == "denylist":
                self._copies(store, store["revoke"], DENIED, orphans=True)
            if store["allowlist"]:
                self._copies(store, store["allowlist"], ALLOWED, orphans=False)
        migrations = self.description["migrations"]
        for name in self.tables:
            if name not in self.plans and not (migrations and migrations["table"] == name):
                self._other(name)
        return self.plans

    # --- tables -------------------------------------------------------------------------------------------------------

    def _tokens(self, store: Mapping[str, Any]) -> None:
        tokens, revoke = store["tokens"], store["revoke"]
        name = tokens["table"]
        if name in self.plans:
            return
        given = SHARES.get(self.description["name"], {}).get(name)
        rows = max(1, round(self.total * (given or 1 / len(self.stores))))
        issued, expires = _column(tokens["issued_at"]), _column(tokens["expires_at"])
        linked = {expires: self._ages_of_copies(store)} if expires else {}
        future = min(rows // 4, max(3, round(rows * FUTURE))) if issued else 0
        cells = self._cells(name, rows - future, linked)
        if future:
            # Dated by a clock that is ahead, and no rule's business.
            ahead: dict[str, Band | None] = {str(issued): Band(2 * SAFE_SECONDS, 8 * SAFE_SECONDS)}
            ahead |= {expires: Band(12 * SAFE_SECONDS, 24 * SAFE_SECONDS)} if expires else {}
            cells.append((Cell(1, future, ahead), True))
        plan = self._number(name, cells, issued=issued, expires=expires)
        if revoke["how"] == "timestamp":
            plan.revoked_at = revoke["column"]["column"]
        if revoke["how"] == "flag":
            plan.flag = (revoke["column"], revoke["revoked_when"])
        if revoke["how"] in ("timestamp", "flag") and plan.revoked_at not in self._ruled(name):
            plan.cells = [
                part for cell in plan.cells for part in _split(cell, REVOKED if expires and _is_past(cell, expires) else REVOKED_ALIVE)
            ]

    def _copies(self, store: Mapping[str, Any], other: Mapping[str, Any], share: float, *, orphans: bool) -> None:
        """Plan a table that repeats the ids, and mostly the expiry, of some tokens."""
        name = other["table"]
        if name not in self.tables or name in self.plans:
            return
        tokens = self.plans[store["tokens"]["table"]]
        expires, revoked = _column(other["expires_at"]), _column(other.get("revoked_at"))
        cells = []
        for cell in tokens.cells:
            alive = tokens.expires is not None and not _is_past(cell, tokens.expires)
            count = int(cell.rows * (min(share, REVOKED_ALIVE) if alive and orphans else share))
            if count and (tokens.issued is None or not _is_future(cell, tokens.issued)):
                band = cell.bands.get(tokens.expires) if tokens.expires else None
                bands: dict[str, Band | None] = {expires: band} if expires else {}
                if revoked in self._ruled(name):
                    # Revoked about when it expired; what is still alive, just now.
                    bands[str(revoked)] = band if band is not None and band.high < 0 else Band(-0.05 * SAFE_SECONDS, -0.5)
                cells.append(Cell(cell.first, cell.first + count - 1, bands, revoked=True))
        if orphans and expires:
            cells += self._orphans(name, expires, tokens.rows)
        plan = TablePlan(name, self.tables[name], cells, self._times(name), expires=expires, revoked_at=revoked)
        plan.mirrors[other["id"]] = (tokens.name, other.get("references") or store["tokens"]["id"])
        self.plans[name] = plan

    def _orphans(self, name: str, expires: str, known: int) -> list[Cell]:
        """Return deny rows of ids that no token has: numbers beyond the last token's. Some are alive and must stay."""
        nullable = self.tables[name]["columns"][expires]["nullable"]
        bands = of_expiry(self._ages(name, expires), self.skew, nullable=nullable)
        cells, at = [], known + 1
        for weighted, count in zip(bands, divide(max(len(bands), round(known * ORPHANED)), [one.weight for one in bands]), strict=True):
            cells.append(Cell(at, at + count - 1, {expires: weighted.band}, revoked=True))
            at += count
        return cells

    def _other(self, name: str) -> None:
        given = SHARES.get(self.description["name"], {}).get(name)
        if given is not None:
            rows = max(1, round(self.total * given))
        elif SMALL.search(name.rpartition(".")[2]):
            rows = min(50, max(3, self.total // 1000))
        else:
            rows = max(3, round(self.total * 0.1))
        flows = {flow["created_at"]["column"]: [STUCK_SECONDS] for flow in self.description["login_flows"] if flow["table"] == name}
        self._number(name, self._cells(name, rows, flows))

    # --- cells --------------------------------------------------------------------------------------------------------

    def _cells(self, name: str, rows: int, linked: Mapping[str, list[float]]) -> list[tuple[Cell, bool]]:
        """Return cells with numbers yet to be given, and whether their rows survive every rule.

        Each row can match the rules of one column only: where several columns have rules, each has its share of the rows.
        """
        ruled = self._ruled(name) | {column: self._ages(name, column) for column in linked}
        if not ruled:
            return [(Cell(1, rows, {}), True)]
        choices = {column: self._bands(name, column, [*ages, *linked.get(column, [])]) for column, ages in ruled.items()}
        resting = {column: next(one.band for one in bands if self._survives(name, {column: one.band})) for column, bands in choices.items()}
        cells = []
        for column, share in zip(choices, divide(rows, [1.0] * len(choices)), strict=True):
            bands = choices[column]
            for weighted, count in zip(bands, divide(share, [one.weight for one in bands]), strict=True):
                placed = {**resting, column: weighted.band}
                cells.append((Cell(1, count, placed), self._survives(name, placed)))
        return cells

    def _bands(self, name: str, column: str, ages: list[float]) -> list[Weighted]:
        facts = self.tables[name]["columns"][column]
        expiries = {_column(store["tokens"]["expires_at"]) for store in self.stores if store["tokens"]["table"] == name}
        make = of_expiry if EXPIRY.search(column) or column in expiries else of_event
        # A date has no time of day: its rows need a day's distance as well.
        margin = SAFE_SECONDS + (86400.0 if facts["type"] == "date" else 0.0)
        identity = any(store["tokens"]["table"] == name for store in self.stores)
        return make(ages, self.skew, nullable=facts["nullable"] and not (identity and make is of_expiry), margin=margin)

    def _number(self, name: str, cells: list[tuple[Cell, bool]], **columns: str | None) -> TablePlan:
        """Number the rows, survivors first, and keep the plan."""
        numbered, at = [], 1
        for cell, _survives in sorted(cells, key=lambda pair: not pair[1]):
            if cell.rows:
                numbered.append(replace(cell, first=at, last=at + cell.rows - 1))
                at += cell.rows
        survivors = sum(cell.rows for cell, survives in cells if survives)
        self.plans[name] = TablePlan(name, self.tables[name], numbered, self._times(name), survivors, **columns)  # type: ignore[arg-type]
        return self.plans[name]

    def _survives(self, name: str, bands: Mapping[str, Band | None]) -> bool:
        return not any(rule["table"] == name and matches(rule, bands) for rule in self.rules)

    # --- rules --------------------------------------------------------------------------------------------------------

    def _ruled(self, name: str) -> dict[str, list[float]]:
        columns = dict.fromkeys(rule["column"]["column"] for rule in self.rules if rule["table"] == name)
        return {column: self._ages(name, column) for column in columns}

    def _ages(self, name: str, column: str) -> list[float]:
        return [rule["older_than_seconds"] for rule in self.rules if rule["table"] == name and rule["column"]["column"] == column]

    def _ages_of_copies(self, store: Mapping[str, Any]) -> list[float]:
        others = [other for other in (store["revoke"], store["allowlist"]) if other and other.get("table")]
        return [rule["older_than_seconds"] for rule in self.rules for other in others if rule["table"] == other["table"]]

    def _times(self, name: str) -> dict[str, TimeColumn]:
        """Return every time column of a table that is declared somewhere, with the zone that its wall clock is in."""
        found: dict[str, TimeColumn] = {}
        stack: list[tuple[Any, str | None]] = [(self.description, None)]
        while stack:
            part, table = stack.pop()
            if isinstance(part, Mapping):
                here = part.get("table") if isinstance(part.get("table"), str) else table
                if set(part) == {"column", "time_zone", "unit"} and here == name:
                    found[part["column"]] = TimeColumn(part["column"], part["time_zone"], part["unit"])
                stack += [(value, here) for value in part.values()]
            elif isinstance(part, list):
                stack += [(value, table) for value in part]
        return found


def matches(rule: Mapping[str, Any], bands: Mapping[str, Band | None]) -> bool:
    """Say whether the rows of a cell are to be removed by a rule."""
    band = bands.get(rule["column"]["column"])
    return band is not None and band.older_than(rule["older_than_seconds"])


def _column(time: Mapping[str, Any] | None) -> str | None:
    return time["column"] if time else None


def _is_future(cell: Cell, issued: str) -> bool:
    band = cell.bands.get(issued)
    return band is not None and band.low > 0


def _is_past(cell: Cell, expires: str) -> bool:
    band = cell.bands.get(expires)
    return band is not None and band.high < 0


def _split(cell: Cell, share: float) -> list[Cell]:
    """Return a cell in two: the last `share` of its rows revoked."""
    count = int(cell.rows * share)
    if not count:
        return [cell]
    return [replace(cell, last=cell.last - count), replace(cell, first=cell.last - count + 1, revoked=True)]
