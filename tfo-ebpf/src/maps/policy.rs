//! The maps of policies, and the verdict of the one in force.

use core::{mem::MaybeUninit, ptr};

use aya_ebpf::{
    bindings::{
        BPF_F_NO_PREALLOC, BPF_NOEXIST,
        bpf_map_type::{BPF_MAP_TYPE_HASH, BPF_MAP_TYPE_LPM_TRIE, BPF_MAP_TYPE_LRU_HASH},
    },
    helpers::bpf_map_update_elem,
    macros::btf_map,
};
use tfo_common::{
    abi::{DEFAULT_PORT, POLICY_SLOTS},
    atomic::AtomicWord,
    context::SynContext,
    policy::{
        Class, LimitKey, ListEntry, PolicyState, PortRule, Rule, Scope, Verdict, once::OnceBy,
        withhold::Sent,
    },
    rate::Rate,
    switches::Switches,
    wire::{addresses::Address, syn::Syn},
};

use super::{
    array_of_maps::{self, ArrayOfMaps, InnerMap},
    once, withhold,
};
use crate::{
    kernel::{barrier::barrier_var, clock},
    packet::{data::syn_data, write::WritePacket},
};

const NO_PREALLOC: usize = BPF_F_NO_PREALLOC as usize;

type Rules = InnerMap<
    { BPF_MAP_TYPE_HASH as usize },
    { size_of::<u32>() },
    { size_of::<PortRule>() },
    NO_PREALLOC,
>;
type Lists = InnerMap<
    { BPF_MAP_TYPE_LPM_TRIE as usize },
    { size_of::<Prefix>() },
    { size_of::<u32>() },
    NO_PREALLOC,
>;
type Limits = InnerMap<
    { BPF_MAP_TYPE_LRU_HASH as usize },
    { size_of::<LimitKey>() },
    { size_of::<u64>() },
    0,
>;

#[btf_map]
static POLICY_RULES: ArrayOfMaps<Rules, POLICY_SLOTS> = ArrayOfMaps::new();

#[btf_map]
static POLICY_LISTS: ArrayOfMaps<Lists, POLICY_SLOTS> = ArrayOfMaps::new();

#[btf_map]
static POLICY_LIMITS: ArrayOfMaps<Limits, POLICY_SLOTS> = ArrayOfMaps::new();

/// Key of a trie.
#[repr(C)]
struct Prefix {
    len: u32,
    address: [u32; 4],
}

/// The rule of a port under the policy that these switches select; `None` where it has none.
#[inline(always)]
fn port_rule(switches: Switches, port: u16) -> Option<*mut PortRule> {
    let rules = POLICY_RULES.get(switches.policy_slot()?);
    if switches.has(Switches::PORTS) {
        // SAFETY: the map's keys and values are these.
        let rule = unsafe { array_of_maps::look_up::<u32, PortRule>(rules, &port.into()) };
        if !rule.is_null() {
            return Some(rule);
        }
    }
    // SAFETY: as above.
    let default = unsafe { array_of_maps::look_up::<u32, PortRule>(rules, &DEFAULT_PORT) };
    (!default.is_null()).then_some(default)
}

/// As [`port_rule`], without its buckets.
#[inline(always)]
pub(crate) fn rule<'a>(switches: Switches, port: u16) -> Option<&'a Rule> {
    // SAFETY: a value of the map. The controller fills a slot before it is in force, and nobody writes this part after.
    port_rule(switches, port).map(|rule| unsafe { &(*rule).rule })
}

/// The verdict of the policy in force on the SYN of `context`.
#[inline(always)]
pub(crate) fn verdict(frame: &impl WritePacket, context: &SynContext) -> Verdict {
    let (switches, syn) = (context.switches, &context.syn);
    let (port, classification) = (syn.destination_port(), context.classification);
    let (Some(slot), Some(rule)) = (switches.policy_slot(), port_rule(switches, port)) else {
        return Verdict::NONE;
    };
    // SAFETY: a value of the map.
    let buckets = unsafe { &raw mut (*rule).buckets };
    // SAFETY: a value of the map. The controller fills a slot before it is in force, and nobody writes this part after.
    let rule = unsafe { &(*rule).rule };
    let state = State {
        frame,
        slot,
        lists: switches.has(Switches::LISTS),
        rule,
        buckets: buckets.cast(),
        syn,
        port,
    };
    // The verifier then goes on once, not once for each verdict.
    let verdict =
        Verdict::of(syn, classification, rule, &state).barrier_var(|word| state.barrier_var(word));
    if switches.has(Switches::WITHHOLDS)
        && let Some(sent) = Sent::of(classification.outcome(syn), verdict.action())
    {
        remember(syn, sent, rule);
    }
    verdict
}

/// Has the handshake of `syn` teach, under a policy that withholds cookies.
#[inline(always)]
fn remember(syn: &Syn, sent: Sent, rule: &Rule) {
    withhold::note(syn, sent);
    if matches!(sent, Sent::Cookie)
        && rule.withhold != 0
        && let Some(memory) = withhold::of_new_source(&rule.sources.prefix(&syn.addresses))
    {
        memory.awaits(clock::now());
    }
}

/// The maps on which the verdict on one SYN depends.
struct State<'a, F> {
    frame: &'a F,
    slot: u32,
    lists: bool,
    rule: &'a Rule,
    /// One for each class.
    buckets: *const AtomicWord,
    syn: &'a Syn,
    port: u16,
}

impl<F: WritePacket> PolicyState for State<'_, F> {
    #[inline(always)]
    fn list_entry(&self) -> ListEntry {
        if !self.lists {
            return ListEntry::None;
        }
        let Address([a, b]) = Address::source(&self.syn.addresses);
        let key = Prefix {
            len: 128,
            address: [a as u32, (a >> 32) as u32, b as u32, (b >> 32) as u32],
        };
        // SAFETY: the map's keys and values are these.
        let listed =
            unsafe { array_of_maps::look_up::<Prefix, u32>(POLICY_LISTS.get(self.slot), &key) };
        // SAFETY: null, or a value of the map.
        match unsafe { listed.as_ref() } {
            Some(number) => ListEntry::from_number(*number),
            None => ListEntry::None,
        }
    }

    #[inline(always)]
    fn withholds(&self, class: Class) -> bool {
        let prefix = self.rule.sources.prefix(&self.syn.addresses);
        let withheld = withhold::of_source(&prefix)
            .is_some_and(|memory| memory.withholds(class, clock::now()));
        // The verifier then goes on once, not once for each answer.
        self.barrier_var(withheld.into()) != 0
    }

    #[inline(always)]
    fn came_before(&self, by: OnceBy) -> bool {
        let mut data = MaybeUninit::uninit();
        let before = match syn_data(self.frame, self.syn, &mut data) {
            Some(data) => once::came_before(by, self.syn, data),
            None => true,
        };
        // The verifier then goes on once, not once for each answer.
        self.barrier_var(before.into()) != 0
    }

    #[inline(always)]
    fn barrier_var(&self, value: u64) -> u64 {
        barrier_var(value, self.syn.sequence.into())
    }

    #[inline(always)]
    fn take(&self, class: Class, scope: Scope, rate: Rate) -> bool {
        if rate.is_unlimited() {
            return true;
        }
        let now = clock::now();
        let taken = match scope {
            Scope::Source => self.take_of_source(class, rate, now),
            Scope::Port => {
                // SAFETY: one of the rule's buckets.
                let bucket = unsafe { self.buckets.add(self.index(class)) };
                // SAFETY: a value of the map, which is only ever accessed so.
                rate.take_shared(unsafe { &*bucket }, now)
            }
        };
        self.barrier_var(taken.into()) != 0
    }
}

impl<F> State<'_, F> {
    #[inline(always)]
    fn take_of_source(&self, class: Class, rate: Rate, now: u64) -> bool {
        let map = POLICY_LIMITS.get(self.slot);
        if map.is_null() {
            return true;
        }
        let source = self.rule.sources.prefix(&self.syn.addresses);
        let key = LimitKey::new(source, self.port, class);
        // SAFETY: the map's keys and values are these.
        let bucket = unsafe { array_of_maps::look_up::<LimitKey, AtomicWord>(map, &key) };
        // SAFETY: null, or a value of the map. The kernel may give it to another prefix meanwhile, which then has one token
        // less.
        if let Some(bucket) = unsafe { bucket.as_ref() } {
            return rate.take_shared(bucket, now);
        }
        // The first SYN of a source never exceeds its limit.
        if let Some(first) = rate.take(0, now) {
            // SAFETY: the map, with a key and a value of its sizes. If another CPU was first, or there is no room, this SYN
            // takes no token.
            unsafe {
                bpf_map_update_elem(
                    map,
                    ptr::from_ref(&key).cast(),
                    ptr::from_ref(&first).cast(),
                    BPF_NOEXIST.into(),
                );
            }
        }
        true
    }
}
