//! Signatures of requests that gateways took, remembered for as long as they could be sent again; in memory alone.

use std::sync::Mutex;

use identity::replays::{Replays, Use};
use service::clock;
use service::forget::forget;
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
        // Spans are told by a clock that nobody sets: what is remembered is remembered for its time.
        let now_s = (clock::monotonic_ms() / 1_000) as i64;
        let noted = self.replays.lock().expect("no panic holds this lock").note(request.account.0, request.mark, now_s);
        let (used, forgotten) = noted;
        forget(forgotten);
        match used {
            Use::First => Ok(Used { is_first: true, since_ms: self.since_ms }),
            Use::Again => Ok(Used { is_first: false, since_ms: self.since_ms }),
            Use::TooMany => Err(Refusal {
                code: ErrorCode::Overloaded,
                message: "as many signatures as can be remembered were used in ten minutes".to_owned(),
            }),
        }
    }
}
