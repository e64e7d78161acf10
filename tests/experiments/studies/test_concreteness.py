"""Concreteness: weights of words against maps made one by one, files of ratings and counts, and what follows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from openpyxl import Workbook
from scipy import stats

from captum_gradeclip import GradECLIP, TextImageScore
from captum_gradeclip.adapters.loading import Loaded
from captum_gradeclip.experiments import DataError, Reading, Record, Scenes, StudySettings, conclude, run
from captum_gradeclip.experiments.studies import frequency, ratings
from captum_gradeclip.experiments.studies.concreteness import Concreteness, importances
from captum_gradeclip.experiments.studies.lemmas import lemmas
from captum_gradeclip.maps import merge_words

COLUMNS = ("Word", "Bigram", "Conc.M", "Conc.SD", "Unknown", "Total", "Percent_known", "SUBTLEX", "Dom_Pos")
"""As in the file of Brysbaert et al. (2014); the numbers of the rows below are made up."""
ROWS: list[tuple[Any, ...]] = [
    ("ring", 0, 4.5, 0.6, 0, 30, 1.0, 4000, "Noun"),
    ("Red", 0, 4.0, 1.1, 0, 29, 0.96, 9000, "Adjective"),
    ("sit", 0, 4, 1.0, 1, 28, 0.9, 8000, "Verb"),
    ("a", 0, 1.5, 0.9, 0, 30, 1.0, 1000000, "Article"),
    ("traffic light", 1, 4.9, 0.2, 0, 30, 1.0, 0, "#N/A"),
]


def text_file(path: Path, delimiter: str = ",", rows: list[tuple[Any, ...]] = ROWS) -> Path:
    path.write_text("\n".join(delimiter.join(map(str, row)) for row in (COLUMNS, *rows)) + "\n")
    return path


def spreadsheet(path: Path, rows: list[tuple[Any, ...]] = ROWS, columns: tuple[str, ...] = COLUMNS) -> Path:
    book = Workbook()
    assert book.active is not None
    for row in (columns, *rows):
        book.active.append(row)
    book.save(path)
    return path


def test_ratings_in_all_formats(tmp_path: Path) -> None:
    files = [text_file(tmp_path / "a.csv"), text_file(tmp_path / "a.txt", "\t"), spreadsheet(tmp_path / "a.xlsx")]
    for file in files:
        found = ratings.read(file)
        assert found.values == {"ring": 4.5, "red": 4.0, "sit": 4.0, "a": 1.5, "traffic light": 4.9}
        assert found.of("Rings") == (4.5, "ring") and found.of("RED") == (4.0, "red") and found.of("sitting") == (4.0, "sit")
        assert found.of("an") == (1.5, "a") and found.of("star") is None


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (("star", 0, "high"), r"line 7, column 3 \(Conc.M\): expected a number, got 'high'"),
        (("star", 0, 7), r"line 7, column 3 \(Conc.M\): expected a number from 1 to 5, got 7"),
        (("star", 0, ""), r"line 7, column 3 \(Conc.M\): expected a text, got nothing"),
        (("", 0, 3), r"line 7, column 1 \(Word\): expected a text, got nothing"),
        (("RING", 0, 3), r"line 7, column 1 \(Word\): expected each word once, got 'ring' again, which is in line 2"),
        (("star", 0, "nan"), r"line 7, column 3 \(Conc.M\): expected a number from 1 to 5, got nan"),
    ],
)
def test_malformed_ratings(tmp_path: Path, row: tuple[Any, ...], message: str) -> None:
    rows = [*ROWS, (*row, *[0] * 6)]
    for file in (text_file(tmp_path / "own.csv", rows=rows), spreadsheet(tmp_path / "own.xlsx", rows)):
        with pytest.raises(DataError, match=rf"{file.name}: {message}"):
            ratings.read(file)


def test_files_that_hold_no_ratings(tmp_path: Path) -> None:
    (tmp_path / "a.xlsx").write_bytes(b"PK no spreadsheet")
    with pytest.raises(DataError, match="a.xlsx: it is no spreadsheet that can be read"):
        ratings.read(tmp_path / "a.xlsx")
    with pytest.raises(DataError, match="b.xlsx: there is no such file"):
        ratings.read(tmp_path / "b.xlsx")
    with pytest.raises(DataError, match=r"c.xlsx: line 1: expected the columns Word and Conc.M .*; Conc.M is missing"):
        ratings.read(spreadsheet(tmp_path / "c.xlsx", [("a", 1)], ("Word", "Rating")))
    with pytest.raises(DataError, match=r"d.xlsx: line 2: expected rows"):
        ratings.read(spreadsheet(tmp_path / "d.xlsx", []))
    with pytest.raises(DataError, match=r"e.csv: line 4: expected 9 cells as in the first line, got 1"):
        ratings.read(text_file(tmp_path / "e.csv", rows=[*ROWS[:2], ("star",)]))
    (tmp_path / "f.csv").write_text("Word;Rating\nring;4\n")
    with pytest.raises(DataError, match=r"f.csv: line 1: expected the columns Word, Conc.M"):
        ratings.read(tmp_path / "f.csv")


@pytest.mark.parametrize(
    ("word", "lemma"),
    [
        *(("dogs", "dog"), ("boxes", "box"), ("berries", "berry"), ("crosses", "cross"), ("horses", "horse")),
        *(("riding", "ride"), ("sitting", "sit"), ("walked", "walk"), ("parked", "park"), ("largest", "large")),
        *(
            ("women", "woman"),
            ("shelves", "shelf"),
            ("knives", "knife"),
            ("tied", "tie"),
            ("lying", "lie"),
            ("man's", "man"),
        ),
        *(("tomatoes", "tomato"), ("carries", "carry"), ("bigger", "big"), ("are", "be"), ("dishes", "dish")),
    ],
)
def test_lemmas(word: str, lemma: str) -> None:
    assert lemma in list(lemmas(word))


def test_a_form_comes_before_its_lemma() -> None:
    found = ratings.Ratings("", {"glasses": 4.9, "glass": 4.8, "people": 4.8})
    assert found.of("glasses") == (4.9, "glasses") and found.of("people") == (4.8, "people")
    assert list(lemmas("glass")) == [] and list(lemmas("as")) == []


@pytest.mark.parametrize(
    "text", ["word\tcount\nthe\t900\nRed\t60\nred\t40\n", "the,900\nred,100\n", "the 900\n\nred 100.0\n"]
)
def test_counts(tmp_path: Path, text: str) -> None:
    (tmp_path / "counts.txt").write_text(text)
    name, found = frequency.look_up(str(tmp_path / "counts.txt"), ["the", "red", "ring"], {})
    assert found == {"the": pytest.approx(8.954, abs=1e-3), "red": pytest.approx(8)} and "in the file" in name


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("the,9\nred,many\n", r"line 2, column 2 \(count\): expected a number of at least 0, got 'many'"),
        ("the,9\nred,-1\n", r"line 2, column 2 \(count\): expected a number of at least 0, got '-1'"),
        ("the,9\nred\n", r"line 2, column 1 \(word\): expected a word and its count, got 'red'"),
        ("word,count\n", "line 1: expected a word and its count in each line, got none"),
        ("", "line 1: expected a word and its count in each line, got none"),
    ],
)
def test_malformed_counts(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "counts.csv").write_text(text)
    with pytest.raises(DataError, match=rf"counts.csv: {message}"):
        frequency.read(tmp_path / "counts.csv")


def test_counts_of_wordfreq() -> None:
    name, found = frequency.look_up("wordfreq", ["the", "dog", "qqzzxxy"], {})
    assert found["the"] > found["dog"] > 3 and "qqzzxxy" not in found and "wordfreq" in name


def test_records_are_those_of_captions_explained_one_by_one(embedded: Loaded, tmp_path: Path) -> None:
    data = Scenes(3)
    records = run(Concreteness, embedded, data, StudySettings(), tmp_path)
    assert records is not None and len(records) == 3
    task = Concreteness(embedded, data, StudySettings())
    for number, record in enumerate(records):
        sample = data[number]
        score = TextImageScore(embedded.model, task.prepare(sample).view.pixels)
        assert len(record["captions"]) == len(sample.captions)
        for caption, found in zip(sample.captions, record["captions"]):
            assert embedded.tokenizer is not None
            tokens: Any = embedded.tokenizer([caption])
            maps = GradECLIP.for_score(score).attribute(tokens, target=0)
            (expected,) = merge_words(maps, tokens, embedded.tokenizer)
            assert [word for word, _ in found] == [word for word, _ in expected]
            assert [weight for _, weight in found] == pytest.approx([weight for _, weight in expected], abs=1e-5)


def record(*captions: list[tuple[str, float]], number: int = 0) -> Record:
    return {"id": str(number), "method": "GradECLIP", "captions": list(captions)}


def test_importances() -> None:
    found = [
        record([("A", 0.1), ("Ring", 0.4), ("and", 0.0), ("a", 0.2), (",", 0.9)], [("ring", 0.0)]),
        record([("ring", 0.5), ("red", 0.25)], [], number=1),
    ]
    counts, weights, silent, total = importances(found)
    assert weights == {"a": [0.25, 0.5], "ring": [1.0, 1.0], "and": [0.0], "red": [0.5]}
    assert counts == {"a": 2, "ring": 3, "and": 1, "red": 1} and (silent, total) == (2, 4)


def test_what_follows_from_ratings_of_ones_own(tmp_path: Path) -> None:
    words = {"a": 0.1, "sitting": 0.5, "Red": 0.6, "rings": 1.0, "star": 0.9}
    records = [record(list(words.items()), number=number) for number in range(4)]
    counts = tmp_path / "counts.txt"
    counts.write_text("a 1000\nred 100\nrings 10\nstar 1\nother 99999\n")
    reading = Reading(ratings=text_file(tmp_path / "own.csv"), frequency=str(counts))
    report = Concreteness.report(records, "concreteness", "Grad-ECLIP", "csv", reading)
    rows = report.tables[""].rows
    line = stats.linregress([1.5, 4, 4, 4.5], [0.1, 0.5, 0.6, 1.0])
    told = rows["importance on concreteness, 1 to 5"]
    assert told["slope"].value == pytest.approx(line.slope) and told["p"].value == pytest.approx(line.pvalue)
    assert told["R^2"].value == pytest.approx(line.rvalue**2) and told["points"].value == 4
    line = stats.linregress([3, 2, 1, 0], [0.1, 0.6, 1.0, 0.9])
    assert rows["importance on frequency in the file (Zipf scale)"]["slope"].value == pytest.approx(line.slope)
    assert report.facts["unrated"] == ["star"] and "not rated: star" in report.findings
    table = report.texts["words.csv"].splitlines()
    assert table[1].startswith("rings,4,1.000000,1.000000,1.000000,4.5,ring,") and table[2].startswith("star,4,0.900000")
    assert next(line for line in table if line.startswith("sitting")).endswith(",4,sit,")
    fewer = Concreteness.report([*records, record([("ring", 1.0)])], "c", "Grad-ECLIP", "csv", Reading(words=5))
    assert len(fewer.texts["words.csv"].splitlines()) == 6


def test_own_marks_of_scenes(embedded: Loaded, tmp_path: Path) -> None:
    data, settings = Scenes(6), StudySettings()
    records = run(Concreteness, embedded, data, settings, tmp_path)
    assert records is not None
    (report,) = conclude(Concreteness, embedded, data, settings, records)
    assert {"object", "attribute", "function"} <= set(report.tables["kinds"].rows) and report.facts["unrated"] == []
    assert "our own marks" in report.markdown()
    files = {file.name for file in report.write(tmp_path)}
    assert {"concreteness-words.csv", "concreteness-concreteness.png", "concreteness-frequency.png"} <= files


def test_a_caption_that_the_model_cannot_read_is_told_or_left_out(embedded: Loaded, tmp_path: Path) -> None:
    from PIL import Image

    from captum_gradeclip.experiments.data import CaptionRows

    Image.new("RGB", (20, 20)).save(tmp_path / "a.png")
    Image.new("RGB", (20, 20)).save(tmp_path / "b.png")
    (tmp_path / "own.csv").write_text(f"image,caption\na.png,{'red ' * 60}\nb.png,a red ring\n")
    data = CaptionRows(tmp_path / "own.csv")
    with pytest.raises(DataError, match="a.png: text: .* shorten"):
        run(Concreteness, embedded, data, StudySettings(), tmp_path / "out")
    settings = StudySettings(skip_broken=True)
    records = run(Concreteness, embedded, data, settings, tmp_path / "other")
    assert (
        records is not None and [one.get("method") for one in sorted(records, key=lambda one: one["id"])][-1] == "GradECLIP"
    )
    (report,) = conclude(Concreteness, embedded, data, settings, records)
    assert report.facts["broken samples"] == 1 and report.findings[-1] == "Broken samples left out: 1."
