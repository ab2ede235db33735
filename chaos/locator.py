"""Says where a missing message was seen last."""

from collections.abc import Iterable, Mapping, Sequence
from uuid import UUID

from chaos.checkers.deliveries import Judgement
from chaos.history import FinalState, Receipt, Send

STORIES_MAX = 20


def last_seen(send: Send, state: FinalState | None, receipts: Iterable[Receipt]) -> str:
    """Return the last place that knows of a message, from what the API and the provider say."""
    attempts = sum(receipt.text == send.content for receipt in receipts)
    if attempts:
        return f"at the provider, which was asked {attempts} times and kept nothing"
    if state is None:
        return "in the answer of the API; its state could not be read"
    if state.status == "HTTP 404":
        return "in the answer of the API; the store does not know it"
    if state.status == "PENDING":
        return "in the store; neither the router nor a connector told of it"
    reason = f" ({state.reason})" if state.reason else ""
    return f"at a connector, which says {state.status}{reason}; the provider never had it"


def stories(
    judgement: Judgement,
    sends: Iterable[Send],
    states: Mapping[UUID, FinalState],
    receipts: Sequence[Receipt],
) -> dict[str, str]:
    """Return what became of the first messages that were lost, doubled or reordered."""
    by_id = {send.message_id: send for send in sends}
    found = {
        str(i): f"was seen last {last_seen(by_id[i], states.get(i), receipts)}"
        for i in judgement.lost[:STORIES_MAX]
    }
    for text in judgement.doubled[:STORIES_MAX]:
        kept = [f"{r.received_at:.3f}" for r in receipts if r.kept and r.text == text]
        found[text] = f"was kept {len(kept)} times, at {' and '.join(kept)}"
    for lane, early, late in judgement.reordered[:STORIES_MAX]:
        found[f"{lane} {early}"] = f"arrived after {late}, which was sent later"
    return found
