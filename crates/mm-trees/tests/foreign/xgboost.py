"""Models of the official XGBoost package, with what it predicts: xgboost-<version>.json.

    python xgboost.py           with xgboost 3.4.0, 3.2.0, 2.1.4, and 1.7.6; numpy and pandas beside it

The rows hold odd values, as the bits of their `f32`s; infinity is refused by XGBoost. A model is
JSON as it is written, or UBJSON in hexadecimal digits.
"""

import json
import pathlib
import sys
import warnings

sys.path = [p for p in sys.path if pathlib.Path(p or ".").resolve() != pathlib.Path(__file__).parent]

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
import xgboost as xgb  # noqa: E402

warnings.filterwarnings("ignore")
xgb.set_config(verbosity=0)
VERSION = tuple(int(part) for part in xgb.__version__.split(".")[:2])
rng = np.random.default_rng(3)
N, LEVELS = 300, 40
x = rng.normal(size=(N, 4)).astype(np.float32)
x[rng.random((N, 4)) < 0.15] = np.nan
x[:, 2] = np.round(x[:, 2])
x[:, 3] = rng.integers(0, LEVELS, N)
clean = np.nan_to_num(x)
signal = clean[:, 0] + np.sin(3 * clean[:, 1]) + (x[:, 3] % 3) + 0.1 * rng.normal(size=N)
binary = (signal > 1).astype(float)
classes = np.clip(np.floor(signal), 0, 2)
positive = np.abs(signal) + 0.1
TYPES = ["float", "float", "float", "c"]

odd = [np.nan, 0.0, -0.0, 1e-40, -1e-40, 3e38, -3e38, 0.5, -1.0, 2.0]
codes = [np.nan, *range(0, LEVELS, 3)]
rows = np.array(
    [[*(odd[rng.integers(len(odd))] for _ in range(3)), codes[rng.integers(len(codes))]] for _ in range(16)]
    + x[:8].tolist(),
    dtype=np.float32,
)
cases = []


def table(values, types=None, **more):
    return xgb.DMatrix(values, feature_types=types, enable_categorical=True, **more)


def add(name, y, rounds=2, ubj=False, types=None, frame=None, held_out=None, since=(1, 7), more=None, **params):
    if VERSION < since:
        return
    features = x if frame is None else frame
    data = table(features, types, **({} if y is None else {"label": y}), **(more or {}))
    stop = {} if held_out is None else {
        "evals": [(table(features, types, label=held_out), "held_out")],
        "early_stopping_rounds": 2, "verbose_eval": False}
    params = {"max_depth": 2, "nthread": 1, "seed": 1, **params}
    if params.get("booster") == "gblinear":
        del params["max_depth"]
    model = xgb.train(params, data, rounds, **stop)
    raw = model.save_raw("ubj" if ubj else "json")
    case = {"name": name, "form": "ubj" if ubj else "json",
            "model": bytes(raw).hex() if ubj else bytes(raw).decode()}
    given = rows
    if frame is not None:
        given = frame[:8]
        case["cells"] = [[None if pd.isna(cell) else str(cell) for cell in row] for row in given.values.tolist()]
    given = table(given, types)
    predict = lambda **how: [float(str(y)) for y in model.predict(given, **how).astype(np.float32).ravel()]
    if params.get("objective") == "multi:softmax":  # Its class, from the same probabilities.
        model.set_param({"objective": "multi:softprob"})
    whole = (0, 0)
    if held_out is not None:
        whole = (0, model.num_boosted_rounds())
    if 0 <= int(model.attr("best_iteration") or -1):  # Before 2.0 without early stopping too.
        case["best"] = int(model.attr("best_iteration")) + 1
    case["predicted"] = predict(iteration_range=whole)
    case["raw"] = predict(iteration_range=whole, output_margin=True)
    if name in ("reg:squarederror", "multi:softprob", "dart", "two trees a round", "leaves of vectors"):
        case["last"] = predict(iteration_range=(1, model.num_boosted_rounds()))
    cases.append(case)


NEWEST = (3, 4)  # Objectives that differ from others in name alone need not be seen four times.
add("reg:squarederror", signal, objective="reg:squarederror")
add("reg:pseudohubererror", signal, since=NEWEST, objective="reg:pseudohubererror")
add("reg:absoluteerror", signal, objective="reg:absoluteerror")
add("rank:pairwise", binary, since=NEWEST, objective="rank:pairwise", more={"group": [10] * (N // 10)})
add("reg:squaredlogerror", positive, since=NEWEST, objective="reg:squaredlogerror")
for objective in ("count:poisson", "reg:gamma", "reg:tweedie", "survival:cox"):
    add(objective, positive, since=(1, 7) if objective == "count:poisson" else NEWEST, objective=objective)
add("survival:aft", None, since=NEWEST, objective="survival:aft",
    more={"label_lower_bound": positive, "label_upper_bound": positive + 1})
add("binary:logistic", binary, ubj=True, objective="binary:logistic")
add("a base score of 0.3", binary, objective="binary:logistic", base_score=0.3)
add("reg:logistic", binary, since=NEWEST, objective="reg:logistic")
add("binary:logitraw", binary, objective="binary:logitraw", base_score=0.3)
add("binary:hinge", binary, objective="binary:hinge")
add("multi:softprob", classes, ubj=True, objective="multi:softprob", num_class=3)
add("multi:softmax", classes, objective="multi:softmax", num_class=3)
add("three quantiles", signal, since=(2, 0), rounds=6, objective="reg:quantileerror", tree_method="hist",
    quantile_alpha=[0.4, 0.5, 0.55], eta=1.0)
add("three expectiles", signal, since=(3, 4), objective="reg:expectileerror", expectile_alpha=[0.1, 0.5, 0.9])
add("dart", signal, rounds=4, booster="dart", rate_drop=0.5)
add("two trees a round", signal, num_parallel_tree=2, subsample=0.5)
add("two labels", np.stack([binary, 1 - binary], 1), objective="binary:logistic")
add("leaves of vectors", np.stack([signal, -positive], 1), since=(2, 0), tree_method="hist",
    multi_strategy="multi_output_tree")
add("sets of categories", signal, ubj=True, types=TYPES, tree_method="hist", max_cat_to_onehot=1)
add("one category a split", signal, types=TYPES, tree_method="hist", max_cat_to_onehot=100)
add("pruned", signal, tree_method="exact", max_depth=3, gamma=20.0)
add("grown by loss", signal, tree_method="hist", grow_policy="lossguide", max_leaves=6, max_depth=0)
add("stopped early", signal, rounds=20, held_out=-signal, tree_method="hist", max_depth=1)
add("no round", signal, rounds=0)
add("linear", signal, booster="gblinear")
add("linear classes", classes, booster="gblinear", objective="multi:softprob", num_class=3)
green = "grün" if VERSION >= NEWEST else "green"  # Before 3.4 it stores "grü": as many bytes as letters.
frame = pd.DataFrame({"size": clean[:, 0].astype(np.float32),
                      "colour": pd.Categorical.from_codes(x[:, 3].astype(int) % 3, ["red", "blue", green]),
                      "year": pd.Categorical.from_codes(x[:, 3].astype(int) % 4, [1990, 2000, 2010, 2020])})
add("a data frame", signal, since=(3, 1), frame=frame, tree_method="hist")
add("a data frame in UBJSON", signal, since=(3, 1), ubj=True, frame=frame, tree_method="hist")

out = {"version": xgb.__version__, "rows": rows.view(np.uint32).ravel().tolist(), "cases": cases}
path = pathlib.Path(__file__).parent / f"xgboost-{xgb.__version__}.json"
path.write_text(json.dumps(out, ensure_ascii=False, separators=(",", ":")) + "\n")
