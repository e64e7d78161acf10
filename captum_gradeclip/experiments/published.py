"""Figures printed in arXiv 2502.18816, to stand beside ours where the data set is the paper's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .data import Dataset

Figures = Mapping[str, Mapping[str, float]]
"""By id of a method (or number of layers) and by column."""


def _table(columns: Sequence[str], rows: dict[str, Sequence[float | None]]) -> Figures:
    return {
        method: {column: value for column, value in zip(columns, row) if value is not None} for method, row in rows.items()
    }


_I = [f"{m} {t}@{k}" for m in ("Del", "Ins", "IMD") for t in ("GT", "Pred") for k in (1, 5)]
FAITHFULNESS = _table(
    _I,
    {
        "RawAttention": (0.383, 0.624, None, None, 0.249, 0.419, None, None, -0.134, -0.204, None, None),
        "AttentionRollout": (0.408, 0.656, None, None, 0.280, 0.467, None, None, -0.128, -0.189, None, None),
        "TokenGradCam": (0.342, 0.563, 0.352, 0.582, 0.268, 0.445, 0.253, 0.421, -0.074, -0.117, -0.099, -0.161),
        "GAME": (0.336, 0.573, 0.350, 0.594, 0.361, 0.564, 0.343, 0.538, 0.025, -0.010, -0.007, -0.055),
        "MaskCLIP": (0.285, 0.489, 0.289, 0.496, 0.334, 0.535, 0.328, 0.527, 0.049, 0.047, 0.039, 0.031),
        "CLIPSurgery": (0.312, 0.524, 0.322, 0.541, 0.383, 0.602, 0.373, 0.572, 0.070, 0.079, 0.051, 0.030),
        "M2IB": (0.363, 0.595, 0.363, 0.595, 0.335, 0.541, 0.335, 0.541, -0.028, -0.054, -0.029, -0.054),
        "GradECLIP": (0.246, 0.427, 0.254, 0.442, 0.384, 0.599, 0.367, 0.575, 0.137, 0.172, 0.113, 0.133),
        "GradECLIPWithoutWeight": (0.254, 0.438, 0.263, 0.457, 0.372, 0.583, 0.353, 0.556, 0.118, 0.145, 0.089, 0.099),
    },
)
"""Table I, ImageNet."""

_II = [f"{m} {d}@{k}" for m in ("Del", "Ins") for d in ("IR", "TR") for k in (1, 5)]
RETRIEVAL = _table(
    _II,
    {
        "RawAttention": (0.171, 0.355, 0.192, 0.372, 0.125, 0.255, 0.154, 0.297),
        "AttentionRollout": (0.195, 0.395, 0.227, 0.424, 0.129, 0.293, 0.175, 0.350),
        "TokenGradCam": (0.172, 0.350, 0.216, 0.401, 0.103, 0.222, 0.115, 0.233),
        "GAME": (0.171, 0.355, 0.198, 0.380, 0.154, 0.308, 0.210, 0.374),
        "MaskCLIP": (0.132, 0.284, 0.152, 0.295, 0.142, 0.295, 0.189, 0.351),
        "CLIPSurgery": (0.179, 0.365, 0.238, 0.429, 0.142, 0.294, 0.177, 0.338),
        "M2IB": (0.179, 0.367, 0.206, 0.391, 0.147, 0.300, 0.206, 0.369),
        "GradECLIP": (0.125, 0.267, 0.155, 0.293, 0.158, 0.320, 0.206, 0.376),
        "GradECLIPWithoutWeight": (0.139, 0.294, 0.183, 0.339, 0.140, 0.289, 0.174, 0.328),
    },
)
"""Table II, COCO; its columns of differences are left out, since they are printed in a confused order."""

WORDS = _table(
    [f"{m} {d}" for m in ("Del", "Ins") for d in ("IR", "TR")],
    {
        "RawAttention": (0.284, 0.492, 0.007, 0.033),
        "AttentionRollout": (0.122, 0.239, 0.105, 0.207),
        "GAME": (0.108, 0.208, 0.115, 0.230),
        "M2IB": (0.214, 0.426, 0.005, 0.024),
        "GradECLIP": (0.100, 0.177, 0.129, 0.254),
        "GradECLIPWithoutWeight": (0.112, 0.211, 0.112, 0.236),
    },
)
"""Table III, COCO; its columns of differences are left out, since two of them are exchanged."""

LOCALIZATION = _table(
    ["PG", "energy-PG", "pixel acc. (foreground, mean)", "AP (foreground)", "mask IoU (foreground, 0.5)"],
    {
        "RawAttention": (0.1219, 0.1321, 0.0278, 0.2877, 0.0013),
        "AttentionRollout": (0.1375, 0.2835, 0.2524, 0.3345, 0.011),
        "TokenGradCam": (0.1845, 0.3154, 0.5457, 0.4050, 0.1251),
        "GAME": (0.4706, 0.4438, 0.4765, 0.4072, 0.089),
        "MaskCLIP": (0.4041, 0.1408, 0.718, 0.4557, 0.2481),
        "CLIPSurgery": (0.5759, 0.3983, 0.7546, 0.4608, 0.3471),
        "M2IB": (0.2640, 0.3557, 0.6194, 0.4003, 0.1474),
        "GradECLIP": (0.8899, 0.5997, 0.7056, 0.5662, 0.2869),
        "GradECLIPWithoutWeight": (0.8356, 0.4409, 0.7365, 0.5163, 0.3314),
    },
)
"""Table IV, ImageNet-S, in the columns whose definition makes its figures possible."""

_LAYERS = [f"{m} {d}@1" for m in ("Del", "Ins", "IMD") for d in ("IR", "TR")]
IMAGE_LAYERS: Figures = {
    "1 layer": dict(zip(_LAYERS, (0.1246, 0.1551, 0.1576, 0.2056, 0.0330, 0.0505))),
    "2 layers": dict(zip(_LAYERS, (0.1279, 0.1657, 0.1547, 0.2010, 0.0269, 0.0353))),
    "4 layers": dict(zip(_LAYERS, (0.1622, 0.2051, 0.1182, 0.1399, -0.0439, -0.0652))),
    "8 layers": dict(zip(_LAYERS, (0.2316, 0.2879, 0.0484, 0.0440, -0.1832, -0.2439))),
    "10 layers": dict(zip(_LAYERS, (0.2121, 0.2643, 0.0715, 0.0774, -0.1407, -0.1868))),
    "12 layers": dict(zip(_LAYERS, (0.2163, 0.2642, 0.0699, 0.0773, -0.1465, -0.1869))),
}
"""Table VI, COCO; the one difference that contradicts its own row is corrected."""

_WORDS = [f"{m} {d}" for m in ("Del", "Ins", "IMD") for d in ("IR", "TR")]
TEXT_LAYERS: Figures = {
    "1 layer": dict(zip(_WORDS, (0.1118, 0.2087, 0.1059, 0.2196, -0.0059, 0.0108))),
    "2 layers": dict(zip(_WORDS, (0.1021, 0.1826, 0.1186, 0.2351, 0.0166, 0.0525))),
    "4 layers": dict(zip(_WORDS, (0.0995, 0.1786, 0.1242, 0.2428, 0.0247, 0.0643))),
    "6 layers": dict(zip(_WORDS, (0.0989, 0.1761, 0.1273, 0.2490, 0.0284, 0.0729))),
    "8 layers": dict(zip(_WORDS, (0.0996, 0.1770, 0.1292, 0.2536, 0.0296, 0.0766))),
    "10 layers": dict(zip(_WORDS, (0.1008, 0.1843, 0.1288, 0.2472, 0.0279, 0.0629))),
    "12 layers": dict(zip(_WORDS, (0.1095, 0.2087, 0.1219, 0.2364, 0.0125, 0.0277))),
}
"""Table VII, COCO."""

BY_DATA: Mapping[tuple[str, str], Figures] = {
    ("faithfulness", "folders"): FAITHFULNESS,
    ("retrieval", "coco"): RETRIEVAL,
    ("words", "coco"): WORDS,
    ("localization", "imagenet-s"): LOCALIZATION,
    ("image layers", "coco"): IMAGE_LAYERS,
    ("text layers", "coco"): TEXT_LAYERS,
}
"""By names of task and data set."""


def published_figures(task: str, data: Dataset) -> Figures | None:
    """The paper's figures for a task on a data set, if it has some; folders are ImageNet if they are 1000 classes.

    Args:
        task: name of the task.
        data: the data set.
    """
    if data.name == "folders" and len(data.classes) != 1000:
        return None
    return BY_DATA.get((task, data.name))


ADDIBILITY = _table(
    [f"{which}, {kind}" for which in ("matched", "mismatched") for kind in ("adjective + noun", "verb + noun")],
    {
        "add": (0.9750, 0.9814, 0.9480, 0.9755),
        "multiply": (0.7871, 0.7231, 0.5810, 0.5400),
        "maximum": (0.9619, 0.9741, 0.9319, 0.9711),
    },
)
"""Table VIII, 60 pictures of COCO with words chosen by hand, which are not published."""

ATTRIBUTES = _table(
    ["cosine", "covariance", "OTD", "KLD", "JSD"],
    {
        "color": (0.6654, 0.0419, 0.0085, 2.0237, 0.2881),
        "shape": (0.5959, 0.0218, 0.0084, 2.0968, 0.3222),
        "material": (0.5772, 0.0150, 0.0090, 3.1444, 0.3072),
        "size": (0.4645, 0.0100, 0.0093, 4.3012, 0.3856),
        "location": (0.2758, 0.0107, 0.0356, 5.0392, 0.5327),
    },
)
"""Table IX, 50 pictures of CLEVR; its correlation has the size of a covariance, and stands at that."""
