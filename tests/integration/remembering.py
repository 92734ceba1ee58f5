"""Health checks with a history, without Ansible in between: a check that says what a test wants, runs one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ansible_collections.pgops.runbook.plugins.module_utils import _health
from ansible_collections.pgops.runbook.plugins.module_utils._connection import ConnectionOptions, connect
from ansible_collections.pgops.runbook.plugins.module_utils._errors import RunbookError
from ansible_collections.pgops.runbook.plugins.module_utils._health.history import file_store
from ansible_collections.pgops.runbook.plugins.module_utils._health.look import Look
from ansible_collections.pgops.runbook.plugins.module_utils._health.model import Check, Limits, Reading
from tests.ground.databases import Database

__all__ = ["KEEP", "SCHEMA", "Reading", "Runs", "bad", "changes", "in_file", "resolved", "unseen"]

SCHEMA = 'Pg"ops %s'
KEEP = 400 * 86400.0
Said = Iterable[Reading]


def check(name: str, tier: str = "hourly", **facts: Any) -> Check:
    """Return a check that says nothing yet."""
    return Check(id=name, title=f"Title of {name}", tier=tier, looks_at="A test.", action="Nothing.", needs="nothing", run=_silent, **facts)


def _silent(look: Look, limits: Limits) -> Said:
    return [Reading("all is well")]


def bad(*objects: str, status: str = "warning") -> list[Reading]:
    """Return findings on objects."""
    return [Reading(f"{name} is bad", object_name=name, status=status) for name in objects]


def unseen(name: str = "") -> Reading:
    """Return a reading of something that cannot be seen."""
    return Reading("not to be seen", object_name=name, status="unknown", error=RunbookError("not to be seen"))


@dataclass
class Runs:
    """Runs against one database whose checks say what the call gives: readings, or a function of the look, by the id of a check."""

    database: Database
    store: Mapping[str, Any] = field(default_factory=dict)
    login: Mapping[str, Any] = field(default_factory=dict)
    system: str | None = None

    def __call__(self, said: Mapping[str, Any], tier: str = "hourly", *, check_mode: bool = False, **params: Any) -> dict[str, Any]:
        """Run once and return the result; a history in a file is read before and written after."""
        given = {**self.store, **params}
        path = given.pop("file", None)
        if path:
            given["history"] = file_store.read(path, self.system)
        system = {"system": {"name": self.system, "schemas": ["public"]}} if self.system else {}
        request = _health.Request.from_params({"checks": ["avail.connect"], "tier": tier, **system, **given})
        checks = [*request.checks[:1], *(replace(check(name), run=_saying(what)) for name, what in said.items())]
        limits = {**request.limits, **{each.id: Limits() for each in checks[1:]}}
        request = replace(request, checks=checks, limits=limits, tier=tier)
        options = ConnectionOptions.from_params({**self.database.login(tcp=False), **self.login})
        reading, writing = _health.session_options(options, None), _health.writer_options(options)
        result = _health.run(
            lambda: connect(reading, application_name="pgops.runbook/pg_health", read_only=True),
            request,
            None if check_mode else lambda: connect(writing, application_name="pgops.runbook/pg_health", read_only=False),
        )
        if path and result["snapshot"] and not check_mode:
            file_store.append(path, result["snapshot"], KEEP)
        return result


def _saying(what: Any) -> Callable[[Look, Limits], Said]:
    return what if callable(what) else lambda look, limits: list(what)


def changes(result: Mapping[str, Any]) -> dict[str, str | None]:
    """Return what became of each finding."""
    return {finding["key"]: finding["change"] for finding in result["findings"]}


def resolved(result: Mapping[str, Any]) -> list[str]:
    """Return the keys of what is gone."""
    return [finding["key"] for finding in result["resolved"]]


def in_file(folder: Path) -> dict[str, Any]:
    """Return the store of a file in a folder that is not there yet."""
    return {"file": str(folder / "health" / "db1.jsonl")}
