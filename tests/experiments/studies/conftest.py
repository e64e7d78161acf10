"""The embedded model, loaded once."""

from __future__ import annotations

import pytest

from captum_gradeclip import scenes
from captum_gradeclip.adapters.loading import Loaded


@pytest.fixture(scope="session")
def embedded() -> Loaded:
    model, _, tokenizer = scenes.load()
    return Loaded(model, tokenizer)
