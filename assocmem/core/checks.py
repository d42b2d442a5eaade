"""Conversion and refusal of arguments."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from assocmem.core.jit import reduction
from assocmem.core.reading import read_array as read_array
from assocmem.core.reading import refuse_bad_kind as refuse_bad_kind
from assocmem.core.reading import refuse_unreadable as refuse_unreadable

# Squared features of longer or shorter keys would leave the range of the floating point type.
NORM_RANGE: Final = {"float64": (1e-150, 1e150), "float32": (1e-15, 1e15)}

_GOOD, _NONFINITE, _ZERO, _OUT_OF_RANGE = 0, 1, 2, 3


def as_size(name: str, value: Any, smallest: int = 1) -> int:
    """Return an integer of at least `smallest`, or refuse."""
    try:
        if isinstance(value, (bool, np.bool_)):
            raise TypeError
        size = operator.index(value)
    except TypeError:
        raise TypeError(
            f"{name} must be an integer of at least {smallest}, got {value!r} ({type(value).__name__})"
        ) from None
    if size < smallest:
        raise ValueError(f"{name} must be an integer of at least {smallest}, got {size}")
    return size


def as_number(name: str, value: Any, low: float, high: float, *, open_low: bool = False) -> float:
    """Return a float in [low, high] or (low, high], or refuse."""
    interval = f"{'(' if open_low else '['}{low:g}, {high:g}]"
    try:
        if isinstance(value, (bool, np.bool_, str, bytes)):
            raise TypeError
        number = float(value)
    except OverflowError:
        number = math.inf
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be a real number in {interval}, got {value!r} ({type(value).__name__})") from None
    if not math.isfinite(number) or number > high or number < low or (open_low and number == low):
        raise ValueError(f"{name} must be a number in {interval}, got {number}")
    return number


def as_array(name: str, value: ArrayLike, low: float, high: float, *, open_low: bool = False) -> NDArray[np.float64]:
    """Return a float64 array, of any shape, whose entries lie in [low, high] or (low, high], or refuse."""
    interval = f"{'(' if open_low else '['}{low:g}, {high:g}]"
    try:
        given = read_array(name, value)
        if given.dtype.kind == "b":
            raise TypeError
    except (TypeError, ValueError):
        raise TypeError(
            f"{name} must be a real number in {interval} or an array of them, got {value!r} ({type(value).__name__})"
        ) from None
    array = given.astype(np.float64)
    # A NaN fails every comparison: this form catches it.
    outside = ~((array > low) if open_low else (array >= low)) | ~(array <= high)
    if outside.any():
        raise ValueError(f"{name} must hold numbers in {interval}, got {array[outside].flat[0]}")
    return array


def as_choice(name: str, value: Any, known: Sequence[str]) -> str:
    """Return a name that is one of the known, or refuse."""
    if not isinstance(value, str) or value not in known:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, known))}, got {value!r}")
    return value


def refuse_uncallable(name: str, value: Any) -> None:
    """Refuse a progress function that is neither None nor callable."""
    if value is not None and not callable(value):
        raise TypeError(
            f"{name} must be a function of the number of further pairs that are done, for example a bar's update, "
            f"got {value!r} ({type(value).__name__})"
        )


def as_dtype(dtype: DTypeLike) -> np.dtype[Any]:
    """Return the dtype float32 or float64, or refuse."""
    try:
        name = "none" if dtype is None else np.dtype(dtype).name  # NumPy reads None as float64
    except (TypeError, ValueError, SyntaxError):
        name = "unknown"
    if name not in NORM_RANGE:
        raise ValueError(f"dtype must be 'float32' or 'float64', got {dtype!r}")
    known: np.dtype[Any] = np.dtype(name)
    return known


def as_table(name: str, array: ArrayLike, width: int) -> tuple[NDArray[Any], bool]:
    """Return a real array of shape (N, width), not copied if it is an array, and whether one row was given."""
    table = read_array(name, array)
    if table.size == 0 and table.ndim < 2 and not isinstance(array, np.ndarray):
        table = table.reshape(0, width)
    refuse_bad_shape(name, table.shape, width)
    single = table.ndim == 1
    return (table[None, :] if single else table), single


def refuse_bad_shape(name: str, shape: tuple[int, ...], width: int) -> None:
    """Refuse a shape other than (N, width) and (width,)."""
    if len(shape) not in (1, 2) or shape[-1] != width:
        raise ValueError(f"{name} have shape {tuple(shape)}; expected (N, {width}) or ({width},)")


def as_rows(name: str, array: ArrayLike, width: int, dtype: np.dtype[Any]) -> tuple[NDArray[Any], bool]:
    """Return a contiguous array (N, width) of the given dtype, and whether one row was given."""
    table, single = as_table(name, array, width)
    return to_dtype(table, dtype), single


def to_dtype(table: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Convert rows; numbers too large for the dtype become infinite, which the checks of the rows refuse."""
    if table.dtype == dtype:
        return np.ascontiguousarray(table)
    with np.errstate(over="ignore", under="ignore"):
        return np.ascontiguousarray(table, dtype)


@reduction
def _first_bad_row(rows: NDArray[Any], low: float, high: float) -> tuple[int, int]:
    """Index of the first unusable row and why: NaN or infinity, zero, or (with high > 0) a norm out of range."""
    for n in range(rows.shape[0]):
        row = rows[n]
        squares = 0.0
        for i in range(row.shape[0]):
            squares += np.float64(row[i]) * np.float64(row[i])
        # A NaN fails every comparison: this form catches it. Huge float64 values overflow to infinity here, so the
        # slow path looks at the numbers themselves.
        if not (squares >= low * low and squares <= high * high):
            largest = 0.0
            for i in range(row.shape[0]):
                if not np.isfinite(row[i]):
                    return n, _NONFINITE
                largest = max(largest, abs(np.float64(row[i])))
            if high > 0.0:
                if largest == 0.0:
                    return n, _ZERO
                scaled = 0.0
                for i in range(row.shape[0]):
                    scaled += (row[i] / largest) ** 2
                norm = largest * np.sqrt(scaled)
                if norm < low or norm > high:
                    return n, _OUT_OF_RANGE
    return -1, _GOOD


def refuse_nonfinite(name: str, rows: NDArray[Any], first_row: int = 0) -> None:
    """Refuse rows that hold NaN or infinity; `first_row` is the number of rows[0] in the batch."""
    bad, _ = _first_bad_row(rows, 0.0, 0.0)
    if bad >= 0:
        raise ValueError(_nonfinite_message(name, rows, bad, first_row))


def refuse_bad_keys(rows: NDArray[Any], bias: float, first_row: int = 0, *, centred: bool = False) -> None:
    """Refuse keys that hold NaN or infinity, have no features, or whose features would leave the number range.

    With `centred`, messages say that the rows are keys minus the center.
    """
    low, high = NORM_RANGE[rows.dtype.name]
    bad, reason = _first_bad_row(rows, 0.0 if bias else low, high)
    if bad < 0:
        return
    if reason == _NONFINITE:
        raise ValueError(_nonfinite_message("keys", rows, bad, first_row))
    if reason == _ZERO:
        state = "equals the center of the memory" if centred else "is all zeros"
        raise ValueError(
            f"key {first_row + bad} {state}, so it has no features. Drop it, or build the memory with a bias, for "
            f"example bias=1.0"
        )
    norm, minus = float(np.linalg.norm(rows[bad].astype(np.longdouble))), " minus the center" if centred else ""
    raise ValueError(
        f"key {first_row + bad}{minus} has norm {norm:.3g}; expected a norm between {low:g} and {high:g} for "
        f"{rows.dtype.name}, so that squared features stay in range. Rescale the keys"
    )


def _nonfinite_message(name: str, rows: NDArray[Any], row: int, first_row: int) -> str:
    column = int(np.flatnonzero(~np.isfinite(rows[row]))[0])
    return (
        f"{name} row {first_row + row}, column {column} is {rows[row, column]} in {rows.dtype.name}; "
        f"expected finite numbers. Drop or repair the row"
    )


def refuse_bad_values(rows: NDArray[Any], first_row: int = 0) -> None:
    """Refuse values that hold NaN or infinity, or whose squares would leave the number range."""
    high = NORM_RANGE[rows.dtype.name][1]
    bad, reason = _first_bad_row(rows, 0.0, high)
    if bad >= 0 and reason == _NONFINITE:
        raise ValueError(_nonfinite_message("values", rows, bad, first_row))
    if bad >= 0:
        raise ValueError(
            f"value {first_row + bad} has a norm beyond {high:g}, the largest for {rows.dtype.name} whose squares stay "
            f"in range. Rescale the values"
        )


def refuse_zeros_and_ones(chunks: Iterable[NDArray[Any]], use: str) -> None:
    """Refuse keys whose entries are all 0 or one positive number, and both: patterns that are not centred."""
    top, has_zeros = 0.0, False
    for chunk in chunks:
        for rows in (chunk[:1], chunk):  # one row tells nearly always
            top = float(rows.max(initial=top))
            zeros = rows == 0
            if top <= 0.0 or not (zeros | (rows == top)).all():
                return
            has_zeros = has_zeros or bool(zeros.any())
    if has_zeros:
        known = "x" if top == 1.0 else f"x / {top:g}"
        raise ValueError(
            f"every entry of the keys is 0 or {top:g}, and {use} is for patterns of -1 and 1; store and recall "
            f"2 * {known} - 1 in their place, computed in floating point"
        )


def refuse_bad_out(out: Any, shape: tuple[int, int], source: NDArray[Any]) -> None:
    """Refuse an array into which recalled values cannot be written."""
    if not isinstance(out, np.ndarray) or out.shape != shape or out.dtype.kind != "f":
        found = f"shape {out.shape} and dtype {out.dtype}" if isinstance(out, np.ndarray) else f"type {type(out)}"
        raise ValueError(f"out has {found}; expected a floating point array of shape {shape}")
    if not out.flags.writeable:
        raise ValueError("out is read-only; expected an array that can be written")
    if _overlap(out, source):
        raise ValueError("out overlaps the keys; expected memory of its own")


def _overlap(one: NDArray[Any], other: NDArray[Any]) -> bool:
    """Whether two arrays have a byte in common; where that is hard to tell, whether their bounds overlap."""
    try:
        return np.shares_memory(one, other, max_work=1000)  # type: ignore[arg-type]
    except np.exceptions.TooHardError:
        return np.may_share_memory(one, other)


_KERNEL_DTYPES: Final = (np.dtype(np.float64), np.dtype(np.float32))


def refuse_unchecked(name: str, rows: NDArray[Any], width: int, dtypes: tuple[np.dtype[Any], ...] = ()) -> None:
    """Refuse rows on which a compiled loop would read out of bounds; cheap, it does not look at the numbers."""
    if rows.shape[1:] != (width,) or rows.dtype not in (dtypes or _KERNEL_DTYPES) or not rows.flags.c_contiguous:
        expected = " or ".join(dtype.name for dtype in dtypes or _KERNEL_DTYPES)
        order = "contiguous" if rows.flags.c_contiguous else "not contiguous"
        raise ValueError(
            f"{name} must be a contiguous {expected} array of shape (N, {width}), got {rows.dtype} of shape "
            f"{rows.shape}, {order}"
        )


def refuse_unequal_lengths(n_keys: int, n_values: int) -> None:
    """Refuse N keys with M values."""
    if n_keys != n_values:
        raise ValueError(f"{n_keys} keys came with {n_values} values; expected one value for every key")
