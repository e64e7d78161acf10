"""
Guards that catch a fault
=========================

A map is drawn whatever it was made from. Here are four faults that do not show in the picture, and what the guards say.
"""

import copy

import torch

from captum_gradeclip import explain, scenes, trust

# %%
# A picture that the embedded model knows, its text, and a report without any alarm.
model, preprocess, tokenizer = scenes.load()
item = scenes.SceneDataset(3, "evaluation", size=320, counts=(1,))[0]
thing = item.scene.things[0]
text = scenes.with_article(scenes.Phrase(thing.colour, thing.shape).words())
trust(model, item.image, text, tokenizer)

# %%
# With real weights, these lines load another model:

# import open_clip
# model, preprocess = open_clip.create_model_from_pretrained("ViT-B-16-quickgelu", "openai")
# tokenizer, model = open_clip.get_tokenizer("ViT-B-16-quickgelu"), model.eval()

# %%
# Four faults: weights that were never loaded, a text of words that the model does not know, an input that was not
# normalized, and a method whose map is the same for every text.
broken, generator = copy.deepcopy(model), torch.Generator().manual_seed(0)
with torch.no_grad():
    for weight in broken.visual.parameters():
        weight.copy_(weight.flatten()[torch.randperm(weight.numel(), generator=generator)].view_as(weight))
unnormalized = preprocess(item.image) * 0.5 + 0.5
reports = {
    "shuffled weights": trust(broken, item.image, text, tokenizer),
    "unknown words": trust(model, item.image, "my grandmother", tokenizer),
    "not normalized": trust(model, unnormalized, text, tokenizer),
    "raw attention": trust(model, item.image, text, tokenizer, method="RawAttention"),
}
for fault, report in reports.items():
    print(f"{fault}: {', '.join(one.guard for one in report.findings if one.fired) or 'nothing'}")

# %%
# The maps of the faults, which look like maps. The guards that cost nothing have also written warnings.
found = explain(model, unnormalized, [text, "something blue"], tokenizer, words=False)
print("\n".join(found.warnings))
explain(broken, item.image, [text, "something blue"], tokenizer, words=False).plot()
