//! `cargo run --release -p tests --bin chaos -- [MINUTES] [SEED] [RATE] [--kills] [--keep]`: a long run of chaos, and
//! its report. `--kills` only kills, to measure pauses; `--keep` keeps the folder, with every service's log.

use std::process::ExitCode;
use std::time::Duration;

use tests::Scratch;
use tests::chaos::{Kinds, Plan, run};

fn main() -> ExitCode {
    let numbers: Vec<u64> = std::env::args().skip(1).filter_map(|text| text.parse().ok()).collect();
    let number = |at: usize, default| numbers.get(at).copied().unwrap_or(default);
    let duration = Duration::from_secs(60 * number(0, 60));
    let has = |flag: &str| std::env::args().any(|argument| argument == flag);
    let kinds = if has("--kills") { Kinds::Kills } else { Kinds::All };
    let plan = Plan { kinds, duration, faults_min: 0, seed: number(1, 1), rate: number(2, 3_000) as u32 };
    let scratch = Scratch::new("chaos");
    let report = run(scratch.path(), plan);
    println!("{}", report.text());
    if has("--keep") || !report.wrong.is_empty() {
        println!("everything is in {}", scratch.path().display());
        std::mem::forget(scratch);
    }
    if report.wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
