#!/usr/bin/env python3
"""Reference figures from PyTorch for `tests/models/reference.rs`: one JSON file a model.

    tools/fixtures.py [--only NAME ...] [--out tests/fixtures/models]

Needs torch, torchvision and numpy. Run again, it writes the same files; on another machine only
`f32_error` may change.

Weights and images are not stored: both sides fill them by rule from a counter-based hash of the
tensor's name, so a file holds logits and gradient norms only. With u(name, i) =
2 unit(key_of(name), i) - 1 (exact in f32), i the flat index in PyTorch's layout, every operation
in f32 in the order written, and every constant computed in f64 and then rounded to f32:

    weight, 4-d      u * sqrt(6 / fan_in)     fan_in = product of all dimensions but the first
    weight, 2-d      u * sqrt(3 / fan_in)
    weight, 1-d      GAIN + 0.1 * u           a batch norm's scale
    bias             CENTRE + 0.1 * u
    running_mean     0.1 * u
    running_var      1 + 0.2 * u
    input            u("input", i), i over NHWC; no preprocessing
    label of row i   (7 i + 3) mod classes

Uniform in +-sqrt(6 / fan_in) has the variance 2 / fan_in (He et al. 2015), uniform in
+-sqrt(3 / fan_in) has 1 / fan_in: signals keep their size through any depth.

CENTRE moves most values off the bend of the ReLU. With biases around zero a deep batch norm net is
chaotic: each convolution, norm and ReLU spreads a relative error by about a fifth (Yang et al.
2019, arXiv:1902.08129), so that PyTorch's own f32 missed resnet152's logits by 7e-4 of their range
and its gradient norms by 2%. With CENTRE = GAIN it is 1e-6, and the sixth of the units that is
off still shows whether a ReLU is there. What remains are flips: a value within rounding of
zero falls on the other side of the bend, and a few gradient norms move by as much as 3e-3. Expect
that of any f32, in other places each time, and test the median as well as the largest deviation.

Each file has three passes over the same input, all in f64; dropout is off, and the loss is the
mean cross-entropy:

    eval     batch norms use the running statistics, every parameter is trainable
    train    batch norms use the batch's statistics and update the running ones
    half     everything up to and including the layer `freeze_through` is frozen, its batch norms
             too (running statistics, no update); the rest as in `train`

`f32_error` is how far PyTorch's own f32 lies from these figures: no test can ask for less.
"""

import argparse
import json
import math
import pathlib
import time

import numpy as np
import torch
import torchvision
from torch import nn
from torch.nn import functional as F

import nets

CLASSES = 10
GAIN = 0.7
CENTRE = 0.7

# name: (model, width, SAME padding, batch, side, freeze_through)
FIXTURES = {
    "resnet18": ("resnet18", 1.0, False, 3, 64, "layer2"),
    "resnet34": ("resnet34", 1.0, False, 3, 64, "layer2"),
    "resnet50": ("resnet50", 1.0, False, 3, 64, "layer2"),
    "resnet101": ("resnet101", 1.0, False, 3, 64, "layer2"),
    "resnet152": ("resnet152", 1.0, False, 3, 64, "layer2"),
    "resnet20": ("resnet20", 1.0, False, 3, 32, "layer1"),
    "resnet32": ("resnet32", 1.0, False, 3, 32, "layer1"),
    "resnet44": ("resnet44", 1.0, False, 3, 32, "layer2"),
    "resnet56": ("resnet56", 1.0, False, 3, 32, "layer2"),
    "mobilenet_v2": ("mobilenet_v2", 1.0, False, 3, 64, "features.9"),
    "mobilenet_v2_035": ("mobilenet_v2", 0.35, False, 3, 64, "features.9"),
    "mobilenet_v2_same": ("mobilenet_v2", 1.0, True, 3, 64, "features.9"),
    "vgg11": ("vgg11", 1.0, False, 3, 64, "features.8"),
    "vgg13": ("vgg13", 1.0, False, 3, 64, "features.10"),
    "vgg16": ("vgg16", 1.0, False, 3, 64, "features.14"),
    "vgg19": ("vgg19", 1.0, False, 3, 64, "features.16"),
    "vgg11_bn": ("vgg11_bn", 1.0, False, 3, 64, "features.12"),
    "vgg13_bn": ("vgg13_bn", 1.0, False, 3, 64, "features.15"),
    "vgg16_bn": ("vgg16_bn", 1.0, False, 3, 64, "features.21"),
    "vgg19_bn": ("vgg19_bn", 1.0, False, 3, 64, "features.24"),
    "resnext50_32x4d": ("resnext50_32x4d", 1.0, False, 3, 64, "layer2"),
    "resnext101_32x8d": ("resnext101_32x8d", 1.0, False, 3, 64, "layer2"),
    "resnext101_64x4d": ("resnext101_64x4d", 1.0, False, 3, 64, "layer2"),
    "wide_resnet50_2": ("wide_resnet50_2", 1.0, False, 3, 64, "layer2"),
    "wide_resnet101_2": ("wide_resnet101_2", 1.0, False, 3, 64, "layer2"),
    "mobilenet_v1": ("mobilenet_v1", 1.0, False, 3, 64, "blocks.2"),
    "mobilenet_v1_025_same": ("mobilenet_v1", 0.25, True, 3, 64, "blocks.2"),
    "mobilenet_v3_large": ("mobilenet_v3_large", 1.0, False, 3, 64, "features.8"),
    "mobilenet_v3_small": ("mobilenet_v3_small", 1.0, False, 3, 64, "features.6"),
    "mobilenet_v3_small_075": ("mobilenet_v3_small", 0.75, False, 3, 64, "features.6"),
    "efficientnet_b0": ("efficientnet_b0", 1.0, False, 3, 64, "features.4"),
    "efficientnet_b1": ("efficientnet_b1", 1.0, False, 3, 64, "features.4"),
    "efficientnet_b2": ("efficientnet_b2", 1.0, False, 3, 64, "features.4"),
    "efficientnet_b3": ("efficientnet_b3", 1.0, False, 3, 64, "features.4"),
    "efficientnet_b4": ("efficientnet_b4", 1.0, False, 3, 64, "features.4"),
    "efficientnet_b5": ("efficientnet_b5", 1.0, False, 3, 64, "features.4"),
    "efficientnet_b6": ("efficientnet_b6", 1.0, False, 3, 64, "features.4"),
    "efficientnet_b7": ("efficientnet_b7", 1.0, False, 3, 64, "features.4"),
    "efficientnet_lite0": ("efficientnet_lite0", 1.0, False, 3, 64, "features.4"),
    "efficientnet_v2_s": ("efficientnet_v2_s", 1.0, False, 3, 64, "features.4"),
    "efficientnet_v2_m": ("efficientnet_v2_m", 1.0, False, 3, 64, "features.4"),
    "efficientnet_v2_l": ("efficientnet_v2_l", 1.0, False, 3, 64, "features.4"),
    "densenet121": ("densenet121", 1.0, False, 3, 112, "features.transition2"),
    "densenet161": ("densenet161", 1.0, False, 3, 96, "features.transition2"),
    "densenet169": ("densenet169", 1.0, False, 3, 96, "features.transition2"),
    "densenet201": ("densenet201", 1.0, False, 3, 96, "features.transition2"),
    "googlenet": ("googlenet", 1.0, False, 3, 64, "inception4b"),
    "bn_inception": ("bn_inception", 1.0, False, 3, 96, "inception_4b_pool_proj_bn"),
    "inception_v3": ("inception_v3", 1.0, False, 3, 128, "Mixed_6b"),
    "squeezenet1_0": ("squeezenet1_0", 1.0, False, 3, 64, "features.7"),
    "squeezenet1_1": ("squeezenet1_1", 1.0, False, 3, 64, "features.7"),
    # At the size that they are used at.
    "resnet18_224": ("resnet18", 1.0, False, 2, 224, "layer2"),
    "resnet50_224": ("resnet50", 1.0, False, 2, 224, "layer2"),
    "mobilenet_v2_224": ("mobilenet_v2", 1.0, False, 2, 224, "features.9"),
    "vgg11_bn_224": ("vgg11_bn", 1.0, False, 2, 224, "features.12"),
}

# ---- the twin of src/rng.rs ----

MASK = (1 << 64) - 1
GOLDEN = 0x9E3779B97F4A7C15
CHUNK = 1 << 22


def key_of(name):
    """FNV-1a, 64 bits."""
    h = 0xCBF29CE484222325
    for byte in name.encode():
        h = ((h ^ byte) * 0x100000001B3) & MASK
    return h


def unit(key, start, end):
    """Uniform in [0, 1): the top 24 bits of SplitMix64's finaliser, for the counters start..end."""
    z = np.arange(start + 1, end + 1, dtype=np.uint64)
    z *= np.uint64(GOLDEN)
    z += np.uint64(key)
    z ^= z >> np.uint64(30)
    z *= np.uint64(0xBF58476D1CE4E5B9)
    z ^= z >> np.uint64(27)
    z *= np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return (z >> np.uint64(40)).astype(np.float32) / np.float32(1 << 24)


def draw(name, count):
    """u(name, 0..count) in f32; in chunks, since the largest tensor has 103 million numbers."""
    key = key_of(name)
    u = np.empty(count, np.float32)
    for start in range(0, count, CHUNK):
        end = min(start + CHUNK, count)
        u[start:end] = np.float32(2) * unit(key, start, end) - np.float32(1)
    return u


def by_rule(name, shape):
    """The f32 values of the tensor `name`."""
    u = draw(name, math.prod(shape))
    kind = name.rsplit(".", 1)[-1]
    if kind == "weight" and len(shape) >= 2:
        variance = 6.0 if len(shape) == 4 else 3.0
        u *= np.float32(math.sqrt(variance / math.prod(shape[1:])))
    elif kind == "weight":
        u = np.float32(GAIN) + np.float32(0.1) * u
    elif kind == "bias":
        u = np.float32(CENTRE) + np.float32(0.1) * u
    elif kind == "running_mean":
        u *= np.float32(0.1)
    elif kind == "running_var":
        u = np.float32(1) + np.float32(0.2) * u
    else:
        raise ValueError(f"no rule for the tensor '{name}'")
    return torch.from_numpy(u.reshape(shape))


# ---- passes ----


def fill(model):
    for name, tensor in model.state_dict(keep_vars=True).items():
        if name.endswith("num_batches_tracked"):
            tensor.data.zero_()
        else:
            tensor.data.copy_(by_rule(name, tuple(tensor.shape)))


def frozen_names(model, through):
    """The parameters up to the last one of the layer `through`, in the order of registration."""
    names = [name for name, _ in model.named_parameters()]
    inside = [i for i, name in enumerate(names) if name.startswith(through + ".")]
    if not inside:
        raise ValueError(f"no parameter lies in '{through}'")
    return set(names[: inside[-1] + 1])


def statistics(model):
    return {
        name: buffer
        for name, buffer in model.named_buffers()
        if name.endswith(("running_mean", "running_var"))
    }


def norm(tensor):
    return tensor.double().norm().item()


def run(model, x, labels, mode, through):
    """One forward and backward pass; the running statistics are put back afterwards."""
    frozen = frozen_names(model, through) if mode == "half" else set()
    model.train(mode != "eval")
    for name, module in model.named_modules():
        if isinstance(module, nn.BatchNorm2d) and f"{name}.weight" in frozen:
            module.eval()
    for name, parameter in model.named_parameters():
        parameter.grad = None
        parameter.requires_grad_(name not in frozen)
    before = {name: buffer.clone() for name, buffer in statistics(model).items()}
    logits = model(x)
    loss = F.cross_entropy(logits, labels)
    loss.backward()
    after = statistics(model)
    result = {
        "logits": logits.detach().double().numpy(),
        "loss": loss.item(),
        "grad_norms": {n: norm(p.grad) for n, p in model.named_parameters() if n not in frozen},
        "stats_norms": {n: norm(b) for n, b in after.items() if not torch.equal(b, before[n])},
    }
    for name, buffer in after.items():
        buffer.copy_(before[name])
    for parameter in model.parameters():
        parameter.grad = None
    return result


def zero_gradients(result):
    """The parameters whose gradient is zero in theory, and rounding noise in practice: a bias
    before a batch norm on batch statistics shifts what the norm takes away again. (Across a ReLU too
    when every unit is on: the deep ends of resnet101 and 152, and the stem behind its max pool.)
    True gradients are above 1e-6 of the largest, noise is below 1e-13."""
    largest = max(result["grad_norms"].values())
    return [name for name, value in result["grad_norms"].items() if value < 1e-11 * largest]


def distance(result, reference, zero):
    """How far `result` lies from `reference`: logits over their range, gradients that are zero in
    theory over the largest gradient norm, the rest relative."""
    span = float(np.ptp(reference["logits"]))
    out = {
        "logits": float(np.abs(result["logits"] - reference["logits"]).max()) / span,
        "loss": abs(result["loss"] / reference["loss"] - 1),
    }
    for table in ("grad_norms", "stats_norms"):
        pairs = [(result[table][n], r) for n, r in reference[table].items() if n not in zero]
        errors = [abs(a / r - 1) for a, r in pairs]
        if errors:
            out[table] = max(errors)
            out[f"{table}_median"] = float(np.median(errors))
    if zero:
        largest = max(reference["grad_norms"].values())
        out["zero_gradients"] = max(result["grad_norms"][n] for n in zero) / largest
    return {name: float(f"{value:.1g}") for name, value in out.items()}


def fixture(name):
    model_name, width, same, batch, side, through = FIXTURES[name]
    model = nets.uninitialised(lambda: nets.build(model_name, CLASSES, width, same))
    nets.without_dropout(model)
    fill(model)
    shape = [batch, side, side, 3]
    image = torch.from_numpy(draw("input", math.prod(shape)).reshape(shape))
    x = image.permute(0, 3, 1, 2).contiguous()
    labels = (torch.arange(batch) * 7 + 3) % CLASSES

    modes = ("eval", "train", "half")
    single = {mode: run(model, x, labels, mode, through) for mode in modes}
    model.double()
    fill(model)
    double = {mode: run(model, x.double(), labels, mode, through) for mode in modes}

    first = next(iter(dict(model.named_parameters())))
    document = {
        "model": model_name,
        "width": width,
        "padding": "tf-same" if same else "symmetric",
        "input": shape,
        "classes": CLASSES,
        "labels": labels.tolist(),
        "freeze_through": through,
        "torch": torch.__version__.split("+")[0],
        "torchvision": torchvision.__version__.split("+")[0],
        "parameters": sum(p.numel() for p in model.parameters()),
        # The first values by rule: when these differ, look at the hash, not at the network.
        "probe": {
            "input": image.flatten()[:3].tolist(),
            first: model.get_parameter(first).flatten()[:3].tolist(),
        },
    }
    for mode in modes:
        zero = zero_gradients(double[mode])
        error = distance(single[mode], double[mode], zero)
        double[mode]["grad_norms"].update(dict.fromkeys(zero, 0.0))
        document[mode] = {
            "logits": double[mode]["logits"].tolist(),
            "loss": double[mode]["loss"],
            "f32_error": error,
            "zero_gradients": zero,
            "grad_norms": double[mode]["grad_norms"],
            "stats_norms": double[mode]["stats_norms"],
        }
    return document


# ---- writing ----


def number(value):
    return f"{value:.9g}" if isinstance(value, float) else json.dumps(value)


def write(value, indent=0):
    """JSON with 9 significant digits (an f32 round-trips) and one tensor a line, for diffs."""
    pad = "  " * (indent + 1)
    if isinstance(value, dict) and value:
        lines = [f"{pad}{json.dumps(k)}: {write(v, indent + 1)}" for k, v in value.items()]
        return "{\n" + ",\n".join(lines) + "\n" + "  " * indent + "}"
    if isinstance(value, list) and value and isinstance(value[0], (list, str)):
        lines = [pad + write(v, indent + 1) for v in value]
        return "[\n" + ",\n".join(lines) + "\n" + "  " * indent + "]"
    if isinstance(value, list):
        return "[" + ", ".join(number(v) for v in value) + "]"
    return "{}" if value == {} else number(value)


def main():
    root = pathlib.Path(__file__).resolve().parent.parent
    parser = argparse.ArgumentParser(description="PyTorch's figures for tests/models/reference.rs")
    parser.add_argument("--only", action="append", choices=FIXTURES, metavar="NAME")
    parser.add_argument("--out", type=pathlib.Path, default=root / "tests/fixtures/models")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for name in args.only or FIXTURES:
        begin = time.time()
        document = fixture(name)
        (args.out / f"{name}.json").write_text(write(document) + "\n")
        errors = "  ".join(
            f"{mode}: " + " ".join(f"{v:.0e}" for v in document[mode]["f32_error"].values())
            for mode in ("eval", "train", "half")
        )
        print(f"{name:18} {time.time() - begin:5.1f} s   {errors}", flush=True)


if __name__ == "__main__":
    main()
