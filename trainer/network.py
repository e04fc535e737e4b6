"""The lecture's network: 29 encoded inputs, a hidden layer of 16 ReLU units, one sigmoid unit. 497 parameters.

The encoding is a layer of its own in front, so that it is exported with the weights and never written a second time.
"""

from collections.abc import Sequence

import keras
import tensorflow as tf

from patient.encoding import Floats, layout


class Encode(keras.layers.Layer):  # type: ignore[misc]  # Keras ships no types
    """float32[N,13] with NaN for missing -> float32[N,29]: the graph's twin of patient.encoding.encode.

    No operation a field: gather the inputs that the columns look at, compare with all codes at once. NaN equals no
    code, so a missing category is all zeros by itself. Columns are gathered as rows: it takes a third of the time.
    """

    def __init__(self, mean: Floats, std: Floats) -> None:
        super().__init__(name="encode", trainable=False)
        self.columns = layout()
        self.mean, self.scale = mean, 1 / std

    def call(self, rows: tf.Tensor) -> tf.Tensor:
        """Encode a batch."""
        fields = tf.transpose(rows)
        numbers = (tf.gather(fields, self.columns.numeric) - self.mean[:, None]) * self.scale[:, None]
        numbers = tf.where(tf.math.is_nan(numbers), tf.constant(0.0), numbers)
        chosen = tf.equal(tf.gather(fields, self.columns.onehot), self.columns.codes[:, None])
        return tf.transpose(tf.concat([numbers, tf.cast(chosen, tf.float32)], axis=0))


def build(hidden: Sequence[int], activation: str, l2: float, weights: list[Floats]) -> keras.Model:
    """The trainable part, float32[N,29] -> float32[N,1], starting from these weights (kernel, bias, kernel, ...).

    l2: penalty on the kernels, not the biases: `loss + l2 * sum(kernel ** 2)`
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
