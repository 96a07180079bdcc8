//! The tasks of zones are watched: when one ends that was not told to, by a panic, nobody keeps its zone true any more. No
//! lease of it would lapse, and no copy expire. In doubt there is no answer: the zone is SERVFAIL from then on, which the log
//! says at once, and the other zones go on.

use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::dns::respond::ServedZone;

/// Starts the task of a zone, which ends when `stop` turns and not before.
pub(super) fn spawn(
    on: &Handle,
    served: Arc<ServedZone>,
    stop: watch::Receiver<bool>,
    task: impl Future<Output = ()> + Send + 'static,
) -> JoinHandle<()> {
    let mut watched = Watched { served, stop, ended: false };
    on.spawn(async move {
        task.await;
        watched.ended = true;
        drop(watched);
    })
}

/// What is dropped with a task, however it ends.
struct Watched {
    served: Arc<ServedZone>,
    stop: watch::Receiver<bool>,
    ended: bool,
}

impl Drop for Watched {
    fn drop(&mut self) {
        // Whoever aborts it knows why.
        let has_ended = self.ended || std::thread::panicking();
        if has_ended && !*self.stop.borrow() {
            self.served.answers.store(None);
            let zone = &self.served.origin;
            tracing::error!(%zone, "the task of the zone ended by a mistake in it: it is SERVFAIL; restart the server");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answer::Answers;
    use crate::base::Epoch;
    use crate::zone::Zone;
    use crate::zone::scenes::Universe;

    fn shown() -> Arc<ServedZone> {
        let served = Arc::new(ServedZone::new("z.".parse().expect("a name")));
        let zone = Zone::new(Universe::new("z.").settings(), Epoch(1));
        served.answers.store(Some(Arc::new(Answers::build(zone.snapshot()))));
        served
    }

    #[tokio::test]
    async fn a_zone_whose_task_ends_untold_has_no_answers() {
        let (stop, stopped) = watch::channel(false);
        let served = shown();
        let task = spawn(&Handle::current(), served.clone(), stopped.clone(), async {
            tokio::task::yield_now().await;
            panic!("as a mistake does");
        });
        assert!(task.await.unwrap_err().is_panic());
        assert!(served.answers.load().is_none());
        let served = shown();
        spawn(&Handle::current(), served.clone(), stopped.clone(), async {}).await.unwrap();
        assert!(served.answers.load().is_none());
        // Told to, or aborted by who stops it.
        let served = shown();
        let aborted = spawn(&Handle::current(), served.clone(), stopped.clone(), std::future::pending());
        aborted.abort();
        assert!(aborted.await.unwrap_err().is_cancelled());
        let mut told = stopped.clone();
        let task = spawn(&Handle::current(), served.clone(), stopped, async move { drop(told.changed().await) });
        stop.send(true).unwrap();
        task.await.unwrap();
        assert!(served.answers.load().is_some());
    }
}
