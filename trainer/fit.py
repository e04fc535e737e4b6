"""Fit a Keras network in one seeded run, on a CPU, a GPU, all GPUs of a host, or several hosts.

The lecture's network has 29 encoded inputs, a hidden layer of 16 ReLU units, and one sigmoid unit: 497 parameters. The
encoding is a layer in front of it, so it is exported with the weights.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

from patient.encoding import Floats, layout, statistics
from trainer.dataset import Chunk
from trainer.linearity import Linearity, measure_linearity
from trainer.randomness import Randomness
from trainer.recipe import Recipe


class Encode(keras.layers.Layer):  # type: ignore[misc]  # Keras ships no types
    """float32[N,13] with NaN for missing to float32[N,29], as patient.encoding.encode does it.

    It gathers the field of every column and compares with all codes at once, rather than field by field. NaN equals no
    code, so a missing category is all zeros. Gathering rows of the transposed input takes a third of the time.
    """

    def __init__(self, mean: Floats, std: Floats) -> None:
        super().__init__(name="encode", trainable=False)
        self.columns = layout()
        self.mean, self.std, self.scale = mean, std, 1 / std

    def call(self, rows: tf.Tensor) -> tf.Tensor:
        fields = tf.transpose(rows)
        numbers = (tf.gather(fields, self.columns.numeric) - self.mean[:, None]) * self.scale[:, None]
        numbers = tf.where(tf.math.is_nan(numbers), tf.constant(0.0), numbers)
        chosen = tf.equal(tf.gather(fields, self.columns.onehot), self.columns.codes[:, None])
        return tf.transpose(tf.concat([numbers, tf.cast(chosen, tf.float32)], axis=0))


@dataclass(frozen=True)
class Fitted:
    """The result of a training run: the encoding, the network, and the mean loss of each epoch (nats, no penalty)."""

    encode: Encode
    network: keras.Model
    losses: list[float]

    def __call__(self, rows: tf.Tensor) -> tf.Tensor:
        """Map float32[N,13], NaN = missing, to probabilities, float32[N,1]."""
        return self.network(self.encode(rows))

    def predict(self, rows: Floats) -> Floats:
        """Map float32[N,13], NaN = missing, to probabilities, float32[N]."""
        return np.asarray(self(rows))[:, 0]

    def linearity(self, rows: Floats, activation: str) -> Linearity:
        """Measure how far the network is from linear, on the training rows and on made-up ones."""
        return measure_linearity(self.network.get_weights(), self.encode.mean, self.encode.std, activation, rows)


def fit(rows: Floats, target: Floats, recipe: Recipe) -> Fitted:
    """Train on a table in memory: float32[N,13], NaN = missing, and float32[N] of 0 and 1. See fit_chunks."""
    return fit_chunks(lambda: [(rows, target)], recipe)


def fit_chunks(
    chunks: Callable[[], Iterable[Chunk]],
    recipe: Recipe,
    on_epoch: Callable[[Fitted], bool] = lambda _fitted: False,
    strategy: tf.distribute.Strategy | None = None,
) -> Fitted:
    """Minimise the mean binary cross-entropy plus the penalty, in minibatches; `on_epoch` stops it by returning True.

    Every epoch is one pass over the chunks; rows are shuffled within a chunk. Mean and deviation of the standardisation
    come from a first pass. Equal arguments give equal weights on one machine, and the same up to rounding with any
    number of replicas: each takes its part of every minibatch.
    """
    tf.config.experimental.enable_op_determinism()
    strategy = strategy or tf.distribute.get_strategy()
    mean, std = statistics(rows for rows, _ in chunks())
    random = Randomness(recipe)
    with strategy.scope():
        network = _build(recipe, random.weights())
        train = _compile(network, recipe, strategy)
    fitted = Fitted(Encode(mean, std), network, [])
    started = time.monotonic()
    while len(fitted.losses) < recipe.epochs:
        total = count = 0.0
        for rows, target in chunks():
            order, factor = random.epoch(len(rows))
            inputs = tf.gather(fitted.encode(rows), order) * factor
            total += float(train(inputs, tf.constant(target[order, None])))
            count += len(rows)
        fitted.losses.append(total / count)
        stop = on_epoch(fitted)
        if stop or (recipe.time_limit and time.monotonic() - started >= recipe.time_limit):
            break
    return fitted


def _build(recipe: Recipe, weights: list[Floats]) -> keras.Model:
    """Build the trainable part, float32[N,29] to float32[N,1], with initial weights (kernel, bias, kernel, ...).

    The penalty is on the kernels only: `loss + l2 * sum(kernel ** 2)`.
    """
    penalty = keras.regularizers.L2(recipe.l2) if recipe.l2 else None
    inputs = outputs = keras.Input((layout().width,), name="encoded")
    for i, units in enumerate(recipe.hidden, start=1):
        layer = keras.layers.Dense(units, recipe.activation, kernel_regularizer=penalty, name=f"hidden_{i}")
        outputs = layer(outputs)
    outputs = keras.layers.Dense(1, "sigmoid", kernel_regularizer=penalty, name="probability")(outputs)
    network = keras.Model(inputs, outputs, name="network")
    network.set_weights(weights)
    return network


def _compile(
    network: keras.Model, recipe: Recipe, strategy: tf.distribute.Strategy
) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """Compile one pass over a chunk to one graph: inputs [n,29] and target [n,1] to the sum of the rows' losses.

    model.fit leaves the graph for every minibatch: docs/adr/0002.
    """
    optimizers = {"adam": keras.optimizers.Adam, "sgd": keras.optimizers.SGD}
    optimizer = optimizers[recipe.optimizer](recipe.learning_rate)
    weights = network.trainable_variables
    optimizer.build(weights)
    replicas = strategy.num_replicas_in_sync

    def step(inputs: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
        """Train on this replica's part of a minibatch; `optimizer.apply` sums the gradients of all replicas."""
        size = tf.cast(tf.shape(inputs)[0], tf.float32)
        if replicas > 1:
            mine = tf.distribute.get_replica_context().replica_id_in_sync_group
            inputs, target = inputs[mine::replicas], target[mine::replicas]
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(keras.losses.binary_crossentropy(target, network(inputs, training=True)))
            objective = loss / size + sum(network.losses) / replicas  # Keras keeps the L2 penalties in `losses`
        optimizer.apply(tape.gradient(objective, weights), weights)
        return loss

    @tf.function(  # type: ignore[untyped-decorator]  # TensorFlow ships no types
        input_signature=[tf.TensorSpec((None, layout().width)), tf.TensorSpec((None, 1))]
    )
    def train(inputs: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
        total = tf.constant(0.0)
        for start in tf.range(0, tf.shape(inputs)[0], recipe.batch_size):
            batch = slice(start, start + recipe.batch_size)
            losses = strategy.run(step, args=(inputs[batch], target[batch]))
            total += strategy.reduce("SUM", losses, axis=None)
        return total

    compiled: Callable[[tf.Tensor, tf.Tensor], tf.Tensor] = train
    return compiled
