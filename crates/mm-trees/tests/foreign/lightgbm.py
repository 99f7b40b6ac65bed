"""Models of the official LightGBM package, with what it predicts: lightgbm-<version>.json.

    python lightgbm.py          with lightgbm 4.7.0, and with 3.3.5; numpy and pandas beside it

The rows hold every odd value, as the bits of their `f32`s. Sections that no prediction reads are
left out of most models, for size.
"""

import json
import pathlib
import re
import sys
import warnings

sys.path = [p for p in sys.path if pathlib.Path(p or ".").resolve() != pathlib.Path(__file__).parent]

import lightgbm as lgb  # noqa: E402
import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402

warnings.filterwarnings("ignore")
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
ranks = np.clip(np.floor(positive), 0, 4)

odd = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-40, -1e-40, 1e-35, -1e-35, 0.5, -1.0, 2.0]
codes = [np.nan, -1.0, *range(0, LEVELS + 3, 3)]
rows = np.array(
    [[*(odd[rng.integers(len(odd))] for _ in range(3)), codes[rng.integers(len(codes))]] for _ in range(16)]
    + x[:8].tolist(),
    dtype=np.float32,
)

SMALL = {"num_leaves": 4, "min_data_in_leaf": 5, "min_data_per_group": 5, "cat_smooth": 1,
         "verbosity": -1, "num_threads": 1, "seed": 1, "deterministic": True}
NEWER = int(lgb.__version__.split(".")[0]) >= 4
cases = []


def add(name, y, rounds=2, slim=True, group=None, frame=None, **params):
    label = None if callable(params.get("objective")) else y
    custom = {}
    if label is None and not NEWER:
        custom = {"fobj": params.pop("objective")}
    features = frame if frame is not None else x
    data = lgb.Dataset(features, y, group=group, free_raw_data=False,
                       categorical_feature="auto" if frame is not None else [3])
    model = lgb.train({**SMALL, **params}, data, num_boost_round=rounds, **custom)
    text = model.model_to_string()
    if slim:
        text = re.sub(r"\nparameters:\n.*?end of parameters\n", "", text, flags=re.S)
        model = lgb.Booster(model_str=text)
    given = rows
    case = {"name": name, "model": text}
    if frame is not None:
        given = frame[:8]
        case["cells"] = [[None if pd.isna(cell) else str(cell) for cell in row] for row in given.values.tolist()]
    case["predicted"] = numbers(model.predict(given))
    case["raw"] = numbers(model.predict(given, raw_score=True))
    if name in ("regression", "multiclass", "random forest", "dart"):
        case["last"] = model.predict(given, start_iteration=1, num_iteration=rounds).ravel().tolist()
    cases.append(case)


def numbers(values):
    return [y if np.isfinite(y) else str(y) for y in values.ravel().tolist()]


def squared(score, data):
    return score - data.get_label(), np.ones_like(score)


add("regression", signal, slim=False, objective="regression")
for objective in ("regression_l1", "huber", "fair", "quantile", "mape"):
    add(objective, signal, objective=objective)
for objective in ("poisson", "gamma", "tweedie"):
    add(objective, positive, objective=objective)
add("the root of the target", signal, objective="regression", reg_sqrt=True)
add("binary", binary, objective="binary", sigmoid=2.0)
add("cross_entropy", binary, objective="cross_entropy")
add("cross_entropy_lambda", binary, objective="cross_entropy_lambda")
add("multiclass", classes, objective="multiclass", num_class=3)
add("multiclassova", classes, objective="multiclassova", num_class=3)
add("lambdarank", ranks, group=[10] * (N // 10), objective="lambdarank")
add("rank_xendcg", ranks, group=[10] * (N // 10), objective="rank_xendcg")
add("a function of the caller's", signal, objective=squared)
add("random forest", binary, objective="binary", boosting="rf", bagging_freq=1, bagging_fraction=0.6)
add("dart", signal, rounds=4, objective="regression", boosting="dart", drop_rate=0.5, skip_drop=0)
add("linear leaves", signal, objective="regression", linear_tree=True)
add("zero as missing", signal, objective="regression", zero_as_missing=True)
add("nothing is missing", signal, objective="regression", use_missing=False)
add("one level against the others", signal, objective="regression", max_cat_to_onehot=100)
add("a constant", np.full(N, 2.5), objective="regression")
frame = pd.DataFrame({"size": clean[:, 0].astype(float),
                      "colour": pd.Categorical.from_codes(x[:, 3].astype(int) % 3, ["red", "blue", "grün"])})
add("a data frame", signal, slim=False, frame=frame, objective="regression")

out = {"version": lgb.__version__, "rows": rows.view(np.uint32).ravel().tolist(), "cases": cases}
path = pathlib.Path(__file__).parent / f"lightgbm-{lgb.__version__}.json"
path.write_text(json.dumps(out, ensure_ascii=False, separators=(",", ":")) + "\n")
