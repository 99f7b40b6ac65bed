"""The peer of `search`: Optuna with LightGBM's own package, in the same time on the same rows.

    search.py DATA.csv TARGET SECONDS SEED [plain|folds]

The space is the medium one of `mm_trees::LightGbmParams`. With `folds`, Optuna's Wilcoxon pruner sees
the folds' scores. Needs optuna, lightgbm, pandas, scikit-learn.
"""

import json
import sys
import time

import lightgbm as lgb
import numpy as np
import optuna
import pandas as pd
from sklearn.model_selection import KFold

optuna.logging.set_verbosity(optuna.logging.ERROR)


def main():
    path, target, seconds, seed, mode = sys.argv[1:6]
    seed, deadline = int(seed), time.monotonic() + float(seconds)
    frame = pd.read_csv(path)
    y = frame.pop(target)
    for name in frame.columns:
        if frame[name].dtype.kind not in "ifu":
            frame[name] = frame[name].astype("category")
    if y.dtype.kind == "f":
        kind, classes = "regression", 1
    else:
        y = y.astype("category").cat.codes
        classes = int(y.max()) + 1
        # A target of many whole numbers is a regression.
        kind = "regression" if classes > 100 else "binary" if classes == 2 else "multiclass"
    y = y.to_numpy(float)
    held = np.arange(len(y)) % 4 == 3
    x_train, y_train = frame[~held].reset_index(drop=True), y[~held]
    base = {"objective": kind, "verbosity": -1, "num_threads": 2, "deterministic": True, "seed": seed}
    base |= {"force_col_wise": True}
    if kind == "multiclass":
        base["num_class"] = classes

    def loss(truth, predicted):
        if kind == "regression":
            return float(np.sqrt(np.mean((truth - predicted) ** 2)))
        if kind == "binary":
            predicted = np.c_[1 - predicted, predicted]
        chosen = predicted[np.arange(len(truth)), truth.astype(int)]
        return float(-np.mean(np.log(np.clip(chosen, 1e-15, 1))))

    folds = list(KFold(5, shuffle=True, random_state=seed).split(y_train))

    def positive_or_zero(trial, name):
        value = trial.suggest_float(name, 1e-4, 100.0, log=True)
        return 0.0 if value < 1e-3 else value

    def space(trial):
        return base | {
            "learning_rate": trial.suggest_float("learning_rate", 0.01, 0.3, log=True),
            "num_leaves": trial.suggest_int("num_leaves", 4, 256, log=True),
            "min_data_in_leaf": trial.suggest_int("min_data_in_leaf", 2, 200, log=True),
            "bagging_fraction": trial.suggest_float("bagging_fraction", 0.4, 1.0, step=0.05),
            "bagging_freq": 1,
            "feature_fraction": trial.suggest_float("feature_fraction", 0.4, 1.0, step=0.05),
            "lambda_l1": positive_or_zero(trial, "lambda_l1"),
            "lambda_l2": positive_or_zero(trial, "lambda_l2"),
        }, trial.suggest_int("rounds", 50, 1000, log=True)

    def objective(trial):
        params, rounds = space(trial)
        scores = []
        for i, (train, test) in enumerate(folds):
            if time.monotonic() > deadline:
                raise RuntimeError("time is up")
            data = lgb.Dataset(x_train.iloc[train], y_train[train])
            model = lgb.train(params, data, rounds)
            scores.append(loss(y_train[test], model.predict(x_train.iloc[test])))
            if mode == "folds":
                trial.report(scores[-1], i)
                if trial.should_prune():
                    raise optuna.TrialPruned
        return float(np.mean(scores))

    pruner = optuna.pruners.WilcoxonPruner() if mode == "folds" else optuna.pruners.NopPruner()
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed), pruner=pruner)
    study.optimize(objective, timeout=deadline - time.monotonic(), catch=(RuntimeError,))
    params, rounds = space(optuna.trial.FixedTrial(study.best_params))
    model = lgb.train(params, lgb.Dataset(x_train, y_train), rounds)
    states = [trial.state.name for trial in study.trials]
    print(json.dumps({
        "validation": study.best_value,
        "held_out": loss(y[held], model.predict(frame[held])),
        "trials": len(states),
        "pruned": states.count("PRUNED"),
        "best": study.best_params,
    }))


main()
