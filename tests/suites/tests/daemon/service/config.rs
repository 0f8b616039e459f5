//! The configuration file: errors, and changes by a reload.

use std::{fs, os::unix::fs::PermissionsExt as _};

use anyhow::{Result, ensure};
use tfo_testbed::{
    keys::{self, KeyFile},
    socket::Method,
    testbed::Testbed,
    veth::{Family, Pair, SERVER_INTERFACE},
    xdp,
};

use super::running::{Running, ensure_accepted, eventually, kernel_gets, numbered};

#[test]
fn mistakes_are_refused_with_file_and_line() -> Result<()> {
    let testbed = Testbed::idle(Pair::new()?)?;
    let short = KeyFile::new(&"ab".repeat(31))?;
    let exposed = KeyFile::new(&"ab".repeat(32))?;
    fs::set_permissions(exposed.path(), fs::Permissions::from_mode(0o644))?;
    let others = KeyFile::new(&"ab".repeat(32))?;
    std::os::unix::fs::chown(others.path(), Some(65_534), None)?;
    let source = |file: &str| format!("[keys]\nsource = 'secret'\npath = '{file}'\n");
    for (text, parts) in [
        ("intervall = 3".to_owned(), vec![":2: ", "`intervall`"]),
        ("ports = [0]".to_owned(), vec![":2: ", "port 0"]),
        (source("/nowhere"), vec!["/nowhere", "No such file"]),
        (source(short.path()), vec!["62 bytes", "openssl rand"]),
        (source(exposed.path()), vec!["0644", "chmod 0600"]),
        (source(others.path()), vec!["user 65534", "chown 0"]),
    ] {
        let file = KeyFile::new(&format!("interfaces = ['{SERVER_INTERFACE}']\n{text}"))?;
        let output = testbed.tfo.run(&["run", "-c", file.path()])?;
        output.ensure_refused(&["tfo: "])?;
        output.ensure_refused(&parts)?;
    }
    let output = testbed.tfo.run(&["run", "-c", "/nowhere.toml"])?;
    ensure!(
        output
            .stderr
            .contains("configuration file /nowhere.toml: No such file"),
        "{output:#?}"
    );
    xdp::ensure_pinned(&testbed.pair.server, false)?;
    Ok(())
}

#[test]
fn a_reload_changes_what_changed_and_nothing_for_a_bad_file() -> Result<()> {
    let testbed = Testbed::idle(Pair::new()?)?;
    let server = &testbed.pair.server;
    let text = |interfaces: &str, keys: &str| format!("interfaces = [{interfaces}]\n{keys}\n");
    let file = KeyFile::new(&text("'server0'", ""))?;
    let mut running = Running::start(Some(server), &["-c", file.path()])?;
    let before = xdp::attached(server, SERVER_INTERFACE)?;
    ensure!(before.is_some());
    let listener = testbed.listen(Family::V4)?;
    testbed.request_cookie(&listener, Family::V4)?;
    let key = server.sysctl(keys::SYSCTL)?;

    // An invalid file changes nothing.
    file.replace("interfaces = ['lo'")?;
    running.reload()?;
    xdp::ensure_detached(server, "lo")?;
    ensure!(server.sysctl(keys::SYSCTL)? == key);

    // Another interface, and keys from a file. The client's cookie stays valid throughout.
    let pair = |n| {
        format!(
            "{},{}",
            numbered(n),
            key.split(',').next().unwrap_or_default()
        )
    };
    let key_file = KeyFile::new(&pair(1))?;
    let keys_section = format!("[keys]\nsource = 'file'\npath = '{}'", key_file.path());
    file.replace(&text("'server0', 'lo'", &keys_section))?;
    running.reload()?;
    xdp::ensure_attached(server, "lo")?;
    ensure!(xdp::attached(server, SERVER_INTERFACE)? == before);
    kernel_gets(server, &pair(1))?;
    ensure_accepted(&testbed.tfo)?;
    testbed.in_syn(&listener, Family::V4, Method::SendTo)?;

    // A reload attaches an interface that was detached by hand.
    testbed.tfo.done(&["detach", "lo"])?;
    running.reload()?;
    xdp::ensure_attached(server, "lo")?;

    // One interface fewer, and random keys that change each second.
    file.replace(&text("'server0'", "[keys]\ninterval = '1s'"))?;
    running.reload()?;
    xdp::ensure_detached(server, "lo")?;
    ensure!(xdp::attached(server, SERVER_INTERFACE)? == before);
    eventually("a random key", || {
        Ok(server.sysctl(keys::SYSCTL)? != pair(1))
    })?;
    testbed.in_syn(&listener, Family::V4, Method::SendTo)?;

    running.end_having_said(&["nothing changed", ":1: ", "reloaded", "lo: detached"])?;
    testbed.equal()?;
    ensure!(testbed.kernel()?.get("TCPFastOpenPassiveFail") == 0);
    Ok(())
}

#[test]
fn flags_do_without_a_file_and_win_over_one() -> Result<()> {
    let testbed = Testbed::idle(Pair::new()?)?;
    let file = KeyFile::new("interfaces = ['nowhere0']\nmode = 'native'\ndetach-on-exit = true")?;
    let arguments = [
        "-c",
        file.path(),
        "-i",
        SERVER_INTERFACE,
        "--mode",
        "generic",
    ];
    let running = Running::start(Some(&testbed.pair.server), &arguments)?;
    let attached = xdp::attached(&testbed.pair.server, SERVER_INTERFACE)?;
    ensure!(
        attached.is_some_and(|(mode, _)| mode == xdp::Mode::Generic),
        "{attached:?}"
    );
    running.end()?;
    xdp::ensure_pinned(&testbed.pair.server, false)?;
    Ok(())
}
