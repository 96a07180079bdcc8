//! The vocabulary: serial, epoch, name, type, TTL, time and limits. No I/O, no clock.

pub mod limit;
pub mod limits;
pub mod meters;
pub mod name;
pub mod rtype;
pub mod serial;
pub mod text;
pub mod time;
pub mod ttl;

pub use limit::Limit;
pub use name::{Name, NameError, NameMap, NameSet, SeededMap, SeededSet};
pub use rtype::RecordType;
pub use serial::{Epoch, Serial};
pub use time::{Monotonic, Now, Wall};
pub use ttl::{Lease, Ttl};
