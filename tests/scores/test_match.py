"""Matching heads: the model's own logits, the equations written out on a tiny BLIP, patches that stay in their order."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from captum_gradeclip import GradECLIP, ImageTextScore, MatchScore, adapters
from captum_gradeclip.attr import METHODS, MatchRegionAttribution, NotDefinedError
from captum_gradeclip.attr.base import TokenAttribution

from .. import reference
from ..conftest import FAMILIES, fingerprint, images, relative, stir, varies

SMALL = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4}
TEXT = {"vocab_size": 50, "max_position_embeddings": 12}
IDS = torch.tensor([[2, 7, 9, 11, 3], [2, 8, 3, 0, 0], [2, 9, 7, 3, 0]])


def blip() -> nn.Module:
    from transformers import BlipConfig, BlipForImageTextRetrieval

    vision = {**SMALL, "image_size": 32, "patch_size": 8}
    text = {**SMALL, **TEXT, "encoder_hidden_size": 32, "pad_token_id": 0, "bos_token_id": 2, "sep_token_id": 3}
    return BlipForImageTextRetrieval(BlipConfig(vision_config=vision, text_config=text, image_text_hidden_size=16))


def blip2() -> nn.Module:
    from transformers import Blip2Config, Blip2ForImageTextRetrieval

    vision = {**SMALL, "image_size": 32, "patch_size": 8}
    former = {**SMALL, **TEXT, "encoder_hidden_size": 32, "use_qformer_text_input": True, "num_hidden_layers": 4}
    config = Blip2Config(vision_config=vision, qformer_config=former, num_query_tokens=4, image_text_hidden_size=16)
    return Blip2ForImageTextRetrieval(config)


def vilt() -> nn.Module:
    from transformers import ViltConfig, ViltForImageAndTextRetrieval

    return ViltForImageAndTextRetrieval(ViltConfig(**SMALL, **TEXT, image_size=32, patch_size=8, pad_token_id=0))


@pytest.fixture(params=[blip, blip2, vilt], scope="module")
def model(request: pytest.FixtureRequest) -> nn.Module:
    torch.manual_seed(0)
    return stir(request.param(), amount=0.2)


def own(model: Any, x: Tensor, one: Tensor) -> Tensor:
    """What the model itself says of images with one text, called as its documentation has it."""
    tokens = one.expand(len(x), -1)
    given = {"pixel_values": x, "input_ids": tokens, "attention_mask": tokens.ne(0).long()}
    kind = type(model).__name__
    if kind.startswith("Blip2"):
        return model(**given, use_image_text_matching_head=True).logits_per_image[:, 1]
    if kind.startswith("Blip"):
        return model(**given, use_itm_head=True).itm_score[:, 1]
    return model(**given).logits[:, 0]


def test_scores_are_those_of_the_model(model: nn.Module) -> None:
    x, before = images((32, 32), 2), fingerprint(model)
    score = MatchScore(model, IDS)
    with torch.no_grad():
        got = score(x)
    assert fingerprint(model) == before
    with torch.no_grad():
        expected = torch.stack([own(model, x, one) for one in IDS], dim=1)
    assert got.shape == (2, 3) and relative(got, expected) < 1e-5 and varies(got)


@pytest.mark.parametrize("heads", ["single", "model"])
def test_targets_and_batches(model: nn.Module, heads: Any) -> None:
    x, score = images((32, 32), 3), MatchScore(model, IDS)
    method, before = GradECLIP(score, score.layers[-1]), fingerprint(model)
    options: dict[str, Any] = {"relu_attributions": False, "heads": heads}
    every = method.attribute_targets(x, **options)
    assert fingerprint(model) == before and every.shape == (3, 3, 4, 4) and varies(every)
    for target in range(3):
        alone = MatchScore(model, IDS[target : target + 1])
        expected = GradECLIP(alone, alone.layers[-1]).attribute(x, target=0, **options)
        assert relative(every[:, target : target + 1], expected) < 1e-4
    mixed = method.attribute(x, target=[2, 0, 1], **options)
    assert relative(mixed[:, 0], every[torch.arange(3), torch.tensor([2, 0, 1])]) < 1e-4
    found = method.outcome(x, [2, 0], **options)
    assert found.explained_scores is not None and found.explained_scores.shape == (3, 2)
    if heads == "model":
        assert relative(found.explained_scores, score(x)[:, [2, 0]]) < 1e-4


@pytest.mark.parametrize(("row", "column"), [(0, 0), (1, 2), (3, 3)])
def test_patches_lie_where_the_picture_changes(model: Any, row: int, column: int) -> None:
    """A changed patch is the token that the map takes for it; also with ViLT, which draws its patches in a random order."""
    score, x = MatchScore(model, IDS[:1]), images((32, 32), 1).repeat(2, 1, 1, 1)
    x[1, :, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8] += 3.0
    single = type(model).__name__.startswith("Vilt")
    seen: list[Tensor] = []
    entry = model.vilt.encoder.layer[0] if single else model.vision_model.encoder.layers[0]
    handle = entry.register_forward_pre_hook(lambda _, args: seen.append(args[0].detach()))
    for _ in range(3):  # the order is drawn anew each time
        with torch.no_grad():
            score(x)
        tokens = seen.pop()
        keys = score.tokens(score.sites[0], x, tokens.shape[1])[1]
        assert keys.shape == (4, 4) and keys.start == (IDS.shape[1] + 1 if single else 1)
        changed = (tokens[1] != tokens[0]).any(dim=1).nonzero().flatten().tolist()
        assert changed == [keys.start + 4 * row + column]
        marks = torch.zeros(1, tokens.shape[1])
        marks[0, changed] = 1.0
        assert keys.fold(marks)[0, row, column] == 1.0 and keys.fold(marks).sum() == 1.0
    handle.remove()
    maps = [GradECLIP(score, score.layers[0]).attribute(x, relu_attributions=False, heads="model") for _ in range(2)]
    assert relative(maps[1], maps[0]) < 1e-5 and relative(maps[0][1], maps[0][0]) > 1e-3


@pytest.mark.parametrize("targets", [None, [2, 0]])
def test_texts_come_in_parts(model: nn.Module, targets: list[int] | None) -> None:
    x, score = images((32, 32), 2), MatchScore(model, IDS)
    method = GradECLIP(score, score.layers[-1])
    parts = list(method.attribute_in_parts(x, targets, most=2, relu_attributions=False))
    every = method.attribute_targets(x, targets, relu_attributions=False)
    columns = [column for some, _ in parts for column in some.tolist()]
    assert columns == ([0, 1, 2] if targets is None else targets) and len(parts) == (2 if targets is None else 1)
    assert relative(torch.cat([maps for _, maps in parts], dim=1), every) < 1e-5 and varies(every)
    with pytest.raises(AssertionError, match="targets"):
        next(method.attribute_in_parts(x, [[0, 1], [1, 2]]))


def test_the_equations_written_out_on_blip() -> None:
    torch.manual_seed(0)
    _compare(stir(blip(), amount=0.2).double(), images((32, 32), 2).double())


@pytest.mark.slow
def test_the_equations_written_out_on_blip_of_true_size() -> None:
    """The architecture of ``Salesforce/blip-itm-base-coco``: twelve layers of twelve heads, 24 x 24 patches."""
    from transformers import BlipConfig, BlipForImageTextRetrieval

    torch.manual_seed(0)
    _compare(stir(BlipForImageTextRetrieval(BlipConfig())).double(), images((384, 384), 1).double())


def _compare(model: Any, x: Tensor) -> None:
    """In float64: queries, keys and values from the weights, the gradient from a hook; row by row, head by head."""
    score = MatchScore(model, IDS[:1])
    seen: dict[int, tuple[Tensor, Tensor, Tensor]] = {}

    def hook(number: int) -> Any:
        def see(_: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            output[0].retain_grad()
            hidden = args[0] if args else kwargs["hidden_states"]
            states = kwargs.get("encoder_hidden_states", args[1] if len(args) > 1 else None)
            seen[number] = hidden, states, output[0]

        return see

    layers = [layer.crossattention for layer in model.text_encoder.encoder.layer]
    handles = [layer.self.register_forward_hook(hook(n), with_kwargs=True) for n, layer in enumerate(layers)]
    score(x).sum().backward()
    for handle in handles:
        handle.remove()
    model.zero_grad()
    config = model.config.text_config
    patches, heads = seen[0][1].shape[1] - 1, config.num_attention_heads
    width = config.hidden_size // heads
    expected = torch.zeros(2, len(x), patches, dtype=torch.float64)
    tensor = torch.zeros(len(x), 5, patches, dtype=torch.float64)
    for number, layer in enumerate(layers):
        hidden, states, output = seen[number]
        for item in range(len(x)):
            q, k, v = layer.self.query(hidden[item]), layer.self.key(states[item]), layer.self.value(states[item])
            w, q, k, v = output.grad[item], q.detach(), k.detach(), v.detach()
            for r in range(5):
                stretched = reference.stretched([reference.cosine(q[r], k[i]) for i in range(1, patches + 1)])
                for i in range(patches):
                    own = float(stretched[i] * (w[r] @ v[i + 1]))
                    expected[1, item, i] += own
                    expected[0, item, i] += own if number == len(layers) - 1 else 0.0
                for head in range(heads):
                    part = slice(width * head, width * head + width)
                    attention = (q[r, part] @ k[:, part].T / width**0.5).softmax(dim=0)
                    tensor[item, r] += (attention * (v[:, part] @ w[r, part]))[1:].detach()
    for chosen, own_sum in ((layers[-1:], expected[0]), (layers, expected[1])):
        got = GradECLIP(score, chosen).attribute(x, relu_attributions=False, heads="model")
        assert relative(got.flatten(1), own_sum) < 1e-5 and varies(got)
    found = MatchRegionAttribution(score).attribute(x)
    assert relative(found.flatten(2), tensor) < 1e-5 and varies(found)


def test_the_contrastive_head_of_blip2_through_a_callable() -> None:
    """As docs/matching-heads.md has it: all texts of one pass, against the equations written out in float64.

    The score is the best of the learned queries' cosines, so the gradient begins at the query that is best for a text.
    """
    torch.manual_seed(0)
    model: Any = stir(blip2(), amount=0.2).double()
    x, mask = images((32, 32), 2).double(), IDS.ne(0).long()

    def score(pixels: Tensor) -> Tensor:
        return model(pixel_values=pixels, input_ids=IDS, attention_mask=mask).logits_per_image  # type: ignore[no-any-return]

    layers = [layer.crossattention for layer in model.qformer.encoder.layer if layer.has_cross_attention]
    seen: list[tuple[Tensor, Tensor, Tensor]] = []

    def see(_: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        output[0].retain_grad()
        hidden = args[0] if args else kwargs["hidden_states"]
        seen.append((hidden, kwargs.get("encoder_hidden_states", args[1] if len(args) > 1 else None), output[0]))

    handle = layers[-1].attention.register_forward_hook(see, with_kwargs=True)
    scores = score(x)
    handle.remove()
    assert scores.shape == (2, 3)
    (hidden, states, output), own = seen[0], layers[-1].attention
    method = GradECLIP(score, layers[-1])
    for target in range(3):
        (gradient,) = torch.autograd.grad(scores[:, target].sum(), output, retain_graph=True)
        expected = torch.zeros(2, 16, dtype=torch.float64)
        for item in range(2):
            q, k, v = own.query(hidden[item]), own.key(states[item]), own.value(states[item])
            q, k, v = q.detach(), k.detach(), v.detach()
            for r in range(4):
                stretched = reference.stretched([reference.cosine(q[r], k[i]) for i in range(1, 17)])
                for i in range(16):
                    expected[item, i] += float(stretched[i] * (gradient[item, r] @ v[i + 1]))
        got = method.attribute(x, target=target, relu_attributions=False, heads="model")
        assert relative(got.flatten(1), expected) < 1e-5 and varies(got)
    every = method.attribute_targets(x, relu_attributions=False, heads="model")
    assert relative(every[:, 2], got[:, 0]) < 1e-5 and relative(every[:, 0], every[:, 1]) > 1e-2


def test_pairs_of_a_matching_head(model: nn.Module) -> None:
    x, score = images((32, 32), 2), MatchScore(model, IDS)
    if type(model).__name__.startswith("Blip2"):
        with pytest.raises(NotDefinedError, match="learned"):
            MatchRegionAttribution(score)
        return
    found = MatchRegionAttribution(score).attribute(x, target=[1, 0])
    assert found.shape == (2, 5, 4, 4) and found.dtype == torch.float32 and varies(found)
    alone = MatchRegionAttribution(MatchScore(model, IDS[:1])).attribute(x[1:])
    assert relative(found[1:], alone) < 1e-4


def test_other_methods_explain_matching_heads_or_say_that_they_do_not(model: nn.Module) -> None:
    score, crossing = MatchScore(model, IDS[:2]), not type(model).__name__.startswith("Vilt")
    for kind in METHODS:
        if not issubclass(kind, TokenAttribution) or kind.info.needs:
            continue
        method = kind(score, score.layers[-1])
        if crossing and not kind.info.cross_attention:
            with pytest.raises(NotDefinedError, match="cross-attention"):
                method.attribute(images((32, 32), 2), target=1)
        elif kind.info.cross_attention:
            maps = method.attribute(images((32, 32), 2), target=1)
            assert maps.shape == (2, 1, 4, 4) and maps.isfinite().all() and varies(maps)
    assert [kind.__name__ for kind in METHODS if kind.info.cross_attention] == ["GradECLIP", "RawAttention"]


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(adapters.UnsupportedModelError, match="BlipForImageTextRetrieval"):
        MatchScore(FAMILIES["open_clip ViT"].build(), IDS)
    model = stir(blip())
    with pytest.raises(ValueError, match="text.*12 tokens"):
        MatchScore(model, torch.ones(1, 13, dtype=torch.long))
    with pytest.raises(ValueError, match="text.*0 to 49"):
        MatchScore(model, torch.full((1, 3), 60))
    with pytest.raises(TypeError, match="tokenizer"):
        MatchScore(model, "a word")
    with pytest.raises(ValueError, match="32 x 32 only"):
        MatchScore(stir(blip2()), IDS)(images((40, 24)))
    score = MatchScore(model, IDS)
    with pytest.raises(AssertionError, match="target"):
        GradECLIP(score, score.layers[-1]).attribute(images((32, 32)))
    assert isinstance(ImageTextScore(model, IDS), ImageTextScore)  # the contrastive head stays what it was
