//! A server in the test's own process, over UDP.

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// A server that answers each message as a test wants it.
pub(crate) struct Answering {
    pub(crate) address: SocketAddr,
    asked: Arc<Mutex<Vec<Vec<u8>>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Answering {
    /// Answers queries as told, and acknowledges NOTIFY.
    pub(crate) fn start(
        address: &str,
        mut answer: impl FnMut(&[u8], SocketAddr) -> Vec<Vec<u8>> + Send + 'static,
    ) -> Answering {
        Answering::to_all(
            address,
            move |message, peer| {
                if is_notify(message) { vec![acknowledge(message)] } else { answer(message, peer) }
            },
        )
    }

    /// Answers whatever comes in as told.
    pub(crate) fn to_all(
        address: &str,
        mut answer: impl FnMut(&[u8], SocketAddr) -> Vec<Vec<u8>> + Send + 'static,
    ) -> Answering {
        let socket = UdpSocket::bind(address).unwrap();
        let address = socket.local_addr().unwrap();
        let (asked, stop) = (Arc::<Mutex<Vec<Vec<u8>>>>::default(), Arc::<AtomicBool>::default());
        let thread = {
            let (asked, stop) = (asked.clone(), stop.clone());
            std::thread::spawn(move || {
                let mut buffer = [0; 1500];
                loop {
                    let (len, peer) = socket.recv_from(&mut buffer).unwrap();
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    asked.lock().unwrap().push(buffer[..len].to_vec());
                    for packet in answer(&buffer[..len], peer) {
                        socket.send_to(&packet, peer).unwrap();
                    }
                }
            })
        };
        Answering { address, asked, stop, thread: Some(thread) }
    }

    pub(crate) fn silent() -> Answering {
        Answering::start("127.0.0.1:0", |_, _| Vec::new())
    }

    fn queries(&self) -> Vec<Vec<u8>> {
        self.asked.lock().unwrap().iter().filter(|message| !is_notify(message)).cloned().collect()
    }

    /// Every NOTIFY that came in.
    pub(crate) fn notifies(&self) -> Vec<Vec<u8>> {
        self.asked.lock().unwrap().iter().filter(|message| is_notify(message)).cloned().collect()
    }

    /// What it was asked, each question once however often it was sent.
    pub(crate) fn questions(&self) -> Vec<Vec<u8>> {
        let mut questions = self.queries();
        questions.sort();
        questions.dedup();
        questions
    }

    /// The names of the zones that it was asked for, each once.
    pub(crate) fn zones(&self) -> Vec<Vec<u8>> {
        let name = |query: &Vec<u8>| query[12..query.len() - 4].to_vec();
        let mut names: Vec<Vec<u8>> = self.queries().iter().map(name).collect();
        names.sort();
        names.dedup();
        names
    }
}

/// Whether the opcode is 4 (RFC 1996).
fn is_notify(message: &[u8]) -> bool {
    message.len() >= 12 && message[2] >> 3 & 0xf == 4
}

/// The response to a NOTIFY: the same with QR set.
pub(crate) fn acknowledge(notify: &[u8]) -> Vec<u8> {
    let mut octets = notify.to_vec();
    octets[2] |= 0x80;
    octets
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let waker = UdpSocket::bind((self.address.ip(), 0)).unwrap();
        let _ = waker.send_to(&[], self.address);
        let ended = self.thread.take().unwrap().join();
        assert!(ended.is_ok() || std::thread::panicking());
    }
}
