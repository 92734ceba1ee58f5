# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kinds of value that hold others: mappings with known keys, mappings with free keys, lists, and forms that one key chooses."""

from __future__ import annotations

from typing import Any, Callable, Mapping

from ansible_collections.pgops.runbook.plugins.module_utils._system.faults import Faults, join, one_of, shown, unknown_key
from ansible_collections.pgops.runbook.plugins.module_utils._system.kinds import Kind, Quantity

Check = Callable[[Any, str, Faults], None]

# Stands for the key by which items differ, where an item is a plain text.
ITSELF = ""


class Field:
    """One key of a mapping: the kind of its value, what it is for, and what stands when it is left out.

    `default` is written as in a description and is read like one; None leaves the key at None. `outer` marks a
    column that belongs to the table of the mapping around this one.
    """

    def __init__(self, kind: Kind, doc: str, *, required: bool = False, default: Any = None, outer: bool = False) -> None:
        self.kind, self.doc, self.required, self.default, self.outer = kind, doc, required, default, outer


class Group(Kind):
    """A mapping with known keys. `short` names the key that a bare text stands for; `check` looks at the read mapping as a whole."""

    def __init__(self, noun: str, fields: Mapping[str, Field], short: str | None = None, check: Check | None = None) -> None:
        self.noun, self.fields, self.short, self.check = noun, fields, short, check

    def read(self, value: Any, path: str, faults: Faults) -> dict[str, Any] | None:
        if self.short and isinstance(value, str):
            # The text is the value of its key, and a fault of it stands where the text stands.
            field = self.fields[self.short]
            read = {**self._of({self.short: value}, path, Faults()), self.short: field.kind.read(value, path, faults)}
        elif isinstance(value, dict):
            for key in value:
                if key not in self.fields and not self._derived(key):
                    faults.add(join(path, key), unknown_key(key, self.fields))
            read = self._of(value, path, faults)
        else:
            faults.add(path, f"{shown(value)} is not {self.noun}: write a mapping with {', '.join(self.fields)}")
            return None
        if self.check:
            self.check(read, path, faults)
        return read

    def _of(self, value: Mapping[Any, Any], path: str, faults: Faults) -> dict[str, Any]:
        read: dict[str, Any] = {}
        for key, field in self.fields.items():
            at = join(path, key)
            given = value.get(key)
            if given is None and field.required:
                faults.add(at, f"is missing: {field.doc}")
            raw = field.default if given is None else given
            read[key] = None if raw is None else field.kind.read(raw, at, faults)
            if isinstance(field.kind, Quantity):
                number = None if read[key] is None else field.kind.parse(read[key])
                read[key + field.kind.suffix] = number
                written = value.get(key + field.kind.suffix)
                if written is not None and (isinstance(written, bool) or written != number):
                    at = join(path, key + field.kind.suffix)
                    faults.add(at, f"{shown(written)} differs from {key}: leave it out, it is worked out from {key}")
        return read

    def _derived(self, key: Any) -> bool:
        return any(key == name + field.kind.suffix for name, field in self.fields.items() if isinstance(field.kind, Quantity))


class Choices(Kind):
    """A mapping whose key `by` chooses which other keys it has."""

    def __init__(self, noun: str, by: str, forms: Mapping[str, Group], doc: str) -> None:
        self.noun, self.by, self.forms, self.doc = noun, by, forms, doc

    def read(self, value: Any, path: str, faults: Faults) -> dict[str, Any] | None:
        if not isinstance(value, dict):
            self.refuse(value, path, faults)
            return None
        chosen = value.get(self.by)
        if chosen is None:
            faults.add(join(path, self.by), f"is missing: {self.doc}, one of {', '.join(self.forms)}")
            return None
        if not isinstance(chosen, str) or chosen not in self.forms:
            faults.add(join(path, self.by), one_of(chosen, self.forms))
            return None
        return self.forms[chosen].read(value, path, faults)


class Listing(Kind):
    """A list of one kind. `named` is the key by which the items must differ, ITSELF for plain texts."""

    def __init__(self, kind: Kind, named: str | None = None, least: int = 0) -> None:
        self.kind, self.named, self.least = kind, named, least
        self.noun = f"a list, each item {kind.noun}"

    def read(self, value: Any, path: str, faults: Faults) -> list[Any] | None:
        if not isinstance(value, (list, tuple)):
            self.refuse(value, path, faults)
            return None
        if len(value) < self.least:
            faults.add(path, f"{shown(list(value))} is empty: at least one is needed")
        read = []
        for index, item in enumerate(value):
            at = join(path, index)
            if item is None:
                faults.add(at, f"is empty: write {self.kind.noun}")
            read.append(None if item is None else self.kind.read(item, at, faults))
        if self.named is not None:
            self._check_names(read, path, faults)
        return read

    def _check_names(self, read: list[Any], path: str, faults: Faults) -> None:
        seen: dict[Any, int] = {}
        for index, item in enumerate(read):
            name = item.get(self.named) if isinstance(item, dict) else item
            if name is not None and name in seen:
                at = join(join(path, index), self.named) if isinstance(item, dict) else join(path, index)
                faults.add(at, f"{shown(name)} is already the name of {join(path, seen[name])}: names must differ")
            if name is not None:
                seen.setdefault(name, index)


class Named(Kind):
    """A mapping with free keys, each of which is read by `key` and its value by `kind`."""

    def __init__(self, key: Kind, kind: Kind) -> None:
        self.key, self.kind = key, kind
        self.noun = f"a mapping, each key {key.noun}"

    def read(self, value: Any, path: str, faults: Faults) -> dict[str, Any] | None:
        if not isinstance(value, dict):
            self.refuse(value, path, faults)
            return None
        read: dict[str, Any] = {}
        for key, item in value.items():
            at = join(path, key)
            name = self.key.read(key, at, faults)
            if name is not None and name in read:
                faults.add(at, f"{shown(name)} is named twice")
            if item is None:
                faults.add(at, "is empty: write its keys, or {} where it has none")
            result = None if item is None else self.value_kind(name).read(item, at, faults)
            if name is not None:
                read[name] = result
        return read

    def value_kind(self, name: str | None) -> Kind:
        """Return the kind of the value under `name`."""
        return self.kind
