//! Why the service, or its control of one namespace, did not start.

use std::io;

use crate::{
    config::ConfigError,
    datapath::{AttachError, ControllerError, NamespaceError},
    kernel::{link::LinkError, netns::NetnsError},
    metrics::ListenError,
};

/// Why a namespace is not under control yet.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The thread cannot enter the namespace.
    #[error(transparent)]
    Netns(#[from] NetnsError),
    /// The data path was attached to no interface.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// Another controller has the namespace.
    #[error(transparent)]
    Control(#[from] ControllerError),
    /// The namespace's pins or keys cannot be read.
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    /// Two names in the configuration are of one namespace.
    #[error(
        "network namespace {name} is the same as {other}: put all interfaces under one of the names"
    )]
    SameNamespace {
        /// The name that was refused.
        name: String,
        /// The name that is already under control.
        other: String,
    },
    /// The namespace's thread ended.
    #[error("the thread of network namespace {0} ended")]
    Thread(String),
}

impl StartError {
    /// An interface does not exist yet, which the follower logs.
    pub(super) const fn is_missing_interface(&self) -> bool {
        matches!(self, Self::Attach(error) if is_missing_interface(error))
    }
}

/// An interface does not exist.
pub(super) const fn is_missing_interface(error: &AttachError) -> bool {
    let AttachError::Namespace(NamespaceError::Link(error)) = error else {
        return false;
    };
    matches!(error, LinkError::Unknown { .. })
}

/// Why the service did not start.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The configuration was refused.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Metrics cannot be served.
    #[error(transparent)]
    Metrics(#[from] ListenError),
    /// Signal handlers cannot be installed.
    #[error("cannot wait for signals: {0}")]
    Signals(io::Error),
    /// A thread cannot be started.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
    /// The helper process cannot be started.
    #[error(
        "[listeners]: cannot start the helper process: {0}: allow the service to start processes (execve, TasksMax), or remove the section"
    )]
    Helper(io::Error),
    /// No namespace could be controlled; the first error, of the service's own.
    #[error(transparent)]
    Start(#[from] StartError),
    /// No namespace could be controlled; the first error, of another one.
    #[error("{0}")]
    Namespace(String),
    /// The helper process that enters network namespaces ended, and the processes there with it.
    #[error(
        "[[namespace]]: the helper process ended: it was killed, or ran out of memory: start the service again"
    )]
    NetnsHelperEnded,
}
