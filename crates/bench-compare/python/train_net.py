"""The peer of `nets ft`: the same FT-Transformer in PyTorch, on the same rows.

    train_net.py DATA.csv TARGET TEST SEED PARAMS

The architecture is that of Gorishniy et al. 2021 as their package `rtdl` has it: a token a column, a
class token, pre-norm blocks without the first attention norm, ReGLU, the class token's last vector.
PARAMS is the JSON that `nets ft` takes; read are blocks, width, heads, the dropouts, and of `training`
the epochs, batch_size, learning_rate, weight_decay, clip_norm, and the patience. Needs torch, pandas,
scikit-learn.
"""

import copy
import json
import math
import pathlib
import sys

import numpy as np
import pandas as pd
import torch
from sklearn.preprocessing import QuantileTransformer
from torch import nn
from torch.nn import functional as F

sys.path.append(str(pathlib.Path(__file__).parents[2] / "mm-transformer" / "benches"))
from nets import Block  # noqa: E402


class FtTransformer(nn.Module):
    def __init__(self, numbers, levels, outputs, params):
        super().__init__()
        d = params.get("width", 192)
        bound = 1 / math.sqrt(d)
        draw = lambda *shape: nn.Parameter(torch.empty(*shape).uniform_(-bound, bound))
        self.slope, self.bias, self.cls = draw(numbers, d), draw(numbers + len(levels), d), draw(1, 1, d)
        self.tables = nn.ParameterList([draw(count + 1, d) for count in levels])
        rates = params.get("attention_dropout", 0.2), params.get("hidden_dropout", 0.1)
        heads, blocks, hidden = params.get("heads", 8), params.get("blocks", 3), int(d * 4 / 3)
        self.blocks = nn.ModuleList(Block(d, heads, hidden, i > 0, *rates) for i in range(blocks))
        self.norm, self.head = nn.LayerNorm(d), nn.Linear(d, outputs)

    def forward(self, x, c):
        tokens = [x[..., None] * self.slope]
        tokens += [table[c[:, j]][:, None] for j, table in enumerate(self.tables)]
        x = torch.cat(tokens, 1) + self.bias
        x = torch.cat([self.cls.expand(len(x), -1, -1), x], 1)
        for block in self.blocks:
            x = block(x, False)
        return self.head(F.relu(self.norm(x[:, 0])))


def prepared(frame, train, seed):
    """Numbers made normal by quantiles of the training rows (with noise, as in `rtdl`), codes of
    levels, and how many levels each column has; the code above them is for unseen ones."""
    names = [c for c in frame.columns if frame[c].dtype.kind in "ifu"]
    x = frame[names].to_numpy(float)
    x = np.where(np.isnan(x), np.nanmean(x[train], axis=0), x)
    if names:
        quantiles = max(min(len(train) // 30, 1000), 10)
        transform = QuantileTransformer(n_quantiles=quantiles, output_distribution="normal",
                                        subsample=10**9, random_state=seed)
        noise = np.random.default_rng(seed).normal(0, 1e-3, x[train].shape)
        transform.fit(x[train] + noise * np.maximum(x[train].std(axis=0), 1e-3))
        x = transform.transform(x)
    codes, levels = [], []
    for name in frame.columns.difference(names, sort=False):
        seen = {level: i for i, level in enumerate(frame[name].iloc[train].dropna().unique())}
        codes.append(frame[name].map(seen).fillna(len(seen)).to_numpy(int))
        levels.append(len(seen))
    codes = np.stack(codes, 1) if codes else np.zeros((len(frame), 0), int)
    return torch.tensor(x, dtype=torch.float32), torch.tensor(codes), levels


def main():
    path, target, test, seed = *sys.argv[1:4], int(sys.argv[4])
    params = json.loads(sys.argv[5])
    recipe = params.get("training", {})
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    frame = pd.read_csv(path)
    y = frame.pop(target)
    regression = y.dtype.kind in "ifu"
    test = np.sort(np.loadtxt(test, dtype=int))
    rest = np.setdiff1d(np.arange(len(frame)), test)
    place = np.arange(len(rest)) % 8
    train, stop = rest[place > 1], rest[place == 0]
    x, c, levels = prepared(frame, train, seed)
    if regression:
        raw = y.to_numpy(float)
        mean, spread = raw[train].mean(), raw[train].std()
        y = torch.tensor((raw - mean) / spread, dtype=torch.float32)[:, None]
        lost = lambda scores, y: F.mse_loss(scores, y)
    else:
        y = torch.tensor(y.astype("category").cat.codes.to_numpy(int))
        lost = F.cross_entropy
    outputs = 1 if regression else int(y.max()) + 1
    if outputs == 2:  # One score, as in `rtdl`.
        outputs = 1
        lost = lambda scores, y: F.binary_cross_entropy_with_logits(scores[:, 0], y.float())
    net = FtTransformer(x.shape[1], levels, outputs, params)
    plain = [p for n, p in net.named_parameters()
             if n.endswith("bias") or "norm" in n or n.split(".")[0] in ("slope", "cls", "tables")]
    decayed = [p for p in net.parameters() if not any(p is q for q in plain)]
    optimizer = torch.optim.AdamW(
        [{"params": plain, "weight_decay": 0.0}, {"params": decayed}],
        lr=recipe["learning_rate"], weight_decay=recipe.get("weight_decay", 1e-5))

    def scores(rows):
        net.eval()
        with torch.inference_mode():
            return torch.cat([net(x[part], c[part]) for part in torch.tensor(rows).split(1024)])

    best, kept, waited = math.inf, None, 0
    epochs, patience = recipe["epochs"], recipe.get("early_stopping", {}).get("rounds", 16)
    for epoch in range(epochs):
        net.train()
        order = torch.tensor(np.random.default_rng([seed, epoch]).permutation(train))
        for part in order.split(recipe.get("batch_size", 256)):
            optimizer.zero_grad()
            lost(net(x[part], c[part]), y[part]).backward()
            nn.utils.clip_grad_norm_(net.parameters(), recipe.get("clip_norm", 1.0))
            optimizer.step()
        loss = float(lost(scores(stop), y[stop]))
        if loss < best:
            best, kept, waited = loss, copy.deepcopy(net.state_dict()), 0
        else:
            waited += 1
            if waited >= patience:
                break
    net.load_state_dict(kept)
    predicted = scores(test)
    if regression:
        line = {"rmse": math.sqrt(float(lost(predicted, y[test]))) * spread}
    else:
        chosen = predicted.argmax(1) if 1 < outputs else predicted[:, 0] > 0
        right = (chosen == y[test]).float().mean()
        line = {"log_loss": float(lost(predicted, y[test])), "accuracy": float(right)}
    print(json.dumps(line | {"epochs": epoch + 1}))


if __name__ == "__main__":
    main()
