//! Values that many states have in common: cloned by reference, hashed once.

use std::cell::Cell;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::rc::Rc;

pub fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// See the module's text.
#[derive(Debug, Clone)]
pub struct Shared<T> {
    value: Rc<T>,
    hash: Cell<Option<u64>>,
}

impl<T: Clone + Hash> Shared<T> {
    pub fn new(value: T) -> Self {
        Self { value: Rc::new(value), hash: Cell::new(None) }
    }

    pub fn edit(&mut self) -> &mut T {
        self.hash.set(None);
        Rc::make_mut(&mut self.value)
    }

    pub fn take(self) -> T {
        Rc::unwrap_or_clone(self.value)
    }

    pub fn key(&self) -> u64 {
        self.hash.get().unwrap_or_else(|| {
            let hash = hash(&*self.value);
            self.hash.set(Some(hash));
            hash
        })
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: Clone + Hash> Hash for Shared<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.key());
    }
}
