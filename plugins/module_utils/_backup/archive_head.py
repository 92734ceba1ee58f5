# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The head of an archive that pg_dump wrote: the first bytes of a custom dump, or of the `toc.dat` of a directory."""

from __future__ import annotations

from dataclasses import dataclass

LONGEST = 8192  # bytes that the head may take: three names and a dozen numbers

_MAGIC = b"PGDMP"
_METHOD_SINCE = (1, 15)  # before, the head held a level of gzip in place of a method
_MOMENT = 7  # seconds, minutes, hours, day, month, year, daylight saving
# A directory's table of contents says that it is one of tar, ever since there are directories.
_FORMATS = {1: "custom", 3: "directory", 5: "directory"}


@dataclass(frozen=True)
class ArchiveHead:
    """What an archive says of itself: its format, the database that was dumped, and the versions of the server and of pg_dump."""

    format: str
    database: str
    server: str
    client: str


def read_archive_head(start: bytes) -> ArchiveHead:
    """Return what the first bytes of an archive say. Raises ValueError where they are no such head."""
    if not start.startswith(_MAGIC):
        raise ValueError("it does not begin as an archive of pg_dump does")
    try:
        major, minor, _revision, width, _offsets, code = start[5:11]
        if code not in _FORMATS:
            raise ValueError(f"it is an archive of an unknown format ({code})")
        reader = _Reader(start, 11, width)
        if (major, minor) >= _METHOD_SINCE:
            reader.place += 1
        else:
            reader.number()
        for _part in range(_MOMENT):
            reader.number()
        return ArchiveHead(_FORMATS[code], reader.text(), reader.text(), reader.text())
    except IndexError:
        raise ValueError("its head is cut off") from None


class _Reader:
    """Reads numbers and texts as the archiver writes them: a sign, `width` bytes from the lowest up; a text after its length."""

    def __init__(self, content: bytes, place: int, width: int) -> None:
        self.content = content
        self.place = place
        self.width = width

    def number(self) -> int:
        """Return the next number. Raises IndexError at the end."""
        sign = self.content[self.place]
        value = int.from_bytes(self._bytes(self.place + 1, self.width), "little")
        self.place += 1 + self.width
        return -value if sign else value

    def text(self) -> str:
        """Return the next text, empty where there is none. Raises IndexError at the end."""
        length = max(self.number(), 0)
        found = self._bytes(self.place, length)
        self.place += length
        return found.decode("utf-8", "replace")

    def _bytes(self, place: int, length: int) -> bytes:
        if place + length > len(self.content):
            raise IndexError
        return self.content[place : place + length]
