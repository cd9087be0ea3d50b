#!/usr/bin/env python3
"""Statistics of batch norms on other images, from PyTorch in f64, for `tests/training/adapt.rs`.

    tools/adapt_fixtures.py [--out tests/fixtures/adapt.json]

The network is ResNet-20 with the weights of `fixtures.py`'s rule; the twelve images, their normalisation and the
order of the batches are `curve_fixtures.py`'s. `momentum_none` is PyTorch's own: train mode, momentum=None. In the
other cases each norm works with its batch's statistics, of which it keeps a share `mix` of its own; what is written is
mean and unbiased variance of all that it saw, mixed likewise. The first channels of each norm are written.
"""

import argparse
import json
import pathlib

import torch

import curve_fixtures
import fixtures
import nets

CHANNELS = 4
# name: sizes of the batches, share of the old statistics; Defrost's --batch is the first size
CASES = {"one_batch": ([12], 0.0), "batches": ([4, 4, 4], 0.0), "uneven": ([5, 4, 3], 0.0), "mixed": ([5, 4, 3], 0.25)}


def network():
    model = nets.build("resnet20", curve_fixtures.CLASSES)
    fixtures.fill(model)
    return model.double()


def norms(model):
    return {name: m for name, m in model.named_modules() if isinstance(m, torch.nn.BatchNorm2d)}


def batches(sizes):
    x, _ = curve_fixtures.images(0, 3)
    order = curve_fixtures.epoch_order(len(x), 0, 0)
    return torch.split(x[order], sizes)


def pytorch(sizes):
    model = network().train()
    for norm in norms(model).values():
        norm.reset_running_stats()
        norm.momentum = None
    for batch in batches(sizes):
        model(batch)
    return {name: (norm.running_mean, norm.running_var) for name, norm in norms(model).items()}


def pooled(sizes, mix):
    model = network().eval()
    seen = {name: [] for name in norms(model)}

    def patch(name, norm):
        def forward(x):
            seen[name].append(x.transpose(0, 1).flatten(1))
            mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3), unbiased=False)
            mean, var = mix * norm.running_mean + (1 - mix) * mean, mix * norm.running_var + (1 - mix) * var
            return torch.nn.functional.batch_norm(x, mean, var, norm.weight, norm.bias, False, 0.0, norm.eps)

        norm.forward = forward

    for name, norm in norms(model).items():
        patch(name, norm)
    for batch in batches(sizes):
        model(batch)
    found = {}
    for name, norm in norms(model).items():
        x = torch.cat(seen[name], 1)
        found[name] = (
            mix * norm.running_mean + (1 - mix) * x.mean(1),
            mix * norm.running_var + (1 - mix) * x.var(1),
        )
    return found


def written(found):
    return {name: [[round(x, 7) for x in t[:CHANNELS].tolist()] for t in pair] for name, pair in found.items()}


@torch.no_grad()
def main():
    parser = argparse.ArgumentParser()
    root = pathlib.Path(__file__).resolve().parent.parent
    parser.add_argument("--out", type=pathlib.Path, default=root / "tests/fixtures/adapt.json")
    out = parser.parse_args().out
    cases = {}
    for name, (sizes, mix) in CASES.items():
        cases[name] = {"batch": sizes[0], "mix": mix, "norms": written(pooled(sizes, mix))}
    own = pytorch([12])
    cases["momentum_none"] = {"batch": 12, "mix": 0.0, "norms": written(own)}
    # One batch is PyTorch's case; of several, its means are.
    for name, (mean, var) in pooled([12], 0.0).items():
        assert torch.allclose(mean, own[name][0]) and torch.allclose(var, own[name][1]), name
    several = pytorch([4, 4, 4])
    for name, (mean, _) in pooled([4, 4, 4], 0.0).items():
        assert torch.allclose(mean, several[name][0]), name
    out.write_text(json.dumps(cases) + "\n")


if __name__ == "__main__":
    main()
