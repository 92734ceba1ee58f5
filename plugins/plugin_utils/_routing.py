# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who is told of what: a pure function from health results, channels and contacts to the messages that have to be sent."""

from __future__ import annotations

import math
import unicodedata
from dataclasses import dataclass
from typing import Any, Dict, FrozenSet, Iterable, Iterator, List, Mapping, Sequence, Tuple

from ansible_collections.pgops.runbook.plugins.plugin_utils._amounts import against
from ansible_collections.pgops.runbook.plugins.plugin_utils._channels import SEVERITIES, Channel, is_address, read

# What has become of a finding, in the order in which a message tells it.
CHANGES = ("new", "worse", "still", "better", "resolved")
LOST = "the host left the run before anything could be told of it"
USUAL = ("new", "worse", "resolved")
_CHANGE_OF = {"same": "still", "worse": "worse", "better": "better"}
_STATUSES = ("failed", "critical", "unknown", "warning", "ok")
# A message is read on a telephone: so much of it, the rest as a number.
FINDINGS, HOSTS, CONTACTS = 20, 50, 10
_LINE, _NAME = 300, 120


@dataclass(frozen=True)
class Event:
    """A finding of a host and what has become of it."""

    change: str
    finding: Mapping[str, Any]

    @property
    def severity(self) -> str:
        """The severity; one that is not known counts as critical, so that nobody misses it."""
        return str(self.finding["severity"]) if self.finding.get("severity") in SEVERITIES else SEVERITIES[0]

    @property
    def rank(self) -> Tuple[bool, int, int]:
        """The worst first; what is over comes last."""
        return self.change == "resolved", SEVERITIES.index(self.severity), CHANGES.index(self.change)


@dataclass(frozen=True)
class Host:
    """What one host has to tell, chosen by `on`, and what of it is not told again."""

    name: str
    system: str
    status: str
    time: str
    report_url: str
    contacts: Tuple[Mapping[str, Any], ...]
    told: Tuple[Event, ...]
    kept: Tuple[Event, ...]
    unlisted: Mapping[str, int]


Wanted = Tuple[FrozenSet[str], ...]  # the severities that somebody gets, by host


def plan(hosts: Sequence[Any], channels: Any, on: Sequence[str] = USUAL) -> Dict[str, Any]:
    """Return `deliveries` (number, channel, type, to, message), `faults` by channel, `notices`, and the `channels` there are.

    `hosts` are mappings of host, system, result (of pg_health), failure (why the run broke off), contacts and report_url, or the
    bare name of a host that is lost.
    """
    known = read(channels)
    mappings = [one if isinstance(one, Mapping) else {"host": one, "failure": LOST} for one in hosts]
    there = sorted((_host(one, on) for one in mappings), key=lambda host: (_STATUSES.index(host.status), host.name))
    notices: List[str] = []
    wanted = _wanted(there, known, notices)
    deliveries: List[Dict[str, Any]] = []
    for channel in known:
        together: Dict[Wanted, List[str]] = {}
        for (name, address), severities in wanted.items():
            if name == channel.name and any(_chosen(host.told, each) for host, each in zip(there, severities)):
                together.setdefault(_told_only(there, severities), []).append(address)
        for severities, addresses in together.items():
            sent = {"number": len(deliveries), "channel": channel.name, "type": channel.type, "to": [one for one in addresses if one]}
            deliveries.append({**sent, "message": _message(there, severities)})
    return {
        "deliveries": deliveries,
        "channels": [{"channel": one.name, "type": one.type} for one in known],
        "faults": {one.name: "; ".join(one.faults) for one in known if one.faults},
        "notices": list(dict.fromkeys(notices)),
    }


def _host(given: Mapping[str, Any], on: Sequence[str]) -> Host:
    returned = given.get("result")
    result: Mapping[str, Any] = returned if isinstance(returned, Mapping) else {}
    failure = _failure(given.get("failure"), result)
    events = [Event("new", _broken_off(failure))] if failure else []
    events += [Event(_change(finding), finding) for finding in _mappings(result.get("findings"))]
    events += [Event("resolved", finding) for finding in _mappings(result.get("resolved"))]
    events.sort(key=lambda event: event.rank)
    chosen = CHANGES if "all" in on else tuple(on)
    status = "failed" if failure else str(result.get("status"))
    listed = [event.finding.get("check") for event in events if event.change != "resolved"]
    return Host(
        name=line(given.get("host"), _NAME),
        system=line(result.get("system") or given.get("system"), _NAME),
        status=status if status in _STATUSES else "unknown",
        time=line(result.get("time"), _NAME),
        report_url=line(given.get("report_url")),
        contacts=tuple(_mappings(given.get("contacts"))),
        told=tuple(event for event in events if event.change in chosen),
        kept=tuple(event for event in events if event.change not in chosen and event.change != "resolved"),
        unlisted={
            str(check["id"]): int(check["findings_total"]) - listed.count(check["id"])
            for check in _mappings(result.get("checks"))
            if isinstance(check.get("findings_total"), int) and check["findings_total"] > listed.count(check.get("id"))
        },
    )


def _failure(given: Any, result: Mapping[str, Any]) -> str:
    """Return why the run broke off, or nothing. A refused connection is a finding already, and not told twice."""
    kind, message = (given.get("type"), given.get("message")) if isinstance(given, Mapping) else ("", given)
    refused = any(finding.get("check") == "avail.connect" for finding in _mappings(result.get("findings")))
    if refused and (not message or kind == "ConnectError"):
        return ""
    if not message and "status" not in result:
        message = result.get("msg") or "no check ran on this host"
    return line(message)


def _broken_off(failure: str) -> Dict[str, Any]:
    action = "Look at the output of this run, mend what stopped it, and run it again: what it did not reach was not checked."
    return {"key": "run", "check": "run", "title": "The run broke off", "severity": "critical", "message": failure, "action": action}


def _change(finding: Mapping[str, Any]) -> str:
    # Without a history nobody knows whether it is new: tell it.
    return _CHANGE_OF.get(str(finding.get("change")), "new")


def _wanted(hosts: Sequence[Host], channels: Sequence[Channel], notices: List[str]) -> Dict[Tuple[str, str], Wanted]:
    """Return, by channel and mail address (empty for what is no mail), the severities that it gets of each host."""
    named: Dict[str, List[set[str]]] = {}
    by_mail: Dict[str, List[set[str]]] = {}
    for number, host in enumerate(hosts):
        for contact in host.contacts:
            severities = _severities(contact)
            address, name = contact.get("address"), contact.get("name")
            mails = is_address(address) and any(one.type == "mail" and (one.contacts or one.faults) for one in channels)
            own = [] if mails else [one.name for one in channels if _same(one.name, address, name)]
            for place, key in ([(by_mail, str(address))] if mails else [(named, one) for one in own]) if severities else ():
                place.setdefault(key, [set() for _host in hosts])[number] |= severities
            if not own and not mails and _chosen(host.told, frozenset(severities)):
                who = f"{line(name, _NAME)} ({line(address, _NAME)})"
                notices.append(f"{who} cannot be reached by a channel: {_remedy(address)}")
    found: Dict[Tuple[str, str], Wanted] = {}
    for channel in (one for one in channels if not one.faults):
        by_name = named.get(channel.name, [set() for _host in hosts])
        default = set(channel.severities) if channel.severities is not None else set() if channel.name in named else set(SEVERITIES)
        whole = [default | each for each in by_name]
        people = dict.fromkeys(channel.to, whole) if channel.type == "mail" else {"": whole}
        for address, by_host in by_mail.items() if channel.contacts else ():
            people[address] = [asked | more for asked, more in zip(by_host, people.get(address, [set() for _host in hosts]))]
        found.update({(channel.name, address): tuple(map(frozenset, each)) for address, each in people.items()})
    return found


def _severities(contact: Mapping[str, Any]) -> set[str]:
    given = contact.get("severities")
    listed = [SEVERITIES[0]] if given is None else given if isinstance(given, (list, tuple)) else [given]
    return {one for one in SEVERITIES if one in listed}


def _same(channel: str, *names: Any) -> bool:
    return channel.casefold().strip() in [name.casefold().strip() for name in names if isinstance(name, str)]


def _remedy(address: Any) -> str:
    if is_address(address):
        return "give a mail channel contacts: true"
    return "its address is no single mail address, and no channel has its name"


def _chosen(events: Iterable[Event], severities: FrozenSet[str]) -> List[Event]:
    return [event for event in events if event.severity in severities]


def _told_only(hosts: Sequence[Host], wanted: Wanted) -> Wanted:
    """Leave out what makes no difference here, so that people who are told the same get one message."""
    return tuple(frozenset(event.severity for event in _chosen(host.told, each)) for host, each in zip(hosts, wanted))


def _message(hosts: Sequence[Host], wanted: Wanted) -> Dict[str, Any]:
    told = [(host, _chosen(host.told, each), each) for host, each in zip(hosts, wanted) if _chosen(host.told, each)]
    everything = sorted(((event, host) for host, events, _each in told for event in events), key=lambda one: one[0].rank)
    shown = {id(event) for event, _host in everything[:FINDINGS]}
    worst, where = everything[0]
    statuses = [host.status for host, _events, _each in told]
    return {
        "worst": {"host": where.name, **_finding(worst)},
        "statuses": {status: statuses.count(status) for status in _STATUSES if status in statuses},
        "counts": _counts(event for event, _host in everything),
        "hosts": [_section(host, events, each, shown) for host, events, each in told[:HOSTS]],
        "hosts_more": max(0, len(told) - HOSTS),
    }


def _section(host: Host, events: Sequence[Event], severities: FrozenSet[str], shown: set[int]) -> Dict[str, Any]:
    checks = {str(event.finding.get("check")) for event in events if event.change != "resolved"}
    unlisted = sum(number for check, number in host.unlisted.items() if check in checks)
    return {
        "host": host.name,
        "system": host.system,
        "status": host.status,
        "time": host.time,
        "report_url": host.report_url,
        "counts": _counts(events),
        "findings": [_finding(event) for event in events if id(event) in shown],
        "more": sum(id(event) not in shown for event in events) + unlisted,
        "not_repeated": len(_chosen(host.kept, severities)),
        "contacts": [_contact(contact) for contact in host.contacts[:CONTACTS]],
    }


def _counts(events: Iterable[Event]) -> Dict[str, int]:
    changes = [event.change for event in events]
    return {change: changes.count(change) for change in CHANGES if change in changes}


def _finding(event: Event) -> Dict[str, Any]:
    texts = ("key", "check", "title", "object", "message", "action", "unit", "first_seen")
    return {
        "change": event.change,
        "severity": event.severity,
        **{name: line(event.finding.get(name)) for name in texts},
        "value": _number(event.finding.get("value")),
        "threshold": _number(event.finding.get("threshold")),
        "against": against(_number(event.finding.get("value")), _number(event.finding.get("threshold")), event.finding.get("unit")),
    }


def _contact(contact: Mapping[str, Any]) -> Dict[str, Any]:
    given = contact.get("call_for") or []
    reasons = given if isinstance(given, (list, tuple)) else [given]
    call_for = line(", ".join(map(str, reasons)))
    return {"name": line(contact.get("name"), _NAME), "address": line(contact.get("address"), _NAME), "call_for": call_for}


def _number(value: Any) -> float | None:
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) else None


def _mappings(given: Any) -> Iterator[Mapping[str, Any]]:
    return (one for one in (given if isinstance(given, (list, tuple)) else ()) if isinstance(one, Mapping))


def line(text: Any, most: int = _LINE) -> str:
    """Return `text` in one line of at most `most` characters, nothing that steers a terminal, a header or the writing direction."""
    plain = "".join(" " if unicodedata.category(sign)[0] in "CZ" else sign for sign in str("" if text is None else text)[: 10 * most])
    words = " ".join(plain.split())
    return words if len(words) <= most else words[: most - 1].rstrip() + "\u2026"
