#!/usr/bin/env python3
"""Reference figures from pytorch-grad-cam and PyTorch for `tests/training/explain.rs`: one JSON file.

    tools/cam_fixtures.py [--out tests/fixtures/explain.json] [--material FOLDER]

Needs torch, torchvision, numpy and grad-cam (1.5.7 wrote the file; with it OpenCV). Weights are filled by the rule of
`fixtures.py`. The image is bytes by rule, brighter to the right so that a map has something to show:

    byte(y, x, c) = floor(256 unit(key_of("input"), i) (x + 1) / side)   i over NHWC, in f32 in the order written

Everything runs in f64, but for OpenCV's resize in pytorch-grad-cam, which is f32. Of each map every STRIDE-th row and
column is kept. SmoothGrad is the paper's: the mean of the gradients of a class's output with respect to the normalised
image over noisy copies (25 and 0.15 of the image's range by default), sizes added up over the channels, from the
least to the 99th percentile, as the authors' `saliency` package shows it. The noise is `rng::Stream` of [seed, sample].

With --material, the maps of MobileNetV2 with real weights on the three images that lie there are written, too
(`real`): 7x7 before they are enlarged is all that they hold, so a stride of 16 says enough.
"""

import argparse
import json
import math
import pathlib
import re

import numpy as np
import torch
from pytorch_grad_cam import GradCAM, GradCAMPlusPlus
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

import fixtures
import nets

STRIDE = 7
REAL_STRIDE = 16
SAMPLES = 4
LABEL = 3
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

# name: (model, width, side, layers beside the default)
NETWORKS = {
    "resnet20": ("resnet20", 1.0, 32, ("layer2", "layer3.1.conv1")),
    "mobilenet_v2_035": ("mobilenet_v2", 0.35, 96, ("features.13", "features.14.conv.1")),
    "mobilenet_v3_small": ("mobilenet_v3_small", 1.0, 96, ("features.8",)),
    "squeezenet1_1": ("squeezenet1_1", 1.0, 96, ("classifier.1",)),
    "densenet121": ("densenet121", 1.0, 96, ("features.denseblock3",)),
}
DEFAULT = {
    "resnet20": "layer3",
    "mobilenet_v2_035": "features.18",
    "mobilenet_v3_small": "features.12",
    "squeezenet1_1": "features.12",
    "densenet121": "relu",
}


class DenseNet(torch.nn.Module):
    """torchvision's with the last ReLU as a module, out of place, so that it can be hooked."""

    def __init__(self, net):
        super().__init__()
        self.features, self.classifier, self.relu = net.features, net.classifier, torch.nn.ReLU()

    def forward(self, x):
        return self.classifier(self.relu(self.features(x)).mean((2, 3)))


def image(side):
    count = side * side * 3
    u = fixtures.unit(fixtures.key_of("input"), 0, count)
    x = (np.arange(count) // 3 % side + 1).astype(np.float32)
    return np.floor(np.float32(256) * u * x / np.float32(side)).astype(np.uint8).reshape(1, side, side, 3)


def normalised(images, mean=MEAN, std=STD):
    x = (images.astype(np.float64) / 255 - mean) / std
    return torch.from_numpy(x.transpose(0, 3, 1, 2).copy())


def build(model, width):
    net = nets.uninitialised(lambda: nets.build(model, fixtures.CLASSES, width))
    nets.without_dropout(net)
    net.double()
    fixtures.fill(net)
    for module in net.modules():
        if hasattr(module, "inplace"):
            module.inplace = False
    return (DenseNet(net) if model.startswith("densenet") else net).eval()


def cam(method, net, layer, x, labels, stride):
    with method(net, [net.get_submodule(layer)]) as explain:
        maps = explain(x, [ClassifierOutputTarget(label) for label in labels])
    # Not those of a class that nothing speaks for, and of one that only rounding does.
    return [numbers(m[::stride, ::stride]) if m.max() > 0.999 and m.std() > 0.05 else None for m in maps]


# ---- the twin of rng::Stream ----


def mix(key, counter):
    z = (key + (counter + 1) * fixtures.GOLDEN) & fixtures.MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & fixtures.MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & fixtures.MASK
    return z ^ (z >> 31)


def normals(parts, count):
    key = 0x5DEECE66D1CE4E5B
    for part in parts:
        key = mix(key, part)
    u = np.array([mix(key, i) >> 11 for i in range(2 * count)], np.float64) / 2.0**53
    return np.sqrt(-2 * np.log(1 - u[0::2])) * np.cos(2 * math.pi * u[1::2])


def gradient(net, x, label):
    x = x.clone().requires_grad_(True)
    net(x)[0, label].backward()
    return x.grad[0].permute(1, 2, 0).numpy()


def smoothgrad(net, x, label, samples, noise, seed, stride):
    deviation = noise * float(x.max() - x.min())
    nhwc = x[0].permute(1, 2, 0)
    total = np.zeros(tuple(nhwc.shape))
    for sample in range(samples):
        drawn = normals([seed, sample], nhwc.numel()).reshape(nhwc.shape)
        noisy = nhwc.numpy() + deviation * drawn
        total += gradient(net, torch.from_numpy(noisy.transpose(2, 0, 1).copy())[None], label)
    sizes = np.abs(total / samples).sum(-1)
    low, high = sizes.min(), np.percentile(sizes, 99)
    return numbers(np.clip((sizes - low) / (high - low), 0, 1)[::stride, ::stride])


def numbers(array):
    return [float(f"{value:.5f}") for value in np.asarray(array, np.float64).ravel()]


def network(name):
    model, width, side, layers = NETWORKS[name]
    net = build(model, width)
    x = normalised(image(side))
    with torch.no_grad():
        logits = net(x)[0]
    cams = []
    for layer in (DEFAULT[name], *layers):
        found = []
        for label in range(fixtures.CLASSES):
            both = [cam(method, net, layer, x, [label], STRIDE)[0] for method in (GradCAM, GradCAMPlusPlus)]
            if all(both):
                entry = {"layer": layer, "default": layer == DEFAULT[name], "class": label}
                found.append(entry | {"grad-cam": both[0], "grad-cam++": both[1]})
        print(f"{name} {layer}: classes with a map {[entry['class'] for entry in found]}", flush=True)
        cams += found[:2]
    smooth = [
        {
            "class": LABEL,
            "samples": samples,
            "noise": noise,
            "seed": 3,
            "map": smoothgrad(net, x, LABEL, samples, noise, 3, STRIDE),
        }
        for samples, noise in ((1, 0.0), (SAMPLES, 0.15))
    ]
    return {
        "model": model,
        "width": width,
        "side": side,
        "classes": fixtures.CLASSES,
        "first_bytes": image(side).ravel()[-6:].tolist(),
        "logits": [float(f"{value:.7g}") for value in logits.tolist()],
        "cams": cams,
        "smoothgrad": smooth,
    }


def real(material):
    from safetensors.numpy import load_file

    images = load_file(material / "reference/mobilenet_v2.safetensors")["image_u8_nhwc"]
    weights = load_file(material / "weights/mobilenet_v2.safetensors")
    net = nets.build("mobilenet_v2", 1000)
    state = {name: torch.from_numpy(np.array(tensor)) for name, tensor in weights.items()}
    net.load_state_dict(state)
    net.double().eval()
    x = normalised(images)
    with torch.no_grad():
        labels = net(x).argmax(1).tolist()
    layer = "features.18"
    return {
        "labels": labels,
        "grad-cam": cam(GradCAM, net, layer, x, labels, REAL_STRIDE),
        "grad-cam++": cam(GradCAMPlusPlus, net, layer, x, labels, REAL_STRIDE),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    root = pathlib.Path(__file__).resolve().parent.parent
    parser.add_argument("--out", type=pathlib.Path, default=root / "tests/fixtures/explain.json")
    parser.add_argument("--material", type=pathlib.Path, help="real weights and images")
    options = parser.parse_args()
    document = {"stride": STRIDE, "real_stride": REAL_STRIDE, "networks": {}}
    for name in NETWORKS:
        document["networks"][name] = network(name)
    if options.material:
        document["real"] = real(options.material)
    elif options.out.exists():
        document["real"] = json.loads(options.out.read_text()).get("real")
    text = json.dumps(document, indent=1)
    # One list of numbers a line.
    text = re.sub(r"\[[^\[\]{}\"]*\]", lambda m: re.sub(r"\s+", " ", m.group()), text)
    options.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
