"""What the configuration predicts: outside of it lies a wrong setting or a broken measurement."""

from chaos.faults.kill import Kill
from chaos.faults.pause import Pause
from chaos.observations import Interval
from chaos.scenario import Scenario

EVICTION_S = 0.05
"""A survivor sees the closed connection, is refused once more, and tells the broker."""
RESTART_S = 1.0
"""Nomad's delay: whoever is started again joins, and the dead are given up with that rebalance."""
CHECK_S = 0.5
"""The broker looks for expired sessions about this often."""


def predicted(scenario: Scenario, *, eviction: bool) -> dict[str, Interval]:
    """Return what detection and rebalance should take where somebody survives to see it."""
    timers, found = scenario.timers, dict[str, Interval]()
    silent = any(isinstance(fault, Pause) for fault in scenario.faults)
    kills = [fault for fault in scenario.faults if isinstance(fault, Kill)]
    if any(kill.select == "all" for kill in kills):
        return found
    if kills and eviction and not silent:
        found["detection_s"] = Interval(0.0, EVICTION_S)
    elif silent or kills:
        lo = timers.session - timers.heartbeat
        if kills:
            lo = min(lo, RESTART_S + timers.rebalance)
        found["detection_s"] = Interval(lo, timers.session + CHECK_S)
    if found:
        found["rebalance_s"] = Interval(0.0, float(timers.rebalance))
    return found
