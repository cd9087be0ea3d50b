//! Data: from folders and files to images, from images to batches.
//!
//! * [`decode`](mod@decode): the bytes of a file to 8-bit RGB, upright, or an error that names file and reason.
//! * [`resize`](mod@resize): the antialiased resize the pretrained networks were trained with, Pillow's, byte for byte.
//! * [`transform`]: torchvision's evaluation and training transforms; [`augment`]: the device's augmentation.
//! * [`target`]: the target of an image: a class, labels, numbers.
//! * [`dataset`], [`folder`], [`idx`], [`cifar`], [`records`], [`split`], [`group`]: the images on disk, their
//!   classes, the part of the data they belong to, and the groups that a split keeps together.
//! * [`table`], [`options`]: images and labels in a CSV file; the form of the data where folders do not show it.
//! * [`scenes`]: images that Defrost draws itself.
//! * [`open`](mod@open): one call from a path to training, validation and test sets.
//! * [`duplicates`](mod@duplicates): duplicate images; [`balance`]: class imbalance.
//! * [`loader`]: batches, decoded ahead on all cores, the same whatever the number of threads.

pub mod affine;
pub mod augment;
pub mod balance;
pub mod cifar;
mod columns;
pub mod dataset;
pub mod decode;
pub mod duplicates;
pub mod folder;
mod formats;
pub mod group;
pub mod idx;
mod layout;
pub mod loader;
pub mod open;
pub mod options;
pub mod records;
pub mod resize;
pub mod scenes;
pub mod split;
pub mod table;
pub mod target;
pub mod transform;

pub use affine::Affine;
pub use augment::{Mix, Preset, draws, equalize, mix};
pub use balance::{balanced_order, class_weights};
pub use dataset::{Dataset, Sample, Skipped, Source, content_key};
pub(crate) use decode::holding;
pub use decode::{Image, decode, load};
pub use duplicates::{Duplicates, difference_hash, duplicates, duplicates_with};
pub use folder::list_images;
pub use group::GroupBy;
pub use loader::{Batch, Loader, View, batches, epoch_order};
pub use open::{OpenOptions, by_name, open, open_labelled, open_labelled_with};
pub use options::DataOptions;
pub use resize::{Rect, resize};
pub use scenes::{DrawnSet, Scenes};
pub(crate) use split::relative;
pub use split::{Manifest, Part, Splits};
pub use target::{Target, TargetKind};
pub use transform::{Augment, eval, train};
