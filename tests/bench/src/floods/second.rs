//! What is measured during a flood.

/// Rates and latencies of one measurement; rates are per second.
#[derive(Clone, Debug)]
pub(super) struct Second {
    /// Legitimate connections whose SYN data was accepted.
    pub(super) in_syn: f64,
    /// Legitimate connections without Fast Open.
    pub(super) plain: f64,
    /// Median and 99th percentile of connect(2) without Fast Open, in milliseconds. Failed connections are not
    /// included.
    pub(super) connects: [f64; 2],
    /// `TCPFastOpenPassive` of the kernel.
    pub(super) passive: f64,
    /// SYNs that the generator sent.
    pub(super) flood: f64,
    /// Segments that reached the service's TCP, for each legitimate connection.
    pub(super) segments: f64,
    /// Utilization of all CPUs, in percent.
    pub(super) busy: f64,
}
