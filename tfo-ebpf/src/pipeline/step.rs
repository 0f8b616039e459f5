//! The result of a step, and of a program.

/// Decides about the frame.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// The next step decides.
    Continue,
    /// The frame goes on to the kernel.
    Pass,
    /// The frame is dropped.
    Drop,
    /// The frame leaves by the interface that it came from.
    Transmit,
}
