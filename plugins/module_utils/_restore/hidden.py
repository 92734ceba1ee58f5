# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A backup restored into a database of its own under a hidden name, and compared there; the database goes unless somebody keeps it."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Iterator, List

from ansible_collections.pgops.runbook.plugins.module_utils._backup.manifest import iso
from ansible_collections.pgops.runbook.plugins.module_utils._client.child import Child
from ansible_collections.pgops.runbook.plugins.module_utils._client.login import client_login
from ansible_collections.pgops.runbook.plugins.module_utils._content.session import measuring
from ansible_collections.pgops.runbook.plugins.module_utils._errors import DatabaseError, RunbookError
from ansible_collections.pgops.runbook.plugins.module_utils._restore import databases
from ansible_collections.pgops.runbook.plugins.module_utils._restore.load import load
from ansible_collections.pgops.runbook.plugins.module_utils._restore.outcome import Compared, Comparison, left_out_kinds
from ansible_collections.pgops.runbook.plugins.module_utils._restore.prepare import finish, prepare
from ansible_collections.pgops.runbook.plugins.module_utils._restore.request import rehearsed
from ansible_collections.pgops.runbook.plugins.module_utils._restore.run import Run
from ansible_collections.pgops.runbook.plugins.module_utils._restore.settings import apply_settings

_MOST_NAMES = 5000  # of at most 135 bytes each: a command line has room for two megabytes
_RELATIONS = """
SELECT pg_catalog.format('%I.%I', n.nspname, c.relname) AS name, c.relkind = 'p' AS partitioned
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'm', 'p') AND c.relpersistence <> 't' AND NOT c.relispartition AND NOT c.relisshared
"""


@dataclass
class Hidden:
    """A hidden database. `kept` is set by whoever has given it another name."""

    name: str
    kept: bool = False


@contextmanager
def hidden_database(run: Run) -> Iterator[Hidden]:
    """Make the empty database that the backup of `run` is restored into, and drop it after the block unless it is kept."""
    hidden = Hidden(databases.hidden_name())
    databases.hold(run.database, hidden.name)
    try:
        with run.phase("create"):
            told = {
                "target": run.target,
                "backup": run.backup.id,
                "since": iso(datetime.now(timezone.utc)),
                "pid": run.database.backend_pid,
            }
            databases.create_hidden(run.database, hidden.name, run.manifest["settings"], run=told)
        yield hidden
    except BaseException as error:
        _drop_after(run, hidden, error)
        raise
    else:
        if not hidden.kept:
            databases.drop_database(run.database, run.sessions, hidden.name)
    finally:
        databases.let_go(run.database, hidden.name)


def _drop_after(run: Run, hidden: Hidden, error: BaseException) -> None:
    """Drop the database after `error`, which stays the one that is told."""
    try:
        if not run.database.closed:
            databases.drop_database(run.database, run.sessions, hidden.name)
            return
        # The session was lost, and the server may be there again.
        with run.sessions.open(run.database.name) as again:
            databases.drop_database(again, run.sessions, hidden.name)
    except RunbookError as other:
        if isinstance(error, RunbookError):
            left = f"The database {hidden.name} could not be dropped ({other.message}); the next run does that."
            error.hint = f"{error.hint} {left}" if error.hint else left


def fill(run: Run, name: str) -> None:
    """Load the backup into the hidden database `name`. Raises RunbookError; what has been loaded till then is of no use."""
    with run.phase("create"), run.open(name) as session:
        prepare(session, run.backup.path, run.manifest)
    login = run.sessions.of(name)
    run.add_phases(load(login, run.server.version_num, run.archive, run.manifest, run.loading, run.tick, run.count_table))
    if run.options.privileges:
        with run.phase("post_data"), run.open(name) as session:
            finish(session, run.backup.path, run.manifest)


def compare(run: Run, name: str) -> Compared:
    """Compare what the database `name` holds with the backup. Raises DatabaseError."""
    with _comparing(run, name) as comparison:
        comparison.read_structure()
        comparison.read_rows(workers=run.options.jobs, tick=run.tick)
        return comparison.compared()


def compare_till_different(run: Run, name: str) -> Compared:
    """Compare as `compare` does, without a look at the rows of a database that is another one altogether. Raises DatabaseError."""
    with _comparing(run, name) as comparison:
        comparison.read_structure()
        found = comparison.compared()
        if found.differences:
            return found
        comparison.read_rows(workers=run.options.jobs, tick=run.tick)
        return comparison.compared()


@contextmanager
def _comparing(run: Run, name: str) -> Iterator[Comparison]:
    left_out = left_out_kinds(run.options.owners, run.options.privileges)
    with run.phase("compare"), run.open(name, read_only=True) as session, measuring(session):
        yield Comparison(session, run.backup.path, run.manifest, leave_out=left_out)


@contextmanager
def analyzing(run: Run, name: str) -> Iterator[None]:
    """Gather the planner's statistics, which no dump holds, while the block runs. Raises DatabaseError, ProgramFailed.

    With several sessions vacuumdb does it. Of its own accord it leaves out partitioned tables, whose ANALYZE is that of their partitions,
    too: where there are such tables, it is told those and the others by name.
    """
    parts = _shares(run, name) if run.options.jobs > 1 else []
    if not parts:
        yield
        with run.phase("analyze"), run.open(name) as session:
            session.execute("ANALYZE")
        return
    with ExitStack() as stack:
        login = stack.enter_context(client_login(run.sessions.of(name), name, run.options.application_name))
        program = [run.client.program("vacuumdb"), *login.arguments, "--analyze-only", "--quiet"]
        environment = {**login.role_in_environment(), "PGCLIENTENCODING": "UTF8"}
        children = [stack.enter_context(Child([*program, *words], environment=environment, secrets=login.secrets)) for words in parts]
        yield
        with run.phase("analyze"):
            for child in children:
                child.check(run.tick)


def _shares(run: Run, name: str) -> List[List[str]]:
    """Return what each vacuumdb is told that together analyze everything; none where the names would not fit on a command line."""
    jobs = run.options.jobs
    with run.open(name) as session:
        found = session.rows(_RELATIONS)
    whole, others = ([f"--table={row['name']}" for row in found if row["partitioned"] is wanted] for wanted in (True, False))
    if not whole:
        return [[f"--jobs={jobs}"]]
    if len(found) > _MOST_NAMES:
        return []
    return [[f"--jobs={min(jobs, len(whole))}", *whole], [f"--jobs={jobs}", *others]]


def settle(run: Run, name: str) -> List[str]:
    """Give the database `name` the settings of the manifest, in the transaction that is open. Raises DatabaseError.

    Returns those that this server does not know, which are left out.
    """
    settings = run.manifest["settings"]
    return apply_settings(run.database, name, settings, owners=run.options.owners, privileges=run.options.privileges)


def rehearse_settings(run: Run, name: str) -> None:
    """Apply the settings and take them back: what is wrong with them is better known before the rows are loaded than after."""
    try:
        with run.phase("settings"):
            unknown = rehearsed(run.database, lambda: settle(run, name))
    except DatabaseError as error:
        raise DatabaseError(
            f"the settings of the database cannot be applied to this server: {error.message}",
            object_name=run.target,
            sqlstate=error.sqlstate,
            hint=error.hint or "Make what it names, or leave out owners and privileges where that is what it is about.",
        ) from None
    run.warnings += [f"this server does not know the setting {one}, which the database had: it is left out" for one in unknown]
