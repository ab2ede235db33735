"""Where the real parts of the connected tests are: found as services find them, through Consul."""

import os

import pytest
import requests
from hypothesis import settings

# A machine that is busy is no mistake of what is tested.
settings.register_profile("no-deadline", deadline=None)
settings.load_profile("no-deadline")


def _address_of(service: str) -> str:
    url = f"{os.environ['CONSUL_HTTP_ADDR']}/v1/health/service/{service}"
    answer = requests.get(url, params={"passing": "true"}, timeout=5)
    found = answer.json()[0]["Service"]
    return f"{found['Address']}:{found['Port']}"


@pytest.fixture(scope="session")
def postgres_address() -> str:
    """Return host:port of the instance's PostgreSQL."""
    return _address_of("postgres")


@pytest.fixture(scope="session")
def postgres_password() -> str:
    """Return the password of the instance's PostgreSQL."""
    return os.environ["CHAT4ALL_POSTGRES_PASSWORD"]


@pytest.fixture(scope="session")
def mongodb_address() -> str:
    """Return host:port of the instance's MongoDB."""
    return _address_of("mongodb")


@pytest.fixture(scope="session")
def redis_address() -> str:
    """Return host:port of the instance's Redis."""
    return _address_of("redis")


@pytest.fixture(scope="session")
def kafka_address() -> str:
    """Return host:port of the instance's Kafka."""
    return _address_of("kafka")
