"""The reference: a page for each station and one for each public name, written from the code at each build."""

from __future__ import annotations

import ast
import inspect
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from types import ModuleType

PACKAGE = "captum_gradeclip"
STATIONS = (
    "explain",
    "trust",
    "guards",
    "scores",
    "attr",
    "maps",
    "show",
    "metrics",
    "experiments",
    "tuning",
    "adapters",
    "adapters.loading",
    "attention",
    "scenes",
    "scores.prompts",
    "images",
    "index",
    "report",
    "overview",
    "check",
    "estimate",
)
"""What has a page, in the order in which a reader meets it."""
FOREIGN = (
    r"(torch|nn|captum|PIL|Image|np|numpy|matplotlib|pandas|torchmetrics|collections|typing|pathlib|os|abc|functools|types|contextlib|dataclasses|rich|open_clip|images)\..*",
    r"(Tensor|Path|PathLike|Axes|Figure|Any|Literal|Callable|Sequence|Mapping|Iterator|Iterable|Module|DataFrame|InitVar|CLIP|SimpleTokenizer)",
)
"""Names without a page here, as they stand in signatures."""


@dataclass(frozen=True, eq=False)
class Public:
    """A public name.

    Attributes:
        station: the station that shows it.
        name: its name there.
        value: what it names.
    """

    station: str
    name: str
    value: object

    @property
    def path(self) -> str:
        """Where users import it from."""
        return f"{PACKAGE}.{self.station}.{self.name}"

    @property
    def kind(self) -> str:
        """``"class"``, ``"function"``, or ``"data"`` for constants, types and registries."""
        if inspect.isclass(self.value) and self.value.__name__ == self.name:
            return "class"
        return "function" if inspect.isfunction(inspect.unwrap(self.value)) else "data"  # type: ignore[arg-type]

    @property
    def document(self) -> str:
        """Its docstring; of data, the string below its assignment."""
        if self.kind != "data":
            return inspect.getdoc(self.value) or ""
        near = _data_documents(import_module(f"{PACKAGE}.{self.station}"))
        return near.get(self.name) or _data_documents(import_module(PACKAGE)).get(self.name, "")


def names(module: ModuleType) -> list[str]:
    """The public names of a station: its ``__all__``, or all that it defines or exports without an underscore.

    >>> import captum_gradeclip.maps
    >>> "to_pixels" in names(captum_gradeclip.maps)
    True
    """
    listed = getattr(module, "__all__", None)
    if listed is not None:
        return sorted(listed)
    found, is_package = set(), hasattr(module, "__path__")
    for node in ast.parse(inspect.getsource(module)).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found.add(node.name)
        elif isinstance(node, ast.ImportFrom) and is_package:
            found |= {one.asname for one in node.names if one.asname == one.name}
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {one.id for one in targets if isinstance(one, ast.Name) and one.id.isupper() and len(one.id) > 1}
    return sorted(name for name in found - {None} if not name.startswith("_"))


def homes() -> dict[int, Public]:
    """Each public object by its identity, at the station that has its page: where it is defined, else the first."""
    shown: dict[int, Public] = {}
    for station in STATIONS:
        module = import_module(f"{PACKAGE}.{station}")
        for name in names(module):
            one = Public(station, name, getattr(module, name))
            known = shown.get(_identity(one))
            defined = getattr(one.value, "__module__", "") or ""
            if name == getattr(one.value, "__name__", name) and known is not None and known.name != name:
                known = None  # the name that is not deprecated
            if known is None or f"{defined}.".startswith(f"{PACKAGE}.{station}."):
                shown[_identity(one)] = one
    return shown


def _identity(one: Public) -> int:
    # Numbers and strings that are equal are one object in Python, and still are two constants here.
    return id(one.value) if one.kind != "data" else hash((one.name, str(one.value)))


def public(station: str) -> list[Public]:
    """The public names of a station, each as the page that tells about it."""
    module, found = import_module(f"{PACKAGE}.{station}"), homes()
    rows = [found[_identity(Public(station, name, getattr(module, name)))] for name in names(module)]
    return list(dict.fromkeys(rows))  # a deprecated name of the same thing has no row


@lru_cache
def _data_documents(module: ModuleType) -> dict[str, str]:
    """The strings below the assignments of a station, its files included."""
    files = [Path(module.__file__ or "")]
    if hasattr(module, "__path__"):
        files += sorted(Path(module.__path__[0]).rglob("*.py"))
    found: dict[str, str] = {}
    for file in files:
        body = ast.parse(file.read_text()).body
        for node, after in pairwise(body):
            if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) and isinstance(after.value.value, str):
                targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
                for target in targets:
                    for one in target.elts if isinstance(target, ast.Tuple) else [target]:
                        if isinstance(one, ast.Name):
                            found.setdefault(one.id, inspect.cleandoc(after.value.value))
    return found


def _title(text: str, mark: str = "=") -> str:
    return f"{text}\n{mark * len(text)}\n\n"


def _summary(one: Public) -> str:
    first = " ".join(one.document.partition("\n\n")[0].split())
    return first.partition(". ")[0].rstrip(".") + "." if first else ""


def page(one: Public) -> str:
    """The page of a public name, as reStructuredText."""
    text = _title(one.name)
    text += f".. currentmodule:: {PACKAGE}.{one.station}\n\n"
    if one.kind == "class":
        text += f".. autoclass:: {one.path}\n   :members:\n   :show-inheritance:\n"
        text += "   :exclude-members: Options, info, about, of, set, attribute_future, compute_convergence_delta\n"
        if f"{PACKAGE}." in "".join(f"{base.__module__}." for base in one.value.__mro__[1:]):  # type: ignore[attr-defined]
            text += "   :inherited-members: Module, Metric, LayerAttribution, Attribution, Figure, tuple, Sequence\n"
    elif one.kind == "function":
        text += f".. autofunction:: {one.path}\n"
    else:
        lines = [f".. py:data:: {one.path}", "", *(f"   {line}" for line in one.document.splitlines())]
        value = " ".join(str(one.value).replace("typing.", "").split())
        if len(value) < 300 and " object at " not in value:
            lines[1:1] = [f"   :value: {value}"]
        text += "\n".join(lines) + "\n"
    options = getattr(one.value, "Options", None)
    if one.kind == "class" and inspect.isclass(options) and options.__module__ == one.value.__module__:
        text += f"\n.. autoclass:: {options.__module__}.{options.__name__}\n   :members:\n"
    return text + f"\n.. minigallery:: {one.path}\n   :add-heading: Examples that use it\n"


def station_page(station: str) -> str:
    """The page of a station: what its docstring says, and a table of its public names."""
    path = f"{PACKAGE}.{station}"
    text = _title(path) + f".. automodule:: {path}\n   :no-members:\n\n"
    rows = public(station)
    text += ".. list-table::\n   :widths: 30 70\n   :class: api\n\n"
    for one in rows:
        role = {"class": "class", "function": "func", "data": "data"}[one.kind]
        # In raw docstrings of one line, roles keep working: the table is read like any other text.
        text += f"   * - :py:{role}:`~{one.path}`\n     - {_summary(one)}\n"
    own = [one for one in rows if one.station == station]
    text += "\n.. toctree::\n   :hidden:\n\n"
    return text + "".join(f"   {station}.{one.name}\n" for one in own)


def write(folder: Path) -> None:
    """Writes all pages into a folder; those that say the same already are left, so that nothing is built twice."""
    pages = {f"{one.station}.{one.name}": page(one) for one in homes().values()}
    pages |= {station.replace(".", "-"): station_page(station) for station in STATIONS}
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.rst"):
        if old.stem not in pages:
            old.unlink()
    for name, text in pages.items():
        file = folder / f"{name}.rst"
        if not file.exists() or file.read_text() != text:
            file.write_text(text)


def resolve(app, env, node, contnode):
    """Finds the page of a name of ours that is told by another of its paths: by the root, or by the file that defines it.

    What exists but is not public, a type in a signature for instance, has no page and stays plain text. A name that does not
    exist stays unresolved, which stops the build.
    """
    target = node.get("reftarget", "")
    if node.get("refdomain") != "py" or not target:
        return None
    known = _paths(env)
    head, _, tail = target.rpartition(".")
    path = known.get(target) or (f"{known[head]}.{tail}" if head in known else None)
    if path is not None and path != target:
        domain = env.get_domain("py")
        for kind in (node["reftype"], "obj"):
            found = domain.resolve_xref(env, node["refdoc"], app.builder, kind, path, node, contnode)
            if found is not None:
                return found
    return contnode if _exists(target, node.get("py:module"), node.get("py:class")) else None


def _exists(target: str, module: str | None, owner: str | None) -> bool:
    """Whether a name of ours can be had, from where it is told: inside a class, inside a module, or from the root."""
    tries = [target] if target.startswith(f"{PACKAGE}.") else [f"{module}.{target}", f"{module}.{owner}.{target}"]
    for one in tries:
        if not one.startswith(f"{PACKAGE}."):
            continue
        parts = one.split(".")
        for cut in range(len(parts), 0, -1):
            try:
                value: object = import_module(".".join(parts[:cut]))
            except ImportError:
                continue
            if all((value := getattr(value, part, None)) is not None for part in parts[cut:]):
                return True
            break
    return target in _defined()


@lru_cache
def _defined() -> frozenset[str]:
    """All names that any file of the package defines, since signatures tell types as their files spell them."""
    found: set[str] = set()
    for file in Path(import_module(PACKAGE).__path__[0]).rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                found.add(node.name)
            elif isinstance(node, (ast.Assign, ast.AnnAssign)):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                found |= {one.id for target in targets for one in ast.walk(target) if isinstance(one, ast.Name)}
    return frozenset(found)


def _paths(env) -> dict[str, str]:
    known = getattr(env, "gradeclip_paths", None)
    if known is None:
        known, found = {}, homes()
        bare: dict[str, set[str]] = {}
        for one in found.values():
            bare.setdefault(one.name, set()).add(one.path)
            module = getattr(one.value, "__module__", "") or ""
            if module.startswith(PACKAGE):
                known[f"{module}.{one.name}"] = one.path
        for station in ("", *STATIONS):
            module = import_module(f"{PACKAGE}.{station}".rstrip("."))
            for name in names(module):
                one = found.get(_identity(Public(station, name, getattr(module, name))))
                if one is not None:
                    known[f"{module.__name__}.{name}"] = one.path
        known |= {name: next(iter(paths)) for name, paths in bare.items() if len(paths) == 1}
        env.gradeclip_paths = known
    return known


def setup(app) -> dict[str, bool]:
    """Writes the pages before Sphinx looks for any, and connects the search for names."""
    app.connect("config-inited", lambda app, config: write(Path(app.srcdir) / "generated" / "api"))
    app.connect("missing-reference", resolve)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
