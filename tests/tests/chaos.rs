//! The short form of chaos, for CI; `cargo run --release -p tests --bin chaos` is the long one.

use std::time::Duration;

use tests::chaos::{Kinds, Plan, run};
use tests::{Scratch, has_command, tool, tools};

#[test]
fn nothing_is_lost_moved_or_doubled_whatever_fails() {
    let is_equipped = tool("kcat", has_command("kcat")) && tool("python", tools().join("python/bin/python").exists());
    if !is_equipped {
        return;
    }
    let scratch = Scratch::new("chaos");
    let plan = Plan { kinds: Kinds::All, duration: Duration::from_secs(90), faults_min: 21, seed: 7, rate: 2_000 };
    let report = run(scratch.path(), plan);
    println!("{}", report.text());
    assert!(report.wrong.is_empty(), "{}", report.text());
    assert!(report.acked > 50_000, "too little was written: {}", report.text());
    assert!(report.faults.values().sum::<usize>() >= 20, "too few faults: {}", report.text());
}
