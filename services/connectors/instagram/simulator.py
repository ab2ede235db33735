"""The provider's side of Instagram Messaging: an independent, strict reading of its wire."""

import re
import time
from typing import Annotated, Any, Literal

import msgspec
from aiohttp import web
from msgspec import Meta

from services.connectors.instagram.simulator_errors import (
    EXPIRED_TOKEN,
    INVALID,
    INVALID_TOKEN,
    NO_SUCH_USER,
    OUTSIDE_WINDOW,
    TOO_MANY_CALLS,
    UNKNOWN_PATH,
    Refusal,
    scripted,
    unknown_object,
)
from services.connectors.instagram.simulator_nodes import (
    Account,
    Customers,
    MessageIds,
    compose,
    echo_node,
    message_node,
    read_node,
    update,
)
from services.connectors.instagram.simulator_requests import Action, Message, parse
from services.connectors.simulator import (
    REAL,
    Channel,
    CustomerMessage,
    Quota,
    Settings,
    Simulator,
    SimulatorConfig,
)
from services.connectors.simulator_faults import NORMAL, Course, Kind, Plan
from services.connectors.simulator_graph import challenge, signature
from services.connectors.simulator_receipts import Receipt
from services.connectors.simulator_webhooks import Webhooks, Wire
from services.contracts.problems import Problem
from services.runtime.app import App, run

MESSAGES_PER_S = 100
WINDOW_S = 86400.0
WINDOW_OF_PEOPLE_S = 7 * 86400.0
"""How long a person, and no machine, may answer."""
_NODE = r"/v{version:\d+}.{minor:\d+}/{node_id:\d+|me}"
_encode = msgspec.json.Encoder().encode

Step = Literal["echo", "read"]


class InstagramSimulatorConfig(SimulatorConfig, frozen=True, kw_only=True):
    """What this simulator is told: its accounts by name, and which login their tokens are from."""

    accounts: dict[str, Account]
    login: Annotated[str, Meta(pattern="^(instagram|facebook)$")] = "instagram"


class InstagramSettings(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What can be switched.

    `known_users` says whether a customer must have written before anything reaches them;
    `enforce_window` refuses what is written more than 24 h after their last message;
    `error_status` chooses between the HTTP statuses that are documented and those that were seen;
    `signed_by` chooses which of the app's secrets signs webhooks.
    """

    statuses: tuple[Step, ...] = ("echo", "read")
    known_users: Literal["any", "wrote-first"] = "any"
    enforce_window: Literal["off", "answer"] = "off"
    error_status: Literal["documented", "seen"] = "documented"
    signed_by: Literal["first", "last"] = "first"


class InstagramReceipt(Receipt, kw_only=True):
    """A receipt with what only this channel has."""

    context: str | None = None
    error_subcode: int | None = None


class Graph:
    """The endpoints of one provider with several accounts."""

    def __init__(self, app: App[InstagramSimulatorConfig]) -> None:
        config = app.config
        self._accounts = config.accounts
        self._by_instagram = config.login == "instagram"
        self._names = {account.access_token: name for name, account in self._accounts.items()}
        self._ids = MessageIds()
        self._customers = Customers()
        real = config.quota_profile == REAL
        self._quota = Quota(MESSAGES_PER_S, MESSAGES_PER_S) if real else None
        wire = Wire(
            compose=lambda name, updates: compose(self._accounts[name], updates, time.time()),
            sign=lambda name, raw: signature(self._secret(name), raw),
            challenge=lambda name, text: challenge(self._accounts[name].verify_token, text),
        )
        webhooks = Webhooks(app, config.webhook_url, wire, config.patience)
        self._simulator = Simulator(
            app, Channel(frozenset(self._accounts), webhooks, self._write, InstagramSettings())
        )
        app.http.router.add_routes(
            [
                web.post(f"{_NODE}/messages", self.send),
                web.get(_NODE, self.owner, allow_head=False),
                web.route("*", "/{path:(?!_sim/).*}", self.unknown),
            ]
        )

    async def send(self, request: web.Request) -> web.Response:
        """Take a message, or an action."""
        receipt = InstagramReceipt(received_at=time.time())
        course, plan = NORMAL, Plan()
        message = None
        try:
            name = receipt.account = self._authenticate(request)
            asked = parse(await _body(request), request.content_type)
            if isinstance(asked, Action):
                return self._act(name, asked)
            message = asked
            _describe(receipt, message)
            course = self._simulator.faults.course(name, receipt.to)
            answer = self._take(name, message, receipt, course)
        except Refusal as refusal:
            receipt.error_code, receipt.error_subcode = refusal.code
            answer = self._refuse(refusal)
        if course.answered:
            receipt.answered_at = time.time() + course.wait_s
            receipt.answer = answer.status
        self._simulator.record(receipt)
        if receipt.kept and message is not None:
            plan = self._tell(receipt, message)
        return await self._simulator.finish(request, course, answer, plan)

    async def owner(self, request: web.Request) -> web.Response:
        """Return the fields of a token's owner: how credentials are checked."""
        try:
            account = self._accounts[self._authenticate(request)]
            return _json(_fields(self._owner(account), request.query.get("fields")))
        except Refusal as refusal:
            return self._refuse(refusal)

    async def unknown(self, request: web.Request) -> web.Response:
        """Refuse what is not offered here."""
        node = re.match(r"/v\d+\.\d+/(\d+|me)(/|$)", request.path)
        if node is not None:
            return self._refuse(unknown_object(request.method, node[1]))
        return self._refuse(Refusal(UNKNOWN_PATH, f"Unknown path components: {request.path}"))

    def _refuse(self, refusal: Refusal) -> web.Response:
        return refusal.answer(self._simulator.settings.error_status)

    def _authenticate(self, request: web.Request) -> str:
        """Return the account of the token, if the object in the path is its own."""
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme != "Bearer":
            token = request.query.get("access_token", "")
        name = self._names.get(token)
        if name is None:
            raise Refusal(INVALID_TOKEN, "Invalid OAuth access token - Cannot parse access token")
        node_id = request.match_info["node_id"]
        if node_id not in ("me", self._node(self._accounts[name])):
            raise unknown_object(request.method, node_id)
        if self._simulator.faults.take((Kind.TOKEN_EXPIRED,), name) is not None:
            text = "Error validating access token: Session has expired."
            raise Refusal(EXPIRED_TOKEN, text)
        return name

    def _node(self, account: Account) -> str:
        return account.ig_id if self._by_instagram else account.page_id or account.ig_id

    def _owner(self, account: Account) -> dict[str, Any]:
        """Return what is known of an account or its page; an account's `id` is the app's own."""
        if self._by_instagram:
            return {
                "id": f"2{account.ig_id[1:]}",
                "user_id": account.ig_id,
                "username": "simulated.business",
                "name": "Simulated business",
                "account_type": "BUSINESS",
            }
        return {
            "id": self._node(account),
            "name": "Simulated business",
            "instagram_business_account": {"id": account.ig_id},
        }

    def _secret(self, name: str) -> str:
        secrets = self._accounts[name].app_secrets
        return secrets[0 if self._simulator.settings.signed_by == "first" else -1]

    def _take(
        self, name: str, message: Message, receipt: InstagramReceipt, course: Course
    ) -> web.Response:
        """Keep a message and accept it, as its course has it; raise Refusal otherwise."""
        if not course.refused:
            self._check_limits(name, message)
        mid = self._ids.make(self._accounts[name], receipt.to)
        if course.kept:
            receipt.kept, receipt.provider_id = True, mid
        if course.refused and course.fault is not None:
            raise scripted(course.fault)
        return _json({"recipient_id": receipt.to, "message_id": mid})

    def _check_limits(self, name: str, message: Message) -> None:
        settings, customer, now = self._simulator.settings, message.recipient.id, time.time()
        self._check_known(name, customer)
        if self._simulator.webhooks.full:
            raise Refusal(TOO_MANY_CALLS, "Too many webhooks wait to be taken.")
        if self._quota is not None and not self._quota.take(name, now):
            raise Refusal(TOO_MANY_CALLS)
        window_s = WINDOW_S if message.tag is None else WINDOW_OF_PEOPLE_S
        if (
            settings.enforce_window == "answer"
            and self._customers.silence_s(name, customer, now) > window_s
        ):
            raise Refusal(OUTSIDE_WINDOW)

    def _check_known(self, name: str, customer: str) -> None:
        wrote_first = self._simulator.settings.known_users == "wrote-first"
        if customer == self._accounts[name].ig_id or (
            wrote_first and not self._customers.knows(name, customer)
        ):
            raise Refusal(NO_SUCH_USER)

    def _tell(self, receipt: InstagramReceipt, message: Message) -> Plan:
        settings = self._simulator.settings
        name, to, mid = receipt.account or "", receipt.to, receipt.provider_id or ""
        account, now = self._accounts[name], time.time()
        updates = []
        for n, step in enumerate(settings.statuses, 1):
            at = now + n * settings.status_delay_s
            if step == "read":
                node = read_node(account, to, at, mid)
            else:
                node = echo_node(account, to, at, _shown(mid, message))
            updates.append(update(name, node))
        return self._simulator.tell(updates, to) if updates else []

    def _act(self, name: str, action: Action) -> web.Response:
        """Show a customer something that is not a message."""
        try:
            self._check_action(name, action)
        except Refusal as refusal:
            return self._refuse(refusal)
        return _json({"recipient_id": action.recipient.id})

    def _check_action(self, name: str, action: Action) -> None:
        """Raise Refusal unless the customer, and what is reacted to, are this account's."""
        customer, reaction = action.recipient.id, action.payload
        self._check_known(name, customer)
        if reaction and not self._ids.is_from(self._accounts[name], customer, reaction.message_id):
            raise Refusal(INVALID, "Param payload[message_id]: there is no such message.")

    def _write(self, name: str, written: CustomerMessage) -> str:
        """Let a customer write: the message goes to the account's webhook."""
        customer = written.sender
        if not re.fullmatch(r"[0-9]{1,32}", customer):
            raise Problem("invalid_field", "Give the customer's id in digits.", field="from")
        account, now = self._accounts[name], time.time()
        mid = self._ids.make(account, customer)
        self._customers.wrote(name, customer, now)
        message: dict[str, Any] = {"mid": mid, "text": written.text}
        if written.reply_to is not None:
            message["reply_to"] = {"mid": written.reply_to}
        node = message_node(account, customer, now, message)
        self._simulator.tell([update(name, node)], customer)
        return mid


def _shown(mid: str, message: Message) -> dict[str, Any]:
    """Return a message that went out as its echo shows it."""
    shown: dict[str, Any] = {"mid": mid}
    if message.message.text is not None:
        shown["text"] = message.message.text
    if message.message.attachment is not None:
        link = (
            message.message.attachment.payload.url or "https://lookaside.fbsbx.com/ig_messaging_cdn"
        )
        shown["attachments"] = [{"type": message.type, "payload": {"url": link}}]
    if message.context is not None:
        shown["reply_to"] = {"mid": message.context}
    return shown


def _fields(owner: dict[str, Any], asked: str | None) -> dict[str, Any]:
    names = ["id", *(asked.split(",") if asked else ())]
    unknown = next((name for name in names if name not in owner), None)
    if unknown is not None:
        raise Refusal(INVALID, f"Tried accessing nonexisting field ({unknown})")
    return {name: owner[name] for name in names}


def _describe(receipt: InstagramReceipt, message: Message) -> None:
    receipt.to = message.recipient.id
    receipt.type = message.type
    receipt.text = message.message.text or ""
    receipt.context = message.context


async def _body(request: web.Request) -> bytes:
    try:
        return await request.read()
    except web.HTTPRequestEntityTooLarge as error:
        raise Refusal(INVALID, "The request is too large.", status=413) from error


def _json(body: object) -> web.Response:
    return web.Response(body=_encode(body), content_type="application/json")


def build(app: App[InstagramSimulatorConfig]) -> None:
    """Wire the simulator."""
    Graph(app)


if __name__ == "__main__":
    run(InstagramSimulatorConfig, build)
