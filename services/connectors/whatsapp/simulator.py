"""The provider's side of the WhatsApp Cloud API: an independent, strict reading of its wire."""

import re
import time
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec
from aiohttp import web
from msgspec import Meta

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
from services.connectors.whatsapp.simulator_errors import (
    KNOWN,
    Refusal,
    expired,
    scripted,
    unknown_object,
)
from services.connectors.whatsapp.simulator_nodes import (
    INBOUND,
    OUTBOUND,
    Account,
    Envelope,
    MessageIds,
    error_node,
    message_update,
    status_node,
    status_update,
)
from services.connectors.whatsapp.simulator_requests import Message, ReadMark, parse
from services.contracts.problems import Problem
from services.runtime.app import App, run

MESSAGES_PER_S = 80
PAIR_INTERVAL_S = 6.0
PAIR_BURST = 45
WINDOW_S = 86400.0
OUTSIDE_WINDOW = 131047
UNDELIVERABLE = 131026
_NODE = r"/v{version:\d+}.{minor:\d+}/{node_id:\d+}"
_BRAZILIAN_MOBILE = re.compile(r"55(\d\d)9(\d{8})")
_encode = msgspec.json.Encoder().encode

Step = Literal["sent", "delivered", "read"]


class WhatsAppSimulatorConfig(SimulatorConfig, frozen=True, kw_only=True):
    """What this simulator is told: its accounts by name."""

    accounts: dict[str, Account]
    error_status: Annotated[str, Meta(pattern="^(documented|seen)$")] = "documented"


class WhatsAppSettings(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What can be switched.

    `enforce_window` refuses what is written more than 24 h after the customer's last message, in
    the answer or in a failed status; `error_status` chooses between the HTTP statuses that are
    documented and those that were seen; `drop_ninth_digit` names Brazilian mobiles as old ones.
    """

    statuses: tuple[Step, ...] = ("sent", "delivered", "read")
    enforce_window: Literal["off", "answer", "status"] = "off"
    error_status: Literal["documented", "seen"] = "documented"
    drop_ninth_digit: bool = False


class WhatsAppReceipt(Receipt, kw_only=True):
    """A receipt with what only this channel has."""

    context: str | None = None
    opaque: str | None = None


class CloudApi:
    """The endpoints of one provider with several accounts."""

    def __init__(self, app: App[WhatsAppSimulatorConfig]) -> None:
        config = app.config
        self._accounts = config.accounts
        self._names = {account.phone_number_id: name for name, account in self._accounts.items()}
        self._envelopes = {name: Envelope(a) for name, a in self._accounts.items()}
        self._ids = MessageIds()
        self._last_inbound: dict[tuple[str, str], float] = {}
        real = config.quota_profile == REAL
        self._number_quota = Quota(MESSAGES_PER_S, MESSAGES_PER_S) if real else None
        self._pair_quota = Quota(1 / PAIR_INTERVAL_S, PAIR_BURST) if real else None
        settings = msgspec.convert({"error_status": config.error_status}, WhatsAppSettings)
        wire = Wire(
            compose=lambda name, updates: self._envelopes[name].pack(updates),
            sign=lambda name, raw: signature(self._accounts[name].app_secret, raw),
            challenge=lambda name, text: challenge(self._accounts[name].verify_token, text),
        )
        webhooks = Webhooks(app, config.webhook_url, wire, config.patience)
        self._simulator = Simulator(
            app, Channel(frozenset(self._accounts), webhooks, self._write, settings)
        )
        app.http.router.add_routes(
            [
                web.post(f"{_NODE}/messages", self.send),
                web.get(_NODE, self.phone_number, allow_head=False),
                web.route("*", "/{path:(?!_sim/).*}", self.unknown),
            ]
        )

    async def send(self, request: web.Request) -> web.Response:
        """Take a message, or a mark that one was read."""
        receipt = WhatsAppReceipt(received_at=time.time())
        course, plan = NORMAL, Plan()
        try:
            name = receipt.account = self._authenticate(request)
            message = parse(await _body(request), request.content_type)
            if isinstance(message, ReadMark):
                return self._mark_read(name, message)
            _describe(receipt, message)
            course = self._simulator.faults.course(name, _digits(message.to))
            answer = self._take(name, message, receipt, course)
        except Refusal as refusal:
            receipt.error_code = refusal.code
            answer = refusal.answer(self._simulator.settings.error_status)
        if course.answered:
            receipt.answered_at = time.time() + course.wait_s
            receipt.answer = answer.status
        self._simulator.record(receipt)
        if receipt.kept:
            plan = self._tell_statuses(receipt, int(request.match_info["version"]))
        return await self._simulator.finish(request, course, answer, plan)

    async def phone_number(self, request: web.Request) -> web.Response:
        """Return the fields of a business number: how credentials are checked."""
        try:
            account = self._accounts[self._authenticate(request)]
            return _json(_number_fields(account, request.query.get("fields")))
        except Refusal as refusal:
            return refusal.answer(self._simulator.settings.error_status)

    async def unknown(self, request: web.Request) -> web.Response:
        """Refuse what is not offered here."""
        node = re.match(r"/v\d+\.\d+/(\d+)", request.path)
        if node is not None:
            refusal = unknown_object(request.method, node[1])
        else:
            refusal = Refusal(2500, f"Unknown path components: {request.path}")
        return refusal.answer(self._simulator.settings.error_status)

    def _authenticate(self, request: web.Request) -> str:
        """Return the account of the number in the path, if the token may use it."""
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        known = (account.access_token for account in self._accounts.values())
        if scheme != "Bearer" or token not in known:
            raise Refusal(190, "Invalid OAuth access token - Cannot parse access token")
        node_id = request.match_info["node_id"]
        name = self._names.get(node_id)
        if name is None or self._accounts[name].access_token != token:
            raise unknown_object(request.method, node_id)
        if self._simulator.faults.take((Kind.TOKEN_EXPIRED,), name) is not None:
            raise expired()
        return name

    def _take(
        self, name: str, message: Message, receipt: WhatsAppReceipt, course: Course
    ) -> web.Response:
        """Keep a message and accept it, as its course has it; raise Refusal otherwise."""
        if not course.refused:
            self._check_limits(name, message)
        wamid = self._ids.make(self._accounts[name], _digits(message.to), OUTBOUND)
        if course.kept:
            receipt.kept, receipt.provider_id = True, wamid
        if course.refused and course.fault is not None:
            raise scripted(course.fault)
        return self._accepted(message, wamid)

    def _check_limits(self, name: str, message: Message) -> None:
        digits = _digits(message.to)
        now = time.time()
        if digits == self._accounts[name].display_phone_number:
            raise Refusal(131021, "The recipient's number is the sender's.")
        if self._simulator.webhooks.full:
            raise Refusal(130429, "Too many webhooks wait to be taken.")
        if self._number_quota is not None and not self._number_quota.take(name, now):
            raise Refusal(130429, "The number's messages per second are used up.")
        if self._pair_quota is not None and not self._pair_quota.take((name, digits), now):
            raise Refusal(131056, "Too many messages to this number in a short time.")
        if self._simulator.settings.enforce_window == "answer" and self._window_closed(
            name, message.type, digits
        ):
            raise Refusal(OUTSIDE_WINDOW, "More than 24 hours since the customer last wrote.")

    def _window_closed(self, name: str, kind: str | None, digits: str) -> bool:
        last = self._last_inbound.get((name, self._wa_id(digits)), 0.0)
        return kind != "template" and time.time() > last + WINDOW_S

    def _accepted(self, message: Message, wamid: str) -> web.Response:
        entry = {"id": wamid}
        if message.type == "template":
            entry["message_status"] = "accepted"
        contact = {"input": message.to, "wa_id": self._wa_id(_digits(message.to))}
        return _json({"messaging_product": "whatsapp", "contacts": [contact], "messages": [entry]})

    def _tell_statuses(self, receipt: WhatsAppReceipt, version: int) -> Plan:
        settings = self._simulator.settings
        name, to = receipt.account or "", receipt.to
        failure = self._failure(name, to, receipt.type)
        steps: Sequence[str] = settings.statuses if failure is None else ("failed",)
        now = time.time()
        updates = []
        for n, step in enumerate(steps, 1):
            node = status_node(
                receipt.provider_id or "",
                step,
                now + n * settings.status_delay_s,
                self._wa_id(to),
                receipt.opaque,
                version,
            )
            if failure is not None:
                node["errors"] = [error_node(failure, KNOWN[failure].text)]
            updates.append(status_update(name, node))
        return self._simulator.tell(updates, to) if updates else []

    def _failure(self, name: str, to: str, kind: str | None) -> int | None:
        """Return the code with which an accepted message fails later, if it does."""
        standing = self._simulator.faults.take((Kind.STATUS_FAILED,), name, to)
        if standing is not None:
            code = standing.fault.code
            return code if code in KNOWN else UNDELIVERABLE
        enforced = self._simulator.settings.enforce_window == "status"
        return OUTSIDE_WINDOW if enforced and self._window_closed(name, kind, to) else None

    def _mark_read(self, name: str, mark: ReadMark) -> web.Response:
        if not self._ids.is_inbound(self._accounts[name], mark.message_id):
            refusal = Refusal(131009, "Param message_id: no customer's message has this id.")
            return refusal.answer(self._simulator.settings.error_status)
        return _json({"success": True})

    def _write(self, name: str, written: CustomerMessage) -> str:
        """Let a customer write: the message goes to the account's webhook."""
        account = self._accounts[name]
        digits = _digits(written.sender)
        if not digits:
            raise Problem("invalid_field", "Give the customer's number in digits.", field="from")
        wa_id = self._wa_id(digits)
        wamid = self._ids.make(account, wa_id, INBOUND)
        self._last_inbound[name, wa_id] = time.time()
        message: dict[str, Any] = {
            "from": wa_id,
            "id": wamid,
            "timestamp": str(int(time.time())),
            "type": "text",
            "text": {"body": written.text},
        }
        if written.reply_to is not None:
            message["context"] = {
                "from": account.display_phone_number,
                "id": written.reply_to,
            }
        contact = {"profile": {"name": written.name or wa_id}, "wa_id": wa_id}
        self._simulator.tell([message_update(name, contact, message)], digits)
        return wamid

    def _wa_id(self, digits: str) -> str:
        if self._simulator.settings.drop_ninth_digit:
            found = _BRAZILIAN_MOBILE.fullmatch(digits)
            return f"55{found[1]}{found[2]}" if found else digits
        return digits


def _number_fields(account: Account, asked: str | None) -> dict[str, str]:
    fields = {
        "id": account.phone_number_id,
        "display_phone_number": account.display_phone_number,
        "verified_name": "Simulated business",
        "quality_rating": "GREEN",
    }
    names = ["id", *(asked.split(",") if asked else fields)]
    unknown = next((name for name in names if name not in fields), None)
    if unknown is not None:
        raise Refusal(100, f"Tried accessing nonexisting field ({unknown}).")
    return {name: fields[name] for name in names}


def _describe(receipt: WhatsAppReceipt, message: Message) -> None:
    receipt.to = _digits(message.to)
    receipt.type = message.type
    receipt.text = message.text.body if message.text else ""
    receipt.context = message.context.message_id if message.context else None
    receipt.opaque = message.biz_opaque_callback_data


async def _body(request: web.Request) -> bytes:
    try:
        return await request.read()
    except web.HTTPRequestEntityTooLarge as error:
        raise Refusal(100, "The request is too large.", status=413) from error


def _digits(number: str) -> str:
    return number if number.isdecimal() else re.sub(r"\D", "", number)


def _json(body: object) -> web.Response:
    return web.Response(body=_encode(body), content_type="application/json")


def build(app: App[WhatsAppSimulatorConfig]) -> None:
    """Wire the simulator."""
    CloudApi(app)


if __name__ == "__main__":
    run(WhatsAppSimulatorConfig, build)
