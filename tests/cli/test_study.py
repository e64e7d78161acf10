"""The studies from the shell: on scenes, on five lines of one's own, with what is missing or malformed told in flags."""

from __future__ import annotations

import builtins
import json
from pathlib import Path
from typing import Any

import pytest

from captum_gradeclip import cli, scenes
from captum_gradeclip.cli.main import build_parser
from captum_gradeclip.experiments import STUDIES

Told = pytest.CaptureFixture[str]
OWN = """image,base,matched,mismatched,matched_phrase,mismatched_phrase,kind
0.png,ring,red,blue,red ring,blue ring,adjective + noun
1.png,star,green,pink,green star,pink star,adjective + noun
0.png,square,left,right,a thing left of a square,a thing right of a square,relation + noun
1.png,circle,above,below,a thing above a circle,a thing below a circle,relation + noun
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for number in range(2):
        scenes.draw(scenes.sample_scene(0, number, "evaluation", counts=(3,)), 80)[0].save(f"{number}.png")


def run(*arguments: str) -> int:
    return cli.main(["study", *arguments])


@pytest.mark.parametrize("name", STUDIES)
def test_on_scenes_by_one_command(name: str, capsys: Told) -> None:
    assert run(name, "--samples", "4", "--out", "out") == 0
    folder = Path("out") / f"{name}-scenes"
    for ending in ("csv", "tex", "md", "json"):
        assert (folder / f"{name}.{ending}").stat().st_size
    assert list(folder.glob("*.png")) and list((folder / "records").glob("chunk-*"))
    content = json.loads((folder / f"{name}.json").read_text())
    told = " ".join(capsys.readouterr().out.split())
    assert content["study"] == name and all(" ".join(one.split()) in told for one in content["findings"])
    # Another reading of the same records.
    again = ["--words", "5"] if name == "concreteness" else ["--examples", "1"]
    assert run(name, "--samples", "4", "--out", "out", *again) == 0
    assert run(name, "--samples", "4", "--out", "out", "--methods", "RawAttention") == 2


def test_five_lines_of_ones_own(capsys: Told) -> None:
    Path("own.csv").write_text(OWN)
    assert run("addibility", "--data", "csv", "--annotations", "own.csv", "--out", "out") == 0
    content = json.loads(Path("out/addibility-csv/addibility.json").read_text())
    assert content["samples"] == 4 and "(0.975)" in Path("out/addibility-csv/addibility.md").read_text()


def test_captions_ratings_and_counts_of_ones_own(capsys: Told) -> None:
    Path("captions.csv").write_text("image,caption\n0.png,A red ring.\n0.png,two stars\n1.png,a star above a red ring\n")
    Path("ratings.csv").write_text("Word,Bigram,Conc.M\nring,0,4.5\nred,0,4\nstar,0,4.7\na,0,1.4\n")
    Path("counts.txt").write_text("a 900\nred 50\nring 7\nstar 9\n")
    own = ["--data", "csv", "--annotations", "captions.csv", "--ratings", "ratings.csv", "--frequency", "counts.txt"]
    assert run("concreteness", *own, "--out", "out") == 0
    content = json.loads(Path("out/concreteness-csv/concreteness.json").read_text())
    assert content["captions"] == 3 and set(content["unrated"]) == {"two", "above"}
    assert run("concreteness", *own[:-1], "wordfreq", "--out", "out") == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["addibility", "--data", "csv"], "--annotations: the data set 'csv' needs it, got nothing"),
        (["addibility", "--data", "csv", "--annotations", "b.csv"], "b.csv: line 2, column 2 (base): expected a text"),
        (["attributes", "--data", "clevr", "--annotations", "b.json"], "--root: the data set 'clevr' needs it"),
        (["attributes", "--grid", "99"], "--grid: expected at least 1 and at most 32, got 99"),
        (["addibility", "--samples", "0"], "--samples: expected at least 1, got 0"),
        (["addibility", "--methods", "nothing"], "nothing"),
        (["addibility", "--samples", "2", "--examples", "7"], "--examples: expected numbers below that of all samples, 2"),
        (["concreteness", "--ratings", "b.csv"], "b.csv: line 1: expected the columns Word, Conc.M"),
        (["concreteness", "--frequency", "b.txt"], "b.txt: line 2, column 2 (count): expected a number"),
        (["concreteness", "--words", "1"], "--words: expected at least 3, got 1"),
        (["concreteness", "--model", "timm:vit_tiny_patch16_224"], "--model: timm:vit_tiny_patch16_224 is a classifier"),
    ],
)
def test_what_is_wrong_is_said_in_flags(arguments: list[str], said: str, capsys: Told) -> None:
    Path("b.csv").write_text(OWN.splitlines()[0] + "\n0.png,,c,d,e,f,g\n")
    Path("b.json").write_text("{}")
    Path("b.txt").write_text("a,1\nb,x\n")
    assert run(*arguments, "--out", "out") == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("package", "arguments"),
    [
        ("ot", ["attributes", "--samples", "1"]),
        ("wordfreq", ["concreteness", "--frequency", "wordfreq"]),
        ("openpyxl", ["concreteness", "--ratings", "b.xlsx"]),
    ],
)
def test_a_package_that_is_missing(
    package: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: Told
) -> None:
    imported = builtins.__import__

    def missing(name: str, *given: Any, **more: Any) -> Any:
        if name.partition(".")[0] == package:
            raise ModuleNotFoundError(f"No module named '{package}'", name=package)
        return imported(name, *given, **more)

    monkeypatch.setattr(builtins, "__import__", missing)
    assert run(*arguments, "--out", "out") == 2
    assert "pip install 'captum_gradeclip[study]'" in capsys.readouterr().err


def test_each_study_is_a_command_with_its_own_options(capsys: Told) -> None:
    for name, kind in STUDIES.items():
        with pytest.raises(SystemExit) as told:
            build_parser(["study", name]).parse_args(["study", name, "--help"])
        shown = " ".join(capsys.readouterr().out.split())
        assert told.value.code == 0 and kind.summary in shown and all(one in shown for one in kind.datasets)
        assert ("--ratings" in shown) == (name == "concreteness") and ("--grid" in shown) == (name == "attributes")
