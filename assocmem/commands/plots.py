"""Pictures of images, drawn into files: no display, no global state."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def picture_format(path: str | os.PathLike[str]) -> str:
    """Return the format that the ending of a file's name stands for; ValueError if it is not a known one."""
    known = FigureCanvasAgg.get_supported_filetypes()
    ending = Path(path).suffix.lstrip(".").lower()
    if ending not in known:
        raise ValueError(
            f"the name of a picture must end in one of {', '.join(sorted(known))}, got {os.fspath(path)!r}. "
            f"Choose for example {Path(path).stem}.png"
        )
    return ending


def draw_image_rows(
    path: str | os.PathLike[str],
    picture_format: str,
    title: str,
    rows: Sequence[tuple[str, Floats]],
    side: int,
) -> None:
    """Draw labelled rows of small square images.

    Parameters
    ----------
    path : path of the picture
        A file that is there is replaced.
    picture_format : str
        For example "png".
    title : str
        Above the picture.
    rows : sequence of (label, images)
        Images are (n, side * side), from 0 (white) to 1 (black), the same number in every row.
    side : int
        Pixels along an edge.
    """
    columns = len(rows[0][1])
    figure = Figure(figsize=(1.6 + 0.75 * columns, 0.6 + 0.8 * len(rows)), dpi=150, layout="constrained")
    figure.suptitle(title, fontsize=12)
    for (label, images), line in zip(rows, figure.subplots(len(rows), columns), strict=True):
        line[0].set_ylabel(label, rotation=0, ha="right", va="center", fontsize=10, labelpad=8)
        for image, axes in zip(images, line, strict=True):
            axes.imshow(image.reshape(side, side), cmap="gray_r", vmin=0.0, vmax=1.0)
            axes.set_xticks([])
            axes.set_yticks([])
    figure.savefig(path, format=picture_format)
