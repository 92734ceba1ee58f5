"""Make .venv hold what requirements/LAYER.txt asks for, then run something with its Python.

usage: bootstrap.py LAYER [-- ARGUMENTS OF PYTHON...]

Standard library only: this runs before anything is installed. Packages come from the index that pip is configured
for (PyPI unless told otherwise). Nothing is done where the requirement files have not changed since the last time;
an interrupted run is repeated, and two runs at once wait for each other.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import urllib.parse
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VENV = ROOT / ".venv"
STAMP = VENV / "pgops-installed.json"
OLDEST = (3, 11)
# ansible-core 2.19 supports the control node's Python up to here; a newer one is used only where there is no other.
NEWEST = (3, 13)


class SetupError(Exception):
    """The environment could not be made; the message says what to do."""


def ensure(layer: str) -> Path:
    """Return the Python of .venv with requirements/`layer`.txt installed. Raises SetupError."""
    (ROOT / ".cache").mkdir(exist_ok=True)
    with (ROOT / ".cache" / "bootstrap.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        wanted = fingerprint(layer)
        installed = _read_stamp()
        if installed is None:
            _create()
            installed = {}
            _write_stamp(installed)
        if installed.get(layer) != wanted:
            print(f"Installing requirements/{layer}.txt into .venv ...", flush=True)
            _write_stamp({name: value for name, value in installed.items() if name != layer})
            _install(layer)
            _write_stamp({**installed, layer: wanted})
    return python_of_venv()


def python_of_venv() -> Path:
    """Return the path of .venv's interpreter, whether or not it exists."""
    return VENV / "bin" / "python"


def requirement_files(layer: str) -> list[Path]:
    """Return requirements/`layer`.txt and the files that it includes with `-r`, in order."""
    path = ROOT / "requirements" / f"{layer}.txt"
    if not path.is_file():
        raise SetupError(f"There is no requirements/{layer}.txt")
    included = re.findall(r"^-r\s+([\w-]+)\.txt", path.read_text(encoding="utf-8"), re.MULTILINE)
    return [path, *(inner for name in included for inner in requirement_files(name))]


def fingerprint(layer: str) -> str:
    """Return a hash of all that decides what `layer` installs."""
    digest = hashlib.sha256()
    for path in requirement_files(layer):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def environment() -> dict[str, str]:
    """Return the environment for tools in .venv: its bin first on PATH, and nothing of another Python."""
    strange = ("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "__PYVENV_LAUNCHER__", "PIP_USER", "PIP_TARGET", "PIP_PREFIX")
    kept = {name: value for name, value in os.environ.items() if name not in strange}
    return {**kept, "VIRTUAL_ENV": str(VENV), "PATH": f"{VENV / 'bin'}{os.pathsep}{kept.get('PATH', os.defpath)}"}


def _read_stamp() -> dict[str, str] | None:
    """Return what is installed per layer, or None where .venv is absent, unfinished, broken, or made elsewhere."""
    try:
        stamp = json.loads(STAMP.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if stamp.get("root") != str(ROOT):
        return None  # the scripts of a virtual environment name its folder: a moved checkout needs a new one
    probe = subprocess.run([python_of_venv(), "-c", "import sys"], capture_output=True, check=False) if python_of_venv().exists() else None
    return dict(stamp["layers"]) if probe is not None and probe.returncode == 0 else None


def _write_stamp(layers: dict[str, str]) -> None:
    draft = STAMP.with_suffix(".new")
    draft.write_text(json.dumps({"root": str(ROOT), "layers": layers}), encoding="utf-8")
    draft.replace(STAMP)


def _interpreter() -> str:
    """Return the Python to build on: this one, or the best of those in PATH where this one is not within the supported range."""
    if OLDEST <= sys.version_info[:2] <= NEWEST:
        return sys.executable
    names = [f"python3.{minor}" for minor in range(NEWEST[1], OLDEST[1] - 1, -1)]
    for path in filter(None, map(shutil.which, names)):
        if subprocess.run([path, "-c", "import venv"], capture_output=True, check=False).returncode == 0:
            return path
    if sys.version_info[:2] > NEWEST:
        return sys.executable
    raise SetupError(f"Python {OLDEST[0]}.{OLDEST[1]} or newer is needed; {sys.executable} is {sys.version.split()[0]}")


def _create() -> None:
    python = _interpreter()
    print(f"Creating .venv with {python} ...", flush=True)
    shutil.rmtree(VENV, ignore_errors=True)
    made = subprocess.run([python, "-m", "venv", str(VENV)], capture_output=True, text=True, check=False, env=_pip_environment())
    if made.returncode == 0:
        return
    # Debian splits ensurepip into python3-venv: without it the environment is made empty and pip comes from the index.
    shutil.rmtree(VENV, ignore_errors=True)
    _run([python, "-m", "venv", "--without-pip", str(VENV)], "the virtual environment could not be created")
    outer = [python, "-m", "pip", "--python", str(python_of_venv()), "install", "--quiet", "pip"]
    if subprocess.run(outer, capture_output=True, check=False, env=_pip_environment()).returncode != 0:
        wheel = _download_pip()
        _run([str(python_of_venv()), str(wheel / "pip"), "install", "--quiet", "--no-index", str(wheel)], "pip could not be installed")


def _install(layer: str) -> None:
    command = [str(python_of_venv()), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]
    _run([*command, "-r", str(ROOT / "requirements" / f"{layer}.txt")], f"requirements/{layer}.txt could not be installed")


def _run(command: list[str], failure: str) -> None:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, env=_pip_environment())
    if done.returncode != 0:
        raise SetupError(f"{done.stdout.strip()}\n{failure}: {' '.join(command)} ended with {done.returncode}")


def _pip_environment() -> dict[str, str]:
    return {**environment(), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


def _download_pip() -> Path:
    """Return a pip wheel from the package index, checked against the index's own hash. Raises SetupError."""
    index = os.environ.get("PIP_INDEX_URL", "https://pypi.org/simple").rstrip("/") + "/pip/"
    try:
        # As a page of links (PEP 503): not every mirror has the JSON form.
        request = urllib.request.Request(index, headers={"Accept": "text/html"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            page = answer.read().decode("utf-8")
        links = re.findall(r'href="([^"#]*/(pip-([\d.]+)-py3-none-any\.whl))#sha256=([0-9a-f]{64})"', page)
        link, filename, _version, digest = max(links, key=lambda found: tuple(map(int, found[2].split("."))))
        with urllib.request.urlopen(urllib.parse.urljoin(index, link), timeout=120) as answer:
            content = answer.read()
    except (OSError, ValueError) as error:
        reason = f"This Python has no ensurepip (on Debian: apt-get install python3-venv), and pip cannot be fetched from {index}"
        raise SetupError(f"{reason}: {error}") from error
    if hashlib.sha256(content).hexdigest() != digest:
        raise SetupError(f"{filename} does not have the hash that {index} gives for it")
    path = ROOT / ".cache" / filename
    path.write_bytes(content)
    return path


def main(arguments: list[str]) -> int:
    """Prepare the layer that is named first, then run Python with what follows `--`."""
    if not arguments or (len(arguments) > 1 and arguments[1] != "--"):
        print(__doc__)
        return 2
    try:
        python = ensure(arguments[0])
    except SetupError as error:
        print(error, file=sys.stderr)
        return 1
    if len(arguments) > 2:
        os.chdir(ROOT)
        os.execve(python, [str(python), *arguments[2:]], environment())
    print(python)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
