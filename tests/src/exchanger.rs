//! An attacker who has a folder and swaps a name in it, as fast as the machine can.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

use rustix::fs::{CWD, RenameFlags, renameat_with};

/// A thread that exchanges two names without a pause until it is dropped.
pub struct Exchanger {
    ended: Arc<AtomicBool>,
    swaps: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Exchanger {
    /// Exchanges what is at these two paths, again and again.
    pub fn start(one: &Path, other: &Path) -> Self {
        let (ended, swaps) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (one, other, end, count) = (one.to_owned(), other.to_owned(), Arc::clone(&ended), Arc::clone(&swaps));
        let thread = thread::spawn(move || {
            while !end.load(Ordering::Relaxed) {
                if renameat_with(CWD, &one, CWD, &other, RenameFlags::EXCHANGE).is_ok() {
                    count.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        Self { ended, swaps, thread: Some(thread) }
    }

    /// How often it has succeeded.
    pub fn swaps(&self) -> u64 {
        self.swaps.load(Ordering::Relaxed)
    }
}

impl Drop for Exchanger {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
