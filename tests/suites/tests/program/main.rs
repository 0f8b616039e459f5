//! The program in the kernel, run on crafted frames one at a time: what each is counted as, and that
//! every frame goes on as it came, unless a policy says otherwise.

mod agreement;
mod challenge;
mod events;
mod flow;
mod frames;
mod keys;
mod layout;
mod policy;
mod policy_model;
mod ports;
mod rows;
mod sizes;
mod sources;
