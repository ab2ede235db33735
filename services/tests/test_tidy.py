"""The house rules that a machine can see."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 70
SERVICES = ("api_gateway", "message", "router", "user", "connectors")
CHANNEL_FOLDERS = sorted(
    path.parent
    for places in ("services/connectors", "chaos/tests")
    for path in (ROOT / places).glob("*/connector.py")
)
"""The channels, and the one that a test adds to a running platform."""
PURE = (
    "services/contracts/status.py",
    "services/router/routing.py",
    "services/message/deliveries.py",
    "services/message/statuses.py",
    "chaos/checkers/deliveries.py",
)
DRIVERS = ("aiohttp", "aiokafka", "pymongo", "asyncpg", "redis")


def sources(*folders: str) -> Iterator[Path]:
    """Yield the Python files of the product, tests included."""
    for folder in folders or ("services", "chaos", "scripts"):
        yield from sorted((ROOT / folder).rglob("*.py"))


def is_test(path: Path) -> bool:
    """Tell tests and what serves them from the product."""
    return "tests" in path.parts or path.name == "conftest.py"


@cache
def nodes(path: Path) -> list[ast.AST]:
    """Return all that a file consists of."""
    return list(ast.walk(ast.parse(path.read_text())))


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Yield the functions of a file."""
    for node in nodes(path):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def imports(path: Path) -> Iterator[str]:
    """Yield the modules that a file imports."""
    for node in nodes(path):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module or ""


def within(module: str, *allowed: str) -> bool:
    """Tell whether a module is one of these or below one."""
    return any(module == name or module.startswith(f"{name}.") for name in allowed)


def outsiders(path: Path, *allowed: str) -> list[str]:
    """Return what a file imports of ours beyond what it may."""
    ours = [name for name in imports(path) if within(name, "services", "chaos", "scripts")]
    return [name for name in ours if not within(name, *allowed)]


def test_files_and_functions_are_short() -> None:
    """A file has at most 400 lines, a function at most 70."""
    long = [str(path) for path in sources() if path.read_text().count("\n") > FILE_LINES_MAX]
    long += [
        f"{path}: {function.name}"
        for path in sources()
        for function in functions(path)
        if (function.end_lineno or 0) - function.lineno >= FUNCTION_LINES_MAX
    ]
    assert not long


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_imports_no_other_service(service: str) -> None:
    """A service knows itself, the contracts and the runtime."""
    for path in sources(f"services/{service}"):
        allowed = [f"services.{service}", "services.contracts", "services.runtime"]
        assert not outsiders(path, *allowed), path


def test_contracts_and_runtime_stand_below() -> None:
    """Contracts import nothing of ours, the runtime only contracts; chaos imports no service."""
    for path in sources("services/contracts"):
        assert not outsiders(path, "services.contracts"), path
    for path in sources("services/runtime"):
        assert not outsiders(path, "services.contracts", "services.runtime"), path
    for path in sources("chaos"):
        if path.parent not in CHANNEL_FOLDERS:
            assert not outsiders(path, "chaos", "services.contracts"), path


@pytest.mark.parametrize("folder", CHANNEL_FOLDERS, ids=lambda p: p.name)
def test_a_channel_folder_stands_alone(folder: Path) -> None:
    """A channel imports itself, the base, contracts and runtime; its simulator no sibling."""
    own = f"services.connectors.{folder.name}"
    for path in sorted(folder.rglob("*.py")):
        shared = ["services.contracts", "services.runtime"]
        if is_test(path.relative_to(folder)):
            shared.append("services.connectors")
        if path.name.startswith("simulator"):
            allowed = [f"{own}.simulator", *_simulator_parts(own, folder), *shared]
            allowed += _shared_simulator_modules()
        else:
            allowed = [own, "services.connectors.base", *shared]
        assert not outsiders(path, *allowed), path


def _simulator_parts(own: str, folder: Path) -> list[str]:
    return [f"{own}.{path.stem}" for path in folder.glob("simulator_*.py")]


def _shared_simulator_modules() -> list[str]:
    folder = ROOT / "services/connectors"
    return [f"services.connectors.{path.stem}" for path in folder.glob("simulator*.py")]


def test_channel_names_stay_in_their_folders() -> None:
    """No code outside a channel's folder knows the channel's name."""
    names = "|".join(folder.name for folder in CHANNEL_FOLDERS)
    for path in sources():
        inside = any(folder in path.parents for folder in CHANNEL_FOLDERS)
        if not inside and not is_test(path):
            assert not re.search(names, path.read_text(), re.IGNORECASE), path


@pytest.mark.parametrize("name", PURE)
def test_pure_rules_know_no_driver(name: str) -> None:
    """Modules of pure rules import neither HTTP nor a driver."""
    for module in imports(ROOT / name):
        assert module.split(".")[0] not in DRIVERS, module


def test_every_test_says_what_must_hold() -> None:
    """Every test function has a docstring."""
    for path in sources():
        for function in functions(path):
            if function.name.startswith("test_"):
                assert ast.get_docstring(function), f"{path}: {function.name}"


def test_no_folder_for_leftovers() -> None:
    """Nothing is called common, utils or helpers."""
    for folder in ("services", "chaos", "scripts"):
        for path in (ROOT / folder).rglob("*"):
            assert path.stem not in ("common", "utils", "util", "helpers"), path
