//! A SYN that was read, put down in memory by the first program and taken up by the next ones; and what the
//! guard's second program has to know besides.

use core::ptr;

use aya_ebpf::{btf_maps::PerCpuArray, macros::btf_map};
use tfo_common::{classify::Outcome, cookie::Key, judgement::Judgement, syn::Syn};

use crate::site::Site;

/// A SYN, and the policy under which it came ([`crate::policy::head`]).
pub(crate) struct Case {
    pub(crate) policy: u64,
    pub(crate) syn: Syn,
}

const WORDS: usize = size_of::<Case>().div_ceil(size_of::<u64>());

/// One [`Case`], as words: BTF has no word for an enum with fields.
#[btf_map]
static CASE: PerCpuArray<[u64; WORDS], 1> = PerCpuArray::new();

impl Case {
    /// Puts it down for the second program, which follows on this CPU before any other run. `false` where
    /// there is no memory, which does not happen.
    #[inline(always)]
    pub(crate) fn put_down(policy: u64, syn: &Syn) -> bool {
        let Some(place) = CASE.get_ptr_mut(0) else {
            return false;
        };
        let case = Self { policy, syn: *syn };
        // SAFETY: it has room for a case, and is this CPU's own until the second program returns.
        unsafe { ptr::write(place.cast(), case) };
        true
    }

    /// The one that was put down.
    #[inline(always)]
    pub(crate) fn take_up<'a>() -> Option<&'a Self> {
        // SAFETY: the first program put it there just now.
        unsafe { CASE.get_ptr(0)?.cast::<Self>().as_ref() }
    }
}

/// What the guard finds out of the SYN of the [`Case`]. It is written down as it is found: of what it reads here, the
/// verifier knows nothing, and does not go on once for each way to it.
#[derive(Clone, Copy)]
pub(crate) struct Findings(*mut [u64; Findings::WORDS]);

#[btf_map]
static FINDINGS: PerCpuArray<[u64; Findings::WORDS], 1> = PerCpuArray::new();

impl Findings {
    /// The site, the judgement, and whose cookies the listener hands out: 1 for any, and the key's words.
    const WORDS: usize = 5;
    const SITE: usize = 0;
    const JUDGEMENT: usize = 1;
    const ISSUES: usize = 2;
    const KEY: usize = 3;

    /// This CPU's, until the program ends and those to which it jumps; `None` where there is no memory, which does
    /// not happen.
    #[inline(always)]
    pub(crate) fn here() -> Option<Self> {
        FINDINGS.get_ptr_mut(0).map(Self)
    }

    #[inline(always)]
    fn put(self, at: usize, word: u64) {
        let place = self.0.cast::<u64>().wrapping_add(at);
        // SAFETY: one of the words, which are this CPU's own. Volatile, or they would be kept elsewhere.
        unsafe { ptr::write_volatile(place, word) };
    }

    #[inline(always)]
    fn get(self, at: usize) -> u64 {
        let place = self.0.cast::<u64>().wrapping_add(at);
        // SAFETY: as above.
        unsafe { ptr::read_volatile(place) }
    }

    #[inline(always)]
    pub(crate) fn put_site(self, site: Site) {
        self.put(Self::SITE, site.word());
    }

    #[inline(always)]
    pub(crate) fn site(self) -> Site {
        Site::from_word(self.get(Self::SITE))
    }

    #[inline(always)]
    pub(crate) fn put_judgement(self, judgement: Judgement) {
        self.put(Self::JUDGEMENT, judgement.word().into());
    }

    #[inline(always)]
    pub(crate) fn judgement(self) -> Judgement {
        Judgement::from_word(self.get(Self::JUDGEMENT) as u32)
    }

    /// The key of the cookies that a listener hands out when it is not flooded.
    #[inline(always)]
    pub(crate) fn put_issuer(self, key: Option<&Key>) {
        let [a, b] = key.map_or([0; 2], Key::words);
        self.put(Self::ISSUES, key.is_some().into());
        self.put(Self::KEY, a);
        self.put(Self::KEY + 1, b);
    }

    /// The key of the cookie for the SYN, if it asks for one, or needs another one.
    #[inline(always)]
    pub(crate) fn issuer(self) -> Option<Key> {
        let asks = matches!(
            self.judgement().merit(),
            Outcome::Request | Outcome::BadCookie | Outcome::BadLength | Outcome::Backup
        );
        let key = Key::from_words(self.get(Self::KEY), self.get(Self::KEY + 1));
        (asks && self.get(Self::ISSUES) != 0).then_some(key)
    }
}
