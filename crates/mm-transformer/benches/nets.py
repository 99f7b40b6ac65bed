"""The nets of `nets.rs` in PyTorch, measured in the same way.

    python nets.py MODEL THREADS REPEATS            MODEL: ft, ft_plain, tabm
    python nets.py MODEL DEVICE ROWS PRECISION      a step on another device, in f32 or bf16

Times are in milliseconds, the best of the repeats: of the process's processor and by the clock, for 256
rows, and by the clock for one row. Memory is the process's, and what it is above PyTorch's import.
"""

import json
import math
import resource
import sys
import time

import torch
from torch import nn
from torch.nn import functional as F

ROWS, COLUMNS = 256, 28


def peak_mb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


IMPORTED_MB = peak_mb()


class Block(nn.Module):
    def __init__(self, d, heads, hidden, normed, attention_dropout, hidden_dropout):
        super().__init__()
        self.norm1 = nn.LayerNorm(d) if normed else nn.Identity()
        self.qkv, self.out = nn.Linear(d, 3 * d), nn.Linear(d, d)
        self.norm2 = nn.LayerNorm(d)
        self.up, self.down = nn.Linear(d, 2 * hidden), nn.Linear(hidden, d)
        self.heads, self.p, self.drop = heads, attention_dropout, nn.Dropout(hidden_dropout)

    def forward(self, x, first):
        """With `first` the output of the first token alone."""
        n, t, d = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(n, t, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        if first:
            x, q = x[:, :1], q[:, :, :1]
        p = self.p if self.training else 0.0
        y = F.scaled_dot_product_attention(q, k, v, dropout_p=p)
        x = x + self.out(y.transpose(1, 2).reshape(n, -1, d))
        value, gate = self.up(self.norm2(x)).chunk(2, -1)
        return x + self.down(self.drop(value * F.relu(gate)))


class Ft(nn.Module):
    def __init__(self, dropout, d=192, heads=8, blocks=3):
        super().__init__()
        bound = 1 / math.sqrt(d)
        draw = lambda *shape: nn.Parameter(torch.empty(*shape).uniform_(-bound, bound))
        self.slope, self.bias, self.cls = draw(COLUMNS, d), draw(COLUMNS, d), draw(1, 1, d)
        rates = (0.2, 0.1) if dropout else (0.0, 0.0)
        hidden = int(d * 4 / 3)
        self.blocks = nn.ModuleList(Block(d, heads, hidden, i > 0, *rates) for i in range(blocks))
        self.norm, self.head = nn.LayerNorm(d), nn.Linear(d, 1)

    def forward(self, x):
        x = x[..., None] * self.slope + self.bias
        x = torch.cat([self.cls.expand(len(x), -1, -1), x], 1)
        for i, block in enumerate(self.blocks):
            x = block(x, i + 1 == len(self.blocks))
        return self.head(F.relu(self.norm(x)))


class Tabm(nn.Module):
    def __init__(self, k=32, width=512, bins=48, d=16):
        super().__init__()
        bound = 1 / math.sqrt(width)
        draw = lambda *shape: nn.Parameter(torch.empty(*shape).uniform_(-bound, bound))
        self.edges = torch.linspace(-0.5, 0.5, bins + 1)
        self.slope, self.bias, self.map = draw(COLUMNS, d), draw(COLUMNS, d), draw(COLUMNS, bins, d)
        self.views = nn.Parameter(torch.randn(k, COLUMNS * d))
        self.layers = nn.ModuleList([nn.Linear(COLUMNS * d, width), nn.Linear(width, width)])
        self.heads, self.last, self.drop = draw(k, width, 1), draw(k, 1), nn.Dropout(0.1)

    def forward(self, x):
        left, right = self.edges[:-1], self.edges[1:]
        coded = ((x[..., None] - left) / (right - left)).clamp(0, 1)
        x = x[..., None] * self.slope + self.bias
        x = x + torch.einsum("ncb,cbd->ncd", coded, self.map)
        x = x.flatten(1)[:, None] * self.views
        for layer in self.layers:
            x = self.drop(F.relu(layer(x)))
        return torch.einsum("nkw,kwo->nko", x, self.heads) + self.last


def on_device(model, device, rows, precision):
    """32 steps as a loop over a data set takes them: rows by index from the host, the loss not read."""
    torch.manual_seed(1)
    net = (Tabm() if model == "tabm" else Ft(model == "ft")).to(device)
    if model == "tabm":
        net.edges = net.edges.to(device)
    optimizer = torch.optim.AdamW(net.parameters(), lr=5e-4, weight_decay=1e-5)
    steps = 32
    data = torch.rand(rows * steps, COLUMNS) - 0.5
    target = data[:, 0] * data[:, 1] + data[:, 2]

    def epoch():
        for part in torch.randperm(len(data)).split(rows):
            x, y = data[part].to(device), target[part].to(device)[:, None, None]
            optimizer.zero_grad()
            with torch.autocast(torch.device(device).type, torch.bfloat16, precision == "bf16"):
                scores = net(x)
            ((scores.float() - y) ** 2).mean().backward()
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
        torch.cuda.synchronize()

    epoch()
    costs = []
    for _ in range(3):
        before = time.process_time(), time.perf_counter()
        epoch()
        costs.append((time.process_time() - before[0], time.perf_counter() - before[1]))
    cpu, clock = (round(1000 * min(cost) / steps, 2) for cost in zip(*costs))
    result = {"precision": precision, "step_cpu_ms": cpu, "step_ms": clock}
    print(json.dumps({"model": model, "device": device, "rows": rows, **result}))


def main():
    if not sys.argv[2].isdigit():
        return on_device(*sys.argv[1:3], int(sys.argv[3]), sys.argv[4])
    model, threads, repeats = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    torch.set_num_threads(threads)
    torch.manual_seed(1)
    net = Tabm() if model == "tabm" else Ft(model == "ft")
    step_size = dict(lr=5e-4, weight_decay=1e-5)
    optimizer = torch.optim.AdamW(net.parameters(), **step_size)
    x = torch.rand(ROWS, COLUMNS) - 0.5
    y = (x[:, 0] * x[:, 1] + x[:, 2])[:, None, None]

    def step():
        optimizer.zero_grad()
        ((net(x) - y) ** 2).mean().backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()

    def forward(rows):
        net.eval()
        with torch.inference_mode():
            net(rows)
        net.train()

    def best(work):
        work()
        costs = []
        for _ in range(repeats):
            before = time.process_time(), time.perf_counter()
            work()
            costs.append((time.process_time() - before[0], time.perf_counter() - before[1]))
        return [1000 * min(cost) for cost in zip(*costs)]

    step_cpu, step_clock = best(step)
    forward_cpu, forward_clock = best(lambda: forward(x))
    row = min(best(lambda: forward(x[:1]))[1] for _ in range(20))
    result = {
        "step_cpu_ms": round(step_cpu, 1),
        "step_ms": round(step_clock, 1),
        "forward_cpu_ms": round(forward_cpu, 1),
        "forward_ms": round(forward_clock, 1),
        "row_ms": round(row, 3),
        "peak_mb": round(peak_mb()),
        "above_import_mb": round(peak_mb() - IMPORTED_MB),
    }
    print(json.dumps({"model": model, "threads": threads, "torch": torch.__version__, **result}))


if __name__ == "__main__":
    main()
