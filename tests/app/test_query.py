"""Queries: what is refused before any work, and links that bring everything back."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, strategies as st

from captum_gradeclip import METHODS, GradECLIP
from captum_gradeclip.app import Limits, Query
from captum_gradeclip.app.query import choices, lines_of
from captum_gradeclip.attr import find_method

LIMITS = Limits()
SOME = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=30).filter(str.strip)


@given(
    texts=st.lists(SOME, min_size=1, max_size=5, unique=True).map(tuple),
    scene=st.none() | st.integers(0, 10**6),
    methods=st.lists(st.sampled_from([one.__name__ for one in METHODS]), min_size=1, max_size=4, unique=True).map(tuple),
    layers=st.integers(0, 30),
    heads=st.sampled_from(choices("heads")),
    weight=st.sampled_from(choices("spatial_weight")),
    signed=st.booleans(),
    against=st.none() | st.just("") | SOME,
    head=st.sampled_from(["features", "match", "classes"]),
)
def test_a_link_brings_the_query_back(texts, scene, methods, layers, heads, weight, signed, against, head) -> None:
    query = Query(texts, scene, "own", methods, layers, heads, weight, signed, against, head)
    assert Query.from_link("?" + query.link()) == query


@given(st.text(max_size=200))
def test_no_link_is_too_broken_to_open(link: str) -> None:
    assert isinstance(Query.from_link(link), Query)


@pytest.mark.parametrize(
    "link", ["&".join(["texts=a"] * 5000), "scene=99999999999999999999", "scene=-1", "layers=²", "%ff=%ff"]
)
def test_hostile_links_have_defaults(link: str) -> None:
    found = Query.from_link(link)
    assert found.scene is None and found.layers == 0


@pytest.mark.parametrize(
    ("query", "said"),
    [
        (Query(), "texts: expected at least one text, got none; write what to look for"),
        (Query(("a",) * 9), "texts: expected at most 8 lines, got 9"),
        (Query(("a", "a")), "texts: expected each text once"),
        (Query(("x" * 10_000,)), "texts: expected at most 400 letters in a line, got 10,000"),
        (Query(("a",), against="x" * 401), "texts: expected at most 400 letters in a line, got 401"),
        (Query(("f\udcfcr",)), "is not text in UTF-8"),
        (Query(("a",), methods=()), "methods: expected 1 to 6 methods, got 0"),
        (Query(("a",), methods=("GradECLIP",) * 7), "methods: expected 1 to 6 methods, got 7"),
        (Query(("a",), methods=("os.system",)), "got 'os.system'"),
        (Query(("a",), heads="each"), "heads: expected one of single, model, got 'each'"),
        (Query(("a",), spatial_weight="loose"), "spatial_weight: expected one of loosened, softmax, none"),
        (Query(("a",), head="clip"), "head: expected one of features, match, classes"),  # type: ignore[arg-type]
        (Query(("a",), scene=10**6 + 1), "scene: expected a seed from 0 to 1,000,000"),
        (Query(("a",), layers=-1), "layers: expected 0"),
        (Query(("a",), against="b", head="match"), "against: a matching head judges each text by itself"),
    ],
)
def test_what_is_refused_before_any_work(query: Query, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        query.check(LIMITS)


def test_classes_need_no_texts() -> None:
    Query(head="classes").check(LIMITS)


def test_a_method_is_given_the_options_that_it_has() -> None:
    query = Query(("a",), layers=2, heads="model", spatial_weight="softmax", signed=True)
    assert query.options(GradECLIP) == {
        "layers": 2,
        "heads": "model",
        "spatial_weight": "softmax",
        "relu_attributions": False,
    }
    for kind in METHODS:
        given = dict(query.options(kind))
        given.pop("layers", None)
        kind.checked(given)  # raises for what the method does not have
    assert Query(("a",)).options(find_method("GAME")) == {}


def test_lines() -> None:
    assert lines_of("\r\n a \r b\u2028c\n\n") == ("a", "b", "c")
