use ratatui::{Terminal, backend::TestBackend, buffer::Buffer};
use tfo_common::counters::Counters;
use tfo_userspace::{
    datapath::{Mirror, PortState, Snapshot},
    guard::Guard,
    kernel::sysctl::Mode,
    keys::{Fingerprint, KeyPair},
    metrics::InterfaceFacts,
    model::AttachMode,
};

use super::*;

const COLOURS: [View; 2] = [
    View {
        colour: true,
        interval: Duration::from_secs(1),
    },
    View {
        colour: false,
        interval: Duration::from_secs(1),
    },
];

/// A host that has counted this many SYNs with data on port 443, and as many bad cookies on 8443.
fn facts(used: u64, bad: u64) -> NamespaceFacts {
    let counters = |pairs: &[(Counter, u64)]| {
        let mut counters = Counters::default();
        for (counter, amount) in pairs {
            counters.add(*counter, *amount);
        }
        counters
    };
    let https = counters(&[
        (Counter::Syns, used),
        (Counter::SynsWithData, used),
        (Counter::SynDataBytes, 100 * used),
        (Counter::Passive, used),
    ]);
    let other = counters(&[
        (Counter::Syns, bad),
        (Counter::PassiveFail, bad),
        (Counter::ReasonBadCookie, bad),
    ]);
    let mut total = https;
    total += other;
    let ours = Snapshot {
        total,
        ports: [(443, https), (8443, other)].into(),
        other: Counters::default(),
    };
    let pair =
        KeyPair::parse("00112233-44556677-8899aabb-ccddeeff,a1b2c3d4-00000000-00000000-00000001")
            .unwrap();
    NamespaceFacts {
        interfaces: vec![InterfaceFacts {
            name: "eth0".to_owned(),
            mode: Some(AttachMode::Native),
            mirror: Some(Mirror::Exact),
            counters: Some(ours.clone()),
            ..InterfaceFacts::default()
        }],
        drift: Some(Drift {
            ours,
            kernel: [0, used, bad - 2, 0, 0],
        }),
        fast_open: Some(Mode(0x3)),
        keys_age: Some(Duration::from_secs(3 * 3_600)),
        keys_agree: Some(true),
        fingerprints: pair.keys().map(|key| Fingerprint::of(&key)).collect(),
        ..NamespaceFacts::default()
    }
}

fn two_looks() -> Rates {
    let mut rates = Rates::default();
    rates.push(facts(1_000, 10), Duration::ZERO);
    rates.push(facts(1_250, 11), Duration::from_secs(2));
    rates
}

fn drawn(view: &View, rates: &Rates, width: u16, height: u16) -> Buffer {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| view.draw(frame, rates)).unwrap();
    terminal.backend().buffer().clone()
}

fn lines(buffer: &Buffer) -> Vec<String> {
    let cells = buffer.content().chunks(usize::from(buffer.area.width));
    let texts = cells.map(|row| {
        row.iter()
            .map(ratatui::buffer::Cell::symbol)
            .collect::<String>()
    });
    texts.map(|text| text.trim_end().to_owned()).collect()
}

#[test]
fn all_of_it_fits_80_by_24() {
    let buffer = drawn(&COLOURS[0], &two_looks(), 80, 24);
    let expected = "\
tfo top  net.ipv4.tcp_fastopen = 3
keys  primary PRIMARY0  backup BACKUP00  changed 3 h ago
interface                     mode         mirror      SYNs/s
eth0                          native       exact          126
counter                      per s       total  drift  why not used        per s
TCPFastOpenCookieReqd            0           0      0  Off                     0
TCPFastOpenPassive             125        1250      0  ListenerWithout         0
TCPFastOpenPassiveFail         0.5          11      2  QueueFull               0
TCPFastOpenPassiveAltKey         0           0      0  NoListener              0
TCPFastOpenListenOverflow        0           0      0  SynCookies              0
Syns                           126        1261         SynQueueFull            0
SynsWithData                   125        1250         AcceptQueueFull         0
SynDataBytes                 12.5k      125000         BadCookie             0.5
OptionsMalformed                 0           0         BadLength               0
OptionsExperimental              0           0         Malformed               0
Unparsed                         0           0         Retransmission          0

port        SYNs/s    data/s    Reqd/s Passive/s  AltKey/s    Fail/s
443            125       125         0       125         0         0
8443           0.5         0         0         0         0       0.5



every 1 s; q quits";
    let [primary, backup] = [0, 1].map(|at| facts(2, 2).fingerprints[at].to_string());
    let expected = expected
        .replace("PRIMARY0", &primary)
        .replace("BACKUP00", &backup);
    assert_eq!(lines(&buffer).join("\n"), expected);
}

#[test]
fn what_is_wrong_stands_out() {
    let mut facts = facts(1_000, 10);
    facts.target.netns = "blue".to_owned();
    facts.fast_open = Some(Mode(0x202));
    facts.keys_agree = Some(false);
    facts.interfaces[0].mode = None;
    facts.errors.insert("memory", "map keys: gone".to_owned());
    let mut rates = Rates::default();
    rates.push(facts, Duration::ZERO);
    for view in COLOURS {
        let buffer = drawn(&view, &rates, 80, 24);
        let text = lines(&buffer).join("\n");
        for says in [
            "netns blue",
            "NO COOKIES ASKED FOR",
            "KERNEL HAS OTHERS",
            "NOT ATTACHED",
            "memory: map keys: gone",
        ] {
            assert!(text.contains(says), "{says}:\n{text}");
        }
        let coloured = |cell: &ratatui::buffer::Cell| cell.fg != Color::Reset;
        assert_eq!(buffer.content().iter().any(coloured), view.colour);
    }
}

#[test]
fn a_guard_has_a_line_that_stands_out_while_it_is_on() {
    let looked = |on: &[u16], challenged| {
        let mut facts = facts(1_000, 10);
        let port = |port: &u16| PortState {
            port: *port,
            rule: tfo_userspace::guard::PortGuard::default(),
            on: true,
            since: Some(Duration::from_secs(12)),
            switches: 1,
        };
        facts.guard = Some(GuardState {
            guard: Guard::default(),
            ports: on.iter().map(port).collect(),
            slot: 0,
        });
        let counters = facts.interfaces[0].counters.as_mut().unwrap();
        counters.total.add(Counter::GuardChallenged, challenged);
        facts
    };
    let line = |rates: &Rates| {
        let lines = lines(&drawn(&COLOURS[1], rates, 80, 24));
        lines.into_iter().find(|line| line.starts_with("guard"))
    };
    assert_eq!(line(&two_looks()), None);
    let mut rates = Rates::default();
    rates.push(looked(&[], 0), Duration::ZERO);
    let off = "guard  off  challenged 0/s  proven 0/s  accepted 0/s";
    assert_eq!(line(&rates).as_deref(), Some(off));
    rates.push(looked(&[0, 80, 443, 8443], 3_000), Duration::from_secs(2));
    let on =
        "guard  ON at others, 80, 443, 1 more for 12 s  challenged 1500/s  proven 0/s  accepted";
    let shown = line(&rates).unwrap();
    assert!(
        on.starts_with(&shown) && shown.contains("challenged 1500/s"),
        "{shown}"
    );
}

#[test]
fn no_size_is_too_small() {
    let rates = two_looks();
    for (width, height) in [(1, 1), (10, 3), (40, 10), (79, 23), (20, 60), (300, 100)] {
        let buffer = drawn(&COLOURS[0], &rates, width, height);
        assert_eq!(lines(&buffer).len(), usize::from(height));
    }
    drawn(&COLOURS[0], &Rates::default(), 80, 24);
    let mut nothing = Rates::default();
    nothing.push(NamespaceFacts::default(), Duration::ZERO);
    let text = lines(&drawn(&COLOURS[1], &nothing, 80, 24)).join("\n");
    assert!(text.contains("`tfo attach IFACE`"), "{text}");
}

#[test]
fn a_counter_that_falls_has_no_rate() {
    let mut rates = Rates::default();
    rates.push(facts(1_000, 10), Duration::ZERO);
    rates.push(facts(10, 10), Duration::from_secs(1));
    assert_eq!(rates.counter(Counter::Passive).0, 10);
    assert!(rates.counter(Counter::Passive).1.abs() < f64::EPSILON);
}

#[test]
fn numbers_are_short() {
    for (value, text) in [
        (0.0, "0"),
        (0.25, "0.2"),
        (9.94, "9.9"),
        (9.96, "10"),
        (9_999.0, "9999"),
        (10_000.0, "10.0k"),
        (999_949.0, "999.9k"),
        (1_234_567.0, "1.2M"),
    ] {
        assert_eq!(rate(value), text);
    }
    assert_eq!(count(u64::MAX), "18446744073709M");
    for (seconds, text) in [
        (119, "119 s"),
        (120, "2 min"),
        (86_400, "24 h"),
        (172_800, "2 d"),
    ] {
        assert_eq!(span(Duration::from_secs(seconds)), text);
    }
}
