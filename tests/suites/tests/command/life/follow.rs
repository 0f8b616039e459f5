//! Interfaces that appear, disappear and change name while a controller runs.

use std::{
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use tfo_testbed::{netns::Netns, tfo::Tfo, xdp};
use tfo_userspace::{
    datapath::{Change, Ensured, Follower, Namespace, Wanted},
    kernel::netns,
    model::{ModeChoice, Settings},
};

use super::LIMIT;

/// Time without a change: longer than the follower's poll interval.
const QUIET: Duration = Duration::from_millis(2500);

/// A follower in its own thread and namespace. It stops on drop.
struct Following {
    changes: Receiver<Change>,
    stop: tokio::sync::oneshot::Sender<()>,
    thread: thread::JoinHandle<Result<()>>,
}

impl Following {
    fn start(server: &Netns, names: &[&str], choice: Option<ModeChoice>) -> Self {
        let wanted = names.iter().map(|name| Wanted {
            name: (*name).to_owned(),
            choice,
            settings: Settings::default(),
        });
        let (wanted, name) = (wanted.collect(), server.name().to_owned());
        let (sender, changes) = mpsc::channel();
        let (stop, mut stopped) = tokio::sync::oneshot::channel();
        let thread = thread::spawn(move || {
            netns::enter(&name)?;
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(async {
                let mut follower = Follower::start(Namespace::current()?, wanted)?;
                loop {
                    tokio::select! {
                        ready = follower.ready() => ready?,
                        _ = &mut stopped => return Ok(()),
                    }
                    if let Some(change) = follower.advance().await? {
                        sender.send(change)?;
                    }
                }
            })
        });
        Self {
            changes,
            stop,
            thread,
        }
    }

    fn next(&self) -> Result<Change> {
        self.changes.recv_timeout(LIMIT).context("no change")
    }

    /// The next change, which must be the attachment of `name`.
    fn attached(&self, name: &str) -> Result<Ensured> {
        match self.next()? {
            Change::Attached { name: it, ensured } if it == name => Ok(*ensured),
            other => bail!("{other:?}, not {name} attached"),
        }
    }

    fn quiet(&self) -> Result<()> {
        match self.changes.recv_timeout(QUIET) {
            Err(RecvTimeoutError::Timeout) => Ok(()),
            other => bail!("{other:?}"),
        }
    }

    fn end(self) -> Result<()> {
        drop(self.stop);
        self.thread.join().expect("no panic")
    }
}

fn make(server: &Netns, name: &str) -> Result<()> {
    server.configure(&[
        format!("link add {name} type veth peer name {name}-peer"),
        format!("link set {name} up"),
    ])
}

#[test]
fn what_comes_goes_and_is_renamed_is_followed() -> Result<()> {
    let server = Netns::new("follow")?;
    let tfo = Tfo::new(&server);
    make(&server, "nic0")?;
    let following = Following::start(&server, &["nic0", "nic1"], None);
    ensure!(matches!(following.next()?, Change::Missing { name } if name == "nic1"));
    ensure!(matches!(following.attached("nic0")?, Ensured::Attached(_)));
    let program = xdp::attached(&server, "nic0")?;
    ensure!(program.is_some());

    make(&server, "nic1")?;
    ensure!(matches!(following.attached("nic1")?, Ensured::Attached(_)));

    // A renamed interface stays attached, and a new interface can take its old name.
    let rename = ["link set nic0 down", "link set nic0 name nic9"];
    server.configure(&rename)?;
    server.configure(&["link set nic0-peer name nic9-peer"])?;
    let renamed = following.next()?;
    ensure!(
        matches!(&renamed, Change::Renamed { from, to } if from == "nic0" && to == "nic9"),
        "{renamed:?}"
    );
    ensure!(xdp::attached(&server, "nic9")? == program);
    make(&server, "nic0")?;
    ensure!(matches!(following.attached("nic0")?, Ensured::Attached(_)));

    server.configure(&["link del nic1"])?;
    ensure!(matches!(following.next()?, Change::Vanished { name } if name == "nic1"));
    make(&server, "nic1")?;
    ensure!(matches!(following.attached("nic1")?, Ensured::Attached(_)));
    let status = tfo.json(&["status"])?;
    let interfaces = status["interfaces"].as_array().context("no interfaces")?;
    ensure!(
        interfaces.len() == 3 && interfaces.iter().all(|it| it["mode"] == "tc"),
        "{status}"
    );
    following.quiet()?;
    following.end()
}

#[test]
fn a_program_that_someone_detached_is_attached_again() -> Result<()> {
    let server = Netns::new("lost")?;
    let tfo = Tfo::new(&server);
    make(&server, "nic0")?;
    let following = Following::start(&server, &["nic0"], Some(ModeChoice::Tc));
    following.attached("nic0")?;
    for _ in 0..3 {
        tfo.done(&["detach", "nic0"])?;
        ensure!(matches!(following.next()?, Change::Lost { name } if name == "nic0"));
        let again = following.attached("nic0")?;
        ensure!(
            matches!(&again, Ensured::Attached(it) if it.mode.to_string() == "tc"),
            "{again:?}"
        );
    }
    // An interface attached by hand is taken over without a change event.
    tfo.done(&["attach", "--replace", "nic0"])?;
    following.quiet()?;
    following.end()?;
    let status = tfo.json(&["status"])?;
    ensure!(status["interfaces"][0]["mode"] == "tc", "{status}");
    Ok(())
}

#[test]
fn what_cannot_be_attached_is_tried_again_ever_more_rarely() -> Result<()> {
    let server = Netns::new("fails")?;
    let _tfo = Tfo::new(&server);
    let following = Following::start(&server, &["lo"], Some(ModeChoice::Native));
    for seconds in [1, 2, 4] {
        match following.next()? {
            Change::Failed { name, again_in, .. } => ensure!(
                name == "lo" && again_in.as_secs() == seconds,
                "{again_in:?}"
            ),
            other => bail!("{other:?}"),
        }
    }
    following.end()
}
