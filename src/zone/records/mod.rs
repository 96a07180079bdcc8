//! Record types: what their data look like on the wire, and which records a zone derives from its members.
//!
//! `schema` knows the fields of each type, so that names inside the data can be checked, folded, compressed and followed;
//! `text` is the presentation format. The other files are one rule each of what a zone publishes.

pub mod address;
pub mod schema;
pub mod srv;
pub mod text;
pub mod txt;

pub use schema::{RdataError, canonicalize};
