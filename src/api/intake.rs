//! Bodies of requests as they come in.
//!
//! A body is in memory from its first octet until it is read, and its client decides how long that takes, up to
//! [`PATIENCE`]. Every connection may have [`FREE_OCTETS`] of one; what is more counts against [`INTAKE_OCTETS`] for all and
//! [`INTAKE_SHARE`] for each client, which is told to come again where it would have more. Only what has come in counts, in
//! steps that double, so that whoever announces much and sends little takes nothing from others, and whoever sends
//! much and slowly takes it from itself.

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::{Arc, Mutex};

use axum::body::Body;
use axum::http::StatusCode;
use hyper::body::Body as _;
use tokio::time::timeout;

use super::access::Client;
use super::body::next_frame;
use super::orders::{BATCH_OCTETS, BATCHES};
use super::problem::Problem;
use super::serve::PATIENCE;

/// Octets of each body that count against nobody: a member with addresses and metadata within their limits has 3 KiB, and ten
/// thousand connections come to 40 MiB.
pub const FREE_OCTETS: usize = 4 << 10;
/// Octets of bodies that come in, beside the first [`FREE_OCTETS`] of each: as many as all batches have that may be carried
/// out.
pub const INTAKE_OCTETS: usize = BATCHES * BATCH_OCTETS;
/// Of these, octets of one client: four of the largest batches at a time, a dozen of usual ones.
pub const INTAKE_SHARE: usize = INTAKE_OCTETS / 4;

/// Room for the bodies of all requests.
#[derive(Debug, Default)]
pub(super) struct Intake(Mutex<Taken>);

/// How much is taken. A client without any has no entry.
#[derive(Debug, Default)]
struct Taken {
    octets: usize,
    clients: HashMap<Client, usize>,
}

/// A body that has come in whole, with its room.
#[derive(Debug)]
pub(super) struct Received {
    octets: Vec<u8>,
    _room: Room,
}

impl Deref for Received {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.octets
    }
}

/// What a body takes of the intake. Dropping it gives it back.
#[derive(Debug)]
struct Room {
    intake: Arc<Intake>,
    client: Client,
    octets: usize,
}

impl Intake {
    /// The body of a request, at most so many octets.
    pub(super) async fn read(
        self: &Arc<Intake>,
        body: Body,
        limit: usize,
        client: Client,
    ) -> Result<Received, Problem> {
        let room = Room { intake: self.clone(), client, octets: 0 };
        let late = |_| Problem::new(StatusCode::REQUEST_TIMEOUT, "the body has not come in within 10 s; send it again");
        timeout(PATIENCE, gather(body, limit, room)).await.map_err(late)?
    }
}

async fn gather(mut body: Body, limit: usize, mut room: Room) -> Result<Received, Problem> {
    let too_large = || {
        let detail = format!("the body is cut off, or has more than {limit} octets: send less at a time");
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail)
    };
    let announced = body.size_hint().exact().and_then(|octets| usize::try_from(octets).ok());
    let most = announced.map_or(limit, |octets| octets.min(limit));
    let mut octets = Vec::new();
    while let Some(frame) = next_frame(&mut body).await {
        let Ok(data) = frame.map_err(|_| too_large())?.into_data() else { continue }; // trailers
        let length = octets.len() + data.len();
        if length > limit {
            return Err(too_large());
        }
        if length > octets.capacity() {
            let capacity = length.max(2 * octets.capacity()).max(FREE_OCTETS).min(most.max(length));
            room.grow(capacity.saturating_sub(FREE_OCTETS))?;
            octets.reserve_exact(capacity - octets.len());
        }
        octets.extend_from_slice(&data);
    }
    Ok(Received { octets, _room: room })
}

impl Room {
    /// Takes so many octets in all.
    fn grow(&mut self, octets: usize) -> Result<(), Problem> {
        let more = octets - self.octets;
        if more == 0 {
            return Ok(());
        }
        let full = |whose| {
            let detail = format!("bodies {whose} take all the room that there is for them; send it again in a second");
            Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail))
        };
        let mut taken = self.intake.0.lock().expect("no panic holds it");
        let own = taken.clients.get(&self.client).copied().unwrap_or_default();
        if own + more > INTAKE_SHARE {
            return full("of this client");
        }
        if taken.octets + more > INTAKE_OCTETS {
            return full("that come in");
        }
        taken.octets += more;
        taken.clients.insert(self.client, own + more);
        self.octets = octets;
        Ok(())
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if self.octets == 0 {
            return;
        }
        let mut taken = self.intake.0.lock().expect("no panic holds it");
        taken.octets -= self.octets;
        let own = taken.clients.get_mut(&self.client).expect("it has taken some");
        *own -= self.octets;
        if *own == 0 {
            taken.clients.remove(&self.client);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(intake: &Arc<Intake>, client: u8) -> Room {
        Room { intake: intake.clone(), client: Client { source: [192, 0, 2, client].into(), token: None }, octets: 0 }
    }

    #[test]
    fn a_client_has_its_share_and_all_have_the_whole() {
        let intake = Arc::new(Intake::default());
        let mut rooms: Vec<Room> = (0..4).map(|_| room(&intake, 1)).collect();
        rooms.iter_mut().for_each(|room| room.grow(BATCH_OCTETS).unwrap());
        let mut another = room(&intake, 1);
        let refusal = another.grow(1).unwrap_err();
        assert!(refusal.status == 503 && refusal.detail.contains("of this client"), "{refusal:?}");
        for client in 2..=4 {
            let mut room = room(&intake, client);
            room.grow(INTAKE_SHARE / 2).unwrap();
            room.grow(INTAKE_SHARE).unwrap();
            rooms.push(room);
        }
        let mut late = room(&intake, 5);
        let refusal = late.grow(1).unwrap_err();
        assert!(refusal.status == 503 && refusal.detail.contains("that come in"), "{refusal:?}");
        late.grow(0).unwrap();
        drop(rooms);
        another.grow(INTAKE_SHARE).unwrap();
        drop((another, late));
        let taken = intake.0.lock().unwrap();
        assert!(taken.octets == 0 && taken.clients.is_empty(), "{taken:?}");
    }

    #[tokio::test]
    async fn a_body_comes_in_whole_up_to_its_limit_and_its_room_is_given_back() {
        let intake = Arc::new(Intake::default());
        let client = room(&intake, 1).client;
        for (length, taken) in
            [(0, 0), (1, 0), (FREE_OCTETS, 0), (FREE_OCTETS + 1, 1), (BATCH_OCTETS, BATCH_OCTETS - FREE_OCTETS)]
        {
            let body = Body::from(vec![7; length]);
            let received = intake.read(body, BATCH_OCTETS, client).await.unwrap();
            assert_eq!((received.len(), intake.0.lock().unwrap().octets), (length, taken));
            drop(received);
            assert_eq!(intake.0.lock().unwrap().octets, 0);
        }
        let refusal = intake.read(Body::from(vec![7; 101]), 100, client).await.unwrap_err();
        assert_eq!(refusal.status, 413);
    }
}
