//! Invalid documents, certificates and etcd errors: a host reports them and keeps its keys.

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, Result, ensure};
use tfo_testbed::{
    keys::KeyFile,
    process,
    prometheus::Scratch,
    tfo::{LIMIT, Tfo},
};

use tfo_testbed::process::ensure_says;

use super::{
    etcd::{ADDRESS, Etcd, PORT},
    host::{Farm, eventually},
};

const DOCUMENT: &str = "/tfo/document";

#[test]
fn a_document_that_is_none_changes_no_key() -> Result<()> {
    let mut farm = Farm::new(2, "24h", "")?;
    farm.begin()?;
    let get = || farm.etcd.ctl(&["get", DOCUMENT, "--print-value-only"]);
    let early = get()?;
    farm.control(&["rotate", "--now"])?;
    let good = get()?;
    let good = good.trim_end();
    let keys = farm.hosts[1].keys()?;
    let cases = [
        (String::new(), "no farm's document"),
        ("who wrote this?".to_owned(), "no farm's document"),
        (
            good.replace("\"format\":2", "\"format\":3"),
            "it has format 3, and this tfo reads format 2: upgrade",
        ),
        (
            good.replace("\"format\":2", "\"format\":1"),
            "it has format 1, of an earlier tfo",
        ),
        (
            good.replace("\"writer\":\"", "\"writer\":\"x"),
            "cannot be opened with this host's seal",
        ),
        (
            early.trim_end().to_owned(),
            "this host is already at epoch 2",
        ),
        (
            good.replace("\"sealed\":\"", "\"keys\":\""),
            "are not sealed",
        ),
    ];
    for (text, expected) in &cases {
        farm.etcd.put(DOCUMENT, text)?;
        eventually(expected, || {
            let shown = farm.hosts[1].tfo.done(&["status"])?;
            Ok(shown.contains(expected))
        })?;
        ensure!(farm.hosts[1].keys()? == keys, "{expected}");
    }
    farm.etcd.ctl(&["del", DOCUMENT])?;
    eventually("a farm without a document", || {
        let shown = farm.hosts[1].tfo.done(&["status"])?;
        Ok(shown.contains("tfo farm init"))
    })?;
    ensure!(farm.hosts[1].keys()? == keys);
    // A host that has the farm's document in its state file can restore it.
    let said = farm.control(&["init"])?;
    ensure_says(&said, &["what this host has stored"])?;
    farm.control(&["rotate", "--now"])?;
    farm.settle()?;
    ensure!(farm.hosts[1].keys()? != keys);
    let log = farm.hosts[1].end()?;
    let log = log.stdout + &log.stderr;
    ensure!(!log.contains(&keys[..8]), "a key is logged");
    Ok(())
}

#[test]
fn a_wrong_prefix_and_a_taken_name_are_told() -> Result<()> {
    let mut farm = Farm::new(2, "24h", "prefix = \"/web/\"")?;
    // Both hosts have the same name.
    let [one, other] = ["web-1", "web-2"].map(|it| farm.scratch.path().join(format!("{it}.toml")));
    let text = fs::read_to_string(&one)?;
    fs::write(&other, text.replace("/state", "/other"))?;
    farm.control(&["init"])?;
    farm.hosts[0].start()?;
    let expect = |farm: &Farm, number: usize, part: &str| {
        eventually(part, || {
            let shown = farm.hosts[number].tfo.done(&["status"])?;
            Ok(shown.contains(part))
        })
    };
    expect(&farm, 0, "web-1 of /web/, epoch 1, steady")?;
    farm.hosts[1].start()?;
    expect(&farm, 1, "another host of the farm is named web-1, too")?;
    farm.hosts[1].kill()?;
    let elsewhere = text.replace("/web/", "/wab/").replace("web-1", "web-2");
    fs::write(&other, elsewhere)?;
    let keys = farm.hosts[1].keys()?;
    farm.hosts[1].start()?;
    expect(&farm, 1, "no document /wab/document: check the prefix")?;
    ensure!(farm.hosts[1].keys()? == keys);
    Ok(())
}

/// Writes a CA and the certificates that it signs, with openssl.
fn certificates(directory: &Path, days: &str) -> Result<()> {
    let script = format!(
        "set -e; cd '{}'\n\
         openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=authority -keyout ca.key -out ca.pem\n\
         openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=etcd -keyout etcd.key -out etcd.csr\n\
         printf 'subjectAltName=IP:{ADDRESS}\\nextendedKeyUsage=serverAuth,clientAuth\\n' >etcd.ext\n\
         openssl x509 -req -in etcd.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days {days} -extfile etcd.ext -out etcd.pem\n\
         chmod 600 *.key\n",
        directory.display()
    );
    process::succeed(Command::new("sh").args(["-c", &script]), LIMIT).map(drop)
}

/// Runs `tfo farm status` with this `[farm]` section.
fn status(etcd: &Etcd, scratch: &Scratch, section: &str) -> Result<String> {
    let path = scratch.path().join("tfo.toml");
    let text = format!(
        "[farm]\nendpoints = [\"{}\"]\nhost = \"web-1\"\nstate = \"{}\"\n{section}\n",
        etcd.url(),
        scratch.path().display()
    );
    fs::write(&path, text)?;
    let path = path.display().to_string();
    let output = Tfo::new(&etcd.netns).run(&["farm", "-c", &path, "status"])?;
    output.ensure_refused(&[])?;
    Ok(output.stderr)
}

#[test]
fn tls_and_users_are_looked_at() -> Result<()> {
    let scratch = Scratch::new()?;
    let place = scratch.path().display();
    // A validity of -1 days makes a certificate that has expired.
    for (days, says) in [
        ("30", "no document /tfo/document"),
        ("-1", "a certificate has expired"),
    ] {
        certificates(scratch.path(), days)?;
        let files = [
            format!("--cert-file={place}/etcd.pem"),
            format!("--key-file={place}/etcd.key"),
        ];
        let files: Vec<_> = files.iter().map(String::as_str).collect();
        let etcd = Etcd::start(scratch.path(), "https", &files)?;
        let ca = format!("ca = \"{place}/ca.pem\"");
        eventually(says, || Ok(status(&etcd, &scratch, &ca)?.contains(says)))?;
        let said = status(&etcd, &scratch, "")?;
        ensure_says(&said, &["certificate"])?;
    }
    Ok(())
}

#[test]
fn a_wrong_password_and_a_full_etcd_are_told() -> Result<()> {
    let scratch = Scratch::new()?;
    let etcd = Etcd::start(scratch.path(), "http", &["--quota-backend-bytes=1000000"])?;
    etcd.wait()?;
    let password = KeyFile::new("correct horse\n")?;
    for command in [
        "user add root:root",
        "user add tfo:correcthorse",
        "role add other",
        "role grant-permission other readwrite --prefix=true /other/",
        "user grant-role tfo other",
        "user grant-role root root",
        "auth enable",
    ] {
        let words: Vec<_> = command.split(' ').collect();
        etcd.ctl(&words)?;
    }
    let user = |user: &str| format!("user = \"{user}\"\npassword = \"{}\"", password.path());
    ensure_says(
        &status(&etcd, &scratch, "")?,
        &["it requires authentication"],
    )?;
    ensure_says(
        &status(&etcd, &scratch, &user("tfo"))?,
        &["check user and password"],
    )?;
    password.replace("correcthorse\n")?;
    ensure_says(
        &status(&etcd, &scratch, &user("tfo"))?,
        &["let user tfo read and write", "grant-permission"],
    )?;
    ensure_says(
        &status(&etcd, &scratch, &(user("tfo") + "\nprefix = \"/other/\""))?,
        &["no document /other/document"],
    )?;
    // Fills etcd to its quota.
    let value = "x".repeat(100_000);
    let filled = (0..40).find_map(|number| {
        let key = format!("/fill/{number}");
        etcd.ctl(&["--user=root:root", "put", &key, &value]).err()
    });
    let filled = filled.context("etcd did not get full")?;
    ensure_says(&format!("{filled:#}"), &["space exceeded"])?;
    let path = scratch.path().join("tfo.toml").display().to_string();
    let output = Tfo::new(&etcd.netns).run(&["farm", "-c", &path, "init"])?;
    ensure_says(&output.stderr, &["it is full: compact and defragment it"])?;
    drop(etcd);
    // No etcd listens at this address.
    let etcd = Etcd::start(scratch.path(), "http", &[])?;
    let gone = etcd.url().replace(&PORT.to_string(), "2999");
    fs::write(
        &path,
        format!("[farm]\nendpoints = [\"{gone}\"]\nhost = \"web-1\"\n"),
    )?;
    let output = Tfo::new(&etcd.netns).run(&["farm", "-c", &path, "status"])?;
    ensure_says(
        &output.stderr,
        &["etcd at http://10.99.0.254:2999", "check that it runs"],
    )
}
