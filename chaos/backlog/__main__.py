"""A backlog on one throttled account: memory stays flat, the others fast, restarts short.

Puts many deliveries on one account of a channel while its provider throttles that account, and
judges what the rest of the platform notices: `just backlog`. The deliveries go straight into the
channel's topic and no message stands behind them; at the end their rows are deleted from the
ledger. A sample of real messages waits among them, and is delivered when the throttle is lifted.
"""

import asyncio
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated
from uuid import UUID

import aiohttp
import asyncpg
import typer
from aiokafka.errors import KafkaError
from rich.console import Console

from chaos.adapters import NO_ANSWER, consul, processes
from chaos.adapters.api import Api, Refused
from chaos.adapters.nomad import NoSuchJob, NotAllowed, Victim
from chaos.adapters.platform import NoPlatform, Platform, connect
from chaos.adapters.provider import Provider
from chaos.backlog import figures
from chaos.backlog.figures import Felt, Scene, Unfit
from chaos.backlog.memory import Memory
from chaos.backlog.rows import Backlog, opened
from chaos.checkers.deliveries import Judgement, judge
from chaos.history import FinalState, Outcome, Receipt, Send
from chaos.pulse import Witness
from chaos.units import show
from chaos.verdicts import EXIT_CODES, EXIT_CRASHED, Valid, Verdict, overall
from chaos.waiting import Late, until
from chaos.workload import PREPARE_CONCURRENCY, Lane, Workload, prepare

RETRY_AFTER_S = 30
"""What the provider says each time; it says so for as long as the fault stands."""
LANES = 20
SAMPLE_LANES, SAMPLE, SAMPLE_PER_S = 50, 500, 50.0
ARRIVED_DEADLINE_S = 30.0
READY_DEADLINE_S = 60.0
DRAINED_DEADLINE_S = 180.0
"""Connectors try again when the last Retry-After has passed, and look at a lane each 30 s."""
ASKED_AT_ONCE = 20
TELL_EVERY_S = 5.0
POLL_S = 0.5
READY_TIMEOUT = aiohttp.ClientTimeout(total=2)
REFUSED = (
    *(Unfit, NoPlatform, Refused, NotAllowed, NoSuchJob, Late),
    *(consul.NotFound, processes.NotHere),
)
AWAY = (
    *(aiohttp.ClientError, OSError, TimeoutError, KafkaError),
    *(asyncpg.PostgresError, asyncpg.InterfaceError),
)
console = Console(highlight=False, soft_wrap=True)


@dataclass(frozen=True)
class Way:
    """Conversations with customers of one account, and what their provider receives."""

    name: str
    lanes: Sequence[Lane]
    witness: Witness


@dataclass(frozen=True)
class Field:
    """All that a run needs, ready before anything is broken."""

    platform: Platform
    scene: Scene
    provider: Provider
    backlog: Backlog
    memory: Memory
    free: Way
    other: Way
    sample: Way


def main(
    channel: Annotated[str | None, typer.Option(help="Else the first with two accounts.")] = None,
    deliveries: Annotated[int, typer.Option(min=1)] = 100_000,
    lanes: Annotated[int, typer.Option(min=1, max=10_000)] = 4000,
    hold: Annotated[float, typer.Option(min=1, help="Seconds of load, before and during.")] = 60.0,
    rate: Annotated[float, typer.Option(min=0.1, help="Messages per second on each way.")] = 10.0,
) -> None:
    """Show backpressure; exit 0 when all was kept, 1 when not, 2 when it cannot be told."""
    try:
        valid = asyncio.run(_show(channel, deliveries, lanes, hold, rate))
    except (*REFUSED, *AWAY) as error:
        sys.stderr.write(f"{error or type(error).__name__}\n")
        valid = Valid.UNKNOWN
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        valid = Valid.UNKNOWN
    except Exception:  # noqa: BLE001 - a mistake of the harness is no verdict
        console.print_exception()
        sys.exit(EXIT_CRASHED)
    sys.exit(EXIT_CODES[valid])


async def _show(wanted: str | None, deliveries: int, lanes: int, hold: float, rate: float) -> Valid:
    async with connect() as platform:
        status, body, _ = await platform.api.call("GET", "/channels")
        if status != 200:  # noqa: PLR2004
            raise NoPlatform(f"GET /channels was answered {status}: {body}")
        scene = figures.choose(body["items"], wanted)
        provider = await platform.provider(scene.channel)
        if await provider.faults():
            where = f"{provider.url}/_sim/faults"
            raise Unfit(f"The provider has faults already: curl -X DELETE {where}")
        await platform.nomad.definition(scene.job)
        async with opened(platform, scene) as backlog:
            field = await _prepare(platform, scene, provider, backlog)
            try:
                verdicts = await _run(field, deliveries, lanes, hold, rate)
            finally:
                await _clean(field)
    return _tell(verdicts, field.memory)


async def _prepare(platform: Platform, scene: Scene, provider: Provider, backlog: Backlog) -> Field:
    console.print(
        f"{scene.channel}: {scene.throttled} will be throttled, "
        f"{scene.free} and {scene.other} must not notice"
    )
    api, witness = platform.api, await Witness.begin(provider)
    beside = await Witness.begin(await platform.provider(scene.other))
    free = await _customers(api, scene.channel, scene.free, LANES)
    sample = await _customers(api, scene.channel, scene.throttled, SAMPLE_LANES)
    other = await prepare(api, scene.other, LANES)
    return Field(
        platform=platform,
        scene=scene,
        provider=provider,
        backlog=backlog,
        memory=Memory(platform.nomad, scene.job),
        free=Way(f"{scene.channel} {scene.free}", free, witness),
        other=Way(scene.other, other, beside),
        sample=Way(f"{scene.channel} {scene.throttled}", sample, witness),
    )


async def _customers(api: Api, channel: str, account: str, count: int) -> list[Lane]:
    """Create customers who are reached through one account, each with a conversation."""
    agent = (await api.create("users", {"kind": "AGENT", "name": "Load agent"}))["user_id"]
    turns = asyncio.Semaphore(PREPARE_CONCURRENCY)
    base = random.randrange(10**6, 10**7)  # noqa: S311 - telephone numbers of nobody

    async def one(number: int) -> Lane:
        async with turns:
            user = {"kind": "CUSTOMER", "name": f"Customer {number}"}
            customer = str((await api.create("users", user))["user_id"])
            address = f"1997{base}{number:04d}"
            identity = {"user_id": customer, "channel": channel, "address": address}
            await api.create("identities", {**identity, "account": account})
            conversation = await api.conversation([agent, customer], channel)
            return Lane(conversation_id=conversation, sender_id=agent, address=address)

    return list(await asyncio.gather(*map(one, range(count))))


async def _run(
    field: Field, deliveries: int, lanes: int, hold: float, rate: float
) -> list[Verdict]:
    """Go through all phases; return a verdict for each promise."""
    backlog, memory = field.backlog, field.memory
    messages = max(1, round(hold * rate))
    console.print(f"{messages} messages on each way before the backlog, in {hold:.0f} s")
    async with memory.noting(figures.BEFORE):
        before = await _both(field, messages, rate)
    if not memory.noted[figures.BEFORE]:
        raise Unfit(f"No process of {field.scene.job} runs on this machine.")
    account = field.scene.throttled
    fault = {"kind": "throttle", "account": account, "retry_after_s": RETRY_AFTER_S}
    number = await field.provider.set_fault(fault)
    async with memory.noting("during the fill"):
        await _fill(backlog, deliveries, lanes)
    await memory.note("after the fill")
    verdicts = [figures.waiting("after the fill", await backlog.states(), deliveries)]
    sample, sends = await _send_sample(field)
    console.print(f"{messages} messages on each way beside the backlog, in {hold:.0f} s")
    async with memory.noting("while it waits"):
        during = await _both(field, messages, rate)
    verdicts += [figures.swift(*pair) for pair in zip(before, during, strict=True)]
    verdicts += await _restart(field)
    verdicts.append(figures.memory(memory.noted))
    states = await backlog.states()
    verdicts.append(figures.waiting("after the restart", states, deliveries))
    console.print("deleting the backlog from the ledger; the sample stays")
    await backlog.take_out()
    hits = (await field.provider.faults()).get(number, 0)
    await field.free.witness.catch_up()
    kept = figures.leaked(field.free.witness.receipts, [backlog.run_id, sample])
    verdicts.append(figures.throttle(hits, kept))
    await field.provider.clear_faults()
    verdicts.append(figures.drained(await _drain(field, sample, sends)))
    sent = figures.leaked(field.free.witness.receipts, [backlog.run_id])
    return [*verdicts, figures.removed(sent)]


async def _fill(backlog: Backlog, deliveries: int, lanes: int) -> None:
    clock = asyncio.get_running_loop().time
    began = told = clock()
    console.print(f"putting {deliveries} deliveries on {lanes} lanes into the topic")
    await backlog.fill(deliveries, lanes)
    console.print(f"they are in the topic after {show(clock() - began)}")

    def tell(left: int) -> None:
        nonlocal told
        if left and clock() >= told + TELL_EVERY_S:
            told = clock()
            console.print(f"{left} are not in the ledger yet")

    await backlog.taken_in(tell)
    console.print(f"they are in the ledger after {show(clock() - began)}")


async def _both(field: Field, messages: int, rate: float) -> list[Felt]:
    api = field.platform.api
    ways = (field.free, field.other)
    return list(await asyncio.gather(*(_feel(api, way, messages, rate) for way in ways)))


async def _feel(api: Api, way: Way, messages: int, rate: float) -> Felt:
    """Send messages on one way; return how they fared once all have arrived or are late."""
    sends = await Workload(api, way.lanes, rate_per_s=rate, clock=time.time).run(messages)
    found = figures.felt(way.name, sends, way.witness.receipts)

    async def arrived() -> bool:
        nonlocal found
        await way.witness.catch_up()
        found = figures.felt(way.name, sends, way.witness.receipts)
        return len(found.delays_s) == found.accepted

    try:
        await until("every delivery", arrived, ARRIVED_DEADLINE_S, poll_s=POLL_S)
    except Late as error:
        console.print(f"{way.name}: {error}")
    console.print(f"{way.name}: {found}")
    return found


async def _send_sample(field: Field) -> tuple[str, list[Send]]:
    """Send real messages behind the backlog; return what they begin with."""
    workload = Workload(
        field.platform.api, field.sample.lanes, rate_per_s=SAMPLE_PER_S, clock=time.time
    )
    console.print(f"{SAMPLE} messages to customers of the throttled account")
    return workload.run_id, await workload.run(SAMPLE)


async def _restart(field: Field) -> list[Verdict]:
    """Kill every connector of the channel; return when each was ready and delivered again."""
    nomad, clock = field.platform.nomad, asyncio.get_running_loop().time
    victims = await nomad.victims(field.scene.job)
    old = {v: processes.of_task(v.allocation, v.task)[0] for v in victims}
    console.print(f"killing all {len(victims)} {field.scene.job}")
    killed_at, began = time.time(), clock()
    for victim in victims:
        await nomad.signal(victim, "SIGKILL")

    async def ready(victim: Victim) -> float | None:
        async def is_ready() -> bool:
            return processes.state(old[victim]) is None and await _is_ready(field, victim)

        try:
            await until("being ready", is_ready, READY_DEADLINE_S)
        except Late:
            return None
        return clock() - began

    times = await asyncio.gather(*map(ready, victims))
    ready_s = {victim.allocation: s for victim, s in zip(victims, times, strict=True)}
    async with field.memory.noting("after the restart"):
        found = await _feel(field.platform.api, field.free, LANES, float(LANES))
    last = max((r.received_at for r in field.free.witness.receipts if r.kept), default=killed_at)
    return [figures.restarted(ready_s), figures.after_restart(found, last - killed_at)]


async def _is_ready(field: Field, victim: Victim) -> bool:
    """Tell whether Consul passes an instance and the instance itself says that it is ready."""
    session = field.platform.session
    path = f"{field.platform.consul_url}/v1/health/service/{field.scene.job}"
    async with session.get(path, params={"passing": "true"}) as answer:
        answer.raise_for_status()
        services = [entry["Service"] for entry in await answer.json()]
    for service in services:
        if victim.allocation in service["ID"]:
            url = f"http://{service['Address']}:{service['Port']}/health/ready"
            try:
                async with session.get(url, timeout=READY_TIMEOUT) as answer:
                    return answer.ok
            except NO_ANSWER:
                return False
    return False


async def _drain(field: Field, run: str, sends: Sequence[Send]) -> Judgement:
    """Wait until each message of the sample is delivered or visibly unknown, and judge them."""
    clock = asyncio.get_running_loop().time
    began = clock()
    console.print("the throttle is lifted, the sample drains")
    accepted = {send.content: send.message_id for send in sends if send.outcome is Outcome.OK}
    witness = field.sample.witness
    states: dict[UUID, FinalState] = {}

    def receipts() -> list[Receipt]:
        return [r for r in witness.receipts if r.text.startswith(run)]

    async def drained() -> bool:
        await witness.catch_up()
        missing = accepted.keys() - {r.text for r in receipts() if r.kept}
        if len(missing) > ASKED_AT_ONCE:
            return False
        for text in missing:
            states[accepted[text]] = await field.platform.api.final_state(accepted[text])
        return not judge(sends, receipts(), states).lost

    try:
        await until("the sample draining", drained, DRAINED_DEADLINE_S, poll_s=POLL_S)
        console.print(f"the sample drained in {show(clock() - began)}")
    except Late as error:
        console.print(str(error))
    return judge(sends, receipts(), states)


async def _clean(field: Field) -> None:
    """Take out what is left of the backlog, and only then lift the throttle."""
    where = f"{field.provider.url}/_sim/faults"
    if not field.backlog.is_empty:
        console.print("taking the backlog out before the throttle is lifted")
    try:
        await field.backlog.take_out()
    except (Late, *AWAY) as error:
        console.print(
            f"The backlog could not be removed ({error!r}), so its account stays throttled: "
            f"{field.backlog.by_hand}; then curl -X DELETE {where}",
            markup=False,
        )
        return
    await field.provider.clear_faults()


def _tell(verdicts: Sequence[Verdict], memory: Memory) -> Valid:
    for line in figures.memory_lines(memory.noted):
        console.print(line)
    words = {Valid.TRUE: "kept", Valid.FALSE: "broken", Valid.UNKNOWN: "not judged"}
    for verdict in verdicts:
        console.print(f"{words[verdict.valid]:10} {verdict.name}: {verdict.reason}", markup=False)
    return overall(verdict.valid for verdict in verdicts)


if __name__ == "__main__":
    typer.run(main)
