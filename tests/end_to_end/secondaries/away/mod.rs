//! Secondaries that were away: for fewer commits than are kept, and for more.

use super::changes::Registrations;
use super::{CHANGES, Scene, primary, register, stock};
use crate::support::MEMCACHED;

/// Commits that the primary keeps.
const HISTORY: u32 = 1024;

#[test]
fn who_was_away_gets_what_differs_or_everything() {
    let mut scene = Scene::primary(&primary());
    let client = scene.server.client();
    register(&client, MEMCACHED, 0..80, 40);
    scene.follow(stock::all());
    scene.catch_up();
    let mut registrations = Registrations::new(&client, 1);
    for (commits, is_whole) in [(60, false), (HISTORY + 1, true)] {
        let (whole, changes) = (scene.all_sent(super::WHOLE), scene.all_sent(CHANGES));
        scene.secondaries.iter_mut().for_each(stock::Secondary::stop);
        let before = client.serial();
        while client.serial() - before < commits {
            registrations.change();
        }
        scene.secondaries.iter_mut().for_each(stock::Secondary::start_again);
        scene.catch_up();
        scene.assert_equal();
        let grown = |(name, sent): &(&str, usize), before: &[(&str, usize)]| {
            sent - before.iter().find(|(other, _)| other == name).unwrap().1
        };
        for now in scene.all_sent(super::WHOLE) {
            assert_eq!(grown(&now, &whole), usize::from(is_whole), "{} after {commits} commits: whole", now.0);
        }
        for now in scene.all_sent(CHANGES) {
            assert_eq!(grown(&now, &changes), usize::from(!is_whole), "{} after {commits} commits: changes", now.0);
        }
    }
}
