"""Record a Keras 3 run at half time: weights and optimizer variables at 30 and 60.

pip install keras jax

Two runs, `momentum_centered` and `plain`. Arrays of `keras_midrun.npz`: `inputs`,
`targets`, `<run>/params/<step>/<name>` and `<run>/optimizer/<step>/<key>`, where the
key is the one that `optimizer.save_own_variables` uses and `meta["paths"][run][key]`
its variable's path.
"""

import os

os.environ["KERAS_BACKEND"] = "jax"

import jax
import keras
import numpy as np
from problem import save

RUNS = {
    "momentum_centered": {"learning_rate": 0.001, "momentum": 0.9, "centered": True},
    "plain": {"learning_rate": 0.001},
}


def record_run(run, recorded):
    """Train for 60 steps, adding to `recorded`; return the variables' paths."""
    inputs, targets = recorded["inputs"], recorded["targets"]
    keras.backend.clear_session()
    keras.utils.set_random_seed(0)
    network = keras.Sequential(
        [
            keras.Input((10,)),
            keras.layers.Dense(50, activation="relu", name="hidden"),
            keras.layers.Dense(1, name="output"),
        ]
    )
    optimizer = keras.optimizers.RMSprop(**RUNS[run])
    network.compile(optimizer, loss="mean_squared_error")

    def record_params(step):
        for weight in network.trainable_variables:
            recorded[f"{run}/params/{step}/{weight.path}"] = weight.numpy()

    record_params(0)
    for step in (30, 60):
        network.fit(inputs, targets, 100, epochs=30, shuffle=False, verbose=0)
        record_params(step)
        store = {}
        optimizer.save_own_variables(store)
        for key, value in store.items():
            recorded[f"{run}/optimizer/{step}/{key}"] = np.asarray(value)
    return {str(i): variable.path for i, variable in enumerate(optimizer.variables)}


if __name__ == "__main__":
    rng = np.random.default_rng(0)
    recorded = {
        "inputs": rng.normal(size=(100, 10)).astype(np.float32),
        "targets": rng.normal(size=(100, 1)).astype(np.float32),
    }
    paths = {run: record_run(run, recorded) for run in RUNS}
    save(
        "keras_midrun",
        recorded,
        framework="Keras",
        version=keras.__version__,
        source=f"keras.optimizers.RMSprop (backend jax {jax.__version__})",
        executed=True,
        arguments=RUNS,
        paths=paths,
        note="network 10-50-1 with relu, mean squared error, full batch",
    )
