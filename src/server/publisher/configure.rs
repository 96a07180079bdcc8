//! A changed configuration in a running publisher.
//!
//! Settings and static records become part of the batch, so that a reload is one commit, or none if nothing published
//! differs. What decides about updates comes into force with that batch and not before: a zone never runs by half of a
//! configuration. If the store refuses, the zone stays as it was, and the configuration is staged again every
//! `RETRY` until it is durable or another one takes its place.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use crate::base::{Monotonic, Name, Now};
use crate::membership::MemberId;
use crate::zone::cut::{Cut, can_hide};
use crate::zone::{Cause, CausedChange, Change, Layout, Overfull, Settings, StaticNode};

use super::{Policy, Publisher};

/// How long after a refused write a configuration is staged again.
const RETRY: Duration = Duration::from_secs(1);

/// What a reload hands over.
#[derive(Clone, Debug)]
pub struct Configuration {
    /// The zone's settings.
    pub settings: Arc<Settings>,
    /// All of its static records.
    pub statics: Vec<StaticNode>,
    /// What decides about updates.
    pub policy: Policy,
}

/// Why a configuration doesn't go with what is registered. Nothing was changed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Clash {
    /// Static records at a name that a registered member holds.
    #[error(
        "{name} is a name of the registered member {id} of {service}: choose another name, or deregister the member first"
    )]
    Name {
        /// The name.
        name: Name,
        /// The member's service.
        service: Name,
        /// The member.
        id: MemberId,
    },
    /// Static records that would keep queries from what registered members have below.
    #[error(
        "{} is {} by this {} record, so {name} of {service}, which has registered members, would never be answered: remove \
         the record, or deregister the members first", .cut.name, .cut.verb(), .cut.rtype
    )]
    Hidden {
        /// The records.
        cut: Cut,
        /// A name that they hide.
        name: Name,
        /// The members' service.
        service: Name,
    },
    /// Records that would join those of registered members, more than fit an answer.
    #[error("with what is registered, {0}")]
    Room(Overfull),
}

impl Clash {
    /// Where.
    pub fn name(&self) -> &Name {
        match self {
            Clash::Name { name, .. } | Clash::Hidden { cut: Cut { name, .. }, .. } => name,
            Clash::Room(overfull) => overfull.name(),
        }
    }
}

/// A configuration that is not in force yet.
#[derive(Debug)]
pub(super) struct Pending {
    configuration: Configuration,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// In the batch.
    Batch,
    /// In the write under way.
    Written,
    /// The store refused it.
    Refused(Monotonic),
}

impl Publisher {
    /// Takes over the configuration: what differs from the zone becomes part of the next commit. Nothing does if an RRset
    /// would become too large by it.
    pub fn configure(&mut self, settings: Arc<Settings>, statics: Vec<StaticNode>, now: Now) -> Result<(), Clash> {
        let contents = self.zone.contents();
        let settings = (**contents.settings() != *settings || self.stored.is_none()).then_some(settings);
        let kept: HashSet<&Name> = statics.iter().map(|node| &node.name).collect();
        let gone = contents.static_names().filter(|name| !kept.contains(name)).cloned();
        let gone: Vec<StaticNode> = gone.map(|name| StaticNode { name, rrsets: Vec::new() }).collect();
        let differs = |node: &StaticNode| contents.statics(&node.name) != node.rrsets.as_slice();
        let statics: Vec<StaticNode> = gone.into_iter().chain(statics).filter(differs).collect();
        let configured = |change| CausedChange { change, cause: Cause::Configured };
        let of_statics =
            statics.iter().map(|node| Change::Static { name: node.name.clone(), rrsets: node.rrsets.clone() });
        let changes = settings.iter().cloned().map(Change::Settings).chain(of_statics).map(configured);
        self.zone.try_change(changes.collect(), now.wall).map_err(Clash::Room)?;
        self.void_notes();
        self.batch.settings = settings.or(self.batch.settings.take());
        self.batch.statics.extend(statics);
        self.open(now);
        Ok(())
    }

    /// Takes over a changed configuration with the next commit; none may be under way. [`Publisher::take_configured`] tells
    /// when it is in force.
    pub fn reconfigure(&mut self, configuration: Configuration, now: Now) -> Result<(), Clash> {
        assert!(self.in_flight.is_none(), "the write under way could not be taken back any more");
        if let Some(clash) = self.find_clash(&configuration.settings, &configuration.statics) {
            return Err(clash);
        }
        self.configure(configuration.settings.clone(), configuration.statics.clone(), now)?;
        self.configured = None;
        self.pending = Some(Pending { configuration, stage: Stage::Batch });
        Ok(())
    }

    /// Whether the last configuration has come into force since the last call, or clashed when it was tried again.
    pub fn take_configured(&mut self) -> Option<Result<(), Clash>> {
        self.configured.take()
    }

    /// A member whose own names hold one of these static records, or are hidden by one, under these settings.
    pub fn find_clash(&self, settings: &Settings, statics: &[StaticNode]) -> Option<Clash> {
        let contents = self.zone.contents();
        let mut hosts: HashMap<Name, Vec<&Name>> = HashMap::new();
        for (service, ..) in contents.services() {
            if let Some(layout) = Layout::of(service, settings) {
                hosts.entry(layout.host).or_default().push(service);
            }
        }
        let at_name = statics.iter().find_map(|StaticNode { name, .. }| {
            let parent = name.parent()?;
            let id = MemberId::from_label(name.first_label()).ok()?;
            let mut services: Vec<&Name> = hosts.get(&parent).cloned().unwrap_or_default();
            services.extend(contents.knows_service(&parent).then_some(&parent));
            let service = services.into_iter().find(|service| contents.member(service, &id).is_some())?;
            Some(Clash::Name { name: name.clone(), service: service.clone(), id: id.clone() })
        });
        at_name.or_else(|| self.find_hidden(settings, statics))
    }

    /// A service with members whose names would lie below a delegation or a DNAME.
    fn find_hidden(&self, settings: &Settings, statics: &[StaticNode]) -> Option<Clash> {
        let cuts_off = |node: &StaticNode| node.rrsets.iter().any(|rrset| can_hide(rrset.rtype));
        let cuts: HashMap<&Name, &StaticNode> =
            statics.iter().filter(|node| cuts_off(node)).map(|node| (&node.name, node)).collect();
        let has = |name: &Name, rtype| {
            cuts.get(name).is_some_and(|node| node.rrsets.iter().any(|rrset| rrset.rtype == rtype))
        };
        let populated = self.zone.contents().services().filter(|(.., empty_since)| empty_since.is_none());
        populated.map(|(service, ..)| service).find_map(|service| {
            let host = Layout::of(service, settings).map(|layout| layout.host);
            host.iter().chain([service]).find_map(|name| {
                let cut = Cut::above(name, &settings.origin, has)?;
                Some(Clash::Hidden { cut, name: name.clone(), service: service.clone() })
            })
        })
    }

    /// The batch has been sealed, with or without a write.
    pub(super) fn configuration_sealed(&mut self, written: bool) {
        let Some(pending) = self.pending.as_mut().filter(|pending| pending.stage == Stage::Batch) else { return };
        pending.stage = Stage::Written;
        if !written {
            self.configuration_ended(true, Monotonic(0));
        }
    }

    /// The write with it has ended.
    pub(super) fn configuration_ended(&mut self, durable: bool, now: Monotonic) {
        let Some(mut pending) = self.pending.take_if(|pending| pending.stage == Stage::Written) else { return };
        // What was noted meanwhile went by the former rules.
        self.void_notes();
        if durable {
            self.policy = pending.configuration.policy;
            self.table.set_policies(self.policy.rules.policies.clone());
            self.configured = Some(Ok(()));
        } else {
            pending.stage = Stage::Refused(now);
            self.pending = Some(pending);
        }
    }

    /// When to try again.
    pub(super) fn next_configuration(&self) -> Option<Monotonic> {
        match self.pending.as_ref()?.stage {
            Stage::Refused(at) => Some(at.after(RETRY)),
            Stage::Batch | Stage::Written => None,
        }
    }

    /// Stages again what the store refused.
    pub(super) fn retry_configuration(&mut self, now: Now) {
        if self.next_configuration().is_none_or(|at| now.mono < at) {
            return;
        }
        if let Some(pending) = self.pending.take()
            && let Err(clash) = self.reconfigure(pending.configuration, now)
        {
            self.configured = Some(Err(clash));
        }
    }
}
