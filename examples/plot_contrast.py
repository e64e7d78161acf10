"""
Why this rather than that
=========================

Two things of one shape: the map of "a red circle" also lights the blue one, since both are circles. Held against the other
text, what they have in common cancels, and the signed map is red on the one and blue on the other.
"""

import itertools

from captum_gradeclip import explain, scenes

# %%
# A scene of two things that differ in their color alone, which the embedded model has not seen.
model, preprocess, tokenizer = scenes.load()
held_out = (scenes.sample_scene(0, number, "evaluation", (2,)) for number in itertools.count())
pairs = ((one, *one.things) for one in held_out)
scene = next(one for one, a, b in pairs if a.shape == b.shape and a.colour != b.colour)
image, masks = scenes.draw(scene, 320)
texts = [scenes.with_article(scenes.Phrase(thing.colour, thing.shape).words()) for thing in scene.things]

# %%
# With real weights, these lines load another model:

# import open_clip
# model, preprocess = open_clip.create_model_from_pretrained("ViT-B-16-quickgelu", "openai")
# tokenizer, model = open_clip.get_tokenizer("ViT-B-16-quickgelu"), model.eval()

# %%
# Each text by itself. Signed maps show what speaks against a text in blue.
plain = explain(model, image, texts, tokenizer, words=False, relu_attributions=False)
plain.plot()

# %%
# The first rather than the second, and the other way round. In the shell this is
# ``gradeclip explain IMAGE TEXT --against TEXT --signed``.
contrast = explain(model, image, texts[0], tokenizer, against=texts[1], words=False, relu_attributions=False)
contrast.plot()

# %%
# The same in numbers: the mean of the map on each thing. Scores are differences as well.
pixels = contrast.pixels(0)[0]
for text, mask in zip(texts, masks):
    print(f"{text}: {float(pixels[mask > 0].mean()):+.4f}")
print(f"{texts[0]} rather than {texts[1]}: {float(contrast.scores):+.3f}")
