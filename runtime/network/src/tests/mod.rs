//! Networks as they are used, in namespaces of their own: one is this machine, others are containers, one is a machine
//! outside. The real machine's network is never touched. They need root.

mod connect;
mod foreign;
mod lab;
mod publish;
mod recover;
