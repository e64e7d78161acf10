"""An adapter that does not tell the truth is caught: about patches, read-out, layers, padding or the marks of a text."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from captum_gradeclip import adapters, cli, explain
from captum_gradeclip.adapters import ImageTower, Readout, TextTower, open_clip, timm
from captum_gradeclip.adapters.base import Front, first_row, sites, without_padding
from captum_gradeclip.check import faults_of, self_check

from .conftest import FAMILIES, stir


def second_row(inputs: Tensor) -> Tensor:
    return first_row(inputs) + 1


def shorter(tower: TextTower) -> TextTower:
    """Says that the token in front of the end mark is the last that counts."""
    front = tower.front
    assert front is not None
    return replace(tower, front=replace(front, length=lambda tokens: front.length(tokens) - 2))


def unseen_padding(tower: TextTower) -> TextTower:
    """Says of a tower without a mask that it does not see its padding."""
    front = Front(lambda tokens: without_padding(tokens, 0), tower.encode, lambda: [])
    return replace(tower, front=front)


IMAGE_LIES: dict[str, tuple[str, Callable[[ImageTower], ImageTower], str]] = {
    "patches that are larger": (
        "open_clip ViT",
        lambda tower: replace(tower, patch=16),
        r"a change in patch \(0, 1\) does not arrive at the token",
    ),
    "patches that are larger behind a rotary table": (
        "timm EVA-02",
        lambda tower: replace(tower, patch=16),
        r"a change in patch \(0, 1\) does not arrive at the token",
    ),
    "another token that is read": (
        "transformers ViT",
        lambda tower: replace(tower, readout=Readout("token", rows=second_row)),
        "does not depend on token 1, which is said to be read",
    ),
    "one token in place of a mean": (
        "timm ViT, average",
        lambda tower: replace(tower, readout=Readout("token", rows=second_row)),
        "depends on other tokens than token 1, which is said to be read alone",
    ),
    "a mean in place of one token": (
        "timm ViT",
        lambda tower: replace(tower, readout=Readout("several")),
        "depends on a single token, though several are said to be read",
    ),
    "a pool in place of a block": (
        "timm ViT",
        lambda tower: replace(tower, readout=Readout("pool")),
        "said to be an attention pool, but has as many queries as keys",
    ),
    "a last layer that is not the last": (
        "transformers CLIP",
        lambda tower: replace(tower, sites=tower.sites[:-1]),
        "depends on other tokens than token 0",
    ),
    "a layer that comes before the one that is called first": (
        "open_clip ViT",
        lambda tower: replace(tower, sites=sites([site.module for site in reversed(tower.sites)])),
        "depends on other tokens than token 0",
    ),
}
TEXT_LIES: dict[str, tuple[str, Callable[[TextTower], TextTower], str]] = {
    "another token that is read": (
        "transformers CLIP",
        lambda tower: replace(tower, readout=Readout("token", rows=second_row)),
        "does not depend on token 1, which is said to be read",
    ),
    "no end mark": (
        "open_clip ViT, custom text",
        lambda tower: replace(tower, end=None),
        "one head in the last layer returns what its own heads return.*without the mark that is read",
    ),
    "padding that cuts words": ("open_clip ViT", shorter, "depend on more than the first .* tokens"),
    "padding that is seen": ("transformers SigLIP", unseen_padding, "depend on more than the first .* tokens"),
}


@pytest.mark.parametrize("lie", IMAGE_LIES)
def test_an_adapter_that_lies_about_images_is_caught(lie: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name, change, fault = IMAGE_LIES[lie]
    _tell(monkeypatch, name, "image_tower", change, fault)


@pytest.mark.parametrize("lie", TEXT_LIES)
def test_an_adapter_that_lies_about_texts_is_caught(lie: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name, change, fault = TEXT_LIES[lie]
    _tell(monkeypatch, name, "text_tower", change, fault)


def _tell(monkeypatch: pytest.MonkeyPatch, name: str, which: str, change: Callable[[Any], Any], fault: str) -> None:
    model = stir(FAMILIES[name].build())
    assert all(one.passed for one in self_check(model))
    truth = getattr(adapters, which)
    monkeypatch.setattr(adapters, which, lambda model: change(truth(model)))
    checks = self_check(model)
    lying = [one for one in checks if one.tower == which.removesuffix("_tower")]
    assert [one.passed for one in lying] == [False]
    assert all(one.passed for one in checks if one not in lying)
    assert any(re.search(fault, one) for one in lying[0].faults), lying[0].faults
    assert faults_of(checks).startswith(f"{lying[0].tower} tower: ")


def test_patches_that_are_smaller_or_said_to_be_padded_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    model, truth = stir(FAMILIES["timm ViT"].build()), adapters.image_tower
    monkeypatch.setattr(adapters, "image_tower", lambda model: replace(truth(model), patch=4))
    with pytest.raises(ValueError, match="attends over 17 tokens, fewer than the image's 8 x 8 patches"):
        self_check(model)

    def cropping(images: Tensor) -> Tensor:
        rows, columns = (side // 8 * 8 for side in images.shape[-2:])
        return truth(model).encode(images[..., :rows, :columns])

    monkeypatch.setattr(adapters, "image_tower", lambda model: replace(truth(model), encode=cropping, pads=True))
    with pytest.raises(ValueError, match="attends over 10 tokens, fewer than the image's 4 x 4 patches"):
        self_check(model)


def test_rows_and_columns_that_change_places_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    model, truth = stir(FAMILIES["timm ViT"].build()), adapters.image_tower
    tower = truth(model)
    monkeypatch.setattr(adapters, "image_tower", lambda model: replace(tower, encode=lambda x: tower.encode(x.mT)))
    (one,) = self_check(model)
    assert len(one.faults) == 1 and "patch (0, 3)" in one.faults[0] and one.faults[0].endswith("at 3.0, 0.0")


def test_one_head_of_one_is_no_change() -> None:
    """A model whose last layer has a single head is the network that is explained."""
    (one,) = self_check(timm.tiny("vit_tiny_patch16_224", num_heads=1).eval())
    assert one.passed and one.change < 1e-6


def test_a_text_whose_end_mark_nobody_knows_does_not_pass() -> None:
    """Of an old configuration with a vocabulary of its own, only the tokenizer knows the mark; a text with it passes."""
    model: Any = FAMILIES["transformers CLIP"].build()
    model.config.text_config.eos_token_id = model.text_model.config.eos_token_id = 47
    model.text_model.eos_token_id = 47
    tokens = torch.tensor([[7, 5, 6, 9, 0, 0]])
    assert [one.passed for one in self_check(stir(model), tokens=tokens)] == [True, False]
    tokens[0, 3] = 47
    assert [one.passed for one in self_check(model, tokens=tokens)] == [True, True]


def test_an_unsupported_text_tower_is_told_from_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = open_clip._tiny(text={"pool_type": "none"}, kind="CustomTextCLIP").eval()
    for refused in (self_check, lambda model: explain(model, torch.zeros(1, 3, 32, 32), targets=0)):
        with pytest.raises(adapters.UnsupportedModelError, match="text pooling 'none' is not supported") as error:
            refused(model)
        assert not isinstance(error.value, adapters.NoTextTowerError)
    for name in ("timm ViT", "torchvision ViT", "transformers ViT"):
        with pytest.raises(adapters.NoTextTowerError):
            adapters.text_tower(FAMILIES[name].build())

    def loaded(*_: object) -> Any:
        return type("Loaded", (), {"model": model})

    monkeypatch.setattr("captum_gradeclip.cli.check.load_model", loaded)
    assert cli.main(["check", "anything", "--out", str(tmp_path)]) == 2
    assert "text pooling 'none'" in capsys.readouterr().err


def test_the_command_names_the_fault(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    truth = adapters.image_tower
    monkeypatch.setattr(adapters, "image_tower", lambda model: replace(truth(model), readout=Readout("several")))
    assert cli.main(["check", "scenes", "--out", str(tmp_path)]) == 2
    assert "image tower: the score depends on a single token" in " ".join(capsys.readouterr().err.split())
    image, text = json.loads((tmp_path / "check.json").read_text())["checks"]
    assert not image["passed"] and text["passed"] and len(image["faults"]) == 1 and not text["faults"]
