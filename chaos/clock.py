"""The harness's one clock: seconds since the epoch that never jump."""

import time


class Clock:
    """Starts at the wall clock's time and goes on with the monotonic clock."""

    def __init__(self) -> None:
        self.anchor()

    def anchor(self) -> None:
        """Take the wall clock's time anew, before anything is measured."""
        self._epoch = time.time() - time.monotonic()

    def now(self) -> float:
        """Return the time on the harness's axis."""
        return self._epoch + time.monotonic()

    def stepped_s(self) -> float:
        """Return how far the wall clock, which other sources use, has moved away since."""
        return abs(time.time() - self.now())
