//! tfo
