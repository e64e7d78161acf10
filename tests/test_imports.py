"""What is loaded when: nothing that is not used."""

from __future__ import annotations

import subprocess
import sys

import pytest

import captum_gradeclip

MODELS = ("open_clip", "timm", "transformers", "torchvision", "safetensors")


def loaded_by(code: str) -> set[str]:
    """The modules that a fresh interpreter has loaded after some code."""
    told = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print('LOADED', *sys.modules)"],
        check=True,
        capture_output=True,
        text=True,
    )
    return set(told.stdout.split("LOADED ")[1].split())


def test_the_package_loads_nothing_beyond_torch_and_captum() -> None:
    everything = "from captum_gradeclip import GradECLIP, ImageTextScore, METHODS, adapters, attention, maps"
    ours, theirs = loaded_by(everything), loaded_by("import torch, captum.attr")
    new = {name.partition(".")[0] for name in ours - theirs} - sys.stdlib_module_names
    assert "captum_gradeclip" in new and not new & {*MODELS, "matplotlib", "scipy", "sklearn", "torchmetrics"}
    assert "torch" not in loaded_by("import captum_gradeclip, captum_gradeclip.cli")


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], []])
def test_help_loads_neither_torch_nor_a_library_of_models(arguments: list[str]) -> None:
    code = f"from captum_gradeclip.cli import main\ntry: main({arguments!r})\nexcept SystemExit: pass"
    assert not loaded_by(code) & {"torch", "captum", "numpy", "matplotlib", "PIL", *MODELS}


def test_a_function_is_not_hidden_by_its_file() -> None:
    code = (
        "import captum_gradeclip.report, captum_gradeclip\n"
        "from captum_gradeclip import explain\n"
        "assert callable(explain) and callable(captum_gradeclip.explain)\n"
        "from captum_gradeclip.explain import is_classifier\n"
        "assert captum_gradeclip.explain is explain"
    )
    assert "captum_gradeclip.explain" in loaded_by(code)


def test_public_names() -> None:
    for name in captum_gradeclip.__all__:
        assert getattr(captum_gradeclip, name) is not None
    assert set(captum_gradeclip.__all__) <= set(dir(captum_gradeclip))
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        captum_gradeclip.nothing  # noqa: B018
