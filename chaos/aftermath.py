"""What the provider keeps of a repeat after that was judged: a second delivery may come late."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from chaos import archive
from chaos.adapters import NO_ANSWER
from chaos.pulse import Witness
from chaos.verdicts import Valid, Verdict


class Aftermath:
    """Takes the receipts of each repeat off the witnesses, and remembers only the late ones.

    What was kept in time stands in the history on the disk, however long the campaign.
    """

    def __init__(self, folder: Path, witnesses: Sequence[Witness]) -> None:
        self._folder = folder
        self._witnesses = witnesses
        self._runs: set[str] = set()
        self._late: Counter[str] = Counter()

    def judged(self, run_id: str) -> None:
        """Begin to call late what belongs to a run of the workload."""
        self._collect()
        self._runs.add(run_id)

    async def verdict(self) -> Verdict | None:
        """Return what it says against the repeats, None when it says nothing."""
        try:
            doubled = await self._doubled()
        except NO_ANSWER:
            reason = "the witness could not be read at the end: did messages come again?"
            return Verdict(name="doubled", valid=Valid.UNKNOWN, reason=reason)
        if not doubled:
            return None
        reason = f"{doubled} messages were delivered again after they were judged"
        return Verdict(name="doubled", valid=Valid.FALSE, reason=reason)

    async def _doubled(self) -> int:
        """Count the messages that were kept once or never in time, and twice by now."""
        for witness in self._witnesses:
            await witness.catch_up()
        self._collect()
        if not self._late:
            return 0
        before = archive.kept(self._folder, self._late)
        return sum(before[text] <= 1 < before[text] + n for text, n in self._late.items())

    def _collect(self) -> None:
        for witness in self._witnesses:
            receipts, witness.receipts = witness.receipts, []
            self._late.update(
                receipt.text
                for receipt in receipts
                if receipt.kept and receipt.text.partition(" ")[0] in self._runs
            )
