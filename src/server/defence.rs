//! What a server keeps over reloads to tell clients from forgers: the secret of its cookies, and what each network has used
//! of the rate of answers.

use std::sync::Arc;

use crate::config::Dns;
use crate::dns::cookie::{Cookies, Secret};
use crate::dns::rate::{Buckets, Rate};

/// Kept from the start of a server to its end.
#[derive(Debug)]
pub(super) struct Defence {
    /// Makes cookies where the configuration has no secret.
    secret: Secret,
    buckets: Arc<Buckets>,
}

impl Defence {
    /// A secret that nobody else has.
    pub(super) fn new(secret: Secret) -> Defence {
        Defence { secret, buckets: Arc::default() }
    }

    /// What cookies are made with, unless they are switched off.
    pub(super) fn cookies(&self, dns: &Dns) -> Option<Cookies> {
        let (first, others) = dns.cookie_secrets.split_first().unwrap_or((&self.secret, &[]));
        dns.cookies.then(|| Cookies::new(first, others))
    }

    /// The rate of answers.
    pub(super) fn rate(&self, dns: &Dns) -> Rate {
        Rate::new(&dns.rrl, self.buckets.clone())
    }
}
