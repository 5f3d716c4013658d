"""The import table of the house: data flows one way, torch stops at `training`, pytest lives only in `plugin`."""

from __future__ import annotations

import ast
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "rectest"

CORE = {"errors"}
INTERNAL: dict[str, set[str]] = {
    "errors": set(),
    "seeding": CORE,
    "environment": CORE,
    "data": CORE | {"seeding"},
    "metrics": CORE,
    "record": CORE | {"environment"},
    "systems": CORE | {"data", "seeding"},
    "training": CORE | {"seeding", "environment", "data", "metrics", "record", "systems"},
    "checks": CORE | {"data", "metrics", "record", "environment"},
    "baseline": CORE | {"environment", "record", "checks"},
    "faults": CORE | {"data", "metrics", "record", "seeding", "systems", "training", "checks"},
    "report": CORE | {"record", "environment", "checks", "baseline", "benchmarks"},
    "audits": CORE | {"data", "metrics", "record", "checks"},
    "benchmarks": CORE | {"environment", "checks", "baseline", "training"},
    "parity": CORE | {"environment", "record", "checks", "training"},
    "divergence": CORE | {"environment", "record"},
    "__main__": {"cli"},
    "claims": CORE
    | {"seeding", "environment", "data", "metrics", "record", "systems", "training", "checks", "baseline", "faults"},
}
"""What each package may import of rectest itself. `plugin` and `cli` may import everything; nobody imports them."""

THIRD_PARTY: dict[str, set[str]] = {
    "errors": set(),
    "seeding": {"numpy"},
    "environment": set(),
    "data": {"numpy"},
    "metrics": {"numpy"},
    "record": {"numpy", "safetensors", "blake3"},
    "systems": {"numpy", "torch"},
    "training": {"numpy", "torch", "xxhash", "tensorboard"},
    "checks": {"numpy", "scipy"},
    "baseline": {"numpy", "pydantic", "filelock", "blake3", "scipy"},
    "faults": {"numpy", "torch"},
    "report": {"jinja2", "matplotlib"},
    "audits": {"numpy", "torch", "polars", "pyarrow", "tensorboard"},
    "benchmarks": {"numpy", "scipy", "torch", "pytest", "filelock"},
    "parity": set(),
    "divergence": {"numpy", "torch", "xxhash"},
    "__main__": set(),
    "claims": {"numpy", "scipy", "torch"},
    "plugin": {"pytest", "filelock"},
    "cli": {"numpy", "typer", "rich"},
}

LAZY_ONLY = {"scipy", "tensorboard", "matplotlib", "jinja2", "polars", "pyarrow"}
"""Slow to import: allowed inside functions only."""

HEAVY_FOR_PLUGIN = {"numpy", "torch", "filelock"}


@cache
def imports_of(path: Path) -> list[tuple[str, bool, int]]:
    """Imported module, whether at import time, and line; imports for type checkers only are left out."""
    found: list[tuple[str, bool, int]] = []

    def visit(node: ast.AST, *, top: bool) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                continue
            if isinstance(child, ast.Import):
                found.extend((alias.name, top, child.lineno) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                module = child.module or ""
                if child.level:
                    module = ".".join(["rectest", *path.relative_to(ROOT).parts[: -child.level], module]).rstrip(".")
                names = [f"{module}.{alias.name}" for alias in child.names] if module == "rectest" else [module]
                found.extend((name, top, child.lineno) for name in names)
            visit(child, top=top and not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda))

    visit(ast.parse(path.read_text()), top=True)
    return found


def package_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def violations(path: Path) -> list[str]:
    """Every import of one file that the table forbids."""
    package = package_of(path)
    problems = []
    for module, top, line in imports_of(path):
        root = module.partition(".")[0]
        where = f"{path.relative_to(ROOT.parent)}:{line} imports {module}"
        if root in sys.stdlib_module_names:
            continue
        if root == "rectest":
            problems += _internal(package, module, where)
        elif package == "__init__" or root not in THIRD_PARTY.get(package, set()):
            problems.append(f"{where}, not in the list of {package}")
        elif top and root in LAZY_ONLY:
            problems.append(f"{where} at import time; only lazily")
        elif top and package == "divergence":
            problems.append(f"{where} at import time; it starts before the watched script has imported anything")
        elif top and package in ("audits", "benchmarks") and root == "torch":
            problems.append(f"{where} at import time; only lazily, a file or a comparison rarely needs it")
        elif top and package == "claims" and root == "torch":
            problems.append(f"{where} at import time; claims are listed without it")
        elif top and package == "plugin" and root in HEAVY_FOR_PLUGIN:
            problems.append(f"{where} at import time; the plugin is loaded in every pytest run")
    return problems


def _internal(package: str, module: str, where: str) -> list[str]:
    parts = module.split(".")
    target = parts[1] if len(parts) > 1 else "__init__"
    if package in ("plugin", "cli", "__init__") or target == package:
        return []
    if package == "systems" and module == "rectest.metrics.measure":
        return []
    return [] if target in INTERNAL.get(package, set()) else [f"{where}, a wall stands there"]


FILES = sorted(ROOT.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_follow_the_table(path):
    """Each file imports only what its package may."""
    assert violations(path) == []


def test_every_package_is_in_the_table():
    """A new package must be given its place before it can import anything."""
    known = {*INTERNAL, "plugin", "cli", "__init__"}

    assert {package_of(path) for path in FILES} <= known


def test_nobody_imports_the_plugin():
    """The plugin drives; nothing depends on it."""
    users = [
        str(path)
        for path in FILES
        if package_of(path) not in ("plugin",)
        for module, _, _ in imports_of(path)
        if module.startswith("rectest.plugin")
    ]

    assert users == []


@pytest.mark.parametrize(
    ("package", "line", "expected"),
    [
        ("checks", "import torch", "not in the list of checks"),
        ("checks", "from rectest.training import loop", "a wall stands there"),
        ("metrics", "from rectest.record import RunRecord", "a wall stands there"),
        ("training", "import pytest", "not in the list of training"),
        ("baseline", "import scipy.stats", "only lazily"),
        ("plugin", "import numpy", "not in the list of plugin"),
    ],
)
def test_a_forbidden_import_is_found(tmp_path, monkeypatch, package, line, expected):
    """The guard itself fails on a planted violation."""
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path / "rectest")
    path = tmp_path / "rectest" / package / "planted.py"
    path.parent.mkdir(parents=True)
    path.write_text(f"{line}\n")

    found = violations(path)

    assert len(found) == 1
    assert expected in found[0]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_is_two_ideas(path):
    """Over 350 lines a file is two ideas."""
    assert len(path.read_text().splitlines()) <= 350
