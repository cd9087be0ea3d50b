// Rows of NHWC pixels that a thread reads or writes side by side, in vec4 of channels.

// import lib/window.wgsl

// Output rows of a strip, 3 or 4: the number that leaves fewer rows of the last strip empty.
override LINES: u32 = 4u;

// Number of strips in an image.
fn strips() -> u32 { return (params.out_height + LINES - 1u) / LINES; }

// Where a row begins, counted in vec4, or -1 outside of an image of `height` rows; 'below 0' wraps around.
fn line(n: u32, row: u32, height: u32, width: u32) -> i32 {
    let quads = params.in_channels / 4u;
    return select(-1, i32((n * height + row) * width * quads), row < height);
}

fn x_line(n: u32, row: u32) -> i32 { return line(n, row, params.in_height, params.in_width); }
fn y_line(n: u32, row: u32) -> i32 { return line(n, row, params.out_height, params.out_width); }
