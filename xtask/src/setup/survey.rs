//! Tools that the build and the tests need, found or missing.

use anyhow::Result;

use crate::{
    command::which,
    toolchain::{self, Linker},
};

use super::{ebpf, prometheus};

/// Programs that the build or the tests start, and their Debian packages.
struct Tool {
    name: &'static str,
    programs: &'static [&'static str],
    packages: &'static [&'static str],
}

const TOOLS: [Tool; 14] = [
    Tool {
        name: "C compiler",
        programs: &["cc"],
        packages: &["gcc", "libc6-dev"],
    },
    Tool {
        name: "ip and ss",
        programs: &["ip", "ss"],
        packages: &["iproute2"],
    },
    Tool {
        name: "python3",
        programs: &["python3"],
        packages: &["python3"],
    },
    Tool {
        name: "curl",
        programs: &["curl"],
        packages: &["curl"],
    },
    // etcd-client generates its code from etcd's protocol.
    Tool {
        name: "protoc",
        programs: &["protoc"],
        packages: &["protobuf-compiler"],
    },
    Tool {
        name: "etcd",
        programs: &["etcd", "etcdctl"],
        packages: &["etcd-server", "etcd-client"],
    },
    // Certificates for the farm's tests.
    Tool {
        name: "openssl",
        programs: &["openssl"],
        packages: &["openssl"],
    },
    // A server for the guard's tests.
    Tool {
        name: "nginx",
        programs: &["nginx"],
        packages: &["nginx-light"],
    },
    Tool {
        name: "bpftool",
        programs: &["bpftool"],
        packages: &["bpftool"],
    },
    Tool {
        name: "tshark",
        programs: &["tshark"],
        packages: &["tshark"],
    },
    Tool {
        name: "codespell",
        programs: &["codespell"],
        packages: &["codespell"],
    },
    Tool {
        name: "nft",
        programs: &["nft"],
        packages: &["nftables"],
    },
    // Another's XDP program, loaded by libxdp.
    Tool {
        name: "xdp-filter",
        programs: &["xdp-filter"],
        packages: &["xdp-tools"],
    },
    Tool {
        name: "ethtool",
        programs: &["ethtool"],
        packages: &["ethtool"],
    },
];

/// One line of the survey.
struct Row {
    name: &'static str,
    state: State,
}

enum State {
    /// Its path or version.
    Found(String),
    /// The command that installs it.
    Missing(String),
}

/// The result: a row for each tool.
pub(super) struct Survey {
    rows: Vec<Row>,
    missing_packages: Vec<&'static str>,
}

impl Survey {
    /// Looks for every tool. Installs nothing.
    pub(super) fn new() -> Result<Self> {
        let mut survey = Self {
            rows: Vec::new(),
            missing_packages: Vec::new(),
        };
        survey.look_for_toolchain()?;
        for tool in &TOOLS {
            survey.look_for(tool);
        }
        survey.look_for_prometheus();
        Ok(survey)
    }

    /// `true` if no tool is missing.
    pub(super) fn complete(&self) -> bool {
        self.rows
            .iter()
            .all(|row| matches!(row.state, State::Found(_)))
    }

    /// The packages of the missing programs.
    pub(super) fn missing_packages(&self) -> Vec<&'static str> {
        self.missing_packages.clone()
    }

    /// Prints a line for each tool.
    pub(super) fn print(&self) {
        println!("tfo: what the build and the tests need:");
        for Row { name, state } in &self.rows {
            match state {
                State::Found(what) => println!("  found    {name:<16} {what}"),
                State::Missing(plan) => println!("  missing  {name:<16} to do: {plan}"),
            }
        }
    }

    fn look_for(&mut self, tool: &Tool) {
        let paths: Option<Vec<_>> = tool.programs.iter().map(|name| which(name)).collect();
        let state = if let Some(paths) = paths {
            let paths: Vec<_> = paths
                .iter()
                .map(|path| path.display().to_string())
                .collect();
            State::Found(paths.join(", "))
        } else {
            self.missing_packages.extend(tool.packages);
            State::Missing(format!("apt-get install {}", tool.packages.join(" ")))
        };
        self.rows.push(Row {
            name: tool.name,
            state,
        });
    }

    fn look_for_prometheus(&mut self) {
        let state = match prometheus::find() {
            Some(path) => State::Found(path.display().to_string()),
            None => State::Missing(prometheus::PLAN.to_owned()),
        };
        self.rows.push(Row {
            name: "Prometheus",
            state,
        });
    }

    fn look_for_toolchain(&mut self) -> Result<()> {
        let candidates = toolchain::candidates()?;
        let linker = Linker::find();
        let with_core = candidates.iter().find(|toolchain| toolchain.has_core);
        let chosen = linker
            .as_ref()
            .and_then(|linker| toolchain::choose(candidates.clone(), linker));
        let toolchain = match chosen.as_ref().or(with_core) {
            Some(found) => State::Found(format!(
                "{}, Rust {}, LLVM {}",
                found.name, found.release, found.llvm
            )),
            None => State::Missing(ebpf::TOOLCHAIN_PLAN.to_owned()),
        };
        let linker = match linker {
            Some(found) if chosen.is_some() || with_core.is_none() => State::Found(format!(
                "{}, version {}",
                found.path.display(),
                found.version
            )),
            Some(_) => State::Missing(format!("{}, its LLVM is too old", ebpf::LINKER_PLAN)),
            None => State::Missing(ebpf::LINKER_PLAN.to_owned()),
        };
        self.rows.push(Row {
            name: "source of core",
            state: toolchain,
        });
        self.rows.push(Row {
            name: "bpf-linker",
            state: linker,
        });
        Ok(())
    }
}
