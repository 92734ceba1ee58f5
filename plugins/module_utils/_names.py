# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names of relations as descriptions and options write them: exact, never folded to lower case."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from ansible_collections.pgops.runbook.plugins.module_utils._errors import InvalidValue

_PART = re.compile(r'"(?:[^"]|"")+"|[^".]+')


class RelationName(NamedTuple):
    """A schema and a relation in it, both exactly as the catalogue spells them."""

    schema: str
    name: str

    def __str__(self) -> str:
        return ".".join(_written(part) for part in self)

    def identifier(self, sql: Any) -> Any:
        """Return the driver's quoted identifier; `sql` is the driver's composition module."""
        return sql.Identifier(self.schema, self.name)


def parse_relation(text: str) -> RelationName:
    """Return the relation that `text` names: `table` (in schema public) or `schema.table`.

    A part that holds a dot or a double quote stands in double quotes, in which a quote is doubled.
    Raises InvalidValue for anything else.
    """
    parts: list[str] = []
    position = 0
    while isinstance(text, str) and position <= len(text):
        match = _PART.match(text, position)
        if match is None:
            break
        part = match.group()
        parts.append(part[1:-1].replace('""', '"') if part.startswith('"') else part)
        position = match.end()
        if position == len(text):
            return RelationName("public", parts[0]) if len(parts) == 1 else _qualified(parts, text)
        if text[position] != ".":
            break
        position += 1
    raise InvalidValue(f"{text!r} is not a table name: write table or schema.table", object_name=str(text))


def _qualified(parts: list[str], text: str) -> RelationName:
    if len(parts) != 2:
        raise InvalidValue(f"{text!r} has {len(parts)} parts: write table or schema.table", object_name=text)
    return RelationName(*parts)


def _written(part: str) -> str:
    if "." in part or '"' in part:
        return '"' + part.replace('"', '""') + '"'
    return part
