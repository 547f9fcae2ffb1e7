"""Regularizers of Table 9: their settings, and a study that trains all in one program."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments import batches, data, relu_net, study
from jaxdrop import optim, penalties, schedules, training

BASELINE = "L2"
BEST = "dropout + max-norm"
# Test errors in percent: Srivastava et al., 2014, Table 9.
PUBLISHED = {
    BASELINE: 1.62,
    "L2 + L1 at the end": 1.60,
    "L2 + KL-sparsity": 1.55,
    "max-norm": 1.35,
    "dropout + L2": 1.25,
    BEST: 1.05,
}
# Values of hyperparameters that a setting does not name.
ABSENT = {"input": 0.0, "hidden": 0.0, "l2": 0.0, "l1": 0.0, "kl": 0.0, "max_norm": np.inf}
# The paper's rates, which are too high for narrow layers, and lower ones.
PAPER = {"input": 0.2, "hidden": 0.5}
LESS = {"input": 0.1, "hidden": 0.1}
# The settings of each method to choose from.
METHODS: dict[str, list[study.Setting]] = {
    BASELINE: [{"l2": c} for c in (1e-5, 1e-4, 3e-4)],
    "L2 + L1 at the end": [{"l2": 1e-4, "l1": c} for c in (1e-4, 1e-3)],
    "L2 + KL-sparsity": [{"l2": 1e-4, "kl": c} for c in (1e-2, 3e-2)],
    "max-norm": [{"max_norm": c} for c in (1.5, 2.0)],
    "dropout + L2": [rates | {"l2": 1e-5} for rates in (PAPER, LESS)],
    BEST: [PAPER | {"max_norm": 2.0}, LESS | {"max_norm": 2.0}, LESS | {"max_norm": 1.5}],
}
NAMES = {"input": "inputs", "hidden": "hidden", "l2": "L2", "l1": "L1", "kl": "KL", "max_norm": "norm"}


class Config(NamedTuple):
    """Configuration of a run.

    Attributes:
      dataset: One of `data.NAMES`.
      seed: The first seed.
      seeds: The number of seeds.
      hidden: The widths of the hidden layers.
      steps: The updates, a multiple of `chunks`.
      chunks: The number of evaluations during training.
      train_size: The training images of each seed.
      valid_size: The validation images of each seed.
      probe_size: The training images scored during training.
      batch_size: The images of an update.
      learning_rate: The initial learning rate.
      clip: The largest gradient norm. The gradient of the sparsity penalty is unbounded at units that are 0
        for nearly all images, and has ended in NaN.
      target: The mean activity of hidden units that the sparsity penalty aims at.
      late: The share of the updates after which L1 begins.
    """

    dataset: str
    seed: int
    seeds: int
    hidden: tuple[int, ...]
    steps: int
    chunks: int = 20
    train_size: int = 50_000
    valid_size: int = 10_000
    probe_size: int = 2_000
    batch_size: int = 100
    learning_rate: float = 0.5
    clip: float = 1.0
    target: float = 0.1
    late: float = 0.8


def recipe_for(config: Config) -> training.Recipe:
    """Recipe of one run: its noise, its penalties and its constraint."""
    outermost = f"layer_{len(config.hidden)}/"

    def into_hidden(path: str, leaf: Any) -> bool:
        # The paper constrains the weights into each hidden unit.
        return penalties.is_weight(path, leaf) and not path.startswith(outermost)

    def recipe(hyper: study.Hyper) -> tuple[training.LossFn, optax.GradientTransformation]:
        def loss_fn(params: Any, key: jax.Array, pool: tuple) -> tuple[jax.Array, tuple]:
            x, y = pool
            batch_key, noise_key = jax.random.split(key)
            rows = hyper["train"][batches.draw_batch(batch_key, config.batch_size, config.train_size)]
            rates = (hyper["input"], hyper["hidden"])
            logits, hidden = relu_net.apply(params, x[rows], rates, noise_key)
            loss = optax.softmax_cross_entropy_with_integer_labels(logits, y[rows]).mean()
            activity = [jnp.tanh(units) for units in hidden]
            return loss + penalties.kl_sparsity(activity, hyper["kl"], target=config.target), ()

        rate = relu_net.learning_rate(config.learning_rate, config.steps)
        l1 = schedules.late(hyper["l1"], round(config.late * config.steps))
        steps = optax.chain(
            optim.coupled_l2(hyper["l2"]),
            optax.clip_by_global_norm(config.clip),
            relu_net.optimizer(config.learning_rate, config.steps),
            optim.proximal_l1(l1, rate),
            optim.max_norm(hyper["max_norm"], where=into_hidden),
        )
        return loss_fn, optim.halt_on_nonfinite(steps)

    return recipe


def make(config: Config, examples: data.Dataset, published: dict[str, float]) -> study.Study:
    """Study of all methods, in one program."""
    widths = (examples.x.shape[1], *config.hidden, 10)
    sizes = {"train": config.train_size, "valid": config.valid_size, "probe": config.probe_size}
    program = study.Program(
        methods=[study.Method(name, options, BASELINE) for name, options in METHODS.items()],
        init=lambda seed: relu_net.init(np.random.default_rng((seed, 1)), widths),
        recipe=recipe_for(config),
        score=lambda params, _, batch: relu_net.error_rate(params, *batch),
        steps=config.steps,
        absent=ABSENT,
    )
    layers = "-".join(map(str, config.hidden))
    return study.Study(
        title=f"{config.dataset}, hidden layers {layers}, {config.steps} updates",
        programs=[program],
        rows=batches.draw_rows(config.seed, config.seeds, len(examples.x), **sizes),
        **study.image_data(*examples[1:]),
        seed=config.seed,
        config=config._asdict(),
        columns={"test": "test", "published": "published"},
        versus=BASELINE,
        names=NAMES,
        chunks=config.chunks,
        across=study.one_by_one,
        published=published,
    )
