"""The tables of methods, models, metrics, data sets and tasks, as Markdown, from what these declare about themselves."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

YES, NO = "yes", "-"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of Markdown.

    >>> print(table(["a", "b"], [["1", "2"]]), end="")
    | a | b |
    |---|---|
    | 1 | 2 |
    """
    lines = [header, ["---"] * len(header), *rows]
    head, rule, *body = ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]
    return "\n".join([head, rule.replace(" ", ""), *body]) + "\n"


def _mark(value: bool) -> str:
    return YES if value else NO


def _last(number: int) -> str:
    return "all" if number == 0 else "last" if number == 1 else f"last {number}"


def methods() -> str:
    """One row for each of ``METHODS``."""
    from captum_gradeclip import METHODS
    from captum_gradeclip.attr import TokenAttribution

    rows = []
    for kind in METHODS:
        info = kind.info
        layers = _last(info.layers) if issubclass(kind, TokenAttribution) else "none"
        if info.text and info.text_layers is not None:
            layers += f"; {_last(info.text_layers)} of texts"
        marks = (info.image, info.text, info.convolutional, info.class_discriminative, info.stochastic, info.gradient)
        link = f"{{py:class}}`~captum_gradeclip.attr.{kind.__name__}`"
        rows.append([info.name, link, *map(_mark, marks), layers, info.paper])
    header = ["method", "class", "images", "texts", "ResNet", "asks for the text", "random", "gradient", "layers", "source"]
    return table(header, rows)


def options() -> str:
    """One row for each option of each method, with its default."""
    import dataclasses

    from captum_gradeclip import METHODS

    rows = []
    for kind in METHODS:
        for field in dataclasses.fields(kind.Options):
            default = field.default if field.default is not dataclasses.MISSING else None
            rows.append([kind.info.name, f"`{field.name}`", f"`{default!r}`"])
    return table(["method", "option", "default"], rows)


def models() -> str:
    """One row for each family of models that an adapter knows."""
    from captum_gradeclip import adapters

    rows = []
    for family in adapters.families().values():
        sizes = "one" if family.oblong is None else "squares" if family.oblong[0] == family.oblong[1] else "any"
        told = family.reads, family.text_reads if family.text else NO, family.positions, sizes
        rows.append([family.name, family.models, *told, family.note or NO, family.examples or NO])
    header = ["family", "classes of the library", "reads", "reads of texts", "positions", "sizes of images", "note"]
    return table([*header, "models of this layout"], rows)


def libraries() -> str:
    """The families of each library, in one row, for the README."""
    from captum_gradeclip import adapters

    rows: dict[str, list[list[str]]] = {}
    for family in adapters.families().values():
        library, name = re.match(r"(\w+),? (.*)", family.name).groups()
        rows.setdefault(library, [[], []])[not family.text].append(name)
    told = [[library, *("; ".join(names) or NO for names in both)] for library, both in rows.items()]
    return table(["library", "image and text", "images alone: classifiers and encoders"], told)


def pictures() -> str:
    """The methods with a picture of each, five in a row, for the README; ``docs/thumbnails.py`` draws them."""
    from captum_gradeclip import METHODS

    def facts(info: Any) -> str:
        told = [
            "images, words" if info.text else "images",
            *([] if info.class_discriminative else ["one map for all texts"]),
        ]
        return f"{', '.join(told)}; {info.paper}"

    kinds = list(METHODS)
    halves = [kinds[:5], kinds[5:10]]
    lines: list[list[str]] = []
    for half in halves:
        lines.append([f"**{kind.info.name}**" if lines else kind.info.name for kind in half])
        lines.append([f"![{kind.info.name}](docs/methods/{kind.__name__}.png)" for kind in half])
        lines.append([facts(kind.info) for kind in half])
    return table(lines[0], lines[1:])


def metrics() -> str:
    """One row for each metric of ``captum_gradeclip.metrics`` that accumulates over data."""
    from torchmetrics import Metric

    from captum_gradeclip import metrics as station

    rows = []
    for name in station.__all__:
        kind = getattr(station, name)
        if inspect.isclass(kind) and issubclass(kind, Metric):
            better = {True: "higher", False: "lower", None: NO}[kind.higher_is_better]
            rows.append([f"{{py:class}}`~captum_gradeclip.metrics.{name}`", _first(kind), better])
    return table(["metric", "what it measures", "better"], rows)


def functions() -> str:
    """One row for each function of ``captum_gradeclip.metrics``."""
    from captum_gradeclip import metrics as station

    found = {name: getattr(station, name) for name in station.__all__}
    names = [name for name, one in found.items() if inspect.isfunction(one) and one.__name__ == name]
    rows = [[f"{{py:func}}`~captum_gradeclip.metrics.{name}`", _first(found[name])] for name in names]
    return table(["function", "what it computes"], rows)


def _first(kind: object) -> str:
    told = " ".join((inspect.getdoc(kind) or "").partition("\n\n")[0].split()).replace("``", "`")
    return re.sub(r":\w+:(`[^`]*`)", r"\1", told)


def tasks() -> str:
    """One row for each task of ``gradeclip benchmark`` and each study of ``gradeclip study``."""
    from captum_gradeclip.experiments import STUDIES, TASKS

    rows = []
    for name, kinds in TASKS.items():
        needs = sorted({one for kind in kinds for one in kind.needs})
        rows.append([f"`gradeclip benchmark {name}`", kinds[0].summary, ", ".join(needs) or NO])
    for name, kind in STUDIES.items():
        rows.append([f"`gradeclip study {name}`", kind.summary, ", ".join(kind.needs) or NO])
    return table(["command", "what it measures", "what must be known of a picture"], rows)


def datasets() -> str:
    """One row for each data set."""
    from captum_gradeclip.experiments import DATASETS

    return table(["data set", "what it reads"], [[f"`--data {name}`", kind.summary] for name, kind in DATASETS.items()])


def layouts() -> str:
    """How the folders and files of own data are laid out, a tree for each data set."""
    from captum_gradeclip.experiments import DATASETS

    return "".join(f"```text\n{kind.layout}```\n\n" for kind in DATASETS.values() if kind.layout)


TABLES: dict[str, Callable[[], str]] = {
    one.__name__: one for one in (methods, options, models, metrics, functions, tasks, datasets, layouts)
}
"""Each table by the name of its file, ``docs/generated/NAME.inc.md``."""


def write(folder: Path) -> None:
    """Writes all tables into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, make in TABLES.items():
        (folder / f"{name}.inc.md").write_text(make())


README = {
    "<!-- families: made by docs/_ext/tables.py -->\n": libraries,
    "<!-- methods: made by docs/_ext/tables.py -->\n": pictures,
}
"""The line that stands before and behind each table in the README."""


def write_readme(readme: Path) -> None:
    """Puts the tables of families and of methods into the README."""
    text = readme.read_text()
    for mark, made in README.items():
        before, _, behind = text.split(mark)
        text = mark.join([before, made(), behind])
    readme.write_text(text)


if __name__ == "__main__":
    write_readme(Path(__file__).parents[2] / "README.md")


def setup(app) -> dict[str, bool]:
    """Writes the tables before Sphinx reads the pages that include them."""
    app.connect("config-inited", lambda app, config: write(Path(app.srcdir) / "generated"))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
