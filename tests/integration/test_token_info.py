"""pg_token_info on small stores of every kind: what a status is, what is shown, and what cannot be told."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from ansible_collections.pgops.runbook.plugins.module_utils import _token_info
from ansible_collections.pgops.runbook.plugins.module_utils._connection import ConnectionOptions, connect
from ansible_collections.pgops.runbook.plugins.module_utils._errors import InvalidValue
from tests.ground.cluster import Cluster
from tests.ground.databases import Database
from tests.integration.inquiring import ask, store_of, tokens_of
from tests.integration.watching import SYSTEM, create_role, drop_role, run_script, stock

pytestmark = [pytest.mark.any_driver, pytest.mark.usefixtures("_one_driver")]

Run = Callable[..., dict[str, Any]]
SECRET = "s3cret-value-that-nobody-may-see"


def store(name: str = "app", *, how: Any = "delete", **tokens: Any) -> dict[str, Any]:
    revoke = {"how": how} if isinstance(how, str) else how
    return {"name": name, "tokens": {"table": "app.tokens", "id": "id", **tokens}, "revoke": revoke}


def system(*stores: dict[str, Any], **parts: Any) -> dict[str, Any]:
    return {"token_stores": list(stores), **parts}


def statuses(result: dict[str, Any]) -> dict[str, str]:
    return {token["id"]: token["status"] for token in result["tokens"]}


def only_entry(result: dict[str, Any]) -> dict[str, Any]:
    (token,) = result["tokens"]
    (entry,) = token["entries"]
    return dict(entry)


# --- statuses -------------------------------------------------------------------------------------------------------------

DENYLIST = {"how": "denylist", "table": "app.denied", "id": "id", "revoked_at": "denied_at", "expires_at": "expires_at", "reason": "why"}
DENIED = """
CREATE SCHEMA app;
CREATE TABLE app.tokens (id {0}, issued_at timestamptz, expires_at timestamptz);
CREATE TABLE app.denied (id {1}, denied_at timestamptz, expires_at timestamptz, why text);
INSERT INTO app.tokens VALUES
  ('aaaaaaaa-0000-4000-8000-000000000001', now() - interval '1 h', now() + interval '1 h'),
  ('aaaaaaaa-0000-4000-8000-000000000002', now() - interval '1 h', now() - interval '1 min'),
  ('aaaaaaaa-0000-4000-8000-000000000003', now() - interval '1 h', now() + interval '1 h'),
  ('aaaaaaaa-0000-4000-8000-000000000004', now() - interval '1 h', NULL),
  ('aaaaaaaa-0000-4000-8000-000000000005', now() - interval '1 h', 'infinity'),
  ('aaaaaaaa-0000-4000-8000-000000000006', now() - interval '3 h', now() - interval '2 h'),
  ('aaaaaaaa-0000-4000-8000-000000000006', now() - interval '2 h', now() + interval '2 h');
INSERT INTO app.denied VALUES
  ('aaaaaaaa-0000-4000-8000-000000000003', now() - interval '30 min', now() - interval '10 min', 'lost phone'),
  ('aaaaaaaa-0000-4000-8000-000000000003', now() - interval '20 min', now() - interval '5 min', 'lost phone'),
  ('aaaaaaaa-0000-4000-8000-000000000007', now() - interval '9 days', NULL, NULL);
"""
IDS = [f"aaaaaaaa-0000-4000-8000-00000000000{number}" for number in range(1, 9)]
WANTED = dict(zip(IDS, ["active", "expired", "revoked", "active", "active", "active", "revoked", "not_found"], strict=True))


@pytest.mark.every_driver
@pytest.mark.parametrize(("token_type", "deny_type"), [("uuid", "uuid"), ("uuid", "text"), ("varchar(36)", "uuid"), ("char(36)", "text")])
def test_a_status_is_the_same_whatever_the_types_of_ids_are(database: Database, token_type: str, deny_type: str) -> None:
    run_script(database, DENIED.format(token_type, deny_type))
    described = system(store(how=DENYLIST, issued_at="issued_at", expires_at="expires_at"))
    result = ask(database, described, ids=IDS)
    assert statuses(result) == WANTED
    counts = store_of(ask(database, described, reports=["counts"]), "app")["counts"]
    numbers = {"total": 7, "active": 4, "accepted": 5, "expired": 2, "revoked": 1, "denied_without_token": 1}
    assert counts == numbers
    found = tokens_of(result)
    revoked = found[IDS[2]]["entries"][0]
    assert revoked["reason"] == "lost phone"
    # The earlier of two revocations counts, and the later of two ends.
    passed = datetime.fromisoformat(revoked["denied_until"]) - datetime.fromisoformat(revoked["revoked_at"])
    assert timedelta(minutes=25) - passed in (timedelta(0), timedelta(seconds=1), timedelta(seconds=-1))
    for never in (IDS[3], IDS[4]):
        assert (found[never]["entries"][0]["expires_at"], found[never]["entries"][0]["accepted_until"]) == (None, None)
    only_denied = found[IDS[6]]["entries"][0]
    assert (only_denied["denied_only"], only_denied["denied_until"], only_denied["id"]) == (True, None, IDS[6])


def test_two_rows_with_one_id_are_both_shown_and_one_that_is_accepted_is_what_counts(database: Database) -> None:
    run_script(database, DENIED.format("uuid", "uuid"))
    described = system(store(how=DENYLIST, issued_at="issued_at", expires_at="expires_at"))
    (token,) = ask(database, described, ids=IDS[5])["tokens"]
    assert [(entry["status"], entry["rows"]) for entry in token["entries"]] == [("active", 2), ("expired", 2)]
    run_script(database, f"INSERT INTO app.tokens SELECT '{IDS[0]}', now(), now() + n * interval '1 h' FROM generate_series(1, 30) n")
    run_script(database, f"INSERT INTO app.denied VALUES ('{IDS[0]}', now(), now())")
    (token,) = ask(database, described, ids=IDS[0])["tokens"]
    assert (token["status"], len(token["entries"]), token["entries"][0]["rows"]) == ("revoked", 10, 31)


def test_a_revocation_counts_once_however_many_rows_the_token_has(database: Database) -> None:
    run_script(database, DENIED.format("uuid", "uuid"))
    run_script(database, f"INSERT INTO app.tokens SELECT '{IDS[2]}', now() - interval '90 min', NULL FROM generate_series(1, 5)")
    described = system(store(how=DENYLIST, issued_at="issued_at", expires_at="expires_at"))
    revocations = store_of(ask(database, described, reports=["revocations"], days=5), "app")["revocations"]
    # Of the first issue: 60 and 70 minutes later. That of nine days ago is not among the days.
    assert (revocations["revocations"], revocations["without_issue"]) == (2, 0)
    assert revocations["mean_hours"] == pytest.approx(65 / 60, abs=0.01)


def test_clock_skew_changes_until_when_and_not_what(database: Database) -> None:
    run_script(database, DENIED.format("uuid", "uuid"))
    described = system(store(how=DENYLIST, issued_at="issued_at", expires_at="expires_at"))
    for skew, accepted in (("5 min", 5), ("10 s", 4), ("3 h", 6)):
        result = ask(database, described, ids=IDS[1], reports=["counts"], clock_skew=skew)
        assert store_of(result, "app")["counts"]["accepted"] == accepted
        assert store_of(result, "app")["counts"]["active"] == 4
        assert statuses(result) == {IDS[1]: "expired"}


def test_a_denied_number_leads_to_a_token_by_another_column(database: Database) -> None:
    run_script(
        database,
        "CREATE SCHEMA app; CREATE TABLE app.tokens (number int, id text); CREATE TABLE app.denied (id bigint);"
        "INSERT INTO app.tokens VALUES (1, 'a'), (2, 'b'); INSERT INTO app.denied VALUES (2);",
    )
    described = system(store(how={"how": "denylist", "table": "app.denied", "id": "id", "references": "number"}))
    assert statuses(ask(database, described, ids=["a", "b", "2"])) == {"a": "active", "b": "revoked", "2": "not_found"}


@pytest.mark.parametrize(("value", "status"), [("true", "revoked"), ("false", "active"), ("NULL", "active")])
def test_a_flag_revokes(database: Database, value: str, status: str) -> None:
    run_script(database, f"CREATE SCHEMA app; CREATE TABLE app.tokens AS SELECT 7 AS id, {value}::boolean AS gone")
    result = ask(database, system(store(how={"how": "flag", "column": "gone"})), ids=[7, "x"], reports=["revocations"])
    assert statuses(result) == {"7": status, "x": "not_found"}
    assert store_of(result, "app")["revocations"] is None
    assert [(one["key"], one["message"]) for one in result["not_recorded"]] == [(None, "when a token was revoked: a flag does not tell")]


def test_a_token_from_before_a_limit_is_revoked(database: Database) -> None:
    run_script(
        database,
        "CREATE SCHEMA app; CREATE TABLE app.tokens (id text, realm text, issued_at int);"
        "CREATE TABLE app.realms (id text, not_before bigint);"
        "INSERT INTO app.realms VALUES ('a', 1000), ('b', 0), ('c', NULL);"
        "INSERT INTO app.tokens VALUES ('old', 'a', 999), ('new', 'a', 1000), ('free', 'b', 999), ('none', 'c', 1), ('lost', NULL, 1);",
    )
    limit = {"table": "app.realms", "column": {"column": "not_before", "unit": "s"}, "by": "tenant", "id": "id"}
    described = {**store(how="delete", issued_at={"column": "issued_at", "unit": "s"}, tenant="realm"), "not_before": [limit]}
    result = ask(database, system(described), ids=["old", "new", "free", "none", "lost"], reports=["counts"])
    assert statuses(result) == {"old": "revoked", "new": "active", "free": "active", "none": "active", "lost": "active"}
    assert tokens_of(result)["old"]["entries"][0]["revoked_by"] == "not_before"
    counts = store_of(result, "app")["counts"]
    assert (counts["revoked"], counts["active"], counts["expired"]) == (1, 4, None)
    # Nothing here expires, as far as the description says.
    assert [one["key"] for one in result["not_recorded"]] == ["token_stores[app].tokens.expires_at"]


@pytest.mark.parametrize("life", [{"expires_in": "life"}, {"lifetime": "1 h"}])
def test_an_expiry_may_count_from_the_issue(database: Database, life: dict[str, Any]) -> None:
    run_script(
        database,
        "CREATE SCHEMA app; CREATE TABLE app.tokens AS"
        " SELECT id, (now() - age) AT TIME ZONE 'Pacific/Kiritimati' AS issued_at, 3600 AS life"
        " FROM (VALUES ('old', interval '61 min'), ('young', interval '59 min')) AS v(id, age)",
    )
    described = system(store(issued_at={"column": "issued_at", "time_zone": "Pacific/Kiritimati"}, **life))
    result = ask(database, described, ids=["old", "young"])
    assert statuses(result) == {"old": "expired", "young": "active"}
    for token in result["tokens"]:
        times = {name: datetime.fromisoformat(token["entries"][0][name]) for name in ("issued_at", "expires_at", "accepted_until")}
        assert (times["expires_at"] - times["issued_at"], times["accepted_until"] - times["expires_at"]) == (
            timedelta(hours=1),
            timedelta(minutes=5),
        )


def test_two_stores_in_one_table_have_their_own_tokens(database: Database) -> None:
    run_script(
        database, "CREATE SCHEMA app; CREATE TABLE app.tokens (id text, offline text); INSERT INTO app.tokens VALUES ('a', '0'), ('a', '1')"
    )
    described = system(store("on", where={"offline": "0"}), store("off", where={"offline": "1"}))
    (token,) = ask(database, described, ids="a")["tokens"]
    assert token["stores"] == ["off", "on"]
    result = ask(database, described, reports=["counts"])
    assert [one["counts"]["total"] for one in result["stores"]] == [1, 1]
    (token,) = ask(database, described, ids="a", stores="on")["tokens"]
    assert token["stores"] == ["on"]


# --- names and units ------------------------------------------------------------------------------------------------------


@pytest.mark.every_driver
def test_hostile_names_and_epochs(database: Database) -> None:
    stock(database)
    stores = json.loads(json.dumps(SYSTEM))["token_stores"]
    for each in stores:
        if each["name"] == "wall":
            for time in ("issued_at", "expires_at"):
                each["tokens"][time] = {"column": each["tokens"][time], "time_zone": SYSTEM["time_zone"]}
            for time in ("revoked_at", "expires_at"):
                each["revoke"][time] = {"column": each["revoke"][time], "time_zone": SYSTEM["time_zone"]}
    result = ask(database, {"token_stores": stores}, ids=["id 1", "id 'x\" %s {} \\", "5"])
    assert statuses(result) == {"id 1": "active", "id 'x\" %s {} \\": "not_found", "5": "active"}
    issued = datetime.fromisoformat(tokens_of(result)["id 1"]["entries"][0]["issued_at"])
    assert timedelta(seconds=20) < datetime.fromisoformat(result["as_of"]) - issued < timedelta(minutes=3)
    assert tokens_of(result)["id 1"]["entries"][0]["expires_at"] == "2100-01-01T00:00:00+00:00"
    whole = ask(database, {"token_stores": stores})
    assert whole["unknown"] == []
    assert [one["counts"]["total"] for one in whole["stores"]] == [120, 120, 120]
    assert [one["issued"]["total"] for one in whole["stores"]] == [120, 120, 120]
    assert store_of(whole, "wall")["revocations"]["revocations"] == 1
    assert store_of(whole, "epoch")["revocations"]["revocations"] == 0


@pytest.mark.every_driver
def test_a_date_is_a_day_in_whichever_zone(database: Database) -> None:
    run_script(
        database,
        "CREATE SCHEMA app; CREATE TABLE app.tokens AS SELECT 1 AS id, (now() AT TIME ZONE 'Pacific/Kiritimati')::date - n AS issued_at"
        " FROM generate_series(0, 3) AS n",
    )
    described = system(store(issued_at="issued_at"))
    issued = store_of(ask(database, described, reports=["issued"], days=2, time_zone="Pacific/Kiritimati"), "app")["issued"]
    assert ([one["tokens"] for one in issued["days"]], issued["ahead"]) == ([1, 1], 0)
    newest = store_of(ask(database, described, reports=["newest"]), "app")["newest"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", newest[0]["issued_at"])


def test_a_day_is_that_of_the_zone_also_when_the_clocks_change(database: Database) -> None:
    """The day has 23 or 25 hours then; its first and last minutes belong to it, and no others."""
    run_script(
        database,
        "CREATE SCHEMA app; CREATE TABLE app.tokens AS SELECT n AS id, begins - minutes AS at FROM ("
        " SELECT n, (date_trunc('day', now() AT TIME ZONE 'Europe/Tallinn') - n * interval '1 day')"
        " AT TIME ZONE 'Europe/Tallinn' AS begins FROM generate_series(0, 364) AS n) AS days,"
        " (VALUES (interval '0 min'), (interval '1 min')) AS edges(minutes)",
    )
    described = system(store(issued_at="at"))
    issued = store_of(ask(database, described, reports=["issued"], days=365, time_zone="Europe/Tallinn"), "app")["issued"]
    assert [one["tokens"] for one in issued["days"]] == [2] * 364 + [1]


def test_a_zone_that_the_server_does_not_know_is_refused(database: Database) -> None:
    """Such as one that is newer than the server's zones."""
    place = ConnectionOptions.from_params(database.login(tcp=False))
    with connect(place, application_name="test", read_only=True) as session, pytest.raises(InvalidValue, match="the server does not know"):
        _token_info.token_info(session, _token_info.Options(time_zone="Europe/Reval"))


# --- claims ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("text", ["'sub,admin'", "'admin, sub'", "' sub ,,admin,sub'", "'nonadmin'", "NULL", "''"]),
        ("text[]", ["'{sub,admin}'", "'{admin,sub}'", "'{sub,admin,NULL}'", "'{nonadmin}'", "NULL", "'{}'"]),
        (
            "jsonb",
            [
                """'{"sub": 1, "admin": 2}'""",
                """'["admin", "sub"]'""",
                """'{"admin": {"x": 1}, "sub": 3}'""",
                """'["nonadmin"]'""",
                "NULL",
                "'1'",
            ],
        ),
        (
            "json",
            [
                """'{"sub": 1, "admin": 2}'""",
                """'["admin", "sub"]'""",
                """'{"admin": {"x": 1}, "sub": 3}'""",
                """'["nonadmin"]'""",
                "NULL",
                "'{}'",
            ],
        ),
    ],
)
def test_sets_of_claims_are_sets(database: Database, kind: str, values: list[str]) -> None:
    rows = ", ".join(f"({number}, {value})" for number, value in enumerate(values))
    run_script(database, f"CREATE SCHEMA app; CREATE TABLE app.tokens (id int, claims {kind}); INSERT INTO app.tokens VALUES {rows}")
    result = ask(database, system(store(claims="claims")), reports=["claims"], ids=[0])
    claims = store_of(result, "app")["claims"]
    assert [(one["claims"], one["tokens"]) for one in claims["sets"]] == [(["admin", "sub"], 3), ([], 2), (["nonadmin"], 1)]
    assert (claims["since"], claims["total"]) == (None, 6)
    assert only_entry(result)["claims"] == ["admin", "sub"]


def test_types_beyond_the_top_are_one_row(database: Database) -> None:
    run_script(
        database,
        "CREATE SCHEMA app; CREATE TABLE app.tokens AS"
        " SELECT n AS id, CASE WHEN n > 3 THEN 'type ' || n % 9 END AS kind FROM generate_series(1, 93) n",
    )
    result = ask(database, system(store(type="kind")), reports=["types", "counts"], top=4)
    types = store_of(result, "app")["types"]
    assert [one["others"] for one in types] == [0, 0, 0, 0, 6]
    assert sum(one["total"] for one in types) == store_of(result, "app")["counts"]["total"] == 93
    assert types[-1]["type"] is None


def test_an_empty_store_is_all_zeros(database: Database) -> None:
    run_script(database, DENIED.format("uuid", "uuid"))
    run_script(database, "TRUNCATE app.tokens, app.denied")
    described = system(store(how=DENYLIST, issued_at="issued_at", expires_at="expires_at", type="id", claims={"column": "note"}))
    run_script(database, "ALTER TABLE app.tokens ADD note text")
    result = ask(database, described)
    assert result["unknown"] == []
    found = store_of(result, "app")
    assert found["counts"] == {"total": 0, "active": 0, "accepted": 0, "expired": 0, "revoked": 0, "denied_without_token": 0}
    assert (found["types"], found["newest"], found["claims"]["sets"]) == ([], [], [])
    assert (len(found["issued"]["days"]), len(found["revocations"]["days"])) == (30, 30)


# --- secrets --------------------------------------------------------------------------------------------------------------


def test_an_id_that_is_a_secret_is_a_fingerprint_everywhere(database: Database) -> None:
    run_script(
        database,
        "CREATE SCHEMA app; CREATE TABLE app.denied (id text);"
        "CREATE TABLE app.tokens (id text, at timestamptz, raw bytea, pin text, parent text);"
        f"INSERT INTO app.tokens VALUES ('{SECRET}', now(), '{SECRET}'::bytea, '1234', NULL);"
        f"INSERT INTO app.denied VALUES ('{SECRET}/denied');",
    )
    denylist = {"how": "denylist", "table": "app.denied", "id": "id"}
    described = system(store(how=denylist, issued_at="at", token="id", secrets=["raw", "pin"], renewed_from="parent"))
    ids = [SECRET, f"{SECRET}/denied", f"{SECRET}/nowhere"]
    result = ask(database, described, ids=ids, reports=["newest", "counts"])
    assert SECRET not in json.dumps(result)
    assert [token["status"] for token in result["tokens"]] == ["active", "revoked", "not_found"]
    assert len({token["id"] for token in result["tokens"]}) == 3
    entry = result["tokens"][0]["entries"][0]
    assert entry["id"] == result["tokens"][0]["id"] == entry["secrets"]["id"] == entry["secrets"]["raw"]
    assert re.fullmatch("[0-9a-f]{12}", entry["id"])
    # What can be tried out is not even shown as a fingerprint.
    assert entry["secrets"]["pin"] == "too short"
    assert result["tokens"][1]["entries"][0]["id"] is None


def test_a_secret_column_that_is_shown_elsewhere_is_a_fingerprint_there(database: Database) -> None:
    run_script(
        database,
        f"CREATE SCHEMA app; CREATE TABLE app.tokens AS SELECT 1 AS id, now() AS at, '{SECRET}'::text AS who, '{SECRET}'::text AS claims;"
        f"CREATE TABLE app.clients AS SELECT '{SECRET}'::text AS id, 'x'::text AS name;"
        f"CREATE TABLE app.codes AS SELECT '{SECRET}'::text AS code, now() AS at;",
    )
    described = system(
        store(issued_at="at", subject="who", client="who", claims="claims", type="who", secrets=["who", "claims"]),
        clients={"table": "app.clients", "id": "id", "name": "name", "secrets": ["id"]},
        codes=[{"table": "app.codes", "id": "code", "created_at": "at", "subject": "code"}],
    )
    result = ask(database, described)
    assert result["unknown"] == []
    assert SECRET not in json.dumps(result)
    assert result["clients"]["newest"][0]["active_tokens"] == 1
    assert store_of(result, "app")["claims"] is None
    assert "claims is one of the secrets of the store" in [one["message"] for one in result["not_recorded"]]


# --- what cannot be read --------------------------------------------------------------------------------------------------

TWO = """
CREATE SCHEMA app; CREATE SCHEMA shut;
CREATE TABLE app.tokens AS SELECT 1 AS id; CREATE TABLE shut.tokens AS SELECT 2 AS id;
CREATE TABLE shut.codes AS SELECT 3 AS id, now() AS at;
"""
OPEN, SHUT = store("open"), {"name": "shut", "tokens": {"table": "shut.tokens", "id": "id"}, "revoke": {"how": "delete"}}


@pytest.fixture
def reader(database: Database) -> Any:
    """Two stores, and the login of a role that may read one of them."""
    run_script(database, TWO)
    login = create_role(database.cluster, "token_reader")
    run_script(database, "GRANT USAGE ON SCHEMA app TO token_reader; GRANT SELECT ON app.tokens TO token_reader")
    yield login
    drop_role(database.cluster, database, "token_reader")


@pytest.mark.every_driver
def test_a_store_that_cannot_be_read_hides_no_other(database: Database, reader: dict[str, str]) -> None:
    codes = [{"table": "shut.codes", "id": "id", "created_at": "at"}]
    result = ask(database, system(OPEN, SHUT, codes=codes), login=reader, reports=["counts", "codes"])
    assert [(one["name"], one["status"]) for one in result["stores"]] == [("open", "ok"), ("shut", "unknown")]
    assert store_of(result, "open")["counts"]["total"] == 1
    assert store_of(result, "shut")["counts"] is None
    assert [(one["report"], one["about"], one["sqlstate"]) for one in result["unknown"]] == [
        ("store", "shut", "42501"),
        ("codes", "shut.codes", "42501"),
    ]
    assert "SELECT" in result["unknown"][0]["hint"]


@pytest.mark.every_driver
def test_not_found_is_not_said_where_a_store_was_not_looked_in(database: Database, reader: dict[str, str], run_module: Run) -> None:
    arguments = {"token_stores": [OPEN, SHUT], "ids": ["1", "2"]}
    result = run_module("pg_token_info", arguments, connection={**database.login(), **reader})
    assert result["failed"] is True
    assert result["msg"].startswith("not every store could be looked in, so that a token that was not found may still be there: shut: ")
    assert statuses(result) == {"1": "active", "2": "unknown"}
    # The other store alone can be asked.
    result = run_module("pg_token_info", {**arguments, "stores": "open"}, connection={**database.login(), **reader})
    assert (result["failed"], statuses(result)) == (False, {"1": "active", "2": "not_found"})


@pytest.mark.every_driver
def test_nothing_that_could_be_read_is_a_failure(database: Database, reader: dict[str, str], run_module: Run) -> None:
    result = run_module("pg_token_info", {"token_stores": [SHUT]}, connection={**database.login(), **reader})
    assert (result["failed"], result["changed"]) == (True, False)
    assert result["msg"].startswith("nothing could be read: shut: the role may not SELECT shut.tokens")
    assert result["stores"][0]["status"] == "unknown"


def test_rows_that_a_policy_hides_are_not_missing(database: Database, reader: dict[str, str]) -> None:
    run_script(database, "ALTER TABLE app.tokens ENABLE ROW LEVEL SECURITY; CREATE POLICY none ON app.tokens USING (false)")
    result = ask(database, system(OPEN), login=reader, ids=["1"])
    assert statuses(result) == {"1": "unknown"}
    assert "row-level security hides rows of app.tokens" in result["unknown"][0]["message"]


@pytest.mark.parametrize(
    ("described", "said"),
    [
        (store(how="delete", id="number"), "has no column 'number'"),
        ({**SHUT, "tokens": {"table": "app.gone", "id": "id"}}, "table app.gone does not exist"),
        (store(issued_at={"column": "id", "unit": "ms"}), "cannot hold today in milliseconds"),
    ],
)
def test_a_store_that_is_described_wrongly_is_unknown(database: Database, described: dict[str, Any], said: str) -> None:
    run_script(database, TWO)
    result = ask(database, system({**described, "name": "wrong"}, SHUT), reports=["counts"])
    assert [one["status"] for one in result["stores"]] == ["unknown", "ok"]
    assert said in result["unknown"][0]["message"]


def test_a_table_that_is_locked_costs_only_what_is_in_it(database: Database) -> None:
    run_script(database, TWO)
    with database.connect() as holder, holder.transaction():
        holder.execute("LOCK TABLE shut.tokens")
        result = ask(database, system(SHUT, OPEN), login={"lock_timeout": "50 ms"}, reports=["counts", "newest"])
    assert [one["counts"] and one["counts"]["total"] for one in result["stores"]] == [None, 1]
    assert [(one["report"], one["about"], one["sqlstate"]) for one in result["unknown"]] == [("counts", "shut", "55P03")]


def test_active_clients_are_unknown_where_a_store_is(database: Database, reader: dict[str, str]) -> None:
    run_script(database, "CREATE TABLE app.clients AS SELECT 1 AS id; GRANT SELECT ON app.clients TO token_reader")
    shut = {**SHUT, "tokens": {**SHUT["tokens"], "client": "id"}}
    described = system({**OPEN, "tokens": {**OPEN["tokens"], "client": "id"}}, shut, clients={"table": "app.clients", "id": "id"})
    result = ask(database, described, login=reader, reports=["clients"])
    assert result["clients"] is None
    assert "which clients are active is not known: shut could not be read" in [one["message"] for one in result["unknown"]]
    run_script(database, "INSERT INTO shut.tokens VALUES (1)")
    assert ask(database, described, reports=["clients"])["clients"]["newest"][0]["active_tokens"] == 2


def test_a_standby_can_be_asked(database: Database, cluster: Cluster, standby: Cluster) -> None:
    run_script(database, TWO)
    cluster.wait_for(standby)
    login = standby.login(database.name, tcp=False)
    result = ask(database, system(OPEN, SHUT), login=login, ids=["2", "9"], reports=["counts"])
    assert statuses(result) == {"2": "active", "9": "not_found"}
    assert [one["counts"]["total"] for one in result["stores"]] == [1, 1]


# --- the module -----------------------------------------------------------------------------------------------------------


@pytest.mark.every_driver
@pytest.mark.parametrize("check", [False, True])
def test_the_module_looks_and_changes_nothing(database: Database, run_module: Run, check: bool) -> None:
    run_script(database, DENIED.format("uuid", "uuid"))
    arguments = {"token_stores": [store(how=DENYLIST, issued_at="issued_at", expires_at="expires_at")], "ids": ",".join(IDS)}
    result = run_module("pg_token_info", arguments, connection=database.login(), check=check)
    assert (result["failed"], result["changed"]) == (False, False)
    assert statuses(result) == WANTED


@pytest.mark.every_driver
def test_a_wrong_option_is_named_before_anything_is_opened(run_module: Run) -> None:
    arguments = {"token_stores": [store()], "reports": ["all"], "days": 0}
    result = run_module("pg_token_info", arguments, connection={"login_host": "127.0.0.1", "login_port": 1})
    assert result["failed"] is True
    assert [one.partition(":")[0] for one in result["errors"]] == ["reports[0]", "days"]
