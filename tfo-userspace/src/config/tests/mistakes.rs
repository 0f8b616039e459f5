//! Invalid files and their errors.

use std::{path::Path, time::Duration};

use super::{Config, Flags, Layer, SourceKind, ensure_refused};

/// Invalid files, and parts of their error.
const MISTAKES: &[(&str, &[&str])] = &[
    ("interfaces = ['a'\n", &["tfo.toml:"]),
    (
        "interfaces = ['a']\nintervall = 3",
        &["tfo.toml:2: ", "unknown field `intervall`", "`interfaces`"],
    ),
    (
        "interfaces = ['a']\n[keys]\nsorce = 'x'",
        &["tfo.toml:3: ", "`sorce`", "`source`"],
    ),
    ("interfaces = 'a'", &["tfo.toml:1: ", "expected a sequence"]),
    (
        "interfaces = ['a']\nmode = 'fast'",
        &["tfo.toml:2: ", "`fast`", "`native`"],
    ),
    (
        "interfaces = ['a']\nmirror = 'x'",
        &["tfo.toml:2: ", "`x`", "`packet`"],
    ),
    (
        "interfaces = ['a']\nports = [\n1,\n0]",
        &["tfo.toml:4: ", "0 is not from 1 to 65535"],
    ),
    (
        "interfaces = ['a']\nports = [65536]",
        &["tfo.toml:2: ", "65536"],
    ),
    (
        "interfaces = ['a']\nports = [1, 1]",
        &["tfo.toml:2: ", "port 1 is named twice"],
    ),
    (
        "interfaces = ['a']\n[sources]\nprefix-v4 = 33",
        &["tfo.toml:3: ", "33 is not from 0 to 32"],
    ),
    (
        "interfaces = ['a']\n[sources]\nmax = -1",
        &["tfo.toml:3: ", "-1 is not from 0 to"],
    ),
    (
        "interfaces = ['a']\n[keys]\nsource = 'vault'",
        &["tfo.toml:3: ", "`vault`", "`secret`"],
    ),
    (
        "interfaces = ['a']\n[keys]\nsource = 'secret'",
        &["tfo.toml:3: ", "\"secret\" reads a file", "path"],
    ),
    (
        "interfaces = ['a']\n[keys]\nsource = 'file'",
        &["tfo.toml:3: ", "\"file\" reads a file"],
    ),
    (
        "interfaces = ['a']\n[keys]\npath = '/x'",
        &["tfo.toml:3: ", "nothing reads this path", "source ="],
    ),
    (
        "interfaces = ['a']\n[keys]\nsource = 'kernel'\ninterval = '1h'",
        &[
            "tfo.toml:4: ",
            "nothing uses this interval",
            "\"kernel\"",
            "remove",
        ],
    ),
    (
        "interfaces = ['a']\n[keys]\ninterval = '1h'\nsource = 'file'\npath = '/x'",
        &["tfo.toml:3: ", "nothing uses this interval", "\"file\""],
    ),
    (
        "[keys]\nsource = 'kernel'\n[[namespace]]\nname = 'b'\ninterfaces = ['a']\nkeys = { interval = '1h' }",
        &["tfo.toml:6: ", "nothing uses this interval"],
    ),
    (
        "interfaces = ['a']\n[keys]\ninterval = '1 day'",
        &["tfo.toml:3: ", "such as 24h"],
    ),
    (
        "interfaces = ['a']\n[keys]\ninterval = 5",
        &["tfo.toml:3: ", "string"],
    ),
    (
        "interfaces = ['a']\n[keys]\nsource = 'secret'\npath = '/x'\ninterval = '9s'",
        &["tfo.toml:5: ", "even number", "10s to 7d"],
    ),
    (
        "interfaces = ['a']\n[keys]\nsource = 'secret'\npath = '/x'\ninterval = '11s'",
        &["tfo.toml:5: ", "even number"],
    ),
    (
        "interfaces = ['a']\n[keys]\non-foreign-change = 'panic'",
        &["tfo.toml:3: ", "`panic`", "`restore`"],
    ),
    (
        "interfaces = ['a']\n[metrics]\nlisten = '97333'",
        &["tfo.toml:3: ", "ADDRESS:PORT"],
    ),
    (
        "interfaces = ['a']\n[metrics]\nlisten = 'unix:m'",
        &["tfo.toml:3: ", "absolute path"],
    ),
    ("", &["tfo.toml: ", "no interfaces", "-i"]),
    (
        "interfaces = ['a',\n'a']",
        &["tfo.toml:2: ", "a is named twice"],
    ),
    (
        "interfaces = ['a/b']",
        &["tfo.toml:1: ", "cannot be an interface's name"],
    ),
    (
        "interfaces = ['aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa']",
        &["tfo.toml:1: ", "cannot be an interface's name"],
    ),
    (
        "[[namespace]]\nname = 'b'\ninterfaces = []",
        &["tfo.toml:2: ", "has no interfaces"],
    ),
    (
        "[[namespace]]\nname = ''\ninterfaces = ['a']",
        &["tfo.toml:2: ", "name of `ip netns`"],
    ),
    (
        "[[namespace]]\nname = 'cni-['\ninterfaces = ['a']",
        &["tfo.toml:2: ", "cni-[: no pattern as in glob(7)"],
    ),
    (
        "[[namespace]]\nname = '/run/*/net'\ninterfaces = ['a']",
        &["tfo.toml:2: ", "last component alone"],
    ),
    (
        "[[namespace]]\nname = 'b*'\ninterfaces = ['a']\n[[namespace]]\nname = 'b*'\ninterfaces = ['c']",
        &["tfo.toml:5: ", "has a section already"],
    ),
    (
        "[[namespace]]\ninterfaces = ['a']",
        &["tfo.toml:1: ", "missing field `name`"],
    ),
    (
        "[[namespace]]\nname = 'b'\ninterfaces = ['a']\n[[namespace]]\nname = 'b'\ninterfaces = ['c']",
        &["tfo.toml:5: ", "has a section already"],
    ),
    (
        "[[namespace]]\nname = 'b'\ninterfaces = ['a']\nkeys = { source = 'file' }",
        &["tfo.toml:4: ", "reads a file"],
    ),
    (
        "[[namespace]]\nname = 'b'\ninterfaces = ['a']\nkeys = { path = '/x' }",
        &["tfo.toml:4: ", "nothing reads"],
    ),
    (
        "interfaces = ['a']\n[policy]\nbadd = 'drop'",
        &["tfo.toml:3: ", "`badd`"],
    ),
    (
        "interfaces = ['a']\n[policy.port.443]\nbad = 'sink'",
        &["tfo.toml:3: ", "\"sink\" is no action", "drop"],
    ),
    (
        "interfaces = ['a']\n[policy.default]\nbad-per-source = '7'",
        &["tfo.toml:3: ", "no rate", "100/s"],
    ),
    (
        "interfaces = ['a']\n[policy.port.443]\nbad = 'once'",
        &["tfo.toml:2: ", "bad = \"once\"", "once is for valid alone"],
    ),
    (
        "interfaces = ['a']\n[policy.port.443]\nonce-by = 'port'",
        &[
            "tfo.toml:3: ",
            "\"port\" is unknown",
            "duplicate or content",
        ],
    ),
    (
        "interfaces = ['a']\n[policy]\nonce-capacity = 0",
        &["tfo.toml:2: ", "[policy] once-capacity is from 1"],
    ),
    (
        "interfaces = ['a']\n[policy]\nmax-sources = 0",
        &["tfo.toml:2: ", "[policy] max-sources is from 1"],
    ),
    (
        "interfaces = ['a']\n[policy]\nprefix-v4 = 33",
        &["tfo.toml:2: ", "32 bits"],
    ),
    (
        "interfaces = ['a']\n[policy]\n\n[policy.port.0]",
        &["tfo.toml:4: ", "[policy.port.0]", "1 to 65535"],
    ),
    (
        "interfaces = ['a']\n[policy.port.080]\n[policy.port.80]",
        &["tfo.toml:3: ", "port 80 has a section already"],
    ),
    (
        "interfaces = ['a']\n[policy.port.80]\nbad = 'drop'\n[policy.port.81]\nrequest = 'reissue'",
        &["tfo.toml:4: ", "[policy.port.81]", "pass, fallback or drop"],
    ),
    (
        "[[namespace]]\nname = 'b'\ninterfaces = ['a']\n[namespace.policy.default]\ndata = 'fallback'",
        &["tfo.toml:4: ", "[policy.default]", "no option to rewrite"],
    ),
    (
        "interfaces = ['a']\n[guard]\nreplies = '7/s'",
        &["tfo.toml:2: ", "[guard] it guards no port"],
    ),
    (
        "interfaces = ['a']\n[guard.port.80]\nmode = 'maybe'",
        &["tfo.toml:3: ", "\"maybe\" is no mode", "off, on or auto"],
    ),
    (
        "interfaces = ['a']\n[guard.port.80]\nmode = 'on'\n[guard.port.81]\nquiet = '5s'",
        &["tfo.toml:4: ", "[guard.port.81] it does not say when"],
    ),
    (
        "interfaces = ['a']\n[guard.default]\nmode = 'on'\nabove = '7/s'",
        &["tfo.toml:2: ", "[guard.default]", "mode = \"auto\""],
    ),
    (
        "interfaces = ['a']\n[guard.default]\nmode = 'auto'\nabove = 'unlimited'",
        &["tfo.toml:2: ", "never exceeded"],
    ),
    (
        "interfaces = ['a']\n[guard.port.65536]\nmode = 'on'",
        &["tfo.toml:2: ", "[guard.port.65536]", "1 to 65535"],
    ),
    (
        "interfaces = ['a']\n[guard.port.80]\nmode = 'auto'\nquiet = '0s'",
        &["tfo.toml:4: ", "above 0 with s, m, h or d"],
    ),
];

#[test]
fn mistakes_are_told_with_their_line() {
    for (text, parts) in MISTAKES {
        ensure_refused(text, parts);
    }
    let ports: Vec<String> = (1..=65).map(|port| port.to_string()).collect();
    let ports = format!("interfaces = ['a']\nports = [{}]", ports.join(","));
    ensure_refused(&ports, &["tfo.toml:2: ", "65 ports", "at most 64"]);
}

#[test]
fn an_interval_of_the_flags_is_used_or_refused() {
    let parse = |source: Option<SourceKind>, interval: Option<u64>| {
        let layer = Layer {
            key_source: source,
            interval: interval.map(Duration::from_secs),
            ..Layer::default()
        };
        let flags = Flags {
            layer,
            ..Flags::default()
        };
        let own = "interfaces = ['a']\n[keys]\n";
        ["source = 'kernel'", "interval = '1h'"].map(|line| {
            let text = format!("{own}{line}");
            let parsed = Config::parse(&text, Some(Path::new("tfo.toml")), &flags);
            parsed.map(drop).map_err(|error| error.to_string())
        })
    };
    let [kernel, random] = parse(None, Some(60));
    let error = kernel.unwrap_err();
    assert!(error.starts_with("tfo.toml:3: nothing uses"), "{error}");
    assert_eq!(random, Ok(()));
    // A section may use it.
    let section =
        "[[namespace]]\nname = 'blue'\ninterfaces = ['a']\nkeys = { source = 'random' }\n";
    let text = format!("[keys]\nsource = 'kernel'\ninterval = '1h'\n{section}");
    let parsed = Config::parse(&text, None, &Flags::default()).unwrap();
    let interval = parsed.namespaces[0].source.interval();
    assert_eq!(interval, Some(Duration::from_hours(1)));
    // The file's own is left alone where a flag names another source.
    assert_eq!(parse(Some(SourceKind::Kernel), None), [const { Ok(()) }; 2]);
}
