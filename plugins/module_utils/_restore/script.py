# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The text of a dump run in the session, and in the transaction, of whoever restores it, who so sees what came of it before anybody else.

No psql takes part, so that nothing in a dump can be a command of psql's. What a dump sets for its session is set for the transaction
only, and not at all where it is about the client or about time.
"""

from __future__ import annotations

import re
from typing import Any, Callable, Iterable, List

from ansible_collections.pgops.runbook.plugins.module_utils._content.session import set_here
from ansible_collections.pgops.runbook.plugins.module_utils._errors import DatabaseError, InvalidValue
from ansible_collections.pgops.runbook.plugins.module_utils._names import RelationName
from ansible_collections.pgops.runbook.plugins.module_utils._restore.copy_text import CopyText, Header, codec

Rows = Callable[[Header, Iterable[bytes]], None]

_ENTRY = re.compile(rb"-- (?:Data for )?Name: (.*?); Type: (.*?); ")
_SETTING = re.compile(rb"SET (\w+) = (.*);|SELECT pg_catalog\.set_config\('(\w+)', '(.*)', false\);")
_NOT_SET = {b"client_encoding", b"standard_conforming_strings"}
_ABOUT_TIME = b"_timeout"
_QUOTED_VALUE = re.compile(r': ".*', re.DOTALL)


class Script:
    """Runs one dump in the transaction that is open; `rows` takes the rows of a table, and puts them where they belong."""

    def __init__(self, database: Any, chunks: Iterable[bytes], origin: str, rows: Rows) -> None:
        self._database, self._origin, self._rows = database, origin, rows
        self._text = CopyText(chunks, origin, self._line)
        self._entry = origin
        self._statements: List[bytes] = []

    def run(self) -> None:
        """Run all of it. Raises DatabaseError that names the object, InvalidValue where the dump is cut off."""
        for header in self._text.headers():
            self._flush()
            self._rows(header, self._text.rows())
        self._flush()
        if not self._text.complete:
            hint = "Verify the backup, and restore from another one."
            raise InvalidValue(f"{self._origin} is cut off: its last line is missing", object_name=self._origin, hint=hint)

    def _line(self, line: bytes, begins: bool) -> None:
        """Take a line of SQL; what comes between two entries of the dump's contents goes to the server in one piece."""
        entry = _ENTRY.match(line) if begins else None
        if entry:
            self._flush()
            self._entry = b" ".join((entry.group(2).lower(), entry.group(1))).decode("utf-8", "replace")
        setting = _SETTING.fullmatch(line) if begins else None
        if setting:
            self._flush()
            self._set(*(setting.group(1, 2) if setting.group(1) else setting.group(3, 4)))
        else:
            self._statements.append(line)

    def _set(self, name: bytes, value: bytes) -> None:
        if name not in _NOT_SET and not name.endswith(_ABOUT_TIME):
            set_here(self._database, name.decode("ascii"), value.decode("utf-8", "replace").strip("'"))

    def _flush(self) -> None:
        statements, self._statements = self._statements, []
        if all(not line.strip() or line.startswith(b"--") for line in statements):
            return
        text = b"\n".join(statements).decode(codec(self._text.encoding), "surrogateescape")
        try:
            self._database.execute(text)
        except DatabaseError as error:
            raise self._failed(error) from None

    def _failed(self, error: DatabaseError) -> DatabaseError:
        return DatabaseError(f"{self._entry}: {error.message}", object_name=self._entry, sqlstate=error.sqlstate, hint=error.hint)


def copy_rows(database: Any, header: Header, chunks: Iterable[bytes], place: RelationName) -> int:
    """Load rows into `place`, made in the same transaction, and return how many there were.

    They are there for transactions that began before this one, too: for them the table would else be empty. Raises DatabaseError, without
    the value that the server quotes.
    """
    sql = database.sql
    columns = sql.SQL(" ({})").format(sql.SQL(", ").join(map(sql.Identifier, header.columns))) if header.columns else sql.SQL("")
    statement = sql.SQL("COPY {}{} FROM STDIN WITH (FREEZE, ENCODING {})")
    statement = statement.format(place.identifier(sql), columns, sql.Literal(header.encoding))
    try:
        return int(database.copy_in(statement, chunks))
    except DatabaseError as error:
        raise DatabaseError(
            f"the rows of the backup do not fit into table {header.table}: {_QUOTED_VALUE.sub('', error.message)}",
            object_name=str(header.table),
            sqlstate=error.sqlstate,
            hint=error.hint,
        ) from None
