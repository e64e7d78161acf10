"""Finds the command that was asked for, runs it, and says in the user's terms what was wrong."""

from __future__ import annotations

import argparse
import logging
import pkgutil
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

from .common import UsageError, check_writable, console, in_flags

_NO_COMMANDS = ("common", "main")
_EXTRA = ("torchmetrics", "scipy", "sklearn", "accelerate")
"""Packages that only ``captum_gradeclip[bench]`` installs."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command of ``gradeclip``.

    Args:
        arguments: what follows ``gradeclip`` in the shell; ``None`` (default) for that of this process.

    Returns:
        0, or 2 for something that the user can put right, which is then said on the standard error output.

    Raises:
        SystemExit: by argparse, with 0 after a help text and 2 for arguments that do not exist.
    """
    given = sys.argv[1:] if arguments is None else list(arguments)
    parsed = argparse.Namespace(parser=None)
    try:
        build_parser(given).parse_args(given, parsed)
        _log_to_console()
        check_writable(parsed.out)
        parsed.run(parsed)
    except ModuleNotFoundError as error:
        if error.name not in _EXTRA:
            raise
        return _refused(f"{error}; pip install 'captum_gradeclip[bench]'")
    except OSError as error:
        said = f"{error.strerror or error}: {error.filename!r}" if error.filename else str(error)
        return _refused(in_flags(said, parsed.parser))
    except (UsageError, ValueError, TypeError) as error:
        logging.getLogger("captum_gradeclip").debug("the error was raised here", exc_info=True)
        return _refused(in_flags(str(error), parsed.parser))
    return 0


def build_parser(given: Sequence[str]) -> argparse.ArgumentParser:
    """The parser of ``gradeclip``, in which only the command that was asked for has its arguments.

    The choices and help texts of some commands follow from the registries of methods, tasks and data sets, for which
    torch and the libraries of models must be loaded; ``gradeclip --help`` does without.

    Args:
        given: what follows ``gradeclip`` in the shell.
    """
    parser = argparse.ArgumentParser(
        prog="gradeclip", description="Why do an image and a text match? Grad-ECLIP for CLIP-like models."
    )
    parser.add_argument("--version", action="version", version=version("captum_gradeclip"))
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    wanted = next((argument for argument in given if not argument.startswith("-")), "")
    for name, command in commands().items():
        aliases: tuple[str, ...] = getattr(command, "ALIASES", ())
        if wanted in (name, *aliases):
            command.add(subparsers)
        else:
            subparsers.add_parser(name, aliases=aliases, help=command.HELP)
    return parser


def commands() -> dict[str, ModuleType]:
    """The modules of all commands by name: each file in this folder is one.

    A command has a line of ``HELP``, a function ``add`` that adds its parser to the subparsers of ``gradeclip``, a function
    ``run`` that the parsed arguments are given to, and ``ALIASES`` if it has other names. What takes long to load is
    imported inside these functions.
    """
    found = [module.name for module in pkgutil.iter_modules([str(Path(__file__).parent)])]
    return {name: import_module(f".{name}", __package__) for name in found if name not in _NO_COMMANDS}


def _refused(message: str) -> int:
    print(f"gradeclip: {message}", file=sys.stderr)
    return 2


def _log_to_console() -> None:
    from rich.logging import RichHandler

    logger = logging.getLogger("captum_gradeclip")
    logger.handlers, logger.propagate = [RichHandler(console=console, show_time=False, show_path=False)], False
