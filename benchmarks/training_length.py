"""What a learning rate and a number of epochs cost and give: the table of docs/TRAINING.md.

    python benchmarks/training_length.py papalexi2021_thp1_eccite.h5ad --model sams-vae --epochs 50 --lr 3e-4 3e-3
    python benchmarks/training_length.py simulated --model gpo-vae --epochs 100

One cell in five is held out; L2 per condition of the predicted response to that of the held-out cells, beside the mean
of the training cells and no change; CPU seconds of fit and prediction on one thread.
"""

import argparse
import os
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("NUMBA_NUM_THREADS", "1")

import numpy as np

import perturbcast
from perturbcast.data.simulate import simulate
from perturbcast.models.base import TrainingData
from perturbcast.models.registry import get_model


def main() -> None:
    """Prints one row per learning rate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("screen", help="a file of cells, or `simulated`: 6,000 cells x 500 genes")
    parser.add_argument("--model", default="sams-vae")
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--lr", type=float, nargs="+", default=[3e-3])
    parser.add_argument("--set", nargs="*", default=[], metavar="FIELD=VALUE")
    given = parser.parse_args()
    screen = simulate(seed=0).screen if given.screen == "simulated" else perturbcast.read(given.screen)
    held_out = np.random.default_rng(0).random(screen.n_cells) < 0.2
    train = TrainingData.of(screen.take(~held_out))
    test = TrainingData.of(screen.take(held_out)).responses
    queries = [query for query in train.responses.queries if query in test.queries]
    truth = test.response[test.index(queries)]

    def off(response: np.ndarray) -> float:
        return float(np.linalg.norm(response - truth, axis=1).mean())

    seen = train.responses.response[train.responses.index(queries)]
    print(f"mean of training cells: L2 {off(seen):.3f}; no change: {off(np.zeros_like(seen)):.3f}")
    fields = dict(entry.split("=", 1) for entry in given.set)
    for lr in given.lr:
        started = time.process_time()
        model = get_model(given.model, lr=lr, max_epochs=given.epochs, max_steps=None, patience=None, **fields)
        fitted = model.fit(train)
        found = fitted.predict(queries).response
        seconds, valid = time.process_time() - started, fitted.losses[:, 1]
        best = int(valid.argmin()) + 1
        print(
            f"lr {lr:g}: {seconds:.0f} s, L2 {off(found):.3f}, validation {valid.min():.2f} at epoch {best}", flush=True
        )


if __name__ == "__main__":
    main()
