"""
A classifier of timm
====================

An image classifier needs no texts: its classes are the targets. The classifier here is a small vision transformer of
timm, which learns in a few seconds to name the color of a thing, so that there is something to explain without any
download.
"""

import timm
import torch

from captum_gradeclip import GradECLIP, explain, scenes

torch.manual_seed(0)
known = list(scenes.COLOURS)
items = [scenes.SceneDataset(384, "train", size=48, counts=(1,))[index] for index in range(384)]
images = torch.stack([scenes.preprocess(48)(item.image) for item in items])
classes = torch.tensor([known.index(item.scene.things[0].colour) for item in items])

# %%
# With real weights, this line replaces the training, and classes have the names of ImageNet:

# model = timm.create_model("vit_base_patch16_224.augreg_in1k", pretrained=True).eval()

# %%
# Two blocks of width 64 on 6 x 6 patches.
model = timm.models.VisionTransformer(img_size=48, patch_size=8, embed_dim=64, depth=2, num_heads=4, num_classes=len(known))
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
for _ in range(15):
    for some in torch.randperm(len(images)).split(64):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(images[some]), classes[some]).backward()
        optimizer.step()
model.eval()

# %%
# Any layer of a classifier can be explained by Captum's own way of calling: the model is the forward function, a block
# is the layer.
held_out = [scenes.SceneDataset(64, "evaluation", size=48, counts=(1,))[index] for index in range(64)]
pixels = torch.stack([scenes.preprocess(48)(item.image) for item in held_out])
colors = torch.tensor([known.index(item.scene.things[0].colour) for item in held_out])
print(f"accuracy on held-out scenes: {(model(pixels).argmax(dim=1) == colors).float().mean():.2f}")
print(GradECLIP(model, model.blocks[-1]).attribute(pixels[:4], target=colors[:4]).shape)

# %%
# ``explain`` does the same for a picture file, an array or a PIL image, and here for pixels that are prepared already.
# The picture holds two things of different colors, and each map has to find its own.
two = next(
    item
    for item in (scenes.SceneDataset(64, "evaluation", size=48, counts=(2,))[index] for index in range(64))
    if len({thing.colour for thing in item.scene.things}) == 2
)
names = [thing.colour for thing in two.scene.things]
found = explain(model, scenes.preprocess(48)(two.image), targets=[known.index(name) for name in names])
print(dict(zip(names, found.probabilities[0].tolist())))
found.plot()
