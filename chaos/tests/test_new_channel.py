"""The promise of one folder: a channel unlike the others is added while the platform runs."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import pytest

from chaos.adapters.consul import write_key
from chaos.adapters.nomad import DeployFailed
from chaos.adapters.platform import Platform
from chaos.adapters.provider import Provider
from chaos.workload import Lane, prepare

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

FOLDER = Path(__file__).parent / "pager"
JOBS = Path(__file__).parents[2] / "jobs"
CHANNEL = FOLDER.name.upper()
KEYS = (f"chat4all/channels/{CHANNEL}", f"chat4all/channel-switches/{CHANNEL}")
PYTHON, RELEASE = "NOMAD_VAR_python", "NOMAD_VAR_release"
"""What `just env` tells of the interpreter and of the release that services run from."""
STORY = 'nomad job status "$0"; nomad alloc logs -job -tail "$0"; true'
ENDED = ("complete", "failed", "lost")
COMMAND_DEADLINE_S = 30.0
DEPLOYED_DEADLINE_S = 90.0
APPEARS_DEADLINE_S = 15.0
POLL_S = 0.1
TEXT = "<b>&amp; \"ação\" 'it' ]]> 📟</b>\r\n"
"""What XML finds special."""


@pytest.fixture(scope="module")
async def pager(
    platform: Platform, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Provider]:
    """Deploy the folder with the job files of every channel; take it away again afterwards."""
    release = tmp_path_factory.mktemp("release")
    services = release / "services"
    shutil.copytree(Path(os.environ[RELEASE]) / "services", services)
    shutil.copytree(FOLDER, services / "connectors" / FOLDER.name)
    module = f"services.connectors.{FOLDER.name}.config"
    accounts = await run(os.environ[PYTHON], "-m", module, folder=release)
    own = {
        "provider": {"receipts_dir": str(release)},
        "connector": {
            "provider_url": f"consul://provider-{FOLDER.name}",
            "quota_profile": "high-quota",
        },
    }
    jobs = [f"{kind}-{FOLDER.name}" for kind in own]
    async with AsyncExitStack() as cleanup:
        cleanup.push_async_callback(forget, platform)
        for (kind, variables), job in zip(own.items(), jobs, strict=True):
            path = f"nomad/jobs/{job}"
            secret = {"Path": path, "Items": {"accounts": accounts.strip()}}
            cleanup.push_async_callback(run, "nomad", "var", "purge", path)
            put = ("nomad", "var", "put", "-force", "-in", "json", "-")
            await run(*put, told=msgspec.json.encode(secret))
            variables |= {"channel": FOLDER.name, "release": str(release)}
            given = [f"-var={name}={value}" for name, value in variables.items()]
            await run("nomad", "job", "run", "-detach", *given, str(JOBS / f"{kind}.nomad.hcl"))
            cleanup.push_async_callback(stop, job)
        try:
            for job in jobs:
                await until(partial(platform.nomad.deployed, job), DEPLOYED_DEADLINE_S)
            await until(lambda: enabled(platform))
        except (TimeoutError, DeployFailed):
            for job in jobs:
                print(await run("sh", "-c", STORY, job))  # noqa: T201 - what Nomad says
            raise
        yield await platform.provider(CHANNEL)


@pytest.fixture(scope="module")
async def lane(
    platform: Platform,
    pager: Provider,  # noqa: ARG001 - nobody has an address on a channel that is not there
) -> Lane:
    """Return a conversation with somebody who carries a pager."""
    return (await prepare(platform.api, CHANNEL, 1))[0]


async def test_what_is_sent_arrives(platform: Platform, pager: Provider, lane: Lane) -> None:
    """A text longer than a page arrives whole and once, is SENT, then DELIVERED, never more."""
    text = f"{uuid4()} {TEXT * 9}"
    body = {
        "conversation_id": lane.conversation_id,
        "sender_id": lane.sender_id,
        "content": text,
    }
    status, accepted, _ = await platform.api.call("POST", "/messages", body)
    assert status == 202
    path = f"/messages/{accepted['message_id']}/status"

    async def told() -> list[str] | None:
        """Return what was learned, once both are there: a receipt may be told before the answer."""
        _, found, _ = await platform.api.call("GET", path)
        (delivery,) = found["deliveries"]
        history = [event["status"] for event in delivery["history"]]
        return history if {"SENT", "DELIVERED"} <= set(history) else None

    assert await until(told) == ["PENDING", "SENT", "DELIVERED"]
    pages = [receipt for receipt in await pager.receipts(to=lane.address) if receipt.kept]
    assert len(pages) > 1
    assert "".join(page.text for page in pages) == text


async def test_what_is_answered_arrives(platform: Platform, pager: Provider, lane: Lane) -> None:
    """What a customer writes is in their conversation, as it was written."""
    text = f"{uuid4()} {TEXT}"
    await pager.post("messages", {"from": lane.address, "text": text})
    path = f"/conversations/{lane.conversation_id}/messages?order=desc"

    async def found() -> Any:
        _, body, _ = await platform.api.call("GET", path)
        return [item for item in body["items"] if item["content"] == text]

    (item,) = await until(found)
    assert (item["direction"], item["channel"]) == ("INBOUND", CHANNEL)


async def test_it_says_what_it_can(platform: Platform, pager: Provider) -> None:
    """The API shows the channel with its own receipts and its own limit."""
    assert (await pager.state())["webhooks"]["attempts_failed"] == 0
    _, shown, _ = await platform.api.call("GET", f"/channels/{CHANNEL}")
    assert shown["enabled"]
    assert shown["capabilities"]["receipts"] == ["SENT", "DELIVERED"]
    assert shown["capabilities"]["text_length_max"] == 160
    assert (shown["quota"]["account_per_s"], shown["quota"]["profile"]) == (20, "high-quota")


@pytest.mark.parametrize(
    ("path", "status"),
    [
        pytest.param("main", 401, id="not signed"),
        pytest.param("main?signature=" + "0" * 64, 401, id="signed wrongly"),
        pytest.param("nobody?signature=" + "0" * 64, 404, id="to nobody"),
    ],
)
@pytest.mark.usefixtures("pager")
async def test_what_is_not_signed_is_refused(platform: Platform, path: str, status: int) -> None:
    """The signature in the address is the connector's to check, and it is checked."""
    url = f"{os.environ['CHAT4ALL_URL']}/webhooks/{FOLDER.name}/{path}"
    async with platform.session.post(url, data=b'<events line="1"/>') as answer:
        assert answer.status == status


@pytest.mark.parametrize(
    ("text", "status"),
    [
        pytest.param('<events line="0"/>', 404, id="of another line"),
        pytest.param("no XML", 200, id="no XML"),
    ],
)
async def test_what_is_signed_is_read(pager: Provider, text: str, status: int) -> None:
    """Events of another line are refused; what makes no sense is kept all the same."""
    assert (await pager.post("webhooks", {"text": text}))["status"] == status


async def run(*command: str, folder: Path = FOLDER, told: bytes = b"") -> str:
    """Run a command as a user would and return what it says; fail when it fails."""
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=folder,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(COMMAND_DEADLINE_S):
            said, complained = await process.communicate(told)
    except TimeoutError:
        process.kill()
        raise
    assert process.returncode == 0, f"{command[:3]}: {said.decode()}{complained.decode()}"
    return said.decode()


async def stop(job: str) -> None:
    """Stop a job and purge it when none of its tasks runs any more."""
    await run("nomad", "job", "stop", "-detach", job)

    async def stopped() -> bool:
        found = msgspec.json.decode(await run("nomad", "job", "allocs", "-json", job))
        return all(allocation["ClientStatus"] in ENDED for allocation in found)

    await until(stopped, DEPLOYED_DEADLINE_S)
    await run("nomad", "job", "stop", "-purge", "-detach", job)


async def forget(platform: Platform) -> None:
    """Remove what the channel told of itself and return when the API has forgotten it."""
    for key in KEYS:
        await write_key(platform.consul_url, key, None, platform.session)

    async def forgotten() -> bool:
        return (await platform.api.call("GET", f"/channels/{CHANNEL}"))[0] == 404

    await until(forgotten)


async def enabled(platform: Platform) -> bool:
    """Tell whether the channel takes messages."""
    return CHANNEL in await platform.channels()


async def until(look: Callable[[], Awaitable[Any]], deadline_s: float = APPEARS_DEADLINE_S) -> Any:
    """Return what a look finds as soon as it finds something; TimeoutError after the deadline."""
    async with asyncio.timeout(deadline_s):
        while not (found := await look()):
            await asyncio.sleep(POLL_S)
    return found
