"""Results of pg_health as its contract has them, made by hand: a rich one, hostile ones, and what is left of one that was refused."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

NOW = int(datetime(2026, 11, 21, 10, 0, 41, tzinfo=UTC).timestamp())
HOUR, DAY = 3600, 86400
GB = 1 << 30
HOSTILE = (
    "<script>alert('x')</script>\"'`|*_[a](http://evil.example/)\n\t\x00\x1b[31m\u202e\u0431\u2028ö🐘 "
    "{{ 7 * 7 }} {% raw %} ${IFS} $(id) `id`"
)


def iso(epoch: float) -> str:
    return datetime.fromtimestamp(epoch, UTC).isoformat()


def hourly(days: int, value: Any, *, missing: range = range(0)) -> list[list[float]]:
    """Return points of every hour of the last `days`, but the hours in `missing`, counted back from now."""
    hours = [hour for hour in range(days * 24, -1, -1) if hour not in missing]
    return [[NOW - hour * HOUR, value(-hour)] for hour in hours]


def wave(base: float, swing: float, phase: float = 0.0) -> Any:
    """Return a function over hours with a day's rhythm and a little unrest."""

    def at(hour: float) -> float:
        daily = math.sin((hour + 10 + phase) / 24 * 2 * math.pi)
        return max(0.0, round(base + swing * daily + swing * 0.3 * math.sin(hour * 2.7 + phase) + swing * 0.15 * math.sin(hour * 9.1), 1))

    return at


def check(
    check_id: str, title: str, status: str = "ok", value: float | None = None, unit: str | None = None, **more: Any
) -> dict[str, Any]:
    thresholds = {"warning": more.pop("warning", None), "critical": more.pop("critical", None), "minimum": None, "sources": {}}
    said: dict[str, Any] = {
        "id": check_id,
        "title": title,
        "group": check_id.split(".", 1)[0],
        "tier": "hourly",
        "status": status,
        "message": "nothing to tell",
        "value": value,
        "unit": unit,
        "thresholds": thresholds,
        "action": "Look.",
        "needs": "pg_monitor",
        "objects": 1,
        "findings_total": 0 if status in ("ok", "skipped") else 1,
        "suppressed": 0,
        "timing_ms": 1.3,
    }
    return {**said, **more}


def finding(check_id: str, title: str, severity: str, message: str, **more: Any) -> dict[str, Any]:
    item = more.get("object", "")
    said = {
        "key": f"{check_id}[{item}]" if item else check_id,
        "check": check_id,
        "title": title,
        "severity": severity,
        "object": item,
        "message": message,
        "value": None,
        "unit": None,
        "warning": None,
        "critical": None,
        "threshold": None,
        "threshold_source": "default",
        "action": "Look at it.",
        "sqlstate": None,
        "layer": None,
        "change": "same",
        "first_seen": iso(NOW - 9 * DAY),
    }
    return {**said, **more}


def findings() -> list[dict[str, Any]]:
    """Return eight findings and two of what could not be seen."""
    sequence = {"object": "public.payments_id_seq", "value": 91.4, "unit": "percent", "warning": 70.0, "critical": 85.0, "threshold": 85.0}
    blocked = {"object": "migrator", "value": 412.0, "unit": "seconds", "warning": 60.0, "critical": 300.0, "threshold": 300.0}
    slot = {"object": "reporting_replica", "value": 63.2, "unit": "percent", "warning": 50.0, "critical": 80.0, "threshold": 50.0}
    dead = {"object": "shop.order_lines", "value": 310.0, "unit": "percent", "warning": 200.0, "critical": 500.0, "threshold": 200.0}
    disk = {"object": "/var/lib/postgresql", "value": 17.8, "unit": "percent", "warning": 20.0, "critical": 10.0, "threshold": 20.0}
    bloat = {"object": "shop.sessions", "value": 43.0, "unit": "percent", "warning": 30.0, "critical": 60.0, "threshold": 30.0}
    return [
        finding(
            "seq.exhaustion", "Sequences that run out", "critical",
            "91.4 % of the numbers that its column can hold are used, 23 days are left",
            action='Widen the column before the sequence ends: ALTER TABLE public.payments ALTER COLUMN "id" TYPE bigint;',
            change="worse", first_seen=iso(NOW - 12 * DAY), **sequence,
        ),
        finding(
            "lock.wait", "Sessions that wait for a lock", "critical",
            "9 sessions wait for at most 6 min 52 s behind an ALTER TABLE of migrator, which itself waits for an idle transaction",
            action="End the transaction at the root, or the ALTER TABLE that everybody queues behind: SELECT pg_cancel_backend(<process>);",
            change="new", first_seen=iso(NOW), **blocked,
        ),
        finding(
            "slot.retained", "WAL that slots hold back", "warning", "holds back 6.3 GB of WAL, 63.2 % of max_slot_wal_keep_size",
            action="If nothing reads it any more: SELECT pg_drop_replication_slot('reporting_replica');", change="worse",
            first_seen=iso(NOW - 2 * DAY - 5 * HOUR), **slot,
        ),
        finding(
            "vac.dead_overdue", "Tables overdue for VACUUM", "warning",
            "3.1 times the dead rows at which autovacuum should have begun: 4,120,331",
            action="Look for an old transaction first, then: VACUUM (ANALYZE) shop.order_lines;", **dead,
        ),
        finding(
            "disk.free_pct", "Free disk space", "warning", "17.8 % of 500 GB are free, gone in 41 days as it goes", change="new",
            first_seen=iso(NOW), threshold_source="system", action="Extend the volume, or archive old data.", **disk,
        ),
        finding(
            "bloat.table", "Bloated tables", "warning", "an estimated 5.2 GB of 12.1 GB are empty",
            action="Rewrite it in a quiet hour, it locks the table: VACUUM (FULL, ANALYZE) shop.sessions;", change="better", **bloat,
        ),
        finding(
            "cfg.pending_restart", "Settings that wait for a restart", "warning", "shared_buffers waits for a restart",
            object="shared_buffers",
            action="Plan a restart.",
        ),
        finding(
            "ver.minor", "Minor release", "warning", "16.4 is 6 releases behind 16.10, which mends 4 security problems",
            action="Install the newest minor release and restart.", first_seen=iso(NOW - 60 * DAY),
        ),
        finding(
            "security.md5", "Passwords kept as md5", "unknown", "the role may not read pg_authid", sqlstate="42501", change="same",
            action="As a superuser: GRANT SELECT (rolname, rolpassword) ON pg_catalog.pg_authid TO pgops_monitor;",
        ),
        finding(
            "bloat.index", "Bloated indexes", "unknown", "the role may not see the statistics of 212 of 214 indexes", change="new",
            first_seen=iso(NOW),
            action="As a superuser: GRANT SELECT (starelid, staattnum, stainherit, stanullfrac, stawidth) ON pg_catalog.pg_statistic "
            "TO pgops_monitor;",
        ),
    ]  # fmt: skip


def checks() -> list[dict[str, Any]]:
    """Return a check for each finding and some that are well."""
    wrong = [
        check("seq.exhaustion", "Sequences that run out", "critical", 91.4, "percent", warning=70.0, critical=85.0, objects=118,
              message="public.payments_id_seq: 91.4 % of the numbers that its column can hold are used", timing_ms=31.2, tier="daily"),
        check("lock.wait", "Sessions that wait for a lock", "critical", 412.0, "seconds", warning=60.0, critical=300.0),
        check("slot.retained", "WAL that slots hold back", "warning", 63.2, "percent", warning=50.0, critical=80.0),
        check("vac.dead_overdue", "Tables overdue for VACUUM", "warning", 310.0, "percent", warning=200.0, critical=500.0,
              findings_total=4),
        check("disk.free_pct", "Free disk space", "warning", 17.8, "percent", warning=20.0, critical=10.0, tier="daily"),
        check("bloat.table", "Bloated tables", "warning", 43.0, "percent", warning=30.0, critical=60.0, tier="weekly", suppressed=1),
        check("cfg.pending_restart", "Settings that wait for a restart", "warning"),
        check("ver.minor", "Minor release", "warning", tier="weekly"),
        check("security.md5", "Passwords kept as md5", "unknown", tier="monthly"),
        check("bloat.index", "Bloated indexes", "unknown", unit="percent", warning=30.0, critical=60.0, tier="weekly"),
    ]  # fmt: skip
    well = [
        check("avail.connect", "The database takes connections", message="connected in 4 ms"),
        check("conn.used_pct", "Connections in use", "ok", 61.9, "percent", warning=80.0, critical=90.0, message="60 of 97 connections"),
        check("conn.slots_left", "Connections that are left", "ok", 37.0, "count", message="37 left"),
        check("xid.age_pct", "Age of transaction ids", "ok", 23.1, "percent", warning=40.0, critical=60.0),
        check("mxid.age_pct", "Age of multixact ids", "ok", 3.4, "percent", warning=40.0, critical=60.0),
        check("repl.lag_time", "Replication lag in time", "ok", 2.4, "seconds", warning=60.0, critical=600.0),
        check("cache.hit_pct", "Blocks found in shared buffers", "ok", 99.4, "percent", warning=90.0, critical=80.0),
        check("backup.age", "Age of the last backup", "ok", 29000.0, "seconds", warning=93600.0, critical=180000.0),
        check("transaction.longest", "Longest transaction", "ok", 812.0, "seconds", warning=1800.0, critical=3600.0),
        check("db.rollback_pct", "Transactions rolled back", "ok", 0.4, "percent"),
        check("token.revocation_rate", "Revocations against issues", "ok", 1.2, "percent", warning=10.0, critical=50.0),
        check("size.database", "Size of the database", "ok", 411.0 * GB, "bytes", tier="daily"),
        check("redis.memory", "Memory of the cache", "skipped", unit="percent", message="the system has no cache"),
        check("repl.receiver_down", "Receiver of the standby", "skipped", message="this is no standby"),
    ]
    return wrong + well


def details() -> dict[str, list[dict[str, Any]]]:
    texts = [
        "UPDATE shop.sessions SET seen_at = $1, data = $2 WHERE id = $3",
        "SELECT o.id, o.placed_at, sum(l.price * l.quantity) FROM shop.orders o JOIN shop.order_lines l ON l.order_id = o.id "
        "WHERE o.customer_id = $1 GROUP BY o.id ORDER BY o.placed_at DESC LIMIT $2",
        "INSERT INTO shop.events (kind, payload) VALUES ($1, $2)",
        "SELECT * FROM shop.products WHERE to_tsvector($1, name) @@ plainto_tsquery($1, $2)",
        "DELETE FROM custom.denylist WHERE expiration_at < $1",
    ]  # fmt: skip
    shares = (38.2, 21.7, 9.9, 6.1, 1.4)
    names = ("shop.sessions", "shop.events_2026_10", "shop.order_lines_order_id_product_id_idx", "shop.carts", "custom.jwt_metadata_pkey")
    bloat = ((12.1, 5.2), (30.5, 3.9), (4.4, 1.9), (2.0, 0.3), (1.1, 0.25))
    return {
        "statements": [
            {"queryid": str(7349 * (place + 3)), "text": text, "calls": 918231 // (place + 1), "total_ms": share * 91000,
             "mean_ms": 4.1 * (place + 1),
             "share_pct": share, "rows": 91823, "since": iso(NOW - 20 * DAY)}
            for place, (text, share) in enumerate(zip(texts, shares, strict=True))
        ],
        "bloat": [
            {"object": name, "kind": "index" if name.endswith(("idx", "pkey")) else "table", "bytes": size * GB, "bloat_bytes": waste * GB,
             "bloat_pct": round(100 * waste / size, 1), "is_estimate": True, "reliable": place != 3,
             "why": "no statistics of 2 columns" if place == 3 else None}
            for place, (name, (size, waste)) in enumerate(zip(names, bloat, strict=True))
        ],
        "backups": [
            {"finished_at": iso(NOW - day * DAY - 8 * HOUR), "kind": "full" if day % 7 == 0 else "incremental",
             "bytes": (190 + 30 - day if day % 7 == 0 else 14 + day % 5) * GB,
             "seconds": 5400.0 if day % 7 == 0 else 700.0, "verified": day % 7 == 0,
             "verified_at": iso(NOW - day * DAY) if day % 7 == 0 else None}
            for day in range(21, -1, -1) if day != 9
        ],
        "blocking": [
            {"root": "idle in transaction of app_worker", "waiters": 9, "longest_seconds": 412.0, "locked": "shop.orders",
             "ddl_queue": True},
            {"root": "prepared transaction gate_17", "waiters": 1, "longest_seconds": 38.0, "locked": "shop.carts", "ddl_queue": False},
        ],
        "clients": [
            {"application": "shop-api", "user": "shop", "database": "shop", "address": "10.2.0.14", "sessions": 31},
            {"application": "shop-api", "user": "shop", "database": "shop", "address": "10.2.0.15", "sessions": 18},
            {"application": "metabase", "user": "analyst", "database": "shop", "address": "10.2.9.3", "sessions": 7},
        ],
        "hot": [{"table": "shop.sessions", "updates": 91823100, "hot_pct": 71.3},
                {"table": "shop.carts", "updates": 1203911, "hot_pct": 98.0}],
    }  # fmt: skip


def series() -> dict[str, list[list[float]]]:
    gap = range(52, 57)
    return {
        "conn.states[active]": hourly(5, lambda hour: round(wave(14, 9)(hour)), missing=gap),
        "conn.states[idle]": hourly(5, lambda hour: round(wave(34, 12, 2)(hour)), missing=gap),
        "conn.states[idle in transaction]": hourly(5, lambda hour: 9.0 if hour > -7 else 2.0 + hour % 2, missing=gap),
        "conn.states[idle in transaction (aborted)]": hourly(5, lambda hour: 1.0 if hour > -4 else 0.0, missing=gap),
        "conn.slots": hourly(5, lambda hour: 97.0, missing=gap),
        "conn.used_pct": hourly(5, wave(52, 22), missing=gap),
        "size.database": [[NOW - day * DAY, (411 - day * 1.9 - 2 * math.sin(day / 2)) * GB] for day in range(30, -1, -1)],
        "disk.free_pct[/var/lib/postgresql]": [[NOW - day * DAY, 17.8 + day * 0.43 + math.sin(day)] for day in range(30, -1, -1)],
        "repl.lag_time[standby-2]": hourly(5, wave(3, 4), missing=gap),
        "repl.lag_time[standby-1]": hourly(5, lambda hour: 55.0 if -31 < hour < -28 else abs(wave(2, 2, 5)(hour)), missing=gap),
        "transaction.longest": hourly(5, lambda hour: 812.0 if hour == 0 else wave(240, 300, 3)(hour), missing=gap),
        "db.transaction_rate": hourly(5, wave(830, 410), missing=gap),
        "db.rollback_pct": hourly(5, wave(0.5, 0.4), missing=gap),
        "cache.hit_pct": hourly(5, lambda hour: 99.4 - 0.4 * math.sin(hour / 3), missing=gap),
        "lock.blocked": hourly(5, lambda hour: 9.0 if hour == 0 else 0.0, missing=gap),
        "xid.age_pct": [[NOW - day * DAY, 23.1 - day * 0.3] for day in range(30, -1, -1)],
        "seq.exhaustion[public.payments_id_seq]": [[NOW - day * DAY, 91.4 - day * 0.37] for day in range(30, -1, -1)],
        "token.revocation_rate[custom]": hourly(5, wave(1.2, 1.0), missing=gap),
        "token.revocation_rate[tara]": hourly(5, wave(0.7, 0.9, 4), missing=gap),
    }


def forecasts() -> list[dict[str, Any]]:
    since = iso(NOW - 30 * DAY)
    return [
        {"metric": "size.database", "title": "Size of the database", "unit": "bytes", "now": 411 * GB, "per_day": 1.9 * GB,
         "limit": 490 * GB,
         "days_left": 41.4, "points": 31, "since": since},
        {"metric": "disk.free_pct[/var/lib/postgresql]", "title": "Free disk space", "unit": "percent", "now": 17.8, "per_day": -0.43,
         "limit": 0,
         "days_left": 41.4, "points": 31, "since": since},
        {"metric": "seq.exhaustion[public.payments_id_seq]", "title": "Sequences that run out", "unit": "percent", "now": 91.4,
         "per_day": 0.37,
         "limit": 100, "days_left": 23.2, "points": 31, "since": since},
        {"metric": "xid.age_pct", "title": "Age of transaction ids", "unit": "percent", "now": 23.1, "per_day": 0.3, "limit": 100,
         "days_left": 256.0,
         "points": 31, "since": since},
        {"metric": "mxid.age_pct", "title": "Age of multixact ids", "unit": "percent", "now": 3.4, "per_day": 0.0, "limit": 100,
         "days_left": None,
         "points": 31, "since": since},
    ]  # fmt: skip


def rich() -> dict[str, Any]:
    """Return a result with everything in it: five days of hours with a hole, a month of days, ten findings, every detail."""
    found = findings()
    numbers = {key: points[-1][1] for key, points in series().items()}
    return {
        "changed": False,
        "failed": False,
        "status": "critical",
        "exit_code": 2,
        "summary": "shop critical: 2 critical, 6 warning, 2 unknown",
        "time": iso(NOW),
        "system": "shop",
        "tier": "monthly",
        "checks": checks(),
        "findings": found,
        "suppressed": [
            {**finding("bloat.table", "Bloated tables", "warning", "an estimated 2.0 GB of 30.5 GB are empty",
                       object="shop.events_2026_10"),
             "reason": "the partition is dropped at the end of the month", "until": "2026-12-01"},
        ],
        "resolved": [
            {"key": "repl.lag_time[standby-1]", "check": "repl.lag_time", "title": "Replication lag in time", "object": "standby-1",
             "severity": "warning",
             "message": "75 s behind", "first_seen": iso(NOW - 31 * HOUR)},
            {"key": "backup.age", "check": "backup.age", "title": "Age of the last backup", "object": "", "severity": "critical",
             "message": "the last backup is 51 h old", "first_seen": iso(NOW - 20 * HOUR)},
        ],
        "metrics": {
            **numbers,
            "mxid.age_pct": 3.4,
            "seq.exhaustion[public.orders_id_seq]": 34.0,
            "seq.exhaustion[shop.audit_id_seq]": 71.5,
            "db.xact_commit_total": 918273645,
            "repl.lag_bytes[standby-1]": 18432.0,
        },
        "unknown": ["security.md5", "bloat.index"],
        "tables": [
            {"table": "custom.jwt_metadata", "rows": 4120332, "rows_is_estimate": True, "bytes": 3 * GB},
            {"table": "custom.denylist", "rows": 20331, "rows_is_estimate": False, "bytes": 8 << 20},
        ],
        "server": {
            "version": "16.4", "version_number": 160004, "in_recovery": False, "time": iso(NOW), "started": iso(NOW - 41 * DAY),
            "sees_all_sessions": True, "driver": "psycopg2", "database": "shop", "user": "pgops_monitor",
        },
        "timing_ms": 412.7,
        "round_trips": 21,
        "notices": ["pg_stat_statements counts since 20 days; 3 statements were evicted"],
        "history": {"kept_in": "schema", "place": "pgops_history", "previous": iso(NOW - HOUR), "snapshots": 743, "recorded": True,
                    "note": None},
        "series": series(),
        "forecasts": forecasts(),
        "details": details(),
        "snapshot": {"big": True},
    }  # fmt: skip


def hostile() -> dict[str, Any]:
    """Return a result in which every text of others is an attack, and every list is longer than it should be."""
    long = HOSTILE + "x" * 200
    found = [
        finding(
            "bloat.table", long, severity, f"{HOSTILE} {number}", object=f"{long}{number}", value=1e300 if number == 1 else -4.5,
            unit="percent",
            warning=30.0, critical=60.0, threshold=30.0, action=f"{HOSTILE}: DROP TABLE \"</pre><script>alert(1)</script>``` ; x\";",
            change="new",
        )
        for number, severity in enumerate(["critical", "warning", "unknown", "odd"] * 40)
    ]  # fmt: skip
    names = [f"size.database[{HOSTILE}{number}]" for number in range(60)]
    return {
        **rich(),
        "system": HOSTILE,
        "findings": found,
        "resolved": found[:5],
        "suppressed": [{**found[0], "reason": HOSTILE, "until": HOSTILE}],
        "checks": [check(f"bloat.{HOSTILE}{number}", long, "critical", 5.0, "percent", message=long) for number in range(310)],
        "metrics": {**{name: 1.0 * place for place, name in enumerate(names)}, HOSTILE: 3, "a.b": "NaN", "a.c": None, "a.d": float("1e308"),
                    "query.longest[4711]": 5, f"stat.slow[SELECT {HOSTILE}]": 7},
        "series": {f"conn.states[{HOSTILE}{number}]": hourly(2, wave(4, 2)) for number in range(40)}
        | {HOSTILE: [[1, "x"], "y", None, [2], [3, 4]]},
        "forecasts": [{"metric": f"size.database[{HOSTILE}]", "unit": HOSTILE, "per_day": "x", "days_left": 4, "points": HOSTILE,
                       "since": HOSTILE}],
        "details": {HOSTILE: [{HOSTILE: HOSTILE, "list": [HOSTILE] * 30}] * 80, "statements": [{"text": long, "share_pct": 40.0}] * 60,
                    "bloat": [{"object": long, "bytes": 5, "bloat_bytes": 9}] * 60,
                    "backups": [{"finished_at": iso(NOW), "kind": HOSTILE}], "odd": "text"},
        "server": {"version": HOSTILE, "in_recovery": True, "database": HOSTILE, "started": HOSTILE},
        "notices": [HOSTILE, 4],
        "history": {"kept_in": HOSTILE, "place": HOSTILE, "previous": HOSTILE},
        "tables": [{"table": HOSTILE, "rows": -1, "bytes": None}],
    }  # fmt: skip


def refused() -> dict[str, Any]:
    """Return what is left where the connection was refused."""
    message = "connection to 10.2.0.9, port 5432 refused: nothing listens there"
    found = finding("avail.connect", "The database takes connections", "critical", message, change=None, first_seen=None)
    return {
        "changed": False,
        "status": "critical",
        "exit_code": 2,
        "summary": f"shop critical: 1 critical: avail.connect {message}",
        "time": iso(NOW),
        "checks": [check("avail.connect", "The database takes connections", "critical", message=message)],
        "findings": [found],
    }


def older() -> dict[str, Any]:
    """Return a result of the first version, without any of the later keys."""
    later = ("time", "system", "tier", "notices", "suppressed", "resolved", "history", "series", "forecasts", "details", "snapshot")
    kept = {name: part for name, part in rich().items() if name not in later}
    kept["findings"] = [
        {name: part for name, part in one.items() if name not in ("title", "change", "first_seen")} for one in kept["findings"]
    ]
    return kept


def well() -> dict[str, Any]:
    """Return the first look at a database with nothing wrong: no history, one point each."""
    numbers = {key: points[-1][1] for key, points in series().items()}
    return {
        **older(),
        "time": iso(NOW),
        "system": "tim",
        "status": "ok",
        "exit_code": 0,
        "checks": [one for one in checks() if one["status"] in ("ok", "skipped")],
        "findings": [],
        "unknown": [],
        "series": {key: [[NOW, value]] for key, value in numbers.items()},
        "history": {
            "kept_in": "file",
            "place": "/srv/pgops/history",
            "previous": None,
            "snapshots": 1,
            "recorded": True,
            "note": "no history yet",
        },
    }
