"""The shape of the package, as a test. Change the tables only with a reason in the commit."""

import ast
from pathlib import Path

import pytest

REPO = Path(__file__).parent.parent
ROOT = REPO / "teleport_lite"

# Foundations first. A package may import from itself and from earlier lines only.
LAYERS: list[set[str]] = [
    {"__init__", "errors", "ambient", "secret"},
    {"model"},
    {"access", "proto", "pki"},
    {"store", "audit", "plugin", "net", "config"},
    {"agent", "release"},
    {"auth", "proxy", "node", "client"},
    {"daemon"},
    {"cli"},
    {"__main__"},
]
# Who may use each thing that can hurt us, or that costs a tool its quick start.
OWNERS: dict[str, set[str]] = {
    "cryptography": {"pki"},
    "paramiko": {"net"},
    "sqlite3": {"store"},
    "psycopg": {"store"},
    # A proxy is nothing but waiting for sockets.
    "asyncio": {"net", "daemon", "proxy"},
    "aiohttp": {"net", "proxy"},
    "jinja2": {"proxy"},
    "argon2": {"pki"},
    "acme": {"net"},
    "josepy": {"net"},
    "uvloop": {"daemon"},
    # A lock around a dictionary is no thread; nobody else starts one.
    "threading": {"net", "daemon", "store", "auth", "agent"},
    "ssl": {"net", "agent", "daemon", "client", "release"},
    "subprocess": {"agent", "node", "cli", "release"},
    "secrets": {"ambient"},
    "random": set(),
    "time": {"ambient", "net", "node"},
    "pickle": set(),
    "yaml": {"config"},
    "typer": {"cli"},
    "pluggy": {"plugin"},
    "msgspec": {"proto"},
    "scramp": {"auth", "agent", "client"},
    "wsproto": {"net"},
    "prometheus_client": {"daemon"},
    "sdnotify": {"daemon"},
}
# The keys of the cluster: who may hold them.
SIGNERS = {"auth", "pki"}
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
MODULES = sorted(p for p in ROOT.rglob("*.py") if "testing" not in p.relative_to(ROOT).parts)
PLUGINS = sorted((REPO / "plugins").glob("*/teleport_lite_*/**/*.py"))

# Past 400 lines, or a function past 40: each with its reason.
LONG_FILES: dict[str, str] = {}
LONG_FUNCTIONS: dict[str, str] = {
    "auth/desks.py:build": "the wiring of one role is read in one piece",
    "cli/tbot/start.py:start": "one parameter for each documented flag",
    "cli/teleport/start.py:start": "one parameter for each documented flag",
}


def home(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    """Absolute names, inside functions and TYPE_CHECKING blocks too."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_down(path: Path) -> None:
    here = home(path)
    for name in imports(path):
        top, _, rest = name.partition(".")
        if top == "teleport_lite" and rest:
            there = rest.split(".")[0]
            if there not in RANK:
                there = "__init__"  # a name of the package itself, like __version__
            ok = there == here or RANK[there] < RANK[here]
            assert ok, f"{here} may not import {there} ({name})"
        elif top in OWNERS:
            assert here in OWNERS[top], f"{top} belongs to {OWNERS[top] or 'nobody'}, not {here}"


def test_only_auth_reaches_the_signing_keys() -> None:
    users = {
        home(path)
        for path in MODULES
        if any(name.startswith("teleport_lite.pki.authority") for name in imports(path))
    }
    assert users <= SIGNERS


def test_the_product_never_imports_its_test_helpers() -> None:
    for path in [*MODULES, *PLUGINS]:
        assert not any(name.startswith("teleport_lite.testing") for name in imports(path)), path


@pytest.mark.parametrize("path", PLUGINS, ids=lambda p: p.parent.name)
def test_plugins_import_the_plugin_api_only(path: Path) -> None:
    ours = {name for name in imports(path) if name.startswith("teleport_lite.")}
    assert all(name.startswith("teleport_lite.plugin.api") for name in ours), ours


def test_no_file_is_longer_than_a_sitting() -> None:
    long = {
        str(path.relative_to(ROOT)) for path in MODULES if len(path.read_text().splitlines()) > 400
    }
    assert long == set(LONG_FILES)


def test_no_function_is_longer_than_a_thought() -> None:
    long = set()
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert node.end_lineno is not None
                if node.end_lineno - node.lineno >= 40:
                    long.add(f"{path.relative_to(ROOT)}:{node.name}")
    assert long == set(LONG_FUNCTIONS)


def test_every_layer_is_in_the_table() -> None:
    packages = {
        p.name.removesuffix(".py")
        for p in ROOT.iterdir()
        if (p / "__init__.py").exists() or p.suffix == ".py"
    }
    assert packages - {"testing"} <= set(RANK)
