"""The environment of every tool: nothing of the caller's Ansible, PostgreSQL or Python settings, and a home below .cache."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.runner.tree import CACHE, COLLECTIONS, ROOT
from tests.tools.bootstrap import environment as venv_environment

HOME = CACHE / "home"
# Settings of the caller that would change what a test sees. Proxies, certificates and package indexes are left alone.
_FOREIGN = re.compile(r"(ANSIBLE_|MOLECULE_|PG(?!OPS_)|LC_|XDG_|GALAXY_|PYTEST_|MYPY|RUFF_|COLUMNS$|LANG$|PY_COLORS$|FORCE_COLOR$)")


def cpus() -> int:
    """Return how many processors this process may use: its affinity, and a container's quota."""
    count = len(os.sched_getaffinity(0))
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        count = min(count, max(1, round(int(quota) / int(period))))
    except (OSError, ValueError):
        pass  # no such limit here
    return count


def tool_environment(**extra: str) -> dict[str, str]:
    """Return the environment for a tool of .venv, with `extra` on top."""
    HOME.mkdir(parents=True, exist_ok=True)
    config = CACHE / "ansible.cfg"
    if not config.exists():
        config.write_text("", encoding="ascii")
    npmrc = Path.home() / ".npmrc"
    settings = {
        "HOME": str(HOME),
        "LANG": "C.UTF-8",
        "LC_ALL": "C.UTF-8",
        "NO_COLOR": "1",
        "COLUMNS": "160",
        "ANSIBLE_CONFIG": str(config),
        "ANSIBLE_HOME": str(HOME / ".ansible"),
        "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS),
        "ANSIBLE_NOCOLOR": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "HYPOTHESIS_STORAGE_DIRECTORY": str(CACHE / "hypothesis"),
    }
    if npmrc.exists() and "NPM_CONFIG_USERCONFIG" not in os.environ:
        settings["NPM_CONFIG_USERCONFIG"] = str(npmrc)
    kept = {name: value for name, value in venv_environment().items() if not _FOREIGN.match(name)}
    return {**kept, **settings, **extra}


def write_pip_configuration() -> None:
    """Put pip's present configuration into HOME: ansible-test hands none of its variables on to the pips that it runs."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True, env=venv_environment()).stdout
    settings = {"quiet": "2"}  # ansible-test runs pip dozens of times
    for line in sorted(listed.splitlines(), key=lambda text: text.startswith(":env:")):
        name, value = line.split("=", 1)
        settings[name.rpartition(".")[2]] = "\n    ".join(str(ast.literal_eval(value)).split("\n"))
    path = HOME / ".config" / "pip" / "pip.conf"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("[global]\n" + "".join(f"{name} = {value}\n" for name, value in settings.items()), encoding="utf-8")


def provide_pip_to_ansible_test() -> None:
    """Put the script that ansible-test starts its environments with where it looks for it, so that it comes from PyPI.

    ansible-test would fetch it from a server of its own. The script has to install the pip that it is asked for.
    """
    found = importlib.util.find_spec("ansible_test")
    folders = list(found.submodule_search_locations or []) if found else []
    source = Path(*folders, "_internal", "python_requirements.py")
    match = re.search(r"\bpip='([\d.]+)'", source.read_text(encoding="utf-8"))
    if match is None:
        raise RuntimeError(f"{source} does not say which pip it wants")
    version = match.group(1)
    folder = HOME / ".ansible" / "test" / "cache"
    script = folder / f"get_pip_{version.replace('.', '_')}.py"
    wheel = folder / f"pip-{version}-py3-none-any.whl"
    if script.exists() and wheel.exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), f"pip=={version}"]
    subprocess.run(command, check=True, env=venv_environment())
    script.write_text(
        "import sys\n"
        f"sys.path.insert(0, {str(wheel)!r})\n"
        "from pip._internal.cli.main import main\n"
        "sys.exit(main(['install', *(a for a in sys.argv[1:] if a not in ('--no-setuptools', '--no-wheel'))]))\n",
        encoding="utf-8",
    )


# What the ansible-test of ansible-core 2.19 knows.
PYTHONS = tuple(f"python3.{minor}" for minor in range(8, 14))


def path_with_working_pythons() -> str:
    """Return PATH with the oldest and the newest Python X.Y that runs, and without folders of those that do not (managers' shims).

    What both take, those between take too; each would cost minutes.
    """
    own = CACHE / "pythons"
    shutil.rmtree(own, ignore_errors=True)
    own.mkdir(parents=True)
    folders = [Path(text) for text in os.environ.get("PATH", os.defpath).split(os.pathsep) if text]
    for folder in list(folders):
        pythons = [path for path in sorted(folder.glob("python3.*")) if re.fullmatch(r"python3\.\d+", path.name)]
        real = {path.name: _runs(path) for path in pythons}
        if not all(real.values()):
            folders.remove(folder)
        for name, path in real.items():
            target = path or _managed(folder, name)
            if target is not None and not (own / name).exists():
                (own / name).symlink_to(target)
    for name in [name for name in PYTHONS if (own / name).exists()][1:-1]:
        (own / name).unlink()
    return os.pathsep.join(map(str, [ROOT / ".venv" / "bin", own, *folders]))


def _runs(python: Path) -> Path | None:
    asked = subprocess.run([python, "-c", "import sys, venv; print(sys.executable)"], capture_output=True, text=True, check=False)
    return Path(asked.stdout.strip()) if asked.returncode == 0 else None


def _managed(shims: Path, name: str) -> Path | None:
    """Return the newest interpreter that a version manager keeps beside its `shims` for `name`."""
    found = sorted(shims.parent.glob(f"versions/*/bin/{name}"))
    return next((path for path in reversed(found) if _runs(path)), None)
