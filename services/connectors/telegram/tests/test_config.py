"""What the connector is told, and the made-up accounts for a simulator."""

import subprocess
import sys

import msgspec
import pytest

from services.connectors.telegram import config, simulator_nodes


def test_made_up_accounts_suit_both_sides() -> None:
    """The module prints two accounts that connector and simulator both read."""
    made = subprocess.run(  # noqa: S603 - our own module
        [sys.executable, "-m", config.__name__], capture_output=True, check=True
    ).stdout
    ours = msgspec.json.decode(made, type=dict[str, config.Account])
    theirs = msgspec.json.decode(made, type=dict[str, simulator_nodes.Account])
    assert list(ours) == ["main", "second"]
    assert ours["main"].bot_token != ours["second"].bot_token
    assert theirs["main"].bot_id == int(ours["main"].bot_token.partition(":")[0])


@pytest.mark.parametrize(
    "account",
    [
        pytest.param({"bot_token": "123:abc", "secret_token": "x" * 16}, id="short token"),
        pytest.param({"bot_token": f"a:{'x' * 35}", "secret_token": "x" * 16}, id="no bot"),
        pytest.param({"bot_token": f"1:{'x' * 35}", "secret_token": "x y" * 9}, id="space"),
        pytest.param({"bot_token": f"1:{'/' * 35}", "secret_token": "x" * 16}, id="path"),
        pytest.param({"bot_token": f"1:{'x' * 35}", "secret_token": "x"}, id="short secret"),
    ],
)
def test_what_cannot_be_an_account_is_refused(account: dict[str, str]) -> None:
    """Tokens and secrets have the form that the provider gives and takes."""
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(account, config.Account)
