"""Grad-ECLIP beside its rivals: labels and prompts, options, clicks, and how far to trust a map.

Run it anywhere; it writes ``rivals.png`` into the current folder. ``python rivals.py 0.1`` draws a tenth of the random masks
and takes a tenth of the steps, for a first look. With a model of your own, replace the line that loads it.
"""

import sys

import torch
from torch.nn import functional as F

from captum_gradeclip import ImageTextScore, TextImageScore, scenes, show
from captum_gradeclip.attr import M2IB, RISE, CLIPSurgery, compare, feature_surgery, word_relevance
from captum_gradeclip.maps import Frame, merge_words, to_pixels
from captum_gradeclip.points import point_prompts
from captum_gradeclip.prompts import prompt_ensemble

share = float(sys.argv[1]) if len(sys.argv) > 1 else 1.0


def some(count: int) -> int:
    return max(1, round(share * count))


model, preprocess, tokenizer = scenes.load()
scene = scenes.sample_scene(seed=1, index=4, split="evaluation", counts=(3,))
image, _ = scenes.draw(scene, size=320)
pixels = preprocess(image)[None]

# The text features are computed once, each as the mean direction of several sentences, and bound in the score.
names = [scenes.name(thing).text for thing in scene.things]
labels = [*names, *(f"{colour} {shape}" for colour in ("red", "blue", "green") for shape in ("star", "ring", "square"))]
templates = ["a {}", "one {}", "a picture of a {}"]
features = prompt_ensemble(model, tokenizer, labels, templates)
score = ImageTextScore(model, features)

# Many methods at once, each on the layers that it is meant for; three labels of the list are mapped, all of them are known.
options = {
    "RISE": {"n_masks": some(500), "subtract_mean": True},
    "CLIP Surgery": {"redundancy": "labels"},
    "M2IB": {"steps": some(20)},
}
compared = compare(score, pixels, ["GradECLIP", "GAME", "CLIPSurgery", "M2IB", "RISE"], targets=[0, 1, 2], options=options)
rows = [show.Row(f"{one.method}\n{one.seconds:.2f} s", to_pixels(one.maps[0], Frame.crop(image.size))) for one in compared]
show.save(show.matrix(image, rows, names), "rivals.png")

# CLIP Surgery in its parts: dense features, what the empty text says taken off, and points to click on.
surgery = CLIPSurgery.of(score)
dense = surgery.dense_features(pixels)
empty = prompt_ensemble(model, tokenizer, "", templates)
by_hand = feature_surgery(dense, features, empty)[0, 1:, 0].view(score.grid(pixels))
assert torch.allclose(by_hand, surgery.attribute(pixels, target=0, redundancy=empty)[0, 0], atol=1e-5)
points, _ = point_prompts(by_hand, size=(image.height, image.width))
print(f"click on the {names[0]} at", points[0].tolist())
words = word_relevance(TextImageScore(model, pixels), tokenizer(names[:1]))[:, 0]
print("words in the manner of CLIP Surgery:", merge_words(words, tokenizer(names[:1]), tokenizer)[0])


# How much of a map is chance?
def agreement(one: torch.Tensor, other: torch.Tensor) -> float:
    return float(F.cosine_similarity(one.flatten() - one.mean(), other.flatten() - other.mean(), dim=0))


for n_masks in (some(100), some(2000)):
    for subtract_mean in (False, True):
        chosen = {"n_masks": n_masks, "subtract_mean": subtract_mean}
        first, second = (RISE(score).attribute(pixels, target=1, seed=seed, **chosen) for seed in (1, 2))
        print(f"RISE, {n_masks} masks, mean subtracted: {subtract_mean}, two seeds agree by {agreement(first, second):.2f}")
method = M2IB.of(score)
settled = method.attribute(pixels, target=1, steps=some(100), tolerance=0.02)
for steps in (some(10), some(40)):
    print(f"M2IB, {steps} steps, agrees by {agreement(method.attribute(pixels, target=1, steps=steps), settled):.2f}")
