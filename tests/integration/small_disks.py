"""File systems of few bytes, for root and for whoever may have namespaces of their own."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_READY = "mounted"


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[Path]:
    """Mount a file system of `size` bytes and yield where it is reached: at `folder`, which is made, for root.

    An ordinary user gets it through a process in a namespace of its own. The test is skipped where neither is allowed.
    """
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        with _in_a_namespace(folder, mount, done.stderr.strip()) as place:
            yield place
        return
    try:
        yield folder
    finally:
        # A file of it may still be open elsewhere for a moment.
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def make_read_only(disk: Path) -> None:
    """Let nobody write to a file system of `small_disk` any more."""
    remount = ["mount", "-o", "remount,bind,ro"]
    if disk.parts[1] == "proc":
        inside = Path("/", *disk.parts[4:])
        remount = ["nsenter", "--target", disk.parts[2], "--user", "--mount", "--preserve-credentials", *remount, str(inside)]
    else:
        remount.append(str(disk))
    subprocess.run(remount, check=True, capture_output=True)


@contextmanager
def _in_a_namespace(folder: Path, mount: list[str], refused: str) -> Iterator[Path]:
    """Mount it where only a process of this account sees it, whose root this account may look into; with that process it goes."""
    command = ["unshare", "--map-root-user", "--mount", "sh", "-c", f'"$@" && echo {_READY} && exec sleep 600', "sh", *mount]
    try:
        holder = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    except FileNotFoundError:
        pytest.skip(f"no file system can be mounted here ({refused}), and there is no unshare")
    try:
        said = holder.stdout.readline().strip() if holder.stdout else ""
        if said != _READY:
            pytest.skip(f"no file system can be mounted here, nor in a namespace of its own: {refused}")
        yield Path(f"/proc/{holder.pid}/root{folder}")
    finally:
        holder.kill()
        holder.wait()
        if holder.stdout:
            holder.stdout.close()
