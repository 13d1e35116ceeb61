//! Signatures of requests that gateways took, remembered for as long as they could be sent again: in memory, and from a process
//! that ended in order to the next.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use identity::replays::{Replays, Use};
use identity::request::SKEW_S;
use service::clock;
use service::forget::forget;
use types::ErrorCode;
use wire::frame::{Refusal, UseRequest, Used};

use crate::node::write_durably;

/// See the module's text.
#[derive(Debug)]
pub struct Uses {
    /// `None`: they are kept for the next process, which would not know of another.
    replays: Mutex<Option<Replays>>,
    /// When this process began: of what came just before it may not have heard.
    since_ms: i64,
    path: PathBuf,
}

/// Of a clock that nobody sets: what is remembered is remembered for its time.
fn now_s() -> i64 {
    (clock::monotonic_ms() / 1_000) as i64
}

impl Uses {
    /// With what the process before kept in this folder, which is taken from there: after an end without order it would be old.
    pub fn open(data: &Path) -> Self {
        let path = data.join("signatures");
        let kept = take_kept(&path).unwrap_or_else(|error| {
            tracing::warn!(%error, path = %path.display(), "signatures that were used cannot be read: nothing is known of them");
            None
        });
        Self { replays: Mutex::new(Some(kept.unwrap_or_default())), since_ms: clock::wall_ms(), path }
    }

    /// # Errors
    /// No more can be remembered, for now or by this process.
    pub fn take(&self, request: UseRequest) -> Result<Used, Refusal> {
        let refused = |message: &str| Refusal { code: ErrorCode::Overloaded, message: message.to_owned() };
        let noted = match &mut *self.replays.lock().expect("no panic holds this lock") {
            Some(replays) => replays.note(request.account.0, request.mark, now_s()),
            None => return Err(refused("this storage node is ending")),
        };
        let (used, forgotten) = noted;
        forget(forgotten);
        match used {
            Use::First => Ok(Used { is_first: true, since_ms: self.since_ms }),
            Use::Again => Ok(Used { is_first: false, since_ms: self.since_ms }),
            Use::TooMany => Err(refused("as many signatures as can be remembered were used in ten minutes")),
        }
    }

    /// Keeps them for the next process; takes none any more.
    pub fn close(&self) {
        let Some(replays) = self.replays.lock().expect("no panic holds this lock").take() else { return };
        let bytes = [&clock::wall_ms().to_be_bytes()[..], &replays.to_bytes(now_s())].concat();
        if let Err(error) = write_durably(&self.path, bytes) {
            tracing::warn!(%error, path = %self.path.display(), "signatures that were used cannot be kept");
        }
    }
}

/// What was kept; `None`: nothing, or what is too old to matter, or of a clock that was set.
fn take_kept(path: &Path) -> io::Result<Option<Replays>> {
    let bytes = match fs::read(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        bytes => bytes?,
    };
    fs::remove_file(path)?;
    let Some((kept_ms, rest)) = bytes.split_first_chunk::<8>() else { return Ok(None) };
    let away_ms = clock::wall_ms().saturating_sub(i64::from_be_bytes(*kept_ms));
    if !(0..2 * SKEW_S * 1_000).contains(&away_ms) {
        return Ok(None);
    }
    // Rather a second too long than too short.
    Ok(Replays::from_bytes(rest, now_s(), away_ms / 1_000))
}

#[cfg(test)]
mod tests {
    use types::AccountId;

    use super::*;

    fn request(mark: u64) -> UseRequest {
        UseRequest { account: AccountId(1), mark }
    }

    #[test]
    fn what_was_used_is_known_after_an_end_in_order_and_to_nobody_else() {
        let data = std::env::temp_dir().join(format!("weir-uses-{}", std::process::id()));
        fs::create_dir_all(&data).expect("a folder");
        let first = Uses::open(&data);
        assert!(first.take(request(7)).expect("room").is_first);
        first.close();
        assert!(first.take(request(8)).is_err(), "the next would not know of it");
        let second = Uses::open(&data);
        let used = second.take(request(7)).expect("room");
        assert!(!used.is_first && used.since_ms >= first.since_ms);
        assert!(second.take(request(8)).expect("room").is_first);
        // Without order nothing is kept, nor is what was kept once.
        drop(second);
        let third = Uses::open(&data);
        let used = third.take(request(7)).expect("room");
        assert!(used.is_first);
        third.close();
        let mut bytes = fs::read(data.join("signatures")).expect("kept");
        *bytes.last_mut().expect("a digest") ^= 1;
        fs::write(data.join("signatures"), bytes).expect("written");
        assert!(Uses::open(&data).take(request(7)).expect("room").is_first, "damaged");
        let _ = fs::remove_dir_all(&data);
    }
}
