"""Keys for encrypted backups, and a look at whether what only they may show stands on a disk meanwhile."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

from tests.ground.errors import ProgramMissing
from tests.tools import debian_programs

METHODS = ("gpg", "age")
# The method, the format and the compression. Only without compression does a text stand in a file as it is.
WAYS = [("gpg", form, compression) for form in ("custom", "plain") for compression in ("none", "zstd")] + [
    ("age", form, "none") for form in ("custom", "plain")
]


@dataclass(frozen=True)
class Keys:
    """The options of a backup for the holder of a key, those of a restore by that one, and what decrypts a file to its output."""

    encrypt: dict[str, Any]
    reading: dict[str, str]
    decrypt: list[str]


def marker() -> str:
    """Return a text that stands nowhere else, and that no compressor finds in anything else."""
    return f"marker_{secrets.token_hex(16)}"


@contextmanager
def keys_of(method: str) -> Iterator[Keys]:
    """A pair of keys of gpg or age, which is in the PATH then; the test is skipped where it cannot be had."""
    # The path of the socket of gpg's agent has to be short.
    folder = Path(tempfile.mkdtemp(prefix="pgops-keys-", dir="/tmp"))
    try:
        with pytest.MonkeyPatch.context() as patch:
            yield (_gpg if method == "gpg" else _age)(folder, patch)
    finally:
        if method == "gpg":
            subprocess.run(["gpgconf", "--homedir", str(folder), "--kill", "all"], check=False, capture_output=True)
        shutil.rmtree(folder, ignore_errors=True)


def _gpg(folder: Path, _patch: pytest.MonkeyPatch) -> Keys:
    if shutil.which("gpg") is None:
        pytest.skip("gpg is not installed")
    # The default of gpg takes a second or two.
    make = ["--batch", "--passphrase", "", "--quick-generate-key", "keeper@example.com", "rsa2048", "encrypt", "never"]
    subprocess.run(["gpg", "--homedir", str(folder), *make], check=True, capture_output=True)
    home = {"gpg_home": str(folder)}
    return Keys({"gpg": ["keeper@example.com"], **home}, home, ["gpg", "--homedir", str(folder), "--quiet", "--batch", "--decrypt"])


def _age(folder: Path, patch: pytest.MonkeyPatch) -> Keys:
    try:
        age, keygen = (debian_programs.program(name) for name in ("age", "age-keygen"))
    except ProgramMissing as reason:
        pytest.skip(str(reason))
    key = folder / "key"
    subprocess.run([keygen, "-o", key], check=True, capture_output=True)
    public = subprocess.run([keygen, "-y", key], check=True, capture_output=True, text=True).stdout.strip()
    patch.setenv("PATH", str(age.parent), prepend=os.pathsep)
    return Keys({"age": [public]}, {"identity": str(key)}, [str(age), "--decrypt", "--identity", str(key)])


@dataclass
class Look:
    """Looks all the time, in a thread, for `texts` in the files below `folders`; `found` are the names of those that hold one.

    `seen` are the names of all files that were looked at. Programs that wait by `till_looked_at` for the folder `waiting` go on when
    everything was looked at once more.
    """

    folders: Sequence[Path]
    texts: Sequence[str]
    waiting: Path
    found: set[str] = field(default_factory=set)
    seen: set[str] = field(default_factory=set)
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Look:
        self._thread = threading.Thread(target=self._go_on)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        self.once()

    def once(self) -> None:
        """Look once."""
        wanted = [text.encode("utf-8") for text in self.texts]
        for folder in self.folders:
            for place, _folders, names in os.walk(folder):
                for name in names:
                    self._at(Path(place, name), wanted)

    def _at(self, path: Path, wanted: Sequence[bytes]) -> None:
        try:
            content = path.read_bytes()
        except OSError:
            return  # it is gone already
        self.seen.add(str(path))
        if any(text in content for text in wanted):
            self.found.add(str(path))

    def _go_on(self) -> None:
        while not self._stop.is_set():
            asked = list(self.waiting.iterdir())
            self.once()
            for one in asked:
                one.unlink(missing_ok=True)
            time.sleep(0.005)


def till_looked_at(waiting: Path) -> str:
    """Return what a script does to go on when a `Look` has seen what stands there now; the folder for it is made.

    What was written to a pipe has some time to come out of it before.
    """
    waiting.mkdir()
    return f'sleep 0.2; touch "{waiting}/$$"; while [ -e "{waiting}/$$" ]; do sleep 0.02; done'


def somewhere_temporary(patch: pytest.MonkeyPatch, folder: Path) -> Path:
    """Let temporary files of this process and of those that it starts stand in `folder`, which is made."""
    folder.mkdir()
    patch.setenv("TMPDIR", str(folder))
    patch.setattr(tempfile, "tempdir", None)
    return folder
