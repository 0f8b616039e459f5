//! Options that several subcommands have.

use clap::{Args, ValueEnum};
use tfo_userspace::model::{Mirror, ModeChoice};

#[derive(Clone, Copy, ValueEnum)]
pub(super) enum MirrorArg {
    /// Look up the socket of every SYN that has a Fast Open option or data
    Exact,
    /// Judge by the packet and the keys alone
    Packet,
}

impl From<MirrorArg> for Mirror {
    fn from(mirror: MirrorArg) -> Self {
        match mirror {
            MirrorArg::Exact => Self::Exact,
            MirrorArg::Packet => Self::Packet,
        }
    }
}

#[derive(Clone, Copy, ValueEnum)]
pub(super) enum Mode {
    /// TC while tfo only counts; native XDP while a guard or a policy answers or drops SYNs, where the driver gives up
    /// nothing for it. Moves by itself
    Auto,
    /// Native XDP: in the driver
    Native,
    /// Generic XDP: in the network stack; works on any interface, but is slower
    Generic,
    /// Traffic control: TCX, or a clsact filter before Linux 6.6; works on any interface, beside other XDP and TC
    /// programs
    Tc,
}

impl From<Mode> for ModeChoice {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Auto => Self::Auto,
            Mode::Native => Self::Native,
            Mode::Generic => Self::Generic,
            Mode::Tc => Self::Tc,
        }
    }
}

#[derive(Args)]
pub(super) struct JsonArgs {
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
}
