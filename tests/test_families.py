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

from . import reference
from .conftest import CONTEXT, DUAL, END, FAMILIES, captions, images, relative, scores, stir, varies


def sizes(family: Family) -> list[tuple[int, int]]:
    return [size for size in (family.size, family.oblong) if size is not None]


def padded_left() -> Tensor:
    """Captions shifted to the end, so that the padding comes first."""
    return torch.stack([torch.roll(ids, CONTEXT - 1 - int(ids.argmax())) for ids in captions()])


def own_call(model: Any, name: str, x: Tensor, tokens: Tensor) -> Tensor:
    """Cosines or logits by the library's documented call alone, at the native size."""
    if name.startswith(("timm", "torchvision")):
        return model(x)
    if not name.startswith("transformers"):
        return F.normalize(model.encode_image(x), dim=-1) @ F.normalize(model.encode_text(tokens), dim=-1).T
    if not FAMILIES[name].text:
        return model(pixel_values=x).logits
    inputs: dict[str, Any] = {"input_ids": tokens, "pixel_values": x}
    if "SigLIP" not in name:
        inputs["attention_mask"] = tokens.ne(0).long()
    if name == "transformers SigLIP 2":
        patches = [F.unfold(item[None], 8, stride=8)[0].T.reshape(-1, 3, 64).mT.flatten(1) for item in x]
        inputs |= {
            "pixel_values": torch.stack(patches),
            "pixel_attention_mask": torch.ones(len(x), 16, dtype=torch.long),
            "spatial_shapes": torch.tensor([[4, 4]] * len(x)),
        }
    if name == "transformers BLIP retrieval":
        return model(**inputs, use_itm_head=False).itm_score
    logits = model(**inputs).logits_per_image
    bias = getattr(model, "logit_bias", torch.zeros(()))
    return (logits - bias) / model.logit_scale.exp()


def test_scores_are_the_models_own(model: nn.Module, family: Family) -> None:
    x, tokens = images(family.size), captions()
    with torch.no_grad():
        expected = own_call(model, family.name, x, tokens)
        assert expected.std() > 1e-3
        if not family.text:
            assert relative(ClassScore(model)(x), expected) < 1e-5
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
            assert expected.shape == (len(inputs), tower.width) and expected.std(dim=0).min() > 1e-4
            assert relative(got, expected) < 1e-5
            assert len(seen.records()) == len(tower.layers)
            with Interception(tower.layers[-1:], single_head), torch.no_grad():
                assert relative(tower.encode(inputs), expected) > 1e-3, "one head must make a difference"
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
        if name == "transformers CLIP":
            fronted = F.pad(tokens, (2, 0))[:, :CONTEXT]
            other = fronted.masked_fill(fronted.eq(0) & (torch.arange(CONTEXT) < 2), 7)
            assert relative(tower.encode(other), tower.encode(fronted)) < 1e-5
        if name in (
            "transformers BLIP",
            "transformers Chinese-CLIP",
            "transformers AltCLIP",
            "open_clip, text of transformers",
        ):
            pad = 1 if name == "transformers AltCLIP" else 0
            visible = tokens.masked_fill(tokens.eq(0), pad)
            assert relative(tower.encode(visible.masked_fill(visible.eq(pad), 5)), tower.encode(visible)) > 1e-3


@pytest.mark.parametrize("last_only", [True, False])
def test_maps_equal_the_equations(model: nn.Module, family: Family, last_only: bool) -> None:
    """In float64, from what the layers were given and a literal single-head attention; own heads are tested above."""
    double = stir(family.build()).double()
    # transformers 4.50 makes CLIP's causal mask in the default type, which must hold the lowest number of the model's.
    torch.set_default_dtype(torch.float64)
    try:
        _compare_with_equations(double, family, last_only)
    finally:
        torch.set_default_dtype(torch.float32)


def _compare_with_equations(double: nn.Module, family: Family, last_only: bool) -> None:
    for score, inputs, n in scores(double, family, sizes(family)[-1], count=2):
        layers = score.layers[-1:] if last_only else score.layers[-min(n, 3) :]
        image = inputs.is_floating_point()
        got = GradECLIP(score, layers).attribute(inputs, target=1)
        signed = GradECLIP(score, layers).attribute(inputs, target=1, relu_attributions=False)
        with Interception(layers, reference.literal_single_head) as seen, torch.no_grad():
            output = score(inputs)
        records = seen.records()
        with torch.enable_grad():
            total = output[:, 1].sum()
        gradients = torch.autograd.grad(total, [record.output for record in records])
        for item in range(len(inputs)):
            keys = records[-1].key.shape[-2]
            cells = score.grid(inputs)[0] * score.grid(inputs)[1] if image else inputs.shape[1]
            first, last = (keys - cells, keys) if image else (0, cells)
            read = gradients[-1][item].ne(0).any(dim=-1).nonzero()[:, 0].tolist()
            positive, whole = reference.from_records(
                records,
                list(gradients),
                item,
                first=first,
                last=last,
                rows=read if len(read) == 1 else None,
                relu_before_sum=image,
            )
            assert relative(got[item].flatten(), positive) < 1e-5
            assert relative(signed[item].flatten(), whole) < 1e-5
        assert varies(signed)


def test_the_token_that_is_read(model: nn.Module, family: Family) -> None:
    """What the adapter states is what the gradient shows."""
    for score, inputs, _ in scores(model, family, family.size):
        with Interception(score.layers[-1:], model_heads) as seen, torch.no_grad():
            output = score(inputs)
        (record,) = seen.records()
        (gradient,) = torch.autograd.grad(output[:, 0].sum(), record.output)
        touched = gradient.ne(0).any(dim=-1)
        stated = score.readout(inputs)
        pooled = record.query.shape[-2] != record.key.shape[-2]
        if stated is None:
            assert pooled or touched.sum(dim=1).min() > 1
        else:
            assert touched.sum(dim=1).tolist() == [1] * len(inputs)
            assert touched.int().argmax(dim=1).tolist() == stated.tolist()


def test_a_batch_equals_its_items(model: nn.Module, family: Family) -> None:
    for score, inputs, n in scores(model, family, sizes(family)[-1]):
        method = GradECLIP(score, score.layers[-n:])
        options: dict[str, Any] = {"relu_attributions": False}
        together = method.attribute(inputs, target=[2, 0, 1], **options)
        for i, target in enumerate((2, 0, 1)):
            assert relative(together[i : i + 1], method.attribute(inputs[i : i + 1], target=target, **options)) < 1e-4


@pytest.mark.parametrize("heads", ["single", "model", "each"])
@pytest.mark.parametrize("spatial_weight", ["loosened", "softmax", "none"])
def test_attribute_targets_equals_a_loop(model: nn.Module, family: Family, heads: str, spatial_weight: str) -> None:
    options = {"heads": heads, "spatial_weight": spatial_weight}
    for score, inputs, n in scores(model, family, family.size):
        method = GradECLIP(score, score.layers[-n:])
        for targets in ([2, 0, 1], torch.tensor([0])):
            got = method.attribute_targets(inputs, targets, **options)
            loop = [method.attribute(inputs, target=int(t), **options) for t in targets]
            if heads != "each" and inputs.is_floating_point():
                loop = [one.squeeze(1) for one in loop]
            assert relative(got, torch.stack(loop, dim=1)) < 1e-4


def test_all_targets(model: nn.Module, family: Family) -> None:
    for score, inputs, n in scores(model, family, family.size):
        method = GradECLIP(score, score.layers[-n:])
        with torch.no_grad():
            count = score(inputs).shape[1]
        got = method.attribute_targets(inputs)
        assert got.shape[:2] == (len(inputs), count)
        assert relative(got[:, -1], method.attribute(inputs, target=count - 1).reshape(got[:, -1].shape)) < 1e-4


def test_bfloat16_stays_near_float32(family: Family) -> None:
    """The median map: what the layers below lose in half precision can move a single map of a random model further."""

    def stretched(maps: Tensor) -> Tensor:
        flat = maps.flatten(1)
        low, high = flat.amin(dim=1, keepdim=True), flat.amax(dim=1, keepdim=True)
        return torch.where(high > low, (flat - low) / (high - low), 0.0)

    torch.manual_seed(0)
    model = stir(family.build(), amount=0.02)
    for tensor in (*model.parameters(), *model.buffers()):
        tensor.data = tensor.data.to(torch.bfloat16).to(tensor.dtype)  # the same weights in both
    options: dict[str, Any] = {"target": 1, "relu_attributions": False}
    wide = [GradECLIP(s, s.layers[-1:]).attribute(x, **options) for s, x, _ in scores(model, family, family.size, 5)]
    for (score, x, _), expected in zip(scores(model.to(torch.bfloat16), family, family.size, 5), wide):
        got = GradECLIP(score, score.layers[-1:]).attribute(x, **options)
        assert got.dtype == torch.float32 and got.isfinite().all() and varies(expected)
        assert (stretched(got) - stretched(expected)).abs().amax(dim=1).median() < 5e-2


@pytest.mark.parametrize("name", [name for name in FAMILIES if name.startswith("timm") or "SigLIP" in name])
def test_timm_without_fused_attention(name: str) -> None:
    torch.manual_seed(0)
    timm.layers.set_fused_attn(False)
    try:
        unfused = stir(FAMILIES[name].build())
    finally:
        timm.layers.set_fused_attn(True)
    torch.manual_seed(0)
    fused = stir(FAMILIES[name].build())
    _same_maps(unfused, fused, FAMILIES[name])


@pytest.mark.parametrize("name", [name for name in FAMILIES if name.startswith("transformers")])
def test_transformers_without_fused_attention(name: str) -> None:
    torch.manual_seed(0)
    fused = stir(FAMILIES[name].build())
    config = fused.config
    config._attn_implementation = "eager"
    torch.manual_seed(0)
    eager = stir(type(fused)(config))
    eager.load_state_dict(fused.state_dict())
    _same_maps(eager, fused, FAMILIES[name])


def _same_maps(one: nn.Module, other: nn.Module, family: Family) -> None:
    options: tuple[dict[str, Any], ...] = ({}, {"heads": "model"}, {"heads": "each", "spatial_weight": "softmax"})
    pairs = zip(scores(one, family, family.size), scores(other, family, family.size))
    for (a, x, n), (b, _, _) in pairs:
        for option in options:
            expected = GradECLIP(b, b.layers[-n:]).attribute(x, target=1, **option)
            assert relative(GradECLIP(a, a.layers[-n:]).attribute(x, target=1, **option), expected) < 1e-4


def test_a_users_own_call(model: nn.Module, family: Family) -> None:
    """The same maps through a bare callable and a block, as for a model that no adapter knows."""
    if family.text:
        tower, text = adapters.image_tower(model), torch.ones(adapters.image_tower(model).width)
        score: Any = ImageTextScore(model, text[None])

        def call(x: Tensor) -> Tensor:
            return F.cosine_similarity(tower.encode(x), text)[:, None]
    else:
        score = ClassScore(model)
        call = (lambda x: model(x).logits) if family.name.startswith("transformers") else model
    x = images(family.size)
    layer = score.layers[-1]
    expected = GradECLIP(score, layer).attribute(x, target=0)
    assert relative(GradECLIP(call, layer).attribute(x, target=0), expected) < 1e-5


def test_sizes_that_cannot_be_taken() -> None:
    beit = ClassScore(FAMILIES["timm BEiT"].build().eval())
    with pytest.raises(ValueError, match=r"takes 32 x 32 only, got 40 x 24; create it with timm.create_model"):
        beit(images((40, 24)))
    with pytest.raises(ValueError, match="squares only, got 40 x 24"):
        ClassScore(FAMILIES["torchvision ViT"].build().eval())(images((40, 24)))
    for name in ("transformers CLIP", "timm ViT"):
        with pytest.raises(ValueError, match="multiples of the patch size 8, got 41 x 24"):
            adapters.image_tower(FAMILIES[name].build()).encode(images((41, 24)))
    with pytest.raises(ValueError, match="at most 12 tokens per text, got 14"):
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
