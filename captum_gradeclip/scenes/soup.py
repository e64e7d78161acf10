"""The mean of the weights of several trainings: ``python -m captum_gradeclip.scenes.soup FILE... --out FILE``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from open_clip import CLIP

from ..quoting import quoted
from .model import load, save


@torch.no_grad()
def soup(models: Sequence[CLIP]) -> CLIP:
    r"""Averages the weights of models that began with the same weights.

    .. math:: \bar\theta = \frac1M \sum_{m=1}^{M} \theta_m

    Such models lie in one basin of the loss, so that the mean of their weights is a model as well, and chance, which each of
    them has caught in a place of its own, is averaged away. The mean of models that began with different weights is noise.

    Args:
        models: one model or more, of the same architecture.

    Returns:
        The first model, with the mean of the weights in the place of its own.

    Raises:
        ValueError: if there is no model, or if the architectures differ.

    Source: Wortsman et al., Model soups, ICML 2022 (the uniform soup).

    >>> from captum_gradeclip import scenes
    >>> one, other = scenes.load()[0], scenes.load()[0]
    >>> other.logit_scale.data += 1
    >>> round(soup([one, other]).logit_scale.item() - scenes.load()[0].logit_scale.item(), 3)
    0.5
    """
    if not models:
        raise ValueError("models: expected one model or more, got none")
    states = [model.state_dict() for model in models]
    for number, state in enumerate(states):
        if {name: tensor.shape for name, tensor in state.items()} != {
            name: tensor.shape for name, tensor in states[0].items()
        }:
            raise ValueError(
                f"models: model {number} has weights of other names or shapes than model 0; average trainings of one recipe"
            )
    first = models[0]
    first.load_state_dict({name: torch.stack([state[name] for state in states]).mean(dim=0) for name in states[0]})
    return first


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line.

    Args:
        arguments: the arguments, or ``None`` (the default) for those of the process.
    """
    parser = argparse.ArgumentParser(description="average the weights of trainings that began with the same weights")
    parser.add_argument("weights", type=Path, nargs="+", help="files that the training script wrote")
    parser.add_argument("--out", type=Path, required=True, help="the file to write")
    options = parser.parse_args(arguments)
    save(soup([load(path)[0] for path in options.weights]), options.out)
    print(f"wrote the mean of {len(options.weights)} trainings to {quoted(options.out)}")


if __name__ == "__main__":
    main()
