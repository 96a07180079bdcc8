//! placeholder
pub mod health;
pub mod jitter;
pub mod machine;
