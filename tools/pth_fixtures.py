#!/usr/bin/env python3
"""Small files of PyTorch's for `tests/models/pytorch.rs`: what torch.save writes, and what an attacker would.

    tools/pth_fixtures.py [tests/fixtures/pytorch]

Every float tensor `name` of n elements holds 0, 1, ..., n - 1 times 0.25, plus the length of its name.
"""

import argparse
import collections
import pathlib
import pickle
import sys

import torch


def tensor(name, *shape):
    count = torch.Size(shape).numel()
    return (torch.arange(count, dtype=torch.float32) * 0.25 + len(name)).reshape(shape)


def state_dict():
    conv = tensor("conv.weight", 4, 3, 3, 3)
    both = torch.cat([tensor("fc.weight", 2, 4).flatten(), tensor("fc.bias", 2)])
    return collections.OrderedDict({
        # In PyTorch's other memory layout: same numbers, other strides.
        "conv.weight": conv.to(memory_format=torch.channels_last),
        "bn.weight": tensor("bn.weight", 4).half(),
        "bn.bias": tensor("bn.bias", 4).bfloat16(),
        "bn.running_mean": tensor("bn.running_mean", 4).double(),
        "bn.num_batches_tracked": torch.tensor(7),
        # Two tensors in one storage.
        "fc.weight": both[:8].reshape(2, 4),
        "fc.bias": both[8:],
        "fc.transposed": tensor("fc.transposed", 3, 2).t().contiguous().t(),
    })


class Attack:
    def __reduce__(self):
        return (getattr(__import__("os"), "system"), ("touch defrost-was-attacked",))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=pathlib.Path, nargs="?", default="tests/fixtures/pytorch")
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    plain = state_dict()
    torch.save(plain, folder / "plain.pth")
    torch.save(plain, folder / "legacy.pth", _use_new_zipfile_serialization=False)
    wrapped = {f"module.{name}": value for name, value in plain.items()}
    checkpoint = {
        "epoch": 3,
        "arch": "tiny",
        "args": argparse.Namespace(lr=0.1, data="photos"),
        "best_acc1": 71.5,
        "optimizer": {"state": {0: {"momentum_buffer": tensor("m", 4)}}, "param_groups": [{"lr": 0.1}]},
        "state_dict": wrapped,
    }
    torch.save(checkpoint, folder / "checkpoint.pth")
    parameters = {name: torch.nn.Parameter(t.float()) for name, t in plain.items() if t.is_floating_point()}
    torch.save(parameters, folder / "parameters.pth")
    torch.save({"weight": Attack(), **plain}, folder / "attack.pth")
    torch.save({"weight": Attack(), **plain}, folder / "attack_legacy.pth", _use_new_zipfile_serialization=False)
    (folder / "attack.pkl").write_bytes(pickle.dumps(Attack(), protocol=2))
    print(*(f"{file.stat().st_size:8} {file.name}" for file in sorted(folder.iterdir())), sep="\n", file=sys.stderr)


if __name__ == "__main__":
    main()
