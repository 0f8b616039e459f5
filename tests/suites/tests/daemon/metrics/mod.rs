//! `tfo run --metrics`: values, HTTP clients good and bad, and Prometheus's queries.

mod clients;
mod locks;
mod prometheus;
mod scrape;
