"""
Grad-ECLIP beside its rivals
============================

Five methods on one score, each on the layers that it is meant for; CLIP Surgery taken apart into its pieces; and how
much of the map of a method that draws random numbers is chance.
"""

import torch
from torch.nn import functional as F

from captum_gradeclip import ImageTextScore, TextImageScore, scenes, show
from captum_gradeclip.attr import M2IB, RISE, CLIPSurgery, compare, feature_surgery, word_relevance
from captum_gradeclip.maps import Frame, merge_words, point_prompts, to_pixels
from captum_gradeclip.scores.prompts import prompt_ensemble

model, preprocess, tokenizer = scenes.load()
scene = scenes.sample_scene(seed=1, index=4, split="evaluation", counts=(3,))
image, _ = scenes.draw(scene, size=320)
pixels = preprocess(image)[None]

# %%
# With real weights:

# import open_clip
# model, preprocess = open_clip.create_model_from_pretrained("ViT-B-16-quickgelu", "openai")
# tokenizer, model = open_clip.get_tokenizer("ViT-B-16-quickgelu"), model.eval()

# %%
# Labels instead of texts: the features of each label are the mean direction of several sentences, computed once and
# bound in the score.
names = [scenes.name(thing).text for thing in scene.things]
labels = [*names, *(f"{color} {shape}" for color in ("red", "blue", "green") for shape in ("star", "ring", "square"))]
templates = ["a {}", "one {}", "a picture of a {}"]
features = prompt_ensemble(model, tokenizer, labels, templates)
score = ImageTextScore(model, features)

# %%
# Three labels of the list are mapped. CLIP Surgery takes off what all labels of the list share.
options = {
    "RISE": {"n_masks": 200, "subtract_mean": True},
    "CLIP Surgery": {"redundancy": "labels"},
    "M2IB": {"steps": 10},
}
compared = compare(score, pixels, ["GradECLIP", "GAME", "CLIPSurgery", "M2IB", "RISE"], targets=[0, 1, 2], options=options)
frame = Frame.crop(image.size)
show.matrix(image, [show.Row(one.name, to_pixels(one.maps[0].detach(), frame)) for one in compared], names)

# %%
# CLIP Surgery in its parts: dense features, what the empty text says taken off, and points to click on.
surgery = CLIPSurgery.for_score(score)
dense = surgery.dense_features(pixels)
empty = prompt_ensemble(model, tokenizer, "", templates)
by_hand = feature_surgery(dense, features, empty)[0, 1:, 0].view(score.grid(pixels)).detach()
assert torch.allclose(by_hand, surgery.attribute(pixels, target=0, redundancy=empty)[0, 0], atol=1e-5)
points, _ = point_prompts(by_hand, size=(image.height, image.width))
print(f"click on the {names[0]} at", points[0].tolist())
tokens = tokenizer(names[:1])
words = word_relevance(TextImageScore(model, pixels), tokens)[:, 0]
print("words in the manner of CLIP Surgery:", merge_words(words, tokens, tokenizer)[0])


# %%
# How much of a map is chance? RISE weighs random masks with cosines that hardly differ, so that its map is mostly the
# masks' own noise, unless the mean of the cosines is taken off. M2IB optimizes from a fixed beginning, and stops before
# its map has settled.
def agreement(one: torch.Tensor, other: torch.Tensor) -> float:
    return float(F.cosine_similarity(one.flatten() - one.mean(), other.flatten() - other.mean(), dim=0))


for subtract_mean in (False, True):
    first, second = (
        RISE(score).attribute(pixels, target=1, seed=seed, n_masks=200, subtract_mean=subtract_mean) for seed in (1, 2)
    )
    print(f"RISE, 200 masks, mean subtracted: {subtract_mean}, two seeds agree by {agreement(first, second):.2f}")
method = M2IB.for_score(score)
settled = method.attribute(pixels, target=1, steps=40)
for steps in (10, 20):
    print(
        f"M2IB, {steps} steps, agrees with 40 by {agreement(method.attribute(pixels, target=1, steps=steps), settled):.2f}"
    )
