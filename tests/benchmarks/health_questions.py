"""What the hourly checks of pg_health ask, as a playbook of community.postgresql asks it: a task a question, against our one task."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from tests.ground.runner import AnsibleRunner, PlaybookResult

QUERY = "community.postgresql.postgresql_query"
# By the id of the check; each the plain statement that a careful person would write. From PostgreSQL 13 on.
QUESTIONS = {
    "conn.used_pct": "SELECT 100.0 * count(*) / current_setting('max_connections')::int FROM pg_stat_activity"
    " WHERE backend_type = 'client backend'",
    "conn.slots_left": "SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int - count(*)"
    " FROM pg_stat_activity WHERE backend_type = 'client backend'",
    "conn.active": "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND backend_type = 'client backend'",
    "conn.states": "SELECT state, count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' GROUP BY state",
    "conn.idle_in_transaction": "SELECT extract(epoch FROM max(now() - state_change))::float8 FROM pg_stat_activity"
    " WHERE state LIKE 'idle in transaction%'",
    "conn.idle": "SELECT extract(epoch FROM max(now() - state_change))::float8 FROM pg_stat_activity WHERE state = 'idle'",
    "conn.clients": "SELECT application_name, usename, datname, client_addr::text, count(*) FROM pg_stat_activity"
    " WHERE backend_type = 'client backend' GROUP BY 1, 2, 3, 4 ORDER BY 5 DESC LIMIT 50",
    "transaction.longest": "SELECT pid, usename, extract(epoch FROM now() - xact_start)::float8 FROM pg_stat_activity"
    " WHERE xact_start IS NOT NULL AND backend_type = 'client backend' ORDER BY xact_start LIMIT 20",
    "query.longest": "SELECT pid, usename, extract(epoch FROM now() - query_start)::float8 FROM pg_stat_activity"
    " WHERE state = 'active' AND backend_type = 'client backend' ORDER BY query_start LIMIT 20",
    "lock.blocked": "SELECT pid, pg_blocking_pids(pid) FROM pg_stat_activity WHERE cardinality(pg_blocking_pids(pid)) > 0",
    "lock.wait": "SELECT extract(epoch FROM max(now() - state_change))::float8 FROM pg_stat_activity WHERE wait_event_type = 'Lock'",
    "twophase.age": "SELECT gid, database, extract(epoch FROM now() - prepared)::float8 FROM pg_prepared_xacts",
    "xmin.horizon": "SELECT (SELECT max(age(backend_xmin)) FROM pg_stat_activity), (SELECT max(age(xmin)) FROM pg_replication_slots),"
    " (SELECT max(age(catalog_xmin)) FROM pg_replication_slots), (SELECT max(age(transaction)) FROM pg_prepared_xacts)",
    "xid.age_pct": "SELECT datname, age(datfrozenxid) / 21474836.48::float8 FROM pg_database ORDER BY 2 DESC",
    "mxid.age_pct": "SELECT datname, mxid_age(datminmxid) / 21474836.48::float8 FROM pg_database ORDER BY 2 DESC",
    "slot.inactive": "SELECT slot_name FROM pg_replication_slots WHERE NOT active",
    "slot.retained": "SELECT slot_name, pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::float8 FROM pg_replication_slots",
    "slot.wal_status": "SELECT slot_name, wal_status FROM pg_replication_slots WHERE wal_status <> 'reserved'",
    "slot.invalidated": "SELECT slot_name FROM pg_replication_slots WHERE wal_status = 'lost'",
    "repl.lag_bytes": "SELECT application_name, pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn)::float8 FROM pg_stat_replication",
    "repl.lag_time": "SELECT application_name, extract(epoch FROM replay_lag)::float8 FROM pg_stat_replication",
    "repl.receiver_down": "SELECT status FROM pg_stat_wal_receiver",
    "wal.archive_failing": "SELECT failed_count, last_failed_time::text, last_archived_time::text FROM pg_stat_archiver",
    "wal.archive_stuck": "SELECT count(*) FROM pg_ls_archive_statusdir() WHERE name LIKE '%.ready'",
    "wal.dir_size": "SELECT sum(size)::float8 FROM pg_ls_waldir()",
    "data.checksum_failures": "SELECT datname, checksum_failures FROM pg_stat_database WHERE checksum_failures > 0",
}
# What modules of their own answer.
OTHER_TASKS: dict[str, tuple[str, dict[str, Any]]] = {
    "avail.connect": ("community.postgresql.postgresql_ping", {}),
    "avail.recovering": ("community.postgresql.postgresql_info", {"filter": ["in_recovery"]}),
    "repl.standbys": ("community.postgresql.postgresql_info", {"filter": ["replications"]}),
}
ASKED = (*OTHER_TASKS, *QUESTIONS)


def separate_tasks(login: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the tasks of community.postgresql."""
    return [dict(task) for task in _tasks(login)]


def _tasks(login: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for name, (module, arguments) in OTHER_TASKS.items():
        yield {"name": name, module: {**login, **arguments}}
    for name, query in QUESTIONS.items():
        # Without arguments a percent sign is one.
        yield {"name": name, QUERY: {**login, "query": query}}


def our_task(login: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the one task that asks all of it."""
    return [{"name": "pg_health", "pgops.runbook.pg_health": {**login, "tier": "hourly", "fail_on": "never"}}]


def play(runner: AnsibleRunner, tasks: list[dict[str, Any]]) -> PlaybookResult:
    """Run the tasks in a process of ansible-playbook that starts for them, as an operator's does. Raises RuntimeError for a failed one."""
    # A variable of Ansible's own keeps the runner from the process that has everything imported already.
    done = runner.play(
        [{"hosts": "all", "gather_facts": False, "tasks": tasks}],
        {"localhost": {}},
        driver="psycopg2",
        env={"ANSIBLE_FORKS": "5"},
    )
    failed = [f"{task.task}: {task.result.get('msg')}" for task in done.tasks if task.status != "ok"]
    if failed or done.rc != 0:
        raise RuntimeError(f"ansible-playbook ended with {done.rc}; {'; '.join(failed)}\n{done.stderr}")
    return done


def result_bytes(done: PlaybookResult) -> int:
    """Return the size of what the tasks returned."""
    return sum(len(json.dumps(task.result)) for task in done.tasks)
