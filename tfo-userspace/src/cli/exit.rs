//! How a command ends that neither did what it was asked for nor failed.

/// The exit status of a check that found something.
pub(super) const FOUND: u8 = 3;

/// Options that each are right and do not go together. The command ends as clap ends one that it refuses.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(super) struct Misuse {
    /// The words of the subcommand, whose usage is printed.
    pub(super) of: &'static str,
    pub(super) message: String,
}

impl Misuse {
    pub(super) fn new(of: &'static str, message: impl Into<String>) -> Self {
        Self {
            of,
            message: message.into(),
        }
    }

    /// Tunnels and outer sources of the subcommand `of` that do not go together.
    pub(super) fn decap(of: &'static str, error: &str) -> Self {
        Self::new(of, format!("--decap and --decap-from: {error}"))
    }

    /// Prefixes of sources for the subcommand `of`, which is to count no source.
    pub(super) fn check_sources(
        of: &'static str,
        max: Option<u32>,
        prefixes: [Option<u8>; 2],
    ) -> Result<(), Self> {
        if max == Some(0) && prefixes.iter().any(Option::is_some) {
            return Err(Self::new(
                of,
                "--source-prefix-v4 and --source-prefix-v6 do not go with --max-sources 0, which counts no source",
            ));
        }
        Ok(())
    }
}
