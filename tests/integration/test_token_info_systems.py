"""pg_token_info on filled databases of the five systems, against what Python makes of the very rows."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from tests.ground.templates import SystemDatabase, SystemDatabases
from tests.integration.inquiring import ask, store_of, tokens_of

pytestmark = [pytest.mark.any_driver, pytest.mark.usefixtures("_one_driver")]

Systems = Callable[[str], SystemDatabase]
SECRETS = {
    "tim": [],
    "oauth2_server": [
        ("tokens", "access_token"),
        ("tokens", "refresh_token"),
        ("user_sessions", "session_token"),
        ("clients", "client_secret"),
        ("authorization_codes", "code"),
    ],
    "tmi": [("refresh_tokens", "token")],
    "showtrack": [],
    "azth": [("sessions", "token_hash"), ("sessions", "refresh_token_hash")],
}
ZONES = ("UTC", "Europe/Tallinn", "Pacific/Kiritimati")


@pytest.fixture(scope="module")
def systems(system_databases: SystemDatabases) -> Systems:
    """A filled database of a system, the same for all tests here: they only read."""
    made: dict[str, SystemDatabase] = {}

    def one(name: str) -> SystemDatabase:
        if name not in made:
            made[name] = system_databases.copy(name, f"asked_{name}", 2000)
        return made[name]

    return one


def instant(text: str) -> datetime:
    return datetime.fromisoformat(text)


def of_utc(wall: datetime) -> datetime:
    """Return the instant of a wall clock in UTC, which is what the columns of TIM and the OAuth2 server have."""
    return wall.replace(tzinfo=UTC)


def days_of(moments: Iterable[datetime], zone: str, days: list[str]) -> list[int]:
    """Return how many of `moments` lie on each of `days`."""
    found = Counter(str(moment.astimezone(ZoneInfo(zone)).date()) for moment in moments)
    return [found[day] for day in days]


def window(result: dict[str, Any]) -> list[str]:
    """Return the days that a result is about, worked out anew."""
    last = instant(result["as_of"]).astimezone(ZoneInfo(result["time_zone"])).date()
    days = [str(last - timedelta(days=back)) for back in reversed(range(result["window"]["days"]))]
    assert (result["window"]["first_day"], result["window"]["last_day"]) == (days[0], days[-1])
    return days


@pytest.mark.parametrize("schema", ["custom", "tara"])
def test_tokens_are_counted_by_status(systems: Systems, schema: str) -> None:
    result = ask(systems("tim"), systems("tim").description, reports=["counts"])
    tokens = dict(systems("tim").query(f"SELECT jwt_uuid, expires_at FROM {schema}.jwt_metadata"))
    denied = {row[0] for row in systems("tim").query(f"SELECT jwt_uuid FROM {schema}.denylist")}
    alive = {token for token, expiry in tokens.items() if of_utc(expiry) > instant(result["as_of"])}
    assert store_of(result, schema)["counts"] == {
        "total": len(tokens),
        "active": len(alive - denied),
        "accepted": len(alive - denied),
        "expired": len(set(tokens) - alive - denied),
        "revoked": len(denied & set(tokens)),
        "denied_without_token": len(denied - set(tokens)),
    }
    assert denied - set(tokens)


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("session_zone", ["Europe/Tallinn", "Pacific/Kiritimati"])
def test_days_are_those_of_the_zone_that_was_asked_for(systems: Systems, zone: str, session_zone: str) -> None:
    tim = systems("tim")
    tim.query(f"ALTER DATABASE \"{tim.name}\" SET TimeZone = '{session_zone}'")
    result = ask(tim, tim.description, reports=["issued", "revocations"], time_zone=zone, days=20)
    days = window(result)
    for schema in ("custom", "tara"):
        store = store_of(result, schema)
        issued = [of_utc(row[0]) for row in tim.query(f"SELECT issued_at FROM {schema}.jwt_metadata")]
        assert [one["day"] for one in store["issued"]["days"]] == days
        assert [one["tokens"] for one in store["issued"]["days"]] == days_of(issued, zone, days)
        assert store["issued"]["total"] == sum(days_of(issued, zone, days))
        assert store["issued"]["ahead"] == sum(str(one.astimezone(ZoneInfo(zone)).date()) > days[-1] for one in issued)
        issue = f"(SELECT min(issued_at) FROM {schema}.jwt_metadata m WHERE m.jwt_uuid = d.jwt_uuid)"
        denied = tim.query(f"SELECT denylisted_at, {issue} FROM {schema}.denylist d")
        assert [one["revocations"] for one in store["revocations"]["days"]] == days_of([of_utc(row[0]) for row in denied], zone, days)
        for one in store["revocations"]["days"]:
            here = [row for row in denied if str(of_utc(row[0]).astimezone(ZoneInfo(zone)).date()) == one["day"]]
            hours = [(revoked - issue).total_seconds() / 3600 for revoked, issue in here if issue]
            assert one["without_issue"] == len(here) - len(hours)
            assert one["mean_hours"] == (pytest.approx(sum(hours) / len(hours), abs=0.01) if hours else None)


def test_sets_of_claims_have_their_share(systems: Systems) -> None:
    result = ask(systems("tim"), systems("tim").description, reports=["claims"], top=3)
    first = date.fromisoformat(result["window"]["first_day"])
    for schema in ("custom", "tara"):
        rows = systems("tim").query(f"SELECT claim_keys, issued_at FROM {schema}.jwt_metadata")
        sets = Counter(tuple(sorted({key.strip() for key in keys.split(",")})) for keys, issue in rows if issue.date() >= first)
        claims = store_of(result, schema)["claims"]
        assert claims["total"] == sets.total()
        assert {tuple(one["claims"]): one["tokens"] for one in claims["sets"]}.items() <= sets.items()
        assert sorted((one["tokens"] for one in claims["sets"]), reverse=True) == [count for _claims, count in sets.most_common(3)]
        assert (claims["others"]["sets"], claims["others"]["tokens"]) == (len(sets) - 3, sum(n for _c, n in sets.most_common()[3:]))
        assert round(sum(one["share_pct"] for one in [*claims["sets"], claims["others"]]), 6) == 100
        assert all(one["share_pct"] == pytest.approx(100 * one["tokens"] / claims["total"], abs=0.01) for one in claims["sets"])


def test_the_newest_active_tokens_come_first_and_no_more_than_asked_for(systems: Systems) -> None:
    tim = systems("tim")
    result = ask(tim, tim.description, reports=["newest"], newest=7)
    rows = tim.query("SELECT jwt_uuid::text, issued_at, expires_at FROM custom.jwt_metadata ORDER BY issued_at DESC, jwt_uuid DESC")
    denied = {row[0] for row in tim.query("SELECT jwt_uuid::text FROM custom.denylist")}
    active = [row for row in rows if of_utc(row[2]) > instant(result["as_of"]) and row[0] not in denied]
    newest = store_of(result, "custom")["newest"]
    assert [one["id"] for one in newest] == [row[0] for row in active[:7]]
    for one, (_id, issue, expiry) in zip(newest, active, strict=False):
        assert instant(one["issued_at"]) == of_utc(issue).replace(microsecond=0)
        assert instant(one["expires_at"]) == of_utc(expiry).replace(microsecond=0)
        assert instant(one["accepted_until"]) - instant(one["expires_at"]) == timedelta(minutes=5)


@pytest.mark.every_driver
def test_every_status_is_found_by_id_over_both_schemas(systems: Systems) -> None:
    tim = systems("tim")
    alive = "m.expires_at > now() AT TIME ZONE 'UTC'"
    denied = "EXISTS (SELECT FROM tara.denylist d WHERE d.jwt_uuid = m.jwt_uuid)"

    def some(table: str, condition: str) -> str:
        return str(tim.query(f"SELECT jwt_uuid::text FROM {table} m WHERE {condition} ORDER BY 1 DESC LIMIT 1")[0][0])

    wanted = {
        some("tara.jwt_metadata", f"{alive} AND NOT {denied}"): "active",
        some("tara.jwt_metadata", f"NOT {alive} AND NOT {denied}"): "expired",
        some("tara.jwt_metadata", f"{alive} AND {denied}"): "revoked",
        some("tara.denylist", "NOT EXISTS (SELECT FROM tara.jwt_metadata t WHERE t.jwt_uuid = m.jwt_uuid)"): "revoked",
        some("tara.jwt_metadata", f"NOT {alive} AND NOT {denied} AND jwt_uuid::text ~ '[a-f]'").upper(): "expired",
    }
    tim.query(
        "INSERT INTO custom.denylist (jwt_uuid, denylisted_at, expires_at) VALUES ('00000000-0000-0000-0000-00000000dead',"
        " now() AT TIME ZONE 'UTC' - interval '2 h', now() AT TIME ZONE 'UTC' - interval '1 h') ON CONFLICT DO NOTHING"
    )
    wanted["00000000-0000-0000-0000-00000000dead"] = "revoked"
    wanted |= {"00000000-0000-0000-0000-000000000000": "not_found", "no uuid": "not_found", "42": "not_found"}
    result = ask(tim, tim.description, ids=list(wanted))
    assert {token["id"]: token["status"] for token in result["tokens"]} == wanted
    for token, status in wanted.items():
        found = tokens_of(result)[token]
        stores = [] if status == "not_found" else ["custom" if token.endswith("dead") else "tara"]
        assert found["stores"] == stores
        assert [entry["store"] for entry in found["entries"]] == stores
    orphan = tokens_of(result)["00000000-0000-0000-0000-00000000dead"]["entries"][0]
    assert (orphan["denied_only"], orphan["revoked_by"], orphan["rows"]) == (True, "denylist", 1)
    assert instant(orphan["denied_until"]) - instant(orphan["revoked_at"]) == timedelta(hours=1)
    assert result["unknown"] == []
    assert result["reports"] == []


def test_a_revoked_token_that_has_expired_is_revoked(systems: Systems) -> None:
    tim = systems("tim")
    ((token,),) = tim.query(
        "SELECT jwt_uuid::text FROM custom.denylist d JOIN custom.jwt_metadata m USING (jwt_uuid)"
        " WHERE m.expires_at < now() AT TIME ZONE 'UTC' - interval '1 h' LIMIT 1"
    )
    (found,) = ask(tim, tim.description, ids=[token])["tokens"]
    assert found["status"] == "revoked"
    (entry,) = found["entries"]
    assert (entry["revoked_by"], entry["accepted_until"], entry["denied_only"]) == ("denylist", None, False)


def test_types_of_the_oauth2_server(systems: Systems) -> None:
    server = systems("oauth2_server")
    result = ask(server, server.description, reports=["types", "counts"])
    rows = server.query("SELECT token_type, expires_at, revoked_at FROM tokens")
    now = instant(result["as_of"])
    for one in store_of(result, "tokens")["types"]:
        own = [(of_utc(expiry) > now, revoked is not None) for kind, expiry, revoked in rows if kind == one["type"]]
        assert (one["total"], one["revoked"]) == (len(own), sum(revoked for _alive, revoked in own))
        assert one["active"] == sum(alive and not revoked for alive, revoked in own)
        assert one["expired"] == sum(not alive and not revoked for alive, revoked in own)
    assert sum(one["total"] for one in store_of(result, "tokens")["types"]) == len(rows)
    assert store_of(result, "sessions")["counts"]["revoked"] is None


def test_clients_of_the_oauth2_server(systems: Systems) -> None:
    server = systems("oauth2_server")
    server.query("INSERT INTO clients VALUES ('idle', 'never used by anybody at all', 'Idle', '{}', '{}') ON CONFLICT DO NOTHING")
    result = ask(server, server.description, reports=["clients"])
    now = instant(result["as_of"])
    tokens = server.query("SELECT client_id, expires_at, created_at FROM tokens WHERE revoked_at IS NULL")
    active = Counter(client for client, expiry, _created in tokens if of_utc(expiry) > now)
    rows = {row[0]: row for row in server.query("SELECT client_id, client_name, created_at, client_secret FROM clients")}
    assert (result["clients"]["total"], result["clients"]["active"]) == (len(rows), len(active))
    listed = result["clients"]["newest"]
    assert [one["id"] for one in listed] == sorted(active, key=lambda client: rows[client][2], reverse=True)
    for one in listed:
        _id, name, created, secret = rows[one["id"]]
        assert (one["name"], one["active_tokens"]) == (name, active[one["id"]])
        assert instant(one["created_at"]) == of_utc(created).replace(microsecond=0)
        assert one["secrets"] == {"client_secret": hashlib.sha256(secret.encode()).hexdigest()[:12]}
        last = max(created for client, expiry, created in tokens if client == one["id"] and of_utc(expiry) > now)
        assert instant(one["last_issued_at"]) == of_utc(last).replace(microsecond=0)


@pytest.mark.parametrize("zone", ZONES)
def test_registrations_of_the_oauth2_server(systems: Systems, zone: str) -> None:
    server = systems("oauth2_server")
    result = ask(server, server.description, reports=["registrations"], time_zone=zone, top=2)
    days = window(result)
    rows = [(str(of_utc(at).astimezone(ZoneInfo(zone)).date()), by) for at, by in server.query("SELECT created_at, provider FROM users")]
    (table,) = result["registrations"]
    assert [one["day"] for one in table["days"]] == days
    for one in table["days"]:
        here = [provider for day, provider in rows if day == one["day"]]
        assert (one["registrations"], one["providers_used"]) == (len(here), len({provider for provider in here if provider}))
    providers = Counter(provider for day, provider in rows if days[0] <= day <= days[-1])
    assert sum(one["registrations"] for one in table["providers"]) == providers.total() == table["total"]
    assert [one["registrations"] for one in table["providers"]][:2] == [count for _name, count in providers.most_common(2)]
    assert table["providers"][2]["others"] == len(providers) - 2


def test_codes_of_the_last_hour(systems: Systems) -> None:
    server = systems("oauth2_server")
    server.query("UPDATE authorization_codes SET used_at = expires_at WHERE code IN (SELECT max(code) FROM authorization_codes)")
    result = ask(server, server.description, reports=["codes"], newest=5)
    now = instant(result["as_of"])
    rows = server.query("SELECT code, created_at, expires_at, used_at, user_id FROM authorization_codes ORDER BY created_at DESC, code")
    recent = [row for row in rows if of_utc(row[1]) >= now - timedelta(hours=1)]
    (table,) = result["codes"]
    assert table["total"] == len(recent)
    assert table["used"] == sum(row[3] is not None for row in recent)
    assert table["expired"] == sum(row[3] is None and of_utc(row[2]) < now for row in recent)
    assert [one["code"] for one in table["newest"]] == [hashlib.sha256(row[0].encode()).hexdigest()[:12] for row in recent[:5]]
    assert [one["subject"] for one in table["newest"]] == [row[4] for row in recent[:5]]


@pytest.mark.parametrize(("system", "name", "table"), [("tmi", "refresh_tokens", "refresh_tokens"), ("azth", "sessions", "sessions")])
def test_a_store_that_deletes_says_what_it_does_not_keep(systems: Systems, system: str, name: str, table: str) -> None:
    database = systems(system)
    result = ask(database, database.description)
    store = store_of(result, name)
    expiries = [row[0] for row in database.query(f"SELECT expires_at AT TIME ZONE 'UTC' FROM {table}")]
    alive = sum(of_utc(expiry) > instant(result["as_of"]) for expiry in expiries)
    assert store["counts"]["total"] == len(expiries)
    assert (store["counts"]["active"], store["counts"]["expired"], store["counts"]["revoked"]) == (alive, len(expiries) - alive, None)
    assert store["revocations"] is None
    silent = {(one["report"], one["about"], one["key"]) for one in result["not_recorded"]}
    assert {("counts", name, None), ("revocations", name, None), ("types", name, f"token_stores[{name}].tokens.type")} <= silent
    assert ("clients", "clients", "clients") in silent


def test_a_system_without_stores_says_so(systems: Systems) -> None:
    result = ask(systems("showtrack"), systems("showtrack").description)
    assert (result["stores"], result["clients"], result["registrations"], result["codes"]) == ([], None, [], [])
    assert {one["key"] for one in result["not_recorded"]} == {"token_stores", "clients", "registrations", "codes"}


@pytest.mark.parametrize("system", SECRETS)
def test_no_secret_leaves_the_database(systems: Systems, system: str) -> None:
    database = systems(system)
    names = [store["tokens"] for store in database.description["token_stores"]]
    ids = [str(row[0]) for one in names for row in database.query(f"SELECT {one['id']} FROM {one['table']} ORDER BY random() LIMIT 50")]
    reports = ["counts", "types", "issued", "claims", "revocations", "newest", "clients", "registrations", "codes"]
    result = ask(database, database.description, ids=ids, reports=reports, newest=1000)
    assert result["unknown"] == []
    assert all(token["status"] != "not_found" for token in result["tokens"])
    text = json.dumps(result)
    for table, column in SECRETS[system]:
        secrets = [row[0] for row in database.query(f"SELECT DISTINCT {column}::text FROM {table} WHERE {column} IS NOT NULL")]
        assert secrets
        assert [secret for secret in secrets if secret in text] == []
        prints = {hashlib.sha256(secret.encode()).hexdigest()[:12] for secret in secrets}
        assert any(one in text for one in prints), "they can be told apart"
