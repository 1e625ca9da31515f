use std::cell::RefCell;
use std::path::PathBuf;
thread_local! { static WRITTEN: RefCell<Vec<(PathBuf, String)>> = const { RefCell::new(Vec::new()) }; }
pub(super) fn note(path: PathBuf, value: &str) {
    WRITTEN.with(|written| written.borrow_mut().push((path, value.to_owned())));
}
