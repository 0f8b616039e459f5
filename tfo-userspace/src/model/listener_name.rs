//! The text of a listener's address.

use std::{
    fmt::Display,
    net::{IpAddr, SocketAddr},
};

/// Address, device and port, as ss(8) writes them.
pub(crate) fn listener_name(address: SocketAddr, device: Option<&impl Display>) -> String {
    let Some(device) = device else {
        return address.to_string();
    };
    let port = address.port();
    match address.ip() {
        IpAddr::V4(ip) => format!("{ip}%{device}:{port}"),
        IpAddr::V6(ip) => format!("[{ip}]%{device}:{port}"),
    }
}
