"""Nothing lost, nothing doubled, nothing reordered: judged from the provider's receipts."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations, pairwise
from uuid import UUID

from msgspec import Struct

from chaos.history import FinalState, Outcome, Receipt, Send

OUTCOME_UNKNOWN = "outcome_unknown"


class Judgement(Struct, frozen=True, kw_only=True):
    """The ids of messages that broke a promise, by promise; `acknowledged` counts the 202s.

    `recovered` counts messages that arrived without a promise, `repeated` requests beyond the
    first for a message, kept or not.
    """

    acknowledged: int
    delivered: int
    open: list[UUID]
    lost: list[UUID]
    doubled: list[str]
    reordered: list[tuple[str, int, int]]
    unexpected: list[str]
    recovered: int = 0
    repeated: int = 0

    @property
    def kept(self) -> bool:
        """True when every promise was kept."""
        return not (self.lost or self.doubled or self.reordered or self.unexpected)


def judge(
    sends: Sequence[Send], receipts: Sequence[Receipt], final: Mapping[UUID, FinalState]
) -> Judgement:
    """Classify every message of a run.

    A message that was answered 202 is delivered, visibly open (UNKNOWN, or given up as such), or
    lost. Order counts for first receipts within a lane, and only where the first message was
    acknowledged before the second was sent.
    """
    kept = [receipt for receipt in receipts if receipt.kept]
    counts = Counter(receipt.text for receipt in kept)
    by_content = {send.content: send for send in sends}
    promised = [send for send in sends if send.outcome is Outcome.OK]
    undelivered = [send for send in promised if send.content not in counts]
    shown = {s.message_id for s in undelivered if visibly_open(final.get(s.message_id))}
    return Judgement(
        acknowledged=len(promised),
        delivered=len(promised) - len(undelivered),
        open=[s.message_id for s in undelivered if s.message_id in shown],
        lost=[s.message_id for s in undelivered if s.message_id not in shown],
        doubled=sorted(text for text, count in counts.items() if count > 1),
        reordered=_reordered(by_content, kept),
        unexpected=sorted(counts.keys() - by_content.keys()),
        recovered=sum(s.outcome is not Outcome.OK and s.content in counts for s in sends),
        repeated=len(receipts) - len({receipt.text for receipt in receipts}),
    )


def visibly_open(state: FinalState | None) -> bool:
    """Tell whether the API shows that nobody knows a message's outcome, now or for good."""
    if state is None:
        return False
    return state.status == "UNKNOWN" or (
        state.status == "FAILED" and state.reason == OUTCOME_UNKNOWN
    )


def _reordered(
    by_content: Mapping[str, Send], kept: Sequence[Receipt]
) -> list[tuple[str, int, int]]:
    """Return (lane, earlier, later) where the later sequence was received first."""
    first: dict[str, Receipt] = {}
    for receipt in sorted(kept, key=lambda r: r.seq):
        first.setdefault(receipt.text, receipt)
    lanes: defaultdict[str, list[tuple[Send, Receipt]]] = defaultdict(list)
    for text, receipt in first.items():
        if text in by_content:
            lanes[by_content[text].lane].append((by_content[text], receipt))
    found = []
    for lane, arrivals in lanes.items():
        arrivals.sort(key=lambda arrival: arrival[0].sequence)
        if all(a.seq < b.seq for (_, a), (_, b) in pairwise(arrivals)):
            continue
        for (early, early_receipt), (late, late_receipt) in combinations(arrivals, 2):
            promised = early.outcome is Outcome.OK and early.returned_at < late.invoked_at
            if promised and late_receipt.seq < early_receipt.seq:
                found.append((lane, early.sequence, late.sequence))
    return found
