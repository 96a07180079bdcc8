//! The parts of the configuration, as written, whose features this version does not have. They are read strictly, so
//! that a documented file is accepted and a misspelt key is not, and then left alone, with a warning.

#![expect(dead_code, reason = "these keys are checked for their form and have no effect in this version")]

use serde::Deserialize;
use toml::Spanned;

/// A table whose keys are not settled yet.
pub(super) type Unsettled = Spanned<toml::Value>;

#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Cluster {
    listen: Option<String>,
    advertise: Option<String>,
    secret_file: Option<String>,
    secret: Option<String>,
    certificate: Option<String>,
    key: Option<String>,
    ca: Option<String>,
}

#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct MemcachedConfig {
    listen: Option<String>,
    zone: Option<String>,
    service: Option<String>,
}
