//! What goes into the machine and comes out of it.

use std::time::Duration;

/// What doesn't change while the agent runs.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How many servers there are.
    pub servers: usize,
    /// Whether to register with each, and not with one of them.
    pub all_servers: bool,
    /// The lease that is asked for.
    pub lease: Duration,
    /// The first registration is sent up to this late.
    pub initial_delay: Duration,
    /// How long it may take until it is safe to stop; zero: the end waits for nothing.
    pub drain_timeout: Duration,
    /// Whether something runs before the member joins.
    pub joins: bool,
}

/// What a server is asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    /// Whether it publishes the member.
    Ask,
    /// To register it, or to renew its lease. `anew`: whatever else it had registered there goes.
    Register {
        /// Whether earlier addresses and metadata are to go.
        anew: bool,
    },
    /// To take it out of the SRV records and go on with its addresses.
    Drain,
    /// To remove it.
    Deregister,
}

/// What is to be done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// Check the service: [`Event::Checked`] tells how it is.
    Check,
    /// Run the on-join command: [`Event::Joined`].
    Join,
    /// Send an order to a server: [`Event::Told`].
    Send {
        /// Whose order it is.
        seat: usize,
        /// Where to.
        server: usize,
        /// What.
        order: Order,
    },
    /// It is registered for the first time.
    Ready,
    /// Wait until it is safe to stop after these servers have drained the member: [`Event::Safe`].
    WaitUntilSafe {
        /// The servers.
        servers: Vec<usize>,
    },
    /// All is done. `clean`: nobody can be using the member any more.
    End {
        /// Whether the end waited for that.
        clean: bool,
    },
}

/// What a server answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reply {
    /// To [`Order::Ask`].
    Published(bool),
    /// The lease runs anew.
    Granted {
        /// For how long, if it said so.
        lease: Option<Duration>,
        /// The slot that the member has, if it said so.
        slot: Option<String>,
        /// Why it is not published all the same, if it is not.
        unpublished: Option<String>,
    },
    /// It is done.
    Done,
    /// It was not carried out.
    Refused,
}

/// What happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// A check ended.
    Checked(bool),
    /// The on-join command ended.
    Joined(bool),
    /// An order ended: with a reply, or without.
    Told {
        /// Whose order it was.
        seat: usize,
        /// `None`: whether it was carried out isn't known.
        reply: Option<Reply>,
    },
    /// The member's addresses are known, or are others from now on.
    Addressed,
    /// The end is asked for; the second time, not to wait for it.
    Stop,
    /// It is safe to stop, or that can't be known.
    Safe(bool),
}
