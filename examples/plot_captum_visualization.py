"""
Captum's own drawings of these maps
===================================

Maps of this package are tensors like any others of Captum, so Captum's own drawings take them. Two things have to be
done before: a map of patches is brought to the size of the picture, and channels go last.
"""

import numpy as np
from captum.attr import LayerAttribution, visualization

from captum_gradeclip import GradECLIP, ImageTextScore, TextImageScore, scenes, show
from captum_gradeclip.maps import merge_words

model, preprocess, tokenizer = scenes.load()
image, _, scene = scenes.SceneDataset(10, "evaluation", size=320, counts=(2,))[5]
text = scenes.with_article(scenes.name(scene.things[0]).text)
images = preprocess(image)[None]

# %%
# With real weights:

# import open_clip
# model, preprocess = open_clip.create_model_from_pretrained("ViT-B-16-quickgelu", "openai")
# tokenizer, model = open_clip.get_tokenizer("ViT-B-16-quickgelu"), model.eval()

# %%
# ``relu_attributions=False`` keeps what counts against the text, which Captum draws in red with ``sign="all"``.
score = ImageTextScore(model, [text], tokenizer)
attributions = GradECLIP(score, score.layers[-1:]).attribute(images, target=0, relu_attributions=False)
large = LayerAttribution.interpolate(attributions, (image.height, image.width), "bilinear")
figure, _ = visualization.visualize_image_attr_multiple(
    large[0].permute(1, 2, 0).numpy(),
    np.asarray(image) / 255,
    methods=["original_image", "heat_map", "blended_heat_map"],
    signs=["all", "all", "all"],
    titles=["picture", text, text],
    show_colorbar=True,
    fig_size=(10, 4),
)

# %%
# Captum draws with pyplot; the drawings of this package need no window, and show the colored words as well.
tokens = tokenizer([text])
words = TextImageScore(model, images)
weights = GradECLIP(words, words.layers[-8:]).attribute(tokens, target=0)
show.words_figure(merge_words(weights, tokens, tokenizer))
