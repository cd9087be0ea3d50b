"""Writes tests/fixtures/data/forms: JPEG, PNG and TIFF files in the forms that people have, all drawn here, and what
Pillow makes of them.

Run from the repository root with Pillow (with libtiff), numpy, tifffile, imagecodecs, and the programs cjpeg and
jpegtran of libjpeg-turbo and tiffcp of libtiff:
    python tools/image_fixtures.py
"""

import hashlib
import io
import json
import pathlib
import shutil
import struct
import subprocess
import tempfile
import zlib

import imagecodecs
import numpy as np
import PIL
import tifffile
from PIL import Image, ImageOps

OUT = pathlib.Path("tests/fixtures/data/forms")
WORK = pathlib.Path(tempfile.mkdtemp())


def drawing(width=37, height=29):
    """A gradient and two rectangles."""
    y, x = np.mgrid[:height, :width]
    image = np.stack([x * 255 // (width - 1), y * 255 // (height - 1), (x * 3 + y * 5) % 256], -1).astype(np.uint8)
    image[height // 5:height // 2, width // 6:width // 2] = [220, 40, 30]
    image[height // 2:height - 4, width // 2:width - 5] = [20, 60, 200]
    return image


RGB = drawing()
GREY = RGB[..., 1] // 2 + RGB[..., 0] // 2
DOTS = np.asarray(Image.fromarray(GREY).convert("1")).astype(np.uint8)
ALPHA = drawing(37, 29)[..., 2]
DEEP = RGB.astype(np.uint16) * 251 + 77


def run(*command, data=None):
    done = subprocess.run([str(word) for word in command], input=data, capture_output=True)
    assert done.returncode == 0, (command, done.stderr)
    return done.stdout


def saved(image, **options):
    buffer = io.BytesIO()
    image.save(buffer, **options)
    return buffer.getvalue()


# ------------------------------------------------------------------------------------------------------------- JPEG

def cjpeg(*options, image=RGB, scans=None):
    if scans:
        (WORK / "scans").write_text(scans)
        options = (*options, "-scans", WORK / "scans")
    return run("cjpeg", "-quality", 92, *options, data=saved(Image.fromarray(image), format="PPM"))


def with_segments(jpeg, *segments):
    """Segments (code, content) behind the start marker."""
    own = b"".join(struct.pack(">BBH", 255, code, len(content) + 2) + content for code, content in segments)
    return jpeg[:2] + own + jpeg[2:]


def without(jpeg, code):
    at = jpeg.index(bytes([0xFF, code]))
    return jpeg[:at] + jpeg[at + 2 + struct.unpack(">H", jpeg[at + 2:at + 4])[0]:]


def exif(orientation, kind="H", order="<", count=1):
    """EXIF data with an orientation of a type (a struct letter, or "R" for a fraction)."""
    types = {"B": 1, "H": 3, "L": 4, "b": 6, "h": 8, "l": 9, "f": 11, "d": 12, "R": 5, "Q": 16}
    pack = lambda letters, *values: struct.pack(order + letters, *values)
    values = pack("2L", orientation * 3, 3) if kind == "R" else pack(kind, orientation) * count
    head = (b"II*\0" if order == "<" else b"MM\0*") + pack("L", 8) + pack("H", 1)
    entry = pack("HHL", 0x0112, types[kind], count)
    data = values.ljust(4, b"\0") if len(values) <= 4 else pack("L", 8 + 2 + 12 + 4) + b"\0" * 4 + values
    if len(values) <= 4:
        data += b"\0" * 4
    return b"Exif\0\0" + head + entry + data


def xmp(orientation, element=False):
    name = "tiff:Orientation"
    text = f"<{name}>{orientation}</{name}>" if element else f'<rdf:Description {name}="{orientation}"/>'
    return b"http://ns.adobe.com/xap/1.0/\0" + f"<x:xmpmeta>{text}</x:xmpmeta>".encode()


def jpegs():
    for name, factors in {
        "444": "1x1,1x1,1x1", "422": "2x1,1x1,1x1", "440": "1x2,1x1,1x1", "420": "2x2,1x1,1x1", "411": "4x1,1x1,1x1",
        "441": "1x4,1x1,1x1", "410": "4x2,1x1,1x1", "24": "2x4,1x1,1x1", "3x1": "3x1,1x1,1x1", "1x3": "1x3,1x1,1x1",
        "cb2x1": "2x2,2x1,1x1", "cr1x2": "2x2,1x1,1x2", "422_wide": "2x2,1x2,1x2",
    }.items():
        yield f"sampled_{name}.jpg", cjpeg("-sample", factors)
    for name in ["444", "422", "420", "411"]:
        factors = {"444": "1x1", "422": "2x1", "420": "2x2", "411": "4x1"}[name]
        yield f"progressive_{name}.jpg", cjpeg("-sample", factors, "-progressive")
        yield f"arithmetic_{name}.jpg", cjpeg("-sample", factors, "-arithmetic")
        yield f"scans_3_{name}.jpg", cjpeg("-sample", factors, scans="0;1;2;")
        yield f"scans_y_cbcr_{name}.jpg", cjpeg("-sample", factors, scans="0;1 2;")
        yield f"scans_ycb_cr_{name}.jpg", cjpeg("-sample", factors, scans="0 1;2;")
    yield "scans_all2x2.jpg", cjpeg("-sample", "2x2,2x2,2x2", scans="0;1;2;")
    yield "scans_reordered.jpg", cjpeg("-sample", "2x2", scans="2;0 1;")
    yield "scans_restart.jpg", cjpeg("-sample", "2x1", "-restart", "3B", scans="0 2;1;")
    yield "scans_arithmetic.jpg", cjpeg("-sample", "2x2", "-arithmetic", scans="0;1 2;")
    yield "arithmetic_progressive.jpg", cjpeg("-sample", "2x2", "-arithmetic", "-progressive")
    yield "restart.jpg", cjpeg("-sample", "2x2", "-restart", "1B")
    yield "grey_sampled.jpg", cjpeg("-grayscale", "-sample", "2x2")
    yield "grey_progressive.jpg", cjpeg("-grayscale", "-progressive")
    yield "rgb.jpg", cjpeg("-rgb")
    yield "coarse.jpg", cjpeg("-quality", "3", "-sample", "2x2")
    yield "one_column.jpg", cjpeg("-sample", "2x2", image=RGB[:, 5:6])
    yield "one_row.jpg", cjpeg("-sample", "2x2", image=RGB[9:10])
    inks = Image.fromarray(np.concatenate([RGB, ALPHA[..., None] // 2], -1), "CMYK")
    cmyk = saved(inks, format="JPEG", quality=92)
    adobe = cmyk.index(b"Adobe")
    yield "cmyk.jpg", cmyk
    yield "cmyk_unmarked.jpg", without(cmyk, 0xEE)
    yield "cmyk_progressive.jpg", saved(inks, format="JPEG", quality=92, progressive=True)
    yield "ycck.jpg", cmyk[:adobe + 11] + b"\2" + cmyk[adobe + 12:]
    # Chroma for 2 x 2 pixels, luma and black for each, as Photoshop writes it; an edge that blocks do not end at.
    wide = np.pad(np.asarray(inks), ((0, 0), (0, 1), (0, 0)), mode="edge")
    for name, image in {"ycck_420": np.asarray(inks), "ycck_420_even": wide}.items():
        yield f"{name}.jpg", imagecodecs.jpeg8_encode(image, level=92, colorspace="CMYK", outcolorspace="YCCK")
    plain = cjpeg("-sample", "2x2")
    yield "fill_bytes.jpg", plain[:2] + b"\xFF\xFF\xFF" + plain[2:]
    yield "bytes_behind.jpg", plain + b"\0\0behind the end"
    tables = without(without(without(without(plain, 0xC4), 0xC4), 0xC4), 0xC4)
    yield "usual_tables.jpg", tables
    yield "adobe_rgb_unmarked.jpg", with_segments(without(cjpeg("-rgb"), 0xEE), (0xEE, b"Adobe\0\x64\0\0\0\0\0"))
    for name, segments in {
        "exif_long": [(0xE1, exif(6, "L"))], "exif_byte": [(0xE1, exif(6, "B"))], "exif_float": [(0xE1, exif(8, "f"))],
        "exif_double": [(0xE1, exif(3, "d"))], "exif_fraction": [(0xE1, exif(5, "R"))],
        "exif_signed": [(0xE1, exif(7, "h", ">"))], "exif_two_values": [(0xE1, exif(6, "H", ">", 2))],
        "exif_zero_and_xmp": [(0xE1, exif(0)), (0xE1, xmp(6))], "exif_and_xmp": [(0xE1, xmp(3)), (0xE1, exif(8))],
        "exif_twice": [(0xE1, exif(6)), (0xE1, exif(3))], "exif_doubled": [(0xE1, b"Exif\0\0" + exif(4))],
        "xmp_attribute": [(0xE1, xmp(8))], "xmp_element": [(0xE1, xmp(5, True))],
        "xmp_twice": [(0xE1, xmp(3)), (0xE1, xmp(6))],
    }.items():
        yield f"{name}.jpg", with_segments(cjpeg("-sample", "1x1", image=RGB[:20, :24]), *segments)
    yield "lossless.jpg", imagecodecs.ljpeg_encode(GREY) if hasattr(imagecodecs, "ljpeg_encode") else None


def refused_jpegs():
    deep = imagecodecs.jpeg_encode(DEEP[..., 1] >> 4, bitspersample=12, level=90)
    yield "bits12.jpg", deep, ["12 bits"]
    plain = cjpeg()
    yield "hierarchical.jpg", plain.replace(b"\xFF\xC0", b"\xFF\xC5"), ["hierarchical"]
    yield "components2.jpg", two_components(), ["2 components"]
    yield "jpeg_ls.jpg", imagecodecs.jpegls_encode(GREY), ["JPEG-LS"]
    at = plain.index(b"\xFF\xC0") + 5
    yield "no_height.jpg", plain[:at] + b"\0\0" + plain[at + 2:], ["DNL"]


def two_components():
    """A grey JPEG whose frame claims two components."""
    grey = cjpeg("-grayscale")
    at = grey.index(b"\xFF\xC0")
    length = struct.unpack(">H", grey[at + 2:at + 4])[0]
    frame = grey[at + 4:at + 2 + length]
    frame = frame[:5] + b"\2" + frame[6:] + b"\2\x11\0"
    return grey[:at + 2] + struct.pack(">H", len(frame) + 2) + frame + grey[at + 2 + length:]


# -------------------------------------------------------------------------------------------------------------- PNG

def interlaced(samples, color, depth):
    """A PNG in seven passes (Adam7) of samples [height, width, n]."""
    height, width = samples.shape[:2]
    data = b""
    for left, top, across, down in [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
                                    (0, 1, 1, 2)]:
        for row in samples[top::down, left::across]:
            if row.size and depth < 8:
                data += b"\0" + packed_bits(row.reshape(1, -1), depth)[0]
            elif row.size:
                data += b"\0" + row.astype(row.dtype.newbyteorder(">")).tobytes()
    chunk = lambda kind, content: struct.pack(">I", len(content)) + kind + content + \
        struct.pack(">I", zlib.crc32(kind + content))
    head = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 1)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def pngs():
    yield "interlaced.png", interlaced(RGB, 2, 8)
    yield "interlaced16.png", interlaced(np.concatenate([DEEP, DEEP[..., :1]], -1)[:19, :23], 6, 16)
    yield "interlaced_grey2.png", interlaced((GREY >> 6)[..., None], 0, 2)


# ------------------------------------------------------------------------------------------------------------- TIFF

PACK = {
    1: lambda b: b, 5: imagecodecs.lzw_encode, 8: imagecodecs.zlib_encode, 32946: imagecodecs.zlib_encode,
    32773: imagecodecs.packbits_encode, 50000: imagecodecs.zstd_encode,
}
FLIP = bytes(int(f"{i:08b}"[::-1], 2) for i in range(256))


def packed_bits(samples, bits):
    """Rows [rows, n] of samples of a few bits to bytes, each row from a byte's start."""
    rows = ((samples[..., None] >> np.arange(bits)[::-1]) & 1).reshape(len(samples), -1).astype(np.uint8)
    return [np.packbits(row).tobytes() for row in rows]


def tiff(image, photometric, bits=8, order="<", big=False, compression=1, planar=False, tile=None, rows=None,
         predictor=1, fill=1, extra=(), subsampling=None, tags=(), format=None, parts=None):
    """A TIFF of samples [height, width, n], written by hand so that every form is possible."""
    height, width = image.shape[:2]
    samples = image.reshape(height, width, -1)
    count = samples.shape[2]
    part_width, part_height = tile or (width, rows or height)
    data = []
    for plane in range(count) if planar else [slice(None)]:
        for top in range(0, height, part_height):
            for left in range(0, width, part_width):
                part = samples[top:top + part_height, left:left + part_width, plane]
                part = part.reshape(*part.shape[:2], -1)
                if tile:
                    part = np.pad(part, ((0, part_height - part.shape[0]), (0, part_width - part.shape[1]), (0, 0)))
                if subsampling and subsampling != (1, 1):
                    lines = [subsampled(part, *subsampling)]
                else:
                    if predictor == 2:
                        part = np.concatenate([part[:, :1], np.diff(part, axis=1)], 1)
                    flat = part.reshape(len(part), -1)
                    lines = packed_bits(flat, bits) if bits in (1, 2, 4, 12) else \
                        [flat.astype(flat.dtype.newbyteorder(order)).tobytes()]
                block = PACK[compression](b"".join(lines))
                data.append(block.translate(FLIP) if fill == 2 else block)
    if parts is not None:
        data = parts
    entries = {
        256: ("H", [width]), 257: ("L", [height]), 258: ("H", [bits] * count), 259: ("H", [compression]),
        262: ("H", [photometric]), 266: ("H", [fill]), 277: ("H", [count]), 284: ("H", [2 if planar else 1]),
    }
    names = (324, 325) if tile else (273, 279)
    if tile:
        entries.update({322: ("H", [tile[0]]), 323: ("H", [tile[1]])})
    else:
        entries[278] = ("L", [part_height])
    entries[names[1]] = ("L", [len(block) for block in data])
    if predictor != 1:
        entries[317] = ("H", [predictor])
    if extra:
        entries[338] = ("H", list(extra))
    if format:
        entries[339] = ("H", [format] * count)
    if subsampling:
        entries[530] = ("H", list(subsampling))
    entries.update(dict(tags))
    entries[names[0]] = ("Q" if big else "L", [0] * len(data))
    return assemble(entries, names[0], data, order, big)


def assemble(entries, offsets_tag, data, order, big):
    types = {"B": 1, "s": 2, "H": 3, "L": 4, "R": 5, "U": 7, "f": 11, "Q": 16}
    pack = lambda letters, *values: struct.pack(order + letters, *values)

    def values(kind, numbers):
        if kind in "sU":
            return bytes(numbers)
        if kind == "R":
            return b"".join(pack("2L", int(v * 10000), 10000) for v in numbers)
        return pack(f"{len(numbers)}{kind}", *numbers)

    word, inline = ("Q", 8) if big else ("L", 4)
    head = {"<": b"II", ">": b"MM"}[order]
    head += pack("HHHQ", 43, 8, 0, 16) if big else pack("HL", 42, 8)
    directory = (8 if big else 2) + len(entries) * (20 if big else 12) + (8 if big else 4)
    at = len(head) + directory
    blobs = {}
    for tag, (kind, numbers) in sorted(entries.items()):
        size = len(values(kind, numbers))
        if size > inline:
            blobs[tag] = at
            at += size + size % 2
    offsets = []
    for block in data:
        offsets.append(at)
        at += len(block) + len(block) % 2
    entries[offsets_tag] = (entries[offsets_tag][0], offsets)
    file = head + pack("Q" if big else "H", len(entries))
    for tag, (kind, numbers) in sorted(entries.items()):
        content = values(kind, numbers)
        count = len(numbers)
        field = pack(word, blobs[tag]) if tag in blobs else content.ljust(inline, b"\0")
        file += pack("HH" + word, tag, types[kind], count) + field
    file += pack(word, 0)
    for tag, (kind, numbers) in sorted(entries.items()):
        if tag in blobs:
            assert len(file) == blobs[tag]
            content = values(kind, numbers)
            file += content + b"\0" * (len(content) % 2)
    for block, offset in zip(data, offsets):
        assert len(file) == offset
        file += block + b"\0" * (len(block) % 2)
    return file


def ycbcr(image):
    return np.asarray(Image.fromarray(image).convert("YCbCr"))


def subsampled(part, across, down):
    """Blocks of luma, then Cb and Cr."""
    height, width = part.shape[:2]
    part = np.pad(part, ((0, -height % down), (0, -width % across), (0, 0)), mode="edge")
    blocks = part.reshape(len(part) // down, down, -1, across, 3).transpose(0, 2, 1, 3, 4)
    luma = blocks[..., 0].reshape(*blocks.shape[:2], -1)
    return np.concatenate([luma, blocks[..., 0, 0, 1:]], -1).astype(np.uint8).tobytes()


def fax(*options, image=DOTS):
    (WORK / "in.tif").write_bytes(tiff(image, 0, 1))
    run("tiffcp", *options, WORK / "in.tif", WORK / "out.tif")
    return (WORK / "out.tif").read_bytes()


def by_tifffile(image, **options):
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, image, metadata=None, **options)
    return buffer.getvalue()


def tiffs():
    small = lambda image: image[:20, :24]
    rgba = np.concatenate([RGB, ALPHA[..., None]], -1)
    premultiplied = np.concatenate([(RGB * (ALPHA[..., None] / 255)).astype(np.uint8), ALPHA[..., None]], -1)
    inks = np.concatenate([RGB, ALPHA[..., None] // 2], -1)
    colours = Image.fromarray(RGB).quantize(16)
    palette = np.asarray(colours)
    entries = np.array(colours.getpalette()[:48]).reshape(16, 3)

    def map_of(bits):
        full = np.zeros((1 << bits, 3), int)
        full[:min(16, 1 << bits)] = entries[:1 << bits]
        return {320: ("H", (full.T.ravel() * 257).tolist())}

    # Packing, byte order, strips and tiles.
    for name, compression in {"plain": 1, "lzw": 5, "deflate": 8, "deflate_old": 32946, "packbits": 32773,
                              "zstd": 50000}.items():
        yield f"rgb_{name}.tif", tiff(RGB, 2, compression=compression, rows=7)
        yield f"grey_{name}_planes.tif", tiff(rgba[..., :2], 1, compression=compression, planar=True, extra=[2], rows=11)
        yield f"rgb_{name}_planes.tif", tiff(RGB, 2, compression=compression, planar=True, rows=9, order=">")
        yield f"rgb_{name}_tiles.tif", tiff(RGB, 2, compression=compression, tile=(16, 16), big=compression == 8)
    yield "rgb_tiles_planes.tif", tiff(RGB, 2, compression=5, tile=(16, 32), planar=True)
    yield "one_row_strips.tif", tiff(RGB, 2, compression=5, rows=1)
    yield "big_little_endian.tif", tiff(RGB, 2, big=True, rows=10)
    # Pillow 13 does not know big-endian BigTIFF.
    yield "rgb_big_endian.tif", tiff(RGB, 2, order=">")
    # Differences.
    for name, options in {"lzw": dict(compression=5), "deflate": dict(compression=8), "zstd": dict(compression=50000),
                          "planes": dict(compression=5, planar=True), "tiles": dict(compression=8, tile=(16, 16)),
                          "16": dict(compression=5, bits=16), "16_big_endian": dict(compression=8, bits=16, order=">"),
                          }.items():
        image = DEEP if "16" in name else RGB
        yield f"differences_{name}.tif", tiff(image, 2, predictor=2, rows=8, **options)
    yield "differences_grey.tif", tiff(GREY, 1, predictor=2, compression=5)
    # Grey and dots.
    for bits in (1, 2, 4, 8):
        image = DOTS if bits == 1 else GREY >> (8 - bits)
        for photometric, name in ((0, "white_is_zero"), (1, "black_is_zero")):
            yield f"grey{bits}_{name}.tif", tiff(image, photometric, bits, compression=5)
            yield f"grey{bits}_{name}_low_bits.tif", tiff(image, photometric, bits, fill=2, rows=8)
    yield "grey12.tif", tiff(DEEP[..., 1] >> 4, 1, 12)
    yield "grey16.tif", tiff(DEEP[..., 1], 1, 16, rows=8)
    yield "grey16_big_endian.tif", tiff(DEEP[..., 1], 1, 16, order=">", compression=8)
    yield "grey_alpha.tif", tiff(rgba[..., :2], 1, extra=[2])
    yield "grey_unnamed.tif", tiff(rgba[..., :2], 1, extra=[0], compression=5)
    # Colours.
    for bits in (1, 2, 4, 8):
        yield f"palette{bits}.tif", tiff(palette >> (4 - min(bits, 4)), 3, bits, compression=32773, tags=map_of(bits).items())
    yield "palette_tiles.tif", tiff(palette, 3, 4, tile=(16, 16), tags=map_of(4).items())
    yield "palette_alpha.tif", tiff(np.stack([palette, ALPHA], -1), 3, extra=[2], tags=map_of(8).items())
    yield "palette_low_bits.tif", tiff(palette, 3, 4, fill=2, tags=map_of(4).items())
    yield "rgba.tif", tiff(rgba, 2, extra=[2], compression=5)
    yield "rgba_unnamed.tif", tiff(small(rgba), 2, extra=[0])
    yield "rgba_untold.tif", tiff(small(rgba), 2)
    yield "rgb_5_samples.tif", tiff(small(np.concatenate([rgba, ALPHA[..., None]], -1)), 2, extra=[0, 0])
    yield "premultiplied.tif", tiff(premultiplied, 2, extra=[1])
    yield "premultiplied_lzw.tif", tiff(premultiplied, 2, extra=[1], compression=5, rows=6)
    yield "premultiplied_planes.tif", tiff(premultiplied, 2, extra=[1], compression=5, planar=True)
    yield "premultiplied16.tif", tiff(small(premultiplied).astype(np.uint16) * 257, 2, 16, extra=[1], order=">")
    yield "rgb16.tif", tiff(small(DEEP), 2, 16, rows=5)
    yield "rgb16_big_endian_lzw.tif", tiff(DEEP, 2, 16, order=">", compression=5)
    yield "rgb16_planes.tif", tiff(DEEP, 2, 16, compression=8, planar=True)
    yield "rgba16.tif", tiff(np.concatenate([DEEP, DEEP[..., :1]], -1), 2, 16, extra=[2], compression=8)
    yield "cmyk.tif", tiff(inks, 5, compression=5)
    yield "cmyk_planes.tif", tiff(inks, 5, compression=5, planar=True)
    yield "cmyk16.tif", tiff(small(inks).astype(np.uint16) * 257, 5, 16)
    yield "cmyk_5_samples.tif", tiff(small(np.concatenate([inks, ALPHA[..., None]], -1)), 5, extra=[0])
    yield "ycbcr_plain.tif", tiff(ycbcr(RGB), 6, subsampling=(1, 1))
    yield "ycbcr_untold.tif", tiff(ycbcr(RGB), 6)
    for across, down in [(1, 1), (1, 2), (2, 1), (2, 2), (4, 1), (4, 2), (4, 4)]:
        yield f"ycbcr_{across}{down}.tif", tiff(ycbcr(RGB), 6, subsampling=(across, down), compression=5, rows=16)
    yield "ycbcr_22_tiles.tif", tiff(ycbcr(RGB), 6, subsampling=(2, 2), compression=8, tile=(16, 16))
    yield "ycbcr_levels.tif", tiff(ycbcr(RGB), 6, subsampling=(2, 2), compression=5, tags={
        529: ("R", [0.2126, 0.7152, 0.0722]), 532: ("R", [16, 235, 128, 240, 128, 240])}.items())
    # Fax.
    for name, options in {"runs": ["-c", "none"], "g3": ["-c", "g3"], "g3_2d": ["-c", "g3:2d"], "g3_fill": ["-c", "g3:fill"],
                          "g4": ["-c", "g4"], "g4_strips": ["-c", "g4", "-r", "5"],
                          "g4_low_bits": ["-c", "g4", "-f", "lsb2msb"], "g3_low_bits": ["-c", "g3", "-f", "lsb2msb"]}.items():
        yield f"fax_{name}.tif", saved(Image.fromarray(DOTS * 255).convert("1"), format="TIFF",
                                       compression="tiff_ccitt") if name == "runs" else fax(*options)
    wide = np.zeros((9, 3000), np.uint8)
    wide[2:7, 40:2900] = 1
    wide[4, ::2] ^= 1
    yield "fax_wide.tif", fax("-c", "g4", image=wide)
    yield "fax_wide_g3.tif", fax("-c", "g3:2d", image=wide)
    # JPEG within TIFF.
    for name, options in {"ycbcr": dict(photometric="ycbcr", subsampling=(2, 2)), "ycbcr_444": dict(photometric="ycbcr"),
                          "rgb": dict(photometric="rgb")}.items():
        yield f"jpeg_{name}.tif", by_tifffile(RGB, compression="jpeg", rowsperstrip=16, **options)
    yield "jpeg_tiles.tif", by_tifffile(RGB, compression="jpeg", photometric="ycbcr", subsampling=(2, 1), tile=(16, 16))
    yield "jpeg_grey.tif", by_tifffile(GREY, compression="jpeg", rowsperstrip=8)
    yield "jpeg_tables.tif", saved(Image.fromarray(RGB), format="TIFF", compression="jpeg")
    yield "jpeg_white_is_zero.tif", by_tifffile(GREY, compression="jpeg", photometric="miniswhite")
    yield "jpeg_cmyk.tif", saved(Image.fromarray(inks, "CMYK"), format="TIFF", compression="jpeg")
    # Orientation.
    for orientation in (2, 5, 6, 7):
        yield f"turned{orientation}.tif", tiff(RGB, 2, tags={274: ("H", [orientation])}.items(), rows=5)
    yield "turned_long.tif", tiff(RGB, 2, tags={274: ("L", [8])}.items(), compression=5)
    yield "turned_xmp.tif", tiff(RGB, 2, tags={700: ("B", list(xmp(6)[29:]))}.items())
    # Other pages come behind the first.
    pages = [Image.fromarray(RGB), Image.fromarray(GREY)]
    yield "two_pages.tif", saved(pages[0], format="TIFF", save_all=True, append_images=pages[1:], compression="tiff_lzw")


def refused_tiffs():
    floats = (GREY[:20, :24] / 255).astype(np.float32)
    yield "float.tif", tiff(floats, 1, 32, format=3), ["floating-point"]
    yield "float_predictor.tif", by_tifffile(floats, compression="deflate", predictor=3), ["floating-point"]
    yield "integer32.tif", tiff(GREY[:20, :24].astype(np.uint32) << 16, 1, 32), ["32-bit"]
    yield "signed16.tif", tiff(GREY.astype(np.int16), 1, 16, format=2), ["sign"]
    yield "lab.tif", tiff(RGB, 8), ["L*a*b*"]
    yield "old_jpeg.tif", tiff(RGB, 6, parts=[cjpeg()], tags={259: ("H", [6])}.items()), ["JPEG data of the old kind"]
    yield "lzma.tif", by_tifffile(RGB, compression="lzma"), ["LZMA"]
    yield "webp.tif", by_tifffile(RGB, compression="webp"), ["WebP"]
    yield "jpeg2000.tif", by_tifffile(RGB, compression="jpeg2000"), ["JPEG 2000"]
    yield "jpegxl.tif", by_tifffile(RGB, compression="jpegxl"), ["JPEG XL"]
    yield "lerc.tif", by_tifffile(RGB, compression="lerc"), ["LERC"]
    yield "dng.tif", tiff(RGB, 2, tags={50706: ("B", [1, 4, 0, 0])}.items()), ["raw file"]
    yield "cfa.tif", tiff(GREY, 32803), ["raw file"]
    yield "uneven_bits.tif", tiff(RGB, 2, tags={258: ("H", [5, 6, 5])}.items()), ["different numbers of bits"]
    yield "many_samples.tif", tiff(np.concatenate([RGB[:5, :6]] * 4, -1), 2), ["12 samples"]
    yield "mask.tif", tiff(DOTS, 4, 1), ["mask"]
    yield "bits10.tif", tiff(GREY.astype(np.uint16), 1, 16, tags={258: ("H", [10])}.items()), ["10 bits"]
    old = bytearray(PACK[5](RGB.tobytes()))
    old[0:2] = b"\0\1"
    yield "old_lzw.tif", tiff(RGB, 2, parts=[bytes(old)], tags={259: ("H", [5])}.items()), ["LZW data of the old kind"]
    yield "no_offsets.tif", tiff(RGB, 2).replace(struct.pack("<H", 273), struct.pack("<H", 1273)), ["where its pixels lie"]
    yield "beyond.tif", tiff(RGB, 2, tags={257: ("L", [4000])}.items()), ["parts are missing"]
    yield "predictor_bits.tif", tiff(GREY >> 4, 1, 4, compression=5, tags={317: ("H", [2])}.items()), ["predictor 2"]


# --------------------------------------------------------------------------------------------------------- expected

# Forms that are right where Pillow is not: what is meant, instead of what Pillow makes of it.
MEANT = {
    "grey12.tif": np.repeat((DEEP[..., 1] >> 8).astype(np.uint8)[..., None], 3, -1),
    "grey16.tif": np.repeat((DEEP[..., 1] >> 8).astype(np.uint8)[..., None], 3, -1),
    "grey16_big_endian.tif": np.repeat((DEEP[..., 1] >> 8).astype(np.uint8)[..., None], 3, -1),
}


def expected(name, content):
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
    array = MEANT.get(name)
    array = np.asarray(image.convert("RGB")) if array is None else array
    digest = hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
    return {"file": name, "size": [array.shape[1], array.shape[0]], "sha256": digest}


if __name__ == "__main__":
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    cases = []
    for name, content in [*jpegs(), *pngs(), *tiffs()]:
        if content is None:
            continue
        (OUT / name).write_bytes(content)
        try:
            cases.append(expected(name, content))
        except Exception as error:  # Pillow refuses: to be looked at
            print(f"Pillow refuses {name}: {type(error).__name__}: {error}")
            (OUT / name).unlink()
    for name, content, words in [*refused_jpegs(), *refused_tiffs()]:
        (OUT / name).write_bytes(content)
        cases.append({"file": name, "refused": words})
    lines = ",\n".join(json.dumps(case) for case in cases)
    made = f"Pillow {PIL.__version__}, libtiff {PIL.features.version('libtiff')}"
    (OUT / "expected.json").write_text(f'{{"made_with": "{made}",\n"forms": [\n{lines}\n]}}\n')
    shutil.rmtree(WORK)
    print(len(cases), "forms,", sum(f.stat().st_size for f in OUT.iterdir()) // 1024, "KiB")
