//! What can be learnt from how long an answer takes: nothing about a secret, nor about what is another tenant's.
//!
//! Two kinds of calls alternate at random, so that whatever else the machine does falls on both. A leak is there each time: a
//! comparison that fails is made again, twice.

use std::hint::black_box;
use std::time::Instant;

use identity::secret::Secret;
use tests::Scratch;
use tests::guarded::{Guarded, app_policy};
use tests::session::Session;
use tests::signed::Signed;
use wire::kafka::{
    ApiKey, MetadataRequest, MetadataRequestTopic, MetadataResponse, NullableSince10, SaslAuthenticateRequest,
    SaslAuthenticateResponse, SaslHandshakeRequest, SaslHandshakeResponse,
};

const OURS: &str = "111111111111";
const THEIRS: &str = "222222222222";

/// A generator that is good enough to choose by (xorshift64).
struct Coin(u64);

impl Coin {
    fn toss(&mut self) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 40) as usize & 1
    }
}

/// The times of two kinds of calls, in ns, each without its slowest tenth: of those the machine tells more than the call.
/// `prepare` is not counted.
fn measure<T>(rounds: usize, prepare: impl Fn(usize) -> T, mut call: impl FnMut(&T)) -> [Vec<f64>; 2] {
    let mut coin = Coin(0x2545_f491_4f6c_dd1d);
    let mut times = [Vec::with_capacity(rounds), Vec::with_capacity(rounds)];
    for _ in 0..rounds {
        let kind = coin.toss();
        let with = prepare(kind);
        let began = Instant::now();
        call(&with);
        times[kind].push(began.elapsed().as_nanos() as f64);
    }
    for times in &mut times {
        times.sort_by(f64::total_cmp);
        times.truncate(times.len() * 9 / 10);
    }
    times
}

/// Welch's t of two sets of times.
fn welch([a, b]: &[Vec<f64>; 2]) -> f64 {
    let of = |times: &[f64]| {
        let count = times.len() as f64;
        let mean = times.iter().sum::<f64>() / count;
        let variance = times.iter().map(|time| (time - mean).powi(2)).sum::<f64>() / (count - 1.0);
        (mean, variance / count)
    };
    let ((mean_a, error_a), (mean_b, error_b)) = (of(a), of(b));
    (mean_a - mean_b) / (error_a + error_b).sqrt()
}

fn median(times: &[f64]) -> f64 {
    times[times.len() / 2]
}

/// True of one try in three.
fn once_in_three(mut is_fine: impl FnMut() -> bool) -> bool {
    (0..3).any(|_| is_fine())
}

/// How far apart two kinds of comparisons of 64 bytes are: those that differ in the first byte, and in the last.
fn compare(is_same: impl Fn(&[u8; 64], &[u8; 64]) -> bool) -> f64 {
    let right = [7; 64];
    let mut wrong = [right; 2];
    (wrong[0][0], wrong[1][63]) = (8, 8);
    // Several at a time: one alone is shorter than the clock's step.
    // At one place, so that where it lies plays no part.
    let times = measure(
        1_000_000,
        |kind| black_box(wrong[kind]),
        |wrong| {
            for _ in 0..4 {
                assert!(!is_same(black_box(&right), black_box(wrong)));
            }
        },
    );
    welch(&times)
}

#[test]
fn a_secret_is_compared_in_one_time() {
    let secret = Secret::new([7; 64]);
    let mut seen = Vec::new();
    let is_fine = once_in_three(|| {
        seen.push(compare(|_, given| secret.is(given)));
        seen.last().is_some_and(|t| t.abs() < 4.5)
    });
    assert!(is_fine, "t {seen:?}");
    // What it must not be is told apart by this.
    let stops = compare(|a, b| a.iter().zip(b).all(|(a, b)| black_box(a) == b));
    assert!(stops.abs() > 100.0, "t {stops}");
    println!("t of a secret {seen:?}, of a comparison that stops {stops}");
}

/// What is another tenant's takes as long as what is not there.
#[test]
fn what_is_anothers_takes_as_long_as_nothing() {
    let dir = Scratch::new("timing");
    let guarded = Guarded::start(dir.path());
    let everything = serde_json::json!({ "Version": "2012-10-17", "Statement": [
        { "Effect": "Allow", "Action": "*", "Resource": "*" } ] });
    let mut keys = Vec::new();
    for (account, name) in [(OURS, "ours"), (THEIRS, "theirs")] {
        guarded.make_account(account, name, "u-1");
        guarded.operate(&["quota", "set", "unlimited", "--account", account], b"");
        keys.push(guarded.make_user(account, "admin", &everything));
    }
    let theirs = |arguments: &[&str]| assert!(guarded.weir_as(&keys[1], arguments).status.success(), "{arguments:?}");
    theirs(&["topic", "create", "theirs-secret"]);
    theirs(&["group", "reset", "theirs-secret", "--topic", "theirs-secret", "--to", "latest"]);
    theirs(&["group", "describe", "theirs-secret"]);
    let signed = std::cell::RefCell::new(Signed::of(&guarded.http, &keys[0]));
    let host = guarded.http.trim_start_matches("http://");
    let mut told = Vec::new();
    // Names are of one length.
    for [theirs, absent] in [
        ["/v1/topics/theirs-secret", "/v1/topics/absent-secret"],
        ["/v1/groups/theirs-secret", "/v1/groups/absent-secret"],
        ["/v1/accounts/222222222222", "/v1/accounts/333333333333"],
        ["/v1/accounts/222222222222/users/admin", "/v1/accounts/333333333333/users/admin"],
    ] {
        let is_fine = once_in_three(|| {
            let sign = |kind: usize| signed.borrow_mut().request(host, "GET", [theirs, absent][kind], "", &[]);
            let times = measure(3_000, sign, |text| {
                assert_eq!(signed.borrow_mut().say(text).status, 404);
            });
            let ratio = median(&times[0]) / median(&times[1]);
            told.push(format!("{theirs} {ratio:.3}"));
            (0.9..1.1).contains(&ratio)
        });
        assert!(is_fine, "{told:?}");
    }
    let mut session = Session::of(&guarded.plain, &keys[0]);
    let is_fine = once_in_three(|| {
        let names = |kind: usize| ["theirs-secret", "absent-secret"][kind].to_owned();
        let times = measure(3_000, names, |name| {
            let name = name.clone();
            let topic = MetadataRequestTopic { name: NullableSince10(Some(name)), ..Default::default() };
            let request = MetadataRequest { topics: Some(vec![topic]), ..Default::default() };
            let answer: MetadataResponse = session.call(ApiKey::Metadata, 9, &request).expect("an answer");
            assert_eq!(answer.topics[0].error, 3);
        });
        let ratio = median(&times[0]) / median(&times[1]);
        told.push(format!("Metadata {ratio:.3}"));
        (0.9..1.1).contains(&ratio)
    });
    assert!(is_fine, "{told:?}");
    println!("theirs against absent: {told:?}");
}

/// A name that nobody has takes as long as one that somebody has, up to the end of a login.
#[test]
fn a_user_that_is_not_there_takes_as_long_as_a_wrong_password() {
    let dir = Scratch::new("timing-users");
    let guarded = Guarded::start(dir.path());
    guarded.make_account(OURS, "ours", "u-1");
    guarded.operate(&["quota", "set", "unlimited", "--account", OURS], b"");
    guarded.make_user(OURS, "somebody", &app_policy(OURS, "ours", "u-1"));
    guarded.set_password(OURS, "somebody", "correct-horse-battery");
    let answer = |session: &mut Session, text: &str| {
        let request = SaslAuthenticateRequest { auth_bytes: text.to_owned().into_bytes().into() };
        let answer: SaslAuthenticateResponse = session.call(ApiKey::SaslAuthenticate, 2, &request).expect("an answer");
        (answer.error, String::from_utf8_lossy(&answer.auth_bytes).into_owned())
    };
    let mut times = [Vec::new(), Vec::new()];
    let mut coin = Coin(0x9e37_79b9_7f4a_7c15);
    let mut differences = Vec::new();
    let is_fine = once_in_three(|| {
        times.iter_mut().for_each(Vec::clear);
        for _ in 0..400 {
            let kind = coin.toss();
            let user = format!("{OURS}/{}", ["somebody", "notabody"][kind]);
            let mut session = Session::connect(&guarded.plain);
            let mechanism = SaslHandshakeRequest { mechanism: "SCRAM-SHA-512".to_owned() };
            let _: SaslHandshakeResponse = session.call(ApiKey::SaslHandshake, 1, &mechanism).expect("an answer");
            let began = Instant::now();
            let (error, first) = answer(&mut session, &format!("n,,n={user},r=abcdefghijklmnop"));
            assert_eq!(error, 0, "{first}");
            let nonce = first.split(',').next().expect("a nonce");
            let proof = "A".repeat(86) + "==";
            let (error, _) = answer(&mut session, &format!("c=biws,{nonce},p={proof}"));
            assert_eq!(error, 58);
            times[kind].push(began.elapsed().as_secs_f64() * 1e3);
        }
        times.iter_mut().for_each(|times| times.sort_by(f64::total_cmp));
        let difference = median(&times[0]) - median(&times[1]);
        differences.push(format!("{difference:.3} ms of {:.3}", median(&times[0])));
        difference.abs() < (0.1 * median(&times[0])).max(0.05)
    });
    assert!(is_fine, "{differences:?}");
    println!("{differences:?}");
}
