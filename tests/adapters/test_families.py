"""Every family of models that an adapter knows, from one table: the package's own."""

from __future__ import annotations

from typing import Any

import pytest
import timm.layers
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from captum_gradeclip import ClassScore, GradECLIP, ImageTextScore, TextImageScore, adapters
from captum_gradeclip.adapters import Family
from captum_gradeclip.attention import Interception, model_heads, single_head

from ..conftest import (
    CONTEXT,
    DUAL,
    END,
    FAMILIES,
    captions,
    image_score,
    images,
    patches_of,
    relative,
    scores,
    sizes,
    stir,
    varies,
)


def padded_left() -> Tensor:
    """Captions shifted to the end, so that the padding comes first."""
    return torch.stack([torch.roll(ids, CONTEXT - 1 - int(ids.argmax())) for ids in captions()])


def own_call(model: Any, name: str, x: Tensor, tokens: Tensor) -> Tensor:
    """Cosines or logits by the library's documented call alone, at the native size."""
    if name.startswith(("timm", "torchvision")):
        return model(x)
    if not name.startswith("transformers"):
        return F.normalize(model.encode_image(x), dim=-1) @ F.normalize(model.encode_text(tokens), dim=-1).T
    if name.endswith("features"):
        directions = image_score(model).text_features
        return F.normalize(model(pixel_values=x).pooler_output, dim=-1) @ directions.T
    if name == "transformers SigLIP 2, classes":
        return model(**patches_of(x)).logits
    if not FAMILIES[name].text:
        return model(pixel_values=x).logits
    if name == "transformers FLAVA":
        rows = [
            projection(tower(given).last_hidden_state[:, 0])
            for projection, tower, given in (
                (model.image_projection, model.image_model, x),
                (model.text_projection, lambda ids: model.text_model(ids, attention_mask=ids.ne(0).long()), tokens),
            )
        ]
        return F.normalize(rows[0], dim=-1) @ F.normalize(rows[1], dim=-1).T
    inputs: dict[str, Any] = {"input_ids": tokens, "pixel_values": x}
    if "SigLIP" not in name:
        inputs["attention_mask"] = tokens.ne(0).long()
    if name == "transformers SigLIP 2":
        inputs |= patches_of(x)
    if name == "transformers BLIP retrieval":
        return model(**inputs, use_itm_head=False).itm_score
    logits = model(**inputs).logits_per_image
    if name == "transformers TIPS v2":
        return logits * model.temperature
    bias, scale = getattr(model, "logit_bias", torch.zeros(())), model.logit_scale
    if "AIMv2" in name:
        scale = scale.clamp(0.0, model.max_log_logit_scale)
    return (logits - bias) / scale.exp()


def test_rows_differ_in_class_read_out_positions_or_pooling() -> None:
    """The name of a checkpoint is no row."""
    assert len(FAMILIES) >= 50
    layouts = [family.layout for family in FAMILIES.values()]
    assert len(set(layouts)) >= len(layouts) - 2 and len(set(layouts)) >= 45


def test_a_family_that_the_installed_version_lacks_is_told_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib
    import sys

    import transformers

    from captum_gradeclip.adapters import transformers_families

    before, old = adapters.families(missing=True), ("BlipModel", "Owlv2Model")
    names = [name for name in dir(transformers) if name not in old]
    monkeypatch.setattr(type(transformers), "__dir__", lambda self: names)
    older = importlib.util.spec_from_file_location("captum_gradeclip.adapters.older", transformers_families.__file__)
    assert older is not None and older.loader is not None
    rows = importlib.util.module_from_spec(older)
    monkeypatch.setitem(sys.modules, older.name, rows)
    older.loader.exec_module(rows)
    monkeypatch.setattr("captum_gradeclip.adapters.transformers.FAMILIES", rows.FAMILIES)
    missing = adapters.families(missing=True)
    told = {name: family.missing for name, family in missing.items() if name not in before}
    assert told == {"transformers OWLv2": "Owlv2Model", "transformers BLIP": "BlipModel"}
    assert not set(missing) & set(adapters.families()) and len(adapters.families()) == len(FAMILIES) - 2


def test_scores_are_the_models_own(model: nn.Module, family: Family) -> None:
    x, tokens = images(family.size), captions()
    with torch.no_grad():
        expected = own_call(model, family.name, x, tokens)
        assert expected.std() > 1e-3
        if not family.text:
            assert relative(image_score(model)(x), expected) < 1e-5
            return
        assert torch.allclose(ImageTextScore(model, tokens)(x), expected, atol=1e-5)
        assert torch.allclose(TextImageScore(model, x)(tokens), expected.T, atol=1e-5)
        texts, pictures = adapters.text_tower(model).encode(tokens), adapters.image_tower(model).encode(x)
        assert torch.allclose(ImageTextScore(model, texts)(x), expected, atol=1e-5)
        assert torch.allclose(TextImageScore(model, pictures)(tokens), expected.T, atol=1e-5)


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("grad", [False, True])
def test_own_heads_reproduce_the_model(model: nn.Module, family: Family, frozen: bool, grad: bool) -> None:
    model.requires_grad_(not frozen)
    cases = [(adapters.image_tower(model), images(size)) for size in sizes(family)]
    if family.text:
        cases += [(adapters.text_tower(model), captions()), (adapters.text_tower(model), padded_left())]
    try:
        for tower, inputs in cases:
            with torch.no_grad():
                expected = tower.encode(inputs)
            with Interception(tower.layers, model_heads) as seen, torch.set_grad_enabled(grad):
                got = tower.encode(inputs)
            assert expected.shape == (len(inputs), tower.width) and expected.std(dim=0).quantile(0.1) > 1e-4
            assert relative(got, expected) < 1e-5
            assert len(seen.records()) == len(tower.layers)
            with Interception(tower.layers[-1:], single_head), torch.no_grad():
                assert relative(tower.encode(inputs), expected) > 5e-4, "one head must make a difference"
    finally:
        model.requires_grad_(True)


@pytest.mark.parametrize("name", DUAL)
def test_padding_is_not_read(name: str) -> None:
    """What stands behind the end mark matters to no text encoder but SigLIP's, which is trained to read it."""
    torch.manual_seed(0)
    tower = adapters.text_tower(stir(FAMILIES[name].build()))
    tokens = captions()
    longer = F.pad(tokens[:, :-1], (0, 1)) if tower.pad else tokens[:, : int(tokens.ne(0).sum(dim=1).max())]
    with torch.no_grad():
        assert relative(tower.encode(longer), tower.encode(tokens)) < 1e-5
        if name in ("transformers CLIP", "transformers MetaCLIP 2", "transformers OWL-ViT", "transformers CLIPSeg"):
            fronted = F.pad(tokens, (2, 0))[:, :CONTEXT]
            other = fronted.masked_fill(fronted.eq(0) & (torch.arange(CONTEXT) < 2), 7)
            assert relative(tower.encode(other), tower.encode(fronted)) < 1e-5
        if name in (
            "transformers BLIP",
            "transformers Chinese-CLIP",
            "transformers AltCLIP",
            "transformers FLAVA",
            "transformers TIPS v2",
            "transformers ViT and BERT",
            "open_clip, text of transformers",
            "open_clip, text of BERT, ViT of timm",
            "open_clip, text of XLM-R",
            "open_clip, text of NLLB",
            "open_clip, text of mT5",
        ):
            pad = 1 if name == "transformers AltCLIP" else 0
            visible = tokens.masked_fill(tokens.eq(0), pad)
            assert relative(tower.encode(visible.masked_fill(visible.eq(pad), 5)), tower.encode(visible)) > 1e-3


def test_the_token_that_is_read(model: nn.Module, family: Family) -> None:
    """What the adapter states is what the gradient shows, and what the row says."""
    kinds = {"class token": "token", "attention pool": "pool", "attention pool, over convolutions": "pool"}
    readout = adapters.image_tower(model).readout
    assert readout.kind == kinds.get(family.reads, "several")
    assert not ("rotary" in family.positions and readout.tokenwise_tail)
    for score, inputs, _ in scores(model, family, family.size):
        with Interception(score.layers[-1:], model_heads) as seen, torch.no_grad():
            output = score(inputs)
        (record,) = seen.records()
        (gradient,) = torch.autograd.grad(output[:, 0].sum(), record.output)
        touched = gradient.ne(0).any(dim=-1)
        stated = None if score.readout.rows is None else score.readout.rows(inputs)
        pooled = record.query.shape[-2] != record.key.shape[-2]
        if stated is None:
            assert pooled or touched.sum(dim=1).min() > 1
        else:
            assert touched.sum(dim=1).tolist() == [1] * len(inputs)
            assert touched.int().argmax(dim=1).tolist() == stated.tolist()


def test_contexts_of_texts_that_transformers_encodes() -> None:
    """T5 has no table of positions, RoBERTa counts from behind its padding; strings are taken up to the true length."""

    def tokenizer(texts: list[str]) -> Tensor:
        return torch.tensor([[5 + len(word) % 40 for word in text.split()] for text in texts])

    lengths = {"open_clip, text of mT5": 77, "open_clip, text of XLM-R": CONTEXT, "open_clip, text of NLLB": CONTEXT}
    for name, length in lengths.items():
        model = FAMILIES[name].build().eval()
        tower = adapters.text_tower(model)
        assert tower.context_length == length
        assert tower.encode(torch.full((1, length), 7)).shape == (1, 24)
        assert ImageTextScore(model, ["a red circle", "two blue stars"], tokenizer)(images((32, 32))).shape == (2, 2)


def test_sizes_that_cannot_be_taken() -> None:
    beit = ClassScore(FAMILIES["timm BEiT"].build().eval())
    with pytest.raises(
        ValueError, match=r"^inputs: images, this Beit takes 32 x 32 only, got 40 x 24; create it with timm.create_model"
    ):
        beit(images((40, 24)))
    with pytest.raises(ValueError, match="^inputs: images, torchvision's VisionTransformer takes squares only, got 40 x 24"):
        ClassScore(FAMILIES["torchvision ViT"].build().eval())(images((40, 24)))
    for name in ("transformers CLIP", "timm ViT"):
        with pytest.raises(ValueError, match="^inputs: images, .* multiples of the patch size 8, got 41 x 24"):
            adapters.image_tower(FAMILIES[name].build()).encode(images((41, 24)))
    with pytest.raises(ValueError, match="^inputs: tokens, expected at most 12 tokens per text, got 14"):
        ImageTextScore(FAMILIES["transformers CLIP"].build(), F.pad(captions(), (0, 2)))


def test_timms_dynamic_size_is_used() -> None:
    torch.manual_seed(0)
    fixed = stir(FAMILIES["timm ViT"].build())
    settings = {"embed_dim": 48, "depth": 3, "num_heads": 4, "num_classes": 50, "img_size": 32, "patch_size": 8}
    free = timm.create_model("vit_tiny_patch16_224", dynamic_img_size=True, **settings).eval()
    free.load_state_dict(fixed.state_dict())
    x = images((40, 24))
    with torch.no_grad():
        assert relative(ClassScore(fixed)(x), free(x)) < 1e-5
        assert relative(ClassScore(free)(x), free(x)) < 1e-6
        eva = FAMILIES["timm EVA-02"].build().eval()
        wide = timm.create_model("eva02_tiny_patch14_224", dynamic_img_size=True, **settings).eval()
        wide.load_state_dict(eva.state_dict())
        assert relative(ClassScore(eva)(x), wide(x)) < 1e-5


def test_classifiers_have_no_text_and_hierarchical_models_no_map() -> None:
    for name in ("timm ViT", "torchvision ViT", "transformers ViT"):
        with pytest.raises(adapters.UnsupportedModelError, match="no text encoder.*ClassScore"):
            ImageTextScore(FAMILIES[name].build(), captions())
    import torchvision
    from transformers import ConvNextConfig, ConvNextForImageClassification

    convnext = ConvNextForImageClassification(ConvNextConfig(hidden_sizes=[8, 8, 8, 8], depths=[1, 1, 1, 1]))
    swin = timm.create_model("swin_tiny_patch4_window7_224", embed_dim=24, depths=(1, 1), num_heads=(2, 2), num_classes=9)
    for model in (swin, timm.create_model("resnet18"), torchvision.models.resnet18(), convnext):
        with pytest.raises(adapters.UnsupportedModelError, match="convolutional or hierarchical.*LayerGradCam"):
            ClassScore(model)
    with pytest.raises(ValueError, match=r"windows.*LayerGradCam"):
        GradECLIP(swin.eval(), swin.layers[0].blocks[0]).attribute(images((224, 224)), target=0)
    with pytest.raises(ValueError, match="LayerGradCam"):
        GradECLIP(lambda x: convnext(x).logits, convnext.convnext.encoder.stages[-1]).attribute(images((64, 64)), target=0)


def test_openais_own_package() -> None:
    clip = pytest.importorskip("clip.model")
    torch.manual_seed(0)
    model = stir(clip.CLIP(24, 32, 2, 64, 8, CONTEXT, END + 1, 64, 1, 8))
    for score, x, n in scores(model, FAMILIES["open_clip ViT"], (40, 24)):
        assert varies(GradECLIP(score, score.layers[-n:]).attribute(x, target=0))
