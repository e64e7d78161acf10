"""
A classifier of timm
====================

An image classifier needs no texts: its classes are the targets. The classifier here is a vision transformer of timm that
has the weights of the embedded CLIP, and the features of 48 names of things as its head, so that it can be explained
without any download.
"""

from itertools import product

import timm
import torch
from timm.models.vision_transformer import checkpoint_filter_fn

from captum_gradeclip import GradECLIP, ImageTextScore, explain, scenes

# %%
# With real weights, this is all there is to do, and classes have the names of ImageNet:

# model = timm.create_model("vit_base_patch16_224.augreg_in1k", pretrained=True).eval()
# explain(model, "photo.jpg", targets=["whippet", "tabby"]).plot()

# %%
# timm knows how to read the image tower of a CLIP. Its projection and the features of the names together are one matrix.
embedded, preprocess, tokenizer = scenes.load()
model = timm.models.VisionTransformer(
    img_size=96, patch_size=8, embed_dim=192, depth=2, num_heads=2, num_classes=128, pre_norm=True
)
model.load_state_dict(checkpoint_filter_fn(embedded.state_dict(), model))
names = [f"{color} {shape}" for color, shape in product(scenes.COLOURS, scenes.SHAPES)]
features = ImageTextScore(embedded, [scenes.with_article(name) for name in names], tokenizer).text_features
head = torch.nn.Linear(192, len(names), bias=False)
head.weight.data = 10 * features @ model.head.weight.data
model.head, model.num_classes = head, len(names)
model.pretrained_cfg = {"label_names": names}  # where timm keeps the names of classes
model.eval()

# %%
# A classifier is explained in Captum's own way of calling: the model is the forward function, a block is the layer.
held_out = [scenes.SceneDataset(32, "evaluation", counts=(1,))[index] for index in range(32)]
pixels = torch.stack([preprocess(item.image) for item in held_out])
classes = torch.tensor([names.index(scenes.name(item.scene.things[0]).text) for item in held_out])
print(f"accuracy on held-out scenes: {(model(pixels).argmax(dim=1) == classes).float().mean():.2f}")
print(GradECLIP(model, model.blocks[-1]).attribute(pixels[:4], target=classes[:4]).shape)

# %%
# ``explain`` takes picture files, arrays and PIL images, and the names of classes. Without targets, it explains the three
# most probable ones.
item = scenes.SceneDataset(10, "evaluation", size=320, counts=(3,))[2]
wanted = [scenes.name(thing).text for thing in item.scene.things]
found = explain(model, item.image, preprocess=preprocess, targets=wanted)
print({name: round(value, 3) for name, value in zip(wanted, found.probabilities[0].tolist())})
found.plot()
