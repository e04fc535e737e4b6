"""The style of all plots of the model card.

The colours are from Okabe and Ito's palette for colour-blind readers and differ in lightness, for prints in grey; every
colour is labelled.
"""

import io
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axis import XAxis, YAxis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from PIL import Image

DARK, LIGHT, GREY, PALE = "#0072B2", "#E69F00", "#666666", "#DDDDDD"
STYLE = rc_context(
    {
        "axes.spines.right": False,
        "axes.spines.top": False,
        "axes.titlelocation": "left",
        "axes.titlesize": 11,
        "axes.labelsize": 10,
        "figure.constrained_layout.h_pad": 0.12,
        "figure.constrained_layout.w_pad": 0.12,
        "font.size": 9,
        "legend.frameon": False,
        "lines.linewidth": 2,
    }
)


def figure(width: float = 7.2, height: float = 4.6) -> Figure:
    """Create an empty figure; sizes in inches, 150 pixels each."""
    return Figure(figsize=(width, height), dpi=150, layout="constrained")


def png(drawn: Figure) -> bytes:
    """Encode the figure as a PNG of 128 colours, without Matplotlib's version in the metadata."""
    canvas: Any = FigureCanvasAgg(drawn)  # partly typed
    canvas.draw()
    out = io.BytesIO()
    Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB").quantize(128).save(out, "png", optimize=True)
    return out.getvalue()


def percent(axis: XAxis | YAxis) -> None:
    axis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
