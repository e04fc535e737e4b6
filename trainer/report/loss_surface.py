"""Compute the loss around the fitted weights."""

import keras
import numpy as np
import tensorflow as tf

from patient.encoding import Floats
from trainer.fit import Fitted


def measure_loss_surface(fitted: Fitted, rows: Floats, target: Floats, steps: int = 41) -> Floats:
    """Compute the log loss over a square of weights: float32[steps,steps], nats; the fitted weights are its middle.

    Along each side the weights move by -1 to +1 times a seeded random direction, which has the norm of the weights,
    unit by unit; biases stay. Source: Li, Xu, Taylor, Studer, Goldstein (2018), filter normalisation.

    rows: float32[N,13], NaN = missing; target: float32[N] of 0 and 1; steps: odd
    """
    network, inputs, outcome = fitted.network, fitted.encode(rows), tf.constant(target[:, None])
    rng = np.random.default_rng(0)
    found = [np.asarray(variable) for variable in network.trainable_variables]
    first, second = ([_direction(weight, rng) for weight in found] for _ in range(2))

    @tf.function  # type: ignore[untyped-decorator]  # TensorFlow ships no types
    def loss(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
        moved = [w + a * u + b * v for w, u, v in zip(found, first, second, strict=True)]
        probability, _ = network.stateless_call(moved, network.non_trainable_variables, inputs)
        return tf.reduce_mean(keras.losses.binary_crossentropy(outcome, probability))

    ticks = [tf.constant(tick, tf.float32) for tick in np.linspace(-1, 1, steps)]
    return np.array([[loss(a, b) for a in ticks] for b in ticks], np.float32)


def _direction(weight: Floats, rng: np.random.Generator) -> Floats:
    """Draw a random direction; for each unit (a column of the kernel) it has the norm of the unit's weights."""
    if weight.ndim < 2:
        return np.zeros_like(weight)
    random = rng.standard_normal(weight.shape).astype(np.float32)
    scaled: Floats = random * np.linalg.norm(weight, axis=0) / np.linalg.norm(random, axis=0)
    return scaled
