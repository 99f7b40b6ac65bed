"""Contributions of features: the engines' own beside ours, in CPU time a row.

    cargo build --release -p mm-trees --no-default-features --bench explain
    python explain.py FOLDER target/release/deps/explain-…

The first run trains the models into FOLDER: 500 trees over 28 features on 90,000 synthetic rows.
Each line is the best of several runs in turn, engine, ours, engine, ours, with the ratio.
"""

import json
import pathlib
import subprocess
import sys
import time

import catboost
import lightgbm
import numpy as np
import xgboost

folder, ours = pathlib.Path(sys.argv[1]), sys.argv[2]
only = sys.argv[3:]
folder.mkdir(exist_ok=True)
rng = np.random.default_rng(1)
x = rng.normal(size=(100_000, 28)).astype("f4")
score = x @ rng.normal(size=28) * 0.3 + np.sin(x[:, 0] * 2) * x[:, 1] + x[:, 2] * x[:, 3] * (x[:, 4] > 0)
y = (score + rng.logistic(size=len(x)) > 0).astype(int)
x[:10_000].tofile(folder / "rows.f32")
fit, target = x[10_000:], y[10_000:]


def lgb(leaves):
    path = folder / f"lgb{leaves}.txt"
    if not path.exists():
        params = dict(objective="binary", num_leaves=leaves, learning_rate=0.05, num_threads=2, verbose=-1)
        lightgbm.train(params, lightgbm.Dataset(fit, target, params=dict(verbose=-1)), 500).save_model(path)
    model = lightgbm.Booster(model_file=path)
    return path, lambda rows, threads: model.predict(rows, pred_contrib=True, num_threads=threads)


def xgb(leaves, what="contribs"):
    path = folder / f"xgb{leaves}.json"
    if not path.exists():
        params = dict(objective="binary:logistic", grow_policy="lossguide", max_leaves=leaves, max_depth=0, eta=0.05)
        xgboost.train(params, xgboost.DMatrix(fit, target), 500).save_model(path)
    model = xgboost.Booster(model_file=path)

    def run(rows, threads):
        model.set_param("nthread", threads)
        return model.predict(xgboost.DMatrix(rows, nthread=threads), **{f"pred_{what}": True})

    return path, run


def cat():
    path = folder / "cat6.cbm"
    model = catboost.CatBoostClassifier(iterations=500, depth=6, learning_rate=0.05, verbose=0, thread_count=2)
    if not path.exists():
        model.fit(fit, target).save_model(str(path))
    model.load_model(str(path))

    def run(rows, threads):
        pool = catboost.Pool(rows)
        return model.get_feature_importance(pool, type="ShapValues", thread_count=threads)

    return path, run


# Engine, model, what, their rows, our rows, threads.
CASES = {
    "lgb31": ("LightGBM, 31 leaves", lambda: lgb(31), "contributions", 200, 4000, 1),
    "lgb31_2": ("LightGBM, 31 leaves, 2 threads", lambda: lgb(31), "contributions", 200, 4000, 2),
    "lgb31_single": ("LightGBM, 31 leaves, row by row", lambda: lgb(31), "single", 50, 400, 1),
    "lgb255": ("LightGBM, 255 leaves", lambda: lgb(255), "contributions", 16, 400, 1),
    "xgb31": ("XGBoost, 31 leaves", lambda: xgb(31), "contributions", 200, 4000, 1),
    "xgb255": ("XGBoost, 255 leaves", lambda: xgb(255), "contributions", 16, 400, 1),
    "xgb31_pairs": ("XGBoost, 31 leaves, interactions", lambda: xgb(31, "interactions"), "interactions", 4, 200, 1),
    "cat": ("CatBoost, depth 6, 10,000 rows", cat, "contributions", 10_000, 10_000, 1),
    "cat_few": ("CatBoost, depth 6, 100 rows", cat, "contributions", 100, 100, 1),
}
for key, (title, make, what, theirs, mine, threads) in CASES.items():
    if only and key not in only:
        continue
    path, run = make()
    # A row at a time means a call for each.
    parts = [x[i : i + 1] for i in range(theirs)] if what == "single" else [x[:theirs]]
    best = [np.inf, np.inf]
    prepare = 0.0
    for _ in range(4):
        started = time.process_time()
        for part in parts:
            run(part, threads)
        best[0] = min(best[0], (time.process_time() - started) * 1e6 / theirs)
        command = [ours, path, folder / "rows.f32", str(mine), what, str(threads)]
        answer = json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
        if answer["cpu"] < best[1]:
            best[1], prepare = answer["cpu"], answer["prepare"]
    print(f"{title}: {best[0]:.1f} µs, ours {best[1]:.1f} µs a row, {best[0] / best[1]:.1f} x; reading and preparing {prepare:.3f} s", flush=True)
