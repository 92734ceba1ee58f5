"""The role notify tells people what they have to know, through real servers and programs, and nothing twice."""

from __future__ import annotations

import json
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.ground.runner import AnsibleRunner, PlaybookResult
from tests.integration.receiving import Inbox, Mailbox, mail_server, patient, web_server
from tests.tools import foreign_collections

pytestmark = pytest.mark.any_driver
ROLE = {"name": "Tell", "ansible.builtin.import_role": {"name": "pgops.runbook.notify"}}
RESULT = {"name": "Result", "ansible.builtin.debug": {"var": "notify_result"}}
Tell = Callable[..., dict[str, dict[str, Any]]]


def finding(check: str, severity: str = "critical", change: str | None = "new", **more: Any) -> dict[str, Any]:
    """Return a finding as pg_health returns it."""
    key = f"{check}[{more['object']}]" if more.get("object") else check
    title = {"key": key, "check": check, "title": f"Title of {check}", "severity": severity, "change": change}
    return {**title, "object": "", "message": f"message of {check}", "action": f"mend {check}", "value": None, "unit": None, **more}


def health(*findings: dict[str, Any], resolved: tuple[dict[str, Any], ...] = ()) -> dict[str, Any]:
    """Return a result of pg_health, as far as messages need it."""
    status = findings[0]["severity"] if findings else "ok"
    return {"status": status, "time": "2026-03-01T10:00:00Z", "system": "tim", "findings": list(findings), "resolved": list(resolved)}


@pytest.fixture(scope="module", autouse=True)
def _mail_module() -> None:
    foreign_collections.ensure()


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> AnsibleRunner:
    """Ansible for this file."""
    return AnsibleRunner(tmp_path_factory.mktemp("notify"))


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    with mail_server() as box:
        yield box


@pytest.fixture
def inbox() -> Iterator[Inbox]:
    with web_server() as box:
        yield box


def played(runner: AnsibleRunner, hosts: dict[str, dict[str, Any]], **options: Any) -> PlaybookResult:
    """Run the role on hosts with these variables."""
    return runner.play([{"hosts": "all", "gather_facts": False, "tasks": [ROLE, RESULT]}], patient(hosts), **options)


def results(done: PlaybookResult) -> dict[str, dict[str, Any]]:
    """Return `notify_result` by host; the run has gone through."""
    assert done.rc == 0, done.stdout + done.stderr
    return {task.host: task.result["notify_result"] for task in done.find(task="Result")}


@pytest.fixture
def tell(runner: AnsibleRunner) -> Tell:
    """A function that runs the role on hosts with the given variables, and returns `notify_result` by host."""
    return lambda hosts, **options: results(played(runner, hosts, **options))


def mail_channel(mailbox: Mailbox, **more: Any) -> dict[str, Any]:
    own = {"name": "mail", "type": "mail", "host": "127.0.0.1", "port": mailbox.port, "sender": "pgops@example.org"}
    return {**own, "to": ["dba@example.org"], **more}


def webhook(inbox: Inbox, path: str, **more: Any) -> dict[str, Any]:
    return {"name": path.strip("/"), "type": "webhook", "url": inbox.url(path), **more}


def status_of(result: dict[str, Any], name: str) -> str:
    (status,) = [channel["status"] for channel in result["channels"] if channel["channel"] == name]
    return str(status)


FULL = health(
    finding("conn.used_pct", value=97.0, threshold=90.0, unit="percent", object="tim"),
    finding("size.database", "warning", "worse", value=3.2 * 2**30, threshold=2**31, unit="bytes", first_seen="2026-02-01T00:00:00Z"),
    finding("token.stale", "warning", "same"),
    resolved=(finding("login.stuck", "warning", None, first_seen="2026-02-02T00:00:00Z"),),
)


def test_a_mail_says_what_is_new_worse_and_resolved(tell: Tell, mailbox: Mailbox) -> None:
    contacts = [{"name": "Security team", "address": "security channel", "call_for": ["data breach"], "severities": []}]
    host = {"notify_channels": [mail_channel(mailbox)], "health_result": FULL, "notify_contacts": contacts}
    result = tell({"db1": {**host, "notify_report_url": "https://reports.example.org/db1.html"}})["db1"]
    (mail,) = mailbox.mails
    subject = mail.message["Subject"]
    assert subject == "[pgops] db1 (tim) CRITICAL, 1 new, 1 worse, 1 resolved: conn.used_pct[tim] message of conn.used_pct"
    assert mail.message["To"] == "dba@example.org"
    assert mail.message["Auto-Submitted"] == "auto-generated"
    lines = [line.strip() for line in mail.text.splitlines() if line.strip()]
    assert lines == [
        "db1 (tim): CRITICAL, 2026-03-01T10:00:00Z",
        "New:",
        "- critical: conn.used_pct[tim] (Title of conn.used_pct)",
        "message of conn.used_pct",
        "value: 97 %, the threshold is 90 %",
        "do: mend conn.used_pct",
        "Worse:",
        "- warning: size.database (Title of size.database)",
        "message of size.database",
        "value: 3.2 GB, the threshold is 2 GB",
        "since: 2026-02-01T00:00:00Z",
        "do: mend size.database",
        "Resolved:",
        "- was warning: login.stuck (Title of login.stuck)",
        "message of login.stuck",
        "since: 2026-02-02T00:00:00Z",
        "1 other is still there, told before and not repeated",
        "Report: https://reports.example.org/db1.html",
        "Call:",
        "- Security team, security channel: data breach",
    ]
    (channel,) = result["channels"]
    assert (channel["status"], channel["recipients"], channel["told"], channel["meant"]) == ("sent", ["dba@example.org"], 1, 1)
    assert result["lines"] == ["mail sent to dba@example.org"]


def test_a_mail_goes_encrypted_and_with_a_login_where_the_server_wants_it(runner: AnsibleRunner, tmp_path: Path) -> None:
    with mail_server(tmp_path, ("pgops", "s3cret-word")) as mailbox:
        right = mail_channel(mailbox, username="pgops", password="s3cret-word")
        wrong = {**right, "name": "wrong", "password": "other-w0rd"}
        plain = {**mail_channel(mailbox, secure="never"), "name": "plain"}
        host = {"notify_channels": [wrong, plain, right], "health_result": FULL}
        done = played(runner, {"db1": host}, arguments=["-vvv"])
    result = results(done)["db1"]
    assert [mail.encrypted for mail in mailbox.mails] == [True]
    assert [status_of(result, name) for name in ("wrong", "plain", "mail")] == ["failed", "failed", "sent"]
    assert "Authentication" in result["channels"][0]["reason"]
    assert not [word for word in ("s3cret-word", "other-w0rd") if word in done.stdout + done.stderr]


def test_webhooks_get_the_whole_message_as_json(tell: Tell, inbox: Inbox) -> None:
    headers = {"Authorization": "Bearer abcdefghijkl"}
    tell({"db1": {"notify_channels": [webhook(inbox, "/hook", headers=headers)], "health_result": FULL}})
    ((_path, sent, body),) = inbox.posts
    assert sent["Authorization"] == "Bearer abcdefghijkl"
    assert body["subject"].startswith("db1 (tim) CRITICAL")
    assert "do: mend conn.used_pct" in body["text"]
    (host,) = body["hosts"]
    assert [(one["change"], one["key"]) for one in host["findings"]] == [
        ("new", "conn.used_pct[tim]"),
        ("worse", "size.database"),
        ("resolved", "login.stuck"),
    ]
    assert (host["findings"][0]["value"], host["findings"][0]["threshold"]) == (97.0, 90.0)


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A program that keeps its arguments and what it reads, in a file beside it."""
    path = tmp_path / "tell me; exit 1"
    code = f"#!{sys.executable}\nimport json, sys\njson.dump([sys.argv[1:], json.load(sys.stdin)], open({str(tmp_path / 'got')!r}, 'w'))\n"
    path.write_text(code, encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_a_program_reads_the_message_and_no_shell_sees_it(tell: Tell, program: Path) -> None:
    channel = {"name": "pager", "type": "command", "argv": [str(program), "$HOME; `id`", "two words"]}
    result = tell({"db1": {"notify_channels": [channel], "health_result": FULL}})["db1"]
    assert status_of(result, "pager") == "sent", result
    arguments, message = json.loads((program.parent / "got").read_text(encoding="utf-8"))
    assert arguments == ["$HOME; `id`", "two words"]
    assert message["worst"]["key"] == "conn.used_pct[tim]"


HOSTILE = [
    "<!here> <@U123> <http://evil|click> & ```_*~",
    "{{ lookup('ansible.builtin.pipe', 'touch /tmp/pwned') }}{% raw %}",
    "a\r\nBcc: evil@example.org\r\n\r\nx\u202egnp\x1b[31m\x00",
    "@channel \u2028 '; DROP TABLE x; -- $(id)",
]


def test_hostile_names_stay_names(tell: Tell, inbox: Inbox, mailbox: Mailbox, tmp_path: Path) -> None:
    slack = {"name": "chat", "type": "slack", "url": inbox.url("/slack")}
    channels = [mail_channel(mailbox), slack, webhook(inbox, "/hook")]
    # Read from a file, because what stands in an inventory may be a template and what a module returns is none.
    read = "{{ lookup('ansible.builtin.file', inventory_hostname_file) | from_json }}"
    for number, name in enumerate(HOSTILE):
        result = health(finding("bloat.table", object=name, message=name, action=name))
        (tmp_path / f"db{number}").write_text(json.dumps(result), encoding="utf-8")
    common = {"notify_channels": channels, "health_result": read}
    told = tell({f"db{number}": {**common, "inventory_hostname_file": str(tmp_path / f"db{number}")} for number in range(len(HOSTILE))})
    assert {status_of(result, name) for result in told.values() for name in ("mail", "chat", "hook")} == {"sent"}
    for mail in mailbox.mails:
        assert mail.recipients == ["dba@example.org"]
        assert "Bcc" not in mail.message
        assert len(mail.message["Subject"]) < 220
    objects = {body["hosts"][0]["host"]: body["hosts"][0]["findings"][0]["object"] for body in inbox.at("/hook")}
    assert objects["db1"] == HOSTILE[1]
    assert objects["db2"] == "a Bcc: evil@example.org x gnp [31m"
    for body in inbox.at("/slack"):
        opening, inside, after = body["text"].split("```")
        assert (opening, after.strip()) == ("", "")
        assert not set("<>`") & set(inside)
        assert "@channel" not in inside
    assert not Path("/tmp/pwned").exists()


def test_only_what_is_new_worse_or_resolved_is_told_unless_asked(tell: Tell, inbox: Inbox) -> None:
    old = health(finding("a.old", change="same"), finding("a.better", "warning", "better"))
    gone = health(resolved=(finding("a.gone", change=None),))
    asked: dict[str, tuple[dict[str, Any], Any]] = {
        "quiet": (old, None),
        "green": (health(), ["all"]),
        "whole": (old, ["all"]),
        "still": (old, ["still"]),
        "resolved": (gone, None),
        "unresolved": (gone, ["new", "worse"]),
        "first": (health(finding("a.first", change=None)), None),
    }
    hosts = {
        name: {"notify_channels": [webhook(inbox, f"/{name}")], "health_result": result, **({"notify_on": on} if on else {})}
        for name, (result, on) in asked.items()
    }
    told = tell(hosts)
    assert {name: status_of(result, name) for name, result in told.items()} == {
        **dict.fromkeys(("quiet", "green", "unresolved"), "nothing to tell"),
        **dict.fromkeys(("whole", "still", "resolved", "first"), "sent"),
    }
    assert told["quiet"]["lines"] == []
    keys = {path.strip("/"): [one["key"] for one in body["hosts"][0]["findings"]] for path, _headers, body in inbox.posts}
    assert keys == {"whole": ["a.old", "a.better"], "still": ["a.old"], "resolved": ["a.gone"], "first": ["a.first"]}


def test_nothing_to_tell_changes_nothing_and_check_mode_only_says_it(runner: AnsibleRunner, inbox: Inbox, mailbox: Mailbox) -> None:
    channels = [webhook(inbox, "/hook"), mail_channel(mailbox)]
    quiet = played(runner, {"db1": {"notify_channels": channels, "health_result": health(finding("a.old", change="same"))}})
    assert quiet.changed == 0
    done = played(runner, {"db1": {"notify_channels": channels, "health_result": FULL}}, check=True)
    assert done.changed == 0
    assert results(done)["db1"]["lines"] == ["hook would be sent", "mail would be sent to dba@example.org"]
    assert inbox.posts == []
    assert mailbox.mails == []


def test_severities_and_contacts_decide_who_is_told(tell: Tell, inbox: Inbox, mailbox: Mailbox) -> None:
    contacts = [
        {"name": "Database administrator", "address": "dba@example.org", "call_for": [], "severities": ["critical", "unknown"]},
        {"name": "Application team", "address": "Dev Team Slack", "call_for": [], "severities": ["warning"]},
        {"name": "Security team", "address": "security channel", "call_for": [], "severities": ["critical"]},
        {"name": "Support", "address": "support@example.org", "call_for": [], "severities": []},
        {"name": "Manager", "address": "boss@example.org", "call_for": [], "severities": ["critical", "unknown"]},
        {"name": "Mallory", "address": "a@example.org\nBcc: evil@example.org", "severities": ["critical"]},
        {"name": "Eve", "address": "a@example.org, evil@example.org", "severities": ["critical"]},
    ]
    channels = [
        mail_channel(mailbox, to=["log@example.org"], contacts=True),
        {"name": "dev team slack", "type": "slack", "url": inbox.url("/dev")},
        webhook(inbox, "/unknown", severities=["unknown"]),
        webhook(inbox, "/everything"),
    ]
    result = health(finding("c.one"), finding("w.one", "warning"))
    told = tell({"db1": {"notify_channels": channels, "notify_contacts": contacts, "health_result": result}})["db1"]
    by_people = {tuple(sorted(mail.recipients)): mail.text for mail in mailbox.mails}
    assert set(by_people) == {("log@example.org",), ("boss@example.org", "dba@example.org")}
    assert "w.one" in by_people["log@example.org",]
    assert "w.one" not in by_people["boss@example.org", "dba@example.org"]
    ((dev,), (everything,)) = inbox.at("/dev"), inbox.at("/everything")
    assert "w.one" in dev["text"]
    assert "c.one" not in dev["text"]
    assert len(everything["hosts"][0]["findings"]) == 2
    assert status_of(told, "unknown") == "nothing to tell"
    unreached = [notice.partition(" (")[0] for notice in told["notices"] if "cannot be reached by a channel" in notice]
    assert unreached == ["Security team", "Mallory", "Eve"]


def test_a_long_list_is_cut_and_counted(tell: Tell, inbox: Inbox) -> None:
    many = [finding("bloat.table", object=f"t{number}", message="m" * 5000) for number in range(20)]
    many += [finding("bloat.index", "warning", object=f"i{number}") for number in range(5)]
    result = {**health(*many), "checks": [{"id": "bloat.table", "findings_total": 320}, {"id": "bloat.index", "findings_total": 5}]}
    tell({"db1": {"notify_channels": [webhook(inbox, "/hook")], "health_result": result}})
    (body,) = inbox.at("/hook")
    assert len(body["hosts"][0]["findings"]) == 20
    assert "and 305 more" in body["text"]
    assert len(body["text"]) < 12000
