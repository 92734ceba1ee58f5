"""What a retention rule may say: its conditions, what happens to its rows, and what it may not do to a token store."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from ansible_collections.pgops.runbook.plugins.module_utils._errors import DescriptionError
from ansible_collections.pgops.runbook.plugins.module_utils._system import load

SYSTEM: dict[str, Any] = {
    "name": "login",
    "schemas": ["login"],
    "time_zone": "UTC",
    "token_stores": [
        {
            "name": "access",
            "tokens": {"table": "login.tokens", "id": "jti", "issued_at": "issued_at", "expires_at": "expires_at"},
            "revoke": {"how": "denylist", "table": "login.denied", "id": "jti", "expires_at": "expires_at"},
            "dependents": [
                {"table": "login.codes", "column": "jti", "references": "jti", "on_revoke": "timestamp", "mark": "used_at"},
            ],
        },
        {
            "name": "refresh",
            "tokens": {"table": "login.refresh", "id": "id", "expires_at": {"column": "exp", "unit": "s"}, "where": {"kind": "refresh"}},
            "revoke": {"how": "timestamp", "column": "revoked_at"},
        },
    ],
    "schema": {
        "tables": {
            "login.tokens": {"columns": {"jti": "uuid", "issued_at": "timestamptz", "expires_at": "timestamptz", "gone": "boolean"}},
            "login.denied": {"columns": {"jti": "uuid", "expires_at": "timestamptz", "gone_at": "timestamptz"}},
            "login.codes": {"columns": {"jti": "uuid", "at": "timestamptz", "used_at": "timestamptz", "state": "text"}},
            "login.refresh": {
                "columns": {
                    "id": "bigint",
                    "exp": "bigint",
                    "revoked_at": "timestamptz",
                    "kind": "text",
                    "gone_at": "timestamp",
                    "user_id": "text",
                }
            },
            "login.old": {"columns": {"id": "bigint"}},
        }
    },
}
RULE: dict[str, Any] = {"table": "login.refresh", "column": {"column": "exp", "unit": "s"}, "older_than": "7 days"}
CODES: dict[str, Any] = {"table": "login.codes", "column": "at", "older_than": "1 h"}
COLUMNS = "the columns of login.refresh: id, exp, revoked_at, kind, gone_at, user_id"
OPERATORS = "=, !=, <, <=, >, >=, in, not in, is null, is not null"


def described(*rules: dict[str, Any]) -> dict[str, Any]:
    """Return a description whose daily run has these rules."""
    return {**copy.deepcopy(SYSTEM), "retention": {"daily": list(copy.deepcopy(rules))}}


def read(*rules: dict[str, Any]) -> list[dict[str, Any]]:
    """Return rules in their normal form, which must be read again as it is."""
    system = load(described(*rules))
    assert load(system) == system
    found: list[dict[str, Any]] = system["retention"]["daily"]
    return found


def faults(*rules: dict[str, Any]) -> list[str]:
    with pytest.raises(DescriptionError) as caught:
        load(described(*rules))
    return caught.value.errors


def where(operator: str | None = None, **value: Any) -> dict[str, Any]:
    """Return a rule with one condition on `kind`."""
    return {**RULE, "where": [{"column": "kind", **({"operator": operator} if operator else {}), **value}]}


def marked(action: str = "soft_delete", **mark: Any) -> dict[str, Any]:
    """Return a rule with a mark."""
    return {**RULE, "action": action, "mark": {"column": "gone_at", **mark}}


def test_a_rule_says_what_goes_and_how_in_its_normal_form() -> None:
    written = {
        **RULE,
        "where": [
            {"column": "kind", "value": "refresh"},
            {"column": "id", "operator": "not in", "value": [1, 2]},
            {"column": "user_id", "operator": "is null"},
        ],
        "keep_latest": {"rows": 3, "per": ["user_id", "kind"]},
        "action": "archive",
        "archive": {"table": "login.refresh_archive", "create": True},
    }
    (rule,) = read(written)
    assert rule["where"] == [
        {"column": "kind", "operator": "=", "value": "refresh"},
        {"column": "id", "operator": "not in", "value": [1, 2]},
        {"column": "user_id", "operator": "is null", "value": None},
    ]
    assert rule["keep_latest"] == {"rows": 3, "per": ["user_id", "kind"]}
    assert (rule["action"], rule["archive"], rule["mark"]) == ("archive", {"table": "login.refresh_archive", "create": True}, None)


@pytest.mark.parametrize("value", ["", "sent", 0, 1.5, False])
def test_every_plain_value_may_be_compared_with(value: Any) -> None:
    (rule,) = read(where("!=", value=value))
    assert rule["where"][0]["value"] == value


def test_a_mark_of_time_gets_the_zone_of_the_system_as_any_time_does() -> None:
    (rule,) = read(marked())
    assert rule["mark"] == {"column": "gone_at", "time_zone": "UTC", "unit": None, "value": None}
    (rule,) = read({**CODES, "action": "soft_delete", "mark": {"column": "state", "value": "gone"}})
    assert rule["mark"] == {"column": "state", "time_zone": None, "unit": None, "value": "gone"}
    (rule,) = read({**CODES, "action": "soft_delete", "mark": {"column": "state", "value": False}})
    assert rule["mark"]["value"] is False


def test_rows_to_purge_are_marked_by_the_time_of_the_rule_where_nothing_else_is_said() -> None:
    (rule,) = read({**RULE, "action": "purge", "column": "gone_at"})
    assert rule["mark"] == {"column": "gone_at", "time_zone": "UTC", "unit": None, "value": None}
    # To read what a store reads harms nobody.
    (rule,) = read({**RULE, "action": "purge", "column": "revoked_at"})
    assert rule["mark"]["column"] == "revoked_at"
    (rule,) = read(marked("purge", column="kind", value="gone"))
    assert rule["mark"]["value"] == "gone"


def test_whole_partitions_need_nothing_else() -> None:
    (rule,) = read({**CODES, "action": "drop_partitions"})
    assert (rule["where"], rule["keep_latest"], rule["archive"], rule["mark"]) == ([], None, None, None)


def test_an_archive_may_be_where_nothing_is_declared() -> None:
    (rule,) = read({**RULE, "action": "archive", "archive": {"table": "elsewhere.refresh"}})
    assert rule["archive"] == {"table": "elsewhere.refresh", "create": False}


def test_an_archive_is_cleaned_up_in_another_run() -> None:
    archiving = {**RULE, "action": "archive", "archive": {"table": "login.old"}}
    cleaning = {**CODES, "table": "login.old", "column": {"column": "id", "unit": "s"}}
    system = load({**described(archiving), "retention": {"daily": [archiving], "weekly": [cleaning]}})
    assert [len(system["retention"][schedule]) for schedule in ("daily", "weekly")] == [1, 1]


def test_two_rules_may_move_to_one_archive_and_set_one_mark() -> None:
    archive = {"action": "archive", "archive": {"table": "login.old"}}
    assert len(read({**RULE, **archive}, {**CODES, **archive})) == 2
    # The zone that is left out is the one that the other rule writes.
    assert len(read({**marked(), "name": "a"}, {**marked(time_zone="UTC"), "name": "b"})) == 2


FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "an action that nothing does": (
        {**RULE, "action": "truncate"},
        "action: 'truncate' is not one of delete, archive, soft_delete, purge, drop_partitions",
    ),
    "conditions in SQL": ({**RULE, "where": "kind = 'x'"}, "where: \"kind = 'x'\" is not a list, each item a condition"),
    "a condition in SQL": (
        {**RULE, "where": ["kind = 'x'"]},
        "where[0]: \"kind = 'x'\" is not a condition: write a mapping with column, operator, value",
    ),
    "a condition on nothing": ({**RULE, "where": [{"value": 1}]}, "where[0].column: is missing: the column that is compared"),
    "a condition on a column that the table lacks": (
        {**RULE, "where": [{"column": "sort", "value": 1}]},
        f"where[0].column: 'sort' is not one of {COLUMNS}",
    ),
    "an operator that there is not": (where("like", value="x%"), f"where[0].operator: 'like' is not one of {OPERATORS}"),
    "no value": (where("<"), "where[0].value: is missing: what the column is compared with by <; is null takes none"),
    "no value and no operator": (where(), "where[0].value: is missing: what the column is compared with by =; is null takes none"),
    "a value with a test for NULL": (
        where("is not null", value=False),
        "where[0].value: False is not for is not null, which compares with nothing: leave it out",
    ),
    "one value for a list": (where("in", value="x"), "where[0].value: 'x' is not a list: in compares with one"),
    "no list": (where("not in"), "where[0].value: is missing: what the column is compared with by not in; is null takes none"),
    "an empty list": (where("in", value=[]), "where[0].value: [] is empty: at least one is needed"),
    "a list with NULL": (
        where("not in", value=["x", None]),
        "where[0].value[1]: is empty: write a text, a number, true or false",
    ),
    "a list for one value": (
        where("!=", value=["x"]),
        "where[0].value: ['x'] is a list, and != compares with one value: write in or not in",
    ),
    "a mapping for a value": (
        where("=", value={"a": 1}),
        "where[0].value: {'a': 1} is not a text, a number, true or false, or a list of those",
    ),
    "a list in a list": (where("in", value=[["x"]]), "where[0].value[0]: ['x'] is not a text, a number, true or false"),
    "the latest rows of nothing": (
        {**RULE, "keep_latest": {"rows": 1}},
        "keep_latest.per: is missing: the columns whose values are the key that the rows are counted by",
    ),
    "the latest rows of no key": ({**RULE, "keep_latest": {"rows": 1, "per": []}}, "keep_latest.per: [] is empty: at least one is needed"),
    "the latest rows of a key that the table lacks": (
        {**RULE, "keep_latest": {"rows": 1, "per": ["user"]}},
        f"keep_latest.per[0]: 'user' is not one of {COLUMNS}",
    ),
    "none of the latest rows": (
        {**RULE, "keep_latest": {"rows": 0, "per": ["user_id"]}},
        "keep_latest.rows: 0 is not a number of rows from 1 up",
    ),
    "a number for the latest rows": (
        {**RULE, "keep_latest": 3},
        "keep_latest: 3 is not what stays of each key: write a mapping with rows, per",
    ),
    "no archive": (
        {**RULE, "action": "archive"},
        "archive: is missing: the table that the rows move to",
    ),
    "an archive that nothing moves to": (
        {**RULE, "archive": {"table": "login.old"}},
        "archive: is only for action archive, not delete: leave it out",
    ),
    "an archive that is no mapping": (
        {**RULE, "action": "archive", "archive": "login.old"},
        "archive: 'login.old' is not an archive: write a mapping with table, create",
    ),
    "an archive that is the table": (
        {**RULE, "action": "archive", "archive": {"table": "login.refresh"}},
        "archive.table: 'login.refresh' is the rule's own table: name another one",
    ),
    "an archive that is not declared": (
        {**RULE, "action": "archive", "archive": {"table": "login.olde"}},
        "archive.table: 'login.olde' is not one of the tables of schema.tables: login.tokens, login.denied, login.codes, login.refresh, "
        "login.old; write create: true where it is to be made",
    ),
    "an archive that is a deny list": (
        {**CODES, "action": "archive", "archive": {"table": "login.denied"}},
        "archive.table: 'login.denied' belongs to the token store 'access' (revoke.table), which would take the rows for its own: "
        "name a table that is only an archive",
    ),
    "an archive of tokens among tokens": (
        {**CODES, "action": "archive", "archive": {"table": "login.refresh"}},
        "archive.table: 'login.refresh' belongs to the token store 'refresh' (tokens.table), which would take the rows for its own: "
        "name a table that is only an archive",
    ),
    "an archive among what goes with tokens": (
        {**RULE, "action": "archive", "archive": {"table": "login.codes"}},
        "archive.table: 'login.codes' belongs to the token store 'access' (dependents[0].table), which would take the rows for its own: "
        "name a table that is only an archive",
    ),
    "no mark": (
        {**RULE, "action": "soft_delete"},
        "mark: is missing: how a row says that it is deleted",
    ),
    "a mark that nothing sets": (
        {**RULE, "mark": {"column": "gone_at"}},
        "mark: is only for action soft_delete or purge, not delete: leave it out",
    ),
    "a mark that is no mapping": (
        {**RULE, "action": "soft_delete", "mark": "gone_at"},
        "mark: 'gone_at' is not a mark: write a mapping with column, time_zone, unit, value",
    ),
    "a mark of a column that the table lacks": (marked(column="deleted_at"), f"mark: 'deleted_at' is not one of {COLUMNS}"),
    "a flag of a column that the table lacks": (marked(column="gone", value=True), f"mark.column: 'gone' is not one of {COLUMNS}"),
    "a mark of time that is none": (
        marked(column="user_id"),
        "mark: login.refresh.user_id is text, which is not a time: timestamptz, timestamp, date, or an integer with a unit",
    ),
    "a mark of time and of a value": (
        marked(value="gone", time_zone="UTC"),
        "mark.time_zone: 'UTC' is for the time of deletion, and this mark has a value: leave one of them out",
    ),
    "a mark of numbers and of a value": (
        marked(value=1, unit="s"),
        "mark.unit: 's' is for the time of deletion, and this mark has a value: leave one of them out",
    ),
    "a mark of several values": (marked(value=["x"]), "mark.value: ['x'] is not a text, a number, true or false"),
    "a mark that is the age": (
        {**CODES, "action": "soft_delete", "mark": {"column": "at"}},
        "mark: 'at' is the column that the rule's age counts from, and a mark would change it: name another one",
    ),
    "a mark that revokes": (
        marked(column="revoked_at"),
        "mark: 'revoked_at' is read by the token store 'refresh' (revoke.column): a soft delete that writes to it could make a revoked "
        "token valid again: name a column that no store reads",
    ),
    "a mark that says which rows are tokens": (
        marked(column="kind", value="gone"),
        "mark: 'kind' is read by the token store 'refresh' (tokens.where.kind): a soft delete that writes to it could make a revoked "
        "token valid again: name a column that no store reads",
    ),
    "a mark of an expiry": (
        {"table": "login.denied", "column": "gone_at", "older_than": "1 h", "action": "soft_delete", "mark": {"column": "expires_at"}},
        "mark: 'expires_at' is read by the token store 'access' (revoke.expires_at): a soft delete that writes to it could make a revoked "
        "token valid again: name a column that no store reads",
    ),
    "partitions with conditions": (
        {**CODES, "action": "drop_partitions", "where": [{"column": "state", "value": "sent"}]},
        "where: is not for action drop_partitions, which removes whole partitions whatever is in their rows: leave it out",
    ),
    "partitions with latest rows": (
        {**CODES, "action": "drop_partitions", "keep_latest": {"rows": 1, "per": ["state"]}},
        "keep_latest: is not for action drop_partitions, which removes whole partitions whatever is in their rows: leave it out",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_names_key_value_and_what_is_allowed(name: str) -> None:
    rule, expected = FAULTS[name]
    path = "retention.daily[0]."
    # All that is wrong is said, and once.
    assert [fault for fault in faults(rule) if fault != path + expected and fault.startswith(path)] == []
    assert path + expected in faults(rule)


def test_an_archive_that_another_rule_of_the_run_cleans_up() -> None:
    archiving = {**RULE, "action": "archive", "archive": {"table": "login.old"}}
    cleaning = {**CODES, "table": "login.old", "column": {"column": "id", "unit": "s"}}
    said = "is the table of {}, which would remove from the archive what this run has just moved there: clean it up in another run"
    assert faults(archiving, cleaning) == ["retention.daily[0].archive.table: 'login.old' " + said.format("retention.daily[1]")]
    assert faults(cleaning, archiving) == ["retention.daily[1].archive.table: 'login.old' " + said.format("retention.daily[0]")]


def test_two_marks_in_one_table() -> None:
    first, second = {**marked(), "name": "a"}, {**marked(column="user_id", value="gone"), "name": "b"}
    assert faults(first, second) == [
        "retention.daily[1].mark: differs from the mark of retention.daily[0], which is about the same table: a row that one of them has "
        "marked would not be marked for the other"
    ]
    assert len(read(first, {**second, "action": "purge"})) == 2


def test_everything_that_is_wrong_with_a_rule_is_said_at_once() -> None:
    rule = {
        **CODES,
        "action": "drop_partitions",
        "archive": {"table": "login.codes"},
        "mark": {"column": "at", "value": 1, "unit": "s"},
        "where": [{"column": "stat", "operator": "in", "value": []}],
        "keep_latest": {"rows": -1, "per": ["jti"]},
    }
    said = ("archive", "keep_latest", "keep_latest.rows", "mark", "mark.unit", "where", "where[0].column", "where[0].value")
    assert sorted(fault.partition(":")[0] for fault in faults(rule)) == [f"retention.daily[0].{key}" for key in said]
