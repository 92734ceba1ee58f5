"""What `make lint`, `sanity`, `galaxy`, `unit`, `integration` and `molecule` consist of."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import yaml

from tests.runner import environment
from tests.runner.steps import Count, Ended, Step, by_exit_code, by_junit
from tests.runner.tree import CACHE, COLLECTIONS, COPY, ROOT

BIN = ROOT / ".venv" / "bin"
OUTPUT = ROOT / "tests" / "output" / "junit"
PACKAGE = "ansible_collections.pgops.runbook.plugins"
TESTS_TYPED = ("tests.benchmarks", "tests.ground", "tests.runner", "tests.tools")


def lint() -> list[Step]:
    """Linters and type checks."""
    docs = ["--plugin-docs", "--skip-rstcheck", "--validate-collection-refs", "self"]
    return [
        Step("ruff check", [BIN / "ruff", "check", "--cache-dir", CACHE / "ruff"]),
        Step("ruff format", [BIN / "ruff", "format", "--diff", "--cache-dir", CACHE / "ruff"]),
        _mypy("mypy plugins", [PACKAGE], "3.10"),
        _mypy("mypy tests", TESTS_TYPED, "3.11"),
        Step("yamllint", [BIN / "yamllint", "--strict", "."]),
        Step("ansible-lint", [BIN / "ansible-lint", "--profile", "production", "--offline", "--strict"], seconds=600),
        Step("antsibull-docs", [BIN / "antsibull-docs", "lint-collection-docs", *docs, "."]),
        Step("antsibull-changelog", [BIN / "antsibull-changelog", "lint"]),
    ]


def _mypy(name: str, packages: Iterable[str], python: str) -> Step:
    command: list[str | Path] = [BIN / "mypy", "--cache-dir", CACHE / name.replace(" ", "-"), "--python-version", python]
    command += [option for package in packages for option in ("-p", package)]
    return Step(name, command, environment={"MYPYPATH": f"{COLLECTIONS}{os.pathsep}{COPY}"})


def sanity() -> list[Step]:
    """ansible-test's own checks, on the oldest and the newest Python of this machine that it knows."""
    results = COPY / "tests" / "output" / "junit"

    def before() -> None:
        shutil.rmtree(results, ignore_errors=True)
        environment.write_pip_configuration()
        environment.provide_pip_to_ansible_test()

    return [
        Step(
            "ansible-test sanity",
            [BIN / "ansible-test", "sanity", "--local", "--junit", "--color", "no"],
            environment={"PATH": environment.path_with_working_pythons()},
            judge=lambda ended: replace(by_junit(lambda: results.glob("*.xml"))(ended), skipped=0),  # skipped: nothing of its kind here
            before=before,
        )
    ]


def galaxy() -> list[Step]:
    """Build the collection, and import it as Galaxy would: warnings and errors of the import are failures."""
    folder = CACHE / "galaxy"
    about = yaml.safe_load((ROOT / "galaxy.yml").read_text(encoding="utf-8"))
    archive = folder / f"{about['namespace']}-{about['name']}-{about['version']}.tar.gz"
    config = folder / "importer.cfg"

    def before() -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        settings = ["LOG_LEVEL_MAIN = INFO", "RUN_ANSIBLE_DOC = True", "RUN_ANSIBLE_TEST = False", "RUN_ANSIBLE_LINT = False"]
        settings += ["CHECK_REQUIRED_TAGS = True", "CHECK_CHANGELOG = True", "OFFLINE_ANSIBLE_LINT = True", f"TMP_ROOT_DIR = {folder}"]
        config.write_text("[galaxy-importer]\n" + "\n".join(settings) + "\n", encoding="utf-8")

    build = f'"{BIN}/ansible-galaxy" collection build --force --output-path "{folder}" .'
    judge = f'"{sys.executable}" -m galaxy_importer.main "{archive}"'
    command = ["sh", "-c", f"{build} && {judge}"]
    return [Step("galaxy-importer", command, environment={"GALAXY_IMPORTER_CONFIG": str(config)}, judge=_importer, before=before)]


def _importer(ended: Ended) -> Count:
    """The importer ends with 0 whatever it finds: its log says it."""
    complaint = re.search(r"^(WARNING|ERROR|CRITICAL):?.*", ended.output, re.MULTILINE)
    return Count(failed=1) if complaint else by_exit_code(ended)


def pytest(folders: Iterable[str], name: str, major: int | None = None) -> Step:
    """The tests below `folders`, on as many processes as there are cores; on PostgreSQL `major` where given."""
    workers = environment.cpus()
    results = OUTPUT / f"{name.replace(' ', '-')}.xml"
    chosen = {"PGOPS_TEST_MAJOR": str(major)} if major else {}

    def before() -> None:
        results.unlink(missing_ok=True)

    return Step(
        name,
        [sys.executable, "-m", "pytest", "-q", "-n", str(workers), "--dist", "loadgroup", "--junit-xml", results, *folders],
        cores=max(1, workers - 1),
        folder=ROOT,
        # Tests start hundreds of processes that import the engine, and pytest rewrites every file in each of its own.
        environment={"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(CACHE / "bytecode"), **chosen},
        judge=by_junit(lambda: [results] if results.exists() else []),
        before=before,
        seconds=2100.0,
        show=last_line,
        explain=failures_first,
    )


def last_line(output: str) -> str:
    """Return the last line that is not empty."""
    return next((line for line in reversed(output.splitlines()) if line.strip()), "")


def failures_first(output: str) -> str:
    """Return what pytest wrote about failures: their names first, because a log may be shown in part; without its lines of dots."""
    lines = [line for line in output.rstrip().splitlines() if not re.fullmatch(r"[.sFExX]+(\s+\[ *\d+%\])?", line.strip())]
    named = [line for line in lines if line.startswith(("FAILED ", "ERROR "))]
    return "\n".join([*named, *(line for line in lines if line not in named and not line.startswith("SKIPPED "))])


MOLECULE = ("create", "converge", "idempotence", "verify", "destroy")


def molecule() -> list[Step]:
    """The scenario of extensions/molecule: each of its actions counts as one check."""
    return [
        Step(
            "molecule",
            [BIN / "molecule", "test", "--scenario-name", "default"],
            folder=COPY / "extensions",
            environment={
                "MOLECULE_EPHEMERAL_DIRECTORY": str(CACHE / "molecule"),
                "PGOPS_CHECKOUT": str(ROOT),
                "PGOPS_KEEPER": str(os.getpid()),
            },
            judge=_molecule,
        )
    ]


def _molecule(ended: Ended) -> Count:
    results = dict(re.findall(r"^default > (\w+): Executed: (\w+)", ended.output, re.MULTILINE))
    count = Count(passed=sum(results.get(action) == "Successful" for action in MOLECULE))
    return count + Count(failed=len(MOLECULE) - count.passed)


STAGES: dict[str, Callable[[], list[Step]]] = {
    "lint": lint,
    "sanity": sanity,
    "galaxy": galaxy,
    "unit": lambda: [pytest(["tests/unit"], "unit tests")],
    "integration": lambda: [pytest(["tests/integration"], "integration tests")],
    "molecule": molecule,
}


def plan(names: Iterable[str]) -> list[Step]:
    """Return the steps of the stages `names`, the longest first."""
    wanted = list(dict.fromkeys(names))
    steps: list[Step] = []
    if {"unit", "integration"} <= set(wanted):
        steps.append(pytest(["tests/unit", "tests/integration"], "unit and integration tests"))
        wanted = [name for name in wanted if name not in ("unit", "integration")]
    for name in sorted(wanted, key=["integration", "unit", "sanity", "molecule", "galaxy", "lint"].index):
        steps += STAGES[name]()
    return steps


def remove_results() -> None:
    """Remove the results of the last run, so that none of them is taken for one of this."""
    shutil.rmtree(OUTPUT, ignore_errors=True)
    Path(OUTPUT).mkdir(parents=True)
