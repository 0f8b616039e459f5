//! The guard's maps: settings, rules and states of ports and of addresses behind this host, secrets, the sources' buckets,
//! and a scratch value.

use core::{mem::offset_of, ptr};

use aya_ebpf::{
    bindings::BPF_F_NO_PREALLOC,
    btf_maps::{Array, HashMap, LpmTrie, PerCpuArray, lpm_trie},
    macros::btf_map,
};
use tfo_common::{
    abi::{DEFAULT_PORT, MAX_GUARDED},
    atomic::AtomicWord,
    fastopen::Key,
    guard::{
        GuardHead, GuardMode, GuardPort, GuardRule, HeaderRules, ListenerFlags, PortState, SECRETS,
        edge::{EdgeKey, EdgePort, EdgeTerms, PASSED, passed_index},
        secret_index,
        source::{BUCKETS, Bucket, bucket_index},
    },
    rate::Rate,
    switches::Switches,
    wire::{
        addresses::{Address, Addresses},
        syn::Syn,
    },
};

use crate::kernel::socket::ListenerSink;

#[btf_map]
static GUARD: Array<GuardHead, 1> = Array::new();

#[btf_map]
static GUARD_PORTS: HashMap<
    u32,
    GuardPort,
    { MAX_GUARDED as usize },
    { BPF_F_NO_PREALLOC as usize },
> = HashMap::new();

#[btf_map]
static GUARD_EDGES: LpmTrie<[u32; EdgeKey::WORDS], EdgePort, { MAX_GUARDED as usize }> =
    LpmTrie::new();

/// CPUs may write an entry at once: either tag is one.
#[btf_map]
static EDGE_PASSED: Array<u64, PASSED> = Array::new();

/// Notes a SYN for a host behind this one that passes.
#[inline(always)]
pub(crate) fn note_passed(tag: u64) {
    if let Some(entry) = EDGE_PASSED.get_ptr_mut(passed_index(tag)) {
        // SAFETY: a value of the map, an aligned word.
        unsafe { ptr::write_volatile(entry, tag) };
    }
}

/// `true` if a SYN with this tag was noted.
#[inline(always)]
pub(crate) fn has_passed(tag: u64) -> bool {
    // SAFETY: as above.
    EDGE_PASSED
        .get_ptr(passed_index(tag))
        .is_some_and(|entry| unsafe { ptr::read_volatile(entry) } == tag)
}

#[btf_map]
static GUARD_SECRETS: Array<Key, SECRETS> = Array::new();

#[btf_map]
static GUARD_BUCKETS: Array<AtomicWord, BUCKETS> = Array::new();

/// Copies `N` words that the controller may replace meanwhile, each at once.
///
/// # Safety
///
/// `N` aligned words are at `from`.
#[inline(always)]
unsafe fn copy<const N: usize>(from: *const u64) -> [u64; N] {
    let mut words = [0; N];
    for (index, word) in words.iter_mut().enumerate() {
        let from = from.wrapping_add(index);
        // SAFETY: the caller's.
        *word = unsafe { ptr::read_volatile(from) };
    }
    words
}

/// The settings of the namespace.
#[inline(always)]
pub(crate) fn head() -> Option<GuardHead> {
    let head = GUARD.get_ptr(0)?;
    // SAFETY: a value of the map is 5 words.
    Some(GuardHead::from_words(unsafe { copy(head.cast()) }))
}

/// The secret of a time slot.
#[inline(always)]
pub(crate) fn secret(slot: u64) -> Option<Key> {
    let key = GUARD_SECRETS.get_ptr(secret_index(slot))?;
    // SAFETY: a value of the map is 2 words.
    let [k0, k1] = unsafe { copy(key.cast()) };
    Some(Key::from_words(k0, k1))
}

/// A port with a rule.
#[derive(Clone, Copy)]
pub(crate) struct Port(*mut GuardPort);

impl Port {
    /// The entry of a port: its own, or that of the default rule, where these switches say that there is one.
    #[inline(always)]
    pub(crate) fn of(switches: Switches, port: u16) -> Option<Self> {
        match GUARD_PORTS.get_ptr_mut(u32::from(port)) {
            Some(found) => Some(Self(found)),
            None if switches.has(Switches::GUARD_REST) => {
                GUARD_PORTS.get_ptr_mut(DEFAULT_PORT).map(Self)
            }
            None => None,
        }
    }

    /// The rule's mode alone.
    #[inline(always)]
    pub(crate) fn mode(self) -> GuardMode {
        // SAFETY: the mode is the first field of the map's value.
        GuardMode::from_number(unsafe { ptr::read_volatile(self.0.cast()) })
    }

    #[inline(always)]
    pub(crate) fn rule(self) -> GuardRule {
        // SAFETY: the rule is the first 3 words of the map's value.
        GuardRule::from_words(unsafe { copy(self.0.cast()) })
    }

    #[inline(always)]
    pub(crate) fn state<'a>(self) -> &'a PortState {
        let state = self.0.wrapping_byte_add(PortState::OFFSET).cast();
        // SAFETY: a part of the map's value, all of it atomic words. The kernel frees no value while the program runs; it
        // may give it to another port meanwhile, whose state then has this SYN.
        unsafe { &*state }
    }
}

/// An address behind this host, and a port, with a rule.
#[derive(Clone, Copy)]
pub(crate) struct Edge(*const EdgePort);

impl Edge {
    /// The entry of the destination of `syn`.
    #[inline(always)]
    pub(crate) fn of(syn: &Syn) -> Option<Self> {
        let EdgeKey(words) =
            EdgeKey::new(Address::destination(&syn.addresses), syn.destination_port());
        let edge = GUARD_EDGES.get(&lpm_trie::Key::new(EdgeKey::BITS, words))?;
        Some(Self(ptr::from_ref(edge)))
    }

    /// Rule and state. All of it that the program changes is atomic words.
    #[inline(always)]
    pub(crate) const fn port(self) -> Port {
        Port(
            self.0
                .wrapping_byte_add(offset_of!(EdgePort, port))
                .cast_mut()
                .cast(),
        )
    }

    #[inline(always)]
    pub(crate) fn terms(self) -> EdgeTerms {
        let terms = self.0.wrapping_byte_add(offset_of!(EdgePort, terms));
        // SAFETY: a part of the map's value, 3 words.
        let [listener, headers, window_scale] = unsafe { copy(terms.cast()) };
        EdgeTerms {
            listener,
            headers,
            window_scale,
        }
    }
}

/// Takes one token of a source; `false` if none is left.
#[inline(always)]
pub(crate) fn take(
    secret: &Key,
    addresses: &Addresses,
    bucket: Bucket,
    rate: Rate,
    now: u64,
) -> bool {
    match GUARD_BUCKETS.get(bucket_index(secret, addresses, bucket)) {
        Some(bucket) => rate.take_shared(bucket, now),
        None => true,
    }
}

const SCRATCH_WORDS: usize = 8;

#[btf_map]
static GUARD_SCRATCH: PerCpuArray<[u64; SCRATCH_WORDS], 1> = PerCpuArray::new();

/// The listener as the guard needs it, from the look-up of a SYN to its answer. It lives in a map: of a value that comes
/// from there the verifier knows nothing, and so does not follow each way to it.
#[derive(Clone, Copy)]
pub(crate) struct GuardScratch(*mut u64);

impl GuardScratch {
    const LISTENER: usize = 0;
    const ISSUES_COOKIES: usize = 1;
    const KEY: usize = 2;
    const HEADERS: usize = 4;
    /// 0 where the listener is this host's; else one more than the window scale of the terms.
    const EDGE: usize = 5;
    /// The tag of a SYN for a host behind this one.
    const TAG: usize = 6;
    /// Bytes that a packet onward to the host may have.
    const MTU: usize = 7;

    /// This CPU's.
    #[inline(always)]
    pub(crate) fn get() -> Option<Self> {
        GUARD_SCRATCH.get_ptr_mut(0).map(|words| Self(words.cast()))
    }

    #[inline(always)]
    fn store(self, index: usize, word: u64) {
        let place = self.0.wrapping_add(index);
        // SAFETY: one of the value's words, this CPU's own. Volatile, or LLVM would keep it in a register.
        unsafe { ptr::write_volatile(place, word) };
    }

    #[inline(always)]
    fn load(self, index: usize) -> u64 {
        let place = self.0.wrapping_add(index);
        // SAFETY: one of the value's words, this CPU's own.
        unsafe { ptr::read_volatile(place) }
    }

    /// The SYN is for a listener of this host.
    #[inline(always)]
    pub(crate) fn set_host(self) {
        self.store(Self::EDGE, 0);
        self.store(Self::MTU, u16::MAX.into());
    }

    /// The SYN with this tag is for a host behind this one, which keeps these terms. `mtu`: of the way to it. `key`: the one
    /// with which cookies are issued.
    #[inline(always)]
    pub(crate) fn set_edge(self, tag: u64, terms: &EdgeTerms, mtu: u16, key: Option<&Key>) {
        self.store(Self::EDGE, terms.window_scale + 1);
        self.store(Self::TAG, tag);
        self.store(Self::MTU, mtu.into());
        self.set_listener(terms.listener(), terms.headers());
        self.set_key(key);
    }

    #[inline(always)]
    pub(crate) fn is_edge(self) -> bool {
        self.load(Self::EDGE) != 0
    }

    /// Notes that a SYN for a host behind this one passes after all.
    #[inline(always)]
    pub(crate) fn note_passed(self) {
        note_passed(self.load(Self::TAG));
    }

    /// Bytes that a packet may have on the way back, of `mtu` bytes, and on the way onward.
    #[inline(always)]
    pub(crate) fn limited_mtu(self, mtu: u16) -> u16 {
        mtu.min(self.load(Self::MTU) as u16)
    }

    /// The window scale to state, where that of listeners without `SO_RCVBUF` is `of_host`.
    #[inline(always)]
    pub(crate) fn window_scale(self, of_host: u32) -> u32 {
        const OF_HOST: u64 = EdgeTerms::OF_HOST + 1;
        match self.load(Self::EDGE) {
            0 => self.listener().window_scale(of_host),
            OF_HOST => of_host,
            scale => scale as u32 - 1,
        }
    }

    /// The port that the SYN is for.
    #[inline(always)]
    pub(crate) fn port(self, switches: Switches, syn: &Syn) -> Option<Port> {
        if self.is_edge() {
            Edge::of(syn).map(Edge::port)
        } else {
            Port::of(switches, syn.destination_port())
        }
    }

    #[inline(always)]
    pub(crate) fn listener(self) -> ListenerFlags {
        ListenerFlags::from_word(self.load(Self::LISTENER))
    }

    #[inline(always)]
    pub(crate) fn headers(self) -> HeaderRules {
        HeaderRules::from_word(self.load(Self::HEADERS))
    }

    /// The key with which the listener issues cookies.
    #[inline(always)]
    pub(crate) fn key(self) -> Option<Key> {
        let key = Key::from_words(self.load(Self::KEY), self.load(Self::KEY + 1));
        (self.load(Self::ISSUES_COOKIES) != 0).then_some(key)
    }
}

impl ListenerSink for GuardScratch {
    const WANTED: bool = true;

    #[inline(always)]
    fn set_listener(self, listener: ListenerFlags, headers: HeaderRules) {
        self.store(Self::LISTENER, listener.word());
        self.store(Self::HEADERS, headers.word());
    }

    #[inline(always)]
    fn set_key(self, key: Option<&Key>) {
        let [a, b] = key.map_or([0; 2], Key::words);
        self.store(Self::ISSUES_COOKIES, key.is_some().into());
        self.store(Self::KEY, a);
        self.store(Self::KEY + 1, b);
    }
}
