"""Pictures of capacity and of sign loss."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from assocmem.capacity import CapacityTable, Point, predicted_error
from assocmem.core import files
from assocmem.laws import sign_loss
from assocmem.rules import Rule

# Readable without colour: every rule has its own marker, dashes and darkness.
_STYLES: list[tuple[str, Any, str]] = [
    ("o", "-", "#000000"),
    ("s", "--", "#c44e00"),
    ("^", "-.", "#0a5fb4"),
    ("D", ":", "#4b9b4b"),
]
_STYLES += [("v", (0, (6, 1, 1, 1)), "#999999")]
_AXIS_LABELS = {"sign": "wrong signs", "gaussian": "mean squared error", "onehot": "wrong classes"}
_SMALLEST = 1e-4


def capacity_figure(
    table: CapacityTable, rules: Mapping[str, Rule], *, key_dim: int, expansion: int, value_dim: int
) -> Figure:
    """Draw measured errors on predicted curves, one panel for every query cosine, and bits per weight.

    Parameters
    ----------
    table : CapacityTable
        Of one kind of values.
    rules : mapping of label to rule
        The rules measured, by their labels in the table.
    key_dim, expansion, value_dim : int
        Sizes of the memories.
    """
    cosines = sorted({point.query_cosine for point in table.points}, reverse=True)
    with_bits = table.points[0].kind != "gaussian"
    panels = len(cosines) + with_bits
    columns = min(panels, 2)
    rows = -(-panels // columns)
    figure = Figure(figsize=(5.4 * columns, 4.4 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for spare in axes[panels:]:
        spare.set_visible(False)
    for axis, cosine in zip(axes, cosines, strict=False):
        for label, style in zip(rules, cycle(_STYLES), strict=False):
            points = [point for point in table.points if point.rule == label and point.query_cosine == cosine]
            _draw_measured(axis, label, points, style)
            _draw_law(axis, rules[label], points, style, key_dim, expansion, value_dim)
        _label_axes(axis, f"query cosine {cosine:g}", _AXIS_LABELS[table.points[0].kind])
    if with_bits:
        _draw_bits(axes[panels - 1], table, list(rules), cosines[0])
    handles, labels = axes[0].get_legend_handles_labels()
    title = "points: measured, with 99 % intervals; lines: predicted"
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), title=title)
    return figure


def _draw_measured(axis: Axes, label: str, points: Sequence[Point], style: tuple[str, Any, str]) -> None:
    marker, _, colour = style
    measured = np.array([point.measured for point in points])
    low, high = np.array([[point.low, point.high] for point in points]).T
    shown = np.maximum(measured, _SMALLEST)
    reach = [shown - np.clip(low, _SMALLEST, shown), np.maximum(high, shown) - shown]
    loads = [point.load for point in points]
    # An empty line, so that the legend shows the dashes of the law, which is drawn separately.
    axis.plot([], [], marker=marker, linestyle=style[1], color=colour, label=label, markersize=5, mfc="white")
    axis.errorbar(loads, shown, reach, fmt=marker, color=colour, markersize=5, capsize=2, mfc="white")


def _draw_law(
    axis: Axes,
    rule: Rule,
    points: Sequence[Point],
    style: tuple[str, Any, str],
    key_dim: int,
    expansion: int,
    value_dim: int,
) -> None:
    loads = np.array([point.load for point in points])
    dense = np.linspace(loads.min(), loads.max(), 160)
    # Penalties between the measured loads: interpolated, they grow in proportion to the load.
    penalties = np.interp(dense, loads, [0.0 if np.isnan(point.penalty) else point.penalty for point in points])
    sizes = {"key_dim": key_dim, "expansion": expansion, "value_dim": value_dim}
    errors = [
        predicted_error(rule, float(load), points[0].query_cosine, points[0].kind, penalty=float(penalty), **sizes)
        for load, penalty in zip(dense, penalties, strict=True)
    ]
    axis.plot(dense, np.maximum(errors, _SMALLEST), linestyle=style[1], color=style[2], linewidth=1.3)


def _draw_bits(axis: Axes, table: CapacityTable, labels: Sequence[str], cosine: float) -> None:
    for label, (marker, dashes, colour) in zip(labels, cycle(_STYLES), strict=False):
        points = [point for point in table.points if point.rule == label and point.query_cosine == cosine]
        bits = [point.bits_per_weight for point in points]
        axis.plot([point.load for point in points], bits, marker=marker, linestyle=dashes, color=colour, label=label)
    axis.axhline(2.0, color="0.4", linewidth=1)
    label = "Cover–Gardner limit without errors"
    axis.annotate(label, (0.02, 1.94), xycoords=("axes fraction", "data"), fontsize=8, va="top")
    axis.set(title=f"bits recalled, query cosine {cosine:g}", xlabel="load N / D", ylabel="bits per weight")


def _label_axes(axis: Axes, title: str, ylabel: str) -> None:
    axis.set(title=title, xlabel="load N / D", ylabel=f"{ylabel} (below {_SMALLEST:g} drawn there)", yscale="log")
    axis.set_ylim(_SMALLEST * 0.7, None)


def sign_loss_figure(
    expansions: Sequence[int],
    aligned: Sequence[tuple[float, float]],
    antipodal: Sequence[tuple[int, float, float]],
    key_dim: int,
) -> Figure:
    """Draw the V-shaped response, loss against weight ratio, aligned share and the antipodal test.

    Parameters
    ----------
    expansions : sequence of int
        Expansions of the memories whose aligned share is drawn.
    aligned : sequence of (measured, by the arctan law)
        For every expansion.
    antipodal : sequence of (pairs, error, error with a bias)
        Results of `capacity.antipodal_error`.
    key_dim : int
        Length of a key in the antipodal test.
    """
    figure = Figure(figsize=(9.5, 7.5), layout="constrained")
    axes = figure.subplots(2, 2)
    _draw_response(axes[0, 0])
    _draw_loss(axes[0, 1])
    measured, law = np.array(aligned).T
    axes[1, 0].plot(expansions, law, "k--", label="law (2/π) arctan(σ_b/σ_a)")
    axes[1, 0].plot(expansions, measured, "o", color="#c44e00", label="measured, ridge at load 0.5")
    axes[1, 0].set(title="aligned units", xlabel="expansion k", ylabel="share", ylim=(0.4, 1.0), xscale="log")
    axes[1, 0].set_xticks(list(expansions), [str(k) for k in expansions], minor=False)
    axes[1, 0].minorticks_off()
    axes[1, 0].legend(fontsize=8)
    pairs, plain, biased = np.array(antipodal).T
    dense = np.linspace(pairs.min(), pairs.max(), 200)
    axis = axes[1, 1]
    axis.plot(dense, np.sqrt(np.maximum(0, 1 - key_dim / dense) / 2), "k-", label="law √((1 − d/n)/2), no bias")
    axis.plot(pairs, plain, "o", color="#c44e00", label="measured, no bias")
    axis.plot(pairs, biased, "s", color="#0a5fb4", mfc="white", label="measured, bias 1")
    axis.axvline(key_dim, color="0.6", linestyle=":", label=f"d = {key_dim}")
    axis.set(title="antipodal keys x and −x", xlabel="antipodal pairs n", ylabel="relative recall error")
    axis.legend(fontsize=8)
    return figure


def _draw_response(axis: Axes) -> None:
    z = np.linspace(-3, 3, 301)
    for (plus, minus), dashes in zip(
        [(1.0, 1.0), (2.0, 1.0), (1.0, -1.0), (1.0, 0.0)], ["-", "--", "-.", ":"], strict=True
    ):
        loss = float(sign_loss.sign_loss(plus, minus))
        response = plus * np.maximum(z, 0) + minus * np.maximum(-z, 0)
        axis.plot(z, response, dashes, label=f"w₊ = {plus:g}, w₋ = {minus:g}: loses {loss:.2f} bit")
    axis.set(title="response of one unit", xlabel="z", ylabel="w₊ relu(z) + w₋ relu(−z)")
    axis.legend(fontsize=8)


def _draw_loss(axis: Axes) -> None:
    ratio = np.geomspace(1, 1000, 300)
    mean = sign_loss.mean_sign_loss()
    axis.plot(ratio, sign_loss.sign_loss(ratio, 1.0), "k-", label="weights of equal sign")
    axis.axhline(sign_loss.SIGN_LOSS_BOUND, color="0.4", linestyle="--", label="bound on the mean, 1/2")
    axis.axhline(mean, color="#c44e00", linestyle=":", label=f"mean of Gaussian weights, {mean:.4f}")
    axis.set(title="sign loss", xlabel="ratio of the weights", ylabel="bits lost", xscale="log", ylim=(0, 1.05))
    axis.legend(fontsize=8)


def save_figure(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a figure; it appears whole or not at all."""
    with files.replacing(path) as temporary:
        figure.savefig(temporary, dpi=130, format=Path(path).suffix[1:])
