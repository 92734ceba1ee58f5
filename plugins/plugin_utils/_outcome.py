# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What has become of the messages, by channel, without anything that is secret."""

from __future__ import annotations

import errno
import re
from typing import Any, Dict, Iterator, List, Mapping, Sequence

from ansible_collections.pgops.runbook.plugins.plugin_utils._channels import hide
from ansible_collections.pgops.runbook.plugins.plugin_utils._routing import line

SENT, NOTHING, WOULD, FAILED = "sent", "nothing to tell", "would be sent", "failed"
# The loop variable of the tasks that send.
DELIVERY = "notify_delivery"
# What Ansible and its modules put before the reason itself.
_AROUND = re.compile(
    r"^(?:(?:Task|Action|Module|Request) failed: |Status code was -?\d+ and not \[[^\]]*\]: "
    r"|Connection failure: |An unknown error occurred: )+"
)
_NO_MAIL = "community.general is not installed on the control node: ansible-galaxy collection install community.general"
_ENDED_BY_TIMEOUT, _NOT_STARTED = (124, 137), (2, 126, 127)


def outcome(plan: Mapping[str, Any], registered: Sequence[Any], channels: Any, *, check_mode: bool = False) -> Dict[str, Any]:
    """Return `channels` (channel, type, status, recipients, messages, told, meant, reason), `notices` and `lines` that say it to people.

    `registered` is what the sending tasks have registered.
    """
    results = {one[DELIVERY]["number"]: one for each in registered for one in _results(each)}
    given = {one.get("name"): one for one in channels if isinstance(one, Mapping)} if isinstance(channels, (list, tuple)) else {}
    told = [_channel(one, plan, results, given.get(one["channel"]), check_mode) for one in plan["channels"]]
    failed = [f"{one['channel']} failed: {one['reason']}" for one in told if one["status"] == FAILED]
    notices = [*failed, *plan["notices"]]
    happy = [f"{one['channel']} {one['status']}{_to_whom(one)}" for one in told if one["status"] in (SENT, WOULD)]
    return {"channels": told, "notices": notices, "lines": [*happy, *notices]}


def _results(registered: Any) -> Iterator[Mapping[str, Any]]:
    results = registered.get("results") if isinstance(registered, Mapping) else None
    return (one for one in results or () if isinstance(one, Mapping) and DELIVERY in one)


def _channel(
    channel: Mapping[str, Any], plan: Mapping[str, Any], results: Mapping[int, Mapping[str, Any]], given: Any, check_mode: bool
) -> Dict[str, Any]:
    name = channel["channel"]
    deliveries = [one for one in plan["deliveries"] if one["channel"] == name]
    fault = plan["faults"].get(name)
    reasons: List[str] = [f"it is not set up right: {fault}"] if fault else []
    told = 0
    for delivery in () if check_mode else deliveries:
        reason, reached = _sent(delivery, results.get(delivery["number"]), plan, _program(given))
        told += reached
        reasons += [reason] if reason else []
    return {
        **channel,
        "status": FAILED if reasons else NOTHING if not deliveries else WOULD if check_mode else SENT,
        "recipients": sorted({address for one in deliveries for address in one["to"]}),
        "messages": len(deliveries),
        "told": told,
        "meant": sum(_people(one) for one in deliveries),
        "reason": line(hide("; ".join(dict.fromkeys(reasons)), given)),
    }


def _people(delivery: Mapping[str, Any]) -> int:
    return max(1, len(delivery["to"]))


def _program(given: Any) -> str:
    argv = given.get("argv") if isinstance(given, Mapping) else None
    return str(argv[0]) if isinstance(argv, (list, tuple)) and argv else "it"


def _sent(delivery: Mapping[str, Any], result: Mapping[str, Any] | None, plan: Mapping[str, Any], program: str) -> tuple[str, int]:
    """Return why a message was not sent to all, if so, and how many it reached."""
    if result is None:
        missing = delivery["type"] == "mail" and not plan.get("mail_is_there", True)
        reason = (
            "the collection community.general is not installed on the control node: ansible-galaxy collection install community.general"
        )
        return reason if missing else "it was not tried", 0
    if result.get("failed") or result.get("unreachable"):
        return _reason(result, program), 0
    refused = result.get("result")
    if delivery["type"] == "mail" and isinstance(refused, Mapping) and refused:
        return f"the mail server refused {', '.join(sorted(map(str, refused)))}", _people(delivery) - len(refused)
    return "", _people(delivery)


def _reason(result: Mapping[str, Any], program: str) -> str:
    """Return the reason of a failure in one line, as its module tells it."""
    message = str(result.get("msg") or "no reason given")
    if "rc" in result and ("cmd" in result or "stderr" in result):
        return _ended(result, message, program)
    status = result.get("status")
    if isinstance(status, int) and status > 0:
        return f"the server answered {status}"
    return re.sub(r"<\w+ error (.*)>", r"\1", _AROUND.sub("", message))


def _ended(result: Mapping[str, Any], message: str, program: str) -> str:
    code = result.get("rc")
    said = (str(result.get("stderr") or "").strip().splitlines() or [""])[-1]
    if code in _ENDED_BY_TIMEOUT:
        return "it took too long and was ended"
    if code == errno.EPIPE and not said:
        # What it said is not known, nor whether it ran at all: what starts it ends in the same way.
        return f"{program} ended without reading the message from its standard input, or could not be started"
    if code in _NOT_STARTED and not said:
        return f"it could not be started: {message}"
    return f"it ended with {code}{f': {said}' if said else ''}"


def _to_whom(one: Mapping[str, Any]) -> str:
    return f" to {', '.join(one['recipients'])}" if one["recipients"] else ""
