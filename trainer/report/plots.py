"""Draw the model card's plots: arrays in, the bytes of a PNG out. Equal arguments give equal bytes.

Predictions are float32[R,N], out of fold, from R repeats of a cross-validation. Every patient counts once, with
weight 1/R in each repeat. Bands are 95 % intervals of a bootstrap over patients, not over predictions.
"""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from patient.encoding import Floats
from trainer.metrics import Doubles, interval, weights
from trainer.report.plot_style import DARK, GREY, LIGHT, STYLE, figure, percent, png

GRID = np.append(np.linspace(0, 1, 201), 1.001)  # thresholds; at the last one no patient is classified as diseased


@STYLE
def learning_curves(learning: Floats) -> bytes:
    """Training and held-out log loss, float32[2,E] in nats, over the epochs."""
    drawn = figure()
    axes = drawn.subplots()
    epochs = np.arange(1, learning.shape[1] + 1)
    looks = (("training rows", LIGHT, "--"), ("held-out rows", DARK, "-"))
    for curve, (name, color, style) in zip(learning, looks, strict=True):
        axes.plot(epochs, curve, style, color=color, label=f"{name}: {curve[-1]:.3f} at the end")
    axes.set(xlabel="Epoch", ylabel="Log loss (nats)", title="Learning curves", xlim=(0, epochs[-1]))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend()
    return png(drawn)


@STYLE
def roc(target: Floats, probability: Floats, threshold: float) -> bytes:
    """The ROC curve with its band, its area, and the point of the threshold."""
    found, false_positives = rates(target, probability, 1), rates(target, probability, 0)
    grid = np.linspace(0, 1, 101)
    curves = [np.interp(grid, x[::-1], y[::-1]) for x, y in zip(false_positives, found, strict=True)]
    area = interval(target, probability, "auc")
    drawn = figure(6, 5.6)
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
    return png(drawn)


@STYLE
def calibration(target: Floats, probability: Floats, bins: int = 10) -> bytes:
    """Observed against predicted share of disease in groups of equal size; below, a histogram of the predictions."""
    p = probability.astype(np.float64)
    edges = np.quantile(p, np.linspace(0, 1, bins + 1)[1:-1])
    groups = np.searchsorted(edges, p, side="right")  # int[R,N]
    kept = np.unique(groups)  # equal predictions stay together, so there may be fewer groups
    member = (groups[:, :, None] == kept).mean(axis=0)  # float64[N,G]: share of the repeats
    predicted = [p[groups == group].mean() for group in kept]
    with np.errstate(invalid="ignore"):  # a draw may leave a small group empty
        draws = [(w @ (member * target[:, None])) / (w @ member) for w in weights(len(target), 2000, 0)]
    observed = np.concatenate(draws)
    low, high = np.nanpercentile(observed[1:], [2.5, 97.5], axis=0)
    drawn = figure(6, 7)
    upper, lower = drawn.subplots(2, sharex=True, height_ratios=[3, 1])
    upper.plot([0, 1], [0, 1], ":", color=GREY, linewidth=1, label="as predicted")
    bars = np.maximum(0, [observed[0] - low, high - observed[0]])
    upper.errorbar(predicted, observed[0], bars, fmt="o-", color=DARK, linewidth=1, label="observed")
    upper.legend(loc="upper left")
    upper.set(ylabel="Share that has the disease", title="Calibration: groups of equal size, 95 % intervals")
    _square(upper)
    _mirrored(lower, target, p)
    lower.set(xlabel="Predicted probability of disease")
    return png(drawn)


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


@STYLE
def confusion(target: Floats, probability: Floats, threshold: float) -> bytes:
    """Counts at the threshold, the mean over the repeats rounded to whole patients, with the share of each truth."""
    positive_share = (probability >= threshold).mean(axis=0, dtype=np.float64)  # float64[N]: over the repeats
    drawn = figure(6, 4.6)
    axes = drawn.subplots()
    rates_by_class = [positive_share[target == y].mean() for y in (0, 1)]
    shares = np.array([[1 - rate, rate] for rate in rates_by_class])
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for y, (name, verdicts) in enumerate(
        (("healthy", ("correct", "false positive")), ("diseased", ("missed", "correct")))
    ):
        total = int((target == y).sum())
        positive = round(shares[y, 1] * total)
        for x, count in enumerate((total - positive, positive)):
            color = "white" if shares[y, x] > 0.5 else "black"
            style: dict[str, Any] = {"ha": "center", "va": "center", "color": color}
            axes.text(x, y - 0.12, f"{count}", fontsize=24, **style)
            axes.text(x, y + 0.18, f"{verdicts[x]}: {100 * shares[y, x]:.0f} % of the {total} {name}", **style)
    axes.set_xticks([0, 1], [f"healthy\n(below {threshold:g})", f"diseased\n({threshold:g} or more)"])
    axes.set_yticks([0, 1], ["healthy", "diseased"], rotation=90, va="center")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set(xlabel="Classified as", ylabel="Actual", title=f"Patients at the threshold {threshold:g}")
    return png(drawn)


@STYLE
def thresholds(target: Floats, probability: Floats, threshold: float) -> bytes:
    drawn = figure()
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
    return png(drawn)


@STYLE
def loss_surface(losses: Floats, reach: float = 1.0) -> bytes:
    """Contours of the log loss that measure_loss_surface returns, float32[S,S]."""
    ticks = np.linspace(-reach, reach, len(losses))
    drawn = figure(6.6, 5.6)
    axes = drawn.subplots()
    levels = losses.min() + np.ptp(losses) * np.linspace(0, 1, 13) ** 2  # denser at the bottom of the valley
    filled = axes.contourf(ticks, ticks, losses, levels, cmap="cividis")
    lines = axes.contour(ticks, ticks, losses, levels[1:10:2], colors="white", linewidths=0.8)
    axes.clabel(lines, fmt="%.2f", fontsize=8)
    here = losses[len(losses) // 2, len(losses) // 2]
    point: dict[str, Any] = {"color": "white", "markeredgecolor": "black", "markersize": 9, "linestyle": "none"}
    axes.plot(0, 0, "o", **point, label=f"fitted weights: {here:.3f}")
    axes.legend(loc="upper right", frameon=True, framealpha=1)
    drawn.colorbar(filled, label="Log loss (nats)", format="%.2f")
    axes.set(xlabel="Step along a first random direction", ylabel="Step along a second random direction")
    axes.set(title="Loss around the fitted weights", aspect="equal")
    return png(drawn)


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
