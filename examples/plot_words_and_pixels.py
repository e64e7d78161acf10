"""
Words and pixels, step by step
==============================

What :func:`captum_gradeclip.explain` does in one call, done by hand: a score for the picture, a score for the text,
the method on both, and the way back from patches to pixels and from tokens to words.
"""

import torch

from captum_gradeclip import GradECLIP, ImageTextScore, TextImageScore, scenes, show
from captum_gradeclip.maps import Frame, merge_words, to_pixels

model, preprocess, tokenizer = scenes.load()
scene = scenes.sample_scene(seed=1, index=4, split="evaluation", counts=(3,))
image, _ = scenes.draw(scene, size=320)
texts = [scenes.with_article(scenes.name(thing).text) for thing in scene.things]

# %%
# With real weights:

# import open_clip
# model, preprocess = open_clip.create_model_from_pretrained("ViT-B-16-quickgelu", "openai")
# tokenizer, model = open_clip.get_tokenizer("ViT-B-16-quickgelu"), model.eval()

# %%
# Which pixels? The targets of this score are the texts. The maps of all of them come from one forward pass. The paper
# explains the last layer of the image tower.
pixels = preprocess(image)[None]
image_score = ImageTextScore(model, texts, tokenizer)
maps = GradECLIP(image_score, image_score.layers[-1:]).attribute_targets(pixels)[0]
maps.shape

# %%
# Which words? Now the inputs are token ids, and the target is the picture. The paper explains the last eight layers of
# the text tower.
tokens = tokenizer(texts)
text_score = TextImageScore(model, pixels)
weights = GradECLIP(text_score, text_score.layers[-8:]).attribute(tokens, target=0)
words = merge_words(weights, tokens, tokenizer)
words[0]

# %%
# A frame says where the model's input lies in the picture. This picture is square, so the center crop is all of it; of
# a photograph 640 pixels wide and 480 high, the crop would leave 80 pixels on each side unseen.
frame = Frame.crop(image.size)
with torch.no_grad():
    notes = [f"score {score:+.3f}" for score in image_score(pixels)[0].tolist()]
show.strip(
    image, to_pixels(maps, frame), texts, words=words, notes=notes, unit="cosine", style=show.Style(color_scale="each")
)
