//! What one or more network namespaces say, as Prometheus metrics.
//!
//! [`read`] asks one namespace, on a thread that is in it; [`render()`] makes the text of what several said;
//! [`Server`] serves it. The table of all metrics is [`METRICS`]: one line there is all that a new metric
//! needs beside its value.

mod facts;
mod family;
mod farm;
mod guard;
mod listen;
mod pages;
mod render;
mod server;
mod table;

pub use facts::{InterfaceFacts, NamespaceFacts, Watch, health, read, unreadable};
pub use listen::{Listen, ListenError};
pub use render::render;
pub use server::Server;
pub use table::{Kind, METRICS, Metric};
