//! The thread that answers of many messages are made and written on: zone transfers, of which each takes as long as ten
//! thousand queries.
//!
//! A connection begins as a task of the server's runtime, and moves here when an answer isn't finished by what a client is
//! given at once (`carry`); what differs between two versions of a zone rarely is more. One thread makes all
//! transfers together use one core at most. Its priority is lower than that of the others by `NICE`, so that queries,
//! registrations and other connections come first where cores are few, and between messages it lets go of its core.
//!
//! A connection that moved stays here, with its sockets, which any thread may poll.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use tokio::runtime::Handle;
use tokio::task::JoinSet;

use crate::net::priority::Nicer;

/// How much nicer the thread is: a tenth of a core that others want all of.
const NICE: i32 = 10;

/// The thread.
#[derive(Debug)]
pub struct Bulk(Nicer);

impl Bulk {
    /// Starts it.
    pub fn start() -> io::Result<Bulk> {
        Nicer::start("transfers", Some(1), NICE).map(Bulk)
    }

    /// Where its tasks are spawned.
    pub fn handle(&self) -> Handle {
        self.0.handle()
    }
}

/// Whether a task is to move, which it says itself.
#[derive(Clone, Debug, Default)]
pub(super) struct Move(Arc<AtomicBool>);

impl Move {
    /// Ends the task's turn; the next one is on the other thread. Nothing more if it has moved.
    pub(super) async fn go(&self) {
        if !self.0.swap(true, Ordering::Relaxed) {
            tokio::task::yield_now().await;
        }
    }

    /// Lets others have the core, on the other thread.
    pub(super) fn give_way(&self) {
        if self.0.load(Ordering::Relaxed) {
            std::thread::yield_now();
        }
    }
}

/// Runs a task here until it wants to move, and there from then on. Whoever drops this ends the task.
pub(super) async fn carry(task: impl Future<Output = ()> + Send + 'static, moves: Move, there: Handle) {
    let mut task = Box::pin(task);
    let ended = std::future::poll_fn(|context| match task.as_mut().poll(context) {
        Poll::Ready(()) => Poll::Ready(true),
        Poll::Pending if moves.0.load(Ordering::Relaxed) => Poll::Ready(false),
        Poll::Pending => Poll::Pending,
    });
    if !pin!(ended).await {
        let mut moved = JoinSet::new();
        moved.spawn_on(task, &there);
        moved.join_next().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::priority::tests::{nice, nicer};

    #[tokio::test]
    async fn a_task_that_moves_goes_on_on_a_thread_that_is_nicer() {
        let (bulk, moves) = (Bulk::start().unwrap(), Move::default());
        let (told, tells) = tokio::sync::oneshot::channel();
        let own = nice();
        let task = {
            let moves = moves.clone();
            async move {
                let before = std::thread::current().id();
                moves.go().await;
                moves.go().await;
                let _ = told.send((before, std::thread::current().id(), nice()));
            }
        };
        carry(task, moves, bulk.handle()).await;
        let (before, after, there) = tells.await.unwrap();
        assert_eq!(before, std::thread::current().id());
        assert_ne!(before, after);
        assert_eq!(there, nicer(own, NICE));
    }

    #[tokio::test]
    async fn a_task_that_moved_ends_with_whoever_carries_it() {
        let (bulk, moves) = (Bulk::start().unwrap(), Move::default());
        let (held, mut ends) = tokio::sync::mpsc::channel::<()>(1);
        let task = {
            let moves = moves.clone();
            async move {
                moves.go().await;
                std::future::pending::<()>().await;
                drop(held);
            }
        };
        let carrier = tokio::spawn(carry(task, moves, bulk.handle()));
        tokio::task::yield_now().await;
        carrier.abort();
        assert_eq!(ends.recv().await, None);
    }
}
