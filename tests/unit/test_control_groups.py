"""What the control groups of a process allow it, in both versions and from within a container."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.pgops.runbook.plugins.module_utils._health.control_groups import Memory, cpus, memory

TOTAL = 1 << 40


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "cgroup"


def process(root: Path, *lines: str) -> Path:
    """Let the process 7 be in these groups; return the folder of processes."""
    folder = root.parent / "proc"
    (folder / "7").mkdir(parents=True)
    (folder / "7" / "cgroup").write_text("".join(f"{line}\n" for line in lines), encoding="ascii")
    return folder


def group(folder: Path, **files: str) -> None:
    """Make a group with these files; `_` in a name is a dot where it is the first."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("_", ".", 1)).write_text(f"{text}\n", encoding="ascii")


def test_the_fullest_of_the_groups_above_counts(root: Path) -> None:
    processes = process(root, "0::/system.slice/postgresql.service")
    group(root)
    group(root / "system.slice", memory_max="1000", memory_current="900", memory_stat="anon 1\ninactive_file 100\nactive_file 50")
    group(root / "system.slice" / "postgresql.service", memory_max="4000", memory_current="800", cpu_max="150000 100000")
    assert memory(7, TOTAL, root, processes) == Memory(750, 1000)
    assert Memory(750, 1000).percent == 75
    assert cpus(7, root, processes) == 1.5


def test_without_limits_there_is_nothing(root: Path) -> None:
    processes = process(root, "0::/free")
    group(root / "free", memory_max="max", memory_current="900", cpu_max="max 100000")
    assert memory(7, TOTAL, root, processes) is None
    assert cpus(7, root, processes) is None
    assert memory(8, TOTAL, root, processes) is None


def test_a_limit_beyond_the_host_is_none(root: Path) -> None:
    processes = process(root, "0::/free")
    group(root / "free", memory_max=str(TOTAL), memory_current="900")
    assert memory(7, TOTAL, root, processes) is None


@pytest.mark.parametrize("path", ["/", "/docker/of-the-host", "/../sibling"])
def test_a_container_sees_its_own_group_as_the_root(root: Path, path: str) -> None:
    processes = process(root, f"0::{path}")
    group(root, memory_max="1000", memory_current="500")
    group(root.parent / "sibling", memory_max="10", memory_current="10")
    assert memory(7, TOTAL, root, processes) == Memory(500, 1000)


@pytest.mark.parametrize("mounted", ["cpu,cpuacct", "cpu"])
def test_version_one(root: Path, mounted: str) -> None:
    processes = process(root, "5:memory:/pg", "4:cpu,cpuacct:/pg", "0::/")
    unlimited = "9223372036854771712"
    group(root / "memory", memory_limit_in_bytes=unlimited, memory_usage_in_bytes="5")
    group(root / "memory" / "pg", memory_limit_in_bytes="1000", memory_usage_in_bytes="600", memory_stat="total_inactive_file 100")
    group(root / mounted / "pg", cpu_cfs_quota_us="50000", cpu_cfs_period_us="100000")
    group(root / mounted, cpu_cfs_quota_us="-1", cpu_cfs_period_us="100000")
    assert memory(7, TOTAL, root, processes) == Memory(500, 1000)
    assert cpus(7, root, processes) == 0.5
