"""How much real time can answer by when: a rate that changes in steps, and what it adds up to."""

from bisect import bisect_right
from itertools import pairwise


class Curve:
    """Rows answered from the beginning up to a moment, if there were always rows waiting. Piecewise linear."""

    def __init__(self, times: list[float], rates: list[float]) -> None:
        """`rates[k]` holds from `times[k]` until the next, the last one for ever. `times[0]` is 0."""
        self.times = times
        self.rates = rates
        self.sums = [0.0]
        for (start, stop), rate in zip(pairwise(times), rates, strict=False):
            self.sums.append(self.sums[-1] + (stop - start) * rate)

    def __call__(self, moment: float) -> float:
        if moment <= 0.0:
            return 0.0
        k = bisect_right(self.times, moment) - 1
        return self.sums[k] + (moment - self.times[k]) * self.rates[k]

    def when(self, rows: float) -> float:
        """The first moment by which so many rows were answered; infinite if never."""
        k = max(bisect_right(self.sums, rows) - 1, 0)
        while self.sums[k] >= rows and k > 0:
            k -= 1
        while self.rates[k] <= 0.0:
            k += 1
            if k == len(self.rates):
                return float("inf")
        moment = self.times[k] + max(0.0, rows - self.sums[k]) / self.rates[k]
        return moment if k + 1 == len(self.times) or moment <= self.times[k + 1] else self.times[k + 1]

    def without(self, busy: list[tuple[float, float]]) -> "Curve":
        """What is left of it where others use all of it from time to time. `busy`: in order, not overlapping."""
        edges = sorted({*self.times, *(edge for span in busy for edge in span)})
        rates: list[float] = []
        at = 0
        for edge in edges:
            while at < len(busy) and busy[at][1] <= edge:
                at += 1
            taken = at < len(busy) and busy[at][0] <= edge
            rates.append(0.0 if taken else self.rates[bisect_right(self.times, edge) - 1])
        return Curve(edges, rates)

    def or_better(self, other: "Curve") -> "Curve":
        """At each moment the faster of two that share one limit."""
        edges = sorted({*self.times, *other.times})
        return Curve(edges, [max(self._rate(edge), other._rate(edge)) for edge in edges])

    def _rate(self, moment: float) -> float:
        return self.rates[bisect_right(self.times, moment) - 1]
