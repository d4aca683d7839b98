"""How long OpenAI took: quantiles of 1,215 recorded batches of one request, in seconds."""

from itertools import pairwise

from openaibatching.simulator.faults.faults import Dice

MISSING_FILE_S = 900.0
"""A batch whose input file is gone was validated for so long."""
EXPIRY_NOTICED_S = 1.0
"""So long after `expires_at` a batch began to finalize (3 of 3)."""

# (share of the batches, seconds at most). Of cancelling and expiring there are some tens.
_QUANTILES: dict[str, tuple[tuple[float, float], ...]] = {
    "validating": ((0, 0.5), (0.5, 1), (0.99, 62), (1, 121)),
    "running": ((0, 1), (0.5, 114), (0.9, 11_160), (0.99, 48_600), (1, 86_400)),
    "finalizing": ((0, 0.5), (0.5, 1), (1, 584)),
    "cancelling": ((0, 605), (0.5, 606), (0.99, 626), (1, 2802)),
    "expiring": ((0, 606), (1, 607)),
}


def drawn(step: str, number: int, dice: Dice) -> float:
    """Seconds that the batch with this number takes for a step, drawn by the seed."""
    return quantile(step, dice.draw(step, number))


def quantile(step: str, share: float) -> float:
    """The seconds that this share, 0 to 1, of all batches need at most for a step.

    Between the recorded quantiles the seconds grow by equal factors.
    """
    points = _QUANTILES[step]
    for (low, least), (high, most) in pairwise(points):
        if share <= high:
            return float(least * (most / least) ** ((share - low) / (high - low)))
    return points[-1][1]
