"""A masking strategy of one's own: so many tokens at a time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bertexp.keys import key
from bertexp.masking import STRATEGIES
from bertexp.masking.strategies import Strategy


@dataclass(kw_only=True)
class StrideKeys:
    """``masking.stride.*``."""

    step: int = key(2, within="[1, inf)", about="How many tokens are predicted together.")


@STRATEGIES.register("stride", keys=StrideKeys)
class StrideStrategy(Strategy):
    """Neighbouring tokens, ``masking.stride.step`` at a time."""

    def begins(
        self, ids_BL: np.ndarray, maskable_BL: np.ndarray, states_B: np.ndarray
    ) -> np.ndarray:
        step = STRATEGIES.keys_of(self.context.config, StrideKeys).step
        return np.broadcast_to(np.arange(ids_BL.shape[1]) % step == 0, ids_BL.shape)
