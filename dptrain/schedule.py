"""The learning rate of each step: a linear rise, then constant, an exponential decay or half a cosine."""

import math

from dptrain.config import TrainConfig


def learning_rate(step: int, *, total: int, config: TrainConfig) -> float:
    """The rate of step 0 to ``total`` - 1.

    In the first ``warmup_share`` of all steps it rises linearly to ``learning_rate``. Then it stays (``constant``),
    falls by the same factor in each step to ``final_share`` of it (``exponential``), or falls as half a cosine
    towards 0 (``cosine``; Loshchilov and Hutter, ICLR 2017, without restarts).
    """
    warmup = max(1, round(config.warmup_share * total))
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    done = (step - warmup) / max(1, total - warmup)
    if config.schedule == "constant":
        return config.learning_rate
    if config.schedule == "exponential":
        return float(config.learning_rate * config.final_share**done)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * done))
