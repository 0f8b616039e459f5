//! Every flag and argument that `tfo ... -h` shows, at the edges of its values: the command ends in time, with a status
//! that is documented and an error of the documented form. First where nothing is attached, so that a valid value ends it, too;
//! then, of the commands that read or change what is attached, where something is.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    fs,
    os::unix::ffi::OsStringExt as _,
    process::Command,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use anyhow::{Context as _, Result, ensure};
use rustix::fs::{CWD, Mode, mkfifoat};
use tfo_testbed::{
    netns::Netns,
    process::{self, Output},
    tfo::{self, LIMIT, Tfo},
    xdp,
};

/// An interface that does not exist.
const NOWHERE: &str = "nosuch0";

/// The interface to which tfo is attached, where it is.
const ATTACHED: &str = "a0";
/// Commands that read or change what is attached.
const OF_ATTACHED: [&str; 10] = [
    "attach",
    "cookies",
    "doctor",
    "events",
    "guard",
    "keys",
    "listeners",
    "policy",
    "stats",
    "top",
];

/// A flag with a value, or a positional argument.
#[derive(Clone, Debug)]
struct Parameter {
    /// The words of the subcommand.
    command: Vec<String>,
    /// The flag; `None` for a positional argument.
    flag: Option<String>,
    /// The value has to follow an equals sign.
    equals: bool,
}

impl Parameter {
    /// The name that an error has to contain.
    fn name(&self) -> &str {
        self.flag.as_deref().unwrap_or("'")
    }

    /// Also where something is attached.
    fn is_of_attached(&self) -> bool {
        let first = self.command.first();
        first.is_some_and(|first| OF_ATTACHED.contains(&first.as_str()))
    }

    /// With a valid value, the command goes on until nobody reads its output.
    fn is_endless(&self) -> bool {
        match self.command.first().map_or("", String::as_str) {
            "events" | "top" => true,
            "stats" => self.flag.as_deref() == Some("--watch"),
            _ => false,
        }
    }

    /// Arguments without which the value is not reached.
    fn others(&self, is_attached: bool) -> &'static [&'static str] {
        let flag = self.flag.as_deref().unwrap_or_default();
        let words: Vec<_> = self.command.iter().map(String::as_str).collect();
        match (words.as_slice(), flag) {
            (["attach"], flag) if !flag.is_empty() && is_attached => &["--replace", ATTACHED],
            (["attach"], flag) if !flag.is_empty() => &[NOWHERE],
            (["run"], "--key-file") => &["-i", NOWHERE, "--key-source", "file"],
            (["run"], flag) if flag != "--interface" && flag != "--config" => &["-i", NOWHERE],
            (["top"], "--count") => &["--json"],
            (["stats"], "--top") => &["--by", "source"],
            (["policy", "set"], "--port" | "--dry-run") => &["--bad", "drop"],
            (["guard", "set"], "--port") => &["on"],
            (["guard", "set"], "--vip") => &["on", "--port", "443"],
            (["guard", "set"], "--mss" | "--window-scale") => {
                &["on", "--port", "443", "--vip", "192.0.2.1"]
            }
            (["farm"], _) => &["status"],
            (["enable" | "disable"], flag) if flag != "--port" => &["--port", "443"],
            (["probe"], flag) if !flag.is_empty() => &["192.0.2.1"],
            _ => &[],
        }
    }

    fn arguments(&self, value: &OsString, is_attached: bool) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = self.command.iter().map(OsString::from).collect();
        match &self.flag {
            Some(flag) if self.equals => {
                let mut text = OsString::from(format!("{flag}="));
                text.push(value);
                arguments.push(text);
            }
            Some(flag) => arguments.extend([OsString::from(flag), value.clone()]),
            None => arguments.push(value.clone()),
        }
        arguments.extend(self.others(is_attached).iter().map(OsString::from));
        arguments
    }
}

/// The subcommands, flags and positional arguments below a command, as its help shows them.
fn parameters(command: &[String], all: &mut Vec<Parameter>) -> Result<()> {
    let help = process::succeed(Command::new(tfo::binary()).args(command).arg("-h"), LIMIT)?;
    let mut section = "";
    for line in help.lines() {
        let text = line.trim_start();
        let indent = line.len() - text.len();
        if indent == 0 {
            section = text;
            continue;
        }
        // What is indented further belongs to a description.
        match section {
            "Commands:" if indent == 2 => {
                let word = text.split(' ').next().context("no word")?;
                if word != "help" {
                    parameters(&[command, &[word.to_owned()]].concat(), all)?;
                }
            }
            "Arguments:" if indent == 2 => all.push(Parameter {
                command: command.to_vec(),
                flag: None,
                equals: false,
            }),
            "Options:" if indent <= 6 && text.starts_with('-') => {
                let long = text.find("--").context("a flag without a long form")?;
                let text = &text[long..];
                let end = text.find([' ', '[', '.']).unwrap_or(text.len());
                let (flag, rest) = text.split_at(end);
                let equals = rest.starts_with("[=<");
                let has_value = equals || rest.starts_with(" <") || rest.starts_with(" [<");
                // The flags of all commands once.
                let is_global = flag == "--netns" && command != ["status"];
                if has_value && !is_global {
                    all.push(Parameter {
                        command: command.to_vec(),
                        flag: Some(flag.to_owned()),
                        equals,
                    });
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// Files that are endless, block, are none, or cannot be read, and values at the edges of numbers and texts.
fn values(fifo: &str) -> Vec<OsString> {
    let texts = [
        "",
        "0",
        "1",
        "-1",
        "65535",
        "65536",
        "4294967296",
        "18446744073709551615",
        "99999999999999999999999",
        "0.1",
        "1e9",
        "x",
        "a b",
        "0/s",
        "0s",
        "\u{1b}[31m",
        "/",
        "/dev/zero",
        "/dev/null",
        "/proc/self/mem",
        "/nonexistent/file",
        fifo,
    ];
    let texts = texts.iter().map(OsString::from);
    texts
        .chain([OsString::from_vec(vec![b'a', 0xff])])
        .collect()
}

/// Checks the status and the form of the error.
fn judge(parameter: &Parameter, output: &Output) -> Result<()> {
    let Output { stderr, .. } = output;
    match output.status.code() {
        Some(0 | 3) => Ok(()),
        Some(1) => {
            let mut lines = stderr.lines();
            let last = lines.next_back().unwrap_or_default();
            ensure!(last.starts_with("tfo: "), "no error");
            let is_service = parameter.command == ["run"];
            ensure!(is_service || lines.next().is_none(), "several lines");
            ensure!(!stderr.contains('\u{1b}'), "a raw escape code");
            Ok(())
        }
        Some(2) => {
            let first = stderr.lines().next().unwrap_or_default();
            ensure!(first.starts_with("error: "), "no error");
            ensure!(
                first.contains(parameter.name()),
                "the parameter is not named"
            );
            for raw in ["invalid digit", "too large to fit", "cannot parse integer"] {
                ensure!(!stderr.contains(raw), "an error of a library");
            }
            Ok(())
        }
        other => anyhow::bail!("status {other:?}"),
    }
}

/// Tries each parameter with each value, and returns what went wrong.
fn try_all(
    netns: &Netns,
    parameters: &[&Parameter],
    values: &[OsString],
    is_attached: bool,
) -> Vec<String> {
    let cases: Vec<_> = parameters
        .iter()
        .flat_map(|parameter| values.iter().map(move |value| (parameter, value)))
        .collect();
    let next = AtomicUsize::new(0);
    let work = || -> Vec<String> {
        let mut wrong = Vec::new();
        while let Some((parameter, value)) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
            let mut command = netns.command(&tfo::binary().display().to_string());
            command.args(parameter.arguments(value, is_attached));
            if is_attached && parameter.is_endless() {
                command = process::piped(&command, ":");
            }
            let judged = process::output(&mut command, LIMIT).and_then(|output| {
                judge(parameter, &output).with_context(|| format!("{output:?}"))
            });
            if let Err(error) = judged {
                wrong.push(format!("{parameter:?} {}: {error:#}", value.display()));
            }
        }
        wrong
    };
    thread::scope(|scope| {
        let threads = [(); 4].map(|()| scope.spawn(work));
        let all = threads.map(|thread| thread.join().unwrap_or_else(|_| vec!["a panic".into()]));
        all.concat()
    })
}

#[test]
fn every_value_is_done_or_refused() -> Result<()> {
    let netns = Netns::new("flags")?;
    netns.configure(&["link add a0 type veth peer name a1"])?;
    let tfo = Tfo::new(&netns);
    let fifo = std::env::temp_dir().join(format!("tfo-t{}.fifo", std::process::id()));
    mkfifoat(CWD, &fifo, Mode::RUSR)?;
    let values = values(&fifo.display().to_string());
    let mut all = Vec::new();
    parameters(&[], &mut all)?;
    // As many as there are at least: the help is read whole.
    ensure!(all.len() > 50, "{all:?}");
    let (mut wrong, mut tried) = (Vec::new(), 0);
    for is_attached in [false, true] {
        if is_attached {
            tfo.done(&["attach", ATTACHED])?;
        }
        let some = all.iter().filter(|it| !is_attached || it.is_of_attached());
        let some: Vec<_> = some.collect();
        let commands: BTreeSet<_> = some.iter().map(|it| &it.command).collect();
        let flags = some.iter().filter(|it| it.flag.is_some()).count();
        println!(
            "attached: {is_attached}: {} commands, {flags} flags with a value, {} arguments, {} values, {} inputs",
            commands.len(),
            some.len() - flags,
            values.len(),
            some.len() * values.len()
        );
        tried += some.len() * values.len();
        wrong.extend(try_all(&netns, &some, &values, is_attached));
    }
    fs::remove_file(&fifo)?;
    ensure!(
        wrong.is_empty(),
        "{} of {tried}:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    // No value detached it.
    ensure!(xdp::attached(&netns, ATTACHED)?.is_some());
    Ok(())
}
