"""Optuna's side of `cargo bench -p mm-tune --bench speed`, which runs this and says what is printed.

    tune.py cost SAMPLER N              CPU ms a trial over the last tenth of N trials of mixed10
    tune.py storage SAMPLER KIND N      CPU ms, and ms, a trial over the second half of N trials of mixed10
                                        in a file of KIND: `sqlite`, `journal`
    tune.py quality SAMPLER NAME SEEDS  the best of 200 trials, for each seed, in order

The objectives are those of `crates/mm-tune/benches/speed.rs`. Nothing is printed for a sampler that
Optuna does not have, or that needs packages that are not there.
"""

import math
import sys
import tempfile
import time
import warnings

import optuna
from optuna import samplers

warnings.filterwarnings("ignore")
optuna.logging.set_verbosity(optuna.logging.CRITICAL)


def branin(t):
    x, y = t.suggest_float("x", -5, 10), t.suggest_float("y", 0, 15)
    b, c, u = 5.1 / (4 * math.pi**2), 5 / math.pi, 1 / (8 * math.pi)
    return (y - b * x * x + c * x - 6) ** 2 + 10 * (1 - u) * math.cos(x) + 10


WIDTHS = ((10, 3, 17, 3.5, 1.7, 8), (0.05, 10, 17, 0.1, 8, 14), (3, 3.5, 1.7, 10, 17, 8), (17, 8, 0.05, 10, 0.1, 14))
PEAKS = (
    (0.1312, 0.1696, 0.5569, 0.0124, 0.8283, 0.5886),
    (0.2329, 0.4135, 0.8307, 0.3736, 0.1004, 0.9991),
    (0.2348, 0.1451, 0.3522, 0.2883, 0.3047, 0.6650),
    (0.4047, 0.8828, 0.8732, 0.5743, 0.1091, 0.0381),
)
HEIGHTS = (1.0, 1.2, 3.0, 3.2)


def hartmann6(t):
    x = [t.suggest_float(f"x{i}", 0, 1) for i in range(6)]
    hills = (
        h * math.exp(-sum(w * (a - p) ** 2 for a, w, p in zip(x, widths, peak)))
        for h, widths, peak in zip(HEIGHTS, WIDTHS, PEAKS)
    )
    return -sum(hills)


def mixed10(t):
    rate = t.suggest_float("lr", 1e-4, 1, log=True)
    l2 = t.suggest_float("l2", 1e-8, 10, log=True)
    rows = t.suggest_float("subsample", 0.3, 1)
    columns = t.suggest_float("colsample", 0.3, 1, step=0.05)
    leaves = t.suggest_int("leaves", 2, 1024, log=True)
    depth = t.suggest_int("depth", 2, 16)
    min_child = t.suggest_int("min_child", 5, 200, step=5)
    booster = t.suggest_categorical("booster", ["gbdt", "dart", "goss"])
    growth = t.suggest_categorical("growth", ["depthwise", "lossguide"])
    bins = t.suggest_categorical("max_bin", ["63", "127", "255", "511"])
    return (
        (math.log10(rate) + (0.7 if booster == "dart" else 1.3)) ** 2
        + 0.1 * (math.log10(l2) + 2) ** 2
        + 4 * (rows - 0.8) ** 2
        + 3 * (columns - 0.65) ** 2
        + 0.3 * (math.log2(leaves) - 5 - 0.2 * (depth - 7)) ** 2
        + 0.02 * (depth - 7) ** 2
        + 1e-4 * (min_child - 40) ** 2
        + {"gbdt": 0.0, "dart": 0.3, "goss": 0.15}[booster]
        + {"depthwise": 0.2, "lossguide": 0.0}[growth]
        + {"63": 0.2, "127": 0.05, "255": 0.0, "511": 0.08}[bins]
    )


def sampler(name, seed):
    return {
        "random": lambda: samplers.RandomSampler(seed=seed),
        "qmc": lambda: samplers.QMCSampler(seed=seed, scramble=True, warn_independent_sampling=False),
        "tpe": lambda: samplers.TPESampler(seed=seed),
        "tpe_alone": lambda: samplers.TPESampler(seed=seed, multivariate=False),
        "cma": lambda: samplers.CmaEsSampler(seed=seed, warn_independent_sampling=False),
        "gp": lambda: samplers.GPSampler(seed=seed, deterministic_objective=True),
        "nsga2": lambda: samplers.NSGAIISampler(seed=seed),
    }[name]()


def run(study, objective, n):
    for _ in range(n):
        trial = study.ask()
        study.tell(trial, objective(trial))


part, name, *rest = sys.argv[1:]
try:
    if part == "cost":
        n = int(rest[0])
        study = optuna.create_study(sampler=sampler(name, 0))
        run(study, mixed10, n - n // 10)
        start = time.process_time()
        run(study, mixed10, n // 10)
        print((time.process_time() - start) * 1e3 / (n // 10))
    elif part == "storage":
        kind, n = rest[0], int(rest[1])
        with tempfile.TemporaryDirectory() as folder:
            if kind == "sqlite":
                storage = optuna.storages.RDBStorage(f"sqlite:///{folder}/study.db")
            else:
                backend = optuna.storages.journal.JournalFileBackend(f"{folder}/study.journal")
                storage = optuna.storages.JournalStorage(backend)
            study = optuna.create_study(storage=storage, sampler=sampler(name, 0))
            run(study, mixed10, n - n // 2)
            start, wall = time.process_time(), time.monotonic()
            run(study, mixed10, n // 2)
            print((time.process_time() - start) * 1e3 / (n // 2), (time.monotonic() - wall) * 1e3 / (n // 2))
    else:
        bests = []
        for seed in range(int(rest[1])):
            study = optuna.create_study(sampler=sampler(name, seed))
            run(study, globals()[rest[0]], 200)
            bests.append(study.best_value)
        print(*sorted(bests))
except (KeyError, ImportError, ModuleNotFoundError):
    pass
