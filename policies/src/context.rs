//! What is known of a request beside its principal, action and resource: the values of condition keys.

use std::collections::BTreeMap;

/// Condition keys with their values. Keys are compared without regard to case, values are not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Context {
    values: BTreeMap<Box<str>, Vec<String>>,
}

impl Context {
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a value; a key that is given several times has several.
    pub fn add(&mut self, key: &str, value: impl Into<String>) {
        self.values.entry(key.to_lowercase().into()).or_default().push(value.into());
    }

    /// The values of a key in lower case; none if it is absent or has none.
    pub(crate) fn get(&self, lower_key: &str) -> &[String] {
        self.values.get(lower_key).map_or(&[], Vec::as_slice)
    }

    /// The one value of a key, for a variable: of several none is meant.
    pub(crate) fn single(&self, lower_key: &str) -> Option<&str> {
        match self.get(lower_key) {
            [value] => Some(value),
            _ => None,
        }
    }
}

impl<K: AsRef<str>, V: Into<String>> FromIterator<(K, V)> for Context {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        let mut context = Self::new();
        pairs.into_iter().for_each(|(key, value)| context.add(key.as_ref(), value));
        context
    }
}
