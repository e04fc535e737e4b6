"""Partial dependence: the mean prediction as a function of one field, drawn for all fields in one figure."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes

from patient.encoding import Floats
from patient.record import Measurement, measurements
from trainer.metrics import Doubles
from trainer.report.plot_style import DARK, GREY, PALE, STYLE, figure, percent, png

Predict = Callable[[Floats], Floats]


def dependence(predict: Predict, rows: Floats, column: int, values: Floats) -> Doubles:
    """Compute the mean prediction if every patient had this value: float32[V] (NaN = not taken) to float64[V].

    predict: float32[N,13] to float32[N]; rows: float32[N,13]; column: index of the field in the record
    """
    means = []
    for value in values:
        changed = rows.copy()
        changed[:, column] = value
        means.append(predict(changed).mean(dtype=np.float64))
    return np.array(means)


@dataclass(frozen=True)
class Effect:
    """One field: the values (NaN = not taken), the mean prediction at each, and the values that patients have."""

    field: Measurement
    values: Floats
    means: Doubles
    taken: Floats


def effect(predict: Predict, rows: Floats, column: int) -> Effect:
    """Compute a number from its 1st to its 99th percentile, a category over the codes that occur."""
    field = measurements()[column]
    taken = rows[~np.isnan(rows[:, column]), column]
    if field.codes:
        values = np.array([*np.unique(taken), *([np.nan] if field.nullable else [])], np.float32)
    else:
        low, high = np.percentile(taken, [1, 99])
        values = np.linspace(low, high, 25, dtype=np.float32)
    return Effect(field, values, dependence(predict, rows, column, values), taken)


@STYLE
def partial_dependence(predict: Predict, rows: Floats) -> bytes:
    """Draw all fields on one scale: curves for numbers, a dot for each code; bars and counts show the patients.

    predict: float32[N,13] to float32[N]; rows: float32[N,13], NaN = missing
    """
    effects = [effect(predict, rows, column) for column in range(rows.shape[1])]
    numbers, categories = ([e for e in effects if bool(e.field.codes) is coded] for coded in (False, True))
    means = np.concatenate([e.means for e in effects])
    scale = np.floor(means.min() * 10 - 0.5) / 10, np.ceil(means.max() * 10 + 0.5) / 10  # with a margin
    drawn = figure(8, 9.5)
    (top,), (bottom,) = drawn.subfigures(2, 1, squeeze=False, height_ratios=[1, 1.3])
    grid = top.subplots(-(-len(numbers) // 3), 3, sharey=True).flat
    for axes in grid[len(numbers) :]:
        axes.set_axis_off()
    for axes, one in zip(grid, numbers, strict=False):
        _curve(axes, one, scale)
    middle = (len(categories) + 1) // 2
    for axes, part in zip(bottom.subplots(1, 2), (categories[:middle], categories[middle:]), strict=True):
        _dots(axes, part, scale)
    top.suptitle("Partial dependence: mean prediction if every patient had this value", x=0.02, ha="left", fontsize=11)
    bottom.supxlabel("Mean predicted probability (in brackets: patients with this value)", fontsize=10)
    top.supylabel("Mean predicted probability", fontsize=10)
    return png(drawn)


def _curve(axes: Axes, one: Effect, scale: tuple[float, float]) -> None:
    """Draw the curve of a number, and a histogram of the patients as bars at the bottom."""
    counts, edges = np.histogram(one.taken, 20, (one.values[0], one.values[-1]))
    floor = axes.get_xaxis_transform()
    axes.bar(edges[:-1], 0.2 * counts / counts.max(), np.diff(edges), align="edge", color=PALE, transform=floor)
    axes.plot(one.values, one.means, color=DARK)
    axes.set(ylim=scale, xlabel=f"{one.field.title} ({one.field.unit})")
    percent(axes.yaxis)


def _dots(axes: Axes, effects: list[Effect], scale: tuple[float, float]) -> None:
    """Draw categories, one line per code below the field's title; hollow dots for measurements that were not taken."""
    labels: list[str] = []
    for one in effects:
        axes.text(-0.02, len(labels), one.field.title, fontweight="bold", ha="right", va="center",
                  transform=axes.get_yaxis_transform())  # fmt: skip
        labels.append("")
        for value, mean in zip(one.values, one.means, strict=True):
            taken = not np.isnan(value)
            axes.axhline(len(labels), color=PALE, linewidth=0.8, zorder=0)
            axes.plot(mean, len(labels), "o", color=DARK if taken else GREY, fillstyle="full" if taken else "none")
            labels.append(f"{one.field.codes[int(value)]} ({(one.taken == value).sum()})" if taken else "not taken")
    axes.set_yticks(range(len(labels)), labels)
    axes.tick_params(axis="y", length=0)
    axes.spines.left.set_visible(False)
    axes.set(xlim=scale, ylim=(len(labels) - 0.5, -0.5))
    percent(axes.xaxis)
