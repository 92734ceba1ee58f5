# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a report says things: amounts with their units, moments, and texts of others that are cut and made safe for where they stand."""

from __future__ import annotations

import hashlib
import html
import math
import re
from datetime import datetime, timedelta, timezone
from typing import Any, Callable

from ansible_collections.pgops.runbook.plugins.plugin_utils._charts import DAY, HOUR, MINUTE, MONTHS, number

# Of a text of others, such as a name or a message: so much is shown, the rest is in the JSON.
MOST_TEXT = 600
MOST_NAME = 220

_SIZES = (("PB", 1 << 50), ("TB", 1 << 40), ("GB", 1 << 30), ("MB", 1 << 20), ("kB", 1 << 10))
_LONG = (("d", DAY, "h", HOUR), ("h", HOUR, "min", MINUTE), ("min", MINUTE, "s", 1))
_STAMP = re.compile(r"(\d{4})-(\d\d)-(\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d)(?:\.\d+)?)?\s*(Z|UTC|[+-]\d\d(?::?\d\d)?)?)?\s*", re.IGNORECASE)
# What no text of a report may hold: controls, and what turns the direction of the text around it.
_UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ufffe\uffff\ud800-\udfff]+")
_STATEMENT = re.compile(
    r"(?:(?<=: )|(?<=; )|^)"
    r"(?=(?:ALTER|ANALYZE|CALL|CHECKPOINT|CLUSTER|COMMIT|CREATE|DELETE|DO|DROP|GRANT|INSERT|LOCK|REASSIGN|REFRESH|REINDEX|RESET|REVOKE"
    r"|ROLLBACK|SELECT|SET|TRUNCATE|UPDATE|VACUUM|WITH)\b)"
    r"""((?:"(?:[^"]|"")*"|'(?:[^']|'')*'|[^;"'])+);"""
)
_ESCAPED_IN_MARKDOWN = re.compile(r"([\\`*_\[\]|~#])")


def amount(value: Any, unit: str | None = None) -> str:
    """Return a number as people read it in its unit: `1.5 GB`, `2 h 5 min`, `82.5 %`, `1,234`; a dash where there is none."""
    found = number(value)
    if found is None:
        return "-"
    if unit == "bytes":
        return _size(found)
    if unit == "seconds":
        return _duration(found)
    if unit == "percent":
        return f"{_plain(found)} %"
    return _plain(found)


def _plain(value: float) -> str:
    if value and (abs(value) >= 1e15 or abs(value) < 0.001):
        return f"{value:.3g}"
    digits = 0 if abs(value) >= 1000 or value == int(value) else 1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3
    text = f"{value:,.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _size(value: float) -> str:
    for unit, size in _SIZES:
        if abs(value) >= size:
            return f"{_plain(value / size)} {unit}"
    return f"{_plain(value)} B"


def _duration(seconds: float) -> str:
    if abs(seconds) >= 1000 * DAY:
        return f"{_plain(round(seconds / DAY))} d"
    for unit, size, smaller, part in _LONG:
        if abs(seconds) >= size:
            whole, rest = divmod(round(abs(seconds) / part), size // part)
            return f"{'-' if seconds < 0 else ''}{whole} {unit}{f' {rest} {smaller}' if rest else ''}"
    if 0 < abs(seconds) < 1:
        return f"{_plain(seconds * 1000)} ms"
    return f"{_plain(seconds)} s"


def epoch(text: Any) -> float | None:
    """Return the seconds since the epoch of an ISO moment, in UTC where it names no zone; None where it is none."""
    match = _STAMP.fullmatch(str(text)) if isinstance(text, (str, datetime)) else None
    if match is None:
        return None
    year, month, day, hour, minute, second = (int(part or 0) for part in match.groups()[:6])
    try:
        moment = datetime(year, month, day, hour, minute, min(second, 59), tzinfo=timezone.utc)
        zone = match.group(7) or "Z"
        if zone[0] in "+-":
            ahead = timedelta(hours=int(zone[1:3]), minutes=int(zone[3:].lstrip(":") or 0))
            moment -= ahead if zone[0] == "+" else -ahead
        return moment.timestamp()
    except (OverflowError, ValueError):
        return None


def moment(value: Any, *, seconds: bool = False) -> str:
    """Return an ISO moment or seconds since the epoch as `21 Nov 2026 10:35 UTC`; what is neither comes back as it is, cut."""
    at = epoch(value) if not isinstance(value, (int, float)) else number(value)
    if at is None or not 0 <= at < 253370764800:
        return tidy(value, 40) if value else "-"
    when = datetime.fromtimestamp(at, timezone.utc)
    return (
        f"{when.day} {MONTHS[when.month - 1]} {when.year} {when:%H:%M:%S} UTC"
        if seconds
        else (f"{when.day} {MONTHS[when.month - 1]} {when.year} {when:%H:%M} UTC")
    )


def day(value: Any) -> str:
    """Return the day of an ISO moment as `21 Nov 2026`."""
    return " ".join(moment(value).split(" ")[:3])


def tidy(text: Any, most: int = MOST_TEXT) -> str:
    """Return a text of others in one line, without controls, cut to `most` characters."""
    if text is None:
        return ""
    whole = " ".join(_UNSEEN.sub(" ", str(text)[: 20 * most]).split())
    return whole if len(whole) <= most else whole[: most - 1].rstrip() + "\u2026"


def statements(action: Any) -> list[str]:
    """Return the statements that an action tells a person to run, each with its semicolon."""
    return [f"{tidy(found, 2000)};" for found in _STATEMENT.findall(tidy(action, 6000))][:10]


def plural(count: int, noun: str) -> str:
    """Return `1 finding`, `2 findings`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def for_html(text: str) -> str:
    """Return a text that means itself between tags and in attributes with quotes."""
    return html.escape(text, quote=True)


def for_markdown(text: str) -> str:
    """Return a text that means itself in a line or a cell of Markdown, HTML in it included."""
    safe = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _ESCAPED_IN_MARKDOWN.sub(r"\\\1", safe)


def everywhere(model: Any, escape: Callable[[str], str], plain: frozenset[str] = frozenset()) -> Any:
    """Return `model` with every text below it escaped, so that no template can forget one; those under the keys `plain` stay."""
    if isinstance(model, dict):
        return {key: value if key in plain else everywhere(value, escape, plain) for key, value in model.items()}
    if isinstance(model, (list, tuple)):
        return [everywhere(one, escape, plain) for one in model]
    if isinstance(model, float) and not math.isfinite(model):
        return 0
    return escape(model) if isinstance(model, str) else model


def file_name(name: Any) -> str:
    """Return a file name for `name`: letters, digits, dot, dash and underscore; two names never share one.

    What had to be changed gets a fingerprint of the whole name behind it.
    """
    whole = str(name)
    safe = re.sub(r"[^A-Za-z0-9._-]+", "_", whole).lstrip(".-")[:80]
    # `<host>.drill` is the page about a drill of the host.
    if safe and safe == whole and safe.lower() not in ("fleet", "con", "nul", "aux", "prn") and not safe.lower().endswith(".drill"):
        return safe
    fingerprint = hashlib.sha256(whole.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{safe or 'host'}-{fingerprint}"
