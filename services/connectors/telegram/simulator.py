"""The provider's side of the Telegram Bot API: an independent, strict reading of its wire.

Where a bot's updates go is what setWebhook says. Until it is called they go, with the account's
secret, where the job says, as if its owner had called it long ago. A restart forgets it again.
"""

import re
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import msgspec
from aiohttp import web
from msgspec import Raw

from services.connectors.simulator import (
    REAL,
    Channel,
    CustomerMessage,
    Quota,
    Settings,
    Simulator,
    SimulatorConfig,
)
from services.connectors.simulator_faults import NORMAL, Course, Kind
from services.connectors.simulator_receipts import Receipt
from services.connectors.telegram.simulator_deliveries import Deliveries
from services.connectors.telegram.simulator_errors import (
    Refusal,
    migrated,
    scripted,
    succeeded,
    too_many_requests,
)
from services.connectors.telegram.simulator_nodes import (
    Account,
    Numbers,
    bot_node,
    chat_node,
    me_node,
    message_node,
    message_update,
    person_node,
)
from services.connectors.telegram.simulator_requests import (
    Arguments,
    TextMessage,
    read_action,
    read_arguments,
    read_chat_id,
    read_drop_pending,
    read_integer,
    read_text_message,
    read_webhook,
)
from services.contracts.problems import Problem
from services.runtime.app import App, run

BOT_PER_S, BOT_BURST = 30.0, 30
CHAT_PER_S, CHAT_BURST = 1.0, 3
GROUP_PER_S, GROUP_BURST = 20 / 60, 20
TOKEN_LENGTH_MAX = 80
UPDATES_MAX = 100
SEND_MESSAGE = "sendmessage"
_PATH = re.compile(r"/bot([^/]+)/([^/]*)")
_TOKEN = re.compile(r"[1-9][0-9]{0,15}:.*", re.DOTALL)
_NAMED = re.compile(r"(?:-?[0-9]+:)?([0-9]+)")


class TelegramSimulatorConfig(SimulatorConfig, frozen=True, kw_only=True):
    """What this simulator is told: its bots by name; repeats are as the provider's."""

    accounts: dict[str, Account]
    webhook_url: str = ""
    webhook_retry_first_s: float = 2.0
    webhook_retry_max_s: float = 60.0
    webhook_horizon_s: float = 86400.0


class TelegramSettings(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What can be switched; this provider tells no statuses.

    `must_start` knows only chats in which somebody has written to the bot, `blocked_by` are the
    chats that want nothing from any bot, `upgraded` says what supergroups some groups became.
    """

    statuses: tuple[()] = ()
    must_start: bool = False
    blocked_by: tuple[str, ...] = ()
    upgraded: dict[str, int] = msgspec.field(default_factory=dict)


class TelegramReceipt(Receipt, kw_only=True):
    """A receipt with what only this channel has."""

    reply_to: int | None = None


class Result(NamedTuple):
    """What a method returns, and what the envelope says of it."""

    result: object
    description: str | None = None


class BotApi:
    """The methods of one provider with several bots."""

    def __init__(self, app: App[TelegramSimulatorConfig]) -> None:
        config = app.config
        self._accounts = config.accounts
        self._names = {account.bot_token: name for name, account in self._accounts.items()}
        self._message_numbers = Numbers()
        self._update_numbers = Numbers()
        self._started: set[tuple[str, int]] = set()
        real = config.quota_profile == REAL
        self._bot_quota = Quota(BOT_PER_S, BOT_BURST) if real else None
        self._chat_quota = Quota(CHAT_PER_S, CHAT_BURST) if real else None
        self._group_quota = Quota(GROUP_PER_S, GROUP_BURST) if real else None
        self._methods: Mapping[str, Callable[[str, Arguments], Result]] = {
            "getme": self._get_me,
            "sendchataction": self._send_chat_action,
            "setwebhook": self._set_webhook,
            "deletewebhook": self._delete_webhook,
            "getwebhookinfo": self._get_webhook_info,
            "getupdates": self._get_updates,
        }
        self._deliveries = Deliveries(app, config, self._accounts)
        names = frozenset(self._accounts)
        self._simulator = Simulator(
            app, Channel(names, self._deliveries, self._write, TelegramSettings())
        )
        app.http.router.add_route("*", "/{path:(?!_sim/).*}", self.call)

    async def call(self, request: web.Request) -> web.Response:
        """Call a method of a bot: its name counts in any case, its path holds the token."""
        found = _PATH.fullmatch(request.path)
        if found is None or not found[2]:
            return Refusal(404, "Not Found").answer()
        token, method = found[1], found[2].lower()
        if request.method not in ("GET", "POST"):
            return Refusal(501, "Not Implemented").answer()
        if method == SEND_MESSAGE:
            return await self._send_message(token, request)
        try:
            name = self._authenticate(token)
            answer = self._methods.get(method, _unknown)
            return succeeded(*answer(name, await read_arguments(request)))
        except Refusal as refusal:
            return refusal.answer()

    def _authenticate(self, token: str) -> str:
        """Return the account of a token."""
        if len(token) > TOKEN_LENGTH_MAX or not _TOKEN.fullmatch(token):
            raise Refusal(401, "Unauthorized: invalid token specified")
        name = self._names.get(token)
        if name is None or self._simulator.faults.take((Kind.TOKEN_EXPIRED,), name) is not None:
            raise Refusal(401, "Unauthorized")
        return name

    async def _send_message(self, token: str, request: web.Request) -> web.Response:
        receipt = TelegramReceipt(received_at=time.time())
        course = NORMAL
        try:
            name = receipt.account = self._authenticate(token)
            message = read_text_message(await read_arguments(request))
            receipt.to, receipt.text = str(message.chat_id), message.text
            receipt.type, receipt.reply_to = "text", message.reply_to
            course = self._simulator.faults.course(name, receipt.to)
            answer = succeeded(self._take(name, message, receipt, course))
        except Refusal as refusal:
            receipt.error_code = refusal.code
            answer = refusal.answer()
        if course.answered:
            receipt.answered_at = time.time() + course.wait_s
            receipt.answer = answer.status
        self._simulator.record(receipt)
        return await self._simulator.finish(request, course, answer, [])

    def _take(
        self, name: str, message: TextMessage, receipt: TelegramReceipt, course: Course
    ) -> dict[str, Any]:
        """Keep a message, as its course has it, and return it; raise Refusal otherwise."""
        chat, reply_to = message.chat_id, message.reply_to
        if not course.refused:
            self._check_chat(name, chat)
            self._check_limits(name, chat)
        if reply_to is not None and not self._message_numbers.may_exist((name, chat), reply_to):
            if not message.without_reply:
                raise Refusal(400, "Bad Request: message to be replied not found")
            reply_to = None
        number = self._message_numbers.next((name, chat))
        if course.kept:
            receipt.kept, receipt.provider_id = True, f"{chat}:{number}"
        if course.refused and course.fault is not None:
            raise scripted(course.fault)
        sender = bot_node(name, self._accounts[name])
        return message_node(number, chat_node(chat), sender, message.text.strip(), reply_to)

    def _check_chat(self, name: str, chat: int) -> None:
        settings = self._settings
        if settings.must_start and (name, chat) not in self._started:
            raise Refusal(400, "Bad Request: chat not found")
        if str(chat) in settings.blocked_by:
            gone = "blocked by the user" if chat > 0 else "kicked from the group chat"
            raise Refusal(403, f"Forbidden: bot was {gone}")
        if str(chat) in settings.upgraded:
            raise migrated(settings.upgraded[str(chat)])

    def _check_limits(self, name: str, chat: int) -> None:
        now = time.time()
        if self._deliveries.full:
            raise too_many_requests(1)
        if self._chat_quota is not None and not self._chat_quota.take((name, chat), now):
            raise too_many_requests(1)
        if self._bot_quota is not None and not self._bot_quota.take(name, now):
            raise too_many_requests(1)
        group = self._group_quota if chat < 0 else None
        if group is not None and not group.take((name, chat), now):
            raise too_many_requests(round(1 / GROUP_PER_S))

    @property
    def _settings(self) -> TelegramSettings:
        return self._simulator.settings

    def _get_me(self, name: str, _given: Arguments) -> Result:
        return Result(me_node(name, self._accounts[name]))

    def _send_chat_action(self, name: str, given: Arguments) -> Result:
        chat = read_chat_id(given)
        read_action(given)
        self._check_chat(name, chat)
        return Result(result=True)

    def _set_webhook(self, name: str, given: Arguments) -> Result:
        asked = read_webhook(given)
        if not asked.url:
            return self._delete_webhook(name, given)
        return Result(True, self._deliveries.set(name, asked))

    def _delete_webhook(self, name: str, given: Arguments) -> Result:
        drop_pending = read_drop_pending(given)
        return Result(True, self._deliveries.delete(name, drop_pending=drop_pending))

    def _get_webhook_info(self, name: str, _given: Arguments) -> Result:
        return Result(self._deliveries.info(name))

    def _get_updates(self, name: str, given: Arguments) -> Result:
        """Return the updates that wait; a poll is answered at once, however long it may take."""
        if self._deliveries.hooks[name].verified:
            raise Refusal(
                409,
                "Conflict: can't use getUpdates method while webhook is active; "
                "use deleteWebhook to delete the webhook first",
            )
        self._deliveries.forget(name, below=read_integer(given, "offset", 0))
        limit = min(max(read_integer(given, "limit", UPDATES_MAX), 1), UPDATES_MAX)
        return Result([Raw(raw) for raw in self._deliveries.pending(name, limit)])

    def _write(self, name: str, written: CustomerMessage) -> str:
        """Let somebody write in a chat with the bot: the update goes to the bot's webhook."""
        try:
            chat = read_chat_id({"chat_id": written.sender})
        except Refusal as refusal:
            raise Problem("invalid_field", "Give a chat's number.", field="from") from refusal
        replied = _NAMED.fullmatch(written.reply_to or "")
        if written.reply_to is not None and replied is None:
            raise Problem("invalid_field", "Give a message as chat:number.", field="reply_to")
        number = self._message_numbers.next((name, chat))
        self._started.add((name, chat))
        node = message_node(
            number,
            chat_node(chat, written.name),
            person_node(chat, written.name),
            written.text,
            int(replied[1]) if replied is not None else None,
        )
        if self._deliveries.hooks[name].wants("message"):
            update = message_update(name, self._update_numbers.next(name), node)
            self._simulator.tell([update], str(chat))
        return f"{chat}:{number}"


def _unknown(_name: str, _given: Arguments) -> Result:
    raise Refusal(404, "Not Found: method not found")


def build(app: App[TelegramSimulatorConfig]) -> None:
    """Wire the simulator."""
    BotApi(app)


if __name__ == "__main__":
    run(TelegramSimulatorConfig, build)
