"""The role report through real Ansible: pages, metrics and lines from results made by hand and from a real server."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.ground.databases import Database
from tests.ground.runner import AnsibleRunner, PlaybookResult
from tests.integration import reporting
from tests.integration.watching import SYSTEM, stock

# The reports of six hosts are made once, by the one process that runs these.
pytestmark = [pytest.mark.any_driver, pytest.mark.xdist_group("report")]

TARGETS = {"availability_pct": 99.9, "p95": 0.2, "cache_hit_pct": 99.0}
BLOCKS = {"p", "div", "li", "td", "th", "h1", "h2", "h3", "pre", "dt", "dd", "br", "summary", "text", "desc", "title"}
VOID = {"meta", "link", "br", "hr", "img", "input"}
NAGIOS = re.compile(
    r"PGOPS [\w.-]+ (OK|WARNING|CRITICAL|UNKNOWN) - [^|\n]+"
    r"( \|( '[^'=|]+'=(U|-?\d+(\.\d+)?(s|B|%|c)?);(~?:?-?[\d.]+:?)?;(~?:?-?[\d.]+:?)?;(-?[\d.]+)?;(-?[\d.]+)?)+)?\n"
)


def report(
    runner: AnsibleRunner, folder: Path, results: dict[str, Any], *, check: bool = False, before: Any = (), **given: Any
) -> PlaybookResult:
    """Run the role over hosts with these results, which come as a module's do: as data that is no template."""
    source = folder / "in"
    source.mkdir(parents=True, exist_ok=True)
    for number, (host, result) in enumerate(results.items()):
        (source / str(number)).write_text(json.dumps(result), encoding="utf-8")
        results[host] = number
    keep = {"health_result": f"{{{{ lookup('ansible.builtin.file', '{source}/' ~ number) | from_json }}}}"}
    tasks = [*before, {"ansible.builtin.set_fact": keep}, {"ansible.builtin.import_role": {"name": "pgops.runbook.report"}}]
    variables = {"report_folder": str(folder / "out"), **given}
    plays = [{"hosts": "databases", "gather_facts": False, "tasks": tasks, "vars": variables}]
    hosts = {host: {"number": number, "system_description": {"name": "shop", "targets": TARGETS}} for host, number in results.items()}
    return runner.play(plays, hosts, check=check)


@pytest.fixture(scope="module")
def reports(ansible_runner: AnsibleRunner, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the reports of six hosts, made in one run."""
    folder = tmp_path_factory.mktemp("reports")
    results: dict[str, Any] = {
        "rich": reporting.rich(),
        "hostile": reporting.hostile(),
        "refused": reporting.refused(),
        "older": reporting.older(),
        "well": reporting.well(),
        "nothing": {},
    }
    done = report(ansible_runner, folder, results)
    assert done.rc == 0, done.stdout
    return folder / "out"


class Page(HTMLParser):
    """Reads a page strictly: every tag is closed, and what it holds is kept."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.faults: list[str] = []
        self.text = ""
        source = path.read_text(encoding="utf-8")
        self.feed(source)
        self.close()
        self.faults += [f"{tag} is not closed" for tag in self.open]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _value in attrs]
        self.faults += [f"{tag}: twice {name}" for name in set(names) if names.count(name) > 1]
        self.tags.append((tag, dict(attrs)))
        self.text += " " * (tag in BLOCKS)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.faults.append(f"</{tag}> at {self.getpos()}")

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data

    @property
    def words(self) -> str:
        return " ".join(self.text.split())


def page(reports: Path, name: str) -> Page:
    return Page(reports / f"{name}.html")


@pytest.mark.parametrize("name", ["rich", "hostile", "refused", "older", "well", "nothing", "fleet"])
def test_a_page_is_whole_and_loads_nothing(reports: Path, name: str) -> None:
    found = page(reports, name)
    assert found.faults == []
    assert {"script", "iframe", "img", "object", "embed", "base", "form"} & {tag for tag, _attributes in found.tags} == set()
    known = {
        *("html", "head", "meta", "title", "link", "style", "body"),
        "svg",
        "defs",
        "symbol",
        "pattern",
        "path",
        "circle",
        "rect",
        "line",
        "g",
    }
    known |= {
        "text",
        "desc",
        "use",
        "header",
        "main",
        "section",
        "nav",
        "article",
        "figure",
        "figcaption",
        "footer",
        "div",
        "span",
        "p",
        "b",
        "a",
    }
    known |= {"h1", "h2", "h3", "ul", "li", "dl", "dt", "dd", "pre", "code", "br", "details", "summary"}
    known |= {"table", "thead", "tbody", "tr", "th", "td"}
    assert {tag for tag, _attributes in found.tags} - known == set()
    ids = [attributes["id"] for _tag, attributes in found.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for tag, attributes in found.tags:
        assert not [word for word in attributes if word.startswith("on")]
        for word in ("href", "src", "xlink:href"):
            target = attributes.get(word) or ""
            assert re.fullmatch(r"#[\w-]+|[\w.-]+\.(html|json|md)|data:,|", target), (tag, target)
            assert not target.startswith("#") or target[1:] in ids
    source = (reports / f"{name}.html").read_text(encoding="utf-8")
    assert "url(http" not in source
    assert "@import" not in source
    assert len(source.encode()) < 1_100_000


def test_every_chart_says_in_words_what_it_shows(reports: Path) -> None:
    found = page(reports, "rich")
    ids = {attributes.get("id") for _tag, attributes in found.tags}
    drawn = [attributes for tag, attributes in found.tags if tag == "svg" and attributes.get("role") == "img"]
    assert len(drawn) > 15
    for attributes in drawn:
        named = (attributes.get("aria-labelledby") or "").split()
        assert attributes.get("aria-label") or (len(named) == 2 and set(named) <= ids)
    for tag, attributes in found.tags:
        assert tag != "svg" or attributes.get("role") == "img" or "aria-hidden" in attributes or "viewbox" in attributes, attributes


def test_the_page_says_it_all(reports: Path) -> None:
    words = page(reports, "rich").words
    for said in (
        "Critical Sequences that run out, public.payments_id_seq: 91.4 %",
        "2 critical 9 warning 2 not seen 12 ok 2 skipped",
        "PostgreSQL 16.4, primary",
        "91.4 % (critical over 85 %) since 9 Nov 2026 10:00 UTC",
        "17.8 % (warning under 20 %, from the system)",
        'Next step Widen the column before the sequence ends: ALTER TABLE public.payments ALTER COLUMN "id" TYPE bigint;',
        "And 3 more, in the JSON or only counted.",
        "GRANT SELECT (rolname, rolpassword) ON pg_catalog.pg_authid TO pgops_monitor;",
        "3New 2Worse 1Better 2Resolved 4Still there",
        "backup.age the last backup is 51 h old",
        "+1.9 GB a day; 41 days left to 490 GB, from 31 points since 22 Oct 2026",
        "most 97",
        "1 gap without a look",
        "sequence public.payments_id_seq 91.4 % used, 23 days left",
        "38.2 % of the time; 918,231 calls, 4.1 ms each",
        "21 backups; the last one 8 h before this look",
        "Reads from memory at least 99 % 99.4 % met",
        "not measured by this run",
        "the partition is dropped at the end of the month 1 Dec 2026",
        "(1 set aside)",
        "31.2 ms",
    ):
        assert said in words, said


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "well",
            [
                "All is well 12 of 12 checks ok, the others had nothing to judge",
                "no history yet; now active",
                "There is no history yet to compare with.",
            ],
        ),
        ("refused", ["connection to 10.2.0.9, port 5432 refused", "no sessions were counted"]),
        ("older", ["Critical", "No history is kept", "There is no history yet to compare with."]),
        ("nothing", ["Could not be looked at no check ran on this host", "no check could ask it anything", "No check ran."]),
    ],
)
def test_what_is_missing_is_told_as_missing(reports: Path, name: str, said: list[str]) -> None:
    words = page(reports, name).words
    assert [each for each in said if each not in words] == []
    assert name == "well" or "All is well" not in words


def test_names_of_others_are_no_markup(reports: Path) -> None:
    found = page(reports, "hostile")
    assert "<script>alert('x')</script>\"'`|*_[a](http://evil.example/)" in found.words
    assert "{{ 7 * 7 }} {% raw %}" in found.words, "no template is evaluated a second time"
    source = (reports / "hostile.html").read_text(encoding="utf-8")
    assert not re.search("[\x00-\x09\x0b-\x1f\u202e\u2028]", source)
    written = (reports / "hostile.md").read_text(encoding="utf-8")
    assert "<script" not in re.sub(r"(?ms)^(`{3,})sql$.*?^\1$", "", written)
    assert "](http" not in written.replace("\\]", "")
    assert len(written) < 400_000
    rows = [line for line in written.splitlines() if line.startswith("| ")]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} <= {4, 5, 7}


def test_markdown_has_the_findings_and_what_to_run(reports: Path) -> None:
    written = (reports / "rich.md").read_text(encoding="utf-8")
    assert written.startswith("# Critical: shop on rich\n")
    assert "| CRITICAL, worse | Sequences that run out | public.payments\\_id\\_seq | 91.4 %" in written
    assert '\n```sql\nALTER TABLE public.payments ALTER COLUMN "id" TYPE bigint;\n```\n' in written
    assert "| security.md5 | the role may not read pg\\_authid | As a superuser: GRANT SELECT" in written


def test_json_is_the_result(reports: Path) -> None:
    kept = json.loads((reports / "rich.json").read_text(encoding="utf-8"))
    told = {name: part for name, part in json.loads(json.dumps(reporting.rich())).items() if name != "snapshot"}
    assert kept == told


def samples(reports: Path, name: str) -> dict[str, list[Any]]:
    text = (reports / f"pgops_{name}.prom").read_text(encoding="utf-8")
    found: dict[str, list[Any]] = {}
    for family in text_string_to_metric_families(text):
        assert family.documentation
        assert family.type in ("gauge", "counter")
        assert family.name not in found, "a family stands in one place"
        found[family.name] = list(family.samples)
        assert all(sample.timestamp is None for sample in family.samples)
        assert all(sample.name.endswith("_total") == (family.type == "counter") for sample in family.samples)
    return found


@pytest.mark.parametrize("name", ["rich", "hostile", "refused", "older", "well", "nothing"])
def test_metrics_pass_the_parser_of_prometheus(reports: Path, name: str) -> None:
    found = samples(reports, name)
    series = [(sample.name, tuple(sorted(sample.labels.items()))) for family in found.values() for sample in family]
    assert len(series) == len(set(series))
    # Nothing grows without bound: 20 objects a metric, a series or two a check.
    assert max(len(family) for family in found.values()) <= 420
    assert found["pgops_health_up"][0].value == (name not in ("refused", "nothing"))
    assert all(sample.labels["host"] == name for family in found.values() for sample in family)


def test_metrics_have_base_units_and_statuses(reports: Path) -> None:
    found = samples(reports, "rich")
    status = {sample.labels["check"]: sample.value for sample in found["pgops_check_status"]}
    assert (status["avail.connect"], status["ver.minor"], status["lock.wait"], status["security.md5"]) == (0, 1, 2, 3)
    assert "redis.memory" not in status, "what was skipped has no series"
    assert found["pgops_conn_used_percent"][0].value == reporting.rich()["metrics"]["conn.used_pct"]
    assert found["pgops_size_database_bytes"][0].value == 411 * reporting.GB
    assert found["pgops_transaction_longest_seconds"][0].value == 812
    assert found["pgops_db_xact_commit"][0].name == "pgops_db_xact_commit_total"
    assert {sample.labels["object"] for sample in found["pgops_seq_exhaustion_percent"]} == {
        "public.payments_id_seq",
        "public.orders_id_seq",
        "shop.audit_id_seq",
    }
    assert found["pgops_health_last_success_timestamp_seconds"][0].value == reporting.NOW
    assert found["pgops_forecast_left_seconds"][0].value == pytest.approx(41.4 * 86400)
    assert found["pgops_server_info"][0].labels["version"] == "16.4"


def test_labels_are_no_processes_and_no_statements(reports: Path) -> None:
    found = samples(reports, "hostile")
    assert [sample.labels.get("object") for sample in found["pgops_query_longest_seconds"]] == [None]
    assert [sample.labels.get("object") for sample in found["pgops_stat_slow_seconds"]] == [None]
    assert len(found["pgops_size_database_bytes"]) == 20
    assert found["pgops_health_objects_left_out"][0].value == 40
    worst = max(found["pgops_size_database_bytes"], key=lambda sample: sample.value)
    assert worst.labels["object"].startswith("<script>alert('x')</script>\"'`|*_[a](http://evil.example/)")


@pytest.mark.parametrize(
    ("name", "code", "word"), [("rich", 2, "CRITICAL"), ("hostile", 2, "CRITICAL"), ("well", 0, "OK"), ("nothing", 3, "UNKNOWN")]
)
def test_the_line_of_nagios(reports: Path, name: str, code: int, word: str) -> None:
    line = (reports / f"{name}.nagios").read_text(encoding="utf-8")
    assert NAGIOS.fullmatch(line), line
    assert len(line.encode()) <= 1001
    assert f" {word} - " in line
    assert f"\nexit {code}\n" in (reports / f"{name}.nagios.sh").read_text(encoding="utf-8")


def test_ranges_of_nagios(reports: Path) -> None:
    line = (reports / "rich.nagios").read_text(encoding="utf-8")
    assert "'disk.free_pct'=17.8%;20:;10:;0;100" in line
    assert "'seq.exhaustion'=91.4%;70;85;0;100" in line
    assert "'lock.wait'=412s;60;300;0;" in line
    assert "'bloat.index'=U;30;60;0;100" in line


def run_plugin(path: Path) -> tuple[int, str]:
    done = subprocess.run([str(path)], capture_output=True, text=True, check=False, env={"PATH": "/usr/bin:/bin"})
    assert done.stderr == ""
    return done.returncode, done.stdout


def test_the_plugin_never_stays_green(ansible_runner: AnsibleRunner, tmp_path: Path) -> None:
    ages = {"fresh": 60.0, "old": 7300.0, "ahead": -600.0}
    results = {name: {**reporting.well(), "time": reporting.iso(time.time() - age)} for name, age in ages.items()}
    results["wrong"] = {**reporting.hostile(), "time": reporting.iso(time.time())}
    results["timeless"] = {**reporting.well(), "time": None, "server": {}}
    done = report(ansible_runner, tmp_path, results, report_formats="nagios", report_fleet=False)
    assert done.rc == 0, done.stdout
    out = tmp_path / "out"
    code, line = run_plugin(out / "fresh.nagios.sh")
    assert (code, line) == (0, (out / "fresh.nagios").read_text(encoding="utf-8"))
    code, line = run_plugin(out / "wrong.nagios.sh")
    assert (code, line) == (2, (out / "wrong.nagios").read_text(encoding="utf-8"))
    for name, said in (
        ("old", "7200 s: the checks no longer run"),
        ("ahead", "ahead of the clock"),
        ("timeless", "does not say when it looked"),
    ):
        code, line = run_plugin(out / f"{name}.nagios.sh")
        assert code == 3
        assert NAGIOS.fullmatch(line)
        assert " UNKNOWN - " in line
        assert said in line
    assert sorted(path.name for path in out.iterdir()) == sorted(f"{name}.{end}" for name in results for end in ("nagios", "nagios.sh"))


def test_the_fleet_page_links_to_pages_that_were_written(ansible_runner: AnsibleRunner, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for formats, linked in (("json", []), ("html", ["well.html"]), ("json", ["well.html"])):
        assert report(ansible_runner, tmp_path, {"well": reporting.well()}, report_formats=formats).rc == 0
        links = [attributes["href"] for tag, attributes in page(out, "fleet").tags if tag == "a" and "href" in attributes]
        assert (links, all((out / link).is_file() for link in linked)) == (linked, True)


def test_the_fleet_page_has_every_host_worst_first(reports: Path) -> None:
    source = (reports / "fleet.html").read_text(encoding="utf-8")
    order = [re.search(r"<b>(\w+)</b>", row)[1] for row in source.split('<tr role="row">')[2:]]  # type: ignore[index]
    assert order == ["nothing", "hostile", "older", "rich", "refused", "well"]
    words = page(reports, "fleet").words
    assert "1 of 6 hosts not looked at" in words
    assert "5 new or worse, 2 resolved" in words


def test_a_run_over_a_few_hosts_loses_none(ansible_runner: AnsibleRunner, tmp_path: Path) -> None:
    later = reporting.iso(reporting.NOW + 3 * 86400)
    results: dict[str, Any] = {"a": reporting.well(), "b/../ü": reporting.rich(), "gone": reporting.well()}
    assert report(ansible_runner, tmp_path, results, report_formats="html").rc == 0
    # b is still in the inventory and not in the run; c leaves the run before it is looked at; gone has left the inventory.
    leave = {"ansible.builtin.fail": {"msg": "no"}, "when": "inventory_hostname == 'c'"}
    skip = {"ansible.builtin.meta": "end_host", "when": "inventory_hostname.startswith('b')"}
    add = {"ansible.builtin.add_host": {"name": "b/../ü", "groups": ["others"]}}
    again: dict[str, Any] = {"a": {**reporting.well(), "time": later}, "c": {}}
    done = report(ansible_runner, tmp_path, again, before=[add, skip, leave], report_formats="html")
    assert done.stats["a"]["failures"] == 0, done.stdout
    words = page(tmp_path / "out", "fleet").words
    rows = {row["host"]: row for row in json.loads((tmp_path / "out" / "fleet.json").read_text(encoding="utf-8"))["rows"]}
    assert set(rows) == {"a", "b/../ü", "c"}
    assert "1 of 3 hosts not looked at" in words
    assert re.search(r"not looked at lately b/\.\./ü .* 3 d before the newest", words)
    assert "the host left the run before it could be reported about" in words
    (made,) = (tmp_path / "out").glob("b*.html")
    assert re.fullmatch(r"b_.._-[0-9a-f]{8}\.html", made.name)


def test_check_mode_writes_nothing_and_says_so(ansible_runner: AnsibleRunner, tmp_path: Path) -> None:
    done = report(ansible_runner, tmp_path, {"a": reporting.rich()}, check=True)
    assert done.rc == 0, done.stdout
    assert not (tmp_path / "out").exists()
    (said,) = [task.result["msg"] for task in done.find(action="debug")]
    assert said.startswith("check mode: nothing is written; a run would write ")
    assert f"{tmp_path}/out/a.html" in said
    assert done.changed == 0


def test_where_files_go_and_that_a_second_run_changes_nothing(ansible_runner: AnsibleRunner, tmp_path: Path) -> None:
    folders = {name: tmp_path / name for name in ("textfile", "plugins")}
    for folder in folders.values():
        folder.mkdir()
    given = {
        "report_prometheus_folder": str(folders["textfile"]),
        "report_prometheus_on": "host",
        "report_nagios_folder": str(folders["plugins"]),
        "report_nagios_on": "host",
        "report_file_mode": "0644",
    }
    for changed in (True, False):
        done = report(ansible_runner, tmp_path, {"a": reporting.rich()}, **given)
        assert done.rc == 0, done.stdout
        assert (done.changed > 0) is changed
    modes = {path.name: path.stat().st_mode & 0o777 for folder in (tmp_path / "out", *folders.values()) for path in folder.iterdir()}
    expected = {"a.html": 0o644, "a.md": 0o644, "a.json": 0o644, "fleet.html": 0o644, "fleet.json": 0o644}
    assert modes == {**expected, "pgops_a.prom": 0o644, "a.nagios.sh": 0o755, "a.nagios": 0o644}
    # A run that does not reach the database keeps when an earlier one did.
    refused = {**reporting.refused(), "time": reporting.iso(reporting.NOW + 9999)}
    assert report(ansible_runner, tmp_path, {"a": refused}, **given).rc == 0
    found = samples(folders["textfile"], "a")
    assert found["pgops_health_last_success_timestamp_seconds"][0].value == reporting.NOW
    assert found["pgops_health_last_run_timestamp_seconds"][0].value == reporting.NOW + 9999


@pytest.mark.parametrize(
    "given",
    [
        {"report_formats": ["html", "pdf"]},
        {"report_folder": "relative"},
        {"report_prometheus_on": "host"},
        {"report_nagios_max_age": "soon"},
        {"report_prometheus_on": "moon"},
    ],
)
def test_a_wrong_option_is_named_before_anything_is_written(ansible_runner: AnsibleRunner, tmp_path: Path, given: dict[str, Any]) -> None:
    done = report(ansible_runner, tmp_path, {"a": reporting.well()}, **given)
    assert done.rc == 2
    assert (next(iter(given)) in done.stdout) or "soon" in done.stdout
    assert not (tmp_path / "out").exists()


def test_without_a_folder_nothing_is_written(ansible_runner: AnsibleRunner, tmp_path: Path) -> None:
    done = report(ansible_runner, tmp_path, {"a": reporting.well()}, report_folder="")
    assert done.rc == 0
    assert done.changed == 0
    assert [task.task for task in done.tasks if task.action.endswith((".template", ".file", ".debug"))] == []
    assert list(tmp_path.iterdir()) == [tmp_path / "in"]


def test_a_real_result_is_rendered(
    database: Database, run_module: Callable[..., Any], ansible_runner: AnsibleRunner, tmp_path: Path
) -> None:
    stock(database)
    result = run_module("pg_health", {"system": SYSTEM, "tier": "monthly", "fail_on": "never"}, connection=database.login())
    done = report(ansible_runner, tmp_path, {"real": result})
    assert done.rc == 0, done.stdout
    out = tmp_path / "out"
    found = page(out, "real")
    assert found.faults == []
    for one in result["checks"]:
        assert one["id"] in found.words
    status = {sample.labels["check"] for sample in samples(out, "real")["pgops_check_status"]}
    assert status == {one["id"] for one in result["checks"] if one["status"] != "skipped"}
    assert NAGIOS.fullmatch((out / "real.nagios").read_text(encoding="utf-8"))
    code, _line = run_plugin(out / "real.nagios.sh")
    assert code == result["exit_code"]
