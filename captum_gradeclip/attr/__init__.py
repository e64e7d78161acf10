"""The number to the tokens: one file per method, all of one shape."""

from .attention_rollout import AttentionRollout
from .base import About, NotDefinedError
from .clip_surgery import CLIPSurgery, feature_surgery, word_relevance
from .comparison import METHODS, Compared, compare
from .game import GAME
from .grad_eclip import GradECLIP
from .input_space import InputSpaceAttribution
from .legrad import LeGrad
from .m2ib import M2IB, wrapper_features
from .mask_clip import MaskCLIP
from .raw_attention import RawAttention
from .rise import RISE
from .token_grad_cam import TokenGradCam

__all__ = [
    "GAME",
    "M2IB",
    "METHODS",
    "RISE",
    "About",
    "AttentionRollout",
    "CLIPSurgery",
    "Compared",
    "GradECLIP",
    "InputSpaceAttribution",
    "LeGrad",
    "MaskCLIP",
    "NotDefinedError",
    "RawAttention",
    "TokenGradCam",
    "compare",
    "feature_surgery",
    "word_relevance",
    "wrapper_features",
]
