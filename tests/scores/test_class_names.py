"""A class is meant by its index, its name, or the id that WordNet gives it."""

from __future__ import annotations

import re

import pytest
import torch

from captum_gradeclip import ClassScore, ImageTextScore, explain, scenes
from captum_gradeclip.adapters.wordnet import wordnet_ids
from captum_gradeclip.attr import compare
from captum_gradeclip.scores import find_class

from ..conftest import images

timm = pytest.importorskip("timm")


@pytest.fixture(scope="module")
def vit() -> torch.nn.Module:
    torch.manual_seed(0)
    model = timm.create_model("vit_tiny_patch16_224", depth=1, embed_dim=12, num_heads=2, img_size=32)
    assert isinstance(model, torch.nn.Module)
    return model.eval()


@pytest.mark.parametrize("meant", [172, "172", "whippet", "Whippet", "n02091134", "N02091134"])
def test_the_same_class_by_index_name_and_wordnet_id(meant: int | str, vit: torch.nn.Module) -> None:
    assert ClassScore(vit).find(meant) == 172


def test_the_ids_are_those_of_torchvisions_names_as_well() -> None:
    weights = pytest.importorskip("torchvision.models").ViT_B_16_Weights.IMAGENET1K_V1
    ids = wordnet_ids(weights.meta["categories"])
    assert ids is not None and ids[172] == "n02091134" and len(set(ids)) == 1000
    assert wordnet_ids([f"thing {n}" for n in range(1000)]) is None
    assert wordnet_ids(weights.meta["categories"][::-1]) is None  # in another order they would mean other classes


def test_the_larger_sets_of_imagenet_have_names() -> None:
    model = timm.create_model("vit_tiny_patch16_224", depth=1, embed_dim=12, num_heads=2, num_classes=11821).eval()
    score = ClassScore(model)
    assert score.labels is not None and score.labels[score.find("n02091134")] == "whippet"


@pytest.mark.parametrize(
    ("meant", "labels", "error", "message"),
    [
        ("n00000001", None, ValueError, "none of the 1000 classes of this model has the WordNet id 'n00000001'"),
        ("n02091134", ["whippet"], ValueError, "'n02091134' is an id of WordNet, which only classes with the names of"),
        ("n0209113", ["whippet"], ValueError, "0 classes are called 'n0209113'"),
        ("a", ["cat", "bat"], ValueError, "2 classes are called 'a': 0: cat; 1: bat"),
        (True, ["whippet"], TypeError, "expected the index or the name of a class, got True"),
    ],
)
def test_what_is_no_class_is_told(
    meant: str, labels: list[str] | None, error: type[Exception], message: str, vit: torch.nn.Module
) -> None:
    known = ClassScore(vit).labels if labels is None else labels
    assert known is not None
    with pytest.raises(error, match=f"^targets: {re.escape(message)}"):
        find_class(meant, len(known), known)


def test_folders_that_are_called_by_their_ids_keep_their_names() -> None:
    assert find_class("n02091134", 2, ["n01440764", "n02091134"]) == 1


def test_compare_and_explain_read_names_alike(vit: torch.nn.Module) -> None:
    score, x = ClassScore(vit), images((32, 32))
    by_index, by_name = (compare(score, x, "GAME", one)[0].maps for one in ([172, 281], ["whippet", "n02123045"]))
    assert by_index is not None and by_name is not None and torch.equal(by_index, by_name)
    (single,) = compare(score, x, "GAME", "whippet")
    assert single.maps is not None and torch.allclose(single.maps, by_name[:, :1], atol=1e-7)
    found = explain(vit, x, method="GAME", targets=["n02091134", "tabby"], scores=False)
    assert found.targets == [172, 281] and isinstance(found.maps, torch.Tensor)
    assert torch.equal(found.maps, by_name.detach().float().cpu())
    with pytest.raises(ValueError, match="targets: 0 classes are called 'unicorn'"):
        compare(score, x, "GAME", ["unicorn"])
    model, _, tokenizer = scenes.load()
    with pytest.raises(ValueError, match="targets: expected indices, got 'a star'; only the classes of a ClassScore"):
        compare(ImageTextScore(model, ["a star"], tokenizer), torch.rand(1, 3, 64, 64), "GAME", ["a star"])
