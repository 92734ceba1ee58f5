# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A history in a file: one line of JSON a run, appended under a lock and synced, so that a killed run costs its own line at most."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import stat
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Tuple

from ansible_collections.pgops.runbook.plugins.module_utils._errors import InvalidValue, RunbookError
from ansible_collections.pgops.runbook.plugins.module_utils._health.history.record import RECORDS_READ, Record, moment, usable
from ansible_collections.pgops.runbook.plugins.module_utils._health.history.series import as_written, charted, gathered
from ansible_collections.pgops.runbook.plugins.module_utils._health.history.store import Stored, as_handed

LOCK_SECONDS = 20.0
MODE, FOLDER_MODE = 0o600, 0o700
DAY = 86400.0
_BLOCK = 1 << 16
# What is only looked back on for its course needs no more than that: lines older than this are cut down to it, but for the last few.
WHOLE_SECONDS, WHOLE_LINES = 8 * DAY, 50
# How a line begins that has been cut down.
_CUT = b'{"cut":true,'


class FileRefused(RunbookError):
    """The file cannot be read or written."""


def read(path: str, system: str | None, now: float | None = None) -> Dict[str, Any]:
    """Return the history in the file as pg_health takes it; `system` None means whichever. An absent file is an empty history.

    Raises FileRefused. What a killed run left half written is not read.
    """
    moment_now = time.time() if now is None else now
    records: List[Record] = []
    rows: List[Tuple[float, Dict[str, float]]] = []
    damaged = count = 0
    for line in _lines(path):
        record = _parsed(line)
        at = moment(record) if record else None
        if record is None or at is None:
            damaged += 1
        elif system is None or record["system"] == system:
            count += 1
            cut = record.get("cut") is True
            rows.append((at.timestamp(), record["metrics"] if cut else charted(record["metrics"])))
            records = records if cut else [record, *records[: RECORDS_READ - 1]]
    series = {metric: as_written(points) for metric, points in gathered(rows, moment_now).items()}
    return as_handed(path, Stored(records, {}, count, damaged), series)


def append(path: str, record: Any, keep: float, now: float | None = None) -> Tuple[int, List[str]]:
    """Add a run to the file, drop what is older than `keep` seconds, and return the bytes of the run's line, and notices.

    Raises InvalidValue for what is no snapshot and FileRefused where the file cannot be written; then it is as it was.
    """
    notices: List[str] = []
    snapshot(record)
    line = (json.dumps(record, ensure_ascii=False, separators=(",", ":")) + "\n").encode("utf-8", "replace")
    try:
        Path(path).parent.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        with _locked(path) as (handle, created):
            size = _whole(handle)
            try:
                _write(handle, line)
                os.fsync(handle)
            except OSError:
                os.ftruncate(handle, size)
                raise
            if created:
                _sync_folder(path)
            try:
                today = time.time() if now is None else now
                _retain(path, handle, today, today - keep)
            except OSError as error:
                notices.append(f"{path}: what is too old could not be removed: {error.strerror or error}")
    except OSError as error:
        raise _refused(path, error) from None
    return len(line), notices


def snapshot(record: Any) -> Record:
    """Return `record` if it is a snapshot. Raises InvalidValue."""
    if not usable(record) or not isinstance(record.get("system"), str):
        raise InvalidValue("snapshot: this is not the snapshot of a run of pg_health", object_name="snapshot")
    return dict(record)


def remove(path: str) -> bool:
    """Remove the file and return whether it was there. Raises FileRefused."""
    try:
        Path(path).unlink()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise _refused(path, error) from None
    return True


def _lines(path: str) -> Iterator[bytes]:
    """Yield every line that is whole. A file is replaced as a whole, so that reading needs no lock."""
    try:
        with Path(path).open("rb") as handle:
            if not stat.S_ISREG(os.fstat(handle.fileno()).st_mode):
                raise FileRefused(f"{path} is no file", object_name=path)
            for line in handle:
                if line.endswith(b"\n"):
                    yield line
    except FileNotFoundError:
        return
    except OSError as error:
        raise _refused(path, error) from None


def _parsed(line: bytes) -> Record | None:
    try:
        record = json.loads(line.decode("utf-8"))
    except ValueError:
        return None
    if line.startswith(_CUT):
        return record if isinstance(record.get("metrics"), dict) and isinstance(record.get("system"), str) else None
    return record if usable(record) and isinstance(record.get("system"), str) else None


@contextmanager
def _locked(path: str) -> Iterator[Tuple[int, bool]]:
    """Open the file, which nobody else writes meanwhile; whether it was created is said too."""
    end = time.monotonic() + LOCK_SECONDS
    while True:
        created = not os.path.lexists(path)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, MODE)
        try:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise FileRefused(f"{path} is no file", object_name=path)
            _lock(handle, path, end)
            if _is_still(handle, path):
                if os.fstat(handle).st_mode & 0o077 and os.fstat(handle).st_uid == os.geteuid():
                    os.fchmod(handle, MODE)
                yield handle, created
                return
        finally:
            os.close(handle)


def _lock(handle: int, path: str, end: float) -> None:
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:  # noqa: PERF203  (that is what waiting is)
            if time.monotonic() > end:
                raise FileRefused(f"another process has held {path} for {LOCK_SECONDS:g} s", object_name=path) from None
            time.sleep(0.02)
        else:
            return


def _is_still(handle: int, path: str) -> bool:
    """Return whether the open file is still the one of this name: another run may have replaced it while we waited."""
    try:
        there = Path(path).lstat()
    except FileNotFoundError:
        return False
    return os.path.samestat(os.fstat(handle), there)


def _whole(handle: int) -> int:
    """Cut off a last line that a killed run did not finish, and return the size that is left."""
    size = end = os.fstat(handle).st_size
    while end > 0:
        start = max(0, end - _BLOCK)
        found = os.pread(handle, end - start, start).rfind(b"\n")
        if found >= 0:
            end = start + found + 1
            break
        end = start
    if end < size:
        os.ftruncate(handle, end)
    return end


def _write(handle: int, data: bytes) -> None:
    while data:
        data = data[os.write(handle, data) :]


def _retain(path: str, handle: int, now: float, before: float) -> None:
    """Rewrite the file without what is too old, and less of what is old, once a day's worth of that has come together."""
    lines = list(_lines(path))
    oldest, whole = _time(lines[0]), next((index for index, line in enumerate(lines) if not line.startswith(_CUT)), 0)
    since = _time(lines[whole])
    grown = len(lines) - whole > WHOLE_LINES and (since is None or since < now - WHOLE_SECONDS - DAY)
    if oldest is not None and oldest > before - DAY and not grown:
        return
    fresh = Path(f"{path}.new")
    with suppress(FileNotFoundError):
        # Of a run that was killed here.
        fresh.unlink()
    target = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, stat.S_IMODE(os.fstat(handle).st_mode))
    try:
        try:
            for number, line in enumerate(lines, 1):
                at = _time(line)
                if at is not None and at >= before:
                    old = at < now - WHOLE_SECONDS and number <= len(lines) - WHOLE_LINES
                    _write(target, _cut(line) if old else line)
            os.fsync(target)
        finally:
            os.close(target)
        fresh.replace(path)
    except BaseException:
        fresh.unlink()
        raise
    _sync_folder(path)


def _cut(line: bytes) -> bytes:
    """Return a line with no more than the course of its numbers."""
    record = json.loads(line)
    short = {"time": record["time"], "system": record["system"], "metrics": charted(record["metrics"])}
    return _CUT + json.dumps(short, ensure_ascii=False, separators=(",", ":")).encode("utf-8")[1:] + b"\n"


def _time(line: bytes) -> float | None:
    record = _parsed(line)
    at = moment(record) if record else None
    return at.timestamp() if at else None


def _sync_folder(path: str) -> None:
    handle = os.open(str(Path(path).parent), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _refused(path: str, error: OSError) -> FileRefused:
    hints: Mapping[int, str] = {
        errno.EACCES: "Let the user of the control node write there, or name another file.",
        errno.ENOSPC: "Free some space on that disk.",
    }
    hint = hints.get(error.errno or 0, "Name another file.")
    return FileRefused(f"{path}: {error.strerror or error}", object_name=path, hint=hint)
