//! SaslHandshake (key 17) and SaslAuthenticate (key 36).

use bytes::Bytes;

use super::message;

message! {
    struct SaslHandshakeRequest flexible 32767 {
        mechanism: String [0..],
    }

    struct SaslHandshakeResponse flexible 32767 {
        error: i16 [0..],
        mechanisms: Vec<String> [0..],
    }

    struct SaslAuthenticateRequest flexible 2 {
        auth_bytes: Bytes [0..],
    }

    struct SaslAuthenticateResponse flexible 2 {
        error: i16 [0..],
        error_message: Option<String> [0..],
        auth_bytes: Bytes [0..],
        /// After so many ms the client must log in again; 0: it need not.
        session_lifetime_ms: i64 [1..],
    }
}
