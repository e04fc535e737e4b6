"""Train the networks of all folds together, in numpy, as arrays with a fold axis.

A cross-validation of 10 x 10 folds is 100 runs of some thousand steps on matrices of 32 x 29, so call overhead takes
nearly all of its time; here one step does the arithmetic of all folds. For the same rows and seed each fold's weights
are those of fit.py, within float32 rounding.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from patient.encoding import Floats, encode, statistics
from trainer.randomness import Randomness
from trainer.recipe import Recipe

Indices = NDArray[np.intp]
Function = Callable[[Floats], Floats]
ACTIVATIONS: dict[str, tuple[Function, Function]] = {  # with the derivative, from the activation's output
    "relu": (lambda z: np.maximum(z, 0), lambda output: (output > 0).astype(np.float32)),
    "tanh": (np.tanh, lambda output: 1 - output**2),
    "sigmoid": (lambda z: np.float32(1) / (np.float32(1) + np.exp(-z)), lambda output: output * (1 - output)),
}


class FoldNetworks:
    """F networks. weights: kernel float32[F,in,out], bias float32[F,1,out], ...; mean and std float32[F,5]."""

    def __init__(self, weights: list[Floats], mean: Floats, std: Floats, activation: str) -> None:
        self.weights, self.mean, self.std, self.activation = weights, mean, std, activation

    def predict(self, fold: int, rows: Floats) -> Floats:
        """float32[N,13], NaN = missing, to one fold's probabilities, float32[N]."""
        encoded = encode(rows, self.mean[fold], self.std[fold])
        return _forward([w[fold] for w in self.weights], encoded, self.activation)[-1][..., 0]


def _forward(weights: Sequence[Floats], inputs: Floats, activation: str) -> list[Floats]:
    """The outputs of every layer, inputs first."""
    outputs = [inputs]
    for kernel, bias in zip(weights[::2], weights[1::2], strict=True):
        function, _ = ACTIVATIONS["sigmoid" if kernel is weights[-2] else activation]
        outputs.append(function(outputs[-1] @ kernel + bias))
    return outputs


def fit_folds(
    rows: Floats,
    target: Floats,
    folds: Sequence[Indices],
    recipe: Recipe,
    on_epoch: Callable[[int, FoldNetworks], None] = lambda _epoch, _networks: None,
) -> FoldNetworks:
    """Train one network on each of `folds`, the indices of its training rows. Fold k is seeded with recipe.seed + k.

    rows: float32[N,13], NaN = missing; target: float32[N]. on_epoch is called after each epoch with its number
    (from 1) and the networks.
    """
    size = max(map(len, folds))
    random = [Randomness(recipe.model_copy(update={"seed": recipe.seed + k})) for k in range(len(folds))]
    weights = [np.stack(layer) for layer in zip(*(source.weights() for source in random), strict=True)]
    weights = [w if w.ndim == 3 else w[:, None, :] for w in weights]
    mean, std = (np.stack(values) for values in zip(*(statistics([rows[fold]]) for fold in folds), strict=True))
    networks = FoldNetworks(weights, mean, std, recipe.activation)
    # Folds differ in length by a row or so: shorter ones are padded with rows of weight 0.
    encoded = np.zeros((len(folds), size, networks.weights[0].shape[1]), np.float32)
    wanted, weight = np.zeros((len(folds), size, 1), np.float32), np.zeros((len(folds), size, 1), np.float32)
    inputs, labels = np.zeros_like(encoded), np.zeros_like(wanted)
    for k, fold in enumerate(folds):
        encoded[k, : len(fold)] = encode(rows[fold], mean[k], std[k])
        wanted[k, : len(fold), 0], weight[k, : len(fold)] = target[fold], 1
    optimizer = _Optimizer(weights, recipe)
    for epoch in range(1, recipe.epochs + 1):
        for k, fold in enumerate(folds):
            order, factor = random[k].epoch(len(fold))
            np.multiply(encoded[k, order], factor, out=inputs[k, : len(fold)])
            labels[k, : len(fold)] = wanted[k, order]
        for start in range(0, size, recipe.batch_size):
            part = slice(start, start + recipe.batch_size)
            # A shorter fold may have no rows left in this minibatch: it takes no step.
            live = slice(None) if weight[:, start].all() else np.flatnonzero(weight[:, start])
            current = [w[live] for w in weights]
            gradient = _gradient(current, inputs[live, part], labels[live, part], weight[live, part], recipe)
            for w, step in zip(weights, optimizer.steps(gradient, live), strict=True):
                w[live] -= step
        on_epoch(epoch, networks)
    return networks


def _gradient(weights: list[Floats], inputs: Floats, labels: Floats, weight: Floats, recipe: Recipe) -> list[Floats]:
    """The gradient of each fold's mean cross-entropy plus l2 * sum(kernel ** 2)."""
    outputs = _forward(weights, inputs, recipe.activation)
    delta = (outputs[-1] - labels) * (weight / weight.sum(axis=1, keepdims=True))
    found: list[Floats] = []
    for layer in range(len(outputs) - 2, -1, -1):
        kernel = weights[2 * layer]
        kernel_gradient = outputs[layer].transpose(0, 2, 1) @ delta + np.float32(2 * recipe.l2) * kernel
        found = [kernel_gradient, delta.sum(axis=1, keepdims=True), *found]
        if layer:
            _, derivative = ACTIVATIONS[recipe.activation]
            delta = delta @ kernel.transpose(0, 2, 1) * derivative(outputs[layer])
    return found


class _Optimizer:
    """SGD, or Adam (Kingma and Ba, 2015) with the formula and constants of Keras, for each fold separately."""

    def __init__(self, weights: list[Floats], recipe: Recipe) -> None:
        self.rate, self.adam = np.float32(recipe.learning_rate), recipe.optimizer == "adam"
        self.first, self.second = ([np.zeros_like(w) for w in weights] for _ in range(2))
        self.count = np.zeros((len(weights[0]), 1, 1))

    def steps(self, gradient: list[Floats], live: slice | Indices) -> list[Floats]:
        """The steps to subtract from the weights of the folds `live`."""
        if not self.adam:
            return [self.rate * g for g in gradient]
        self.count[live] += 1
        count = self.count[live]
        rate = (self.rate * np.sqrt(1 - 0.999**count) / (1 - 0.9**count)).astype(np.float32)
        found: list[Floats] = []
        for g, m, v in zip(gradient, self.first, self.second, strict=True):
            m[live] += (g - m[live]) * np.float32(0.1)
            v[live] += (g * g - v[live]) * np.float32(0.001)
            found.append((rate * m[live] / (np.sqrt(v[live]) + np.float32(1e-7))).astype(np.float32, copy=False))
        return found
