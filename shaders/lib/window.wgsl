// Geometry of a window that slides over NHWC pixels, and iteration over the pixels of a batch.

override KERNEL_H: u32 = 3u;
override KERNEL_W: u32 = 3u;
override STRIDE_H: u32 = 1u;
override STRIDE_W: u32 = 1u;
override DILATION_H: u32 = 1u;
override DILATION_W: u32 = 1u;
// Whether pixels are ordered by position, the images of a batch fastest, and not image by image. On small maps the
// pixels of a tile then lie in the padding together, and their products are skipped.
override BY_PLACE: bool = false;

struct Params {
    batch: u32,
    in_height: u32,
    in_width: u32,
    in_channels: u32,
    out_height: u32,
    out_width: u32,
    out_channels: u32,
    pad_top: u32,
    pad_left: u32,
    groups: u32,
    split_rows: u32, // grad_weight: output pixels of one split
    splits: u32,
}

@group(0) @binding(0) var<uniform> params: Params;

// A pixel of a batch: image, row, column. Moving to the next pixel needs no division.
struct Pixel {
    n: u32,
    h: u32,
    w: u32,
}

fn pixel(i: u32, height: u32, width: u32) -> Pixel {
    if BY_PLACE {
        let place = i / params.batch;
        return Pixel(i % params.batch, place / width, place % width);
    }
    let row = i / width;
    return Pixel(row / height, row % height, i % width);
}

fn next(p: Pixel, height: u32, width: u32) -> Pixel {
    if BY_PLACE {
        let wrap_n = p.n + 1u == params.batch;
        let w = p.w + select(0u, 1u, wrap_n);
        let wrap_w = w == width;
        return Pixel(select(p.n + 1u, 0u, wrap_n), p.h + select(0u, 1u, wrap_w), select(w, 0u, wrap_w));
    }
    let wrap_w = p.w + 1u == width;
    let h = p.h + select(0u, 1u, wrap_w);
    let wrap_h = h == height;
    return Pixel(p.n + select(0u, 1u, wrap_h), select(h, 0u, wrap_h), select(p.w + 1u, 0u, wrap_w));
}

// Whether the position lies after the batch.
fn behind(p: Pixel, height: u32) -> bool {
    return select(p.n >= params.batch, p.h >= height, BY_PLACE);
}

// Index of a pixel of the batch, as it lies in memory.
fn index_of(p: Pixel, height: u32, width: u32) -> u32 {
    return (p.n * height + p.h) * width + p.w;
}

// Index of the input pixel under tap (kh, kw) of output pixel p, or -1 where it lies in the padding or p lies after
// the batch. Unsigned wrap-around makes 'below 0' 'above height'.
fn input_under(p: Pixel, kh: u32, kw: u32) -> i32 {
    let h = p.h * STRIDE_H + kh * DILATION_H - params.pad_top;
    let w = p.w * STRIDE_W + kw * DILATION_W - params.pad_left;
    let inside = p.n < params.batch && h < params.in_height && w < params.in_width;
    return select(-1, i32(index_of(Pixel(p.n, h, w), params.in_height, params.in_width)), inside);
}

// Index of the output pixel whose tap (kh, kw) lies over input pixel p, or -1.
fn output_over(p: Pixel, kh: u32, kw: u32) -> i32 {
    let h = p.h + params.pad_top - kh * DILATION_H;
    let w = p.w + params.pad_left - kw * DILATION_W;
    let oh = h / STRIDE_H;
    let ow = w / STRIDE_W;
    // A wrapped h or w is far above out_height * stride, so the comparison also catches 'below 0'.
    let inside = p.n < params.batch && oh < params.out_height && ow < params.out_width
        && oh * STRIDE_H == h && ow * STRIDE_W == w;
    return select(-1, i32(index_of(Pixel(p.n, oh, ow), params.out_height, params.out_width)), inside);
}
