"""The number to the tokens: one file per method, all of one shape."""

from ..former import former_names
from ..options import Options as Options
from ..scores import Targets as Targets
from ..timing import Stopwatch as Stopwatch
from .account import Account as Account, account as account
from .attention_rollout import AttentionRollout as AttentionRollout
from .base import Method as Method, TokenAttribution as TokenAttribution
from .baselines import (
    CenterPrior as CenterPrior,
    GradECLIPWithoutWeight as GradECLIPWithoutWeight,
    Oracle as Oracle,
    RandomMap as RandomMap,
)
from .captum_methods import IntegratedGradients as IntegratedGradients, LayerGradCam as LayerGradCam, Occlusion as Occlusion
from .clip_surgery import CLIPSurgery as CLIPSurgery, feature_surgery as feature_surgery, word_relevance as word_relevance
from .compare import compare as compare
from .dense import dense_features as dense_features
from .ensemble import Ensemble as Ensemble, GradECLIPReadings as GradECLIPReadings
from .game import GAME as GAME
from .grad_eclip import GradECLIP as GradECLIP
from .info import MethodInfo as MethodInfo, NotDefinedError as NotDefinedError
from .input_space import InputSpaceAttribution as InputSpaceAttribution
from .legrad import LeGrad as LeGrad
from .m2ib import M2IB as M2IB
from .mask_clip import MaskCLIP as MaskCLIP
from .match_region import MatchRegionAttribution as MatchRegionAttribution
from .outcome import Outcome as Outcome
from .raw_attention import RawAttention as RawAttention
from .registry import (
    BASELINES as BASELINES,
    CAPTUM as CAPTUM,
    METHODS as METHODS,
    find_method as find_method,
    find_methods as find_methods,
    register as register,
)
from .request import Attention as Attention, Evidence as Evidence, Request as Request
from .rise import RISE as RISE
from .token_grad_cam import TokenGradCam as TokenGradCam
from .word_region import WordRegionAttribution as WordRegionAttribution

for _kind in (GradECLIP, RawAttention, AttentionRollout, TokenGradCam, GAME, MaskCLIP, CLIPSurgery, M2IB, RISE, LeGrad):
    register(_kind)

__getattr__ = former_names(__name__, {"About": "MethodInfo", "Compared": "Outcome"})
