# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""psycopg2 or psycopg 3 behind one face: the same call, the same parameters, the same JSON-safe values."""

from __future__ import annotations

import json
import math
import sys
from typing import Any, Callable, Iterable, Sequence

from ansible_collections.pgops.runbook.plugins.module_utils._errors import DriverMissing

# psycopg 3 has cursors that bind on the client side, as psycopg2 does, since this version.
PSYCOPG_FLOOR = (3, 1)

_BOOLEAN, _INTEGERS, _FLOATS, _NUMERIC, _JSON = 16, (20, 21, 23, 26), (700, 701), 1700, (114, 3802)
# The array type of each built-in type whose arrays become lists; fixed numbers of the catalogue since long before PostgreSQL 12.
_ARRAYS = {
    1000: 16, 1001: 17, 1002: 18, 1003: 19, 1005: 21, 1007: 23, 1016: 20, 1028: 26, 1009: 25, 1014: 1042, 1015: 1043,
    1021: 700, 1022: 701, 1231: 1700, 199: 114, 3807: 3802, 2951: 2950, 1115: 1114, 1182: 1082, 1183: 1083, 1185: 1184,
    1187: 1186, 1270: 1266, 1041: 869, 651: 650, 1040: 829, 775: 774, 1561: 1560, 1563: 1562, 791: 790, 143: 142,
    3905: 3904, 3907: 3906, 3909: 3908, 3911: 3910, 3913: 3912, 3927: 3926, 1263: 2275, 2210: 2205, 4097: 4096,
    4090: 4089, 2211: 2206, 2287: 2249, 3221: 3220, 1034: 1033, 1008: 24, 1011: 28, 1012: 29, 1010: 27, 2949: 2970,
}  # fmt: skip
Converter = Callable[[str], Any]


class Driver:
    """A loaded driver: `module`, its composition module `sql`, its `name` and its base exception `Error`."""

    name = ""

    def __init__(self, module: Any, sql: Any) -> None:
        self.module = module
        self.sql = sql
        self.Error = module.Error

    def open(self, parameters: dict[str, str]) -> Any:
        """Return a connection in autocommit made with libpq's `parameters`; the driver's own errors pass through."""
        raise NotImplementedError

    def texts(self, cursor: Any) -> list[Sequence[str | None]]:
        """Return every row of `cursor` as the text that the server sent."""
        raise NotImplementedError

    def adapt(self, value: Any) -> Any:
        """Return a statement's parameter in a form that both drivers bind alike."""
        return value

    def rows(self, cursor: Any) -> list[dict[str, Any]]:
        """Return every row of `cursor` as a dictionary of JSON-safe values."""
        columns = [(column[0], converter(column[1])) for column in cursor.description]
        return [
            {name: None if text is None else convert(text) for (name, convert), text in zip(columns, texts)} for texts in self.texts(cursor)
        ]


class _Psycopg2(Driver):
    name = "psycopg2"

    def __init__(self, module: Any) -> None:
        from psycopg2 import extensions, sql

        super().__init__(module, sql)
        # One caster for every type that psycopg2 knows: types that it does not know are text already.
        self._as_text = extensions.new_type(tuple(extensions.string_types), "PGOPS_TEXT", lambda text, cursor: text)
        self._register = extensions.register_type

    def open(self, parameters: dict[str, str]) -> Any:
        connection = self.module.connect(**parameters)
        connection.autocommit = True
        self._register(self._as_text, connection)
        return connection

    def texts(self, cursor: Any) -> list[Sequence[str | None]]:
        return cursor.fetchall()

    def adapt(self, value: Any) -> Any:
        # psycopg2 writes ARRAY['a'], which is text[] and compares with no uuid; a literal takes the type that the statement wants.
        if isinstance(value, (list, tuple)) and all(item is None or isinstance(item, str) for item in value):
            return array_literal(value)
        return value


class _Psycopg3(Driver):
    name = "psycopg"

    def __init__(self, module: Any) -> None:
        from psycopg import sql

        super().__init__(module, sql)

    def open(self, parameters: dict[str, str]) -> Any:
        connect, cursor = self.module.connect, self.module.ClientCursor
        if parameters.get("target_session_attrs") == "prefer-standby":
            # psycopg 3 tries the hosts one at a time, so that the first primary would satisfy "prefer".
            try:
                return connect(**{**parameters, "target_session_attrs": "standby"}, autocommit=True, prepare_threshold=None, cursor_factory=cursor)
            except self.module.OperationalError:
                parameters = {**parameters, "target_session_attrs": "any"}
        return connect(**parameters, autocommit=True, prepare_threshold=None, cursor_factory=cursor)

    def texts(self, cursor: Any) -> list[Sequence[str | None]]:
        result, columns = cursor.pgresult, range(cursor.pgresult.nfields)
        return [[_decoded(result.get_value(row, column)) for column in columns] for row in range(result.ntuples)]

    def adapt(self, value: Any) -> Any:
        if isinstance(value, (list, tuple)) and all(item is None or isinstance(item, str) for item in value):
            return array_literal(value)
        return list(value) if isinstance(value, tuple) else value


def load() -> Driver:
    """Return psycopg2's driver, or psycopg 3's where that is what is installed. Raises DriverMissing."""
    reasons = []
    for attempt in (_load_psycopg2, _load_psycopg3):
        try:
            return attempt()
        except ImportError as error:
            reasons.append(str(error))
    raise DriverMissing(
        f"no PostgreSQL driver can be imported by {sys.executable} ({'; '.join(reasons)}).",
        object_name=sys.executable,
        hint=f"Install one for that interpreter: {sys.executable} -m pip install psycopg2-binary (or 'psycopg[binary]>=3.1').",
    )


def _load_psycopg2() -> Driver:
    import psycopg2

    return _Psycopg2(psycopg2)


def _load_psycopg3() -> Driver:
    import psycopg

    version = tuple(int(part) for part in psycopg.__version__.split(".")[:2])
    if version < PSYCOPG_FLOOR:
        raise ImportError(f"psycopg {psycopg.__version__} is older than {'.'.join(map(str, PSYCOPG_FLOOR))}")
    return _Psycopg3(psycopg)


def converter(oid: int) -> Converter:
    """Return the function from the server's text of type `oid` to a JSON-safe value; types without one stay text."""
    if oid == _BOOLEAN:
        return _boolean
    if oid in _INTEGERS:
        return int
    if oid in _FLOATS:
        return _float
    if oid == _NUMERIC:
        return _numeric
    if oid in _JSON:
        return _json
    if oid in _ARRAYS:
        element, delimiter = converter(_ARRAYS[oid]), ";" if oid == 1020 else ","
        return lambda text: parse_array(text, element, delimiter)
    return str


def parse_array(text: str, element: Converter, delimiter: str = ",") -> list[Any]:
    """Return the nested list that the server wrote as `{…}`; bounds in front (`[2:3]={…}`) are left out."""
    stack: list[list[Any]] = [[]]
    position = text.index("{")
    while position < len(text):
        character = text[position]
        if character == "{":
            inner: list[Any] = []
            stack[-1].append(inner)
            stack.append(inner)
        elif character == "}":
            stack.pop()
        elif character != delimiter:
            position = _element(text, position, element, delimiter, stack[-1])
            continue
        position += 1
    return stack[0][0]


def _element(text: str, position: int, element: Converter, delimiter: str, into: list[Any]) -> int:
    """Append the element of `text` at `position` to `into` and return the position after it."""
    if text[position] != '"':
        end = min(found for found in (text.find(delimiter, position), text.find("}", position)) if found >= 0)
        written = text[position:end]
        into.append(None if written == "NULL" else element(written))
        return end
    written, position = "", position + 1
    while text[position] != '"':
        position += text[position] == "\\"
        written += text[position]
        position += 1
    into.append(element(written))
    return position + 1


def array_literal(strings: Iterable[str | None]) -> str:
    """Return PostgreSQL's array literal of `strings`, to be bound as one parameter."""
    return "{" + ",".join("NULL" if item is None else _quoted(item) for item in strings) + "}"


def _quoted(item: str) -> str:
    return '"' + item.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _decoded(data: bytes | None) -> str | None:
    return None if data is None else data.decode("utf-8")


def _boolean(text: str) -> bool:
    return text == "t"


def _float(text: str) -> float | str:
    number = float(text)
    return number if math.isfinite(number) else text


def _numeric(text: str) -> int | float | str:
    whole, _dot, fraction = text.partition(".")
    if whole.lstrip("-").isdigit() and not fraction.strip("0"):
        return int(whole)
    return _float(text)


def _json(text: str) -> Any:
    return json.loads(text, parse_float=_float)
