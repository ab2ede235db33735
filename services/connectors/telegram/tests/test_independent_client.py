"""A client library of others, written against the real Bot API, is content with the simulator."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiogram import Bot, Dispatcher
from aiogram.client.session.aiohttp import AiohttpSession
from aiogram.client.telegram import TelegramAPIServer
from aiogram.exceptions import (
    TelegramBadRequest,
    TelegramConflictError,
    TelegramForbiddenError,
    TelegramNotFound,
    TelegramRetryAfter,
    TelegramUnauthorizedError,
)
from aiogram.types import Message, ReplyParameters, Update
from aiogram.webhook.aiohttp_server import SimpleRequestHandler
from aiohttp import web
from aiohttp.test_utils import TestServer

from services.connectors.telegram.tests.simulated import CHAT, MAIN, World, simulator

SECRET = "given-by-the-client"


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """A fresh simulator that nobody told where updates go."""
    async with simulator(tmp_path, webhook_url="") as made:
        yield made


@asynccontextmanager
async def client(world: World, token: str = MAIN.bot_token) -> AsyncIterator[Bot]:
    """Return the library's client of a bot."""
    bot = Bot(token, session=AiohttpSession(api=TelegramAPIServer.from_base(world.url)))
    try:
        yield bot
    finally:
        await bot.session.close()


async def test_it_sends_and_is_refused(world: World) -> None:
    """It reads bots, messages and every class of error."""
    async with client(world) as bot:
        assert (await bot.get_me()).username == "main_bot"
        name = await world.write("oi")
        number = int(name.partition(":")[2])
        sent = await bot.send_message(
            CHAT, "hello", reply_parameters=ReplyParameters(message_id=number)
        )
        assert sent.text == "hello"
        assert sent.reply_to_message is not None
        assert sent.reply_to_message.message_id == number
        assert await bot.send_chat_action(CHAT, "typing")
        with pytest.raises(TelegramBadRequest, match="message is too long"):
            await bot.send_message(CHAT, "x" * 4097)
        await world.control("PATCH", "settings", {"blocked_by": [str(CHAT)]})
        with pytest.raises(TelegramForbiddenError, match="blocked"):
            await bot.send_message(CHAT, "hello")
        await world.control("POST", "faults", {"kind": "throttle", "retry_after_s": 7})
        with pytest.raises(TelegramRetryAfter) as throttled:
            await bot.send_message(CHAT, "hello")
        assert throttled.value.retry_after == 7
        with pytest.raises(TelegramNotFound, match="method not found"):
            await bot.delete_message(CHAT, number)
    kept, *refused = await world.receipts()
    assert (kept["provider_id"], kept["reply_to"]) == (f"{CHAT}:{sent.message_id}", number)
    assert [receipt["kept"] for receipt in refused] == [False, False, False]


async def test_it_hears_what_customers_write(world: World) -> None:
    """Its own webhook server, with its own check of the secret, takes the updates."""
    heard: list[str] = []
    dispatcher = Dispatcher()

    async def hear(message: Message) -> None:
        heard.append(f"{message.chat.id} {message.text}")

    dispatcher.message.register(hear)
    async with client(world) as bot:
        handler = SimpleRequestHandler(
            dispatcher, bot, handle_in_background=False, secret_token=SECRET
        )
        address = web.Application()
        handler.register(address, path="/hook")
        async with TestServer(address) as server:
            url = str(server.make_url("/hook"))
            assert await bot.set_webhook(url, secret_token=SECRET, allowed_updates=["message"])
            told = await bot.get_webhook_info()
            assert (told.url, told.allowed_updates) == (url, ["message"])
            for text in ("um", "dois", "três"):
                await world.write(text)
            async with asyncio.timeout(5):
                while (await world.control("GET", "state"))["webhooks"]["updates_sent"] < 3:
                    await asyncio.sleep(0.01)
        with pytest.raises(TelegramConflictError):
            await bot.get_updates()
        assert await bot.delete_webhook(drop_pending_updates=True)
        await world.write("quatro")
        updates: list[Update] = []
        async with asyncio.timeout(5):
            while not updates:
                updates = await bot.get_updates()
        assert updates[0].message is not None
        assert updates[0].message.text == "quatro"
    assert heard == [f"{CHAT} um", f"{CHAT} dois", f"{CHAT} três"]


async def test_it_is_told_a_wrong_token(world: World) -> None:
    """A token of nobody is unauthorized."""
    async with client(world, "42:token-of-nobody-at-all") as bot:
        with pytest.raises(TelegramUnauthorizedError):
            await bot.get_me()
