//! What etcd's word means, and what to do about it.

use std::{fmt::Display, future::Future};

use etcd_client::Error;

use super::LIMIT;
use crate::farm::FarmError;

/// What etcd answers, where it does in time.
pub(super) async fn limited<T>(call: impl Future<Output = Result<T, Error>>) -> Result<T, String> {
    match tokio::time::timeout(LIMIT, call).await {
        Ok(answer) => answer.map_err(|error| text(&error)),
        Err(_) => Err(format!("no answer for {} s", LIMIT.as_secs())),
    }
}

/// An error with its causes, as far as each says more than the one before.
pub(super) fn text(error: &Error) -> String {
    let (mut text, mut cause): (String, Option<&dyn std::error::Error>) = match error {
        Error::GRpcStatus(status) => (
            status.message().to_owned(),
            std::error::Error::source(status),
        ),
        Error::TransportError(error) => (error.to_string(), std::error::Error::source(error)),
        error => (error.to_string(), None),
    };
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text.replace('\n', " ")
}

/// What etcd's word means, and what to do about it.
pub(super) fn explain(
    place: &str,
    user: Option<&str>,
    prefix: &str,
    error: impl Display,
) -> FarmError {
    let error = error.to_string();
    let says = |part: &str| error.contains(part);
    let remedy = if says("space exceeded") {
        "it is full: compact and defragment it, then `etcdctl alarm disarm`".to_owned()
    } else if says("authentication failed") {
        "look at user and password in [farm]".to_owned()
    } else if says("permission denied") {
        format!(
            "let {} read and write what begins with {prefix}: `etcdctl role grant-permission --prefix=true ROLE readwrite {prefix}`",
            user.map_or("this host".to_owned(), |user| format!("user {user}"))
        )
    } else if says("user name is empty") || says("user name not found") {
        "it wants to know who asks: give user and password in [farm]".to_owned()
    } else if says("Expired") || says("expired") {
        "a certificate has expired: renew it, or set the clock right".to_owned()
    } else if says("certificate") || says("Certificate") || says("UnknownIssuer") {
        "look at ca, certificate and key in [farm], and at the certificate of etcd".to_owned()
    } else {
        "look whether it runs and can be reached from here".to_owned()
    };
    FarmError::Etcd {
        place: place.to_owned(),
        error,
        remedy,
    }
}
