//! `cargo run --release -p simulation -- --seeds N [--seed S] [--plant RULE] [--verbose]`.

use std::process::ExitCode;

use cores::{Rule, Rules};
use simulation::model::{Bounds, check};
use simulation::{Profile, Scenario, run};

const HELP: &str = "Runs the cores of Weir through simulated failures.

Usage: simulation [--seeds N] [--seed S] [--plant RULE] [--scenario NAME] [--verbose]

  --seeds N        how many seeds to run (200)
  --seed S         the first one (0)
  --plant RULE     break a rule on purpose, one of those that --rules lists; more than once for several
  --rules          list the rules
  --scenario NAME  mixed (the default), lost-opening, lost-disk, one-away, parking, rotten, torn, restore or groups
  --model BOUNDS   look at every order of events instead: failovers, crashes, disk losses, cuts, records, and how
                   often each is sent, as in 2,1,1,0,2,1
  --verbose        print each event

Example: simulation --seeds 5000
";

fn main() -> ExitCode {
    let (mut seeds, mut first, mut planted, mut is_verbose) = (200, 0, Vec::new(), false);
    let mut scenario = Scenario::Mixed;
    let mut model = None;
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut number = || args.next().and_then(|text| text.parse::<u64>().ok());
        match arg.as_str() {
            "--seeds" => match number() {
                Some(n) => seeds = n,
                None => return usage("--seeds takes a number"),
            },
            "--seed" => match number() {
                Some(n) => first = n,
                None => return usage("--seed takes a number"),
            },
            "--plant" => match args.next().as_deref().and_then(Rule::from_name) {
                Some(rule) => planted.push(rule),
                None => return usage("--plant takes a rule; --rules lists them"),
            },
            "--rules" => {
                Rule::ALL.iter().for_each(|rule| println!("{rule:?}"));
                return ExitCode::SUCCESS;
            }
            "--scenario" => match args.next().as_deref() {
                Some("mixed") => scenario = Scenario::Mixed,
                Some("lost-opening") => scenario = Scenario::LostOpening,
                Some("lost-disk") => scenario = Scenario::LostDisk,
                Some("one-away") => scenario = Scenario::OneAway,
                Some("rotten") => scenario = Scenario::Rotten,
                Some("torn") => scenario = Scenario::Torn,
                Some("restore") => scenario = Scenario::Restore,
                Some("groups") => scenario = Scenario::Groups,
                Some("trimmed") => scenario = Scenario::Trimmed,
                Some("parking") => scenario = Scenario::Parking,
                _ => {
                    return usage(
                        "--scenario is mixed, lost-opening, lost-disk, one-away, parking, rotten, torn, restore or groups",
                    );
                }
            },
            "--model" => match args.next().as_deref().and_then(bounds) {
                Some(bounds) => model = Some(bounds),
                None => return usage("--model takes FAILOVERS,CRASHES,LOSSES,CUTS,RECORDS,SENDS"),
            },
            "--verbose" => is_verbose = true,
            "--help" | "-h" => {
                print!("{HELP}");
                return ExitCode::SUCCESS;
            }
            other => return usage(&format!("`{other}` is not known")),
        }
    }
    if let Some(bounds) = model {
        return check_model(bounds, Rules::without_all(&planted));
    }
    let profile = Profile { rules: Rules::without_all(&planted), scenario, is_verbose };
    let (mut acked, mut faults, mut events) = (0, 0, 0);
    for seed in first..first + seeds {
        let outcome = run(seed, profile);
        acked += outcome.acked;
        faults += outcome.faults;
        events += outcome.events;
        if let Some(violation) = outcome.violation {
            println!("seed {seed}: {violation}");
            println!("replay: cargo run --release -p simulation -- --seeds 1 --seed {seed} --verbose");
            return ExitCode::FAILURE;
        }
    }
    println!("{seeds} seeds clean: {events} events, {faults} faults, {acked} acknowledged batches");
    ExitCode::SUCCESS
}

/// `2,1,1,0,2,2` as bounds of the model check.
fn bounds(text: &str) -> Option<Bounds> {
    let numbers: Vec<u8> = text.split(',').map(|number| number.parse().ok()).collect::<Option<_>>()?;
    let [failovers, crashes, disk_losses, cuts, records, sends] = numbers[..] else { return None };
    Some(Bounds { failovers, crashes, disk_losses, cuts, records, sends, states_max: usize::MAX })
}

fn check_model(bounds: Bounds, rules: Rules) -> ExitCode {
    let report = check(bounds, rules);
    match report.violation {
        None => {
            println!("{} states, all of them: nothing is violated", report.states);
            ExitCode::SUCCESS
        }
        Some((violation, steps)) => {
            println!("after {} states: {violation}", report.states);
            steps.iter().for_each(|step| println!("  {step}"));
            ExitCode::FAILURE
        }
    }
}

fn usage(message: &str) -> ExitCode {
    eprintln!("{message}\n\n{HELP}");
    ExitCode::from(2)
}
