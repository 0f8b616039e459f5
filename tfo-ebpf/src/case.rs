//! A SYN that was read, put down in memory by the first program and taken up by the next ones; and what the
//! guard's second program has to know besides.

use core::ptr;

use aya_ebpf::{btf_maps::PerCpuArray, macros::btf_map};
use tfo_common::{cookie::Key, judgement::Judgement, syn::Syn};

use crate::socket::Site;

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

/// How the SYN of the [`Case`] is to be answered.
pub(crate) struct Order {
    pub(crate) judgement: Judgement,
    pub(crate) site: Site,
    /// Whose Fast Open cookie the answer has, if any.
    pub(crate) key: Option<Key>,
}

/// One [`Order`]: the judgement, the site, 1 for a key, and the key.
#[btf_map]
static ORDER: PerCpuArray<[u64; 5], 1> = PerCpuArray::new();

impl Order {
    /// Puts it down for the next program. `false` where there is no memory, which does not happen.
    #[inline(always)]
    pub(crate) fn put_down(&self) -> bool {
        let Some(place) = ORDER.get_ptr_mut(0) else {
            return false;
        };
        let issues = u64::from(self.key.is_some());
        let [a, b] = self.key.map_or([0; 2], |key| key.words());
        let words = [self.judgement.word().into(), self.site.word(), issues, a, b];
        // SAFETY: this CPU's own until the next program returns.
        unsafe { ptr::write(place, words) };
        true
    }

    /// The one that was put down.
    #[inline(always)]
    pub(crate) fn take_up() -> Option<Self> {
        // SAFETY: the program before put it there just now.
        let [judgement, site, issues, a, b] = unsafe { ptr::read(ORDER.get_ptr(0)?) };
        Some(Self {
            judgement: Judgement::from_word(judgement as u32),
            site: Site::from_word(site),
            key: (issues != 0).then(|| Key::from_words(a, b)),
        })
    }
}
