"""``gradeclip tune`` and ``gradeclip evaluate``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from captum_gradeclip import scenes
from captum_gradeclip.cli import main
from captum_gradeclip.tuning import ScenePairs

SMALL = ["--steps", "2", "--batch", "4", "--samples", "8", "--lr", "3e-4"]


def test_a_model_is_tuned_gone_on_with_and_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "run")
    assert main(["tune", *SMALL, "--out", out]) == 0
    first = (tmp_path / "run" / "tuned.safetensors").read_bytes()
    assert "weights, log and checkpoint are in" in capsys.readouterr().out
    assert main(["tune", *SMALL, "--out", out]) == 0
    assert (tmp_path / "run" / "tuned.safetensors").read_bytes() == first
    assert main(["tune", *SMALL, "--gamma", "1", "--out", out]) == 2
    assert "--out: '" in (said := capsys.readouterr().err) and "gamma: 2.0 there, 1.0 here" in said

    weights = str(tmp_path / "run" / "tuned.safetensors")
    assert scenes.load(weights)[0].visual.image_size == (96, 96)
    for what in ("regions", "retrieval"):
        measured = ["evaluate", what, "--pretrained", weights, "--samples", "3", "--out", str(tmp_path / "figures")]
        assert main(measured) == 0
        content = json.loads((tmp_path / "figures" / f"{what}.json").read_text())
        assert content["pretrained"] == weights and content["data"]["length"] == 3
    shown = capsys.readouterr().out
    assert "thing masks" in shown and "text to image" in shown and "nan" not in shown


def test_a_table_of_pairs_is_read(tmp_path: Path) -> None:
    rows = ["filepath\ttitle"]
    for index in range(4):
        pair = ScenePairs(4)[index]
        pair.image.save(tmp_path / f"{index}.png")
        rows.append(f"{index}.png\t{pair.caption}")
    (tmp_path / "pairs.tsv").write_text("\n".join(rows))
    common = ["--steps", "1", "--batch", "4", "--data", "table", "--pairs", str(tmp_path / "pairs.tsv")]
    more = ["--columns", "filepath,title", "--local", "none", "--out", str(tmp_path / "run")]
    assert main(["tune", *common, *more]) == 0
    about = json.loads((tmp_path / "run" / "tuning.json").read_text())
    assert about["pairs"]["rows"] == 4 and about["settings"]["local"] == "none"


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["tune", "--data", "shards"], "--pairs: data shards needs it"),
        (["tune", "--batch", "9", "--samples", "8"], "--batch: expected at most 8"),
        (["tune", "--data", "table", "--pairs", "none.csv"], "none.csv"),
        (["evaluate", "regions", "--data", "coco-panoptic"], "--root: data coco-panoptic needs it"),
        (["evaluate", "retrieval", "--data", "flickr30k", "--root", "."], "--annotations: data flickr30k needs it"),
    ],
)
def test_what_is_missing_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: list[str], message: str
) -> None:
    assert main([*command, "--out", str(tmp_path)]) == 2
    assert message in capsys.readouterr().err


def test_evaluate_still_knows_what_benchmark_measures(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["evaluate", "--help"])
    shown = capsys.readouterr().out
    assert all(name in shown for name in ("regions", "retrieval", "faithfulness", "words", "scenes", "time"))
