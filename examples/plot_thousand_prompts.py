"""
A thousand prompts at once
==========================

The maps of many texts come from one forward pass of the picture, and their gradients are computed in batches. Which
parts of a picture does a whole vocabulary see?
"""

from itertools import product
from time import perf_counter

import torch

from captum_gradeclip import GradECLIP, ImageTextScore, scenes, show
from captum_gradeclip.maps import Frame, to_pixels
from captum_gradeclip.scores.prompts import prompt_ensemble

model, preprocess, tokenizer = scenes.load()
image, _, scene = scenes.SceneDataset(10, "evaluation", size=320, counts=(3,))[7]
images = preprocess(image)[None]

# %%
# With real weights:

# import open_clip
# model, preprocess = open_clip.create_model_from_pretrained("ViT-B-16-quickgelu", "openai")
# tokenizer, model = open_clip.get_tokenizer("ViT-B-16-quickgelu"), model.eval()

# %%
# 1,056 descriptions: all colors, shapes, materials and sizes, and what they stand on. The texts are encoded once and
# bound in the score.
starts = (
    "a",
    "one",
    "a picture of a",
    "there is a",
    "a scene with a",
    "an image of a",
    "the",
    "only a",
    "some",
    "here is a",
    "this is a",
)
texts = [
    " ".join((start, *kind)) for start, kind in product(starts, product(("small", "large"), scenes.COLOURS, scenes.SHAPES))
]
features = prompt_ensemble(model, tokenizer, texts, ["{}"])
score = ImageTextScore(model, features)
method = GradECLIP(score, score.layers[-1:])

# %%
# The memory grows with the number of texts that are differentiated at once; ``chunk_size`` bounds it.
for targets in ([0], None):
    start = perf_counter()
    maps = method.attribute_targets(images, targets, chunk_size=32)
    print(f"{maps.shape[1]:5} maps in {perf_counter() - start:.3f} s")

# %%
# The five texts with the highest score, and the mean of all maps, which shows what any text finds in the picture.
with torch.no_grad():
    scores = score(images)[0]
best = scores.topk(4).indices.tolist()
chosen = torch.cat([maps[0, best], maps[0].mean(dim=0, keepdim=True)]).detach()
titles = [*(texts[one] for one in best), f"mean of all {len(texts)} maps"]
notes = [*(f"score {scores[one]:+.3f}" for one in best), ""]
show.strip(image, to_pixels(chosen, Frame.crop(image.size)), titles, notes=notes, unit="cosine")
