"""Finds the command that was asked for, runs it, and says in the user's terms what was wrong."""

from __future__ import annotations

import argparse
import io
import logging
import pkgutil
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from .._version import __version__
from ..quoting import MOST_OF_MESSAGE, line, quoted
from .common import Parser, UsageError, check_arguments, check_writable, in_flags, say
from .interrupt import CODE

_NO_COMMANDS = ("common", "interrupt", "main")
_EXTRA = {
    **dict.fromkeys(("torchmetrics", "scipy", "sklearn", "accelerate"), "bench"),
    "textblob": "tuning",
    "gradio": "app",
    **dict.fromkeys(("ot", "wordfreq", "openpyxl"), "study"),
}
"""Packages that only an extra of this package installs, and which."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command of ``gradeclip``.

    Args:
        arguments: what follows ``gradeclip`` in the shell; ``None`` (default) for that of this process.

    Returns:
        0; 1 if a command has done a part of its work only, some of several pictures for instance; 2 for something that
        the user can put right; or 130 if the user has stopped it. Why is said on the standard error output.

    Raises:
        SystemExit: by argparse, with 0 after a help text and 2 for arguments that do not exist.
    """
    if arguments is not None:
        return _main(list(arguments))
    try:
        return _main(sys.argv[1:])
    finally:
        _let_go_of_full_outputs()


def _main(given: Sequence[str]) -> int:
    parsed = argparse.Namespace(parser=None)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal may know fewer letters than texts have
    try:
        try:
            _parse(given, parsed)
        except SystemExit:
            _flush()  # of a help text
            raise
        _log_to_console()
        check_arguments(parsed)
        check_writable(parsed.out)
        with _legible_messages():
            code: int | None = parsed.run(parsed)
        _flush()
    except ModuleNotFoundError as error:
        if error.name not in _EXTRA:
            raise
        return _refused(f"{error}; pip install 'captum_gradeclip[{_EXTRA[error.name]}]'")
    except OSError as error:
        said = f"{error.strerror or error}: {quoted(error.filename)}" if error.filename else error.strerror or str(error)
        return _refused(in_flags(said, parsed.parser))
    except (UsageError, ValueError, TypeError) as error:
        logging.getLogger("captum_gradeclip").debug("the error was raised here", exc_info=True)
        return _refused(in_flags(str(error), parsed.parser))
    except KeyboardInterrupt as error:
        kept = in_flags(str(error), parsed.parser)
        return _refused(f"interrupted; {kept}" if kept else "interrupted", CODE)
    return code or 0


def _parse(given: Sequence[str], parsed: argparse.Namespace) -> None:
    """Parses arguments into a namespace, those too that follow behind options where any number of them may be given."""
    parser = build_parser(given)
    _, left = parser.parse_known_args(given, parsed)
    if isinstance(getattr(parsed, "path", None), list) and not any(one.startswith("-") for one in left):
        parsed.path += left  # argparse takes the first of them that stand together, and no others
    elif left:
        (parsed.parser or parser).error(f"unrecognized arguments: {' '.join(left)}")


def build_parser(given: Sequence[str]) -> argparse.ArgumentParser:
    """The parser of ``gradeclip``, in which only the command that was asked for has its arguments.

    The choices and help texts of some commands follow from the registries of methods, tasks and data sets, for which
    torch and the libraries of models must be loaded; ``gradeclip --help`` does without.

    Args:
        given: what follows ``gradeclip`` in the shell.
    """
    parser = Parser(prog="gradeclip", description="Why do an image and a text match? Grad-ECLIP for CLIP-like models.")
    parser.add_argument("--version", action="version", version=__version__)
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


def _flush() -> None:
    """Writes what has been printed: here a full disk is an error of the command, later one of the interpreter."""
    print(end="", flush=True)  # an output that is closed is None, which print passes over


def _let_go_of_full_outputs() -> None:
    """Drops what an output does not take: at its end the interpreter would try again, and exit with a number of its own."""
    for name in ("stdout", "stderr"):
        try:
            getattr(sys, name).flush()
        except (OSError, ValueError, AttributeError):
            setattr(sys, name, io.StringIO())


def _refused(message: str, code: int = 2) -> int:
    with suppress(OSError, AttributeError):  # where the error output is full, or closed and thus None, the number tells
        sys.stderr.write(f"gradeclip: {line(message, MOST_OF_MESSAGE)}\n")
    return code


@contextmanager
def _legible_messages() -> Iterator[None]:
    """Context in which logs and warnings of other libraries, which quote files of models, do not command the terminal."""
    make, show = logging.getLogRecordFactory(), warnings.formatwarning

    def lines(text: str) -> str:
        return "\n".join(line(one, MOST_OF_MESSAGE) for one in text.split("\n"))

    def record(*details: Any, **more: Any) -> logging.LogRecord:
        made = make(*details, **more)
        with suppress(Exception):  # what cannot be formatted is told by the handler
            made.msg, made.args = lines(made.getMessage()), ()
        return made

    def warning(message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None) -> str:
        return lines(show(message, category, filename, lineno, line))

    logging.setLogRecordFactory(record)
    warnings.formatwarning = warning
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=r"Glyph \d+ ")  # a letter that no font has is drawn as a box
            yield
    finally:
        logging.setLogRecordFactory(make)
        warnings.formatwarning = show


def _log_to_console() -> None:
    logger = logging.getLogger("captum_gradeclip")
    logger.handlers, logger.propagate = [_Lines()], False


class _Lines(logging.Handler):
    """Prints what is logged as the commands print their own notes: a line each, of whatever length."""

    def emit(self, record: logging.LogRecord) -> None:
        say(f"{record.levelname.lower()}: {record.getMessage()}")
