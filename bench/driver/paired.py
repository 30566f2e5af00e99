"""What many paired differences say: an estimate that a few bad windows cannot move, and how far off it
may be."""

import math


def walsh(samples):
    """The averages of all pairs of samples, each sample with itself too, in order."""
    return sorted((a + b) / 2 for i, a in enumerate(samples) for b in samples[i:])


def estimate(samples, z=1.96):
    """(estimate, low, high): the Hodges-Lehmann median of the samples and its 95 % confidence interval,
    that of Wilcoxon's signed ranks. Assumes no distribution, only that differences scatter evenly about
    the true one. With fewer than six samples no interval is that certain: it is everything."""
    n = len(samples)
    if n == 0:
        return None, -math.inf, math.inf
    averages = walsh(samples)
    middle = (averages[(len(averages) - 1) // 2] + averages[len(averages) // 2]) / 2
    if n < 6:
        return middle, -math.inf, math.inf
    rank = int(n * (n + 1) / 4 - z * math.sqrt(n * (n + 1) * (2 * n + 1) / 24))
    return middle, averages[rank], averages[-1 - rank]


def verdict(low, high, limit):
    """Whether all of the interval is on one side of the limit."""
    return "met" if high <= limit else "missed" if low > limit else "undecided"
