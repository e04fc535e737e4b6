"""The lecture's network: 29 encoded inputs, a hidden layer of 16 ReLU units, one sigmoid unit. 497 parameters.

The encoding is a layer in front of it, so it is exported with the weights.
"""

from collections.abc import Sequence

import keras
import tensorflow as tf

from patient.encoding import Floats, layout


class Encode(keras.layers.Layer):  # type: ignore[misc]  # Keras ships no types
    """float32[N,13] with NaN for missing to float32[N,29], as patient.encoding.encode does it.

    It gathers the field of every column and compares with all codes at once, rather than field by field. NaN equals no
    code, so a missing category is all zeros. Gathering rows of the transposed input takes a third of the time.
    """

    def __init__(self, mean: Floats, std: Floats) -> None:
        super().__init__(name="encode", trainable=False)
        self.columns = layout()
        self.mean, self.scale = mean, 1 / std

    def call(self, rows: tf.Tensor) -> tf.Tensor:
        fields = tf.transpose(rows)
        numbers = (tf.gather(fields, self.columns.numeric) - self.mean[:, None]) * self.scale[:, None]
        numbers = tf.where(tf.math.is_nan(numbers), tf.constant(0.0), numbers)
        chosen = tf.equal(tf.gather(fields, self.columns.onehot), self.columns.codes[:, None])
        return tf.transpose(tf.concat([numbers, tf.cast(chosen, tf.float32)], axis=0))


def build(hidden: Sequence[int], activation: str, l2: float, weights: list[Floats]) -> keras.Model:
    """Build the trainable part, float32[N,29] to float32[N,1], with initial weights (kernel, bias, kernel, ...).

    l2: penalty on the kernels only: `loss + l2 * sum(kernel ** 2)`
    """
    penalty = keras.regularizers.L2(l2) if l2 else None
    inputs = outputs = keras.Input((layout().width,), name="encoded")
    for i, units in enumerate(hidden, start=1):
        layer = keras.layers.Dense(units, activation, kernel_regularizer=penalty, name=f"hidden_{i}")
        outputs = layer(outputs)
    outputs = keras.layers.Dense(1, "sigmoid", kernel_regularizer=penalty, name="probability")(outputs)
    network = keras.Model(inputs, outputs, name="network")
    network.set_weights(weights)
    return network
