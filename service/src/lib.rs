//! What the shells of the three services share: framed connections, the placement API, health, metrics, drain.

pub mod alive;
pub mod api;
pub mod certificate;
pub mod clock;
pub mod connection;
pub mod drain;
pub mod forget;
pub mod health;
pub mod http;
pub mod identities;
pub mod newest;
pub mod nodes;
pub mod places;
pub mod proxy;
pub mod quotas;
pub mod random;
pub mod tls;
pub mod trust;
