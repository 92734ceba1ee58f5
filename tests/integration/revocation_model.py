"""What a revocation means, worked out a second time: kinds of time, ids in several spellings, stores, and whom each accepts."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

from hypothesis import HealthCheck, settings

NEVER, ALWAYS = datetime.max.replace(tzinfo=UTC), datetime.min.replace(tzinfo=UTC)
ZONES = ("UTC", "Europe/Tallinn", "America/St_Johns", "Pacific/Kiritimati", "Pacific/Pago_Pago", "Asia/Kathmandu")
FIRST_ZONE, LAST_ZONE = timezone(timedelta(hours=14)), timezone(-timedelta(hours=12))
# What lies behind is written by somebody who meant for ever.
FAR_YEAR, FAR_SECONDS = 9892, 250_000_000_000
INT4, INT8 = 2**31 - 1, 2**63 - 1
BASE = datetime(2026, 1, 15, 12, 0, tzinfo=UTC)
SKEWS = (0, 5, 30)
FEW = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
Rows = list[dict[str, str | None]]
# What a store's tables are filled with: tokens and deny rows, as they are drawn.
Data = tuple[list[dict[str, Any]], list[tuple[int, Any]]]


@dataclass(frozen=True)
class Kind:
    """A kind of time column: its SQL type, and the zone and unit that a description declares. Values are texts, as the server writes."""

    type: str
    zone: str | None = None
    unit: str | None = None

    def written(self, column: str) -> dict[str, Any]:
        """Return the column as a description has it."""
        return {key: value for key, value in (("column", column), ("time_zone", self.zone), ("unit", self.unit)) if value}

    @property
    def per_second(self) -> int:
        return 1000 if self.unit == "ms" else 1

    def stored(self, at: datetime | str | None) -> str | None:
        """Return what the column is given for an instant, one of `infinity`, `-infinity` and `far`, or NULL."""
        if at is None:
            return None
        if isinstance(at, str):
            largest = INT4 if self.type == "integer" else INT8
            number = {"infinity": largest, "-infinity": 0, "far": min(largest, 253_402_300_799 * self.per_second)}[at]
            return str(number) if self.unit else at.replace("far", "9999-12-31")
        if self.unit:
            return str(int(at.timestamp() * self.per_second))
        if self.type == "timestamptz":
            return str(at)
        wall = at.astimezone(ZoneInfo(self.zone) if self.zone else UTC).replace(tzinfo=None)
        return str(wall.date() if self.type == "date" else wall)

    def start(self, stored: str | None) -> datetime | None:
        """Return the first instant that a value may mean."""
        if stored is None:
            return None
        if self.unit:
            return datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=int(stored) * 1000 // self.per_second)
        if self.type == "date":
            return datetime.combine(date.fromisoformat(stored), time(), ZoneInfo(self.zone) if self.zone else FIRST_ZONE).astimezone(UTC)
        return self.instant(stored)

    def end(self, stored: str | None) -> datetime:
        """Return the instant from which a value is past."""
        if stored is None or stored == "infinity":
            return NEVER
        if stored == "-infinity":
            return ALWAYS
        if self.unit:
            if int(stored) >= (INT4 if self.type == "integer" else FAR_SECONDS * self.per_second):
                return NEVER
            return datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=(int(stored) + 1) * 1000 // self.per_second)
        if int(stored[:4]) >= FAR_YEAR:
            return NEVER
        if self.type == "date":
            day = date.fromisoformat(stored) + timedelta(days=1)
            return datetime.combine(day, time(), ZoneInfo(self.zone) if self.zone else LAST_ZONE).astimezone(UTC)
        return self.instant(stored)

    def instant(self, stored: str) -> datetime:
        at = datetime.fromisoformat(stored)
        return at if at.tzinfo else at.replace(tzinfo=ZoneInfo(self.zone or "UTC"), fold=1).astimezone(UTC)

    @property
    def lasting(self) -> bool:
        """Return whether a value is a while and no point in time."""
        return bool(self.unit) or self.type == "date"

    def past(self, stored: str | None, at: datetime) -> bool:
        """Return whether a value lies before an instant; what has an extent in time must have ended."""
        return self.end(stored) <= at if self.lasting else self.end(stored) < at


@dataclass(frozen=True)
class Shape:
    """How a store is made: the way to revoke, the kinds of its times, and which links between tokens it knows.

    With `nameless` some tokens have no id, which no deny list can name: a run then waits for what never comes, a second each.
    `marked` is the time of revocation, in the token or in the deny list, `deny_ends` when a deny row ends; None where there is none.
    """

    way: str
    issued: Kind
    ends: Kind
    marked: Kind | None
    deny_ends: Kind | None
    family: bool
    renewed: bool
    unique: bool
    deny_unique: bool
    word: bool
    nameless: bool


@dataclass(frozen=True)
class Ids:
    """How ids are held, and how what refers to them is."""

    type: str
    link_type: str
    deny_type: str

    def written(self, number: int) -> str:
        return str(number) if self.type == "bigint" else str(uuid.UUID(int=0xAB << 64 | number))

    def link(self, number: int, manner: int) -> str:
        """Return a reference; a text may write a uuid in several ways."""
        text = self.written(number)
        return (text, text.upper(), text.replace("-", ""))[manner] if self.type != self.link_type else text

    @staticmethod
    def same(text: str | None) -> str | None:
        """Return what two ways to write one id have in common."""
        return text and text.replace("-", "").lower()


@dataclass(frozen=True)
class Store:
    """One store: its tables are `tokens` and `denied` with its number."""

    number: int
    shape: Shape
    ids: Ids

    @property
    def tables(self) -> tuple[str, str]:
        return f"tokens{self.number}", f"denied{self.number}"

    def described(self) -> dict[str, Any]:
        """Return the store as a description has it."""
        shape = self.shape
        tokens: dict[str, Any] = {"table": self.tables[0], "id": "id", "subject": "subject", "claims": "claims"}
        tokens |= {"issued_at": shape.issued.written("issued"), "expires_at": shape.ends.written("ends")}
        tokens |= {"family": "family"} if shape.family else {}
        tokens |= {"renewed_from": "renewed_from"} if shape.renewed else {}
        revoke: dict[str, Any] = {"how": shape.way}
        if shape.way == "denylist":
            revoke |= {"table": self.tables[1], "id": "id"}
            revoke |= {"revoked_at": shape.marked.written("marked")} if shape.marked else {}
            revoke |= {"expires_at": shape.deny_ends.written("ends")} if shape.deny_ends else {}
        elif shape.way == "timestamp":
            revoke |= {"column": self.marked.written("marked")}
        elif shape.way == "flag":
            revoke |= {"column": "flagged", "revoked_when": shape.word}
        return {"name": f"store{self.number}", "tokens": tokens, "revoke": revoke}

    @property
    def marked(self) -> Kind:
        return self.shape.marked or Kind("timestamptz")

    # --- the model: texts of rows in, and what is to be believed of them out

    def alive(self, token: dict[str, Any], past: datetime) -> bool:
        return not self.shape.ends.past(token["ends"], past)

    def revoked(self, token: dict[str, Any], denied: Rows) -> bool:
        """Return whether the application refuses a token, and does for as long as the token would live."""
        if self.shape.way == "denylist":
            return any(
                Ids.same(token["id"]) is not None
                and Ids.same(deny["id"]) == Ids.same(token["id"])
                and (self.shape.deny_ends is None or self.shape.deny_ends.end(deny["ends"]) >= self.shape.ends.end(token["ends"]))
                for deny in denied
            )
        if self.shape.way == "timestamp":
            return token["marked"] is not None
        return self.shape.way == "flag" and token["flagged"] == ("true" if self.shape.word else "false")

    def meant(self, token: dict[str, Any], select: dict[str, Any]) -> bool:
        """Return whether the criteria mean a token itself."""
        start, end = self.shape.issued.start(token["issued"]), self.shape.issued.end(token["issued"])
        keys = (token["claims"] or "").split(",")
        family = token["family"] or (token["id"] if self.ids.type == self.ids.link_type else None)
        tests: dict[str, Callable[[Any], bool]] = {
            "all": lambda _all: True,
            "ids": lambda ids: token["id"] in ids,
            "subjects": lambda subjects: token["subject"] in subjects,
            "claims": lambda claims: token["claims"] is not None and any(key in claims for key in keys),
            "claim_pattern": lambda pattern: token["claims"] is not None and any(key.startswith(pattern[:-1]) for key in keys),
            "families": lambda families: family in families,
            "issued_from": lambda at: start is not None and (end > instant(at) if self.shape.issued.lasting else start >= instant(at)),
            "issued_to": lambda at: start is not None and start < instant(at),
        }
        return all(tests[name](value) for name, value in select.items())

    def selected(self, tokens: Rows, select: dict[str, Any]) -> list[int]:
        """Return the places of the tokens that are meant, and of all that came from them."""
        issued = [self.shape.issued.start(token["issued"]) for token in tokens]
        found = {(place, issued[place]) for place, token in enumerate(tokens) if self.meant(token, select)}
        fresh = set() if "all" in select else set(found)
        while fresh:
            reached = {
                (place, issued[place] or at)
                for origin, at in fresh
                for place, token in enumerate(tokens)
                if self.follows(token, tokens[origin], issued[place], at)
            }
            fresh = reached - found
            found |= fresh
        return sorted({place for place, _at in found})

    def follows(self, token: dict[str, Any], origin: dict[str, Any], issued: datetime | None, at: datetime | None) -> bool:
        """Return whether a token was renewed from another, or belongs to its family and was not issued before it, as far as is known."""
        same = Ids.same
        if self.shape.renewed and token["renewed_from"] is not None and same(token["renewed_from"]) == same(origin["id"]):
            return True
        related = self.shape.family and token["family"] is not None and same(token["family"]) == same(origin["family"] or origin["id"])
        return related and (issued is None or at is None or issued >= at)


def instant(text: str) -> datetime:
    return datetime.fromisoformat(text)
