from collections.abc import Callable, Mapping, Sequence

from torch import Tensor, nn

_Target = int | tuple[int, ...] | Tensor | list[int] | list[tuple[int, ...]] | None
_Baselines = Tensor | float | None

class Attribution:
    attribute: Callable[..., Tensor]
    get_name: Callable[[], str]  # a class method; some of ours name what an object holds
    def __init__(self, forward_func: Callable[..., Tensor]) -> None: ...
    @property
    def forward_func(self) -> Callable[..., Tensor]: ...
    @property
    def multiplies_by_inputs(self) -> bool: ...
    def has_convergence_delta(self) -> bool: ...

class GradientAttribution(Attribution): ...
class PerturbationAttribution(Attribution): ...

class LayerAttribution(Attribution):
    layer: nn.Module | Sequence[nn.Module]
    device_ids: list[int] | None
    def __init__(
        self,
        forward_func: Callable[..., Tensor],
        layer: nn.Module | Sequence[nn.Module],
        device_ids: list[int] | None = None,
    ) -> None: ...
    @staticmethod
    def interpolate(
        layer_attribution: Tensor, interpolate_dims: int | tuple[int, ...], interpolate_mode: str = "nearest"
    ) -> Tensor: ...

class IntegratedGradients(GradientAttribution):
    def __init__(self, forward_func: Callable[..., Tensor], multiply_by_inputs: bool = True) -> None: ...
    def attribute(
        self,
        inputs: Tensor,
        baselines: _Baselines = None,
        target: _Target = None,
        additional_forward_args: object = None,
        n_steps: int = 50,
        method: str = "gausslegendre",
        internal_batch_size: int | None = None,
    ) -> Tensor: ...

class LayerGradCam(LayerAttribution, GradientAttribution):
    def attribute(
        self,
        inputs: Tensor,
        target: _Target = None,
        additional_forward_args: object = None,
        attribute_to_layer_input: bool = False,
        relu_attributions: bool = False,
        attr_dim_summation: bool = True,
        grad_kwargs: Mapping[str, object] | None = None,
    ) -> Tensor: ...

class Occlusion(PerturbationAttribution):
    def attribute(
        self,
        inputs: Tensor,
        sliding_window_shapes: tuple[int, ...],
        strides: int | Sequence[int] | None = None,
        baselines: _Baselines = None,
        target: _Target = None,
        additional_forward_args: object = None,
        perturbations_per_eval: int = 1,
        show_progress: bool = False,
    ) -> Tensor: ...
