"""The import table of the design: a module imports from rows below its own, and from its own folder."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "vlbench"
ROWS = [
    {"types", "paths", "processes"},
    {"cards", "plugins", "recipe"},
    {"catalog"},
    {"record", "plan", "nn", "metrics", "store"},
    {"models", "tasks", "data", "stages", "possible"},
    {"corpora"},
    {"learner", "engine", "tracking", "mirror", "report", "runfolder", "world"},
    {"made"},
    {"world_texts"},
    {"prepare", "start", "building", "abilities"},
    {"answering", "parts"},
    {"controls", "session"},
    {"run", "pretrain", "proof", "preview", "console", "bench"},
    {"several", "stage_preview"},
    {"chain"},
    {"capfilt", "matrix", "doctor", "verify", "submission", "datasets", "corpora_on_disk"},
    {"options"},
    {"workshop", "dataverbs", "trainverbs"},
    {"cli"},
    {"__main__", "__init__"},
]
ROW = {name: number for number, row in enumerate(ROWS) for name in row}
HEAVY = {"torch", "timm", "transformers", "torchvision", "mlflow", "accelerate", "pandas"}
LIGHT = {
    "tasks",
    "metrics",
    "cards",
    "catalog",
    "recipe",
    "record",
    "report",
    "types",
    "paths",
    "plan",
    "preview",
    "possible",
}
BANNED = {
    "nn": {"models", "tasks", "data", "engine", "recipe", "record", "catalog", "metrics"},
    "models": {"tasks", "data", "engine"},
    "data": {"models", "nn", "tasks", "engine", "metrics"},
    "engine": {"models", "tasks", "metrics", "data"},
    "tasks": {"nn", "models", "data", "engine"},
    "metrics": {"paths"},
    "report": {"engine", "models", "data", "nn", "tasks"},
}


def part_of(path: Path) -> str:
    """The module's own name, or that of its folder."""
    inside = path.relative_to(PACKAGE)
    return inside.parts[0] if len(inside.parts) > 1 else inside.stem


def top_level_imports(path: Path) -> set[str]:
    """What is imported when the module is, type checking left out."""
    found: set[str] = set()
    pending: list[ast.AST] = list(ast.parse(path.read_text(encoding="utf-8")).body)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            pending += list(ast.iter_child_nodes(node))
    return found


def all_imports(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = {n.name for node in ast.walk(tree) if isinstance(node, ast.Import) for n in node.names}
    return found | {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.module}


MODULES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_downwards(path: Path) -> None:
    part = part_of(path)
    assert part in ROW, f"{part} has no row in the table above"
    for name in all_imports(path):
        if not name.startswith("vlbench."):
            continue
        other = name.split(".")[1]
        same = other == part or (part, other) in {("cli", "cli")}
        assert same or ROW[other] <= ROW[part], f"{path.name} ({part}) imports {name}, which stands above it"
        assert other not in BANNED.get(part, set()), f"{part} must not know {other}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_light_parts_stay_light(path: Path) -> None:
    part = part_of(path)
    heavy = {name.split(".")[0] for name in top_level_imports(path)} & HEAVY
    if part in LIGHT or part in ("cli", "options", "workshop"):
        assert not heavy, f"{path.name} imports {heavy}"
    if part not in ("store", "mirror"):
        assert "mlflow" not in {name.split(".")[0] for name in all_imports(path)}


def test_bricks_know_torch_only() -> None:
    """Encoders of other libraries are one module, which imports them only where one is asked for."""
    for path in (PACKAGE / "nn").glob("*.py"):
        known = {name.split(".")[0] for name in all_imports(path)} & (HEAVY - {"torch"})
        assert not known or (path.stem, known) == ("encoders", {"timm", "transformers"}), f"{path.name}: {known}"
        assert not {name.split(".")[0] for name in top_level_imports(path)} & (HEAVY - {"torch"})


def test_a_method_stays_one_readable_file() -> None:
    lengths = {path.name: len(path.read_text(encoding="utf-8").splitlines()) for path in PACKAGE.glob("models/*.py")}
    assert not {name: length for name, length in lengths.items() if length > 300}


def test_no_catch_all_modules() -> None:
    assert not [p for p in MODULES if p.stem in ("utils", "util", "common", "helpers", "helper", "misc")]


@pytest.mark.parametrize(
    "words",
    [["--help"], ["list", "methods"], ["show", "lxmert"], ["show", "lxmert", "vqa"], ["compare"]],
    ids=" ".join,
)
def test_reading_commands_import_nothing_heavy(words: list[str], tmp_path: Path) -> None:
    code = (
        "import sys; from vlbench.cli import main; sys.argv = ['vlbench', *sys.argv[1:]]\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        f"loaded = sorted(set(sys.modules) & {HEAVY!r})\nassert not loaded, loaded\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 0, done.stderr + done.stdout
    assert done.stdout.strip()
