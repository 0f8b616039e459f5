//! etcd's errors, each with its remedy.

use std::{fmt::Display, future::Future, time::Duration};

use etcd_client::Error;

use crate::farm::error::FarmError;

/// Time for etcd to answer a call.
pub(super) const TIMEOUT: Duration = Duration::from_secs(5);

/// Runs a call, for at most [`TIMEOUT`].
pub(super) async fn limited<T>(call: impl Future<Output = Result<T, Error>>) -> Result<T, String> {
    match tokio::time::timeout(TIMEOUT, call).await {
        Ok(answer) => answer.map_err(|error| text(&error)),
        Err(_) => Err(format!("no answer for {} s", TIMEOUT.as_secs())),
    }
}

/// An error with its chain of causes on one line, without those that repeat the text before.
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

/// Adds the endpoints and a remedy to etcd's message.
pub(super) fn explain(
    endpoints: &str,
    user: Option<&str>,
    prefix: &str,
    error: impl Display,
) -> FarmError {
    let error = error.to_string();
    let says = |part: &str| error.contains(part);
    let remedy = if says("space exceeded") {
        "it is full: compact and defragment it, then `etcdctl alarm disarm`".to_owned()
    } else if says("authentication failed") {
        "check user and password in [farm]".to_owned()
    } else if says("permission denied") {
        format!(
            "let {} read and write keys with the prefix {prefix}: `etcdctl role grant-permission --prefix=true ROLE readwrite {prefix}`",
            user.map_or("this host".to_owned(), |user| format!("user {user}"))
        )
    } else if says("user name is empty") || says("user name not found") {
        "it requires authentication: set user and password in [farm]".to_owned()
    } else if says("Expired") || says("expired") {
        "a certificate has expired: renew it, or set the clock".to_owned()
    } else if says("certificate") || says("Certificate") || says("UnknownIssuer") {
        "check ca, certificate and key in [farm], and etcd's certificate".to_owned()
    } else {
        "check that it runs and can be reached from here".to_owned()
    };
    FarmError::Etcd {
        endpoints: endpoints.to_owned(),
        error,
        remedy,
    }
}
