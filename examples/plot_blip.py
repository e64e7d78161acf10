"""
A BLIP encoder of transformers
==============================

Models of transformers are explained like those of open_clip. BLIP encodes texts with a BERT, whose padding has to be
masked; the adapter of the family knows this. The weights here are random, so the maps mean nothing: what the example
shows are the calls, and that the model is left as it was.
"""

import torch

from captum_gradeclip import GradECLIP, ImageTextScore, TextImageScore, adapters, scenes, show
from captum_gradeclip.maps import Frame, to_pixels

torch.manual_seed(0)
family = adapters.families()["transformers BLIP retrieval"]
model = family.build().eval()
with torch.no_grad():
    for parameter in model.parameters():  # the usual random weights are so small that no map would differ from zero
        parameter.add_(0.15 * torch.randn_like(parameter))
type(model).__name__, family.note

# %%
# With real weights, texts can be given as strings, since the processor holds the tokenizer, and prepares pictures:

# from transformers import AutoProcessor, BlipForImageTextRetrieval
# model = BlipForImageTextRetrieval.from_pretrained("Salesforce/blip-itm-base-coco").eval()
# processor = AutoProcessor.from_pretrained("Salesforce/blip-itm-base-coco")
# captum_gradeclip.explain(model, "photo.jpg", ["a dog", "a cat"], processor).plot()

# %%
# The score is the cosine of BLIP's contrastive head. A tiny model has a vocabulary of 50 numbers, so its texts are
# numbers here.
size = family.size
tower = adapters.image_tower(model)
image = scenes.SceneDataset(10, "evaluation", size=320, counts=(2,))[4].image
pixels = scenes.preprocess(size[0])(image)[None]
texts = torch.randint(1, 40, (3, 8))
score = ImageTextScore(model, texts)
print("patches of", tower.patch, "pixels, attention layers:", len(score.layers))

# %%
# Maps of pictures, and weights of the tokens of texts.
before = {name: value.clone() for name, value in model.state_dict().items()}
maps = GradECLIP(score, score.layers[-1:]).attribute_targets(pixels).detach()
words = TextImageScore(model, pixels)
weights = GradECLIP(words, words.layers[-8:]).attribute(texts, target=0)
print(tuple(maps.shape), tuple(weights.shape))
assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
show.strip(
    image, to_pixels(maps[0], Frame.crop(image.size)), [f"random text {number}" for number in range(3)], unit="cosine"
)
