"""What the pages and the README print is run, tables are those of the registries, and each public name is told about."""

from __future__ import annotations

import inspect
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from torch import nn

from captum_gradeclip import METHODS, adapters, metrics, scenes
from captum_gradeclip.attr import BASELINES, CAPTUM, feature_surgery, word_relevance
from captum_gradeclip.cli import main
from captum_gradeclip.experiments import DATASETS, STUDIES, TASKS

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
sys.path.insert(0, str(DOCS / "_ext"))

import stations  # noqa: E402
import tables  # noqa: E402

# The page of a method of one's own is run by tests/attr/test_own_method.py, which takes the method out again.
ELSEWHERE = {DOCS / "howto" / "write-a-method.md"}
PAGES = [ROOT / "README.md", *(page for page in sorted(DOCS.rglob("*.md")) if not {"_build", "generated"} & {*page.parts})]


def blocks(page: Path, language: str) -> list[str]:
    """The blocks of code of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), flags=re.MULTILINE | re.DOTALL)


PROGRAMS = [page for page in PAGES if blocks(page, "python") and page not in ELSEWHERE]
COMMANDS = [
    (page, line) for page in PAGES for block in blocks(page, "sh") for line in block.splitlines() if line[:9] == "gradeclip"
]


def test_there_is_something_to_run() -> None:
    assert len(PROGRAMS) >= 9 and COMMANDS and all(page.exists() for page in ELSEWHERE)


@pytest.mark.parametrize("page", PROGRAMS, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_code_of_a_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of its blocks, one after the other, as a reader would run them."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "code.py").write_text("\n".join(blocks(page, "python")))
    runpy.run_path(str(tmp_path / "code.py"), run_name="__main__")


@pytest.mark.parametrize(("page", "line"), COMMANDS, ids=lambda one: getattr(one, "stem", one))
def test_the_commands_of_a_page_run(page: Path, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    scenes.SceneDataset(1, "evaluation", size=128)[0].image.save("photo.jpg")
    assert main(shlex.split(line)[1:]) == 0


@pytest.mark.slow
def test_the_code_of_the_readme_runs_in_a_process_of_its_own(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", "\n".join(blocks(ROOT / "README.md", "python"))], cwd=tmp_path, check=True)


def rows(text: str) -> list[list[str]]:
    """The cells of a table of Markdown, without its head."""
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in text.splitlines()[2:]]


def test_tables_are_those_of_the_registries() -> None:
    told = {row[0]: row for row in rows(tables.methods())}
    assert list(told) == [kind.info.name for kind in METHODS]
    for kind in METHODS:
        assert kind.__name__ in told[kind.info.name][1]
        assert [cell == "yes" for cell in told[kind.info.name][2:4]] == [kind.info.image, kind.info.text]
    assert [row[0] for row in rows(tables.models())] == list(adapters.families())
    readme = (ROOT / "README.md").read_text()
    for mark, made in tables.README.items():
        assert readme.split(mark)[1] == made(), "run python docs/_ext/tables.py"
    named = [re.search(r"metrics\.(\w+)", row[0]) for row in (*rows(tables.metrics()), *rows(tables.functions()))]
    assert {one[1] for one in named if one} <= set(metrics.__all__) and len(named) > 30
    assert [row[0].split()[-1].strip("`") for row in rows(tables.tasks())] == [*TASKS, *STUDIES]
    assert [row[0].split()[-1].strip("`") for row in rows(tables.datasets())] == list(DATASETS)
    assert {row[0] for row in rows(tables.options())} <= {kind.info.name for kind in METHODS}
    assert all(
        len(row) == len(table().splitlines()[0].split("|")) - 2 for table in (tables.methods,) for row in rows(table())
    )


def test_each_table_stands_on_a_page() -> None:
    text = "".join(page.read_text() for page in PAGES)
    assert not [name for name in tables.TABLES if f"generated/{name}.inc.md" not in text]


def arguments(value: Any) -> set[str]:
    """The names of the arguments of a function or of a class."""
    if inspect.isclass(value) and value.__init__ is nn.Module.__init__:
        return set()  # that of torch takes anything, and a module without its own needs nothing
    try:
        found = inspect.signature(value).parameters.values()
    except ValueError:
        return set()
    return {
        one.name
        for one in found
        if one.kind is not one.VAR_POSITIONAL and one.name not in ("self", "forward_func", "device_ids")
    }


def sourced() -> set[int]:
    """What must say where it comes from, by identity: the methods, and all that metrics are made of."""
    listed = [getattr(metrics, name) for name in metrics.__all__]
    return {id(one) for one in (*METHODS, *CAPTUM, *BASELINES, feature_surgery, word_relevance, *listed)}


def tells_source(text: str) -> bool:
    """Whether a docstring names a paper with its year, an article of arXiv, this package, or another name that tells it."""
    source = re.search(r"^Source: (.+?)(\n\n|\Z)", text, flags=re.MULTILINE | re.DOTALL)
    return source is not None and bool(re.search(r"\b(19|20)\d\d\b|arXiv|\bours\b|this package|as for :", source[1]))


def lacking() -> dict[str, list[str]]:
    """The public names that lack something, by what they lack."""
    found: dict[str, list[str]] = {"docstring": [], "arguments": [], "result": [], "example": [], "source": []}
    with_source = sourced()
    for one in stations.homes().values():
        text = one.document
        if not text:
            found["docstring"].append(one.path)
        if one.kind == "data" or (inspect.isclass(one.value) and issubclass(one.value, BaseException)):
            continue
        known = set() if getattr(one.value, "_is_protocol", False) else arguments(one.value)  # nobody makes a protocol
        missing = [name for name in known if not re.search(rf"^ *\*{{0,2}}{name}\b.*?:", text, flags=re.MULTILINE)]
        if missing and "as for :" not in text and "those of :" not in text:
            found["arguments"].append(f"{one.path}: {', '.join(sorted(missing))}")
        if one.kind == "function" and "Returns:" not in text and "Yields:" not in text:
            annotated = inspect.signature(one.value).return_annotation
            if annotated not in (None, "None", "Iterator[None]"):  # the last is a context that gives nothing
                found["result"].append(one.path)
        if ">>>" not in text:
            found["example"].append(one.path)
        if id(one.value) in with_source and not tells_source(text):
            found["source"].append(one.path)
    return found


def test_public_names_are_told_about() -> None:
    found = lacking()
    assert not any(found.values()), "\n".join(f"{path} lacks its {part}" for part in found for path in sorted(found[part]))


def test_a_name_that_is_not_told_about_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(images: int) -> int:
        return images

    rows = {0: stations.Public("metrics", "nothing", nothing), 1: stations.Public("metrics", "ranks", metrics.ranks)}
    monkeypatch.setattr(stations, "homes", lambda: rows)
    monkeypatch.setattr(metrics, "ranks", nothing)
    paths = {part: [path.partition(":")[0] for path in some] for part, some in lacking().items()}
    assert set(map(tuple, paths.values())) == {("captum_gradeclip.metrics.nothing",)}


def test_each_station_has_its_place_in_the_reference() -> None:
    index = (DOCS / "api" / "index.md").read_text()
    assert not [station for station in stations.STATIONS if f"generated/api/{station.replace('.', '-')}\n" not in index]
    packages = {file.parent.name for file in (ROOT / "captum_gradeclip").glob("*/__init__.py")}
    assert packages - {*stations.STATIONS} == {"benchmark", "cli", "app"}  # deprecated; told by --help; by a how-to


def test_the_page_on_pypi_links_to_files_that_are_there() -> None:
    absolute = runpy.run_path(str(ROOT / ".ci" / "absolute_links.py"))["absolute"]
    text = absolute((ROOT / "README.md").read_text(), "https://host/me/it", "v1")
    assert not re.findall(r"\]\((?!https://)", text)
    linked = re.findall(r"\]\(https://host/me/it/(blob|raw)/v1/([^)#]+)", text)
    assert len(linked) > 20 and all((ROOT / path).exists() for _, path in linked)
    assert {kind for kind, path in linked if path.endswith(".png")} == {"raw"}


def test_what_programs_read_names_what_is_there() -> None:
    text = (ROOT / "llms.txt").read_text()
    linked = re.findall(r"\]\(([^)]+)\)", text)
    assert len(linked) > 20 and all((ROOT / path).exists() for path in linked)
    extras = set(re.findall(r"`(\w+)`", text.split("extras: ")[1].split("\n\n")[0]))
    declared = (ROOT / "setup.cfg").read_text().split("[options.extras_require]")[1]
    assert extras == set(re.findall(r"^(\w+) =$", declared, flags=re.MULTILINE))


def test_pictures_of_the_pages_are_there() -> None:
    for page in PAGES:
        for path in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", page.read_text()):
            with Image.open(page.parent / path) as image:
                image.verify()


def test_the_family_that_was_brought_stands_in_the_code_as_the_page_has_it() -> None:
    (shown,) = blocks(DOCS / "howto" / "bring-a-family.md", "diff")
    lines = shown.splitlines()
    assert 10 < len(lines) <= 40
    files = [line.removeprefix("+++ b/") for line in lines if line.startswith("+++")]
    parts = re.split(r"^\+\+\+ .*$", shown, flags=re.MULTILINE)[1:]
    assert len(files) == len(parts) == 3
    for file, part in zip(files, parts):
        code = (ROOT / file).read_text().splitlines()
        for line in part.strip().splitlines():
            if not line.startswith("---"):
                assert (line[1:] in code) == line.startswith("+"), line
