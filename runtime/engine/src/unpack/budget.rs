//! How much memory the layers of one copy may take together while they are unpacked and until they are published.
//!
//! Layers are unpacked beside each other. One that finds the budget used up waits for others to finish, and is refused
//! only if there is none that could.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Memory that several layers share. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Budget {
    shared: Arc<Shared>,
    limit: u64,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    used: u64,
    /// Layers that are being unpacked, and how many of them wait.
    active: usize,
    waiting: usize,
}

impl Budget {
    /// A budget of so many bytes.
    pub fn new(limit: u64) -> Self {
        Budget { shared: Arc::default(), limit }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Three numbers: a thread that panicked cannot have left them half changed.
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more layer is being unpacked.
    pub(super) fn enter(&self) {
        self.state().active += 1;
    }

    /// A layer is no longer being unpacked; what it gives back.
    pub(super) fn leave(&self, bytes: u64) {
        self.state().active -= 1;
        self.give(bytes);
    }

    /// Takes some of it for a layer that has entered; `false` if there is not enough and nobody will give any back.
    pub(super) fn take(&self, bytes: u64) -> bool {
        let mut state = self.state();
        while state.used.saturating_add(bytes) > self.limit {
            if bytes > self.limit || state.waiting + 1 >= state.active {
                return false;
            }
            state.waiting += 1;
            state = self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.waiting -= 1;
        }
        state.used += bytes;
        true
    }

    /// Gives some of it back.
    pub(crate) fn give(&self, bytes: u64) {
        let mut state = self.state();
        state.used = state.used.saturating_sub(bytes);
        drop(state);
        self.shared.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn who_finds_too_little_waits_for_others_and_no_longer() {
        let budget = Budget::new(100);
        budget.enter();
        assert!(budget.take(60));
        assert!(!budget.take(50), "nobody could give any back");
        budget.enter();
        let other = budget.clone();
        let waiting = std::thread::spawn(move || (other.take(50), other.leave(0)).0);
        std::thread::sleep(Duration::from_millis(20));
        assert!(!waiting.is_finished());
        // All the others wait: one has to go.
        assert!(!budget.take(50));
        budget.leave(60);
        assert_eq!(waiting.join().ok(), Some(true));
        assert_eq!(budget.state().used, 50);
    }
}
