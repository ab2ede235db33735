"""The running API against its own description: whatever is asked, the answer is a described one."""

import asyncio
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Any
from uuid import uuid4

import pytest
import schemathesis
from schemathesis import APIOperation, BaseSchema, Case, CheckContext, Config, HookContext, Response
from schemathesis.core.result import Ok
from schemathesis.engine import Status, events, from_schema
from schemathesis.openapi.checks import RejectedPositiveData

from chaos.adapters.api import Api
from chaos.adapters.platform import Platform
from chaos.workload import Lane, prepare

pytestmark = pytest.mark.cluster

CASES = 2_000
EXAMPLES_PER_OPERATION = 40
TIME_MAX_S = 240
"""Far more than it takes; what counts is how much was asked."""
ACCEPTED_SHARE_MIN = 0.3
APPEARS_DEADLINE_S = 10.0
POLL_S = 0.05
SEEDED = 0.9
"""How often something that exists is asked for."""
PROBLEM_TYPE = "application/problem+json"
FORM_CODES = (
    "invalid_json",
    "invalid_query",
    "unsupported_media_type",
    "invalid_field",
    "missing_field",
    "unknown_field",
)
"""Nothing that has the described form is refused with these; other refusals are about state."""
Seeds = Mapping[str, list[str]]
AnyCase = Case[APIOperation[Any, Any, Any, Any]]


@pytest.fixture(scope="module")
async def seeds(platform: Platform, channel: str) -> Seeds:
    """Create one of everything, and some that may be removed; return their ids."""
    api = platform.api
    lane = (await prepare(api, channel, 1))[0]
    provider = await platform.provider(channel)
    await provider.post("messages", {"from": lane.address, "text": "hi"})
    inbound = await first_message(api, lane)
    messages = [str(uuid4()) for _ in range(3)]
    for message_id in messages:
        body = {"conversation_id": lane.conversation_id, "sender_id": lane.sender_id}
        message = {**body, "message_id": message_id, "content": "hello"}
        status, answer, _ = await api.call("POST", "/messages", message)
        assert status == 202, answer
    spare = (await api.create("users", {"kind": "AGENT", "name": "Spare"}))["user_id"]
    address = {"user_id": spare, "channel": channel, "address": str(uuid4().int)[:15]}
    identity = await api.create("identities", address)
    key = await api.create("api-keys", {"name": "spare", "scopes": ["messages:read"]})
    return {
        "conversation_id": [lane.conversation_id],
        "sender_id": [lane.sender_id],
        "message_id": messages,
        "inbound_id": [inbound],
        "user_id": [lane.sender_id, spare],
        "spare_id": [spare],
        "identity_id": [identity["identity_id"]],
        "key_id": [key["key_id"]],
        "channel": [channel],
        "account": ["main"],
    }


async def first_message(api: Api, lane: Lane) -> str:
    """Return the id of the first message of a conversation as soon as there is one."""
    async with asyncio.timeout(APPEARS_DEADLINE_S):
        while True:
            path = f"/conversations/{lane.conversation_id}/messages"
            _, page, _ = await api.call("GET", path)
            if page["items"]:
                return str(page["items"][0]["message_id"])
            await asyncio.sleep(POLL_S)


def configuration(seeds: Seeds) -> Config:
    """Let cases name what exists, and change nothing that the platform or other tests need.

    Ids from answers are not used: the key of this run is among them. Channels are only switched
    on, as nothing could be sent while one is off, and only a spare participant is removed.
    """
    given = {f"{where}.{name}": one_of(name) for name in seeds for where in ("path", "query")}
    given |= {f"body.{name}": one_of(name) for name in ("conversation_id", "sender_id", "user_id")}
    given |= {
        "body.channel": one_of("channel"),
        "body.primary_channel": one_of("channel"),
        "body.reply_to": one_of("message_id"),
        "query.participant_id": one_of("user_id"),
    }
    own_values = {"extra-data-sources": {"responses": False}}
    positive = {"mode": "positive", "max-examples": EXAMPLES_PER_OPERATION}
    return Config.from_dict(
        {
            "seed": 1,
            "max-time": TIME_MAX_S,
            "continue-on-failure": True,
            "auth": {"openapi": {"api_key": {"bearer": os.environ["CHAT4ALL_API_KEY"]}}},
            "dictionaries": {name: {"values": values} for name, values in seeds.items()},
            "parameters": given,
            "generation": {"database": "none"},
            # Each case would be sent twice more; that a key is needed everywhere is tested apart.
            "checks": {"ignored_auth": {"enabled": False}},
            "phases": {
                "coverage": own_values,
                "fuzzing": {**own_values, "generation": positive},
                "stateful": {"enabled": False},
            },
            "operations": [
                for_operation("channels_switch", {"body.enabled": True}),
                for_operation("conversations_open", {"body.participants": seeds["user_id"]}),
                for_operation(
                    "conversations_add_participant", {"body.user_id": one_of("spare_id")}
                ),
                for_operation(
                    "conversations_remove_participant", {"path.user_id": one_of("spare_id")}
                ),
                for_operation("messages_mark_read", {"path.message_id": one_of("inbound_id")}),
            ],
        }
    )


def one_of(dictionary: str) -> dict[str, Any]:
    """Mostly take a value of a dictionary."""
    return {"dictionary": dictionary, "probability": SEEDED}


def for_operation(name: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Give an operation its own values."""
    return {"include-operation-id": name, "parameters": parameters}


@schemathesis.check
def described_code(ctx: CheckContext, response: Response, case: AnyCase) -> None:  # noqa: ARG001
    """Fail when a problem has a code that is not described for its operation and status."""
    status = response.status_code
    if status < HTTPStatus.BAD_REQUEST or status == HTTPStatus.METHOD_NOT_ALLOWED:
        return
    described = case.operation.definition.raw["responses"].get(str(status), {})
    whole = case.operation.schema.raw_schema
    for name in described.get("$ref", "#").split("/")[1:]:
        described = whole = whole[name]
    content = described.get("content", {}).get(PROBLEM_TYPE, {})
    assert response.json()["code"] in content.get("examples", {})


def about_form(
    context: HookContext,  # noqa: ARG001
    failure: Exception,
    case: AnyCase,  # noqa: ARG001
    response: Response,
) -> bool:
    """Tell a contradiction from a refusal of what is well-formed and names what is not there.

    A cursor is such a name too.
    """
    if not isinstance(failure, RejectedPositiveData):
        return True
    problem = response.json()
    return problem["code"] in FORM_CODES and problem.get("field") != "cursor"


@pytest.mark.timeout(2 * TIME_MAX_S)
def test_the_api_keeps_to_its_description(seeds: Seeds) -> None:
    """Well-formed or not, every request is answered as the description says, never with 5xx."""
    url = f"{os.environ['CHAT4ALL_URL']}/openapi.json"
    schema = schemathesis.openapi.from_url(url, config=configuration(seeds))
    schema.hook("filter_failure")(about_form)
    statuses: Counter[int] = Counter()
    asked: set[str] = set()
    found: list[str] = []
    stream = from_schema(schema).execute()
    for event in stream:
        if isinstance(event, events.NonFatalError | events.FatalError):
            found.append(repr(event))
        if isinstance(event, events.ScenarioFinished):
            asked.add(event.recorder.label)
            statuses.update(answered(event))
            found += contradictions(event)
        if isinstance(event, events.PhaseFinished) and statuses.total() >= CASES:
            stream.stop()
    summary = f"{statuses.total()} cases over {len(asked)} operations: {sorted(statuses.items())}"
    print(f"\n{summary}")  # noqa: T201
    assert not found, f"{len(found)} contradictions\n\n" + "\n\n".join(found[:20])
    assert asked == described(schema)
    accepted = sum(
        count for status, count in statuses.items() if status < HTTPStatus.MULTIPLE_CHOICES
    )
    assert accepted >= ACCEPTED_SHARE_MIN * statuses.total(), summary
    assert statuses.total() >= CASES, summary


def described(schema: BaseSchema) -> set[str]:
    """Return the name of every operation of the description."""
    found = [result.ok() for result in schema.get_all_operations() if isinstance(result, Ok)]
    return {operation.label for operation in found}


def answered(event: events.ScenarioFinished) -> Iterator[int]:
    """Yield the status of every answer."""
    for interaction in event.recorder.interactions.values():
        if interaction.response is not None:
            yield interaction.response.status_code


def contradictions(event: events.ScenarioFinished) -> list[str]:
    """Return what is not as described, each with the request that shows it.

    A check that broke tells nothing, so it counts as well.
    """
    found = []
    for checks in event.recorder.checks.values():
        for check in checks:
            if check.status is not Status.SUCCESS:
                shown = check.failure_info
                text = f"{shown.failure}\n{shown.code_sample}" if shown else "the check broke"
                found.append(f"{event.recorder.label}: {check.name}\n{text}")
    return found
