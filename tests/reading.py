"""Reads Python files without running them: what they import, what they ask an object by string, how much code they hold."""

from __future__ import annotations

import ast
import io
import tokenize
from collections.abc import Iterable
from pathlib import Path

PACKAGE = "captum_gradeclip"
ASKING = {
    *("getattr", "hasattr", "setattr", "delattr", "getattr_static", "attrgetter", "methodcaller", "vars"),
    *("__getattribute__", "__dict__", "runtime_checkable"),
}


def place(file: Path, root: Path) -> tuple[str, ...]:
    """The parts of a module's name below the package, ``("attr", "game")``; a folder's own file is named like the folder."""
    parts = file.relative_to(root).with_suffix("").parts
    return parts[:-1] if parts[-1] == "__init__" else parts


def imports(file: Path, root: Path) -> tuple[set[str], set[str]]:
    """Our own modules (dotted, below the package; ``""`` for its root) and the foreign roots that a file imports.

    Relative and absolute statements count, at any depth of the code, and ``import_module("...")`` with the name written out.
    """
    here = file.relative_to(root).parts[:-1]  # the folder that one dot means
    ours, foreign = set(), set()

    def absolute(name: str) -> None:
        first, _, rest = name.partition(".")
        if first == PACKAGE:
            ours.add(rest)
        else:
            foreign.add(first)

    def imported_from(module: str | None, level: int, names: Iterable[str]) -> None:
        if level == 0:
            base = (module or "").split(".")
        else:
            base = [PACKAGE, *here[: len(here) - (level - 1)], *([module] if module else [])]
        whole = ".".join(base)
        if whole == PACKAGE:  # from captum_gradeclip import attr, or GradECLIP
            for name in names:
                exists = (root / name).is_dir() or (root / f"{name}.py").is_file()
                absolute(f"{PACKAGE}.{name}" if exists else PACKAGE)
        else:
            absolute(whole)

    tree = ast.parse(file.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                absolute(alias.name)
        elif isinstance(node, ast.ImportFrom):
            imported_from(node.module, node.level, [alias.name for alias in node.names])
        elif isinstance(node, ast.Call) and name_of(node.func) in ("import_module", "__import__") and node.args:
            name = node.args[0]
            if isinstance(name, ast.Constant) and isinstance(name.value, str):
                level = len(name.value) - len(name.value.lstrip("."))
                imported_from(name.value.lstrip(".") or None, level, ())
    return ours, foreign


def name_of(node: ast.expr) -> str:
    """``f`` of ``f`` and of ``module.f``."""
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def attribute_strings(file: Path) -> list[str]:
    """Where a file asks an object for an attribute that may not be there, other than ``self`` or a class of its own."""
    tree = ast.parse(file.read_text())
    own = {"self", "cls"} | {node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
    found = []
    excused = set()

    def ours(node: ast.expr) -> bool:
        """``self``, ``type(self)``, or a class of the file."""
        if isinstance(node, ast.Call) and name_of(node.func) == "type" and len(node.args) == 1:
            return ours(node.args[0])
        return isinstance(node, ast.Name) and node.id in own

    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and name_of(node.func) in ASKING and node.args and ours(node.args[0]):
            excused.add(node.func)
        elif isinstance(node, ast.Attribute) and ours(node.value):
            excused.add(node)
    for node in ast.walk(tree):
        if isinstance(node, (ast.Name, ast.Attribute)) and name_of(node) in ASKING and node not in excused:
            found.append(f"{file.name}:{node.lineno} {ast.unparse(node)}")
        if isinstance(node, ast.ImportFrom):
            found += [f"{file.name}:{node.lineno} {one.name}" for one in node.names if one.name in ASKING]
        if isinstance(node, ast.ExceptHandler) and node.type is not None:
            caught = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
            found += [f"{file.name}:{node.lineno} except" for one in caught if name_of(one) == "AttributeError"]
    return found


def code_lines(file: Path) -> set[int]:
    """The numbers of the lines that hold code: no blank line, no comment, no docstring."""
    source = file.read_text()
    told = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            told |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    idle = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in idle:
            lines |= set(range(token.start[0], token.end[0] + 1))
    return lines - told


def anys(file: Path, names: set[str]) -> int:
    """How often a file says ``Any``, by one of its names; import lines aside."""
    tree = ast.parse(file.read_text())
    return sum(isinstance(node, ast.Name | ast.Attribute) and name_of(node) in names for node in ast.walk(tree))


def aliases_of_any(file: Path) -> set[str]:
    """Names that a file gives to ``Any`` itself."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None and name_of(node.value) == "Any":
            found |= {name_of(target) for target in (node.targets if isinstance(node, ast.Assign) else [node.target])}
    return found


DELETING = {"unlink", "rmdir", "rmtree", "remove", "removedirs", "replace", "rename", "renames", "move", "copyfile", "copy2"}
WRITING = {
    *("write_text", "write_bytes", "touch", "symlink_to", "hardlink_to", "dump", "dumps", "savetxt", "tofile", "to_csv"),
    *("save_file", "savez", "savez_compressed", "NamedTemporaryFile", "TemporaryDirectory", "mkstemp", "mkdtemp"),
}
MODULES = {"os", "shutil", "json", "np", "numpy", "tempfile", "pickle"}


def disk_calls(file: Path) -> list[str]:
    """Calls by which a file is written, replaced or removed, other than through the package's own writer.

    ``save`` and ``savefig`` may be called with what ``replacing`` has given, with bytes in memory, and as ``show.save``,
    which is a writer itself.
    """
    tree = ast.parse(file.read_text())
    safe = {
        item.optional_vars.id
        for node in ast.walk(tree)
        if isinstance(node, ast.With)
        for item in node.items
        if isinstance(item.context_expr, ast.Call)
        and name_of(item.context_expr.func) == "replacing"
        and isinstance(item.optional_vars, ast.Name)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and name_of(node.value.func) == "BytesIO":
            safe |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    found = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name, owner = name_of(node.func), node.func.value if isinstance(node.func, ast.Attribute) else None
        root = owner.id if isinstance(owner, ast.Name) else ""
        given = {inner.id for one in node.args for inner in ast.walk(one) if isinstance(inner, ast.Name)}
        modes = [one.value for one in [*node.args, *(more.value for more in node.keywords)] if isinstance(one, ast.Constant)]
        opens = name in ("open", "fdopen") and any(isinstance(mode, str) and set(mode) & set("wax+") for mode in modes[:2])
        saves = name in ("save", "savefig") and owner is not None and root != "show" and not given & safe
        # Of a string, "replace" takes two arguments, of a path one; hooks and lists have a method "remove".
        paths = owner is not None and {"unlink": 0, "rmdir": 0, "replace": 1, "rename": 1}.get(name) == len(node.args)
        moves = name in DELETING and (root in MODULES or paths)
        writes = name in WRITING and (owner is not None or name not in ("write_text", "write_bytes")) and root != "files"
        if opens or saves or moves or writes:
            found.append(f"{file.name}:{node.lineno} {name}")
    return found


def quotations(file: Path) -> list[str]:
    """Values that a text takes over by ``!r``, by ``repr`` or by ``%r``, which may have any length."""
    found = []
    for node in ast.walk(ast.parse(file.read_text())):
        if (isinstance(node, ast.FormattedValue) and node.conversion == ord("r")) or (
            isinstance(node, ast.FormattedValue) and isinstance(node.value, ast.Call) and name_of(node.value.func) == "repr"
        ):
            found.append(f"{file.name}:{node.lineno} {ast.unparse(node.value)}")
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and "%r" in node.value:
            found.append(f"{file.name}:{node.lineno} %r")
    return found
