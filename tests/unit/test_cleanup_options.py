"""What a clean-up refuses before it connects, with the path of the option."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from ansible_collections.pgops.runbook.plugins.module_utils._cleanup import Options, read_options
from ansible_collections.pgops.runbook.plugins.module_utils._cleanup.throttle import Limits
from ansible_collections.pgops.runbook.plugins.module_utils._cleanup.window import Window
from ansible_collections.pgops.runbook.plugins.module_utils._errors import DescriptionError
from ansible_collections.pgops.runbook.plugins.module_utils._instant import Instant
from ansible_collections.pgops.runbook.plugins.module_utils._system.retention import ACTIONS
from ansible_collections.pgops.runbook.plugins.modules.pg_cleanup import EXAMPLES

RULE: dict[str, Any] = {"table": "app.sessions", "column": "expires_at", "older_than": "1 h"}
STORE: dict[str, Any] = {
    "name": "app",
    "tokens": {"table": "app.tokens", "id": "id"},
    "revoke": {"how": "denylist", "table": "app.denied", "id": "id"},
}


def faults(**parameters: Any) -> list[str]:
    with pytest.raises(DescriptionError) as caught:
        read_options({"rules": [RULE], **parameters})
    return caught.value.errors


def test_a_rule_is_normalised() -> None:
    options = read_options({"rules": [{**RULE, "table": "sessions"}]})
    assert options.rules[0]["table"] == "public.sessions"
    assert options.rules[0]["name"] == "public.sessions"
    assert options.rules[0]["column"] == {"column": "expires_at", "time_zone": None, "unit": None}
    assert options.rules[0]["older_than_seconds"] == 3600.0
    assert (options.clock_skew, options.batch_rows, options.max_rows, options.max_runtime) == (300.0, 100_000, None, None)


def test_a_zone_and_a_unit_may_stand_beside_the_column() -> None:
    written = [
        {**RULE, "time_zone": "UTC"},
        {**RULE, "name": "b", "unit": "ms"},
        {**RULE, "name": "c", "column": {"column": "at", "unit": "s"}, "unit": None},
    ]
    columns = [rule["column"] for rule in read_options({"rules": written}).rules]
    assert [(column["column"], column["time_zone"], column["unit"]) for column in columns] == [
        ("expires_at", "UTC", None),
        ("expires_at", None, "ms"),
        ("at", None, "s"),
    ]


def test_a_normalised_rule_and_store_are_read_again_as_they_are() -> None:
    first = read_options({"rules": [{**RULE, "table": "app.denied", "protects": "app"}], "token_stores": [STORE]})
    again = read_options({"rules": list(first.rules), "token_stores": list(first.token_stores)})
    assert again == first


@pytest.mark.parametrize(
    ("change", "path", "said"),
    [
        ({"older_than": "-5 s"}, "rules[0].older_than", "is not a duration"),
        ({"older_than": "a while"}, "rules[0].older_than", "is not a duration"),
        ({"older_than": "5 fortnights"}, "rules[0].older_than", "is not a duration"),
        ({"older_than": "400000 days"}, "rules[0].older_than", "longer than 1000 years"),
        ({"older_than": "9" * 400}, "rules[0].older_than", "longer than 1000 years"),
        ({"older_than": None}, "rules[0].older_than", "is missing"),
        ({"table": "a.b.c"}, "rules[0].table", "3 parts"),
        ({"table": ""}, "rules[0].table", "is not a table name"),
        ({"column": 7.5}, "rules[0].column", "is not a time column"),
        ({"column": ["a"]}, "rules[0].column", "is not a time column"),
        ({"column": {"column": "a", "zone": "UTC"}}, "rules[0].column.zone", "time_zone"),
        ({"time_zone": "Europe/Talinn"}, "rules[0].column.time_zone", "Europe/Tallinn"),
        ({"unit": "us"}, "rules[0].column.unit", "is not one of s, ms"),
        ({"action": "truncate"}, "rules[0].action", "is not one of delete, archive, soft_delete, purge, drop_partitions"),
        ({"protects": "web"}, "rules[0].protects", "'web' is not one of app"),
        ({"where": "true"}, "rules[0].where", "is not a list, each item a condition"),
        ({"where": [{"column": "state", "operator": "in", "value": "x"}]}, "rules[0].where[0].value", "is not a list"),
        ({"keep_latest": {"rows": 0, "per": ["a"]}}, "rules[0].keep_latest.rows", "is not a number of rows from 1 up"),
        ({"action": "archive"}, "rules[0].archive", "is missing"),
        ({"action": "archive", "archive": {"table": "app.tokens"}}, "rules[0].archive.table", "belongs to the token store 'app'"),
        ({"action": "archive", "archive": {"table": "app.sessions"}}, "rules[0].archive.table", "is the rule's own table"),
        ({"action": "soft_delete", "mark": {"column": "expires_at"}}, "rules[0].mark", "is the column that the rule's age counts from"),
        (
            {"table": "app.denied", "action": "soft_delete", "mark": {"column": "id", "value": "x"}},
            "rules[0].mark",
            "'id' is read by the token store 'app' (revoke.id)",
        ),
        ({"action": "drop_partitions", "where": [{"column": "a", "value": 1}]}, "rules[0].where", "is not for action drop_partitions"),
    ],
)
def test_a_wrong_rule_is_named_with_its_path(change: dict[str, Any], path: str, said: str) -> None:
    found = faults(rules=[{**RULE, **change}], token_stores=[STORE])
    assert len(found) == 1
    assert found[0].startswith(path + ": ")
    assert said in found[0]


def test_a_rule_as_ansible_passes_it_on_has_every_key() -> None:
    """Ansible fills in None for every suboption that is not given."""
    written = {
        **RULE,
        "where": [{"column": "state", "operator": "is not null", "value": None}],
        "action": "purge",
        "archive": None,
        "keep_latest": None,
        "mark": {"column": "gone", "time_zone": None, "unit": None, "value": True},
    }
    rule = read_options({"rules": [written], "window": None, "throttle": None, "vacuum": None}).rules[0]
    assert rule["where"] == [{"column": "state", "operator": "is not null", "value": None}]
    assert rule["mark"] == {"column": "gone", "time_zone": None, "unit": None, "value": True}
    assert read_options({"rules": [{**RULE, "action": "purge"}]}).rules[0]["mark"] == {**rule["column"], "value": None}


def test_rules_of_one_run_are_looked_at_together() -> None:
    archiving = {**RULE, "action": "archive", "archive": {"table": "app.old"}}
    assert faults(rules=[archiving, {**RULE, "table": "app.old"}])[0].startswith(
        "rules[0].archive.table: 'app.old' is the table of rules[1]"
    )
    marks = [{**RULE, "name": name, "action": "soft_delete", "mark": {"column": name}} for name in ("a", "b")]
    assert faults(rules=marks)[0].startswith("rules[1].mark: differs from the mark of rules[0]")


def test_how_gently_it_works_has_defaults() -> None:
    options = read_options({"rules": [RULE]})
    assert (options.batch_rows, options.batch_seconds, options.window) == (100_000, 0.2, None)
    assert (options.vacuum, options.vacuum_truncate, options.allow_unindexed_references) == ("auto", False, False)
    assert options.throttle == Limits(30.0, 3600.0, 64, 5, 300.0)
    assert options == Options(options.rules, (), 300.0)


def test_how_gently_it_works_as_asked_for() -> None:
    window = {"name": "night", "at": 120, "lasts": "4 h", "lasts_seconds": 14400.0, "time_zone": "Europe/Tallinn", "weekday": None}
    options = read_options(
        {
            "rules": [RULE],
            "batch_rows": 500,
            "batch_time": "50 ms",
            "window": window,
            "throttle": {"replica_lag": None, "blocked_sessions": "off", "max_pause": "1 min"},
            "vacuum": "never",
            "vacuum_truncate": True,
            "allow_unindexed_references": True,
        }
    )
    assert (options.batch_rows, options.batch_seconds) == (500, 0.05)
    assert options.window == Window("daily", None, "02:00", 14400.0, "Europe/Tallinn")
    assert options.throttle == Limits(None, 3600.0, 64, None, 60.0)
    assert (options.vacuum, options.vacuum_truncate, options.allow_unindexed_references) == ("never", True, True)


@pytest.mark.parametrize("task", yaml.safe_load(EXAMPLES), ids=lambda task: task["name"])
def test_the_module_s_examples_are_right(task: dict[str, Any]) -> None:
    given = task["pgops.runbook.pg_cleanup"]
    # What comes from a system description stands for something right.
    written = {key: value for key, value in given.items() if "{{" not in str(value)}
    options = read_options({"rules": [RULE], **written})
    assert len(options.rules) == len(written.get("rules", [RULE]))


def test_the_examples_show_every_action() -> None:
    rules = [rule for task in yaml.safe_load(EXAMPLES) for rule in task["pgops.runbook.pg_cleanup"]["rules"] if isinstance(rule, dict)]
    assert {rule.get("action", "delete") for rule in rules} == set(ACTIONS)


def test_names_must_differ_also_where_the_table_is_the_name() -> None:
    assert faults(rules=[RULE, {**RULE, "older_than": "2 h"}])[0].startswith(
        "rules[1].name: 'app.sessions' is already the name of rules[0]"
    )
    assert faults(rules=[{**RULE, "name": "x"}, {**RULE, "table": "b", "name": "x"}])[0].startswith("rules[1].name: 'x' is already")


def test_protects_without_any_store() -> None:
    assert faults(rules=[{**RULE, "protects": "app"}])[0].startswith("rules[0].protects: 'app' is not a token store")


@pytest.mark.parametrize(
    ("parameters", "path"),
    [
        ({"clock_skew": "-1 s"}, "clock_skew"),
        ({"clock_skew": "soon"}, "clock_skew"),
        ({"clock_skew": "400000 days"}, "clock_skew"),
        ({"batch_rows": 0}, "batch_rows"),
        ({"batch_rows": 10_000_000}, "batch_rows"),
        ({"batch_rows": True}, "batch_rows"),
        ({"max_rows": 0}, "max_rows"),
        ({"max_rows": -1}, "max_rows"),
        ({"max_runtime": "0 s"}, "max_runtime"),
        ({"max_runtime": "never"}, "max_runtime"),
        ({"batch_time": "0 s"}, "batch_time"),
        ({"batch_time": "quick"}, "batch_time"),
        ({"window": "night"}, "window"),
        ({"window": {"at": "25:00", "lasts": "1 h", "time_zone": "UTC"}}, "window.at"),
        ({"window": {"at": "02:00", "time_zone": "UTC"}}, "window.lasts"),
        ({"window": {"at": "02:00", "lasts": "1 h", "time_zone": "UTC", "schedule": "weekly"}}, "window.weekday"),
        ({"throttle": {"replica_lag": "late"}}, "throttle.replica_lag"),
        ({"throttle": {"lag": "30 s"}}, "throttle.lag"),
        ({"throttle": ["30 s"]}, "throttle"),
        ({"vacuum": "sometimes"}, "vacuum"),
        ({"vacuum_truncate": "perhaps"}, "vacuum_truncate"),
        ({"allow_unindexed_references": 1}, "allow_unindexed_references"),
        ({"token_stores": [{**STORE, "revoke": {"how": "denlyist"}}]}, "token_stores[0].revoke.how"),
        ({"token_stores": [STORE, STORE]}, "token_stores[1].name"),
        ({"token_stores": ["app"]}, "token_stores[0]"),
        ({"rules": ["app.sessions"]}, "rules[0]"),
    ],
)
def test_a_wrong_option_is_named(parameters: dict[str, Any], path: str) -> None:
    assert faults(**parameters)[0].startswith(path + ": ")


def test_every_fault_is_listed() -> None:
    assert len(faults(rules=[{**RULE, "older_than": "x"}, {**RULE, "table": "a.b.c"}], clock_skew="y", batch_rows=-1)) == 4


def test_what_a_survey_leaves_empty_is_not_given() -> None:
    for empty in (None, ""):
        left = ("max_rows", "max_runtime", "clock_skew", "batch_rows", "batch_time", "window", "throttle", "vacuum", "vacuum_truncate")
        options = read_options({"rules": [RULE], **dict.fromkeys(left, empty)})
        assert options == read_options({"rules": [RULE]})
        assert (options.max_rows, options.max_runtime, options.clock_skew, options.batch_rows) == (None, None, 300.0, 100_000)
    assert read_options({"rules": [RULE], "clock_skew": "0 s"}).clock_skew == 0.0
    assert read_options({"rules": [RULE], "window": {"at": "", "lasts": "", "time_zone": ""}}).window is None


@pytest.mark.parametrize(("seconds", "microseconds"), [(1.0, 9_000_000), (0.0000001, 9_999_999), (0.0, 10_000_000)])
def test_a_fraction_of_a_microsecond_makes_a_cut_off_earlier(seconds: float, microseconds: int) -> None:
    assert Instant(10_000_000).before(seconds).microseconds == microseconds


def test_an_instant_is_shown_in_utc() -> None:
    assert str(Instant(1_700_000_000_000_001)) == "2023-11-14T22:13:20.000001+00:00"
