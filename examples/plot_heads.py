"""
Heads: which of them point, and which does the score need?
==========================================================

An attention layer has several heads. This study takes the score apart by head and layer: where each head finds what a
text says, how much of the score it carries, and what the model loses without it. It runs on the small CLIP inside the
package, which has two layers of two heads; ``gradeclip study heads`` does the same for any model.
"""

from pathlib import Path
from tempfile import mkdtemp

import torch

from captum_gradeclip import ImageTextScore, scenes
from captum_gradeclip.adapters.loading import Loaded
from captum_gradeclip.attr import account
from captum_gradeclip.experiments import StudySettings, conclude, run
from captum_gradeclip.experiments.data import SceneRegions
from captum_gradeclip.experiments.studies import Heads

# %%
# The account of a score keeps heads apart: the contributions of all heads, layers and tokens, with what goes past the
# attention, add up to the score of the unmodified model.
model, preprocess, tokenizer = scenes.load()
image = scenes.SceneDataset(3, "evaluation")[0].image
score = ImageTextScore(model, ["blue", "striped"], tokenizer)
found = account(score, preprocess(image)[None], layers=score.layers, by_head=True)
total = found.maps.sum(dim=(2, 3, 4, 5)) + found.others.sum(dim=(2, 3, 4)) + found.residual
print(
    "images, texts, layers, heads, rows, columns:", tuple(found.maps.shape), torch.allclose(total, found.scores, atol=1e-5)
)

# %%
# The study does so for all words that describe some scenes. With real weights, these lines load another model, and
# pictures of your own, of which the page of this study shows the rows:

# from captum_gradeclip.adapters.loading import load
# from captum_gradeclip.experiments.data import RegionRows
# loaded, data = load("ViT-B-16-quickgelu", "openai"), RegionRows(Path("regions.csv"))

loaded, data = Loaded(model, tokenizer), SceneRegions(12)
records = run(Heads, loaded, data, StudySettings(), Path(mkdtemp()))
(report,) = conclude(Heads, loaded, data, StudySettings(), records)
print(report.tables[""].markdown())

# %%
# The same as heat maps. What a head carries to first order and what is lost without it need not agree: a norm follows the
# attention, and a head of the first layer also works through other tokens.
report.figures["heads"]

# %%
# Heads may serve different kinds of words.
report.figures["kinds"]

# %%
# The maps of all heads for one word, a row for each layer.
report.figures["maps-0"]
