"""The house rules that a machine can check: layers, imports, sizes, executed notebooks."""

import ast
import json
from pathlib import Path

import pytest

from tests.conftest import ROOT

PACKAGE = ROOT / "workbench"
FILES = sorted(PACKAGE.rglob("*.py"))
LAYERS = {
    "errors": 0, "resources": 0, "gguf": 1, "quants": 2, "tokenizer": 3, "ops": 4, "model": 5,
    "sampling": 6, "records": 6.5, "generate": 7,
    "chat_session": 7.5, "speculative": 7.5,  # made of generate, beside it
    "analysis": 8, "plots": 9, "panels": 10, "cli": 11,
}  # fmt: skip
RESTRICTED = {
    "cupy": ("ops/cuda", "model/decode_graph.py"),
    "matplotlib": ("plots/", "panels/"),
    "ipywidgets": ("panels/",),
}
FACADE = {"__init__"}  # workbench/__init__.py gathers the public names and may import every layer
MAX_FUNCTION_LINES, MAX_FILE_LINES, MAX_COLUMNS = 60, 400, 100


def name_of(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_modules(path: Path) -> list[str]:
    """Absolute names of all that a file imports, wherever in the file it does so."""
    package = ["workbench", *path.relative_to(PACKAGE).parts[:-1]]
    names = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            stem = [*base, *(node.module.split(".") if node.module else [])]
            names += [".".join([*stem, alias.name]) for alias in node.names]
    return names


def functions(path: Path) -> list[ast.FunctionDef]:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, kinds)]


def test_every_room_has_a_layer_and_every_layer_a_room():
    assert {room(path) for path in FILES} - FACADE == set(LAYERS)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_module_imports_only_from_lower_layers_or_its_own_room(path):
    if room(path) in FACADE:
        return
    for name in imported_modules(path):
        parts = name.split(".")
        if parts[0] != "workbench":
            continue
        if len(parts) == 1:
            assert room(path) == "cli", "only the CLI uses the package as a notebook does"
            continue
        target = parts[1]
        assert target in LAYERS, f"{name}: not a room of the package"
        assert target == room(path) or LAYERS[target] < LAYERS[room(path)], f"imports {name}"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_heavy_libraries_stay_in_their_rooms(path):
    for name in imported_modules(path):
        allowed = RESTRICTED.get(name.split(".")[0])
        assert allowed is None or name_of(path).startswith(allowed), f"imports {name}"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_files_and_functions_are_small_and_documented(path):
    lines = path.read_text().splitlines()
    assert len(lines) <= MAX_FILE_LINES
    assert max(map(len, lines), default=0) <= MAX_COLUMNS
    assert ast.get_docstring(ast.parse(path.read_text())), "no docstring at the top"
    for function in functions(path):
        length = function.end_lineno - function.lineno + 1
        assert length <= MAX_FUNCTION_LINES, f"{function.name} has {length} lines"
        public = not function.name.startswith("_")
        assert not public or length <= 12 or ast.get_docstring(function), function.name


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_only_the_cli_prints(path):
    calls = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call)]
    assert not [c for c in calls if isinstance(c.func, ast.Name) and c.func.id == "print"]


def test_no_drawers_for_odds_and_ends():
    stems = {part for path in FILES for part in path.relative_to(PACKAGE).with_suffix("").parts}
    assert not stems & {"utils", "helpers", "common", "misc"}


NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_notebooks_are_committed_executed_in_order_and_without_errors(path):
    cells = [c for c in json.loads(path.read_text())["cells"] if c["cell_type"] == "code"]
    cells = [c for c in cells if "".join(c["source"]).strip()]
    assert [c["execution_count"] for c in cells] == list(range(1, len(cells) + 1))
    assert not [o for c in cells for o in c["outputs"] if o["output_type"] == "error"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_notebooks_name_no_folder_of_the_machine_that_ran_them(path):
    text = path.read_text()
    assert str(ROOT) not in text and str(Path.home()) + "/" not in text
