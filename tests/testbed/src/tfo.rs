//! The `tfo` command under test.

use std::{collections::BTreeMap, env, path::PathBuf, process::Command, time::Duration};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::{
    netns::Netns,
    process::{self, Background, Output},
};

/// How long one call may take.
pub const LIMIT: Duration = Duration::from_secs(20);

/// Counters by name, as `tfo` prints them.
pub type Named = BTreeMap<String, i64>;

/// What `tfo stats --json` prints.
#[derive(Clone, Debug)]
pub struct Stats {
    /// What the data path counted.
    pub counters: Named,
    /// What the kernel counted in the same time.
    pub kernel: Named,
    /// How far the two are apart.
    pub drift: Named,
}

/// Runs `tfo` for one network namespace. On drop it detaches everything there.
#[derive(Debug)]
pub struct Tfo {
    binary: PathBuf,
    netns: String,
}

impl Tfo {
    /// The `tfo` beside this executable, to act in `netns`.
    ///
    /// # Panics
    ///
    /// Where there is none.
    pub fn new(netns: &Netns) -> Self {
        Self {
            binary: binary(),
            netns: netns.name().to_owned(),
        }
    }

    /// Runs `tfo` with these arguments, however it ends.
    ///
    /// # Errors
    ///
    /// Where it does not end in time.
    pub fn run(&self, arguments: &[&str]) -> Result<Output> {
        process::output(&mut self.command(arguments), LIMIT)
    }

    /// Runs `tfo` with these arguments, which must do.
    ///
    /// # Errors
    ///
    /// Where it fails; the error tells what it wrote.
    pub fn done(&self, arguments: &[&str]) -> Result<String> {
        process::succeed(&mut self.command(arguments), LIMIT)
    }

    /// The one JSON object that `tfo` prints for these arguments and `--json`.
    ///
    /// # Errors
    ///
    /// Where it fails or prints something else.
    pub fn json(&self, arguments: &[&str]) -> Result<Value> {
        let text = self.done(&[arguments, &["--json"]].concat())?;
        let value: Value =
            serde_json::from_str(&text).with_context(|| format!("{arguments:?} gave {text:?}"))?;
        ensure!(value.is_object(), "{arguments:?} gave {text:?}");
        Ok(value)
    }

    /// What `tfo stats --json` prints.
    ///
    /// # Errors
    ///
    /// Where it fails or prints something else.
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

    /// What `tfo stats --by port --json` prints for each port.
    ///
    /// # Errors
    ///
    /// Where it fails or prints something else.
    pub fn stats_by_port(&self) -> Result<BTreeMap<u16, Named>> {
        let value = self.json(&["stats", "--by", "port"])?;
        let ports = value["ports"].as_object();
        ports
            .with_context(|| format!("no object \"ports\" in {value}"))?
            .iter()
            .map(|(port, counters)| Ok((port.parse()?, named(counters)?)))
            .collect()
    }

    /// Starts a `tfo` that stays in the foreground.
    ///
    /// # Errors
    ///
    /// Where it cannot be started.
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
            eprintln!("the data path in {} stays: {error:#}", self.netns);
        }
    }
}

/// An object from name to integer.
fn named(value: &Value) -> Result<Named> {
    let object = value.as_object().context("no object")?;
    object
        .iter()
        .map(|(name, value)| {
            let value = value.as_i64().with_context(|| format!("{name}: {value}"))?;
            Ok((name.clone(), value))
        })
        .collect()
}

/// `tfo` of the profile that this executable was built in.
///
/// # Panics
///
/// Where there is none.
pub fn binary() -> PathBuf {
    let this = env::current_exe().expect("an executable knows where it is");
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
