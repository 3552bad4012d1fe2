"""The rooms of the package and the arrows between them: each may import itself and what lies below."""

import ast
from functools import cache
from pathlib import Path

import pytest

import deep_clustering

PACKAGE = Path(deep_clustering.__file__).parent

# From the top to the bottom. The face is what Kedro and MLflow call; leaves import nothing of the project.
FACE = ("cli", "hooks", "settings", "pipeline_registry", "datasets", "validators", "__main__")
ROOMS = (
    "sweep",
    "runs",
    "pipelines",
    "own_data",
    "inference",
    "reporting",
    "scores",
    "data",
    "methods",
    "training",
)
LEAVES = ("options", "checks", "redaction", "atomic", "__init__")


def _floor(module: str) -> int:
    """Number of the floor that a module of the package lies on, from the top."""
    name = module.split(".")[1] if "." in module else "__init__"
    if name in FACE:
        return 0
    return 1 + ROOMS.index(name) if name in ROOMS else 1 + len(ROOMS)


def _imports(path: Path) -> list[tuple[str, int]]:
    """Modules of the package that a file imports, at its top or inside a function, with their lines."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "deep_clustering":
            for alias in node.names:
                inside = f"{node.module}.{alias.name}"
                found.append(
                    (inside if inside in _modules() or node.module == PACKAGE.name else node.module, node.lineno)
                )
        elif isinstance(node, ast.Import):
            found += [(alias.name, node.lineno) for alias in node.names if alias.name.startswith("deep_clustering.")]
    return found


@cache
def _modules() -> dict[str, Path]:
    paths = {".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts): path for path in PACKAGE.rglob("*.py")}
    return {name.removesuffix(".__init__"): path for name, path in sorted(paths.items())}


def test_every_name_at_the_top_has_its_place():
    names = {path.stem for path in PACKAGE.iterdir() if path.name != "__pycache__"}
    assert names == {*FACE, *ROOMS, *LEAVES}


@pytest.mark.parametrize("module", list(_modules()))
def test_arrows_point_down(module):
    upwards = [f"{name} (line {line})" for name, line in _imports(_modules()[module]) if _floor(name) < _floor(module)]
    assert not upwards, f"{module} imports what lies above it"


def test_modules_import_each_other_without_a_circle():
    modules = _modules()
    arrows = {name: {to for to, _ in _imports(path) if to in modules and to != name} for name, path in modules.items()}
    while free := {name for name, to in arrows.items() if not to}:
        arrows = {name: to - free for name, to in arrows.items() if name not in free}
    assert not arrows, "these import each other in a circle"


def test_a_planted_arrow_upwards_is_seen(tmp_path):
    planted = tmp_path / "rows.py"
    planted.write_text("def late():\n    from deep_clustering.sweep.grid import Grid\n", encoding="utf-8")
    assert [(name, _floor(name) < _floor("deep_clustering.training.rows")) for name, _ in _imports(planted)] == [
        ("deep_clustering.sweep.grid", True)
    ]


def test_the_quick_tests_are_there_and_reach_every_room():
    root = Path(__file__).parents[1]
    listed = [line.partition("::")[0] for line in (root / "tests/quick.txt").read_text(encoding="utf-8").splitlines()]
    assert [path for path in listed if not (root / path).is_file()] == []
    assert {Path(path).parts[1] for path in listed} >= set(ROOMS)
