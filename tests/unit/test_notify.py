"""Who is told of what, what is wrong with a channel, and what is never shown, without sending anything."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.pgops.runbook.plugins.plugin_utils._amounts import amount
from ansible_collections.pgops.runbook.plugins.plugin_utils._channels import hide, is_address, read
from ansible_collections.pgops.runbook.plugins.plugin_utils._outcome import outcome
from ansible_collections.pgops.runbook.plugins.plugin_utils._routing import line, plan

MAIL = {"name": "mail", "type": "mail", "sender": "pgops@example.org"}
HOOK = {"name": "hook", "type": "webhook", "url": "https://example.org/hook"}


def finding(check: str, severity: str, change: str | None = None) -> dict[str, Any]:
    return {"key": check, "check": check, "severity": severity, "change": change, "message": check}


def host(name: str = "db1", *findings: dict[str, Any], contacts: tuple[dict[str, Any], ...] = (), **more: Any) -> dict[str, Any]:
    result = {"status": findings[0]["severity"] if findings else "ok", "findings": list(findings)}
    return {"host": name, "result": result, "contacts": list(contacts), **more}


def routed(planned: dict[str, Any]) -> dict[tuple[str, ...], list[str]]:
    """Return the keys that are told, by channel and recipients."""
    return {
        (one["channel"], *one["to"]): [each["key"] for section in one["message"]["hosts"] for each in section["findings"]]
        for one in planned["deliveries"]
    }


BOTH = (finding("c", "critical"), finding("w", "warning"))


@pytest.mark.parametrize(
    ("address", "right"),
    [
        ("dba@company.com", True),
        ("first.last+tag@sub.example.org", True),
        ("root@localhost", True),
        ("a@b, c@d", False),
        ("a@b\n", False),
        ("a@b\r\nBcc: c@d", False),
        ("Name <a@b.org>", False),
        ("a b@example.org", False),
        ('"a,b"@example.org', False),
        ("Dev Team Slack", False),
        ("@example.org", False),
        ("a@-example.org", False),
        (None, False),
    ],
)
def test_an_address_is_one_address(address: Any, right: bool) -> None:
    assert is_address(address) is right


def test_one_person_named_twice_gets_one_mail_with_everything() -> None:
    contacts = ({"name": "A", "address": "a@x.org", "severities": ["warning"]}, {"name": "A too", "address": "a@x.org"})
    planned = plan([host("db1", *BOTH, contacts=contacts)], [{**MAIL, "to": ["a@x.org"], "severities": ["unknown"], "contacts": True}])
    assert routed(planned) == {("mail", "a@x.org"): ["c", "w"]}


def test_a_contact_without_severities_is_called_for_what_is_critical() -> None:
    planned = plan([host("db1", *BOTH, contacts=({"name": "A", "address": "a@x.org"},))], [{**MAIL, "contacts": True}])
    assert routed(planned) == {("mail", "a@x.org"): ["c"]}


@pytest.mark.parametrize(
    ("severities", "asked", "told"),
    [
        (None, ["warning"], ["w"]),
        (["critical"], ["warning"], ["c", "w"]),
        (["critical"], [], ["c"]),
        (None, [], ["c", "w"]),
    ],
)
def test_a_channel_of_a_contact_gets_what_either_asks_for(severities: Any, asked: list[str], told: list[str]) -> None:
    channel = {**HOOK, "name": "Dev Team Slack", **({"severities": severities} if severities is not None else {})}
    contact = {"name": "Application team", "address": "dev team slack", "severities": asked}
    assert routed(plan([host("db1", *BOTH, contacts=(contact,))], [channel])) == {("Dev Team Slack",): told}


def test_a_mail_address_is_told_through_the_channel_of_its_name_where_no_mail_goes_out() -> None:
    contact = {"name": "hook", "address": "a@x.org", "severities": ["warning"]}
    planned = plan([host("db1", *BOTH, contacts=(contact,))], [HOOK])
    assert routed(planned) == {("hook",): ["w"]}
    assert planned["notices"] == []


def test_nobody_is_dropped_in_silence() -> None:
    contacts = (
        {"name": "A", "address": "a@x.org"},
        {"name": "B", "address": "phone"},
        {"name": "C", "address": "c", "severities": ["unknown"]},
    )
    notices = plan([host("db1", *BOTH, contacts=contacts)], [HOOK])["notices"]
    assert [notice.split(" ", maxsplit=1)[0] for notice in notices] == ["A", "B"]
    assert "contacts: true" in notices[0]


def test_hosts_of_a_digest_are_each_told_to_their_own() -> None:
    mine, other = ({"name": "A", "address": "a@x.org"},), ({"name": "B", "address": "b@x.org"},)
    hosts = [host("one", *BOTH, contacts=mine), host("two", *BOTH, contacts=other), host("three"), "lost"]
    planned = plan(hosts, [{**MAIL, "contacts": True}, HOOK])
    assert routed(planned) == {("mail", "a@x.org"): ["c"], ("mail", "b@x.org"): ["c"], ("hook",): ["run", "c", "w", "c", "w"]}
    whole = planned["deliveries"][-1]["message"]
    assert whole["statuses"] == {"failed": 1, "critical": 2}
    assert whole["worst"]["host"] == "lost"


@given(st.integers(0, 200), st.integers(1, 8))
def test_a_message_is_bounded_and_nothing_goes_uncounted(number: int, hosts: int) -> None:
    many = [host(f"h{place}", *(finding(f"c{index}", "warning") for index in range(number))) for place in range(hosts)]
    deliveries = plan(many, [HOOK])["deliveries"]
    assert len(deliveries) == (number > 0)
    for one in deliveries:
        sections = one["message"]["hosts"]
        shown = sum(len(section["findings"]) for section in sections)
        assert shown <= 20
        assert shown + sum(section["more"] for section in sections) == number * hosts


ODD: list[Any] = [None, "", "x", 5, [], {}, [None], ["a"], {"a": 1}, True]


@given(st.sampled_from(ODD), st.sampled_from(ODD), st.sampled_from(ODD), st.sampled_from(ODD))
def test_odd_shapes_are_told_of_and_never_raise(channels: Any, contacts: Any, findings: Any, failure: Any) -> None:
    odd = {"name": "odd", "type": "mail", "to": channels, "port": contacts, "sender": findings, "severities": failure}
    strange = {"name": findings, "address": failure, "severities": channels, "call_for": contacts}
    result = {"status": "critical", "findings": findings, "resolved": contacts, "checks": channels, "time": failure}
    hosts = [{"host": "h", "result": result, "contacts": contacts, "failure": failure}, host("i", *BOTH, contacts=(strange,))]
    for given_channels in (channels, [odd, HOOK], [channels, HOOK]):
        planned = plan(hosts, given_channels)
        told = outcome(planned, [{}, {"results": []}, {"skipped": True}], given_channels)
        assert len(told["channels"]) == len(planned["channels"])


FAULTY: list[tuple[dict[str, Any], str]] = [
    ({**MAIL}, "to is required"),
    ({**MAIL, "to": ["a@b, c@d"]}, "not one plain mail address"),
    ({**MAIL, "to": ["a@b"], "sender": "a@b\nBcc: c@d"}, "sender must be"),
    ({**MAIL, "to": ["a@b"], "host": "mail example"}, "host must be"),
    ({**MAIL, "to": ["a@b"], "subject_prefix": "x\ny"}, "subject_prefix must be"),
    ({**MAIL, "to": ["a@b"], "port": 70000}, "port must be"),
    ({**MAIL, "to": ["a@b"], "secure": "yes"}, "secure must be one of"),
    ({**MAIL, "to": ["a@b"], "password": "5ecret"}, "go together"),
    ({**HOOK, "url": "ftp://example.org/5ecret"}, "url must begin"),
    ({**HOOK, "url": "https:///5ecret"}, "url must begin"),
    ({**HOOK, "url": "https://example.org/5ecret path"}, "url must begin"),
    ({**HOOK, "url": "https://example.org:5ecret/"}, "url must begin"),
    ({**HOOK, "headers": {"X-Key": "5ecret\n"}}, "X-Key must be one line"),
    ({**HOOK, "headers": {"X Key: 5ecret": "x"}}, "name that is none of a header"),
    ({**HOOK, "headers": "X-Key: 5ecret"}, "headers must be a mapping"),
    ({**HOOK, "https://5ecret": 1}, "something is no key"),
    ({**HOOK, "validate_certs": "maybe"}, "validate_certs must be true or false"),
    ({"name": "x", "type": "5ecret"}, "type must be one of"),
    ({"name": "x", "type": "command", "argv": []}, "argv is required"),
    ({"name": "x", "type": "command", "argv": "rm x", "severity": "critical"}, "did you mean severities"),
]


@pytest.mark.parametrize(("channel", "said"), FAULTY, ids=[said for _channel, said in FAULTY])
def test_a_fault_is_named_without_the_secret(channel: dict[str, Any], said: str) -> None:
    (found,) = read([channel])
    assert said in "; ".join(found.faults)
    assert "5ecret" not in "; ".join(found.faults)


def test_a_wrong_channel_fails_and_the_next_one_works() -> None:
    channels = [{**HOOK, "url": "x"}, {**HOOK, "name": "right"}]
    planned = plan([host("db1", *BOTH)], channels)
    told = outcome(planned, [], channels, check_mode=True)
    assert [one["status"] for one in told["channels"]] == ["failed", "would be sent"]


@pytest.mark.parametrize(
    ("channel", "text"),
    [
        (HOOK | {"url": "https://hooks.slack.com/services/T0123/B0123/abcdefgh"}, "no /services/T0123/B0123/abcdefgh, abcdefgh"),
        (HOOK | {"url": "https://me:abcdefgh@example.org/x"}, "login abcdefgh"),
        (HOOK | {"headers": {"Authorization": "Bearer abcdefgh"}}, "Bearer abcdefgh or abcdefgh"),
        (MAIL | {"username": "me", "password": "abcdefgh"}, "abcdefgh YWJjZGVmZ2g= AG1lAGFiY2RlZmdo"),
    ],
)
def test_secrets_are_starred_in_whatever_form(channel: dict[str, Any], text: str) -> None:
    shown = hide(text, channel)
    assert "***" in shown
    assert not [part for part in ("abcdefgh", "YWJjZGVmZ2g", "AG1lAGFiY2RlZmdo") if part in shown]


REASONS: list[tuple[dict[str, Any], str]] = [
    ({"rc": 3, "cmd": "x", "stderr": "a\nit broke\n"}, "it ended with 3: it broke"),
    ({"rc": 124, "cmd": "x", "stderr": ""}, "it took too long and was ended"),
    (
        {"rc": 32, "cmd": "x", "msg": "Error executing command."},
        "it ended without reading the message from its standard input, or could not be started",
    ),
    ({"rc": 2, "cmd": "x", "stderr": "", "msg": "no such file"}, "it could not be started: no such file"),
    ({"status": 503, "msg": "Status code was 503 and not [200]: HTTP Error 503: https://example.org/hook"}, "the server answered 503"),
    ({"status": -1, "msg": "Status code was -1 and not [200]: Request failed: <urlopen error no /hook>"}, "no ***"),
    ({"msg": "Task failed: Timed out after 15 second(s)."}, "Timed out after 15 second(s)."),
    ({"unreachable": True, "failed": False, "msg": "no route"}, "no route"),
    ({}, "no reason given"),
]


@pytest.mark.parametrize(("result", "reason"), REASONS, ids=[reason for _result, reason in REASONS])
def test_a_reason_is_said_in_few_words_without_the_secret(result: dict[str, Any], reason: str) -> None:
    planned = plan([host("db1", *BOTH)], [HOOK])
    told = outcome(planned, [{"results": [{"failed": True, **result, "notify_delivery": planned["deliveries"][0]}]}], [HOOK])
    assert told["channels"][0]["reason"] == reason
    assert told["lines"] == [f"hook failed: {reason}"]


def test_a_program_that_left_its_message_unread_is_named() -> None:
    channel = {"name": "pager", "type": "command", "argv": ["/nowhere/program", "5ecret-word"]}
    planned = plan([host("db1", *BOTH)], [channel])
    broken = {"failed": True, "rc": 32, "cmd": "timeout 9 /nowhere/program 5ecret-word", "msg": "Error executing command."}
    told = outcome(planned, [{"results": [{**broken, "notify_delivery": planned["deliveries"][0]}]}], [channel])
    reason = "/nowhere/program ended without reading the message from its standard input, or could not be started"
    assert told["channels"][0]["reason"] == reason


@given(st.text())
def test_a_line_is_one_line(text: str) -> None:
    made = line(text, 50)
    assert len(made) <= 50
    assert made == "" or made.isprintable()


@pytest.mark.parametrize(
    ("value", "unit", "said"),
    [
        (97.0, "percent", "97 %"),
        # As the thresholds, the messages and the pages of the checks count them.
        (1 << 30, "bytes", "1 GB"),
        (3.25 * (1 << 30), "bytes", "3.2 GB"),
        (1000, "bytes", "1,000 bytes"),
        (90, "seconds", "1.5 min"),
        (0.5, "seconds", "500 ms"),
        (0.0004, "seconds", "0.4 ms"),
        (0, "seconds", "0 s"),
        (12345, "count", "12,345"),
        (-5, None, "-5"),
    ],
)
def test_values_are_said_with_their_unit(value: float, unit: str | None, said: str) -> None:
    assert amount(value, unit) == said
