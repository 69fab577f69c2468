"""Maps of made-up candidates for tests of what neighbours have in common."""

import numpy as np

from dpcurate.consensus import Consensus
from dpcurate.matching import Matches
from dpcurate.orientations import multiply, random_uniform

JITTER_DEG = 0.3


def jittered(orientation, *, rng, sigma_deg=JITTER_DEG):
    """Orientations turned a little, each about an axis of its own."""
    angle = np.radians(sigma_deg) * rng.normal(size=(*orientation.shape[:-1], 3)) / 2
    turn = np.concatenate([np.ones((*angle.shape[:-1], 1)), angle], axis=-1)
    return multiply(orientation, turn / np.linalg.norm(turn, axis=-1, keepdims=True))


def matches_of(crystal, *, n=6, phase_id=0, score=0.6, seed=0):
    """Matches of a map whose pixels show ``crystal`` (rows, columns, 4): it first, then random ones that score less."""
    rng = np.random.default_rng(seed)
    shape = crystal.shape[:2]
    orientation = random_uniform(n * int(np.prod(shape)), seed=rng).reshape(*shape, n, 4)
    orientation[:, :, 0] = jittered(crystal, rng=rng)
    falling = score * np.linspace(0.9, 0.5, n)
    falling[0] = score
    scores = np.broadcast_to(falling, (*shape, n)).astype(np.float32)
    return Matches(
        orientation=orientation,
        score=scores.copy(),
        phase_id=np.broadcast_to(np.int16(phase_id), scores.shape).copy(),
        runner_up_score=scores[..., min(1, n - 1)].copy(),
    )


def noisy(matches, pixels, *, seed=9):
    """The same matches, with another candidate ahead of the right one, now the second, in some pixels."""
    rng = np.random.default_rng(seed)
    for at in pixels:
        matches.orientation[at][1] = matches.orientation[at][0]
        matches.orientation[at][0] = random_uniform(1, seed=rng)[0]
        matches.score[at][0] *= 1.1
        matches.score[at][1] = matches.score[at][0] / 1.05
    return matches


def agreed(label, grain_id, *, phase_id=None):
    """A consensus in which pixels have these labels and grains, each by its own winner and alone in its pattern."""
    phase_id = np.where(grain_id >= 0, 0, -1).astype(np.int16) if phase_id is None else phase_id
    shape = label.shape[:2]
    return Consensus(
        orientation=np.array(label),
        phase_id=phase_id,
        grain_id=grain_id,
        source=np.zeros(shape, np.uint8),
        support=np.zeros(shape, np.float32),
        orientation2=np.array(label),
        phase2_id=np.full(shape, -1, np.int16),
        weight=np.ones(shape, np.float32),
    )
