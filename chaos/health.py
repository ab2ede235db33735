"""Whether the platform is well: instances, consumer groups, deliveries."""

from collections.abc import Mapping

from chaos.adapters.kafka import STABLE
from chaos.adapters.observers import Observers
from chaos.pulse import Pulse
from services.contracts.topics import PARTITIONS


class Health:
    """Looks at what the observers and the pulse know; `ill` says what is wrong first."""

    def __init__(
        self,
        observers: Observers,
        wanted: Mapping[str, int],
        groups: Mapping[str, str],
        pulse: Pulse,
        patience_s: float,
    ) -> None:
        self._observers = observers
        self._wanted = wanted
        self._groups = groups
        self._pulse = pulse
        self._patience_s = patience_s

    def instances(self) -> str | None:
        """Return which job or group is not complete; None when all are."""
        for job, wanted in self._wanted.items():
            found = len(self._observers.passing.get(job, ()))
            if found < wanted:
                return f"{found} of {wanted} {job} pass their checks"
        for job, group in self._groups.items():
            state = self._observers.groups.get(group)
            if state is None:
                return f"the group {group} was not seen yet"
            if state.state != STABLE or len(state.members) != self._wanted[job]:
                return f"the group {group} is {state.state} with {len(state.members)} members"
            owned = {p for member in state.members for p in member.partitions}
            if len(owned) != PARTITIONS:
                return f"{PARTITIONS - len(owned)} partitions of {group} have no owner"
        return None

    def deliveries(self) -> str | None:
        """Return what is wrong with the load; None when it flows."""
        p99_s = self._pulse.p99_s()
        if p99_s is None:
            return "nothing was delivered lately"
        if p99_s > self._patience_s:
            return f"the p99 of deliveries is {p99_s:.1f} s"
        overdue = len(self._pulse.overdue(self._patience_s))
        return f"{overdue} messages are overdue" if overdue else None

    def ill(self) -> str | None:
        """Return what is wrong first; None when all is well."""
        return self.instances() or self.deliveries()
