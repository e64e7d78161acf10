"""The program: the lines of Python that make the maps of an answer again."""

from __future__ import annotations

from pprint import pformat

from ..attr import METHODS
from .answer import Answer
from .models import Named
from .picture import SIDE
from .query import Query


def program(query: Query, named: Named, name: str, method: str) -> str:
    """The lines that make the same maps by one method.

    Args:
        query: what was asked for.
        named: how its model is loaded.
        name: what the picture is called: the file that the lines read, unless it is a scene.
        method: the id of the method.

    Returns:
        A program that leaves the maps ``(1, T, h, w)`` in ``maps``.

    >>> print(program(Query(("a red circle",), scene=3), Named("scenes"), "scene 3", "GradECLIP"))
    from captum_gradeclip import explain, scenes
    from captum_gradeclip.adapters.loading import load
    <BLANKLINE>
    loaded = load('scenes')
    image, _ = scenes.draw(scenes.sample_scene(3, 0, 'evaluation', counts=(2, 3, 4)), 448)
    found = explain(
        loaded.model,
        image,
        texts=['a red circle'],
        tokenizer=loaded.tokenizer,
        preprocess=loaded.processor,
        method='GradECLIP',
    )
    maps = found.maps
    <BLANKLINE>
    """
    kind = next(one for one in METHODS if one.__name__ == method)
    options = query.options(kind)
    weights = "" if named.pretrained is None else f", {pformat(named.pretrained)}"
    uses = ["scenes"] if query.scene is not None else []
    if query.head == "match":
        uses += [method, "MatchScore"] if method == "GradECLIP" else ["MatchScore"]
    else:
        uses += ["explain"]
    lines = [f"from captum_gradeclip import {', '.join(sorted(uses, key=_order))}"]
    lines += ["from captum_gradeclip.adapters.loading import load"]
    if query.head == "match":
        lines += [f"from captum_gradeclip.attr import {method}"] if method != "GradECLIP" else []
        lines += ["from captum_gradeclip.inputs import preparation"]
    lines += ["", f"loaded = load({pformat(named.name)}{weights})", _picture(query, name)]
    lines += _by_match(query, method, options) if query.head == "match" else _by_explain(query, method, options)
    return "\n".join(lines) + "\n"


def programs(answer: Answer, named: Named) -> str:
    """The lines of all methods that found something, one program after the other; arguments as for :func:`program`."""
    return "\n\n".join(
        f"# {one.name}\n{program(answer.query, named, answer.name, one.method)}"
        for one in answer.found
        if one.explanation is not None
    )


def _order(name: str) -> tuple[bool, str]:
    """Classes before functions and modules, as imports are sorted."""
    return name.islower(), name


def _picture(query: Query, name: str) -> str:
    if query.scene is None:
        return f"image = {pformat(name)}  # the file that was uploaded"
    return f"image, _ = scenes.draw(scenes.sample_scene({query.scene}, 0, 'evaluation', counts=(2, 3, 4)), {SIDE})"


def _by_explain(query: Query, method: str, options: dict[str, object]) -> list[str]:
    given: dict[str, object] = {}
    if query.head == "classes":
        given["targets"] = [int(one) if one.isascii() and one.isdecimal() else one for one in query.texts] or None
    else:
        given["texts"] = list(query.texts)
    arguments = [f"{key}={pformat(value, width=10**6)}" for key, value in given.items()]
    arguments += ["tokenizer=loaded.tokenizer"] if query.head != "classes" else []
    arguments += ["preprocess=loaded.processor", f"method={pformat(method)}"]
    arguments += [] if query.against is None else [f"against={pformat(query.against, width=10**6)}"]
    arguments += [f"{key}={pformat(value)}" for key, value in options.items()]
    body = "".join(f"    {one},\n" for one in ["loaded.model", "image", *arguments])
    return [f"found = explain(\n{body})", "maps = found.maps"]


def _by_match(query: Query, method: str, options: dict[str, object]) -> list[str]:
    given = dict(options)
    layers = given.pop("layers", None)
    more = "".join(f", {key}={pformat(value)}" for key, value in given.items())
    made = f"{method}.for_score(score)" if layers is None else f"{method}(score, score.layers[-{layers}:])"
    read = [] if query.scene is not None else ["from captum_gradeclip.images import read", "", "image = read(image)"]
    return [
        *read,
        f"score = MatchScore(loaded.model, {pformat(list(query.texts), width=10**6)}, loaded.tokenizer)",
        "picture = preparation(loaded.model, loaded.processor)(image)",
        f"maps = {made}.attribute_targets(picture.pixels{more})",
    ]
