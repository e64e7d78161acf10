"""Methods side by side, and what they need: prompts, points, the two ways of looking into a block."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from captum_gradeclip import ClassScore, ImageTextScore, TextImageScore, cli, scenes
from captum_gradeclip.adapters import Family
from captum_gradeclip.attention import Branches, LayerError, LayerOutput, each_token, model_heads
from captum_gradeclip.attr import GAME, METHODS, compare
from captum_gradeclip.attr.comparison import CAPTUM, find_method
from captum_gradeclip.points import point_prompts
from captum_gradeclip.prompts import imagenet_templates, prompt_ensemble, surgery_templates
from captum_gradeclip.show import Row, matrix

from .conftest import FAMILIES, captions, images, relative, stir
from .test_state import fingerprint


def test_compare_is_each_method_on_its_layers(vit: nn.Module) -> None:
    x, tokens = images((32, 32)), captions()
    options = {"RISE": {"n_masks": 10}, "m2ib": {"steps": 2}}
    before = fingerprint(vit)
    for score, inputs in ((ImageTextScore(vit, tokens), x), (TextImageScore(vit, x), tokens)):
        results = compare(score, inputs, targets=[1, 0], options=options)
        assert [one.method for one in results] == [kind.about.name for kind in METHODS]
        for kind, one in zip(METHODS, results):
            if one.maps is None:
                assert inputs is tokens and "is defined for images, not for texts" in str(one.refused)
                continue
            assert one.seconds > 0 and one.refused is None and one.maps.shape[:2] == (len(inputs), 2)
            method = kind(score) if kind.about.name == "RISE" else kind(score, kind.default_layers(score))
            chosen = options.get(kind.about.name, options.get(kind.about.name.lower(), {}))
            assert torch.equal(one.maps, method.attribute_targets(inputs, [1, 0], **chosen))
    assert fingerprint(vit) == before


def test_captums_own_methods_can_be_named(vit: nn.Module) -> None:
    score = ImageTextScore(vit, captions())
    x = images((40, 24))
    before = fingerprint(vit)
    results = compare(score, x, [*CAPTUM, "gradeclip"], targets=[2])
    assert [one.method for one in results] == ["IntegratedGradients", "LayerGradCam", "Occlusion", "Grad-ECLIP"]
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
    assert words[0].maps is None and "token ids are integers" in str(words[0].refused)
    with pytest.raises(ValueError, match="there is no 'ScoreCAM'; known are Grad-ECLIP"):
        compare(score, x, ["ScoreCAM"])
    assert find_method("CLIPSurgery") is find_method("clip surgery")


def test_compare_of_a_classifier_says_what_does_not_apply() -> None:
    torch.manual_seed(0)
    model = stir(FAMILIES["timm ViT"].build())
    results = {one.method: one for one in compare(ClassScore(model), images((32, 32)), targets=[0])}
    assert "needs an ImageTextScore" in str(results["CLIP Surgery"].refused)
    assert all(one.maps is not None for name, one in results.items() if name != "CLIP Surgery")


def test_the_command_writes_figure_maps_and_times(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scenes.draw(scenes.sample_scene(0, 5, "evaluation", counts=(3,)), 96)[0].save(tmp_path / "scene.png")
    texts = ["a red circle", "something $green"]
    command = ["compare", str(tmp_path / "scene.png"), *texts, "--rise-masks", "20", "--out", str(tmp_path / "out")]
    assert cli.main(command) == 0
    assert "CLIP Surgery" in capsys.readouterr().out
    result = json.loads((tmp_path / "out" / "compare.json").read_text())
    assert [one["method"] for one in result["methods"]] == [kind.about.name for kind in METHODS]
    told = {one["method"] for one in result["methods"] if "words" in one}
    assert told == {kind.about.name for kind in METHODS if kind.about.text}
    stored = np.load(tmp_path / "out" / "compare.npz")
    assert stored["Grad-ECLIP"].shape == (2, 8, 8) and stored["Grad-ECLIP, words"].shape[0] == 2
    assert min(Image.open(tmp_path / "out" / "compare.png").size) > 400
    few = [*command[:-1], str(tmp_path / "few"), "--methods", "GAME, Occlusion", "--same-scale"]
    assert cli.main(few) == 0
    assert set(np.load(tmp_path / "few" / "compare.npz")) == {"GAME", "GAME, words", "Occlusion", "texts"}
    for wrong, message in (
        (["--methods", "GradCAM"], None),
        (["--methods", "nothing"], "there is no 'nothing'"),
        (["--model", "timm:vit_tiny_patch16_224"], "is a classifier"),
    ):
        code = cli.main([*command, *wrong])
        assert (code, message in capsys.readouterr().err) == (2, True) if message else code == 0


def test_a_matrix_has_one_legend_and_refuses_missing_maps() -> None:
    image = Image.new("RGB", (30, 20))
    rows = [Row(f"method {number}", torch.randn(3, 20, 30)) for number in range(7)]
    figure = matrix(image, rows, ["a", "b $1", "c"], same_scale=True)
    figure.canvas.draw()
    legends = [axis for axis in figure.axes if axis.get_label() == "<colorbar>"]
    assert len(legends) == 1 and next(one.get_text() for one in legends[0].get_xticklabels()) == "lowest"
    with pytest.raises(ValueError, match="one map and caption for each of the 2 titles"):
        matrix(image, rows, ["a", "b"])


def test_panels_that_are_no_ordinary_map() -> None:
    image = Image.new("RGB", (30, 20), (10, 200, 30))
    signed = torch.linspace(-3, -1, 600).view(20, 30)
    cropped = signed.clone()
    cropped[:, 20:] = torch.nan
    rows = [
        Row("signed", torch.stack([signed, signed + 0.5])),
        Row("refused", None, [[("a", 1.0)], [("b", 1.0)]]),
        Row("zero", torch.zeros(2, 20, 30)),
        Row("cropped", torch.stack([cropped, cropped])),
    ]
    for same_scale in (False, True):
        figure = matrix(image, rows, ["a", "b"], same_scale=same_scale)
        panels = [axis for axis in figure.axes[:24] if axis.get_images()]
        pictures = [np.asarray(axis.get_images()[0].get_array()) for axis in panels]
        assert len(pictures) == 6, "a refused row has no picture"
        first, second = (len(np.unique(one.reshape(-1, 3), axis=0)) for one in pictures[:2])
        assert first > 100 and second > 100, "negative values have colours as well"
        assert np.array_equal(pictures[0], pictures[1]) != same_scale
        assert np.array_equal(pictures[4][:, 20:], np.asarray(image)[:, 20:]), "what the model did not see"
        assert not np.array_equal(pictures[4][:, :20], np.asarray(image)[:, :20])
        told = [text.get_text() for axis in figure.axes for text in axis.texts]
        assert told.count("not defined\nfor this model") == 2 and told.count("nothing") == (0 if same_scale else 2)
    tall, wide = (matrix(image.resize(size), rows[1:2], ["a", "b"]) for size in ((5, 500), (500, 5)))
    assert tall.get_figheight() < 5 and wide.get_figheight() > 1


def test_options_and_what_cannot_be_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scenes.draw(scenes.sample_scene(0, 5, "evaluation", counts=(3,)), 96)[0].save(tmp_path / "scene.png")
    out = tmp_path / "out"
    command = ["compare", str(tmp_path / "scene.png"), "a red circle", "--out", str(out), "--methods"]
    assert cli.main([*command, "RISE,RISE", "--option", "RISE.subtract_mean=true", "--option", "rise.n_masks=7"]) == 0
    result = json.loads((out / "compare.json").read_text())
    assert [one["options"] for one in result["methods"]] == [{"n_masks": 7, "subtract_mean": True}]
    assert -1 <= result["texts"][0]["score"] <= 1 and "layers" not in result["options"]
    before = sorted((file.name, file.stat().st_mtime_ns) for file in out.iterdir())
    for arguments, message in (
        (["RISE", "--rise-masks", "0"], "n_masks: expected at least 1, got 0"),
        (["GAME", "--option", "RISE.n_masks=3"], "options: there are some for RISE"),
        (["GAME", "--option", "GAME.nothing=3"], "unexpected keyword argument 'nothing'"),
        (["GAME", "--option", "GAME=3"], "--option: expected METHOD.name=value"),
        (["GAME", "--option", "nothing.a=3"], "there is no 'nothing'"),
        (["LeGrad", "--model", "RN50"], "methods: none of them is defined for this model"),
    ):
        assert cli.main([*command, *arguments]) == 2
        assert message in capsys.readouterr().err
    assert before == sorted((file.name, file.stat().st_mtime_ns) for file in out.iterdir())


def test_compare_takes_classes_and_all_with_more(vit: nn.Module) -> None:
    from captum.attr import Occlusion

    score, x = ImageTextScore(vit, captions()), images((32, 32))
    names = [one.method for one in compare(score, x, ["all", "Occlusion", "GAME"], [0], {"RISE": {"n_masks": 2}})]
    assert names == [*(kind.about.name for kind in METHODS), "Occlusion"]
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


def test_the_table_of_methods_is_what_they_say() -> None:
    lines = (Path(__file__).parent.parent / "docs" / "methods.md").read_text().splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.count("|") == 10][2:]
    assert [row[1].strip("`") for row in rows] == [kind.__name__ for kind in METHODS]
    for row, kind in zip(rows, METHODS):
        about = kind.about
        flags = (about.image, about.text, about.resnet, about.needs_text, about.stochastic, about.gradient)
        assert row[0] == about.name and [cell == "yes" for cell in row[2:8]] == list(flags), about.name


def test_prompt_ensemble_is_the_mean_direction() -> None:
    model, _, tokenizer = scenes.load()
    templates = ["a {}", "something {} here", "{}"]
    got = prompt_ensemble(model, tokenizer, ["red circle", "star"], templates)
    with torch.no_grad():
        for row, name in zip(got, ("red circle", "star")):
            units = [model.encode_text(tokenizer([one.replace("{}", name)]))[0] for one in templates]
            total = sum((one / one.norm() for one in units), torch.zeros(()))
            assert torch.allclose(row, total / total.norm(), atol=1e-6)
    assert torch.equal(
        prompt_ensemble(model, tokenizer, "star", "a {}"), prompt_ensemble(model, tokenizer, ["star"], ["a {}"])
    )
    for names, some, message in (([], ["{}"], "at least one of each"), (["a"], ["b"], "in the place of the name")):
        with pytest.raises(ValueError, match=message):
            prompt_ensemble(model, tokenizer, names, some)


def test_templates_are_those_of_the_zero_shot_classifier() -> None:
    assert len(imagenet_templates()) == 80 and len(set(surgery_templates())) == 85
    assert imagenet_templates()[3] == open_clip.OPENAI_IMAGENET_TEMPLATES[3]("{}")


def test_point_prompts_count_and_place() -> None:
    torch.manual_seed(0)
    attribution = torch.rand(9, 14)
    points, labels = point_prompts(attribution, (90, 280), threshold=0.6)
    small = torch.nn.functional.interpolate(attribution[None, None], size=(4, 7), mode="bilinear")[0, 0]
    small = (small - small.min()) / (small.max() - small.min())
    count = min(int((small >= 0.6).sum()), 14)
    assert labels.tolist() == [1] * count + [0] * count and count > 1
    for (x, y), label in zip(points.tolist(), labels.tolist()):
        value = small[y * 4 // 90, x * 7 // 280]
        rank = int((small > value).sum())
        assert rank < count if label else rank >= 28 - count
    everything, _ = point_prompts(torch.ones(6, 6), (12, 12))
    assert len(everything) == 0  # a constant map points nowhere
    with pytest.raises(ValueError, match=r"attribution: expected \(h, w\)"):
        point_prompts(torch.ones(1, 6), (6, 6))


def test_a_branch_is_what_a_block_adds(model: nn.Module, family: Family) -> None:
    """With the model's own heads: the block's output less its input and the MLP, found by leaving the MLP out."""
    from .conftest import scores

    score, x, _ = scores(model, family, family.oblong or family.size)[0]
    block = score.layers[-1] if score.reads_first_token else score.layers[0]
    if score.pooled:
        with (
            pytest.raises(LayerError, match="does not add what its attention returns"),
            torch.no_grad(),
            Branches([block], model_heads, len(x)),
        ):
            score(x)
        return
    before = fingerprint(model)
    kept: list[Any] = []
    handle = block.register_forward_hook(lambda module, args, output: kept.append(output))
    with torch.no_grad(), Branches([block], model_heads, len(x)) as beside:
        plain = score(x)
    handle.remove()
    with torch.no_grad():
        assert torch.equal(plain, score(x))
    assert beside.added[0].shape == beside.inputs[0].shape and beside.added[0].std() > 0
    stream = (beside.inputs[0] + beside.added[0]).to(torch.float32)
    whole = kept[0][0] if isinstance(kept[0], tuple) else kept[0]
    whole = whole if whole.shape[0] == len(x) else whole.transpose(0, 1)
    mlp = next(part for name, part in block.named_modules() if name in ("mlp", "ffn") or name == "intermediate")
    norms = [part for name, part in block.named_children() if name in SECOND_NORM]
    if norms and not hasattr(mlp, "dense"):
        rest = mlp(norms[0](stream))
        scale = next(
            (part for name, part in block.named_children() if name in ("ls2", "layer_scale2", "ls_2")), nn.Identity()
        )
        gamma = getattr(block, "gamma_2", None)
        rest = scale(rest) if gamma is None else gamma * rest
        assert relative(stream + rest, whole) < 1e-5
    assert fingerprint(model) == before


SECOND_NORM = ("ln_2", "norm2", "layer_norm2", "layernorm_after")


def test_layers_that_do_not_run_or_hide_their_examples(vit: nn.Module) -> None:
    x = images((32, 32))
    idle = nn.Linear(3, 3)
    with pytest.raises(LayerError, match="ran 0 times"), LayerOutput(idle, 2, each_token):
        vit.encode_image(x)  # type: ignore[operator]
    with pytest.raises(LayerError, match="1 blocks ran 0 times"), Branches([idle], model_heads, 2):
        vit.encode_image(x)  # type: ignore[operator]
    many = torch.randn(17, 3, 32, 32)  # as many examples as tokens
    score = ImageTextScore(vit, captions())
    watched = LayerOutput(score.layers[-1], 17, lambda tokens: tokens)
    with pytest.raises(LayerError, match="does not show which of its dimensions"), watched, torch.no_grad():
        score(many)
    with pytest.raises(RuntimeError, match="stop"), LayerOutput(score.layers[-1], 2, _stop), torch.no_grad():
        score(x)
    assert not score.layers[-1]._forward_hooks


def _stop(tokens: Tensor) -> Tensor:
    raise RuntimeError("stop")
