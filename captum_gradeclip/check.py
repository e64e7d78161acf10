"""Does a model keep what its adapter says? The first question to ask of a new one, answered live."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from . import adapters
from .attention import Interception, Record, model_heads, single_head
from .attr import GradECLIP
from .scores import ClassScore, ImageTextScore, TextImageScore
from .timing import Stopwatch

TOLERANCE = 1e-4
"""How far a model may differ from itself under interception, relative to the largest value of its output."""

LEAST = 1e-6
"""What a difference must exceed to be one, relative to the largest value: some units in the last place."""


@dataclass(frozen=True)
class Check:
    """What one tower of a model showed.

    Attributes:
        tower: the tower that was checked, ``"image"`` or ``"text"``.
        layers: number of attention layers, all of which were intercepted at once.
        tokens: number of keys of the last layer.
        error: largest difference between the model's output and that of the intercepted model with its own heads,
            relative to the largest value of the output.
        change: the same difference with one head in the last layer, which is the network that the paper explains.
        map: shape of a Grad-ECLIP map.
        varies: whether the signed map is finite and not constant.
        seconds: time that this map took.
        faults: what the model does otherwise than its adapter says, a clause each; empty if it keeps everything.

    >>> (check,) = self_check(adapters.families()["torchvision ViT"].build().eval())
    >>> check.tower, check.layers, check.map, check.error < TOLERANCE
    ('image', 3, (1, 1, 4, 4), True)
    """

    tower: str
    layers: int
    tokens: int
    error: float
    change: float
    map: tuple[int, ...]
    varies: bool
    seconds: float
    faults: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether the model keeps what its adapter says, and the map says something."""
        return not self.faults


def self_check(model: nn.Module, images: Tensor | None = None, tokens: Tensor | None = None) -> list[Check]:
    """Runs every tower of a model as it is and under interception, explains it once, and holds its adapter to its word.

    Of each tower it is asked whether

    - its own heads, intercepted in all layers, give its own output;
    - one head in the last layer returns something else than its own heads, where it is read;
    - the score depends on the token that is said to be read, and on no other one behind the last attention;
    - what is changed in a patch or a word arrives at the key that is said to stand for it;
    - the pass without padding, if there is one, gives the features of the whole texts;
    - the signed map of Grad-ECLIP is finite and not constant.

    Args:
        model: a model that an adapter knows.
        images: images ``(N, C, H, W)``; ``None`` (default) for noise at the native size.
        tokens: token ids ``(N, L)``; ``None`` (default) for random ones between the model's marks.

    Returns:
        One check for the image tower and, if there is one, one for the text tower.

    Raises:
        UnsupportedModelError: if no adapter knows the model, or it has a text encoder that none knows.
        ValueError: if a layer attends over fewer tokens than the patches or words that are said to be there.

    >>> [check.passed for check in self_check(adapters.families()["transformers BLIP"].build().eval())]
    [True, True]
    """
    tower = adapters.image_tower(model)
    device = next(model.parameters()).device
    generator = torch.Generator().manual_seed(0)
    if images is None:
        images = torch.randn(1, tower.channels, *tower.size, generator=generator)
    images = images.to(device, tower.dtype)
    try:
        text = adapters.text_tower(model)
    except adapters.NoTextTowerError:
        if tower.classes:
            return [_check("image", ClassScore(model), images)]
        direction = torch.randn(1, tower.width, generator=generator)  # an encoder without classes or texts of its own
        return [_check("image", ImageTextScore(model, direction), images)]
    tokens = (_random_tokens(text, generator) if tokens is None else tokens).to(device)
    return [
        _check("image", ImageTextScore(model, tokens), images),
        _check("text", TextImageScore(model, images), tokens),
    ]


_Score = ImageTextScore | TextImageScore | ClassScore


def _check(name: str, score: _Score, inputs: Tensor) -> Check:
    encode = score.tower.encode
    with torch.no_grad():
        expected = encode(inputs)
        with Interception(score.layers, model_heads) as seen:
            own = encode(inputs)
        with Interception(score.layers[-1:], single_head) as seen_once:
            single = encode(inputs)
    last, (once,) = seen.records()[-1], seen_once.records()
    error = _relative(own, expected)
    faults = [*_reading(score, inputs, once), *_places(score, inputs), *_padding(score, inputs)]
    if error >= TOLERANCE:
        faults.insert(0, "it does not reproduce itself with its own heads, so its maps would explain something else")
    with Stopwatch(inputs.device) as watch:
        signed = GradECLIP(score, score.layers[-1:]).attribute(inputs, target=0, relu_attributions=False)
    varies = bool(signed.isfinite().all() and signed.std() > 0)
    return Check(
        tower=name,
        layers=len(score.layers),
        tokens=last.key.shape[-2],
        error=error,
        change=_relative(single, expected),
        map=tuple(signed.shape),
        varies=varies,
        seconds=watch.seconds,
        faults=(*faults, *([] if varies else ["its signed map is constant or not finite"])),
    )


def _reading(score: _Score, inputs: Tensor, once: Record) -> list[str]:
    """Whether the gradient behind the last attention is where the read-out is said to be, and one head shows there.

    Args:
        score: the score of the tower.
        inputs: images or token ids.
        once: what the last layer returned with one head.
    """
    with Interception(score.layers[-1:], model_heads) as seen, torch.no_grad():
        output = score(inputs)
    (record,) = seen.records()
    assert record.output is not None and once.output is not None
    (gradient,) = torch.autograd.grad(output[:, 0].sum(), record.output)
    touched = gradient.ne(0).any(dim=-1)
    faults = _rows(score.readout, inputs, touched, record.query.shape[-2] == record.key.shape[-2])
    # Not the change of the output: a layer scale of a model without training makes nothing of it.
    if record.heads > 1 and touched.any() and _relative(once.output[touched], record.output[touched]) < LEAST:
        faults.append(
            "one head in the last layer returns what its own heads return where the score reads it: a text without the mark"
            " that is read, or weights that are nothing"
        )
    return faults


def _rows(readout: adapters.Readout, inputs: Tensor, touched: Tensor, as_many: bool) -> list[str]:
    """Whether the rows ``(N, L)`` that have a gradient are those of a read-out.

    Args:
        readout: what the adapter says.
        inputs: images or token ids.
        touched: which rows have a gradient.
        as_many: whether the layer has as many queries as keys.
    """
    if readout.rows is not None:
        rows = readout.rows(inputs).to(touched.device)[:, None]
        if not touched.gather(1, rows).all():
            return [f"the score does not depend on token {int(rows[0])}, which is said to be read"]
        if touched.scatter(1, rows, False).any():
            return [f"the score depends on other tokens than token {int(rows[0])}, which is said to be read alone"]
    elif readout.kind == "pool":
        if as_many:
            return ["its last layer is said to be an attention pool, but has as many queries as keys"]
    elif touched.sum(dim=1).min() < 2:
        return ["the score depends on a single token, though several are said to be read"]
    return []


def _places(score: _Score, inputs: Tensor) -> list[str]:
    """Whether a change in one patch or word arrives at its key, at the size of the inputs and at others."""
    tower = score.tower
    faults = _moved(score, inputs)
    if isinstance(tower, adapters.ImageTower) and not faults:
        rows, columns = tower.grid(tower.size)
        sizes = [((rows + 1) * tower.patch, columns * tower.patch)]
        if tower.pads:
            sizes.append((tower.size[0] - 1, tower.size[1] - 1))
        for size in sizes:
            noise = torch.randn(1, tower.channels, *size, generator=torch.Generator().manual_seed(2))
            try:
                faults = faults or _moved(score, noise.to(inputs))
            except ValueError as error:
                if not str(error).startswith("inputs: images"):  # a size that the adapter refuses
                    raise
    return faults


def _moved(score: _Score, inputs: Tensor) -> list[str]:
    one = inputs[:1]
    if one.is_floating_point():
        assert isinstance(score.tower, adapters.ImageTower)
        patch, (rows, columns) = score.tower.patch, score.tower.grid(one.shape[-2:])
        places: list[tuple[int, ...]] = [(0, columns - 1), (rows - 1, 0), (rows // 2, columns // 3)]
        noise = torch.randn(one.shape, generator=torch.Generator().manual_seed(1)).to(one)
        changed = [one.clone() for _ in places]
        for image, (row, column) in zip(changed, places):
            box = (..., slice(row * patch, (row + 1) * patch), slice(column * patch, (column + 1) * patch))
            image[box] += noise[box]
    else:
        assert isinstance(score.tower, adapters.TextTower)
        places = [(position,) for position in range(1, min(4, one.shape[1]))] or [(0,)]
        changed = [one.clone() for _ in places]
        for text, place in zip(changed, places):
            text[0, place[0]] = 2 + text[0, place[0]] % (score.tower.vocabulary - 4)
    keys = _first_keys(score, torch.cat([one, *changed]))
    _, tokens = score.tokens(score.sites[0], one, keys.shape[-2])
    change = tokens.fold((keys[1:] - keys[:1]).float().square().sum(dim=(1, 3)))
    axes = torch.meshgrid(*(torch.arange(side, device=change.device) for side in tokens.shape), indexing="ij")
    for moved, place in zip(change, places):
        # A convolution in front spreads a change, so its center counts, which must lie within the patch or beside its edge.
        centers = [float((moved * axis).sum() / moved.sum()) for axis in axes]
        if not all(abs(center - stated) < 1 for center, stated in zip(centers, place)):
            what = "patch" if one.is_floating_point() else "word"
            told = ", ".join(f"{center:.1f}" for center in centers)
            return [f"a change in {what} {place} does not arrive at the token that is said to stand for it, but at {told}"]
    return []


class _Seen(Exception):
    """Ends a forward pass that has shown what was wanted of it."""


def _first_keys(score: _Score, inputs: Tensor) -> Tensor:
    """The keys ``(N, H, Lk, d)`` of the first layer, before tokens have met; what comes behind it does not run."""
    found: list[Tensor] = []

    def rule(record: Record) -> Tensor:
        found.append(record.key)
        raise _Seen

    try:
        with Interception(score.layers[:1], rule, graph=False), torch.no_grad():
            score.tower.encode(inputs)
    except _Seen:
        pass
    return found[0]


def _padding(score: _Score, tokens: Tensor) -> list[str]:
    """Whether what a text tower is said not to see changes nothing."""
    tower = score.tower
    if not isinstance(tower, adapters.TextTower) or tower.front is None:
        return []
    # Exactly what the tower says, without the positions more that a processor multiplies faster with.
    front = tokens[:, : tower.front.length(tokens)]
    with torch.no_grad():
        error = _relative(tower.front.encode(front), tower.encode(tokens))
    if error >= TOLERANCE:
        return [f"its features depend on more than the first {front.shape[1]} tokens, which alone are said to be seen"]
    return []


def _relative(got: Tensor, expected: Tensor) -> float:
    difference = (got - expected).abs().max() / expected.abs().max()
    return float(difference.detach().nan_to_num(float("inf")))


def _random_tokens(tower: adapters.TextTower, generator: torch.Generator) -> Tensor:
    length = min(tower.context_length, 16)
    words = torch.randint(1, max(2, tower.vocabulary - 2), (1, length - 4), generator=generator)
    start, end = (torch.tensor([[]] if mark is None else [[mark]], dtype=torch.long) for mark in (tower.start, tower.end))
    text = torch.cat([start, words, end], dim=1)
    padding = (tower.context_length if tower.pad else length) - text.shape[1]
    return torch.nn.functional.pad(text, (0, padding))


def faults_of(checks: Sequence[Check]) -> str:
    """The faults of all towers, in one line; empty if there are none.

    Args:
        checks: what each tower showed.

    Returns:
        A clause for each fault, behind the name of its tower.

    >>> shown = Check("text", 12, 77, 0.0, 0.0, (1, 77), True, 0.1, faults=("one head changes nothing",))
    >>> faults_of([shown])
    'text tower: one head changes nothing'
    """
    return "; ".join(f"{check.tower} tower: {fault}" for check in checks for fault in check.faults)
