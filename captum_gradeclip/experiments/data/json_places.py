"""Places in JSON: in which line and column of a file a value stands, to be told where it is wrong."""

from __future__ import annotations

import json
from collections.abc import Sequence
from json import decoder, scanner
from pathlib import Path
from typing import Any

from .base import DataError
from .readers import read_text

Step = str | int


def error_at(file: Path, steps: Sequence[Step], message: str) -> DataError:
    """An error about a value in a JSON file, which names file, line and column.

    The file is read once more, by a slower parser that keeps account of places, so that reading it without errors costs
    nothing more.

    Args:
        file: a file of valid JSON.
        steps: the names and numbers that lead to the value: ``["scenes", 3, "objects"]``. Of a value that is missing, or is
            neither an object nor a list, the place of what should hold it is told.
        message: what was expected, and what is there.
    """
    text = read_text(file)
    value, place = _parse(text)
    for step in steps:
        known = value if isinstance(value, dict) else dict(enumerate(value)) if isinstance(value, list) else {}
        if step not in known:
            break
        value, at = known[step]
        place = place if at is None else at
    line, column = text.count("\n", 0, place) + 1, place - text.rfind("\n", 0, place)
    where = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps).lstrip(".")
    return DataError(f"{file}: line {line}, column {column} ({where or 'the whole'}): {message}")


def _parse(text: str) -> tuple[Any, int]:
    """The content of JSON in which every element of an object or a list is a pair of a value and its place."""
    reader: Any = json.JSONDecoder()  # its parsers are not in its published types

    def parse_object(given: tuple[str, int], *others: Any) -> tuple[Any, int]:
        found, end = decoder.JSONObject(given, *others)  # type: ignore[attr-defined]
        return _Placed(found, given[1] - 1), end

    def parse_array(given: tuple[str, int], *others: Any) -> tuple[Any, int]:
        found, end = decoder.JSONArray(given, *others)  # type: ignore[attr-defined]
        return _Placed(found, given[1] - 1), end

    reader.parse_object, reader.parse_array = parse_object, parse_array
    reader.scan_once = scanner.py_make_scanner(reader)  # type: ignore[attr-defined]
    start = len(text) - len(text.lstrip())
    return _unwrapped(reader.decode(text))[0], start


class _Placed:
    """An object or a list with its place."""

    def __init__(self, content: Any, place: int) -> None:
        self.content, self.place = content, place


def _unwrapped(value: Any) -> tuple[Any, int | None]:
    if not isinstance(value, _Placed):
        return value, None
    content = value.content
    if isinstance(content, dict):
        return {name: _unwrapped(one) for name, one in content.items()}, value.place
    return [_unwrapped(one) for one in content], value.place
