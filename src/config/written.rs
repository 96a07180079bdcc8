//! The configuration as written: what TOML says, unchecked beyond its form. Every documented key is here and no other
//! is accepted. A value that a message may point at carries its place ([`Spanned`]). Nothing outside `config` sees
//! these types.

use std::fmt;

use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use toml::Spanned;

use super::later::{Cluster, MemcachedConfig, Unsettled};

/// A text with its place.
pub(super) type Text = Option<Spanned<String>>;

/// `livezone.toml`.
#[derive(Deserialize, Debug, Default)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Server {
    pub(super) data_dir: Option<String>,
    pub(super) zones_dir: Option<String>,
    pub(super) dns: Option<Dns>,
    pub(super) http: Option<Http>,
    #[serde(default)]
    pub(super) key: Vec<Spanned<Key>>,
    pub(super) store: Option<Store>,
    #[serde(default)]
    pub(super) token: Vec<Spanned<Token>>,
    pub(super) cluster: Option<Spanned<Cluster>>,
    #[serde(default)]
    pub(super) memcached_config: Vec<Spanned<MemcachedConfig>>,
    pub(super) tls: Option<Spanned<Tls>>,
    pub(super) limits: Option<Limits>,
}

#[derive(Deserialize, Debug, Default)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Dns {
    pub(super) listen: Option<Spanned<Vec<Spanned<String>>>>,
    pub(super) threads: Option<Spanned<i64>>,
    pub(super) udp_size: Option<Spanned<i64>>,
    pub(super) update_rate: Option<Spanned<i64>>,
    pub(super) rotate: Option<Spanned<bool>>,
    pub(super) nsid: Text,
    pub(super) version: Text,
    pub(super) rrl: Option<Rrl>,
    pub(super) cookies: Option<bool>,
    pub(super) cookie_secret: Option<Spanned<Texts>>,
    pub(super) cookie_secret_file: Text,
    pub(super) tls_listen: Option<Spanned<Vec<Spanned<String>>>>,
    pub(super) https_listen: Option<Spanned<Vec<String>>>,
    pub(super) quic_listen: Option<Spanned<Vec<String>>>,
}

#[derive(Deserialize, Debug, Default)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Rrl {
    pub(super) rate: Option<Spanned<i64>>,
    pub(super) slip: Option<Spanned<i64>>,
    pub(super) ipv4_prefix: Option<Spanned<i64>>,
    pub(super) ipv6_prefix: Option<Spanned<i64>>,
    pub(super) exempt: Option<Spanned<Vec<Spanned<String>>>>,
}

/// One text, or several.
#[derive(Debug)]
pub(super) struct Texts(pub(super) Vec<String>);

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Texts, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = Texts;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or an array of strings")
            }

            fn visit_str<E>(self, text: &str) -> Result<Texts, E> {
                Ok(Texts(vec![text.to_owned()]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, texts: A) -> Result<Texts, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(texts)).map(Texts)
            }
        }

        deserializer.deserialize_any(Either)
    }
}

#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Tls {
    pub(super) certificate: Text,
    pub(super) key: Text,
    pub(super) client_ca: Text,
}

#[derive(Deserialize, Debug, Default)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Limits {
    pub(super) tcp_connections: Option<Spanned<i64>>,
    pub(super) tcp_connections_per_client: Option<Spanned<i64>>,
    pub(super) tcp_idle: Text,
    pub(super) zone_leases: Option<Spanned<i64>>,
    pub(super) zone_services: Option<Spanned<i64>>,
    pub(super) owner_leases: Option<Spanned<i64>>,
    pub(super) owner_services: Option<Spanned<i64>>,
}

#[derive(Deserialize, Debug, Default)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Http {
    pub(super) listen: Text,
    pub(super) open: Option<Spanned<bool>>,
    pub(super) certificate: Text,
    pub(super) key: Text,
}

#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Token {
    pub(super) sha256: Text,
    pub(super) name: Text,
    pub(super) zones: Option<Vec<String>>,
    pub(super) services: Option<Vec<String>>,
    pub(super) access: Text,
    pub(super) members: Text,
}

#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Key {
    pub(super) name: Text,
    pub(super) algorithm: Text,
    pub(super) secret: Text,
    pub(super) secret_file: Text,
}

#[derive(Deserialize, Debug, Default)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Store {
    pub(super) kind: Text,
    pub(super) endpoints: Option<Spanned<Vec<String>>>,
    pub(super) prefix: Text,
}

/// A zone file.
#[derive(Deserialize, Debug, Default)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Zone {
    pub(super) origin: Text,
    pub(super) ttl: Text,
    pub(super) negative_ttl: Text,
    #[serde(rename = "static")]
    pub(super) static_file: Text,
    pub(super) settle: Text,
    pub(super) primary: Option<Spanned<Vec<Spanned<String>>>>,
    pub(super) key: Text,
    pub(super) peer_address: Option<Spanned<bool>>,
    pub(super) drain_timeout: Text,
    #[serde(default)]
    pub(super) soa: Soa,
    #[serde(default)]
    pub(super) lease: Lease,
    #[serde(default)]
    pub(super) access: Access,
    pub(super) notify: Option<Spanned<Notify>>,
    pub(super) hold: Option<Spanned<Hold>>,
    pub(super) damping: Option<Spanned<Damping>>,
    pub(super) history: Option<Unsettled>,
    #[serde(default)]
    pub(super) service: Vec<Spanned<Service>>,
}

#[derive(Deserialize, Debug, Default)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Soa {
    pub(super) primary: Text,
    pub(super) contact: Text,
    pub(super) refresh: Text,
    pub(super) retry: Text,
    pub(super) expire: Text,
}

#[derive(Deserialize, Debug, Default)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Lease {
    pub(super) default: Text,
    pub(super) min: Text,
    pub(super) max: Text,
    pub(super) grace: Text,
    pub(super) records: Text,
}

#[derive(Deserialize, Debug, Default)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Access {
    pub(super) update: Option<Spanned<Vec<Spanned<UpdateEntry>>>>,
    pub(super) transfer: Option<Vec<Spanned<TransferEntry>>>,
    pub(super) query: Option<Vec<Spanned<QueryEntry>>>,
}

#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct UpdateEntry {
    pub(super) key: Text,
    pub(super) network: Text,
    pub(super) services: Option<Vec<String>>,
    pub(super) ids: Option<Vec<String>>,
    pub(super) members: Text,
    pub(super) records: Option<Vec<String>>,
}

#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct TransferEntry {
    pub(super) key: Text,
    pub(super) network: Text,
}

#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct QueryEntry {
    pub(super) key: Text,
    pub(super) network: Text,
}

#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Notify {
    pub(super) secondaries: Option<Vec<Spanned<Secondary>>>,
}

/// `"address:port"`, or a table with that and a key.
#[derive(Debug)]
pub(super) enum Secondary {
    Address(String),
    Entry(SecondaryEntry),
}

#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct SecondaryEntry {
    pub(super) address: Text,
    pub(super) key: Text,
}

impl<'de> Deserialize<'de> for Secondary {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Secondary, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = Secondary;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"address:port\" or { address = \"address:port\", key = \"name.\" }")
            }

            fn visit_str<E>(self, address: &str) -> Result<Secondary, E> {
                Ok(Secondary::Address(address.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Secondary, A::Error> {
                SecondaryEntry::deserialize(MapAccessDeserializer::new(map)).map(Secondary::Entry)
            }
        }

        deserializer.deserialize_any(Either)
    }
}

#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Hold {
    pub(super) fraction: Option<Spanned<f64>>,
    pub(super) min_members: Option<Spanned<i64>>,
    pub(super) max: Text,
    pub(super) floor: Option<Spanned<i64>>,
}

#[derive(Deserialize, Debug, Default)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Damping {
    pub(super) half_life: Text,
    pub(super) suppress: Option<Spanned<f64>>,
    pub(super) reuse: Option<Spanned<f64>>,
}

#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Service {
    pub(super) name: Text,
    pub(super) host_name: Text,
    pub(super) dns_sd: Option<bool>,
    pub(super) slots: Option<Spanned<bool>>,
    pub(super) slot_hold: Text,
    pub(super) slow_start: Text,
    pub(super) afsdb: Option<Spanned<u16>>,
    pub(super) lease: Option<Lease>,
    pub(super) hold: Option<Spanned<Hold>>,
    pub(super) damping: Option<Spanned<Damping>>,
}
