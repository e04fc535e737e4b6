"""The lecture's worked examples come out of the code that trains."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from trainer.evaluate import log_loss


@pytest.mark.parametrize(("probability", "bits"), [(1 / 1000, 9.97), (1 / 10, 3.32), (1 / 2, 1.0)])
def test_the_loss_of_a_diseased_patient(probability: float, bits: float) -> None:
    """Cross-entropy for y = 1; the lecture counts in bits, training in nats."""
    one, p = np.ones(1, np.float32), np.array([probability], np.float32)
    assert log_loss(one, p) / math.log(2) == pytest.approx(bits, abs=0.005)
    assert float(keras.losses.binary_crossentropy(one, p)) / math.log(2) == pytest.approx(bits, abs=0.005)


def test_the_derivative_of_the_lectures_curve() -> None:
    """g(w) = (w^4 + w^2 + 10w) / 50 has the derivative 2w^3/25 + w/25 + 1/5."""
    w = tf.Variable(np.linspace(-3, 3, 13, dtype=np.float32))
    with tf.GradientTape() as tape:
        g = (w**4 + w**2 + 10 * w) / 50
    expected = 2 * w.numpy() ** 3 / 25 + w.numpy() / 25 + 1 / 5
    assert tape.gradient(g, w).numpy() == pytest.approx(expected, abs=1e-6)


def test_gradient_descent_finds_the_minimum_in_25_steps() -> None:
    """From w = 2.5 with learning rate 1, by the optimiser that `--optimizer sgd` names."""
    w = tf.Variable(2.5)
    sgd = keras.optimizers.SGD(1.0)
    for _ in range(25):
        with tf.GradientTape() as tape:
            g = (w**4 + w**2 + 10 * w) / 50
        sgd.apply([tape.gradient(g, w)], [w])
    assert 2 * float(w) ** 3 / 25 + float(w) / 25 + 1 / 5 == pytest.approx(0, abs=1e-3)


def test_the_gradient_in_two_dimensions() -> None:
    """g(w1, w2) = w1^2 + w2^2 + 2 has the gradient (2 w1, 2 w2)."""
    w = tf.Variable([1.5, -2.0])
    with tf.GradientTape() as tape:
        g = tf.reduce_sum(w**2) + 2
    assert tape.gradient(g, w).numpy().tolist() == [3.0, -4.0]
