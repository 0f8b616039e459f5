//! The guard on the wire: real clients and real listeners agree upon the same as without it, and whoever proves
//! nothing gets nowhere.

mod gate;
mod handshake;
mod limits;
mod listeners;
mod proof;
mod random;
mod servers;
mod stranger;
mod testbed;
