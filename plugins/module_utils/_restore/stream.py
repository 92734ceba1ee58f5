# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rows of one table, or the objects of one schema, out of any backup, as a stream that nothing but the wanted bytes leaves."""

from __future__ import annotations

import re
import tempfile
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Iterator, List, Mapping, Sequence, Tuple

from ansible_collections.pgops.runbook.plugins.module_utils._client.coding import decoders
from ansible_collections.pgops.runbook.plugins.module_utils._client.line import Line
from ansible_collections.pgops.runbook.plugins.module_utils._client.programs import Client
from ansible_collections.pgops.runbook.plugins.module_utils._errors import InvalidValue, MissingObject, Refused
from ansible_collections.pgops.runbook.plugins.module_utils._names import RelationName
from ansible_collections.pgops.runbook.plugins.module_utils._restore.copy_text import CopyText, Header
from ansible_collections.pgops.runbook.plugins.module_utils._tick import Tick

DIRECTORY, CUSTOM, PLAIN = FORMATS = ("directory", "custom", "plain")

_TICK_SECONDS = 1.0
_ENTRY = re.compile(rb"(\d+); \d+ \d+ (.*)")
_LINE_ENDS = re.compile(rb"[\r\n]")


@dataclass(frozen=True)
class Archive:
    """What of a backup holds the database: the folder `database` or one file. `by_program`: a program compressed the folder's members."""

    path: Path
    format: str
    client: Client
    by_program: bool = False
    identity: str | None = None
    gpg_home: str | None = None

    @classmethod
    def of(
        cls, backup: Path, manifest: Mapping[str, Any], client: Client, identity: str | None = None, gpg_home: str | None = None
    ) -> Archive:
        """Return that of the backup in the folder `backup`. Raises InvalidValue where its manifest names none that is known here."""
        dump = manifest["dump"]
        form = str(dump["format"])
        if form not in FORMATS:
            raise InvalidValue(f"the backup {manifest['id']} has the format {form!r}, which this version does not know", object_name=form)
        names = {Path(str(file["path"])).parts[0] for file in manifest["files"]}
        found = sorted(name for name in names if name.split(".")[0] == "database")
        if len(found) != 1:
            raise InvalidValue(f"the manifest of {manifest['id']} names no dump of the database", object_name=str(manifest["id"]))
        by_program = (dump.get("compression") or {}).get("by") == "program"
        return cls(backup / found[0], form, client, by_program, identity, gpg_home)

    def decoders(self, path: Path | None = None) -> List[List[str]]:
        """Return the commands that undo what programs did to the archive's file, or to the member `path` of its folder."""
        return decoders(str(path or self.path), self.identity, self.gpg_home)

    @contextmanager
    def restored(self, *arguments: str, tick: Tick | None = None) -> Iterator[Iterator[bytes]]:
        """Yield what pg_restore writes with `arguments`, for which it may not need the whole file; see `Piped`."""
        command = [self.client.program("pg_restore"), *arguments]
        if self.format == DIRECTORY:
            with Piped(None, [[*command, str(self.path)]], tick) as chunks:
                yield chunks
        else:
            with Piped(self.path, [*self.decoders(), command], tick, whole=False) as chunks:
                yield chunks


class Rows:
    """The rows of a table as they come: `header` says of what, `chunks` are the bytes, to be taken once."""

    def __init__(self, header: Header, chunks: Iterator[bytes]) -> None:
        self.header, self.chunks = header, chunks


@contextmanager
def table_rows(archive: Archive, table: RelationName, tick: Tick | None = None) -> Iterator[Rows]:
    """Yield the rows of `table`. At the block's end the rest is read, and everything that took part has ended well.

    Raises MissingObject where the archive has none, InvalidValue where it is cut off, ProgramFailed, ProgramMissing.
    """
    with ExitStack() as stack:
        text = _dump_with(stack, archive, table, tick)
        for header in text.headers():
            if header.table == table:
                rows = text.rows()
                yield Rows(header, rows)
                for _rest in rows:
                    continue
                break
        else:
            raise MissingObject(f"the backup holds no rows of table {table}", object_name=str(table), hint="Choose another backup.")
        for other in text.headers():
            if other.table == table:
                raise InvalidValue(f"the backup holds rows of {table} twice", object_name=str(table))
        if not text.complete:
            hint = "Verify the backup, and restore from another one."
            raise InvalidValue(f"{archive.path.name} is cut off: its last line is missing", object_name=archive.path.name, hint=hint)


def _dump_with(stack: ExitStack, archive: Archive, table: RelationName, tick: Tick | None) -> CopyText:
    """Return the text of a dump in which the rows of `table` are, perhaps among others; what it takes ends with `stack`."""
    if archive.format == PLAIN:
        chunks = stack.enter_context(Piped(archive.path, archive.decoders(), tick))
        return CopyText(chunks, archive.path.name)
    entries = table_entries(archive, table, tick)
    if archive.format == DIRECTORY and archive.by_program:
        return stack.enter_context(_member(archive, entries, table, tick))
    place = stack.enter_context(_list_file(entries))
    chunks = stack.enter_context(archive.restored("--data-only", "-L", place, "-f", "-", tick=tick))
    return CopyText(chunks, archive.path.name)


@contextmanager
def _member(archive: Archive, entries: Sequence[bytes], table: RelationName, tick: Tick | None) -> Iterator[CopyText]:
    """Yield the rows of a member that pg_restore itself cannot read: it writes what stands around those of an empty one."""
    for entry in entries:
        number = entry.split(b";")[0].decode("ascii")
        around = _around(archive, entry, number, tick)
        headers = [header for header in CopyText([around], archive.path.name).headers() if header.table == table]
        if headers:
            break
    else:
        raise MissingObject(f"the backup holds no rows of table {table}", object_name=str(table), hint="Choose another backup.")
    place = around.rindex(_TERMINATOR)
    members = [path for path in archive.path.glob(f"{number}.dat*") if path.name.split(".")[0] == number]
    if len(members) != 1:
        raise InvalidValue(f"{archive.path} has {len(members)} files for table {table}", object_name=str(archive.path))
    with Piped(members[0], archive.decoders(members[0]), tick) as chunks:
        yield CopyText(_between(around[:place], chunks, around[place + len(_TERMINATOR) :]), members[0].name)


_TERMINATOR = b"\\.\n"


def _between(before: bytes, chunks: Iterator[bytes], after: bytes) -> Iterator[bytes]:
    yield before
    yield from chunks
    yield after


def _around(archive: Archive, entry: bytes, number: str, tick: Tick | None) -> bytes:
    """Return what pg_restore writes for the entry of a table when the table has no rows."""
    with tempfile.TemporaryDirectory(prefix="pgops-") as folder, _list_file([entry]) as place:
        (Path(folder) / "toc.dat").symlink_to(archive.path / "toc.dat")
        (Path(folder) / f"{number}.dat").write_bytes(_TERMINATOR)
        command = [archive.client.program("pg_restore"), "--data-only", "-L", place, "-f", "-", folder]
        with Piped(None, [command], tick) as chunks:
            return b"".join(chunks)


@contextmanager
def schema_text(archive: Archive, schema: str, arguments: Sequence[str], tick: Tick | None = None) -> Iterator[Iterator[bytes]]:
    """Yield the text of everything in `schema`, not of the schema itself; of members that a program compressed, without their rows."""
    words = [f"--schema={schema}", *arguments, "-f", "-"]
    if not (archive.format == DIRECTORY and archive.by_program):
        with archive.restored(*words, tick=tick) as chunks:
            yield chunks
        return
    with tempfile.TemporaryDirectory(prefix="pgops-") as folder:
        (Path(folder) / "toc.dat").symlink_to(archive.path / "toc.dat")
        for number in {path.name.split(".")[0] for path in archive.path.glob("*.dat*")} - {"toc"}:
            (Path(folder) / f"{number}.dat").write_bytes(_TERMINATOR)
        with Piped(None, [[archive.client.program("pg_restore"), *words, folder]], tick) as chunks:
            yield chunks


def schema_entries(archive: Archive, schema: str, tick: Tick | None = None) -> List[bytes]:
    """Return the lines of the table of contents about the schema itself: that it is made, its comment and its privileges.

    Raises Refused where names with spaces in them leave open which those are.
    """
    found: List[bytes] = []
    lines = list(contents(archive, tick))
    quoted = '"' + schema.replace('"', '""') + '"'
    for kind, names in (("SCHEMA -", [schema]), ("COMMENT - SCHEMA", [schema, quoted]), ("ACL - SCHEMA", [schema, quoted])):
        wanted = [_entry_pattern(f"{kind} {name} ") for name in names]
        fitting = [line for line, what in lines if any(pattern.match(what) for pattern in wanted)]
        if len(fitting) > 1:
            hint = "Restore mode=new."
            raise Refused(f"the backup holds schemas that cannot be told apart from {schema!r}", object_name=schema, hint=hint)
        found += fitting
    return found


@contextmanager
def entries_text(
    archive: Archive, entries: Sequence[bytes], arguments: Sequence[str], tick: Tick | None = None
) -> Iterator[Iterator[bytes]]:
    """Yield the text of `entries` of the table of contents."""
    with _list_file(entries) as place, archive.restored("-L", place, *arguments, "-f", "-", tick=tick) as chunks:
        yield chunks


def table_entries(archive: Archive, table: RelationName, tick: Tick | None = None) -> List[bytes]:
    """Return the lines of the table of contents that may be about the rows of `table`: names in it are not told apart for certain.

    Raises MissingObject where there is none.
    """
    wanted = _entry_pattern(f"TABLE DATA {table.schema} {table.name} ")
    found = [line for line, what in contents(archive, tick) if wanted.match(what)]
    if not found:
        raise MissingObject(f"the backup holds no rows of table {table}", object_name=str(table), hint="Choose another backup.")
    return found


def contents(archive: Archive, tick: Tick | None = None) -> Iterator[Tuple[bytes, bytes]]:
    """Yield each line of the archive's table of contents and what of it follows the numbers."""
    with archive.restored("-l", tick=tick) as chunks:
        listed = b"".join(chunks)
    for line in listed.split(b"\n"):
        entry = _ENTRY.match(line)
        if entry:
            yield line, entry.group(2)


def _entry_pattern(text: str) -> Any:
    """Return the pattern of the beginning of an entry: line ends are shown as spaces, other letters in the dump's own encoding."""
    words = _LINE_ENDS.sub(b" ", text.encode("utf-8", "surrogateescape"))
    return re.compile(re.sub(rb"[\x80-\xff]+", rb"[\\x80-\\xff]+", re.escape(words)))


@contextmanager
def _list_file(entries: Sequence[bytes]) -> Iterator[str]:
    """Yield the path of a file with `entries` for pg_restore's -L."""
    with tempfile.NamedTemporaryFile(prefix="pgops-") as file:
        file.write(b"\n".join(entries) + b"\n")
        file.flush()
        yield file.name


class Piped:
    """The bytes of the file `source` behind `commands`, or what the first of them writes without one, for a block.

    The first of them can seek in the file. At the block's end the rest is read, and each command must have ended with 0; unless `whole`,
    the last one may leave off before the end, which breaks the pipes of the others. Raises ProgramFailed, ProgramMissing, InvalidValue for
    a file that cannot be read.
    """

    def __init__(self, source: Path | None, commands: Sequence[Sequence[str]], tick: Tick | None = None, whole: bool = True) -> None:
        self._source, self._commands, self._whole = source, commands, whole
        self._line = Line(None, (), tick, _TICK_SECONDS)
        self._chunks: Iterator[bytes] = iter(())
        self._stack = ExitStack()

    def __enter__(self) -> Iterator[bytes]:
        with ExitStack() as stack:
            place = None if self._source is None else stack.enter_context(_opened(self._source)).fileno()
            stack.enter_context(self._line)
            self._chunks = self._line.chunks(self._line.start(self._commands, stdin=place))
            self._stack = stack.pop_all()
        return self._chunks

    def __exit__(self, kind: Any, *_raised: object) -> None:
        with self._stack:
            if kind is None:
                for _rest in self._chunks:
                    continue
                self._line.settle(self._whole)


def _opened(source: Path) -> BinaryIO:
    try:
        return source.open("rb")
    except OSError as error:
        raise InvalidValue(f"{source} cannot be read: {error.strerror}", object_name=str(source)) from None
