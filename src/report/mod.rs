//! Reports of a run as files: `report.html`, and the model card of an exported network.

mod card;
mod chart;
mod exported;
mod findings;
mod html;
mod image;
mod page;
mod python;
mod savings;

pub use card::Card;
pub use exported::Exported;
pub use html::write;
