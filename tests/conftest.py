"""Fixtures for all tests: servers, databases of the five systems, and runs of the collection through Ansible."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

CHECKOUT = Path(__file__).resolve().parents[1]
if str(CHECKOUT) not in sys.path:
    sys.path.insert(0, str(CHECKOUT))

from tests.ground import runner as ground_runner  # noqa: E402  (after the path is known)

sys.path.insert(0, str(ground_runner.collections_path()))

from tests.ground import folders, servers  # noqa: E402
from tests.ground.cluster import Cluster  # noqa: E402
from tests.ground.databases import Database  # noqa: E402
from tests.ground.errors import ProgramMissing, ServerTooOld  # noqa: E402
from tests.ground.published.databases import PublishedDatabase, PublishedDatabases  # noqa: E402
from tests.ground.runner import DRIVERS, AnsibleRunner, PlaybookResult  # noqa: E402
from tests.ground.templates import SystemDatabase, SystemDatabases  # noqa: E402

_numbers = itertools.count()
folders.prefer_memory()

# How long an example takes is up to the machine and to what else runs there; the blob makes one that failed elsewhere fail here.
settings.register_profile("search", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
# A gate must say the same of the same tree twice; new counterexamples are for runs that are made to find some.
settings.register_profile("gate", settings.get_profile("search"), derandomize=True, database=None)
settings.load_profile("gate")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the choice of the server's major version."""
    text = "major version of the PostgreSQL server, 12 to 18; PGOPS_TEST_MAJOR does the same (default: the newest installed)"
    parser.addoption("--pg-major", type=int, default=int(os.environ.get("PGOPS_TEST_MAJOR") or 0) or None, help=text)


class _AtOnce:
    """Names what fails when it fails: a run that is stopped before its end says nothing else of it."""

    def __init__(self, terminal: Any) -> None:
        self._terminal = terminal

    @pytest.hookimpl(trylast=True)  # after its letter
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Name it."""
        if report.failed:
            self._terminal.write_line(f"\nfailed just now: {report.nodeid} ({report.when})")


@pytest.hookimpl(trylast=True)  # the terminal is there then
def pytest_configure(config: pytest.Config) -> None:
    """Name failures at once where there is a terminal, which the processes that run the tests have not; choose how to draw examples."""
    if _searches(config) and not config.getoption("--hypothesis-profile"):
        settings.load_profile("search")
    terminal = config.pluginmanager.get_plugin("terminalreporter")
    if terminal is not None and not hasattr(config, "workerinput"):
        config.pluginmanager.register(_AtOnce(terminal))


def _searches(config: pytest.Config) -> bool:
    """Tell whether this run is to draw examples that no run has seen: one on a chosen major, one that names a seed or asks for more."""
    asked = bool(os.environ.get("PGOPS_TEST_EXAMPLES")) or config.getoption("--hypothesis-seed") is not None
    return asked or config.getoption("--pg-major") is not None


@pytest.fixture(scope="session")
def installation(request: pytest.FixtureRequest) -> servers.Installation:
    """The PostgreSQL that the tests run on."""
    return servers.find(request.config.getoption("--pg-major"))


@pytest.fixture(scope="session")
def cluster(installation: servers.Installation) -> Iterator[Cluster]:
    """A running server, one per test process; it takes a second to start.

    Without autovacuum, which would move the counters and estimates that tests look at.
    """
    with Cluster(installation, settings={"autovacuum": "off"}) as server:
        yield server


@pytest.fixture(scope="session")
def standby(cluster: Cluster) -> Cluster:
    """A streaming standby of `cluster`; it goes when `cluster` goes."""
    try:
        return cluster.standby()
    except ProgramMissing as reason:
        pytest.skip(str(reason))


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder for scratch servers, which their account can enter."""
    with folders.reachable() as found:
        yield found


@pytest.fixture
def database(cluster: Cluster) -> Iterator[Database]:
    """An empty database, dropped after the test."""
    with Database.create(cluster, f"test_{next(_numbers)}") as made:
        yield made


@pytest.fixture(scope="session")
def system_databases(cluster: Cluster) -> SystemDatabases:
    """Templates of filled systems, made when first asked for."""
    return SystemDatabases(cluster)


@pytest.fixture
def system_database(system_databases: SystemDatabases) -> Iterator[Callable[..., SystemDatabase]]:
    """A function `(name or description, rows=2000)` that returns a filled database of that system; dropped after the test."""
    made: list[SystemDatabase] = []

    def make(system: str | dict[str, Any], rows: int = 2000) -> SystemDatabase:
        made.append(system_databases.copy(system, f"test_{next(_numbers)}", rows))
        return made[-1]

    yield make
    for one in made:
        one.drop()


@pytest.fixture(scope="session")
def published_databases(cluster: Cluster) -> PublishedDatabases:
    """Templates of token stores as others have published them, made when first asked for."""
    return PublishedDatabases(cluster)


@pytest.fixture
def published_database(published_databases: PublishedDatabases) -> Iterator[Callable[..., PublishedDatabase]]:
    """A function `(layout, rows=300)` that returns a filled database of a published token store; dropped after the test."""
    made: list[PublishedDatabase] = []

    def make(layout: str, rows: int = 300) -> PublishedDatabase:
        try:
            made.append(published_databases.copy(layout, f"test_{next(_numbers)}", rows))
        except ServerTooOld as reason:
            pytest.skip(str(reason))
        return made[-1]

    yield make
    for one in made:
        one.drop()


@pytest.fixture(scope="session")
def ansible_runner(tmp_path_factory: pytest.TempPathFactory) -> AnsibleRunner:
    """Ansible with every installed driver in sight."""
    return AnsibleRunner(tmp_path_factory.mktemp("ansible"))


@pytest.fixture(params=DRIVERS)
def driver(request: pytest.FixtureRequest) -> str:
    """The one driver that modules can import; a test that uses it runs once with each."""
    name: str = request.param
    return name


@pytest.fixture
def run_module(ansible_runner: AnsibleRunner, driver: str) -> Callable[..., dict[str, Any]]:
    """A function `(name, arguments, connection=…, check=…, diff=…, env=…)` that runs a module and returns its JSON, with each driver."""

    def run(name: str, arguments: dict[str, Any] | None = None, **options: Any) -> dict[str, Any]:
        return ansible_runner.module(name, arguments, **{"driver": driver, **options})

    return run


@pytest.fixture
def run_playbook(ansible_runner: AnsibleRunner) -> Callable[..., PlaybookResult]:
    """A function `(name, hosts, check=…, diff=…, extra_vars=…, driver=…, env=…)` that runs a playbook of the collection."""
    return ansible_runner.playbook
