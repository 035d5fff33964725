# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests the shape of the house: which room imports what, which files are where, and how each one opens."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

TOP = Path(__file__).resolve().parents[2]
PACKAGE = TOP / "lsyncd_sd"

LONGEST_FILE = 450
"""Lines: what can still be read in one sitting."""

COMMON = {"lsyncd_sd", "lsyncd_sd.classicline", "lsyncd_sd.errors", "lsyncd_sd.printable"}
"""What every room may use: they know no other module of the house."""

ROOMS: dict[str, set[str]] = {
    "plan": {"lsyncd_sd.plan"},
    "watch": {"lsyncd_sd.watch", "lsyncd_sd.plan", "lsyncd_sd.opening"},
    "mirror": {
        "lsyncd_sd.mirror",
        "lsyncd_sd.plan",
        "lsyncd_sd.config.model",
        "lsyncd_sd.loop",
        "lsyncd_sd.opening",
    },
    # What a rule means, and whether it is one, is known in one place only.
    "config": {"lsyncd_sd.config", "lsyncd_sd.plan.filters", "lsyncd_sd.plan.patterns"},
    "service": {
        "lsyncd_sd.service",
        "lsyncd_sd.config",
        "lsyncd_sd.watch",
        "lsyncd_sd.plan",
        "lsyncd_sd.mirror",
        "lsyncd_sd.loop",
    },
}
"""Each room and the packages and modules of the house that it may import."""

PURE = {
    "__future__",
    "array",
    "collections",
    "collections.abc",
    "dataclasses",
    "enum",
    "functools",
    "hashlib",
    "re",
    "string",
    "typing",
}
"""What plan/ may import of the standard library: nothing that knows a clock, a file or a process."""

OWNERS: dict[str, set[str]] = {
    "pyinotify": {"watch/inotify.py"},
    "sdnotify": {"service/notify.py"},
    "systemd.daemon": {"service/notify.py"},
    "systemd.journal": {"service/journal.py"},
    "systemd": {"service/notify.py", "service/journal.py"},
    "yaml": {"config/nodes.py", "config/yamlhints.py"},
}
"""Each package from outside and the only files that may import it."""

LIGHT = {
    "__future__",
    "argparse",
    "collections.abc",
    "io",
    "json",
    "lsyncd_sd",
    "lsyncd_sd.classicline",
    "lsyncd_sd.errors",
    "lsyncd_sd.service",
    "lsyncd_sd.service.environment",
    "os",
    "pathlib",
    "sys",
    "time",
    "typing",
}
"""What the command line may import before it knows the verb."""


class Import(NamedTuple):
    """One imported module, by its whole name; `in_function`: not at the start; `for_types`: never at all."""

    module: str
    in_function: bool
    for_types: bool


def files_of(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (TOP / folder).rglob("*.py"))


def name_of(path: Path) -> str:
    return str(path.relative_to(TOP))


MODULES = files_of("lsyncd_sd")


def module_names() -> set[str]:
    return {name_of(path)[:-3].replace("/", ".").removesuffix(".__init__") for path in MODULES}


def imports(path: Path) -> set[Import]:
    """Return everything a file imports; of `from package import name` the module, if `name` is one."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.Lambda)]
    functions = _inside(node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.Lambda))
    for_types = _inside(
        statement
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for statement in node.body
    )
    return {
        Import(name, id(node) in functions, id(node) in for_types)
        for node in ast.walk(tree)
        for name in _imported_by(node)
    }


def _inside(nodes: Iterable[ast.AST]) -> set[int]:
    return {id(inner) for node in nodes for inner in ast.walk(node)}


def _imported_by(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, "imports name the whole path"
        assert node.module is not None
        known = module_names() | set(OWNERS)
        for alias in node.names:
            whole = f"{node.module}.{alias.name}"
            yield whole if whole in known else node.module


def imported(path: Path) -> set[str]:
    return {one.module for one in imports(path)}


def is_of(module: str, packages: set[str]) -> bool:
    return any(module == package or module.startswith(package + ".") for package in packages)


def is_ours(module: str) -> bool:
    return is_of(module, {"lsyncd_sd"})


# ---- the rooms


def test_every_folder_is_a_room() -> None:
    assert {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()} == set(ROOMS)


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_what_lies_to_its_right(room: str) -> None:
    for path in files_of(f"lsyncd_sd/{room}"):
        wrong = {
            name
            for name in imported(path)
            if is_ours(name) and name not in COMMON and not is_of(name, ROOMS[room])
        }
        assert not wrong, name_of(path)


def test_the_common_modules_know_nothing_of_the_rooms() -> None:
    for name in ("__init__.py", "errors.py", "printable.py", "loop.py", "opening.py"):
        assert not {module for module in imported(PACKAGE / name) if is_ours(module)}, name


def test_only_the_entry_point_imports_the_command_line() -> None:
    importers = {name_of(path) for path in MODULES if "lsyncd_sd.cli" in imported(path)}
    assert importers == {"lsyncd_sd/__main__.py"}


@pytest.mark.parametrize("path", files_of("lsyncd_sd/plan"), ids=name_of)
def test_plan_is_pure(path: Path) -> None:
    outside = {module for module in imported(path) if not is_ours(module)}
    assert outside <= PURE
    called = {
        node.func.id
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert not called & {"open", "print", "input", "exec", "eval"}


# ---- packages from outside


def test_each_package_from_outside_is_imported_where_it_belongs() -> None:
    for path in MODULES:
        for module in imported(path):
            if is_ours(module) or module.partition(".")[0] in sys.stdlib_module_names:
                continue
            assert module in OWNERS, f"{name_of(path)} imports {module}"
            assert str(path.relative_to(PACKAGE)) in OWNERS[module], f"{name_of(path)} imports {module}"


def test_every_owner_still_imports_its_package() -> None:
    for module, owners in OWNERS.items():
        if module == "systemd":
            # a name for `from systemd import …`, which says what it takes
            continue
        for owner in owners:
            assert module in imported(PACKAGE / owner), f"{owner} does not import {module}"


# ---- the parent


def test_the_supervisor_names_no_room_of_the_children() -> None:
    path = PACKAGE / "service/supervisor.py"
    rooms = {"lsyncd_sd.watch", "lsyncd_sd.plan", "lsyncd_sd.mirror"}
    named = {module for module in imported(path) if is_of(module, rooms)}
    assert named <= {"lsyncd_sd.watch.inotify"}
    used = {
        node.attr
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "inotify"
    }
    assert used <= {"open_queue"}


def test_nothing_is_imported_after_the_start() -> None:
    """A child of an old parent must not load new code in the middle of an upgrade."""
    for path in MODULES:
        if path.name == "cli.py":
            continue
        assert not {one.module for one in imports(path) if one.in_function}, name_of(path)
        assert not imported(path) & {"importlib", "imp", "pkgutil", "runpy"}, name_of(path)
        assert "__import__" not in path.read_text(encoding="utf-8"), name_of(path)


# ---- the command line


def test_the_command_line_is_light_until_it_knows_the_verb() -> None:
    at_top = {one.module for one in imports(PACKAGE / "cli.py") if not one.in_function and not one.for_types}
    assert at_top <= LIGHT


@pytest.mark.parametrize("arguments", [["status"], ["status", "--json"], ["--version"], ["--help"]])
def test_monitors_load_nothing_heavy(tmp_path: Path, arguments: list[str]) -> None:
    program = (
        "import sys\n"
        "from lsyncd_sd.cli import main\n"
        "try:\n"
        "    main(sys.argv[1:])\n"
        "except SystemExit:\n"
        "    pass\n"
        "print(*sys.modules, file=sys.stderr)\n"
    )
    completed = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=TOP,
        env={"RUNTIME_DIRECTORY": str(tmp_path), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = set(completed.stderr.splitlines()[-1].split())
    assert "lsyncd_sd.cli" in loaded
    if arguments[0] == "status":
        assert "lsyncd_sd.service.status" in loaded
    assert not loaded & {"pyinotify", "yaml", "systemd", "sdnotify", "subprocess", "logging", "asyncio"}
    rooms = {"lsyncd_sd.config", "lsyncd_sd.watch", "lsyncd_sd.plan", "lsyncd_sd.mirror"}
    assert not {module for module in loaded if is_of(module, rooms)}


# ---- files


@pytest.mark.parametrize("path", files_of("lsyncd_sd", "tests"), ids=name_of)
def test_every_file_opens_with_the_licence_and_one_sentence(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# SPDX-License-Identifier: GPL-2.0-or-later\n")
    docstring = ast.get_docstring(ast.parse(text))
    assert docstring is not None
    assert docstring.split("\n\n")[0].endswith(".")
    assert text.splitlines()[1] != '"""'


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_file_is_huge(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST_FILE


def test_every_package_is_installed() -> None:
    listed = tomllib.loads((TOP / "pyproject.toml").read_text(encoding="utf-8"))
    folders = {name_of(path.parent).replace("/", ".") for path in MODULES if path.name == "__init__.py"}
    assert set(listed["tool"]["setuptools"]["packages"]) == folders
    # and no module lies where setuptools does not look
    assert {name_of(path.parent).replace("/", ".") for path in MODULES} == folders
