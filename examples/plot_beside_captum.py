"""
Grad-ECLIP beside Captum's own methods
======================================

All of Captum's methods run on the same score. This example puts Grad-ECLIP beside integrated gradients, Grad-CAM of
the layer that cuts the picture into patches, and occlusion, and measures each map with Captum's infidelity and
sensitivity.
"""

import torch
from captum.attr import IntegratedGradients, LayerAttribution, LayerGradCam, Occlusion
from captum.metrics import infidelity, sensitivity_max

from captum_gradeclip import GradECLIP, ImageTextScore, InputSpaceAttribution, scenes, show

torch.manual_seed(0)
model, preprocess, tokenizer = scenes.load()
image, _, scene = scenes.SceneDataset(1, "evaluation", counts=(3,))[0]
texts = [scenes.with_article(scenes.name(thing).text) for thing in scene.things]
score = ImageTextScore(model, texts, tokenizer)
images, target = preprocess(image)[None], 0

# %%
# With real weights:

# import open_clip
# model, preprocess = open_clip.create_model_from_pretrained("ViT-B-16-quickgelu", "openai")
# tokenizer, model = open_clip.get_tokenizer("ViT-B-16-quickgelu"), model.eval()

# %%
# Captum's metrics compare maps with inputs element by element, so each map must have the shape of the images.
# :class:`captum_gradeclip.InputSpaceAttribution` brings a map of patches to that shape.
eclip = InputSpaceAttribution(GradECLIP(score, score.layers[-1]))
gradients, occlusion = IntegratedGradients(score), Occlusion(score)
cam = LayerGradCam(score, model.visual.conv1)


def grad_cam(x: torch.Tensor) -> torch.Tensor:
    small = cam.attribute(x, target=target, relu_attributions=True)
    return LayerAttribution.interpolate(small, x.shape[-2:], "bilinear").expand_as(x) / x.shape[1]


methods = {
    "Grad-ECLIP": lambda x: eclip.attribute(x, target=target),
    "Grad-ECLIP, model's heads": lambda x: eclip.attribute(x, target=target, heads="model"),
    "IntegratedGradients": lambda x: gradients.attribute(x, target=target, n_steps=20),
    "LayerGradCam of the patches": grad_cam,
    "Occlusion": lambda x: occlusion.attribute(x, target=target, sliding_window_shapes=(3, 16, 16), strides=(3, 8, 8)),
}
maps = {name: method(images).detach() for name, method in methods.items()}

# %%
# Infidelity asks whether a map predicts how the score changes when a random square of the picture is painted gray.
# Sensitivity asks how far a map changes when the picture changes a little. Of both, lower is better.


def paint_squares(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    changed = x.clone()
    for one in changed:
        top, left = torch.randint(0, 80, (2,)).tolist()
        one[:, top : top + 16, left : left + 16] = 0.0
    return x - changed, changed


notes = []
for name, method in methods.items():
    unfaithful = infidelity(score, paint_squares, images, maps[name], target=target, n_perturb_samples=50, normalize=True)
    sensitive = sensitivity_max(
        lambda x, method=method: (method(x[0]).detach(),), images, perturb_radius=0.05, n_perturb_samples=3
    )
    notes.append(f"infidelity {1e4 * float(unfaithful):.2f}e-4, sensitivity {float(sensitive):.2f}")
    print(f"{name:30} {notes[-1]}")

# %%
# The methods measure different things in different units, so each map has a scale of its own here.
full = torch.cat([one.sum(dim=1).clamp(min=0) for one in maps.values()])
large = torch.nn.functional.interpolate(full[None], size=(320, 320), mode="bilinear")[0]
show.strip(image.resize((320, 320)), large, list(maps), notes=notes, style=show.Style(color_scale="each"))
