//! The audit log: who did what to what, from where, and what was decided; a JSON object a line, and a record of a topic of the account.
//!
//! Never in the way: what it cannot take at once is dropped, counted, and told in the log itself. A decision is used for up to a second
//! on its connection, so a line stands for all calls of that second.

pub mod topic;

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use service::clock;
use service::health::{Health, Metric};
use tokio::sync::mpsc;
use types::AccountId;

/// Lines that wait to be written.
const QUEUE_MAX: usize = 65_536;
/// Lines that are written at once.
const LINES_AT_ONCE: usize = 1_024;
/// A log of this size is put aside, and a new one begins; so many are kept.
const FILE_BYTES_MAX: u64 = 256 * 1024 * 1024;
const FILES_BEFORE: u32 = 8;
/// Logins that failed of which a gateway notes so many in a second: anybody can have one fail.
const REFUSED_PER_S: u64 = 100;
/// That events are missing is said once in so long.
const SAY_EVERY_MS: u64 = 60_000;

/// What happened.
#[derive(Debug, Clone)]
pub struct Event {
    pub at_ms: i64,
    pub source: IpAddr,
    /// Whose it is to know, as far as that is clear.
    pub account: Option<AccountId>,
    /// Whose cluster was used, where that is another's.
    pub owner: Option<AccountId>,
    /// About the topic itself: whoever reads it would read of that for ever.
    pub is_of_audit: bool,
    /// `None`: it did not come to a login.
    pub principal: Option<String>,
    pub access_key: Option<String>,
    pub action: &'static str,
    pub resource: Option<String>,
    pub outcome: Outcome,
}

#[derive(Debug, Clone)]
pub enum Outcome {
    Allowed,
    /// By this decision.
    Denied(String),
    /// A login, under the id that the client was told; why.
    Refused {
        id: String,
        /// A word for why, and what there is to say beside.
        reason: &'static str,
        detail: Option<String>,
    },
}

/// See the module's text.
#[derive(Debug)]
pub struct Audit {
    queue: Option<mpsc::Sender<Event>>,
    /// To the task that writes topics.
    topics: Option<mpsc::Sender<Event>>,
    lost: Arc<AtomicU64>,
    dropped: Arc<Metric>,
    /// When it was said that events are missing, in monotonic ms.
    said_ms: AtomicU64,
    /// Failed logins of a second.
    refused: Mutex<(u64, u64)>,
}

impl Audit {
    /// Without a file and without topics nothing is noted.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn open(
        file: Option<&Path>,
        topics: Option<mpsc::Sender<Event>>,
        gateway: i32,
        health: &Health,
    ) -> io::Result<Self> {
        let help = "Events that the audit log, or a topic of it, could not take.";
        let dropped = health.register(Metric::counter("weir_gateway_audit_dropped_total", help));
        let lost = Arc::new(AtomicU64::new(0));
        let Some(path) = file else { return Ok(Self::of(None, topics, lost, dropped)) };
        let log = Log::open(path.to_owned())?;
        let (queue, events) = mpsc::channel(QUEUE_MAX);
        let counts = (Arc::clone(&lost), Arc::clone(&dropped));
        // A disk that hangs holds up this thread alone.
        std::thread::Builder::new().name("audit".to_owned()).spawn(move || write(log, events, gateway, &counts))?;
        Ok(Self::of(Some(queue), topics, lost, dropped))
    }

    fn of(
        queue: Option<mpsc::Sender<Event>>,
        topics: Option<mpsc::Sender<Event>>,
        lost: Arc<AtomicU64>,
        dropped: Arc<Metric>,
    ) -> Self {
        Self { queue, topics, lost, dropped, said_ms: AtomicU64::new(0), refused: Mutex::default() }
    }

    /// Whether anybody wants to know.
    pub fn is_on(&self) -> bool {
        self.queue.is_some() || self.topics.is_some()
    }

    /// So many events are not noted, or have no room in a topic.
    pub fn count_dropped(&self, count: usize) {
        self.dropped.add(count as u64);
        let (now_ms, said_ms) = (clock::monotonic_ms(), self.said_ms.load(Ordering::Relaxed));
        if now_ms >= said_ms.saturating_add(SAY_EVERY_MS) {
            self.said_ms.store(now_ms, Ordering::Relaxed);
            let all = self.dropped.value();
            tracing::warn!(all, "audit events are missing: `weir_gateway_audit_dropped_total` counts them");
        }
    }

    /// Whether one more failed login may be noted in this second.
    fn may_note_refused(&self) -> bool {
        let second = clock::monotonic_ms() / 1_000;
        let mut refused = self.refused.lock().expect("no panic holds this lock");
        if refused.0 != second {
            *refused = (second, 0);
        }
        refused.1 += 1;
        refused.1 <= REFUSED_PER_S
    }

    pub fn note(&self, event: Event) {
        if matches!(event.outcome, Outcome::Refused { .. }) && !self.may_note_refused() {
            return self.count_dropped(1);
        }
        if let Some(topics) = &self.topics
            && !event.is_of_audit
            && topics.try_send(event.clone()).is_err()
        {
            self.count_dropped(1);
        }
        if self.queue.as_ref().is_some_and(|queue| queue.try_send(event).is_err()) {
            self.lost.fetch_add(1, Ordering::Relaxed);
            self.count_dropped(1);
        }
    }
}

struct Log {
    path: PathBuf,
    file: File,
    bytes: u64,
}

impl Log {
    fn open(path: PathBuf) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(&path)?;
        let bytes = file.metadata()?.len();
        Ok(Self { path, file, bytes })
    }

    /// `FILE.1` is the newest of those before it.
    fn before(&self, number: u32) -> PathBuf {
        let mut path = self.path.clone().into_os_string();
        path.push(format!(".{number}"));
        path.into()
    }

    fn write(&mut self, text: &[u8]) -> io::Result<()> {
        if self.bytes >= FILE_BYTES_MAX {
            // The oldest makes room.
            for number in (1..FILES_BEFORE).rev() {
                let _ = std::fs::rename(self.before(number), self.before(number + 1));
            }
            std::fs::rename(&self.path, self.before(1))?;
            *self = Self::open(self.path.clone())?;
        }
        self.file.write_all(text)?;
        self.bytes += text.len() as u64;
        Ok(())
    }
}

fn write(
    mut log: Log,
    mut events: mpsc::Receiver<Event>,
    gateway: i32,
    (lost, dropped): &(Arc<AtomicU64>, Arc<Metric>),
) {
    let mut some = Vec::with_capacity(LINES_AT_ONCE);
    let mut has_failed = false;
    while events.blocking_recv_many(&mut some, LINES_AT_ONCE) > 0 {
        let mut text = Vec::new();
        let count = some.len() as u64;
        for event in some.drain(..) {
            line(&mut text, &shown(event, gateway));
        }
        let missing = lost.swap(0, Ordering::Relaxed);
        if missing > 0 {
            line(&mut text, &json!({ "gateway": gateway, "dropped": missing }));
        }
        let written = log.write(&text);
        if let Err(error) = &written {
            lost.fetch_add(count + missing, Ordering::Relaxed);
            dropped.add(count);
            if !has_failed {
                tracing::warn!(%error, path = %log.path.display(), "the audit log cannot be written; what is missing in it is counted");
            }
        }
        has_failed = written.is_err();
    }
}

fn line(text: &mut Vec<u8>, value: &Value) {
    text.extend_from_slice(value.to_string().as_bytes());
    text.push(b'\n');
}

fn shown(event: Event, gateway: i32) -> Value {
    let Event { at_ms, source, account, principal, access_key, action, resource, outcome, .. } = event;
    // Of one width, so that lines can be sorted.
    let at = jiff::Timestamp::from_millisecond(at_ms).map(|at| at.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string());
    let (outcome, id, reason, detail) = match outcome {
        Outcome::Allowed => ("allowed", None, None, None),
        Outcome::Denied(id) => ("denied", Some(id), None, None),
        Outcome::Refused { id, reason, detail } => ("refused", Some(id), Some(reason), detail),
    };
    json!({
        "time": at.unwrap_or_default(),
        "gateway": gateway,
        "source": source.to_canonical().to_string(),
        "account": account.map(types::AccountId::digits),
        "principal": principal,
        "access_key": access_key,
        "action": action,
        "resource": resource,
        "outcome": outcome,
        "id": id,
        "reason": reason,
        "detail": detail,
    })
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    fn event(number: usize) -> Event {
        Event {
            at_ms: 1_700_000_000_123,
            source: IpAddr::from([127, 0, 0, 1]),
            account: None,
            owner: None,
            is_of_audit: false,
            principal: Some(format!("arn:aws:iam::000000000001:user/\"{number}\"\n")),
            access_key: None,
            action: "kafka-cluster:WriteData",
            resource: Some("arn".into()),
            outcome: Outcome::Denied("1-a".into()),
        }
    }

    #[test]
    fn each_event_is_one_line() {
        let value = shown(event(7), 3);
        let mut text = Vec::new();
        line(&mut text, &value);
        let text = String::from_utf8(text).expect("text");
        assert_eq!(text.matches('\n').count(), 1);
        assert_eq!(
            (&value["time"], &value["outcome"], &value["id"]),
            (&json!("2023-11-14T22:13:20.123Z"), &json!("denied"), &json!("1-a"))
        );
    }

    #[test]
    fn what_it_cannot_take_is_dropped_and_told() {
        let dir = std::env::temp_dir().join(format!("weir-audit-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a folder");
        // A pipe that nobody reads from yet takes nothing.
        let pipe = dir.join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo");
        assert!(made.success());
        let holder = OpenOptions::new().read(true).write(true).open(&pipe).expect("a pipe");
        let health = Health::new();
        let audit = Audit::open(Some(&pipe), None, 1, &health).expect("opened");
        let began = Instant::now();
        let count = 2 * QUEUE_MAX;
        (0..count).for_each(|number| audit.note(event(number)));
        assert!(began.elapsed() < Duration::from_secs(5), "nobody waits for it");
        let dropped = audit.dropped.value();
        assert!(dropped > 0 && dropped < count as u64, "{dropped}");
        // Once it takes something again it says how many are missing.
        let mut reader = std::io::BufReader::new(holder);
        let (mut lines, mut told) = (0_u64, 0_u64);
        while lines + told < count as u64 {
            let mut text = String::new();
            std::io::BufRead::read_line(&mut reader, &mut text).expect("a line");
            let value: Value = serde_json::from_str(&text).expect("JSON");
            match value["dropped"].as_u64() {
                Some(missing) => told += missing,
                None => lines += 1,
            }
        }
        assert_eq!(told, dropped);
        std::fs::remove_dir_all(dir).expect("removed");
    }
}
