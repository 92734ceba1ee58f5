"""How much of every sequence is used up: of what counts, as a role sees it, without locking what others need."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from ansible_collections.pgops.runbook.plugins.module_utils._health import sequences
from tests.ground.cluster import Cluster
from tests.ground.databases import Database
from tests.integration.spending import spending
from tests.integration.watching import create_role, drop_role, finding, look, run_script, statements_in, status_of

pytestmark = pytest.mark.any_driver

MONITOR = 'watch "er" ä'
SYSTEM: dict[str, Any] = {"name": "shop", "schemas": ["vault", "Web App"]}
CHECK = "seq.exhaustion"


def watch(database: Database, system: Any = None, **more: Any) -> dict[str, Any]:
    """Return the result of the check, over all schemas unless a system is given."""
    return look(database, system=system, checks=[CHECK], **more)


def used(result: dict[str, Any]) -> dict[str, float]:
    """Return the percents by sequence."""
    return {name[len(CHECK) + 1 : -1]: number for name, number in result["metrics"].items() if name.startswith(CHECK)}


@pytest.fixture
def monitor(database: Database) -> Iterator[str]:
    """A role with pg_monitor and nothing else."""
    create_role(database.cluster, MONITOR, "pg_monitor")
    run_script(database, 'CREATE SCHEMA vault; CREATE SCHEMA "Web App"')
    yield MONITOR
    drop_role(database.cluster, database, MONITOR)


# --- what counts --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("made", "last", "percent", "left"),
    [
        ("CREATE SEQUENCE s AS int", 2126008811, 99.0, "21,474,836 values left to 2,147,483,647"),
        ("CREATE SEQUENCE s AS int", 2147483647, 100.0, "0 values left"),
        ("CREATE SEQUENCE s AS smallint", None, 0.0, "32,767 values left to 32,767"),
        # A start above the minimum is no use, neither is one below zero.
        ("CREATE SEQUENCE s AS int START 2000000000", 2000000001, 0.0, "147,483,646 values left"),
        ("CREATE SEQUENCE s START -100 MINVALUE -100 MAXVALUE 100", 80, 90.0, "20 values left to 100"),
        ("CREATE SEQUENCE s INCREMENT -1 MINVALUE -1000", -991, 99.0991, "9 values left to -1,000"),
        ("CREATE SEQUENCE s INCREMENT 1000 MAXVALUE 10000", 9001, 100.0, "0 values left"),
        ("CREATE SEQUENCE s START 6 MAXVALUE 6", None, 0.0, "1 value left"),
        ("CREATE SEQUENCE s START 6 MAXVALUE 6", 6, 100.0, "0 values left"),
        # Set back below its start.
        ("CREATE SEQUENCE s START 50 MAXVALUE 100", 10, 0.0, "90 values left"),
        ("CREATE SEQUENCE s MINVALUE -9223372036854775808", 9200000000000000000, 99.8733, "23,372,036,854,775,807"),
        # Of the columns that it feeds the narrowest counts.
        ("CREATE TABLE t (i int); CREATE SEQUENCE s OWNED BY t.i", 2126008811, 99.0, "the end of integer in public.t.i"),
        ("CREATE SEQUENCE s; CREATE TABLE t (i int DEFAULT nextval('s'))", 2126008811, 99.0, "the end of integer in public.t.i"),
        (
            "CREATE SEQUENCE s; CREATE TABLE t (a bigint DEFAULT nextval('s'), b smallint DEFAULT nextval('s'))",
            30000,
            91.5553,
            "2,767 values left to 32,767, the end of smallint in public.t.b",
        ),
        ("CREATE SEQUENCE s INCREMENT -1; CREATE TABLE t (i smallint DEFAULT nextval('s'))", -32440, 98.999, "328 values left to -32,768"),
        (
            "CREATE DOMAIN d1 AS int; CREATE DOMAIN d2 AS d1; CREATE SEQUENCE s; CREATE TABLE t (i d2 DEFAULT nextval('s'))",
            2126008811,
            99.0,
            "the end of integer in public.t.i",
        ),
        ("CREATE SEQUENCE s START 3000000000; CREATE TABLE t (i int DEFAULT nextval('s'))", None, 100.0, "0 values left"),
        ("CREATE SEQUENCE s; CREATE TABLE t (i text DEFAULT nextval('s')::text)", 2126008811, 0.0, "left to 9,223,372,036,854,775,807"),
        # Cycling, and beyond the column all the same.
        ("CREATE SEQUENCE s CYCLE; CREATE TABLE t (i int DEFAULT nextval('s'))", 2126008811, 99.0, "the end of integer in public.t.i"),
    ],
)
def test_what_is_used_up(database: Database, made: str, last: int | None, percent: float, left: str) -> None:
    run_script(database, made)
    if last is not None:
        run_script(database, f"SELECT setval('s', {last})" if last != 10 else "ALTER SEQUENCE s MINVALUE 1; SELECT setval('s', 10)")
    result = watch(database)
    assert used(result) == {"public.s": percent}
    message = next(check["message"] for check in result["checks"] if check["id"] == CHECK)
    assert left in message
    assert status_of(result, CHECK) == ("critical" if percent > 85 else "ok")


def test_identities_serials_and_partitions(database: Database) -> None:
    run_script(
        database,
        """CREATE TABLE identity (i int GENERATED ALWAYS AS IDENTITY, s smallserial, b bigserial);
        CREATE TABLE parts (i int GENERATED BY DEFAULT AS IDENTITY, at date) PARTITION BY RANGE (at);
        CREATE TABLE part PARTITION OF parts FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
        SELECT setval('identity_i_seq', 1610612736), setval('identity_s_seq', 16384), setval('identity_b_seq', 2147483647);
        SELECT setval('parts_i_seq', 2040109465)""",
    )
    result = watch(database)
    assert used(result) == {
        "public.identity_i_seq": 75.0,
        "public.identity_s_seq": 50.0,
        "public.identity_b_seq": 0.0,
        "public.parts_i_seq": 95.0,
    }
    assert [(found["key"], found["severity"]) for found in result["findings"]] == [
        (f"{CHECK}[public.parts_i_seq]", "critical"),
        (f"{CHECK}[public.identity_i_seq]", "warning"),
    ]


def test_those_that_begin_anew_are_left_out(database: Database) -> None:
    run_script(database, "CREATE SEQUENCE s MAXVALUE 10 CYCLE; SELECT setval('s', 10)")
    result = watch(database)
    assert (status_of(result, CHECK), used(result)) == ("ok", {CHECK[len(CHECK) + 1 :]: None})
    assert "1 left out that begin anew (CYCLE)" in result["checks"][-1]["message"]


@pytest.mark.parametrize(
    "made",
    [
        "CREATE TABLE t (i serial)",
        "CREATE TABLE t (i int GENERATED ALWAYS AS IDENTITY)",
        "CREATE SEQUENCE t_i_seq; CREATE TABLE t (i int DEFAULT nextval('t_i_seq'))",
        "CREATE SEQUENCE t_i_seq AS int; CREATE TABLE t (i bigint DEFAULT nextval('t_i_seq'))",
        "CREATE SEQUENCE t_i_seq MAXVALUE 2147483647",
        "CREATE SEQUENCE t_i_seq AS int INCREMENT -1",
    ],
)
def test_the_action_gives_it_more_values(database: Database, made: str) -> None:
    run_script(
        database, f"{made}; SELECT setval('t_i_seq', CASE WHEN seqincrement < 0 THEN -2147483647 ELSE 2147483646 END) FROM pg_sequence"
    )
    found = finding(watch(database), f"{CHECK}[public.t_i_seq]")
    for statement in statements_in(found["action"]):
        run_script(database, statement)
    result = watch(database)
    assert (result["findings"], used(result)) == ([], {"public.t_i_seq": 0.0})


def test_schemas_and_hostile_names(database: Database) -> None:
    run_script(
        database,
        """CREATE SCHEMA vault; CREATE SCHEMA "Web App"; CREATE SEQUENCE aside MAXVALUE 10; SELECT setval('aside', 10);
        CREATE TABLE "Web App"."Tok%ens.v2" ("I""d %s" smallserial);
        SELECT setval(pg_get_serial_sequence('"Web App"."Tok%ens.v2"', 'I"d %s'), 32767)""",
    )
    result = watch(database, SYSTEM)
    (found,) = result["findings"]
    assert found["object"] == 'Web App."Tok%ens.v2_I""d %s_seq"'
    assert 'ALTER TABLE "Web App"."Tok%ens.v2" ALTER COLUMN "I""d %s" TYPE bigint;' in found["action"]
    run_script(database, 'DROP SCHEMA "Web App" CASCADE')
    assert status_of(watch(database, SYSTEM), CHECK) == "skipped"
    assert len(watch(database)["findings"]) == 1


# --- what a role may see ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("many", [False, True])
def test_what_is_hidden_is_unknown_until_it_is_granted(database: Database, monitor: str, many: bool) -> None:
    others = "".join(f'CREATE SEQUENCE vault."S {n}";' for n in range(8 if many else 0))
    run_script(database, f"CREATE TABLE vault.t (i serial); SELECT setval('vault.t_i_seq', 2126008811); {others}")
    result = watch(database, SYSTEM, login={"login_user": monitor})
    (found,) = result["findings"]
    assert (found["key"], found["severity"], found["value"]) == (f"{CHECK}[vault]", "unknown", None)
    assert not [number for number in used(result).values() if number is not None]
    (grant,) = statements_in(found["action"])
    assert grant.startswith("GRANT SELECT ON ALL SEQUENCES IN SCHEMA" if many else "GRANT SELECT ON SEQUENCE")
    run_script(database, grant)
    result = watch(database, SYSTEM, login={"login_user": monitor})
    (found,) = result["findings"]
    assert (found["key"], found["severity"], found["value"]) == (f"{CHECK}[vault.t_i_seq]", "critical", 99.0)


def test_one_that_is_seen_does_not_answer_for_one_that_is_not(database: Database, monitor: str) -> None:
    run_script(
        database, f"""CREATE SEQUENCE vault.a; CREATE SEQUENCE vault.b; GRANT SELECT ON vault.a TO "{monitor.replace('"', '""')}" """
    )
    result = watch(database, SYSTEM, login={"login_user": monitor})
    assert (status_of(result, CHECK), used(result)) == ("unknown", {"vault.a": 0.0, "vault": None})
    assert '"vault"."b"' in finding(result, f"{CHECK}[vault]")["action"]
    assert '"vault"."a"' not in finding(result, f"{CHECK}[vault]")["action"]


def test_ten_thousand_sequences_are_bounded(database: Database, monitor: str) -> None:
    make = """DO $$ BEGIN FOR n IN {} LOOP EXECUTE format('CREATE SEQUENCE {} MAXVALUE 10', 's' || n); END LOOP; END $$"""
    for begin in range(1, 10001, 2500):
        run_script(database, make.format(f"{begin}..{begin + 2499}", "vault.%I"))
    run_script(database, 'CREATE SEQUENCE "Web App".one')
    hidden = watch(database, SYSTEM, login={"login_user": monitor})
    assert [found["object"] for found in hidden["findings"]] == ["Web App", "vault"]
    assert "may not see where 10,000 sequences stand" in finding(hidden, f"{CHECK}[vault]")["message"]
    assert len(str(hidden)) < 20000
    # In portions: the room for locks belongs to everybody.
    with spending(database.cluster) as spent:
        seen = watch(database, SYSTEM)
    assert seen["findings"] == []
    assert len(used(seen)) == 50
    assert 6 <= seen["round_trips"] - hidden["round_trips"] <= 8
    assert spent.seconds < 2.5
    # Every offender is counted.
    run_script(database, "DO $$ BEGIN FOR n IN 1..500 LOOP PERFORM setval(('vault.s' || n)::regclass, 10); END LOOP; END $$")
    assert next(check["findings_total"] for check in watch(database, SYSTEM)["checks"] if check["id"] == CHECK) == 500


# --- what stands in the way ---------------------------------------------------------------------------------------------


def test_a_locked_sequence_hides_no_other(database: Database) -> None:
    run_script(database, "CREATE SEQUENCE a MAXVALUE 10; CREATE SEQUENCE b MAXVALUE 10; SELECT setval('b', 10)")
    with database.connect() as holder:
        holder.execute("BEGIN; ALTER SEQUENCE a OWNER TO CURRENT_USER; ALTER SEQUENCE a MAXVALUE 20")
        result = watch(database)
    assert finding(result, f"{CHECK}[public.b]")["severity"] == "critical"
    found = finding(result, f"{CHECK}[public.a]")
    assert (found["severity"], found["sqlstate"]) == ("unknown", "55P03")


def test_one_that_is_dropped_meanwhile_hides_no_other(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    run_script(database, "CREATE SEQUENCE a; CREATE SEQUENCE b MAXVALUE 10; SELECT setval('b', 10)")
    read = sequences._last

    def dropping(*arguments: Any) -> Any:
        run_script(database, "DROP SEQUENCE a")
        return read(*arguments)

    monkeypatch.setattr(sequences, "_last", dropping)
    result = watch(database)
    assert [(found["key"], found["severity"]) for found in result["findings"]] == [(f"{CHECK}[public.b]", "critical")]


def test_on_a_standby(database: Database, cluster: Cluster, standby: Cluster) -> None:
    run_script(database, "CREATE TABLE t (i serial); SELECT setval('t_i_seq', 2126008811)")
    unlogged = cluster.installation.major >= 15
    if unlogged:
        run_script(database, "CREATE UNLOGGED SEQUENCE u; SELECT setval('u', 2)")
    cluster.wait_for(standby)
    result = watch(database, cluster=standby)
    assert used(result)["public.t_i_seq"] >= 99.0
    assert ("1 left out unlogged" in str(result["checks"])) is unlogged
    assert used(watch(database))["public.t_i_seq"] == 99.0
