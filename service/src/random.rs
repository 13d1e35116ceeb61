//! The one place where shells draw random numbers.

/// 128 bits from the operating system.
///
/// # Panics
/// When the operating system has no randomness: nothing could be named uniquely then.
pub fn wide() -> u128 {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("the operating system gives randomness");
    u128::from_be_bytes(bytes)
}
