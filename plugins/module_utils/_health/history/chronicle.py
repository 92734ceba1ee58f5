# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What one run does with the history: reads it before the checks, compares at the end, and records."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any, Dict, List, Mapping, Sequence, Tuple

from ansible_collections.pgops.runbook.plugins.module_utils._errors import RunbookError
from ansible_collections.pgops.runbook.plugins.module_utils._first_few import names_in_words
from ansible_collections.pgops.runbook.plugins.module_utils._health.history import compare, series
from ansible_collections.pgops.runbook.plugins.module_utils._health.history.forecast import forecasts
from ansible_collections.pgops.runbook.plugins.module_utils._health.history.model import EMPTY, OFF, THERE, History, Snapshot
from ansible_collections.pgops.runbook.plugins.module_utils._health.history.record import Baseline, baseline, fitting, make, moment
from ansible_collections.pgops.runbook.plugins.module_utils._health.history.server import IDENTITY, Server, identify
from ansible_collections.pgops.runbook.plugins.module_utils._health.history.store import Opener, Store, Stored
from ansible_collections.pgops.runbook.plugins.module_utils._health.look import Look
from ansible_collections.pgops.runbook.plugins.module_utils._health.model import STATUSES, Check, Reading
from ansible_collections.pgops.runbook.plugins.module_utils._health.registry import CHECKS
from ansible_collections.pgops.runbook.plugins.module_utils._health.report import Report

Results = Sequence[Tuple[Check, List[Reading]]]

# A result is read by people: so many findings of earlier runs, the worst.
STANDING = 100
_CHECK_MODE = "nothing is recorded in check mode"
_REPORT = "Report this to the makers of the collection."


class Chronicle:
    """The history around one run. Nothing that goes wrong with it takes the result with it: it becomes a notice."""

    def __init__(self, store: Store, system: str) -> None:
        self._store = store
        self._system = system
        self._stored: Stored | None = Stored()
        self._before: Baseline | None = None
        self._server: Server | None = None
        self._notices: List[str] = []
        self.facts = (*store.facts, IDENTITY) if store.kept_in != "none" else ()

    def begin(self, look: Look | None, time: datetime) -> History:
        """Return the history as the checks read it. Without a session only a history that does not stand in the database is there."""
        if self._store.kept_in == "none":
            return History(OFF, now=time.timestamp())
        try:
            self._server = self._identity(look) if look else None
            self._stored = self._store.read(look, self._system)
            if self._stored:
                self._before = baseline(self._stored.records)
                if self._stored.damaged:
                    self._notices.append(f"{self._stored.damaged} lines of the history could not be read: {self._store.place}")
                return self._history(time)
        except RunbookError as error:
            self._unread(error)
        except Exception as error:  # noqa: BLE001  (a fault of the history must not hide what the checks find; it is reported)
            self._unread(_fault(error))
        return History(OFF, now=time.timestamp())

    def end(self, report: Report, results: Results, look: Look | None, open_writer: Opener | None) -> Dict[str, Any]:
        """Return the result with what has changed, series and forecasts, and record the run."""
        result = report.result
        result.update(_nothing(self._store))
        result["notices"] += self._notices
        for finding in [*result["findings"], *result["suppressed"]]:
            finding.update(change=None, first_seen=None)
        if self._store.kept_in == "none":
            return result
        try:
            self._compare(report, results, look)
        except Exception as error:  # noqa: BLE001  (as above)
            self._refuse(result, "the run could not be compared with those before, and is not recorded", _fault(error))
            return result
        self._record(result, look, open_writer)
        return result

    def _identity(self, look: Look) -> Server:
        try:
            return identify(look.server, look.fact(IDENTITY))
        except RunbookError:
            return identify(look.server, None)

    def _unread(self, error: RunbookError) -> None:
        self._stored = self._before = None
        self._notices.append(_sentence(f"the history in {self._store.place} could not be read, and the run is not recorded", error))

    def _history(self, time: datetime) -> History:
        before, server = self._before, self._server
        mark, now = server.mark if server else "", time.timestamp()
        if before is None:
            return History(EMPTY, now=now, mark=mark)
        record = before.record
        mine = server is not None and record["server"].get("id") == server.id
        pairs = before.kept.get(server.id, {}) if server else {}
        previous = Snapshot(
            time=moment(record) or time,
            metrics=record["metrics"] if mine else {},
            findings=before.findings,
            kept={name: pair[1] for name, pair in pairs.items()},
            kept_at={name: pair[0] for name, pair in pairs.items()},
        )
        return History(THERE, previous, self._stored.series if self._stored else {}, before.counters, mark, now)

    def _compare(self, report: Report, results: Results, look: Look | None) -> None:
        result = report.result
        now = datetime.fromisoformat(result["time"])
        at = now.timestamp()
        sights = {check.id: compare.Sight.of(readings, check.exists) for check, readings in results}
        server = self._server.id if self._server else None
        forgotten = compare.gone(self._before, [*CHECKS, *sights])
        # Without the runs before there is nothing to compare with, and an empty history would be taken for the truth.
        done = compare.compare(self._before, report.open, sights, at, server)
        for finding in [*result["findings"], *result["suppressed"]]:
            finding["change"], finding["first_seen"] = done.changes[finding["key"]]
        result["resolved"] = done.resolved
        result["standing"] = _standing(done, report)
        metrics = {name: value for name, value in result["metrics"].items() if series.is_number(value)}
        known = self._stored.series if self._stored else {}
        result["series"] = _series(known, metrics, at)
        history = History(THERE, None, known, now=at)
        result["forecasts"] = forecasts(metrics, history.forecast)
        result["history"].update(self._described(look, server, done.elsewhere))
        kept = look.kept if look else {}
        lost = sorted(set(kept) - set(fitting(kept)))
        result["notices"] += [f"too large to keep for the next run: {name}" for name in lost]
        result["notices"] += [f"{key} is no longer kept: this version has no such check" for key in forgotten]
        if self._stored is not None:
            result["snapshot"] = make(
                result, self._before, at=at, server=self._server, looked=compare.looked(sights), findings=done.open, kept=kept
            )

    def _described(self, look: Look | None, server: str | None, elsewhere: Sequence[str]) -> Dict[str, Any]:
        before = self._before
        note = None
        if self._stored is None:
            note = "the history could not be read" if look else "the history stands in the database, which could not be reached"
        elif before is None:
            note = "no history yet"
        elif server is not None and server not in before.servers:
            note = f"no history yet of this server ({server})"
        if elsewhere:
            shown = names_in_words([" ".join(key.split()) for key in elsewhere], most=3)
            said = f"findings of another server stay open, because only it can show that they are gone: {shown}"
            note = f"{note}; {said}" if note else said
        at = moment(before.record) if before else None
        return {"previous": at.isoformat() if at else None, "snapshots": self._stored.snapshots if self._stored else 0, "note": note}

    def _record(self, result: Dict[str, Any], look: Look | None, open_writer: Opener | None) -> None:
        if result["snapshot"] is None or not self._store.records_itself:
            return
        if look is not None and open_writer is None:
            history = result["history"]
            history["note"] = f"{history['note']}; {_CHECK_MODE}" if history["note"] else _CHECK_MODE
            return
        try:
            result["notices"] += self._store.record(result["snapshot"], look, open_writer)
            result["history"].update(recorded=True, snapshots=result["history"]["snapshots"] + 1)
        except RunbookError as error:
            self._refuse(result, "the run is not recorded", error)
        except Exception as error:  # noqa: BLE001  (as above)
            self._refuse(result, "the run is not recorded", _fault(error))

    def _refuse(self, result: Dict[str, Any], what: str, error: RunbookError) -> None:
        result["notices"].append(_sentence(what, error))


def _nothing(store: Store) -> Dict[str, Any]:
    return {
        "resolved": [],
        "standing": [],
        "history": {
            "kept_in": store.kept_in,
            "place": store.place,
            "previous": None,
            "snapshots": 0,
            "recorded": False,
            "note": "no history is kept" if store.kept_in == "none" else None,
        },
        "series": {},
        "forecasts": [],
        "snapshot": None,
    }


def _series(known: Mapping[str, Sequence[series.Point]], metrics: Mapping[str, Any], at: float) -> Dict[str, List[List[float]]]:
    now = series.charted(metrics)
    every = {metric: [point for point in known.get(metric, ()) if point[0] < int(at)] for metric in {**now, **known}}
    added = {metric: [*points, (at, now[metric])] if metric in now else points for metric, points in every.items()}
    chosen = series.bounded({metric: points for metric, points in added.items() if points})
    return {metric: series.as_written(points) for metric, points in chosen.items()}


def _standing(done: compare.Comparison, report: Report) -> List[Dict[str, Any]]:
    """Return what an earlier run of another tier found on this server and this run could not judge: still open, worst first.

    Those of another server stay out: after a failover they say nothing of this one.
    """
    names = ("check", "title", "object", "severity", "message", "first_seen")
    found = [
        {
            "key": key,
            **{name: entry[name] for name in names},
            "seen": datetime.fromtimestamp(entry["seen"], timezone.utc).isoformat(),
            "action": CHECKS[entry["check"]].action if entry["check"] in CHECKS else "",
        }
        for key, entry in done.open.items()
        if key not in report.open and key not in done.elsewhere and not entry.get("suppressed") and not entry.get("idle")
    ]
    return sorted(found, key=lambda each: (-STATUSES.index(each["severity"]), each["key"]))[:STANDING]


def _fault(error: Exception) -> RunbookError:
    return RunbookError(f"the history itself failed: {type(error).__name__}: {error}", hint=_REPORT)


def _sentence(what: str, error: RunbookError) -> str:
    message = " ".join(error.message.split()).rstrip(".")
    return f"{what}: {message}.{' ' + error.hint if error.hint else ''}"
