"""Tiny random models of every family, built from configurations, with weights that make masks and gradients matter."""

from __future__ import annotations

import os

os.environ["HF_HUB_OFFLINE"] = "1"
# Models this small gain nothing from a second thread, and on a busy machine threads that wait for each other lose minutes.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import hashlib
from typing import Any

import pytest
import torch
from hypothesis import settings
from torch import Tensor, nn
from torch.nn import functional as F

from captum_gradeclip import ClassScore, ImageTextScore, TextImageScore, adapters
from captum_gradeclip.adapters import Family
from captum_gradeclip.adapters.base import CONTEXT, END, START, VOCABULARY
from captum_gradeclip.scores import ImageScore

# How long an example takes says more about what else the machine does than about the code. The same examples are tried in
# each run, so that a change fails for what it changed; --hypothesis-profile=explore tries others.
settings.register_profile("any machine", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None)
settings.load_profile("any machine")

TEXT = {"context_length": CONTEXT, "vocab_size": VOCABULARY, "layers": 8, "width": 32, "heads": 4}
VIT = {"image_size": 32, "patch_size": 8, "layers": 4, "width": 48, "head_width": 12}


class Families(dict[str, Family]):
    """The families that the installed versions have; a test that asks for another one is skipped, with its name."""

    def __missing__(self, name: str) -> Family:
        if name in (lacking := adapters.families(missing=True)):
            pytest.skip(f"{name}: the installed version lacks {lacking[name].missing}")
        raise KeyError(name)


FAMILIES = Families(adapters.families())
DUAL = [name for name, family in FAMILIES.items() if family.text]

# In tests that try every method, option or equation on every family, most families call attention, or are read, as another
# one is: those are tried by -m slow. All of them are in every run of tests/adapters.
MANY = ("test_account", "test_contract", "test_contrast", "test_grad_eclip_of_families", "test_image_pass", "test_linear")
MANY += ("test_options", "test_padding", "test_passes", "test_state", "test_word_region")
IN_EVERY_RUN = {
    *("open_clip ViT", "open_clip ViT, average", "open_clip ResNet", "open_clip SigLIP", "open_clip EVA-02"),
    *("open_clip CoCa", "open_clip, text of transformers", "transformers CLIP", "transformers SigLIP 2"),
    *("transformers AltCLIP", "transformers BLIP", "transformers AIMv2", "transformers DINOv2", "timm DeiT"),
    *("timm BEiT", "timm SigLIP", "timm DINOv3", "timm NaFlex", "torchvision ViT"),
}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        given = item.callspec.params.values() if isinstance(item, pytest.Function) and hasattr(item, "callspec") else ()
        names = {one.name if isinstance(one, Family) else one for one in given if isinstance(one, (str, Family))}
        if item.path.stem in MANY and names & FAMILIES.keys() - IN_EVERY_RUN:
            item.add_marker("slow")


@pytest.fixture(autouse=True)
def _same_numbers() -> None:
    """Random numbers that do not depend on which tests ran before."""
    torch.manual_seed(0)


def stir(model: nn.Module, seed: int = 0, amount: float = 0.15) -> nn.Module:
    """Weights large enough that attention is far from uniform and every map varies."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += amount * torch.randn(parameter.shape, generator=generator)
        for name, buffer in model.named_buffers():
            if name.endswith("running_mean"):
                buffer += 0.3 * torch.randn(buffer.shape, generator=generator)
            if name.endswith("running_var"):
                buffer *= 0.5 + torch.rand(buffer.shape, generator=generator)
    return model.eval()


def captions(seed: int = 0, count: int = 3) -> Tensor:
    """Token ids with the end mark in the middle, at a different place in each."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.zeros(count, CONTEXT, dtype=torch.long)
    for row, length in enumerate((3, 7, 5, 10, 4)[:count]):
        tokens[row, 0] = START
        tokens[row, 1 : 1 + length] = torch.randint(1, START, (length,), generator=generator)
        tokens[row, 1 + length] = END
    return tokens


def image_score(model: nn.Module) -> ImageScore:
    """The score of a model without texts: its classes, or of an encoder cosines with directions, as the rows of a head."""
    tower = adapters.image_tower(model)
    if tower.classes:
        return ClassScore(model)
    return ImageTextScore(model, torch.randn(VOCABULARY, tower.width, generator=torch.Generator().manual_seed(3)))


def scores(model: nn.Module, family: Family, size: tuple[int, int], count: int = 3) -> list[tuple[Any, Tensor, int]]:
    """Each score of a family with ``count`` inputs and targets, and how many of its last layers to explain."""
    x, tokens = images(size, count), captions(count=count)
    dtype = next(model.parameters()).dtype
    if not family.text:
        return [(image_score(model), x.to(dtype), 2)]
    return [(ImageTextScore(model, tokens), x.to(dtype), 2), (TextImageScore(model, x.to(dtype)), tokens, 8)]


@pytest.fixture(params=FAMILIES, scope="module")
def family(request: pytest.FixtureRequest) -> Family:
    return FAMILIES[request.param]


@pytest.fixture(scope="module")
def model(family: Family) -> nn.Module:
    torch.manual_seed(0)
    return stir(family.build())


@pytest.fixture(scope="module")
def vit() -> nn.Module:
    torch.manual_seed(0)
    return stir(FAMILIES["open_clip ViT"].build())


@pytest.fixture(scope="module")
def double() -> nn.Module:
    """The smallest CLIP in float64, for comparison with equations written out."""
    torch.manual_seed(0)
    return stir(FAMILIES["open_clip ViT"].build()).double()


def images(size: tuple[int, int], count: int = 2, seed: int = 1) -> Tensor:
    return torch.randn(count, 3, *size, generator=torch.Generator().manual_seed(seed))


def patches_of(x: Tensor) -> dict[str, Tensor]:
    """Images of 32 x 32 pixels as SigLIP 2 takes them: patches of 8 x 8, channels last."""
    patches = [F.unfold(item[None], 8, stride=8)[0].T.reshape(-1, 3, 64).mT.flatten(1) for item in x]
    return {
        "pixel_values": torch.stack(patches),
        "pixel_attention_mask": torch.ones(len(x), 16, dtype=torch.long),
        "spatial_shapes": torch.tensor([[4, 4]] * len(x)),
    }


def relative(a: Tensor, b: Tensor) -> float:
    """Largest difference, relative to the largest value; of two maps of zeros, nothing."""
    a, b = a.detach().double(), b.detach().double()
    largest = b.abs().max()
    return float((a - b).abs().max() / largest) if largest > 0 else float(a.abs().max())


def varies(x: Tensor) -> bool:
    """Not a map that would let any test pass."""
    return bool(x.flatten(1).std(dim=1).gt(1e-3 * x.abs().amax()).all()) and bool(x.abs().max() > 0)


def sizes(family: Family) -> list[tuple[int, int]]:
    """The native size, and an oblong one where the family takes it."""
    return [size for size in (family.size, family.oblong) if size is not None]


def fingerprint(model: nn.Module) -> dict[str, object]:
    """All that an explanation must leave as it was: weights, flags, modes, hooks, attributes, random numbers."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(name.encode() + tensor.contiguous().numpy().tobytes())
    modules = dict(model.named_modules())
    return {
        "state": digest.hexdigest(),
        "identities": [(id(p), p.requires_grad, p.grad is None) for p in model.parameters()],
        "modes": [m.training for m in modules.values()],
        "hooks": [(len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks)) for m in modules.values()],
        "attributes": [sorted(vars(m)) for m in modules.values()],
        "rng": torch.get_rng_state().numpy().tobytes(),
        "grad mode": torch.is_grad_enabled(),
    }
