//! A contact sheet: training images as the network sees them.

use std::sync::Arc;

use crate::data::Augment;
use crate::data::{Batch, Dataset, Image, Loader, View, resize};
use crate::models::Network;
use crate::models::preprocess::Filter;
use crate::ops::{AugmentInput, Draws};
use crate::plan::{Device, Layout, Program, Request, compile};
use crate::tape::{Tape, Type};
use crate::{Error, Result};

/// Number of images, one per row.
const ROWS: usize = 6;
/// Views per image: the evaluation's view, then those of the first epochs.
const COLUMNS: usize = 8;
/// Side of one image, and the gap between two, pixels.
const SIDE: usize = 128;
const GAP: usize = 4;

/// Six images of the set, one per row: first the evaluation's view, then the views of the first seven epochs. The
/// images pass through the augmentation op of a training, on the CPU, and are converted back to bytes. MixUp and
/// CutMix mix the six images with one another.
///
/// # Errors
/// [`Error::Data`] where none of the six can be read; as for [`Loader::new`].
pub fn contact_sheet(net: &Network, dataset: &Arc<Dataset>, augment: &Augment, seed: u64) -> Result<Image> {
    let rows = dataset.len().min(ROWS);
    let indices: Vec<usize> = (0..rows).map(|row| row * dataset.len() / rows).collect();
    let pitch = SIDE + GAP;
    let (width, height) = (COLUMNS * pitch + GAP, rows * pitch + GAP);
    let mut sheet = Image { width, height, rgb: vec![255; width * height * 3] };
    for column in 0..COLUMNS {
        let view = match column.checked_sub(1) {
            None => View::Eval(net.preprocess().clone()),
            Some(epoch) => View::Train {
                preprocess: net.preprocess().clone(),
                augment: *augment,
                seed,
                epoch: epoch as u64,
            },
        };
        for batch in Loader::new(dataset.clone(), vec![indices.clone()], view, 1)? {
            if let Some((_, failed)) = batch.failed.first().filter(|_| batch.indices.is_empty()) {
                return Err(Error::Data(format!("{}: {}", failed.path.display(), failed.reason)));
            }
            for (index, image) in batch.indices.iter().zip(as_seen(net, &batch)?) {
                let row = indices.iter().position(|i| i == index).unwrap_or_default();
                paste(&mut sheet, &resize(&image, SIDE, SIDE, Filter::Bilinear), row, column);
            }
        }
    }
    Ok(sheet)
}

/// The images of a batch as the network sees them, converted back to bytes.
fn as_seen(net: &Network, batch: &Batch) -> Result<Vec<Image>> {
    let (scale, shift) = net.preprocess().scale_shift();
    let ([height, width], count) = (net.preprocess().size, batch.indices.len());
    let identity = vec![Draws::IDENTITY; count];
    let draws = if batch.draws.is_empty() { bytemuck::cast_slice(&identity) } else { &batch.draws[..] };
    let mut tape = Tape::new();
    let image = tape.input("image", Type::u8(&[count, height, width, 3]));
    let rows = tape.input("augment", Type::f32(&[count, Draws::LEN]));
    let seen = tape.apply(AugmentInput { scale, shift, size: [height, width] }, &[image, rows])?;
    let layout = Arc::new(Layout::default());
    let plan = compile(Request::inference(tape, &[("seen", seen)]), &layout, &Device::Cpu.caps())?;
    let store = Device::Cpu.store(&layout, net)?;
    let inputs: [(&str, &[u8]); 2] = [("image", &batch.pixels), ("augment", bytemuck::cast_slice(draws))];
    let seen = Program::new(plan, &store, net)?.run(&inputs)?.into_iter().next().unwrap_or_default();
    let byte = |(i, &v): (usize, &f32)| ((v - shift[i % 3]) / scale[i % 3]).round() as u8;
    let image = |seen: &[f32]| {
        let rgb = seen.iter().enumerate().map(byte).collect();
        Image { width, height, rgb }
    };
    Ok(seen.chunks_exact(height * width * 3).map(image).collect())
}

fn paste(sheet: &mut Image, image: &Image, row: usize, column: usize) {
    let (left, top) = (GAP + column * (SIDE + GAP), GAP + row * (SIDE + GAP));
    let lines = sheet.rgb.chunks_exact_mut(sheet.width * 3).skip(top);
    for (to, from) in lines.zip(image.rgb.chunks_exact(image.width * 3)) {
        to[left * 3..][..from.len()].copy_from_slice(from);
    }
}
