"""Configurations of boosters that are good together over several data sets.

    portfolio.py fit KIND FOLDER OUT [SET...]
    portfolio.py choose KIND OUT [N]

`fit` draws configurations from the medium space of `search.py` (Sobol, always the same), fits each to
data sets that no benchmark of searches uses, and appends the losses on held-out rows to the JSON lines of
`OUT`: the best within 100, 300, and 1000 rounds. FOLDER holds `<set>/data.csv.gz`. `choose` begins with
the engine's defaults and adds, N times, the configuration that lowers most the mean over the sets of the
best loss so far, counted from the best of all (0) to the defaults (1), within 100, 300, and 1000 rounds
alike.

That greedy choice is the portfolio of Feurer, Eggensperger, Falkner, Lindauer, Hutter, *Auto-Sklearn 2.0*
(JMLR 2022), and of AutoGluon's zero-shot configurations (Salinas, Erickson, *TabRepo*, AutoML 2024).

Needs optuna, lightgbm, xgboost, pandas, scikit-learn.
"""

import json
import pathlib
import sys

import numpy as np
import optuna
import pandas as pd
from sklearn.datasets import load_digits

from search import ENGINES

N, MOST_ROWS, ENDS = 48, 8000, (100, 300, 1000)
# Target, and what must not be a feature.
SETS = {
    "credit-g": ("class", []),
    "bike-sharing": ("cnt", ["instant", "dteday"]),
    "elec2": ("class", []),
    "polish-bankruptcy": ("bankrupt", []),
    "nycflights": ("late15", ["arr_delay", "tailnum"]),
    "nycflights-delay": ("arr_delay", ["late15", "tailnum"]),
    "digits": ("target", []),
}


def configurations(kind):
    """The defaults, and draws; without the number of rounds, of which all are looked at."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=optuna.samplers.QMCSampler(seed=0, scramble=True))
    engine = ENGINES[kind]
    drawn = [dict(engine.defaults) | {"l1": 0.0}]
    if kind == "lightgbm":
        drawn[0]["l2"] = 0.0
    else:
        drawn[0]["min_gain"] = 0.0
    while len(drawn) <= N:
        trial = study.ask()
        drawn.append(engine.space(trial))
        study.tell(trial, 0.0)
    for p in drawn:
        p.pop("rounds")
    return drawn


def read(folder, name):
    if name == "digits":
        x, y = load_digits(return_X_y=True)
        frame = pd.DataFrame(x)
    else:
        path = pathlib.Path(folder) / name.removesuffix("-delay") / "data.csv.gz"
        frame = pd.read_csv(path, keep_default_na=False, na_values=[""])
        target, banned = SETS[name]
        y = frame.pop(target)
        y = y.to_numpy(float) if y.dtype.kind in "if" else y.astype("category").cat.codes.to_numpy(float)
        frame = frame.drop(columns=banned)
        for column in frame.columns:
            if frame[column].dtype.kind not in "ifu":
                frame[column] = frame[column].astype("category")
    rows = np.random.default_rng(0).permutation(len(y))[:MOST_ROWS]
    return frame.iloc[rows].reset_index(drop=True), y[rows], len(np.unique(y))


def curve(kind, p, x, y, classes, train, test):
    """The loss on `test` after each round."""
    if kind == "xgboost":
        import xgboost as xgb
        goal = {1: "reg:squarederror", 2: "binary:logistic"}.get(classes, "multi:softprob")
        params = {
            "objective": goal, "verbosity": 0, "nthread": 1, "seed": 0, "eta": p["learning_rate"],
            "max_depth": p["depth"], "min_child_weight": p["min_hessian"], "subsample": p["rows"],
            "colsample_bytree": p["columns"], "alpha": p["l1"], "lambda": p["l2"],
            "gamma": p["min_gain"],
        }
        if classes > 2:
            params["num_class"] = classes
        table = xgb.QuantileDMatrix(x.iloc[train], y[train], enable_categorical=True, nthread=1)
        other = xgb.QuantileDMatrix(x.iloc[test], y[test], ref=table, enable_categorical=True,
                                    nthread=1)
        told = {}
        xgb.train(params, table, ENDS[-1], evals=[(other, "test")], evals_result=told,
                  verbose_eval=False, early_stopping_rounds=80)
        return list(told["test"].values())[-1]
    import lightgbm as lgb
    goal, metric = {1: ("regression", "rmse"), 2: ("binary", "binary_logloss")}.get(
        classes, ("multiclass", "multi_logloss"))
    params = {
        "objective": goal, "metric": metric, "verbosity": -1,
        "num_threads": 1, "seed": 0, "learning_rate": p["learning_rate"], "num_leaves": p["leaves"],
        "min_data_in_leaf": p["min_data"], "feature_fraction": p["columns"], "lambda_l1": p["l1"],
        "lambda_l2": p["l2"],
    }
    if p["rows"] < 1:
        params |= {"bagging_fraction": p["rows"], "bagging_freq": 1}
    if classes > 2:
        params["num_class"] = classes
    table = lgb.Dataset(x.iloc[train], y[train])
    other = lgb.Dataset(x.iloc[test], y[test], reference=table)
    told = {}
    calls = [lgb.record_evaluation(told), lgb.early_stopping(80, verbose=False)]
    lgb.train(params, table, ENDS[-1], [other], callbacks=calls)
    return list(told["valid_0"].values())[-1]


def fit(kind, folder, out, *names):
    for name in names or SETS:
        x, y, classes = read(folder, name)
        classes = 1 if classes > 100 else classes
        splits = 3 if len(y) < 1500 else 1
        for i, p in enumerate(configurations(kind)):
            losses = []
            for split in range(splits):
                rows = np.random.default_rng(split).permutation(len(y))
                test, train = rows[: len(y) // 4], rows[len(y) // 4 :]
                told = curve(kind, p, x, y, classes, train, test)
                losses.append([min(told[:end]) for end in ENDS])
            line = {"kind": kind, "set": name, "i": i, "losses": np.mean(losses, axis=0).tolist()}
            with open(out, "a") as file:
                file.write(json.dumps(line) + "\n")


def choose(kind, out, n="7"):
    lines = [json.loads(line) for line in pathlib.Path(out).read_text().splitlines()]
    lines = [line for line in lines if line["kind"] == kind]
    names = sorted({line["set"] for line in lines})
    losses = np.full((N + 1, len(names), len(ENDS)), np.nan)
    for line in lines:
        losses[line["i"], names.index(line["set"])] = line["losses"]
    best = losses.min(axis=0)
    # Where the defaults are nearly best, a thousandth of the loss counts instead.
    scale = np.maximum(losses[0] - best, 1e-3 * best)
    regret = np.minimum((losses - best) / scale, 2.0).reshape(N + 1, -1)
    chosen, so_far = [0], regret[0]
    for _ in range(int(n)):
        means = np.minimum(so_far, regret).mean(axis=1)
        chosen.append(int(means.argmin()))
        so_far = np.minimum(so_far, regret[chosen[-1]])
        p = configurations(kind)[chosen[-1]]
        shown = {key: float(f"{value:.2g}") for key, value in p.items()}
        print(f"{chosen[-1]:3} {so_far.mean():.3f} {json.dumps(shown)}")


if __name__ == "__main__":
    {"fit": fit, "choose": choose}[sys.argv[1]](*sys.argv[2:])
