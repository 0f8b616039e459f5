//! `tfo run --metrics`: values, HTTP clients good and bad, and Prometheus's queries.

mod clients;
mod prometheus;
mod scrape;
