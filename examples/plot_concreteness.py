"""
Concreteness: do concrete words weigh more?
===========================================

Each word of a caption has a weight for the score of caption and picture. This study takes the mean of these weights
for each word, as a share of the weightiest word of its caption, and asks whether concrete words weigh more than
others (section V-C of the Grad-ECLIP paper). It runs on the small CLIP inside the package; ``gradeclip study
concreteness`` does the same for any model, with captions of your own and with ratings by people.
"""

from pathlib import Path
from tempfile import mkdtemp

from captum_gradeclip import scenes
from captum_gradeclip.adapters.loading import Loaded
from captum_gradeclip.experiments import StudySettings, conclude, run
from captum_gradeclip.experiments.data import Scenes
from captum_gradeclip.experiments.studies import Concreteness

# %%
# A sample is a picture with its captions.
model, _, tokenizer = scenes.load()
loaded = Loaded(model, tokenizer)
data = Scenes(60, counts=(1, 2, 3, 4))
print(data[0].captions)

# %%
# With real weights, these lines load another model, and pictures of your own, of which the page of this study shows the
# rows:

# from captum_gradeclip.adapters.loading import load
# from captum_gradeclip.experiments.data import CaptionRows
# loaded = load("ViT-B-16-quickgelu", "openai")
# model, data = loaded.model, CaptionRows(Path("captions.csv"))

# %%
# All captions of some pictures share one pass of the text tower.
records = run(Concreteness, loaded, data, StudySettings(), Path(mkdtemp()))
(report,) = conclude(Concreteness, loaded, data, StudySettings(), records)
print(report.tables[""].markdown())

# %%
# Words of scenes have no ratings by people that would tell colors from shapes. So this example uses marks of our own:
# names of shapes are objects (5), colors, sizes and materials are attributes (4), words of place and number lie
# between (3), and all others are function words (1).
print(report.tables["kinds"].markdown())

# %%
# The mean weight of each word, against our mark; the second and the third panel look closer at the two ends.
report.figures["concreteness"]

# %%
# The same words against how often they occur in these captions; the color is the mark.
report.figures["frequency"]

# %%
# All that follows, in sentences.
for finding in report.findings:
    print("-", finding)
