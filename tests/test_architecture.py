"""The arrows between the stations run one way, and budgets hold: attribute strings, ``Any``, lines of the methods."""

from __future__ import annotations

import inspect
import re
import runpy
import sys
from importlib import import_module
from pathlib import Path

import pytest

import captum_gradeclip
from captum_gradeclip import METHODS

from .reading import aliases_of_any, anys, attribute_strings, code_lines, disk_calls, imports, place, quotations

ROOT = Path(captum_gradeclip.__file__).parent
MODELS = {"scenes", "adapters", "scores", "attention", "attr", "maps", "show"}
ROAD = {
    *MODELS,
    "arguments",
    "options",
    "timing",
    "ahead",
    "progress",
    "notices",
    "quoting",
    "former",
    "files",
    "results",
    "images",
    "inputs",
    "placement",
    "selection",
    "estimate",
    "guards",
    "explain",
    "trust",
    "report",
    "index",
    "overview",
    "check",
    "metrics",
}
ALLOWED = {
    "_version": set(),
    "arguments": {"quoting"},
    "options": {"arguments", "quoting"},
    "timing": set(),
    "ahead": set(),
    "progress": set(),
    "notices": {"quoting"},
    "quoting": set(),
    "former": {"quoting"},
    "files": set(),
    "results": {"files", "quoting"},
    "scenes": {"arguments", "files", "progress", "quoting"},
    "adapters": {"scenes", "quoting"},
    "attention": {"former", "quoting"},
    "maps": {"arguments", "former", "quoting"},
    "images": {"arguments", "maps", "notices", "quoting"},
    "inputs": {"adapters", "ahead", "images", "maps", "notices", "placement", "quoting"},
    "placement": {"maps"},
    "selection": {"images", "quoting"},
    "estimate": {"adapters", "attr", "progress", "scores", "timing"},
    "overview": {"ahead", "images", "index", "quoting", "report", "show"},
    "index": {"explain", "files", "images", "quoting", "report", "results", "show"},
    "scores": {
        "adapters",
        "arguments",
        "maps",
        "notices",
        "options",
        "quoting",
    },  # maps: the patch grid of a callable of which nothing is known is inferred
    "attr": {
        "scores",
        "attention",
        "maps",
        "adapters",
        "arguments",
        "options",
        "timing",
        "progress",
        "notices",
        "former",
        "quoting",
    },
    "show": {"arguments", "maps", "options", "files", "quoting"},
    "metrics": {"arguments", "maps", "former", "quoting"},
    "check": {"adapters", "scores", "attention", "attr", "timing"},
    # report saves explanations
    "guards": set(),
    "explain": {*MODELS, "arguments", "timing", "notices", "quoting", "images", "inputs", "guards", "report"},
    "trust": {"adapters", "scores", "attr", "guards", "images", "inputs", "notices", "quoting", "explain"},
    "report": {*MODELS, "files", "results", "quoting", "images", "explain", "check", "_version"},
    "experiments": ROAD,
    "tuning": {*ROAD, "experiments"},
    "app": {*ROAD, "experiments", "tuning", "_version"},
    # of the page, cli starts it, and the page knows nothing of the command line
    "cli": {*ROAD, "experiments", "tuning", "app", "_version"},
    "__main__": {"cli"},
    # for one version: where things were before, each nothing but a list of names
    "loading": {"adapters", "former"},
    "prompts": {"scores", "former"},
    "points": {"maps", "former"},
    "quantus": {"experiments", "former"},
    "benchmark": {"experiments", "former"},
}
LIBRARIES = {"open_clip", "timm", "transformers", "torchvision"}
# The embedded CLIP is one of open_clip's, zero-shot templates are open_clip's, published protocols name released models, and
# fine-tuning takes open_clip's contrastive loss and torchvision's operations on boxes.
MAY_NAME_LIBRARIES = {"adapters", "scenes", "experiments", "tuning", "scores/prompts"}


def some_file(folder: Path, code: str) -> Path:
    """A file of Python with some code."""
    file = folder / "some.py"
    file.write_text(code)
    return file


def broken_arrows(root: Path) -> list[str]:
    """Every import of one station by another that the table does not allow."""
    found = []
    for file in sorted(root.rglob("*.py")):
        part = (place(file, root) or ("",))[0]
        if part == "":
            continue  # the map of the road shows all of it
        if part not in ALLOWED:
            found.append(f"{file.relative_to(root)}: a new station; say in ALLOWED what it may import")
            continue
        ours, foreign = imports(file, root)
        stations = {name.partition(".")[0] for name in ours} - {part}
        found += [f"{file.relative_to(root)} imports {name or 'the root'}" for name in sorted(stations - ALLOWED[part])]
        inner = "/".join(place(file, root))
        if not any(inner == one or inner.startswith(f"{one}/") for one in MAY_NAME_LIBRARIES):
            found += [f"{file.relative_to(root)} names {name}" for name in sorted(foreign & LIBRARIES)]
    return found


def test_imports_run_one_way() -> None:
    assert len(list(ROOT.rglob("*.py"))) > 40
    assert not broken_arrows(ROOT)


def test_each_adapter_names_its_own_library_only() -> None:
    borrowed = {"open_clip": {"transformers", "timm"}}  # some of its text and image towers are theirs
    for name in LIBRARIES:
        assert imports(ROOT / "adapters" / f"{name}.py", ROOT)[1] & LIBRARIES <= {name, *borrowed.get(name, ())}


@pytest.mark.parametrize(
    ("place", "code", "refused"),
    [
        ("metrics/curves.py", "from captum_gradeclip.attr import GradECLIP", "imports attr"),
        ("metrics/curves.py", "from captum_gradeclip import attr", "imports attr"),
        ("metrics/curves.py", "import captum_gradeclip.attr.game as game", "imports attr"),
        ("metrics/curves.py", "from captum_gradeclip import GradECLIP", "imports the root"),
        ("metrics/curves.py", "from ..attr import GradECLIP", "imports attr"),
        ("metrics/deep/curves.py", "from ...attr.game import GAME", "imports attr"),
        ("metrics/curves.py", "from .. import attr", "imports attr"),
        ("metrics/curves.py", "def late():\n    if True:\n        from ..attr import GAME", "imports attr"),
        ("metrics/curves.py", "def late():\n    from captum_gradeclip.attr import GAME", "imports attr"),
        ("metrics/curves.py", "import importlib\nimportlib.import_module('captum_gradeclip.attr')", "imports attr"),
        ("metrics/curves.py", "from importlib import import_module\nimport_module('..attr', __package__)", "imports attr"),
        ("metrics/__init__.py", "from ..attr import GradECLIP", "imports attr"),
        ("metrics.py", "from .attr import GradECLIP", "imports attr"),
        ("attr/game.py", "from ..show import overlay", "imports show"),
        ("attr/game.py", "def late():\n    import timm", "names timm"),
        ("scores/classes.py", "import open_clip", "names open_clip"),
        ("experiments/runner.py", "from ..cli import main", "imports cli"),
        ("app/page.py", "from ..cli.common import say", "imports cli"),
        ("elsewhere/thing.py", "import torch", "a new station"),
        ("metrics/curves.py", "from .scoring import top_k\nfrom ..maps import Frame\nimport captum_gradeclip.maps", None),
        ("scores/prompts.py", "import open_clip", None),
        ("__init__.py", "from .attr import GradECLIP", None),
    ],
)
def test_a_wrong_arrow_is_found(tmp_path: Path, place: str, code: str, refused: str | None) -> None:
    root = tmp_path / "captum_gradeclip"
    for station in ("attr", "maps", "cli", "show"):
        (root / station).mkdir(parents=True)
        (root / station / "__init__.py").write_text("")
    file = root / place
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f'"""A file."""\n\n{code}\n')
    found = broken_arrows(root)
    assert (len(found) == 1 and refused in found[0]) if refused else not found


def test_nothing_is_read_off_by_attribute_strings() -> None:
    files = [file for part in ("attr", "scores", "experiments") for file in (ROOT / part).rglob("*.py")]
    assert len(files) > 30
    assert not [one for file in files for one in attribute_strings(file)]


@pytest.mark.parametrize(
    ("code", "count"),
    [
        ("getattr(score, 'grid', None)", 1),
        ("hasattr(score, 'readout')", 1),
        ("setattr(score, 'labels', True)", 1),
        ("import operator\noperator.attrgetter('grid')(score)", 1),
        ("from operator import attrgetter", 1),
        ("vars(score)['grid']", 1),
        ("score.__dict__['grid']", 1),
        ("object.__getattribute__(score, 'grid')", 1),
        ("try:\n    score.grid\nexcept AttributeError:\n    pass", 1),
        ("try:\n    score.grid\nexcept (ValueError, AttributeError):\n    pass", 1),
        ("from typing import runtime_checkable\n@runtime_checkable\nclass Score: ...", 2),
        ("ask = getattr\nask(score, 'grid')", 1),
        ("getattr(self.model, 'grid')", 1),
        ("class Own:\n    def f(self):\n        return getattr(self, 'x') or getattr(Own, 'y') or self.__dict__", 0),
    ],
)
def test_an_attribute_string_is_found(tmp_path: Path, code: str, count: int) -> None:
    assert len(attribute_strings(some_file(tmp_path, code))) == count


# The records of a run and its lock are files that several processes share, each with a writer that suits it.
OWN_WRITERS = {"files.py", "results.py", "experiments/records.py", "experiments/lock.py", "experiments/identity.py"}


def test_files_are_written_in_one_place() -> None:
    """Whatever writes, replaces or removes files by itself leaves half of them on a full disk, or takes those of others."""
    files = [file for file in ROOT.rglob("*.py") if str(file.relative_to(ROOT).as_posix()) not in OWN_WRITERS]
    assert not [one for file in files for one in disk_calls(file)]
    assert disk_calls(ROOT / "files.py") and disk_calls(ROOT / "results.py")


@pytest.mark.parametrize(
    ("code", "count"),
    [
        ("path.write_text('a')", 1),
        ("(folder / 'a.txt').write_bytes(b'a')", 1),
        ("open(path, 'w')", 1),
        ("path.open('ab')", 1),
        ("open(path, mode='r+')", 1),
        ("open(path)\nopen(path, 'rb')\npath.open(encoding='utf-8')", 0),
        ("import json\njson.dump(content, file)", 1),
        ("import json\njson.dumps(content)", 1),
        ("import json\njson.loads(text)", 0),
        ("image.save(folder / 'a.png')", 1),
        ("torch.save(state, path)", 1),
        ("figure.savefig(path)", 1),
        (
            "with replacing(path) as part:\n    torch.save(state, part)\n    one.save(part / 'a.png')",
            0,
        ),
        ("file = io.BytesIO()\nimage.save(file, format='png')", 0),
        ("show.save(figure, path)\nsave(explanation, folder)", 0),
        ("np.savez(path, a=a)\nsave_file(state, path)", 2),
        ("path.unlink()\nshutil.rmtree(folder)\nfolder.rmdir()\nos.remove(path)", 4),
        ("one.replace(path)\nos.replace(one, path)\nos.rename(one, path)", 3),
        ("'text'.replace('a', 'b')\nreplace(explanation, names=names)", 0),
        ("tempfile.TemporaryDirectory()", 1),
    ],
)
def test_a_writer_is_found(tmp_path: Path, code: str, count: int) -> None:
    found = disk_calls(some_file(tmp_path, code))
    assert len(found) == count, found


def test_what_was_passed_is_quoted_in_one_place() -> None:
    files = [file for file in ROOT.rglob("*.py") if file.name not in ("quoting.py", "records.py")]
    found = [one for file in files for one in quotations(file)]
    where = [(one.split(":")[0], one.split()[-1]) for one in found]
    assert where == [("__init__.py", "__name__"), ("__init__.py", "name")]  # as Python itself says it of a module


@pytest.mark.parametrize(
    ("code", "count"), [("f'got {text!r}'", 1), ("f'{repr(text)}'", 1), ("log('%r', text)", 1), ("f'{quoted(text)} {n}'", 0)]
)
def test_a_quotation_is_found(tmp_path: Path, code: str, count: int) -> None:
    assert len(quotations(some_file(tmp_path, code))) == count


def test_what_is_printed_goes_through_one_screen() -> None:
    """The console of rich hands escape sequences on to the terminal."""
    files = [file for file in (ROOT / "cli").glob("*.py") if file.name != "common.py"]
    assert files and not [file.name for file in files if re.search(r"\bConsole\b", file.read_text())]


def test_the_budgets_hold(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """``Any`` in the package, the lines of ``attr/`` and of the files of its methods: by the script that CI runs."""
    monkeypatch.setattr(sys, "path", list(sys.path))  # the script adds to it
    assert runpy.run_path(str(ROOT.parent / ".ci" / "budget.py"))["main"]() == 0, capsys.readouterr().out


def test_any_has_no_other_name() -> None:
    """A second name for ``Any`` would be a second budget; each use of one counts as well."""
    files = list(ROOT.rglob("*.py"))
    names = {"Any"} | {name for file in files for name in aliases_of_any(file)}
    said, lines = sum(anys(file, names) for file in files), sum(len(code_lines(file)) for file in files)
    assert said <= 0.015 * lines, f"{said} in {lines} lines of code, {1000 * said / lines:.1f} in 1,000, as {sorted(names)}"


def test_the_files_of_methods_lie_in_attr() -> None:
    methods = {Path(inspect.getfile(kind)) for kind in METHODS}
    assert len(methods) == len(METHODS) and {file.parent for file in methods} == {ROOT / "attr"}


def test_lines_of_code_are_counted(tmp_path: Path) -> None:
    file = tmp_path / "some.py"
    told, comment, four, two = '"""Told.\n\nMore."""', "# why", "x = (\n    1,\n\n    2,\n)", '    return """a\nb"""'
    file.write_text(f'{told}\n\n{comment}\n{four}\n\n\ndef f() -> Any:\n    """Told."""\n{two}\n')
    assert len(code_lines(file)) == 4 + 1 + 2 and anys(file, {"Any"}) == 1


def test_public_names_exist() -> None:
    for name in captum_gradeclip.__all__:
        assert getattr(captum_gradeclip, name) is not None
    attr = import_module("captum_gradeclip.attr")
    for name in (*(kind.__name__ for kind in METHODS), "METHODS", "InputSpaceAttribution", "compare", "feature_surgery"):
        assert hasattr(attr, name)
