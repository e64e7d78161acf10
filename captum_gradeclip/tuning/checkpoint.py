"""The files of a fine-tuning: a checkpoint to go on from, the log, and the weights that come out of it."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import nn

from ..files import replacing, to_json, write_bytes, write_json, write_text
from ..quoting import quoted

WEIGHTS = "tuned.safetensors"
"""The file of the weights in the folder of a run."""
CHECKPOINT, LOG, ABOUT = "checkpoint.pt", "log.csv", "tuning.json"


class TuningError(ValueError):
    """A fine-tuning cannot go on: its folder holds another one, or its losses are not finite."""


def save_weights(model: nn.Module, path: str | Path, metadata: Mapping[str, str] | None = None) -> None:
    """Writes the weights of a model, which ``open_clip.create_model(name, pretrained=path)`` loads.

    Args:
        model: the model.
        path: the file, of safetensors.
        metadata: what the file says of itself (default nothing).

    >>> from tempfile import TemporaryDirectory
    >>> from safetensors.torch import load_file
    >>> with TemporaryDirectory() as folder:
    ...     save_weights(nn.Linear(2, 3), f"{folder}/a.safetensors", {"tuned on": "scenes"})
    ...     sorted(load_file(f"{folder}/a.safetensors"))
    ['bias', 'weight']
    """
    from safetensors.torch import save

    # Parameters that share memory are written once each, since the format has no references.
    state = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in model.state_dict().items()}
    write_bytes(path, save(state, metadata=dict(metadata or {})))


class RunFolder:
    """The folder of a run.

    Args:
        folder: the folder, which is made if it is not there.
        about: what decides the result of the run, as JSON can write it. A run with other values is not gone on with.
    """

    def __init__(self, folder: Path, about: Mapping[str, object]) -> None:
        self.folder, self.about = folder, about

    def load(self, device: torch.device) -> dict[str, object] | None:
        """The last checkpoint, or ``None`` if there is none.

        Args:
            device: where its tensors are to lie.

        Raises:
            TuningError: if it is that of another run.
        """
        path = self.folder / CHECKPOINT
        if not path.exists():
            return None
        state: dict[str, object] = torch.load(path, map_location=device, weights_only=True)
        known, mine = str(state["about"]), to_json(self.about)
        if known != mine:
            raise TuningError(
                f"out: {quoted(self.folder)} holds a run of other settings, data or weights ({_difference(known, mine)});"
                " choose another folder, or give what that run was given"
            )
        return state

    def keep(self, state: Mapping[str, object]) -> None:
        """Writes a checkpoint in the place of the last one."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with replacing(self.folder / CHECKPOINT) as part:
            torch.save({**state, "about": to_json(self.about)}, part)

    def write_log(self, rows: Sequence[Mapping[str, float]]) -> None:
        """Writes the log anew, a row for every few steps, with what the run is beside it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        file = io.StringIO()
        writer = csv.DictWriter(file, list(rows[0]) if rows else [], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_text(self.folder / LOG, file.getvalue())
        write_json(self.folder / ABOUT, self.about)


def _difference(known: str, mine: str) -> str:
    """The first setting in which two runs differ."""
    import json

    one, other = json.loads(known), json.loads(mine)
    for part in other:
        if one.get(part) != other[part] and isinstance(one.get(part), dict) and isinstance(other[part], dict):
            for name in other[part]:
                if one[part].get(name) != other[part][name]:
                    return f"{name}: {quoted(one[part].get(name))} there, {quoted(other[part][name])} here"
        if one.get(part) != other[part]:
            return f"{part} is another one"
    return "it has more of them"
