"""
A matching head: words that look at patches
===========================================

The matching head of BLIP reads a text whose words attend to all patches. :class:`captum_gradeclip.MatchScore` makes it a
score like any other. The weights here are random, so the maps mean nothing: what the example shows are the calls.
"""

import torch
from transformers import BlipConfig, BlipForImageTextRetrieval

from captum_gradeclip import GradECLIP, MatchScore, scenes, show
from captum_gradeclip.attr import MatchRegionAttribution
from captum_gradeclip.maps import Frame, to_pixels

torch.manual_seed(0)
small = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4}
config = BlipConfig(
    vision_config={**small, "image_size": 64, "patch_size": 8}, text_config={**small, "encoder_hidden_size": 32}
)
model = BlipForImageTextRetrieval(config).eval()
with torch.no_grad():
    for parameter in model.parameters():  # the usual random weights are so small that no map would differ from zero
        parameter.add_(0.15 * torch.randn_like(parameter))

# %%
# With real weights, texts can be given as strings, since the processor holds the tokenizer:

# from transformers import AutoProcessor
# model = BlipForImageTextRetrieval.from_pretrained("Salesforce/blip-itm-base-coco").eval()
# processor = AutoProcessor.from_pretrained("Salesforce/blip-itm-base-coco")
# score = MatchScore(model, ["a dog", "a cat"], processor)

# %%
# The logit of "match" for each text, and the map of each. The layers are those of cross-attention.
image = scenes.SceneDataset(10, "evaluation", size=320, counts=(2,))[4].image
pixels = scenes.preprocess(64)(image)[None]
score = MatchScore(model, torch.tensor([[2, 7, 9, 3], [2, 8, 11, 3]]))
maps = GradECLIP(score, score.layers[-1]).attribute_targets(pixels)
show.strip(image, to_pixels(maps[0], Frame.crop(image.size)), ["first text", "second text"], unit="logit")

# %%
# What each token of the first text takes from each patch, over all layers of cross-attention.
pairs = MatchRegionAttribution(score).attribute(pixels, target=0)
show.strip(image, to_pixels(pairs[0], Frame.crop(image.size)), [f"token {number}" for number in range(4)], unit="logit")
