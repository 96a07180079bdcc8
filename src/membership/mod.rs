//! Who is alive: member, lease, table, policy, change. A pure state machine; `now` is an argument.

pub mod access;
pub mod cell;
pub mod census;
pub mod damping;
pub mod holdings;
pub mod limits;
pub mod member;
pub mod policy;
pub mod renewals;
pub mod roster;
pub mod slots;
pub mod stall;
pub mod table;

pub use access::{Grant, Identity, Owner, Permit, UpdateAccess};
pub use cell::{Beat, CellId, Cells, Freshness, Heartbeats, Reading, Stamp};
pub use census::Census;
pub use holdings::Holding;
pub use limits::{LeaseLimits, Quotas};
pub use member::{Decided, HeldAddresses, IdError, Item, Key, LeasedRecord, Member, MemberId, Registration, State};
pub use policy::{Policies, Reason, ServicePolicy};
pub use renewals::{Digest, Renewals};
pub use roster::Roster;
pub use slots::{FreeSlot, Slots};
pub use table::{Decision, Edit, Full, Index, Savepoint, Table, Tombstone};
