"""Every error the API answers with: RFC 9457 problems with a stable code."""

from typing import Final

from msgspec import Struct

CATALOGUE: Final[dict[str, tuple[int, str]]] = {
    "invalid_json": (400, "The body is not valid JSON."),
    "invalid_query": (400, "A query parameter is not valid."),
    "missing_api_key": (401, "An API key is needed."),
    "invalid_api_key": (401, "The API key is unknown or revoked."),
    "invalid_signature": (401, "The webhook's signature does not match its bytes."),
    "missing_scope": (403, "The API key may not do this."),
    "verification_refused": (403, "The webhook's verification token does not match."),
    "not_found": (404, "There is no such resource."),
    "unknown_account": (404, "The channel has no such account."),
    "method_not_allowed": (405, "The resource does not know this method."),
    "body_too_slow": (408, "The body did not arrive in time."),
    "in_progress": (409, "The same request is being worked on; repeat it for its answer."),
    "already_resolved": (409, "The dead letter was replayed or dropped before."),
    "message_id_conflict": (409, "The message id was used for another message."),
    "identity_taken": (409, "The address is a user's already."),
    "body_too_large": (413, "The body is larger than allowed."),
    "unsupported_media_type": (415, "The body must be application/json."),
    "misdirected": (421, "This address belongs to another service now."),
    "invalid_field": (422, "A field is not valid."),
    "missing_field": (422, "A required field is missing."),
    "unknown_field": (422, "A field is not known."),
    "unknown_conversation": (422, "The conversation does not exist."),
    "unknown_user": (422, "A user does not exist."),
    "unknown_reply": (422, "The message replied to is not in this conversation."),
    "not_a_participant": (422, "The sender does not take part in the conversation."),
    "no_recipient": (422, "Nobody else takes part in the conversation."),
    "unknown_channel": (422, "There is no such channel."),
    "channel_disabled": (422, "The channel is disabled."),
    "no_identity": (422, "A recipient has no identity on the channel."),
    "idempotency_key_conflict": (422, "The idempotency key was used for another message."),
    "not_replayable": (422, "The dead letter has no way to be sent again."),
    "rate_limited": (429, "The API key sends more than it may; wait and repeat the request."),
    "internal_error": (500, "Something went wrong here; the request id names it in our logs."),
    "unavailable": (503, "Something this needs is away; the same request may be repeated."),
}


class ProblemBody(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The body of an error answer, `application/problem+json`."""

    type: str
    title: str
    status: int
    code: str
    request_id: str
    detail: str | None = None
    field: str | None = None


class Problem(Exception):  # noqa: N818 - it is the field's word, RFC 9457
    """An error answer: a code of the catalogue, one sentence, and the field it is about."""

    def __init__(
        self,
        code: str,
        detail: str | None = None,
        *,
        field: str | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(code, detail)
        self.code = code
        self.status, self.title = CATALOGUE[code]
        self.detail = detail
        self.field = field
        self.retry_after_s = retry_after_s

    def body(self, request_id: str) -> ProblemBody:
        """Return what the client reads."""
        return ProblemBody(
            type=f"urn:chat4all:problem:{self.code}",
            title=self.title,
            status=self.status,
            code=self.code,
            request_id=request_id,
            detail=self.detail,
            field=self.field,
        )
