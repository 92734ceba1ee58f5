# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Standbys: who is missing, who is late, and whether this one still receives."""

from __future__ import annotations

import time
from typing import Any, Callable, Dict, Iterable, List

from ansible_collections.pgops.runbook.plugins.module_utils._duration import format_size
from ansible_collections.pgops.runbook.plugins.module_utils._errors import RunbookError
from ansible_collections.pgops.runbook.plugins.module_utils._health.catalogue import quoted
from ansible_collections.pgops.runbook.plugins.module_utils._health.look import Look
from ansible_collections.pgops.runbook.plugins.module_utils._health.model import (
    CRITICAL,
    OK,
    SKIPPED,
    UNKNOWN,
    Check,
    Limits,
    Reading,
    Unseen,
    judge,
    skipped,
    unknown,
)
from ansible_collections.pgops.runbook.plugins.module_utils._health.replicas import (
    RECEIVER,
    SENDERS,
    WAL,
    Sender,
    hidden,
    number,
    senders,
    setting,
)
from ansible_collections.pgops.runbook.plugins.module_utils._health.words import counted, span
from ansible_collections.pgops.runbook.plugins.module_utils._wal_position import wal_bytes

# An idle primary says nothing until the receiver asks, after half of wal_receiver_timeout: so long plus this is no silence.
ANSWER_SECONDS = 5.0
# What looks late may have come a moment ago, after hours in which there was nothing to replay: it is given so long.
SECOND_LOOK = 0.3
_REPLAYED = "SELECT pg_last_wal_replay_lsn() >= %(position)s::pg_lsn AS replayed"


# --- from where the WAL comes -----------------------------------------------------------------------------------------------


def _standbys(look: Look, limits: Limits) -> Iterable[Reading]:
    found, wanted = look.seen(senders), look.expected.standbys
    standbys = [each for each in found if each.is_standby]
    said = f"{len(standbys)} {'standby streams' if len(standbys) == 1 else 'standbys stream'} from this server"
    unseen = [each for each in found if each.hidden]
    if wanted and look.fact(WAL)["standby"] and look.expected.role != "standby":
        message = "this server is a standby itself: the standbys that are expected here are looked for where it is a primary"
        return skipped(message)
    if unseen:
        total = unknown(hidden(look, f"{counted(len(unseen), 'receiver')}, which may be standbys or not"))
    else:
        total = Reading(said, float(len(standbys)))
    return [total, *(_expected(look, name, found) for name in wanted)]


def _expected(look: Look, name: str, found: List[Sender]) -> Reading:
    same = [each for each in found if each.application == name]
    if any(each.streams for each in same):
        return Reading("streams from this server", 1.0, name, status=OK)
    if any(each.hidden for each in same):
        return unknown(hidden(look, "a receiver of this name is there"), name)
    if same:
        return Reading(f"is not streaming, but in state {same[0].state}", 0.0, name, status=CRITICAL)
    return Reading("does not stream from this server", 0.0, name, status=CRITICAL)


def _lag_bytes(look: Look, limits: Limits) -> Iterable[Reading]:
    return _each(look, _late_by)


def _late_by(sender: Sender) -> Reading:
    if sender.behind is None:
        return _not_yet(sender)
    return Reading(f"is {format_size(sender.behind)} behind{_where(sender)}", float(sender.behind), sender.name)


def _each(look: Look, read: Callable[[Sender], Reading]) -> List[Reading]:
    """Return a reading for each receiver, the worst one of those that cannot be told apart."""
    readings: Dict[str, Reading] = {}
    for sender in look.seen(senders):
        if sender.hidden:
            reading = unknown(hidden(look, "how late it is, is not known"), sender.name)
        elif sender.streams:
            reading = read(sender)
        else:
            continue
        before = readings.get(sender.name)
        if before is None or (before.status != UNKNOWN and (reading.status == UNKNOWN or (reading.amount or 0) > (before.amount or 0))):
            readings[sender.name] = reading
    return list(readings.values()) or skipped("nobody streams from this server")


def _not_yet(sender: Sender) -> Reading:
    error = Unseen("has not said yet how far it has come", hint="Run again: it has only just connected.")
    return unknown(error, sender.name)


def _where(sender: Sender) -> str:
    return f" ({sender.address})" if sender.address and sender.address not in sender.name else ""


def _lag_time(look: Look, limits: Limits) -> Iterable[Reading]:
    if not look.fact(WAL)["standby"]:
        return _each(look, lambda sender: _late_for(look, sender, limits))
    downstream = [each for each in look.seen(senders) if each.streams or each.hidden]
    below = _each(look, lambda sender: _late_for(look, sender, limits)) if downstream else []
    return [_own_lag(look, limits), *below]


def _late_for(look: Look, sender: Sender, limits: Limits) -> Reading:
    """Judge the lag that the server has measured, and what has passed since it measured it."""
    if sender.behind is None:
        return _not_yet(sender)
    if sender.behind == 0:
        return Reading(f"has everything{_where(sender)}", 0.0, sender.name)
    # A standby that has died silently answers no more, and its lag stays what it was. One that is silent for longer than the
    # sender bears has another clock.
    bears = number(look, "wal_sender_timeout") / 1000
    silence = max(0.0, sender.silence or 0.0)
    if bears and silence > bears:
        silence = 0.0
    lag = round((sender.lag or 0.0) + silence, 3)
    fine = judge(LAG_TIME, limits, lag)[0] == OK
    if sender.state == "streaming" and (sender.lag is not None or fine):
        # What streams has had everything once, and without a lag it still had when it last answered.
        return Reading(f"is {'at most ' if sender.lag is None else ''}{span(lag)} behind{_where(sender)}", lag, sender.name)
    if sender.lag is not None and not fine:
        # While it catches up, its lag is counted from when it came back.
        return Reading(f"catches up, and is at least {span(lag)} behind{_where(sender)}", lag, sender.name)
    heard = f"it is in state {sender.state}, and was last heard {span(silence)} ago"
    message = f"is {format_size(sender.behind)} behind, and for how long is not known: {heard}"
    return unknown(Unseen(message, hint="Look at the standby's log, and whether its receiver runs."), sender.name)


# --- where the WAL goes -----------------------------------------------------------------------------------------------------


def _receiver_down(look: Look, limits: Limits) -> Iterable[Reading]:
    if not look.fact(WAL)["standby"]:
        return skipped("this server is no standby")
    return [look.seen(_receiver)]


def _receiver(look: Look) -> Reading:
    """Return how the receiver of this standby is. Its numbers are what is known when it is down, too."""
    facts, metrics = look.fact(RECEIVER), {"repl.replay_age": _rounded(look.fact(RECEIVER)["age"])}
    connects, restores = setting(look, "primary_conninfo"), setting(look, "restore_command")
    streamed = facts["received"] is not None
    if facts["there"] and facts["status"] is None:
        error = hidden(look, "how its receiver is, is not known")
        return unknown(error)
    if not facts["there"] and connects == "false":
        restored = f"it restores from an archive alone, {_restored(facts)}"
        if restores != "true":
            message = "nothing brings it WAL: there is neither a primary_conninfo nor a restore_command"
            return Reading(
                message, status=CRITICAL, action="Set primary_conninfo, or promote it if it is to be a primary.", metrics=metrics
            )
        return Reading(restored, status=SKIPPED, metrics=metrics)
    if not facts["there"] and connects is None and not streamed:
        hint = f"As a superuser: GRANT pg_read_all_settings TO {quoted(look.role)};"
        message = f"it has no receiver, and the role {look.role} may not see whether it should have one (primary_conninfo)"
        return unknown(Unseen(message, hint=hint))
    if not facts["there"]:
        rest = "restores only what the archive has" if restores == "true" else "gets no WAL"
        return Reading(f"it has no receiver and {rest}, {_restored(facts)}", status=CRITICAL, metrics=metrics)
    if facts["status"] != "streaming":
        return Reading(f"its receiver is not streaming but {facts['status']}, {_restored(facts)}", status=CRITICAL, metrics=metrics)
    return _silence(look, facts, metrics)


def _silence(look: Look, facts: Dict[str, Any], metrics: Dict[str, Any]) -> Reading:
    silence = max(0.0, facts["silence"] or 0.0)
    interval, timeout = number(look, "wal_receiver_status_interval"), number(look, "wal_receiver_timeout") / 1000
    bound = max(2.0 * interval, timeout / 2 + ANSWER_SECONDS)
    if silence <= bound:
        return Reading(f"its receiver streams; the last message came {span(silence)} ago", metrics=metrics)
    if timeout:
        message = f"its receiver has had no message for {span(silence)}, where one is due after {span(bound)} at the latest"
        return Reading(f"{message}; {_restored(facts)}", status=CRITICAL, metrics=metrics)
    message = f"its receiver has had no message for {span(silence)}, and without wal_receiver_timeout it does not ask for one"
    return unknown(Unseen(message, hint="Set wal_receiver_timeout, such as 60 s: without it nothing notices that the primary is gone."))


def _own_lag(look: Look, limits: Limits) -> Reading:
    """Return how late this standby is: never 0 because all that came has been replayed, while nothing comes."""
    facts, receiver = look.fact(RECEIVER), look.seen(_receiver)
    if receiver.status == SKIPPED:
        return _restore_age(facts, limits)
    if receiver.status is not None:
        error = receiver.error or Unseen(f"not known: {receiver.message}", hint=receiver.action)
        if receiver.error:
            return unknown(RunbookError(f"not known: {receiver.error.message}", hint=receiver.error.hint))
        told = unknown(error)
        return Reading(told.message, status=UNKNOWN, action=told.action, told=True)
    ends = [wal_bytes(position) for position in (facts["received"], facts["sent"]) if position]
    end = max(ends, default=0)
    if facts["replayed"] is not None and wal_bytes(facts["replayed"]) >= end:
        return Reading("it has replayed all that the primary has told of", 0.0)
    if facts["age"] is None:
        error = Unseen("it has not replayed any transaction since it started", hint="Run again once it has replayed one.")
        return unknown(error)
    delay = number(look, "recovery_min_apply_delay") / 1000
    lag = max(0.0, facts["age"] - delay)
    if judge(LAG_TIME, limits, lag)[0] != OK and _was_just_idle(look, end):
        return Reading("it has just replayed what came after a time of rest", SECOND_LOOK)
    why = ": its replay is paused" if facts["paused"] else f" beyond the {span(delay)} of recovery_min_apply_delay" if delay else ""
    action = "Run SELECT pg_wal_replay_resume(); on it once nobody needs the pause." if facts["paused"] else None
    return Reading(f"it is {span(lag)} behind{why}", round(lag, 3), action=action)


def _was_just_idle(look: Look, end: int) -> bool:
    time.sleep(SECOND_LOOK)
    position = f"{end >> 32:X}/{end & 0xFFFFFFFF:X}"
    return bool(look.row(look.sql.SQL(_REPLAYED), {"position": position})["replayed"])


def _restore_age(facts: Dict[str, Any], limits: Limits) -> Reading:
    """Judge by the last transaction that was restored: nobody here knows whether there has been another since."""
    age = _rounded(facts["age"])
    asked = "default" not in (limits.sources.get("warning"), limits.sources.get("critical"))
    message = f"it restores from an archive alone, {_restored(facts)}"
    if age is not None and (asked or judge(LAG_TIME, limits, age)[0] == OK):
        return Reading(message, age)
    hint = "Give repl.lag_time thresholds for how old the last restored transaction may be, which idle hours and archive_timeout allow for."
    return unknown(Unseen(f"{message}; whether the primary has written more since is not known here", hint=hint))


def _restored(facts: Dict[str, Any]) -> str:
    if facts["age"] is None:
        return "and has replayed no transaction since it started"
    return f"and the last transaction that it has replayed is {span(facts['age'])} old"


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(max(0.0, seconds), 3)


LAG_TIME = Check(
    id="repl.lag_time",
    title="How late standbys are",
    tier="hourly",
    looks_at="On a primary, replay_lag of every receiver with the time since it last answered; NULL is 0 only where it has all that was "
    "sent. On a standby, the age of the last replayed transaction while it has not replayed all that the primary has told of; with a "
    "receiver that is down it is unknown, never 0. recovery_min_apply_delay is taken off. A standby that restores from an archive alone "
    "is judged by the age of the last restored transaction once thresholds for it are given.",
    action="Look whether the standby is short of CPU, disk or network, and whether a query on it holds up the replay "
    "(max_standby_streaming_delay).",
    needs="pg_read_all_stats; pg_read_all_settings on a standby",
    run=_lag_time,
    facts=(WAL, SENDERS, RECEIVER),
    unit="seconds",
    warning=60,
    critical=600,
)
CHECKS: List[Check] = [
    Check(
        id="repl.standbys",
        title="Standbys are connected",
        tier="hourly",
        looks_at="How many standbys stream from this server, which has thresholds where the system gives them, and whether each of those "
        "that are expected does. Neither subscribers nor base backups nor programs that keep WAL count as standbys; any receiver may be "
        "expected.",
        action="Look whether the standby runs, and what its log says about its primary_conninfo; a slot keeps the WAL for it meanwhile.",
        needs="pg_read_all_stats",
        run=_standbys,
        facts=(WAL, SENDERS),
        unit="count",
        worse="below",
        decides={"critical": "an expected one is missing"},
    ),
    Check(
        id="repl.lag_bytes",
        title="WAL that standbys have not replayed",
        tier="hourly",
        looks_at="The bytes between what each receiver has replayed (or written, where it replays nothing) and the end of this server's "
        "WAL.",
        action="Look whether the standby is short of CPU, disk or network, and whether its replay is paused or held up by a query.",
        needs="pg_read_all_stats",
        run=_lag_bytes,
        facts=(WAL, SENDERS),
        unit="bytes",
        warning=100 << 20,
        critical=1 << 30,
    ),
    LAG_TIME,
    Check(
        id="repl.receiver_down",
        title="The standby receives WAL",
        tier="hourly",
        looks_at="On a standby: whether it has a receiver, that streams, with a message within twice wal_receiver_status_interval, or "
        f"within half of wal_receiver_timeout and {ANSWER_SECONDS:g} s where that is longer: an idle primary answers only then.",
        action="Look at the standby's log, whether the primary runs and can be reached from it, and whether the primary still has the "
        "WAL that it needs; after a failover, whether it follows the new primary.",
        needs="pg_read_all_stats, pg_read_all_settings",
        run=_receiver_down,
        facts=(WAL, RECEIVER),
        decides={"critical": "no receiver, not streaming, or silent"},
    ),
]
