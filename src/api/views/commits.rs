//! The history of a zone: commits, and their changes with causes.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::membership::Reason;

/// `/v1/zones/{zone}/commits`: a page of the kept history.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Commits {
    /// The zone.
    pub zone: String,
    /// Its epoch.
    pub epoch: u64,
    /// Whether commits between `since` and the first of this page may be kept no longer.
    pub incomplete: bool,
    /// The commits, from the oldest.
    pub commits: Vec<CommitView>,
    /// Where the page behind this one is; null: there is none.
    pub next: Option<String>,
}

/// A commit.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct CommitView {
    /// The zone's epoch from then on.
    pub epoch: u64,
    /// The serial of its SOA record from then on.
    pub serial: u32,
    /// When it was made.
    pub time: String,
    /// What changed, and why.
    pub changes: Vec<ChangeView>,
    /// The records that it took away, as in a master file; the SOA, which moves with every commit, is left out.
    pub removed: Vec<String>,
    /// The records that it added.
    pub added: Vec<String>,
}

/// A change with its cause. What it is about stands in `service` and `id`, or in `name` and `type`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct ChangeView {
    /// The kind of thing that changed.
    pub what: What,
    /// Why.
    pub cause: CauseView,
    /// Who did it: a key or an address; none where nobody did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// The service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// The member's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The name of other records, or the zone's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Their type.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub rtype: Option<String>,
    /// With `renewed-after-lapse`: the epoch of the lapse.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lapse_epoch: Option<u64>,
    /// With `replaced`: the id of the member that takes its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub successor: Option<String>,
    /// The number of the member's slot from then on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<u32>,
    /// The weight that is published of the member from then on, if that is not its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published_weight: Option<u16>,
    /// Of a service: how many slots it has from then on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slots: Option<u32>,
}

/// The kinds of things that change.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum What {
    /// A member.
    Member,
    /// A set of leased records.
    LeasedRecords,
    /// The static records of a name.
    StaticRecords,
    /// The settings of the zone.
    Settings,
    /// A service as such.
    Service,
}

/// Why something changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum CauseView {
    /// Somebody registered it.
    Registered,
    /// Somebody registered it again, and the last that is known of it is that its lease ended.
    RenewedAfterLapse,
    /// Somebody changed it.
    Changed,
    /// Somebody withdrew it.
    Removed,
    /// Somebody began to drain it.
    Drained,
    /// Somebody registered another member in its place: it drains.
    Replaced,
    /// Its lease ended.
    Expired,
    /// The configuration or a static file changed.
    Configured,
    /// Nobody was in it for long enough.
    Forgotten,
    /// The primary of a zone that is a copy has it so.
    Transferred,
    /// Somebody ended the draining.
    Undrained,
    /// Somebody withdrew what was held.
    Released,
    /// It fell silent with too many others: it is held.
    Held,
    /// Too few would be left without it: it is held.
    HeldByFloor,
    /// It was held and has been heard of.
    HeardAgain,
    /// It was held, few were any more, and it stayed silent: it is gone.
    LetGo,
    /// It was held for as long as that may be: it is gone.
    HoldEnded,
    /// It came back too often.
    Damped,
    /// It stayed: it is damped no longer.
    Reused,
    /// It waited for a slot and has one.
    GivenSlot,
    /// It has more of its weight.
    Ramped,
    /// Somebody removed free slots.
    Shrunk,
}

impl CauseView {
    /// What it did, for people; the log says the same ([`Cause`](crate::zone::Cause)).
    fn words(self) -> &'static str {
        match self {
            CauseView::Registered => "registered",
            CauseView::RenewedAfterLapse => "renewed",
            CauseView::Changed => "changed",
            CauseView::Removed => "removed",
            CauseView::Drained | CauseView::Replaced => "drained",
            CauseView::Expired => "expired",
            CauseView::Configured => "configured",
            CauseView::Forgotten => "forgotten, nobody came back",
            CauseView::Transferred => "transferred",
            CauseView::Undrained => "brought back",
            CauseView::Released => "released",
            CauseView::Held => Reason::Held.words(),
            CauseView::HeldByFloor => Reason::Floor.words(),
            CauseView::HeardAgain => Reason::Heard.words(),
            CauseView::LetGo => Reason::LetGo.words(),
            CauseView::HoldEnded => Reason::HoldEnded.words(),
            CauseView::Damped => Reason::Damped.words(),
            CauseView::Reused => Reason::Reused.words(),
            CauseView::GivenSlot => Reason::Slotted.words(),
            CauseView::Ramped => Reason::Ramped.words(),
            CauseView::Shrunk => "rid of free slots",
        }
    }
}

impl fmt::Display for ChangeView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |field: &Option<String>| field.clone().unwrap_or_default();
        match self.what {
            What::Member => write!(f, "{} in {}", text(&self.id), text(&self.service))?,
            What::LeasedRecords => write!(f, "{} {}", text(&self.name), text(&self.rtype))?,
            What::StaticRecords => write!(f, "static {}", text(&self.name))?,
            What::Settings => write!(f, "settings of {}", text(&self.name))?,
            What::Service => f.write_str(&text(&self.service))?,
        }
        match (self.cause, self.published_weight, self.slot) {
            (CauseView::Ramped, None, _) => f.write_str(" given all of its weight")?,
            (CauseView::GivenSlot, _, Some(slot)) => write!(f, " given slot {slot}")?,
            (cause, ..) => write!(f, " {}", cause.words())?,
        }
        if let Some(by) = &self.by {
            write!(f, " by {by}")?;
        }
        if let Some(epoch) = self.lapse_epoch {
            write!(f, " after its lapse in epoch {epoch}")?;
        }
        if let Some(successor) = &self.successor {
            write!(f, ", {successor} takes its place")?;
        }
        if let Some(slots) = self.slots {
            write!(f, ", {slots} are left")?;
        }
        // Where a member comes; from then on they are what they were.
        let comes = matches!(
            self.cause,
            CauseView::Registered | CauseView::RenewedAfterLapse | CauseView::Undrained | CauseView::Reused
        );
        if let Some(slot) = self.slot.filter(|_| comes) {
            write!(f, ", slot {slot}")?;
        }
        let is_told = comes || matches!(self.cause, CauseView::GivenSlot | CauseView::Ramped);
        match self.published_weight.filter(|_| is_told) {
            Some(weight) => write!(f, ", weight {weight} for now"),
            None => Ok(()),
        }
    }
}
