//! One process that controls several network namespaces.

use std::{env, fs, os::unix::fs::symlink, process};

use anyhow::{Result, ensure};
use tfo_testbed::{
    http,
    keys::{self, KeyFile},
    pins::PinsLock,
    process as programs,
    testbed::Testbed,
    tfo::{self, LIMIT},
    veth::{Pair, SERVER_INTERFACE},
    xdp,
};

use super::running::{Running, eventually, kernel_gets, numbered};

fn section(name: &str, more: &str) -> String {
    format!("[[namespace]]\nname = '{name}'\ninterfaces = ['{SERVER_INTERFACE}']\n{more}\n")
}

#[test]
fn each_has_keys_of_its_own_and_none_waits_for_another() -> Result<()> {
    let (one, other) = (Testbed::idle(Pair::new()?)?, Testbed::idle(Pair::new()?)?);
    let key_file = KeyFile::new(&numbered(1))?;
    let late = env::temp_dir().join(format!("tfo-t{}.netns", process::id()));
    let text = [
        section(
            one.pair.server.name(),
            &format!("keys = {{ source = 'file', path = '{}' }}", key_file.path()),
        ),
        section(&late.display().to_string(), "keys = { interval = '1s' }"),
    ]
    .concat();
    let file = KeyFile::new(&text)?;
    let mut running = Running::start(None, &["-c", file.path()])?;
    kernel_gets(&one.pair.server, &numbered(1))?;
    xdp::ensure_pinned(&other.pair.server, false)?;

    // The second namespace appears.
    symlink(other.pair.server.path(), &late)?;
    eventually("it is attached there, too", || {
        Ok(xdp::attached(&other.pair.server, SERVER_INTERFACE)?.is_some())
    })?;
    let key = other.pair.server.sysctl(keys::SYSCTL)?;
    eventually("a rotation", || {
        Ok(other.pair.server.sysctl(keys::SYSCTL)? != key)
    })?;
    ensure!(one.pair.server.sysctl(keys::SYSCTL)? == numbered(1));
    one.tfo.stats()?;
    other.tfo.stats()?;

    // A namespace that is removed from the configuration is released.
    file.replace(&section(&late.display().to_string(), ""))?;
    running.reload()?;
    xdp::ensure_pinned(&one.pair.server, false)?;
    xdp::ensure_pinned(&other.pair.server, true)?;
    let output = running.end()?;
    fs::remove_file(&late)?;
    let log = output.stdout + &output.stderr;
    ensure!(log.contains("there is none at"), "{log}");
    Ok(())
}

#[test]
fn where_none_can_be_attached_it_ends() -> Result<()> {
    let file = KeyFile::new(&section("tfo-nowhere", ""))?;
    let mut command = process::Command::new(tfo::binary());
    command.args(["run", "-c", file.path()]);
    let output = programs::output(&mut command, LIMIT)?;
    output.ensure_refused(&["tfo: network namespace tfo-nowhere: there is none"])
}

#[test]
fn two_names_of_one_namespace_are_told() -> Result<()> {
    let testbed = Testbed::idle(Pair::new()?)?;
    let server = &testbed.pair.server;
    let path = server.path().display().to_string();
    let file = KeyFile::new(&[section(server.name(), ""), section(&path, "")].concat())?;
    let running = Running::start(None, &["-c", file.path()])?;
    let output = running.end()?;
    let log = output.stdout + &output.stderr;
    ensure!(log.contains("is the same as"), "{log}");
    Ok(())
}

#[test]
fn the_start_is_told_while_namespaces_attach() -> Result<()> {
    let (one, other) = (Testbed::new()?, Testbed::new()?);
    let socket = env::temp_dir().join(format!("tfo-t{}-start.sock", process::id()));
    let text = [
        format!("[metrics]\nlisten = 'unix:{}'\n", socket.display()),
        section(one.pair.server.name(), ""),
        section(other.pair.server.name(), ""),
    ];
    let file = KeyFile::new(&text.concat())?;
    // The second namespace is not attached before this lock is released.
    let lock = PinsLock::take(&other.pair.server)?;
    let mut command = process::Command::new(tfo::binary());
    // Longer than the test.
    command.env("TFO_TEST_LOCK_WAIT", "3600");
    let mut running = Running::launch(command, None, &["-c", file.path()])?;
    let told = running.wait_for("STATUS=starting: 1 of 2")?;
    ensure!(told.contains("EXTEND_TIMEOUT_USEC="), "{told}");
    let health = || http::request_unix(&socket, "/healthz");
    let answer = health()?;
    ensure!(
        answer.status == 503 && answer.body == "starting: 1 of 2\n",
        "{answer:?}"
    );
    drop(lock);
    running.wait_for("READY=1")?;
    eventually("all is well", || Ok(health()?.status == 200))?;
    running.end()?;
    Ok(())
}
