"""Bytes arrive whole and hashed, or the program that failed is named and nothing is left."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from ansible_collections.pgops.runbook.plugins.module_utils._client import line
from ansible_collections.pgops.runbook.plugins.module_utils._client.pipeline import (
    Written,
    hash_files,
    read_stream,
    run_all,
    storage_error,
    write_stream,
)
from ansible_collections.pgops.runbook.plugins.module_utils._errors import ProgramFailed, ProgramMissing, RunbookError
from tests.ground import runner
from tests.ground.databases import Database
from tests.integration.children import child, children, group, told, until
from tests.integration.small_disks import small_disk

pytestmark = pytest.mark.any_driver

NUMBERS = ["seq", "300000"]
ENDLESS = ["yes"]
COMPRESS = ["gzip", "-1", "-c"]
DECOMPRESS = ["gzip", "-d", "-c"]


@pytest.fixture(autouse=True)
def _nothing_left(tmp_path: Path) -> Iterator[None]:
    """Every test leaves the files that were open, no child, and no half a file."""
    # What others have forgotten may be closed meanwhile: only what is open now and was not then is of the test.
    before, own = open_files(), {process.pid for process in children()}
    yield
    assert open_files() - before == set()
    assert {process.pid for process in children()} - own == set()


def open_files() -> set[tuple[str, str]]:
    """Return the files that are open in this process, each with its number."""
    found = set()
    for number in os.listdir("/proc/self/fd"):
        # The one that has listed them is closed again.
        with suppress(FileNotFoundError):
            found.add((number, os.readlink(f"/proc/self/fd/{number}")))
    return found


def sha256sum(path: Path) -> str:
    return subprocess.run(["sha256sum", path], capture_output=True, text=True, check=True).stdout.split()[0]


def shell(script: str) -> list[str]:
    return ["sh", "-c", script]


def killing(name: str) -> Callable[[], None]:
    """Return a tick that kills our child of that name."""

    def tick() -> None:
        victim = child(name)
        if victim is not None:
            told(victim.pid, signal.SIGKILL)

    return tick


# --- writing ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mask", [0o000, 0o077, 0o777])
def test_the_hash_is_that_of_the_file_and_the_file_its_owners(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        written = write_stream([NUMBERS, COMPRESS], tmp_path / "numbers.gz")
    finally:
        os.umask(before)
    path = tmp_path / "numbers.gz"
    assert written == Written(path.stat().st_size, sha256sum(path))
    assert path.stat().st_mode & 0o777 == 0o600
    assert subprocess.run(["gzip", "-dc", path], capture_output=True, check=True).stdout.endswith(b"\n300000\n")


def test_a_file_that_is_there_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "good").write_text("good", encoding="ascii")
    with pytest.raises(RunbookError, match="File exists") as failed:
        write_stream([NUMBERS], tmp_path / "good")
    assert failed.value.object_name == str(tmp_path / "good")
    assert (tmp_path / "good").read_text(encoding="ascii") == "good"


def test_a_folder_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunbookError, match="No such file or directory"):
        write_stream([NUMBERS], tmp_path / "nowhere" / "numbers")


@pytest.mark.parametrize(
    ("commands", "blamed"),
    [
        ([shell("echo lost >&2; exit 1"), COMPRESS, ["cat"]], "lost"),
        ([shell("seq 300000; echo lost >&2; exit 1"), COMPRESS], "lost"),
        ([ENDLESS, shell("head -c 100000; echo full >&2; exit 7"), ["cat"]], "full"),
        ([ENDLESS, ["cat"], shell("head -c 100000; echo full >&2; exit 7")], "full"),
        ([ENDLESS, ["cat"], shell("head -c 100000; kill -9 $$")], "signal SIGKILL"),
        ([shell("sleep 600"), shell("echo gone >&2; exit 4"), ["cat"]], "gone"),
        ([ENDLESS, ["head", "-c", "100000"]], "signal SIGPIPE"),
        ([shell("trap '' PIPE; yes 2>/dev/null; echo 'write error: Broken pipe' >&2; exit 1"), shell("exec 2>&1; exit 5")], "exit code 5"),
        # Who leaves off reading and does not end is ended, and is no failure then: but not everything was read.
        ([ENDLESS, shell("head -c 100000; exec <&- >&-; sleep 600")], "signal SIGPIPE"),
        ([ENDLESS, shell("cat; exec <&- >&-; sleep 600"), shell("head -c 100000; exit 7")], "exit code 7"),
    ],
)
def test_the_program_that_failed_is_blamed_and_not_its_neighbours(tmp_path: Path, commands: list[list[str]], blamed: str) -> None:
    begun = time.monotonic()
    with pytest.raises(ProgramFailed, match=blamed):
        write_stream(commands, tmp_path / "out")
    assert os.listdir(tmp_path) == []
    assert time.monotonic() - begun < 60, "it has waited for one that sleeps for ten minutes"


def test_a_program_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ProgramMissing, match="compressor-of-nowhere"):
        write_stream([ENDLESS, ["compressor-of-nowhere"]], tmp_path / "out")
    with pytest.raises(ProgramMissing, match="tap-of-nowhere"):
        write_stream([ENDLESS, ["cat"]], tmp_path / "out", tap=(0, ["tap-of-nowhere"]))
    assert os.listdir(tmp_path) == []


def test_what_a_tick_raises_ends_everything(tmp_path: Path) -> None:
    class Enough(Exception):
        pass

    ticks: list[float] = []

    def tick() -> None:
        ticks.append(time.monotonic())
        if len(ticks) == 3:
            raise Enough

    with pytest.raises(Enough):
        write_stream([shell("sleep 600"), ["cat"]], tmp_path / "out", tick=tick, every=0.02)
    assert os.listdir(tmp_path) == []


# --- a dump -----------------------------------------------------------------------------------------------------------


def dump(database: Database) -> list[str]:
    return [str(database.cluster.installation.program("pg_dump")), "-d", database.cluster.conninfo(database.name)]


def test_a_dump_comes_back_as_it_was(database: Database, tmp_path: Path) -> None:
    database.query("CREATE TABLE t AS SELECT g FROM generate_series(1, 100000) g")
    custom = [*dump(database), "-Fc", "--compress=0"]
    restore = [str(database.cluster.installation.program("pg_restore")), "-f", "/dev/null"]
    write_stream([custom, COMPRESS], tmp_path / "dump.gz", tap=(0, restore))
    read_stream(tmp_path / "dump.gz", [DECOMPRESS], restore)
    whole = (tmp_path / "dump.gz").read_bytes()
    (tmp_path / "short.gz").write_bytes(whole[:-50])
    with pytest.raises(ProgramFailed, match="gzip"):
        read_stream(tmp_path / "short.gz", [DECOMPRESS], restore)


def test_a_compressor_that_dies_under_a_waiting_dump_is_blamed(database: Database, tmp_path: Path) -> None:
    database.query("CREATE TABLE held ()")
    waiting = "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"

    def tick() -> None:
        if database.query(waiting):
            killing("gzip")()

    with database.connect() as holder:
        holder.execute("BEGIN; LOCK TABLE held")
        with pytest.raises(ProgramFailed, match="gzip was ended by signal SIGKILL"):
            write_stream([dump(database), COMPRESS, ["cat"]], tmp_path / "out", tick=tick, every=0.05)
        until(lambda: not database.query(waiting))
    assert os.listdir(tmp_path) == []


def test_a_dump_whose_server_process_is_ended_is_blamed(database: Database, tmp_path: Path) -> None:
    database.query("CREATE TABLE held ()")
    ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    with database.connect() as holder:
        holder.execute("BEGIN; LOCK TABLE held")
        with pytest.raises(ProgramFailed, match="terminating connection") as failed:
            write_stream([dump(database), COMPRESS], tmp_path / "out", tick=lambda: database.query(ended) and None, every=0.05)
    assert failed.value.program == "pg_dump"
    assert os.listdir(tmp_path) == []


KILLED = """
import sys
sys.path.insert(0, sys.argv[1])
from ansible_collections.pgops.runbook.plugins.module_utils._client.pipeline import write_stream
write_stream([["yes"], ["cat"], ["sleep", "600"]], sys.argv[2], tap=(0, ["sleep", "600"]))
"""


def test_a_killed_run_leaves_no_program_of_its_line(tmp_path: Path) -> None:
    parent = subprocess.Popen([sys.executable, "-c", KILLED, str(runner.collections_path()), str(tmp_path / "out")])
    line = until(lambda: [one for one in children(parent.pid) if b"python" not in one.arguments][3:] and children(parent.pid))
    parent.kill()
    parent.wait()
    assert len(line) == 4
    assert until(lambda: not [one for process in line for one in group(process.group)])


# --- full disks -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [64 * 4096, 64 * 4096 + 1, 100_000_000], ids=["just enough", "one byte more", "far more"])
def test_a_full_disk_is_named_even_for_the_last_byte(tmp_path: Path, size: int) -> None:
    with small_disk(tmp_path / "disk", 64 * 4096) as disk:
        source = ["head", "-c", str(size), "/dev/zero"]
        if size == 64 * 4096:
            assert write_stream([source, ["cat"]], disk / "out").bytes == size
            return
        with pytest.raises(RunbookError, match="No space left on device") as failed:
            write_stream([source, ["cat"]], disk / "out")
        assert failed.value.object_name == str(disk / "out")
        assert "Make room" in (failed.value.hint or "")
        assert os.listdir(disk) == []


def test_a_limit_of_file_sizes_is_named(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(RunbookError, match="File too large") as failed:
            write_stream([ENDLESS], tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "ulimit" in (failed.value.hint or "")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(("number", "hint"), [(errno.EDQUOT, "quota"), (errno.EIO, "kernel's log"), (errno.EROFS, "read-only")])
def test_other_errors_of_the_disk_say_what_to_do(number: int, hint: str) -> None:
    error = storage_error(OSError(number, os.strerror(number)), "/x/y")
    assert error.object_name == "/x/y"
    assert hint in (error.hint or "")


# --- taps -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_a_tap_gets_the_same_bytes(tmp_path: Path, stage: int) -> None:
    written = write_stream([NUMBERS, ["tac"], ["cat"]], tmp_path / "out", tap=(stage, shell(f"sha256sum > {tmp_path / 'sum'}")))
    numbers = subprocess.run(NUMBERS, capture_output=True, check=True).stdout
    (tmp_path / "numbers").write_bytes(numbers)
    wanted = sha256sum(tmp_path / "numbers") if stage == 0 else written.sha256
    assert (tmp_path / "sum").read_text(encoding="ascii").split()[0] == wanted


def test_a_tap_may_be_a_line_itself(tmp_path: Path) -> None:
    tap = (1, [DECOMPRESS, shell(f"wc -l > {tmp_path / 'lines'}")])
    write_stream([NUMBERS, COMPRESS, ["tac"]], tmp_path / "out", tap=tap)
    assert (tmp_path / "lines").read_text(encoding="ascii").strip() == "300000"


@pytest.mark.parametrize("script", ["echo broken >&2; exit 3", "head -c 100000 >/dev/null; echo broken >&2; exit 3"])
def test_a_tap_that_fails_is_blamed_long_before_the_end(tmp_path: Path, script: str) -> None:
    with pytest.raises(ProgramFailed, match="broken"):
        write_stream([ENDLESS, ["cat"]], tmp_path / "out", tap=(0, shell(script)), every=0.05)
    assert os.listdir(tmp_path) == []


def test_a_tap_is_not_blamed_for_a_line_that_breaks_off(tmp_path: Path) -> None:
    tap = shell("cat >/dev/null; echo 'unexpected end' >&2; exit 1")
    with pytest.raises(ProgramFailed, match="lost"):
        write_stream([shell("seq 1000; echo lost >&2; exit 1"), ["cat"]], tmp_path / "out", tap=(0, tap))
    with pytest.raises(ProgramFailed, match="SIGKILL"):
        write_stream([ENDLESS, shell("head -c 100000; kill -9 $$")], tmp_path / "out", tap=(0, tap))


def test_a_broken_pipe_to_the_server_is_the_dumps_own_failure(tmp_path: Path) -> None:
    tap = shell("cat >/dev/null; echo 'unexpected end' >&2; exit 1")
    lost = shell("seq 1000; echo 'could not send data to server: Broken pipe' >&2; exit 1")
    with pytest.raises(ProgramFailed, match="to server"):
        write_stream([lost, ["cat"]], tmp_path / "out", tap=(0, tap))


def test_a_tap_that_has_seen_enough_does_no_harm(tmp_path: Path) -> None:
    assert write_stream([NUMBERS, ["cat"]], tmp_path / "out", tap=(0, ["head", "-c", "10"])).bytes == 1988895


# --- reading ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    write_stream([NUMBERS, COMPRESS], tmp_path / "numbers.gz")
    return tmp_path / "numbers.gz"


def test_what_is_read_arrives_whole(packed: Path, tmp_path: Path) -> None:
    parts: list[bytes] = []
    read_stream(packed, [DECOMPRESS], lambda data: bool(parts.append(data)))
    assert b"".join(parts) == subprocess.run(NUMBERS, capture_output=True, check=True).stdout
    parts.clear()
    read_stream(packed, [], lambda data: bool(parts.append(data)))
    assert b"".join(parts) == packed.read_bytes()
    read_stream(packed, [DECOMPRESS], shell(f"wc -l > {tmp_path / 'lines'}"))
    assert (tmp_path / "lines").read_text(encoding="ascii").strip() == "300000"


def test_a_sink_may_leave_off_where_that_is_said(packed: Path, tmp_path: Path) -> None:
    parts: list[bytes] = []

    def enough(data: bytes) -> bool:
        parts.append(data)
        return True

    for decoders in ([DECOMPRESS], []):
        parts.clear()
        read_stream(packed, decoders, enough, whole=False)
        assert len(parts) == 1
        read_stream(packed, decoders, shell(f"head -c 10 > {tmp_path / 'start'}"), whole=False)
        assert (tmp_path / "start").stat().st_size == 10
    read_stream(packed, [], ["head", "-c", "10"])
    with pytest.raises(ProgramFailed):
        read_stream(packed, [DECOMPRESS], shell("head -c 10; exit 9"), whole=False)


def test_a_sink_that_has_left_off_may_take_its_time_to_end(packed: Path, tmp_path: Path) -> None:
    slow = shell(f"head -c 10 >/dev/null; exec <&-; sleep {3 * line.GRACE}; touch {tmp_path / 'done'}")
    read_stream(packed, [DECOMPRESS], slow, whole=False)
    assert (tmp_path / "done").exists()


def test_a_file_that_cannot_be_read_is_named_and_not_its_reader(tmp_path: Path) -> None:
    with pytest.raises(RunbookError, match="No such file") as failed:
        read_stream(tmp_path / "nowhere.gz", [DECOMPRESS], ["cat"])
    assert failed.value.object_name == str(tmp_path / "nowhere.gz")
    with pytest.raises(RunbookError, match="Is a directory"):
        read_stream(tmp_path, [], ["cat"])


def test_what_a_sink_raises_passes_through(packed: Path) -> None:
    def sink(_data: bytes) -> bool:
        raise KeyError("sink")

    with pytest.raises(KeyError):
        read_stream(packed, [DECOMPRESS], sink)


# --- many at once -----------------------------------------------------------------------------------------------------


def test_many_files_are_hashed(tmp_path: Path) -> None:
    for number in range(20):
        (tmp_path / str(number)).write_bytes(os.urandom(1000 * number))
    found = hash_files(sorted(tmp_path.iterdir()), workers=3, flush=True)
    assert found == {str(path): Written(path.stat().st_size, sha256sum(path)) for path in tmp_path.iterdir()}
    with pytest.raises(RunbookError, match="nowhere"):
        hash_files([*tmp_path.iterdir(), tmp_path / "nowhere"])
    assert hash_files([]) == {}


def test_commands_run_beside_each_other_and_the_first_failure_ends_all(tmp_path: Path) -> None:
    # Each ends when all four have begun.
    all_there = f"cd {tmp_path}; while [ ! -e 0 ] || [ ! -e 1 ] || [ ! -e 2 ] || [ ! -e 3 ]; do sleep 0.02; done"
    begun = time.monotonic()

    def tick() -> None:
        assert time.monotonic() - begun < 60, "they do not run beside each other"

    run_all([shell(f"touch {tmp_path / str(number)}; {all_there}") for number in range(4)], parallel=4, tick=tick)
    assert len(os.listdir(tmp_path)) == 4
    with pytest.raises(ProgramFailed, match="exit code 6"):
        run_all([["sleep", "600"], shell("exit 6"), shell(f"touch {tmp_path / 'never'}")], parallel=2)
    assert not (tmp_path / "never").exists()
