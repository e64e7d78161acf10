"""Maps that change the model: fine-tuning with the phrases of captions and the regions that maps find for them."""

from .checkpoint import TuningError as TuningError, save_weights as save_weights
from .clipself import CLIPSelfLoss as CLIPSelfLoss
from .eva import eva_clip_names as eva_clip_names
from .global_loss import GlobalContrastiveLoss as GlobalContrastiveLoss
from .pairs import Pair as Pair, ScenePairs as ScenePairs, TablePairs as TablePairs
from .phrases import noun_phrases as noun_phrases
from .region_classification import classify_regions as classify_regions, mean_class_accuracy as mean_class_accuracy
from .region_data import CocoPanoptic as CocoPanoptic, SceneRegionData as SceneRegionData
from .region_loss import RegionPhraseLoss as RegionPhraseLoss
from .regions import box_features as box_features, mask_features as mask_features, region_embeddings as region_embeddings
from .retrieval import recalls as recalls, retrieve as retrieve
from .run import Tuned as Tuned, tune as tune
from .settings import TuneSettings as TuneSettings
from .shards import ShardPairs as ShardPairs
