"""Tables that are changed while a run is at work on them: nothing is lost or taken that is no longer the rule's, the next run finishes."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.pgops.runbook.plugins.module_utils._cleanup.report import Interrupted
from tests.ground.databases import Database
from tests.integration.cleaning import Cleaner, rule
from tests.integration.cleanup_scene import DROP, EVERY, WAYS, Scene, before_batch

pytestmark = pytest.mark.any_driver


@pytest.fixture
def scratch(database: Database) -> Cleaner:
    """The engine on an empty database, with whichever driver it takes."""
    return Cleaner(database)


def meanwhile(scene: Scene, patches: pytest.MonkeyPatch, statement: str, batch: int = 2) -> None:
    """Have somebody run a statement between two batches."""
    before_batch(patches, batch, lambda _session: scene.cleaner.sql(statement))


# --- the table ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("action", "way"), EVERY)
def test_a_table_that_is_renamed(scratch: Cleaner, monkeypatch: pytest.MonkeyPatch, action: str, way: str) -> None:
    scene = Scene.small(scratch, action, way, monkeypatch)
    meanwhile(scene, monkeypatch, "ALTER TABLE t RENAME TO u")
    with pytest.raises(Interrupted) as caught:
        scene.run()
    assert caught.value.sqlstate == "42P01"
    scratch.sql("ALTER TABLE u RENAME TO t")
    scene.require_nothing_lost(caught.value.result)
    scene.finish()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("action", ["delete", "archive"])
def test_a_table_that_another_has_taken_the_place_of(scratch: Cleaner, monkeypatch: pytest.MonkeyPatch, action: str, way: str) -> None:
    """What the other one holds has never been looked at: it is not this run's."""
    scene = Scene.small(scratch, action, way, monkeypatch)
    swap = "ALTER TABLE t RENAME TO old; CREATE TABLE t (LIKE old); INSERT INTO t SELECT * FROM old"
    meanwhile(scene, monkeypatch, swap)
    with pytest.raises(Interrupted, match=r"public\.t .*another") as caught:
        scene.run()
    assert scratch.sql("SELECT count(*) FROM t") == scratch.sql("SELECT count(*) FROM old")
    scene.require_nothing_lost(caught.value.result)
    scene.finish()


@pytest.mark.parametrize("action", ["delete", "archive", "soft_delete"])
def test_a_table_that_is_dropped(scratch: Cleaner, monkeypatch: pytest.MonkeyPatch, action: str) -> None:
    scene = Scene.small(scratch, action, "pages", monkeypatch)
    meanwhile(scene, monkeypatch, "DROP TABLE t")
    with pytest.raises(Interrupted) as caught:
        scene.run()
    assert caught.value.sqlstate == "42P01"
    if action == "archive":
        assert len(scene.archived()) == caught.value.result["archived"]


def test_a_table_that_is_emptied(scratch: Cleaner, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene.small(scratch, "archive", "pages", monkeypatch)
    meanwhile(scene, monkeypatch, "TRUNCATE t")
    result = scene.run()
    assert (result["stopped"], result["remaining"], result["rules"][0]["rows_left"]) == ("done", 0, 0)
    assert len(scene.archived()) == result["archived"] < len(scene.expired)


@pytest.mark.parametrize("way", WAYS)
def test_a_table_that_is_written_anew(scratch: Cleaner, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    """VACUUM FULL and CLUSTER move every row."""
    scene = Scene.small(scratch, "archive", way, monkeypatch)
    meanwhile(scene, monkeypatch, "VACUUM FULL t")
    result = scene.run()
    scene.require_nothing_lost(result)
    assert (result["stopped"], result["archived"]) == ("done", len(scene.expired))


# --- columns ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("ALTER TABLE t ADD more text DEFAULT 'secret'", "1 columns were added or changed"),
        ("ALTER TABLE t ALTER pad TYPE varchar(41)", "a column of public.t has got another type"),
        ("ALTER TABLE t DROP pad", "pad"),
        ("ALTER TABLE t RENAME pad TO note", "pad"),
        ("ALTER TABLE kept DROP pad", "pad"),
        ("ALTER TABLE kept ALTER pad TYPE varchar(41)", "1 columns were added or changed"),
        ("ALTER TABLE kept RENAME pad TO note", "pad"),
        ("ALTER TABLE kept ADD CONSTRAINT never CHECK (id < 0) NOT VALID", "violates check constraint"),
    ],
)
def test_columns_of_the_table_or_of_the_archive_that_change(
    scratch: Cleaner, monkeypatch: pytest.MonkeyPatch, way: str, change: str, says: str
) -> None:
    scene = Scene.small(scratch, "archive", way, monkeypatch)
    meanwhile(scene, monkeypatch, change)
    error = scene.broken()
    assert says in error.message
    assert "public.kept" in error.message
    assert error.result["archived"] == len(scene.archived()) > 0
    if "TYPE" in change or "CHECK" in change:
        scratch.sql(
            "ALTER TABLE t ALTER pad TYPE text; ALTER TABLE kept ALTER pad TYPE text; ALTER TABLE kept DROP CONSTRAINT IF EXISTS never"
        )
    scene.finish()
    if "ADD more" in change and " t " in change:
        assert scratch.sql("SELECT count(*) FROM kept WHERE more = 'secret'") == [(len(scene.expired) - error.result["archived"],)]


@pytest.mark.parametrize(
    ("action", "change"),
    [
        ("delete", "ALTER TABLE t RENAME at TO stamp"),
        ("soft_delete", "ALTER TABLE t DROP deleted_at"),
        ("purge", "ALTER TABLE t DROP deleted_at"),
    ],
)
def test_a_column_that_the_rule_needs_and_that_goes(scratch: Cleaner, monkeypatch: pytest.MonkeyPatch, action: str, change: str) -> None:
    scene = Scene.small(scratch, action, "pages", monkeypatch)
    meanwhile(scene, monkeypatch, change)
    with pytest.raises(Interrupted) as caught:
        scene.run()
    assert (caught.value.sqlstate, caught.value.result["changed"]) == ("42703", True)


def test_a_time_that_gets_another_type(scratch: Cleaner, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cut-off is written for the type that the column had."""
    scene = Scene.small(scratch, "delete", "pages", monkeypatch)
    meanwhile(scene, monkeypatch, "ALTER TABLE t ALTER at TYPE timestamp USING at AT TIME ZONE 'Asia/Tokyo'")
    with pytest.raises(Interrupted):
        scene.run()
    scratch.sql("ALTER TABLE t ALTER at TYPE timestamptz USING at AT TIME ZONE 'Asia/Tokyo'")
    scene.finish()


# --- partitions ---------------------------------------------------------------------------------------------------------


class Divided:
    """A table of four partitions with 300 expired rows each."""

    def __init__(self, cleaner: Cleaner) -> None:
        self.cleaner = cleaner
        cleaner.sql("CREATE TABLE t (id int, at timestamptz) PARTITION BY LIST ((id % 4))")
        for part in range(4):
            cleaner.sql(f"CREATE TABLE t{part} PARTITION OF t FOR VALUES IN ({part})")
        cleaner.sql("INSERT INTO t SELECT n, 'epoch' FROM generate_series(1, 1200) AS n")
        cleaner.sql("CREATE TABLE more (id int, at timestamptz); INSERT INTO more VALUES (NULL, 'epoch')")
        cleaner.sql("CREATE TABLE kept (LIKE t)")

    def run(self, action: str) -> dict[str, Any]:
        written = {"action": action, **({"archive": {"table": "kept"}} if action == "archive" else {})}
        return self.cleaner.run([rule("t", "at", **written)], batch_rows=100)


@pytest.mark.parametrize("action", ["delete", "archive"])
def test_a_partition_that_is_attached_waits_for_the_next_run(scratch: Cleaner, monkeypatch: pytest.MonkeyPatch, action: str) -> None:
    divided = Divided(scratch)
    before_batch(monkeypatch, 2, lambda _session: scratch.sql("ALTER TABLE t ATTACH PARTITION more FOR VALUES IN (NULL)"))
    assert divided.run(action)["removed"] == 1200
    assert scratch.count("more") == 1
    assert divided.run(action)["removed"] == 1


@pytest.mark.parametrize("action", ["delete", "archive"])
@pytest.mark.parametrize("part", ["t0", "t3"])
@pytest.mark.parametrize("how", ["", " CONCURRENTLY"])
def test_a_partition_that_is_detached_is_left_alone(
    scratch: Cleaner, monkeypatch: pytest.MonkeyPatch, action: str, part: str, how: str
) -> None:
    if how and scratch.sql("SHOW server_version_num")[0][0] < "140000":
        pytest.skip("this server does not detach concurrently")
    divided = Divided(scratch)
    seen: list[int] = []

    def detach(_session: Any) -> None:
        scratch.sql(f"ALTER TABLE t DETACH PARTITION {part}{how}")
        seen.append(scratch.count(part))

    before_batch(monkeypatch, 1, detach)
    with pytest.raises(Interrupted, match=rf"public\.{part} .*no longer") as caught:
        divided.run(action)
    monkeypatch.undo()
    # Not one row went after it had left.
    assert scratch.count(part) == seen[0] > 0
    assert divided.run(action)["remaining"] == 0
    assert (scratch.count("t"), scratch.count(part)) == (0, seen[0])
    if action == "archive":
        assert scratch.count("kept") + seen[0] == 1200
    assert caught.value.result["removed"] <= 1200 - seen[0]


def test_a_child_that_leaves_is_left_alone(scratch: Cleaner, monkeypatch: pytest.MonkeyPatch) -> None:
    scratch.sql("CREATE TABLE t (id int, at timestamptz); CREATE TABLE child () INHERITS (t); INSERT INTO t VALUES (1, 'epoch')")
    scratch.sql("INSERT INTO child SELECT n, 'epoch' FROM generate_series(1, 300) AS n")
    before_batch(monkeypatch, 2, lambda _session: scratch.sql("ALTER TABLE child NO INHERIT t"))
    with pytest.raises(Interrupted, match=r"public\.child .*no longer"):
        scratch.run([rule("t", "at")], batch_rows=100)
    assert scratch.count("child") >= 100


@pytest.mark.parametrize(
    "change", ["ALTER TABLE t DETACH PARTITION t2014", "ALTER TABLE t2014 RENAME TO other", "DROP TABLE t2014", "ALTER TABLE t RENAME TO u"]
)
def test_a_partition_that_was_to_be_dropped_and_is_changed(scratch: Cleaner, monkeypatch: pytest.MonkeyPatch, change: str) -> None:
    scene = Scene(scratch, DROP)
    rows = scene.ids("t2014")
    meanwhile(scene, monkeypatch, change)
    with pytest.raises(Interrupted) as caught:
        scene.run()
    assert caught.value.result["removed"] > 0
    if "DROP" not in change:
        moved = "other" if "other" in change else "t2014"
        assert scene.ids(moved) == rows
    if change.endswith("TO u"):
        scratch.sql("ALTER TABLE u RENAME TO t")
    result = scene.run()
    assert (result["stopped"], result["remaining"], scratch.count("t")) == ("done", 0, 100)


# --- the archive --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
def test_an_archive_that_is_renamed_keeps_what_it_has(scratch: Cleaner, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    scene = Scene.small(scratch, "archive", way, monkeypatch)
    meanwhile(scene, monkeypatch, "ALTER TABLE kept RENAME TO earlier")
    with pytest.raises(Interrupted) as caught:
        scene.run()
    assert caught.value.sqlstate == "42P01"
    assert "kept" in caught.value.message
    monkeypatch.undo()
    assert scene.run()["stopped"] == "done"
    assert scene.ids("(SELECT id FROM t UNION ALL SELECT id FROM kept UNION ALL SELECT id FROM earlier) AS x") == scene.all


def test_an_archive_that_is_dropped(scratch: Cleaner, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene.small(scratch, "archive", "pages", monkeypatch)
    meanwhile(scene, monkeypatch, "DROP TABLE kept")
    with pytest.raises(Interrupted) as caught:
        scene.run()
    assert (caught.value.sqlstate, caught.value.result["archived"]) == ("42P01", len(scene.expired) - len(scene.left()))
    left = scene.left()
    assert scene.run()["archived"] == len(left)
    assert scene.archived() == left


def test_an_archive_that_somebody_empties_goes_on_being_filled(scratch: Cleaner, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene.small(scratch, "archive", "pages", monkeypatch)
    scratch.sql("CREATE TABLE kept (LIKE t)")
    taken: list[int] = []

    def empty(_session: Any) -> None:
        taken.extend(scene.archived())
        scratch.sql("TRUNCATE kept")

    before_batch(monkeypatch, 3, empty)
    result = scene.run()
    assert (result["stopped"], result["archived"]) == ("done", len(scene.expired))
    assert sorted(taken + scene.archived()) == scene.expired
    assert taken


@pytest.mark.parametrize("replaced", ["CREATE UNLOGGED TABLE kept (LIKE t)", "CREATE VIEW kept AS SELECT * FROM other"])
def test_an_archive_that_something_else_has_taken_the_place_of(scratch: Cleaner, monkeypatch: pytest.MonkeyPatch, replaced: str) -> None:
    """What a crash empties, or what hands rows on, would have been refused before the run."""
    scene = Scene.small(scratch, "archive", "pages", monkeypatch)
    meanwhile(scene, monkeypatch, f"ALTER TABLE kept RENAME TO other; {replaced}")
    with pytest.raises(Interrupted, match=r"public\.kept"):
        scene.run()
    kind = "VIEW" if "VIEW" in replaced else "TABLE"
    if kind == "TABLE":
        assert scene.archived() == []
    scratch.sql(f"DROP {kind} kept; ALTER TABLE other RENAME TO kept")
    scene.finish()
