"""Everything at once: errors, lost answers, throttles, an expired token, a kill, a restart.

Sends messages over many lanes through one channel while its provider and the platform misbehave,
then waits until each is in a final state and judges from the receipts: `just storm`.
"""

import asyncio
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Annotated
from uuid import UUID

import typer
from rich.console import Console

from chaos.adapters.platform import Platform, connect
from chaos.adapters.provider import Provider
from chaos.checkers.deliveries import Judgement, judge
from chaos.history import FinalState, Outcome, Send
from chaos.verdicts import EXIT_CODES, Valid
from chaos.workload import Workload, prepare

FINAL = ("SENT", "DELIVERED", "READ", "FAILED")
SETTLED_DEADLINE_S = 240.0
POLL_S = 1.0
console = Console(highlight=False)


def main(
    channel: Annotated[str | None, typer.Option(help="Else the one with most receipts.")] = None,
    messages: int = 5000,
    lanes: int = 300,
    rate: float = 100.0,
    code: Annotated[int, typer.Option(help="The provider's code of an error of its own.")] = 131016,
) -> None:
    """Run the storm; exit 0 when nothing was lost, doubled or reordered and all is final."""
    valid = asyncio.run(_storm(channel, messages, lanes, rate, code))
    sys.exit(EXIT_CODES[valid])


async def _storm(wanted: str | None, messages: int, lanes: int, rate: float, code: int) -> Valid:
    async with connect() as platform:
        channel = wanted or await _best(platform)
        provider = await platform.provider(channel)
        prepared = await prepare(platform.api, channel, lanes)
        workload = Workload(platform.api, prepared, rate_per_s=rate)
        load = asyncio.create_task(workload.run(messages))
        breaking = asyncio.create_task(
            _break(platform, provider, f"connector-{channel.lower()}", messages / rate, rate, code)
        )
        try:
            sends = await load
        finally:
            breaking.cancel()
            await asyncio.gather(breaking, return_exceptions=True)
            await provider.clear_faults()
        console.print(f"answered: {dict(Counter(send.answer for send in sends))}")
        states = await _settled(platform, sends)
        receipts = [r for r in await provider.receipts() if r.text.startswith(workload.run_id)]
        return _tell(judge(sends, receipts, states), states)


async def _best(platform: Platform) -> str:
    _, body, _ = await platform.api.call("GET", "/channels")
    enabled = [item for item in body["items"] if item["enabled"]]
    return str(max(enabled, key=lambda item: len(item["capabilities"]["receipts"]))["channel"])


async def _break(
    platform: Platform, provider: Provider, connector: str, seconds: float, rate: float, code: int
) -> None:
    """One error in 20 requests, one lost answer in 50, and everything else once in its time."""
    clock = asyncio.get_running_loop().time
    began = clock()
    once: dict[float, Callable[[], Awaitable[object]]] = {
        0.15: lambda: provider.set_fault({"kind": "throttle", "count": 20, "retry_after_s": 1}),
        0.3: lambda: _kill(platform, connector),
        0.45: lambda: provider.set_fault({"kind": "token_expired", "count": 5}),
        0.6: lambda: _kill(platform, "postgres"),
        0.75: lambda: provider.set_fault({"kind": "throttle", "count": 20, "retry_after_s": 2}),
    }
    tick = 0
    while True:
        tick += 1
        await asyncio.sleep(max(0.0, began + tick * 20 / rate - clock()))
        await provider.set_fault({"kind": "error", "code": code, "status": 503, "count": 1})
        if tick % 5 in (2, 4):
            await provider.set_fault({"kind": "answer_lost", "count": 1})
        for share in [share for share in once if clock() - began > share * seconds]:
            await once.pop(share)()


async def _kill(platform: Platform, job: str) -> None:
    victim = (await platform.nomad.victims(job))[0]
    console.print(f"killing {job} {victim.allocation[:8]}")
    await platform.nomad.signal(victim, "SIGKILL")


async def _settled(platform: Platform, sends: list[Send]) -> dict[UUID, FinalState]:
    """Return the states of all accepted messages once each is final, or what they are at last."""
    waiting = [send.message_id for send in sends if send.outcome is Outcome.OK]
    states: dict[UUID, FinalState] = {}
    clock = asyncio.get_running_loop().time
    ends = clock() + SETTLED_DEADLINE_S
    while waiting and clock() < ends:
        states |= await platform.api.final_states(waiting)
        waiting = [one for one in waiting if one not in states or states[one].status not in FINAL]
        if waiting:
            console.print(f"{len(waiting)} messages are not final yet")
            await asyncio.sleep(POLL_S)
    return states


def _tell(judgement: Judgement, states: dict[UUID, FinalState]) -> Valid:
    found = Counter(f"{s.status} {s.reason or ''}".strip() for s in states.values())
    console.print(f"final states: {dict(found)}")
    console.print(
        f"accepted {judgement.acknowledged}, delivered {judgement.delivered}, visibly open "
        f"{len(judgement.open)}, lost {len(judgement.lost)}, doubled {len(judgement.doubled)}, "
        f"reordered {len(judgement.reordered)}"
    )
    failed = [m for m in judgement.lost if m in states and states[m].status == "FAILED"]
    console.print(f"of the lost {len(failed)} are dead letters, with their reason")
    unfinished = [state for state in states.values() if state.status not in FINAL]
    broken = judgement.doubled or judgement.reordered or judgement.unexpected
    kept = not broken and len(failed) == len(judgement.lost) and not unfinished
    return Valid.TRUE if kept else Valid.FALSE


if __name__ == "__main__":
    typer.run(main)
