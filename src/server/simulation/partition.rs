//! Networks that part: most of a service falls silent at once, and is there again, or is not.
//!
//! Whatever the process and its clocks go through meanwhile, nobody is withdrawn while a hold lasts; a heal needs nobody, and
//! those who are dead go together.

use super::*;

use super::oracle::slot_of;

const MEMBERS: usize = 20;
const LEASE: u32 = 6;
/// How long they are held at most.
const HOLD: u64 = 60_000;

/// A service whose members renew as agents do.
struct Scene {
    world: Arc<World>,
    network: Network,
    rng: fastrand::Rng,
    stop: Arc<AtomicBool>,
}

impl Scene {
    async fn new(seed: u64) -> Scene {
        let mut rng = fastrand::Rng::with_seed(seed);
        let setup = Setup {
            settle: [0, 200][rng.usize(0..2)],
            grace: [0, 1_500][rng.usize(0..2)],
            hold: Some(HOLD),
            ..Setup::new(rng.u64(..))
        };
        let world = World::new(setup);
        world.start().await.expect("an empty disk that works");
        let mut network = Network::new(&mut rng);
        (network.lost, network.delay) = (rng.u32(0..5), 20);
        let stop = Arc::new(AtomicBool::new(false));
        for number in 0..MEMBERS {
            // The first service is that of every third agent.
            let agent = Agent {
                number: number * SERVICES.len(),
                world: world.clone(),
                network: network.clone(),
                rng: rng.fork(),
                stop: stop.clone(),
            };
            tokio::spawn(agent.renew(LEASE));
        }
        let mut scene = Scene { world, network, rng, stop };
        // Long enough for all of them to have a usual interval.
        scene.pass(5 * lease()).await;
        assert_eq!(scene.members(), MEMBERS);
        scene
    }

    /// How many are published.
    fn members(&self) -> usize {
        let answer = self.world.ask(&question(SERVICES[0], RecordType::SRV)).expect("the server runs");
        let targets = targets(&answer);
        assert!(targets.iter().all(|target| slot_of(target).is_none()));
        targets.len()
    }

    fn commits(&self) -> usize {
        self.world.oracle().commits
    }

    /// Cuts that many off, and returns who that is.
    fn cut_off(&mut self, count: usize) {
        let chosen = self.rng.choose_multiple(0..MEMBERS, count);
        self.network.cut_off(chosen.into_iter().map(|number| number * SERVICES.len()));
    }

    async fn pass(&mut self, millis: u64) {
        sleep(Duration::from_millis(millis)).await;
        look(&self.world);
    }

    /// Lets time pass, and looks all the while whether that many are published.
    async fn expect(&mut self, members: usize, millis: u64) -> Result<(), String> {
        let end = self.world.now() + millis;
        while self.world.now() < end {
            self.pass(200).await;
            if self.members() != members {
                return Err(format!("{} members at {} ms, not {members}", self.members(), self.world.now()));
            }
        }
        Ok(())
    }

    /// Waits until that many are published.
    async fn wait_for(&mut self, members: usize, millis: u64) -> Result<(), String> {
        let end = self.world.now() + millis;
        while self.members() != members {
            if self.world.now() > end {
                return Err(format!("{} members at {} ms, not {members}", self.members(), self.world.now()));
            }
            self.pass(200).await;
        }
        Ok(())
    }

    /// One of the things that may happen to a machine meanwhile.
    async fn disturb(&mut self) {
        match self.rng.u8(0..5) {
            0 => self.world.stall(self.rng.u64(400..9_000)).await,
            1 => self.world.clock.set_wall(self.rng.i64(-7_200_000..7_200_000)),
            2 => self.restart(true).await,
            3 => self.restart(false).await,
            _ => {}
        }
    }

    async fn restart(&mut self, by_force: bool) {
        match by_force {
            true => self.world.kill(true).await,
            false => self.world.stop().await,
        }
        sleep(Duration::from_millis(self.rng.u64(0..3_000))).await;
        self.world.start().await.expect("the disk works");
    }

    fn end(&self) -> Result<(), String> {
        self.stop.store(true, Ordering::Relaxed);
        self.world.oracle().violation().map_or(Ok(()), Err)
    }
}

fn lease() -> u64 {
    u64::from(LEASE) * 1000
}

/// Plays these seeds, each on a machine of its own.
fn play_all<F: Future<Output = Result<(), String>>>(seeds: u64, scenario: impl Fn(u64) -> F) {
    for seed in 0..number_of("LIVEZONE_SEEDS").unwrap_or(seeds) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(scenario(seed)).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    }
}

#[test]
fn simulation_of_a_network_that_parts_and_heals_withdraws_nobody_in_two_commits() {
    play_all(20, async |seed| {
        let mut scene = Scene::new(seed).await;
        let before = scene.commits();
        let count = scene.rng.usize(MEMBERS / 2 + 1..=MEMBERS);
        scene.cut_off(count);
        let so_long = scene.rng.u64(lease()..HOLD);
        scene.expect(MEMBERS, so_long).await?;
        scene.network.cut_off([]);
        scene.expect(MEMBERS, 3 * lease()).await?;
        let commits = scene.commits() - before;
        if commits > 2 {
            return Err(format!("{commits} commits, with {count} cut off for {so_long} ms"));
        }
        scene.end()
    });
}

#[test]
fn simulation_of_a_parted_network_withdraws_nobody_whatever_else_happens_to_the_machine() {
    play_all(20, async |seed| {
        let mut scene = Scene::new(seed).await;
        let count = scene.rng.usize(MEMBERS / 2 + 1..=MEMBERS);
        scene.cut_off(count);
        for _ in 0..3 {
            let so_long = scene.rng.u64(0..HOLD / 5);
            scene.expect(MEMBERS, so_long).await?;
            scene.disturb().await;
        }
        scene.network.cut_off([]);
        scene.expect(MEMBERS, 3 * lease()).await?;
        scene.end()
    });
}

#[test]
fn simulation_of_many_that_die_has_them_go_together_at_the_end_of_the_longest_hold() {
    play_all(20, async |seed| {
        let mut scene = Scene::new(seed).await;
        let count = scene.rng.usize(MEMBERS / 2 + 1..MEMBERS);
        scene.cut_off(count);
        scene.expect(MEMBERS, HOLD).await?;
        let held = scene.commits();
        scene.wait_for(MEMBERS - count, 3 * lease()).await?;
        match scene.commits() - held {
            1 => scene.end(),
            commits => Err(format!("{commits} commits")),
        }
    });
}

#[test]
fn simulation_of_a_few_that_die_has_them_go_at_the_ends_of_their_leases() {
    play_all(20, async |seed| {
        let mut scene = Scene::new(seed).await;
        let count = scene.rng.usize(1..=MEMBERS / 3);
        scene.cut_off(count);
        scene.wait_for(MEMBERS - count, 2 * lease()).await?;
        scene.expect(MEMBERS - count, 2 * lease()).await?;
        scene.end()
    });
}
