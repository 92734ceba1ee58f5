"""The benchmarks, which no run of the tests takes the time for, can be imported, and know the options that they are run with."""

from __future__ import annotations

import importlib
import pkgutil
import re

import pytest

from tests import benchmarks
from tests.runner.tree import ROOT

RUN = [
    (line.group(1), line.group(2).split())
    for line in re.finditer(r"-m (tests\.benchmarks[\w.]*)(.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
]


@pytest.mark.parametrize("name", [found.name for found in pkgutil.iter_modules(benchmarks.__path__)])
def test_every_module_can_be_imported(name: str) -> None:
    assert importlib.import_module(f"tests.benchmarks.{name}").__doc__


@pytest.mark.parametrize(("program", "options"), RUN, ids=[program for program, _options in RUN])
def test_each_knows_the_options_that_make_bench_gives_it(
    program: str, options: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = importlib.import_module(f"{program}.__main__" if program == "tests.benchmarks" else program)
    monkeypatch.setattr("sys.argv", [program, "--help"])
    with pytest.raises(SystemExit) as ended:
        module.main()
    told = capsys.readouterr().out
    assert ended.value.code == 0
    assert told.startswith(f"usage: python -m {program} ")
    for option in ["--repeats", *options]:
        assert f"[{option}" in told


def test_make_bench_runs_every_one_that_is_a_program_of_its_own() -> None:
    programs = {
        f"tests.benchmarks.{file.stem}" for file in (ROOT / "tests/benchmarks").glob("*.py") if "add_argument(" in file.read_text("utf-8")
    }
    assert {program if program != "tests.benchmarks" else f"{program}.__main__" for program, _options in RUN} == programs
