//! Bytes that are compared in the same time whether they agree or not: whoever guesses is not told how much of it was right.

use std::fmt;

use aws_lc_rs::constant_time::verify_slices_are_equal;

/// See the module's text. It has no `==`, which would stop at the first byte that differs.
#[derive(Clone)]
pub struct Secret<const N: usize>([u8; N]);

impl<const N: usize> Secret<N> {
    pub fn new(bytes: [u8; N]) -> Self {
        Self(bytes)
    }

    /// Whether it is this one.
    pub fn is(&self, given: &[u8; N]) -> bool {
        verify_slices_are_equal(&self.0, given).is_ok()
    }
}

impl<const N: usize> fmt::Debug for Secret<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_itself_alone() {
        let secret = Secret::new([7; 32]);
        assert!(secret.is(&[7; 32]));
        for at in 0..32 {
            let mut other = [7; 32];
            other[at] ^= 1;
            assert!(!secret.is(&other), "{at}");
        }
        assert_eq!(format!("{secret:?}"), "Secret(…)");
    }
}
