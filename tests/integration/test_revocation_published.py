"""Revoking from the tables that real applications have: afterwards the application itself refuses what was selected, and nothing else."""

from __future__ import annotations

import itertools
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from ansible_collections.pgops.runbook.plugins.module_utils import _revocation
from ansible_collections.pgops.runbook.plugins.module_utils._connection import ConnectionOptions, connect
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.report import Unproven
from tests.ground import runner
from tests.ground.errors import ServerTooOld
from tests.ground.published.databases import FRESH_SECONDS, PublishedDatabase, PublishedDatabases
from tests.ground.published.django import DjangoStore
from tests.ground.published.store import Accepted
from tests.integration.children import until
from tests.integration.published_cases import LAYOUTS, Case, Layout

ROWS = 300
_numbers = itertools.count()
CASES = [
    pytest.param(name, case, id=f"{name}-{case.name.replace(' ', '_')}", marks=pytest.mark.xdist_group(f"published {name}"))
    for name, layout in LAYOUTS.items()
    for case in layout.cases
]
# What check mode and the run must agree on.
NUMBERS = (
    "name",
    "how",
    "selected",
    "expired",
    "already_revoked",
    "pending",
    "elsewhere",
    "revoked",
    "changed",
    "dependents",
    "claim_sets",
    "sample",
)
TABLES = """
SELECT c.oid::regclass::text FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pgops_runbook') AND c.relpersistence = 'p' ORDER BY 1
"""


@dataclass
class Filled:
    """A filled database as it was made, and when: its content, what its application accepts and what could still become a token."""

    made_at: float
    database: PublishedDatabase
    content: dict[str, str]
    accepted: Accepted


@pytest.fixture(scope="module")
def copies() -> Iterator[dict[str, Filled]]:
    """The copies in use: one test after the other uses the same one, because taking a revocation back restores it."""
    made: dict[str, Filled] = {}
    yield made
    for one in made.values():
        one.database.drop()


@pytest.fixture
def filled(layout: str, copies: dict[str, Filled], published_databases: PublishedDatabases) -> Iterator[Filled]:
    """A database of the layout that nothing was revoked in yet."""
    if layout in copies and time.monotonic() - copies[layout].made_at > FRESH_SECONDS / 2:
        copies.pop(layout).database.drop()
    if layout not in copies:
        try:
            database = published_databases.copy(layout, f"revoking_{next(_numbers)}", ROWS)
        except ServerTooOld as reason:
            pytest.skip(str(reason))
        copies[layout] = Filled(time.monotonic(), database, content(database), database.accepted())
    yield copies[layout]
    if content(copies[layout].database) != copies[layout].content:
        copies.pop(layout).database.drop()


def content(database: PublishedDatabase) -> dict[str, str]:
    """Return a hash over the rows of every table of the application."""
    with database.connect() as session:
        names = [row[0] for row in session.execute(TABLES).fetchall()]
        parts = [f"SELECT '{name}', coalesce(md5(string_agg(t::text, E'\\n' ORDER BY t::text)), '') FROM {name} AS t" for name in names]
        return dict(session.execute(" UNION ALL ".join(parts)).fetchall())


def run(database: PublishedDatabase, select: Any, stores: list[str], *, check: bool = False, **options: Any) -> dict[str, Any]:
    """Revoke by the layout's own description and return the result."""
    given = {"token_stores": database.description["token_stores"], "stores": stores, "reason": "a test", "max_wait": "2 s", **options}
    read = _revocation.read_options({"select": select, **given})
    login = ConnectionOptions.from_params(database.login(tcp=False))
    with connect(login, application_name="pgops.runbook/pg_token_revoke", read_only=check) as session:
        return _revocation.run(session, read, check_mode=check)


def undo(database: PublishedDatabase, result: dict[str, Any]) -> dict[str, Any]:
    """Take a revocation back."""
    return run(database, None, [], state="reinstated", revocation_id=result["revocation_id"])


def numbers(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what each store's counts are."""
    return [{key: one[key] for key in NUMBERS} for one in result["stores"]]


def selection(database: PublishedDatabase, case: Case) -> dict[str, Any]:
    """Return the selection that a case means."""
    given = [row[0] for row in database.query(case.given)] if case.given else []
    if case.criterion == "window":
        return {"issued_from": given[0], "issued_to": given[1], **case.more}
    return {**({case.criterion: given} if given else {}), **case.more}


def parameters(select: dict[str, Any], case: Case) -> dict[str, Any]:
    return {"given": select.get(case.criterion), "start": select.get("issued_from"), "end": select.get("issued_to")}


def until_then(result: dict[str, Any]) -> dict[str, Any]:
    """Return the end of the selection where a limit was raised: one without an end is raised again a second later, to that moment."""
    raised = [store["not_before"] for store in result["stores"] if store["not_before"]]
    return {"issued_to": max(raised)} if raised else {}


def doomed(database: PublishedDatabase, layout: Layout, case: Case, select: dict[str, Any]) -> Accepted:
    """Return the ids that have to go, by store: those selected, what they were renewed to, and what goes along."""
    gone: Accepted = {}
    for name, condition in case.where.items():
        rows = layout.stores[name]
        query = f"SELECT {rows.id} FROM {rows.source} WHERE {condition}"
        if rows.family:
            columns = f"{rows.id} AS id, {rows.family} AS family, {rows.issued} AS issued FROM {rows.source}"
            query += (
                f" UNION SELECT t.id FROM (SELECT {columns}) AS t JOIN (SELECT {columns} WHERE {condition}) AS s"
                " ON s.family = t.family AND t.issued >= s.issued"
            )
        gone[name] = {row[0] for row in database.query(query, parameters(select, case))}
    selected = {name: set(found) for name, found in gone.items()}
    for way, query in case.along.items():
        start, end = way.split(":")
        more = {row[0] for row in database.query(query, {"gone": sorted(selected.get(start, ()))})}
        gone[end] = gone.get(end, set()) | more
    return gone


def codes(database: PublishedDatabase, layout: Layout, condition: str = "true", values: Any = None) -> set[tuple[str, str]]:
    """Return what could still become a token."""
    query = f"SELECT kind, id FROM ({layout.codes}) AS open WHERE {condition}"
    return {(str(kind), str(one)) for kind, one in database.query(query, values)}


@pytest.mark.parametrize(("layout", "case"), CASES)
def test_the_application_refuses_what_was_selected_and_nothing_else(layout: str, case: Case, filled: Filled) -> None:
    database, form = filled.database, LAYOUTS[layout]
    select, stores = selection(database, case), list(case.where)
    guard: dict[str, Any] = {"max_tokens": 10_000} if "claim_pattern" in select else {}
    gone = doomed(database, form, case, select)
    open_codes, closed = codes(database, form), codes(database, form, case.codes, parameters(select, case))
    # The case would show nothing otherwise.
    assert any(filled.accepted[name] & gone[name] for name in stores)
    assert case.name == "all" or any(filled.accepted[name] - gone.get(name, set()) for name in filled.accepted)

    planned = run(database, select, stores, check=True, **guard)
    assert content(database) == filled.content
    result = run(database, select, stores, batch_rows=40, **guard)

    assert database.accepted() == {name: found - gone.get(name, set()) for name, found in filled.accepted.items()}
    assert codes(database, form) == open_codes - closed
    assert result["remaining"] == 0
    after = content(database)
    again = run(database, {**select, **until_then(result)}, stores, **guard)
    assert (again["changed"], again["revoked"], again["dependents"]) == (False, 0, 0)
    assert content(database) == after
    undone = undo(database, result)
    assert (undone["changed"], undone["left"]) == (True, 0)
    assert content(database) == filled.content
    assert numbers(planned) == numbers(result)


# --- the toolkit: what its endpoint says, and what a crash leaves behind ------------------------------------------------

toolkit = pytest.mark.parametrize(
    "layout", [pytest.param("django_oauth_toolkit", marks=pytest.mark.xdist_group("published django_oauth_toolkit"))]
)
# Of clients that have no secret.
RENEWABLE = """
SELECT r.id::text, r.user_id::text FROM oauth2_provider_refreshtoken AS r JOIN oauth2_provider_application AS a ON a.id = r.application_id
WHERE a.client_type = 'public' AND r.revoked IS NULL ORDER BY r.id
"""


def subject_case() -> Case:
    """Return the toolkit's selection by subject."""
    (found,) = [case for case in LAYOUTS["django_oauth_toolkit"].cases if case.name == "subject"]
    return found


@toolkit
def test_the_token_endpoint_refuses_to_renew_what_was_revoked(layout: str, filled: Filled) -> None:
    database, select = filled.database, selection(filled.database, subject_case())
    asked = {token: user for token, user in database.query(RENEWABLE) if token in filled.accepted["refresh_tokens"]}
    selected = {token for token, user in asked.items() if user in select["subjects"]}
    assert isinstance(database.store, DjangoStore)
    assert selected
    assert database.store.renew(database, asked) == dict.fromkeys(asked, 200)
    result = run(database, select, list(subject_case().where))
    assert database.store.renew(database, asked) == {token: 400 if token in selected else 200 for token in asked}
    undo(database, result)


KILLED = """
import json, os, signal, sys
given = json.loads(sys.argv[1])
from ansible_collections.pgops.runbook.plugins.module_utils import _revocation
from ansible_collections.pgops.runbook.plugins.module_utils._connection import ConnectionOptions, connect
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.apply import Application
change, left = Application._change, [given["changes"]]
def change_or_die(*arguments):
    left[0] -= 1
    if left[0] < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return change(*arguments)
Application._change = change_or_die
options = _revocation.read_options(given["options"])
with connect(ConnectionOptions.from_params(given["login"]), application_name="killed", read_only=False) as session:
    _revocation.run(session, options, check_mode=False)
"""


@toolkit
@pytest.mark.parametrize("changes", [2, 4, 6])
def test_a_killed_run_is_gone_on_with(layout: str, changes: int, filled: Filled) -> None:
    """A refresh token's link is cleared and its access token removed: whoever clears alone would never find the access token again."""
    database, case = filled.database, subject_case()
    select, stores = selection(database, case), list(case.where)
    gone = doomed(database, LAYOUTS[layout], case, select)
    options = {"token_stores": database.description["token_stores"], "stores": stores, "reason": "a test", "select": select}
    once: dict[str, Any] = {"batch_rows": 3, "revocation_id": f"killed-{changes}"}
    given = json.dumps({"login": database.login(), "options": {**options, **once}, "changes": changes})
    environment = {"PYTHONPATH": str(runner.collections_path()), "PATH": "/usr/bin"}
    killed = subprocess.run([sys.executable, "-c", KILLED, given], env=environment, capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    # Its lock goes with its session, a moment after it.
    left = "SELECT FROM pg_stat_activity WHERE application_name LIKE 'killed%%' AND datname = current_database()"
    until(lambda: not database.query(left))
    result = run(database, select, stores, **once)
    assert database.accepted() == {name: found - gone.get(name, set()) for name, found in filled.accepted.items()}
    links = "SELECT count(*) FROM oauth2_provider_refreshtoken WHERE user_id::text = ANY (%s) AND access_token_id IS NOT NULL"
    assert (result["remaining"], database.query(links, [select["subjects"]])) == (0, [(0,)])
    undo(database, result)
    assert content(database) == filled.content


@toolkit
def test_a_store_that_is_held_back_keeps_no_other_from_what_they_share(layout: str, filled: Filled) -> None:
    """The first store was to clear the links to access tokens; the second, which removes them, has to do that itself then."""
    database, case = filled.database, subject_case()
    select, stores = selection(database, case), list(case.where)
    gone = doomed(database, LAYOUTS[layout], case, select)
    with database.connect() as session:
        session.execute("BEGIN")
        session.execute("SELECT FROM oauth2_provider_grant WHERE user_id::text = ANY (%s) FOR UPDATE", [select["subjects"]])
        with pytest.raises(Unproven) as caught:
            run(database, select, stores, max_wait="500 ms", revocation_id="held-back")
        session.execute("ROLLBACK")
    still = database.accepted()
    assert {name: still[name] & gone[name] for name in ("access_tokens", "id_tokens")} == {"access_tokens": set(), "id_tokens": set()}
    assert caught.value.result["remaining"] > 0
    result = run(database, select, stores, revocation_id="held-back")
    assert result["remaining"] == 0
    assert database.accepted() == {name: found - gone.get(name, set()) for name, found in filled.accepted.items()}
    undo(database, result)
    assert content(database) == filled.content
