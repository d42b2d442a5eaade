"""Tables of measured and predicted errors, and the files that they are exported to."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, fields
from io import StringIO
from pathlib import Path
from typing import Any, Final

import numpy as np

from assocmem.core import files
from assocmem.laws.prediction import predicted_error
from assocmem.rules import Rule

# Loads of a predicted curve: enough for the peak of ridge at load 1.
CURVE_LOADS: Final = 160


@dataclass(frozen=True)
class Point:
    """One row of a capacity table: a measured error with its interval, the predicted one, and how to measure it again.

    Parameters
    ----------
    rule : str
        Label of the rule: its name, or its configuration where that is not the default.
    kind : str
        "sign", "gaussian" or "onehot".
    load : float
        N / D.
    n_pairs : int
        N.
    query_cosine : float
        Cosine of the queries to the stored keys.
    trials : int
        Memories measured; 0 on a predicted curve.
    penalty : float
        The relative penalty α / (D · mean ‖x‖²), averaged over the trials; NaN for rules without one.
    measured : float
        Share of wrong signs ("sign"), mean squared error ("gaussian") or share of wrong classes ("onehot").
    low, high : float
        Interval of the measured error, of confidence 99 %.
    predicted : float
        The error by the law; NaN where none is known.
    bits_per_weight : float
        Information that the recalled values carry about the stored ones; NaN for Gaussian values.
    share_of_limit : float
        The same as a share of the limit of Cover and Gardner without errors, 2 bits per weight.
    key_dim, expansion, rank, value_dim : int
        d, k, D and v.
    whiten : bool
        Whether the features were whitened.
    dtype : str
        "float64" or "float32".
    queries : int
        Pairs queried in a trial, at most.
    seed : int
        Seed of `measure`.
    version : str
        Version of this package.
    """

    rule: str
    kind: str
    load: float
    n_pairs: int
    query_cosine: float
    trials: int
    penalty: float
    measured: float
    low: float
    high: float
    predicted: float
    bits_per_weight: float
    share_of_limit: float
    key_dim: int
    expansion: int
    rank: int
    value_dim: int
    whiten: bool
    dtype: str
    queries: int
    seed: int
    version: str

    @property
    def agrees(self) -> bool:
        """Whether the interval contains the prediction."""
        return self.low <= self.predicted <= self.high


@dataclass(frozen=True)
class CapacityTable:
    """Measured points, as `measure` returns them; ``+`` concatenates tables."""

    points: tuple[Point, ...]

    def __add__(self, other: CapacityTable) -> CapacityTable:
        return CapacityTable(self.points + other.points)

    def __len__(self) -> int:
        return len(self.points)

    def agreement(self, *rules: str) -> float:
        """Share of the intervals that contain the prediction, over rules whose labels have these prefixes, or all."""
        judged = [point.agrees for point in self.points if not math.isnan(point.predicted) and _named(point, rules)]
        return float(np.mean(judged)) if judged else math.nan

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the table, every number with all its digits, to a file that is replaced if it exists.

        Parameters
        ----------
        path : path ending in .csv or .json
            JSON is a list of objects, with null for NaN.

        Examples
        --------
        >>> import tempfile
        >>> from assocmem.capacity import measure
        >>> path = Path(tempfile.mkdtemp(), "capacity.csv")
        >>> measure("hebbian", key_dim=8, loads=[0.5], query_cosines=[1.0], trials=2).save(path)
        >>> path.read_text(encoding="utf-8")[:22]
        'rule,kind,load,n_pairs'
        """
        save_rows(path, Point, self.points)


def _named(point: Point, rules: Sequence[str]) -> bool:
    return not rules or any(point.rule.lower().startswith(rule) for rule in rules)


def predicted_curves(table: CapacityTable, rules: Mapping[str, Rule]) -> CapacityTable:
    """Predict the errors between the smallest and the largest load of a table, as points that nobody measured.

    Parameters
    ----------
    table : CapacityTable
        Measured with the same sizes throughout.
    rules : mapping of label to rule
        The rules, by their labels in the table.

    Returns
    -------
    CapacityTable
        Points of 0 trials and measured error NaN, for every rule and cosine in the order of the table. Penalties are
        interpolated between the measured ones, which grow in proportion to the load.
    """
    groups: dict[tuple[str, float], list[Point]] = {}
    for point in table.points:
        groups.setdefault((point.rule, point.query_cosine), []).append(point)
    curves: list[Point] = []
    for (label, _), points in groups.items():
        points = sorted(points, key=lambda point: point.load)
        loads, penalties = np.array([(point.load, point.penalty) for point in points]).T
        dense = np.linspace(loads[0], loads[-1], CURVE_LOADS)
        for load, penalty in zip(dense, np.interp(dense, loads, penalties), strict=True):
            curves.append(with_prediction(_unmeasured(points[0], float(load), float(penalty)), rules[label]))
    return CapacityTable(tuple(curves))


def _unmeasured(like: Point, load: float, penalty: float) -> Point:
    return dataclasses.replace(
        like,
        load=load,
        n_pairs=round(load * like.rank),
        trials=0,
        penalty=penalty,
        measured=math.nan,
        low=math.nan,
        high=math.nan,
        bits_per_weight=math.nan,
        share_of_limit=math.nan,
    )


def with_prediction(point: Point, rule: Rule) -> Point:
    """Return a point with the error that the law of its rule predicts, NaN where none is known."""
    if not point.whiten:
        return dataclasses.replace(point, predicted=math.nan)
    predicted = predicted_error(
        rule,
        point.load,
        point.query_cosine,
        point.kind,
        key_dim=point.key_dim,
        expansion=point.expansion,
        value_dim=point.value_dim,
        penalty=0.0 if math.isnan(point.penalty) else point.penalty,
    )
    return dataclasses.replace(point, predicted=predicted)


# ---------------------------------------------------------------------------------------------------------- files


def save_rows(path: str | os.PathLike[str], row_type: type, rows: Sequence[Any]) -> None:
    """Write dataclass objects of one type, every number with all its digits, to a .csv or .json file."""
    formats = {".csv": _csv, ".json": _json}
    suffix = Path(path).suffix
    if suffix not in formats:
        raise ValueError(f"the name of a table must end in .csv or .json, got {os.fspath(path)!r}")
    with files.replacing(Path(path)) as temporary:
        Path(temporary).write_text(formats[suffix](row_type, rows), encoding="utf-8")


def _csv(row_type: type, rows: Sequence[Any]) -> str:
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(field.name for field in fields(row_type))
    writer.writerows(astuple(row) for row in rows)
    return text.getvalue()


def _json(row_type: type, rows: Sequence[Any]) -> str:
    objects = [
        {name: None if isinstance(entry, float) and math.isnan(entry) else entry for name, entry in asdict(row).items()}
        for row in rows
    ]
    return json.dumps(objects, indent=1, allow_nan=False)
