"""What was broken is taken back from its record, once or twice, gently or not."""

import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from chaos.adapters import processes
from chaos.adapters.toxiproxy import NoProxy, Toxiproxy
from chaos.safety import Broken, Busy, UndoLog, heal, only_one
from chaos.undo import Cure, Resume, World

LINK = "router--kafka"


class FakeToxiproxy:
    """Answers as Toxiproxy does; `stuck` lets the removal of a toxic fail."""

    def __init__(self) -> None:
        self.toxics: dict[str, dict[str, Any]] = {}
        self.stuck = False
        self.resets = 0

    async def answer(self, request: web.Request) -> web.Response:
        """Answer any request."""
        path, method = request.path, request.method
        if path == "/metrics":
            name = "toxiproxy_proxy_received_bytes_total"
            lines = [f'{name}{{direction="{d}",proxy="{LINK}"}} 21' for d in ("up", "down")]
            return web.Response(text="\n".join(lines))
        if method == "GET":
            every = (
                {LINK: {"name": LINK, "listen": "127.0.0.1:1"}}
                if path == "/proxies"
                else list(self.toxics.values())
            )
            return web.json_response(every)
        if path == "/reset":
            self.resets += 1
            self.toxics.clear()
        elif method == "POST":
            toxic = await request.json()
            self.toxics[toxic["name"]] = toxic
        elif self.stuck:
            return web.Response(status=500)
        else:
            del self.toxics[path.rpartition("/")[2]]
        return web.Response(status=204)


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    """Lend a session."""
    async with aiohttp.ClientSession() as found:
        yield found


@pytest.fixture
async def toxiproxy() -> AsyncIterator[tuple[FakeToxiproxy, str]]:
    """Lend a Toxiproxy and its address."""
    fake, app = FakeToxiproxy(), web.Application()
    app.router.add_route("*", "/{path:.*}", fake.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield fake, f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


@pytest.fixture
def sleeper() -> Iterator[processes.Process]:
    """Lend a process that does nothing."""
    child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
    found = processes.identify(child.pid)
    assert found is not None
    yield found
    child.kill()
    child.wait()


WORLD = World("http://127.0.0.1:1", "http://127.0.0.1:1")


@pytest.mark.parametrize("stuck", [False, True])
async def test_toxics_are_removed(
    toxiproxy: tuple[FakeToxiproxy, str],
    session: aiohttp.ClientSession,
    tmp_path: Path,
    *,
    stuck: bool,
) -> None:
    """A toxic is taken away, and where that hangs the proxy is reset, all of it once."""
    fake, url = toxiproxy
    fake.stuck = stuck
    client = Toxiproxy(url, session)
    await client.poison(LINK, "chaos-upstream", "latency", "upstream", {"latency": 100})
    assert fake.toxics["chaos-upstream"]["attributes"] == {"latency": 100}
    log = UndoLog(tmp_path / "undo.jsonl")
    log.add(WORLD, Cure(url, [(LINK, "chaos-upstream")]))
    assert await heal(log, session) == 1
    assert not fake.toxics
    assert fake.resets == stuck
    assert await heal(log, session) == 0


async def test_a_proxy_must_exist_and_counts_what_it_carries(
    toxiproxy: tuple[FakeToxiproxy, str], session: aiohttp.ClientSession
) -> None:
    """A link without a proxy is named with those that have one; bytes are summed."""
    client = Toxiproxy(toxiproxy[1], session)
    await client.require(LINK)
    assert await client.carried(LINK) == 42
    with pytest.raises(NoProxy, match=r"links proxied. .*router--kafka"):
        await client.require("router--redis")


async def test_a_stopped_process_goes_on(
    sleeper: processes.Process, session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """A record outlives its writer: another log on the same file takes it back."""
    UndoLog(tmp_path / "undo.jsonl").add(WORLD, Resume([sleeper]))
    processes.send(sleeper, signal.SIGSTOP)
    log = UndoLog(tmp_path / "undo.jsonl")
    assert [record.id for record in log.pending()] == [1]
    assert await heal(log, session) == 1
    assert processes.state(sleeper) not in ("T", None)
    assert not log.pending()


async def test_another_process_with_the_same_number_is_left_alone(
    sleeper: processes.Process,
) -> None:
    """A signal reaches the process that was meant, or nobody."""
    with pytest.raises(processes.Gone):
        processes.send(processes.Process(sleeper.pid, sleeper.started - 1), signal.SIGKILL)
    assert processes.state(sleeper) is not None


async def test_what_cannot_be_taken_back_is_told_and_kept(
    session: aiohttp.ClientSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A heal that fails says so, and its record stays for the next one; the others are healed."""
    monkeypatch.setattr("chaos.safety.HEAL_ATTEMPTS", 1)
    log = UndoLog(tmp_path / "undo.jsonl")
    log.add(WORLD, Resume([]))
    log.add(WORLD, Cure("http://127.0.0.1:1", [(LINK, "x")]))
    with pytest.raises(Broken, match="Cure failed"):
        await heal(log, session)
    assert [record.id for record in log.pending()] == [2]


def test_one_campaign_at_a_time(tmp_path: Path) -> None:
    """The second is refused with the first one's process, and may run after it."""
    path = tmp_path / "lock"
    with only_one(path), pytest.raises(Busy, match="Ctrl-C"), only_one(path):
        pass
    with only_one(path):
        pass


def test_a_log_is_shortened_only_when_all_is_healed(tmp_path: Path) -> None:
    """What is pending stays; a number that was given is never given again, whoever still has it."""
    log = UndoLog(tmp_path / "undo.jsonl")
    log.shorten()
    numbers = [log.add(WORLD, Resume([])) for _ in range(3)]
    log.done(1)
    log.done(3)
    log.shorten()
    assert [record.id for record in log.pending()] == [2]
    log.done(2)
    log.shorten()
    assert len(log.path.read_bytes().splitlines()) == 1
    assert not log.pending()
    number = log.add(WORLD, Resume([]))
    assert number not in numbers
    log.done(numbers[-1])
    assert [record.id for record in log.pending()] == [number]


def test_a_torn_line_spoils_no_other(tmp_path: Path) -> None:
    """What is written behind a line that a crash cut off begins on a line of its own."""
    log = UndoLog(tmp_path / "undo.jsonl")
    log.path.write_bytes(b'{"id": 9, "wor')
    assert log.add(WORLD, Resume([])) == 1
    log.done(1)
    assert not log.pending()
    assert len(log.path.read_bytes().splitlines()) == 3
