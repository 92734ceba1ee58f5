# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""psycopg2 or psycopg 3 behind one face: the same call, the same parameters, the same JSON-safe values."""

from __future__ import annotations

import json
import math
import os
import sys
import time
from abc import ABC, abstractmethod
from typing import Any, Callable, Iterable, Mapping, Sequence

from ansible_collections.pgops.runbook.plugins.module_utils._connect_limits import driven, polled
from ansible_collections.pgops.runbook.plugins.module_utils._errors import DriverMissing

# psycopg 3 has cursors that bind on the client side, as psycopg2 does, since 3.1; before this one they trip over a doubled `%`.
PSYCOPG_FLOOR = (3, 1, 4)

_BOOLEAN, _INTEGERS, _FLOATS, _NUMERIC, _JSON = 16, (20, 21, 23, 26), (700, 701), 1700, (114, 3802)
# Array types, which become lists: those whose elements are converted, then those whose elements stay text. The numbers are the
# catalogue's and never change; arrays of an operator's own types (an enum's, say) have no fixed number and stay text.
_ARRAYS = {199: 114, 1000: 16, 1005: 21, 1007: 23, 1016: 20, 1021: 700, 1022: 701, 1028: 26, 1231: 1700, 3807: 3802}
_TEXT_ARRAYS = frozenset({
    143, 271, 629, 651, 719, 775, 791, 1001, 1002, 1003, 1006, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 1015, 1017, 1018, 1019,
    1020, 1027, 1034, 1040, 1041, 1115, 1182, 1183, 1185, 1187, 1263, 1270, 1561, 1563, 2201, 2207, 2208, 2209, 2210, 2211, 2287,
    2949, 2951, 3221, 3643, 3644, 3645, 3735, 3770, 3905, 3907, 3909, 3911, 3913, 3927, 4073, 4090, 4097, 4192, 5039, 6150, 6151,
    6152, 6153, 6155, 6157,
})  # fmt: skip
_BOX_ARRAY = 1020  # the one array type whose delimiter is not a comma

Converter = Callable[[str], Any]


class Driver(ABC):
    """A loaded driver: `module`, its composition module `sql`, its `name` and its base exception `Error`."""

    name = ""

    def __init__(self, module: Any, sql: Any, libpq_version: int) -> None:
        self.module = module
        self.sql = sql
        self.libpq_version = libpq_version
        self.Error = module.Error

    @abstractmethod
    def open(self, parameters: dict[str, str]) -> Any:
        """Return a connection in autocommit made with libpq's `parameters`; the driver's own errors pass through."""

    @abstractmethod
    def execute(self, cursor: Any, text: str, parameters: Any, seconds: float) -> None:
        """Run a statement. Raises Unanswered if the server is silent for `seconds`; the connection is of no more use then."""

    @abstractmethod
    def copy_in(self, cursor: Any, text: str, chunks: Iterable[bytes]) -> None:
        """Run a COPY ... FROM STDIN with the bytes of `chunks`; what `chunks` raises ends it and passes through."""

    @abstractmethod
    def texts(self, cursor: Any) -> list[Sequence[str | None]]:
        """Return every row of `cursor` as the text that the server sent."""

    def adapt(self, value: Any) -> Any:
        """Return a statement's parameter in a form that both drivers bind alike."""
        if not isinstance(value, (list, tuple)):
            return value
        # psycopg2 writes ARRAY['a'], which is text[] and compares with no uuid; a literal takes the type that the statement wants.
        return array_literal(value) if all(item is None or isinstance(item, str) for item in value) else list(value)

    def rows(self, cursor: Any) -> list[dict[str, Any]]:
        """Return every row of `cursor` as a dictionary of JSON-safe values."""
        if cursor.description is None:
            return []
        columns = [(column[0], converter(column[1])) for column in cursor.description]
        return [
            {name: None if text is None else convert(text) for (name, convert), text in zip(columns, texts)} for texts in self.texts(cursor)
        ]


class _Source:
    """What psycopg2 reads a COPY from. It tells the server of a failure in here and then only the server's answer: `failure` keeps it."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self.failure: BaseException | None = None

    def read(self, _size: int) -> bytes:
        """Return the next bytes, none at the end; psycopg2 takes more than it asked for."""
        try:
            return next(filter(None, self._chunks), b"")
        except BaseException as failure:
            self.failure = failure
            raise


class _Psycopg2(Driver):
    name = "psycopg2"

    def __init__(self, module: Any) -> None:
        from psycopg2 import extensions, sql

        super().__init__(module, sql, module.__libpq_version__)
        self._extensions = extensions
        # One caster for every type that psycopg2 knows: types that it does not know are text already.
        self._as_text = extensions.new_type(tuple(extensions.string_types), "PGOPS_TEXT", lambda text, cursor: text)
        self._register = extensions.register_type

    def open(self, parameters: dict[str, str]) -> Any:
        connection = self.module.connect(conninfo(parameters))
        connection.autocommit = True
        self._register(self._as_text, connection)
        return connection

    def execute(self, cursor: Any, text: str, parameters: Any, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        # It belongs to the whole process, and a connection that is made under it has no connect_timeout: so only for this statement.
        self._extensions.set_wait_callback(lambda connection: polled(connection, self._extensions, deadline))
        try:
            cursor.execute(text, parameters)
        finally:
            self._extensions.set_wait_callback(None)

    def copy_in(self, cursor: Any, text: str, chunks: Iterable[bytes]) -> None:
        source = _Source(chunks)
        try:
            cursor.copy_expert(text, source)
        except self.Error:
            if source.failure is not None:
                raise source.failure from None
            raise

    def texts(self, cursor: Any) -> list[Sequence[str | None]]:
        found: list[Sequence[str | None]] = cursor.fetchall()
        return found


class _Psycopg3(Driver):
    name = "psycopg"

    def __init__(self, module: Any) -> None:
        from psycopg import pq, sql, waiting

        super().__init__(module, sql, pq.version())

        class Connection(module.Connection):
            """psycopg 3's own, but for waiting no longer than until `deadline`."""

            deadline = math.inf

            def wait(self, gen: Any, *_interval: Any, **_options: Any) -> Any:
                return driven(gen, self.pgconn.socket, waiting.Ready, self.deadline)

        self._connection = Connection

    def open(self, parameters: dict[str, str]) -> Any:
        if (parameters.get("target_session_attrs") or os.environ.get("PGTARGETSESSIONATTRS")) == "prefer-standby":
            # psycopg 3 tries the hosts one at a time, so that the first primary would satisfy "prefer".
            try:
                return self._connected({**parameters, "target_session_attrs": "standby"})
            except self.module.OperationalError:
                parameters = {**parameters, "target_session_attrs": "any"}
        return self._connected(parameters)

    def _connected(self, parameters: dict[str, str]) -> Any:
        # Without prepared statements, which a pooler may give to another client.
        options = {"autocommit": True, "prepare_threshold": None, "cursor_factory": self.module.ClientCursor}
        return self._connection.connect(conninfo(parameters), **options)

    def execute(self, cursor: Any, text: str, parameters: Any, seconds: float) -> None:
        cursor.connection.deadline = time.monotonic() + seconds
        cursor.execute(text, parameters)

    def copy_in(self, cursor: Any, text: str, chunks: Iterable[bytes]) -> None:
        cursor.connection.deadline = math.inf
        with cursor.copy(text) as copy:
            for chunk in chunks:
                copy.write(chunk)

    def texts(self, cursor: Any) -> list[Sequence[str | None]]:
        result, columns = cursor.pgresult, range(cursor.pgresult.nfields)
        return [[_decoded(result.get_value(row, column)) for column in columns] for row in range(result.ntuples)]


def load() -> Driver:
    """Return psycopg2's driver, or psycopg 3's where that is what is installed. Raises DriverMissing."""
    try:
        return _load_psycopg2()
    except ImportError as error:
        first = error
    try:
        return _load_psycopg3()
    except ImportError as error:
        raise DriverMissing(
            f"neither psycopg2 nor psycopg 3 can be imported by {sys.executable} ({first}; {error}).",
            object_name=sys.executable,
            hint=f"Install one for that interpreter: {sys.executable} -m pip install psycopg2-binary (or 'psycopg[binary]>=3.1.4').",
        ) from None


def _load_psycopg2() -> Driver:
    import psycopg2

    return _Psycopg2(psycopg2)


def _load_psycopg3() -> Driver:
    import psycopg

    version = tuple(int(part) for part in psycopg.__version__.split(".")[:3])
    if version < PSYCOPG_FLOOR:
        raise ImportError(f"psycopg {psycopg.__version__} is older than {'.'.join(map(str, PSYCOPG_FLOOR))}")
    return _Psycopg3(psycopg)


def conninfo(parameters: Mapping[str, str]) -> str:
    """Return libpq's connection string of `parameters`; written here because the drivers' own take words that libpq does not."""
    return " ".join("{}='{}'".format(name, text.replace("\\", "\\\\").replace("'", "\\'")) for name, text in parameters.items())


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
    if oid in _ARRAYS or oid in _TEXT_ARRAYS:
        element, delimiter = converter(_ARRAYS.get(oid, 0)), ";" if oid == _BOX_ARRAY else ","
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
    found: list[Any] = stack[0][0]
    return found


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
