# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Deletes the keys of tokens, in bounded memory for any number of them, and counts those that are left."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any, Dict, Iterable, Iterator, List, Mapping

from ansible_collections.pgops.runbook.plugins.module_utils._cache.client import client, explained, load
from ansible_collections.pgops.runbook.plugins.module_utils._cache.errors import CacheError
from ansible_collections.pgops.runbook.plugins.module_utils._cache.options import CacheConnection, CacheOptions, cache_options
from ansible_collections.pgops.runbook.plugins.module_utils._cache.template import Keyspace, Template, Wanted, keyspace
from ansible_collections.pgops.runbook.plugins.module_utils._errors import InvalidValue

KEYS_PER_COMMAND = 100  # short enough that no other client of the server notices
KEYS_PER_PIPELINE = 10_000
SCAN_COUNT = 5000
# The keyspace is gone over once for so many tokens: a hundred thousand take about 20 MB.
TOKENS_PER_PASS = 100_000


@dataclass
class Counts:
    """What was done: `rows` tokens read, `scanned` keys looked at that a pattern found, `kept` of them and of the tokens' keys
    because other_keys names them, `asked` the server about so many keys, and `found` so many of these: deleted, or still there.
    """

    rows: int = 0
    asked: int = 0
    found: int = 0
    scanned: int = 0
    kept: int = 0

    def as_result(self) -> dict[str, int]:
        """Return the numbers of a deletion."""
        return {"rows": self.rows, "asked": self.asked, "deleted": self.found, "scanned": self.scanned, "kept": self.kept}


class Cache:
    """A server of sessions. `command` deletes keys: UNLINK, or DEL where the server is older than 4."""

    def __init__(self, redis: Any, options: CacheOptions, keys: Keyspace) -> None:
        self.options = options
        self.keys = keys
        self.command = "UNLINK"
        self._redis = redis
        self._client = client(redis, options)

    def __enter__(self) -> Cache:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """End the connection."""
        self._client.close()

    def check(self, *, whole: bool) -> None:
        """Make sure that all that is going to be asked is allowed, on keys that do not exist. Raises CacheError."""
        if self._refusal(self.command) == "unknown_command":
            self.command = "DEL"
        for template in self.keys.templates:
            if not template.constant:
                # Two of them: in a cluster they live on different servers, which refuse to delete them together.
                made = [_unheard_of(template), _unheard_of(template)]
                self._ask(self.command, made)
                self._ask("EXISTS", made)
            if whole or not template.exact:
                self._run("SCAN", None, self._client.scan, 0, match=template.pattern(), count=1)

    def forget(self, rows: Iterable[Mapping[str, Any]]) -> Counts:
        """Delete the keys of the tokens `rows`, which have the placeholders' names. Raises CacheError with what was deleted by then."""
        return self._each(rows, self.command)

    def forget_all(self) -> Counts:
        """Delete the keys of all tokens. Raises CacheError with what was deleted by then."""
        return self._all(self.command)

    def remaining(self, rows: Iterable[Mapping[str, Any]] | None = None) -> int:
        """Return how many keys of the tokens `rows`, or of all tokens, there are; a key that tokens share may count for each."""
        return (self._all("EXISTS") if rows is None else self._each(rows, "EXISTS")).found

    def _each(self, rows: Iterable[Mapping[str, Any]], command: str) -> Counts:
        work = _Work(self, command)
        wanted = {template: Wanted(template) for template in self.keys.templates if not template.exact}
        for row in rows:
            work.counts.rows += 1
            for template in self.keys.templates:
                values = template.values_of(row)
                if values is None:
                    continue
                if template.exact:
                    work.add(template.key(values), template)
                    continue
                wanted[template].add(values)
                if len(wanted[template]) >= TOKENS_PER_PASS:
                    self._sought(wanted[template], work)
                    wanted[template] = Wanted(template)
        for one in wanted.values():
            if len(one):
                self._sought(one, work)
        work.flush()
        return work.counts

    def _sought(self, wanted: Wanted, work: _Work) -> None:
        for keys in self._scan(wanted.pattern(), work):
            for key in keys:
                if key in wanted:
                    work.add(key, wanted.template)

    def _all(self, command: str) -> Counts:
        work = _Work(self, command)
        for template in self.keys.templates:
            for keys in self._scan(template.pattern(), work):
                for key in keys:
                    work.add(key, template)
        work.flush()
        return work.counts

    def _scan(self, pattern: bytes, work: _Work) -> Iterator[List[bytes]]:
        cursor = 0
        while True:
            cursor, keys = self._run("SCAN", work.deleted, self._client.scan, cursor, match=pattern, count=SCAN_COUNT)
            work.counts.scanned += len(keys)
            yield keys
            if cursor == 0:
                return

    def _ask(self, command: str, keys: List[bytes], counts: Counts | None = None) -> None:
        """Send `command` for `keys` and add up in `counts` what the server answers."""
        counts = Counts() if counts is None else counts
        before = None if command == "EXISTS" else counts.found
        pipeline = self._client.pipeline(transaction=False)
        for start in range(0, len(keys), KEYS_PER_COMMAND):
            pipeline.execute_command(command, *keys[start : start + KEYS_PER_COMMAND])
        counts.asked += len(keys)
        # Without raising: the library would put the command with its keys into the message.
        replies = self._run(command, before, pipeline.execute, raise_on_error=False)
        counts.found += sum(reply for reply in replies if isinstance(reply, int))
        for reply in replies:
            if isinstance(reply, Exception):
                raise explained(reply, self.options, command, None if before is None else counts.found)

    def _run(self, command: str, deleted: int | None, call: Any, *arguments: Any, **options: Any) -> Any:
        """Return what the library's `call` for `command` does, after so many keys were `deleted`."""
        try:
            return call(*arguments, **options)
        except (self._redis.RedisError, OSError) as error:
            raise explained(error, self.options, command, deleted) from None

    def _refusal(self, command: str) -> str | None:
        """Return why the server refuses `command` without any key; to know it and miss its keys is no reason."""
        try:
            self._client.execute_command(command)
        except (self._redis.RedisError, OSError) as error:
            if "wrong number of arguments" in str(error):
                return None
            refused = explained(error, self.options, command)
            if refused.reason == "unknown_command":
                return refused.reason
            raise refused from None
        return None


class _Work:
    """Collects keys until there are enough for a pipeline; a key that comes again meanwhile is sent once."""

    def __init__(self, cache: Cache, command: str) -> None:
        self.counts = Counts()
        self._cache = cache
        self._command = command
        self._keys: Dict[bytes, None] = {}

    @property
    def deleted(self) -> int | None:
        """How many keys are gone, None where none is to go."""
        return None if self._command == "EXISTS" else self.counts.found

    def add(self, key: bytes, template: Template) -> None:
        """Take in a key that belongs to a token by `template`."""
        if self._cache.keys.keeps(key, template):
            self.counts.kept += 1
            return
        self._keys[key] = None
        if len(self._keys) >= KEYS_PER_PIPELINE:
            self.flush()

    def flush(self) -> None:
        """Send what there is."""
        keys = list(self._keys)
        self._keys.clear()
        if keys:
            self._cache._ask(self._command, keys, self.counts)


def open_cache(entry: Mapping[str, Any], connection: CacheConnection, *, whole: bool = False) -> Cache:
    """Return the cache of a description's `entry`, connected and with every permission it will need; `whole` is for `forget_all`.

    Raises InvalidValue, CacheClientMissing and CacheError.
    """
    options = cache_options(entry, connection)
    keys = keyspace(entry.get("keys") or (), entry.get("other_keys") or ())
    if not keys.templates:
        raise InvalidValue(
            f"the cache at {options.place} has no keys in the description: nothing there belongs to a token", object_name="keys"
        )
    boundless = [template.text for template in keys.templates if template.boundless]
    if whole and boundless:
        raise InvalidValue(
            f"{boundless[0]!r} among the keys of the cache at {options.place} stands for every key: to forget all tokens would empty it.",
            object_name=boundless[0],
            hint="Revoke by a criterion instead of all: true, or write the text that the keys of sessions begin with.",
        )
    cache = Cache(load(), options, keys)
    try:
        cache.check(whole=whole)
    except CacheError:
        cache.close()
        raise
    return cache


def _unheard_of(template: Template) -> bytes:
    """Return a key that `template` matches and that nobody has."""
    return template.filled(uuid.uuid4().hex)
