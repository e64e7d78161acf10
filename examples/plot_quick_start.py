"""
Quick start: which patches, and which words
===========================================

A picture, three texts, and one call. The map of each text shows which patches of the picture made the model's score
what it is; below it stand the words of the text, each colored by its weight.
"""

from captum_gradeclip import explain, scenes

# %%
# A small CLIP lies inside the package. It has been trained on drawings of colored things, of which this is one that it
# has not seen.
model, preprocess, tokenizer = scenes.load()
image = scenes.SceneDataset(10, "evaluation", size=320, counts=(3,))[3].image
image

# %%
# With real weights, these lines load another model, and ``image`` may be the path of a photograph:

# import open_clip
# model, preprocess = open_clip.create_model_from_pretrained("ViT-B-16-quickgelu", "openai")
# tokenizer, model = open_clip.get_tokenizer("ViT-B-16-quickgelu"), model.eval()
# image = "photo.jpg"

# %%
# All maps of a picture have one scale. The last text is not true of the picture: its score, below the map, says so. A map
# shows what there is for a text, however little that is.
thing = scenes.SceneDataset(10, "evaluation", counts=(3,)).scene(3).things[0]
texts = [scenes.with_article(scenes.name(thing).text), "something blue", "a picture of two rings"]
found = explain(model, image, texts, tokenizer)
found.plot()

# %%
# What is drawn can be had as numbers: maps on the grid of patches, maps in the pixels of the picture, and a table of
# the words. ``score`` is the score of the unmodified model. ``explained_score`` is that of the pass that the map
# explains, in which Grad-ECLIP lets the last layer attend with one head.
print(found.maps.shape, found.pixels(0).shape)
found.to_pandas().head(8).round(3)
