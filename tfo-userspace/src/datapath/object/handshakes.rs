//! The program that learns of completed handshakes, at the kernel's tracepoint of socket states: one for a namespace.

use std::fs;

use aya::{
    EbpfLoader,
    programs::{RawTracePoint, links::FdLink},
};
use tfo_common::abi::{
    DEVICE, DeviceOffsets, HANDSHAKES_PROGRAM, OF_NAMESPACE, SOCKET_OFFSETS, STATE_TRACEPOINT,
};

use super::image::OBJECT;
use crate::{
    datapath::{
        error::DatapathError,
        pins::{NamespacePins, remove_file},
    },
    kernel::types,
};

/// Attaches the program to the namespace's pinned maps, in place of the one that is attached, and pins its link.
pub(crate) fn attach_handshakes(pins: &NamespacePins) -> Result<(), DatapathError> {
    let offsets =
        types::offsets().map_err(|error| DatapathError::NoHandshakes(error.to_string()))?;
    let device = DeviceOffsets {
        namespace: pins.cookie(),
        ..DeviceOffsets::UNKNOWN
    };
    let mut loader = EbpfLoader::new();
    for name in OF_NAMESPACE {
        loader.map_pin_path(name, pins.map(name));
    }
    let mut ebpf = loader
        .override_global(SOCKET_OFFSETS, &offsets.sockets, true)
        .override_global(DEVICE, &device, true)
        .load(OBJECT)
        .map_err(|error| DatapathError::Load(Box::new(error)))?;
    let program: &mut RawTracePoint = ebpf
        .program_mut(HANDSHAKES_PROGRAM)
        .ok_or(DatapathError::Missing(HANDSHAKES_PROGRAM))?
        .try_into()?;
    program.load()?;
    let link = program.attach(STATE_TRACEPOINT)?;
    let link = FdLink::from(program.take_link(link)?);
    let (path, next) = (pins.handshakes(), pins.next("handshakes"));
    // Left by a killed process.
    remove_file(&next)?;
    link.pin(&next).map_err(DatapathError::pin(&next))?;
    fs::rename(&next, &path).map_err(DatapathError::io(&path))
}

/// Detaches the program, if it is attached: the pin is the link's only reference.
pub(crate) fn detach_handshakes(pins: &NamespacePins) -> Result<(), DatapathError> {
    remove_file(&pins.handshakes())
}
