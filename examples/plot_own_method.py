"""
A method of your own
====================

A method is two verbs and what it declares: ``observe`` says what one forward pass shows, ``explain`` what follows
from it for each target. Everything else is done for it: Captum's kinds of target, many targets from one pass, checks,
comparison, the command line.
"""

from dataclasses import dataclass

import torch

from captum_gradeclip import METHODS, ImageTextScore, scenes, show
from captum_gradeclip.attention import merge_heads, model_heads
from captum_gradeclip.attr import Attention, MethodInfo, Options, TokenAttribution, compare, register
from captum_gradeclip.maps import Frame, to_pixels


@dataclass(frozen=True)
class NormOptions(Options):
    """power: the norm of the values is taken to this power (default 1)."""

    power: float = 1.0


@register
class ValueNorm(TokenAttribution[NormOptions, Attention]):
    """How long the value of each token is, whatever the text: a map of what the last layer has to offer."""

    info = MethodInfo("norm of values", "an example", class_discriminative=False, unit="norm")
    Options = NormOptions

    def observe(self, request, options):
        return request.intercept(model_heads)

    def explain(self, evidence, targets, options):
        norms = [
            merge_heads(record.value).norm(dim=-1) ** options.power for record in evidence.records
        ]  # (N, L) of each layer
        return torch.stack(norms).sum(dim=0).expand(len(targets), -1, -1)  # (T, N, L)


# %%
# It is known by its registration alone.
model, preprocess, tokenizer = scenes.load()
print([kind.info.name for kind in METHODS])

# %%
# With real weights:

# import open_clip
# model, preprocess = open_clip.create_model_from_pretrained("ViT-B-16-quickgelu", "openai")
# tokenizer, model = open_clip.get_tokenizer("ViT-B-16-quickgelu"), model.eval()

# %%
# So is its place beside the others.
image, _, scene = scenes.SceneDataset(10, "evaluation", size=320, counts=(2,))[4]
texts = [scenes.with_article(scenes.name(thing).text) for thing in scene.things]
score = ImageTextScore(model, texts, tokenizer)
compared = compare(score, preprocess(image)[None], ["GradECLIP", "ValueNorm"], options={"ValueNorm": {"power": 2.0}})
rows = [show.Row(one.name, to_pixels(one.maps[0].detach(), Frame.crop(image.size))) for one in compared]
METHODS.unregister(ValueNorm)  # so that the other examples do not meet it
show.matrix(image, rows, texts)
