"""The five built-in systems as they are described: every criterion that each of their stores can answer, counted a second time by hand.

The numbers, the rows that change and what is accepted afterwards come from SQL in described.py, which knows the systems' own rules.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from ansible_collections.pgops.runbook.plugins.module_utils._errors import DescriptionError, InvalidValue
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.report import Refused
from tests.ground.systems import BUILT_IN, description_of
from tests.integration.described import NOW_UTC, SKEW, STORES, WITH_STORES, Described, Snapshot, Store, Systems, changed_keys
from tests.integration.revoking import Trial, of_store

# Of every criterion that reads one, a value that is one of its type. Their keys are all criteria but `all`.
VALUES: dict[str, Any] = {
    "ids": ["00000000-0000-0000-0000-000000000000"],
    "subjects": ["00000000-0000-0000-0000-000000000000"],
    "tenants": ["00000000-0000-0000-0000-000000000000"],
    "clients": ["nobody"],
    "providers": ["nobody"],
    "types": ["none"],
    "scopes": ["none"],
    "addresses": ["192.0.2.1"],
    "families": ["none"],
    "claims": ["none"],
    "claim_pattern": "none*",
    "issued_from": "2020-01-01T00:00:00Z",
    "issued_to": "2020-01-01T00:00:00Z",
}
# What the description would have to name for it.
KEYS = {
    **{name: name.removesuffix("s") for name in ("subjects", "tenants", "clients", "providers", "types", "scopes")},
    "addresses": "address",
    "families": "family",
    "claims": "claims",
    "claim_pattern": "claims",
}


@dataclass(frozen=True)
class Case:
    """A selection, with queries for values; `stores` as given in the options; `follow` says whether rows of other tables go."""

    system: str
    select: Mapping[str, Any]
    stores: Sequence[str] = ()
    follow: bool = False

    def __str__(self) -> str:
        return "-".join([self.system, *self.select, *self.stores])


def moment(store: str, share: float, system: str) -> str:
    """Return a query for a time of issue that is that of a token, in UTC."""
    one = STORES[system][store]
    column = one.issued if one.clock != "now()" else f"{one.issued} AT TIME ZONE 'UTC'"
    form = 'YYYY-MM-DD"T"HH24:MI:SS"Z"'
    return f"SELECT to_char(percentile_disc({share}) WITHIN GROUP (ORDER BY {column}), '{form}') FROM {one.tokens} t"


def window(store: str, system: str) -> dict[str, str]:
    return {"issued_from": moment(store, 0.3, system), "issued_to": moment(store, 0.85, system)}


def some_ids(system: str) -> str:
    """Return a query for ids of every store: of live, expired and revoked tokens, one in capitals, and one that nobody knows."""
    parts = ["SELECT '00000000-0000-4000-8000-000000000000'"]
    for store in STORES[system].values():
        for where in (f"{store.alive()} AND NOT {store.revoked}", f"NOT {store.alive()}", store.revoked):
            parts.append(f"(SELECT upper({store.id}::text) FROM {store.tokens} t WHERE {where} ORDER BY 1 LIMIT 1)")
            parts.append(f"(SELECT {store.id}::text FROM {store.tokens} t WHERE {where} ORDER BY 1 DESC LIMIT 3)")
    return " UNION ".join(parts)


BUSY_USERS = (
    "SELECT user_id::text FROM {table} WHERE expires_at > now() AT TIME ZONE 'UTC' AND user_id IS NOT NULL"
    " GROUP BY 1 ORDER BY count(*) DESC, 1 LIMIT 2"
)
CODE_USERS = "SELECT user_id FROM authorization_codes WHERE used_at IS NULL GROUP BY 1 ORDER BY count(*) DESC, 1 LIMIT 3"
PROVIDER = "SELECT provider FROM users JOIN tokens USING (user_id) GROUP BY 1 ORDER BY count(*), 1 LIMIT 2"
TENANT = "SELECT tenant_id::text FROM sessions s JOIN users u ON u.id = s.user_id GROUP BY 1 ORDER BY count(*) DESC OFFSET 1 LIMIT 1"
ADDRESSES = "SELECT host(ip_address) FROM {table} WHERE expires_at > now() AT TIME ZONE 'UTC' ORDER BY 1 DESC LIMIT 2"
KEY = "SELECT DISTINCT k FROM custom.jwt_metadata, unnest(string_to_array(claim_keys, ',')) AS k WHERE k = 'admin'"
CLIENT = "SELECT client_id FROM tokens WHERE client_id IS NOT NULL GROUP BY 1 ORDER BY count(*), 1 LIMIT 1"
SERVER = "oauth2_server"
CASES = [
    Case("tim", {"all": True}, follow=True),
    Case("tim", {"all": True}, ["tara"], follow=True),
    Case("tim", window("custom", "tim"), follow=True),
    Case("tim", {"issued_from": moment("tara", 0.9, "tim")}, ["tara"], follow=True),
    Case("tim", {"claims": KEY}),
    Case("tim", {"claims": KEY, **window("custom", "tim")}, ["custom"]),
    Case("tim", {"claim_pattern": "personal_*"}),
    Case("tim", {"claim_pattern": "*admin"}),
    Case("tim", {"ids": some_ids("tim")}),
    Case(SERVER, {"all": True}, follow=True),
    Case(SERVER, {"all": True}, ["sessions"]),
    Case(SERVER, {"subjects": CODE_USERS}, follow=True),
    Case(SERVER, {"clients": CLIENT}, ["tokens"], follow=True),
    Case(SERVER, {"clients": CLIENT, "subjects": f"{CODE_USERS}0"}, ["tokens"], follow=True),
    Case(SERVER, {"providers": PROVIDER}, follow=True),
    Case(SERVER, {"types": "SELECT 'refresh'"}, ["tokens"]),
    Case(SERVER, {"scopes": "SELECT unnest(ARRAY['read', 'admin'])"}, ["tokens"]),
    Case(SERVER, {"addresses": ADDRESSES.format(table="user_sessions")}, ["sessions"]),
    Case(SERVER, {"addresses": "SELECT '10.1.0.0/16'"}, ["sessions"]),
    Case(SERVER, {"ids": some_ids(SERVER)}),
    Case(SERVER, window("tokens", SERVER)),
    Case(SERVER, window("sessions", SERVER), ["sessions"]),
    Case("tmi", {"all": True}),
    Case("tmi", {"subjects": BUSY_USERS.format(table="refresh_tokens")}),
    Case("tmi", {"providers": "SELECT provider FROM user_providers GROUP BY 1 ORDER BY count(*), 1 LIMIT 1"}),
    Case("tmi", {"ids": some_ids("tmi")}),
    Case("tmi", window("refresh_tokens", "tmi")),
    Case("azth", {"all": True}, follow=True),
    Case("azth", {"subjects": BUSY_USERS.format(table="sessions")}, follow=True),
    Case("azth", {"tenants": TENANT}, follow=True),
    Case("azth", {"addresses": ADDRESSES.format(table="sessions")}),
    Case("azth", {"addresses": "SELECT '10.1.0.0/16'"}),
    Case("azth", {"ids": some_ids("azth")}),
    Case("azth", window("sessions", "azth")),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_criterion_of_a_system(system_database: Systems, case: Case) -> None:
    trial = Described.of(system_database, case.system)
    select, skew = trial.pick(case.select), trial.description["clock_skew"]
    stores = {name: store for name, store in STORES[case.system].items() if name in (case.stores or STORES[case.system])}
    chosen = {name: trial.ids(store, select) for name, store in stores.items()}
    expired = {name: trial.ids(store, select, f"NOT {store.alive()}") for name, store in stores.items()}
    already = {name: trial.ids(store, select, store.alive(), store.revoked) for name, store in stores.items()}
    pending = {name: chosen[name] - expired[name] - already[name] for name in stores}
    going = {name: trial.following(store, select) for name, store in stores.items()}
    living = {name: trial.ids(store, {"all": True}, store.alive(), f"NOT {store.revoked}") for name, store in stores.items()}
    total = sum(map(len, pending.values()))
    # The data has what the case is about; what was issued last has not expired.
    assert any(expired.values()) or "addresses" in case.select or set(case.select) == {"issued_from"}
    assert any(pending.values())
    assert ("all" in case.select) == (pending == living)
    assert any(going.values()) == case.follow or case.system == "tim"

    options = {"clock_skew": skew, "stores": list(case.stores), "sample": 100, "max_tokens": total}
    before, snapshot, accepted = trial.everything(), trial.snapshot(), trial.accepted_ids()
    preview = trial.run(select, *trial.stores, check=True, **options)
    with pytest.raises(Refused, match=rf"{total} tokens would be revoked, more than max_tokens \({total - 1}\)"):
        trial.run(select, *trial.stores, **{**options, "max_tokens": total - 1})
    assert trial.everything() == before
    result = trial.revoke(select, *trial.stores, **options)

    assert [store["name"] for store in result["stores"]] == list(stores)
    for name, store in stores.items():
        told, short = of_store(result, name), set(snapshot[store.writes[0]]) if store.how == "denylist" else set()
        assert told["how"] == store.how
        counts = (told["selected"], told["expired"], told["already_revoked"], told["pending"], told["revoked"], told["extended"])
        sets = (chosen, expired, already, pending, pending)
        assert counts == (*(len(one[name]) for one in sets), len(pending[name] & short))
        assert of_store(preview, name)["accepted_before"] == len(living[name])
        assert (told["remaining"], told["elsewhere"], told["late"]) == (0, 0, 0)
        expected = {(store.follows[0], store.follows[2]): len(going[name])} if store.follows and going[name] else {}
        assert {(one["table"], one["change"]): one["changed"] for one in told["dependents"] if one["changed"]} == expected
        assert {(one["table"], one["change"]): one["pending"] for one in told["dependents"] if one["pending"]} == expected
        # Of more than a hundred the result shows a hundred.
        assert len(told["sample"]) == min(100, len(pending[name]))
        assert set(told["sample"]) <= pending[name]
        if "claims" in store.criteria:
            rows = snapshot[store.tokens]
            claims = [rows[id_]["claim_keys"] for id_ in pending[name]]
            assert {one["claims"]: one["tokens"] for one in told["claim_sets"]} == {one: claims.count(one) for one in claims}
    assert result["dependents"] == sum(map(len, going.values()))
    if "ids" in select:
        assert result["not_found"] == 1

    # By the system's own rule: no selected token is accepted, and every other one is as before.
    for name, ids in trial.accepted_ids().items():
        assert ids == accepted[name] - chosen.get(name, set())
    now = trial.snapshot()
    changes = changed_keys(snapshot, now)
    wanted: dict[str, set[str]] = {table: set() for table in snapshot}
    for name, store in stores.items():
        wanted[store.writes[0]] |= pending[name]
        if store.follows:
            wanted[store.follows[0]] |= going[name]
    assert changes == wanted
    touched = {trial.value(f"SELECT '{table}'::regclass::oid::bigint") for table, keys in wanted.items() if keys}
    assert {oid for oid, digest in trial.everything().items() if before[oid] != digest} == touched
    for name, store in stores.items():
        require_marks(trial, store, pending[name], going[name], snapshot, now)

    trial.take_back(result)
    assert trial.everything() == before
    assert trial.accepted_ids() == accepted


def require_marks(trial: Trial, store: Store, ids: set[str], going: set[str], before: Snapshot, after: Snapshot) -> None:
    """See that the rows changed in the store's own way, and in no other column."""
    table = store.writes[0]
    if store.how == "delete":
        assert not ids & set(after[table])
    elif store.how == "timestamp":
        for id_ in ids:
            assert {**after[table][id_], "revoked_at": None} == before[table][id_]
        late = f"SELECT count(*) FROM {table} WHERE revoked_at BETWEEN {NOW_UTC} - interval '5 min' AND {NOW_UTC}"
        assert trial.value(f"{late} AND token_id = ANY (%s::uuid[])", [list(ids)]) == len(ids)
    else:
        # A deny row ends when no service takes its token any more, however far behind its clock is.
        lasting = f"SELECT count(*) FROM {table} d JOIN {store.tokens} t USING (jwt_uuid) WHERE d.expires_at = t.expires_at + {SKEW}"
        assert trial.value(f"{lasting} AND d.jwt_uuid = ANY (%s::uuid[])", [list(ids)]) == len(ids)
        for id_ in ids & set(before[table]):
            assert {**after[table][id_], "expires_at": before[table][id_]["expires_at"]} == before[table][id_]
    if store.follows and store.follows[2] == "deleted":
        assert not going & set(after[store.follows[0]])
    elif store.follows:
        for key in going:
            assert after[store.follows[0]][key]["used_at"] is not None
            assert {**after[store.follows[0]][key], "used_at": None} == before[store.follows[0]][key]


# Each selects some of what the one before it has revoked.
THREE: dict[str, list[dict[str, Any]]] = {
    "tim": [{"claims": KEY}, {"issued_from": moment("custom", 0.6, "tim")}, {"all": True}],
    SERVER: [{"subjects": CODE_USERS}, {"providers": PROVIDER}, window("tokens", SERVER)],
    "tmi": [
        {"subjects": BUSY_USERS.format(table="refresh_tokens")},
        {"providers": "SELECT provider FROM user_providers GROUP BY 1 ORDER BY count(*), 1 LIMIT 1"},
        {"issued_from": moment("refresh_tokens", 0.5, "tmi")},
    ],
    "azth": [
        {"tenants": TENANT},
        {"subjects": f"{BUSY_USERS.format(table='sessions')}0"},
        {"issued_from": moment("sessions", 0.5, "azth")},
    ],
}


@pytest.mark.parametrize("system", WITH_STORES)
def test_the_middle_one_of_three_is_taken_back(system_database: Systems, system: str) -> None:
    trial = Described.of(system_database, system)
    states, contents, results = [trial.snapshot()], [trial.everything()], []
    for select in [trial.pick(one) for one in THREE[system]]:
        results.append(trial.revoke(select, *trial.stores, clock_skew=trial.description["clock_skew"]))
        states.append(trial.snapshot())
        contents.append(trial.everything())
    assert all(result["revoked"] for result in results)
    assert any(result["already_revoked"] for result in results[1:]) or all(one["revoke"]["how"] == "delete" for one in trial.stores)
    first, middle, last = (changed_keys(*pair) for pair in zip(states, states[1:], strict=False))
    assert not any((first[table] & middle[table]) | (middle[table] & last[table]) for table in first)

    undone = trial.take_back(results[1])
    assert undone["later"] == [results[2]["revocation_id"]]
    assert undone["reinstated"] == sum(map(len, middle.values()))
    # What the middle one changed is as it was before; all else is as the last one left it.
    expected = {}
    for table, rows in states[3].items():
        kept = {key: row for key, row in rows.items() if key not in middle[table]}
        expected[table] = {**kept, **{key: row for key, row in states[1][table].items() if key in middle[table]}}
    assert trial.snapshot() == expected
    # In any order: what is left in the end is what was there in the beginning.
    assert trial.take_back(results[0])["later"] == [results[2]["revocation_id"]]
    trial.take_back(results[2])
    assert trial.everything() == contents[0]


@pytest.mark.parametrize("system", WITH_STORES)
@pytest.mark.parametrize("check", [True, False])
def test_what_a_store_cannot_answer(system_database: Systems, system: str, check: bool) -> None:
    """Refused with the store and the key that is missing, and answered where `stores` leaves that store out."""
    trial = Described.of(system_database, system)
    answers = {name: {"ids", "issued_from", "issued_to", *store.criteria} for name, store in STORES[system].items()}
    before, refused = trial.everything(), 0
    for criterion, value in VALUES.items():
        options = {"check": check, "max_tokens": 0}
        can = [name for name in answers if criterion in answers[name]]
        cannot = next((name for name in answers if name not in can), None)
        if cannot is None:
            result = trial.run({criterion: value}, *trial.stores, check=True, max_tokens=10**9)
            assert bool(result["selected"]) == (criterion == "issued_from")
            continue
        refused += 1
        said = rf"^select\.{criterion}: store '{cannot}' does not say in which column: its tokens name no {KEYS[criterion]}\b"
        with pytest.raises(InvalidValue, match=said) as caught:
            trial.run({criterion: value}, *trial.stores, **options)
        assert (caught.value.object_name, "stores" in str(caught.value.hint)) == (cannot, True)
        if can:
            result = trial.run({criterion: value}, *trial.stores, stores=can, **options)
            assert ([store["name"] for store in result["stores"]], result["changed"]) == (can, False)
    assert refused >= 6
    assert trial.everything() == before


@pytest.mark.parametrize("system", BUILT_IN)
def test_the_stores_of_a_system_are_those_that_are_tried_here(system: str) -> None:
    described = description_of(system)["token_stores"]
    assert {store["name"]: store["revoke"]["how"] for store in described} == {name: store.how for name, store in STORES[system].items()}
    tried = {criterion for case in CASES if case.system == system for criterion in case.select}
    given = {criterion for store in STORES[system].values() for criterion in ("all", "ids", "issued_from", "issued_to", *store.criteria)}
    assert tried == given


@pytest.mark.parametrize(
    "given",
    [
        {"select": {"all": True}},
        {"select": {"subjects": ["user1"]}, "stores": ["tokens"]},
        {"select": None, "state": "reinstated", "revocation_id": "any"},
    ],
    ids=["all", "stores", "reinstated"],
)
@pytest.mark.parametrize("check", [True, False])
def test_a_system_without_tokens(system_database: Systems, given: dict[str, Any], check: bool) -> None:
    trial = Trial(system_database("showtrack", rows=50))
    before = trial.everything()
    given = {"token_stores": description_of("showtrack")["token_stores"], **given}
    with pytest.raises(DescriptionError, match=r"token_stores.* is empty"):
        trial.run(given.pop("select"), check=check, **given)
    assert trial.everything() == before
    assert trial.sql("SELECT FROM pg_namespace WHERE nspname = 'pgops_runbook'") == []
