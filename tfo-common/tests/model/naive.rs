//! The second implementation. Linux: `tcp_parse_options`, `tcp_parse_fastopen_option`, `ip_rcv_core`, `ip6_rcv_core`,
//! `tcp_v4_rcv`, `tcp_fastopen_cookie_gen_check`.

use std::hash::Hasher as _;

use siphasher::sip::SipHasher24;
use tfo_common::{
    classify::Outcome,
    counters::Counter,
    fastopen::Cookie,
    wire::{
        NotSyn::{self, Other, Unparsed},
        addresses::Addresses,
        extensions::options::MAX_READ,
        options::{
            fast_open::{FastOpen, OptionPlace, PackedOptions, SynOptions},
            signature::Signatures,
        },
        syn::{Layout, Syn},
    },
};

/// An option with a value.
struct Raw {
    kind: u8,
    value: Vec<u8>,
    /// Length of the list from this option on, in bytes.
    left: u8,
}

/// All options but end-of-list and no-operation, and the bytes left where the list is malformed.
fn split(mut rest: &[u8]) -> (Vec<Raw>, Option<u8>) {
    let mut list = Vec::new();
    loop {
        match rest {
            [] | [0, ..] => return (list, None),
            [1, behind @ ..] => rest = behind,
            [kind, size, ..] if (2..=rest.len()).contains(&usize::from(*size)) => {
                let (option, behind) = rest.split_at((*size).into());
                list.push(Raw {
                    kind: *kind,
                    value: option[2..].to_vec(),
                    left: rest.len() as u8,
                });
                rest = behind;
            }
            _ => return (list, Some(rest.len() as u8)),
        }
    }
}

/// The cookie of a Fast Open option; `true` for the experimental form.
fn cookie(option: &Raw) -> Option<(Vec<u8>, bool)> {
    match (option.kind, option.value.as_slice()) {
        (34, cookie) => Some((cookie.to_vec(), false)),
        (254, [0xf9, 0x89, cookie @ ..]) => Some((cookie.to_vec(), true)),
        _ => None,
    }
}

/// Parses TCP options of a SYN with or without data.
pub(crate) fn options(bytes: &[u8], has_data: bool) -> SynOptions {
    let (list, broken) = split(bytes);
    let cookies: Vec<_> = list.iter().filter_map(cookie).collect();
    let possible = |cookie: &[u8]| matches!(cookie.len(), 0 | 4 | 6 | 8 | 10 | 12 | 14 | 16);
    let last_even = cookies.iter().rfind(|(cookie, _)| cookie.len() % 2 == 0);
    let standing = last_even.filter(|(cookie, _)| possible(cookie));
    SynOptions {
        fast_open: match standing.map(|(cookie, _)| cookie.as_slice()) {
            None => FastOpen::Absent,
            Some([]) => FastOpen::Request,
            Some(cookie) => match cookie.try_into() {
                Ok(bytes) => FastOpen::Cookie(Cookie::from_bytes(bytes)),
                Err(_) => FastOpen::BadLength,
            },
        },
        experimental: standing.is_some_and(|(_, experimental)| *experimental),
        malformed: broken.is_some() || cookies.iter().any(|(cookie, _)| !possible(cookie)),
        signatures: signatures(&list, broken),
        tsval: tsval(&list).filter(|_| has_data || standing.is_some()),
    }
}

pub(crate) fn both(bytes: &[u8], has_data: bool) -> (SynOptions, OptionPlace) {
    (options(bytes, has_data), place(bytes))
}

/// The place of the Fast Open option that the kernel uses.
pub(crate) fn place(bytes: &[u8]) -> OptionPlace {
    let (list, _) = split(bytes);
    let even: Vec<_> = list
        .iter()
        .filter_map(|option| Some((option, cookie(option)?.0.len())))
        .filter(|(_, len)| len % 2 == 0)
        .collect();
    match even.split_last() {
        Some(((option, 0 | 4 | 6 | 8 | 10 | 12 | 14 | 16), before)) => OptionPlace {
            at: bytes.len() as u8 - option.left,
            len: option.value.len() as u8 + 2,
            sole: before
                .iter()
                .all(|(_, len)| ![0, 4, 6, 8, 10, 12, 14, 16].contains(len)),
        },
        _ => OptionPlace::NONE,
    }
}

fn signatures(list: &[Raw], broken: Option<u8>) -> Signatures {
    let fits = |option: &&Raw| match option.kind {
        19 => option.value.len() == 16,
        _ => option.value.len() >= 3,
    };
    let of = |kinds: &'static [u8]| list.iter().filter(|option| kinds.contains(&option.kind));
    let first = |kind| of(kind).find(fits).map_or(0, |option| option.left);
    let second = of(&[19, 29]).filter(fits).nth(1);
    let unfit = of(&[19, 29]).find(|option| !fits(option));
    let faults = [second, unfit].into_iter().flatten();
    Signatures {
        fault: faults
            .map(|option| option.left)
            .chain(broken)
            .max()
            .unwrap_or(0),
        md5: first(&[19]),
        ao: first(&[29]),
    }
}

/// The `TSval` of the last timestamp option.
fn tsval(list: &[Raw]) -> Option<u32> {
    let stamp = list
        .iter()
        .rfind(|option| option.kind == 8 && option.value.len() == 8)?;
    Some(big_endian(&stamp.value[..4]) as u32)
}

/// Parses a frame from its first byte to its last.
pub(crate) fn frame(frame: &[u8]) -> Result<Syn, NotSyn> {
    let mut rest = frame.get(12..).ok_or(Unparsed)?;
    for tags in 0.. {
        let (ether_type, behind) = rest.split_at_checked(2).ok_or(Unparsed)?;
        match (ether_type, tags) {
            ([0x08, 0x00], _) => return ipv4(behind).map(|syn| in_frame(syn, frame, behind)),
            ([0x86, 0xdd], _) => return ipv6(behind).map(|syn| in_frame(syn, frame, behind)),
            ([0x81, 0x00] | [0x88, 0xa8], 0 | 1) => rest = behind.get(2..).ok_or(Unparsed)?,
            ([0x81, 0x00] | [0x88, 0xa8], _) => return Err(Unparsed),
            _ => return Err(Other),
        }
    }
    unreachable!("the third round returns")
}

/// `syn` with the offset of its TCP header; `packet` is the end of `frame`.
fn at(mut syn: Syn, frame: &[u8], packet: &[u8]) -> Syn {
    syn.layout.tcp += (frame.len() - packet.len()) as u16;
    syn
}

/// As [`at`], for a `packet` that begins with the network header.
fn in_frame(mut syn: Syn, frame: &[u8], packet: &[u8]) -> Syn {
    syn.layout.network = (frame.len() - packet.len()) as u8;
    at(syn, frame, packet)
}

/// Parses a packet without a link-layer header.
pub(crate) fn bare(packet: &[u8]) -> Result<Syn, NotSyn> {
    match packet.first().map(|first| first / 16) {
        None => Err(Unparsed),
        Some(4) => ipv4(packet),
        Some(6) => ipv6(packet),
        Some(_) => Err(Other),
    }
}

fn big_endian(bytes: &[u8]) -> usize {
    bytes
        .iter()
        .fold(0, |number, byte| number << 8 | usize::from(*byte))
}

fn ipv4(packet: &[u8]) -> Result<Syn, NotSyn> {
    let fixed = packet.get(..20).ok_or(Unparsed)?;
    let (version, words) = (fixed[0] / 16, fixed[0] % 16);
    let (length, fragment) = (big_endian(&fixed[2..4]), big_endian(&fixed[6..8]));
    let more_fragments = fragment & 0x2000 != 0;
    let offset = fragment % 0x2000;
    if fixed[9] != 6 {
        return Err(Other);
    }
    if version != 4 || words < 5 || more_fragments || offset != 0 {
        return Err(Unparsed);
    }
    let header = usize::from(words) * 4;
    let source = fixed[12..16].try_into().unwrap();
    let destination = fixed[16..20].try_into().unwrap();
    let addresses = Addresses::v4(source, destination);
    let segment = packet.get(header..).ok_or(Unparsed)?;
    let syn = tcp(segment, length.checked_sub(header), addresses)?;
    if !takes_ipv4_options(&packet[20..header]) {
        return Err(Unparsed);
    }
    Ok(at(syn, packet, segment))
}

/// `__ip_options_compile`, and `ip_rcv_options` without `accept_source_route`.
fn takes_ipv4_options(bytes: &[u8]) -> bool {
    let (list, broken) = split(bytes);
    let once = |kind| list.iter().filter(|option| option.kind == kind).count() <= 1;
    // Numbers count from the option's first byte, at 1.
    let fits = |option: &Raw, entry: usize| {
        let pointer = usize::from(option.value[0]);
        let size = option.value.len() + 2;
        pointer > size || pointer + entry - 1 <= size
    };
    let takes = |option: &Raw| match (option.kind, &option.value[..]) {
        (7, [pointer, ..]) => *pointer >= 4 && fits(option, 4),
        (68, [pointer, flags, rest @ ..]) if *pointer >= 5 => {
            if usize::from(*pointer) <= rest.len() + 4 {
                fits(option, if matches!(flags % 16, 1 | 3) { 8 } else { 4 })
            } else {
                flags % 16 == 3 || flags / 16 < 15
            }
        }
        (148, [_, _, ..]) => true,
        (7 | 68 | 131 | 137 | 148, _) => false,
        _ => true,
    };
    broken.is_none() && once(7) && once(68) && list.iter().all(takes)
}

fn ipv6(packet: &[u8]) -> Result<Syn, NotSyn> {
    let (header, mut rest) = packet.split_at_checked(40).ok_or(Unparsed)?;
    let mut length = Some(big_endian(&header[4..6]));
    let mut kinds = vec![header[6]];
    let (mut options, mut read) = (Vec::new(), 0);
    while let Some(kind) = kinds.last().filter(|kind| **kind != 6) {
        if !leads_on(*kind) {
            return Err(Other);
        }
        if kinds.len() > 6 || (*kind == 0 && kinds.len() > 1) {
            return Err(Unparsed);
        }
        let start = rest.get(..8).ok_or(Unparsed)?;
        let (next, size) = (start[0], 8 * (1 + usize::from(start[1])));
        let size = match kind {
            0 => size,
            43 if start[3] == 0 && ![2, 3, 4].contains(&start[2]) => size,
            44 if big_endian(&start[2..4]) / 8 == 0 && start[3] % 2 == 0 => 8,
            44 if !leads_on(next) => return Err(Other),
            // A home address option has 18 bytes behind type and length.
            60 if size <= 16 => size,
            _ => return Err(Unparsed),
        };
        if [0, 60].contains(kind) {
            options.push((kinds.len() == 1 && *kind == 0, rest.get(2..size)));
        }
        read += 1;
        rest = rest.get(size..).unwrap_or_default();
        length = length.and_then(|length| length.checked_sub(size));
        kinds.push(next);
    }
    if header[0] / 16 != 6 {
        return Err(Unparsed);
    }
    let source = header[8..24].try_into().unwrap();
    let destination = header[24..40].try_into().unwrap();
    let syn = tcp(rest, length, Addresses::v6(source, destination))?;
    for (hop_by_hop, list) in options {
        let list = list.ok_or(Unparsed)?;
        read += ipv6_options(list, hop_by_hop).ok_or(Unparsed)?;
    }
    if read > MAX_READ {
        return Err(Unparsed);
    }
    Ok(at(syn, packet, rest))
}

/// `ip6_parse_tlv`. Gives the number of options, padding among them; `None` where it drops the packet.
fn ipv6_options(mut rest: &[u8], hop_by_hop: bool) -> Option<usize> {
    let len = rest.len();
    let (mut read, mut padding, mut others) = (0, 0, 0);
    while let Some(kind) = rest.first() {
        let at = len - rest.len();
        let size = match kind {
            0 => 1,
            _ => 2 + usize::from(*rest.get(1)?),
        };
        let (option, behind) = rest.split_at_checked(size)?;
        read += 1;
        if *kind < 2 {
            padding += size;
            if padding > 7 || option.iter().skip(2).any(|byte| *byte != 0) {
                return None;
            }
        } else {
            padding = 0;
            others += 1;
            let takes = match kind {
                5 if hop_by_hop => size == 4,
                // Its header starts 2 bytes before, at a multiple of 8.
                49 if hop_by_hop => (at + 2).is_multiple_of(4),
                _ => kind / 64 == 0,
            };
            if !takes || others > 8 {
                return None;
            }
        }
        rest = behind;
    }
    Some(read)
}

/// TCP, or hop-by-hop options, routing, fragment, AH, destination options, mobility.
fn leads_on(kind: u8) -> bool {
    [6, 0, 43, 44, 51, 60, 135].contains(&kind)
}

/// Parses the segment of `length` bytes at the start of `bytes`; padding may follow. `None`: the packet ends before
/// the segment.
fn tcp(bytes: &[u8], length: Option<usize>, addresses: Addresses) -> Result<Syn, NotSyn> {
    let fixed = bytes.get(..20).ok_or(Unparsed)?;
    let flag = |bit: u8| fixed[13] >> bit & 1 == 1;
    let (fin, syn, rst, ack) = (flag(0), flag(1), flag(2), flag(4));
    if !syn || fin || rst || ack {
        return Err(Other);
    }
    let header = usize::from(fixed[12] / 16) * 4;
    let length = length
        .filter(|length| *length <= bytes.len())
        .ok_or(Unparsed)?;
    if header < 20 || header > length {
        return Err(Unparsed);
    }
    let data_len = bytes[header..length].len() as u32;
    Ok(Syn {
        addresses,
        ports: u32::from_le_bytes(fixed[..4].try_into().unwrap()),
        sequence: big_endian(&fixed[4..8]) as u32,
        data_len,
        options: PackedOptions::pack(
            &options(&bytes[20..header], data_len > 0),
            place(&bytes[20..header]),
        ),
        layout: Layout {
            // Set by the caller, which has the whole frame.
            network: 0,
            tcp: 0,
            header_len: header as u8,
        },
    })
}

/// The cookie under `key` for these addresses.
pub(crate) fn issue(key: &[u8; 16], addresses: &Addresses) -> [u8; 8] {
    let mut hasher = SipHasher24::new_with_key(key);
    match addresses {
        Addresses::V4(word) => hasher.write(&word.to_le_bytes()),
        Addresses::V6(words) => words.iter().for_each(|w| hasher.write(&w.to_le_bytes())),
    }
    hasher.finish().to_le_bytes()
}

/// The outcome of a SYN at a listener with these keys, primary first.
pub(crate) fn outcome(syn: &Syn, keys: &[[u8; 16]]) -> Outcome {
    let SynOptions {
        fast_open,
        malformed,
        ..
    } = syn.options.unpack();
    let issuer = |cookie: Cookie| {
        keys.iter()
            .position(|key| issue(key, &syn.addresses) == cookie.to_bytes())
    };
    match fast_open {
        FastOpen::Absent if malformed => Outcome::Malformed,
        FastOpen::Absent => Outcome::NoOption,
        FastOpen::Request => Outcome::Request,
        FastOpen::BadLength => Outcome::BadLength,
        FastOpen::Cookie(cookie) => match issuer(cookie) {
            None => Outcome::BadCookie,
            Some(0) => Outcome::Primary,
            Some(_) => Outcome::Backup,
        },
    }
}

/// The increase of `counter` for a SYN with this outcome.
pub(crate) fn counts(counter: Counter, syn: &Syn, outcome: Outcome) -> u64 {
    match counter {
        Counter::CookieReqd => (outcome == Outcome::Request).into(),
        Counter::Passive => matches!(outcome, Outcome::Primary | Outcome::Backup).into(),
        Counter::PassiveFail => matches!(outcome, Outcome::BadCookie | Outcome::BadLength).into(),
        Counter::PassiveAltKey => (outcome == Outcome::Backup).into(),
        Counter::Syns => 1,
        Counter::SynsWithData => (syn.data_len != 0).into(),
        Counter::SynDataBytes => syn.data_len.into(),
        Counter::OptionsMalformed => syn.options.is_malformed().into(),
        Counter::OptionsExperimental => syn.options.is_experimental().into(),
        Counter::ReasonMalformed => (outcome == Outcome::Malformed).into(),
        Counter::ReasonBadCookie => (outcome == Outcome::BadCookie).into(),
        Counter::ReasonBadLength => (outcome == Outcome::BadLength).into(),
        // Other reasons depend on the socket.
        _ => 0,
    }
}
