"""
Is the map right? Curves of deletion and insertion
==================================================

If a map is right, the score falls fast while the most important pixels are taken away, and rises fast while they come
back. This example draws both curves for three methods and a random map, and then the areas under them over several
pictures.
"""

import matplotlib.pyplot as plt
import torch

from captum_gradeclip import ImageTextScore, scenes
from captum_gradeclip.attr import find_method
from captum_gradeclip.metrics import Deletion, Insertion, Schedule, baseline, curves, target_score

torch.manual_seed(0)
model, preprocess, tokenizer = scenes.load()
items = [scenes.SceneDataset(8, "evaluation", counts=(1,))[index] for index in range(8)]
images = torch.stack([preprocess(item.image) for item in items])
texts = [scenes.with_article(scenes.name(item.scene.things[0]).text) for item in items]
targets = torch.arange(8)
score = ImageTextScore(model, texts, tokenizer)

# %%
# With real weights:

# import open_clip
# model, preprocess = open_clip.create_model_from_pretrained("ViT-B-16-quickgelu", "openai")
# tokenizer, model = open_clip.get_tokenizer("ViT-B-16-quickgelu"), model.eval()

# %%
# A metric sees maps, images and a function, and never a method, so any map can be measured, also one from elsewhere.
maps = {
    find_method(name).info.name: find_method(name).for_score(score).attribute(images, target=targets).detach()[:, 0]
    for name in ("GradECLIP", "GAME", "RawAttention")
}
maps["random map"] = torch.rand(8, 12, 12)

# %%
# What stands in the place of pixels that are taken away decides much of such a curve. Here it is the mean color of each
# picture.
schedule = Schedule(points=10, share=0.5)
empty = baseline(images, "own-mean", score.tower.mean, score.tower.std)
asked = {"cosine": target_score(targets)}
figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), sharey=True, layout="constrained")
for axis, mode in zip(axes, ("deletion", "insertion")):
    for name, one in maps.items():
        traced = curves(score, images, one, asked, mode=mode, background=empty, schedule=schedule)["cosine"]
        axis.plot(range(0, 51, 5), traced.mean(dim=0), label=name, marker=".")
    axis.set(title=mode, xlabel="changed pixels in %")
axes[0].set_ylabel("cosine, mean of 8 pictures")
axes[1].legend()
plt.show()

# %%
# The areas under the curves, as classes of torchmetrics that accumulate over batches and over processes.
for name, one in maps.items():
    areas = []
    for kind in (Deletion, Insertion):
        metric = kind(score, baseline="own-mean", schedule=schedule)
        metric.update(images, one, targets)
        areas.append(float(metric.compute()))
    print(f"{name:14} deletion {areas[0]:.3f} (lower is better)   insertion {areas[1]:.3f} (higher is better)")
