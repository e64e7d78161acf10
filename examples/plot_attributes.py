"""
Attributes: does the map of a word lie on what the word is true of?
===================================================================

In a scene we know which things are red, which are rings, and which are on the left. This study compares the map of
each word with the mask of all things that the word is true of (table IX of the Grad-ECLIP paper). It runs on the
small CLIP inside the package; ``gradeclip study attributes`` does the same for any model, for CLEVR, and for your own
pictures with masks.
"""

from pathlib import Path
from tempfile import mkdtemp

from captum_gradeclip import scenes
from captum_gradeclip.adapters.loading import Loaded
from captum_gradeclip.experiments import StudySettings, conclude, run
from captum_gradeclip.experiments.data import SceneRegions
from captum_gradeclip.experiments.studies import Attributes

# %%
# A sample is a picture with a mask for each of its words and phrases.
model, _, tokenizer = scenes.load()
loaded = Loaded(model, tokenizer)
data = SceneRegions(20)
print([(region.text, region.kind) for region in data[0].regions])

# %%
# With real weights, these lines load another model, and pictures of your own, of which the page of this study shows the
# rows:

# from captum_gradeclip.adapters.loading import load
# from captum_gradeclip.experiments.data import RegionRows
# loaded = load("ViT-B-16-quickgelu", "openai")
# model, data = loaded.model, RegionRows(Path("regions.csv"))

# %%
# All texts of a picture share one forward pass. Optimal transport moves the mass of the map to the mask on a grid of
# 16 x 16 cells.
records = run(Attributes, loaded, data, StudySettings(), Path(mkdtemp()))
(report,) = conclude(Attributes, loaded, data, StudySettings(), records)
print(report.tables[""].markdown())

# %%
# A word that is true of large things gets a high cosine from any map that is spread out, so a uniform map stands
# beside each row. The column "own - others" asks the sharper question: does the map prefer the things that the word
# is true of to the others? The rows above are the masks, below them are the maps, and below these the words of each
# text by their own weights.
report.figures["maps-0"]

# %%
# Each point is a word: the cosine of its maps with the masks, against what a uniform map would have. Where both are
# equal, the map looks nowhere.
report.figures["margins"]

# %%
# Does "left" lead the map to the left one of two things? The shape alone, place and shape, and the place alone are
# compared with the mask of the left thing.
print(report.tables["phrases"].markdown())
for finding in report.findings:
    print("-", finding)
