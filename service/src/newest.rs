//! The newest state of placement's store that was seen: a store that is behind it is an older copy, and is not believed.

use types::Generation;

/// A state of the store, as far as states can be compared: by the generation of its metadata, then by its revision.
pub type Seen = (Generation, u64);

/// See the module's text.
#[derive(Debug, Clone, Copy)]
pub struct Newest {
    known: Option<Seen>,
    was_older: bool,
}

impl Newest {
    /// `known`: from earlier lives of this process.
    pub fn new(known: Option<Seen>) -> Self {
        Self { known, was_older: false }
    }

    pub fn known(&self) -> Option<Seen> {
        self.known
    }

    /// Whether what placement says of its state may be believed; says so in the log when that changes. `fenced`: nothing
    /// of an older generation is believed, whatever its revision.
    pub fn may_believe(&mut self, seen: Seen, fenced: Generation) -> bool {
        let is_older = seen.0 < fenced || self.known.is_some_and(|known| seen < known);
        if std::mem::replace(&mut self.was_older, is_older) != is_older && is_older {
            tracing::error!(
                ?seen,
                known = ?self.known,
                ?fenced,
                "placement's store is an older copy, or was restored since: it is not believed; start placement with the \
                 right store, or make one with `weir placement rebuild`"
            );
        }
        if !is_older {
            self.known = Some(seen);
        }
        !is_older
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_behind_the_newest_or_a_fence_is_not_believed() {
        let mut newest = Newest::new(None);
        assert!(newest.may_believe((Generation(1), 7), Generation(0)));
        assert!(!newest.may_believe((Generation(1), 6), Generation(0)));
        assert!(newest.may_believe((Generation(1), 7), Generation(0)), "nothing changed");
        assert!(!newest.may_believe((Generation(1), 8), Generation(2)), "a restore has been here");
        assert!(newest.may_believe((Generation(2), 1), Generation(2)));
        assert!(!newest.may_believe((Generation(1), 9), Generation(0)));
        assert_eq!(newest.known(), Some((Generation(2), 1)));
    }
}
