"""Collects observations, numbers them, and tells those who follow a run."""

from collections.abc import Callable
from typing import Any

from chaos.clock import Clock
from chaos.observations import Interval, Kind, Observation, Source


class Recorder:
    """The observations of a campaign in the order in which they arrived, until they are taken."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.observations: list[Observation] = []
        self.blind: list[tuple[float, str]] = []
        """When a source could not see, and why."""
        self.listeners: list[Callable[[Observation], None]] = []
        self._taken = 0

    def see(self, source: Source, kind: Kind, when: Interval, **more: Any) -> Observation:
        """Keep an observation, and tell it."""
        found = self.sample(source, kind, when, **more)
        for listener in self.listeners:
            listener(found)
        return found

    def sample(self, source: Source, kind: Kind, when: Interval, **more: Any) -> Observation:
        """Keep a measurement that is taken again and again, which is no news."""
        found = Observation(
            source=source,
            kind=kind,
            when=when,
            seen_at=self.clock.now(),
            number=self._taken + len(self.observations) + 1,
            **more,
        )
        self.observations.append(found)
        return found

    def miss(self, source: Source, reason: str) -> None:
        """Keep that a source could not see."""
        self.blind.append((self.clock.now(), f"{source}: {reason}"))

    def since(self, at: float) -> list[Observation]:
        """Return what happened after a time, of what was not taken."""
        return [o for o in self.observations if o.when.hi >= at]

    def take(self) -> list[Observation]:
        """Return all that was not taken yet and keep it no longer; numbers go on."""
        taken, self.observations = self.observations, []
        self._taken += len(taken)
        return taken
