use std::time::Duration;

use ratatui::{Terminal, backend::TestBackend, buffer::Buffer, style::Color};
use tfo_common::counters::{Counter, Counters};
use tfo_userspace::{
    datapath::{Drift, GuardState, Snapshot},
    kernel::sysctl::Mode,
    metrics::{InterfaceFacts, NamespaceFacts},
    model::{AttachMode, Fingerprint, Guard, KeyPair, Mirror, PortState},
};

use super::*;

const COLOURS: [View; 2] = [
    View {
        colour: true,
        ascii: true,
        interval: Duration::from_secs(1),
    },
    View {
        colour: false,
        ascii: false,
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
fn the_screen_on_80_by_24() {
    let buffer = drawn(&COLOURS[0], &two_looks(), 80, 24);
    let expected = "\
tfo top  net.ipv4.tcp_fastopen = 3
keys  primary PRIMARY0  backup BACKUP00  changed 3 h ago
Fast Open  1250 of 1261 SYNs had their data taken (99.1 %)  now 99.6 % of 126/s
taken 100 %                                                                    #
                                                                               #
                                                                               #
                                                                               #
                                                                               #
        0 %                                                                    #
   126/s                                                                       #
                                                                               #
interface mode          SYNs/s mirror
eth0      native           126  exact
counter                    per s       total drift  not taken        per s     %
TCPFastOpenPassive           125        1250     0  BadCookie          0.5   0.9
TCPFastOpenPassiveFail       0.5          11     2
Syns                         126        1261
SynsWithData                 125        1250
SynDataBytes               12.5k      125000

port      taken %    SYNs/s    data/s    Reqd/s Passive/s  AltKey/s    Fail/s
443         100.0       125       125         0       125         0         0
8443          0.0       0.5         0         0         0         0       0.5
every 1 s; q quits";
    let [primary, backup] = [0, 1].map(|at| facts(2, 2).fingerprints[at].to_string());
    let expected = expected
        .replace("PRIMARY0", &primary)
        .replace("BACKUP00", &backup);
    assert_eq!(lines(&buffer).join("\n"), expected);
}

/// A host on which every counter but the policies' and the guard's has counted.
fn busy() -> Rates {
    let mut looks = [facts(1_000, 10), facts(1_250, 11)];
    for facts in &mut looks {
        let interface = &mut facts.interfaces[0];
        interface.sources = Some([812, 3]);
        let counters = &mut interface.counters.as_mut().unwrap().total;
        for counter in Counter::REASONS.into_iter().chain(Counter::OWN) {
            counters.add(counter, 1);
        }
        let ports = &mut facts.drift.as_mut().unwrap().ours.ports;
        let counters = ports[&443];
        ports.extend((1..40).map(|port| (port, counters)));
    }
    let mut rates = Rates::default();
    for facts in looks {
        rates.push(facts, Duration::from_secs(1));
    }
    rates
}

#[test]
fn a_tall_terminal_shows_every_reason_and_more_ports() {
    let rates = busy();
    let shown = |width, height| lines(&drawn(&COLOURS[1], &rates, width, height));
    let tall = shown(120, 90).join("\n");
    for reason in Counter::REASONS {
        let name = reason.name().strip_prefix("Reason").unwrap();
        assert!(tall.contains(name), "{name}:\n{tall}");
    }
    assert!(
        tall.contains("sources  812 kept  3 ask without using"),
        "{tall}"
    );
    assert!(!tall.contains(" more"), "{tall}");
    // On a lower terminal, the rows that are left out are counted.
    let low = shown(80, 24).join("\n");
    let more = low.lines().filter(|line| line.contains(" more"));
    assert!(more.count() >= 2, "{low}");
    assert!(low.contains("port      taken %"), "{low}");
}

#[test]
fn numbers_are_never_cut() {
    let rates = busy();
    for width in [20, 40, 60, 79, 80, 200] {
        let lines = lines(&drawn(&COLOURS[1], &rates, width, 40));
        let share = lines.iter().find(|line| line.starts_with("Fast Open"));
        let share = share.unwrap();
        assert!(
            share.contains(" %") && share.contains("98."),
            "{width}: {share}"
        );
        let passive = lines.iter().find(|line| line.contains("OpenPassive "));
        let cells: Vec<_> = passive
            .iter()
            .flat_map(|line| line.split_whitespace())
            .collect();
        let whole = ["TCPFastOpenPassive", "250", "1250", "0"];
        assert!(
            cells.iter().zip(whole).all(|(cell, whole)| *cell == whole),
            "{width}: {cells:?}"
        );
    }
}

/// An interval without an attempt is blank; one in which no data was taken is a low bar.
#[test]
fn the_chart_tells_none_from_nothing() {
    let mut rates = Rates::default();
    for (used, bad) in [(10, 10), (20, 10), (20, 10), (20, 15)] {
        rates.push(facts(used, bad), Duration::from_secs(1));
    }
    let shares: Vec<_> = rates
        .history
        .iter()
        .map(|interval| interval.summary.taken_share().per_mille())
        .collect();
    assert_eq!(shares, [Some(0), None, Some(1000)]);
    for (view, bars) in COLOURS.iter().zip([[" #", "# ."], [" █", "█ ▁"]]) {
        let lines = lines(&drawn(view, &rates, 40, 24));
        let row = |label| lines.iter().find(|line| line.starts_with(label)).unwrap();
        assert!(row("taken 100 %").ends_with(bars[0]), "{lines:#?}");
        assert!(row("        0 %").ends_with(bars[1]), "{lines:#?}");
    }
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
            vip: None,
            port: *port,
            rule: tfo_userspace::model::PortGuard::default(),
            on: true,
            since: Some(Duration::from_secs(12)),
            switches: 1,
        };
        facts.guard = Some(GuardState {
            guard: Guard::default(),
            ports: on.iter().map(port).collect(),
            window_scale: 7,
            mss: 0,
            stale: None,
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
    assert_eq!(tables::count(99_999_999_999), "99999999999");
    assert_eq!(tables::count(u64::MAX), "18446744073709M");
    for (value, text) in [
        (-999, "-999"),
        (-1_000, "<-999"),
        (9_999, "9999"),
        (10_000, ">9999"),
    ] {
        assert_eq!(tables::signed(value), text);
    }
}

/// With every counter and every reason, some of them on several ports.
fn all_occurred() -> Rates {
    let mut facts = facts(1_000, 10);
    let interface = &mut facts.interfaces[0];
    let counters = interface.counters.as_mut().unwrap();
    for counter in Counter::ALL {
        counters.total.add(counter, 5);
    }
    for port in 1..20 {
        counters.ports.insert(port, counters.total);
    }
    facts.drift.as_mut().unwrap().ours = counters.clone();
    let mut rates = Rates::default();
    rates.push(facts, Duration::ZERO);
    rates
}

#[test]
fn every_reason_that_occurred_is_shown() {
    for (width, height) in [(80, 40), (132, 50), (40, 60)] {
        let text = lines(&drawn(&COLOURS[0], &all_occurred(), width, height)).join("\n");
        for reason in Counter::REASONS {
            let name = reason.name().trim_start_matches("Reason");
            assert!(text.contains(name), "{name} on {width}x{height}:\n{text}");
        }
    }
}

#[test]
fn names_of_counters_are_whole_on_40_columns() {
    let text = lines(&drawn(&COLOURS[0], &all_occurred(), 40, 60)).join("\n");
    for counter in Counter::MIRRORED {
        let name = format!("\n{} ", counter.name());
        assert!(text.contains(&name), "{name}:\n{text}");
    }
}
