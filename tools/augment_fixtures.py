"""Writes tests/fixtures/augment.json: what torchvision makes of a small image, one change at a time.

Run from the repository root with torch, torchvision and numpy installed:
    python tools/augment_fixtures.py

Images are floats on a scale of 0 to 1, so that torchvision does not round to bytes; posterize, equalize and the bytes that
tests/training/augment.rs starts from are the exceptions.
"""

import json
import pathlib

import numpy as np
import torch
import torchvision
from torchvision.transforms import functional as F
from torchvision.transforms import v2

OUT = pathlib.Path("tests/fixtures/augment.json")
SIDE = 9


def formula(n=0):
    """The image that tests/training/augment.rs computes too: no symmetry, all levels."""
    y, x, c = np.ogrid[:SIDE, :SIDE, :3]
    return ((x * x * 3 + y * y * 5 + x * y * 7 * (c + 1) + c * 160 + n * 77) // 4 % 256).astype(np.uint8)


def dark():
    """The larger image of tests/training/augment.rs."""
    y, x, c = np.ogrid[:32, :32, :3]
    return ((x * x * 3 + y * y * 5 + x * y * (c + 1)) // 23 % (90 + 40 * c)).astype(np.uint8)


def mirrored(angle):
    """A rotation whose surroundings are the image's mirror image, by way of a larger image."""
    def rotate(image):
        flips = [[image.flip(1, 2), image.flip(1), image.flip(1, 2)], [image.flip(2), image, image.flip(2)]]
        tall = torch.cat([torch.cat(flips[i], 2) for i in (0, 1, 0)], 1)
        turned = F.rotate(tall, angle, F.InterpolationMode.BILINEAR)
        return turned[:, SIDE:2 * SIDE, SIDE:2 * SIDE]
    return rotate


def main():
    bilinear = F.InterpolationMode.BILINEAR
    cases = [(f"rotate {a}", lambda i, a=a: F.rotate(i, a, bilinear)) for a in (30, -77, 90)]
    cases += [("rotate mirrored 25", mirrored(25)), ("hflip", F.hflip), ("vflip", F.vflip)]
    cases += [(f"brightness {f}", lambda i, f=f: F.adjust_brightness(i, f)) for f in (0.4, 1.7)]
    cases += [(f"contrast {f}", lambda i, f=f: F.adjust_contrast(i, f)) for f in (0.3, 1.9)]
    cases += [(f"saturation {f}", lambda i, f=f: F.adjust_saturation(i, f)) for f in (0.0, 0.5, 1.8)]
    cases += [(f"hue {t}", lambda i, t=t: F.adjust_hue(i, t)) for t in (0.1, -0.3, 0.5)]
    cases += [(f"hue and grey {t}", lambda i, t=t: F.rgb_to_grayscale(F.adjust_hue(i, t), 3)) for t in (0.2,)]
    cases += [(f"blur {s}", lambda i, s=s: F.gaussian_blur(i, [7, 7], [s, s])) for s in (0.4, 1.5)]
    cases += [(f"sharpness {f}", lambda i, f=f: F.adjust_sharpness(i, f)) for f in (0.1, 1.9)]
    cases += [(f"solarize {t}", lambda i, t=t: F.solarize(i, t / 255)) for t in (100, 0)]
    cases += [(f"posterize {b}", lambda i, b=b: F.posterize((i * 255).round().to(torch.uint8), b) / 255) for b in (5, 2)]
    cases += [("autocontrast", F.autocontrast)]
    cases += [("equalize", lambda _: F.equalize(torch.tensor(dark()).permute(2, 0, 1)) / 255)]
    # The formulae of mixing are torchvision's too; the draws are given.
    batch = torch.stack([torch.tensor(formula(n)).permute(2, 0, 1) / 255 for n in range(3)])
    mixup = batch.roll(1, 0) * (1 - 0.3) + batch * 0.3
    cutmix = batch.clone()
    cutmix[..., 2:9, 4:7] = batch.roll(1, 0)[..., 2:9, 4:7]
    image = batch[0]
    numbers = lambda t: [round(float(v) * 255, 2) for v in t.permute(1, 2, 0).flatten()]
    fixture = {
        "made_by": f"torchvision {torchvision.__version__}",
        "side": SIDE,
        "cases": {name: numbers(change(image.double() if name[:3] == "hue" else image)) for name, change in cases},
        "mixup 0.3": [numbers(i) for i in mixup],
        "cutmix 4 2 7 9": [numbers(i) for i in cutmix],
        "erase 3 1 8 8": numbers(v2.functional.erase(image, 1, 3, 7, 5, torch.zeros(3, 1, 1))),
    }
    OUT.write_text(json.dumps(fixture, separators=(",", ":")).replace('],"', '],\n"') + "\n")
    print(OUT, OUT.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
