"""Sign loss of a memory: the share of its units with aligned weights, and antipodal keys."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from assocmem.core import checks
from assocmem.laws.sign_loss import sign_loss
from assocmem.memory import AssociativeMemory


@dataclass(frozen=True)
class SignReport:
    """Sign loss of the units of a memory, for every output.

    Parameters
    ----------
    aligned : (value_dim,)
        Share of units whose two weights have the same sign.
    aligned_by_law : (value_dim,)
        (2/π) arctan(σ_b/σ_a), from the deviations of the even part b and the odd part a of the weights.
    loss : (value_dim,)
        Mean sign loss of the units, in bits.
    """

    aligned: NDArray[np.float64]
    aligned_by_law: NDArray[np.float64]
    loss: NDArray[np.float64]


@np.errstate(under="ignore")
def sign_report(memory: AssociativeMemory) -> SignReport:
    """Report the aligned share of units, measured and by the arctan law, and the mean sign loss, for every output.

    Parameters
    ----------
    memory : AssociativeMemory
        With at least one pair.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> memory = AssociativeMemory(key_dim=64, value_dim=2, expansion=4)
    >>> memory.store(rng.standard_normal((200, 64)), rng.standard_normal((200, 2)))
    >>> report = sign_report(memory)
    >>> bool(np.all(abs(report.aligned - report.aligned_by_law) < 0.08))
    True
    """
    if memory.n_stored == 0:
        raise ValueError("the memory holds no pairs, and weights of 0 have no signs: store something first")
    weights = memory.weights.astype(np.float64)
    plus, minus = weights / (np.abs(weights).max() or 1.0)  # no square leaves the number range
    odd, even = np.sqrt(np.mean((plus - minus) ** 2, axis=0)), np.sqrt(np.mean((plus + minus) ** 2, axis=0))
    aligned = np.mean((plus > 0) == (minus > 0), axis=0)
    return SignReport(aligned, 2 / np.pi * np.arctan2(even, odd), sign_loss(plus, minus).mean(axis=0))


@np.errstate(under="ignore")
def antipodal_error(
    n_pairs: int, key_dim: int = 64, expansion: int = 4, *, bias: float = 0.0, value_dim: int = 64, seed: int = 0
) -> float:
    """Error of a ridge memory that stored n antipodal pairs of keys, x and −x, with unrelated values.

    Only the odd part of the features distinguishes x from −x, and it has d dimensions for every expansion: exact up to
    n = d, and beyond it a share (max(0, 1 − d/n) + max(0, 1 − m/n))/2 of the squared values is lost, the second term
    by the even part of m dimensions. With a bias the keys are not antipodal, and 2n pairs are exact up to the rank.

    Parameters
    ----------
    n_pairs : int
        Antipodal pairs, 2n keys.
    key_dim, expansion, bias, value_dim, seed
        As in `AssociativeMemory`.

    Returns
    -------
    float
        ‖recalled − stored‖ / ‖stored‖.

    Examples
    --------
    >>> [round(antipodal_error(n), 2) for n in (64, 80)], round(antipodal_error(150, bias=1.0), 6)
    ([0.0, 0.3], 0.0)
    """
    count = checks.as_size("n_pairs", n_pairs)
    memory = AssociativeMemory(key_dim, value_dim, expansion=expansion, bias=bias, seed=seed)
    rng = np.random.default_rng(seed)
    half = rng.standard_normal((count, key_dim)) / np.sqrt(key_dim)
    keys, values = np.concatenate([half, -half]), rng.standard_normal((2 * count, value_dim))
    memory.store(keys, values)
    return float(np.linalg.norm(memory.recall(keys) - values) / np.linalg.norm(values))
