"""Delivers updates as the Bot API does: one per request, each chat's one after the other."""

import asyncio
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import msgspec
from msgspec import Struct

from services.connectors.simulator import SimulatorConfig
from services.connectors.simulator_webhooks import (
    Post,
    Subscription,
    Timed,
    Webhooks,
    Wire,
)
from services.connectors.telegram.simulator_errors import too_many_requests
from services.connectors.telegram.simulator_nodes import Account
from services.connectors.telegram.simulator_requests import (
    CONNECTIONS_DEFAULT,
    WebhookRequest,
)
from services.runtime.app import App
from services.runtime.unavailable import Unavailable

RETRY_AFTER_MAX_S = 3600
SET_INTERVAL_S = 1.0
NOT_BY_DEFAULT = ("chat_member", "message_reaction", "message_reaction_count")


class _Numbered(Struct, frozen=True):
    update_id: int


@dataclass(slots=True, kw_only=True)
class ChatPost(Post):
    """The request of one update of a chat: when it may go (again), and whether it is gone."""

    chat: str
    update_id: int
    due: float = 0.0
    under_way: bool = False


@dataclass(slots=True)
class Hook(Subscription):
    """A bot's webhook, verified as soon as it is set, with the updates of each chat in order."""

    asked: WebhookRequest | None = None
    by_job: bool = False
    kinds: tuple[str, ...] = ()
    settable_at: float = 0.0
    last_error_at: float = 0.0
    chats: dict[str, deque[ChatPost]] = field(default_factory=dict)
    ready: deque[str] = field(default_factory=deque)

    @property
    def pending(self) -> list[ChatPost]:
        """Every update that was not taken yet, in the order of their numbers."""
        waiting = (post for queue in self.chats.values() for post in queue)
        return sorted(waiting, key=lambda post: post.update_id)

    def wants(self, kind: str) -> bool:
        """Tell whether a kind of updates was asked for; without a list, all but three are."""
        return kind in self.kinds if self.kinds else kind not in NOT_BY_DEFAULT


class Deliveries(Webhooks):
    """The webhooks of all bots: set by their owners or, to begin with, by the job."""

    def __init__(
        self, app: App[Any], config: SimulatorConfig, accounts: Mapping[str, Account]
    ) -> None:
        wire = Wire(compose=lambda _name, updates: updates[0].node, sign=self._headers)
        super().__init__(app, config.webhook_url, wire, config.patience)
        self.hooks = {name: Hook() for name in accounts}
        self.subscriptions = dict(self.hooks)
        for name, hook in self.hooks.items() if config.webhook_url else ():
            hook.asked = WebhookRequest(
                url=config.webhook_url.replace("{account}", name),
                secret_token=accounts[name].secret_token,
                connections_max=CONNECTIONS_DEFAULT,
            )
            hook.verified = hook.by_job = True

    def set(self, account: str, asked: WebhookRequest) -> str:
        """Send updates elsewhere from now on; return what the answer says of it."""
        hook, now = self.hooks[account], self._clock()
        if now < hook.settable_at:
            raise too_many_requests(1)
        hook.settable_at = now + SET_INTERVAL_S
        hook.attempts += 1
        hook.kinds = hook.kinds if asked.kinds is None else asked.kinds
        place = msgspec.structs.replace(asked, kinds=None, drop_pending=False)
        if hook.asked == place and not asked.drop_pending:
            return "Webhook is already set"
        hook.asked, hook.by_job, hook.verified = place, False, True
        hook.last_error, hook.last_error_at = None, 0.0
        if asked.drop_pending:
            self.forget(account)
        self._hurry(hook)
        self._pump(account, hook)
        return "Webhook was set"

    def delete(self, account: str, *, drop_pending: bool) -> str:
        """Send nothing any more; updates wait for another webhook, or to be asked for."""
        hook = self.hooks[account]
        if drop_pending:
            self.forget(account)
        was_set, hook.verified, hook.asked = hook.verified, False, None
        return "Webhook was deleted" if was_set else "Webhook is already deleted"

    def info(self, account: str) -> dict[str, object]:
        """Return what getWebhookInfo tells."""
        hook = self.hooks[account]
        told: dict[str, object] = {
            "url": hook.asked.url if hook.asked is not None else "",
            "has_custom_certificate": False,
            "pending_update_count": len(hook.fresh) + len(hook.pending),
        }
        if hook.last_error is not None:
            told["last_error_date"] = int(hook.last_error_at)
            told["last_error_message"] = hook.last_error
        if hook.asked is not None:
            told["max_connections"] = hook.asked.connections_max
        if hook.kinds:
            told["allowed_updates"] = hook.kinds
        return told

    def pending(self, account: str, limit: int) -> list[bytes]:
        """Return updates that wait, the oldest first."""
        hook = self.hooks[account]
        self._pump(account, hook)
        return [post.raw for post in hook.pending[:limit]]

    def forget(self, account: str, below: int | None = None) -> None:
        """Let the updates below a number, or all, be over; what is under way is not stopped."""
        hook = self.hooks[account]
        self._pump(account, hook)
        for post in hook.pending:
            if not post.under_way and (below is None or post.update_id < below):
                self._over(hook, post, sent=below is not None)

    async def close(self) -> None:
        """Send what is pending without waiting for its time, as far as it is taken at once."""
        for hook in self.hooks.values():
            self._hurry(hook)
        await super().close()

    def _headers(self, account: str, _raw: bytes) -> Mapping[str, str]:
        asked = self.hooks[account].asked
        headers = {"Content-Type": "application/json"}
        if asked is not None and asked.secret_token:
            headers["X-Telegram-Bot-Api-Secret-Token"] = asked.secret_token
        return headers

    def _target(self, account: str) -> str:
        hook = self.hooks[account]
        if hook.asked is None:
            raise Unavailable("the webhook's address", "none is set")
        return super()._target(account) if hook.by_job else hook.asked.url

    def _hurry(self, hook: Hook) -> None:
        """Let what waits for another attempt go now."""
        for chat, queue in hook.chats.items():
            queue[0].due = 0.0
            hook.ready.append(chat)

    def _pump(self, account: str, subscription: Subscription) -> None:  # noqa: ARG002
        hook = self.hooks[account]
        while hook.fresh:
            self._queue(hook, hook.fresh.popleft())
        hook.ready.extend(post.chat for post in hook.again if isinstance(post, ChatPost))
        hook.again.clear()
        while hook.asked is not None and hook.ready and hook.posts < hook.asked.connections_max:
            queue = hook.chats.get(hook.ready.popleft())
            if queue and not queue[0].under_way and queue[0].due <= self._clock():
                hook.posts += 1
                queue[0].under_way = True
                task = asyncio.create_task(self._deliver(hook, queue[0]), name=f"post-{account}")
                self._tasks.add(task)
                task.add_done_callback(self._done)

    def _queue(self, hook: Hook, timed: Timed) -> None:
        account, chat, node = timed.update
        post = ChatPost(
            account=account,
            raw=node,
            born_at=self._clock(),
            attempted=[timed.attempted] if timed.attempted is not None else [],
            chat=chat,
            update_id=msgspec.json.decode(node, type=_Numbered).update_id,
        )
        hook.chats.setdefault(chat, deque()).append(post)
        hook.ready.append(chat)

    async def _deliver(self, hook: Hook, post: ChatPost) -> None:
        try:
            problem, retry_after_s = await self._post(post)
        finally:
            hook.posts -= 1
            post.under_way = False
        post.attempts += 1
        for event in post.attempted:
            event.set()
        if problem is None:
            self.counters.posts_taken += 1
            self._over(hook, post, sent=True)
        else:
            hook.last_error, hook.last_error_at = problem, time.time()
            self.counters.attempts_failed += 1
            self._again(hook, post, retry_after_s)
        self._pump(post.account, hook)

    async def _post(self, post: ChatPost) -> tuple[str | None, float]:
        """Send an update; return what was wrong with that, and for how long it shall wait."""
        try:
            answer = await self.send_raw(post.account, post.raw)
        except TimeoutError:
            return "Read timeout expired", 0.0
        except (aiohttp.ClientError, OSError, Unavailable):
            return "Webhook connection closed", 0.0
        if 200 <= answer.status < 300:  # noqa: PLR2004
            return None, 0.0
        asked = answer.headers.get("Retry-After", "")
        problem = f"Wrong response from the webhook: {answer.status} {answer.reason}"
        return problem, float(asked) if asked.isdecimal() else 0.0

    def _again(self, hook: Hook, post: ChatPost, retry_after_s: float) -> None:
        """Let an update wait: as long as it was asked to, else not at all, then ever longer."""
        delay_s = min(retry_after_s, RETRY_AFTER_MAX_S)
        if not delay_s and post.attempts > 1:
            delay_s = self._patience.delay_s(post.attempts - 1)
        post.due = self._clock() + delay_s
        if post.due < post.born_at + self._patience.horizon_s:
            self._push(post.due, post)
        else:
            self._over(hook, post, sent=False)

    def _over(self, hook: Hook, post: ChatPost, *, sent: bool) -> None:
        """Take an update out of its chat's queue; the next one may go."""
        self.counters.updates_pending -= 1
        if sent:
            self.counters.updates_sent += 1
        else:
            self.counters.updates_dropped += 1
        queue = hook.chats[post.chat]
        queue.remove(post)
        if queue:
            hook.ready.append(post.chat)
        else:
            del hook.chats[post.chat]
