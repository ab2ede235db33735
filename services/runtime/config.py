"""One typed configuration per process: environment first, then Consul KV, then defaults."""

import types
import typing
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta, Struct

Port = Annotated[int, Meta(ge=1, le=65535)]
Secret = Annotated[str, Meta(min_length=16)]


class InvalidConfig(Exception):  # noqa: N818 - a sentence for the person who starts the process
    """The configuration cannot be used; `problems` has one sentence for each reason."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class Config(Struct, frozen=True, kw_only=True):
    """What every process is told. An address that is not given is found through Consul."""

    service_name: str
    instance_id: str
    http_host: str
    http_port: Port
    lifeline_port: Port | None = None
    """Where peers of the same service watch this process; without it nobody does."""
    consul_http_addr: str
    internal_token: Secret
    kafka_address: str | None = None
    mongodb_address: str | None = None
    postgres_address: str | None = None
    redis_address: str | None = None
    postgres_password: str = ""
    stop_timeout_s: float = 15.0


C = TypeVar("C", bound=Struct)


def load(kind: type[C], environment: Mapping[str, str], kv: Mapping[str, str]) -> C:
    """Build a configuration; raise InvalidConfig with all problems at once.

    A field `http_port` is read from the variable HTTP_PORT, else from the KV key `http_port`.
    Values of structured types are JSON. Problems name the field, never its value.
    """
    values: dict[str, Any] = {}
    problems: list[str] = []
    for field in msgspec.structs.fields(kind):
        text = environment.get(field.name.upper(), kv.get(field.name))
        if text is None or text == "":
            if field.required:
                problems.append(f"{field.name.upper()} is missing: set it in the job or in Consul")
            continue
        try:
            values[field.name] = _read(text, field.type)
        except (msgspec.ValidationError, msgspec.DecodeError) as error:
            problems.append(f"{field.name.upper()} is not valid: {error}")
    if problems:
        raise InvalidConfig(problems)
    return kind(**values)


def _read(text: str, kind: Any) -> Any:
    if _is_scalar(kind):
        return msgspec.convert(text, kind, strict=False)
    return msgspec.json.decode(text, type=kind)


def _is_scalar(kind: Any) -> bool:
    origin = typing.get_origin(kind)
    if origin is Annotated:
        return _is_scalar(typing.get_args(kind)[0])
    if origin in (types.UnionType, typing.Union):
        return all(_is_scalar(part) for part in typing.get_args(kind))
    return kind in (str, int, float, bool, type(None))
