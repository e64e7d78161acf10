"""Models inside wrappers, with adapters of weights, with other switches of their library, or made in inference mode."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from captum_gradeclip import GradECLIP, ImageTextScore, adapters
from captum_gradeclip.attention import Interception, model_heads
from captum_gradeclip.attr import RawAttention
from captum_gradeclip.check import self_check

from ..conftest import FAMILIES, captions, images, relative, stir

X = images((32, 32))


@pytest.fixture
def score(vit: nn.Module) -> ImageTextScore:
    return ImageTextScore(vit, captions())


@pytest.mark.filterwarnings("ignore:.*torch.compile")
def test_a_compiled_model_is_explained_as_it_was_written(vit: nn.Module, score: ImageTextScore) -> None:
    expected = GradECLIP(score, score.layers[-1]).attribute(X, target=0)
    compiled: Any = torch.compile(vit, backend="eager")
    with pytest.warns(UserWarning, match="explained as it was written, not compiled"):
        other = ImageTextScore(compiled, captions())
    assert relative(GradECLIP(other, other.layers[-1]).attribute(X, target=0), expected) < 1e-5
    model = copy.deepcopy(vit)
    model.visual = torch.compile(model.visual, backend="eager")
    part = ImageTextScore(model, captions())
    assert relative(GradECLIP(part, part.layers[-1]).attribute(X, target=0), expected) < 1e-5


class Counting:
    """A backend that runs graphs as they are, and counts how many it was given and how often they ran."""

    def __init__(self) -> None:
        self.graphs, self.runs = 0, 0

    def __call__(self, graph: Any, inputs: Any) -> Any:
        self.graphs += 1

        def run(*args: Any) -> Any:
            self.runs += 1
            return graph(*args)

        return run


def compile_tower(model: Any, backend: Any) -> None:
    model.visual.compile(backend=backend)


def compile_part(model: Any, backend: Any) -> None:
    model.visual.transformer = torch.compile(model.visual.transformer, backend=backend)


def compile_blocks(model: Any, backend: Any) -> None:
    for block in model.visual.transformer.resblocks:
        block.compile(backend=backend)


def wrap_blocks(model: Any, backend: Any) -> None:
    blocks = model.visual.transformer.resblocks
    for number, block in enumerate(blocks):
        blocks[number] = torch.compile(block, backend=backend)


@pytest.mark.parametrize("how", [compile_tower, compile_part, compile_blocks, wrap_blocks])
def test_a_compiled_tower_is_explained_without_a_graph_of_ours(how: Any, vit: nn.Module, score: ImageTextScore) -> None:
    expected = GradECLIP(score, score.layers[-1]).attribute(X, target=0)
    model, backend = copy.deepcopy(vit), Counting()
    how(model, backend)
    other = ImageTextScore(model, captions())
    with torch.no_grad():
        scores = other(X)
    graphs, runs = backend.graphs, backend.runs
    assert graphs > 0 and relative(scores, score(X)) < 1e-6
    for _ in range(2):
        assert relative(GradECLIP(other, other.layers[-1]).attribute(X, target=0), expected) < 1e-5
        assert (
            relative(RawAttention(other, other.layers[-1]).attribute(X), RawAttention(score, score.layers[-1]).attribute(X))
            < 1e-5
        )
    assert backend.graphs == graphs  # nothing was compiled anew
    blocks = len(other.layers)
    assert backend.runs - runs == (4 * (blocks - 1) if how in (compile_blocks, wrap_blocks) else 0)
    with torch.no_grad():
        assert relative(other(X), scores) < 1e-6
    assert backend.graphs == graphs and backend.runs > runs  # the tower is compiled as it was


def test_a_compiled_model_is_compiled_again_after_an_error(vit: nn.Module) -> None:
    model = copy.deepcopy(vit)
    compile_tower(model, "eager")
    compiled = model.visual._compiled_call_impl
    score = ImageTextScore(model, captions())
    method = GradECLIP(lambda x: score(x) / 0, score.layers[-1])
    with pytest.raises(ValueError, match="NaN or infinite"):
        method.attribute(X, target=0)
    assert compiled is not None and model.visual._compiled_call_impl is compiled


def test_a_model_dispatched_by_accelerate() -> None:
    accelerate = pytest.importorskip("accelerate")
    torch.manual_seed(0)
    clip = stir(FAMILIES["transformers CLIP"].build())
    score = ImageTextScore(clip, captions())
    expected = GradECLIP(score, score.layers[-1]).attribute(X, target=0)
    model = accelerate.cpu_offload(copy.deepcopy(clip), execution_device=torch.device("cpu"))
    assert next(model.parameters()).device.type == "meta"
    offloaded = ImageTextScore(model, captions())
    assert relative(GradECLIP(offloaded, offloaded.layers[-1]).attribute(X, target=0), expected) < 1e-5


class PeftModel(nn.Module):
    """What PEFT puts around a model, as far as it matters here."""

    def __init__(self, base_model: nn.Module) -> None:
        super().__init__()
        self.base_model = base_model

    def get_base_model(self) -> nn.Module:
        return self.base_model


class Lora(nn.Module):
    """A linear layer with an adapter beside it."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base = base
        self.down, self.up = nn.Linear(base.in_features, 2, bias=False), nn.Linear(2, base.out_features, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.base(x) + self.up(self.down(x))  # type: ignore[no-any-return]


@pytest.mark.parametrize("wrapper", [nn.DataParallel, PeftModel, lambda model: nn.DataParallel(PeftModel(model))])
def test_the_model_inside_a_wrapper_is_explained(wrapper: Any, vit: nn.Module, score: ImageTextScore) -> None:
    expected = GradECLIP(score, score.layers[-1]).attribute(X, target=0)
    other = ImageTextScore(wrapper(vit), captions())
    assert other.layers[-1] is score.layers[-1]
    assert relative(GradECLIP(other, other.layers[-1]).attribute(X, target=0), expected) < 1e-6


def test_a_projection_may_be_a_module_of_somebody_else() -> None:
    torch.manual_seed(0)
    plain: Any = stir(FAMILIES["transformers CLIP"].build())
    expected = ImageTextScore(plain, captions())(X)
    adapted = copy.deepcopy(plain)
    adapted.text_projection, adapted.visual_projection = Lora(plain.text_projection), Lora(plain.visual_projection)
    score = ImageTextScore(adapted.eval(), captions())
    assert not torch.allclose(score(X), expected)  # the adapters count
    assert GradECLIP(score, score.layers[-1:]).attribute(X, target=1).std() > 0
    torch.nn.init.zeros_(adapted.text_projection.up.weight)
    torch.nn.init.zeros_(adapted.visual_projection.up.weight)
    assert relative(ImageTextScore(adapted, captions())(X), expected) < 1e-6


# The other families of transformers 5 do not run themselves on this switch.
@pytest.mark.parametrize("name", ["CLIP", "SigLIP", "SigLIP 2", "AltCLIP", "BLIP"])
def test_models_that_return_tuples_score_the_same(name: str) -> None:
    torch.manual_seed(0)
    model: Any = stir(FAMILIES[f"transformers {name}"].build())
    with torch.no_grad():
        expected = ImageTextScore(model, captions())(X)
        model.config.return_dict = False
        assert relative(ImageTextScore(model, captions())(X), expected) == 0


def test_a_model_of_inference_mode_is_refused_where_a_gradient_is_needed() -> None:
    with torch.inference_mode():
        torch.manual_seed(0)
        model = stir(FAMILIES["open_clip ViT"].build())
    score = ImageTextScore(model, captions())
    with pytest.raises(ValueError, match=r"model: some of its tensors were made inside torch.inference_mode\(\)"):
        GradECLIP(score, score.layers[-1]).attribute(X, target=0)
    assert RawAttention(score, score.layers[-1]).attribute(X).std() > 0
    copied = ImageTextScore(copy.deepcopy(model), captions())  # what the message advises
    assert GradECLIP(copied, copied.layers[-1]).attribute(X, target=0).std() > 0


def own_heads(score: ImageTextScore) -> float:
    """How far a model is from itself under interception."""
    encode = score.tower.encode
    with torch.no_grad():
        expected = encode(X)
        with Interception(score.layers, model_heads):
            return relative(encode(X), expected)


def clip() -> Any:
    torch.manual_seed(0)
    return stir(FAMILIES["transformers CLIP"].build())


def test_lora_of_peft_is_explained_with_its_adapters() -> None:
    peft = pytest.importorskip("peft")
    plain = clip()
    expected = GradECLIP(score := ImageTextScore(plain, captions()), score.layers[-1]).attribute(X, target=0)
    config = peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=True)
    wrapped = peft.get_peft_model(copy.deepcopy(plain), config).eval()
    score = ImageTextScore(wrapped, captions())
    method = GradECLIP(score, score.layers[-1])
    assert relative(method.attribute(X, target=0), expected) < 1e-5  # LoRA begins with nothing
    with torch.no_grad():
        for name, parameter in wrapped.named_parameters():
            if "lora_B" in name:
                parameter += torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    assert own_heads(score) < 1e-5 and relative(method.attribute(X, target=0), expected) > 1e-2
    assert [check.passed for check in self_check(wrapped)] == [True, True]


QUANTIZED = {
    "torchao, 8 bits": ("torchao", "int8"),
    "torchao, 4 bits": ("torchao", "int4"),
    "quanto, 8 bits": ("optimum.quanto", "qint8"),
    "quanto, 4 bits": ("optimum.quanto", "qint4"),
    "bitsandbytes, 8 bits": ("bitsandbytes", "Linear8bitLt"),
    "bitsandbytes, 4 bits": ("bitsandbytes", "Linear4bit"),
}


def quantize(library: Any, model: nn.Module, bits: str) -> nn.Module:
    """The linear layers of a model in few bits, as the documentation of each library has it."""
    if library.__name__ == "torchao":
        from torchao.quantization import Int8WeightOnlyConfig, IntxWeightOnlyConfig, quantize_

        quantize_(model, Int8WeightOnlyConfig() if bits == "int8" else IntxWeightOnlyConfig(weight_dtype=torch.int4))
    elif library.__name__ == "optimum.quanto":
        library.quantize(model, weights=getattr(library, bits))
        library.freeze(model)
    else:
        for parent in list(model.modules()):
            for name, child in parent.named_children():
                if type(child) is nn.Linear:
                    small = getattr(library.nn, bits)(child.in_features, child.out_features, child.bias is not None)
                    small.load_state_dict(child.state_dict())
                    setattr(parent, name, small.to("cpu"))
    return model


@pytest.mark.parametrize("name", QUANTIZED)
def test_weights_of_few_bits_are_explained_as_they_are(name: str) -> None:
    module, bits = QUANTIZED[name]
    library = pytest.importorskip(module)
    plain = ImageTextScore(clip(), captions())
    expected = GradECLIP(plain, plain.layers[-1]).attribute(X, target=0, relu_attributions=False)
    score = ImageTextScore(quantize(library, clip(), bits), captions())
    assert own_heads(score) < 1e-5
    got = GradECLIP(score, score.layers[-1]).attribute(X, target=0, relu_attributions=False)
    assert got.std() > 0 and relative(got, expected) > 1e-6  # other weights, so other maps, which resemble the others
    least = 0.3 if "4" in bits else 0.9
    assert torch.corrcoef(torch.stack([got.flatten(), expected.flatten()]))[0, 1] > least


def test_a_model_that_fsdp_has_taken_apart() -> None:
    fsdp = pytest.importorskip("torch.distributed.fsdp")
    if not hasattr(fsdp, "fully_shard"):
        pytest.skip("this torch has no fully_shard")
    import torch.distributed as dist

    plain = ImageTextScore(clip(), captions())
    expected = GradECLIP(plain, plain.layers[-1]).attribute(X, target=0)
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        model = clip()
        mesh = dist.device_mesh.init_device_mesh("cpu", (1,))
        for block in (*model.vision_model.encoder.layers, *model.text_model.encoder.layers):
            fsdp.fully_shard(block, mesh=mesh)
        score = ImageTextScore(model, captions())
        assert own_heads(score) < 1e-5
        assert relative(GradECLIP(score, score.layers[-1]).attribute(X, target=0), expected) < 1e-5
    finally:
        dist.destroy_process_group()


class Remote(nn.Module):
    """A model of remote code: no parent that anybody knows."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features: Any = self.inner.get_image_features(images)  # type: ignore[operator]
        return getattr(features, "pooler_output", features)  # type: ignore[no-any-return]  # a tensor before version 5


def test_models_of_remote_code_by_parent_and_by_callable() -> None:
    plain = clip()
    score = ImageTextScore(plain, captions())
    expected = GradECLIP(score, score.layers[-1]).attribute(X, target=0)
    parent = type(plain)
    derived = copy.deepcopy(plain)
    derived.__class__ = type("FineGrainedCLIP", (parent,), {"__module__": "transformers_modules.somebody.modeling"})
    other = ImageTextScore(derived, captions())
    assert relative(GradECLIP(other, other.layers[-1]).attribute(X, target=0), expected) < 1e-6
    remote = Remote(plain)
    with pytest.raises(adapters.UnsupportedModelError, match="any other model can be explained through a callable"):
        ImageTextScore(remote, captions())

    def call(images: torch.Tensor) -> torch.Tensor:
        return nn.functional.normalize(remote(images), dim=-1) @ score.text_features.T

    assert relative(GradECLIP(call, score.layers[-1]).attribute(X, target=0), expected) < 1e-5
