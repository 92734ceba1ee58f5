# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tokens that a restore would bring back to life: accepted after it, and not accepted now.

A token is looked at as the application sees it: one with a row in the deny list is refused, however long that row is meant to last. Where
the application accepts what the deny list lacks, a token without a row of its own is accepted now; everywhere else it is not, because
it was revoked by deleting the row, because a clean-up took it after it had been revoked, or because it was lost, which is why it is
restored. Which of these, only a person can tell.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Dict, Iterable, Iterator, List, Mapping, Sequence, Tuple

from ansible_collections.pgops.runbook.plugins.module_utils._errors import DescriptionError, MissingObject, Refused
from ansible_collections.pgops.runbook.plugins.module_utils._instant import Instant, server_now
from ansible_collections.pgops.runbook.plugins.module_utils._names import RelationName, parse_relation
from ansible_collections.pgops.runbook.plugins.module_utils._relation import Column, Relation
from ansible_collections.pgops.runbook.plugins.module_utils._same_id import same_id
from ansible_collections.pgops.runbook.plugins.module_utils._system.faults import Faults
from ansible_collections.pgops.runbook.plugins.module_utils._system.form import SYSTEM
from ansible_collections.pgops.runbook.plugins.module_utils._token_store import TOKEN, Acceptance, TokenStore, resolve_stores
from ansible_collections.pgops.runbook.plugins.module_utils._token_store.belonging import belongs
from ansible_collections.pgops.runbook.plugins.module_utils._token_store.store import DenyList

CLOCK_SKEW = 300.0  # seconds
_NOW, _THERE = "now_", "there_"
_STAGE = "pgops_tokens"
_FETCHED = 10_000  # rows at a time
_HINT = (
    "Look at them with pg_token_info. Revoke them again right after the restore, or leave the tables of tokens out of it; then say"
    " accept_tokens_back=true."
)


@dataclass(frozen=True)
class StoreCount:
    """How many tokens of a store would be accepted after a restore and are not accepted now.

    `revoked` are there and refused, `denied` have no row and are refused by a deny list or a limit, `gone` have no row. `unknown` says why
    they could not be counted.
    """

    store: str
    how: str
    revoked: int = 0
    denied: int = 0
    gone: int = 0
    unknown: str | None = None

    @property
    def back(self) -> int:
        """All of them."""
        return self.revoked + self.denied + self.gone

    def as_result(self) -> Dict[str, Any]:
        """Return what a result says of the store."""
        return {**vars(self), "back": self.back}


class _AsSeen(Acceptance):
    """What the application sees now; a deny row that will be gone before its token still denies it today."""

    def revoked_by_itself(self) -> Any:
        """Return the condition under which the token is refused now, whatever limit it may have been issued before."""
        return self.denied(for_its_whole_life=False) if self.store.deny else super().revoked_by_itself()


def read_stores(given: Any) -> Tuple[Mapping[str, Any], ...]:
    """Return the option `token_stores` in the normalised form of a description. Raises DescriptionError."""
    faults = Faults()
    found = SYSTEM.fields["token_stores"].kind.read(list(given or ()), "token_stores", faults)
    if faults.found:
        raise DescriptionError(faults.found)
    return tuple(found or ())


def require_none_back(counts: Iterable[StoreCount], *, accepted: bool) -> None:
    """Raise Refused where tokens would come back to life, unless that is `accepted`."""
    found = [count for count in counts if count.back or count.unknown]
    if accepted or not found:
        return
    told = "; ".join(_told(count) for count in found)
    raise Refused(
        f"tokens that are refused now would be accepted again: {told}. Nothing was changed", object_name="token_stores", hint=_HINT
    )


def _told(count: StoreCount) -> str:
    if count.unknown:
        return f"store {count.store}: unknown how many, because {count.unknown}"
    parts = {"revoked since": count.revoked, "denied since": count.denied, "whose rows are gone": count.gone}
    return f"store {count.store}: {count.back} ({', '.join(f'{number} {what}' for what, number in parts.items() if number)})"


def touched(stores: Sequence[Mapping[str, Any]], tables: Iterable[RelationName]) -> List[Mapping[str, Any]]:
    """Return the stores whose acceptance depends on one of `tables`."""
    changed = set(tables)
    return [store for store in stores if not changed.isdisjoint(tables_of(store))]


def tables_of(store: Mapping[str, Any]) -> Iterator[RelationName]:
    """Yield the tables on which the acceptance of the tokens of a store depends."""
    for part in (store["tokens"], store["revoke"], *(store.get("not_before") or ())):
        if part.get("table"):
            yield parse_relation(part["table"])


def tokens_back_here(
    database: Any, stores: Sequence[Mapping[str, Any]], after: Mapping[RelationName, RelationName], clock_skew: float = CLOCK_SKEW
) -> List[StoreCount]:
    """Return the counts of `stores` where the relations of `after` take the places of tables, in the transaction that is open.

    Raises MissingObject, InvalidValue, DatabaseError.
    """
    pairs = [(now, _moved(now, after)) for now in resolve_stores(database, touched(stores, after))]
    return _between(database, pairs, clock_skew)


class Exchange:
    """Stores before and after tables took the places of others under the same names: made before that, and asked after it.

    `aside` says where the tables that are there now are then. A store whose tables are not there is `unknown`.
    """

    def __init__(self, database: Any, stores: Sequence[Mapping[str, Any]], aside: Mapping[RelationName, RelationName]) -> None:
        self._database, self._stores = database, touched(stores, aside)
        self._now: Dict[str, TokenStore] = {}
        self._unknown: List[StoreCount] = []
        for store in self._stores:
            self._look(store, aside)

    def _look(self, store: Mapping[str, Any], aside: Mapping[RelationName, RelationName]) -> None:
        try:
            self._now[store["name"]] = _moved(resolve_stores(self._database, [store])[0], aside)
        except MissingObject as error:
            self._unknown.append(StoreCount(store["name"], store["revoke"]["how"], unknown=error.message))

    def counts(self, clock_skew: float = CLOCK_SKEW) -> List[StoreCount]:
        """Return the counts, now that everything has its place. Raises InvalidValue, DatabaseError."""
        found: List[StoreCount] = list(self._unknown)
        for store in self._stores:
            if store["name"] not in self._now:
                continue
            try:
                then = resolve_stores(self._database, [store])[0]
            except MissingObject as error:
                found.append(_lacking(self._database, store, f"{error.message} after the restore"))
            else:
                found += _between(self._database, [(self._now[then.name], then)], clock_skew)
        return found


def _between(database: Any, pairs: Iterable[Tuple[TokenStore, TokenStore]], skew: float) -> List[StoreCount]:
    as_of = server_now(database)
    return [_count(database, now, as_of, skew, then.tokens.name, _AsSeen(database, then, as_of, skew).accepted()) for now, then in pairs]


def _moved(store: TokenStore, after: Mapping[RelationName, RelationName]) -> TokenStore:
    def moved(relation: Relation) -> Relation:
        return replace(relation, name=after.get(relation.name, relation.name))

    deny = replace(store.deny, relation=moved(store.deny.relation)) if store.deny else None
    limits = tuple(replace(limit, relation=moved(limit.relation)) for limit in store.limits)
    return replace(store, tokens=moved(store.tokens), deny=deny, limits=limits)


def _count(database: Any, now: TokenStore, as_of: Instant, skew: float, place: RelationName, accepted: Any) -> StoreCount:
    """Count the rows of `place` under the condition `accepted` by what becomes of them now, each id once."""
    sql = database.sql
    token = sql.Identifier(TOKEN, now.id.name)
    refused = _AsSeen(database, now, as_of, skew).revoked()
    row = database.row(
        sql.SQL(
            "SELECT count(DISTINCT id) FILTER (WHERE present) AS revoked,"
            " count(DISTINCT id) FILTER (WHERE NOT present AND refused) AS denied,"
            " count(DISTINCT id) FILTER (WHERE NOT present AND NOT refused) AS gone"
            " FROM (SELECT {token} AS id, EXISTS (SELECT FROM {live} AS {there} WHERE {is_token} AND {same_there}) AS present,"
            " {refused} AS refused FROM {place} AS {alias} WHERE {accepted}"
            " AND NOT EXISTS (SELECT FROM {live} AS {now} WHERE {accepted_now} AND {same_now})) AS back_"
        ).format(
            token=token,
            live=now.tokens.name.identifier(sql),
            there=sql.Identifier(_THERE),
            is_token=belongs(sql, now.written["tokens"], _THERE),
            same_there=same_id(sql, (now.id, sql.Identifier(_THERE, now.id.name)), (now.id, token)),
            refused=refused,
            place=place.identifier(sql),
            alias=sql.Identifier(TOKEN),
            accepted=accepted,
            now=sql.Identifier(_NOW),
            accepted_now=_AsSeen(database, now, as_of, skew, row=_NOW).accepted(),
            same_now=same_id(sql, (now.id, sql.Identifier(_NOW, now.id.name)), (now.id, token)),
        )
    )
    # A token that carries everything in itself is accepted without a row, unless the deny list has it.
    gone = 0 if now.deny else int(row["gone"])
    return StoreCount(now.name, now.how, int(row["revoked"]), int(row["denied"]), gone)


def tokens_back(live: Any, restored: Any, stores: Sequence[Mapping[str, Any]], clock_skew: float = CLOCK_SKEW) -> List[StoreCount]:
    """Return the counts of `stores` where the database of the session `restored` takes the place of that of `live`.

    What is accepted in `restored` is set aside in a temporary table of `live`. `unknown` where a part of a store is not there in one of
    them; a store whose tokens `restored` does not have accepts nothing. Raises InvalidValue, DatabaseError.
    """
    counts = []
    for store in stores:
        with live.transaction():
            counts.append(_compare(live, restored, store, clock_skew))
    return counts


def _compare(live: Any, restored: Any, store: Mapping[str, Any], skew: float) -> StoreCount:
    name, how = str(store["name"]), str(store["revoke"]["how"])
    try:
        then = resolve_stores(restored, [store])[0]
    except MissingObject as error:
        return _lacking(restored, store, f"{error.message} in the restored database")
    try:
        now = resolve_stores(live, [store])[0]
    except MissingObject as error:
        return StoreCount(name, how, unknown=f"{error.message} in the live database")
    as_of = server_now(live)
    columns = _columns(now)
    place = _stage(live, now, columns)
    copied = live.sql.SQL("COPY {} FROM STDIN").format(place.identifier(live.sql))
    live.copy_in(copied, _accepted(restored, then, as_of, skew, [column.name for column in columns]))
    live.execute(live.sql.SQL("ANALYZE {}").format(place.identifier(live.sql)))
    return _count(live, now, as_of, skew, place, live.sql.SQL("true"))


def _lacking(restored: Any, store: Mapping[str, Any], why: str) -> StoreCount:
    """Return the count of a store of which a part was not restored: no tokens, or tokens of which nobody knows who refuses them.

    What revokes may be younger than the backup. The application makes it anew, and empty.
    """
    tokens = parse_relation(store["tokens"]["table"])
    there = restored.value(_EXISTS, tuple(tokens))
    return StoreCount(str(store["name"]), str(store["revoke"]["how"]), unknown=why if there else None)


_EXISTS = """
SELECT EXISTS (SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = %s AND c.relname = %s)
"""


def _columns(store: TokenStore) -> List[Column]:
    """Return the token columns by which is told whether a token is refused, the id first."""
    times = [time.column for time in (store.issued, store.renewed, store.expires, store.revoked_at) if time]
    others = [store.expires_in, store.flag, store.deny.key if store.deny else None]
    others += [store.token_column(limit.by) for limit in store.limits if limit.id]
    found = [store.id, *times, *(column for column in others if column)]
    return list({column.name: column for column in found}.values())


def _stage(live: Any, store: TokenStore, columns: Sequence[Column]) -> RelationName:
    """Make the empty temporary table, whose columns are of the types that they have in the live one."""
    sql, place = live.sql, RelationName("pg_temp", _STAGE)
    names = sql.SQL(", ").join(sql.Identifier(column.name) for column in columns)
    live.execute(
        sql.SQL("CREATE TEMPORARY TABLE {} ON COMMIT DROP AS SELECT {} FROM {} WITH NO DATA").format(
            sql.Identifier(_STAGE), names, store.tokens.name.identifier(sql)
        )
    )
    return place


def _accepted(restored: Any, store: TokenStore, as_of: Instant, skew: float, columns: Sequence[str]) -> Iterator[bytes]:
    """Yield the rows of accepted tokens as COPY reads them. A column that was added since is NULL in all."""
    sql = restored.sql
    there = store.tokens.columns or {}
    values = [sql.SQL(_WRITTEN).format(sql.Identifier(TOKEN, name)) if name in there else sql.SQL("'\\N'") for name in columns]
    query = sql.SQL("SELECT pg_catalog.concat_ws(E'\\t', {}) AS line FROM {} AS {} WHERE {}").format(
        sql.SQL(", ").join(values),
        store.tokens.name.identifier(sql),
        sql.Identifier(TOKEN),
        _AsSeen(restored, store, as_of, skew).accepted(),
    )
    with restored.transaction(read_only=True):
        restored.execute(sql.SQL("DECLARE {} NO SCROLL CURSOR FOR {}").format(sql.Identifier(_STAGE), query))
        while True:
            rows = restored.rows(sql.SQL("FETCH {} FROM {}").format(sql.Literal(_FETCHED), sql.Identifier(_STAGE)))
            if not rows:
                break
            yield "".join(row["line"] + "\n" for row in rows).encode("utf-8")


# A value in the text format of COPY.
_WRITTEN = (
    "coalesce(replace(replace(replace(replace({}::text, E'\\\\', E'\\\\\\\\'), E'\\t', E'\\\\t'),"
    " E'\\n', E'\\\\n'), E'\\r', E'\\\\r'), '\\N')"
)


def keep_denials(database: Any, stores: Sequence[Mapping[str, Any]], table: RelationName, place: RelationName) -> int:
    """Copy the denials that the live deny list `table` has beyond those in `place`, which is to replace it, and return how many.

    A denial that lasts longer than the one in `place` takes the place of that one. 0 where no store has its deny list there.
    """
    kept = 0
    for store in resolve_stores(database, touched(stores, [table])):
        if store.deny and store.deny.relation.name == table:
            kept += _keep_denials(database, store.deny, place)
    return kept


def _keep_denials(database: Any, deny: DenyList, place: RelationName) -> int:
    sql = database.sql
    live = deny.relation.name.identifier(sql)
    same = same_id(sql, (deny.id, sql.Identifier("kept_", deny.id.name)), (deny.id, sql.Identifier("new_", deny.id.name)))
    if deny.expires_at:
        ends = sql.Identifier(deny.expires_at.column.name)
        longer = sql.SQL("(new_.{ends} IS NOT NULL AND (kept_.{ends} IS NULL OR kept_.{ends} OPERATOR(pg_catalog.>) new_.{ends}))").format(
            ends=ends
        )
        database.execute(
            sql.SQL("DELETE FROM {} AS new_ USING {} AS kept_ WHERE {} AND {}").format(place.identifier(sql), live, same, longer)
        )
    names = sql.SQL(", ").join(sql.Identifier(row["name"]) for row in database.rows(_STORED, (deny.relation.oid,)))
    return int(
        database.execute(
            sql.SQL(
                "INSERT INTO {place} ({names}) OVERRIDING SYSTEM VALUE SELECT {names} FROM {live} AS kept_"
                " WHERE NOT EXISTS (SELECT FROM {place} AS new_ WHERE {same})"
            ).format(place=place.identifier(sql), names=names, live=live, same=same)
        )
    )


_STORED = """
SELECT attname AS name FROM pg_catalog.pg_attribute
WHERE attrelid = %s AND attnum > 0 AND NOT attisdropped AND attgenerated = '' ORDER BY attnum
"""
