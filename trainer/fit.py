"""One seeded training run: encoded rows in, fitted Keras network out."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import keras
import numpy as np
import tensorflow as tf
from pydantic import BaseModel, Field

from patient.encoding import Floats, statistics
from trainer.network import Encode, build

Tick = Callable[[int, float], None]


class Recipe(BaseModel):
    """All that the lecture lets one choose, with the default that serves this data best."""

    hidden: list[int] = Field([16], description="units of each hidden layer, such as 16 or 32,16")
    activation: Literal["relu", "tanh", "sigmoid", "elu", "gelu"] = Field(
        "relu", description="activation of the hidden layers; the output is always sigmoid"
    )
    optimizer: Literal["adam", "sgd"] = Field("adam", description="how a gradient becomes a step")
    learning_rate: float = Field(0.001, gt=0, description="length of a step")
    batch_size: int = Field(32, ge=1, description="rows in a minibatch")
    epochs: int = Field(300, ge=1, description="passes over the training rows")
    time_limit: float | None = Field(
        None, gt=0, description="stop after the epoch in which so many seconds have passed"
    )
    seed: int = Field(
        0, ge=0, lt=2**31, description="of the split, the starting weights, the order of rows, and dropout"
    )
    l2: float = Field(0.01, ge=0, description="penalty on the squared weights; 0 is the lecture's")
    dropout: float = Field(0.2, ge=0, lt=1, description="share of inputs dropped in each step; 0 is the lecture's")


@dataclass(frozen=True)
class Fitted:
    """What a training run found: the two halves of the model, and each epoch's loss."""

    encode: Encode
    network: keras.Model
    losses: list[float]

    def __call__(self, rows: tf.Tensor) -> tf.Tensor:
        """float32[N,13], NaN = missing, to float32[N,1] of probabilities."""
        return self.network(self.encode(rows))

    def predict(self, rows: Floats) -> Floats:
        """float32[N,13], NaN = missing, to float32[N] of probabilities."""
        return np.asarray(self(rows))[:, 0]


def fit(rows: Floats, target: Floats, recipe: Recipe, tick: Tick = lambda _epoch, _loss: None) -> Fitted:
    """Minimise the binary cross-entropy of `target` (float32[N], 0 or 1) given `rows` (float32[N,13], NaN = missing).

    The statistics of the standardisation come from these rows alone. Equal arguments give equal weights on one machine.
    `tick` hears each epoch's number and mean loss (natural log, without the penalty).
    """
    tf.config.experimental.enable_op_determinism()
    encode = Encode(*statistics(rows))
    network = build(recipe.hidden, recipe.activation, recipe.l2, recipe.dropout, recipe.seed)
    run_epoch = _compile(network, recipe, tf.constant(encode(rows)), tf.constant(target[:, None]))
    rng = np.random.default_rng(recipe.seed)
    losses: list[float] = []
    begun = time.monotonic()
    for number in range(1, recipe.epochs + 1):
        losses.append(float(run_epoch(rng.permutation(len(rows)).astype(np.int32))))
        tick(number, losses[-1])
        if recipe.time_limit and time.monotonic() - begun >= recipe.time_limit:
            break
    return Fitted(encode, network, losses)


def _compile(network: keras.Model, recipe: Recipe, inputs: tf.Tensor, target: tf.Tensor) -> Callable[[Floats], float]:
    """One epoch as one compiled graph: int32[N], an order of the rows, to the epoch's mean loss.

    Not model.fit: it sets up its data pipeline anew for every epoch, which on 303 rows costs ten times the arithmetic.
    """
    optimizers = {"adam": keras.optimizers.Adam, "sgd": keras.optimizers.SGD}
    optimizer = optimizers[recipe.optimizer](recipe.learning_rate)
    weights = network.trainable_variables
    optimizer.build(weights)

    @tf.function  # type: ignore[untyped-decorator]  # TensorFlow ships no types
    def epoch(order: tf.Tensor) -> tf.Tensor:
        total = 0.0
        for start in tf.range(0, tf.size(order), recipe.batch_size):
            batch = order[start : start + recipe.batch_size]
            with tf.GradientTape() as tape:
                probability = network(tf.gather(inputs, batch), training=True)
                loss = keras.losses.binary_crossentropy(tf.gather(target, batch), probability)
                objective = tf.reduce_mean(loss) + sum(network.losses)  # Keras keeps the L2 penalties in `losses`
            optimizer.apply(tape.gradient(objective, weights), weights)
            total += tf.reduce_sum(loss)
        return total / tf.cast(tf.size(order), tf.float32)

    return epoch  # type: ignore[no-any-return]
