"""The maps of before the move to declared scores, kept while it lasts: nothing may change by more than 1e-6.

``python -m tests.test_golden`` writes them anew; only the commit before the move may.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from captum_gradeclip import METHODS, ImageTextScore, TextImageScore, scenes

from .conftest import FAMILIES, scores, stir

FILE = Path(__file__).parent / "golden.npz"
FEW: dict[str, dict[str, Any]] = {"RISE": {"n_masks": 4}, "M2IB": {"steps": 3, "copies": 2}}
OPTIONS: dict[str, list[dict[str, Any]]] = {
    "GradECLIP": [
        {"heads": heads, "spatial_weight": weight}
        for heads in ("single", "model", "each")
        for weight in ("loosened", "softmax", "none")
    ]
    + [
        {"similarity": "dot"},
        {"relu_attributions": False},
        {"relu_before_sum": True},
        {"relu_before_sum": False},
        {"heads": "each", "relu_attributions": False, "similarity": "dot"},
    ],
    "RawAttention": [{"heads": "single"}],
    "TokenGradCam": [{"heads": "single"}, {"average": "patches"}, {"relu_attributions": False}],
    "GAME": [{"scale": 100.0}],
    "MaskCLIP": [{"key_weight": True}],
    "CLIPSurgery": [{"redundancy": "labels"}, {"redundancy": "none", "normalisation": "tokens"}, {"pool_query": "value"}],
    "M2IB": [{"seed": 3, "beta": 1.0, "steps": 2, "copies": 3}, {"steps": 14, "copies": 2, "tolerance": 0.1}],
    "RISE": [{"n_masks": 120, "subtract_mean": True, "tolerance": 0.5}],
    "LeGrad": [],
}
RICH = ("open_clip ViT", "open_clip ResNet", "open_clip CoCa", "timm DeiT")


def made(name: str) -> dict[str, np.ndarray[Any, Any]]:
    """The maps of every method on one family, by what they are."""
    torch.manual_seed(0)
    family = FAMILIES[name]
    model = stir(family.build())
    found: dict[str, np.ndarray[Any, Any]] = {}
    for number, (score, inputs, count) in enumerate(scores(model, family, family.oblong or family.size)):
        for kind in METHODS:
            chosen = [{}, *(OPTIONS.get(kind.__name__, []) if name in RICH else [])]
            for given in chosen:
                options = {**FEW.get(kind.__name__, {}), **given}
                variants = [(f"{name}/{number}/{kind.__name__}/{given}", kind.of(score))]
                if kind.__name__ in ("GradECLIP", "GAME", "RawAttention", "AttentionRollout"):
                    variants.append((f"{variants[0][0]}/several", kind(score, score.layers[-count:])))
                for key, method in variants:
                    try:
                        found[f"{key}/one"] = method.attribute(inputs, target=[2, 0, 1], **options).numpy()
                        found[f"{key}/many"] = method.attribute_targets(inputs, [2, 0], **options).numpy()
                    except ValueError:
                        found[f"{key}/refused"] = np.zeros(1)
    return found


def on_scenes() -> dict[str, np.ndarray[Any, Any]]:
    """The maps of every method on pictures of the embedded model."""
    model, preprocess, tokenizer = scenes.load()
    data = scenes.SceneDataset(3, "evaluation", counts=(2, 3))
    x = torch.stack([preprocess(data[number].image) for number in range(3)])
    tokens = tokenizer(["a red circle", "the blue square and a star", "something green"])
    found: dict[str, np.ndarray[Any, Any]] = {}
    for number, (score, inputs) in enumerate(((ImageTextScore(model, tokens), x), (TextImageScore(model, x), tokens))):
        for kind in METHODS:
            if kind.__name__ == "RISE" and number:
                continue
            try:
                maps = kind.of(score).attribute_targets(inputs, **FEW.get(kind.__name__, {}))
            except ValueError:
                continue
            found[f"scenes/{number}/{kind.__name__}"] = maps.numpy()
    return found


@pytest.mark.parametrize("name", [*FAMILIES, "scenes"])
def test_maps_are_those_of_before(name: str) -> None:
    known = np.load(FILE)
    keys = {key for key in known.files if key.split("/")[0] == name}
    found = on_scenes() if name == "scenes" else made(name)
    assert keys == set(found)
    for key in keys:
        largest = max(np.abs(known[key]).max(), 1e-30)
        assert np.abs(found[key] - known[key]).max() <= 1e-6 * max(largest, 1) + 2e-6 * largest, key


if __name__ == "__main__":
    everything = on_scenes()
    for family in sys.argv[1:] or FAMILIES:
        everything |= made(family)
    np.savez_compressed(FILE, **everything)
