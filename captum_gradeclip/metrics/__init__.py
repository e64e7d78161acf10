"""Is the map right? Pure functions, and ``torchmetrics.Metric`` classes around them."""

from ..former import former_names
from .baselines import Baseline, baseline
from .curves import (
    Deletion,
    Insertion,
    InsertionMinusDeletion,
    Schedule,
    area_under,
    curves,
    ranks,
)
from .localization import (
    EnergyPointingGame,
    HeatmapAveragePrecision,
    MaskIoU,
    PixelAccuracy,
    PointingGame,
    energy_pointing_game,
    heatmap_average_precision,
    mask_iou,
    pixel_accuracy,
    pointing_game,
)
from .pairs import PairDeletion, PairInsertion, PairPointing
from .regression import Regression, linear_regression
from .road import ROAD, noisy_linear_imputation
from .scoring import ScoreFunction, margin, recall, reverse_recall, target_score, top_k
from .significance import TTest, bootstrap_interval, paired_t_test
from .similarity import cosine_similarity, covariance, js_divergence, kl_divergence, pearson_correlation
from .targeted import TargetedDeletion, TargetedInsertion, mean_change
from .transport import optimal_transport
from .words import word_steps

__all__ = [
    "ROAD",
    "Baseline",
    "Deletion",
    "EnergyPointingGame",
    "HeatmapAveragePrecision",
    "Insertion",
    "InsertionMinusDeletion",
    "MaskIoU",
    "PairDeletion",
    "PairInsertion",
    "PairPointing",
    "PixelAccuracy",
    "PointingGame",
    "Regression",
    "Schedule",
    "ScoreFunction",
    "TTest",
    "TargetedDeletion",
    "TargetedInsertion",
    "area_under",
    "baseline",
    "bootstrap_interval",
    "cosine_similarity",
    "covariance",
    "curves",
    "energy_pointing_game",
    "heatmap_average_precision",
    "js_divergence",
    "kl_divergence",
    "linear_regression",
    "margin",
    "mask_iou",
    "mean_change",
    "noisy_linear_imputation",
    "optimal_transport",
    "paired_t_test",
    "pearson_correlation",
    "pixel_accuracy",
    "pointing_game",
    "ranks",
    "recall",
    "reverse_recall",
    "target_score",
    "top_k",
    "word_steps",
]

__getattr__ = former_names(__name__, {"canvas": "baseline"})
