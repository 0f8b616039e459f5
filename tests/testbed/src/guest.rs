//! A guest under QEMU with another kernel than this machine's, whose network devices end at taps in a namespace of this
//! machine. `cargo xtask vm --edge` and `--drivers` prepare it: kernel, files, and the script that boots it.
//!
//! The guest's shell is QEMU's standard input and output, and runs one command at a time. QEMU is killed with the thread
//! that started it. The guest's console is this process's standard error.

use std::{
    env,
    io::{BufRead as _, BufReader, Read, Write as _},
    os::{fd::AsFd as _, unix::process::ExitStatusExt as _},
    process::{Child, ChildStdin, ChildStdout, ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::event::PollFlags;
use serde_json::Value;

use crate::{
    netns::Netns,
    poll::{Deadline, any_ready},
    process::Output,
    tfo,
};

/// The environment variable with the path of the script that boots the guest. The script's arguments are QEMU's.
const SCRIPT: &str = "TFO_GUEST";
/// Time limit of the boot, and of a command.
const LIMIT: Duration = Duration::from_secs(20);

/// A network device of a guest.
#[derive(Clone, Copy, Debug)]
pub struct Nic<'a> {
    /// Its name in the guest; that of its tap has the prefix `tap-`.
    pub name: &'a str,
    /// The name of QEMU's device, with its properties.
    pub device: &'a str,
    /// The guest's module for it.
    pub driver: &'a str,
    /// Its MAC address.
    pub mac: &'a str,
    /// Pairs of queues.
    pub queues: usize,
}

impl Nic<'_> {
    /// The tap's name.
    pub fn tap(&self) -> String {
        format!("tap-{}", self.name)
    }
}

/// A running guest. Killed on drop, and its taps with it.
#[derive(Debug)]
pub struct Guest {
    qemu: Child,
    input: ChildStdin,
    output: ChildStdout,
}

impl Guest {
    /// Boots a guest with these devices, whose taps are in `netns`, and sets all of them up.
    ///
    /// # Errors
    ///
    /// `cargo xtask vm` has not prepared a guest, or it does not come up.
    pub fn boot(netns: &Netns, nics: &[Nic<'_>]) -> Result<Self> {
        let script = env::var(SCRIPT);
        let script = script.context(
            "there is no guest: run this test by `cargo xtask vm --edge` or `--drivers`",
        )?;
        let mut qemu = netns.command("setpriv");
        qemu.args(["--pdeathsig", "KILL", &script]);
        for nic in nics {
            let Nic { name, queues, .. } = nic;
            let tap = nic.tap();
            qemu.arg("-netdev").arg(format!(
                "tap,id={name},ifname={tap},queues={queues},script=no,downscript=no"
            ));
            let (device, mac) = (nic.device, nic.mac);
            qemu.arg("-device")
                .arg(format!("{device},netdev={name},mac={mac},romfile="));
        }
        qemu.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut qemu = qemu.spawn().context("cannot start QEMU")?;
        let (input, output) = qemu.stdin.take().zip(qemu.stdout.take()).unzip();
        let guest = Self {
            qemu,
            input: input.context("QEMU has no input")?,
            output: output.context("QEMU has no output")?,
        };
        for nic in nics {
            guest.set_up(nic).with_context(|| nic.name.to_owned())?;
            netns.configure(&[format!("link set {} up", nic.tap())])?;
        }
        Ok(guest)
    }

    /// Loads the driver, and gives the device its name.
    fn set_up(&self, nic: &Nic<'_>) -> Result<()> {
        let Nic {
            name, mac, driver, ..
        } = nic;
        self.done(&format!(
            "modprobe {driver} && found=$(grep -l {mac} /sys/class/net/*/address) && \
             found=${{found%/address}} && ip link set ${{found##*/}} name {name} && ip link set {name} up"
        ))
        .map(drop)
    }

    /// Runs a command of the shell. Any exit status is accepted.
    ///
    /// # Errors
    ///
    /// The guest does not answer.
    pub fn run(&self, command: &str) -> Result<Output> {
        self.ran(command)
            .with_context(|| format!("the guest does not answer to {command:?}"))
    }

    fn ran(&self, command: &str) -> Result<Output> {
        writeln!(
            &self.input,
            "{{ {command}\n}} </dev/null >/run/out 2>/run/err; \
             echo $? $(wc -c </run/out) $(wc -c </run/err); cat /run/out /run/err"
        )?;
        let mut answer = BufReader::new(Answer {
            from: &self.output,
            by: Deadline::after(LIMIT),
        });
        let mut head = String::new();
        answer.read_line(&mut head)?;
        ensure!(!head.is_empty(), "it has ended; its console is above");
        let numbers = head.split_whitespace().map(str::parse);
        let [status, stdout, stderr] = numbers.collect::<Result<Vec<usize>, _>>()?[..] else {
            bail!("it says {head:?}");
        };
        let mut text = |len| {
            let mut text = vec![0; len];
            answer.read_exact(&mut text)?;
            Ok::<_, anyhow::Error>(String::from_utf8_lossy(&text).into_owned())
        };
        Ok(Output {
            stdout: text(stdout)?,
            stderr: text(stderr)?,
            // As wait(2) has it.
            status: ExitStatus::from_raw(i32::try_from(status << 8)?),
        })
    }

    /// Runs a command of the shell that must succeed. Returns its standard output.
    ///
    /// # Errors
    ///
    /// The command fails; the error contains its output.
    pub fn done(&self, command: &str) -> Result<String> {
        let output = self.run(command)?;
        ensure!(output.status.success(), "{command}: {output:#?}");
        Ok(output.stdout)
    }

    /// Runs `ip` for each of the commands.
    ///
    /// # Errors
    ///
    /// A command fails.
    pub fn configure(&self, commands: &[impl AsRef<str>]) -> Result<()> {
        let lines = commands
            .iter()
            .map(|command| format!("{}\n", command.as_ref()));
        let lines: String = lines.collect();
        self.done(&format!("printf '{lines}' | ip -batch -"))
            .map(drop)
    }

    /// Writes a sysctl.
    ///
    /// # Errors
    ///
    /// The kernel has none such, or refuses the value.
    pub fn set_sysctl(&self, key: &str, value: &str) -> Result<()> {
        self.done(&format!("sysctl -qw {key}='{value}'")).map(drop)
    }

    /// Runs `tfo` with these arguments. Any exit status is accepted.
    ///
    /// # Errors
    ///
    /// The guest does not answer.
    pub fn tfo(&self, arguments: &str) -> Result<Output> {
        self.run(&format!("{} {arguments}", tfo::binary().display()))
    }

    /// Runs `tfo` with these arguments, which must succeed. Returns its standard output.
    ///
    /// # Errors
    ///
    /// `tfo` fails; the error contains its output.
    pub fn tfo_done(&self, arguments: &str) -> Result<String> {
        let output = self.tfo(arguments)?;
        ensure!(output.status.success(), "tfo {arguments}: {output:#?}");
        Ok(output.stdout)
    }

    /// The JSON that `tfo` prints with these arguments and `--json`, whatever its exit status.
    ///
    /// # Errors
    ///
    /// It prints anything else.
    pub fn tfo_json(&self, arguments: &str) -> Result<Value> {
        let output = self.tfo(&format!("{arguments} --json"))?;
        serde_json::from_str(&output.stdout).with_context(|| format!("{output:?}"))
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        drop(self.qemu.kill());
        drop(self.qemu.wait());
    }
}

/// What the guest's shell prints, until a deadline.
struct Answer<'a> {
    from: &'a ChildStdout,
    by: Deadline,
}

impl Read for Answer<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if !any_ready(&[self.from.as_fd()], PollFlags::IN, self.by)? {
            return Err(std::io::ErrorKind::TimedOut.into());
        }
        Ok(rustix::io::read(self.from, buffer)?)
    }
}
