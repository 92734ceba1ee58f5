"""What a run of a wider tier has found stays in every output of a narrower one: nothing turns green because nobody looked."""

from __future__ import annotations

from typing import Any

from ansible_collections.pgops.runbook.plugins.plugin_utils._report_metrics import families
from ansible_collections.pgops.runbook.plugins.plugin_utils._report_nagios import line
from ansible_collections.pgops.runbook.plugins.plugin_utils._report_page import page, row
from ansible_collections.pgops.runbook.plugins.plugin_utils._report_result import Result

STANDING = {
    "key": "seq.exhaustion[public.orders_id_seq]",
    "check": "seq.exhaustion",
    "title": "Sequences that run out",
    "object": "public.orders_id_seq",
    "severity": "critical",
    "message": "99 % is used",
    "first_seen": "2026-11-20T06:00:00+00:00",
    "seen": "2026-11-21T06:00:00+00:00",
    "action": "Widen the column.",
}
HOURLY: dict[str, Any] = {
    "status": "ok",
    "exit_code": 0,
    "time": "2026-11-21T10:00:00+00:00",
    "system": "shop",
    "checks": [{"id": "avail.connect", "title": "It answers", "status": "ok", "message": "connected", "findings_total": 0}],
    "findings": [],
    "standing": [STANDING],
}


def test_an_hourly_run_does_not_turn_a_daily_finding_green() -> None:
    result = Result(HOURLY)
    assert (result.status, result.count("critical"), result.count("ok")) == ("critical", 1, 1)
    assert "last looked at 21 Nov 2026 06:00 UTC" in result.findings[0]["message"]


def test_every_output_says_so() -> None:
    nagios = line(HOURLY, host="db1")
    assert (nagios["code"], nagios["word"]) == (2, "CRITICAL")
    assert "seq.exhaustion[public.orders_id_seq]" in nagios["line"]
    fleet = row(HOURLY, host="db1")
    assert (fleet["status"], fleet["counts"]["critical"]) == ("critical", 1)
    shown = page(HOURLY, host="db1", form="html")
    assert "public.orders_id_seq" in str(shown)
    metrics = {family["name"]: family["samples"] for family in families(HOURLY, host="db1")}
    assert [sample for sample in metrics["pgops_check_status"] if "seq.exhaustion" in str(sample)]
    assert "2" in str(metrics["pgops_health_status"])


def test_without_them_the_run_is_what_it_saw() -> None:
    assert line({**HOURLY, "standing": []}, host="db1")["code"] == 0
    assert line({key: value for key, value in HOURLY.items() if key != "standing"}, host="db1")["code"] == 0


def test_what_is_odd_is_unknown_and_not_green() -> None:
    assert Result({**HOURLY, "standing": [{"severity": "rosy"}]}).status == "unknown"
