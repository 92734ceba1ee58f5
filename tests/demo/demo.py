"""Run the daily runbook and a recovery drill on five throwaway databases, or leave them up to try every playbook on.

usage: demo.py run | shell | stop
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT)]

from tests.ground import runner  # noqa: E402  (after the path is known)

sys.path.insert(0, str(runner.collections_path()))

import yaml  # noqa: E402

from tests.demo import fleet  # noqa: E402
from tests.ground.cluster import Cluster  # noqa: E402
from tests.ground.errors import GroundError, ProgramMissing  # noqa: E402
from tests.ground.runner import AnsibleRunner, PlaybookResult  # noqa: E402
from tests.ground.systems import BUILT_IN  # noqa: E402
from tests.tools.bootstrap import SetupError  # noqa: E402

FOLDER = ROOT / ".demo"
STATE = FOLDER / "shell" / "server.json"
REPORTS = FOLDER / "run" / "report"
BACKUPS = FOLDER / "run" / "backups"
_begun = time.monotonic()


def say(text: str = "") -> None:
    """Print a line at once, with the seconds since the start where it tells of progress."""
    print(text, flush=True)


def step(text: str) -> None:
    """Print what begins now."""
    say(f"[{time.monotonic() - _begun:5.1f} s] {text}")


# --- run --------------------------------------------------------------------------------------------------------------


def run() -> int:
    """Preview the daily runbook, run it, run it again, and rehearse a recovery; 0 when all that has told and done what it should."""
    with _alone("run"):
        installation = fleet.find_server()
        step(f"Starting a throwaway PostgreSQL {installation.major} from {installation.bin_dir}")
        cluster = fleet.start(installation, FOLDER / "run" / "server", detached=False)
        try:
            return _runs(cluster)
        finally:
            cluster.remove()
            step("The server is stopped and its data are gone; what Ansible printed is in .demo/run")


def _runs(cluster: Cluster) -> int:
    shutil.rmtree(BACKUPS, ignore_errors=True)
    filled = _fill(cluster)
    kept = {"report_folder": str(REPORTS), "health_history": {"file": str(REPORTS / "history" / "{{ inventory_hostname }}.jsonl")}}
    hosts = {host: {**variables, **kept} for host, variables in fleet.hosts(cluster).items()}
    hosts[fleet.host_of(fleet.BACKED_UP)].update(fleet.backups(cluster, BACKUPS))
    inventory = FOLDER / "run" / "inventory.yml"
    ansible = AnsibleRunner(FOLDER / "run" / "ansible")
    _write_inventory(inventory, ansible, hosts)
    say()
    before = fleet.count_rows(cluster, filled)
    preview = _daily(ansible, hosts, "1 of 4: check mode, nothing may be written", "check", check=True)
    previewed = fleet.count_rows(cluster, filled)
    real = _daily(ansible, hosts, "2 of 4: for real", "real")
    after = fleet.count_rows(cluster, filled)
    again = _daily(ansible, hosts, "3 of 4: once more, nothing may be left to do", "again")
    drill = _drill(ansible, hosts, fleet.host_of(fleet.BACKED_UP))
    say()
    faults = [f"run {number} ended with code {done.rc}" for number, done in enumerate((preview, real, again, drill), 1) if done.rc]
    faults += ["check mode has written"] * (before != previewed)
    faults += [f"no page of {host}" for host in hosts if not (REPORTS / f"{host}.html").is_file()]
    faults += [f"the third run changed {again.changed} host(s)"] * bool(again.changed)
    widths = "  {:<16} {:>12} {:>14} {:>12} {:>12} {:>12}"
    say(widths.format("host", "rows", "check mode", "removed", "third run", "rows left"))
    for one in filled:
        host = fleet.host_of(one.name)
        counts = [_removed(done, host) for done in (preview, real, again)]
        left = sum(after[one.name].values())
        say(widths.format(host, *(f"{count:,}" for count in (one.rows, *counts, left))))
        gone = one.rows - left
        if not counts[0] == counts[1] == gone == one.expected.total("daily") or counts[2]:
            told = f"previewed {counts[0]}, removed {counts[1]}, missing {gone}, expected {one.expected.total('daily')}, then {counts[2]}"
            faults.append(f"{host}: {told}")
    say()
    if faults:
        say("The demo FAILED: " + "; ".join(faults))
        return 1
    say("Check mode told exactly what the run removed, the third run found nothing to do, and the backup could be restored.")
    say(f"What the checks found stands in {(REPORTS / 'fleet.html').relative_to(ROOT)}, a page for each host beside it.")
    return 0


def _daily(ansible: AnsibleRunner, hosts: dict[str, dict[str, Any]], title: str, log: str, *, check: bool = False) -> PlaybookResult:
    say("-" * 100)
    step(f"ansible-playbook pgops.runbook.daily -i .demo/run/inventory.yml{' --check' * check}    ({title})")
    done = ansible.playbook("daily", hosts, check=check)
    _print(done, "summary_lines", log)
    return done


def _drill(ansible: AnsibleRunner, hosts: dict[str, dict[str, Any]], host: str) -> PlaybookResult:
    say("-" * 100)
    step(f"ansible-playbook pgops.runbook.recovery_drill -i .demo/run/inventory.yml --limit {host}    (4 of 4: can it be restored?)")
    done = ansible.playbook("recovery_drill", {host: hosts[host]})
    _print(done, "recovery_drill_lines", "drill")
    return done


def _print(done: PlaybookResult, lines: str, log: str) -> None:
    (FOLDER / "run" / f"{log}.log").write_text(done.stdout + done.stderr, encoding="utf-8")
    printed = [line for one in done.tasks for line in one.result.get(lines, []) if one.action.endswith("debug")]
    say("\n".join(printed) if printed else done.stdout + done.stderr)


def _removed(done: PlaybookResult, host: str) -> int:
    return sum(int(one.result.get("removed", 0)) for one in done.find(host=host, action="pg_cleanup"))


def _fill(cluster: Cluster) -> list[fleet.Filled]:
    step("Creating and filling five databases")
    filled = fleet.fill(cluster)
    for one in filled:
        tokens = sum(one.expected.facts.get("tokens", {}).values())
        of_these = f", {tokens:,} of them tokens" if tokens else ""
        say(f"          {one.name:<14} {one.rows:>9,} rows{of_these}")
    step("The databases are ready")
    return filled


def _write_inventory(path: Path, ansible: AnsibleRunner, hosts: dict[str, dict[str, Any]]) -> None:
    path.write_text("---\n" + yaml.safe_dump(ansible.inventory(hosts), sort_keys=False), encoding="utf-8")


# --- shell ------------------------------------------------------------------------------------------------------------


def shell() -> int:
    """Leave a filled server up and say how to use it."""
    with _alone("shell"):
        state = _read_state()
        if state is None:
            _end_leftover()
            state = _start_shell()
        else:
            say("The server of an earlier `make demo-shell` is still up.")
        _print_help(state)
    return 0


def _start_shell() -> dict[str, Any]:
    installation = fleet.find_server()
    step(f"Starting PostgreSQL {installation.major} from {installation.bin_dir}, to stay up until `make demo-stop`")
    cluster = fleet.start(installation, FOLDER / "shell" / "server", detached=True)
    try:
        _fill(cluster)
    except BaseException:
        cluster.remove()
        raise
    try:
        psql = str(installation.program("psql"))
    except ProgramMissing:
        psql = ""
    ansible = AnsibleRunner(FOLDER / "shell" / "ansible")
    _write_inventory(FOLDER / "shell" / "inventory.yml", ansible, fleet.hosts(cluster))
    places = {"folder": str(cluster.folder), "socket_dir": str(cluster.socket_dir)}
    state = {"pid": cluster.pid, "started": _started(int(cluster.pid or 0)), "port": cluster.port, "psql": psql, **places}
    STATE.write_text(json.dumps(state), encoding="utf-8")
    _write_environment(FOLDER / "shell" / "env.sh", ansible, cluster)
    return state


def _write_environment(path: Path, ansible: AnsibleRunner, cluster: Cluster) -> None:
    given = ansible.environment()
    names = ("ANSIBLE_CONFIG", "ANSIBLE_HOME", "ANSIBLE_LOCAL_TEMP", "ANSIBLE_REMOTE_TMP", "ANSIBLE_COLLECTIONS_PATH")
    lines = {name: given[name] for name in names}
    lines |= {"ANSIBLE_INVENTORY": str(FOLDER / "shell" / "inventory.yml"), "PGHOST": cluster.host, "PGPORT": str(cluster.port)}
    lines |= {"PGUSER": cluster.superuser, "PGPASSWORD": cluster.password}
    text = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in lines.items())
    # Ansible of the demo first; the server's own client programs where there are no others.
    ours, theirs = shlex.quote(str(Path(sys.executable).parent)), shlex.quote(str(cluster.installation.bin_dir))
    path.write_text(text + f'export PATH={ours}:"$PATH":{theirs}\n', encoding="utf-8")


def _print_help(state: dict[str, Any]) -> None:
    psql = state["psql"] or "psql"
    say()
    say(f"The server listens on 127.0.0.1 port {state['port']}, user postgres, password ground, and holds {', '.join(BUILT_IN)}.")
    say(f"  psql              {psql} 'host=127.0.0.1 port={state['port']} user=postgres password=ground dbname=tim'")
    say(f"  other clients     postgresql://postgres:ground@127.0.0.1:{state['port']}/tim")
    say()
    say("To run playbooks on it, take over its settings once in a shell:")
    say("  . .demo/shell/env.sh")
    say("and then, for instance:")
    say("  ansible-playbook pgops.runbook.daily --check --limit tim_db")
    say("  ansible-playbook pgops.runbook.hourly")
    say("  ansible-playbook pgops.runbook.token_report --limit tim_db")
    say("  ansible-playbook pgops.runbook.emergency_revoke --limit tim_db -e claims=admin -e reason=drill    # a preview")
    say("  ansible-inventory --graph")
    say(f"The server's log is {state['folder']}/log/server.log. `make demo-stop` ends it and removes its data.")


def stop() -> int:
    """End the server of `shell` and remove its data."""
    with _alone("shell"):
        if _read_state() is None:
            say("No server of `make demo-shell` is up.")
        else:
            say("The server is stopping.")
        _end_leftover()
        shutil.rmtree(FOLDER / "shell", ignore_errors=True)
    return 0


def _end_leftover() -> None:
    """End the recorded server if it runs, and remove what it wrote wherever that is."""
    state = json.loads(STATE.read_text(encoding="utf-8")) if STATE.exists() else None
    if state is None:
        return
    for number, seconds in ((signal.SIGINT, 10.0), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0)):
        end = time.monotonic() + seconds
        if _started(state["pid"]) == state["started"]:
            os.kill(state["pid"], number)
        while _started(state["pid"]) == state["started"] and time.monotonic() < end:
            time.sleep(0.05)
    for place in (state["folder"], state["socket_dir"]):
        shutil.rmtree(place, ignore_errors=True)
    STATE.unlink()


def _read_state() -> dict[str, Any] | None:
    """Return the record of the server that is up, None when there is none. A process id alone may be another program's by now."""
    state: dict[str, Any] | None = json.loads(STATE.read_text(encoding="utf-8")) if STATE.exists() else None
    return state if state and _started(state["pid"]) == state["started"] else None


def _started(pid: int) -> str | None:
    """Return when a process began, in the kernel's clock ticks; None when it does not run."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else fields[19]


# --- both -------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _alone(what: str) -> Iterator[None]:
    """Keep two demos in one checkout apart."""
    (FOLDER / what).mkdir(parents=True, exist_ok=True)
    with (FOLDER / f"{what}.lock").open("w", encoding="ascii") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise GroundError(f"another demo ({what}) is running in this checkout") from error
        yield


def _on_terminate(number: int, _frame: object) -> None:
    # As an exception, so that everything that is open is closed on the way out.
    raise SystemExit(128 + number)


def main(arguments: list[str]) -> int:
    """Do what the first argument says."""
    actions = {"run": run, "shell": shell, "stop": stop}
    if len(arguments) != 1 or arguments[0] not in actions:
        print(__doc__)
        return 2
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _on_terminate)
    try:
        return actions[arguments[0]]()
    except KeyboardInterrupt:
        say("\nInterrupted: nothing is left running.")
        return 130
    except (GroundError, SetupError) as error:
        print(f"The demo could not run: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
