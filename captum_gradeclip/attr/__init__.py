"""The number to the tokens: one file per method, all of one shape."""

from .grad_eclip import GradECLIP
from .input_space import InputSpaceAttribution

METHODS = (GradECLIP,)

__all__ = ["METHODS", "GradECLIP", "InputSpaceAttribution"]
