"""One measured run of a Python peer; prints what `bench-compare` prints for mm.

    peer.py fit ENGINE FOLDER ROUNDS THREADS
    peer.py csv ENGINE DATA.csv TARGET ROUNDS THREADS [IGNORED ...]
    peer.py plan FOLDER ROUNDS THREADS JOBS

Needs numpy, pandas, scikit-learn, lightgbm, and xgboost. FOLDER is made by `bench-compare export`.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np


def memory(key):
    for line in open("/proc/self/status"):
        if line.startswith(key):
            return int(line.split()[1])


def load(folder):
    folder = Path(folder)
    meta = json.loads((folder / "meta.json").read_text())
    x = np.fromfile(folder / "x.f32", dtype=np.float32).reshape(meta["rows"], meta["columns"])
    y = np.fromfile(folder / "y.f32", dtype=np.float32)
    return meta, x, y


def lightgbm_params(classes, threads):
    objective = {0: "regression", 2: "binary"}.get(classes, "multiclass")
    params = dict(objective=objective, num_threads=threads, verbosity=-1, seed=0,
                  deterministic=True, force_col_wise=True)
    if classes > 2:
        params["num_class"] = classes
    return params


def xgboost_params(classes, threads):
    objective = {0: "reg:squarederror", 2: "binary:logistic"}.get(classes, "multi:softprob")
    params = dict(objective=objective, nthread=threads, verbosity=0, seed=0, tree_method="hist")
    if classes > 2:
        params["num_class"] = classes
    return params


def fit(engine, folder, rounds, threads):
    meta, x, y = load(folder)
    categorical = [j for j, n in enumerate(meta["levels"]) if n]
    if engine == "lightgbm":
        import lightgbm as lgb

        before, start = memory("VmRSS:"), time.perf_counter()
        data = lgb.Dataset(x, y, categorical_feature=categorical, free_raw_data=True)
        model = lgb.train(lightgbm_params(meta["classes"], threads), data, rounds)
        took, peak = time.perf_counter() - start, memory("VmHWM:")
        start = time.perf_counter()
        predicted = model.predict(x, num_threads=threads)
    else:
        import xgboost as xgb

        types = ["c" if n else "float" for n in meta["levels"]]
        before, start = memory("VmRSS:"), time.perf_counter()
        data = xgb.QuantileDMatrix(x, y, feature_types=types, enable_categorical=True, nthread=threads)
        model = xgb.train(xgboost_params(meta["classes"], threads), data, rounds)
        took, peak = time.perf_counter() - start, memory("VmHWM:")
        start = time.perf_counter()
        predicted = model.inplace_predict(x) if not categorical else model.predict(
            xgb.DMatrix(x, feature_types=types, enable_categorical=True, nthread=threads))
    predict = time.perf_counter() - start
    path = Path(folder) / f"peer-{engine}.f64"
    np.asarray(predicted, dtype=np.float64).tofile(path)
    return dict(fit=took, predict=predict, before_kib=before, peak_kib=peak, predictions=str(path))


def csv(engine, path, target, rounds, threads, *ignored):
    import pandas as pd

    if engine == "lightgbm":
        import lightgbm as lgb
    else:
        import xgboost as xgb
    start = time.perf_counter()
    table = pd.read_csv(path, keep_default_na=False, na_values=[""])
    y = table.pop(target)
    table = table.drop(columns=list(ignored))
    for name in table.columns:
        if not pd.api.types.is_numeric_dtype(table[name]):
            table[name] = table[name].astype("category")
    read = time.perf_counter() - start
    classes = 2 if set(y.unique()) <= {0, 1} else 0
    if engine == "lightgbm":
        lgb.train(lightgbm_params(classes, threads), lgb.Dataset(table, y), rounds)
    else:
        data = xgb.QuantileDMatrix(table, y, enable_categorical=True, nthread=threads)
        xgb.train(xgboost_params(classes, threads), data, rounds)
    return dict(read=read, total=time.perf_counter() - start, peak_kib=memory("VmHWM:"))


def plan(folder, rounds, threads, jobs):
    import lightgbm as lgb
    import xgboost as xgb
    from sklearn.metrics import log_loss, mean_squared_error
    from sklearn.model_selection import KFold, cross_val_predict

    meta, x, y = load(folder)
    classes = meta["classes"]
    y = y.astype(int) if classes else y
    kind = "Classifier" if classes else "Regressor"
    ours = dict(n_estimators=rounds, n_jobs=threads)
    models = dict(
        lightgbm=getattr(lgb, f"LGBM{kind}")(**ours, verbosity=-1, deterministic=True, force_col_wise=True),
        xgboost=getattr(xgb, f"XGB{kind}")(**ours, tree_method="hist", learning_rate=0.3, max_depth=6),
    )
    start = time.perf_counter()
    scores = []
    for name, model in models.items():
        p = cross_val_predict(model, x, y, cv=KFold(5), n_jobs=jobs,
                              method="predict_proba" if classes else "predict")
        scores.append(dict(name=name, score=log_loss(y, p) if classes else mean_squared_error(y, p) ** 0.5))
    return dict(total=time.perf_counter() - start, peak_kib=memory("VmHWM:"), scores=scores)


if __name__ == "__main__":
    work, *words = sys.argv[1:]
    words = [int(w) if w.isdigit() else w for w in words]
    print(json.dumps(dict(fit=fit, csv=csv, plan=plan)[work](*words)))
