# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a restore of a whole database refuses, before anything is made: each refusal names what would have to be said or done."""

from __future__ import annotations

from typing import Any, Dict, Sequence

from ansible_collections.pgops.runbook.plugins.module_utils._backup.heads import WHOLE
from ansible_collections.pgops.runbook.plugins.module_utils._client.coding import compresses
from ansible_collections.pgops.runbook.plugins.module_utils._content.compare import Difference, as_results
from ansible_collections.pgops.runbook.plugins.module_utils._errors import InvalidValue, Refused
from ansible_collections.pgops.runbook.plugins.module_utils._first_few import faults_in_words, names_in_words
from ansible_collections.pgops.runbook.plugins.module_utils._restore import databases, needs
from ansible_collections.pgops.runbook.plugins.module_utils._restore.load import readable
from ansible_collections.pgops.runbook.plugins.module_utils._restore.run import Run
from ansible_collections.pgops.runbook.plugins.module_utils._restore.stream import PLAIN

_MOST_DIFFERENCES = 100
_ACCEPT, _NEWER = "accept_older_server", "Restore to a newer server, or say accept_older_server=true."
_HOW_TO = {
    "roles": "Make them first, from the backup's globals file for example, or leave them out with owners=false and privileges=false.",
    "extensions": "Install the packages that bring them on the server.",
    "tablespaces": "Make them first.",
}

_MAKER = "SELECT r.rolsuper AS super, r.rolcreatedb AS creates FROM pg_catalog.pg_roles r WHERE r.rolname = current_user"
_TARGET = """
SELECT pg_catalog.pg_has_role(d.datdba, 'USAGE') AS owned, d.datallowconn AS connectable,
       (SELECT count(*) FROM pg_catalog.pg_prepared_xacts p WHERE p.database = d.datname) AS prepared,
       (SELECT pg_catalog.array_agg(s.slot_name ORDER BY s.slot_name) FROM pg_catalog.pg_replication_slots s
        WHERE s.database = d.datname)::text[] AS slots,
       (SELECT pg_catalog.array_agg(s.subname ORDER BY s.subname) FROM pg_catalog.pg_subscription s
        WHERE s.subdbid = d.oid)::text[] AS subscriptions
FROM pg_catalog.pg_database d WHERE d.datname = %s
"""


class Different(Refused):
    """What was restored is not what was backed up; `differences` say where."""

    def __init__(self, message: str, differences: Sequence[Difference], *, object_name: str | None, hint: str) -> None:
        super().__init__(message, object_name=object_name, hint=hint)
        self.differences = list(differences)

    def as_result(self) -> Dict[str, Any]:
        """Add the differences, the first hundred."""
        return {**super().as_result(), "differences": as_results(self.differences[:_MOST_DIFFERENCES])}


def check_version(run: Run, hint: str = _NEWER, option: str = _ACCEPT) -> None:
    """Refuse a server that is older than the one that was backed up, unless that is accepted.

    Raises Refused, which names the `option` by which that can be mended, and says how in `hint`.
    """
    dumped, here = int(run.manifest["versions"]["server_version_num"]) // 10000, run.server.version_num // 10000
    if dumped > here and not run.options.accept_older_server:
        raise Refused(
            f"the backup is of a server of PostgreSQL {dumped}, and this one is {here}: what {here} does not know would fail or be lost",
            object_name=option,
            hint=hint,
        )


def check_backup(run: Run) -> None:
    """Refuse a backup that no database can be made of, or that these programs do not read. Raises Refused, InvalidValue, ProgramMissing."""
    if run.backup.kind == "data_only":
        raise Refused(
            f"the backup {run.backup.id} holds rows without their tables, which no database can be made of",
            object_name=run.backup.id,
            hint="Take a backup of another kind.",
        )
    if run.manifest["dump"]["format"] == PLAIN and not (run.options.owners and run.options.privileges):
        raise InvalidValue(
            f"owners, privileges: the backup {run.backup.id} is a plain dump, of which nothing can be left out", object_name="owners"
        )
    require_programs(run)
    compression = run.manifest["dump"]["compression"]
    if compression["by"] == "pg_dump" and not compresses(run.client, str(compression["method"])):
        raise Refused(
            f"pg_dump has compressed the backup by {compression['method']}, for which pg_restore in {run.client.folder} was not built",
            object_name="bin_dir",
            hint="Install client programs that know it, such as those of Debian, or say where they are by bin_dir.",
        )


def require_programs(run: Run) -> None:
    """Refuse programs that are too old to read the backup, or that cannot decode it. Raises Refused, InvalidValue, ProgramMissing."""
    written = str(run.manifest["versions"]["client"])
    dumper = int(written.partition(".")[0])
    if run.client.major < dumper:
        raise Refused(
            f"the backup was written by pg_dump {written}; pg_restore in {run.client.folder} is {run.client.text} and does not read it",
            object_name="bin_dir",
            hint=f"Install the client programs of PostgreSQL {dumper} or newer, or say where they are by bin_dir.",
        )
    readable(run.archive, run.manifest)


def check_server(run: Run) -> None:
    """Refuse a server on which the backup cannot become a database. Raises Refused."""
    maker = run.database.row(_MAKER) or {}
    if not (maker.get("super") or maker.get("creates")):
        raise Refused(
            f"role {run.database.user} may not make databases", object_name=run.database.user, hint="Give it CREATEDB, or use another role."
        )
    settings, objects = run.manifest["settings"], needs.read_objects(run.backup.path) or {}
    lacking = needs.missing(run.database, settings, objects, owners=run.options.owners, privileges=run.options.privileges)
    if lacking:
        words = "; ".join(f"{kind}: {names_in_words(names)}" for kind, names in lacking.items())
        raise Refused(
            f"the backup needs what this server does not have: {words}",
            object_name=next(iter(lacking.values()))[0],
            hint=" ".join(_HOW_TO[kind] for kind in lacking),
        )


def check_target(run: Run) -> None:
    """Refuse to take the name from a database that is not meant to lose it, or cannot. Raises Refused."""
    about = run.database.row(_TARGET, (run.target,)) or {}
    named, whole = run.options.replace == run.target, run.backup.kind == WHOLE
    # That it cannot be connected to may be why it is restored, so that it is looked into only where that decides.
    empty = not (named and whole) and about.get("connectable") and _is_empty(run)
    if not empty and not named:
        raise _not_named(run)
    if not empty and not whole:
        raise Refused(
            f"the backup {run.backup.id} is of the kind {run.backup.kind}, and no whole database: what else {run.target} has would be gone",
            object_name=run.backup.id,
            hint="Restore it into a new database with mode=new and another target, or parts of it with mode=tables or mode=schema.",
        )
    if not about.get("owned"):
        raise Refused(
            f"role {run.database.user} does not own database {run.target} and so cannot rename it",
            object_name=run.target,
            hint="Use its owner, a member of that, or a superuser.",
        )
    if about.get("prepared"):
        raise Refused(
            f"database {run.target} has {about['prepared']} prepared transactions, with which it cannot be renamed",
            object_name=run.target,
            hint="Commit them or roll them back.",
        )
    require_leaving(run)
    for kind in ("slots", "subscriptions"):
        if about.get(kind):
            names = names_in_words(about[kind])
            run.warnings.append(f"the old database keeps its {kind} ({names}): the restored one that takes the name {run.target} has none")


def require_leaving(run: Run) -> None:
    """Refuse where sessions are on the target, or, if they are to be ended, such as this role may not end. Raises Refused."""
    if not run.options.disconnect:
        found = databases.lasting_sessions(run.database, run.target)
        if found:
            raise databases.in_use(run.target, found)
        return
    found = databases.sessions_to_stay(run.database, run.target)
    if found:
        hint = f"Role {run.database.user} may not end them: stop what uses it, or use a superuser or a member of their roles."
        raise databases.in_use(run.target, found, hint)


def _not_named(run: Run) -> Refused:
    here = run.server.system_identifier
    if here is not None and here == run.manifest.get("system_identifier") and run.target == run.backup.database:
        message = f"database {run.target} is the very one that was backed up, on the same server, and it is not empty"
    else:
        message = f"database {run.target} is there and not empty"
    return Refused(
        message, object_name="replace", hint=f"Say replace={run.target} if the backup is to take its place, or name another target."
    )


def _is_empty(run: Run) -> bool:
    with run.open(run.target, read_only=True) as session:
        return databases.is_empty(session)


def there_already(run: Run, more: str) -> Refused:
    """Return the refusal to restore into a new database whose name is taken."""
    return Refused(
        f"database {run.target} exists {more}",
        object_name="target",
        hint="Name another target, or put the backup in its place with mode=swap and replace.",
    )


def different(run: Run, differences: Sequence[Difference]) -> Different:
    """Return the error that what was restored is not what was backed up."""
    said = faults_in_words([one.message for one in differences], most=5)
    return Different(
        f"what was restored of {run.backup.id} is not what was backed up: {said}",
        differences,
        object_name=differences[0].table or differences[0].object,
        hint="The restored database was dropped, and nothing else was changed. Take another backup, and look why this one differs.",
    )
