# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The statements that take rows away or mark them: so many that are picked one by one, or all in a part of a table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ansible_collections.pgops.runbook.plugins.module_utils._cleanup import archive, mark, parts, predicate
from ansible_collections.pgops.runbook.plugins.module_utils._cleanup.in_place import in_place, require_in_place
from ansible_collections.pgops.runbook.plugins.module_utils._cleanup.parts import Part
from ansible_collections.pgops.runbook.plugins.module_utils._cleanup.predicate import PICK, REMOVE, ROW, Target
from ansible_collections.pgops.runbook.plugins.module_utils._errors import DatabaseError
from ansible_collections.pgops.runbook.plugins.module_utils._relation import Leaf

PASS_OVER, WAIT_FOR = " SKIP LOCKED", ""  # what becomes of a row that others hold
_GONE = "gone"


@dataclass(frozen=True)
class Batch:
    """What one statement did: rows `picked`, of which `done` went or were marked, and `archived` of those; `last` is the newest time."""

    picked: int
    done: int
    archived: int = 0
    last: str | None = None


def pick(database: Any, target: Target, leaf: Leaf, rows: int, within: Part | None = None, held: str = PASS_OVER) -> Batch:
    """Take up to `rows` rows of one leaf, of that part of it where one is given. Raises DatabaseError.

    The rows are locked before, so that none is waited for that is `held` by others, unless it is to be WAIT_FOR; the condition stands in
    the outer statement as well, because a row may have changed in between. Only a leaf can be named: a ctid means another row in each
    partition.
    """
    sql = database.sql
    chosen = [predicate.removable(database, target, PICK, ahead=False), *([within.holds(database, target)] if within else [])]
    picked = sql.SQL(
        "SELECT ARRAY(SELECT {row}.ctid FROM ONLY {leaf} AS {row} WHERE {chosen} LIMIT {rows} FOR UPDATE OF {row}{held}) AS ids"
    ).format(
        row=sql.Identifier(ROW),
        leaf=leaf.name.identifier(sql),
        chosen=sql.SQL(" AND ").join(chosen),
        rows=sql.Literal(rows),
        held=sql.SQL(held),
    )
    shown = sql.SQL("(SELECT pg_catalog.cardinality(picked.ids) FROM picked) AS picked, NULL AS last")
    ids = sql.SQL("(SELECT picked.ids FROM picked)")
    return _run_picked(database, target, leaf, picked, ids, shown)


def pick_oldest(database: Any, target: Target, leaf: Leaf, rows: int, after: str | None) -> Batch:
    """Take up to `rows` rows of one leaf in the order of their time, from the time `after` on. Raises DatabaseError.

    What is before that time has been taken or passed over, and its dead entries need not be read again.
    """
    sql = database.sql
    time = sql.Identifier(ROW, target.time.column.name)
    chosen = [predicate.removable(database, target, PICK, ahead=False)]
    if after is not None:
        chosen.append(parts.since(database, target, after))
    picked = sql.SQL(
        "SELECT {row}.ctid AS id, {time} AS at FROM ONLY {leaf} AS {row} WHERE {chosen} ORDER BY {time} LIMIT {rows}"
        " FOR UPDATE OF {row} SKIP LOCKED"
    ).format(
        row=sql.Identifier(ROW), time=time, leaf=leaf.name.identifier(sql), chosen=sql.SQL(" AND ").join(chosen), rows=sql.Literal(rows)
    )
    shown = sql.SQL("(SELECT pg_catalog.count(*) FROM picked) AS picked, (SELECT pg_catalog.max(picked.at)::text FROM picked) AS last")
    return _run_picked(database, target, leaf, picked, sql.SQL("ARRAY(SELECT picked.id FROM picked)"), shown)


def take_range(database: Any, target: Target, leaf: Leaf, part: Part) -> Batch:
    """Take every row of a part of one leaf; waits for those that others hold. Raises DatabaseError."""
    sql = database.sql
    which = part.holds(database, target)
    if target.archive or _marks(target):
        change = _change(database, target, leaf, which, part.form)
        statement = sql.SQL("WITH {} SELECT 0 AS picked, NULL AS last, {}").format(change, _counts(database, target, leaf))
        return _batch(database, target, leaf, statement)
    done = database.execute(_change_alone(database, target, leaf, which, part.form))
    if not done:
        require_in_place(database, target, leaf)
    return Batch(done, done)


def _run_picked(database: Any, target: Target, leaf: Leaf, picked: Any, ids: Any, shown: Any) -> Batch:
    sql = database.sql
    which = sql.SQL("{row}.ctid = ANY ({ids}::tid[])").format(row=sql.Identifier(ROW), ids=ids)
    statement = sql.SQL("WITH picked AS MATERIALIZED ({picked}), {change} SELECT {shown}, {counts}").format(
        picked=picked, change=_change(database, target, leaf, which, REMOVE), shown=shown, counts=_counts(database, target, leaf)
    )
    return _batch(database, target, leaf, statement)


def _batch(database: Any, target: Target, leaf: Leaf, statement: Any) -> Batch:
    row = database.row(statement)
    batch = Batch(row["picked"], row["gone"], row["kept"], row["last"])
    if not batch.done:
        require_in_place(database, target, leaf)
    if target.archive:
        _require_kept(target.archive, batch, row["unkept"])
    return batch


def _require_kept(kept: archive.Archive, batch: Batch, columns: int) -> None:
    """Undo the transaction of the batch, by raising, where not every row is in the archive whole."""
    name = str(kept.name)
    if columns:
        message = f"{columns} columns were added or changed since the run began that {name} does not keep, and none of this batch was moved"
        raise DatabaseError(message, object_name=name, hint="Run it again: it looks at the columns anew.")
    if batch.archived != batch.done:
        message = f"the archive {name} took {batch.archived} of {batch.done} rows, so that none of this batch was moved"
        hint = "A trigger or rule there keeps rows out: let it pass them, or name another table."
        raise DatabaseError(message, object_name=name, hint=hint)


def _change(database: Any, target: Target, leaf: Leaf, which: Any, form: str) -> Any:
    """Return the expressions of a WITH that change the rows."""
    sql = database.sql
    change = sql.SQL("gone AS ({} RETURNING {})").format(_change_alone(database, target, leaf, which, form), _returned(database, target))
    if not target.archive:
        return change
    return sql.SQL("{}, kept AS ({})").format(change, archive.insert(database, target.archive, _GONE))


def _change_alone(database: Any, target: Target, leaf: Leaf, which: Any, form: str) -> Any:
    sql = database.sql
    again = sql.SQL("{} AND {}").format(predicate.removable(database, target, form, ahead=False), in_place(database, target, leaf))
    given = {"row": sql.Identifier(ROW), "leaf": leaf.name.identifier(sql), "which": which, "again": again}
    if target.mark and _marks(target):
        assignment = mark.assignment(database, target.mark, target.as_of)
        return sql.SQL("UPDATE ONLY {leaf} AS {row} SET {mark} WHERE {which} AND {again}").format(mark=assignment, **given)
    return sql.SQL("DELETE FROM ONLY {leaf} AS {row} WHERE {which} AND {again}").format(**given)


def _marks(target: Target) -> bool:
    return target.mark is not None and not target.removes


def _returned(database: Any, target: Target) -> Any:
    sql = database.sql
    if target.archive:
        return archive.returning(database, target.archive, ROW)
    if target.mark and _marks(target):
        # A trigger may have taken the mark back.
        return sql.SQL("{} AS done").format(mark.is_marked(database, target.mark, ROW))
    return sql.SQL("1")


def _counts(database: Any, target: Target, leaf: Leaf) -> Any:
    sql = database.sql
    gone = sql.SQL("(SELECT pg_catalog.count(*) FROM gone{}) AS gone").format(sql.SQL(" WHERE gone.done" if _marks(target) else ""))
    if not target.archive:
        return sql.SQL("{}, 0 AS kept").format(gone)
    unkept = archive.unkept_columns(database, target.archive, leaf)
    return sql.SQL("{}, (SELECT pg_catalog.count(*) FROM kept) AS kept, ({}) AS unkept").format(gone, unkept)
