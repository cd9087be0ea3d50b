"""Writes tests/fixtures/data: small images in many formats, and what Pillow and torchvision make of them.

Run from the repository root with Pillow, numpy, torch and torchvision installed:
    python tools/data_fixtures.py
"""

import hashlib
import io
import json
import pathlib
import struct
import zlib

import numpy as np
import PIL
from PIL import Image, ImageOps
import torchvision
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, RandomResizedCrop, Resize

OUT = pathlib.Path("tests/fixtures/data")
FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def formula(width, height):
    """The image that tests/data/main.rs computes too: smooth near the origin, aliasing elsewhere."""
    y, x, c = np.ogrid[:height, :width, :3]
    return ((x * x * 3 + y * y * 5 + x * y * 7 * (c + 1) + c * 160) // 4 % 256).astype(np.uint8)


def sha(array):
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:16]


def resizes():
    sizes = [
        (64, 48, 32, 24), (64, 48, 31, 17), (64, 48, 100, 75), (64, 48, 64, 20), (64, 48, 20, 48), (64, 48, 64, 48),
        (500, 375, 341, 256), (375, 500, 256, 341), (320, 213, 384, 256), (1, 1, 7, 5), (1, 9, 4, 3), (9, 1, 3, 4),
        (7, 5, 1, 1), (3, 2, 224, 150), (1000, 37, 11, 36), (37, 1000, 36, 11), (28, 28, 256, 256), (640, 427, 348, 232),
        # The vertical pass goes first where the height shrinks by more than twice as much: here, and not quite.
        (60, 60, 50, 39), (60, 60, 50, 40), (60, 60, 61, 59), (60, 60, 90, 100), (50, 160, 30, 100),
    ]
    for width, height, to_width, to_height in sizes:
        for name, kernel in FILTERS.items():
            image = Image.fromarray(formula(width, height)).resize((to_width, to_height), kernel)
            yield {"from": [width, height], "to": [to_width, to_height], "filter": name, "sha256": sha(image)}


def parts():
    """Crop, resize to a square: what RandomResizedCrop does once its part is drawn."""
    for width, height, part in [(200, 150, (0, 0, 200, 150)), (200, 150, (13, 27, 101, 90)), (40, 30, (39, 29, 1, 1)),
                                (90, 160, (10, 20, 48, 48)), (90, 160, (3, 100, 60, 48))]:
        for name, kernel in FILTERS.items():
            x, y, w, h = part
            image = Image.fromarray(formula(width, height)).crop((x, y, x + w, y + h)).resize((48, 48), kernel)
            yield {"from": [width, height], "part": part, "to": 48, "filter": name, "sha256": sha(image)}


def evals():
    for resize, crop, name in [(256, 224, "bilinear"), (232, 224, "bilinear"), (342, 299, "bicubic"), (32, 32, "bicubic"),
                               (33, 28, "bilinear"), (20, 32, "bilinear"), (21, 32, "bicubic")]:
        transform = Compose([Resize(resize, getattr(InterpolationMode, name.upper()), antialias=True), CenterCrop(crop)])
        for width, height in [(500, 375), (333, 500), (61, 47), (224, 224), (30, 301), (256, 257), (255, 233)]:
            image = transform(Image.fromarray(formula(width, height)))
            assert image.size == (crop, crop)
            yield {"from": [width, height], "resize": resize, "crop": crop, "filter": name, "sha256": sha(image)}


def fallbacks():
    """Images so long that no try of RandomResizedCrop can fit: (left, top, width, height)."""
    for width, height in [(10, 1000), (1000, 10), (7, 300), (301, 5), (1, 50)]:
        top, left, h, w = RandomResizedCrop.get_params(Image.new("RGB", (width, height)), (0.35, 1.0), (3 / 4, 4 / 3))
        yield {"from": [width, height], "part": [left, top, w, h]}


def png(array, colour_type):
    """A 16-bit PNG, which Pillow cannot write in colour."""
    chunk = lambda tag, data: struct.pack(">I", len(data)) + tag + data + struct.pack(">I", zlib.crc32(tag + data))
    height, width = array.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in array)
    header = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")


def save(image, format, **options):
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def exif(orientation):
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


def without_segment(jpeg, code):
    at = jpeg.index(bytes([0xFF, code]))
    return jpeg[:at] + jpeg[at + 2 + struct.unpack(">H", jpeg[at + 2:at + 4])[0]:]


def images():
    """(name, file, tolerance in levels)."""
    rgb = Image.fromarray(formula(13, 9))
    alpha = Image.fromarray(formula(13, 9)[..., 2].copy())
    rgba = rgb.copy()
    rgba.putalpha(alpha)
    grey = rgb.convert("L")
    grey_alpha = Image.merge("LA", (grey, alpha))
    palette = rgb.quantize(16)
    deep = formula(13, 9).astype(np.uint16) * 251 + 77
    deep_alpha = np.concatenate([deep, deep[..., :1]], -1)
    # For lossy formats a smooth image, so that a wrong conversion stands out from rounding.
    y, x = np.mgrid[:8, :16]
    smooth = Image.fromarray(np.stack([x * 15, y * 30, 255 - x * 7 - y * 15], -1).astype(np.uint8))
    inks = Image.fromarray(np.stack([x * 13, y * 28, 200 - x * 8, (x + y) * 5], -1).astype(np.uint8), "CMYK")
    cmyk = save(inks, "JPEG", quality=95)
    adobe = cmyk.index(b"Adobe")
    assert cmyk[adobe + 11] == 0
    ycck = cmyk[:adobe + 11] + b"\2" + cmyk[adobe + 12:]

    yield "grey.png", save(grey, "PNG"), 0
    yield "grey_alpha.png", save(grey_alpha, "PNG"), 0
    yield "rgb.png", save(rgb, "PNG"), 0
    yield "rgba.png", save(rgba, "PNG"), 0
    yield "palette.png", save(palette, "PNG"), 0
    yield "palette_transparent.png", save(palette, "PNG", transparency=3), 0
    yield "bilevel.png", save(grey.convert("1"), "PNG"), 0
    yield "rgb16.png", png(deep, 2), 0
    yield "rgba16.png", png(deep_alpha, 6), 0
    yield "grey_alpha16.png", png(deep[..., :2], 4), 0
    yield "grey16.png", png(deep[..., 0], 0), 0
    yield "rgb.bmp", save(rgb, "BMP"), 0
    yield "palette.bmp", save(palette, "BMP"), 0
    yield "rgb.ppm", save(rgb, "PPM"), 0
    yield "grey.pgm", save(grey, "PPM"), 0
    yield "rgb.tif", save(rgb, "TIFF"), 0
    yield "lzw.tiff", save(rgb, "TIFF", compression="tiff_lzw"), 0
    yield "grey.tif", save(grey, "TIFF", compression="tiff_adobe_deflate"), 0
    yield "turned.tif", save(rgb, "TIFF", tiffinfo={0x0112: 6}), 0
    yield "lossless.webp", save(rgb, "WEBP", lossless=True), 0
    yield "alpha.webp", save(rgba, "WEBP", lossless=True, exact=True), 0
    yield "turned.webp", save(rgb, "WEBP", lossless=True, exif=exif(8)), 0
    for orientation in range(1, 9):
        yield f"exif{orientation}.png", save(rgb, "PNG", exif=exif(orientation)), 0
    yield "rgb.jpg", save(smooth, "JPEG", quality=95, subsampling=0), 0
    yield "subsampled.jpg", save(smooth, "JPEG", quality=90), 0
    yield "progressive.jpg", save(smooth, "JPEG", quality=95, subsampling=0, progressive=True), 0
    yield "grey.jpg", save(smooth.convert("L"), "JPEG", quality=95), 0
    yield "turned.jpg", save(smooth, "JPEG", quality=95, subsampling=0, exif=exif(6)), 0
    yield "cmyk.jpg", cmyk, 0
    yield "cmyk_plain.jpg", without_segment(cmyk, 0xEE), 0
    yield "ycck.jpg", ycck, 0
    yield "lossy.webp", save(smooth, "WEBP", quality=90), 0


def images_expected():
    for name, content, tolerance in images():
        (OUT / name).write_bytes(content)
        image = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
        image.load()
        array = np.asarray(image.convert("RGB"))
        if name == "grey16.png":  # Pillow clips to white; meant is the high byte
            array = np.repeat(np.asarray(image)[..., None] >> 8, 3, -1).astype(np.uint8)
        expected = {"sha256": sha(array)} if tolerance == 0 else {"tolerance": tolerance, "rgb": array.tobytes().hex()}
        yield {"file": name, "size": [array.shape[1], array.shape[0]], **expected}


if __name__ == "__main__":
    OUT.mkdir(parents=True, exist_ok=True)
    document = {
        "made_with": f"Pillow {PIL.__version__}, torchvision {torchvision.__version__.split('+')[0]}",
        "resize": list(resizes()),
        "part": list(parts()),
        "eval": list(evals()),
        "fallback": list(fallbacks()),
        "pictures": list(images_expected()),
    }
    rows = ",\n".join(
        f"{json.dumps(key)}: " + (json.dumps(value) if isinstance(value, str) else
                                  "[\n" + ",\n".join(map(json.dumps, value)) + "]")
        for key, value in document.items())
    (OUT / "expected.json").write_text("{" + rows + "}\n")
