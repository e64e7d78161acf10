"""The widget: what stands in its HTML, that nothing in it comes from a text, and that its numbers are those of the maps."""

from __future__ import annotations

import base64
import json
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from captum_gradeclip.maps import Frame, to_pixels
from captum_gradeclip.show import Caption, Scale, Style, View, document, palette, widget
from captum_gradeclip.show.widget import CELLS, REGION_CELLS, template

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&<!-- \x1b[2J \u202e"


class Parsed(HTMLParser):
    """The elements of a page with their attributes, and its text outside of styles and scripts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text, self.code = "", ""
        self.inside = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        self.inside = tag

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""

    def handle_data(self, data: str) -> None:
        if self.inside in ("style", "script"):
            self.code += data
        else:
            self.text += data

    def of(self, kind: str) -> list[dict[str, str]]:
        return [attributes for _, attributes in self.elements if kind in attributes.get("class", "").split()]


def safe(page: str) -> Parsed:
    """The parsed page, after it was seen that nothing in it is fetched, and no code runs but that of the package."""
    parsed = Parsed(page)
    for tag, attributes in parsed.elements:
        assert tag not in ("iframe", "object", "embed", "link", "base", "form", "svg"), tag
        assert not [name for name in attributes if name.startswith("on")], attributes
        assert attributes.get("src", "data:image/").startswith("data:image/"), attributes
    ours = {"style": ("widget.css", "document.css"), "script": ("widget.js",)}
    for kind, names in ours.items():
        found = page.split(f"<{kind}>")[1:]
        assert all(any(one.startswith(template(name)) for name in names) for one in found)
    assert "://" not in page and "@import" not in page and "url(" not in page
    assert "\x1b" not in page and "\u202e" not in page
    return parsed


@pytest.fixture
def image() -> Image.Image:
    return Image.effect_noise((60, 40), 60).convert("RGB")


def view(image: Image.Image, maps: Tensor, captions: list[Caption] | None = None, **more: object) -> View:
    told = captions or [Caption(f"text {t}") for t in range(len(maps))]
    return View("a.png", image, maps, Frame.whole(image.size), told, **more)  # type: ignore[arg-type]


def numbers(page: str) -> list[dict[str, object]]:
    return [json.loads(one["data-content"]) for one in Parsed(page).of("gc-view")]


def values(told: dict[str, object]) -> Tensor:
    low, high = told["ends"]  # type: ignore[misc]
    cells = np.frombuffer(base64.b64decode(str(told["cells"])), dtype="<u2").reshape(told["grid"])  # type: ignore[call-overload]
    share = np.where(cells == 65535, np.nan, cells.astype(float)) / 65534
    return torch.from_numpy(low + (high - low) * share)


def test_nothing_that_was_passed_becomes_markup(image: Image.Image) -> None:
    caption = Caption(HOSTILE, HOSTILE, [(HOSTILE, HOSTILE)], [(HOSTILE, 1.0), ("b", -0.5)], list(torch.rand(2, 2, 3)))
    piece = widget(
        [View(HOSTILE, image, torch.rand(1, 2, 3), Frame.whole(image.size), [caption], [HOSTILE])],
        heading=HOSTILE,
        unit=HOSTILE,
        region_unit=HOSTILE,
        notes=[HOSTILE],
        settings={HOSTILE: HOSTILE},
    )
    parsed = safe(document(HOSTILE, piece))
    tags = [tag for tag, _ in parsed.elements]
    assert tags.count("script") == 1 and tags.count("style") == 2 and tags.count("img") == 3
    assert parsed.text.count("<script>alert(1)</script>") == 13 and parsed.text.count("\\u202e") == 13
    assert {one["alt"] for tag, one in parsed.elements if tag == "img" and one["alt"].startswith("<")} == {
        "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&<!-- \\x1b[2J \\u202e"
    }
    assert json.loads(parsed.of("gc-view")[0]["data-content"])["maps"][0]["unit"].startswith(
        HOSTILE[:30]
    )  # which is shown as text


def test_a_page_fetches_nothing_and_says_so(image: Image.Image) -> None:
    parsed = safe(document("a page", widget([view(image, torch.rand(2, 3, 4))])))
    policy = next(one["content"] for tag, one in parsed.elements if tag == "meta" and "http-equiv" in one)
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert not [word for word in ("fetch(", "XMLHttpRequest", "import(", "innerHTML", "eval(") if word in parsed.code]
    assert {"viewport", "color-scheme"} <= {one.get("name") for tag, one in parsed.elements if tag == "meta"}


def test_what_is_chosen_and_clicked_are_buttons(image: Image.Image) -> None:
    regions = list(torch.randn(3, 2, 3))
    words = [("a", 0.0), ("red", 2.0), ("dog", -1.0)]
    parsed = Parsed(
        widget([view(image, torch.rand(2, 2, 3), [Caption("a red dog", words=words, regions=regions), Caption("b")])])
    )
    chips = [(tag, one) for tag, one in parsed.elements if "gc-word" in one.get("class", "").split()]
    assert [(tag, one["type"]) for tag, one in chips] == [("button", "button")] * 3
    assert [one["style"] for _, one in chips] == ["--weight:0.000", "--weight:1.000", "--weight:0.500"]
    assert [one["class"] for _, one in chips] == ["gc-word", "gc-word", "gc-word gc-minus"]
    assert len(parsed.of("gc-choose")) == 2 and parsed.of("gc-stage")[0]["role"] == "group"
    assert {one["type"] for tag, one in parsed.elements if tag == "input"} == {"range", "checkbox"}
    plain = Parsed(widget([view(image, torch.rand(1, 2, 3), [Caption("a red dog", words=words)])]))
    assert {tag for tag, one in plain.elements if "gc-word" in one.get("class", "").split()} == {"span"}
    assert "clicked" in parsed.text and "clicked" not in plain.text


def test_the_numbers_are_those_of_the_maps(image: Image.Image) -> None:
    maps, regions = torch.randn(2, 3, 4), torch.randn(2, 5, 4)
    regions[0, 0, 0] = torch.nan
    captions = [Caption("a", words=[("x", 1.0), ("y", 1.0)], regions=list(regions)), Caption("b")]
    (told,) = numbers(widget([view(image, maps, captions)], unit="nats"))
    assert told["box"] == [0, 0, 1, 1]
    for one, expected in zip(told["maps"], maps):  # type: ignore[call-overload]
        assert torch.allclose(values(one), expected.double(), atol=float(expected.max() - expected.min()) / 65000)
        assert one["unit"] == "nats" and one["flat"] is None
    for one, expected in zip(told["regions"][0], regions):  # type: ignore[index]
        assert torch.allclose(values(one), expected.double(), atol=1e-4, equal_nan=True) and one["unit"] == "cosine"
    assert told["regions"][1] == []  # type: ignore[index]
    fine = to_pixels(maps, Frame.whole(image.size))
    shared = Scale.of(fine)
    assert [one["shared"] for one in told["maps"]] == [[shared.low, shared.high, shared.signed]] * 2  # type: ignore[attr-defined]
    for one, pixels in zip(told["maps"], fine):  # type: ignore[call-overload]
        own = Scale.of([pixels])
        assert one["own"] == [own.low, own.high, own.signed]


def test_where_the_model_saw_a_part_of_the_picture(image: Image.Image) -> None:
    part = View("a.png", image, torch.rand(1, 2, 2), Frame.crop(image.size), [Caption("a")])
    piece = widget([part])
    assert numbers(piece)[0]["box"] == [10 / 60, 0, 50 / 60, 1] and "not seen by the model" in Parsed(piece).text
    assert "not seen by the model" not in Parsed(widget([view(image, torch.rand(1, 2, 2))])).text


def test_flat_maps_and_maps_of_nothing(image: Image.Image) -> None:
    maps = torch.stack([torch.full((2, 3), 0.25), torch.full((2, 3), torch.nan), torch.zeros(2, 3)])
    piece = widget([view(image, maps)])
    told = numbers(piece)[0]["maps"]
    assert [one["flat"] for one in told[::2]] == [pytest.approx(0.25), 0.0]  # type: ignore[index]
    assert "the map is 0.25 everywhere" in Parsed(piece).text and "hidden" in Parsed(piece).of("gc-key")[0]
    assert torch.equal(values(told[0]), maps[0].double()) and values(told[1]).isnan().all()  # type: ignore[index]


def test_fine_maps_are_averaged(image: Image.Image) -> None:
    maps, region = torch.rand(1, 224, 30), torch.rand(40, 50)
    (told,) = numbers(widget([view(image, maps, [Caption("a", words=[("a", 1.0)], regions=[region])])]))
    small, smaller = values(told["maps"][0]), values(told["regions"][0][0])  # type: ignore[index]
    assert small.shape == (CELLS, 30) and smaller.shape == (REGION_CELLS, REGION_CELLS)
    assert torch.allclose(small, F.adaptive_avg_pool2d(maps, (CELLS, 30))[0].double(), atol=1e-4)


def test_colors_are_those_of_the_figures(image: Image.Image) -> None:
    (root,) = Parsed(widget([view(image, torch.rand(1, 2, 3))], style=Style("viridis", "each"))).of("gradeclip")
    look = json.loads(root["data-look"])
    for name, signed in (("sequential", False), ("diverging", True)):
        table = np.frombuffer(base64.b64decode(look[name]), dtype=np.uint8).reshape(-1, 4)
        colors, opacity = palette("viridis", signed)
        assert np.abs(table[:, :3] - colors).max() <= 0.5 and np.abs(table[:, 3] / 255 - opacity).max() < 0.003
    assert look["each"] is True


def test_very_long_texts_are_cut(image: Image.Image) -> None:
    piece = widget([view(image, torch.rand(1, 2, 3), [Caption("ab" * 50_000, words=[("x" * 10_000, 1.0)])])])
    assert piece.count("ab" * 500 + "\u2026") == 1 and len(piece) < 60_000


def test_pieces_beside_each_other_share_no_names(image: Image.Image) -> None:
    piece = widget([view(image, torch.rand(1, 2, 3))] * 2)
    names = [one for _, attributes in Parsed(piece * 2).elements for one in ("id", "name", "for") if one in attributes]
    assert not names, "two pieces on one page could mix"
