//! Rules: images → contributions, readings → labels, by user-written WebAssembly.
//!
//! A guest gets no clock, no randomness, no I/O and no memory of earlier rows; the host trusts nothing that it returns.
//! A file becomes a [`RuleFile`], that a [`CompiledRule`], and each worker takes a [`Mapper`] and a [`Labeler`] of it.

pub mod manifest;
pub mod limits;

mod error;
mod validate;
mod verdict;
mod value;
mod file;
mod params;
mod cache;
mod compiler;
mod engine;
mod guest;
mod agree;
mod check;
mod synthetic;
mod map;
mod fit;
mod pack;
mod answer;
mod label;
mod label_pack;
mod label_check;
pub mod scenario;

pub use agree::Comparison;
pub use cache::CACHE_BYTES_MAX;
pub use engine::{CompiledRule, RawContributions, RuleEngine};
pub use error::{Fault, RuleError};
pub use file::{
    NORMAL_FORM_VERSION, RuleFile, exports, imports, push_custom_section, without_custom_sections,
};
pub use fit::COLUMN_ABSENT;
pub use guest::GuestLog;
pub use label::{LabelAnswers, Labeler, ReadingColumn, Readings};
pub use limits::Limits;
pub use manifest::Manifest;
pub use map::{BadImage, Contributions, Mapper};
pub use pack::batch_bytes;
pub use params::{ParamValues, default_text, in_words};
pub use synthetic::images as synthetic_images;
