"""Stretches of time that made-up rows lie in, cut so that no row crosses a retention limit while a test or a demo runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

# Rows keep clear of every cut-off by this much, so that check mode and a run a quarter of an hour later count alike.
SAFE_SECONDS = 900.0
DAY = 86400.0


@dataclass(frozen=True)
class Band:
    """A stretch from `low` to `high` seconds after now; both negative in the past."""

    low: float
    high: float

    def older_than(self, age: float) -> bool:
        """Say whether every moment of the band is more than `age` seconds ago; by construction all are or none is."""
        return self.high < -age


@dataclass(frozen=True)
class Weighted:
    """A band, or None for NULL, and its share of the rows."""

    band: Band | None
    weight: float


def of_expiry(ages: Sequence[float], skew: float, *, nullable: bool, margin: float = SAFE_SECONDS) -> list[Weighted]:
    """Return bands of a time of expiry that retention removes at `ages` (seconds): about 60 % lie in the past."""
    limits = sorted({0.0, *ages})
    alive = [Weighted(Band(margin, margin + DAY), 0.3 if nullable else 0.4)]
    return alive + [Weighted(None, 0.1)] * nullable + _past(limits, skew, margin, 0.6)


def of_event(ages: Sequence[float], skew: float, *, nullable: bool, margin: float = SAFE_SECONDS) -> list[Weighted]:
    """Return bands of something that has happened, such as a creation; where it may be NULL it has mostly not happened."""
    limits = sorted(set(ages))
    # A limit of a quarter of an hour leaves no room for rows that stay below it for as long: those are seconds old.
    roomy = limits[0] > 2 * margin
    young = Band(-(limits[0] - margin) if roomy else -0.05 * limits[0], -0.5)
    if nullable:
        return [Weighted(None, 0.85), Weighted(young, 0.05), *_past(limits, skew, margin, 0.1)]
    return [Weighted(young, 0.4 if roomy else 0.04), *_past(limits, skew, margin, 0.6)]


def _past(limits: Sequence[float], skew: float, margin: float, share: float) -> list[Weighted]:
    """Return bands between the limits and one beyond the last, each lighter than the one before; together `share`."""
    bands = [Band(-after + margin, -limit - skew - margin) for limit, after in pairwise(limits)]
    last = limits[-1]
    bands.append(Band(-(last + skew + 2 * margin + max(0.5 * last, 2 * DAY)), -last - skew - margin))
    bands = [band for band in bands if band.low < band.high]
    weights = [0.6**number for number in range(len(bands))]
    return [Weighted(band, share * weight / sum(weights)) for band, weight in zip(bands, weights, strict=True)]


def divide(rows: int, weights: Sequence[float]) -> list[int]:
    """Divide `rows` by `weights` into whole numbers that add up to it; every part gets a row where there are enough."""
    least = 1 if rows >= len(weights) else 0
    total = sum(weights)
    exact = [least + (rows - least * len(weights)) * weight / total for weight in weights]
    parts = [int(share) for share in exact]
    for number in sorted(range(len(weights)), key=lambda at: parts[at] - exact[at])[: rows - sum(parts)]:
        parts[number] += 1
    return parts
