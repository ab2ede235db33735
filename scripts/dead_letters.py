"""The command line of dead letters: list them, send them again, give them up."""

import asyncio
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from chaos.adapters.platform import connect

app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__)
console = Console(highlight=False)
BATCH_MAX = 100
Channel = Annotated[str | None, typer.Option(help="Only of this channel.")]
Code = Annotated[str | None, typer.Option(help="Only with this reason.")]
Letters = Annotated[list[str], typer.Argument(help="Letter ids; none means all that match.")]


@app.command("list")
def list_letters(*, state: str = "OPEN", channel: Channel = None, code: Code = None) -> None:
    """Show dead letters and why they died."""
    table = Table("letter", "at", "channel or topic", "reason", "attempts", "message")
    for letter in asyncio.run(_find(state, channel, code)):
        delivery, record = letter["delivery"] or {}, letter["record"] or {}
        table.add_row(
            letter["letter_id"],
            letter["at"],
            delivery.get("channel") or record.get("topic"),
            letter["reason"]["code"],
            str(len(letter["attempts"])),
            delivery.get("message_id", ""),
        )
    console.print(table)


@app.command()
def replay(letters: Letters = [], *, channel: Channel = None, code: Code = None) -> None:  # noqa: B006 - typer reads it
    """Send dead letters again, each conversation's in their original order."""
    chosen = letters or [one["letter_id"] for one in asyncio.run(_find("OPEN", channel, code))]
    for start in range(0, len(chosen), BATCH_MAX):
        batch = chosen[start : start + BATCH_MAX]
        asyncio.run(_call("dead-letters/batch/replay", {"letter_ids": batch}))
    console.print(f"{len(chosen)} sent again")


@app.command()
def drop(letter: str, reason: str) -> None:
    """Give a dead letter up, and say why."""
    asyncio.run(_call(f"dead-letters/{letter}/drop", {"reason": reason}))
    console.print("dropped")


async def _find(state: str, channel: str | None, code: str | None) -> list[dict[str, Any]]:
    wanted = {"state": state, "channel": channel, "code": code, "limit": "100"}
    query = "&".join(f"{name}={value}" for name, value in wanted.items() if value)
    found: list[dict[str, Any]] = []
    cursor = ""
    async with connect() as platform:
        while True:
            page = await _answer(platform, "GET", f"/dead-letters?{query}{cursor}", None)
            found += page["items"]
            if page["next_cursor"] is None:
                # The newest come first; what is sent again goes in the order of its failures.
                return found[::-1]
            cursor = f"&cursor={page['next_cursor']}"


async def _call(path: str, body: object) -> None:
    async with connect() as platform:
        await _answer(platform, "POST", f"/{path}", body)


async def _answer(platform: Any, method: str, path: str, body: object) -> Any:
    status, answer, _ = await platform.api.call(method, path, body)
    if status >= 400:  # noqa: PLR2004 - refused
        console.print(f"[red]{answer['title']} {answer.get('detail') or ''}[/red]")
        raise typer.Exit(1)
    return answer


if __name__ == "__main__":
    app()
