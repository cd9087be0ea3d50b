//! Images that Defrost draws itself: signs for pre-training, and things for transfer learning. Each image is a
//! function of seed, class and number, so a set needs no disk, and no memory for its pixels.

mod outline;
mod paint;
mod scene;
mod set;
mod things;

use std::path::Path;
use std::sync::LazyLock;

use rayon::prelude::*;

use super::Image;
use crate::rng::Stream;
use crate::{Error, Result};
use paint::Pattern;
pub use set::DrawnSet;
use things::Part;

/// Fill patterns of the signs.
const FILLS: [(&str, Pattern); 3] =
    [("plain", Pattern::Plain), ("striped", Pattern::Striped), ("dotted", Pattern::Dotted)];

/// The classes of all sets: parts and fill pattern.
static SUBJECTS: LazyLock<[Vec<Subject>; 2]> = LazyLock::new(|| {
    let sign = |(name, outline): (&str, outline::Outline)| {
        FILLS.map(|(fill, pattern)| Subject {
            name: format!("{fill} {name}"),
            parts: vec![(outline.clone(), 0)],
            pattern: Some(pattern),
        })
    };
    let thing = |(name, parts): (&str, Vec<Part>)| Subject { name: name.into(), parts, pattern: None };
    let mut sets: [Vec<Subject>; 2] = [
        things::signs().into_iter().flat_map(sign).collect(),
        things::things().into_iter().map(thing).collect(),
    ];
    // In the order of the folders of a written set.
    sets.iter_mut().for_each(|set| set.sort_by(|a, b| a.name.cmp(&b.name)));
    sets
});

/// The subject of a class.
struct Subject {
    name: String,
    parts: Vec<Part>,
    /// The fill pattern; any pattern where absent.
    pattern: Option<Pattern>,
}

/// A set of classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scenes {
    /// 36 outlines, each plain, striped and dotted: 108 classes.
    Signs,
    /// Eight things with parts, in any fill.
    Things,
}

impl Scenes {
    /// All sets.
    pub const ALL: [Scenes; 2] = [Scenes::Signs, Scenes::Things];

    /// The set's name.
    pub fn name(self) -> &'static str {
        match self {
            Scenes::Signs => "signs",
            Scenes::Things => "things",
        }
    }

    fn subjects(self) -> &'static [Subject] {
        &SUBJECTS[self as usize]
    }

    /// Names of the classes.
    pub fn classes(self) -> Vec<String> {
        self.subjects().iter().map(|subject| subject.name.clone()).collect()
    }

    /// Draws image `number` of a class, `side` pixels wide and high. Every number gives another image.
    ///
    /// # Panics
    /// Where `class` is not below the number of classes.
    pub fn draw(self, seed: u64, class: usize, number: u32, side: usize) -> Image {
        let subject = &self.subjects()[class];
        let mut random = Stream::new(&[0x5CE2E, self as u64, seed, class as u64, u64::from(number)]);
        let any = FILLS[random.below(FILLS.len())].1;
        scene::scene(&mut random, &subject.parts, subject.pattern.unwrap_or(any), side)
    }

    /// Writes images `numbers` of every class into `folder` as `CLASS/NUMBER.png`.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Data`] naming the file that cannot be written.
    pub fn write(self, folder: &Path, seed: u64, numbers: std::ops::Range<u32>, side: usize) -> Result<()> {
        let classes = self.classes();
        for class in &classes {
            let folder = folder.join(class);
            std::fs::create_dir_all(&folder).map_err(|e| Error::io(&folder, "create folder", e))?;
        }
        let one = |class: usize, number: u32| {
            let path = folder.join(&classes[class]).join(format!("{number:04}.png"));
            self.draw(seed, class, number, side).write_png(&path)
        };
        let all: Vec<(usize, u32)> =
            (0..classes.len()).flat_map(|class| numbers.clone().map(move |n| (class, n))).collect();
        all.into_par_iter().try_for_each(|(class, number)| one(class, number))
    }
}
