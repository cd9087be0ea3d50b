#!/usr/bin/env python3
"""Does PyTorch accept a checkpoint that Defrost wrote, and compute the same with it?

    tools/check_export.py RUN_OR_FILE [--model resnet18] [--dialect torchvision|timm]
                          [--logits expected.safetensors]

Loads the safetensors file (or `model.safetensors` in a run folder) with strict=True into
torchvision's or timm's network: every tensor must be there under its name and in its shape, and
none beyond. `expected.safetensors` holds `image_f32` [N, H, W, 3] (after preprocessing) and
`logits` [N, classes] as Defrost computed them; the largest difference, over the range of the
logits, may be 1e-3. Exit code 0 equal, 1 not, 2 wrong usage. Needs torch, torchvision, safetensors,
and timm for its dialect.
"""

import argparse
import json
import pathlib
import sys

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

import nets

TOLERANCE = 1e-3
WIDTHS = (1.0, 0.35, 0.5, 0.75, 1.3, 1.4)  # MobileNetV2's published multipliers
HEADS = {
    "torchvision": (
        "fc.weight", "classifier.weight", "classifier.1.weight", "classifier.3.weight", "classifier.6.weight",
        "last_linear.weight",
    ),
    "timm": ("fc.weight", "classifier.weight", "head.fc.weight"),
}


def fail(message):
    print(f"check_export: {message}", file=sys.stderr)
    sys.exit(1)


def find(value, key):
    """The value of `key` anywhere in nested JSON objects, or None."""
    if not isinstance(value, dict):
        return None
    if key in value:
        return value[key]
    return next((v for v in (find(v, key) for v in value.values()) if v is not None), None)


def read(path):
    """Tensors, and the metadata with the JSON under `defrost` opened."""
    with safe_open(path, "pt") as file:
        metadata = dict(file.metadata() or {})
    if "defrost" in metadata:
        metadata["defrost"] = json.loads(metadata["defrost"])
    return load_file(path), metadata


def head_size(tensors, dialect, metadata):
    classes = find(metadata, "classes")
    if isinstance(classes, list):
        return len(classes)
    for name in HEADS[dialect]:
        if name in tensors:
            return tensors[name].shape[0]
    fail(f"no head in the file: none of {', '.join(HEADS[dialect])} ({dialect} names)")


def timm_net(model, classes, width, same):
    import timm

    padding = {"pad_type": "same"} if same else {}
    if model.startswith("mobilenet_v2"):
        name = f"mobilenetv2_{round(width * 100):03}"
        if name in timm.list_models():
            return timm.create_model(name, num_classes=classes, **padding)
        raise ValueError(f"timm has no {name}")
    if model not in timm.list_models() or same:
        raise ValueError(f"timm has no {model}{' with SAME padding' if same else ''}")
    return timm.create_model(model, num_classes=classes)


def build(model, dialect, classes, width, same):
    if dialect == "timm":
        return timm_net(model, classes, width, same)
    return nets.build(model, classes, width, same)


def width_of(tensors, model, dialect, classes):
    """MobileNetV2's width multiplier, from the shapes: the first whose network they fit."""
    for width in WIDTHS:
        try:
            with torch.device("meta"):
                expected = build(model, dialect, classes, width, False).state_dict()
        except ValueError:
            continue
        if all(tensors[n].shape == t.shape for n, t in expected.items() if n in tensors):
            return width
    return 1.0  # strict loading will name what does not fit


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("checkpoint", type=pathlib.Path, metavar="RUN_OR_FILE")
    parser.add_argument("--model", help="the default is what the file says")
    parser.add_argument("--dialect", choices=HEADS, default="torchvision")
    parser.add_argument("--logits", type=pathlib.Path, metavar="FILE")
    args = parser.parse_args()

    path = args.checkpoint
    if path.is_dir():
        path = path / "model.safetensors"
    try:
        tensors, metadata = read(path)
    except (OSError, SafetensorError, ValueError) as error:
        fail(f"{path}: {error}")
    model = args.model or find(metadata, "model")
    # Since version 2 of the description.
    model = model["name"] if isinstance(model, dict) else model
    if not model:
        parser.error("the file does not say which model it is: give --model")
    same = "same" in str(find(metadata, "padding") or "").lower()
    classes = head_size(tensors, args.dialect, metadata)
    width = find(metadata, "width")
    if width is None:
        width = width_of(tensors, model, args.dialect, classes) if model.startswith("mobilenet_v2") else 1.0
    try:
        if args.dialect == "timm" and (path.parent / "config.json").exists():
            # As a user of timm would: architecture, padding and constants are what config.json says.
            import timm

            net = timm.create_model(f"local-dir:{path.parent}", pretrained=True)
        else:
            net = build(model, args.dialect, classes, width, same)
        net.load_state_dict(tensors, strict=True)
    except (ValueError, RuntimeError) as error:
        fail(f"{path}: {error}")
    variant = f"{', width ' + format(width, 'g') if width != 1 else ''}{', SAME padding' if same else ''}"
    print(f"{path}: {len(tensors)} tensors, {classes} classes, loads strictly into {args.dialect} {model}{variant}")
    if metadata.get("format") != "pt":
        fail(f'metadata "format" is {metadata.get("format")!r}, not "pt": transformers and timm ask for it')

    if args.logits:
        expected = load_file(args.logits)
        missing = {"image_f32", "logits"} - set(expected)
        if missing:
            fail(f"{args.logits}: no tensor {', '.join(sorted(missing))}")
        with torch.no_grad():
            logits = net.eval()(expected["image_f32"].permute(0, 3, 1, 2).contiguous())
        theirs = expected["logits"].float()
        if theirs.shape != logits.shape:
            fail(f"logits {list(theirs.shape)}, but PyTorch computes {list(logits.shape)}")
        error = ((logits - theirs).abs().max() / (logits.max() - logits.min())).item()
        print(f"logits: largest difference {error:.2e} of their range (at most {TOLERANCE:g})")
        if not error <= TOLERANCE:  # a NaN is not equal either
            fail("the logits differ")


if __name__ == "__main__":
    main()
