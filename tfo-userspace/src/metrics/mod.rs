//! Prometheus metrics of one or more network namespaces.
//!
//! [`read`] reads the facts of one namespace, on a thread in it; [`render()`] makes Prometheus's text of them;
//! [`Server`] serves it. [`METRICS`] is the table of all metrics: a new one is a line there, and its value.

mod facts;
mod family;
mod farm;
mod guard;
mod handlers;
mod health;
mod listener;
mod merge;
mod render;
mod server;
mod table;

pub use facts::{
    InterfaceFacts, NamespaceCounts, NamespaceFacts, OtherFacts, ScrapeTarget, ServiceFacts, read,
    unreadable,
};
pub use health::health;
pub use listener::ListenError;
pub use render::{render, render_namespaces};
pub use server::Server;
pub use table::{Kind, METRICS, Metric};

#[cfg(test)]
mod tests;
