"""Which weights a model has, told by a checksum."""

from __future__ import annotations

from hashlib import sha256

import torch
from torch import nn


def weights_checksum(model: nn.Module) -> str:
    """SHA-256 of the names, types, shapes and bytes of all parameters and buffers of a model.

    Returns:
        64 hexadecimal digits.

    >>> layer = nn.Linear(2, 2)
    >>> before = weights_checksum(layer)
    >>> with torch.no_grad():
    ...     layer.bias[0] += 1
    >>> before == weights_checksum(layer)
    False
    """
    digest = sha256()
    # Buffers that are not saved, such as masks, act as well; what is saved may hold more than tensors.
    for name, value in {**dict(model.named_buffers()), **model.state_dict()}.items():
        if not isinstance(value, torch.Tensor):
            digest.update(repr((name, value)).encode())
            continue
        digest.update(repr((name, str(value.dtype), tuple(value.shape))).encode())
        # numpy has no bfloat16, so the bytes are taken as they lie.
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
