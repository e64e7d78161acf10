"""The arrows between the parts of the package run one way, and no library's name appears where it must not."""

from __future__ import annotations

import ast
from pathlib import Path

import captum_gradeclip

ROOT = Path(captum_gradeclip.__file__).parent
ALLOWED = {
    "_version": set(),
    "adapters": set(),
    "attention": set(),
    "maps": set(),
    "scenes": set(),
    "images": {"maps"},
    "scores": {"adapters"},
    "prompts": {"scores"},
    "points": {"maps"},
    "attr": {"scores", "adapters", "attention", "maps"},
    "show": {"maps"},
    "loading": {"scenes"},
    "check": {"adapters", "attention", "attr", "scores"},
    "report": {"adapters", "attention", "attr", "images", "loading", "maps", "scores", "show"},
    "metrics": {"maps"},
    "quantus": {"attr"},
    "benchmark": {
        *("scenes", "adapters", "scores", "prompts", "attention", "attr", "maps", "points", "images", "show", "metrics"),
        "loading",
    },
}
LIBRARIES = {"open_clip", "timm", "transformers", "torchvision"}
MAY_NAME_LIBRARIES = {"adapters", "loading", "scenes", "benchmark", "prompts"}


def imports(file: Path) -> tuple[set[str], set[str]]:
    """Our own parts and the foreign roots that a file imports, at any depth of its code."""
    part = file.relative_to(ROOT).with_suffix("").parts
    ours, foreign = set(), set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            foreign |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            foreign.add((node.module or "").partition(".")[0])
        elif isinstance(node, ast.ImportFrom):
            base = [*part[: len(part) - node.level], *(node.module or "").split(".")]
            base = [name for name in base if name]
            ours |= {base[0]} if base else {alias.name for alias in node.names}
    return ours - {part[0]}, foreign


def test_imports_run_one_way() -> None:
    files = [
        file
        for file in ROOT.rglob("*.py")
        if file.name not in ("__init__.py", "__main__.py", "cli.py") or file.parent != ROOT
    ]
    assert len(files) > 15
    for file in files:
        part = file.relative_to(ROOT).with_suffix("").parts[0]
        ours, foreign = imports(file)
        assert ours <= ALLOWED[part], f"{file.name} ({part}) imports {ours - ALLOWED[part]}"
        if part not in MAY_NAME_LIBRARIES:
            assert not foreign & LIBRARIES, f"{file.name} names {foreign & LIBRARIES}"


def test_the_check_can_fail(tmp_path: Path) -> None:
    file = ROOT / "show" / "overlay.py"
    assert imports(file)[0] == {"maps"} and "matplotlib" in imports(file)[1]


def test_public_names_exist() -> None:
    for name in captum_gradeclip.__all__:
        assert hasattr(captum_gradeclip, name)
