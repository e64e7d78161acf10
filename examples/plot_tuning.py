"""
Maps that teach the model
=========================

Each noun phrase of a caption gets its map, the map marks a region of the picture, and the dense feature of this region
learns to match the phrase. A few steps of it on drawn scenes show what changes: the model tells better what lies where.
"""

import matplotlib.pyplot as plt
import torch

from captum_gradeclip import scenes
from captum_gradeclip.attr import dense_features
from captum_gradeclip.scores import encode_text
from captum_gradeclip.tuning import ScenePairs, SceneRegionData, TuneSettings, classify_regions, noun_phrases, tune

# %%
# The phrases of a caption are its adjectives and nouns.
pairs = ScenePairs(256)
for index in range(4):
    print(pairs[index].caption, "->", noun_phrases(pairs[index].caption))

# %%
# The model is a copy of the one that is given. With real weights, and a GPU:

# import open_clip
# model, _, preprocess = open_clip.create_model_and_transforms("ViT-B-16-quickgelu", "openai")
# tokenizer = open_clip.get_tokenizer("ViT-B-16-quickgelu")
# tuned = tune(model, TablePairs(Path("pairs.tsv")), tokenizer, TuneSettings(steps=5000), out="tuned")
model, preprocess, tokenizer = scenes.load()
settings = TuneSettings(steps=30, batch=32, lr=3e-4)
tuned = tune(model, pairs, tokenizer, settings, preprocess=preprocess, device="cpu", quiet=True)
for row in tuned.log:
    print(f"step {row['step']}: loss {row['loss']:.2f}, of regions {row['local']:.2f}, {row['regions']:.0f} regions")

# %%
# Boxes and masks of held-out scenes, classified among the 48 pairs of color and shape by their dense features:
data = SceneRegionData(40)
for name, one in (("before", model), ("after", tuned.model)):
    found = classify_regions(one, data, tokenizer, quiet=True)
    print(f"{name}: boxes {100 * found['boxes top1']:.0f} %, masks {100 * found['thing masks top1']:.0f} %")

# %%
# The cosine of each patch with a phrase, before and after.
one = data[3]
names = [data.classes[label] for label in one.labels[:2]]
texts = encode_text(model, tokenizer(names)), encode_text(tuned.model, tokenizer(names))
figure, axes = plt.subplots(1, 1 + 2 * len(names), figsize=(3 * (1 + 2 * len(names)), 3), layout="constrained")
axes[0].imshow(one.image)
axes[0].set_title("the picture")
for number, name in enumerate(names):
    for place, (network, features) in enumerate(zip((model, tuned.model), texts)):
        with torch.no_grad():
            dense = dense_features(network, preprocess(one.image)[None])[0]
        axis = axes[1 + 2 * number + place]
        axis.imshow(torch.einsum("dhw,d->hw", dense, features[number]), cmap="plasma")
        axis.set_title(f"{name}\n{'after' if place else 'before'}")
for axis in axes:
    axis.set_axis_off()
