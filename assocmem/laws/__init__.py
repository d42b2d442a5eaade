"""The laws of capacity: pure formulas, known before the first pair is stored."""

from assocmem.laws.recall import (
    COVER_GARDNER_LIMIT,
    Recalled,
    best_penalty,
    bits_per_weight,
    delta_law,
    feature_correlation,
    feature_cosine,
    feature_cosine_gap,
    hebbian_law,
    ridge_law,
)

__all__ = [
    "COVER_GARDNER_LIMIT",
    "Recalled",
    "best_penalty",
    "bits_per_weight",
    "delta_law",
    "feature_correlation",
    "feature_cosine",
    "feature_cosine_gap",
    "hebbian_law",
    "ridge_law",
]
