"""Draw the model card's plots: arrays in, the bytes of a PNG out. Equal arguments give equal bytes.

Predictions are float32[R,N], out of fold, from R repeats of a cross-validation. Every patient counts once, with
weight 1/R in each repeat. Bands are 95 % intervals of a bootstrap over patients, not over predictions.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Concatenate, ParamSpec

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.axis import XAxis, YAxis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from PIL import Image

from patient.encoding import Floats
from patient.record import Measurement, measurements
from trainer.cross_validation import NETWORK, CrossValidation
from trainer.metrics import Doubles, interval, weights

P = ParamSpec("P")
Predict = Callable[[Floats], Floats]  # float32[N,13], NaN = missing, to float32[N]

# Okabe and Ito's palette for colour-blind readers; the colours differ in lightness, for prints in grey.
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
GRID = np.append(np.linspace(0, 1, 201), 1.001)  # thresholds; at the last one no patient is classified as diseased


def figures(validation: CrossValidation, predict: Predict, losses: Floats, threshold: float) -> dict[str, bytes]:
    """Draw the plots that the card links, by file name, of the shipped network and its `measure_loss_surface`."""
    target, probability = validation.target, validation.probability[NETWORK]
    return {
        "learning_curves.png": learning_curves(validation.learning),
        "roc.png": roc(target, probability, threshold),
        "calibration.png": calibration(target, probability),
        "confusion.png": confusion(target, probability, threshold),
        "thresholds.png": thresholds(target, probability, threshold),
        "partial_dependence.png": partial_dependence(predict, validation.rows),
        "loss_surface.png": loss_surface(losses),
    }


def _plot(width: float, height: float) -> Callable[[Callable[Concatenate[Figure, P], None]], Callable[P, bytes]]:
    """Pass an empty figure (inches of 150 pixels) to a function that draws; return its PNG, without metadata."""

    def decorate(draw: Callable[Concatenate[Figure, P], None]) -> Callable[P, bytes]:
        @STYLE
        def plot(*args: P.args, **kwargs: P.kwargs) -> bytes:
            drawn = Figure(figsize=(width, height), dpi=150, layout="constrained")
            draw(drawn, *args, **kwargs)
            canvas: Any = FigureCanvasAgg(drawn)  # partly typed
            canvas.draw()
            out = io.BytesIO()
            image = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB").quantize(128)  # 128 colours
            image.save(out, "png", optimize=True)
            return out.getvalue()

        return plot

    return decorate


@_plot(7.2, 4.6)
def learning_curves(drawn: Figure, learning: Floats) -> None:
    """Training and held-out log loss, float32[2,E] in nats, over the epochs."""
    axes = drawn.subplots()
    epochs = np.arange(1, learning.shape[1] + 1)
    looks = (("training rows", LIGHT, "--"), ("held-out rows", DARK, "-"))
    for curve, (name, color, style) in zip(learning, looks, strict=True):
        axes.plot(epochs, curve, style, color=color, label=f"{name}: {curve[-1]:.3f} at the end")
    axes.set(xlabel="Epoch", ylabel="Log loss (nats)", title="Learning curves", xlim=(0, epochs[-1]))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend()


@_plot(6, 5.6)
def roc(drawn: Figure, target: Floats, probability: Floats, threshold: float) -> None:
    """The ROC curve with its band, its area, and the point of the threshold."""
    found, false_positives = rates(target, probability, 1), rates(target, probability, 0)
    grid = np.linspace(0, 1, 101)
    curves = [np.interp(grid, x[::-1], y[::-1]) for x, y in zip(false_positives, found, strict=True)]
    area = interval(target, probability, "auc")
    axes = drawn.subplots()
    axes.plot([0, 1], [0, 1], ":", color=GREY, linewidth=1)
    axes.text(0.62, 0.57, "chance", color=GREY, rotation=45, ha="center", va="center")
    axes.fill_between(grid, *np.percentile(curves[1:], [2.5, 97.5], axis=0), color=DARK, alpha=0.2, linewidth=0)
    axes.plot(false_positives[0], found[0], color=DARK)
    y, x = ((probability[:, target == label] >= threshold).mean() for label in (1, 0))
    axes.plot(x, y, "o", color="black", zorder=3)
    axes.annotate(f"threshold {threshold:g}", (x, y), xytext=(10, -12), textcoords="offset points")
    axes.set_title(f"ROC curve: AUC {area.value:.3f} ({area.low:.3f} to {area.high:.3f})")
    axes.set(xlabel="False positive rate (1 - specificity)", ylabel="True positive rate (sensitivity)")
    _square(axes)


@_plot(6, 7)
def calibration(drawn: Figure, target: Floats, probability: Floats) -> None:
    """Observed against predicted share of disease in groups of equal size; below, a histogram of the predictions."""
    p = probability.astype(np.float64)
    edges = np.quantile(p, np.linspace(0, 1, 11)[1:-1])
    groups = np.searchsorted(edges, p, side="right")  # int[R,N]
    kept = np.unique(groups)  # equal predictions stay together, so there may be fewer groups
    member = (groups[:, :, None] == kept).mean(axis=0)  # float64[N,G]: share of the repeats
    predicted = [p[groups == group].mean() for group in kept]
    with np.errstate(invalid="ignore"):  # a draw may leave a small group empty
        draws = [(w @ (member * target[:, None])) / (w @ member) for w in weights(len(target), 2000, 0)]
    observed = np.concatenate(draws)
    low, high = np.nanpercentile(observed[1:], [2.5, 97.5], axis=0)
    upper, lower = drawn.subplots(2, sharex=True, height_ratios=[3, 1])
    upper.plot([0, 1], [0, 1], ":", color=GREY, linewidth=1, label="as predicted")
    bars = np.maximum(0, [observed[0] - low, high - observed[0]])
    upper.errorbar(predicted, observed[0], bars, fmt="o-", color=DARK, linewidth=1, label="observed")
    upper.legend(loc="upper left")
    upper.set(ylabel="Share that has the disease", title="Calibration: groups of equal size, 95 % intervals")
    _square(upper)
    _mirrored(lower, target, p)
    lower.set(xlabel="Predicted probability of disease")


def _mirrored(axes: Axes, target: Floats, probability: Doubles) -> None:
    """Histogram of the predictions for diseased patients (upwards) and healthy ones (downwards)."""
    edges = np.linspace(0, 1, 21)
    for label, name, color, sign in ((1, "diseased", DARK, 1), (0, "healthy", LIGHT, -1)):
        counts = np.histogram(probability[:, target == label], edges)[0] / len(probability)
        axes.bar(edges[:-1], sign * counts, width=0.045, align="edge", color=color)
        axes.text(0.5, 0.5 + sign * 0.4, name, color="black", ha="center", va="center", transform=axes.transAxes)
    reach = max(abs(bound) for bound in axes.get_ylim())
    axes.set(ylim=(-reach, reach), ylabel="Patients")
    axes.axhline(0, color="black", linewidth=0.8)
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.yaxis.set_major_formatter(lambda value, _: f"{abs(value):g}")


@_plot(6, 4.6)
def confusion(drawn: Figure, target: Floats, probability: Floats, threshold: float) -> None:
    """Counts at the threshold, the mean over the repeats rounded to whole patients, with the share of each truth."""
    positive_share = (probability >= threshold).mean(axis=0, dtype=np.float64)  # float64[N]: over the repeats
    axes = drawn.subplots()
    shares = np.array([[1 - rate, rate] for rate in (positive_share[target == y].mean() for y in (0, 1))])
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    verdicts = (("correct", "false positive"), ("missed", "correct"))
    for y, name in enumerate(("healthy", "diseased")):
        total = int((target == y).sum())
        positive = round(shares[y, 1] * total)
        for x, count in enumerate((total - positive, positive)):
            color = "white" if shares[y, x] > 0.5 else "black"
            style: dict[str, Any] = {"ha": "center", "va": "center", "color": color}
            axes.text(x, y - 0.12, f"{count}", fontsize=24, **style)
            axes.text(x, y + 0.18, f"{verdicts[y][x]}: {100 * shares[y, x]:.0f} % of the {total} {name}", **style)
    axes.set_xticks([0, 1], [f"healthy\n(below {threshold:g})", f"diseased\n({threshold:g} or more)"])
    axes.set_yticks([0, 1], ["healthy", "diseased"], rotation=90, va="center")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set(xlabel="Classified as", ylabel="Actual", title=f"Patients at the threshold {threshold:g}")


@_plot(7.2, 4.6)
def thresholds(drawn: Figure, target: Floats, probability: Floats, threshold: float) -> None:
    axes = drawn.subplots()
    axes.axvline(threshold, color=GREY, linestyle=":", linewidth=1)
    positive = probability >= threshold
    curves = (
        ("sensitivity", rates(target, probability, 1), positive[:, target == 1], DARK, "-"),
        ("specificity", 1 - rates(target, probability, 0), ~positive[:, target == 0], LIGHT, "--"),
    )
    for name, curve, right, color, style in curves:
        axes.fill_between(GRID, *np.percentile(curve[1:], [2.5, 97.5], axis=0), color=color, alpha=0.2, linewidth=0)
        here = float(right.mean())
        axes.plot(GRID, curve[0], style, color=color, label=f"{name}, {100 * here:.0f} % at {threshold:g}")
        axes.plot(threshold, here, "o", color=color)
    axes.set(xlabel="Threshold: lowest probability that counts as diseased", ylabel="Share of patients")
    axes.set(xlim=(0, 1), ylim=(0, 1.02), title="Sensitivity and specificity by threshold")
    percent(axes.yaxis)
    axes.legend(loc="lower center", frameon=True, edgecolor="none", framealpha=1)


@_plot(6.6, 5.6)
def loss_surface(drawn: Figure, losses: Floats) -> None:
    """Contours of the log loss that measure_loss_surface returns, float32[S,S]."""
    ticks = np.linspace(-1, 1, len(losses))
    axes = drawn.subplots()
    levels = losses.min() + np.ptp(losses) * np.linspace(0, 1, 13) ** 2  # denser at the bottom of the valley
    filled = axes.contourf(ticks, ticks, losses, levels, cmap="cividis")
    lines = axes.contour(ticks, ticks, losses, levels[1:10:2], colors="white", linewidths=0.8)
    axes.clabel(lines, fmt="%.2f", fontsize=8)
    here = losses[len(losses) // 2, len(losses) // 2]
    axes.plot(0, 0, "o", color="white", markeredgecolor="black", markersize=9, label=f"fitted weights: {here:.3f}")
    axes.legend(loc="upper right", frameon=True, framealpha=1)
    drawn.colorbar(filled, label="Log loss (nats)", format="%.2f")
    axes.set(xlabel="Step along a first random direction", ylabel="Step along a second random direction")
    axes.set(title="Loss around the fitted weights", aspect="equal")


def rates(target: Floats, probability: Floats, label: int) -> Doubles:
    """Share of the patients of this class at or above each threshold of GRID: float64[1+draws,202].

    The first row is of all patients, the others are bootstrap draws.
    """
    among = target == label
    positive = np.mean([once[:, None] >= GRID for once in probability[:, among]], axis=0)
    parts = [w[:, among] for w in weights(len(target), 2000, 0)]
    return np.concatenate([(w @ positive) / w.sum(axis=1, keepdims=True) for w in parts])


def _square(axes: Axes) -> None:
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    percent(axes.xaxis)
    percent(axes.yaxis)


@dataclass(frozen=True)
class Effect:
    """The partial dependence of one field."""

    field: Measurement
    values: Floats  # NaN = not taken
    means: Doubles  # the mean prediction at each of the values
    taken: Floats  # the values that patients have


def effect(predict: Predict, rows: Floats, column: int) -> Effect:
    """Average the predictions as if every patient had a value: from the 1st to the 99th percentile, or each code."""
    field = measurements()[column]
    taken = rows[~np.isnan(rows[:, column]), column]
    if field.codes:
        values = np.array([*np.unique(taken), *([np.nan] if field.nullable else [])], np.float32)
    else:
        low, high = np.percentile(taken, [1, 99])
        values = np.linspace(low, high, 25, dtype=np.float32)
    means, changed = [], rows.copy()
    for value in values:
        changed[:, column] = value
        means.append(predict(changed).mean(dtype=np.float64))
    return Effect(field, values, np.array(means), taken)


@_plot(8, 9.5)
def partial_dependence(drawn: Figure, predict: Predict, rows: Floats) -> None:
    """Draw all fields on one scale: curves for numbers, a dot for each code; bars and counts show the patients."""
    effects = [effect(predict, rows, column) for column in range(rows.shape[1])]
    numbers, categories = ([e for e in effects if bool(e.field.codes) is coded] for coded in (False, True))
    means = np.concatenate([e.means for e in effects])
    scale = np.floor(means.min() * 10 - 0.5) / 10, np.ceil(means.max() * 10 + 0.5) / 10  # with a margin
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


def percent(axis: XAxis | YAxis) -> None:
    axis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
