from collections.abc import Callable

from torch import Tensor

_Target = int | tuple[int, ...] | Tensor | list[int] | list[tuple[int, ...]] | None

def infidelity(
    forward_func: Callable[..., Tensor],
    perturb_func: Callable[..., tuple[Tensor, Tensor]],
    inputs: Tensor,
    attributions: Tensor,
    baselines: Tensor | float | None = None,
    additional_forward_args: object = None,
    target: _Target = None,
    n_perturb_samples: int = 10,
    max_examples_per_batch: int | None = None,
    normalize: bool = False,
) -> Tensor: ...
def sensitivity_max(
    explanation_func: Callable[..., Tensor | tuple[Tensor, ...]],
    inputs: Tensor,
    perturb_func: Callable[..., Tensor | tuple[Tensor, ...]] = ...,
    perturb_radius: float = 0.02,
    n_perturb_samples: int = 10,
    norm_ord: str = "fro",
    max_examples_per_batch: int | None = None,
    **kwargs: object,
) -> Tensor: ...
