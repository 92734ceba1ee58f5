# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The database in which a restore grows under a hidden name, and its way to the name under which it is used.

A hidden database is called `pgops_restore_<8 hexadecimal digits>`. The run holds an advisory lock of that name as long as it lives, so that
the next one knows what a dead run has left and drops it.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from datetime import datetime, timezone
from typing import Any, Dict, List, Mapping, Sequence, Tuple

from ansible_collections.pgops.runbook.plugins.module_utils._backup.naming import RESTORING, is_restoring
from ansible_collections.pgops.runbook.plugins.module_utils._errors import Busy, DatabaseError, InvalidValue, Refused, RunbookError
from ansible_collections.pgops.runbook.plugins.module_utils._lock import lock_key, release_lock, take_lock
from ansible_collections.pgops.runbook.plugins.module_utils._restore.sessions import Sessions

DEFAULT_TABLESPACE = "pg_default"
LIBC, ICU, BUILTIN = "libc", "icu", "builtin"
_MARK = "pgops.runbook/pg_restore"
_LONGEST_NAME = 63  # bytes
_TRIES = 5  # to find a database without sessions; the server itself waits five seconds each time
_SECONDS_TO_LEAVE = 2.0
_IN_USE = "55006"
_FORCE = 130000  # the first server that ends the sessions of a database that is dropped

_ALL = """
SELECT d.datname AS name, pg_catalog.shobj_description(d.oid, 'pg_database') AS said FROM pg_catalog.pg_database d ORDER BY d.datname
"""
_LOCKS = """
SELECT (l.classid::bigint << 32) | l.objid::bigint AS key FROM pg_catalog.pg_locks l
WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
"""
_ELSEWHERE = """
SELECT a.pid, a.usename, a.application_name, a.datname
FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 AND l.pid <> pg_catalog.pg_backend_pid()
  AND (l.classid::bigint << 32) | l.objid::bigint = %s
LIMIT 1
"""
_SUBSCRIPTIONS = """
SELECT s.subname AS name FROM pg_catalog.pg_subscription s JOIN pg_catalog.pg_database d ON d.oid = s.subdbid WHERE d.datname = %s
"""
_SESSIONS = """
SELECT a.pid, a.usename, a.application_name FROM pg_catalog.pg_stat_activity a
WHERE a.datname = %s AND a.pid <> pg_catalog.pg_backend_pid() AND a.usesysid IS NOT NULL ORDER BY a.backend_start, a.pid
"""
# Sessions of superusers, and of roles that the session's own is not in.
_ENDLESS = """
SELECT a.pid, a.usename, a.application_name
FROM pg_catalog.pg_stat_activity a JOIN pg_catalog.pg_roles r ON r.oid = a.usesysid
CROSS JOIN pg_catalog.pg_roles me
WHERE a.datname = %s AND a.pid <> pg_catalog.pg_backend_pid() AND me.rolname = current_user AND NOT me.rolsuper
  AND (r.rolsuper OR NOT (pg_catalog.pg_has_role(r.oid, 'MEMBER') OR pg_catalog.pg_has_role('pg_signal_backend', 'MEMBER')))
ORDER BY a.backend_start, a.pid
"""
_TERMINATE = """
SELECT count(pg_catalog.pg_terminate_backend(a.pid)) FROM pg_catalog.pg_stat_activity a
WHERE a.datname = %s AND a.pid <> pg_catalog.pg_backend_pid() AND a.usesysid IS NOT NULL
  AND (%s OR pg_catalog.pg_has_role(a.usesysid, 'MEMBER'))
"""
_TABLESPACE = "SELECT EXISTS (SELECT FROM pg_catalog.pg_tablespace t WHERE t.spcname = %s)"
_COLUMNS = """
SELECT a.attname AS name FROM pg_catalog.pg_attribute a
WHERE a.attrelid = 'pg_catalog.pg_database'::pg_catalog.regclass AND a.attnum > 0 AND NOT a.attisdropped
"""
_EMPTY = """
SELECT NOT EXISTS (
    SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
      AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
                      WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid AND d.deptype = 'e'))
  AND NOT EXISTS (
    SELECT FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
    WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
      AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
                      WHERE d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND d.objid = p.oid AND d.deptype = 'e'))
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_largeobject_metadata)
"""


def hidden_name() -> str:
    """Return a name that no database has, and no relation."""
    return RESTORING + secrets.token_hex(4)


def exists(database: Any, name: str) -> bool:
    """Say whether there is a database of that name."""
    return bool(database.value("SELECT EXISTS (SELECT FROM pg_catalog.pg_database d WHERE d.datname = %s)", (name,)))


def is_empty(session: Any) -> bool:
    """Say whether the database of a session holds nothing that anybody made, but for extensions."""
    return bool(session.value(_EMPTY))


def hold(database: Any, hidden: str) -> None:
    """Say, as long as this session lives, that the hidden database is at work. Before it is made."""
    take_lock(database, hidden)


def take_target(database: Any, operation: str) -> None:
    """Take the lock of `operation` for this session, whatever database the others have logged in to. Raises Busy.

    The server keeps such locks apart by database. Of two runs that take theirs at once, both are told.
    """
    take_lock(database, operation)
    other = database.row(_ELSEWHERE, (lock_key(operation),))
    if other is None:
        return
    release_lock(database, operation)
    who = f"{other['usename']} (pid {other['pid']}, {other['application_name'] or 'no application_name'}, on database {other['datname']})"
    raise Busy(f"another run of {operation} is at work: {who}", object_name=operation, hint="Wait for it to end, or end that session.")


def let_go(database: Any, hidden: str) -> None:
    """Take that back."""
    release_lock(database, hidden)


def leftovers(database: Any, sessions: Sessions) -> List[str]:
    """Return the hidden databases of runs that are dead."""
    before = {row["name"] for row in database.rows(_ALL) if is_restoring(row["name"])}
    if not before:
        return []
    # A run takes its lock before it makes the database, and keeps it until that has gone or got its name: one that begins between these
    # questions is not in the first answer, and one that ends is not in the last.
    alive = {row["key"] for row in database.rows(_LOCKS)}
    found = [row for row in database.rows(_ALL) if row["name"] in before and lock_key(row["name"]) not in alive]
    return [row["name"] for row in found if _ours(sessions, row["name"], row["said"])]


def _ours(sessions: Sessions, name: str, said: str | None) -> bool:
    """Say whether a database of such a name is ours: it says so, or is empty, since its run was killed before it came to say so."""
    if said is not None:
        return _MARK in said
    try:
        with sessions.open(name, read_only=True) as session:
            return is_empty(session)
    except RunbookError:
        return False


def drop_leftovers(database: Any, sessions: Sessions) -> Tuple[List[str], List[str]]:
    """Drop the hidden databases of runs that are dead; return those that are gone, and a sentence about each that is not."""
    gone, said = [], []
    for name in leftovers(database, sessions):
        fault = _fault_of_dropping(database, sessions, name)
        if fault is None:
            gone.append(name)
        else:
            said.append(f"database {name}, which a run that was killed has left, could not be dropped: {fault}")
    return gone, said


def _fault_of_dropping(database: Any, sessions: Sessions, name: str) -> str | None:
    try:
        drop_database(database, sessions, name)
    except RunbookError as error:
        if database.closed:
            raise
        return error.message
    return None


def create_hidden(database: Any, hidden: str, settings: Mapping[str, Any], *, run: Mapping[str, Any]) -> None:
    """Make the empty database `hidden` with the encoding and the locale of `settings`; nobody else may connect to it.

    Raises InvalidValue where this server has no such databases.
    """
    sql = database.sql
    words, parameters = locale_words(settings, {row["name"] for row in database.rows(_COLUMNS)})
    parts = [sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(hidden)), *map(sql.SQL, words)]
    space = settings.get("tablespace") or DEFAULT_TABLESPACE
    # To name the default one takes a privilege on it, to get it none.
    if space != DEFAULT_TABLESPACE and database.value(_TABLESPACE, (space,)):
        parts.append(sql.SQL("TABLESPACE {}").format(sql.Identifier(space)))
    statement = sql.SQL(" ").join(parts)
    try:
        database.execute(statement, parameters)
    except DatabaseError as error:
        hint = error.hint or "Look whether the operating system of the server has the locale that the backup names."
        raise DatabaseError(
            f"the database to restore into cannot be made: {error.message}", object_name=hidden, sqlstate=error.sqlstate, hint=hint
        ) from None
    told = json.dumps({"by": _MARK, **run}, sort_keys=True)
    database.execute(sql.SQL("COMMENT ON DATABASE {} IS %s").format(sql.Identifier(hidden)), (told,))
    database.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(sql.Identifier(hidden)))


def locale_words(settings: Mapping[str, Any], columns: Any) -> Any:
    """Return the options of CREATE DATABASE, and their parameters, that `settings` mean on a server whose pg_database has `columns`.

    Raises InvalidValue where the server has no such databases.
    """
    provider = str(settings.get("locale_provider") or LIBC)
    chosen: Dict[str, Any] = {"ENCODING": settings["encoding"], "LC_COLLATE": settings["collate"], "LC_CTYPE": settings["ctype"]}
    if provider != LIBC and not (provider == ICU and "datlocprovider" in columns) and not (provider == BUILTIN and "datlocale" in columns):
        raise InvalidValue(
            f"the database was one with the locale provider {provider}, which this server does not have for databases",
            object_name="target",
            hint="Restore to a server of at least the major version of the one that was backed up.",
        )
    words: List[str] = []
    if "datlocprovider" in columns:
        words.append({LIBC: "LOCALE_PROVIDER libc", ICU: "LOCALE_PROVIDER icu", BUILTIN: "LOCALE_PROVIDER builtin"}[provider])
    if provider == ICU:
        chosen["ICU_LOCALE"] = settings["icu_locale"]
        if settings.get("icu_rules") and "daticurules" in columns:
            chosen["ICU_RULES"] = settings["icu_rules"]
    if provider == BUILTIN:
        chosen["BUILTIN_LOCALE"] = settings["icu_locale"]
    return [*words, *(f"{name} %s" for name in chosen)], list(chosen.values())


def drop_database(database: Any, sessions: Sessions, name: str) -> None:
    """Drop a database that nobody needs any more, and end whatever sessions it has. Raises DatabaseError."""
    if not exists(database, name):
        return
    _drop_subscriptions(database, sessions, name)
    for _number in range(_TRIES - 1):
        if _dropped(database, name):
            return
    if not _dropped(database, name):
        raise in_use(name, sessions_of(database, name))


def _dropped(database: Any, name: str) -> bool:
    """Try to drop a database; False where a session has come in between."""
    sql = database.sql
    try:
        if database.server_version >= _FORCE:
            database.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
        else:
            database.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(sql.Identifier(name)))
            terminate(database, name)
            database.execute(sql.SQL("DROP DATABASE IF EXISTS {}").format(sql.Identifier(name)))
    except DatabaseError as error:
        if error.sqlstate != _IN_USE:
            raise
        return False
    return True


def _drop_subscriptions(database: Any, sessions: Sessions, name: str) -> None:
    """Remove restored subscriptions, without which a database is not dropped; their slots are the source's and stay."""
    found = [row["name"] for row in database.rows(_SUBSCRIPTIONS, (name,))]
    if not found:
        return
    with sessions.open(name) as inside:
        for subscription in map(inside.sql.Identifier, found):
            for words in ("ALTER SUBSCRIPTION {} DISABLE", "ALTER SUBSCRIPTION {} SET (slot_name = NONE)", "DROP SUBSCRIPTION {}"):
                inside.execute(inside.sql.SQL(words).format(subscription))


def sessions_of(database: Any, name: str) -> List[Dict[str, Any]]:
    """Return the sessions on a database: pid, usename, application_name."""
    found: List[Dict[str, Any]] = database.rows(_SESSIONS, (name,))
    return found


def lasting_sessions(database: Any, name: str) -> List[Dict[str, Any]]:
    """Return the sessions on a database after those that are just ending have had the time to."""
    until = time.monotonic() + _SECONDS_TO_LEAVE
    found = sessions_of(database, name)
    while found and time.monotonic() < until:
        time.sleep(0.05)
        found = sessions_of(database, name)
    return found


def sessions_to_stay(database: Any, name: str) -> List[Dict[str, Any]]:
    """Return those of the sessions on a database that the session's role may not end."""
    found: List[Dict[str, Any]] = database.rows(_ENDLESS, (name,))
    return found


_MAY_BE_ENDED = "Stop what uses it, or have its sessions ended with disconnect=true."


def in_use(name: str, found: Sequence[Mapping[str, Any]], hint: str = _MAY_BE_ENDED) -> Refused:
    """Return the refusal to take the name from a database with sessions."""
    who = ", ".join(
        f"{one['usename'] or 'a process'} (pid {one['pid']}, {one['application_name'] or 'no application_name'})" for one in found[:5]
    )
    return Refused(
        f"{len(found)} session{' is' if len(found) == 1 else 's are'} on database {name}: {who}{' and others' if len(found) > 5 else ''}",
        object_name=name,
        hint=hint,
    )


def terminate(database: Any, name: str, *, all_roles: bool = True) -> int:
    """End the sessions on a database, or those of the session's own roles, and return how many there were. Raises DatabaseError."""
    return int(database.value(_TERMINATE, (name, all_roles)) or 0)


def kept_name(name: str, moment: datetime) -> str:
    """Return the name that something has after another one has taken its place.

    Names that are cut for it stay as different as they were, by a hash of the whole.
    """
    end = f"_before_{moment.astimezone(timezone.utc).strftime('%Y%m%d_%H%M%S')}"
    whole = name.encode("utf-8")
    if len(whole) + len(end) > _LONGEST_NAME:
        end = f"_{hashlib.sha256(whole).hexdigest()[:8]}{end}"
    return whole[: _LONGEST_NAME - len(end)].decode("utf-8", "ignore") + end


def rename(database: Any, old: str, new: str) -> None:
    """Rename a database without sessions; from then on, until the transaction ends, those that want to connect to it wait."""
    sql = database.sql
    database.execute(sql.SQL("ALTER DATABASE {} RENAME TO {}").format(sql.Identifier(old), sql.Identifier(new)))
