"""What many paired differences say: an estimate that a few bad windows cannot move, and how far off it
may be."""

import math


def walsh(samples):
    """The averages of all pairs of samples, each sample with itself too, in order."""
    return sorted((a + b) / 2 for i, a in enumerate(samples) for b in samples[i:])


def estimate(percents, z=1.96):
    """(estimate, low, high): the Hodges-Lehmann median of differences in percent and its 95 % confidence
    interval, that of Wilcoxon's signed ranks. Assumes no distribution, only that ratios scatter evenly about
    the true one: their logarithms are taken, since of a ratio that is as often a tenth too large as too small
    the plain mean is too large. With fewer than six samples no interval is that certain: it is everything."""
    n = len(percents)
    if n == 0:
        return None, -math.inf, math.inf
    averages = walsh([math.log1p(p / 100) for p in percents])
    middle = (averages[(len(averages) - 1) // 2] + averages[len(averages) // 2]) / 2
    low, high = -math.inf, math.inf
    if n >= 6:
        rank = int(n * (n + 1) / 4 - z * math.sqrt(n * (n + 1) * (2 * n + 1) / 24))
        low, high = averages[rank], averages[-1 - rank]
    return tuple(100 * math.expm1(v) for v in (middle, low, high))


def verdict(low, high, limit):
    """Whether all of the interval is on one side of the limit."""
    return "met" if high <= limit else "missed" if low > limit else "undecided"
