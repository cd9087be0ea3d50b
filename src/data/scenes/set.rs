//! Drawn sets by their names: `drawn:signs,side=96,train=200,val=20,test=0,seed=0`.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use super::Scenes;
use crate::data::{Dataset, Sample, Source, Splits, TargetKind};
use crate::{Error, Result, did_you_mean};

/// Prefix of the names.
const PREFIX: &str = "drawn:";

/// A drawn set: its subjects, the size of its images, and the number of images per class. Its name can replace a path
/// to training images.
///
/// ```
/// use defrost::data::{DrawnSet, Scenes};
///
/// # fn main() -> defrost::Result<()> {
/// let set = DrawnSet::new(Scenes::Things).with(|set| {
///     (set.side, set.train, set.val, set.test) = (64, 9, 3, 50);
/// });
/// assert_eq!(set.to_string(), "drawn:things,side=64,train=9,val=3,test=50,seed=0");
///
/// let splits = set.splits(); // drawn whenever they are looked at: no disk, no memory
/// assert_eq!((splits.train.len(), splits.val.len()), (72, 24));
/// let image = splits.train.samples[0].image()?;
/// assert_eq!((image.width, image.height), (64, 64));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct DrawnSet {
    /// The subjects.
    pub scenes: Scenes,
    /// Width and height of an image, pixels.
    pub side: usize,
    /// Training images per class.
    pub train: u32,
    /// Validation images per class.
    pub val: u32,
    /// Test images per class.
    pub test: u32,
    /// Seed of all images.
    pub seed: u64,
}

options!(DrawnSet);

impl Scenes {
    /// Images `numbers` of every class; each is drawn when it is read.
    pub fn dataset(self, seed: u64, numbers: std::ops::Range<u32>, side: usize) -> Dataset {
        let sample = |class: usize, number: u32| {
            let source = Source::Drawn { scenes: self, seed, class: class as u32, number, side: side as u32 };
            Sample::new(source, class as u32)
        };
        let classes = self.classes();
        let samples = (0..classes.len()).flat_map(|class| numbers.clone().map(move |n| sample(class, n)));
        Dataset { samples: samples.collect(), classes, skipped: Vec::new(), targets: TargetKind::Class }
    }
}

impl DrawnSet {
    /// Images of 96x96 pixels; per class 200 for training, 20 for validation.
    pub fn new(scenes: Scenes) -> Self {
        DrawnSet { scenes, side: 96, train: 200, val: 20, test: 0, seed: 0 }
    }

    /// The drawn set that a path names; none where the path is not such a name.
    ///
    /// # Errors
    /// [`Error::Usage`] where the path begins like such a name but is invalid.
    pub fn named(path: &Path) -> Option<Result<DrawnSet>> {
        path.to_str()?.strip_prefix(PREFIX).map(str::parse)
    }

    /// Its images, numbered in the order test, validation, training, so that a larger training set is tested on the
    /// same images.
    pub fn splits(&self) -> Splits {
        let set = |from: u32, count: u32| self.scenes.dataset(self.seed, from..from + count, self.side);
        Splits {
            train: set(self.test + self.val, self.train),
            val: set(self.test, self.val),
            test: (self.test > 0).then(|| set(0, self.test)),
            manifest: None,
            warnings: Vec::new(),
        }
    }

    /// Writes its parts into `folder/train`, `folder/val` and `folder/test`, one folder a class, as PNG.
    ///
    /// # Errors
    /// [`Error::Io`] naming what cannot be written.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let parts = [
            ("test", 0, self.test),
            ("val", self.test, self.val),
            ("train", self.test + self.val, self.train),
        ];
        for (name, from, count) in parts.into_iter().filter(|part| part.2 > 0) {
            self.scenes.write(&folder.join(name), self.seed, from..from + count, self.side)?;
        }
        Ok(())
    }
}

impl fmt::Display for DrawnSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let DrawnSet { scenes, side, train, val, test, seed } = self;
        write!(f, "{PREFIX}{},side={side},train={train},val={val},test={test},seed={seed}", scenes.name())
    }
}

impl FromStr for DrawnSet {
    type Err = Error;

    /// Parses the name without `drawn:`.
    fn from_str(text: &str) -> Result<Self> {
        let wrong = |what: String| {
            Error::Usage(format!("{PREFIX}{text}: {what}; write it like {}", DrawnSet::new(Scenes::Signs)))
        };
        let mut words = text.split(',');
        let name = words.next().unwrap_or_default();
        let scenes = Scenes::ALL.into_iter().find(|scenes| scenes.name() == name).ok_or_else(|| {
            let hint = did_you_mean(name, Scenes::ALL.iter().map(|scenes| scenes.name()));
            wrong(format!("nothing called '{name}' is drawn{hint}"))
        })?;
        let mut set = DrawnSet::new(scenes);
        for word in words {
            let (key, value) = word.split_once('=').unwrap_or((word, ""));
            let number = |most: u64| {
                let number: Option<u64> = value.parse().ok().filter(|n| *n <= most);
                number.ok_or_else(|| wrong(format!("{key} is a whole number up to {most}, not '{value}'")))
            };
            match key {
                "side" => set.side = number(1024)? as usize,
                "train" => set.train = number(100_000)? as u32,
                "val" => set.val = number(100_000)? as u32,
                "test" => set.test = number(100_000)? as u32,
                "seed" => set.seed = number(u64::MAX)?,
                _ => return Err(wrong(format!("there is no setting '{key}'"))),
            }
        }
        if set.side < 8 {
            return Err(wrong(format!("side={}: an image has at least 8 pixels", set.side)));
        }
        if set.train == 0 || set.val == 0 {
            return Err(wrong("train and val are at least 1".into()));
        }
        Ok(set)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        let set = DrawnSet { side: 64, test: 50, seed: 7, ..DrawnSet::new(Scenes::Things) };
        let named = DrawnSet::named(Path::new(&set.to_string()));
        assert_eq!(named.map(|set| set.ok()), Some(Some(set)));
        assert!(DrawnSet::named(Path::new("photos")).is_none());
        let e = DrawnSet::named(Path::new("drawn:sings,side=64")).unwrap().unwrap_err().to_string();
        assert!(e.contains("did you mean 'signs'"), "{e}");
        for wrong in ["drawn:signs,size=64", "drawn:signs,side=x", "drawn:signs,train=0"] {
            assert!(matches!(DrawnSet::named(Path::new(wrong)), Some(Err(Error::Usage(_)))), "{wrong}");
        }
    }

    #[test]
    fn parts_share_no_image() {
        let set = DrawnSet { side: 16, train: 2, val: 1, test: 1, ..DrawnSet::new(Scenes::Things) };
        let splits = set.splits();
        let all = [&splits.train, &splits.val, splits.test.as_ref().unwrap()];
        let images: Vec<Vec<u8>> =
            all.iter().flat_map(|part| &part.samples).map(|s| s.image().unwrap().rgb).collect();
        assert_eq!(images.len(), 32);
        for (i, image) in images.iter().enumerate() {
            assert!(images[..i].iter().all(|other| other != image));
        }
    }
}
