"""Which samples an epoch shows and in which order: all of them, or first those whose labels can be trusted most.

Learning in the order of confidence is a curriculum with fixed pacing (Hacohen and Weinshall, ICML 2019). Its control
has the same pacing and a random order, so that what the order does can be told from what the pacing does.
"""

import math

import numpy as np
from numpy.typing import NDArray

from dptrain.config import TrainConfig
from dptrain.data import Index, epoch_order

FIRST_SHARE = 0.3
"""Of the samples, in the first epoch of a paced run."""

PACED_SHARE = 0.5
"""Of the epochs; in it the share grows linearly to all samples."""


def pool_share(epoch: int, *, epochs: int) -> float:
    """The share of the samples that epoch 0 to ``epochs`` - 1 of a paced run shows; 1 from `PACED_SHARE` on."""
    return min(1.0, FIRST_SHARE + (1 - FIRST_SHARE) * epoch / max(1.0, PACED_SHARE * epochs))


def ranking(confidence: NDArray[np.floating], *, order: str, seed: int) -> Index:
    """Samples in the order in which they join a paced run, ``(n,)``.

    ``confident-first``: by falling ``confidence`` (n,), equal ones at random; ``random``: at random throughout.
    """
    drawn = np.random.default_rng([seed, len(confidence), 1]).permutation(len(confidence))
    if order == "random":
        return drawn
    return drawn[np.argsort(-confidence[drawn], kind="stable")]


def paced_order(confidence: NDArray[np.floating], config: TrainConfig, *, epoch: int) -> Index:
    """The samples of one epoch in order, ``(n,)``, for ``confidence`` (n,).

    Laws: an epoch without pacing, or past it, shows each sample once; one within it shows the first of `ranking` alone,
    each as often as any other, or once more. Every epoch has n samples, so that steps and rates are those of any run.
    """
    n = len(confidence)
    assert config.epochs is not None, "completed before training"
    share = 1.0 if config.confidence_order == "none" else pool_share(epoch, epochs=config.epochs)
    if share == 1:
        return epoch_order(n, seed=config.seed, epoch=epoch)
    pool = ranking(confidence, order=config.confidence_order, seed=config.seed)[: math.ceil(share * n)]
    rounds = -(-n // len(pool))
    rng = np.random.default_rng([config.seed, epoch])
    return np.concatenate([pool[rng.permutation(len(pool))] for _ in range(rounds)])[:n]
