//! Precompiled answers: compile, table, negative, resolve, patch.

pub mod encode;
pub mod negative;
#[cfg(test)]
mod oracle;
mod resolve;
pub mod table;
#[cfg(test)]
mod tests;

pub use table::{AHEAD, Answers, Counts, End, Lookup};
