//! `tfo top` on a pseudo-terminal.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    os::fd::{AsFd as _, OwnedFd},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use rustix::{
    fs::{Mode, OFlags, open},
    process::{Pid, Signal, kill_process},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize},
};
use serde_json::Value;
use tfo_testbed::{
    poll::{eventually, wait_for},
    raw::{RawClient, RawSyn},
    socket::Method,
    testbed::Testbed,
    tfo,
    veth::{Family, Pair, SERVER_INTERFACE, server_port},
};

const LIMIT: Duration = Duration::from_secs(20);

/// Escape sequences that enter and leave the alternate screen.
const ENTER: &str = "\x1b[?1049h";
const LEAVE: &str = "\x1b[?1049l";

/// A running `tfo top` on a terminal of 80 by 24 characters, and its output. It is killed on drop.
struct Terminal {
    master: File,
    /// Kept open so that the terminal settings can be read after `tfo top` has ended.
    slave: OwnedFd,
    child: Child,
    written: Arc<Mutex<Vec<u8>>>,
}

impl Terminal {
    fn start(testbed: &Testbed, environment: &[(&str, &str)]) -> Result<Self> {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        let name = ptsname(&master, Vec::new())?;
        let slave = open(&name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty())?;
        tcsetwinsize(
            &slave,
            Winsize {
                ws_row: 24,
                ws_col: 80,
                ws_xpixel: 0,
                ws_ypixel: 0,
            },
        )?;
        let end = || Ok::<_, anyhow::Error>(Stdio::from(slave.try_clone()?));
        let child = Command::new(tfo::binary())
            .args(["top", "--netns", testbed.pair.server.name()])
            .env("TERM", "xterm-256color")
            .env_remove("NO_COLOR")
            .envs(environment.iter().copied())
            .stdin(end()?)
            .stdout(end()?)
            .stderr(end()?)
            .spawn()?;
        let master = File::from(master);
        let written = Arc::new(Mutex::new(Vec::new()));
        let (mut reader, sink) = (master.try_clone()?, Arc::clone(&written));
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(len @ 1..) = reader.read(&mut bytes) {
                let mut sink = sink.lock().unwrap_or_else(PoisonError::into_inner);
                sink.extend_from_slice(&bytes[..len]);
            }
        });
        Ok(Self {
            master,
            slave,
            child,
            written,
        })
    }

    fn text(&self) -> String {
        let written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&written).into_owned()
    }

    fn wait_for(&self, what: &str) -> Result<()> {
        eventually(what, LIMIT, || Ok(self.text().contains(what)))
            .map(drop)
            .with_context(|| self.text())
    }

    /// `true` in canonical mode with echo: the terminal is not raw.
    fn is_cooked(&self) -> Result<bool> {
        let modes = tcgetattr(self.slave.as_fd())?.local_modes;
        Ok(modes.contains(LocalModes::ICANON | LocalModes::ECHO))
    }

    /// Fails unless `tfo top` ends with success and restores the terminal.
    fn ensure_restored(&mut self) -> Result<()> {
        let ended = wait_for("it ends", LIMIT, || Ok(self.child.try_wait()?));
        let status = ended.with_context(|| self.text())?;
        ensure!(status.success(), "{status}: {:?}", self.text());
        self.wait_for(LEAVE)?;
        ensure!(self.is_cooked()?, "the terminal is still raw");
        let text = self.text();
        ensure!(
            text.contains(ENTER) && text.ends_with("\x1b[?25h"),
            "{text:?}"
        );
        Ok(())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[test]
fn it_shows_what_happens_until_q() -> Result<()> {
    let testbed = Testbed::new()?;
    let listener = testbed.listen(Family::V4)?;
    testbed.request_cookie(&listener, Family::V4)?;
    testbed.in_syn(&listener, Family::V4, Method::SendTo)?;
    let mut top = Terminal::start(&testbed, &[])?;
    top.wait_for(SERVER_INTERFACE)?;
    top.wait_for("1 of 1 SYNs had their data taken (100.0 %)")?;
    top.wait_for("TCPFastOpenPassive")?;
    top.wait_for("quits")?;
    ensure!(!top.is_cooked()?);
    // A port gets its row with the first count.
    top.wait_for(&listener.port().to_string())?;
    // And so does a reason.
    let closed = server_port(Family::V4, 1);
    RawClient::new(&testbed.pair, Family::V4, 0)?
        .send(closed, &RawSyn::fast_open(34, &[], b"abc"))?;
    top.wait_for("NoListener")?;
    // ESC [ 3 starts a foreground colour.
    ensure!(top.text().contains("\x1b[38;5;"), "{:?}", top.text());
    top.master.write_all(b"q")?;
    top.ensure_restored()
}

#[test]
fn signals_restore_the_terminal() -> Result<()> {
    let testbed = Testbed::new()?;
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        let mut top = Terminal::start(&testbed, &[("NO_COLOR", "1")])?;
        top.wait_for("quits")?;
        ensure!(!top.text().contains("\x1b[38;5;"), "{:?}", top.text());
        let pid = Pid::from_raw(top.child.id().cast_signed()).context("a process id")?;
        kill_process(pid, signal)?;
        top.ensure_restored()
            .with_context(|| format!("{signal:?}"))?;
    }
    Ok(())
}

#[test]
fn it_wants_a_terminal() -> Result<()> {
    let testbed = Testbed::new()?;
    let output = testbed.tfo.run(&["top"])?;
    output.ensure_refused(&["tfo stats --watch"])?;
    ensure!(testbed.tfo.run(&["top", "--interval", "0s"])?.status.code() == Some(2));
    Ok(())
}

#[test]
fn lines_of_json_need_no_terminal() -> Result<()> {
    let testbed = Testbed::new()?;
    let listener = testbed.listen(Family::V4)?;
    testbed.request_cookie(&listener, Family::V4)?;
    let mut top = testbed
        .tfo
        .start(&["top", "--json", "--interval", "1s", "--count", "3"])?;
    top.wait_for_text("\n", LIMIT)?;
    // After the first line, so in the second interval or the third.
    testbed.in_syn(&listener, Family::V4, Method::SendTo)?;
    let output = top.wait(LIMIT)?;
    ensure!(output.status.success(), "{output:#?}");
    let lines = output.stdout.lines().map(serde_json::from_str::<Value>);
    let lines = lines.collect::<Result<Vec<_>, _>>()?;
    ensure!(lines.len() == 3, "{output:#?}");
    let passive = "TCPFastOpenPassive";
    let port = listener.port().to_string();
    let mut taken = 0;
    for line in &lines {
        let grown = line["fast_open"]["taken"].as_u64().context("no share")?;
        let grew = line["per_second"][passive].as_f64();
        let at_port = line["ports"][&port]["per_second"][passive].as_f64();
        ensure!(grew.is_some() == (grown > 0) && at_port == grew, "{line:#}");
        ensure!(line["drift"][passive] == 0, "{line:#}");
        ensure!(
            line["interfaces"][SERVER_INTERFACE]["mode"] == "tc",
            "{line:#}"
        );
        taken += grown;
    }
    ensure!(taken == 1, "{output:#?}");
    ensure!(lines[2]["counters"][passive] == 1, "{output:#?}");
    Ok(())
}

#[test]
fn json_is_refused_where_it_makes_no_sense() -> Result<()> {
    let testbed = Testbed::idle(Pair::new()?)?;
    let output = testbed.tfo.run(&["top", "--json"])?;
    output.ensure_refused(&["nothing is attached here"])?;
    let output = testbed.tfo.run(&["top", "--count", "1"])?;
    ensure!(output.status.code() == Some(2), "{output:#?}");
    ensure!(output.stderr.contains("--json"), "{output:#?}");
    Ok(())
}

#[test]
fn a_terminal_that_moves_no_cursor_is_refused() -> Result<()> {
    let testbed = Testbed::new()?;
    let mut top = Terminal::start(&testbed, &[("TERM", "dumb")])?;
    top.wait_for("TERM=dumb")?;
    top.wait_for("tfo stats --watch 1")?;
    let status = wait_for("it ends", LIMIT, || Ok(top.child.try_wait()?))?;
    ensure!(status.code() == Some(1) && top.is_cooked()?, "{status}");
    Ok(())
}
