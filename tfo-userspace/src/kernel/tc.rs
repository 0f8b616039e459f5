//! Filters of the clsact qdisc, which TC programs use before Linux 6.6: rtnetlink's `RTM_GETTFILTER`,
//! `RTM_DELTFILTER` and `RTM_DELQDISC`.

use std::io;

use rtnetlink::{
    packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, Nla as _, NlasIterator},
    packet_route::{
        RouteNetlinkMessage,
        tc::{TcAttribute, TcHandle, TcMessage, TcOption},
    },
};

use super::netlink::ask;

/// `TCA_BPF_ID`: the id of a filter's program.
const PROGRAM_ID: u16 = 11;

/// The packets that a filter of the clsact qdisc sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Those that come in.
    Ingress,
    /// Those that leave.
    Egress,
}

impl Direction {
    const BOTH: [Self; 2] = [Self::Ingress, Self::Egress];

    const fn minor(self) -> u16 {
        match self {
            Self::Ingress => TcHandle::MIN_INGRESS,
            Self::Egress => TcHandle::MIN_EGRESS,
        }
    }
}

/// A filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// Lower ones run first.
    pub priority: u16,
    /// Unique within its priority.
    pub handle: u32,
    /// The classifier, such as `bpf` or `flower`.
    pub kind: String,
    /// The id of its program, for the classifier `bpf`.
    pub program_id: Option<u32>,
}

/// The filters of the interface of this index in one direction in the calling thread's namespace; none where there is no
/// such interface, or it has no clsact qdisc.
///
/// # Errors
///
/// Those of socket(2), send(2) and recv(2).
pub fn filters(index: u32, direction: Direction) -> io::Result<Vec<Filter>> {
    let messages = dump(index, direction.minor())?;
    let filters = messages.iter().map(|message| Filter {
        priority: (message.header.info >> 16) as u16,
        handle: message.header.handle.into(),
        kind: message.attributes.iter().find_map(kind).unwrap_or_default(),
        program_id: message.attributes.iter().find_map(program_id),
    });
    // The kernel also lists each priority, with the handle 0.
    Ok(filters.filter(|filter| filter.handle != 0).collect())
}

/// Removes a filter of the interface of this index.
///
/// # Errors
///
/// The kernel's error.
pub fn remove_filter(index: u32, direction: Direction, filter: &Filter) -> io::Result<()> {
    let mut message = on(index, direction.minor());
    message.header.handle = filter.handle.into();
    let every_protocol = u32::from((libc::ETH_P_ALL as u16).to_be());
    message.header.info = u32::from(filter.priority) << 16 | every_protocol;
    let request = RouteNetlinkMessage::DelTrafficFilter(message);
    ask(request, NLM_F_REQUEST | NLM_F_ACK).map(drop)
}

/// Removes the interface's clsact qdisc, unless it has filters.
///
/// # Errors
///
/// The kernel's error.
pub fn remove_unused_clsact(index: u32) -> io::Result<()> {
    for direction in Direction::BOTH {
        if !dump(index, direction.minor())?.is_empty() {
            return Ok(());
        }
    }
    let mut message = on(index, TcHandle::CLSACT.minor);
    message.header.handle.major = TcHandle::CLSACT.major;
    let request = RouteNetlinkMessage::DelQueueDiscipline(message);
    ask(request, NLM_F_REQUEST | NLM_F_ACK).map(drop)
}

fn kind(attribute: &TcAttribute) -> Option<String> {
    match attribute {
        TcAttribute::Kind(kind) => Some(kind.clone()),
        _ => None,
    }
}

fn program_id(attribute: &TcAttribute) -> Option<u32> {
    let TcAttribute::Options(options) = attribute else {
        return None;
    };
    let [TcOption::Other(options)] = options.as_slice() else {
        return None;
    };
    let mut bytes = vec![0; options.value_len()];
    options.emit_value(&mut bytes);
    let mut inner = NlasIterator::new(bytes.as_slice()).flatten();
    let id = inner.find(|attribute| attribute.kind() == PROGRAM_ID)?;
    Some(u32::from_ne_bytes(id.value().try_into().ok()?))
}

fn dump(index: u32, minor: u16) -> io::Result<Vec<TcMessage>> {
    let request = RouteNetlinkMessage::GetTrafficFilter(on(index, minor));
    let answers = ask(request, NLM_F_REQUEST | NLM_F_DUMP)?.into_iter();
    Ok(answers
        .filter_map(|answer| match answer {
            RouteNetlinkMessage::NewTrafficFilter(message) => Some(message),
            _ => None,
        })
        .collect())
}

/// A message with the interface's clsact qdisc as the parent.
fn on(index: u32, minor: u16) -> TcMessage {
    let mut message = TcMessage::default();
    message.header.index = index.cast_signed();
    message.header.parent = TcHandle {
        major: TcHandle::CLSACT.major,
        minor,
    };
    message
}
