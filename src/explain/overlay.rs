//! Draws maps as images.

use super::Map;
use crate::data::Image;
use crate::{Error, Result};

/// Inferno (Smith and van der Walt 2015): perceived brightness rises evenly, as on a grey ramp, also for the
/// colour-blind.
#[rustfmt::skip]
const COLOURS: [[u8; 3]; 11] = [
    [0, 0, 4], [22, 11, 57], [66, 10, 104], [106, 23, 110], [147, 38, 103], [188, 55, 84],
    [221, 81, 58], [243, 120, 25], [252, 165, 10], [246, 215, 70], [252, 255, 164],
];
/// The map's share in an overlay.
const SHARE: f32 = 0.5;
/// White columns between two images.
const GAP: usize = 8;
/// Smaller images are enlarged to at least this side, by a whole number.
const SIDE: usize = 224;

fn colour(value: f32) -> [f32; 3] {
    let at = value.clamp(0.0, 1.0) * (COLOURS.len() - 1) as f32;
    let low = (at as usize).min(COLOURS.len() - 2);
    let share = at - low as f32;
    std::array::from_fn(|c| {
        f32::from(COLOURS[low][c]) * (1.0 - share) + f32::from(COLOURS[low + 1][c]) * share
    })
}

/// The map alone, in colours from black by red to bright yellow.
pub fn heat(map: &Map) -> Image {
    let rgb = map.values.iter().flat_map(|&v| colour(v).map(|c| c.round() as u8)).collect();
    Image { width: map.width, height: map.height, rgb }
}

/// The crop that the network saw under the map, half of each. The crop is grey, so that all colour comes from the
/// map.
///
/// # Errors
/// [`Error::Shape`] where they differ in size.
pub fn overlay(crop: &Image, map: &Map) -> Result<Image> {
    if (crop.width, crop.height) != (map.width, map.height) {
        return Err(Error::Shape(format!(
            "a map of {}x{} pixels on an image of {}x{}",
            map.width, map.height, crop.width, crop.height
        )));
    }
    let mix = |(pixel, &value): (&[u8], &f32)| {
        // ITU-R BT.601, as Pillow's "L".
        let grey: f32 = pixel.iter().zip([0.299, 0.587, 0.114]).map(|(&p, w)| f32::from(p) * w).sum();
        colour(value).map(|heat| (grey * (1.0 - SHARE) + heat * SHARE).round() as u8)
    };
    let rgb = crop.rgb.chunks_exact(3).zip(&map.values).flat_map(mix).collect();
    Ok(Image { width: crop.width, height: crop.height, rgb })
}

/// Images of one height in a row. Small images are enlarged.
///
/// # Errors
/// [`Error::Shape`] where their heights differ, or there is no image.
pub fn beside(images: &[&Image]) -> Result<Image> {
    let height = images.first().map_or(0, |p| p.height);
    if height == 0 || images.iter().any(|p| p.height != height) {
        return Err(Error::Shape("images that stand beside each other are of one height".into()));
    }
    let times = SIDE.div_ceil(height);
    let mut rgb = Vec::new();
    for y in 0..height * times {
        for (number, image) in images.iter().enumerate() {
            if number > 0 {
                rgb.extend([255; GAP * 3]);
            }
            let row = &image.rgb[y / times * image.width * 3..][..image.width * 3];
            rgb.extend(row.chunks_exact(3).flat_map(|pixel| pixel.repeat(times)));
        }
    }
    let width = images.iter().map(|p| p.width * times).sum::<usize>() + (images.len() - 1) * GAP;
    Ok(Image { width, height: height * times, rgb })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_rise_from_black_to_bright() {
        assert_eq!(colour(0.0), [0.0, 0.0, 4.0]);
        assert_eq!(colour(1.0), [252.0, 255.0, 164.0]);
        // Between the stops 4 and 5.
        assert_eq!(colour(0.45).map(f32::round), [168.0, 47.0, 94.0]);
    }

    #[test]
    fn an_overlay_is_half_grey_image_and_half_map() {
        let map = Map { width: 2, height: 1, values: vec![0.0, 1.0], class: 0, logit: 0.0, answer: 0.0 };
        let crop = Image { width: 2, height: 1, rgb: vec![255, 0, 0, 100, 100, 100] };
        // 0.299 of 255 is 76.2.
        assert_eq!(overlay(&crop, &map).expect("one size").rgb, [38, 38, 40, 176, 178, 132]);
        assert_eq!(heat(&map).rgb, [0, 0, 4, 252, 255, 164]);
        let other = Image { width: 1, height: 2, ..crop };
        assert!(overlay(&other, &map).is_err_and(|e| e.to_string().contains("2x1")));
    }

    #[test]
    fn small_images_are_enlarged_side_by_side() {
        let left = Image { width: 2, height: 2, rgb: (0..12).collect() };
        let right = Image { width: 1, height: 2, rgb: vec![50; 6] };
        let both = beside(&[&left, &right]).expect("one height");
        assert_eq!((both.width, both.height), (336 + GAP, 224));
        assert_eq!(both.rgb.len(), both.width * both.height * 3);
        let at = |x: usize, y: usize| &both.rgb[(y * both.width + x) * 3..][..3];
        assert_eq!((at(111, 0), at(112, 0), at(0, 112)), (&[0, 1, 2][..], &[3, 4, 5][..], &[6, 7, 8][..]));
        assert_eq!((at(224, 5), at(224 + GAP, 5)), (&[255; 3][..], &[50; 3][..]));
        assert!(beside(&[&left, &Image { width: 1, height: 1, rgb: vec![0; 3] }]).is_err());
    }
}
