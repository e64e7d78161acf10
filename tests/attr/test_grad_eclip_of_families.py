"""GradECLIP on every family of models."""

from __future__ import annotations

from typing import Any

import pytest
import timm.layers
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from captum_gradeclip import METHODS, ClassScore, GradECLIP, ImageTextScore, adapters
from captum_gradeclip.adapters import Family, timm as timm_adapter
from captum_gradeclip.attention import Interception, model_heads, single_head
from captum_gradeclip.scores import BareScore

from .. import reference
from ..conftest import FAMILIES, image_score, images, patches_of, relative, scores, sizes, stir, varies
from ..covering import covered


def check_that_the_library_takes(dtype: torch.dtype, family: Family) -> None:
    """timm's learned rotations are in single precision in older versions, whatever the model is in."""
    if family.name == "timm ViT, learned rotations":
        try:
            family.build().to(dtype)(torch.zeros(1, 3, *family.size, dtype=dtype))
        except RuntimeError:
            pytest.skip(f"the installed timm does not run {family.name} in {dtype}")


@pytest.mark.parametrize(("last_only", "key_tokens"), [(True, "visible"), (False, "visible"), (False, "all")])
def test_maps_equal_the_equations(model: nn.Module, family: Family, last_only: bool, key_tokens: str) -> None:
    """In float64, from what the layers were given and a literal single-head attention; own heads are tested above."""
    check_that_the_library_takes(torch.float64, family)
    double = stir(family.build()).double()
    # transformers 4 makes CLIP's causal mask in the default type, which must hold the lowest number of the model's.
    torch.set_default_dtype(torch.float64)
    try:
        _compare_with_equations(double, family, last_only, key_tokens)
    finally:
        torch.set_default_dtype(torch.float32)


def _compare_with_equations(double: nn.Module, family: Family, last_only: bool, key_tokens: str) -> None:
    for score, inputs, n in scores(double, family, sizes(family)[-1], count=2):
        layers = score.layers[-1:] if last_only else score.layers[-min(n, 3) :]
        image = inputs.is_floating_point()
        got = GradECLIP(score, layers).attribute(inputs, target=1, key_tokens=key_tokens)
        signed = GradECLIP(score, layers).attribute(inputs, target=1, key_tokens=key_tokens, relu_attributions=False)
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
                visible_only=key_tokens == "visible",
            )
            assert relative(got[item].flatten(), positive) < 1e-5
            assert relative(signed[item].flatten(), whole) < 1e-5
        assert varies(signed)


def test_a_batch_equals_its_items(model: nn.Module, family: Family) -> None:
    for score, inputs, n in scores(model, family, sizes(family)[-1]):
        method = GradECLIP(score, score.layers[-n:])
        options: dict[str, Any] = {"relu_attributions": False}
        together = method.attribute(inputs, target=[2, 0, 1], **options)
        for i, target in enumerate((2, 0, 1)):
            assert relative(together[i : i + 1], method.attribute(inputs[i : i + 1], target=target, **options)) < 1e-4


OPTIONS = [
    {"heads": heads, "spatial_weight": spatial_weight}
    for heads in ("single", "model", "each")
    for spatial_weight in ("loosened", "softmax", "none")
]


@pytest.mark.parametrize(("family", "options"), covered(FAMILIES, OPTIONS), indirect=["family"], scope="module")
def test_attribute_targets_equals_a_loop(model: nn.Module, family: Family, options: dict[str, str]) -> None:
    for score, inputs, n in scores(model, family, family.size):
        method = GradECLIP(score, score.layers[-n:])
        for targets in ([2, 0, 1], torch.tensor([0])):
            got = method.attribute_targets(inputs, targets, **options)
            loop = [method.attribute(inputs, target=int(t), **options) for t in targets]
            if options["heads"] != "each" and inputs.is_floating_point():
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

    check_that_the_library_takes(torch.bfloat16, family)
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


def test_maps_of_each_head_need_as_many_heads_in_each_layer() -> None:
    """The attention pool of PE-Core has fewer heads than its blocks."""
    score = ClassScore(timm_adapter.tiny("vit_pe_core_base_patch16_224").eval())
    with pytest.raises(ValueError, match=r'heads: "each" needs layers with as many heads, got layers with \[4, 8\]'):
        GradECLIP(score, score.layers[-2:]).attribute(images((32, 32)), target=0, heads="each")
    assert GradECLIP(score, score.layers[-1:]).attribute(images((32, 32)), target=0, heads="each").shape == (2, 8, 4, 4)


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


# Convolutions that are wider than their patches, so that nobody but their adapter can say where these are.
SPREAD = {"timm ViTamin", "open_clip ViTamin"}


def test_a_users_own_call(model: nn.Module, family: Family) -> None:
    """The same maps through a bare callable and a block, as for a model that no adapter knows."""
    if family.text:
        tower, text = adapters.image_tower(model), torch.ones(adapters.image_tower(model).width)
        score: Any = ImageTextScore(model, text[None])

        def call(x: Tensor) -> Tensor:
            return F.cosine_similarity(tower.encode(x), text)[:, None]
    elif family.name.endswith("features"):
        score = image_score(model)

        def call(x: Tensor) -> Tensor:
            return F.normalize(model(pixel_values=x).pooler_output, dim=-1) @ score.text_features.T
    elif family.name == "transformers SigLIP 2, classes":
        score = ClassScore(model)

        def call(x: Tensor) -> Tensor:
            return model(**patches_of(x)).logits
    else:
        score = ClassScore(model)
        call = (lambda x: model(x).logits) if family.name.startswith("transformers") else model
    if family.name in SPREAD:
        call = BareScore(call, grid=score.grid(images(family.size)))
    x = images(family.size)
    layer = score.layers[-1]
    expected = GradECLIP(score, layer).attribute(x, target=0)
    assert relative(GradECLIP(call, layer).attribute(x, target=0), expected) < 1e-5


@pytest.mark.parametrize("heads", ["single", "model"])
def test_what_the_patches_carry(model: nn.Module, family: Family, heads: str) -> None:
    """All keys together carry gradient times output of the attention; the share is that of the patches or words."""
    for score, inputs, _ in scores(model, family, sizes(family)[-1], count=2):
        layers = score.layers[-1:]
        found = GradECLIP(score, layers).outcome(inputs, [1, 0], carried=True, heads=heads).carried
        with Interception(layers, single_head if heads == "single" else model_heads) as seen, torch.no_grad():
            output = score(inputs)
        (record,) = seen.records()
        record = record.merged() if heads == "single" else record
        keys = record.key.shape[-2]
        cells = score.grid(inputs)[0] * score.grid(inputs)[1] if inputs.is_floating_point() else 0
        content = range(keys - cells, keys) if cells else range(inputs.shape[1])
        for place, target in enumerate((1, 0)):
            with torch.enable_grad():
                total = output[:, target].sum()
            (gradient,) = torch.autograd.grad(total, record.output, retain_graph=True)
            for item in range(len(inputs)):
                parts = torch.zeros(keys, dtype=torch.float64)
                for head in range(record.heads):
                    query, key, value = (x[item, head].double() for x in (record.query, record.key, record.value))
                    logits = record.scale * query @ key.T
                    mask = record.mask
                    if mask is not None:
                        mask = mask.expand(len(inputs), record.heads, *logits.shape)[item, head]
                        logits = logits + mask.double()
                    own = gradient[item].double().unflatten(-1, (record.heads, -1))[:, head]
                    parts += (logits.softmax(dim=-1) * (own @ value.T)).sum(dim=0)
                whole = float((gradient[item].double() * record.output[item].double()).sum())
                size = float(parts.abs().sum())
                assert float(parts.sum()) == pytest.approx(whole, abs=1e-5 * size)
                if abs(whole) < 2e-4 * size:
                    continue  # behind a norm that follows at once all cancel, as far as rounding allows
                share = float(parts[list(content)].sum()) / whole
                assert float(found[item, place]) == pytest.approx(share, abs=1e-5 * (1 + abs(share)) * size / abs(whole))


def test_nobody_else_says_what_the_patches_carry(vit: nn.Module) -> None:
    score = ImageTextScore(vit, torch.randn(2, 24))
    for method in METHODS:
        if method is not GradECLIP and not method.info.needs:
            assert method.for_score(score).outcome(images((32, 32)), [0], carried=True).carried is None
    assert GradECLIP.for_score(score).outcome(images((32, 32))).carried is None
