//! An owner's mailbox: unbounded by itself, bounded by what its senders may have in flight.
//!
//! A wake-up takes everything at once. An idle mailbox holds no memory but its own few words: a node keeps
//! thousands of partitions that nobody uses just now.

use std::mem;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};

/// Something came since the last look.
const BUSY: u8 = 2;
/// Nothing came since the last look, and memory was not given back yet.
const QUIET: u8 = 1;
/// Nothing to give back.
const IDLE: u8 = 0;

struct Shared<T> {
    state: Mutex<State<T>>,
    use_state: AtomicU8,
}

struct State<T> {
    mails: Vec<T>,
    waker: Option<Waker>,
    /// The owner has ended: what comes is dropped.
    is_closed: bool,
}

/// The sending side; cheap to clone.
pub struct Mailbox<T>(Arc<Shared<T>>);

/// The owner's side.
pub struct Mails<T>(Arc<Shared<T>>);

/// A new mailbox and its reader.
pub fn mailbox<T>() -> (Mailbox<T>, Mails<T>) {
    let state = Mutex::new(State { mails: Vec::new(), waker: None, is_closed: false });
    let shared = Arc::new(Shared { state, use_state: AtomicU8::new(IDLE) });
    (Mailbox(Arc::clone(&shared)), Mails(shared))
}

impl<T> Clone for Mailbox<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Mailbox<T> {
    pub fn send(&self, mail: T) {
        let _ = self.offer(mail);
    }

    /// Gives the mail back if the owner has ended.
    pub fn offer(&self, mail: T) -> Result<(), T> {
        self.0.use_state.store(BUSY, Ordering::Relaxed);
        self.put(mail)
    }

    fn put(&self, mail: T) -> Result<(), T> {
        let waker = {
            let mut state = self.0.state.lock().expect("no panic holds this lock");
            if state.is_closed {
                return Err(mail);
            }
            state.mails.push(mail);
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(())
    }

    /// Called now and then: sends `mail`, which asks the owner to give memory back, once after it fell silent.
    pub fn send_if_quiet(&self, mail: T) {
        let use_state = &self.0.use_state;
        match use_state.load(Ordering::Relaxed) {
            BUSY => use_state.store(QUIET, Ordering::Relaxed),
            QUIET => {
                use_state.store(IDLE, Ordering::Relaxed);
                let _ = self.put(mail);
            }
            _ => {}
        }
    }
}

impl<T> Mails<T> {
    /// Waits for mail and takes all of it; `taken` must be empty, and its memory is the mailbox's next. Nothing is
    /// lost when this is dropped: what it took is in `taken`.
    pub async fn take(&mut self, taken: &mut Vec<T>) {
        debug_assert!(taken.is_empty(), "what was taken before is handled before more is taken");
        std::future::poll_fn(|context| {
            let mut state = self.0.state.lock().expect("no panic holds this lock");
            if state.mails.is_empty() {
                match &mut state.waker {
                    Some(waker) => waker.clone_from(context.waker()),
                    none => *none = Some(context.waker().clone()),
                }
                return Poll::Pending;
            }
            mem::swap(&mut state.mails, taken);
            Poll::Ready(())
        })
        .await;
        // An owner whose mail never ends lets others run all the same.
        tokio::task::coop::consume_budget().await;
    }

    /// Takes no more mail, unless there is some.
    pub fn close_if_empty(&mut self) -> bool {
        let mut state = self.0.state.lock().expect("no panic holds this lock");
        state.is_closed = state.mails.is_empty();
        state.is_closed
    }

    /// Gives back what an empty mailbox holds.
    pub fn shed(&mut self) {
        self.0.state.lock().expect("no panic holds this lock").mails.shrink_to_fit();
    }
}

impl<T> Drop for Mails<T> {
    fn drop(&mut self) {
        if let Ok(mut state) = self.0.state.lock() {
            state.is_closed = true;
            // Whoever waits for an answer to one of them learns that there is none.
            state.mails = Vec::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn all_mail_comes_in_order() {
        let (mailbox, mut mails) = mailbox();
        let sender = mailbox.clone();
        let sending = tokio::spawn(async move {
            for number in 0..1_000 {
                sender.send(number);
                if number % 7 == 0 {
                    tokio::task::yield_now().await;
                }
            }
        });
        let (mut all, mut taken) = (Vec::new(), Vec::new());
        while all.len() < 1_000 {
            mails.take(&mut taken).await;
            all.append(&mut taken);
        }
        sending.await.expect("sent");
        assert!(all.into_iter().eq(0..1_000));
    }

    #[tokio::test]
    async fn mail_to_an_owner_that_has_ended_is_dropped() {
        let (mailbox, mails) = mailbox();
        let (answer, answered) = tokio::sync::oneshot::channel::<()>();
        mailbox.send(answer);
        drop(mails);
        assert!(answered.await.is_err(), "nobody will answer");
        let (answer, answered) = tokio::sync::oneshot::channel::<()>();
        mailbox.send(answer);
        assert!(answered.await.is_err(), "nobody will answer");
    }

    #[tokio::test]
    async fn an_owner_ends_only_where_no_mail_is_left() {
        let (mailbox, mut mails) = mailbox();
        mailbox.send("work");
        assert!(!mails.close_if_empty());
        mails.take(&mut Vec::new()).await;
        assert!(mails.close_if_empty());
        assert_eq!(mailbox.offer("late"), Err("late"));
    }

    #[tokio::test]
    async fn one_reminder_after_each_silence() {
        let (mailbox, mut mails) = mailbox();
        mailbox.send("work");
        mailbox.send_if_quiet("rest");
        mailbox.send_if_quiet("rest");
        mailbox.send_if_quiet("rest");
        let mut taken = Vec::new();
        mails.take(&mut taken).await;
        assert_eq!(taken, ["work", "rest"]);
    }
}
