"""Fit a Keras network in one seeded run, on a CPU, a GPU, all GPUs of a host, or several hosts."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

from patient.encoding import Floats, layout, statistics
from trainer.dataset import Chunk
from trainer.network import Encode, build
from trainer.randomness import Randomness
from trainer.recipe import Recipe

Chunks = Callable[[], Iterable[Chunk]]  # one pass over the rows, which need not fit into memory together


@dataclass(frozen=True)
class Fitted:
    """The result of a training run: the encoding, the network, and the mean loss of each epoch (nats, no penalty)."""

    encode: Encode
    network: keras.Model
    losses: list[float]

    def __call__(self, rows: tf.Tensor) -> tf.Tensor:
        """float32[N,13], NaN = missing, to float32[N,1] of probabilities."""
        return self.network(self.encode(rows))

    def predict(self, rows: Floats) -> Floats:
        """float32[N,13], NaN = missing, to float32[N] of probabilities."""
        return np.asarray(self(rows))[:, 0]


OnEpoch = Callable[[Fitted], bool]  # called after every epoch; True stops the training


def fit(rows: Floats, target: Floats, recipe: Recipe, on_epoch: OnEpoch = lambda _fitted: False) -> Fitted:
    """Train on a table in memory: float32[N,13], NaN = missing, and float32[N] of 0 and 1. See fit_chunks."""
    return fit_chunks(lambda: [(rows, target)], recipe, on_epoch)


def fit_chunks(
    chunks: Chunks,
    recipe: Recipe,
    on_epoch: OnEpoch = lambda _fitted: False,
    strategy: tf.distribute.Strategy | None = None,
) -> Fitted:
    """Minimise the mean binary cross-entropy plus the penalty, in minibatches.

    Every epoch is one pass over the chunks; rows are shuffled within a chunk. Mean and deviation of the standardisation
    come from a first pass. Equal arguments give equal weights on one machine, and the same up to rounding with any
    number of replicas: each takes its part of every minibatch.
    """
    tf.config.experimental.enable_op_determinism()
    strategy = strategy or tf.distribute.get_strategy()
    mean, std = statistics(rows for rows, _ in chunks())
    random = Randomness(recipe)
    with strategy.scope():
        network = build(recipe.hidden, recipe.activation, recipe.l2, random.weights())
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
