"""Which backups of a description are due when, with which options of pg_backup, and what a person is told of them."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.pgops.runbook.plugins.module_utils._backup.options import read_options
from ansible_collections.pgops.runbook.plugins.module_utils._content.scope import KINDS
from ansible_collections.pgops.runbook.plugins.module_utils._system import load
from ansible_collections.pgops.runbook.plugins.plugin_utils._backup_policies import NOT_MADE, plan
from ansible_collections.pgops.runbook.plugins.plugin_utils._backup_words import backup_lines, drill_lines, restore_lines
from tests.ground.systems import BUILT_IN, description_of

SCHEDULES = ("hourly", "daily", "weekly", "monthly")


def policies(**written: Any) -> dict[str, Any]:
    """Return the section as the role system has it."""
    backup: dict[str, Any] = load({"name": "shop", "schemas": ["public", "vault"], "backup": written}, "a test")["backup"]
    return backup


def names(planned: dict[str, Any]) -> list[str]:
    return [run["name"] for run in planned["runs"]]


def only(written: dict[str, Any], schedule: str = "daily", **more: Any) -> dict[str, Any]:
    """Return the options of the one backup that is due."""
    (run,) = plan(policies(full={"schedule": schedule, **written}), schedule=schedule, **more)["runs"]
    return dict(run)


@pytest.mark.parametrize("system", BUILT_IN)
@pytest.mark.parametrize("schedule", ["", *SCHEDULES])
def test_every_built_in_policy_is_made_or_named(system: str, schedule: str) -> None:
    backup = load(description_of(system), system)["backup"]
    planned = plan(backup, schedule=schedule, host={"copies": [{"path": "/mnt/other"}]})
    due = {name for name, one in backup.items() if one["schedule"] in ((schedule,) if schedule else SCHEDULES)}
    due |= {name for name, one in backup.items() if one["every"] and schedule == "hourly"}
    due |= {name for name, one in backup.items() if one["schedule"] == "continuous" and schedule in ("", "daily")}
    told = " ".join(planned["notices"])
    assert planned["declared"] == len(due)
    assert set(names(planned)) == {name for name in due if backup[name]["kind"] not in NOT_MADE}
    assert all(f"{name} (kind {backup[name]['kind']})" in told for name in due - set(names(planned)))
    assert planned["faults"] == []
    for run in planned["runs"]:
        # What the module reads of it.
        assert read_options({"folder": "/backups", **run}).name == run["name"]


def test_the_runbook_s_words_become_options() -> None:
    backup = load(description_of("oauth2_server"), "built in")["backup"]
    full, plain = plan(backup, schedule="daily")["runs"]
    assert full == {"name": "full", "kind": "full", "format": "custom", "keep": {"age": "30 days"}, "fresh_for": "20 h"}
    assert plain == {"name": "compressed_sql", "kind": "full", "format": "plain", "keep": {"age": "30 days"}, "fresh_for": "20 h"}
    (tables,) = plan(backup, names="critical_tables")["runs"]
    wanted = {
        "name": "critical_tables",
        "kind": "tables",
        "tables": ["public.clients", "public.tokens"],
        "format": "plain",
        "fresh_for": "0 s",
    }
    assert tables == wanted


@pytest.mark.parametrize(
    ("written", "schedule", "fresh_for"),
    [
        ({}, "hourly", "50 min"),
        ({}, "daily", "20 h"),
        ({}, "weekly", "6 days"),
        ({}, "monthly", "27 days"),
        ({"every": "6 h"}, "daily", "324 min"),
        ({"every": "15 min"}, "hourly", "810 s"),
    ],
)
def test_how_young_counts_follows_the_schedule(written: dict[str, Any], schedule: str, fresh_for: str) -> None:
    assert only(written, schedule)["fresh_for"] == fresh_for
    assert only(written, schedule, host={"fresh_for": "1 h"})["fresh_for"] == "1 h"


def test_what_is_due_every_few_hours_is_due_in_the_hourly_run_too() -> None:
    backup = policies(full={"every": "6 h"}, slow={"kind": "full", "schedule": "daily"}, asked={"kind": "full", "schedule": "on_demand"})
    assert names(plan(backup, schedule="hourly")) == ["full"]
    assert names(plan(backup, schedule="daily")) == ["full", "slow"]
    assert names(plan(backup)) == ["full", "slow"]
    assert names(plan(backup, names=["asked"])) == ["asked"]


@pytest.mark.parametrize(
    ("written", "host", "options"),
    [
        ({"compress": False}, {"compression": "zstd"}, {"compression": "none"}),
        ({}, {"compression": "lz4"}, {"compression": "lz4"}),
        ({"verify": False}, {"verify": "restore"}, {"verify": "checksum"}),
        ({}, {"verify": "restore"}, {"verify": "restore"}),
        ({"kind": "data_only"}, {"verify": "restore"}, {"verify": "decode"}),
        ({}, {"encrypt": {"age": ["age1x"]}}, {"encrypt": {"age": ["age1x"]}, "format": "custom"}),
        ({"format": "plain"}, {"encrypt": {"age": ["age1x"]}}, {"encrypt": {"age": ["age1x"]}, "format": "plain"}),
        ({"keep": "7 days", "generations": {"weekly": 4}}, {}, {"keep": {"age": "7 days", "weekly": 4}}),
        ({"keep": "7 days"}, {"keep": {"count": 3}}, {"keep": {"count": 3}}),
        ({"kind": "schemas", "schemas": ["vault"]}, {}, {"kind": "schemas", "schemas": ["vault"]}),
        ({"kind": "snapshot"}, {}, {"kind": "full"}),
        ({"kind": "snapshot", "location": "external"}, {"copies": [{"path": "/mnt"}]}, {"kind": "full", "copies": [{"path": "/mnt"}]}),
    ],
)
def test_what_the_host_says_goes_with_what_the_system_says(written: dict[str, Any], host: dict[str, Any], options: dict[str, Any]) -> None:
    made = only(written, host=host)
    rest = {"kind": written.get("kind", "full"), **options, "name": "full", "fresh_for": "20 h"}
    assert made == rest


def test_what_must_be_kept_elsewhere_is_not_made_without_an_elsewhere() -> None:
    planned = plan(policies(snapshot={"location": "external"}, full={}), schedule="daily")
    assert names(planned) == ["full"]
    assert planned["faults"] == [
        "snapshot: it has to be kept away from the database server (location external), and backup_copies names no place"
    ]


def test_what_is_kept_elsewhere_is_kept_there_for_as_long_as_the_system_says() -> None:
    own = {"path": "/mnt/own", "keep": {"weekly": 8}}
    remote = {"rclone": "offsite:backups"}
    all_stays = {"path": "/mnt/all", "keep": {}}
    copies = [{"path": "/mnt/other"}, {"path": "/mnt/unsaid", "keep": None}, all_stays, own, remote]
    written = {"kind": "snapshot", "keep": "90 days", "generations": {"monthly": 12}}
    keep = {"age": "90 days", "monthly": 12}
    away = only({**written, "location": "external"}, host={"copies": copies, "keep": {"count": 2}})
    assert away["copies"] == [{"path": "/mnt/other", "keep": keep}, {"path": "/mnt/unsaid", "keep": keep}, all_stays, own, remote]
    assert away["keep"] == {"count": 2}, "the host says of its own folder what stays there"
    assert [place.keep.age for place in read_options({"folder": "/backups", **away}).copies] == [90 * 86400, 90 * 86400, None, None, None]
    assert only({**written, "location": "external", "keep": None, "generations": None}, host={"copies": copies})["copies"] == copies
    assert only(written, host={"copies": copies})["copies"] == copies, "a second place of one that need not be elsewhere is the host's"


@pytest.mark.parametrize("copies", [["path=/mnt/other"], "/mnt/other"])
def test_places_that_are_no_mappings_are_left_to_the_module_to_refuse(copies: Any) -> None:
    assert only({"location": "external", "keep": "90 days"}, host={"copies": copies})["copies"] == copies


def test_showtrack_s_snapshots_leave_the_other_place_after_90_days() -> None:
    backup = load(description_of("showtrack"), "showtrack")["backup"]
    (snapshot,) = plan(backup, schedule="weekly", host={"copies": [{"path": "/mnt/other"}]})["runs"]
    assert snapshot["copies"] == [{"path": "/mnt/other", "keep": {"age": "90 days"}}]


def test_a_password_in_a_place_never_comes_into_the_options_of_a_task() -> None:
    copies = [{"path": "/mnt"}, {"rclone": ":sftp,host=x,pass=hunter2:backups"}]
    planned = plan(policies(full={}), schedule="daily", host={"copies": copies})
    assert planned["runs"] == []
    assert planned["faults"] == ["backup_copies[1].rclone: it holds a password or other settings, which do not belong there"]
    fine = plan(
        policies(full={}), schedule="daily", host={"copies": [{"rclone": "offsite:backups"}, {"rsync": "backup@host:/srv/backups"}]}
    )
    assert names(fine) == ["full"]


def test_a_name_that_is_none_and_a_kind_that_cannot_be_made_are_faults_where_they_are_asked_for() -> None:
    backup = policies(full={}, wal={"schedule": "continuous"})
    planned = plan(backup, names=["ful", "wal"])
    assert planned["runs"] == planned["notices"] == []
    assert planned["faults"] == [
        "policy: 'ful' is not one of the backups of the system: full, wal",
        "not made by this version of the collection: wal (kind wal)",
    ]
    assert plan({}, names="full")["faults"] == ["policy: 'full' is not one of the backups of the system: it declares none"]
    assert plan(None) == {"runs": [], "notices": [], "faults": [], "declared": 0}


def test_every_kind_of_a_description_is_known_here() -> None:
    from ansible_collections.pgops.runbook.plugins.module_utils._system.protection import BACKUP_KINDS

    assert set(BACKUP_KINDS) == {*KINDS, *NOT_MADE, "snapshot"}


MADE = {"database": "shop", "action": "made", "id": "shop.full.1", "bytes": 3 << 20, "seconds": {"dump": 2.0, "verify": 1.5}}
MADE |= {
    "verified": "decode",
    "tables": 4,
    "rows": 1234,
    "left_out": [{"what": "rows of foreign table"}, {"what": "database"}],
    "copies": [{"place": "/mnt/other"}, {"place": "x", "action": "failed"}],
}


def told(*backups: dict[str, Any], check: bool = False, **more: Any) -> list[str]:
    return backup_lines({"runs": [{"backup_policy": {"name": "full"}, "backups": list(backups), **more}]}, check=check)


def test_a_backup_is_told_in_a_line() -> None:
    rest = "verified (decode), 4 tables with 1,234 rows, 1 left out, copied to /mnt/other"
    assert told(MADE) == [f"backup: full made: 3 MB in 3.5 s, {rest}"]
    assert told({**MADE, "action": "present", "age_seconds": 7200}) == [f"backup: full present: 3 MB, 2 h old, {rest}"]
    assert told({**MADE, "verified": None, "left_out": [], "copies": []}) == [
        "backup: full made: 3 MB in 3.5 s, NOT VERIFIED, 4 tables with 1,234 rows"
    ]
    assert told({"action": "made", "bytes": 3 << 20}, check=True) == ["backup: full to make, about 3 MB"]
    assert [line.split(":")[1] for line in told(MADE, {**MADE, "database": "b"})] == [" full of shop made", " full of b made"]
    assert backup_lines({}) == []


def test_what_failed_and_what_was_deleted_is_told() -> None:
    failed = {"database": "shop", "action": "failed", "msg": "the disk is\nfull"}
    assert told(failed, failed=True, msg="1 of 1 failed") == ["backup failed: full: the disk is full"]
    assert told(failed=True, msg="no such host") == ["backup failed: full: no such host"]
    assert told(purged=["a", {"id": "b"}], notices=["no passwords"]) == ["backup: deleted by full: a; b", "note: backup full: no passwords"]
    assert told(purged=["a"], check=True) == ["backup: to delete by full: a"]
    lines = backup_lines({"faults": ["snapshot: nowhere"], "notices": ["not made: wal"]})
    assert lines == ["backup failed: snapshot: nowhere", "note: backup: not made: wal"]


def test_a_drill_is_told_with_its_times() -> None:
    times = {
        "rto": {"seconds": 12.0, "target_seconds": 1800.0, "met": True},
        "rpo": {"seconds": 7200, "target_seconds": 900.0, "met": False},
    }
    assert drill_lines({"passed": True, "backup": "shop.full.1", **times}) == [
        "drill passed: shop.full.1, RTO 12 s (target 30 min: met), RPO 2 h (target 15 min: MISSED)"
    ]
    reasons = [f"table {number}" for number in range(7)]
    lines = drill_lines({"passed": False, "backup": {"id": "b"}, "reasons": reasons, "notices": ["slow"]})
    assert lines == ["drill FAILED: b", "drill: why: table 0; table 1; table 2; table 3; table 4; and 2 more", "note: drill: slow"]
    assert drill_lines({"failed": True, "msg": "no backup is there"}) == ["drill failed: no backup is there"]
    assert drill_lines({"passed": None, "backup": "b"}, check=True) == ["drill: to restore b"]
    assert drill_lines({}) == []


BACKUP = {"id": "shop.full.1", "taken_at": "2026-11-21T02:00:00+00:00", "bytes": 3 << 20, "verified": "decode"}
FROM = "from: shop.full.1, taken 21 Nov 2026 02:00 UTC, 3 MB, verified (decode)"


def test_a_restore_says_how_to_take_it_back() -> None:
    known = {"action": "restored", "backup": BACKUP, "target": 'sh"op', "kept": None, "notices": ["no passwords"]}
    assert restore_lines(known, preview=True) == [FROM, "note: no passwords"]
    assert restore_lines(known)[-1] == 'undo: DROP DATABASE "sh""op";'
    swapped = {**known, "action": "swapped", "target": "shop", "kept": "shop_before_1"}
    undo = 'ALTER DATABASE "shop" RENAME TO "shop_restored"; ALTER DATABASE "shop_before_1" RENAME TO "shop";'
    assert restore_lines(swapped)[-1] == f"undo: {undo}"
    assert restore_lines({**swapped, "kept": None})[-1] == "undo: none, the database that shop was is gone"
    assert restore_lines({**known, "action": "present"}) == [FROM, 'nothing was restored: sh"op holds what the backup holds']
    assert restore_lines({}) == []


def test_a_restore_of_tables_says_what_became_of_each() -> None:
    replaced = {"table": "a.b", "rows_before": 1, "rows": 1200, "kept": "a.b_before_1"}
    copied = {"table": "a.c", "key": ["id", "at"], "inserted": 3, "present": 7, "different": 2}
    tokens = [{"store": "web", "back": 2}, {"store": "api", "back": 0}, {"store": "old", "back": None, "unknown": "no privilege"}]
    known = {
        "action": "replaced",
        "backup": BACKUP,
        "target": "shop",
        "restored": [replaced, copied],
        "tokens_back": tokens,
        "dropped": ["x"],
    }
    assert restore_lines(known)[1:] == [
        "table: a.b: 1 row before, 1,200 now",
        "table: a.c: 3 rows copied back by id, at; 7 rows there, 2 of them with other values",
        "tokens: web: 2 tokens would be accepted again",
        "tokens: old: no privilege",
        "dropped: x, left by a run that was killed",
        "undo: the rows of before are in a.b_before_1; drop it when nobody misses them",
        "undo: none, 3 rows came back to a.c; their keys tell them from the others",
    ]
