# SPDX-License-Identifier: MIT
"""The universal scalability law, fitted and said in words.

X(N) = λN / (1 + σ(N − 1) + κN(N − 1)): λ is the rate of one thread, σ the share of the work that
only one can do at a time, κ what every pair costs (coherence).

N / X(N) is linear in 1/λ, σ/λ and κ/λ, none of which may be negative: least squares of relative
errors under that condition has one solution, and finds it at once.
"""
import math
from dataclasses import asdict, dataclass

import numpy
from scipy.optimize import nnls

BOOTSTRAPS = 1000
# Above this error the law does not describe the measurement.
MAX_ERROR = 0.25
MIN_THREADS = 5


@dataclass
class Fit:
    """The result of a fit; ranges are 95 % intervals."""

    rate_one: float = math.nan
    sigma: float = math.nan
    kappa: float = math.nan
    sigma_range: tuple = (math.nan, math.nan)
    kappa_range: tuple = (math.nan, math.nan)
    peak_threads: "float | None" = None
    peak_rate: "float | None" = None
    level_rate: "float | None" = None
    relative_error: float = math.nan
    nr_threads: int = 0
    meaningless: str = ""

    def json(self) -> dict:
        def clean(value):
            if isinstance(value, tuple):
                return [clean(v) for v in value]
            return None if isinstance(value, float) and not math.isfinite(value) else value

        return {key: clean(value) for key, value in asdict(self).items()}


def law(n, rate_one: float, sigma: float, kappa: float):
    return rate_one * n / (1 + sigma * (n - 1) + kappa * n * (n - 1))


def solve(n, x) -> "tuple[float, float, float]":
    """Fits λ, σ, κ for the least relative error; λ is infinite if unconstrained."""
    columns = numpy.stack([numpy.ones_like(n), n - 1, n * (n - 1)], axis=1)
    # Scale the columns to similar sizes: κ's is 65 280 at 256 threads.
    scale = columns.max(axis=0)
    scale[scale == 0] = 1
    weight = x / n  # of N/X, so that errors are relative
    for _ in range(3):
        found, _ = nnls(columns / scale * weight[:, None], n / x * weight)
        found = found / scale
        fitted = columns @ found
        if not (fitted > 0).all():
            break
        weight = 1 / fitted
    one, serial, pairs = found
    if one <= 0:
        return math.inf, math.inf, math.inf
    return 1 / one, serial / one, pairs / one


def fit(threads, rates, seed: int = 1) -> Fit:
    """@threads and @rates have one entry per run: each repetition is a point of its own."""
    n = numpy.asarray(threads, dtype=float)
    x = numpy.asarray(rates, dtype=float)
    out = Fit(nr_threads=len(set(threads)))
    if out.nr_threads < MIN_THREADS:
        out.meaningless = (f"{out.nr_threads} different numbers of threads are too few for three "
                           f"unknowns: measure at least {MIN_THREADS}")
        return out
    out.rate_one, out.sigma, out.kappa = solve(n, x)
    if not math.isfinite(out.rate_one):
        out.meaningless = "nothing in the figures says what one thread does"
        return out
    fitted = law(n, out.rate_one, out.sigma, out.kappa)
    ratio = numpy.log(x / fitted)
    out.relative_error = float(math.sqrt((ratio**2).mean()))
    bootstrap(out, n, fitted, ratio, numpy.random.default_rng(seed))
    shape(out, max(threads))
    judge(out, n, x)
    return out


def bootstrap(out: Fit, n, fitted, ratio, random) -> None:
    """Computes the ranges by bootstrapping: perturb the fitted law by its residuals and fit again."""
    # The three parameters use up three degrees of freedom.
    freedom = max(len(n) - 3, 1)
    errors = (ratio - ratio.mean()) * math.sqrt(len(n) / freedom)
    found = []
    for _ in range(BOOTSTRAPS):
        again = solve(n, fitted * numpy.exp(random.choice(errors, len(n))))
        if math.isfinite(again[0]):
            found.append(again)
    if len(found) < BOOTSTRAPS // 2:
        out.meaningless = "the rate of one thread cannot be told from the others"
        return
    _, sigmas, kappas = numpy.array(found).T
    out.sigma_range = tuple(float(v) for v in numpy.percentile(sigmas, (2.5, 97.5)))
    out.kappa_range = tuple(float(v) for v in numpy.percentile(kappas, (2.5, 97.5)))


def above_zero(value: float, low: float) -> bool:
    """Does it differ significantly from zero?  Values at the bound are rounding errors."""
    return low > 1e-9 and value > 1e-9


def shape(out: Fit, most: int) -> None:
    if above_zero(out.kappa, out.kappa_range[0]) and out.sigma < 1:
        out.peak_threads = math.sqrt((1 - out.sigma) / out.kappa)
        out.peak_rate = float(law(out.peak_threads, out.rate_one, out.sigma, out.kappa))
    elif above_zero(out.sigma, out.sigma_range[0]):
        out.level_rate = out.rate_one / out.sigma


def judge(out: Fit, n, x) -> None:
    """Sets out.meaningless to the reason why the fit must not be used, if any."""
    if out.meaningless:
        return
    low, high = out.sigma_range
    lift = float(numpy.median(x[n == n.max()]) / numpy.median(x[n == n.min()]))
    if out.sigma < 1e-9 and out.kappa < 1e-9 and lift > 1.2 * n.max() / n.min():
        out.meaningless = "it grows faster than the threads, which the law does not know"
    elif out.relative_error > MAX_ERROR:
        out.meaningless = (f"the law is off by {100 * out.relative_error:.0f} % on average: the "
                           "curve has another shape")
    elif high - low > 1 and high > 3 * low:
        out.meaningless = f"σ lies anywhere between {low:.2g} and {high:.2g}"


def with_error(value: float, bounds: tuple) -> str:
    """Formats 0.021 ± 0.010, with as many digits as the error justifies."""
    # Measurements are not more precise than a thousandth.
    half = max((bounds[1] - bounds[0]) / 2, value / 1000)
    digits = max(0, 1 - math.floor(math.log10(half)))
    if digits > 4:
        exponent = math.floor(math.log10(max(value, half)))
        unit = 10.0**exponent
        return f"({value / unit:.2f} ± {half / unit:.2f})·10^{exponent}"
    return f"{value:.{digits}f} ± {half:.{digits}f}"


def describe(out: Fit, si) -> str:
    """Describes a fit in words; @si formats a rate."""
    if out.meaningless:
        return f"no fit worth the name: {out.meaningless}"
    said = []
    if above_zero(out.sigma, out.sigma_range[0]):
        said.append(f"σ {with_error(out.sigma, out.sigma_range)}")
    else:
        said.append(f"σ below what can be told from zero (at most {out.sigma_range[1]:.2g})")
    if above_zero(out.kappa, out.kappa_range[0]):
        said.append(f"κ {with_error(out.kappa, out.kappa_range)}")
    else:
        said.append(f"κ below what can be told from zero (at most {out.kappa_range[1]:.2g})")
    if out.peak_threads is not None:
        threads = max(1, round(out.peak_threads))
        said.append(f"most at {threads} thread{'' if threads == 1 else 's'}, "
                    f"{si(out.peak_rate)} pages/s, and falls from there")
    elif out.sigma >= 1:
        said.append("more threads do less than one")
    elif out.level_rate is not None:
        said.append(f"grows towards {si(out.level_rate)} pages/s, λ/σ")
    else:
        said.append("grows with the threads as far as it was measured")
    text = "; ".join(said)
    text += f".  One thread: {si(out.rate_one)} pages/s; off by {100 * out.relative_error:.0f} %"
    text += " on average"
    if out.nr_threads < 7:
        text += f"; {out.nr_threads} numbers of threads for three unknowns are a hint, no more"
    return text


def caution(processors: int, most: int) -> str:
    """What the fits of this machine speak of."""
    if processors >= most:
        return ""
    return (f"On {processors} processors up to {most} threads share {processors} cores, so these "
            "fits speak of queues, wake-ups and CPU per page, not of locks between cores.")


def disturbed(nr_noisy: int, nr_points: int) -> str:
    if nr_noisy * 10 <= nr_points:
        return ""
    return (f"Other programs disturbed {nr_noisy} of {nr_points} points: fits of these are of no use to "
            "anybody; measure again on a quiet machine.")
