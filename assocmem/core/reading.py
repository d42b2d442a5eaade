"""Reading arrays of other libraries: what NumPy cannot read is named, with the call that converts it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

# Kinds of dtypes that are no real numbers, and what to do about them.
_KINDS = {
    "c": "Store the real and imaginary parts side by side",
    "M": "Convert times to numbers, for example x.astype('int64')",
    "m": "Convert times to numbers, for example x / numpy.timedelta64(1, 's')",
    "U": "Convert text to numbers, for example by numpy.asarray(x, float)",
    "S": "Convert text to numbers, for example by numpy.asarray(x, float)",
    "T": "Convert text to numbers, for example by numpy.asarray(x, float)",
}


def read_array(name: str, value: Any) -> NDArray[Any]:
    """Return a plain array of real numbers, a view if NumPy can look at the memory of `value`, or refuse.

    Raises
    ------
    TypeError
        For anything but real numbers, and for arrays that NumPy cannot read as they are.
    ValueError
        For rows of different lengths.
    """
    if type(value) is np.ndarray:
        array = value
    else:
        refuse_unreadable(name, value)
        if isinstance(value, (list, tuple)):  # NumPy would read a masked row as if it had no mask
            for entry in value:
                if not isinstance(entry, (list, float)) and (advice := _unreadable(entry)) is not None:
                    raise TypeError(f"{name} hold rows that are {advice}")
        try:
            array = np.asarray(value)
        except ValueError:
            raise ValueError(
                f"{name} have rows of different lengths, or are no numbers; expected an array. Pad or drop the odd rows"
            ) from None
        except Exception as error:  # other libraries raise what they like
            raise TypeError(
                f"{name} are a {type_name(value)}, which NumPy cannot read ({error}). Convert it to a NumPy array"
            ) from None
    if array.dtype.kind == "O":
        raise TypeError(f"{name} {_described(value, array)}")
    refuse_bad_kind(name, array.dtype)
    return array


def refuse_bad_kind(name: str, dtype: np.dtype[Any]) -> None:
    """Refuse a dtype that is not one of real numbers."""
    if dtype.kind in "fiub":
        return
    advice = _KINDS.get(dtype.kind, "Convert it with numpy.asarray(x, 'float64')")
    if dtype.names is not None:
        advice = "Convert its fields with numpy.lib.recfunctions.structured_to_unstructured(x)"
    raise TypeError(f"{name} have dtype {dtype}; expected real numbers. {advice}")


def refuse_unreadable(name: str, value: Any) -> None:
    """Refuse an array of another library that NumPy cannot read as it is."""
    if (advice := _unreadable(value)) is not None:
        raise TypeError(f"{name} are {advice}")


def type_name(value: Any) -> str:
    """Return the name of a type with its library."""
    library = type(value).__module__.partition(".")[0]
    return type(value).__qualname__ if library == "builtins" else f"{library}.{type(value).__qualname__}"


def _unreadable(value: Any) -> str | None:
    """What an array of a known library is, and how to convert it, if NumPy cannot read it or reads it wrongly."""
    if isinstance(value, np.ma.MaskedArray):
        masked = np.ma.is_masked(value)
        return "masked; expected every entry. Drop the rows, or fill them with filled()" if masked else None
    library = type(value).__module__.partition(".")[0]
    if library == "torch" and hasattr(value, "requires_grad"):
        return _unreadable_tensor(value)
    if library in ("scipy", "sparse") and (hasattr(value, "toarray") or hasattr(value, "todense")):
        call = "toarray" if hasattr(value, "toarray") else "todense"
        return f"a sparse {type_name(value)}; expected a dense array. Convert it with x.{call}()"
    if library == "cupy":
        return f"a {type_name(value)} on a GPU, which NumPy cannot read. Convert it with x.get()"
    return None


def _unreadable_tensor(tensor: Any) -> str | None:
    """The same of a torch tensor: NumPy reads dense ones on the CPU, without a gradient, of types that it has."""
    calls = []
    if tensor.requires_grad:
        calls.append("detach()")
    if tensor.device.type != "cpu":
        calls.append("cpu()")
    if tensor.is_quantized:
        calls.append("dequantize()")
    elif str(tensor.layout) != "torch.strided":
        calls.append("to_dense()")
    if tensor.dtype.is_floating_point and str(tensor.dtype) not in ("torch.float16", "torch.float32", "torch.float64"):
        calls.append("float()")
    if not calls:
        return None
    facts = [f"dtype {tensor.dtype}", f"device {tensor.device}", f"layout {tensor.layout}"]
    facts += ["with a gradient"] if tensor.requires_grad else []
    chain = ".".join([*calls, "numpy()"])
    return f"a torch.Tensor ({', '.join(facts)}), which NumPy cannot read. Convert it with x.{chain}"


_NUMBERS = ("int", "uint", "float", "double", "halffloat", "bool")


def _odd_column(table: Any) -> str:
    """The first column of a frame or table whose type is not one of numbers, in brackets."""
    if hasattr(table, "schema"):  # pyarrow: fields with a name and a type; polars: a mapping
        schema = table.schema
        types = dict(schema.items()) if hasattr(schema, "items") else {field.name: field.type for field in schema}
    else:
        types = dict(table.dtypes.items())
    odd = [f"{name!r} of type {kind}" for name, kind in types.items() if not str(kind).lower().startswith(_NUMBERS)]
    return f" (column {odd[0]})" if odd else ""


def _described(value: Any, array: NDArray[Any]) -> str:
    """What NumPy has read as an array of objects, and what to do."""
    library = type(value).__module__.partition(".")[0]
    if library == "pandas" and array.ndim == 1 and len(array) and isinstance(array[0], (list, tuple, np.ndarray)):
        return "are a pandas.Series of rows; expected an array of real numbers. Convert it with numpy.vstack(x)"
    if library in ("pandas", "polars") and array.ndim == 2:
        drop, convert = (
            ("x.dropna()", "x.to_numpy('float64')")
            if library == "pandas"
            else ("x.drop_nulls()", "x.cast(polars.Float64).to_numpy()")
        )
        return (
            f"are a {type_name(value)} of nullable, mixed or missing entries{_odd_column(value)}, which NumPy reads as "
            f"objects; expected real numbers. Drop missing rows with {drop}, and convert with {convert}"
        )
    if library == "polars" and hasattr(value, "collect"):
        return f"are a {type_name(value)}, which holds no numbers yet. Convert it with x.collect().to_numpy()"
    if library == "pyarrow":
        lists = hasattr(value, "type") and "list" in str(value.type)
        convert = (
            "Convert lists with x.flatten().to_numpy().reshape(len(x), -1)"
            if lists
            else "Drop missing rows with x.drop_null(), and cast columns to float64"
        )
        kind = f" of type {value.type}" if hasattr(value, "type") else _odd_column(value)
        return f"are a {type_name(value)}{kind}, which NumPy reads as objects; expected real numbers. {convert}"
    if library in ("pandas", "polars"):
        return (
            f"are a {type_name(value)} of type {getattr(value, 'dtype', 'unknown')}, of nullable, mixed or missing "
            f"entries, which NumPy reads as objects; expected real numbers. Convert it with "
            f"numpy.array(x.to_list(), 'float64')"
        )
    if array.ndim == 0:
        return f"are a {type_name(value)}, which is no array; expected real numbers. Convert it to a NumPy array"
    odd = {type(entry).__name__ for entry in array.flat if not isinstance(entry, (int, float, np.number))}
    if odd:
        return f"have dtype object; expected real numbers. Drop or repair entries of type {', '.join(sorted(odd))}"
    return "have dtype object; expected real numbers. Convert with numpy.asarray(x, 'float64')"
