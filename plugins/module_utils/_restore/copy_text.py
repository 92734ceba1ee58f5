# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rows of tables in the text of a dump: from the line `COPY schema.table (columns) FROM stdin;` to the line `\\.`.

A line that only looks like one of these, in a row, in a function's body or in a comment, is not taken for it: rows are skipped as
rows, and everything else is read as SQL, with its quotes.
"""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass
from typing import Callable, Iterable, Iterator, List, Optional, Tuple

from ansible_collections.pgops.runbook.plugins.module_utils._errors import InvalidValue
from ansible_collections.pgops.runbook.plugins.module_utils._names import RelationName

COMPLETE = b"-- PostgreSQL database dump complete"

_WORD = rb"[A-Za-z0-9_$\x80-\xff]"
_NAME = rb'"(?:[^"]|"")+"|[a-z_\x80-\xff][a-z0-9_$\x80-\xff]*'
_HEADER = re.compile(rb"COPY (?P<schema>" + _NAME + rb")\.(?P<table>" + _NAME + rb") (?:\((?P<columns>.*)\))? ?FROM stdin;", re.DOTALL)
_COLUMN = re.compile(_NAME)
_ENCODING = re.compile(rb"SET client_encoding = '([A-Za-z0-9_]+)';")
# What opens something in which nothing else means what it usually does; and, in escaped texts, nested comments and so on, what ends it.
_OPENS = re.compile(rb"--|/\*|(?<!" + _WORD + rb")[Ee]'|['\"]|(?<!" + _WORD + rb")\$(?:[A-Za-z_\x80-\xff][A-Za-z0-9_\x80-\xff]*)?\$")
_IN_ESCAPED, _IN_COMMENT = re.compile(rb"\\.|'", re.DOTALL), re.compile(rb"/\*|\*/")
_END_OF_ROWS = b"\n\\.\n"


@dataclass(frozen=True)
class Header:
    """Whose rows come: the table, the columns that each row has, and the encoding of the text."""

    table: RelationName
    columns: Tuple[str, ...]
    encoding: str


class CopyText:
    """Reads the bytes of a dump in one pass; `origin` names it in errors.

    `other` gets every line of SQL that is no header of rows, and whether it begins where a statement may.
    """

    def __init__(self, chunks: Iterable[bytes], origin: str, other: Callable[[bytes, bool], None] | None = None) -> None:
        self._chunks, self._origin, self._other = iter(chunks), origin, other
        self._buffer, self._at = b"", 0
        self._encoding = "UTF8"
        self._sql = _Sql()
        self.complete = False

    def headers(self) -> Iterator[Header]:
        """Yield each table's header. Whoever wants its rows takes them by `rows` before the next; others are passed over.

        After the last, `complete` says whether the dump ends as pg_dump ends one.
        """
        while True:
            line = self._line()
            if line is None:
                return
            header = self._read(line)
            if header is None:
                continue
            self._rows = self._take()
            yield header
            for _rest in self._rows:
                continue

    def rows(self) -> Iterator[bytes]:
        """Return the rows of the header that was yielded last, in pieces of any length. Raises InvalidValue where the dump is cut off."""
        return self._rows

    def _read(self, line: bytes) -> Optional[Header]:
        """Read a line of SQL, and the rest of a statement that begins with COPY."""
        if not self._sql.inside:
            if line.startswith(b"\\"):
                return None  # psql's own, such as \restrict
            self.complete = self.complete or line.startswith(COMPLETE)
            encoding = _ENCODING.match(line)
            if encoding:
                self._encoding = encoding.group(1).decode("ascii")
            if line.startswith(b"COPY "):
                return self._header(line)
        if self._other is not None:
            self._other(line, not self._sql.inside)
        self._sql.read(line)
        return None

    @property
    def encoding(self) -> str:
        """The encoding of the text, as the server calls it."""
        return self._encoding

    def _header(self, line: bytes) -> Optional[Header]:
        self._sql.read(line)
        while self._sql.inside:
            # A name may hold the end of a line.
            more = self._line()
            if more is None:
                raise self._cut_off("a name")
            line += b"\n" + more
            self._sql.read(more)
        match = _HEADER.fullmatch(line)
        if match is None:
            return None
        columns = tuple(self._name(found.group()) for found in _COLUMN.finditer(match.group("columns") or b""))
        return Header(RelationName(self._name(match.group("schema")), self._name(match.group("table"))), columns, self._encoding)

    def _name(self, written: bytes) -> str:
        plain = written[1:-1].replace(b'""', b'"') if written.startswith(b'"') else written
        return plain.decode(codec(self._encoding), "surrogateescape")

    def _take(self) -> Iterator[bytes]:
        """Yield the bytes up to the end of the rows; the line end before the first row stands for the one of the header."""
        self._buffer, self._at = b"\n" + self._buffer[self._at :], 0
        first = True
        while True:
            end = self._buffer.find(_END_OF_ROWS, self._at)
            until = end + 1 if end >= 0 else max(len(self._buffer) - len(_END_OF_ROWS) + 1, self._at)
            piece = self._buffer[self._at + first : until] if until > self._at else b""
            first = first and until <= self._at
            self._at = until
            if end >= 0:
                self._at = end + len(_END_OF_ROWS)
            if piece:
                yield piece
            if end >= 0:
                return
            if not self._more():
                raise self._cut_off("the rows of a table")

    def _line(self) -> Optional[bytes]:
        searched = self._at
        while True:
            end = self._buffer.find(b"\n", searched)
            if end >= 0:
                line, self._at = self._buffer[self._at : end], end + 1
                return line
            searched = len(self._buffer) - self._at
            if not self._more():
                line, self._at = self._buffer[self._at :], len(self._buffer)
                return line or None

    def _more(self) -> bool:
        """Read another piece, with what is not yet used at the start of the buffer."""
        piece = next(self._chunks, b"")
        self._buffer, self._at = self._buffer[self._at :] + piece, 0
        return bool(piece)

    def _cut_off(self, where: str) -> InvalidValue:
        hint = "Verify the backup, and restore from another one."
        return InvalidValue(f"{self._origin} is cut off: it ends within {where}", object_name=self._origin, hint=hint)


class _Sql:
    """Follows quotes, comments and dollar quotes through lines of SQL; `inside` is what the next line begins in, empty for nothing."""

    def __init__(self) -> None:
        self._open: List[bytes] = []

    @property
    def inside(self) -> bool:
        return bool(self._open)

    def read(self, line: bytes) -> None:
        at = 0
        while at < len(line):
            at = self._close(line, at) if self._open else self._next(line, at)

    def _next(self, line: bytes, at: int) -> int:
        found = _OPENS.search(line, at)
        if found is None or found.group() == b"--":
            return len(line)
        self._open.append(found.group().upper() if found.group() in (b"e'", b"E'") else found.group())
        return found.end()

    def _close(self, line: bytes, at: int) -> int:
        opened = self._open[-1]
        if opened in (b"E'", b"/*"):
            found = (_IN_ESCAPED if opened == b"E'" else _IN_COMMENT).search(line, at)
            if found is None:
                return len(line)
            if found.group() == b"/*":
                self._open.append(b"/*")
            elif found.group() in (b"'", b"*/"):
                self._open.pop()
            return found.end()
        # A doubled quote ends the text and begins the next one, which comes to the same.
        end = line.find(opened, at)
        if end < 0:
            return len(line)
        self._open.pop()
        return end + len(opened)


def codec(encoding: str) -> str:
    """Return Python's name of a server's encoding; texts of one that it does not know are taken for UTF-8."""
    try:
        return codecs.lookup(_CODECS.get(encoding) or encoding.replace("WIN", "cp")).name
    except LookupError:
        return "utf-8"


_CODECS = {f"LATIN{number}": f"iso8859-{part}" for number, part in ((5, 9), (6, 10), (7, 13), (8, 14), (9, 15), (10, 16))}
_CODECS.update({f"ISO_8859_{part}": f"iso8859-{part}" for part in (5, 6, 7, 8)})
_CODECS.update({"KOI8R": "koi8-r", "KOI8U": "koi8-u", "EUC_CN": "gb2312"})
