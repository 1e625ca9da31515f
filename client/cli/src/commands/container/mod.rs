//! Commands on containers, one file each.

pub mod run;
