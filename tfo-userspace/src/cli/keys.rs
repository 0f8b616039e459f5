//! `tfo keys`.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde_json::json;
use tfo_common::fastopen::Key;
use tfo_userspace::{datapath::Namespace, kernel::sysctl, keys, model::Fingerprint};

use super::{
    arguments::JsonArgs,
    output::{print, print_json},
    time,
};

#[derive(Subcommand)]
pub(super) enum KeysCommand {
    /// Show the fingerprints of the keys that the kernel and the data path have
    Show(JsonArgs),
    /// Make a random key primary and the old primary key the backup, whose cookies stay valid until the next
    /// rotation
    Rotate,
    /// Copy the kernel's keys to the data path
    Import,
    /// Replace all keys by those of a file; cookies of all other keys are refused from then on
    Set {
        /// A file of mode 0600 with `PRIMARY[,BACKUP]`, each key four groups of 8 hexadecimal digits, as
        /// `net.ipv4.tcp_fastopen_key` has them
        #[arg(long, value_name = "FILE")]
        file: PathBuf,
    },
}

pub(super) fn run(command: &KeysCommand) -> anyhow::Result<()> {
    match command {
        KeysCommand::Show(args) => show(args.json),
        KeysCommand::Rotate => rotate(),
        KeysCommand::Import => import(),
        KeysCommand::Set { file } => set(file),
    }
}

fn show(json: bool) -> anyhow::Result<()> {
    let namespace = Namespace::current()?;
    let kernel = sysctl::key()?;
    let kernel: Option<Vec<Fingerprint>> = kernel.map(|pair| fingerprints(pair.keys()));
    let data_path = namespace.keys().accepted()?;
    let data_path = data_path.map(|set| fingerprints(set.keys().iter().copied()));
    let age = namespace.keys().age()?;
    // The data path accepts the next key before a rotation, too.
    let agree = data_path.as_ref().map(|data_path| {
        let kernel = kernel.as_deref();
        kernel.is_some_and(|kernel| data_path.starts_with(kernel))
    });
    if json {
        return print_json(&json!({
            "kernel": kernel,
            "data_path": data_path,
            "agree": agree,
            "age_seconds": age.map(|age| age.as_secs()),
        }));
    }
    let mut text = format!(
        "kernel     {}\ndata path  {}\n",
        kernel.as_deref().map_or("none yet".to_owned(), line),
        data_path
            .as_deref()
            .map_or("nothing attached".to_owned(), line),
    );
    if agree == Some(false) {
        text.push_str("they differ: `tfo keys import` copies the kernel's keys to the data path\n");
    }
    if let Some(age) = age {
        text += &format!("changed    {} ago\n", time::age(age));
    }
    print(&text)
}

fn rotate() -> anyhow::Result<()> {
    let pair = Namespace::current()?.keys().rotate()?;
    print(&format!("rotated: {}\n", pair.describe()))
}

fn import() -> anyhow::Result<()> {
    let pair = Namespace::current()?.keys().import()?;
    print(&format!("imported: {}\n", pair.describe()))
}

fn set(file: &Path) -> anyhow::Result<()> {
    let pair = keys::read_key_file(file)?;
    Namespace::current()?.keys().set(&pair)?;
    print(&format!("set: {}\n", pair.describe()))
}

pub(super) fn fingerprints(keys: impl IntoIterator<Item = Key>) -> Vec<Fingerprint> {
    keys.into_iter().map(|key| Fingerprint::of(&key)).collect()
}

fn line(keys: &[Fingerprint]) -> String {
    match keys {
        [] => "no key".to_owned(),
        [primary] => format!("primary {primary}"),
        [primary, backup] => format!("primary {primary}, backup {backup}"),
        [primary, others @ ..] => {
            let others: Vec<String> = others.iter().map(ToString::to_string).collect();
            format!("primary {primary}, also {}", others.join(", "))
        }
    }
}
