"""What the configuration predicts: outside of it lies a wrong setting or a broken measurement."""

from chaos.faults.kill import Kill
from chaos.faults.pause import Pause
from chaos.observations import Interval
from chaos.scenario import Scenario

EVICTION_S = 0.05
"""A survivor sees the closed connection, is refused once more, and tells the broker."""
CHECK_S = 0.5
"""The broker looks for expired sessions about this often."""


def predicted(scenario: Scenario, *, eviction: bool) -> dict[str, Interval]:
    """Return what detection and rebalance should take."""
    timers, found = scenario.timers, {}
    silent = any(isinstance(fault, Pause) for fault in scenario.faults)
    if any(isinstance(fault, Kill) for fault in scenario.faults) and eviction and not silent:
        found["detection_s"] = Interval(0.0, EVICTION_S)
    elif silent or any(isinstance(fault, Kill) for fault in scenario.faults):
        lo = timers.session - timers.heartbeat
        found["detection_s"] = Interval(lo, timers.session + CHECK_S)
    if found:
        found["rebalance_s"] = Interval(0.0, float(timers.rebalance))
    return found
