//! The `tfo` command under test.

use std::{collections::BTreeMap, env, path::PathBuf, process::Command, time::Duration};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::{
    netns::Netns,
    process::{self, Background, Output},
};

/// Timeout of one call.
pub const LIMIT: Duration = Duration::from_secs(20);

/// Counters by name, as `tfo` prints them.
pub type Named = BTreeMap<String, i64>;

/// Output of `tfo stats --json`.
#[derive(Clone, Debug)]
pub struct Stats {
    /// Counters of the data path.
    pub counters: Named,
    /// The kernel's counters since attach.
    pub kernel: Named,
    /// `counters` minus `kernel`.
    pub drift: Named,
}

/// The `tfo` command for one network namespace. Runs `tfo detach --all` on drop.
#[derive(Debug)]
pub struct Tfo {
    binary: PathBuf,
    netns: String,
}

impl Tfo {
    /// Uses [`binary`] with `--netns` of `netns`.
    ///
    /// # Panics
    ///
    /// As [`binary`].
    pub fn new(netns: &Netns) -> Self {
        Self {
            binary: binary(),
            netns: netns.name().to_owned(),
        }
    }

    /// Runs `tfo` with these arguments. Any exit status is accepted.
    ///
    /// # Errors
    ///
    /// `tfo` cannot be started, or does not exit within [`LIMIT`].
    pub fn run(&self, arguments: &[&str]) -> Result<Output> {
        process::output(&mut self.command(arguments), LIMIT)
    }

    /// Runs `tfo` with these arguments, which must succeed. Returns its standard output.
    ///
    /// # Errors
    ///
    /// `tfo` fails; the error contains its output.
    pub fn done(&self, arguments: &[&str]) -> Result<String> {
        process::succeed(&mut self.command(arguments), LIMIT)
    }

    /// The JSON object that `tfo` prints with these arguments and `--json`.
    ///
    /// # Errors
    ///
    /// `tfo` fails, or prints anything else.
    pub fn json(&self, arguments: &[&str]) -> Result<Value> {
        let text = self.done(&[arguments, &["--json"]].concat())?;
        let value: Value =
            serde_json::from_str(&text).with_context(|| format!("{arguments:?} gave {text:?}"))?;
        ensure!(value.is_object(), "{arguments:?} gave {text:?}");
        Ok(value)
    }

    /// Runs `tfo stats --json`.
    ///
    /// # Errors
    ///
    /// `tfo` fails, or prints anything else.
    pub fn stats(&self) -> Result<Stats> {
        let value = self.json(&["stats"])?;
        let object = |name: &str| {
            named(&value[name]).with_context(|| format!("{name} in tfo stats --json: {value}"))
        };
        Ok(Stats {
            counters: object("counters")?,
            kernel: object("kernel")?,
            drift: object("drift")?,
        })
    }

    /// Runs `tfo stats --by port --json`. Returns the counters by port.
    ///
    /// # Errors
    ///
    /// `tfo` fails, or prints anything else.
    pub fn stats_by_port(&self) -> Result<BTreeMap<u16, Named>> {
        let value = self.json(&["stats", "--by", "port"])?;
        let ports = value["ports"].as_object();
        ports
            .with_context(|| format!("no object \"ports\" in {value}"))?
            .iter()
            .map(|(port, counters)| Ok((port.parse()?, named(counters)?)))
            .collect()
    }

    /// Starts a long-running `tfo`, such as `tfo run`.
    ///
    /// # Errors
    ///
    /// `tfo` cannot be started.
    pub fn start(&self, arguments: &[&str]) -> Result<Background> {
        Background::start(&mut self.command(arguments))
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command.args(arguments).args(["--netns", &self.netns]);
        command
    }
}

impl Drop for Tfo {
    fn drop(&mut self) {
        if let Err(error) = self.done(&["detach", "--all"]) {
            eprintln!("cannot detach in {}: {error:#}", self.netns);
        }
    }
}

/// Parses an object of integers.
fn named(value: &Value) -> Result<Named> {
    let object = value.as_object().context("not an object")?;
    object
        .iter()
        .map(|(name, value)| {
            let value = value.as_i64().with_context(|| format!("{name}: {value}"))?;
            Ok((name.clone(), value))
        })
        .collect()
}

/// Path of the `tfo` executable in the target directory of this executable's profile.
///
/// # Panics
///
/// `tfo` is not built.
pub fn binary() -> PathBuf {
    let this = env::current_exe().expect("/proc/self/exe is readable");
    let found = this
        .ancestors()
        .skip(1)
        .take(2)
        .map(|directory| directory.join("tfo"))
        .find(|path| path.is_file());
    found.unwrap_or_else(|| {
        panic!(
            "no tfo beside {}: run `cargo xtask test`, which builds it first",
            this.display()
        )
    })
}
