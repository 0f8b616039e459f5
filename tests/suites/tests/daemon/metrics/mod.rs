//! What `tfo run --metrics` serves: right values, to well-behaved clients and in spite of others, and what
//! Prometheus makes of them.

mod clients;
mod prometheus;
mod scrape;
