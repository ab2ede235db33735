"""The provider's side of the pager exchange: an independent, strict reading of its wire."""

import hashlib
import hmac
import re
import time
from datetime import UTC, datetime
from itertools import count
from typing import Literal
from xml.etree import ElementTree as ET

import aiohttp
from aiohttp import web
from msgspec import Struct

from services.connectors.simulator import (
    Channel,
    CustomerMessage,
    Settings,
    Simulator,
    SimulatorConfig,
)
from services.connectors.simulator_faults import NORMAL, Course, Kind, Plan
from services.connectors.simulator_receipts import Receipt
from services.connectors.simulator_webhooks import Update, Webhooks, Wire
from services.contracts.problems import Problem
from services.runtime.app import App, run
from services.runtime.config import Secret

TEXT_LENGTH_MAX = 160
_NUMBER = re.compile(r"[0-9]{3,15}")


class Account(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One line, as the exchange knows it."""

    line: str
    password: Secret
    shared_secret: Secret


class PagerSimulatorConfig(SimulatorConfig, frozen=True, kw_only=True):
    """What this simulator is told: its lines by name."""

    accounts: dict[str, Account]


class PagerSettings(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What can be switched: an exchange tells that a page was delivered, never that it was read."""

    statuses: tuple[Literal["delivered"], ...] = ("delivered",)


class PagerReceipt(Receipt, kw_only=True):
    """A receipt with what only this channel has."""

    reference: str = ""


class Refusal(Exception):  # noqa: N818 - what the provider does with a request
    """A request is answered with an error."""

    def __init__(self, status: int, text: str, retry_after_s: int | None = None) -> None:
        super().__init__(status, text)
        self.status = status
        self.text = text
        self.retry_after_s = retry_after_s

    def answer(self) -> web.Response:
        """Return the error as XML."""
        found = _xml("error", self.text)
        found.set_status(self.status)
        if self.retry_after_s is not None:
            found.headers["Retry-After"] = str(self.retry_after_s)
        return found


class Exchange:
    """The endpoints of one provider with several lines."""

    def __init__(self, app: App[PagerSimulatorConfig]) -> None:
        config = app.config
        self._accounts = config.accounts
        self._numbers = count(time.time_ns())
        wire = Wire(
            compose=self._events,
            sign=lambda _name, _raw: {"Content-Type": "application/xml"},
            sign_query=self._signature,
            batch_max=1,
        )
        webhooks = Webhooks(app, config.webhook_url, wire, config.patience)
        self._simulator = Simulator(
            app, Channel(frozenset(self._accounts), webhooks, self._write, PagerSettings())
        )
        app.http.router.add_routes(
            [
                web.post("/lines/{line}/pages", self.page),
                web.get("/lines/{line}", self.line, allow_head=False),
            ]
        )

    async def page(self, request: web.Request) -> web.Response:
        """Take a page."""
        receipt = PagerReceipt(received_at=time.time(), type="page")
        course, plan = NORMAL, Plan()
        try:
            name = receipt.account = self._authenticate(request)
            _read(await request.read(), request.content_type, receipt)
            course = self._simulator.faults.course(name, receipt.to)
            answer = self._take(receipt, course)
        except Refusal as refusal:
            receipt.error_code = refusal.status
            answer = refusal.answer()
        if course.answered:
            receipt.answered_at = time.time() + course.wait_s
            receipt.answer = answer.status
        self._simulator.record(receipt)
        if receipt.kept and self._simulator.settings.statuses:
            told = {"page": receipt.provider_id or "", "reference": receipt.reference}
            event = _event("delivered", told)
            plan = self._simulator.tell([Update(name, "event", event)], receipt.to)
        return await self._simulator.finish(request, course, answer, plan)

    async def line(self, request: web.Request) -> web.Response:
        """Return a line's record: how credentials are checked."""
        try:
            name = self._authenticate(request)
        except Refusal as refusal:
            return refusal.answer()
        return _xml("line", number=self._accounts[name].line)

    def _authenticate(self, request: web.Request) -> str:
        """Return the account of the line in the path, if its password came in the header."""
        given = request.headers.get("Authorization", "").encode()
        for name, account in self._accounts.items():
            right = aiohttp.BasicAuth(account.line, account.password).encode().encode()
            if account.line == request.match_info["line"] and hmac.compare_digest(given, right):
                if self._simulator.faults.take((Kind.TOKEN_EXPIRED,), name) is None:
                    return name
                break
        raise Refusal(401, "The line and its password do not match.")

    def _take(self, receipt: PagerReceipt, course: Course) -> web.Response:
        """Keep a page and accept it, as its course has it; raise Refusal otherwise."""
        if not course.refused and self._simulator.webhooks.full:
            raise Refusal(503, "Too many events wait to be taken.")
        page_id = f"page-{next(self._numbers)}"
        if course.kept:
            receipt.kept, receipt.provider_id = True, page_id
        if course.refused and course.fault is not None:
            usual = 429 if course.fault.kind is Kind.THROTTLE else 500
            status = course.fault.status or usual
            raise Refusal(status, "This error was scripted.", course.fault.retry_after_s)
        answer = _xml("page", id=page_id)
        answer.set_status(201)
        return answer

    def _write(self, name: str, written: CustomerMessage) -> str:
        """Let somebody answer a page: the event goes to the line's webhook."""
        if not _NUMBER.fullmatch(written.sender):
            raise Problem("invalid_field", "Give the pager's number in digits.", field="from")
        reply_id = f"reply-{next(self._numbers)}"
        told = {"id": reply_id, "from": written.sender, "name": written.name or written.sender}
        event = _event("reply", told, written.text)
        self._simulator.tell([Update(name, "event", event)], written.sender)
        return reply_id

    def _events(self, name: str, updates: list[Update]) -> bytes:
        line = self._accounts[name].line.encode()
        return b'<events line="%b">%b</events>' % (line, b"".join(u.node for u in updates))

    def _signature(self, name: str, raw: bytes) -> dict[str, str]:
        secret = self._accounts[name].shared_secret.encode()
        return {"signature": hmac.digest(secret, raw, hashlib.sha256).hex()}


def _read(raw: bytes, content_type: str, receipt: PagerReceipt) -> None:
    """Read a page into its receipt; raise Refusal when it is not as documented."""
    try:
        page = ET.fromstring(raw)  # noqa: S314 - from the line's owner
    except (ET.ParseError, ValueError) as error:
        raise Refusal(422, "The body is no XML.") from error
    if content_type != "application/xml" or page.tag != "page" or len(page):
        raise Refusal(422, "The body is no page.")
    if page.keys() != ["to", "reference"] or not _NUMBER.fullmatch(page.attrib["to"]):
        raise Refusal(422, "A page has a number it goes to and a reference.")
    receipt.to, receipt.reference = page.attrib["to"], page.attrib["reference"]
    receipt.text = page.text or ""
    if not 0 < len(receipt.text) <= TEXT_LENGTH_MAX:
        raise Refusal(422, f"A page has 1 to {TEXT_LENGTH_MAX} characters.")


def _event(tag: str, attributes: dict[str, str], text: str | None = None) -> bytes:
    event = ET.Element(tag, attributes | {"at": datetime.now(UTC).isoformat()})
    event.text = text
    raw: bytes = ET.tostring(event, encoding="utf-8", xml_declaration=False)
    return raw.replace(b"\r", b"&#13;")  # a reader would take the bare one for a line's end


def _xml(tag: str, text: str | None = None, **attributes: str) -> web.Response:
    element = ET.Element(tag, attributes)
    element.text = text
    return web.Response(body=ET.tostring(element), content_type="application/xml")


def build(app: App[PagerSimulatorConfig]) -> None:
    """Wire the simulator."""
    Exchange(app)


if __name__ == "__main__":
    run(PagerSimulatorConfig, build)
