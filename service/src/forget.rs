//! What is large is given back where nobody waits for it.

/// Gives back what may have millions of pieces, on a thread of its own where tasks run.
pub fn forget<T: Send + 'static>(what: Option<T>) {
    if let Some(what) = what {
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(move || drop(what))),
            Err(_) => drop(what),
        }
    }
}
