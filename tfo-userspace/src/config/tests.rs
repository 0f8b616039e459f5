use std::time::Duration;

use super::*;
use tfo_common::{
    guard::Mode,
    policy::{Action, Class, Rate},
};

use crate::{
    datapath::{Mirror, ModeChoice, Settings, SourceLimits},
    guard::PortGuard,
    keys::{OnForeignChange, SourceConfig},
};

const EXAMPLE: &str = include_str!("../../../dist/tfo.toml");

fn parse(text: &str) -> Result<Config, String> {
    let path = Path::new("tfo.toml");
    Config::parse(text, Some(path), &Flags::default()).map_err(|error| error.to_string())
}

fn eth0() -> NamespaceConfig {
    NamespaceConfig {
        name: None,
        interfaces: vec!["eth0".to_owned()],
        mode: ModeChoice::Auto,
        settings: Settings::default(),
        source: SourceConfig::Random {
            interval: Duration::from_secs(86_400),
        },
        on_foreign_change: OnForeignChange::Restore,
        policy: None,
        guard: None,
        section: None,
    }
}

#[test]
fn the_example_holds_the_defaults() {
    let defaults = Config {
        namespaces: vec![eth0()],
        detach_on_exit: false,
        ports: Vec::new(),
        metrics: None,
    };
    assert_eq!(parse(EXAMPLE).unwrap(), defaults);
    // What is commented out without a space says the same once it is not.
    let commented = |line: &&str| {
        let rest = line.strip_prefix('#');
        rest.is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_lowercase()))
    };
    assert_eq!(EXAMPLE.lines().filter(commented).count(), 10);
    let uncomment = |line| if commented(&line) { &line[1..] } else { line };
    let text: Vec<&str> = EXAMPLE.lines().map(uncomment).collect();
    assert_eq!(parse(&text.join("\n")).unwrap(), defaults);
}

#[test]
fn the_examples_samples_are_taken() {
    let sample = |line: &str| {
        let rest = line.strip_prefix("# ")?;
        let is = rest.starts_with('[')
            || rest.split_once(" = ").is_some_and(|(key, _)| {
                key.bytes()
                    .all(|it| it.is_ascii_lowercase() || it == b'-' || it.is_ascii_digit())
            });
        is.then(|| rest.to_owned())
    };
    let lines = EXAMPLE
        .lines()
        .filter(|line| !line.contains("path = \"/etc/tfo/secret\""));
    let text: Vec<String> = lines
        .map(|line| sample(line).unwrap_or_else(|| line.to_owned()))
        .collect();
    let config = parse(&text.join("\n")).unwrap();
    assert_eq!(config.metrics, Some(Listen::DEFAULT));
    let policy = config.namespaces[0].policy.as_ref().unwrap();
    let rule = &policy.ports[&443];
    assert!(policy.default.dry_run && !rule.dry_run);
    // All of a rule is shown.
    let shown = EXAMPLE.lines().filter(|line| {
        let key = line.strip_prefix("# ").unwrap_or_default();
        key.contains("-per-") && key.contains(" = ")
    });
    assert_eq!(shown.count(), 2 * rule.limits.len());
    // A sample is what holds where nothing is said.
    let guard = config.namespaces[0].guard.as_ref().unwrap();
    let rule = PortGuard {
        mode: Mode::Auto,
        ..PortGuard::default()
    };
    let expected = Guard {
        ports: [(443, rule)].into(),
        ..Guard::default()
    };
    assert_eq!(*guard, expected);
    let farm = farm_in(&text.join("\n")).unwrap().unwrap();
    assert_eq!(
        (farm.host.as_str(), farm.prefix.as_str()),
        ("web-1", "/tfo/")
    );
    let blue = &config.namespaces[1];
    assert_eq!(
        (blue.name.as_deref(), blue.mode, blue.source.name()),
        (Some("blue"), ModeChoice::Generic, "file")
    );
}

#[test]
fn everything_can_be_said() {
    let config = parse(
        "interfaces = ['eth0', 'eth1']\nmode = 'tc'\nmirror = 'packet'\ndetach-on-exit = true\nports = [53, 443]\n\
         [sources]\nmax = 0\nprefix-v4 = 24\nprefix-v6 = 48\n\
         [keys]\nsource = 'secret'\npath = '/s'\ninterval = '2h'\non-foreign-change = 'follow'\n\
         [metrics]\nlisten = 'unix:/run/m'\n\
         [[namespace]]\nname = 'blue'\ninterfaces = ['eth0']\n[namespace.keys]\ninterval = '4h'\n\
         [[namespace]]\nname = 'red'\ninterfaces = ['eth0']\nmirror = 'exact'\nkeys = { source = 'random', interval = '1s' }\n",
    )
    .unwrap();
    let [own, blue, red] = config.namespaces.as_slice() else {
        panic!("{config:?}")
    };
    let secret = |hours: u64| SourceConfig::Secret {
        path: "/s".into(),
        interval: Duration::from_secs(hours * 3600),
    };
    assert_eq!(own.interfaces, ["eth0", "eth1"]);
    assert_eq!(
        (own.mode, own.settings.mirror),
        (ModeChoice::Tc, Mirror::Packet)
    );
    let sources = SourceLimits {
        max: 0,
        v4: 24,
        v6: 48,
    };
    assert_eq!(own.settings.sources, sources);
    assert_eq!(own.on_foreign_change, OnForeignChange::Follow);
    assert_eq!((&own.source, &blue.source), (&secret(2), &secret(4)));
    assert_eq!((blue.mode, red.mode), (ModeChoice::Tc, ModeChoice::Tc));
    assert_eq!(red.settings.mirror, Mirror::Exact);
    let second = Duration::from_secs(1);
    assert_eq!(red.source, SourceConfig::Random { interval: second });
    assert!(config.detach_on_exit);
    assert_eq!(config.ports, [53, 443]);
    assert_eq!(config.metrics, Some(Listen::Unix("/run/m".into())));
    assert_eq!(
        parse("interfaces = ['eth0']\n[metrics]").unwrap().metrics,
        Some(Listen::DEFAULT)
    );
}

#[test]
fn flags_win_over_the_top_of_the_file() {
    let text = "interfaces = ['eth0']\nmode = 'tc'\nports = [1]\n[keys]\ninterval = '2h'\n\
                [[namespace]]\nname = 'blue'\ninterfaces = ['eth0']\nkeys = { interval = '3h' }\n";
    let flags = Flags {
        interfaces: vec!["eth9".to_owned()],
        layer: Layer {
            mode: Some(ModeChoice::Generic),
            interval: Some(Duration::from_secs(1)),
            ..Layer::default()
        },
        ports: vec![443],
        metrics: Some(Listen::DEFAULT),
        detach_on_exit: true,
    };
    let config = Config::parse(text, Some(Path::new("f")), &flags).unwrap();
    let [own, blue] = config.namespaces.as_slice() else {
        panic!("{config:?}")
    };
    let random = |seconds| SourceConfig::Random {
        interval: Duration::from_secs(seconds),
    };
    assert_eq!(own.interfaces, ["eth9"]);
    assert_eq!((own.mode, &own.source), (ModeChoice::Generic, &random(1)));
    assert_eq!(
        (blue.mode, &blue.source),
        (ModeChoice::Generic, &random(3 * 3600))
    );
    assert_eq!((config.ports, config.detach_on_exit), (vec![443], true));
    assert_eq!(config.metrics, Some(Listen::DEFAULT));
}

fn farm_in(text: &str) -> Result<Option<FarmConfig>, ConfigError> {
    let places = Places {
        text,
        path: Some(Path::new("tfo.toml")),
    };
    places.farm(&places.parse()?)
}

#[test]
fn a_farm_has_a_name_for_each_namespace_of_a_host() {
    let config = parse(
        "interfaces = ['eth0']\n[keys]\nsource = 'etcd'\ninterval = '2h'\n\
         [farm]\nendpoints = ['http://[::1]:2379']\nhost = 'web-1'\n\
         [[namespace]]\nname = '/run/netns/blue'\ninterfaces = ['eth0']\n",
    )
    .unwrap();
    let names = ["web-1", "web-1@blue"];
    for (namespace, name) in config.namespaces.iter().zip(names) {
        let farm = namespace.source.farm().unwrap();
        assert_eq!(farm.host, name);
        let hour = Duration::from_secs(3600);
        assert_eq!((farm.interval, farm.patience), (2 * hour, hour / 6));
        assert_eq!(
            (farm.prefix.as_str(), farm.state.to_str()),
            ("/tfo/", Some("/var/lib/tfo"))
        );
    }
}

/// What is wrong with a farm, and what the one line says.
const MISTAKES_OF_FARMS: &[(&str, &[&str])] = &[
    ("", &["tfo.toml:3: ", "add a section [farm]"]),
    ("[farm]", &["missing field `endpoints`"]),
    ("[farm]\nendpoints = []", &["tfo.toml:5: ", "at least one"]),
    (
        "[farm]\nendpoints = ['etcd:2379']",
        &["tfo.toml:5: ", "https://HOST:PORT"],
    ),
    (
        "[farm]\nendpoints = ['http://a:1', 'https://b:1']",
        &["tfo.toml:5: ", "all by https"],
    ),
    (
        "[farm]\nendpoints = ['http://a:1']\nca = '/ca'",
        &["tfo.toml:5: ", "are for https"],
    ),
    (
        "[farm]\nendpoints = ['http://a:1']\nprefix = 'tfo'",
        &["tfo.toml:6: ", "end in a slash"],
    ),
    (
        "[farm]\nendpoints = ['http://a:1']\nhost = 'a/b'",
        &["tfo.toml:6: ", "host's name"],
    ),
    (
        "[farm]\nendpoints = ['http://a:1']\nuser = 'u'",
        &["tfo.toml:6: ", "goes with password"],
    ),
    (
        "[farm]\nendpoints = ['https://a:1']\nkey = '/k'",
        &["tfo.toml:6: ", "goes with certificate"],
    ),
    (
        "[farm]\nendpoints = ['http://a:1']\npatience = 1",
        &["tfo.toml:6: ", "string"],
    ),
    (
        "on-foreign-change = 'follow'\n[farm]\nendpoints = ['http://a:1']",
        &["tfo.toml:3: ", "its farm refuses"],
    ),
];

#[test]
fn mistakes_in_farms_are_told_with_their_line() {
    for (text, parts) in MISTAKES_OF_FARMS {
        ensure_refused(
            &format!("interfaces = ['a']\n[keys]\nsource = 'etcd'\n{text}"),
            parts,
        );
    }
}

/// Files that are refused, and what the one line says.
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
        &["tfo.toml:3: ", "whole path"],
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
        "interfaces = ['sixteencharsname']",
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
fn a_policy_is_a_namespaces_own_or_that_of_the_top() {
    let config = parse(
        "interfaces = ['a']\n[policy]\ndry-run = true\n[policy.port.443]\nbad = 'reissue'\n\
         bad-per-source = '7/s burst 9'\ndry-run = false\n\
         [[namespace]]\nname = 'blue'\ninterfaces = ['a']\n\
         [[namespace]]\nname = 'red'\ninterfaces = ['a']\n[namespace.policy.default]\nbad = 'drop'\n",
    )
    .unwrap();
    let [own, blue, red] = config.namespaces.as_slice() else {
        panic!("{config:?}")
    };
    assert_eq!(own.policy, blue.policy);
    let own = own.policy.as_ref().unwrap();
    let bad = Class::Bad as usize;
    let rule = &own.ports[&443];
    let rate = Rate {
        per_second: 7,
        burst: 9,
    };
    assert_eq!(
        (rule.actions[bad], rule.limits[bad].source),
        (Action::Reissue, rate)
    );
    assert!(own.default.dry_run && !rule.dry_run);
    // Denied sources fall back, unless someone says so.
    assert_eq!(
        (own.default.denied, rule.denied),
        (Action::Fallback, Action::Fallback)
    );
    let red = red.policy.as_ref().unwrap();
    assert!(red.ports.is_empty() && red.default.actions[bad] == Action::Drop);
    assert_eq!(
        parse("interfaces = ['a']").unwrap().namespaces[0].policy,
        None
    );
}

#[test]
fn a_guard_is_a_namespaces_own_or_that_of_the_top() {
    let config = parse(
        "interfaces = ['a']\n[guard]\nreplies = '7/s'\n[guard.port.443]\nmode = 'auto'\n\
         above = '5/s burst 9'\nquiet = '2m'\n\
         [[namespace]]\nname = 'blue'\ninterfaces = ['a']\n\
         [[namespace]]\nname = 'red'\ninterfaces = ['a']\n[namespace.guard.default]\nmode = 'on'\n",
    )
    .unwrap();
    let [own, blue, red] = config.namespaces.as_slice() else {
        panic!("{config:?}")
    };
    assert_eq!(own.guard, blue.guard);
    let own = own.guard.as_ref().unwrap();
    let below = Guard::default();
    assert_eq!((own.replies.burst, own.proven), (7, below.proven));
    let rule = own.ports[&443];
    assert_eq!((rule.mode, rule.above.burst), (Mode::Auto, 9));
    assert_eq!((rule.quiet, own.default), (Duration::from_secs(120), None));
    let red = red.guard.as_ref().unwrap();
    assert!(red.ports.is_empty() && red.default.unwrap().mode == Mode::On);
    assert_eq!(red.replies, below.replies);
    let none = parse("interfaces = ['a']").unwrap();
    assert_eq!(none.namespaces[0].guard, None);
}

fn ensure_refused(text: &str, parts: &[&str]) {
    let error = parse(text).expect_err(text);
    for part in parts {
        assert!(error.contains(part), "no {part:?} in {error:?} of {text:?}");
    }
    assert_eq!(error.lines().count(), 1, "{error:?}");
}

#[test]
fn mistakes_are_told_with_their_line() {
    for (text, parts) in MISTAKES {
        ensure_refused(text, parts);
    }
    let ports: Vec<String> = (1..=65).map(|port| port.to_string()).collect();
    let ports = format!("interfaces = ['a']\nports = [{}]", ports.join(","));
    ensure_refused(&ports, &["tfo.toml:2: ", "65 ports", "at most 64"]);
}
