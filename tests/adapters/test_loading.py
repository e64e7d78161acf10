"""Loading runs nobody's code, and takes no model whose weights are partly random."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from captum_gradeclip import adapters, cli
from captum_gradeclip.adapters.hub import hub
from captum_gradeclip.adapters.loading import Loaded, LoadingError, find_device, load
from captum_gradeclip.adapters.wall import CodeRefusedError, wall, wish_for_code

TOWER = {"context_length": 16, "vocab_size": 100, "width": 32, "heads": 2, "layers": 1}
VISION = {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16}
SMALL = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
CODE = """
open({mark!r}, "w").close()
from transformers import AutoModel, CLIPImageProcessor, PretrainedConfig, PreTrainedModel, PreTrainedTokenizer
class Config(PretrainedConfig):
    model_type = "own"
class Model(PreTrainedModel):
    config_class = Config
class Tokenizer(PreTrainedTokenizer):
    vocab_size = 1
    def get_vocab(self):
        return {{}}
class Processor(CLIPImageProcessor):
    pass
"""


class Trap:
    """A folder with Python code that leaves a mark when it is run, and with pickles that do the same."""

    def __init__(self, place: Path) -> None:
        self.folder, self.mark = place / "model", place / "code-ran"
        self.folder.mkdir()
        (self.folder / "own.py").write_text(CODE.format(mark=str(self.mark)))

    def write(self, name: str, content: object) -> None:
        (self.folder / name).write_text(json.dumps(content))

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, str]]:
        return open, (str(self.mark), "w")

    def pickle(self, name: str, weights: dict[str, torch.Tensor]) -> None:
        torch.save({**weights, "more": self}, self.folder / name)

    def clip(self, weights: bool = True) -> nn.Module:
        from transformers import CLIPConfig, CLIPModel

        config = CLIPConfig(
            text_config={**SMALL, "vocab_size": 50, "max_position_embeddings": 12},
            vision_config={**SMALL, "image_size": 32, "patch_size": 16},
            projection_dim=16,
        )
        model = CLIPModel(config)
        model.save_pretrained(self.folder)
        if not weights:
            (self.folder / "model.safetensors").unlink()
        return model

    def open_clip(self, **text: object) -> nn.Module:
        import open_clip

        config = {"embed_dim": 16, "vision_cfg": VISION, "text_cfg": {**TOWER, **text}}
        self.write("open_clip_config.json", {"model_cfg": config, "preprocess_cfg": {}})
        model = open_clip.CLIP(embed_dim=16, vision_cfg=VISION, text_cfg=TOWER)
        save_file(model.state_dict(), self.folder / "open_clip_model.safetensors")
        return model


@pytest.fixture
def trap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trap:
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n" * 20))  # somebody pipes an answer in
    return Trap(tmp_path)


def _configuration(trap: Trap) -> str:
    trap.write("config.json", {"model_type": "own", "auto_map": {"AutoConfig": "own.Config", "AutoModel": "own.Model"}})
    return f"hf:{trap.folder}"


def _model_of_a_known_configuration(trap: Trap) -> str:
    trap.write(
        "config.json", {"model_type": "timesformer_x", "auto_map": {"AutoModel": "own.Model"}, "architectures": ["Own"]}
    )
    return f"hf:{trap.folder}"


def _inner_model(trap: Trap) -> str:
    inner = {"model_type": "blip_2_qformer", "_name_or_path": str(trap.folder)}
    inner["auto_map"] = {"AutoModelForCausalLM": "own.Model", "AutoModel": "own.Model"}
    trap.write("config.json", {"model_type": "blip-2", "architectures": ["Blip2Model"], "text_config": inner})
    return f"hf:{trap.folder}"


def _tokenizer(trap: Trap) -> str:
    trap.clip()
    trap.write("tokenizer_config.json", {"tokenizer_class": "T", "auto_map": {"AutoTokenizer": ["own.Tokenizer", None]}})
    config = json.loads((trap.folder / "config.json").read_text())
    trap.write("config.json", {**config, "model_type": "clip"})
    return f"hf:{trap.folder}"


def _old_tokenizer(trap: Trap) -> str:
    trap.clip()
    trap.write("tokenizer_config.json", {"tokenizer_class": "T", "auto_map": ["own.Tokenizer", None]})
    return f"hf:{trap.folder}"


def _image_processor(trap: Trap) -> str:
    trap.clip()
    trap.write(
        "preprocessor_config.json", {"image_processor_type": "P", "auto_map": {"AutoImageProcessor": "own.Processor"}}
    )
    return f"hf:{trap.folder}"


def _processor(trap: Trap) -> str:
    trap.clip()
    inner = {"image_processor_type": "P", "auto_map": {"AutoImageProcessor": "own.Processor"}}
    trap.write("processor_config.json", {"image_processor": inner, "auto_map": {"AutoProcessor": "own.Processor"}})
    return f"hf:{trap.folder}"


def _kernel(trap: Trap) -> str:
    trap.clip()
    config = json.loads((trap.folder / "config.json").read_text())
    trap.write("config.json", {**config, "attn_implementation": "somebody/kernel"})
    return f"hf:{trap.folder}"


def _trusting_open_clip(trap: Trap) -> str:
    trap.open_clip(hf_tokenizer_name="x", tokenizer_kwargs={"trust_remote_code": True})
    return _own_tokenizer(trap)


def _open_clip_tokenizer(trap: Trap) -> str:
    trap.open_clip(hf_tokenizer_name="x")
    return _own_tokenizer(trap)


def _own_tokenizer(trap: Trap) -> str:
    auto = {"AutoTokenizer": ["own.Tokenizer", None], "AutoConfig": "own.Config"}
    trap.write("config.json", {"model_type": "own", "auto_map": auto})
    trap.write("tokenizer_config.json", {"tokenizer_class": "T", "auto_map": auto})
    return f"local-dir:{trap.folder}"


def _open_clip_text_tower(trap: Trap) -> str:
    _configuration(trap)
    trap.open_clip(hf_model_name=str(trap.folder), hf_tokenizer_name="x")
    return f"local-dir:{trap.folder}"


def _open_clip_text_tower_of_a_known_configuration(trap: Trap) -> str:
    trap.write("config.json", {"model_type": "blip_2_qformer_x", "auto_map": {"AutoModel": "own.Model"}})
    trap.open_clip(hf_model_name=str(trap.folder))
    return f"local-dir:{trap.folder}"


ASKING = (
    _configuration,
    _image_processor,
    _kernel,
    _trusting_open_clip,
    _open_clip_tokenizer,
    _open_clip_text_tower,
)
"""Models that cannot be had, or not with all that belongs to them, without code of their own."""
NEITHER = (
    _model_of_a_known_configuration,
    _inner_model,
    _tokenizer,
    _old_tokenizer,
    _processor,
    _open_clip_text_tower_of_a_known_configuration,
)
"""Models that mention code: what they do without it depends on the version of the library, but never run it."""


@pytest.mark.parametrize("make", ASKING, ids=lambda make: make.__name__)
def test_code_of_a_model_is_refused_by_name(trap: Trap, make: Callable[[Trap], str]) -> None:
    name = make(trap)
    with pytest.raises(LoadingError) as error:
        load(name)
    assert not trap.mark.exists()
    said = str(error.value)
    assert said.startswith("trust_remote_code: ") and str(trap.folder)[-80:] in said and len(said.splitlines()) == 1


@pytest.mark.parametrize("make", NEITHER, ids=lambda make: make.__name__)
def test_code_that_is_mentioned_is_not_run(trap: Trap, make: Callable[[Trap], str]) -> None:
    with contextlib.suppress(LoadingError):
        load(make(trap))
    assert not trap.mark.exists()


@pytest.mark.parametrize("make", [_tokenizer, _image_processor, _open_clip_tokenizer], ids=lambda make: make.__name__)
def test_code_is_run_when_it_is_allowed(trap: Trap, make: Callable[[Trap], str]) -> None:
    name = make(trap)
    try:
        load(name, trust_remote_code=True)
    finally:
        assert trap.mark.exists()


def test_the_command_names_its_flag(trap: Trap, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = _trusting_open_clip(trap)
    assert cli.main(["check", name, "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert "--trust-remote-code: " in said and "Traceback" not in said and not trap.mark.exists()
    for command in (
        ["explain", "p.png"],
        ["compare", "p.png", "a"],
        ["check", "m"],
        ["benchmark", "time"],
        ["evaluate", "words"],
    ):
        from captum_gradeclip.cli.main import build_parser

        assert not build_parser(command).parse_args(command).trust_remote_code


@pytest.mark.parametrize("pickled", ["hf", "open_clip folder", "open_clip file", "timm", "scenes"])
@pytest.mark.parametrize("trusted", [False, True])
def test_pickles_are_refused(trap: Trap, monkeypatch: pytest.MonkeyPatch, pickled: str, trusted: bool) -> None:
    # Somebody has switched the protection of torch off for programs of their own.
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    name, file = pickled, None
    if pickled == "hf":
        trap.pickle("pytorch_model.bin", trap.clip(weights=False).state_dict())
        name = f"hf:{trap.folder}"
    elif pickled == "open_clip folder":
        trap.pickle("open_clip_pytorch_model.bin", trap.open_clip().state_dict())
        (trap.folder / "open_clip_model.safetensors").unlink()
        name = f"local-dir:{trap.folder}"
    else:
        trap.pickle("weights.pt", {})
        name = {"timm": "timm:vit_tiny_patch16_224", "scenes": "scenes"}.get(pickled, "RN50")
        file = str(trap.folder / "weights.pt")
    with pytest.raises(LoadingError):
        load(name, file, trust_remote_code=trusted)
    assert not trap.mark.exists()
    assert os.environ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"] == "1" and "TORCH_FORCE_WEIGHTS_ONLY_LOAD" not in os.environ


def test_the_wall_stands_for_its_thread_only_and_goes() -> None:
    from transformers import dynamic_module_utils as modules

    before = modules.get_class_in_module, modules.TIME_OUT_REMOTE_CODE
    met: list[type[BaseException]] = []

    def elsewhere() -> None:
        try:
            modules.get_class_in_module("Own", "nowhere.py")
        except Exception as error:
            met.append(type(error))

    def interrupted() -> None:
        with wall(trust_remote_code=False):
            with pytest.raises(CodeRefusedError):
                modules.get_class_in_module("Own", "nowhere.py")
            thread = threading.Thread(target=elsewhere)
            thread.start()
            thread.join()
            with wall(trust_remote_code=False):
                pass
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert met == [FileNotFoundError]
    assert (modules.get_class_in_module, modules.TIME_OUT_REMOTE_CODE) == before


def test_what_settings_ask_for() -> None:
    assert wish_for_code({"a": [{"b": {"trust_remote_code": 1}}]}) and not wish_for_code({"trust_remote_code": False})
    assert wish_for_code({"attn_implementation": {"text_config": "a/b:c"}}) and not wish_for_code(
        {"attn_implementation": "sdpa"}
    )


def _hf(trap: Trap, keep: Callable[[str], bool], change: Callable[[dict[str, Any]], object] = lambda weights: None) -> str:
    trap.clip()
    file = trap.folder / "model.safetensors"
    weights = {name: tensor for name, tensor in load_file(file).items() if keep(name)}
    change(weights)
    save_file(weights, file, metadata={"format": "pt"})
    return f"hf:{trap.folder}"


def _open_clip(trap: Trap, keep: Callable[[str], bool]) -> str:
    weights = trap.open_clip().state_dict()
    save_file({name: tensor for name, tensor in weights.items() if keep(name)}, trap.folder / "open_clip_model.safetensors")
    return f"local-dir:{trap.folder}"


def _shards(trap: Trap, omit: str) -> str:
    trap.clip().save_pretrained(trap.folder, max_shard_size="20KB")
    shards = sorted(trap.folder.glob("model-*.safetensors"))
    (trap.folder / "model.safetensors").unlink(missing_ok=True)
    assert len(shards) > 1
    if omit == "file":
        shards[-1].unlink()
    index = trap.folder / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    if omit == "entries":
        gone = shards[-1].name
        content["weight_map"] = {name: file for name, file in content["weight_map"].items() if file != gone}
        index.write_text(json.dumps(content))
    return f"hf:{trap.folder}"


def _no_weights(trap: Trap, library: str) -> str:
    if library == "hf":
        trap.clip(weights=False)
        return f"hf:{trap.folder}"
    trap.open_clip()
    (trap.folder / "open_clip_model.safetensors").unlink()
    return f"local-dir:{trap.folder}"


INCOMPLETE: dict[str, Callable[[Trap], str]] = {
    "hf without image tower": lambda trap: _hf(trap, lambda name: not name.startswith("vision")),
    "hf without text tower": lambda trap: _hf(trap, lambda name: not name.startswith("text")),
    "hf without one matrix": lambda trap: _hf(trap, lambda name: name != "visual_projection.weight"),
    "hf without the scale": lambda trap: _hf(trap, lambda name: name != "logit_scale"),
    "hf with another shape": lambda trap: _hf(
        trap, bool, lambda weights: weights.update({"text_projection.weight": torch.zeros(16, 8)})
    ),
    "hf without weights": lambda trap: _no_weights(trap, "hf"),
    "hf without a shard": lambda trap: _shards(trap, "file"),
    "hf without entries": lambda trap: _shards(trap, "entries"),
    "open_clip without image tower": lambda trap: _open_clip(trap, lambda name: not name.startswith("visual")),
    "open_clip without text tower": lambda trap: _open_clip(trap, lambda name: not name.startswith("transformer")),
    "open_clip without weights": lambda trap: _no_weights(trap, "open_clip"),
}


@pytest.mark.parametrize("kind", INCOMPLETE)
def test_weights_that_are_missing_are_refused(trap: Trap, kind: str) -> None:
    with pytest.raises(LoadingError, match="model: ") as error:
        load(INCOMPLETE[kind](trap))
    assert len(str(error.value).splitlines()) == 1 and str(trap.folder)[-60:] in str(error.value)


def test_weights_of_timm_that_are_missing_are_refused(trap: Trap) -> None:
    import timm

    weights = timm.create_model("test_vit").state_dict()
    complete, missing, extra = (str(trap.folder / f"{name}.safetensors") for name in ("complete", "missing", "extra"))
    save_file(weights, complete)
    save_file({name: tensor for name, tensor in weights.items() if not name.startswith("blocks.0.attn")}, missing)
    save_file({**weights, "more": torch.zeros(1)}, extra)
    assert type(load("timm:test_vit", complete).model).__name__ == "VisionTransformer"
    for file in (missing, extra):
        with pytest.raises(LoadingError, match="pretrained: the weights of 'timm:test_vit' could not be loaded"):
            load("timm:test_vit", file)


def test_weights_without_a_place_are_named(trap: Trap, caplog: pytest.LogCaptureFixture) -> None:
    name = _hf(trap, bool, lambda weights: weights.update({"more.weight": torch.zeros(3)}))
    with caplog.at_level(logging.WARNING, "captum_gradeclip"):
        load(name)
    assert "CLIPModel has no place for 1 weights" in caplog.text and "more.weight" in caplog.text


def test_complete_weights_are_taken_without_a_word_of_random_ones(
    trap: Trap, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    import timm

    names: list[tuple[str, str | None]] = [("scenes", None)]
    for number, family in enumerate(one for one in adapters.families().values() if one.name.startswith("transformers")):
        torch.manual_seed(0)
        model = family.build()
        if hasattr(model, "save_pretrained"):
            model.save_pretrained(tmp_path / str(number))
            names.append((f"hf:{tmp_path / str(number)}", None))
    trap.open_clip()
    names.append((f"local-dir:{trap.folder}", None))
    save_file(timm.create_model("test_vit").state_dict(), tmp_path / "timm.safetensors")
    names.append(("timm:test_vit", str(tmp_path / "timm.safetensors")))
    assert len(names) > 8
    capfd.readouterr()
    with caplog.at_level(logging.WARNING):
        for name, file in names:
            assert isinstance(load(name, file), Loaded)
    said = caplog.text + "".join(capfd.readouterr())
    assert not any(word in said.lower() for word in ("random", "newly initialized", "missing"))


@pytest.mark.parametrize("where", ["hf:FOLDER", "hf:CLIPModel", "local-dir:FOLDER", "hf-hub:a/b"])
def test_weights_beside_a_folder_are_not_ignored_without_a_word(trap: Trap, where: str) -> None:
    with pytest.raises(LoadingError, match="pretrained: .* has its own weights"):
        load(where.replace("FOLDER", str(trap.folder)), "some.pt")


def test_a_folder_comes_before_a_class_of_its_name(trap: Trap, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(trap.folder.parent)
    trap.clip()
    trap.folder.rename("CLIPModel")
    assert load("hf:CLIPModel").model.config.projection_dim == 16


NAMES = [
    *(
        "hf:models",
        "hf:utils",
        "hf:AutoModel",
        "hf:CLIPConfig",
        "hf:pipeline",
        "hf:",
        "hf:.",
        "hf:__name__",
        "hf:CLIPTokenizer",
    ),
    *(
        "hf:PreTrainedModel",
        "hf:CLIPPreTrainedModel",
        "hf:torch",
        "hf:logging",
        "hf:a\0b",
        "hf:Wav2Vec2CTCTokenizer",
        "hf:Trainer",
    ),
    *("timm:", "timm:models", "timm:hf-hub:a/b", "timm:local-dir:.", "timm:layers", "timm:vit_tiny_patch16_224.x"),
    *(
        "",
        ":",
        "models",
        "local-dir:",
        "local-dir:models",
        "local-dir:a\0b",
        "hf-hub:",
        "hf-hub:a/b",
        "hf-hub:a/b/c",
        "a\0b",
    ),
    *(f"{library}{'x' * 5000}" for library in ("", "hf:", "timm:", "local-dir:", "hf-hub:")),
]


@pytest.mark.parametrize("name", NAMES, ids=lambda name: repr(name)[:30])
def test_names_of_no_model(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("models", "utils", "layers"):
        (tmp_path / folder).mkdir()
    with pytest.raises(LoadingError) as error:
        load(name)
    assert len(str(error.value)) < 1000 and len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("device", ["meta", "nowhere", "cuda:99", "", "vulkan", "privateuseone", None, torch.device("meta")])
def test_devices_that_compute_nothing(device: Any) -> None:
    with pytest.raises(LoadingError, match="device: torch cannot use"):
        find_device(device)


@pytest.mark.parametrize("kind", ["pipe", "folder", "device", "missing"])
@pytest.mark.parametrize("name", ["scenes", "RN50", "timm:test_vit"])
def test_weights_that_are_no_file(tmp_path: Path, kind: str, name: str) -> None:
    file = {"device": Path("/dev/zero")}.get(kind, tmp_path / "weights.pt")
    if kind == "pipe":
        os.mkfifo(file)
    if kind == "folder":
        file.mkdir()
    with pytest.raises(LoadingError, match="pretrained: "):
        load(name, str(file))


def test_the_device_auto_is_one_that_computes() -> None:
    kinds = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    assert find_device("auto").type == next(kind for kind, there in kinds.items() if there)


GIVEN = [
    ("plain", "the folder of that name is given as model='hf:plain'"),
    ("own", "the folder of that name is given as model='local-dir:own'"),
    ("own/weights.pt", "a file of weights is given as pretrained='own/weights.pt', and model names its architecture"),
    ("openai/clip", "model='hf:openai/clip' if it is one of transformers, as model='hf-hub:openai/clip' of open_clip"),
    ("ViT-B-61", "did you mean ViT-B-16"),
]


@pytest.mark.parametrize(("given", "named"), GIVEN)
def test_what_is_no_name_of_open_clip_is_told_how_it_is_given(
    given: str, named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder, config in (("plain", "config.json"), ("own", "open_clip_config.json")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / config).write_text("{}")
    (tmp_path / "own" / "weights.pt").write_bytes(b"")
    with pytest.raises(LoadingError) as error:
        load(given)
    assert named in str(error.value)


def test_random_weights_are_told_once_and_own_ones_are_not_called_random(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    import open_clip

    monkeypatch.setattr(logging.getLogger("captum_gradeclip"), "propagate", True)
    name, folder = "ViT-S-32-alt", tmp_path / "own"
    model = load(name).model
    # A record may have come through two loggers, if an earlier test left a handler on ours.
    assert len({one for one in caplog.records if "random" in one.getMessage()}) == 1
    weights = {key: value.contiguous() for key, value in model.state_dict().items()}
    folder.mkdir()
    torch.save(weights, tmp_path / "own.pt")
    save_file(weights, folder / "open_clip_model.safetensors")
    config = {"model_cfg": open_clip.get_model_config(name), "preprocess_cfg": {}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    caplog.clear()
    for given in ((name, str(tmp_path / "own.pt")), (f"local-dir:{folder}",)):
        again = load(*given).model
        assert all(torch.equal(one, two) for one, two in zip(model.parameters(), again.parameters()))
    assert not [one for one in caplog.records if "random" in one.getMessage()]


class Session:
    """Stands for the network: it counts who asks, and answers or does not."""

    def __init__(self, answers: bool) -> None:
        self.answers, self.asked = answers, 0

    def head(self, *_: object, **__: object) -> None:
        self.asked += 1
        if not self.answers:
            raise OSError("Name or service not known")


@pytest.mark.parametrize("name", ["hf:nobody/nothing", "hf-hub:nobody/nothing", "timm:vit_tiny_patch16_224.augreg_in21k"])
def test_a_hub_out_of_reach_is_asked_once_and_told_in_a_line(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import huggingface_hub

    session = Session(answers=False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub, "get_session", lambda: session)
    with pytest.raises(LoadingError, match="it is not on this machine, and the hub cannot be reached"):
        load(name)
    assert session.asked == 1 and huggingface_hub.constants.HF_HUB_OFFLINE is False


def test_a_hub_that_answers_is_used_and_what_is_here_asks_for_none(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    session = Session(answers=True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub, "get_session", lambda: session)
    with hub() as reachable:
        assert reachable and not huggingface_hub.constants.HF_HUB_OFFLINE
    load("scenes"), load("timm:test_vit")
    assert session.asked == 1
