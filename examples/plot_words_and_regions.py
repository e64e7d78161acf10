"""
Which word goes with which region
=================================

In "a red circle and a blue circle" the word "circle" stands twice, and no prompt of one word can say which is meant.
:class:`captum_gradeclip.WordRegionAttribution` gives every word of a caption its own map, from one pass of the text and two
of the picture.
"""

import torch

from captum_gradeclip import WordRegionAttribution, explain, scenes, show
from captum_gradeclip.experiments.findings.contrast import Lookalikes
from captum_gradeclip.maps import Frame, by_parts, merge_regions, to_pixels

model, preprocess, tokenizer = scenes.load()
scene = Lookalikes(8, "evaluation", 0, 320)[3]
image = scene.image
caption = " and ".join(scenes.with_article(scenes.name(thing).text) for thing in scene.scene.things)
caption

# %%
# With real weights:

# import open_clip
# model, preprocess = open_clip.create_model_from_pretrained("ViT-B-16-quickgelu", "openai")
# tokenizer, model = open_clip.get_tokenizer("ViT-B-16-quickgelu"), model.eval()

# %%
# The tensor has a map for each token, signed. Sub-words are added up to words; marks and padding are left out.
tokens = tokenizer([caption])
tensor = WordRegionAttribution(model).attribute(preprocess(image)[None], tokens)
words = merge_regions(tensor[0], tokens[0], tokenizer)
[word for word, _ in words]

# %%
# The same word twice, each time in a color of its own, on what it means.
frame = Frame.crop(image.size)
nouns = [place for place, (word, _) in enumerate(words) if word in scenes.SHAPES]
maps = torch.stack([words[place][1] for place in nouns])
show.regions(image, to_pixels(maps, frame), [word for word, _ in words], nouns)

# %%
# One map after the other, of all words that mean something visible. Each has a scale of its own, and blue is what speaks
# against the word.
chosen = [place for place, (word, _) in enumerate(words) if word not in ("a", "an", "and")]
maps = torch.stack([words[place][1] for place in chosen])
show.strip(
    image,
    to_pixels(maps, frame),
    [words[place][0] for place in chosen],
    unit="cosine",
    style=show.Style(color_scale="each"),
)

# %%
# ``explain`` finds the regions beside everything else when it is asked to. Click a word to see its region; point at a patch
# to see its value, and the words that it goes with. ``found.save("folder", html=True)`` writes a page like this one.
found = explain(model, image, caption, tokenizer, regions=True)
found

# %%
# One map of the whole caption, in which each word has the same say: it lies on both things.
show.strip(image, to_pixels(by_parts(maps[None])[0], frame), ["all words"])
