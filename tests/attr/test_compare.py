"""Methods side by side on one score."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from captum_gradeclip import ClassScore, ImageTextScore, TextImageScore
from captum_gradeclip.attention import LayerError
from captum_gradeclip.attr import BASELINES, CAPTUM, GAME, METHODS, RISE, NotDefinedError, Outcome, compare, find_method

from ..conftest import FAMILIES, captions, fingerprint, images, relative, stir, varies


def test_compare_is_each_method_on_its_layers(vit: nn.Module) -> None:
    x, tokens = images((32, 32)), captions()
    options = {"RISE": {"n_masks": 10}, "m2ib": {"steps": 2}}
    before = fingerprint(vit)
    for score, inputs in ((ImageTextScore(vit, tokens), x), (TextImageScore(vit, x), tokens)):
        results = compare(score, inputs, targets=[1, 0], options=options)
        assert [one.method for one in results] == [kind.__name__ for kind in METHODS]
        assert [one.name for one in results] == [kind.info.name for kind in METHODS]
        for kind, one in zip(METHODS, results):
            if one.maps is None:
                assert inputs is tokens and "is defined for images, not for texts" in str(one.refused)
                continue
            assert one.seconds > 0 and one.refused is None and one.maps.shape[:2] == (len(inputs), 2)
            chosen = options.get(kind.__name__, options.get(kind.__name__.lower(), {}))
            method = kind.for_score(score)
            assert torch.equal(one.maps, method.attribute_targets(inputs, [1, 0], **chosen)) and one.options == chosen
            if kind is not RISE:
                layers = kind(score, kind.default_layers(score))
                assert torch.equal(one.maps, layers.attribute_targets(inputs, [1, 0], **chosen))
    assert fingerprint(vit) == before


def test_captums_own_methods_can_be_named(vit: nn.Module) -> None:
    score = ImageTextScore(vit, captions())
    x = images((40, 24))
    before = fingerprint(vit)
    results = compare(score, x, [*CAPTUM, "gradeclip"], targets=[2])
    assert [one.method for one in results] == ["IntegratedGradients", "LayerGradCam", "Occlusion", "GradECLIP"]
    for one, size in zip(results, ((40, 24), (5, 3), (40, 24), (5, 3))):
        assert one.maps is not None and one.maps.shape == (2, 1, *size) and one.maps.std() > 0
    # Occlusion by hand: without the first window, the score loses what is written on its first pixel
    hidden = x.clone()
    hidden[:, :, :16, :16] = 0
    occlusion = results[2].maps
    assert occlusion is not None
    with torch.no_grad():
        assert relative(occlusion[:, 0, 0, 0], (score(x) - score(hidden))[:, 2]) < 1e-4
    assert fingerprint(vit) == before
    words = compare(TextImageScore(vit, x), captions(), ["Occlusion"])
    assert words[0].maps is None and "is defined for images, not for texts" in str(words[0].refused)
    with pytest.raises(ValueError, match="there is no 'ScoreCAM'; known are GradECLIP"):
        compare(score, x, ["ScoreCAM"])
    assert find_method("CLIPSurgery") is find_method("clip surgery")


def test_compare_of_a_classifier_says_what_does_not_apply() -> None:
    torch.manual_seed(0)
    model = stir(FAMILIES["timm ViT"].build())
    results = {one.method: one for one in compare(ClassScore(model), images((32, 32)), targets=[0])}
    assert "needs an ImageTextScore" in str(results["CLIPSurgery"].refused)
    assert all(one.maps is not None for name, one in results.items() if name != "CLIPSurgery")


def test_compare_takes_classes_and_all_with_more(vit: nn.Module) -> None:
    from captum.attr import Occlusion

    score, x = ImageTextScore(vit, captions()), images((32, 32))
    names = [one.method for one in compare(score, x, ["all", "Occlusion", "GAME"], [0], {"RISE": {"n_masks": 2}})]
    assert names == [*(kind.__name__ for kind in METHODS), "Occlusion"]
    assert [one.method for one in compare(score, x, Occlusion, [0])] == ["Occlusion"]
    with torch.inference_mode():
        for one in compare(score, x, list(CAPTUM), [0]):
            assert one.maps is not None and one.maps.std() > 0
    several = compare(score, x, [GAME, GAME(score, score.layers)], [0])
    assert [one.method for one in several] == ["GAME", "GAME"]
    assert torch.equal(several[1].maps, GAME(score, score.layers).attribute(x, target=0))  # type: ignore[arg-type]
    assert not torch.equal(several[0].maps, several[1].maps)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="score: expected a score module, got CLIP"):
        compare(vit, x, "GAME")
    with pytest.raises(ValueError, match="there is no 'int'"):
        compare(score, x, [int])
    with pytest.raises(ValueError, match="n_masks: expected at least 1"):
        compare(score, x, "RISE", [0], {"RISE": {"n_masks": 0}})


def test_baselines_are_told_what_only_a_caller_knows(vit: nn.Module) -> None:
    """By the options that they declare to need."""
    score, x = ImageTextScore(vit, captions()), images((40, 24))
    masks = torch.zeros(2, 40, 24)
    masks[:, 8:16, 8:16] = 1
    given = {"seeds": [3, 4], "masks": masks}
    for kind in BASELINES:
        needed = {name: given[name] for name in kind.info.needs}
        (outcome,) = compare(score, x, [kind], [0, 1], {kind.__name__: needed})
        assert outcome.maps is not None and outcome.maps.shape[:2] == (2, 2) and varies(outcome.maps[:, 0])
    with pytest.raises(ValueError, match="masks: expected"):
        compare(score, x, ["Oracle"], [0])
    assert {kind.info.name for kind in BASELINES} == {
        *("Grad-ECLIP w/o weight", "random map", "center prior", "oracle (mask)", "Grad-ECLIP, both readings")
    }


def test_each_outcome_is_given_as_soon_as_it_is_there(
    vit: nn.Module, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    score, x = ImageTextScore(vit, captions()), images((32, 32))
    found: list[Outcome] = []
    assert compare(score, x, ["GAME", "RawAttention"], [0], finished=found.append) == found
    assert [one.method for one in found] == ["GAME", "RawAttention"] and capsys.readouterr() == ("", "")
    compare(score, x, ["GAME"], [0], show_progress=True)
    told = capsys.readouterr()
    assert told.out == "" and told.err.startswith("methods: GAME took")

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(RISE, "observe", stop)
    found = []
    with pytest.raises(KeyboardInterrupt):
        compare(score, x, ["GAME", "RISE", "RawAttention"], [0], finished=found.append, show_progress=True)
    assert [one.method for one in found] == ["GAME"]
    with pytest.raises(TypeError, match="RawAttention got an unexpected"):  # before any work
        compare(score, x, ["GAME", "RawAttention"], options={"RawAttention": {"n": 1}}, finished=pytest.fail)


def test_names_in_any_spelling() -> None:
    for kind in (*METHODS, *CAPTUM, *BASELINES):
        for name in (kind.__name__, kind.__name__.lower(), kind.info.name, kind.info.name.upper(), kind):
            assert find_method(name) is kind
    assert len({kind.__name__ for kind in (*METHODS, *CAPTUM, *BASELINES)}) == len(METHODS) + len(CAPTUM) + len(BASELINES)


def test_only_what_is_not_defined_is_left_out(vit: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any other error stops a comparison, or a bug would be a missing row."""
    score, x = ImageTextScore(vit, captions()), images((32, 32))
    for error, left_out in ((NotDefinedError, True), (ValueError, False), (RuntimeError, False), (LayerError, False)):

        def broken(*_: object, error: type[Exception] = error) -> None:
            raise error("broken")

        monkeypatch.setattr(GAME, "observe", broken)
        if left_out:
            outcomes = compare(score, x, ["GAME", "RawAttention"], [0])
            assert outcomes[0].refused == "broken" and outcomes[1].refused is None
        else:
            with pytest.raises(error, match="broken"):
                compare(score, x, ["GAME", "RawAttention"], [0])
