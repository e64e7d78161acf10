"""The interception: only in its layers, its thread and its pass, and nothing stays behind."""

from __future__ import annotations

import threading

import pytest
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from captum_gradeclip import adapters
from captum_gradeclip.attention import (
    Interception,
    model_heads,
    single_head,
)

from ..conftest import FAMILIES, captions, images, relative, stir


def test_no_graph_before_the_first_layer(vit: nn.Module) -> None:
    blocks = list(vit.visual.transformer.resblocks)
    inputs: dict[int, torch.Tensor] = {}
    handles = [
        block.register_forward_pre_hook(lambda module, args, n=n: inputs.__setitem__(n, args[0]))
        for n, block in enumerate(blocks)
    ]
    with Interception(blocks[2:], single_head) as seen, torch.no_grad():
        features = vit.visual(images((32, 32)))
    for handle in handles:
        handle.remove()
    assert [inputs[n].requires_grad for n in range(4)] == [False, False, False, True]
    first, second = seen.records()
    assert first.output.is_leaf and not second.output.is_leaf and features.requires_grad
    assert not first.query.requires_grad and second.query.requires_grad


def test_hooks_and_mode_are_gone_after_success_and_after_errors(vit: nn.Module) -> None:
    layer = vit.visual.transformer.resblocks[-1]

    class Stop(Exception):
        pass

    def stop(*_: object) -> None:
        raise Stop

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    for error, hooked, breaker in ((Stop, layer.mlp, stop), (Stop, layer, stop), (KeyboardInterrupt, layer.attn, interrupt)):
        handle = hooked.register_forward_pre_hook(breaker)
        try:
            with pytest.raises(error), Interception([layer], single_head), torch.no_grad():
                vit.visual(images((32, 32)))
        finally:
            handle.remove()
        assert not layer._forward_hooks and not layer._forward_pre_hooks
        assert torch.overrides._len_torch_function_stack() == 0
        assert torch.is_grad_enabled()


def test_a_users_own_mode_and_hooks_survive(vit: nn.Module) -> None:
    calls: list[str] = []

    class Counting(TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            calls.append(getattr(func, "__name__", ""))
            return func(*args, **(kwargs or {}))

    layer = vit.visual.transformer.resblocks[-1]
    handle = layer.register_forward_hook(lambda *_: calls.append("hook"))
    with Counting(), Interception([layer], single_head) as seen, torch.no_grad():
        vit.visual(images((32, 32)))
    handle.remove()
    assert len(seen.records()) == 1 and "hook" in calls and "layer_norm" in calls


def test_two_threads_on_one_model_see_only_their_own(vit: nn.Module) -> None:
    layers = list(vit.visual.transformer.resblocks)
    inputs = [images((32, 32), seed=s) for s in range(4)]
    with torch.no_grad():
        plain = [vit.visual(x) for x in inputs]

    def one(x: torch.Tensor, rule) -> torch.Tensor:
        with Interception(layers, rule) as seen, torch.no_grad():
            features = vit.visual(x)
        assert len(seen.records()) == 4 and all(len(r.query) == len(x) for r in seen.records())
        return features.detach()

    expected = [one(x, single_head) for x in inputs]
    got: dict[int, list[torch.Tensor]] = {n: [] for n in range(5)}

    def work(n: int) -> None:
        for _ in range(15):
            with torch.no_grad():
                got[n].append(vit.visual(inputs[0]) if n == 4 else one(inputs[n], single_head))

    threads = [threading.Thread(target=work, args=(n,)) for n in got]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for n, results in got.items():
        reference = plain[0] if n == 4 else expected[n]
        assert len(results) == 15 and all(torch.allclose(r, reference, atol=1e-5) for r in results)
    assert not any(layer._forward_hooks or layer._forward_pre_hooks for layer in layers)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ViT-B-32", "RN50"])
@pytest.mark.parametrize("frozen", [False, True])
def test_own_heads_reproduce_the_true_architectures(name: str, frozen: bool) -> None:
    import open_clip

    torch.manual_seed(0)
    model = stir_gently(open_clip.create_model(name, pretrained=None)).requires_grad_(not frozen)
    tokens = torch.randint(1, 49405, (2, 77))
    tokens[0, 20], tokens[1, 76] = 49407, 49407
    tokens[0, 21:] = 0
    for tower, inputs in ((adapters.image_tower(model), images((224, 224), 1)), (adapters.text_tower(model), tokens)):
        with torch.no_grad():
            expected = tower.encode(inputs)
        for grad in (False, True):
            with Interception(tower.layers, model_heads) as seen, torch.set_grad_enabled(grad):
                got = tower.encode(inputs)
            assert relative(got, expected) < 1e-5
        assert len(seen.records()) == len(tower.layers)


def stir_gently(model: nn.Module) -> nn.Module:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.02 * torch.randn_like(parameter)
    return model.eval()


def test_the_mask_matters_in_the_text_tower() -> None:
    """Without the causal mask the features change, so reproducing them proves that the mask was seen."""
    model = stir(FAMILIES["open_clip ViT"].build())
    with torch.no_grad():
        expected = model.encode_text(captions())
        model.attn_mask.zero_()
        assert relative(model.encode_text(captions()), expected) > 0.05
