//! Facts as text.

mod farm;
mod guard;
