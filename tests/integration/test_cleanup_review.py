"""What a critical reading found: each of these failed on the code that it was written against."""

from __future__ import annotations

import contextlib
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pgops.runbook.plugins.module_utils import _cleanup
from ansible_collections.pgops.runbook.plugins.module_utils._cleanup.apply import Apply
from ansible_collections.pgops.runbook.plugins.module_utils._errors import InvalidValue, RunbookError
from tests.integration.cleaning import Cleaner, rule

pytestmark = pytest.mark.any_driver

FLAG = {
    "name": "app",
    "tokens": {"table": "public.refresh", "id": "id", "expires_at": "expires_at"},
    "revoke": {"how": "flag", "column": "revoked"},
}
SESSIONS = """
CREATE TABLE public.sessions (id bigint PRIMARY KEY, expires_at timestamptz);
CREATE TABLE public.refresh (id bigint PRIMARY KEY, session bigint REFERENCES public.sessions ON DELETE {action}, expires_at timestamptz);
CREATE INDEX ON public.refresh (session);
INSERT INTO public.sessions SELECT n, now() - interval '1 day' FROM generate_series(1, 600) n;
INSERT INTO public.refresh SELECT n, n, now() - interval '1 day' FROM generate_series(1, 600) n;
"""


@pytest.mark.parametrize("function", ["pg_relation_size", "pg_total_relation_size"])
def test_nobody_runs_code_as_the_role_by_a_function_in_public(cleaner: Cleaner, function: str) -> None:
    role = f"mallory_{cleaner.database.name}"
    cleaner.sql("CREATE SCHEMA app; CREATE TABLE app.t (expires_at timestamptz); INSERT INTO app.t VALUES (now() - interval '1 day')")
    cleaner.sql(f"CREATE ROLE {role}; GRANT CREATE, USAGE ON SCHEMA public TO {role}")  # the default of PostgreSQL 12 to 14
    cleaner.sql(
        f"SET ROLE {role}; CREATE FUNCTION public.{function}(oid) RETURNS bigint LANGUAGE plpgsql AS"
        f" $$ BEGIN EXECUTE 'ALTER ROLE {role} SUPERUSER'; RETURN 8192; END $$"
    )
    try:
        cleaner.run([rule("app.t")])
        assert cleaner.sql("SELECT rolsuper FROM pg_roles WHERE rolname = %s", (role,)) == [(False,)]
    finally:
        cleaner.sql(f"DROP OWNED BY {role}; DROP ROLE {role}")


def test_a_cascade_takes_no_row_that_keeps_a_token_revoked(cleaner: Cleaner) -> None:
    cleaner.sql("CREATE TABLE public.sessions (id bigint PRIMARY KEY, seen timestamptz)")
    cleaner.sql(
        "CREATE TABLE public.refresh (id bigint, session bigint REFERENCES public.sessions ON DELETE CASCADE,"
        " revoked boolean, expires_at timestamptz)"
    )
    cleaner.sql("INSERT INTO public.sessions VALUES (1, now() - interval '40 days')")
    cleaner.sql("INSERT INTO public.refresh VALUES (7, 1, true, now() + interval '30 days')")
    with pytest.raises(InvalidValue, match="keep tokens revoked"):
        cleaner.run([rule("public.sessions", "seen", "30 days")], token_stores=[FLAG])
    assert cleaner.count("public.refresh") == 1


def test_a_foreign_key_gives_no_revoked_token_back(cleaner: Cleaner) -> None:
    store = {**FLAG, "revoke": {"how": "timestamp", "column": "revoked_at"}}
    cleaner.sql("CREATE TABLE public.purges (at timestamptz PRIMARY KEY)")
    cleaner.sql(
        "CREATE TABLE public.refresh (id bigint, revoked_at timestamptz REFERENCES public.purges ON DELETE SET NULL,"
        " expires_at timestamptz)"
    )
    cleaner.sql("INSERT INTO public.purges VALUES ('2026-01-01')")
    cleaner.sql("INSERT INTO public.refresh VALUES (7, '2026-01-01', now() + interval '30 days')")
    with pytest.raises(InvalidValue, match="keep tokens revoked"):
        cleaner.run([rule("public.purges", "at")], token_stores=[store])
    assert cleaner.sql("SELECT revoked_at IS NOT NULL FROM public.refresh") == [(True,)]


def test_a_cascade_takes_no_limit_before_which_tokens_are_revoked(cleaner: Cleaner) -> None:
    tokens = {"table": "public.tok", "id": "id", "issued_at": "issued_at", "expires_at": "expires_at", "subject": "subject"}
    limit = {"table": "public.users", "column": "not_before", "by": "subject", "id": "id"}
    store = {"name": "app", "tokens": tokens, "revoke": {"how": "not_before"}, "not_before": [limit]}
    cleaner.sql("CREATE TABLE public.tenants (id bigint PRIMARY KEY, closed timestamptz)")
    cleaner.sql(
        "CREATE TABLE public.users (id text PRIMARY KEY, tenant bigint REFERENCES public.tenants ON DELETE CASCADE, not_before timestamptz)"
    )
    cleaner.sql("CREATE TABLE public.tok (id text, subject text, issued_at timestamptz, expires_at timestamptz)")
    cleaner.sql("INSERT INTO public.tenants VALUES (1, now() - interval '40 days')")
    cleaner.sql("INSERT INTO public.users VALUES ('u', 1, now())")
    with pytest.raises(InvalidValue, match="keep tokens revoked"):
        cleaner.run([rule("public.tenants", "closed", "30 days")], token_stores=[store])
    assert cleaner.count("public.users") == 1


@pytest.mark.parametrize("partitions_", [100])  # 200: 115 s and 7 GB
def test_keep_latest_on_many_partitions_costs_what_the_table_costs(cleaner: Cleaner, partitions_: int) -> None:
    cleaner.sql("CREATE TABLE public.t (id bigint, who int, at timestamptz) PARTITION BY RANGE (at)")
    for n in range(partitions_):
        start = f"'2024-01-01'::timestamptz + interval '{n} days'"
        cleaner.sql(f"CREATE TABLE public.t_{n} PARTITION OF public.t FOR VALUES FROM ({start}) TO ({start} + interval '1 day')")
    cleaner.sql(
        f"INSERT INTO public.t SELECT n, n % 1000, '2024-01-01'::timestamptz + n % {partitions_} * interval '1 day'"
        " FROM generate_series(1, 7000) n"
    )
    options = _cleanup.read_options({"rules": [rule("public.t", "at", "1 d", keep_latest={"rows": 1, "per": ["who"]})]})
    with cleaner.open(read_only=True) as session:
        _cleanup.clean_up(session, options, check_mode=True)
        status = Path(f"/proc/{session.backend_pid}/status").read_text()
    assert int(status.split("VmHWM:")[1].split()[0]) < 200_000  # kB


def _moved(cleaner: Cleaner, rules: list[dict[str, Any]], watch: Any) -> None:
    options = _cleanup.read_options({"rules": rules})
    with cleaner.open() as session:
        _cleanup.clean_up(session, options, check_mode=False, watch=watch)


def test_a_table_that_took_the_place_of_the_planned_one_is_archived_whole_or_not_at_all(cleaner: Cleaner) -> None:
    cleaner.sql("CREATE TABLE public.t (id bigint, expires_at timestamptz)")
    cleaner.sql("INSERT INTO public.t SELECT n, now() - interval '1 day' FROM generate_series(1, 10) n")
    done: list[int] = []

    def swap(_view: Any) -> None:
        if not done:
            done.append(1)
            cleaner.sql("CREATE TABLE public.t_new AS SELECT id, expires_at, 'acme'::text AS tenant FROM public.t")
            cleaner.sql("ALTER TABLE public.t RENAME TO t_old; ALTER TABLE public.t_new RENAME TO t")

    with contextlib.suppress(RunbookError):
        _moved(cleaner, [rule("public.t", action="archive", archive={"table": "public.kept", "create": True})], swap)
    kept = [row[0].get("tenant") for row in cleaner.sql("SELECT to_jsonb(k) FROM public.kept k")]
    assert kept + cleaner.column("SELECT tenant FROM public.t") == ["acme"] * 10


def test_what_an_earlier_rule_passed_over_is_not_removed_by_a_later_one(cleaner: Cleaner, monkeypatch: pytest.MonkeyPatch) -> None:
    cleaner.sql("CREATE TABLE public.t (id text, who text, at timestamptz)")
    cleaner.sql("INSERT INTO public.t VALUES ('older', 'u', now() - interval '200 days'), ('newer', 'u', now() - interval '100 days')")
    kept = {"action": "archive", "archive": {"table": "public.kept", "create": True}, "keep_latest": {"rows": 1, "per": ["who"]}}
    rules = [rule("public.t", "at", "30 days", **kept), rule("public.t", "at", "90 days", name="second")]
    with cleaner.database.connect() as other:
        other.execute("BEGIN")
        other.execute("SELECT FROM public.t WHERE id = 'older' FOR UPDATE")
        original = Apply._rule

        def then_free(work: Apply, run: Any) -> None:
            original(work, run)
            if run.planned.target.index == 0:
                other.execute("COMMIT")

        monkeypatch.setattr(Apply, "_rule", then_free)
        cleaner.run(rules)
    assert cleaner.column("SELECT id FROM public.t UNION ALL SELECT id FROM public.kept") == ["older"]


def test_a_chain_of_rows_that_refer_to_each_other_goes(cleaner: Cleaner) -> None:
    cleaner.sql("CREATE TABLE public.refresh (id bigint PRIMARY KEY, previous bigint REFERENCES public.refresh, expires_at timestamptz)")
    cleaner.sql("CREATE INDEX ON public.refresh (previous)")
    cleaner.sql("INSERT INTO public.refresh SELECT n, nullif(n - 1, 0), now() - interval '1 day' FROM generate_series(1, 60000) n")
    assert cleaner.run([rule("public.refresh")])["removed"] == 60000


def test_rows_left_knows_of_cascades(cleaner: Cleaner) -> None:
    cleaner.sql("CREATE TABLE public.parent (id bigint PRIMARY KEY, expires_at timestamptz)")
    cleaner.sql("CREATE TABLE public.child (id bigint, parent bigint REFERENCES public.parent ON DELETE CASCADE, expires_at timestamptz)")
    cleaner.sql("INSERT INTO public.parent SELECT n, now() - interval '1 day' FROM generate_series(1, 5) n")
    cleaner.sql("INSERT INTO public.child SELECT n, n, now() + (n - 3.5) * interval '1 day' FROM generate_series(1, 5) n")
    result = cleaner.run([rule("public.child"), rule("public.parent")])
    assert result["rules"][0]["rows_left"] == cleaner.count("public.child")


def test_a_row_that_a_rule_on_a_child_covers_is_counted_once(cleaner: Cleaner) -> None:
    cleaner.sql("CREATE TABLE public.log (id bigint, at timestamptz)")
    cleaner.sql("CREATE TABLE public.log_a (kind text) INHERITS (public.log)")
    cleaner.sql("INSERT INTO public.log_a SELECT n, now() - interval '1 day', 'x' FROM generate_series(1, 5) n")
    rules = [rule("public.log_a", "at", where=[{"column": "kind", "operator": "=", "value": "x"}]), rule("public.log", "at")]
    checked = cleaner.run(rules, check=True)
    assert checked["removed"] == cleaner.run(rules)["removed"]


def test_the_application_is_no_victim_of_a_deadlock(cleaner: Cleaner) -> None:
    cleaner.sql(SESSIONS.format(action="CASCADE"))
    refused, locked = [], threading.Event()

    def rotate() -> None:
        with cleaner.database.connect() as application:
            application.execute("BEGIN")
            application.execute("SELECT FROM public.refresh WHERE id = 6 FOR UPDATE")
            locked.set()
            time.sleep(2.5)
            try:
                application.execute("UPDATE public.sessions SET expires_at = now() + interval '1 day' WHERE id = 6")
                application.execute("COMMIT")
            except Exception as error:  # noqa: BLE001  (handed to the test)
                refused.append(str(error))

    thread = threading.Thread(target=rotate)
    thread.start()
    locked.wait()
    with contextlib.suppress(RunbookError):
        cleaner.run([rule("public.sessions")])
    thread.join()
    assert refused == []
