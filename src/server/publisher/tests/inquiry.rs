//! What a publisher tells of a service.

use crate::api::views::{MemberState, ServiceView};
use crate::server::directory::look;

use super::*;

impl Stage {
    fn look(&self) -> Option<ServiceView> {
        look(&self.publisher, &name("_x._tcp.z."), self.time())
    }
}

/// Id, pending, and what is left of the lease.
fn members(view: &ServiceView) -> Vec<(&str, bool, f64)> {
    view.members.iter().map(|member| (member.id.as_str(), member.pending, member.lease_remaining)).collect()
}

#[test]
fn what_waits_for_the_store_is_pending_and_leaves_no_trace_if_that_refuses() {
    let mut stage = Stage::new();
    let epoch = stage.register(1, "a");
    stage.now += 2_000;
    stage.send(2, srv("b"));
    assert!(stage.seal().is_some());
    let view = stage.look().unwrap();
    assert_eq!(members(&view)[0], ("a", false, 8.0));
    assert_eq!((members(&view)[1].0, members(&view)[1].1), ("b", true));
    assert_eq!((view.summary.epoch, view.summary.members_count), (epoch.0, 1), "as it is published");
    stage.end(&Appended::Unavailable("full".to_owned()));
    assert_eq!(members(&stage.look().unwrap()), [("a", false, 8.0)]);
    stage.replies();
    let epoch = stage.register(3, "b");
    let view = stage.look().unwrap();
    assert_eq!(members(&view), [("a", false, 8.0), ("b", false, 10.0)]);
    assert_eq!((view.summary.epoch, view.summary.members_count), (epoch.0, 2));
}

#[test]
fn an_overdue_heartbeat_is_late_and_within_its_grace_a_member_is_suspect() {
    let mut stage = Stage::with(0, 5_000);
    stage.register(1, "a");
    let state = |stage: &Stage| {
        let view = stage.look().unwrap();
        (view.members[0].state, view.members[0].late, view.members[0].lease_remaining)
    };
    assert_eq!(state(&stage), (MemberState::Up, false, 10.0));
    stage.now += 6_000;
    assert_eq!(state(&stage), (MemberState::Up, true, 4.0));
    stage.now += 5_000;
    assert!(stage.tick().is_none());
    assert_eq!(state(&stage), (MemberState::Suspect, false, 0.0));
    stage.now += 5_000;
    assert!(stage.tick().is_some());
    stage.end(&Appended::Committed);
    assert_eq!(stage.look().unwrap().members, [], "known, and nobody is in it");
    assert!(look(&stage.publisher, &name("_none._tcp.z."), stage.time()).is_none());
    assert!(look(&stage.publisher, &name("ns1.z."), stage.time()).is_none());
}
