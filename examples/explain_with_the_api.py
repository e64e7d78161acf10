"""A picture and its caption, explained with the package's functions alone: what ``gradeclip explain`` does, step by step.

Run it anywhere; it writes ``explanation.png`` into the current folder. With a model of your own, replace the line that
loads it by ``open_clip.create_model_from_pretrained``, ``open_clip.get_tokenizer`` and ``model.eval()``.
"""

import torch

from captum_gradeclip import GradECLIP, ImageTextScore, TextImageScore, scenes, show
from captum_gradeclip.maps import Frame, merge_words, to_pixels

model, preprocess, tokenizer = scenes.load()
scene = scenes.sample_scene(seed=1, index=4, split="evaluation", counts=(3,))
image, _ = scenes.draw(scene, size=320)
texts = [scenes.with_article(scenes.name(thing).text) for thing in scene.things]

# Which pixels? The score's targets are the texts; all of their maps come from one forward pass.
pixels = preprocess(image)[None]
image_score = ImageTextScore(model, texts, tokenizer)
maps = GradECLIP(image_score, image_score.layers[-1:]).attribute_targets(pixels)[0]

# Which words? Now the inputs are token ids, and the target is the image.
tokens = tokenizer(texts)
text_score = TextImageScore(model, pixels)
weights = GradECLIP(text_score, text_score.layers[-8:]).attribute(tokens, target=0)
words = merge_words(weights, tokens, tokenizer)

with torch.no_grad():
    scores = [f"score {score:+.3f}" for score in image_score(pixels)[0].tolist()]
full = to_pixels(maps, Frame.crop(image.size))
figure = show.strip(image, full, texts, words=words, notes=scores, unit="cosine", style=show.Style(color_scale="shared"))
show.save(figure, "explanation.png")
print("explanation.png", *map(": ".join, zip(texts, scores)), sep="\n")
