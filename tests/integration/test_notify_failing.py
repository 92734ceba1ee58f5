"""What fails while people are told: it is reported, it keeps nothing from the others, and no secret is shown."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.ground.runner import AnsibleRunner, PlaybookResult, collections_path
from tests.integration.receiving import Inbox, Mailbox, mail_server, patient, web_server
from tests.tools import foreign_collections

pytestmark = pytest.mark.any_driver
CRITICAL = {"key": "conn.used_pct", "check": "conn.used_pct", "severity": "critical", "message": "full", "change": "new"}
FULL = {"status": "critical", "findings": [CRITICAL]}
DEAD = {"login_host": "127.0.0.1", "login_port": 1, "login_db": "tim"}
ROLE = {"name": "Tell", "ansible.builtin.import_role": {"name": "pgops.runbook.notify"}}
RESULT = {"name": "Result", "ansible.builtin.debug": {"var": "notify_result"}}


@pytest.fixture(scope="module", autouse=True)
def _mail_module() -> None:
    foreign_collections.ensure()


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> AnsibleRunner:
    """Ansible that says as much as it can."""
    return AnsibleRunner(tmp_path_factory.mktemp("notify"), verbosity=3)


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    with mail_server() as box:
        yield box


@pytest.fixture
def inbox() -> Iterator[Inbox]:
    with web_server() as box:
        yield box


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port that refuses: bound and not listening."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        yield closed.getsockname()[1]


def played(runner: AnsibleRunner, hosts: dict[str, dict[str, Any]], **options: Any) -> PlaybookResult:
    """Run the role; it goes through whatever fails."""
    done = runner.play([{"hosts": "all", "gather_facts": False, "tasks": [ROLE, RESULT]}], patient(hosts), **options)
    assert done.rc == 0, done.stdout + done.stderr
    return done


def told_of(done: PlaybookResult, host: str = "db1") -> dict[str, dict[str, Any]]:
    """Return what is told of each channel."""
    (task,) = done.find(task="Result", host=host)
    return {channel["channel"]: channel for channel in task.result["notify_result"]["channels"]}


def alive(pid: int) -> bool:
    """Say whether a process runs; one that has ended and waits for its parent does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def mail_channel(port: int, **more: Any) -> dict[str, Any]:
    own = {"name": "mail", "type": "mail", "host": "127.0.0.1", "port": port, "sender": "pgops@example.org", "secure": "never"}
    return {**own, "to": ["dba@example.org"], **more}


def test_channels_that_fail_are_named_and_the_others_still_tell(
    runner: AnsibleRunner, inbox: Inbox, mailbox: Mailbox, closed_port: int, tmp_path: Path
) -> None:
    pid = tmp_path / "pid"
    slow = ["/bin/sh", "-c", f"sleep 61 & echo $! > {pid}; wait"]
    words = ("path", "query", "password", "bearer", "hanging", "slack", "redirect", "user", "wrong")
    secrets = {name: f"5ecret-{name}-words" for name in words}
    erring = f"/500/{secrets['path']}?key={secrets['query']}"
    key = {"X-Key": f"Bearer {secrets['bearer']}"}
    by_host: dict[str, list[dict[str, Any]]] = {
        "web": [
            {"name": "error", "type": "webhook", "url": inbox.url(erring)},
        ],
        "hung": [{"name": "hanging", "type": "webhook", "url": inbox.url(f"/hang/{secrets['hanging']}")}],
        "away": [
            {"name": "moved", "type": "webhook", "url": inbox.url(f"/302/{secrets['redirect']}"), "headers": key},
            {"name": "closed", "type": "slack", "url": f"http://u:{secrets['user']}@127.0.0.1:{closed_port}/{secrets['slack']}"},
            {"name": "wrong", "type": "slack", "url": f"http://127.0.0.1:bad/{secrets['wrong']}", secrets["wrong"]: 1},
        ],
        "mailed": [
            mail_channel(closed_port, name="no server", username="pgops", password=secrets["password"]),
            mail_channel(mailbox.port, name="some refused", to=["nobody@example.org", "dba@example.org"]),
        ],
        "ran": [
            {"name": "exits", "type": "command", "argv": ["/bin/sh", "-c", "cat > /dev/null; echo it broke >&2; exit 3"]},
            {"name": "missing", "type": "command", "argv": ["/nowhere/program"]},
        ],
        "slow": [{"name": "slow", "type": "command", "argv": slow}],
    }
    last = {"name": "last", "type": "webhook", "url": inbox.url("/last")}
    soon = {"notify_timeout": 8}
    common = {host: {"health_result": FULL, **(soon if host in ("hung", "slow") else {})} for host in by_host}
    done = played(runner, {host: {**common[host], "notify_channels": [*channels, last]} for host, channels in by_host.items()})
    told = {name: channel for host in by_host for name, channel in told_of(done, host).items()}
    reasons = {name: channel["reason"] for name, channel in told.items() if channel["status"] == "failed"}
    assert set(reasons) == {channel["name"] for channels in by_host.values() for channel in channels}
    assert reasons["error"] == "the server answered 500"
    assert reasons["hanging"] == "timed out"
    assert reasons["moved"] == "the server answered 302"
    assert reasons["closed"] == "[Errno 111] Connection refused"
    assert "url must begin with" in reasons["wrong"]
    assert reasons["no server"] == "[Errno 111] Connection refused"
    assert reasons["some refused"] == "the mail server refused nobody@example.org"
    assert (told["some refused"]["told"], told["some refused"]["meant"]) == (1, 2)
    assert reasons["exits"] == "it ended with 3: it broke"
    assert "/nowhere/program" in reasons["missing"]
    assert reasons["slow"] == "it took too long and was ended"
    assert len(inbox.at("/last")) == len(by_host)
    assert len(inbox.at(erring)) == 2, "one attempt and one more"
    assert not alive(int(pid.read_text(encoding="ascii"))), "the children of the program have ended"
    output = done.stdout + done.stderr
    assert [name for name, secret in secrets.items() if secret in output] == []


def test_begin_names_what_is_not_set_up_right_and_no_secret(runner: AnsibleRunner) -> None:
    channels = [
        {"name": "a", "type": "mail", "sender": "x\nBcc: y@example.org", "to": ["a@example.org, b@example.org"], "pasword": "5ecret-words"},
        {"name": "b", "type": "slack", "url": "slack.example.org/5ecret-words"},
        {"name": "b", "type": "pigeon"},
        {"name": "c", "type": "webhook", "url": "https://example.org", "headers": {"X-Key": "5ecret-words\r\nX-Other: 1"}},
        {"name": "d", "type": "command", "argv": "rm -rf", "severities": ["urgent"]},
        "5ecret-words",
    ]
    begin = {"name": "Begin", "ansible.builtin.import_role": {"name": "pgops.runbook.notify", "tasks_from": "begin"}}
    play = [{"hosts": "all", "gather_facts": False, "tasks": [begin]}]
    done = runner.play(play, {"db1": {"notify_channels": channels}})
    assert done.rc != 0
    (failed,) = [task for task in done.tasks if task.status == "failed"]
    for part in ("sender must be", "a@example.org, b@example.org", "did you mean password", "url must begin", "another channel named b"):
        assert part in failed.result["msg"], part
    for part in ("X-Key must be one line", "severities must be", "must be a mapping"):
        assert part in failed.result["msg"], part
    assert "5ecret-words" not in done.stdout + done.stderr
    right = runner.play(play, {"db1": {"notify_channels": [mail_channel(25)]}})
    assert right.rc == 0, right.stdout


def test_without_community_general_all_but_mail_is_told(runner: AnsibleRunner, inbox: Inbox) -> None:
    channels = [mail_channel(1), {"name": "hook", "type": "webhook", "url": inbox.url("/hook")}]
    without = {"ANSIBLE_COLLECTIONS_PATH": str(collections_path())}
    told = told_of(played(runner, {"db1": {"notify_channels": channels, "health_result": FULL}}, env=without))
    assert "ansible-galaxy collection install community.general" in told["mail"]["reason"]
    assert told["hook"]["status"] == "sent"


def test_a_refused_connection_and_a_broken_run_are_told(runner: AnsibleRunner, inbox: Inbox) -> None:
    check = {"name": "Check", "pgops.runbook.pg_health": {"fail_on": "never", **DEAD}, "register": "health_result", "when": "dead | bool"}
    refused = {"type": "ConnectError", "message": "refused"}
    hosts: dict[str, dict[str, Any]] = {
        "dead": {"dead": True, "notify_failure": refused},
        "broke": {"dead": False, "notify_failure": "no space left on device", "notify_result_of": FULL},
        "unreachable": {"dead": False, "notify_result_of": {"unreachable": True, "msg": "no route to host"}},
        "unseen": {"dead": False, "notify_result_of": {}},
    }
    for name, host in hosts.items():
        host["notify_channels"] = [{"name": "hook", "type": "webhook", "url": inbox.url(f"/{name}")}]
    done = runner.play([{"hosts": "all", "gather_facts": False, "tasks": [check, ROLE, RESULT]}], patient(hosts))
    assert done.rc == 0, done.stdout
    bodies = {path.strip("/"): body["hosts"][0] for path, _headers, body in inbox.posts}
    said = {name: [(one["key"], one["severity"]) for one in body["findings"]] for name, body in bodies.items()}
    run = ("run", "critical")
    assert said == {
        "dead": [("avail.connect", "critical")],
        "broke": [run, ("conn.used_pct", "critical")],
        "unreachable": [run],
        "unseen": [run],
    }
    assert bodies["broke"]["status"] == "failed"
    assert bodies["unreachable"]["findings"][0]["message"] == "no route to host"


def test_a_digest_is_one_message_for_all_hosts(runner: AnsibleRunner, inbox: Inbox, mailbox: Mailbox) -> None:
    common = {
        "notify_digest": True,
        "notify_channels": [mail_channel(mailbox.port, contacts=True), {"name": "hook", "type": "webhook", "url": inbox.url("/hook")}],
    }
    owner = {"notify_contacts": [{"name": "Owner", "address": "owner@example.org", "severities": ["critical"]}]}
    green = {"status": "ok", "findings": []}
    hosts = {
        "a_warns": {**common, "health_result": {"status": "warning", "findings": [{**CRITICAL, "severity": "warning"}]}},
        "b_green": {**common, "health_result": green},
        "c_full": {**common, **owner, "health_result": FULL},
        "d_lost": {**common, "health_result": green, "lost": True},
    }
    lose = {"name": "Lose", "ansible.builtin.fail": {"msg": "gone"}, "when": "lost | default(false)"}
    done = runner.play([{"hosts": "all", "gather_facts": False, "tasks": [lose, ROLE, RESULT]}], patient(hosts))
    (body,) = inbox.at("/hook")
    assert [host["host"] for host in body["hosts"]] == ["d_lost", "c_full", "a_warns"]
    assert body["subject"].startswith("3 hosts, 1 failed, 1 critical, 1 warning, 3 new: d_lost")
    (mine,) = mailbox.to("owner@example.org")
    assert "c_full" in mine.text
    assert "a_warns" not in mine.text
    (whole,) = mailbox.to("dba@example.org")
    assert "a_warns" in whole.text
    assert told_of(done, "b_green")["hook"]["status"] == "sent"


def test_without_channels_nothing_is_done(runner: AnsibleRunner) -> None:
    role = {"name": "Tell", "ansible.builtin.import_role": {"name": "pgops.runbook.notify", "rolespec_validate": False}}
    done = runner.play([{"hosts": "all", "gather_facts": False, "tasks": [role]}], {"db1": {"health_result": FULL}})
    assert [(task.task, task.status) for task in done.tasks] == [("pgops.runbook.notify : Tell of what was found", "skipped")]
