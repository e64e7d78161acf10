"""The road from the shell: what is written, and what is said to somebody who made a mistake."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from captum_gradeclip import (
    METHODS,
    GradECLIP,
    ImageTextScore,
    TextImageScore,
    adapters,
    attention,
    check,
    cli,
    maps,
    scenes,
)
from captum_gradeclip.adapters import loading
from captum_gradeclip.cli.common import in_flags, say
from captum_gradeclip.cli.main import build_parser, commands

from .conftest import stir


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pictures") / "scene.png"
    scenes.draw(scenes.sample_scene(0, 5, "evaluation", counts=(3,)), 200)[0].resize((240, 160)).save(path)
    return path


def test_explain_writes_everything_and_the_numbers_are_the_apis(picture: Path, tmp_path: Path, capsys) -> None:
    texts = ["a red circle", "something <green> [/] [red]"]
    assert cli.main(["explain", str(picture), *texts, "--out", str(tmp_path)]) == 0
    assert str(tmp_path) in capsys.readouterr().out.replace("\n", "")
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {
        "overlay-0-a-red-circle.png",
        "overlay-1-something-green-red.png",
        "strip.png",
        "words.png",
        "words.html",
        "maps.npz",
        "explanation.json",
    }
    assert Image.open(tmp_path / "overlay-0-a-red-circle.png").size == (240, 160)
    assert "&lt;" in (tmp_path / "words.html").read_text()

    model, preprocess, tokenizer = scenes.load()
    x = preprocess(Image.open(picture))[None]
    score = ImageTextScore(model, texts, tokenizer)
    stored = np.load(tmp_path / "maps.npz")
    expected = GradECLIP(score, score.layers[-1:]).attribute_targets(x)[0]
    assert np.allclose(stored["image"], expected.numpy(), atol=1e-6) and stored["image"].std() > 0
    tokens = tokenizer(texts)
    text = TextImageScore(model, x)
    weights = GradECLIP(text, text.layers[-8:]).attribute(tokens, target=0)
    assert np.allclose(stored["text"], weights.numpy(), atol=1e-6)

    told = json.loads((tmp_path / "explanation.json").read_text())
    for n, entry in enumerate(told["texts"]):
        with torch.no_grad():
            assert abs(entry["score"] - float(score(x)[0, n])) < 1e-6
        assert entry["explained_score"] != entry["score"]
        total = sum(word["weight"] for word in entry["words"])
        assert abs(total - 1) < 1e-5 or total == 0
        assert [w["word"] for w in entry["words"]] == [w for w, _ in maps.merge_words(weights, tokens, tokenizer)[n]]
    assert told["options"]["resize"] == "model" and told["options"]["layers"] == 1
    assert set(told["versions"]) >= {"torch", "captum", "captum_gradeclip"}


def test_with_the_models_heads_the_explained_score_is_its_own(picture: Path, tmp_path: Path) -> None:
    assert cli.main(["explain", str(picture), "a star", "--heads", "model", "--layers", "2", "--out", str(tmp_path)]) == 0
    (entry,) = json.loads((tmp_path / "explanation.json").read_text())["texts"]
    assert abs(entry["explained_score"] - entry["score"]) < 1e-5


@pytest.mark.parametrize(
    "options",
    [
        ["--resize", "keep", "--scale", "0.4"],
        ["--resize", "crop"],
        ["--spatial-weight", "none"],
        ["--text-layers", "1"],
    ],
)
def test_options(picture: Path, tmp_path: Path, options: list[str]) -> None:
    assert cli.main(["explain", str(picture), "a star", *options, "--out", str(tmp_path)]) == 0
    assert Image.open(next(tmp_path.glob("overlay-*.png"))).size == (240, 160)


def test_demo(tmp_path: Path) -> None:
    assert cli.main(["demo", "--out", str(tmp_path)]) == 0
    told = [json.loads(path.read_text()) for path in sorted(tmp_path.glob("scene-*/explanation.json"))]
    assert len(told) == 3 and all(len(one["texts"]) >= 3 for one in told)
    assert len(list(tmp_path.glob("scene-*/strip.png"))) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.png", "a"], "image: there is no file 'missing.png'"),
        (["PICTURE", ""], "expected words"),
        (["PICTURE", "red " * 30], "32 tokens with its marks, but the model reads 24"),
        (["PICTURE", "a", "--model", "ViT-B-61"], "--model: .* did you mean ViT-B-16"),
        (
            ["PICTURE", "a", "--model", "ViT-B-32", "--pretrained", "nonsense"],
            "neither a file nor a tag of ViT-B-32; its tags: .*openai",
        ),
        (["PICTURE", "a", "--pretrained", "PICTURE"], "--pretrained: .* does not fit the scenes model"),
        (["PICTURE", "a", "--layers", "9"], "--layers: expected 1 to"),
        (["PICTURE", "a", "--text-layers", "0"], "--text-layers: expected 1 to 8"),
        (
            ["PICTURE", "a", "--resize", "keep", "--max-tokens", "10"],
            r"more than --max-tokens 10; .*--scale 0\.\d+ fits",
        ),
        (["PICTURE", "a", "--resize", "keep", "--scale", "0.01"], "smaller than a patch"),
        (
            ["PICTURE", "a", "--resize", "crop", "--scale", "0.5"],
            "--scale: --resize crop brings pictures to",
        ),
        (["PICTURE", "a", "b.png"], "--text: 'b.png' is taken for a picture; with several pictures, .* by --text"),
        (["PICTURE", "a", "PICTURE"], "--text: '.*scene.png' is taken for a picture"),
        (["PICTURE", "PICTURE"], "--text: CLIP compares images with texts; give at least one text"),
        (["PICTURE", "--texts", "nowhere.txt"], "--texts: there is no file 'nowhere.txt'"),
        (["PICTURE", "--texts", "PICTURE"], "--texts: '.*scene.png' is not text in UTF-8"),
        (["PICTURE", "b.png", "--text", "a"], "image: there is no file 'b.png'"),
        (["PICTURE", "a", "--resume"], "--resume: it is for several pictures"),
        (["PICTURE", "a", "--out", "PICTURE"], "--out: cannot write into"),
        (["PICTURE"], "--text: CLIP compares images with texts; give at least one text"),
        (["PICTURE", "a", "--target", "3"], "--target: CLIP is no classifier"),
        (["PICTURE", "a", "--model", "timm:vit_tiny_patch15_224"], "did you mean vit_tiny_patch16_224"),
        (["PICTURE", "a", "--model", "timm:resnet18"], "convolutional or hierarchical.*LayerGradCam"),
        (["PICTURE", "a", "--scale", "inf"], "--scale: expected a positive factor"),
        (["PICTURE", "a", "--device", "nowhere"], "--device: torch cannot use 'nowhere'"),
    ],
)
def test_mistakes_are_explained(
    picture: Path, capsys, monkeypatch, tmp_path: Path, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    given = [str(picture) if argument == "PICTURE" else argument for argument in arguments]
    assert cli.main(["explain", *given]) == 2
    assert re.search(message, capsys.readouterr().err)


def test_weights_that_do_not_fit_an_open_clip_model(picture: Path, capsys, tmp_path: Path) -> None:
    torch.save({"visual.proj": torch.zeros(3, 3)}, tmp_path / "weights.pt")
    code = cli.main(["explain", str(picture), "a", "--model", "RN50", "--pretrained", str(tmp_path / "weights.pt")])
    assert code == 2 and "could not be loaded" in capsys.readouterr().err


def test_convolutional_models_are_refused_with_the_reason(picture: Path, capsys) -> None:
    assert cli.main(["explain", str(picture), "a", "--model", "convnext_base"]) == 2
    assert "LayerGradCam" in capsys.readouterr().err


def test_models_and_check(tmp_path: Path, capsys) -> None:
    assert cli.main(["models", "--out", str(tmp_path)]) == 0
    families = json.loads((tmp_path / "models.json").read_text())["families"]
    assert [family["name"] for family in families] == list(adapters.families())
    assert all(family["checked"] == "yes" and max(family["errors"]) < 1e-4 for family in families)
    assert "transformers BLIP retrieval" in capsys.readouterr().out

    assert cli.main(["check", "scenes", "--out", str(tmp_path)]) == 0
    checks = json.loads((tmp_path / "check.json").read_text())["checks"]
    assert [(one["tower"], one["layers"], one["map"]) for one in checks] == [
        ("image", 2, [1, 1, 12, 12]),
        ("text", 8, [1, 24]),
    ]


def test_a_model_that_does_not_reproduce_itself_is_told(monkeypatch, tmp_path: Path, capsys) -> None:
    def broken(record: attention.Record) -> torch.Tensor:
        return 1.1 * attention.model_heads(record)

    monkeypatch.setattr(check, "model_heads", broken)
    assert cli.main(["check", "scenes", "--out", str(tmp_path)]) == 2
    assert "does not reproduce itself" in capsys.readouterr().err
    assert not json.loads((tmp_path / "check.json").read_text())["checks"][0]["passed"]


def test_of_several_models_those_that_can_be_are_checked(monkeypatch, tmp_path: Path, capsys) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    names = ["scenes", "timm:resnet18", "nothing-of-this-name", "timm:vit_tiny_patch16_224"]
    assert cli.main(["check", *names, "--out", str(tmp_path)]) == 1
    printed, told = capsys.readouterr()
    assert printed.count(" yes") == 3 and "14 x 14" in printed and max(map(len, printed.splitlines())) <= 80
    lines = [one for one in told.splitlines() if one.startswith("failed: ")]
    assert len(lines) == 2 and lines[0].startswith("failed: 'timm:resnet18': ") and "nothing-of-this-name" in lines[1]
    result = json.loads((tmp_path / "check.json").read_text())
    assert list(result["failed"]) == names[1:3] and len(result["checks"]) == 3
    assert cli.main(["check", "timm:resnet18", "--out", str(tmp_path)]) == 2
    assert len(json.loads((tmp_path / "check.json").read_text())["checks"]) == 3  # what was there stays


def test_an_interrupt_keeps_the_models_that_were_checked(monkeypatch, tmp_path: Path, capsys) -> None:
    original = check.self_check

    def interrupted(model: torch.nn.Module) -> object:
        if not isinstance(model, type(scenes.load()[0])):
            raise KeyboardInterrupt
        return original(model)

    monkeypatch.setattr(check, "self_check", interrupted)
    names = ["scenes", "timm:vit_tiny_patch16_224", "RN50"]
    assert cli.main(["check", *names, "--out", str(tmp_path)]) == 130
    printed, told = capsys.readouterr()
    assert printed.count(" yes") == 2
    assert (
        told.splitlines()[-1] == f"gradeclip: interrupted; 1 of 3 models were checked; what was found out is in '{tmp_path}'"
    )
    result = json.loads((tmp_path / "check.json").read_text())
    assert result["missing"] == names[1:] and len(result["checks"]) == 2
    assert cli.main(["check", names[1], "--out", str(tmp_path)]) == 130
    assert capsys.readouterr().err.splitlines()[-1] == "gradeclip: interrupted"
    assert json.loads((tmp_path / "check.json").read_text()) == result


@pytest.mark.parametrize("name", ["ViT-B-61", "vit-b-16", "timm:vit_tiny_patch15_224", "nothing like it"])
def test_a_question_has_one_mark_and_nothing_behind_it(name: str, picture: Path, tmp_path: Path, capsys) -> None:
    assert cli.main(["explain", str(picture), "a", "--model", name, "--out", str(tmp_path)]) == 2
    told = capsys.readouterr().err
    assert told.count("?") == told.count("did you mean") == (name != "nothing like it")
    assert not re.search(r"[?.;,:][?.;,:]", told.replace("...", ""))
    assert name != "vit-b-16" or "did you mean ViT-B-16," in told


def test_long_lines_are_cut(capsys) -> None:
    say("a line of " + "many " * 1000 + "words\nand another one")
    (told,) = capsys.readouterr().err.splitlines()
    assert told.startswith("a line of many") and told.endswith("another one (5,031 letters)") and len(told) < 1600


def test_a_classifier_of_timm(picture: Path, tmp_path: Path, capsys) -> None:
    command = ["explain", str(picture), "--model", "timm:vit_tiny_patch16_224", "--out", str(tmp_path), "--overwrite"]
    assert cli.main([*command, "--target", "207", "--target", "whippet"]) == 0
    told = json.loads((tmp_path / "explanation.json").read_text())
    assert [entry["class"] for entry in told["texts"]] == [207, 172]
    assert told["texts"][0]["text"].startswith("golden retriever") and told["input"]["grid"] == [14, 14]
    assert np.load(tmp_path / "maps.npz")["image"].shape == (2, 14, 14)
    assert not list(tmp_path.glob("words*"))
    assert cli.main(command) == 0  # the three most likely
    assert len(json.loads((tmp_path / "explanation.json").read_text())["texts"]) == 3
    for more, message in (
        (["--target", "hound"], "--target: 14 classes are called 'hound': 160: Afghan hound"),
        (["--target", "1000"], "expected a class from 0 to 999, got 1000"),
        (["--target", "unicorn"], "0 classes are called 'unicorn'"),
    ):
        assert cli.main([*command, *more]) == 2
        assert message in capsys.readouterr().err.replace("\n", " ")
    assert cli.main([*command[:2], "a dog", *command[2:]]) == 2
    assert "--text: VisionTransformer is a classifier without a text encoder" in capsys.readouterr().err


def folder_of_transformers(folder: Path, **settings: object) -> Path:
    """A tiny CLIP with its tokenizer and its image processor, which has these settings."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import CLIPImageProcessor, CLIPProcessor, PreTrainedTokenizerFast

    torch.manual_seed(0)
    stir(adapters.families()["transformers CLIP"].build()).save_pretrained(folder)  # type: ignore[operator]
    names = ("[PAD]", "[UNK]", "a", "red", "circle", "blue", "square")
    words = {word: n for n, word in enumerate(names)} | {"<s>": 48, "</s>": 49}
    inner = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 48), ("</s>", 49)])
    marks = {"pad_token": "[PAD]", "unk_token": "[UNK]", "bos_token": "<s>", "eos_token": "</s>"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, model_input_names=["input_ids", "attention_mask"], **marks)
    CLIPProcessor(CLIPImageProcessor(**settings), tokenizer).save_pretrained(folder)
    return folder


def test_a_folder_of_transformers(picture: Path, tmp_path: Path, capsys) -> None:
    folder = folder_of_transformers(tmp_path / "model", image_mean=[0.1, 0.2, 0.3], image_std=[0.4, 0.5, 0.6])
    name = f"hf:{folder}"
    loaded = loading.load(name)
    assert loaded.statistics == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert cli.main(["explain", str(picture), "a red circle", "a circle", "--model", name, "--out", str(tmp_path)]) == 0
    told = json.loads((tmp_path / "explanation.json").read_text())
    assert [word["word"] for word in told["texts"][0]["words"]] == ["a", "red", "circle"]
    assert told["input"]["grid"] == [28, 28]
    assert told["input"]["preprocessing"]["mean"] == [0.1, 0.2, 0.3] and told["input"]["box"] == [40, 0, 200, 160]
    assert cli.main(["check", name, "--out", str(tmp_path)]) == 0
    assert cli.main(["check", f"hf:{tmp_path}", "--out", str(tmp_path)]) == 2
    assert "transformers could not load" in capsys.readouterr().err


ARCHITECTURES = (
    *("ViT-B-16", "ViT-L-14", "RN50", "EVA02-B-16", "ViT-B-16-SigLIP"),
    *("hf:CLIPModel", "hf:BlipForImageTextRetrieval"),
    *("timm:vit_base_patch16_224", "timm:vit_small_patch14_reg4_dinov2"),
)


@pytest.mark.slow
def test_true_architectures(tmp_path: Path, capsys) -> None:
    assert cli.main(["check", *ARCHITECTURES, "--out", str(tmp_path)]) == 0
    print(capsys.readouterr().out)
    checks = json.loads((tmp_path / "check.json").read_text())["checks"]
    grids = {one["model"]: one["map"][-2:] for one in checks if one["tower"] == "image"}
    side = dict(zip(ARCHITECTURES, (14, 16, 7, 14, 14, 7, 24, 14, 37)))
    assert grids == {name: [n, n] for name, n in side.items()}
    assert len(checks) == 7 * 2 + 2 and max(one["error"] for one in checks) < 1e-5


@pytest.mark.slow
def test_a_photograph_at_its_own_size_within_four_gigabytes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (900, 1600, 3), dtype=np.uint8)).save(tmp_path / "photo.jpg")
    out = tmp_path / "out"
    # The process tells its own peak: what the system tells of children begins with the memory of their parent.
    code = (
        "import sys; from pathlib import Path; from captum_gradeclip.cli import main; code = main(sys.argv[1:]);"
        " print('peak', Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0]); sys.exit(code)"
    )
    command = [sys.executable, "-c", code, "explain", str(tmp_path / "photo.jpg"), "a dog in a car", "a cat"]
    options = ["--model", "ViT-B-16", "--resize", "keep", "--max-tokens", "5600", "--out", str(out)]
    told_by_process = subprocess.run([*command, *options], check=True, capture_output=True, text=True).stdout
    told = json.loads((out / "explanation.json").read_text())
    assert {name: told["input"][name] for name in ("height", "width", "grid")} == {
        "height": 896,
        "width": 1600,
        "grid": [56, 100],
    }
    assert told["input"]["preprocessing"]["resize"] == "keep"
    assert Image.open(next(out.glob("overlay-*.png"))).size == (1600, 900)
    gigabytes = int(told_by_process.split()[-1]) / 2**20
    assert gigabytes < 4, f"{gigabytes:.2f} GiB at the peak"


SAID = [
    ("explain", "layers: expected 1 to 2", "--layers: expected 1 to 2"),
    ("explain", "text_layers: expected 1 to 8", "--text-layers: expected 1 to 8"),
    ("explain", "targets: expected a class from 0 to 9", "--target: expected a class from 0 to 9"),
    ("explain", "texts: give at least one text", "--text: give at least one text"),
    ("explain", "path: there is no file 'a: b.png'", "image: there is no file 'a: b.png'"),
    ("explain", "heads: expected one of", "--heads: expected one of"),
    ("explain", "device: torch cannot use 'nowhere'", "--device: torch cannot use 'nowhere'"),
    ("explain", "pretrained: the weights do not fit", "--pretrained: the weights do not fit"),
    ("explain", "model: open_clip has no model", "--model: open_clip has no model"),
    ("explain", "out: cannot write", "--out: cannot write"),
    ("explain", "max_tokens: too many", "--max-tokens: too many"),
    ("demo", "layers: expected 1 to 2", "--layers: expected 1 to 2"),
    ("demo", "model: no such option here", "model: no such option here"),
    ("compare", "methods: there is no 'x'", "--methods: there is no 'x'"),
    ("compare", "option: expected METHOD.name=value", "--option: expected METHOD.name=value"),
    ("check", "model: timm has no model", "model: timm has no model"),
    ("check", "pretrained: does not fit", "--pretrained: does not fit"),
    ("benchmark faithfulness", "root: 'x' is not a folder", "--root: 'x' is not a folder"),
    ("benchmark faithfulness", "class_names: folders are no names", "--class-names: folders are no names"),
    ("benchmark faithfulness", "annotations: needed", "--annotations: needed"),
    ("benchmark words", "data: no sample has captions", "--data: no sample has captions"),
    ("benchmark words", "samples: expected at least 1", "--samples: expected at least 1"),
    ("benchmark words", "baseline: expected one of", "--baseline: expected one of"),
    ("evaluate words", "rise_masks: expected at least 1", "--rise-masks: expected at least 1"),
    ("benchmark time", "rounds: expected at least 1", "--rounds: expected at least 1"),
    ("explain", "a message without a parameter", "a message without a parameter"),
]


@pytest.mark.parametrize(("command", "said", "shown"), SAID)
def test_a_parameter_becomes_the_option_of_the_command(command: str, said: str, shown: str) -> None:
    words = command.split()
    needed = {"explain": ["a.png"], "compare": ["a.png", "a"], "check": ["scenes"]}.get(words[0], [])
    parsed = build_parser(words).parse_args([*words, *needed])
    assert in_flags(said, parsed.parser) == shown


def test_the_library_never_names_a_flag() -> None:
    root = Path(cli.__file__).parents[1]
    for file in root.rglob("*.py"):
        if "cli" not in file.relative_to(root).parts and file.name != "train.py":
            assert not re.search(r"""Error\(\s*f?["']--""", file.read_text()), file


def test_each_command_is_a_file() -> None:
    assert set(commands()) == {
        "app",
        "benchmark",
        "check",
        "compare",
        "demo",
        "evaluate",
        "explain",
        "models",
        "report",
        "study",
        "trust",
        "tune",
    }
    for name, command in commands().items():
        assert command.HELP and callable(command.add), name


@pytest.mark.parametrize("command", ["explain", "compare", "benchmark", "evaluate words", "benchmark faithfulness"])
def test_help_follows_from_the_registries(command: str, capsys) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main([*command.split(), "--help"])
    assert stopped.value.code == 0
    told = capsys.readouterr().out
    if command == "explain":
        assert "{single,model}" in told and "{loosened,softmax,none}" in told
    elif command == "benchmark":
        from captum_gradeclip.experiments import TASKS

        assert all(name in told for name in (*TASKS, "scenes", "time"))
    else:
        assert all(kind.__name__ in told for kind in METHODS)


def test_wrong_commands_are_told(capsys) -> None:
    for arguments in (["explane", "a.png"], [], ["benchmark"]):
        with pytest.raises(SystemExit) as stopped:
            cli.main(arguments)
        assert stopped.value.code == 2 and "usage: gradeclip" in capsys.readouterr().err
