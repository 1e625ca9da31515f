//! The local image store and what makes layers of it.

pub mod decompress;
pub mod tar;
pub mod unpack;
