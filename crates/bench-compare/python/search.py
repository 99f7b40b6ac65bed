"""Searches of boosters' parameters, ours and Optuna's with the engines' own packages, in equal time.

    search.py run BENCH OUT SECONDS SEED MODE KIND DATA.csv TARGET [OPTION...]
    search.py score OUT [SEED [held-out]]
    search.py table OUT

`run` gives `BENCH`, which is `search`, and then Optuna (every other time the other way round) so many
seconds, wall clock, for the same rows, folds, space (the medium one of `mm_trees`), and two threads, and
appends what they found to the JSON lines of `OUT`. `score` fits both sides' best params anew by the
engine's own package: over the same folds, under another seed, and to all rows for those that were held
back, or to these alone. `table` prints what came of it. Optuna proposes by TPE and prunes by Wilcoxon's test over the
folds' scores; either side gives up what runs when time is up, but for its first trial. OPTION
`optuna-defaults` enqueues the engine's defaults for Optuna, too, which ours does by itself.

Needs optuna, lightgbm, xgboost, catboost, pandas.
"""

import json
import pathlib
import subprocess
import sys
import time

import numpy as np
import pandas as pd

THREADS = 2


class Data:
    """A CSV file as both sides see it; every fourth row is held back."""

    def __init__(self, path, target, for_catboost):
        frame = pd.read_csv(path, keep_default_na=False, na_values=[""])
        y = frame.pop(target)
        self.categorical = [c for c in frame.columns if frame[c].dtype.kind not in "ifu"]
        for name in self.categorical:
            if for_catboost:
                frame[name] = frame[name].astype(object).where(frame[name].notna(), "").astype(str)
            else:
                frame[name] = frame[name].astype("category")
        numeric = y.dtype.kind in "ifu"
        self.classes = 1 if numeric and y.nunique() > 100 else y.nunique()
        if self.classes > 1:
            y = y.astype("category").cat.codes
        held = np.arange(len(y)) % 4 == 3
        self.x, self.y = frame[~held].reset_index(drop=True), y[~held].to_numpy(float)
        self.x_held, self.y_held = frame[held].reset_index(drop=True), y[held].to_numpy(float)

    def loss(self, truth, predicted):
        """RMSE, or log loss of the probabilities of two or more classes."""
        if self.classes == 1:
            return float(np.sqrt(np.mean((truth - predicted) ** 2)))
        if self.classes == 2 and predicted.ndim == 1:
            predicted = np.c_[1 - predicted, predicted]
        chosen = predicted[np.arange(len(truth)), truth.astype(int)]
        return float(-np.mean(np.log(np.clip(chosen, 1e-15, 1))))


def positive_or_zero(trial, name, low=1e-4, high=100.0):
    value = trial.suggest_float(name, low, high, log=True)
    return 0.0 if value < 10 * low else value


def share(trial, name):
    return trial.suggest_float(name, 0.4, 1.0, step=0.05)


class LightGbm:
    defaults = {"rounds": 100, "learning_rate": 0.1, "leaves": 31, "min_data": 20, "rows": 1.0,
                "columns": 1.0, "l1": 1e-4, "l2": 1e-4}

    @staticmethod
    def space(trial):
        return {
            "rounds": trial.suggest_int("rounds", 50, 1000, log=True),
            "learning_rate": trial.suggest_float("learning_rate", 0.01, 0.3, log=True),
            "leaves": trial.suggest_int("leaves", 4, 256, log=True),
            "min_data": trial.suggest_int("min_data", 2, 200, log=True),
            "rows": share(trial, "rows"),
            "columns": share(trial, "columns"),
            "l1": positive_or_zero(trial, "l1"),
            "l2": positive_or_zero(trial, "l2"),
        }

    @staticmethod
    def ours(p):
        rows = p["sampling"]["rows"]
        return {
            "rounds": p["rounds"], "learning_rate": p["learning_rate"], "leaves": p["tree"]["leaves"],
            "min_data": p["tree"]["min_data_in_leaf"],
            "rows": 1.0 if rows == "all" else rows["bagging"]["fraction"],
            "columns": p["sampling"]["columns"], "l1": p["penalty"]["l1"], "l2": p["penalty"]["l2"],
        }

    @staticmethod
    def fit(p, data, rows, seed, on_round):
        import lightgbm as lgb
        kind = {1: "regression", 2: "binary"}.get(data.classes, "multiclass")
        params = {
            "objective": kind, "verbosity": -1, "num_threads": THREADS, "seed": seed,
            "deterministic": True, "force_col_wise": True,
            "learning_rate": p["learning_rate"], "num_leaves": p["leaves"],
            "min_data_in_leaf": p["min_data"], "feature_fraction": p["columns"],
            "lambda_l1": p["l1"], "lambda_l2": p["l2"],
        }
        if p["rows"] < 1:
            params |= {"bagging_fraction": p["rows"], "bagging_freq": 1}
        if kind == "multiclass":
            params["num_class"] = data.classes
        train = lgb.Dataset(data.x.iloc[rows], data.y[rows])
        return lgb.train(params, train, p["rounds"], callbacks=[lambda _: on_round()]).predict


class XgBoost:
    defaults = {"rounds": 100, "learning_rate": 0.3, "depth": 6, "min_hessian": 1.0, "rows": 1.0,
                "columns": 1.0, "l1": 1e-4, "l2": 1.0, "min_gain": 1e-5}

    @staticmethod
    def space(trial):
        return {
            "rounds": trial.suggest_int("rounds", 50, 1000, log=True),
            "learning_rate": trial.suggest_float("learning_rate", 0.01, 0.5, log=True),
            "depth": trial.suggest_int("depth", 3, 10),
            "min_hessian": trial.suggest_float("min_hessian", 0.01, 100.0, log=True),
            "rows": share(trial, "rows"),
            "columns": share(trial, "columns"),
            "l1": positive_or_zero(trial, "l1"),
            "l2": positive_or_zero(trial, "l2"),
            "min_gain": positive_or_zero(trial, "min_gain", 1e-5, 10.0),
        }

    @staticmethod
    def ours(p):
        return {
            "rounds": p["rounds"], "learning_rate": p["learning_rate"],
            "depth": p["tree"]["growth"]["depthwise"]["max_depth"],
            "min_hessian": p["tree"]["min_hessian_in_leaf"], "rows": p["sampling"]["rows"],
            "columns": p["sampling"]["columns"], "l1": p["penalty"]["l1"], "l2": p["penalty"]["l2"],
            "min_gain": p["penalty"]["min_gain"],
        }

    @staticmethod
    def fit(p, data, rows, seed, on_round):
        import xgboost as xgb
        kind = {1: "reg:squarederror", 2: "binary:logistic"}.get(data.classes, "multi:softprob")
        params = {
            "objective": kind, "verbosity": 0, "nthread": THREADS, "seed": seed,
            "tree_method": "hist", "eta": p["learning_rate"], "max_depth": p["depth"],
            "min_child_weight": p["min_hessian"], "subsample": p["rows"],
            "colsample_bytree": p["columns"], "alpha": p["l1"], "lambda": p["l2"],
            "gamma": p["min_gain"],
        }
        if data.classes > 2:
            params["num_class"] = data.classes

        class Round(xgb.callback.TrainingCallback):
            def after_iteration(self, model, epoch, evals_log):
                on_round()
                return False

        def table(x, y=None):
            return xgb.DMatrix(x, y, enable_categorical=True, nthread=THREADS)

        train = xgb.QuantileDMatrix(data.x.iloc[rows], data.y[rows], enable_categorical=True,
                                    nthread=THREADS)
        model = xgb.train(params, train, p["rounds"], callbacks=[Round()])
        return lambda x: model.predict(table(x))


class CatBoost:
    defaults = {"rounds": 1000, "depth": 6, "rate": "auto", "sampling": "auto", "columns": 1.0,
                "noise": 1.0}

    @staticmethod
    def space(trial):
        p = {
            "rounds": trial.suggest_int("rounds", 100, 2000, log=True),
            "depth": trial.suggest_int("depth", 3, 10),
        }
        if trial.suggest_categorical("rate", ["auto", "given"]) == "given":
            p["learning_rate"] = trial.suggest_float("learning_rate", 0.01, 0.3, log=True)
            p["l2"] = trial.suggest_float("l2", 0.1, 100.0, log=True)
        p["sampling"] = trial.suggest_categorical("sampling", ["auto", "bayesian", "bernoulli"])
        if p["sampling"] == "bayesian":
            p["temperature"] = trial.suggest_float("temperature", 0.0, 2.0)
        elif p["sampling"] == "bernoulli":
            p["rows"] = share(trial, "rows")
        p["columns"] = share(trial, "columns")
        p["noise"] = trial.suggest_float("noise", 0.01, 10.0, log=True)
        return p

    @staticmethod
    def ours(p):
        rows = p["sampling"]["rows"]
        kind = rows if isinstance(rows, str) else next(iter(rows))
        q = {"rounds": p["rounds"], "depth": p["tree"]["depth"], "sampling": kind,
             "columns": p["sampling"]["columns"], "noise": p["sampling"]["noise"]}
        if p["learning_rate"] is not None:
            q |= {"learning_rate": p["learning_rate"], "l2": p["penalty"]["l2"]}
        if kind == "bayesian":
            q["temperature"] = rows["bayesian"]["temperature"]
        elif kind == "bernoulli":
            q["rows"] = rows["bernoulli"]["fraction"]
        return q

    @staticmethod
    def fit(p, data, rows, seed, on_round):
        import catboost
        kind = {1: "RMSE", 2: "Logloss"}.get(data.classes, "MultiClass")
        params = {
            "loss_function": kind, "iterations": p["rounds"], "depth": p["depth"],
            "rsm": p["columns"], "random_strength": p["noise"], "thread_count": THREADS,
            "random_seed": seed, "verbose": False, "allow_writing_files": False,
        }
        if "learning_rate" in p:
            params |= {"learning_rate": p["learning_rate"], "l2_leaf_reg": p["l2"]}
        if p["sampling"] == "bayesian":
            params |= {"bootstrap_type": "Bayesian", "bagging_temperature": p["temperature"]}
        elif p["sampling"] == "bernoulli":
            params |= {"bootstrap_type": "Bernoulli", "subsample": p["rows"]}

        class Round:
            def after_iteration(self, info):
                return on_round(raises=False)

        train = catboost.Pool(data.x.iloc[rows], data.y[rows], cat_features=data.categorical,
                              thread_count=THREADS)
        model = catboost.CatBoost(params).fit(train, callbacks=[Round()])
        on_round()
        form = "RawFormulaVal" if data.classes == 1 else "Probability"
        return lambda x: model.predict(x, prediction_type=form, thread_count=THREADS)


ENGINES = {"lightgbm": LightGbm, "xgboost": XgBoost, "catboost": CatBoost}


class TimeIsUp(Exception):
    pass


def optuna_side(engine, data, fold_of, seconds, seed, mode, defaults):
    import optuna
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    deadline, done = time.monotonic() + seconds, []

    def on_round(raises=True):
        late = bool(done) and time.monotonic() > deadline
        if late and raises:
            raise TimeIsUp
        return not late

    def objective(trial):
        p, scores = engine.space(trial), []
        for f in range(fold_of.max() + 1):
            train, test = np.flatnonzero(fold_of != f), np.flatnonzero(fold_of == f)
            predict = engine.fit(p, data, train, seed, on_round)
            scores.append(data.loss(data.y[test], predict(data.x.iloc[test])))
            on_round()
            if mode != "plain":
                trial.report(scores[-1], f)
                if trial.should_prune():
                    raise optuna.TrialPruned
        done.append(trial.number)
        trial.set_user_attr("params", p)
        return float(np.mean(scores))

    pruner = optuna.pruners.NopPruner() if mode == "plain" else optuna.pruners.WilcoxonPruner()
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed), pruner=pruner)
    if defaults:
        study.enqueue_trial(engine.defaults)
    study.optimize(objective, timeout=seconds, catch=(TimeIsUp,))
    states = [trial.state.name for trial in study.trials]
    return {
        "validation": study.best_value, "trials": len(states), "pruned": states.count("PRUNED"),
        "params": study.best_trial.user_attrs["params"],
    }


def run(bench, out, seconds, seed, mode, kind, path, target, *options):
    engine, data = ENGINES[kind], Data(path, target, kind == "catboost")
    folds = subprocess.run([bench, "folds", path, target, seed], capture_output=True, check=True)
    fold_of = np.array(json.loads(folds.stdout))

    def ours():
        call = [bench, kind, path, target, seed, seconds, mode]
        found = json.loads(subprocess.run(call, capture_output=True, check=True).stdout)
        return found | {"params": engine.ours(found["params"])}

    def optunas():
        started = time.monotonic()
        found = optuna_side(engine, data, fold_of, float(seconds), int(seed), mode,
                            "optuna-defaults" in options)
        return found | {"seconds": time.monotonic() - started}

    sides = [("ours", ours), ("optuna", optunas)]
    out = pathlib.Path(out)
    lines = out.read_text().splitlines() if out.exists() else []
    if len(lines) % 2:
        sides.reverse()
    line = {"kind": kind, "data": path, "target": target, "seed": int(seed), "mode": mode,
            "seconds": float(seconds), "options": options, "fold_of": fold_of.tolist()}
    line |= {name: side() for name, side in sides}
    with out.open("a") as file:
        file.write(json.dumps(line) + "\n")
    show(line)


def score(out, seed="12345", only=None):
    lines = [json.loads(line) for line in pathlib.Path(out).read_text().splitlines()]
    for line in lines:
        engine, fold_of = ENGINES[line["kind"]], np.array(line["fold_of"])
        data = Data(line["data"], line["target"], line["kind"] == "catboost")
        for side in ("ours", "optuna"):
            found = line[side]
            if "held_out_again" in found:
                continue
            go_on = lambda raises=True: True
            scores = []
            for f in range(0 if only else fold_of.max() + 1):
                train, test = np.flatnonzero(fold_of != f), np.flatnonzero(fold_of == f)
                predict = engine.fit(found["params"], data, train, int(seed), go_on)
                scores.append(data.loss(data.y[test], predict(data.x.iloc[test])))
            every = np.arange(len(data.y))
            predict = engine.fit(found["params"], data, every, int(seed), go_on)
            if scores:
                found["again"] = float(np.mean(scores))
            found["held_out_again"] = data.loss(data.y_held, predict(data.x_held))
        show(line)
        pathlib.Path(out).write_text("".join(json.dumps(line) + "\n" for line in lines))


def show(line):
    ours, other = line["ours"], line["optuna"]
    name = pathlib.Path(line["data"]).stem
    parts = [f"| {name} | {line['kind']} "]
    for key in ("validation", "again", "held_out_again"):
        if key in ours and key in other:
            change = 100 * (ours[key] / other[key] - 1)
            parts.append(f"| {ours[key]:.5g} | {other[key]:.5g} | {change:+.2f} % ")
    parts.append(f"| {ours['trials']} ({ours['pruned']}) | {other['trials']} ({other['pruned']}) |")
    print("".join(parts), flush=True)


def table(out):
    for line in pathlib.Path(out).read_text().splitlines():
        show(json.loads(line))


if __name__ == "__main__":
    {"run": run, "score": score, "table": table}[sys.argv[1]](*sys.argv[2:])
