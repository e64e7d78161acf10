"""Captum's contract for a third-party layer attribution: its fourteen points in order."""

from __future__ import annotations

import copy
import inspect
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from captum.attr import (
    LayerAttribution,
    LayerFeatureAblation,
    NoiseTunnel,
    visualization,
)
from captum.concept import TCAV, Classifier, Concept
from captum.metrics import infidelity, sensitivity_max
from scipy.stats import spearmanr
from torch import Tensor, nn
from torch.nn import functional as F

from captum_gradeclip import GradECLIP, ImageTextScore, InputSpaceAttribution, TextImageScore, adapters, scenes, show
from captum_gradeclip.attention import LayerError

from ..conftest import captions, images, relative, stir

X = images((32, 32))


@pytest.fixture
def score(vit: nn.Module) -> ImageTextScore:
    return ImageTextScore(vit, captions())


@pytest.fixture
def method(score: ImageTextScore) -> GradECLIP:
    return GradECLIP(score, score.layers[-1])


def hooks(model: nn.Module) -> int:
    return sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in model.modules())


def test_01_noise_tunnel(score: ImageTextScore, method: GradECLIP) -> None:
    plain = method.attribute(X, target=[1, 0])
    assert relative(NoiseTunnel(method).attribute(X, nt_samples=2, stdevs=0.0, target=[1, 0]), plain) < 1e-4
    torch.manual_seed(0)
    noisy = NoiseTunnel(method).attribute(X, nt_samples=4, stdevs=0.2, target=1, spatial_weight="none")
    torch.manual_seed(0)
    noise = torch.normal(0, 0.2 * torch.ones_like(X.repeat_interleave(4, 0)))
    by_hand = method.attribute(X.repeat_interleave(4, 0) + noise, target=1, spatial_weight="none")
    assert relative(noisy, by_hand.unflatten(0, (2, 4)).mean(dim=1)) < 1e-4

    # texts that belong to the examples, as additional arguments, expand with them
    tower = adapters.image_tower(score.model)
    pairs = GradECLIP(lambda x, ids: F.cosine_similarity(tower.encode(x), score.model.encode_text(ids)), score.layers[-1])
    ids = captions(count=2)
    expected = pairs.attribute(X, additional_forward_args=ids)
    got = NoiseTunnel(pairs).attribute(X, nt_samples=3, stdevs=0.0, additional_forward_args=ids)
    assert relative(got, expected) < 1e-4

    half = ImageTextScore(copy.deepcopy(score.model).to(torch.bfloat16), score.text_features)
    of_half = NoiseTunnel(GradECLIP(half, half.layers[-1])).attribute(X.bfloat16(), nt_samples=2, stdevs=0.1, target=0)
    assert of_half.isfinite().all()
    wrapped = InputSpaceAttribution(method)
    (of_tuple,) = NoiseTunnel(wrapped).attribute((X,), nt_samples=2, stdevs=0.0, target=[1, 0])
    assert relative(of_tuple, wrapped.attribute(X, target=[1, 0])) < 1e-4


def test_02_texts_among_the_additional_arguments_are_refused(score: ImageTextScore) -> None:
    tower = adapters.image_tower(score.model)
    bare = GradECLIP(lambda x, texts: F.normalize(tower.encode(x), dim=-1) @ texts.T, score.layers[-1])
    for call in (bare.attribute, NoiseTunnel(bare).attribute):
        with pytest.raises(ValueError, match="bind it in the forward function, as ImageTextScore binds its texts"):
            call(X, target=1, additional_forward_args=score.text_features)


def test_03_infidelity_and_sensitivity_equal_loops(score: ImageTextScore, method: GradECLIP) -> None:
    wrapped = InputSpaceAttribution(method)
    maps = wrapped.attribute(X, target=1)

    def perturb(x: Tensor) -> tuple[Tensor, Tensor]:
        step = 0.1 * torch.sin(torch.arange(x[0].numel(), dtype=x.dtype)).view_as(x[0]).expand_as(x)
        return step, x - step

    with torch.no_grad():
        got = infidelity(score, perturb, X, maps, target=1)
        step, moved = perturb(X)
        by_hand = ((step * maps).sum(dim=(1, 2, 3)) - (score(X) - score(moved))[:, 1]) ** 2
    assert relative(got, by_hand) < 1e-4

    def shake(x: Tensor, radius: float) -> Tensor:
        return x + radius * torch.sign(torch.sin(37 * x))

    got = sensitivity_max(wrapped.attribute, X, perturb_func=shake, perturb_radius=0.05, n_perturb_samples=2, target=1)
    other = wrapped.attribute(shake(X, 0.05), target=1)
    by_hand = (other - maps).flatten(1).norm(dim=1) / maps.flatten(1).norm(dim=1)
    assert relative(got, by_hand) < 1e-3 and by_hand.min() > 1e-3


def test_04_contiguous_batch_first_and_float32(method: GradECLIP, vit: nn.Module) -> None:
    for dtype in (torch.float32, torch.bfloat16, torch.float16, torch.float64):
        model = copy.deepcopy(vit).to(dtype)
        score = ImageTextScore(model, captions())
        text = TextImageScore(model, X.to(dtype))
        maps = GradECLIP(score, score.layers[-1]).attribute(X.to(dtype), target=0)
        words = GradECLIP(text, text.layers[-8:]).attribute(captions(), target=0)
        many = GradECLIP(score, score.layers[-1]).attribute_targets(X.to(dtype))
        for result, shape in ((maps, (2, 1, 4, 4)), (words, (3, 12)), (many, (2, 3, 4, 4))):
            assert result.dtype == torch.float32 and result.is_contiguous() and result.shape == shape
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert method.attribute(X, target=0).dtype == torch.float32


def test_05_under_no_grad_and_inference_mode(method: GradECLIP) -> None:
    expected = method.attribute(X, target=1)
    for context in (torch.no_grad(), torch.inference_mode(), torch.enable_grad()):
        with context:
            assert torch.equal(method.attribute(X, target=1), expected)
            assert torch.equal(method.attribute(X.clone(), target=1), expected)


def test_06_the_model_is_as_it_was(score: ImageTextScore, method: GradECLIP) -> None:
    model = score.model
    next(iter(model.parameters())).requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    flags = [(p.requires_grad, p.grad is None) for p in model.parameters()]
    modes, state = [m.training for m in model.modules()], torch.get_rng_state()
    method.attribute(X, target=0)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert flags == [(p.requires_grad, p.grad is None) for p in model.parameters()]
    assert modes == [m.training for m in model.modules()] and hooks(model) == 0
    assert torch.equal(state, torch.get_rng_state())
    model.requires_grad_(True)


def test_07_a_wrong_target_is_an_assertion_error_and_leaves_no_hook(score: ImageTextScore, method: GradECLIP) -> None:
    for target in (3, [0], None, torch.tensor([0, 1, 2]), (0, 1)):
        with pytest.raises(AssertionError):
            method.attribute(X, target=target)
    with pytest.raises(AssertionError):
        method.attribute_targets(X, [7])
    assert hooks(score.model) == 0


def test_08_a_batch_equals_its_items_for_every_kind_of_target(method: GradECLIP) -> None:
    singles = torch.cat([method.attribute(X[:1], target=2), method.attribute(X[1:], target=0)])
    for target in ([2, 0], torch.tensor([2, 0]), [(2,), (0,)]):
        assert relative(method.attribute(X, target=target), singles) < 1e-4
    for target in (2, torch.tensor(2), torch.tensor([2]), (2,)):
        assert relative(method.attribute(X, target=target)[:1], singles[:1]) < 1e-4


class _Tokens(nn.Module):
    """Patches of one channel each through one attention: its activations have the map's size, as TCAV wants it."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(1, 1, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(x, x, x, need_weights=False)[0]


class _OneChannel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.tokens = _Tokens()
        self.head = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.tokens(F.avg_pool2d(x.mean(1, keepdim=True), 8).flatten(1)[..., None]).flatten(1))


class _MeanDifference(Classifier):
    """The direction between the means of two concepts."""

    def __init__(self) -> None:
        super().__init__()

    def train_and_eval(self, dataloader: Any, **_: Any) -> dict[str, Any]:
        activations, labels = (torch.cat(part) for part in zip(*dataloader))
        means = torch.stack([activations[labels == label].mean(dim=0) for label in labels.unique()])
        self.direction, self.labels = means - means.mean(dim=0), labels.unique()
        return {"accs": torch.tensor(1.0)}

    def weights(self) -> Tensor:
        return self.direction

    def classes(self) -> list[int]:
        return self.labels.tolist()


@pytest.mark.filterwarnings("ignore")
def test_09_tcav(tmp_path: Any) -> None:
    torch.manual_seed(0)
    model = stir(_OneChannel(), amount=0.5)
    loaders = [torch.utils.data.DataLoader(images((32, 32), 6, seed) + seed, batch_size=3) for seed in (1, 2)]
    concepts = [Concept(id=n, name=f"concept-{n}", data_iter=loader) for n, loader in enumerate(loaders)]
    method = GradECLIP(model, model.tokens.attention)
    tcav = TCAV(model, ["tokens"], classifier=_MeanDifference(), layer_attr_method=method, save_path=str(tmp_path))
    found = tcav.interpret(X, [concepts], target=1)
    ((result,),) = (of_layer.values() for of_layer in found.values())
    assert result["magnitude"].shape == (2,) and result["magnitude"].abs().min() > 0
    assert method.layer is model.tokens  # TCAV put its own layer there


def test_10_feature_ablation_agrees() -> None:
    """Captum's own occlusion of tokens at the input of the explained block ranks the patches alike."""
    model, preprocess, tokenizer = scenes.load()
    items = [scenes.SceneDataset(12, "evaluation", counts=(1,))[i] for i in range(12)]
    x = torch.stack([preprocess(item.image) for item in items])
    score = ImageTextScore(model, [scenes.name(item.scene.things[0]).text for item in items], tokenizer)
    target = list(range(12))
    ours = GradECLIP(score, score.layers[-1]).attribute(x, target=target, heads="model", relu_attributions=False)
    mask = torch.arange(1 + ours[0].numel())[None, :, None]
    dropped = LayerFeatureAblation(score, score.layers[-1]).attribute(
        x, target=target, attribute_to_layer_input=True, layer_mask=mask
    )[..., 1:, 0]
    ranks = [spearmanr(a.flatten(), b).statistic for a, b in zip(ours, dropped)]
    assert np.mean(ranks) > 0.3
    best = ours.flatten(1).argmax(dim=1, keepdim=True)
    assert (dropped.gather(1, best)[:, 0] > dropped.median(dim=1).values).float().mean() > 0.8


def test_11_drawing_never_raises(method: GradECLIP) -> None:
    from PIL import Image

    picture = Image.new("RGB", (32, 32))
    maps = method.attribute(X, target=0)[0, 0]
    for one in (maps, maps - 1, torch.zeros(4, 4), torch.full((4, 4), float("nan")), maps.bfloat16()):
        full = method.interpolate(one.float()[None, None], (32, 32))[0, 0].to(one.dtype)
        assert show.overlay(picture, full).size == (32, 32)
    large = method.interpolate(maps[None, None], (32, 32))[0]
    visualization.visualize_image_attr(
        large.permute(1, 2, 0).numpy(), np.asarray(picture), method="blended_heat_map", sign="positive", use_pyplot=False
    )


def test_12_data_parallel(score: ImageTextScore, method: GradECLIP) -> None:
    parallel = nn.DataParallel(score)
    if torch.cuda.device_count() > 1:
        with pytest.raises(LayerError, match=r"nn.DataParallel.*explain the bare model"):
            GradECLIP(parallel.cuda(), score.layers[-1], device_ids=[0, 1]).attribute(X.cuda(), target=0)
    else:  # without devices DataParallel only passes the call on
        got = GradECLIP(parallel, score.layers[-1], device_ids=[0]).attribute(X, target=0)
        assert relative(got, method.attribute(X, target=0)) < 1e-5


def test_13_names_and_properties(method: GradECLIP) -> None:
    assert method.get_name() == "Grad-ECLIP" == InputSpaceAttribution(method).get_name()
    assert isinstance(method, LayerAttribution) and not method.multiplies_by_inputs
    assert not method.has_convergence_delta()
    names = list(inspect.signature(GradECLIP.attribute.__wrapped__).parameters)
    assert names[:5] == ["self", "inputs", "target", "additional_forward_args", "attribute_to_layer_input"]
    with pytest.raises(ValueError, match="attribute_to_layer_input"):
        method.attribute(X, target=0, attribute_to_layer_input=True)


def test_14_copies(method: GradECLIP) -> None:
    expected = method.attribute(X, target=0)
    assert torch.equal(copy.deepcopy(method).attribute(X, target=0), expected)
    assert torch.equal(pickle.loads(pickle.dumps(method)).attribute(X, target=0), expected)
