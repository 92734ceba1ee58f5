"""A clock of a module's own."""

from __future__ import annotations


class Clock:
    """What a module knows of time instead of the real one: nothing passes on it but what the module sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        """Return the time."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds
