//! `tfo keys`.

use std::path::Path;

use serde_json::json;
use tfo_common::fastopen::Key;
use tfo_userspace::{
    datapath::Namespace,
    kernel::sysctl,
    keys::{self, Fingerprint},
};

use super::output::{print, print_json};

pub(super) fn show(json: bool) -> anyhow::Result<()> {
    let namespace = Namespace::current()?;
    let kernel = sysctl::key()?;
    let kernel: Option<Vec<Fingerprint>> = kernel.map(|pair| fingerprints(pair.keys()));
    let data_path = namespace.keys().accepted()?;
    let data_path = data_path.map(|set| fingerprints(set.keys().iter().copied()));
    let age = namespace.keys().age()?.map(|age| age.as_secs());
    // It may accept more: the key that will be next.
    let agree = data_path.as_ref().map(|data_path| {
        let kernel = kernel.as_deref();
        kernel.is_some_and(|kernel| data_path.starts_with(kernel))
    });
    if json {
        return print_json(&json!({
            "kernel": kernel,
            "data_path": data_path,
            "agree": agree,
            "age_seconds": age,
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
        text.push_str("they differ: `tfo keys import` has the data path follow the kernel\n");
    }
    if let Some(age) = age {
        text += &format!("changed    {age} s ago\n");
    }
    print(&text)
}

pub(super) fn rotate() -> anyhow::Result<()> {
    let pair = Namespace::current()?.keys().rotate()?;
    print(&format!("rotated: {}\n", pair.describe()))
}

pub(super) fn import() -> anyhow::Result<()> {
    let pair = Namespace::current()?.keys().import()?;
    print(&format!("imported: {}\n", pair.describe()))
}

pub(super) fn set(file: &Path) -> anyhow::Result<()> {
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
