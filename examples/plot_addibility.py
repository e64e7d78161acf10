"""
Addibility: is the map of a phrase the sum of the maps of its words?
====================================================================

A phrase is made of words, and each of them has a map of its own. This study adds, multiplies and takes the maximum of
the maps of two words, and asks which of the three comes closest to the map of the phrase (table VIII of the
Grad-ECLIP paper). It runs on the small CLIP inside the package; ``gradeclip study addibility`` does the same for any model
and your own pictures.
"""

from pathlib import Path
from tempfile import mkdtemp

from captum_gradeclip import scenes
from captum_gradeclip.adapters.loading import Loaded
from captum_gradeclip.experiments import StudySettings, conclude, run
from captum_gradeclip.experiments.data import SceneTriples
from captum_gradeclip.experiments.studies import Addibility

# %%
# A sample is a picture with five texts: a base word, a word that goes with it, one that does not, and the two
# phrases. Scenes give two kinds of them: a color with a noun, and a relation with a noun.
model, _, tokenizer = scenes.load()
loaded = Loaded(model, tokenizer)
data = SceneTriples(30)
print(data[0].triple.texts)
print(data[1].triple.texts)

# %%
# With real weights, these lines load another model, and pictures of your own, of which the page of this study shows the
# rows:

# from captum_gradeclip.adapters.loading import load
# from captum_gradeclip.experiments.data import TripleRows
# loaded = load("ViT-B-16-quickgelu", "openai")
# model, data = loaded.model, TripleRows(Path("triples.csv"))

# %%
# The five texts of a picture share one forward pass. What has been measured is kept in the folder, so that a run that
# is stopped goes on where it was. A scene in which no relation excludes its opposite is left out, and counted.
records = run(Addibility, loaded, data, StudySettings(), Path(mkdtemp()))
(report,) = conclude(Addibility, loaded, data, StudySettings(), records)
print(report.tables[""].markdown())

# %%
# The last two rows are ours: how close the map of each word comes by itself. A combination that is not closer than
# the base word alone has added nothing. These are the maps of the first picture, each with a color scale of its own.
report.figures["maps-0"]

# %%
# The maps of the first picture of the second kind.
report.figures["maps-1"]

# %%
# How much a word resembles the base word, against how well it fits the picture in comparison with it. Each point is a
# sample.
report.figures["panels"]

# %%
# All that follows, in sentences.
for finding in report.findings:
    print("-", finding)
