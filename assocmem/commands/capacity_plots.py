"""Pictures of capacity and of sign loss."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from assocmem.capacity import CapacityTable, Point, signs
from assocmem.capacity.signs import SignPoint
from assocmem.core import files
from assocmem.laws import sign_loss

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
# Marker, colour, and a factor that keeps points of two rules apart.
_SIGN_STYLES = {"hebbian": ("o", "#c44e00", 0.97), "ridge": ("s", "#0a5fb4", 1.03)}


def capacity_figure(table: CapacityTable, curves: CapacityTable) -> Figure:
    """Draw measured errors on predicted curves, one panel for every query cosine, and bits per weight.

    Parameters
    ----------
    table : CapacityTable
        Of one kind of values.
    curves : CapacityTable
        Its predictions, from `predicted_curves`.
    """
    labels = list(dict.fromkeys(point.rule for point in table.points))
    cosines = sorted({point.query_cosine for point in table.points}, reverse=True)
    with_bits = table.points[0].kind != "gaussian"
    panels = len(cosines) + with_bits
    columns = min(panels, 2)
    rows = -(-panels // columns)
    figure = Figure(figsize=(5.4 * columns, 4.4 * rows), dpi=130, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for spare in axes[panels:]:
        spare.set_visible(False)
    for axis, cosine in zip(axes, cosines, strict=False):
        for label, style in zip(labels, cycle(_STYLES), strict=False):
            _draw_measured(axis, label, _points_of(table, label, cosine), style)
            _draw_law(axis, _points_of(curves, label, cosine), style)
        _label_axes(axis, f"query cosine {cosine:g}", _AXIS_LABELS[table.points[0].kind])
    if with_bits:
        _draw_bits(axes[panels - 1], table, labels, cosines[0])
    handles, names = axes[0].get_legend_handles_labels()
    title = "points: measured, with 99 % intervals; lines: predicted"
    figure.legend(handles, names, loc="outside lower center", ncols=len(names), title=title)
    return figure


def _points_of(table: CapacityTable, label: str, cosine: float) -> list[Point]:
    return [point for point in table.points if point.rule == label and point.query_cosine == cosine]


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


def _draw_law(axis: Axes, points: Sequence[Point], style: tuple[str, Any, str]) -> None:
    errors = np.maximum([point.predicted for point in points], _SMALLEST)
    axis.plot([point.load for point in points], errors, linestyle=style[1], color=style[2], linewidth=1.3)


def _draw_bits(axis: Axes, table: CapacityTable, labels: Sequence[str], cosine: float) -> None:
    for label, (marker, dashes, colour) in zip(labels, cycle(_STYLES), strict=False):
        points = _points_of(table, label, cosine)
        bits = [point.bits_per_weight for point in points]
        axis.plot([point.load for point in points], bits, marker=marker, linestyle=dashes, color=colour, label=label)
    axis.axhline(2.0, color="0.4", linewidth=1)
    label = "Cover–Gardner limit without errors"
    axis.annotate(label, (0.02, 1.94), xycoords=("axes fraction", "data"), fontsize=8, va="top")
    axis.set(title=f"bits recalled, query cosine {cosine:g}", xlabel="load N / D", ylabel="bits per weight")


def _label_axes(axis: Axes, title: str, ylabel: str) -> None:
    axis.set(title=title, xlabel="load N / D", ylabel=f"{ylabel} (below {_SMALLEST:g} drawn there)", yscale="log")
    axis.set_ylim(_SMALLEST * 0.7, None)


# ------------------------------------------------------------------------------------------------------ sign loss


def sign_loss_figure(points: Sequence[SignPoint], curves: Sequence[SignPoint], load: float) -> Figure:
    """Draw a unit's response and loss, aligned units and sign loss of trained memories, and the antipodal test.

    Parameters
    ----------
    points : sequence of SignPoint
        Measured for several rules, expansions and loads, and for antipodal keys with and without a bias.
    curves : sequence of SignPoint
        Predictions, from `signs.predicted_signs`.
    load : float
        The load of the panels over the expansion: the nearest that was measured.
    """
    figure = Figure(figsize=(9.5, 10.5), dpi=100, layout="constrained")
    axes = figure.subplots(3, 2)
    _draw_response(axes[0, 0])
    _draw_loss(axes[0, 1])
    _draw_over_expansions(axes[1, 0], points, curves, signs.ALIGNED, load)
    axes[1, 0].set(title=f"aligned units, load {load:g}", ylabel="share", ylim=(0.4, 1.02))
    _draw_over_expansions(axes[1, 1], points, curves, signs.LOSS, load)
    axes[1, 1].axhline(sign_loss.SIGN_LOSS_BOUND, color="0.6", label="bound for independent weights, 1/2")
    axes[1, 1].set(title=f"sign loss of a memory, load {load:g}", ylabel="bits lost, mean over units", ylim=(0.4, 1.02))
    _draw_over_loads(axes[2, 0], points)
    _draw_antipodal(axes[2, 1], points, curves)
    for axis in (axes[1, 0], axes[1, 1], axes[2, 1]):
        axis.legend(fontsize=8)
    axes[2, 0].legend(fontsize=8, ncols=2, loc="center", bbox_to_anchor=(0.5, 0.31))  # where no point lies
    return figure


def _draw_over_expansions(
    axis: Axes, points: Sequence[SignPoint], curves: Sequence[SignPoint], quantity: str, load: float
) -> None:
    curve = [(point.expansion, point.predicted) for point in curves if point.quantity == quantity]
    axis.plot(*np.array(curve).T, "k--", label="predicted")
    measured = [point for point in points if point.quantity == quantity]
    for rule, (marker, colour, shift) in _SIGN_STYLES.items():
        found = {k: _nearest(measured, rule, k, load) for k in sorted({point.expansion for point in measured})}
        places = np.array(list(found)) * shift
        axis.errorbar(places, *_with_reach(list(found.values())), fmt=marker, color=colour, mfc="white", label=rule)
    axis.set(xlabel="expansion k", xscale="log")
    axis.set_xticks(list(found), [str(k) for k in found], minor=False)
    axis.minorticks_off()


def _nearest(points: Sequence[SignPoint], rule: str, expansion: int, load: float) -> SignPoint:
    fitting = [point for point in points if (point.rule, point.expansion) == (rule, expansion)]
    return min(fitting, key=lambda point: abs(point.load - load))


def _with_reach(points: Sequence[SignPoint]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Measured numbers, and the distances to the ends of their intervals."""
    low, measured, high = np.array([(point.low, point.measured, point.high) for point in points]).T
    return measured, np.array([measured - low, high - measured])


def _draw_over_loads(axis: Axes, points: Sequence[SignPoint]) -> None:
    measured = [point for point in points if point.quantity == signs.LOSS]
    for k in sorted({point.expansion for point in measured}, reverse=True):
        for rule, (marker, colour, shift) in _SIGN_STYLES.items():
            chosen = [point for point in measured if (point.rule, point.expansion) == (rule, k)]
            loads = np.array([point.load for point in chosen]) * shift
            axis.errorbar(
                loads, *_with_reach(chosen), fmt=marker, color=colour, mfc="white", label=rule if k == 1 else None
            )
        label = "predicted" if k == 1 else None
        axis.axhline(chosen[0].predicted, color="k", linestyle="--", linewidth=1, label=label)
        axis.annotate(f"k = {k}", (loads.max() * 1.1, chosen[0].predicted + 0.005), fontsize=8, va="bottom")
    axis.axhline(sign_loss.SIGN_LOSS_BOUND, color="0.6", label="bound, 1/2")
    axis.set(title="sign loss of a memory", xlabel="load N / D", ylabel="bits lost, mean over units", ylim=(0.4, 1.02))
    axis.set(xscale="log", xlim=(None, loads.max() * 1.5))
    axis.set_xticks([0.1, 0.25, 0.5, 1, 2], ["0.1", "0.25", "0.5", "1", "2"])
    axis.minorticks_off()


def _draw_antipodal(axis: Axes, points: Sequence[SignPoint], curves: Sequence[SignPoint]) -> None:
    law = [(point.n_pairs / 2, point.predicted) for point in curves if point.quantity == signs.ANTIPODAL]
    axis.plot(*np.array(law).T, "k--", label="predicted, no bias")
    for bias, style in ((0.0, "o"), (1.0, "s")):
        found = [point for point in points if point.quantity == signs.ANTIPODAL and point.bias == bias]
        places, colour = [point.n_pairs / 2 for point in found], "#0a5fb4" if bias else "#c44e00"
        label = f"measured, bias {bias:g}" if bias else "measured, no bias"
        axis.errorbar(places, *_with_reach(found), fmt=style, color=colour, mfc="white", label=label)
    key_dim = found[0].key_dim
    axis.axvline(key_dim, color="0.6", linestyle=":", label=f"d = {key_dim}")
    axis.set(title="antipodal keys x and −x", xlabel="antipodal pairs n", ylabel="relative recall error")


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
    """Write a figure in the format of the path's ending; it appears whole or not at all."""
    with files.replacing(path) as temporary:
        figure.savefig(temporary, format=Path(path).suffix[1:])
