"""Training of the embedded CLIP: ``python -m captum_gradeclip.scenes.train --out runs/scenes``.

The command goes on from the last checkpoint in its folder, if there is one.

The loss is contrastive with several positives: the grammar knows which captions of a batch are true of which
pictures, so a true caption of another picture is never treated as a negative. Pictures and captions are all that
the model learns from; masks and places are kept for its evaluation.
"""

from __future__ import annotations

import argparse
import itertools
import math
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from open_clip import CLIP
from open_clip.transformer import VisionTransformer
from rich.progress import Progress, TextColumn
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms.functional import pil_to_tensor

from ..files import replacing, to_json, write_json
from ..progress import track
from .captions import Phrase, sample_caption, truth
from .dataset import SceneDataset, TwinScenes
from .model import IMAGE_SIZE, MEAN, STD, build, load, save
from .vocabulary import tokenizer
from .world import PAIRS, Scene


@dataclass
class Recipe:
    """Everything that decides the result of a training; stored beside the weights.

    Attributes:
        scenes: number of training scenes (default 120,000).
        batch: scenes per step (default 256).
        steps: number of steps (default 9,000).
        decay_steps: number of last steps over which the learning rates fall to 0 (default 2,000).
        warmup: number of first steps over which the learning rates rise (default 300).
        muon_lr: learning rate of Muon, for the matrices of the blocks; 0 trains them by AdamW (default 0.02).
        lr: learning rate of AdamW (default 0.0015).
        weight_decay: weight decay of both (default 0.1).
        image_size: side of the pictures in pixels, a multiple of ``patch_size`` (default 96).
        patch_size: side of the patches in pixels (default 8).
        precision: what the passes compute in, ``"bfloat16"`` (the default) or ``"float32"``, which is ten times as fast on a
            processor without instructions for the former.
        patch_dropout: share of the patches that a training step drops, 0 to below 1 (default 0).
        layers: number of blocks of the image tower (default 2).
        width: width of the image tower (default 192).
        heads: number of attention heads of the image tower (default 2).
        text_width: width of the text tower (default 128).
        text_mlp_ratio: width of the text tower's MLPs as a multiple of its own (default 1).
        counts: numbers of things in a training scene, see :class:`SceneDataset` (default 1,1,1,2,3,4).
        name_colour: share of the descriptions in captions that name the color, 0 to 1 (default 0.85, as for the shape).
        twins: 1 if every second scene has the colors and places of the one before and other shapes, and both are in one
            batch; 0 (the default) if all scenes are drawn alone.
        seed: seed of scenes, captions, weights and dropout (default 0).
        logit_scale: fixed scale of the logits, above 0; 0 learns it (default 0). With a scale of 100, matching pairs reach a
            high probability at a low cosine, so that strengthening a true word still raises the score. Near the maximum of
            a cosine, its gradient would point to what a text does *not* say.
        lock_image: file of weights whose image tower is taken over, centered and kept, so that only a text tower is trained;
            empty (the default) to train both.
    """

    scenes: int = 120_000
    batch: int = 256
    steps: int = 9_000
    decay_steps: int = 2_000
    warmup: int = 300
    muon_lr: float = 0.02
    lr: float = 1.5e-3
    weight_decay: float = 0.1
    image_size: int = IMAGE_SIZE
    patch_size: int = 8
    precision: str = "bfloat16"
    patch_dropout: float = 0.0
    layers: int = 2
    width: int = 192
    heads: int = 2
    text_width: int = 128
    text_mlp_ratio: float = 1.0
    counts: str = "1,1,1,2,3,4"
    name_colour: float = 0.85
    twins: int = 0
    seed: int = 0
    logit_scale: float = 0.0
    lock_image: str = ""


class _Pixels(Dataset[Tensor]):
    """Rendered scenes as bytes; a class at the top of the module, so that worker processes can unpickle it."""

    def __init__(self, scenes: SceneDataset) -> None:
        self.scenes = scenes

    def __len__(self) -> int:
        return len(self.scenes)

    def __getitem__(self, index: int) -> Tensor:
        pixels: Tensor = pil_to_tensor(self.scenes[index].image)
        return pixels


def render(scenes: SceneDataset, workers: int, cache: Path | None = None) -> Tensor:
    """Renders all pictures of a dataset.

    Args:
        scenes: the dataset.
        workers: number of processes that render; 0 renders in this one.
        cache: file in which the pictures are kept for the next run, or ``None`` (the default).

    Returns:
        Bytes ``(scenes, 3, size, size)``.
    """
    if cache is not None and cache.exists():
        pixels: Tensor = torch.load(cache, mmap=True)
        return pixels
    loader = DataLoader(_Pixels(scenes), batch_size=500, num_workers=workers)
    pixels = torch.cat(list(track(loader, "drawing scenes", transient=False)))
    if cache is not None:
        cache.parent.mkdir(parents=True, exist_ok=True)
        with replacing(cache) as part:
            torch.save(pixels, part)
    return pixels


def normalize(pixels: Tensor, jitter: torch.Generator | None = None) -> Tensor:
    """Makes bytes into the model's input.

    Args:
        pixels: ``(N, 3, H, W)``, 0 to 255.
        jitter: source of a random brightness, contrast and noise for each picture, or ``None`` (the default) for none.

    Returns:
        ``(N, 3, H, W)``, float32; without jitter, -1 to 1.
    """
    images = pixels.float() / 255
    if jitter is not None:
        light, contrast = (0.1 * (2 * torch.rand(2, len(images), 1, 1, 1, generator=jitter) - 1)).unbind()
        images = (images - 0.5) * (1 + 2 * contrast) + 0.5 + light
        images = images + 0.02 * torch.randn(images.shape, generator=jitter)
    return (images - MEAN[0]) / STD[0]


normalise = normalize  # deprecated spelling, kept for one version


def contrastive_loss(image: Tensor, text: Tensor, true: Tensor, scale: Tensor) -> Tensor:
    r"""Contrastive loss with several positives, among which the more specific captions weigh more.

    .. math:: -\tfrac12 \sum_{ij} \left( \frac{P_{ij}}{I} \log p(j \mid i) + \frac{Q_{ij}}{J} \log p(i \mid j) \right),
        \quad Q_{ij} = \frac{T_{ij}}{\sum_i T_{ij}}, \quad P_{ij} = \frac{Q_{ij}}{\sum_j Q_{ij}}

    ``Q`` is the probability of picture ``i`` given caption ``j``, and ``P`` that of caption ``j`` given picture ``i`` if all
    captions are equally probable, so that a caption that is true of few pictures has more weight. This is the mean of CLIP's
    loss over all draws of one true caption for each picture, and as with CLIP's loss, each true word raises the score. If
    all true captions had equal weights, additional true words would not change it, and there would be nothing to explain.

    Args:
        image: unit features of the pictures, ``(I, D)``.
        text: unit features of the captions, ``(J, D)``.
        true: T, which captions are true of which pictures, ``(I, J)``, boolean, with at least one in each row and column.
        scale: the logit scale, a scalar above 0.

    Returns:
        The loss, a scalar of 0 or more.
    """
    logits, target = scale * image @ text.T, true.to(image.dtype)
    of_text = target / target.sum(dim=0, keepdim=True)
    of_image = of_text / of_text.sum(dim=1, keepdim=True)
    return (F.cross_entropy(logits, of_image) + F.cross_entropy(logits.T, of_text.T)) / 2


def encode_text(model: CLIP, tokens: Tensor) -> Tensor:
    """Encodes captions without the padding that all of them share, which saves time and changes nothing.

    The text tower has a causal mask, so that no token sees the padding behind it.

    Args:
        model: the model.
        tokens: token ids ``(N, L)``, padded by 0.

    Returns:
        Unit features ``(N, D)``.
    """
    length = int(tokens.ne(0).sum(1).max())
    short = {"positional_embedding": model.positional_embedding[:length], "attn_mask": model.attn_mask[:length, :length]}
    swapped = {f"model.{name}": value for name, value in short.items()}
    features: Tensor = functional_call(_TextTower(model), swapped, tokens[:, :length])
    return features


class _TextTower(torch.nn.Module):
    def __init__(self, model: CLIP) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor) -> Tensor:
        features: Tensor = self.model.encode_text(tokens, normalize=True)
        return features


def encode_image(visual: VisionTransformer, images: Tensor) -> Tensor:
    """Unit features of pictures ``(N, D)``, equal to those of the model.

    Only the class token is read behind the last block, so what that block would compute for the patches is left out, which
    saves two fifths of the time.

    Args:
        visual: the image tower.
        images: ``(N, 3, H, W)``, normalized.
    """
    x = visual._embeds(images)
    *blocks, last = visual.transformer.resblocks
    for block in blocks:
        x = block(x)
    keys = last.ln_1(x)
    token = x[:, :1] + last.attention(q_x=keys[:, :1], k_x=keys, v_x=keys)
    token = token + last.mlp(last.ln_2(token))
    return F.normalize(visual.ln_post(token[:, 0]) @ visual.proj, dim=-1)


@torch.no_grad()
def center(visual: VisionTransformer, pixels: Tensor) -> None:
    """Subtracts the mean feature from an image tower's output, by changing the bias of its last norm in place.

    The features of all pictures lie in a narrow cone. Along the axis of this cone, any word can raise the score of its text
    with every picture, the articles as well as the nouns. Without it, only words that distinguish pictures can.

    Args:
        visual: the image tower.
        pixels: bytes ``(N, 3, H, W)`` of the pictures over which the mean is taken.
    """
    outputs: list[Tensor] = []
    handle = visual.ln_post.register_forward_hook(lambda module, inputs, output: outputs.append(output[:, 0]))
    try:
        for part in pixels.split(250):
            visual(normalize(part).to(visual.ln_post.weight.device))
    finally:
        handle.remove()
    visual.ln_post.bias -= torch.cat(outputs).mean(dim=0)


centre = center  # deprecated spelling, kept for one version


@torch.no_grad()
def zero_shot(model: CLIP, pixels: Tensor, scenes: Iterable[Scene]) -> float:
    """Zero-shot accuracy: the share of scenes whose own "COLOR SHAPE" is the nearest of all 48 such captions.

    Args:
        model: the model, in evaluation mode.
        pixels: bytes ``(N, 3, H, W)``.
        scenes: the N scenes, of one thing each.

    Returns:
        A number from 0 to 1.
    """
    text = model.encode_text(tokenizer()([Phrase(*pair).words() for pair in PAIRS]), normalize=True)
    image = torch.cat([model.encode_image(normalize(part), normalize=True) for part in pixels.split(256)])
    truth = torch.tensor([scene.things[0].pair for scene in scenes])
    return float((image @ text.T).argmax(1).eq(truth).float().mean())


def optimizers(model: CLIP, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Makes the optimizers: Muon for the matrices of the blocks, AdamW for all else; AdamW alone if ``muon_lr`` is 0.

    Args:
        model: the model; parameters that need no gradient are left out.
        recipe: learning rates and weight decay.

    Raises:
        RuntimeError: if Muon is wanted and this torch has none.
    """
    names = {name: p for name, p in model.named_parameters() if p.requires_grad}
    blocks = [p for name, p in names.items() if ".resblocks." in f".{name}" and p.ndim == 2] if recipe.muon_lr else []
    rest = [p for p in names.values() if not any(p is block for block in blocks)]
    groups = [
        {"params": [p for p in rest if p.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in rest if p.ndim <= 1], "weight_decay": 0.0},
    ]
    result: list[torch.optim.Optimizer] = [torch.optim.AdamW(groups, lr=recipe.lr, betas=(0.9, 0.98), fused=True)]
    if blocks:
        if not hasattr(torch.optim, "Muon"):
            raise RuntimeError(
                f"muon_lr: torch.optim.Muon needs torch 2.9, this is {torch.__version__}; use muon_lr = 0 for AdamW"
            )
        result.append(torch.optim.Muon(blocks, lr=recipe.muon_lr, weight_decay=recipe.weight_decay))
    for group in itertools.chain.from_iterable(optimizer.param_groups for optimizer in result):
        group["initial_lr"] = group["lr"]
    return result


class Trainer:
    """A training run in a folder, which goes on from its last checkpoint.

    Args:
        recipe: all that decides the result.
        out: folder for weights, checkpoint, history and recipe; made if there is none.
        device: where the model trains, ``"cpu"`` or ``"cuda"``.
        workers: number of processes that render scenes; 0 renders in this one.
    """

    def __init__(self, recipe: Recipe, out: Path, device: str, workers: int) -> None:
        self.recipe, self.out, self.device = recipe, out, torch.device(device)
        out.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(recipe.seed)
        self.model = build(
            image_size=recipe.image_size,
            patch_size=recipe.patch_size,
            layers=recipe.layers,
            width=recipe.width,
            heads=recipe.heads,
            text_width=recipe.text_width,
            text_mlp_ratio=recipe.text_mlp_ratio,
            patch_dropout=recipe.patch_dropout,
        ).to(self.device)
        if recipe.lock_image:
            self.model.visual = load(recipe.lock_image)[0].visual.to(self.device)
        if recipe.logit_scale:
            self.model.logit_scale.requires_grad_(False).fill_(math.log(recipe.logit_scale))
        self.optimizers = optimizers(self.model, recipe)
        self.history: list[dict[str, float]] = []
        self.step = 0
        self.checkpoint = out / "checkpoint.pt"
        if self.checkpoint.exists():
            state = torch.load(self.checkpoint, map_location=self.device)
            self.model.load_state_dict(state["model"])
            for optimizer, saved in zip(self.optimizers, state["optimizers"]):
                optimizer.load_state_dict(saved)
            self.step, self.history = state["step"], state["history"]
        kind, counts = TwinScenes if recipe.twins else SceneDataset, tuple(int(n) for n in recipe.counts.split(","))
        self.train_scenes = kind(recipe.scenes, "train", recipe.seed, recipe.image_size, counts)
        self.pixels = self._render(self.train_scenes, workers)
        self.scenes = [
            self.train_scenes.scene(index) for index in track(range(recipe.scenes), "reading scenes", transient=False)
        ]
        held_out = SceneDataset(1000, "validation", recipe.seed, recipe.image_size, counts=(1,))
        self.held_out = self._render(held_out, workers), [held_out.scene(index) for index in range(len(held_out))]
        if recipe.lock_image:
            center(self.model.visual, self.pixels[:8000])
            self.model.visual.requires_grad_(False)
        self.tokens = lru_cache(maxsize=200_000)(lambda text: tokenizer()(text)[0])

    def _render(self, scenes: SceneDataset, workers: int) -> Tensor:
        counts = "".join(map(str, scenes.counts))
        name = f"{type(scenes).__name__}-{scenes.split}-{scenes.seed}-{len(scenes)}-{scenes.size}-{counts}.pt"
        return render(scenes, workers, self.out.parent / "pixels" / name)

    def run(self) -> None:
        """Trains up to the last step of the recipe, with a checkpoint and a line of history every 250 steps."""
        columns = (*Progress.get_default_columns(), TextColumn("{task.fields[last]}"))
        with Progress(*columns) as progress:
            task = progress.add_task("training", total=self.recipe.steps, completed=self.step, last="")
            losses: list[float] = []
            started, first = time.monotonic(), self.step
            while self.step < self.recipe.steps:
                losses.append(self._one_step())
                self.step += 1
                progress.update(task, completed=self.step, last=f"loss {losses[-1]:.3f}")
                if self.step % 250 == 0 or self.step == self.recipe.steps:
                    rate = (self.step - first) * self.recipe.batch / (time.monotonic() - started)
                    self._record(sum(losses) / len(losses), rate)
                    losses.clear()
        save(self.model, self.out / "scenes_clip.safetensors")

    def _one_step(self) -> float:
        recipe = self.recipe
        # The seed depends on the step, so that a resumed run sees what an uninterrupted one would have seen.
        rng = np.random.default_rng([recipe.seed, self.step])
        jitter = torch.Generator().manual_seed(int(rng.integers(2**62)))
        # Sorted, since the pictures lie in a mapped file, which is read fastest in order.
        together = 2 if recipe.twins else 1
        first = np.sort(rng.choice(recipe.scenes // together, recipe.batch // together, replace=False)) * together
        chosen = (first[:, None] + np.arange(together)).ravel()
        scenes = [self.scenes[index] for index in chosen]
        captions = list({c.text: c for c in (sample_caption(scene, rng, recipe.name_colour) for scene in scenes)}.values())
        true = torch.from_numpy(truth(scenes, captions)).to(self.device)
        tokens = torch.stack([self.tokens(caption.text) for caption in captions]).to(self.device)
        images = normalize(self.pixels[torch.from_numpy(chosen)], jitter).to(self.device)

        for group in itertools.chain.from_iterable(optimizer.param_groups for optimizer in self.optimizers):
            group["lr"] = group["initial_lr"] * self._schedule()
        self.model.train()
        torch.manual_seed(int(rng.integers(2**62)))  # patch dropout draws from the global generator
        # On a CPU the plain attention kernel trains 1.6 times as fast as the fused one (65 tokens, wide heads).
        kernels = [SDPBackend.MATH] if self.device.type == "cpu" else [SDPBackend.FLASH_ATTENTION, SDPBackend.MATH]
        with sdpa_kernel(kernels):
            with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=recipe.precision == "bfloat16"):
                image, text = encode_image(self.model.visual, images), encode_text(self.model, tokens)
            loss = contrastive_loss(image.float(), text.float(), true, self.model.logit_scale.exp())
            self.model.zero_grad(set_to_none=True)
            loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
        with torch.no_grad():
            self.model.logit_scale.clamp_(max=math.log(100))
        return float(loss.detach())

    def _schedule(self) -> float:
        """The factor of the learning rates, 0 to 1: warm-up, constant, linear decay.

        A run can be prolonged from any checkpoint before its decay.
        """
        left = (self.recipe.steps - self.step) / self.recipe.decay_steps
        return min(1.0, (self.step + 1) / self.recipe.warmup, left)

    def _record(self, loss: float, rate: float) -> None:
        accuracy = zero_shot(self.model.eval(), *self.held_out) if self.device.type == "cpu" else self._on_cpu()
        line = {"step": self.step, "loss": loss, "zero_shot": accuracy, "images_per_second": rate}
        self.history.append(line)
        print(to_json(line), flush=True)
        state = {
            "model": self.model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "step": self.step,
            "history": self.history,
        }
        with replacing(self.checkpoint) as part:
            torch.save(state, part)
        write_json(self.out / "recipe.json", asdict(self.recipe))
        write_json(self.out / "history.json", self.history)
        plot(self.history, self.out / "curve.png")

    def _on_cpu(self) -> float:
        accuracy = zero_shot(self.model.cpu().eval(), *self.held_out)
        self.model.to(self.device)
        return accuracy


def plot(history: list[dict[str, float]], path: Path) -> None:
    """Draws loss and zero-shot accuracy over the steps.

    Args:
        history: the lines of a run's ``history.json``.
        path: the file to write.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    steps = [line["step"] for line in history]
    left.plot(steps, [line["loss"] for line in history])
    left.set(xlabel="step", ylabel="contrastive loss")
    right.plot(steps, [line["zero_shot"] for line in history])
    right.set(xlabel="step", ylabel="zero-shot accuracy, 48 pairs", ylim=(0, 1))
    with replacing(path) as part:
        figure.savefig(part, dpi=120)


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line, in which every field of :class:`Recipe` is an option.

    Args:
        arguments: the arguments, or ``None`` (the default) for those of the process.
    """
    parser = argparse.ArgumentParser(description="train the embedded CLIP on scenes")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("runs/scenes"),
        help="folder of the run, which is resumed if it exists [%(default)s]",
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="[%(default)s]")
    parser.add_argument("--workers", type=int, default=2, help="number of processes that render scenes [%(default)s]")
    for field in fields(Recipe):
        default = field.default
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=type(default), default=default, help=f"[{default}]")
    options = vars(parser.parse_args(arguments))
    out, device, workers = options.pop("out"), options.pop("device"), options.pop("workers")
    Trainer(Recipe(**options), out, device, workers).run()


if __name__ == "__main__":
    main()
