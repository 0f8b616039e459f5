//! Decisions by an injected clock.

use std::thread;

use super::*;
use crate::{
    atomic::AtomicWord,
    classify::socket::{Listener, Socket},
    fastopen::{Key, KeySet},
    wire::{
        addresses::Addresses,
        options::{fast_open::FastOpen, negotiated::HostOptions, signature::SignatureRules},
        syn::{Layout, Syn},
    },
};

const SECOND: u64 = 1_000_000_000;
const KEY: Key = Key::from_groups([1, 2, 3, 4]);
const HEAD: GuardHead = GuardHead {
    slot_shift: 36,
    window_scale: 7,
    mss: 0,
    replies: Rate {
        per_second: 1,
        burst: 2,
    },
    proven: Rate {
        per_second: 1,
        burst: 1,
    },
    clock_offset: 0,
    strict: 0,
};

fn listener() -> ListenerFlags {
    let host = HostOptions {
        window_scaling: true,
        sack: true,
        ecn: false,
        timestamps: true,
    };
    ListenerFlags::new(131_072, host)
}

fn client() -> Addresses {
    Addresses::v4([192, 0, 2, 1], [198, 51, 100, 1])
}

fn syn(fast_open: FastOpen) -> Syn {
    Syn {
        addresses: client(),
        ports: 0,
        sequence: 1,
        data_len: 0,
        options: fast_open.into(),
        layout: Layout::NONE,
    }
}

fn classify(syn: &Syn, socket: &Socket) -> Classification {
    let keys = KeySet::new([KEY]);
    Classification::in_full(syn, socket, || keys.as_ref(), |word| word)
}

fn plain() -> Classification {
    classify(&syn(FastOpen::Absent), &Socket::Unknown)
}

fn proven() -> Classification {
    let cookie = FastOpen::Cookie(KEY.cookie(&client()));
    classify(&syn(cookie), &Socket::Unknown)
}

struct Port {
    rule: GuardRule,
    state: PortState,
}

impl Port {
    fn new(mode: GuardMode, above: Rate) -> Self {
        let until = if matches!(mode, GuardMode::On) {
            u64::MAX
        } else {
            0
        };
        Self {
            rule: GuardRule {
                mode: mode as u32,
                reserved: 0,
                above,
                quiet: 30 * SECOND,
            },
            state: PortState {
                until: AtomicWord::new(until),
                ..PortState::default()
            },
        }
    }

    fn situation(&self, now: u64) -> DecisionInput<'_> {
        DecisionInput {
            rule: &self.rule,
            state: &self.state,
            head: &HEAD,
            listener: listener(),
            classification: plain(),
            now,
        }
    }
}

const TEN: Rate = Rate {
    per_second: 10,
    burst: 10,
};

fn unlimited(_: Bucket, _: Rate) -> bool {
    true
}

#[test]
fn a_guarded_port_challenges_all_but_proven_sources() {
    let port = Port::new(GuardMode::On, TEN);
    let challenged = port.situation(SECOND).decide(unlimited);
    assert_eq!(challenged, Decision::new(GuardAction::Challenged, false));
    let valid = DecisionInput {
        classification: proven(),
        ..port.situation(SECOND)
    };
    assert_eq!(valid.decide(unlimited).action(), GuardAction::Proven);
    // Over its rate, a source with a valid cookie is challenged like any other.
    let over = valid.decide(|bucket, rate| {
        let proven = bucket == Bucket::Proven;
        assert_eq!(rate, if proven { HEAD.proven } else { HEAD.replies });
        !proven
    });
    assert_eq!(over.action(), GuardAction::Challenged);
    assert_eq!(valid.decide(|_, _| false).action(), GuardAction::Capped);
}

#[test]
fn an_unguarded_port_passes_everything() {
    for mode in [GuardMode::Off, GuardMode::Auto] {
        let port = Port::new(mode, TEN);
        let decision = port.situation(SECOND).decide(unlimited);
        assert_eq!(decision, Decision::NONE, "{mode:?}");
    }
}

#[test]
fn nothing_is_done_where_no_listener_would_be_flooded() {
    let port = Port::new(GuardMode::On, TEN);
    let nobody = DecisionInput {
        listener: ListenerFlags::NONE,
        ..port.situation(SECOND)
    };
    assert_eq!(nobody.decide(unlimited), Decision::NONE);
    for socket in [Socket::None, Socket::Existing] {
        let settled = DecisionInput {
            classification: classify(&syn(FastOpen::Request), &socket),
            ..port.situation(SECOND)
        };
        assert_eq!(settled.decide(unlimited), Decision::NONE);
    }
}

#[test]
fn an_unfit_listener_gets_every_syn() {
    let port = Port::new(GuardMode::On, TEN);
    let unfit = DecisionInput {
        listener: listener().unfit(true),
        ..port.situation(SECOND)
    };
    assert_eq!(unfit.decide(unlimited).action(), GuardAction::Unfit);
}

/// A socket with this queue of Fast Open connections, and these full queues.
fn socket(fast_open_full: bool, syn_full: bool, accept_full: bool) -> Socket {
    Socket::Listener(Listener {
        fast_open: 2,
        syn_cookies: 1,
        syn_queue_full: syn_full,
        accept_queue_full: accept_full,
        max_qlen: 5,
        qlen: 0,
        queue_full: fast_open_full,
        no_cookie: false,
        keys: KeySet::EMPTY,
        signatures: SignatureRules {
            fault_from: None,
            refuses_md5: false,
            refuses_ao: false,
        },
    })
}

#[test]
fn a_valid_cookie_that_the_kernel_will_not_honour_is_challenged() {
    let port = Port::new(GuardMode::On, TEN);
    let cookie = syn(FastOpen::Cookie(KEY.cookie(&client())));
    for (socket, action) in [
        (socket(false, false, false), GuardAction::Proven),
        (socket(true, false, false), GuardAction::Challenged),
        (socket(false, true, false), GuardAction::Challenged),
    ] {
        let input = DecisionInput {
            classification: classify(&cookie, &socket),
            ..port.situation(SECOND)
        };
        assert_eq!(input.decide(unlimited).action(), action);
    }
}

#[test]
fn a_full_accept_queue_is_promised_to_nobody() {
    let port = Port::new(GuardMode::On, TEN);
    let full = DecisionInput {
        listener: listener().accept_queue_full(true),
        ..port.situation(SECOND)
    };
    assert_eq!(full.decide(unlimited), Decision::NONE);
}

#[test]
fn auto_switches_on_above_the_rate_and_off_after_the_quiet_time() {
    let port = Port::new(GuardMode::Auto, TEN);
    let at = |now| port.situation(now).decide(unlimited);
    for n in 0..10 {
        assert_eq!(at(SECOND), Decision::NONE, "SYN {n} is within the burst");
    }
    let first = at(SECOND);
    assert_eq!(first, Decision::new(GuardAction::Challenged, true));
    assert_eq!(port.state.since.load(), SECOND);
    assert_eq!(port.state.until.load(), 31 * SECOND);
    assert_eq!(at(SECOND), Decision::new(GuardAction::Challenged, false));
    // The guarded time is extended in steps.
    for (now, until) in [
        (SECOND + STEP / 2, 31 * SECOND),
        (SECOND + STEP, 31 * SECOND + STEP),
    ] {
        for _ in 0..100 {
            assert_eq!(at(now).action(), GuardAction::Challenged);
        }
        assert_eq!(port.state.until.load(), until);
    }
    // Silence ends it; one SYN then is no flood.
    assert_eq!(at(32 * SECOND), Decision::NONE);
    assert_eq!(port.state.switches.load(), 1);
}

#[test]
fn valid_cookies_are_no_flood() {
    let port = Port::new(GuardMode::Auto, TEN);
    for _ in 0..1000 {
        let valid = DecisionInput {
            classification: proven(),
            ..port.situation(SECOND)
        };
        assert_eq!(valid.decide(unlimited), Decision::NONE);
    }
}

#[test]
fn a_full_syn_queue_guards_its_listener_and_switches_nothing() {
    let port = Port::new(GuardMode::Auto, TEN);
    let pressed = DecisionInput {
        listener: listener().syn_queue(600, 1000),
        ..port.situation(SECOND)
    };
    let decision = pressed.decide(unlimited);
    assert_eq!(decision, Decision::new(GuardAction::Challenged, false));
    let other = port.situation(SECOND).decide(unlimited);
    assert_eq!(other, Decision::NONE, "another listener of the same rule");
    assert_eq!(
        (port.state.until.load(), port.state.switches.load()),
        (0, 0)
    );
}

#[test]
fn one_of_many_cpus_switches_the_guard_on() {
    let port = Port::new(GuardMode::Auto, TEN);
    let switched = AtomicWord::new(0);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..100 {
                    let decision = port.situation(SECOND).decide(unlimited);
                    switched.fetch_add(decision.switched_on().into());
                }
            });
        }
    });
    assert_eq!((switched.load(), port.state.switches.load()), (1, 1));
}

#[test]
fn a_cookie_is_issued_to_those_who_need_one() {
    let listener = socket(false, false, false);
    for (fast_open, needs) in [
        (FastOpen::Absent, false),
        (FastOpen::Request, true),
        (FastOpen::BadLength, true),
        (FastOpen::Cookie(KEY.cookie(&client())), false),
        (
            FastOpen::Cookie(crate::fastopen::Cookie::from_word(1)),
            true,
        ),
    ] {
        let classification = classify(&syn(fast_open), &listener);
        assert_eq!(needs_cookie(classification), needs, "{fast_open:?}");
    }
}

#[test]
fn a_decision_keeps_its_parts() {
    for action in GuardAction::ALL {
        for (switched_on, issued) in [(false, false), (true, false), (false, true)] {
            let decision = Decision::new(action, switched_on).with_cookie(issued);
            assert_eq!(decision.action(), action);
            assert_eq!(decision.switched_on(), switched_on);
            assert_eq!(decision.cookie_issued(), issued);
        }
    }
}
