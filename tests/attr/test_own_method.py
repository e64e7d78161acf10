"""A method of one's own, as the documentation shows it: everything follows from its registration."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from captum_gradeclip import ClassScore, ImageTextScore, TextImageScore, scenes
from captum_gradeclip.attr import METHODS, GradECLIP, compare, find_method, find_methods

from ..conftest import FAMILIES, captions, images, relative, stir
from .contract import Contract

ROOT = Path(__file__).parents[2]
NAME = "GradientTimesValue"


def block() -> str:
    """The code of the page, as it stands there."""
    page = (ROOT / "docs" / "howto" / "write-a-method.md").read_text()
    (code,) = [part.removeprefix("python\n") for part in page.split("```") if part.startswith("python\n")]
    return code


@pytest.fixture(scope="module")
def own() -> Iterator[type[Any]]:
    before = list(METHODS)
    module = ModuleType("a_method_of_ones_own")  # as if it stood in a file, so that its annotations can be read
    sys.modules[module.__name__] = module
    try:
        exec(compile(block(), "write-a-method.md", "exec"), module.__dict__)
        yield module.__dict__[NAME]
    finally:
        METHODS.unregister(module.__dict__[NAME])
        del sys.modules[module.__name__]
    assert list(METHODS) == before


def test_it_is_short() -> None:
    assert len(block().splitlines()) <= 40


def test_it_is_known_by_its_registration_alone(own: type[Any], vit: nn.Module) -> None:
    assert list(METHODS)[-1] is own and find_methods("all")[-1] is own
    assert find_method("gradient x value") is own is find_method("gradienttimesvalue")
    x, tokens = images((32, 32)), captions()
    for score, inputs in ((ImageTextScore(vit, tokens), x), (TextImageScore(vit, x), tokens)):
        few = {"RISE": {"n_masks": 4}, "M2IB": {"steps": 2}} if inputs is x else {"M2IB": {"steps": 2}}
        last = compare(score, inputs, targets=[0], options={**few, NAME: {"absolute": True}})[-1]
        assert (last.method, last.name, last.options) == (NAME, "gradient x value", {"absolute": True})
        assert last.maps is not None and last.maps.min() >= 0
        signed = own.for_score(score).attribute_targets(inputs, [0])
        assert torch.equal(signed.abs(), last.maps) and signed.min() < 0
        alike = {"heads": "model", "spatial_weight": "none", "relu_attributions": False}
        assert relative(signed, GradECLIP(score, score.layers[-1]).attribute_targets(inputs, [0], **alike)) < 1e-5


def test_the_command_takes_it(own: type[Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from captum_gradeclip.cli import main

    scenes.draw(scenes.sample_scene(0, 5, "evaluation", counts=(3,)), 96)[0].save(tmp_path / "scene.png")
    command = ["compare", str(tmp_path / "scene.png"), "a red circle", "--out", str(tmp_path / "out")]
    assert main([*command, "--methods", NAME, "--option", f"{NAME}.absolute=true"]) == 0
    assert "gradient x value" in capsys.readouterr().out
    (found,) = json.loads((tmp_path / "out" / "compare.json").read_text())["methods"]
    assert found["options"] == {"absolute": True} and found["words"]
    stored = np.load(tmp_path / "out" / "compare.npz")
    maps = [stored[key] for key in stored.files if key != "texts"]  # of the picture and of the words
    assert len(maps) == 2 and all(one.std() > 0 for one in maps)
    with pytest.raises(SystemExit):
        main(["compare", "--help"])
    assert NAME in capsys.readouterr().out


@pytest.mark.parametrize("check", Contract.checks())
def test_the_contract_holds(own: type[Any], vit: nn.Module, check: str) -> None:
    getattr(Contract(own, vit, FAMILIES["open_clip ViT"]), check)()


@pytest.mark.parametrize("name", ["open_clip ResNet", "timm DeiT", "transformers SigLIP"])
def test_on_other_families(own: type[Any], name: str) -> None:
    torch.manual_seed(0)
    contract = Contract(own, stir(FAMILIES[name].build()), FAMILIES[name])
    for check in ("check_refusals", "check_form", "check_targets", "check_batch", "check_state"):
        getattr(contract, check)()
    if name == "timm DeiT":
        assert isinstance(contract.asked()[0][0], ClassScore)
