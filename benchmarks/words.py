"""What the words of a caption cost beside its plain text pass: ``python benchmarks/words.py --out runs/words``.

A caption of 12 words in the context of a causal tower, the last eight layers explained as the paper has it: with the
padding (``key_tokens="all"``), which the tower never sees, and without it. All calls take turns in one process, and a ratio
is formed within a round. Weights are random, since they do not affect the time.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path

import open_clip
import torch
from rich.console import Console
from rich.table import Table

from captum_gradeclip import GradECLIP, TextImageScore, adapters
from captum_gradeclip.experiments.timing import take_turns


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="ViT-B-16", help="an open_clip model with CLIP's text tower [%(default)s]")
    parser.add_argument("--words", type=int, default=12, help="number of words of a caption [%(default)s]")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--rounds", type=int, default=15, help="number of rounds [%(default)s]")
    parser.add_argument("--out", type=Path, default=Path("gradeclip-out/words"), help="folder [%(default)s]")
    options = parser.parse_args()

    torch.manual_seed(0)
    model = open_clip.create_model(options.model).eval()
    tower = adapters.text_tower(model)
    score = TextImageScore(model, torch.randn(1, tower.width))
    method = GradECLIP(score, score.layers[-8:])
    table = Table("batch", "pass", "ratio", "quartiles", title=f"{options.model}, {torch.get_num_threads()} threads")
    ratios: dict[int, dict[str, list[float]]] = {}
    for batch in options.batch:
        tokens = torch.zeros(batch, tower.context_length, dtype=torch.long)
        tokens[:, 1 : 1 + options.words] = torch.randint(1, tower.vocabulary - 2, (batch, options.words))
        tokens[:, 0], tokens[:, 1 + options.words] = tower.vocabulary - 2, tower.vocabulary - 1
        calls = {
            "plain text pass": torch.no_grad()(lambda tokens=tokens: score(tokens)),
            "visible": lambda tokens=tokens: method.attribute(tokens, target=0),
            "all": lambda tokens=tokens: method.attribute(tokens, target=0, key_tokens="all"),
        }
        times = take_turns(calls, options.rounds, title=f"batch {batch}")
        plain = times["plain text pass"]
        ratios[batch] = {name: [one / base for one, base in zip(times[name], plain)] for name in calls}
        for name, values in ratios[batch].items():
            low, middle, high = statistics.quantiles(values, n=4)
            table.add_row(str(batch), name, f"{middle:.2f}", f"{low:.2f} - {high:.2f}")
    Console().print(table)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "words.json").write_text(json.dumps({"model": options.model, "ratios": ratios}, indent=2))


if __name__ == "__main__":
    main()
