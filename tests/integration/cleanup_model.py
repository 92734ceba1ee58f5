"""What a clean-up means, said a second time in plain Python: rows in, and out what becomes of each of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

from tests.integration.revocation_model import ALWAYS, NEVER, Ids, Kind

# A row as the server writes it: its columns as texts, and the name of the table that it lies in as `leaf`.
Row = dict[str, Any]
Rows = list[Row]
COLUMNS = ("number", "id", "subject", "began", "ends", "deleted", "revoked", "limited", "flagged", "state", "grade")


@dataclass(frozen=True)
class Table:
    """A table with the kinds of its times by column. A `range` table has partitions between `bounds`, which are values of `began`."""

    name: str
    id_type: str
    kinds: dict[str, Kind]
    layout: str = "plain"
    bounds: tuple[str, ...] = ()
    default: bool = False
    indexed: tuple[str, ...] = ()

    @property
    def parts(self) -> list[str]:
        """Return the names of the tables below it; of ranges in their order, the one that takes the rest at the end."""
        if self.layout == "range":
            return [*(f"{self.name}_{place}" for place in range(len(self.bounds))), *([f"{self.name}_rest"] if self.default else [])]
        return {"plain": [], "inherited": [f"{self.name}_0"], "hash": [f"{self.name}_0", f"{self.name}_1"]}[self.layout]

    @property
    def leaves(self) -> list[str]:
        """Return the tables that hold rows."""
        return [self.name, *self.parts] if self.layout in ("plain", "inherited") else self.parts

    def kind(self, column: str) -> Kind:
        return self.kinds[column]


@dataclass(frozen=True)
class Store:
    """A token store: its tables by name, and which of its columns a description knows. `lifetime` are minutes."""

    name: str
    tokens: str
    way: str
    denied: str | None = None
    own_end: bool = False
    ends: bool = True
    lifetime: int | None = None
    limits: str | None = None
    revoked_when: bool = True
    only: str | None = None

    def described(self, tables: dict[str, Table]) -> dict[str, Any]:
        """Return it as a description has it."""
        kinds = tables[self.tokens].kinds
        tokens: dict[str, Any] = {
            "table": f"app.{self.tokens}", "id": "id", "subject": "subject", "issued_at": kinds["began"].written("began")
        }  # fmt: skip
        tokens |= {"expires_at": kinds["ends"].written("ends")} if self.ends else {}
        tokens |= {"lifetime": f"{self.lifetime} min"} if self.lifetime else {}
        tokens |= {"where": {"grade": self.only}} if self.only else {}
        revoke: dict[str, Any] = {"how": self.way}
        if self.denied:
            own = {"expires_at": tables[self.denied].kinds["ends"].written("ends")} if self.own_end else {}
            revoke |= {"table": f"app.{self.denied}", "id": "id", **own}
        elif self.way == "timestamp":
            revoke |= {"column": kinds["revoked"].written("revoked")}
        elif self.way == "flag":
            revoke |= {"column": "flagged", "revoked_when": self.revoked_when}
        limits = [{"table": f"app.{self.limits}", "column": tables[self.limits].kinds["limited"].written("limited")}] if self.limits else []
        limits = [{**limit, "by": "subject", "id": "subject"} for limit in limits]
        return {"name": self.name, "tokens": tokens, "revoke": revoke, **({"not_before": limits} if limits else {})}

    def end(self, tables: dict[str, Table], token: Row) -> datetime:
        """Return when a token ends by its row."""
        kinds = tables[self.tokens].kinds
        if self.ends:
            return kinds["ends"].end(token["ends"])
        began = kinds["began"].end(token["began"])
        return NEVER if self.lifetime is None or began == NEVER else began if began == ALWAYS else began + timedelta(minutes=self.lifetime)

    def alive(self, tables: dict[str, Table], token: Row, past: datetime) -> bool:
        """Return whether a token may still be accepted, where `past` is now less the skew."""
        if self.ends:
            return not tables[self.tokens].kinds["ends"].past(token["ends"], past)
        return self.end(tables, token) >= past

    def revoked(self, token: Row) -> bool:
        """Return whether the row itself says that its token is revoked."""
        if self.only and token["grade"] != self.only:
            return False
        if self.way == "timestamp":
            return token["revoked"] is not None
        return self.way == "flag" and token["flagged"] == ("true" if self.revoked_when else "false")


@dataclass(frozen=True)
class Rule:
    """A rule on `table` (or on `part` of it). `where` are (column, operator, value), `keep` (rows, keys), `mark` (column, value)."""

    table: str
    column: str
    minutes: int
    action: str = "delete"
    part: str | None = None
    where: tuple[tuple[str, str, Any], ...] = ()
    keep: tuple[int, tuple[str, ...]] | None = None
    mark: tuple[str, str | None] | None = None

    def written(self, number: int, tables: dict[str, Table]) -> dict[str, Any]:
        """Return it as a description has it."""
        table = tables[self.table]
        rule: dict[str, Any] = {
            "name": f"rule {number}",
            "table": f"app.{self.part or self.table}",
            "column": table.kind(self.column).written(self.column),
            "older_than": f"{self.minutes} min",
            "action": self.action,
        }
        if self.where:
            texts = [{"column": column, "operator": operator, "value": value} for column, operator, value in self.where]
            rule["where"] = [{key: part for key, part in each.items() if part is not None} for each in texts]
        if self.keep:
            rule["keep_latest"] = {"rows": self.keep[0], "per": list(self.keep[1])}
        if self.action == "archive":
            rule["archive"] = {"table": f"app.{self.table}_archive", "create": True}
        if self.mark:
            column, value = self.mark
            rule["mark"] = table.kind(column).written(column) if value is None else {"column": column, "value": value}
        return rule


@dataclass
class Did:
    """What a rule does, in the words of its result."""

    matched: int = 0
    protected: int = 0
    removed: int = 0
    archived: int = 0
    marked: int = 0
    rows_left: int | None = None
    partitions: list[str] = field(default_factory=list)


@dataclass
class Model:
    """Carries rules out on rows in memory, one rule after the other and one row after the other."""

    tables: dict[str, Table]
    stores: list[Store]
    skew: int
    as_of: datetime
    rows: dict[str, Rows]
    dropped: frozenset[str] = frozenset()
    archived: dict[str, Rows] = field(default_factory=dict)
    marks: dict[str, tuple[str, str]] = field(default_factory=dict)  # by the row's number: the column, its value

    def run(self, rules: list[Rule]) -> list[Did]:
        """Return what each of the rules does, as they are written."""
        denies = {store.denied for store in self.stores}
        # Deny rows first, since token rows may go only after them; and what leaves before what is marked.
        order = sorted(range(len(rules)), key=lambda place: (rules[place].table not in denies, rules[place].action == "soft_delete"))
        done = {place: self._rule(rules[place]) for place in order}
        for place, rule in enumerate(rules):
            if rule.action != "drop_partitions":
                done[place].rows_left = len(self._within(rule))
        return [done[place] for place in range(len(rules))]

    def _rule(self, rule: Rule) -> Did:
        matched, going = self._dropping(rule) if rule.action == "drop_partitions" else self._chosen(rule)
        numbers = {row["number"] for row in going}
        did = Did(len(matched), len(matched) - len(going))
        if rule.action == "soft_delete":
            assert rule.mark is not None
            column, value = rule.mark
            stored = value if value is not None else shown(self.tables[rule.table].kind(column).stored(self.as_of) or "")
            for row in going:
                row[column] = stored
                self.marks[row["number"]] = (column, stored)
            did.marked = len(going)
            return did
        did.removed = len(going)
        self.rows[rule.table] = [row for row in self.rows[rule.table] if row["number"] not in numbers]
        if rule.action == "archive":
            did.archived = len(going)
            self.archived.setdefault(rule.table, []).extend(going)
        if rule.action == "drop_partitions":
            did.partitions = [f"app.{name}" for name in self._due(rule) if not any(row["leaf"] == name for row in self._within(rule))]
            self.dropped |= {name.partition(".")[2] for name in did.partitions}
        return did

    def _within(self, rule: Rule) -> Rows:
        return [row for row in self.rows[rule.table] if rule.part in (None, row["leaf"])]

    # --- which rows a rule is about

    def _cutoff(self, rule: Rule) -> datetime:
        # Whoever's clock is behind takes a token for alive that long, so that its deny row is so much younger.
        extra = self.skew if any(store.denied == rule.table for store in self.stores) else 0
        return self.as_of - timedelta(minutes=rule.minutes + extra)

    def _chosen(self, rule: Rule) -> tuple[Rows, Rows]:
        kind, cutoff = self.tables[rule.table].kind(rule.column), self._cutoff(rule)
        meant = [row for row in self._within(rule) if all(holds(row, *condition) for condition in rule.where) and self._state(rule, row)]
        matched = [
            row
            for row in meant
            if row[rule.column] is not None and kind.past(row[rule.column], cutoff) and not self._among_latest(rule, row, meant)
        ]
        return matched, [row for row in matched if not self.stays(rule.table, row)]

    @staticmethod
    def _state(rule: Rule, row: Row) -> bool:
        if rule.action not in ("soft_delete", "purge"):
            return True
        column, value = rule.mark or (rule.column, None)
        marked = row[column] is not None if value is None else row[column] == value
        return marked == (rule.action == "purge")

    def _among_latest(self, rule: Rule, row: Row, rivals: Rows) -> bool:
        if rule.keep is None:
            return False
        rows, keys = rule.keep
        key, time = [row[name] for name in keys], place_of(row[rule.column])
        if None in key:
            return True
        newer = [
            other
            for other in rivals
            if [other[name] for name in keys] == key and other[rule.column] is not None and place_of(other[rule.column]) > time
        ]
        return len(newer) < rows

    def _due(self, rule: Rule) -> list[str]:
        """Return the partitions whose last possible value lies before the cut-off."""
        table, cutoff = self.tables[rule.table], self._cutoff(rule)
        kind = table.kind("began")
        lasts = [last_below(kind, bound) for bound in table.bounds]
        names = [name for name, last in zip(table.parts, lasts, strict=False) if kind.past(last, cutoff)]
        return [name for name in names if name not in self.dropped]

    def _dropping(self, rule: Rule) -> tuple[Rows, Rows]:
        due = self._due(rule)
        matched = [row for row in self._within(rule) if row["leaf"] in due]
        kept = {row["leaf"] for row in matched if self.stays(rule.table, row)}
        return matched, [row for row in matched if row["leaf"] not in kept]

    # --- which of them stay

    def stays(self, table: str, row: Row) -> bool:
        """Return whether a row must not go, however old it is, because somebody could be let in again who was turned away."""
        past = self.as_of - timedelta(minutes=self.skew)
        denies = any(store.denied == table for store in self.stores)
        return (denies and self._still_denies(table, row, past)) or any(self._kept_by(store, table, row, past) for store in self.stores)

    def _kept_by(self, store: Store, table: str, row: Row, past: datetime) -> bool:
        if store.tokens == table and store.denied and self._needed(store, row, past):
            return True
        if store.tokens == table and store.revoked(row) and store.alive(self.tables, row, past):
            return True
        unit = self.tables[table].kind("limited").unit
        return store.limits == table and row["limited"] is not None and not (unit and int(row["limited"]) == 0)

    def _still_denies(self, table: str, deny: Row, past: datetime) -> bool:
        known = []
        for store in self.stores:
            if store.denied != table:
                continue
            if store.own_end:
                known.append(self.tables[table].kind("ends").past(deny["ends"], past))
            for token in self._same(deny, store.tokens):
                if store.ends or store.lifetime:
                    known.append(not store.alive(self.tables, token, past))
                elif not store.own_end:
                    known.append(False)
        return not known or not all(known)

    def _needed(self, store: Store, token: Row, past: datetime) -> bool:
        denies = self._same(token, store.denied or "")
        if not store.own_end:
            return bool(denies)
        own = [self.tables[store.denied or ""].kind("ends").end(deny["ends"]) if deny["ends"] is not None else None for deny in denies]
        alive = (store.ends or store.lifetime is not None) and store.alive(self.tables, token, past)
        return any(end is None or (alive and end < store.end(self.tables, token)) for end in own)

    def _same(self, row: Row, table: str) -> Rows:
        return [other for other in self.rows[table] if row["id"] is not None and Ids.same(other["id"]) == Ids.same(row["id"])]


def holds(row: Row, column: str, operator: str, value: Any) -> bool:
    """Return whether a row fulfils a condition; NULL fulfils only the one that asks for it."""
    stored = row[column]
    if operator in ("is null", "is not null"):
        return (stored is None) == (operator == "is null")
    if stored is None:
        return False
    if column == "grade":
        stored, value = int(stored), [int(each) for each in value] if isinstance(value, list) else int(value)
    tests: dict[str, Callable[[], bool]] = {
        "=": lambda: stored == value,
        "!=": lambda: stored != value,
        "<": lambda: stored < value,
        "<=": lambda: stored <= value,
        ">": lambda: stored > value,
        ">=": lambda: stored >= value,
        "in": lambda: stored in value,
        "not in": lambda: stored not in value,
    }
    return tests[operator]()


def shown(time: str) -> str:
    """Return a time as the server shows it in UTC, without zeros that say nothing."""
    whole, point, rest = time.replace("+00:00", "").partition(".")
    return whole + (point + rest).rstrip("0").rstrip(".") + ("+00" if time.endswith("+00:00") else "")


def place_of(stored: str) -> tuple[int, float]:
    """Return where a value stands in the order of its column."""
    if stored in ("infinity", "-infinity"):
        return (1 if stored == "infinity" else -1, 0)
    if stored.lstrip("-").isdigit():
        return (0, int(stored))
    if len(stored) == len("2026-01-01"):
        return (0, date.fromisoformat(stored).toordinal())
    at = datetime.fromisoformat(stored)
    return (0, (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp())


def last_below(kind: Kind, bound: str) -> str:
    """Return the last value that a column can hold below `bound`."""
    if kind.unit:
        return str(int(bound) - 1)
    if kind.type == "date":
        return str(date.fromisoformat(bound) - timedelta(days=1))
    return str(datetime.fromisoformat(bound) - timedelta(microseconds=1))
