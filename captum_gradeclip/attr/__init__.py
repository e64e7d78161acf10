"""The number to the tokens: one file per method, all of one shape."""

from .attention_rollout import AttentionRollout
from .base import About
from .game import GAME
from .grad_eclip import GradECLIP
from .input_space import InputSpaceAttribution
from .mask_clip import MaskCLIP
from .raw_attention import RawAttention
from .rise import RISE
from .token_grad_cam import TokenGradCam

METHODS = (GradECLIP, RawAttention, AttentionRollout, TokenGradCam, GAME, MaskCLIP, RISE)

__all__ = [
    "GAME",
    "METHODS",
    "RISE",
    "About",
    "AttentionRollout",
    "GradECLIP",
    "InputSpaceAttribution",
    "MaskCLIP",
    "RawAttention",
    "TokenGradCam",
]
