//! `tfo probe`.

use std::{
    net::{IpAddr, SocketAddr, ToSocketAddrs as _},
    process::ExitCode,
    str::FromStr,
};

use anyhow::bail;
use clap::Args;
use serde_json::json;
use tfo_userspace::probe::{self, Probe, ProbeFinding, ProbeVerdict};

use super::{
    exit::FOUND,
    number,
    output::{list, print, print_json},
};

/// The port where none is given.
const DEFAULT_PORT: u16 = 443;

#[derive(Args)]
pub(super) struct ProbeArgs {
    /// The server: a name or an address, and its port, as in `example.org:80` or `[2001:db8::1]:443` [default port: 443]
    #[arg(value_name = "HOST[:PORT]")]
    server: ProbeServer,
    /// Connect from this local address [default: the kernel's choice]
    #[arg(long, value_name = "ADDRESS", value_parser = address)]
    from: Option<IpAddr>,
    /// Connections with Fast Open, and cookie requests beside them
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = number::number::<u32>(2..=100))]
    count: u32,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// A server on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
struct ProbeServer {
    host: String,
    port: u16,
}

impl FromStr for ProbeServer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (host, port) = match text.rsplit_once(':') {
            // An address of IPv6 without brackets has no port.
            Some((host, _)) if host.contains(':') && !host.ends_with(']') => (text, None),
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        };
        let port = port.map_or(Ok(DEFAULT_PORT), number::port);
        let port = port.map_err(|error| format!("the port: {error}"))?;
        let inside = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        let host = inside.unwrap_or(host);
        if host.is_empty() || host.contains(['[', ']']) {
            return Err(
                "write a name or an address, one of IPv6 with a port in brackets".to_owned(),
            );
        }
        Ok(Self {
            host: host.to_owned(),
            port,
        })
    }
}

fn address(text: &str) -> Result<IpAddr, String> {
    let parsed = text.parse();
    parsed.map_err(|_| "write an address of this host, such as 192.0.2.1 or 2001:db8::1".to_owned())
}

impl ProbeServer {
    /// Its first address, of the family of `from`.
    fn resolve(&self, from: Option<IpAddr>) -> anyhow::Result<SocketAddr> {
        let Self { host, port } = self;
        let found: Vec<_> = match (host.as_str(), *port).to_socket_addrs() {
            Ok(found) => found.collect(),
            Err(error) => {
                bail!("{host}: cannot resolve it: {error}: check the name, or give an address")
            }
        };
        let fits = |each: &&SocketAddr| from.is_none_or(|from| from.is_ipv4() == each.is_ipv4());
        match (found.iter().find(fits), from) {
            (Some(found), _) => Ok(*found),
            (None, Some(from)) => {
                bail!(
                    "{host}: it has no address of the family of {from}: leave out --from, or give another"
                )
            }
            (None, None) => bail!("{host}: it has no address: check the name"),
        }
    }
}

pub(super) fn run(args: &ProbeArgs) -> anyhow::Result<ExitCode> {
    let server = args.server.resolve(args.from)?;
    let probe = Probe::run(server, args.from, args.count)?;
    let findings = probe::judge(&probe);
    let works = findings
        .iter()
        .all(|finding| finding.verdict != ProbeVerdict::Problem);
    if args.json {
        let mut value = serde_json::to_value(&probe)?;
        value["host"] = json!(args.server.host);
        value["works"] = json!(works);
        value["findings"] = json!(findings);
        print_json(&value)?;
    } else {
        print(&text(&probe, &findings, works))?;
    }
    Ok(if works {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(FOUND)
    })
}

fn text(probe: &Probe, findings: &[ProbeFinding], works: bool) -> String {
    let (server, from) = (probe.server, probe.from);
    let result = if works { "works" } else { "does not work well" };
    let mut text = format!("Fast Open from {from} to {server} {result}\n");
    let label = |verdict| match verdict {
        ProbeVerdict::Ok => "ok",
        ProbeVerdict::Unknown => "unknown",
        ProbeVerdict::Note => "note",
        ProbeVerdict::Problem => "problem",
    };
    for finding in findings {
        let label = label(finding.verdict);
        text += &format!("{label:<7}  {:<9}  {}\n", finding.check, finding.found);
        if let Some(remedy) = finding.remedy {
            text += &format!("{:20}-> {remedy}\n", "");
        }
    }
    if let Some(syns) = &probe.syns
        && !syns.hops.is_empty()
    {
        text += "hops, as far as they show themselves:\n";
        let rows = syns.hops.iter().map(|hop| {
            let router = hop.router.map(|router| router.to_string());
            let silent = if hop.server { "the server" } else { "-" };
            let option = match hop.option {
                None => "",
                Some(probe::Quoted::Intact) => "the option is intact",
                Some(probe::Quoted::Missing) => "the option is gone",
                Some(probe::Quoted::Changed) => "the option is changed",
                Some(probe::Quoted::TooShort) => "quotes too little to tell",
            };
            vec![
                hop.ttl.to_string(),
                router.unwrap_or(silent.to_owned()),
                option.to_owned(),
            ]
        });
        text += &list(&rows.collect::<Vec<_>>());
    }
    let syns = probe.syns.as_ref().map_or(0, |syns| syns.sent);
    text += &format!("{} connections and {syns} raw SYNs\n", probe.connections());
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_read_with_and_without_a_port() {
        for (text, host, port) in [
            ("example.org", "example.org", 443),
            ("example.org:80", "example.org", 80),
            ("192.0.2.1", "192.0.2.1", 443),
            ("192.0.2.1:8443", "192.0.2.1", 8443),
            ("2001:db8::1", "2001:db8::1", 443),
            ("[2001:db8::1]", "2001:db8::1", 443),
            ("[2001:db8::1]:80", "2001:db8::1", 80),
        ] {
            let host = host.to_owned();
            assert_eq!(text.parse(), Ok(ProbeServer { host, port }), "{text}");
        }
        for text in [
            "", ":80", "a:", "a:0", "a:65536", "a:http", "[]", "[fd91::2", "[a",
        ] {
            assert!(text.parse::<ProbeServer>().is_err(), "{text}");
        }
    }
}
