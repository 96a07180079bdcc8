//! Precompiled answers: compile, table, negative, patch.

pub mod encode;
pub mod negative;
pub mod table;
#[cfg(test)]
mod tests;

pub use table::{Answers, Counts, Lookup};
