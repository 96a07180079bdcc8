//! Who is alive: member, lease, table, policy, change. A pure state machine; `now` is an argument.

pub mod access;
pub mod cell;
pub mod holdings;
pub mod limits;
pub mod member;
pub mod renewals;
pub mod roster;
pub mod stall;
pub mod table;

pub use access::{Grant, Identity, Owner, Permit, UpdateAccess};
pub use cell::{Beat, CellId, Cells, Freshness, Heartbeats, Reading, Stamp};
pub use holdings::Holding;
pub use limits::{LeaseLimits, Quotas};
pub use member::{HeldAddresses, IdError, Item, Key, LeasedRecord, Member, MemberId, Registration, State};
pub use renewals::{Digest, Renewals};
pub use roster::Roster;
pub use table::{Edit, Full, Index, Savepoint, Table, Tombstone};
