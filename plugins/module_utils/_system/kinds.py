# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kinds of value that a description holds: each reads one value, returns its normalised form and notes what is wrong with it."""

from __future__ import annotations

import re
from typing import Any, Callable, Sequence

from ansible_collections.pgops.runbook.plugins.module_utils import _duration
from ansible_collections.pgops.runbook.plugins.module_utils._errors import InvalidValue
from ansible_collections.pgops.runbook.plugins.module_utils._names import parse_relation
from ansible_collections.pgops.runbook.plugins.module_utils._system.faults import Faults, one_of, shown
from ansible_collections.pgops.runbook.plugins.module_utils._system.zones import zone_fault

WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


class Kind:
    """One kind of value. `noun` names it in messages and in the documentation."""

    noun = "a value"

    def read(self, value: Any, path: str, faults: Faults) -> Any:
        """Return the normalised value, or None after noting a fault. `value` is never None."""
        raise AssertionError(f"{type(self).__name__} reads nothing")

    def refuse(self, value: Any, path: str, faults: Faults) -> None:
        """Note that `value` is not of this kind."""
        faults.add(path, f"{shown(value)} is not {self.noun}")


class Text(Kind):
    """Words, or a number that stands for its own digits."""

    def __init__(self, noun: str = "a text", pattern: str = r"(?s).*\S.*") -> None:
        self.noun = noun
        self.pattern = re.compile(pattern)

    def read(self, value: Any, path: str, faults: Faults) -> str | None:
        text = str(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else value
        if isinstance(text, str) and self.pattern.fullmatch(text):
            return text.strip() or text  # a separator may be a space
        self.refuse(value, path, faults)
        return None


class Choice(Kind):
    """One word of a list."""

    def __init__(self, *allowed: str) -> None:
        self.allowed = allowed
        self.noun = "one of " + ", ".join(allowed)

    def read(self, value: Any, path: str, faults: Faults) -> str | None:
        if isinstance(value, str) and value in self.allowed:
            return value
        faults.add(path, one_of(value, self.allowed))
        return None


class Boolean(Kind):
    """true or false."""

    noun = "true or false"

    def read(self, value: Any, path: str, faults: Faults) -> bool | None:
        if isinstance(value, bool):
            return value
        self.refuse(value, path, faults)
        return None


class Number(Kind):
    """A number not below `least` and not above `most`; a whole one where `whole`."""

    def __init__(self, noun: str = "a number", least: float = 0, most: float | None = None, whole: bool = False) -> None:
        self.noun, self.least, self.most, self.whole = noun, least, most, whole

    def read(self, value: Any, path: str, faults: Faults) -> int | float | None:
        allowed = (int,) if self.whole else (int, float)
        in_range = isinstance(value, allowed) and not isinstance(value, bool) and value >= self.least
        if in_range and (self.most is None or value <= self.most):
            number: int | float = value
            return number
        self.refuse(value, path, faults)
        return None


def whole(noun: str = "a whole number", least: int = 0) -> Number:
    """Return the kind of a count."""
    return Number(noun, least, whole=True)


class Quantity(Kind):
    """A number with a unit. The words stay as written, a bare number gets `unit`.

    `suffix` names the key beside it that holds the plain number.
    """

    def __init__(self, noun: str, suffix: str, unit: str, parse: Callable[[Any], float]) -> None:
        self.noun, self.suffix, self.unit, self.parse = noun, suffix, unit, parse

    def read(self, value: Any, path: str, faults: Faults) -> str | None:
        try:
            self.parse(value)
        except InvalidValue as error:
            faults.add(path, error.message)
            return None
        return value.strip() if isinstance(value, str) else f"{value} {self.unit}"


DURATION = Quantity("a duration such as 15 min", "_seconds", "s", _duration.parse_duration)
SIZE = Quantity("a size such as 5 GB", "_bytes", "B", _duration.parse_size)


class Table(Kind):
    """The name of a table, returned with its schema; `*`, where `every` allows it, is every table of the system's schemas.

    `declared` means that it must be among schema.tables where there are any; `foreign`, that it may be
    in a schema that is not the system's own, where nothing is declared.
    """

    noun = "a table name such as schema.table"

    def __init__(self, every: bool = False, declared: bool = True, foreign: bool = False) -> None:
        self.every, self.declared, self.foreign = every, declared, foreign

    def read(self, value: Any, path: str, faults: Faults) -> str | None:
        if self.every and value == "*":
            return "*"
        if not isinstance(value, str):
            self.refuse(value, path, faults)
            return None
        try:
            return str(parse_relation(value))
        except InvalidValue as error:
            faults.add(path, error.message)
            return None


class Zone(Kind):
    """The name of a time zone."""

    noun = "a time zone such as UTC or Europe/Tallinn"

    def read(self, value: Any, path: str, faults: Faults) -> str | None:
        if not isinstance(value, str):
            self.refuse(value, path, faults)
            return None
        fault = zone_fault(value)
        if fault:
            faults.add(path, fault)
        return None if fault else value


class Clock(Kind):
    """A time of day. YAML 1.1 reads an unquoted 18:00 as a number in base 60, so that such a number counts as well."""

    noun = 'a time of day such as "18:00"'

    def read(self, value: Any, path: str, faults: Faults) -> str | None:
        minutes = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1440
        text = f"{value // 60:02d}:{value % 60:02d}" if minutes else value
        if isinstance(text, str) and re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d", text):
            return text
        self.refuse(value, path, faults)
        return None


class Scalar(Kind):
    """One plain value, as a column may hold it."""

    noun = "a text, a number, true or false"

    def read(self, value: Any, path: str, faults: Faults) -> str | int | float | bool | None:
        if isinstance(value, (str, int, float)):
            return value
        self.refuse(value, path, faults)
        return None


class Setting(Kind):
    """The value of a server parameter, as SHOW writes it: true and false become on and off."""

    noun = "a setting"

    def read(self, value: Any, path: str, faults: Faults) -> str | None:
        if isinstance(value, bool):
            return "on" if value else "off"
        if isinstance(value, (str, int, float)):
            return str(value)
        self.refuse(value, path, faults)
        return None


TEXT = Text()
COLUMN = Text("a column name")
BOOLEAN = Boolean()
TABLE = Table()
ROLE = Text("a role name")
SCHEMA_NAME = Text("a schema name")


def choice(words: Sequence[str]) -> Choice:
    """Return the kind of a word of a list that is kept elsewhere."""
    return Choice(*words)
