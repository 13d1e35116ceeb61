//! Signatures of requests that gateways took, remembered for as long as they could be sent again; in memory alone.

use std::sync::Mutex;

use identity::replays::{Replays, Use};
use service::clock;
use types::ErrorCode;
use wire::frame::{Refusal, UseRequest, Used};

/// See the module's text.
#[derive(Debug)]
pub struct Uses {
    replays: Mutex<Replays>,
    /// What came before, another process knew.
    since_ms: i64,
}

impl Default for Uses {
    fn default() -> Self {
        Self { replays: Mutex::default(), since_ms: clock::wall_ms() }
    }
}

impl Uses {
    /// # Errors
    /// No more can be remembered for now.
    pub fn take(&self, request: UseRequest) -> Result<Used, Refusal> {
        let now_s = clock::wall_ms() / 1_000;
        let mut replays = self.replays.lock().expect("no panic holds this lock");
        match replays.note(request.account.0, request.mark, now_s) {
            Use::First => Ok(Used { is_first: true, since_ms: self.since_ms }),
            Use::Again => Ok(Used { is_first: false, since_ms: self.since_ms }),
            Use::TooMany => Err(Refusal {
                code: ErrorCode::Overloaded,
                message: "as many signatures as can be remembered were used in ten minutes".to_owned(),
            }),
        }
    }
}
