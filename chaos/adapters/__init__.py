"""How the outside is reached: the platform's API, Nomad, the provider's receipts."""

import aiohttp

NO_ANSWER = (aiohttp.ClientError, TimeoutError)
"""What a question ends with that nobody answered, or not with what was asked for."""
