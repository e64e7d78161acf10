"""
Captum's NoiseTunnel around Grad-ECLIP
======================================

A map of one picture may depend on its noise. Captum's ``NoiseTunnel`` averages the maps of noisy copies (SmoothGrad),
or tells how far they scatter. It takes Grad-ECLIP as it takes every method of Captum.
"""

import torch
from captum.attr import NoiseTunnel

from captum_gradeclip import GradECLIP, ImageTextScore, scenes, show
from captum_gradeclip.maps import Frame, to_pixels

torch.manual_seed(0)
model, preprocess, tokenizer = scenes.load()
image, _, scene = scenes.SceneDataset(10, "evaluation", size=320, counts=(3,))[2]
text = scenes.with_article(scenes.name(scene.things[0]).text)
score = ImageTextScore(model, [text], tokenizer)
images = preprocess(image)[None]

# %%
# With real weights:

# import open_clip
# model, preprocess = open_clip.create_model_from_pretrained("ViT-B-16-quickgelu", "openai")
# tokenizer, model = open_clip.get_tokenizer("ViT-B-16-quickgelu"), model.eval()

# %%
# Options of the method are given beside those of the tunnel.
method = GradECLIP(score, score.layers[-1:])
tunnel = NoiseTunnel(method)
plain = method.attribute(images, target=0)
smooth = tunnel.attribute(images, nt_type="smoothgrad", nt_samples=20, stdevs=0.2, target=0)
scatter = tunnel.attribute(images, nt_type="vargrad", nt_samples=20, stdevs=0.2, target=0).sqrt()

# %%
# Where the last map is bright, the noise decides what the first one shows. Texts have no such tunnel, since token ids
# cannot be made noisy.
maps = to_pixels(torch.cat([plain, smooth, scatter])[:, 0].detach(), Frame.crop(image.size))
show.strip(image, maps, [f"{text}: one pass", "mean of 20 noisy passes", "their standard deviation"], unit="cosine")
