"""Where the real parts of the connected tests are."""

import os

import pytest


@pytest.fixture(scope="session")
def postgres_address() -> str:
    """Return host:port of the test instance's PostgreSQL."""
    return os.environ["CHAT4ALL_TEST_POSTGRES"]


@pytest.fixture(scope="session")
def postgres_password() -> str:
    """Return the password of the test instance's PostgreSQL."""
    return os.environ["CHAT4ALL_TEST_POSTGRES_PASSWORD"]
