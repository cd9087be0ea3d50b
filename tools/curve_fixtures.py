#!/usr/bin/env python3
"""Loss curves from PyTorch for `tests/training/curves.rs`: 20 updates on fixed batches, in f64.

    tools/curve_fixtures.py [--out tests/fixtures/curves.json]

The network is ResNet-20 with the weights of `fixtures.py`'s rule and four classes. The images are 32x32 and
drawn by rule, too: channel values floor(40 c + 120 unit(key_of("picture N"), i)) for class c and the running number N,
i over height, width, channel; ten training images a class, three for validation. The order of an epoch is that of
`data::epoch_order`. Each entry holds the settings as Defrost's config.json names them.
"""

import argparse
import copy
import json
import math
import pathlib

import numpy as np
import torch
from torch.nn import functional as F

import fixtures
import nets

CLASSES, SIDE, SEED = 4, 32, 5
TRAIN, VAL = 10, 3
MEAN, STD = 0.5, 0.25


def mix(key, counter):
    mask = fixtures.MASK
    z = (key + (counter + 1) * fixtures.GOLDEN) & mask
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    return z ^ (z >> 31)


class Stream:
    """`rng::Stream`."""

    def __init__(self, *parts):
        self.key, self.counter = 0x5DEECE66D1CE4E5B, 0
        for part in parts:
            self.key = mix(self.key, part)

    def next(self):
        self.counter += 1
        return mix(self.key, self.counter - 1)

    def below(self, n):
        return (self.next() * n) >> 64

    def unit(self):
        return (self.next() >> 11) / (1 << 53)

    def normal(self):
        radius = math.sqrt(-2 * math.log(1 - self.unit()))
        return radius * math.cos(math.tau * self.unit())

    def log_gamma(self, alpha):
        d = alpha + 1 - 1 / 3
        c = 1 / math.sqrt(9 * d)
        while True:
            x = self.normal()
            v = (1 + c * x) ** 3
            u = 1 - self.unit()
            if v > 0 and math.log(u) < 0.5 * x * x + d - d * v + d * math.log(v):
                return math.log(d * v) + math.log(1 - self.unit()) / alpha

    def beta(self, alpha):
        a, b = self.log_gamma(alpha), self.log_gamma(alpha)
        return 1 / (1 + math.exp(b - a))


def epoch_order(n, seed, epoch):
    stream = Stream(seed, fixtures.key_of("epoch order"), epoch)
    order = list(range(n))
    for i in range(n - 1, 0, -1):
        j = stream.below(i + 1)
        order[i], order[j] = order[j], order[i]
    return order


def mixed(x, labels, alpha, epoch, batch):
    """MixUp as `data::mix` draws it: each image with the one before, one weight a batch."""
    targets = F.one_hot(labels, CLASSES).double()
    stream = Stream(SEED, fixtures.key_of("mix"), epoch, batch)
    stream.unit()
    own = stream.beta(alpha)
    return own * x + (1 - own) * x.roll(1, 0), own * targets + (1 - own) * targets.roll(1, 0)


def image(number, label):
    u = fixtures.unit(fixtures.key_of(f"picture {number}"), 0, SIDE * SIDE * 3)
    values = np.floor(np.float32(40 * label) + np.float32(120) * u).astype(np.uint8)
    return values.reshape(SIDE, SIDE, 3)


def images(first, each):
    labels = [c for c in range(CLASSES) for _ in range(each)]
    stack = np.stack([image(first + i, label) for i, label in enumerate(labels)])
    x = torch.from_numpy(stack).double().permute(0, 3, 1, 2) / 255
    return (x - MEAN) / STD, torch.tensor(labels)


CASES = {
    "sgd": {"optimizer": "sgd", "lr": [1e-5], "weight_decay": 0.01, "schedule": "constant"},
    "sgd_train_norms": {
        "optimizer": "sgd", "lr": [2e-3], "weight_decay": 0.01, "schedule": "constant", "batch_norm": "train",
    },
    "nesterov_step": {"optimizer": "sgd", "nesterov": True, "lr": [1e-5], "weight_decay": 0.0, "schedule": "step"},
    "adamw_cosine_warmup": {
        "optimizer": "adamw", "lr": [2e-5], "weight_decay": 0.1, "schedule": "cosine", "warmup": 1.0,
    },
    "adamw_one_cycle": {"optimizer": "adamw", "lr": [4e-5], "weight_decay": 0.05, "schedule": "one-cycle"},
    "layer_decay": {
        "optimizer": "adamw", "lr": [4e-5], "layer_decay": 0.5, "weight_decay": 0.0, "schedule": "constant",
    },
    "clip": {"optimizer": "sgd", "lr": [5e-4], "weight_decay": 0.0, "schedule": "constant", "clip": 0.5},
    "accumulate": {
        "optimizer": "sgd", "lr": [1e-5], "weight_decay": 0.0, "schedule": "constant", "batch": 4, "accumulate": 2,
    },
    "ema": {"optimizer": "sgd", "lr": [1e-5], "weight_decay": 0.0, "schedule": "constant", "ema": 0.8},
    "mixup": {
        "optimizer": "sgd", "lr": [1e-5], "weight_decay": 0.0, "schedule": "constant", "augment": {"mixup": 0.4},
    },
    "smoothing": {"optimizer": "sgd", "lr": [1e-5], "weight_decay": 0.0, "schedule": "constant", "smoothing": 0.1},
}
SHARED = {"epochs": 4, "batch": 8, "momentum": 0.9, "seed": SEED}
# First layers of the layer groups, as `Architecture::groups` has them; the last is the head.
GROUPS = ["conv1", "layer2", "fc"]


def group_of(name, names):
    firsts = [next(i for i, n in enumerate(names) if n.startswith(g + ".")) for g in GROUPS]
    return max(g for g, first in enumerate(firsts) if names.index(name) >= first)


def factor(config, step, steps, epoch, epochs):
    kind = config["schedule"]
    value = {
        "constant": lambda: 1.0,
        "step": lambda: 0.1 ** (epoch // max(1, -(-epochs // 3))),
        "cosine": lambda: 0.5 * (1 + math.cos(math.pi * step / steps)),
    }[kind]()
    warmup = config.get("warmup", 0.0) * steps / epochs
    return value * min(1.0, (step + 1) / max(warmup, 1.0))


def curve(settings):
    config = {**SHARED, **settings}
    torch.set_default_dtype(torch.float64)
    model = nets.build("resnet20", CLASSES)
    fixtures.fill(model)
    model = model.double()
    x, labels = images(0, TRAIN)
    vx, vlabels = images(CLASSES * TRAIN, VAL)
    names = [n for n, _ in model.named_parameters()]
    decay = config["weight_decay"]
    groups = []
    for name, p in model.named_parameters():
        top = config["lr"][0]
        share = config.get("layer_decay")
        rate = top * share ** (len(GROUPS) - 1 - group_of(name, names)) if share else top
        groups.append({"params": [p], "lr": rate, "weight_decay": decay if p.dim() > 1 else 0.0})
    if config["optimizer"] == "sgd":
        optimizer = torch.optim.SGD(groups, momentum=config["momentum"], nesterov=config.get("nesterov", False))
    else:
        optimizer = torch.optim.AdamW(groups)
    steps, epochs = 20, config["epochs"]
    rates = [g["lr"] for g in optimizer.param_groups]
    cycle = None
    if config["schedule"] == "one-cycle":
        cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, rates, total_steps=steps, cycle_momentum=False)
    average = copy.deepcopy(model)
    losses, val, step = [], [], 0
    loss_of = torch.nn.CrossEntropyLoss(label_smoothing=config.get("smoothing", 0.0))
    for epoch in range(epochs):
        order = epoch_order(len(labels), SEED, epoch)
        micro, parts = config["batch"], config.get("accumulate", 1)
        batches = [order[i : i + micro] for i in range(0, len(order), micro)]
        for first in range(0, len(batches), parts):
            if cycle is None:
                for g, rate in zip(optimizer.param_groups, rates):
                    g["lr"] = rate * factor(config, step, steps, epoch, epochs)
            model.train(config.get("batch_norm") == "train")
            optimizer.zero_grad()
            group = batches[first : first + parts]
            total = sum(len(b) for b in group)
            whole = 0.0
            for batch in group:
                seen, wanted = x[batch], labels[batch]
                if "augment" in config:
                    seen, wanted = mixed(seen, wanted, config["augment"]["mixup"], epoch, batch[0])
                loss = loss_of(model(seen), wanted) * len(batch) / total
                loss.backward()
                whole += loss.item()
            losses.append(whole)
            if "clip" in config:
                torch.nn.utils.clip_grad_norm_(model.parameters(), config["clip"])
            optimizer.step()
            if cycle:
                cycle.step()
            step += 1
            d = min(config.get("ema", 0.0), (1 + step) / (10 + step))
            with torch.no_grad():
                for a, p in zip(average.parameters(), model.parameters()):
                    a.mul_(d).add_(p, alpha=1 - d)
                for a, b in zip(average.buffers(), model.buffers()):
                    a.copy_(b)
        average.eval()
        with torch.no_grad():
            val.append(F.cross_entropy(average(vx), vlabels).item())
    return {"config": config, "losses": losses, "val": val}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    root = pathlib.Path(__file__).resolve().parent.parent
    parser.add_argument("--only", nargs="*", metavar="CASE", help="make these anew, and leave the others")
    parser.add_argument("--out", type=pathlib.Path, default=root / "tests/fixtures/curves.json")
    args = parser.parse_args()
    out = args.out
    curves = json.loads(out.read_text()) if args.only else {}
    for name in args.only or CASES:
        curves[name] = curve(CASES[name])
        print(name, *(f"{loss:.4f}" for loss in curves[name]["losses"]))
    out.write_text(json.dumps(curves, indent=1) + "\n")


if __name__ == "__main__":
    main()
