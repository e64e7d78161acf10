"""Contenders by turns: the ratio of each to the first one, within a round, as median and quartiles, with milliseconds."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from captum_gradeclip.experiments.timing import take_turns


def where(device: str) -> str:
    """What runs there: the name of the card, or the number of threads; and the version of torch."""
    runs = torch.cuda.get_device_name(device) if device.startswith("cuda") else f"{torch.get_num_threads()} threads"
    return f"{runs}, torch {torch.__version__}"


def milliseconds(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.2f}"


def measure(calls: Mapping[str, Callable[[], object]], rounds: int, device: str, title: str) -> list[dict]:
    """One row for each contender; the first one is what the others are held against."""
    times = take_turns(calls, rounds, device, title)
    rows = []
    for name, spent in times.items():
        ratios = [one / base for one, base in zip(spent, next(iter(times.values())))]
        low, middle, high = statistics.quantiles(ratios, n=4)
        row = {"contender": name, "ratio": middle, "from": low, "to": high}
        rows.append({**row, "milliseconds": 1000 * statistics.median(spent)})
    return rows


def report(rows: list[dict], title: str, out: Path) -> None:
    """Prints the rows as a table, and writes them as JSON and Markdown into a folder."""
    keys = [key for key in rows[0] if key not in ("ratio", "from", "to", "milliseconds", "peak_mib")]
    memory = any(row.get("peak_mib") for row in rows)
    names = [*keys, "ratio", "quartiles", "ms", *(["peak MiB"] if memory else [])]
    table, lines = Table(*names, title=title), [f"| {' | '.join(names)} |", "|---" * len(names) + "|"]
    for row in rows:
        cells = [f"{row[key]:,}" if isinstance(row[key], int) else str(row[key]) for key in keys]
        cells += [f"{row['ratio']:.2f}", f"{row['from']:.2f} - {row['to']:.2f}", milliseconds(row["milliseconds"])]
        if memory:
            cells.append(f"{row['peak_mib']:.0f}" if row.get("peak_mib") else "")
        table.add_row(*cells)
        lines.append(f"| {' | '.join(cells)} |")
    Console(width=125).print(table)
    out.mkdir(parents=True, exist_ok=True)
    (out / "rows.json").write_text(json.dumps({"title": title, "rows": rows}, indent=2))
    (out / "rows.md").write_text(f"{title}\n\n" + "\n".join(lines) + "\n")
