//! The configuration that files and flags give.

use std::{path::Path, time::Duration};

use tfo_common::{
    guard::GuardMode,
    policy::{Action, Class},
    rate::Rate,
};

use super::{namespace::farm as farm_section, text::ConfigText, *};
use crate::{
    farm::FarmConfig,
    keys::OnForeignChange,
    model::{
        EdgeGuard, EdgeService, Guard, ListenAddress, Mirror, ModeChoice, PortGuard, Settings,
        SourceLimits,
    },
};

mod decap;
mod farm;
mod guard;
mod listeners;
mod mistakes;
mod own_cookies;

const EXAMPLE: &str = include_str!("../../../../dist/tfo.toml");

fn parse(text: &str) -> Result<Config, String> {
    let path = Path::new("tfo.toml");
    Config::parse(text, Some(path), &Flags::default()).map_err(|error| error.to_string())
}

fn eth0() -> NamespaceConfig {
    NamespaceConfig {
        name: None,
        pattern: None,
        interfaces: vec!["eth0".to_owned()],
        mode: None,
        settings: Settings::default(),
        source: KeySourceConfig::Random {
            interval: Duration::from_secs(86_400),
        },
        on_foreign_change: OnForeignChange::Restore,
        policy: None,
        guard: None,
        guard_secret: None,
        force_guard: false,
        cookies: None,
        listeners: None,
        policy_section: None,
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
    assert_eq!(EXAMPLE.lines().filter(commented).count(), 9);
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
    assert_eq!(config.metrics, Some(ListenAddress::DEFAULT));
    let policy = config.namespaces[0].policy.as_ref().unwrap();
    let rule = &policy.ports[&443];
    assert!(policy.default.dry_run && !rule.dry_run);
    // All of a rule is shown.
    let shown = EXAMPLE.lines().filter(|line| {
        let key = line.strip_prefix("# ").unwrap_or_default();
        key.contains("-per-") && key.contains(" = ")
    });
    assert_eq!(shown.count(), 2 * rule.limits.len());
    let cookies = config.namespaces[0].cookies.as_ref();
    assert!(matches!(
        cookies,
        Some(OwnCookieConfig::On {
            secrets: OwnSecretsConfig::Secret(_),
            ..
        })
    ));
    // A sample is what holds where nothing is said.
    let guard = config.namespaces[0].guard.as_ref().unwrap();
    let rule = PortGuard {
        mode: GuardMode::Auto,
        ..PortGuard::default()
    };
    let edge = EdgeGuard {
        rule,
        mss: Some(1440),
        window_scale: Some(7),
        ..EdgeGuard::default()
    };
    let service = EdgeService {
        vip: "198.51.100.0/24".parse().unwrap(),
        port: 443,
    };
    let expected = Guard {
        ports: [(443, rule)].into(),
        edges: [(service, edge)].into(),
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
        (Some("blue"), Some(ModeChoice::Generic), "file")
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
    let secret = |hours: u64| KeySourceConfig::Secret {
        path: "/s".into(),
        interval: Duration::from_secs(hours * 3600),
    };
    assert_eq!(own.interfaces, ["eth0", "eth1"]);
    assert_eq!(
        (own.mode, own.settings.mirror),
        (Some(ModeChoice::Tc), Mirror::Packet)
    );
    let sources = SourceLimits {
        max: 0,
        v4: 24,
        v6: 48,
    };
    assert_eq!(own.settings.sources, sources);
    assert_eq!(own.on_foreign_change, OnForeignChange::Follow);
    assert_eq!((&own.source, &blue.source), (&secret(2), &secret(4)));
    assert_eq!([blue.mode, red.mode], [Some(ModeChoice::Tc); 2]);
    assert_eq!(red.settings.mirror, Mirror::Exact);
    let second = Duration::from_secs(1);
    assert_eq!(red.source, KeySourceConfig::Random { interval: second });
    assert!(config.detach_on_exit);
    assert_eq!(config.ports, [53, 443]);
    assert_eq!(config.metrics, Some(ListenAddress::Unix("/run/m".into())));
    assert_eq!(
        parse("interfaces = ['eth0']\n[metrics]").unwrap().metrics,
        Some(ListenAddress::DEFAULT)
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
        metrics: Some(ListenAddress::DEFAULT),
        detach_on_exit: true,
    };
    let config = Config::parse(text, Some(Path::new("f")), &flags).unwrap();
    let [own, blue] = config.namespaces.as_slice() else {
        panic!("{config:?}")
    };
    let random = |seconds| KeySourceConfig::Random {
        interval: Duration::from_secs(seconds),
    };
    assert_eq!(own.interfaces, ["eth9"]);
    assert_eq!(
        (own.mode, &own.source),
        (Some(ModeChoice::Generic), &random(1))
    );
    assert_eq!(
        (blue.mode, &blue.source),
        (Some(ModeChoice::Generic), &random(3 * 3600))
    );
    assert_eq!((config.ports, config.detach_on_exit), (vec![443], true));
    assert_eq!(config.metrics, Some(ListenAddress::DEFAULT));
}

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

fn farm_in(text: &str) -> Result<Option<FarmConfig>, ConfigError> {
    let text = ConfigText {
        text,
        path: Some(Path::new("tfo.toml")),
    };
    farm_section(&text, &text.parse()?)
}

fn ensure_refused(text: &str, parts: &[&str]) {
    let error = parse(text).expect_err(text);
    for part in parts {
        assert!(error.contains(part), "no {part:?} in {error:?} of {text:?}");
    }
    assert_eq!(error.lines().count(), 1, "{error:?}");
}
