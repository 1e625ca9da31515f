//! stub
#![allow(missing_docs)]
use std::{io, os::fd::OwnedFd, path::Path};
#[derive(Debug)]
pub struct Filter;
#[derive(Debug, thiserror::Error)]
pub enum SeccompError {
    #[error("x")]
    X,
}
impl Filter {
    pub fn load(&self) -> io::Result<Option<OwnedFd>> {
        Ok(None)
    }
    pub fn notifies(&self) -> bool {
        false
    }
}
pub fn cached(_p: &str, _f: &Path) -> Result<Filter, SeccompError> {
    Ok(Filter)
}
