"""What of a recovery drill needs no server: the globals of a source, times and targets."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.pgops.runbook.plugins.module_utils._drill.checks import DEFAULT_CHECKS, request
from ansible_collections.pgops.runbook.plugins.module_utils._drill.globals import read_globals, restore_globals
from ansible_collections.pgops.runbook.plugins.module_utils._drill.options import read_options
from ansible_collections.pgops.runbook.plugins.module_utils._drill.phases import Phases
from ansible_collections.pgops.runbook.plugins.module_utils._errors import DatabaseError, InvalidValue
from ansible_collections.pgops.runbook.plugins.module_utils._targets import Measure, readable

GLOBALS = r"""--
-- PostgreSQL database cluster dump
--

\restrict abc123

SET default_transaction_read_only = off;
SET standard_conforming_strings = on;

CREATE ROLE app;
ALTER ROLE app WITH NOSUPERUSER LOGIN PASSWORD 'SCRAM-SHA-256$4096:a;b''c--d';
COMMENT ON ROLE app IS 'two
lines; -- of it';
CREATE ROLE "Odd ""name; --";
ALTER ROLE "Odd ""name; --" WITH SUPERUSER;
CREATE ROLE boss;
ALTER ROLE boss WITH SUPERUSER INHERIT CREATEROLE;

-- a comment; with a semicolon
ALTER ROLE app SET default_tablespace TO 'fast';
GRANT app TO "Odd ""name; --" WITH ADMIN OPTION GRANTED BY boss;
CREATE TABLESPACE fast OWNER app LOCATION E'/srv/a\'b;c';
GRANT ALL ON TABLESPACE fast TO app;

\unrestrict abc123

--
-- PostgreSQL database cluster dump complete
--
"""


class Server:
    """Takes statements, and refuses one."""

    def __init__(self, refused: str, sqlstate: str) -> None:
        self.refused, self.sqlstate = refused, sqlstate
        self.statements: list[str] = []

    def execute(self, statement: str) -> None:
        """Take a statement."""
        if statement == self.refused:
            raise DatabaseError(f"refused {statement.rsplit(maxsplit=1)[-1]}", sqlstate=self.sqlstate)
        self.statements.append(statement)


def test_globals_are_split_where_statements_end_and_tablespaces_stay_away() -> None:
    found = read_globals(GLOBALS)
    server = Server("CREATE ROLE boss", "42710")
    notices = restore_globals(server, found)
    assert found.bootstrap == "boss"
    assert server.statements == [
        "CREATE ROLE app",
        "ALTER ROLE app WITH NOSUPERUSER LOGIN PASSWORD 'SCRAM-SHA-256$4096:a;b''c--d'",
        "COMMENT ON ROLE app IS 'two\nlines; -- of it'",
        'CREATE ROLE "Odd ""name; --"',
        'ALTER ROLE "Odd ""name; --" WITH SUPERUSER',
        "ALTER ROLE boss WITH SUPERUSER INHERIT CREATEROLE",
        'GRANT app TO "Odd ""name; --" WITH ADMIN OPTION GRANTED BY boss',
    ]
    assert notices == ["3 statements about tablespaces of the source were left out; everything is in the default one"]


@pytest.mark.parametrize(
    ("refused", "sqlstate"),
    [
        ("CREATE ROLE app", "42710"),  # there is another role than the first superuser already
        ("ALTER ROLE app WITH NOSUPERUSER LOGIN PASSWORD 'SCRAM-SHA-256$4096:a;b''c--d'", "42601"),
    ],
)
def test_no_other_error_of_globals_is_allowed_and_none_shows_a_password(refused: str, sqlstate: str) -> None:
    with pytest.raises(DatabaseError, match=r"globals of the backup cannot be restored, at (CREATE|ALTER) ROLE app") as caught:
        restore_globals(Server(refused, sqlstate), read_globals(GLOBALS))
    assert caught.value.sqlstate == sqlstate


def test_the_first_superuser_is_guessed_from_what_is_there() -> None:
    two = "CREATE ROLE a;\nALTER ROLE a WITH SUPERUSER;\nCREATE ROLE postgres;\nALTER ROLE postgres WITH SUPERUSER;\n"
    assert read_globals(two).bootstrap == "postgres"
    assert read_globals(two.replace("postgres", "b")).bootstrap == "a"
    assert read_globals("CREATE ROLE a;\nALTER ROLE a WITH NOSUPERUSER;\n").bootstrap == "postgres"
    assert read_globals("").bootstrap == "postgres"


def test_phases_overlap_and_add_up() -> None:
    now = 10.0
    phases = Phases(lambda: now)
    with phases.phase("data"):
        now = 12.0
        with phases.phase("compare"):
            now = 13.0
    phases.mark_usable()
    with phases.phase("compare"):
        now = 15.5
    assert phases.as_result() == [{"name": "data", "began": 0.0, "seconds": 3.0}, {"name": "compare", "began": 2.0, "seconds": 3.5}]
    assert (phases.usable, phases.passed) == (3.0, 5.5)


def test_the_phase_of_an_error_is_known() -> None:
    phases = Phases()
    with pytest.raises(ValueError, match="wrong"), phases.phase("data"):
        raise ValueError("wrong")
    assert phases.current == "data"


@pytest.mark.parametrize(
    ("seconds", "target", "met"), [(3.0, 3.0, True), (3.1, 3.0, False), (3.1, None, None), (None, 3.0, False), (None, None, None)]
)
def test_a_target_is_met_or_not(seconds: float | None, target: float | None, met: bool | None) -> None:
    measure = Measure(seconds, target)
    assert measure.as_result() == {"seconds": seconds, "target_seconds": target, "met": met}


def test_a_missed_target_is_said_in_words() -> None:
    assert Measure(5400.0, 3600.0).missed("the recovery time") == "the recovery time is 1 h 30 min, and the target is 1 h"
    assert Measure(59.94, 30.0).missed("it") == "it is 59.9 s, and the target is 30 s"
    assert [Measure(1.0, 2.0).missed("it"), Measure(1.0, None).missed("it")] == [None, None]
    assert readable(90061.0) == "1 d 1 h"


def test_checks_are_chosen_by_id_or_group_and_none_by_an_empty_list() -> None:
    chosen = request(None, None)
    assert chosen is not None
    assert {check.id for check in chosen.checks} == {"avail.connect", *DEFAULT_CHECKS}
    assert request([], None) is None
    with pytest.raises(InvalidValue, match=r"index\.broken"):
        request(["index.broken"], None)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"in": "cloud"}, "in: 'cloud' is not one of cluster, database"),
        ({"in": "database", "run_as": "postgres"}, "run_as: in=database starts no server"),
        ({"rto": "soon"}, "rto: 'soon' is not a duration"),
        ({"rpo": "0 s"}, "rpo: '0 s' is no time"),
        ({"evidence": "here"}, "evidence: 'here' is no absolute path"),
        ({"folder": None}, "folder: name the folder"),
        ({"backup": "../x"}, "backup: '../x' is not the id of a backup"),
        ({"jobs": 0}, "jobs: 0 is not a number"),
    ],
)
def test_options_are_refused_by_name(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        read_options({"folder": "/srv/backups", **given}, "name")
    assert str(caught.value.message).startswith(message)


def test_options_have_defaults() -> None:
    options = read_options({"folder": "/srv/backups", "rto": "1 h", "backup": ""}, "name")
    assert (options.place, str(options.evidence), str(options.scratch_folder)) == ("cluster", "/srv/backups/drills", "/var/tmp")
    assert (options.rto, options.rpo, options.restore.backup) == (3600.0, None, "newest")
